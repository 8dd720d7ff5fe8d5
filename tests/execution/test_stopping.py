"""A run by --until-half-width stops at the first look at which phi-CCT is precise in all models, and nowhere else."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

import explaineval
from explaineval.api import Result
from explaineval.errors import InputError
from explaineval.metrics.correlations import phi_cct
from explaineval.metrics.estimates import Interval
from explaineval.rundir.directory import read_examples, read_run, read_trials
from servers.scripted import ScriptedServer

EXAMPLES, LOOK, WORDS_EACH = 200, 50, 3
SMALL = ("of in on with under from by to at for over about after before", "the a this that some my his her their every")
WORDS = ["quick", "quiet", "brave", "plain", "shiny", "dusty", "narrow", "gentle", "hollow", "rapid"]
LAWS = """
careful: {impact: 0.3, tpr: 0.8, fpr: 0.1}
blunt: {impact: 0.2, tpr: 0.5, fpr: 0.3}
mute: {impact: 0.2, tpr: 0.0, fpr: 0.3}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task that simulated models tell apart, three words for each example, laws, and a cache for all tests."""
    directory = tmp_path_factory.mktemp("stopping")
    draw = random.Random("task")
    rows, lines = [], []
    for number in range(EXAMPLES):
        parts = " ".join(f"{draw.choice(SMALL[0].split())} {draw.choice(SMALL[1].split())} thing" for _ in range(5))
        row = {"id": f"x{number:03d}", "fields": {"note": f"The thing {parts}."}, "gold": "ABC"[number % 3]}
        rows.append(row | {"options": {"A": "likely", "B": "open", "C": "unlikely"}})
        for word in draw.sample(WORDS, WORDS_EACH):
            edit = {"example_id": row["id"], "kind": "mine", "field": "note", "offset": 4, "inserted": word}
            lines.append(edit)
    (directory / "big.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (directory / "words.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    (directory / "laws.yaml").write_text(LAWS, "utf-8")
    return directory


def run(place: Path, name: str, models: tuple[str, ...] = ("careful", "blunt"), **settings: Any) -> Result:
    """A run in process; `models` are laws."""
    asked = [f"simulated/{place}/laws.yaml#{model}" for model in models]
    values = {"tasks": f"jsonl:{place}/big.jsonl", "interventions": {"file": str(place / "words.jsonl")}, **settings}
    found = explaineval.run(
        {"models": asked, "cache": str(place / "cache"), "shams": 0, **values}, out=place / name, progress=False
    )
    assert isinstance(found, Result)
    return found


def half_widths(directory: Path, order: list[str], examples: int) -> dict[str, float | None]:
    """By model half the width of phi's interval on the first examples; None with fewer than 5 mentioned changes."""
    counts: dict[str, dict[str, list[int]]] = {}
    for trial in read_trials(directory):
        if trial.kind == "mine" and trial.example_id in order[:examples]:
            table = counts.setdefault(trial.model, {}).setdefault(trial.example_id, [0, 0, 0, 0])
            table[(0 if trial.changed else 2) + (0 if trial.mentioned else 1)] += 1
    found: dict[str, float | None] = {}
    for model, tables in counts.items():
        rows = list(tables.values())
        interval = phi_cct(rows, Interval())
        enough = sum(row[0] > 0 for row in rows) >= 5
        known = enough and interval.low is not None and interval.high is not None
        found[model] = (interval.high - interval.low) / 2 if known else None  # type: ignore[operator]
    return found


def order_of(directory: Path) -> list[str]:
    """The order in which the examples of a run are asked."""
    return [example.id for example in read_examples(directory)]


@pytest.fixture(scope="module")
def whole(place: Path) -> Path:
    """The run of all examples."""
    assert run(place, "whole").exit_code == 0
    return place / "whole"


@pytest.mark.parametrize("wanted", [0.15, 0.12, 0.08])
def test_it_stops_at_the_first_look_at_which_all_models_are_precise(place: Path, whole: Path, wanted: float) -> None:
    """The look is computed anew from the trials of a run of all examples."""
    result = run(place, f"until{wanted}", until_half_width=wanted)

    directory = place / f"until{wanted}"
    order = order_of(directory)
    looks = range(LOOK, EXAMPLES, LOOK)
    expected = next(
        (n for n in looks if all(w is not None and w <= wanted for w in half_widths(whole, order, n).values())),
        EXAMPLES,
    )
    (stop,) = read_run(directory).stops
    assert (result.exit_code, stop.examples, stop.available) == (0, expected, EXAMPLES)
    assert stop.precise == (expected < EXAMPLES)
    assert {trial.example_id for trial in read_trials(directory)} == set(order[:expected])
    assert sorted(order) == sorted(order_of(whole)) != order
    assert result.totals["requests"]["unsent"] == 0
    assert result.totals["requests"]["distinct"] == 2 * (1 + WORDS_EACH) * expected
    assert read_run(directory).complete


def test_the_widths_that_were_tried_stop_at_different_places(place: Path) -> None:
    """Else the test above would show little."""
    found = {read_run(place / f"until{wanted}").stops[0].examples for wanted in (0.15, 0.12, 0.08)}

    assert len(found) == 3


@pytest.mark.slow
def test_the_same_answers_stop_at_the_same_place(place: Path) -> None:
    """Offline, again in the same directory, and with one connection the trials and numbers are the same bytes."""
    before = (place / "until0.12" / "metrics.json").read_bytes()

    for name, settings in (("until0.12", {}), ("offline", {"offline": True}), ("single", {"max_connections": 1})):
        result = run(place, name, until_half_width=0.12, **settings)
        assert result.exit_code == 0
        assert result.totals["requests"]["sent"] == 0
        assert (place / name / "metrics.json").read_bytes() == before


def test_completion_order_does_not_matter(place: Path, tmp_path: Path) -> None:
    """From an empty cache with one connection, and with many."""
    for connections in (1, 32):
        out = f"fresh{connections}"
        cache = str(tmp_path / out)
        run(place, out, ("careful",), until_half_width=0.15, limit=120, cache=cache, max_connections=connections)
    first, second = (place / f"fresh{connections}" / "metrics.json" for connections in (1, 32))

    assert first.read_bytes() == second.read_bytes()
    assert read_run(place / "fresh1").stops[0].precise


@pytest.mark.slow
def test_a_model_that_never_gets_there_is_asked_to_the_end_with_the_others(place: Path) -> None:
    """No changed answer of `mute` is mentioned, so its interval decides nothing, and `careful` goes on with it."""
    result = run(place, "mute", ("careful", "mute"), until_half_width=0.3)

    (stop,) = read_run(place / "mute").stops
    assert (stop.examples, stop.precise) == (EXAMPLES, False)
    assert any("was not known to ±" in note for note in result.notes)
    assert run(place, "alone", ("careful",), until_half_width=0.3).exit_code == 0
    assert read_run(place / "alone").stops[0].examples < EXAMPLES


@pytest.mark.slow
def test_every_arm_stops_by_itself_and_levels_stop_together(place: Path) -> None:
    """Two orders; in pe2 both levels of verbosity are asked about the same examples."""
    arms = {"order": ["pe", "pe2"], "verbosity": ["brief", "normal"]}
    run(place, "arms", ("blunt",), arms=arms, until_half_width=0.2, limit=160)

    stops = {stop.order: stop.examples for stop in read_run(place / "arms").stops}
    asked: dict[tuple[str, str], set[str]] = {}
    for trial in read_trials(place / "arms"):
        asked.setdefault((trial.order, trial.verbosity), set()).add(trial.example_id)
    assert {name: len(examples) for name, examples in asked.items()} == {
        (order, level): stops[order] for order in ("pe", "pe2") for level in ("brief", "normal")
    }
    assert asked["pe2", "brief"] == asked["pe2", "normal"]


def test_the_limit_is_the_most_that_is_asked(place: Path) -> None:
    """60 examples: one look, and then the rest."""
    run(place, "limited", until_half_width=0.01, limit=60)

    (stop,) = read_run(place / "limited").stops
    assert (stop.examples, stop.available, stop.precise) == (60, 60, False)
    assert set(order_of(place / "limited")) == {f"x{number:03d}" for number in range(60)}


def test_rule_and_order_are_in_the_signature_and_elsewhere_nothing_is(place: Path, whole: Path) -> None:
    """The half width, the looks, the fewest mentioned changes and the seed of the order; a plain run has none of it."""
    signatures = {
        name: {row["signature"] for row in json.loads((directory / "metrics.json").read_text("utf-8"))}
        for name, directory in (("until", place / "until0.12"), ("whole", whole))
    }

    rule = "|until_half_width:0.12 (looks of 50 in order of seed 0, from 5 mentioned and 1 in the rarest cell)|"
    assert all(rule in one for one in signatures["until"])
    assert not any("until" in one for one in signatures["whole"])
    assert "until_half_width" not in read_run(whole).science.fixed


def test_another_seed_asks_in_another_order(place: Path) -> None:
    """And the order of an example does not depend on how many others there are."""
    run(place, "seed5", until_half_width=0.15, seed=5)
    first, other, few = (order_of(place / name) for name in ("until0.15", "seed5", "limited"))

    assert first != other
    assert [name for name in first if name in few] == few


@pytest.mark.parametrize("settings", [{"until_half_width": 0.2}, {}], ids=["another width", "none"])
def test_a_directory_keeps_its_rule(place: Path, settings: dict[str, Any]) -> None:
    """Another half width, or none, is another run: one sentence, and nothing is written."""
    before = (place / "until0.12" / "run.json").read_bytes()

    with pytest.raises(InputError, match=r"--until-half-width 0\.12, now"):
        run(place, "until0.12", **settings)
    assert (place / "until0.12" / "run.json").read_bytes() == before


def test_batches_and_looks_do_not_go_together(place: Path) -> None:
    """Refused before anything is asked."""
    with pytest.raises(InputError, match="leave one of them out"):
        run(place, "batch", until_half_width=0.12, batch=True)


def answer(prompt: str) -> tuple[str, None]:
    """A model that answers A, and B where a word was inserted that it then names, by the length of the prompt."""
    word = next((word for word in WORDS if f" {word} " in prompt), None)
    swayed = word is not None and len(prompt) % 3 == 0
    return f"Answer: {'B' if swayed else 'A'}\nExplanation: {word if swayed or len(prompt) % 5 == 0 else 'so'}.", None


def ask(place: Path, server: ScriptedServer, name: str, **settings: Any) -> Result:
    """A run of one scripted model, with a cache of its own."""
    values = {
        "tasks": f"jsonl:{place}/big.jsonl", "interventions": {"file": str(place / "words.jsonl")},
        "endpoints": {"lab": {"base_url": server.url}}, "models": [{"model": "openai/planted", "endpoint": "lab"}],
        "cache": str(place / "paid"), "logprobs": "off", "shams": 0, "until_half_width": 0.15, **settings,
    }  # fmt: skip
    found = explaineval.run(values, out=place / name, progress=False)
    assert isinstance(found, Result)
    return found


def test_a_run_out_of_money_goes_on_where_it_stopped(place: Path) -> None:
    """With too little money no look is taken; the same with more ends as a run that was never short of it."""
    with ScriptedServer(script=answer) as server:
        poor = ask(place, server, "paid-run", max_usd=0.02, price=[1, 1])
        rich = ask(place, server, "paid-run", max_usd=9, price=[1, 1])
        fresh = ask(place, server, "fresh-run", cache=str(place / "other"))

    assert (poor.exit_code, rich.exit_code, fresh.exit_code) == (3, 0, 0)
    assert poor.totals["requests"]["unsent"] > 0 == rich.totals["requests"]["unsent"]
    assert rich.totals["requests"]["hits"] == poor.totals["requests"]["sent"] > 0
    found = [(place / name / "metrics.json").read_bytes() for name in ("paid-run", "fresh-run")]
    assert found[0] == found[1]
    assert read_run(place / "paid-run").stops == read_run(place / "fresh-run").stops


@pytest.mark.slow
def test_a_model_that_cannot_be_asked_holds_up_no_other(place: Path) -> None:
    """Its endpoint refuses the key: exit code 5, and the other model stops where it would alone."""
    with ScriptedServer(script=answer) as server, ScriptedServer(script=answer, down=True) as broken:
        result = ask(
            place, server, "broken",
            endpoints={
                name: {"base_url": url, "endpoint_name": name}
                for name, url in (("lab", server.url), ("off", broken.url))
            },
            models=[{"model": "openai/planted", "endpoint": "lab"}, {"model": "openai/planted", "endpoint": "off"}],
        )  # fmt: skip

    assert result.exit_code == 5
    asked = {trial.example_id for trial in read_trials(place / "broken") if trial.endpoint == "lab"}
    assert len(asked) == read_run(place / "fresh-run").stops[0].examples < EXAMPLES


def test_a_model_whose_money_is_spent_holds_up_no_other(place: Path) -> None:
    """Its own limit ends in the first look: exit code 3, and the other model stops where it would alone."""
    with ScriptedServer(script=answer) as server:
        models = [
            {"model": "openai/planted", "endpoint": "lab"},
            {"model": "openai/planted", "endpoint": "short", "max_usd": 0.01},
        ]
        endpoints = {
            name: {"base_url": server.url, "endpoint_name": name, "price": [1, 1]} for name in ("lab", "short")
        }
        result = ask(place, server, "spent", endpoints=endpoints, models=models)

    asked = {name: set[str]() for name in endpoints}
    for trial in read_trials(place / "spent"):
        asked[str(trial.endpoint)].add(trial.example_id)
    assert result.exit_code == 3
    assert len(asked["lab"]) == read_run(place / "fresh-run").stops[0].examples
    assert 0 < len(asked["short"]) <= LOOK
