"""`plan`: its document, its table, and that it sends and writes nothing. Answers are put into the store by hand."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from explaineval.cache import open_store
from explaineval.client.endpoints.capabilities import Capabilities
from explaineval.config import ClientConfig, RunConfig, build
from explaineval.planning.cost import read_price_list
from explaineval.planning.prepare import prepare
from explaineval.planning.units import plan
from explaineval.records import Completion, Request
from makers.command_line import Call, make_call
from servers import commands, guards

EXAMPLES, WORDS = 5, ("grumpy", "sullen")
EACH = 1 + len(WORDS) + 1
DISTINCT, PLANNED = EXAMPLES * EACH, EXAMPLES * 2 * (len(WORDS) + 1)
MODEL_KEYS = [
    "endpoint",
    "model",
    "planned",
    "distinct",
    "hits",
    "misses",
    "tokens_in",
    "tokens_out",
    "usd",
    "usd_saved",
]
GUESSES = ["low", "expected", "worst"]
URL = "http://127.0.0.1:9/v1"
GIVEN = ("--task", "jsonl:mine.jsonl", "--interventions", "edits.jsonl")
LAB = (*GIVEN, "--base-url", URL, "--endpoint-name", "lab", "--model", "openai/smol")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a task, made the working directory."""
    rows, edits = [], []
    for number in range(EXAMPLES):
        fields = {"note": f"The clerk {number} waits."}
        rows.append({"id": f"e{number}", "fields": fields, "options": {"A": "yes", "B": "no"}, "gold": "A"})
        edit = {"example_id": f"e{number}", "kind": "hand", "field": "note", "offset": 4}
        edits += [{**edit, "inserted": word} for word in WORDS]
    for name, lines in (("mine", rows), ("edits", edits)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def call(place: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the command line in this process: exit code, standard output, standard error."""
    return make_call(capsys, "plan")


def requests(place: Path, endpoint: str | None = "lab") -> list[Request]:
    """The distinct requests of LAB's run."""
    values: dict[str, Any] = {
        "tasks": ["jsonl:mine.jsonl"],
        "models": [{"model": "openai/smol", "endpoint": endpoint}],
        "interventions": {"file": place / "edits.jsonl"},
    }
    client = ClientConfig.model_validate({"endpoints": {"lab": {"base_url": URL}}})
    found = prepare(build(RunConfig, values, "test"), client)
    units = plan(found, found.config.models[0], lambda _: Capabilities(20, 0.0, "returned"))
    return [variant.request for unit in units for variant in unit.asked if variant.request is not None]


def fill(
    place: Path, answered: list[Request], usage: dict[str, Any], text: str = "Answer: A\nExplanation: So."
) -> None:
    """A store with these answers."""

    async def put() -> None:
        with open_store(place / "cache") as store:
            for request in answered:
                await store.put(request, Completion(text=text, finish_reason="stop", usage=usage))

    asyncio.run(put())


def files(place: Path) -> dict[str, bytes]:
    """All files but the shared memory and the empty log that SQLite needs to read."""
    found = {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}
    return {name: data for name, data in found.items() if not name.endswith("-shm") and (data or "-wal" not in name)}


@pytest.mark.parametrize("price", [(), ("--price", "1,2")], ids=["free", "priced"])
def test_the_document_is_that_of_the_contract(place: Path, call: Call, price: tuple[str, ...]) -> None:
    """Keys in their order, for every model and for the total; counts by hand; nothing is made."""
    code, out, _ = call(*LAB, "--model", "openai/other", *price, "--json")
    document = json.loads(out)

    assert code == 0
    assert list(document) == ["schema", "models", "total", "warnings"]
    assert [(one["endpoint"], one["model"]) for one in document["models"]] == [
        ("lab", "openai/smol"),
        ("lab", "openai/other"),
    ]
    for one in document["models"]:
        assert list(one) == MODEL_KEYS
        assert (one["planned"], one["distinct"], one["hits"], one["misses"]) == (PLANNED, DISTINCT, 0, DISTINCT)
        assert (list(one["tokens_out"]), list(one["usd"])) == (GUESSES, GUESSES)
        assert one["usd_saved"] == 0
        assert (one["usd"]["worst"] > one["usd"]["expected"] > one["usd"]["low"] > 0) is bool(price)
    assert list(document["total"]) == MODEL_KEYS[2:]
    for name in ("planned", "distinct", "hits", "misses", "tokens_in", "usd_saved"):
        assert document["total"][name] == sum(one[name] for one in document["models"])
    for name in ("tokens_out", "usd"):
        assert document["total"][name] == {
            guess: pytest.approx(sum(one[name][guess] for one in document["models"])) for guess in GUESSES
        }
    assert sorted(files(place)) == ["edits.jsonl", "mine.jsonl"]
    assert sorted(path.name for path in place.iterdir()) == ["edits.jsonl", "mine.jsonl"]


def test_an_unknown_price_is_null_in_the_total_too(call: Call) -> None:
    """One model listed, one not: dollars of the one, null for the other and for both together; tokens all the same."""
    listed = read_price_list().prices["gpt-4o-mini"]
    code, out, _ = call(*GIVEN, "--model", "openai/gpt-4o-mini", "--model", "openai/nobody-knows-it", "--json")
    known, unknown = json.loads(out)["models"]
    total = json.loads(out)["total"]
    nothing = dict.fromkeys(GUESSES)

    assert code == 0
    assert known["usd"]["expected"] == pytest.approx(
        known["tokens_in"] * listed["input_cost_per_token"]
        + known["tokens_out"]["expected"] * listed["output_cost_per_token"]
    )
    assert (unknown["usd"], unknown["usd_saved"]) == (nothing, None)
    assert (total["usd"], total["usd_saved"]) == (nothing, None)
    assert total["tokens_out"]["expected"] > unknown["tokens_out"]["expected"] > 0


def test_what_is_stored_is_saved(place: Path, call: Call) -> None:
    """Nine of twenty answers there, at a known length: hits, misses and dollars by hand; the store is not touched."""
    fill(place, requests(place)[:9], {"prompt_tokens": 50, "completion_tokens": 10})
    before = files(place)
    _, out, _ = call(*LAB, "--price", "1000,2000", "--json")
    one = json.loads(out)["models"][0]

    assert (one["hits"], one["misses"]) == (9, DISTINCT - 9)
    assert one["usd_saved"] == pytest.approx(9 * (50 * 1000 + 10 * 2000) / 1e6)
    assert before == files(place)


def test_answers_without_a_count_saved_nobody_knows_what(place: Path, call: Call) -> None:
    """Their dollars are null, as in a run's document, and free where the address is."""
    fill(place, requests(place)[:9], {})

    assert json.loads(call(*LAB, "--price", "1,2", "--json")[1])["models"][0]["usd_saved"] is None
    assert json.loads(call(*LAB, "--json")[1])["models"][0]["usd_saved"] == 0


def test_the_text_says_the_same(place: Path, call: Call) -> None:
    """The document's counts and dollars are in the text, with the share, the basis, the prices and the limit."""
    fill(place, requests(place)[:10], {"prompt_tokens": 50, "completion_tokens": 10})
    options = (*LAB, "--price", "1000,2000")
    one = json.loads(call(*options, "--json")[1])["models"][0]
    code, out, _ = call(*options, "--max-usd", "1")

    assert code == 0
    assert out.startswith("openai/smol at lab\n")
    assert f"{one['planned']} planned, {one['distinct']} distinct: {one['hits']} in the cache, {one['misses']}" in out
    assert f"dollars     ${one['usd']['low']:.2f} low, ${one['usd']['expected']:.2f} expected, " in out
    assert f"saved       ${one['usd_saved']:.2f} by the cache" in out
    assert "50 % of the answers are in the cache" in out
    assert "guess" in out
    assert "litellm:" in out
    assert "--max-usd 1: the limit may be reached before the end." in out
    assert f"--max-usd {one['usd']['worst'] + 1:g}: the limit cannot be reached." in call(
        *options, "--max-usd", str(one["usd"]["worst"] + 1)
    )[1].replace("\n", " ")


def test_an_unknown_price_under_a_limit_is_refused_as_by_run(place: Path, call: Call) -> None:
    """Exit 2 with the sentence that asks for --price; in JSON, one document."""
    code, out, err = call(*GIVEN, "--model", "openai/nobody-knows-it", "--max-usd", "1")

    assert (code, out) == (2, "")
    assert "--price IN,OUT" in err
    code, out, _ = call(*GIVEN, "--model", "openai/nobody-knows-it", "--max-usd", "1", "--json")
    assert json.loads(out)["error"]["code"] == code == 2


def test_nothing_is_loaded_or_connected_to(place: Path, tmp_path: Path) -> None:
    """In a process of its own: neither litellm nor pandas, and not one socket."""
    report = tmp_path / "report.json"
    done = commands.run("plan", *LAB, "--json", cwd=place, env={guards.REPORT_TO: str(report)})
    told = json.loads(report.read_text(encoding="utf-8"))

    assert done.code == 0, done.stderr
    assert done.document["total"]["misses"] == DISTINCT
    assert told["connections"] == []
    assert {"litellm", "openai", "pandas", "aiohttp"} & set(told["modules"]) == set()


def test_prompts_are_shown_as_they_would_be_sent(place: Path, call: Call) -> None:
    """The document's requests are the plan's own, in its order, with all that is sent beside the text."""
    code, out, _ = call(*LAB, "--show-prompts", "3", "--json")
    document = json.loads(out)

    assert code == 0
    assert list(document) == ["schema", "models", "total", "prompts", "warnings"]
    for shown, request in zip(document["prompts"], requests(place)[:3], strict=True):
        sent = request.model_dump(mode="json", include={"messages", "prompt", "max_tokens", "temperature", "logprobs"})
        assert {name: shown[name] for name in sent} == sent
    assert [shown["inserted"] for shown in document["prompts"]] == [None, *WORDS]
    assert "prompts" not in json.loads(call(*LAB, "--json")[1])


def test_prompts_are_printed_whole(place: Path, call: Call) -> None:
    """Every message stands there letter by letter under its role, before the costs; nothing is written."""
    before = files(place)
    code, out, _ = call(*LAB, "--show-prompts", "2", "--param", "top_p=0.5")
    first, second = requests(place)[:2]

    assert code == 0
    for request in (first, second):
        for message in request.messages or ():
            assert f"\n[{message.role}]\n{message.content}\n" in out
    assert "example e0, unchanged." in out
    assert "example e0, with 'grumpy' inserted." in out
    assert 'max_tokens 512, temperature 0.0, logprobs 20, params {"top_p": 0.5}' in out
    assert out.index("[user]") < out.index("requests    ")
    assert files(place) == before


def test_every_model_and_arm_shows_its_prompts(call: Call) -> None:
    """N inputs for each of two models in two orders and two styles, shots and all."""
    arms = ("--order", "pe", "--order", "ep", "--style", "chat", "--style", "completion", "--shots", "0")
    _, out, _ = call(*LAB, "--model", "openai/other", *arms, "--show-prompts", "2", "--json")
    shown = [(one["model"], one["order"], one["style"]) for one in json.loads(out)["prompts"]]

    assert len(shown) == 2 * 2 * 2 * 2
    assert {shown.count(one) for one in shown} == {2}


def test_the_second_call_has_a_letter_that_stands_in(call: Call) -> None:
    """In order pe2 an answer that is not known yet is the first letter, and that is said; no verbosity is left out."""
    arms = ("--order", "pe2", "--verbosity", "brief", "--verbosity", "detailed")
    prompts = json.loads(call(*LAB, *arms, "--show-prompts", "1", "--json")[1])["prompts"]
    _, out, _ = call(*LAB, *arms, "--show-prompts", "1")

    assert [(one["verbosity"], one["stand_in"]) for one in prompts] == [
        ("brief", None), ("brief", "A"), ("detailed", None), ("detailed", "A")
    ]  # fmt: skip
    assert prompts[1]["messages"][1] == {"role": "assistant", "content": "Answer: A"}
    assert out.replace("\n    ", " ").count("an answer that is not known yet, for which A stands in.") == 2


def test_a_stored_answer_is_in_the_second_call(place: Path, call: Call) -> None:
    """What is in the cache is marked, and its own letter is explained in place of one that stands in."""
    order = ("--order", "pe2", "--show-prompts", "1")
    shown = json.loads(call(*LAB, *order, "--json")[1])["prompts"][0]
    names = ("endpoint", "model", "style", "messages", "max_tokens", "temperature", "logprobs")
    fill(place, [Request.model_validate({name: shown[name] for name in names})], {}, "Answer: B")
    prompts = json.loads(call(*LAB, *order, "--json")[1])["prompts"]

    assert [(one["stored"], one["stand_in"]) for one in prompts] == [(True, None), (False, None)]
    assert prompts[1]["messages"][1]["content"] == "Answer: B"
    assert "in the cache, so not sent again" in call(*LAB, *order)[1]


def test_simulated_models_are_planned(place: Path, call: Call) -> None:
    """They have an endpoint and a price of their own, so that nothing costs anything."""
    code, out, _ = call(*GIVEN, "--model", "simulated/faithful", "--json")

    assert code == 0
    assert json.loads(out)["total"]["usd"]["worst"] == 0
