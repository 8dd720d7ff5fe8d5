"""`probe` against endpoints of every character: what it finds out, with how few requests, and what it keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from explaineval.cache import open_store
from explaineval.client.endpoints.capabilities import stored_probe, style_verdict
from servers.commands import Result, WarmCommands
from servers.faults import FaultServer
from servers.personas import Persona, PersonaServer

KEYS = [
    "model", "endpoint", "reachable", "chat", "completion", "logprobs", "logprobs_reason", "max_top_logprobs", "seed",
    "stable", "temperature_zero", "token_limit_param", "system_role", "reasoning_first", "reasoning", "returned_model",
    "fingerprint", "price", "requests", "usd",
]  # fmt: skip
MODEL = "openai/tiny"
MOST_REQUESTS = 12


class Bench:
    """A persona's server, and `probe` asked of it in the test's own directory."""

    def __init__(self, warm: WarmCommands, directory: Path) -> None:
        self.warm, self.directory = warm, directory

    def ask(self, server: PersonaServer, *more: str, model: str = MODEL, env: dict[str, str] | None = None) -> Result:
        """`explaineval probe` with what a test adds."""
        options = ["probe", "--model", model, "--base-url", server.url, "--endpoint-name", "lab", *more]
        return self.warm.run(*options, cwd=self.directory, env=env)

    def find(self, persona: Persona, *more: str, **settings: Any) -> dict[str, Any]:
        """The JSON document of a probe of this persona, after checks that hold for all."""
        with PersonaServer(persona) as server:
            result = self.ask(server, "--json", *more, **settings)

        assert result.code == 0, result.stderr
        found = result.document
        assert list(found) == ["schema", *KEYS, "warnings"]
        assert found["requests"] == len(server.asked) <= MOST_REQUESTS
        return found

    def verdict(self, style: Any = "chat", model: str = MODEL) -> Any:
        """What is kept about the endpoint for this style."""
        with open_store(self.directory / "cache", readonly=True) as store:
            return style_verdict(store, "lab", model, style)

    def kept(self, model: str = MODEL) -> dict[str, Any] | None:
        """The probe's document, as it is kept."""
        with open_store(self.directory / "cache", readonly=True) as store:
            return stored_probe(store, "lab", model)


@pytest.fixture
def bench(warm: WarmCommands, tmp_path: Path) -> Bench:
    """A directory of its own."""
    return Bench(warm, tmp_path)


def test_an_endpoint_without_faults_takes_five_requests(bench: Bench) -> None:
    """Everything is found out, and every key of the contract is told."""
    found = bench.find(Persona(model="tiny-2024", fingerprint="fp_1"), "--price", "1,2")

    assert found == {
        "schema": 2,
        "warnings": [],
        "model": MODEL,
        "endpoint": "lab",
        "reachable": True,
        "chat": True,
        "completion": True,
        "logprobs": True,
        "logprobs_reason": None,
        "max_top_logprobs": 20,
        "seed": True,
        "stable": True,
        "temperature_zero": True,
        "token_limit_param": "max_tokens",
        "system_role": True,
        "reasoning_first": False,
        "reasoning": {"returned": "absent", "field": None},
        "returned_model": "tiny-2024",
        "fingerprint": "fp_1",
        "price": [1.0, 2.0],
        "requests": 5,
        "usd": pytest.approx(5 * (40 * 1e-6 + 12 * 2e-6)),
    }


def test_requests_are_cheap_and_carry_what_is_to_be_found_out(bench: Bench) -> None:
    """At most 16 tokens each; the seed and the system message go out once; the wish is 20 and 5."""
    with PersonaServer() as server:
        bench.ask(server, "--json")

    assert [body["max_tokens"] for body in server.asked] == [16] * 5
    assert [body.get("top_logprobs") for body in server.asked] == [20, 20, 20, None, None]
    assert [body["logprobs"] for body in server.asked[3:]] == [5, 5]
    assert ["seed" in body for body in server.asked] == [False, False, True, False, False]
    assert server.asked[0] == server.asked[1]


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("ignored", "returned no log-probabilities"),
        ("constant", "same for every alternative"),
        ("one-hot", "one-hot"),
        ("repeated", "same at every token"),
        ("positive", "positive"),
        ("above-one", "more than 1"),
        ("null", "finite"),
        ("single", "only one alternative"),
        ("fused", "none for the answer's letter"),
    ],
)
def test_log_probabilities_that_are_none(bench: Bench, kind: Any, reason: str) -> None:
    """What comes back is looked at, not believed; the reason is told and kept, and `run` will not ask."""
    found = bench.find(Persona(logprobs=kind))

    assert found["logprobs"] is False
    assert reason in found["logprobs_reason"]
    assert bench.verdict().logprobs is None
    assert reason in bench.verdict().unusable


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("most", "accepted"), [(20, 20), (7, 5), (3, 1)])
def test_the_largest_number_of_alternatives(bench: Bench, most: int, accepted: int) -> None:
    """From 20 down until one is taken."""
    found = bench.find(Persona(most=most))

    assert accepted == found["max_top_logprobs"]


def test_fewer_alternatives_may_come_back_than_were_asked_for(bench: Bench) -> None:
    """Both numbers stand in the table."""
    with PersonaServer(Persona(gives=3)) as server:
        told = bench.ask(server).stdout

    assert "20 alternatives asked, 3 returned" in told


@pytest.mark.parametrize("curt", [False, True])
def test_rejected_logprobs(bench: Bench, curt: bool) -> None:
    """A rejection is understood with and without naming its cause."""
    found = bench.find(Persona(refuses=frozenset({"logprobs"}), curt=curt))

    assert found["chat"] is found["completion"] is True
    assert found["logprobs"] is False
    assert "rejects" in found["logprobs_reason"]
    assert found["max_top_logprobs"] is None


@pytest.mark.parametrize("curt", [False, True])
def test_rejected_temperature(bench: Bench, curt: bool) -> None:
    """Temperature 0 is dropped, and logprobs are still asked for."""
    found = bench.find(Persona(refuses=frozenset({"temperature"}), curt=curt))

    assert found["temperature_zero"] is False
    assert found["logprobs"] is True
    assert bench.verdict().temperature == "omit"
    assert bench.verdict("completion").temperature == "omit"


@pytest.mark.parametrize("curt", [False, True])
@pytest.mark.parametrize(("refused", "key"), [("seed", "seed"), ("system", "system_role")])
def test_rejected_extras(bench: Bench, refused: str, key: str, curt: bool) -> None:
    """The one that is refused is told from the one that is not."""
    found = bench.find(Persona(refuses=frozenset({refused}), curt=curt))

    assert {"seed": True, "system_role": True} | {key: False} == {name: found[name] for name in ("seed", "system_role")}
    assert found["logprobs"] is True


def test_the_other_name_of_the_token_limit(bench: Bench) -> None:
    """As it went over the wire; the rejected attempt is counted."""
    found = bench.find(Persona(refuses=frozenset({"max_tokens"}), text=False))

    assert found["token_limit_param"] == "max_completion_tokens"  # noqa: S105 - a parameter's name


def test_everything_is_rejected_at_once(bench: Bench) -> None:
    """The worst case still keeps to the number of requests, and the endpoint can be used."""
    found = bench.find(Persona(refuses=frozenset({"temperature", "logprobs", "seed", "system"})))

    assert [found[name] for name in ("chat", "logprobs", "seed", "system_role", "temperature_zero")] == [
        True, False, False, False, False,
    ]  # fmt: skip


def test_answers_that_vary(bench: Bench) -> None:
    """The same question twice at temperature 0."""
    assert bench.find(Persona(stable=False))["stable"] is False


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("kind", "returned", "field"),
    [
        ("usage", "hidden", None),
        ("field", "summary", "reasoning_content"),  # ten letters for a hundred tokens
        ("tags", "summary", "text"),
        ("blank", "hidden", None),
    ],
)
def test_reasoning_before_the_answer(bench: Bench, kind: Any, returned: str, field: str | None) -> None:
    """Whatever gives it away; one longer request then shows the answer's log-probabilities."""
    with PersonaServer(Persona(reasoning=kind)) as server:
        result = bench.ask(server, "--json")

    found = result.document
    assert found["reasoning_first"] is True
    assert found["reasoning"] == {"returned": returned, "field": field}
    assert found["logprobs"] is True
    assert found["stable"] is None
    assert "order pe is then not predict-then-explain" in result.stderr
    assert sum(body["max_tokens"] > 16 for body in server.asked) == 1


def test_an_ollama_server_has_logprobs_in_chat_only(bench: Bench) -> None:
    """Its /v1 gives content[] in chat and none for text completions: each style has its own verdict."""
    found = bench.find(Persona(text_logprobs="ignored", fingerprint="fp_ollama"), model="openai/llama3.2:1b")

    assert found["logprobs"] is True
    assert found["logprobs_reason"].startswith("in completion style: ")
    assert bench.verdict("chat", "openai/llama3.2:1b").logprobs == 20
    assert bench.verdict("completion", "openai/llama3.2:1b").logprobs is None


def test_a_llama_cpp_server_gives_text_logprobs_as_content(bench: Bench) -> None:
    """The chat shape of logprobs in text completions."""
    found = bench.find(Persona(text_shape="content"))

    assert found["logprobs"] is True
    assert found["logprobs_reason"] is None
    assert bench.verdict("completion").logprobs == 5


def test_a_pretrained_model_without_chat(bench: Bench) -> None:
    """Text completion takes the place of chat in everything but the system role."""
    found = bench.find(Persona(chat=False))

    assert [found[name] for name in ("chat", "completion", "logprobs", "seed", "stable", "system_role")] == [
        False,
        True,
        True,
        True,
        True,
        None,
    ]
    assert found["max_top_logprobs"] == 5


def test_an_endpoint_without_text_completion(bench: Bench) -> None:
    """No verdict is kept for a style that is not there."""
    found = bench.find(Persona(text=False))

    assert found["completion"] is False
    assert bench.verdict("completion") is None


def test_a_style_that_fails_is_not_told(bench: Bench) -> None:
    """A server in trouble is no evidence: null, and no verdict."""
    with PersonaServer(Persona(text_status=500)) as server:
        found = bench.ask(server, "--json", "--max-retries", "0").document

    assert found["chat"] is True
    assert found["completion"] is None
    assert bench.verdict("chat").logprobs == 20
    assert bench.verdict("completion") is None


def test_an_answer_without_a_letter_tells_nothing_of_logprobs(bench: Bench) -> None:
    """Unknown is not `no`: `run` finds out itself, and asks."""
    found = bench.find(Persona(says="Who knows?"))

    assert found["logprobs"] is None
    assert "no answer letter" in found["logprobs_reason"]
    assert bench.verdict().logprobs == 20
    assert bench.verdict().unusable is None


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("status", "reachable"), [(401, True), (500, True), (404, True)])
def test_a_failed_probe_is_not_kept(bench: Bench, status: int, reachable: bool) -> None:
    """Exit code 5, the document says what could not be told, and nothing is stored."""
    with PersonaServer(Persona(status=status)) as server:
        result = bench.ask(server, "--json", "--max-retries", "0")

    assert result.code == 5
    assert list(result.document) == ["schema", *KEYS, "warnings", "error"]
    assert result.document["reachable"] is reachable
    assert result.document["logprobs"] is None
    assert result.document["logprobs_reason"].startswith("not told")
    assert f"status {status}" in result.stderr
    assert bench.verdict() is None
    assert bench.kept() is None


def test_a_failed_probe_leaves_the_former_verdict(bench: Bench) -> None:
    """What a good probe found stands until the next good one."""
    bench.find(Persona())
    with PersonaServer(Persona(status=500)) as server:
        bench.ask(server, "--max-retries", "0")
    kept = bench.kept()

    assert bench.verdict().logprobs == 20
    assert kept is not None
    assert kept["logprobs"] is True


def test_nobody_listens(bench: Bench) -> None:
    """A refused connection: not reachable."""
    with PersonaServer() as server:
        pass
    result = bench.ask(server, "--json", "--max-retries", "0")

    assert result.code == 5
    assert result.document["reachable"] is False
    assert result.document["chat"] is None
    assert "refused" in result.stderr


def test_an_unknown_model_is_told_what_is_served(bench: Bench) -> None:
    """With the endpoint's own list."""
    with PersonaServer(Persona(status=404, models=("alpha", "beta\x1b[31m"))) as server:
        result = bench.ask(server)

    assert "the endpoint serves: alpha, beta [31m." in result.stderr


def test_run_too_says_what_is_served(bench: Bench) -> None:
    """The same sentence at the end of a run that found no such model."""
    with PersonaServer(Persona(status=404, models=("alpha",))) as server:
        result = run(bench, server)

    assert result.code == 5
    assert "the endpoint serves: alpha." in result.stderr


def test_the_key_goes_nowhere_but_to_the_endpoint(bench: Bench) -> None:
    """The named variable is sent; it stands in no output and in no stored byte."""
    secret = "planted-secret-0123456789"  # noqa: S105 - an invented one
    with PersonaServer(Persona(status=401)) as refusing:
        told = bench.ask(refusing, "--json", "--api-key-env", "LAB_KEY", env={"LAB_KEY": secret})
    with PersonaServer() as server:
        told2 = bench.ask(server, "--api-key-env", "LAB_KEY", env={"LAB_KEY": secret})

    assert {f"Bearer {secret}"} == {key for _, _, key in server.bodies + refusing.bodies}
    assert secret not in told.stdout + told.stderr + told2.stdout + told2.stderr
    assert not any(secret.encode() in path.read_bytes() for path in bench.directory.rglob("*") if path.is_file())


def test_the_table_tells_people(bench: Bench) -> None:
    """What, finding, meaning; requests, tokens and dollars; the last line is about CCT."""
    with PersonaServer() as server:
        result = bench.ask(server, "--price", "1,2")
    lines = result.stdout.splitlines()

    assert lines[1].split() == ["what", "finding", "what", "it", "means"]
    assert "This probe: 5 requests, 200 tokens in, 60 out, $0.00032." in lines
    assert lines[-1].startswith("CCT will be given in chat style")
    assert result.stderr == ""


def test_the_last_line_says_why_there_is_no_cct(bench: Bench) -> None:
    """The reason, in the sentence."""
    with PersonaServer(Persona(logprobs="one-hot")) as server:
        result = bench.ask(server)

    assert "CCT will not be given in chat style, only phi-CCT: the log-probabilities are one-hot" in " ".join(
        result.stdout.split()
    )


def test_a_loopback_address_costs_nothing(bench: Bench) -> None:
    """Without --price."""
    assert bench.find(Persona())["price"] == [0.0, 0.0]


@pytest.mark.sampled(1)
@pytest.mark.parametrize("model", ["ollama/llama3.2", "ollama_chat/llama3.2"])
def test_routes_that_lose_logprobs_are_named(bench: Bench, model: str) -> None:
    """With the route to take instead."""
    with PersonaServer(Persona(status=404, models=None)) as server:
        result = bench.ask(server, "--max-retries", "0", model=model)

    assert "--model openai/llama3.2 --base-url http://HOST:11434/v1" in result.stderr


@pytest.mark.parametrize(("model", "path"), [("anthropic/claude-m", ""), ("gemini/gemini-m", "/v1beta")])
def test_providers_without_logprobs(warm: WarmCommands, tmp_path: Path, model: str, path: str) -> None:
    """litellm's own routes: chat works, no logprobs, no text completion of its own, no traceback."""
    with FaultServer() as server:
        result = warm.run("probe", "--model", model, "--base-url", server.root + path, "--json", cwd=tmp_path)

    assert result.code == 0, result.stderr
    found = result.document
    assert found["chat"] is True
    assert found["completion"] is False
    assert found["logprobs"] is False
    assert found["logprobs_reason"]
    assert found["requests"] == len(server.received) <= MOST_REQUESTS


def run(bench: Bench, server: PersonaServer, *more: str) -> Result:
    """A run of two bundled examples at the same endpoint."""
    fixed = ["run", "--task", "sense", "--limit", "2", "--model", MODEL, "--base-url", server.url]
    return bench.warm.run(*fixed, "--endpoint-name", "lab", "--max-retries", "0", "--json", *more, cwd=bench.directory)


def trials(result: Result, bench: Bench) -> list[dict[str, Any]]:
    """The trials of a run."""
    path = bench.directory / result.document["run_dir"] / "trials.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_run_follows_the_probe(bench: Bench) -> None:
    """Unusable logprobs are not asked for; the trials say what the probe found, and run.json carries it."""
    persona = Persona(logprobs="constant", says="Answer: A\nExplanation: So it is.")
    bench.find(persona)
    with PersonaServer(persona) as server:
        result = run(bench, server)
    recorded = json.loads((bench.directory / result.document["run_dir"] / "run.json").read_text(encoding="utf-8"))
    probe = recorded["endpoints"][0]["probe"]

    assert result.code == 0, result.stderr
    assert not any("logprobs" in body for body in server.asked)
    assert all("same for every alternative (found by probe)" in one["tvd_reason"] for one in trials(result, bench))
    assert [*KEYS, "probed"] == list(probe)
    assert probe["logprobs"] is False


def test_run_asks_for_the_probed_maximum(bench: Bench) -> None:
    """No second search for what is known."""
    bench.find(Persona(most=7))
    with PersonaServer(Persona(most=7)) as server:
        result = run(bench, server)

    assert {5} == {body["top_logprobs"] for body in server.asked}
    assert result.document["requests"]["sent"] == len(server.asked)


def test_a_run_before_the_probe_keeps_its_keys_where_logprobs_are_ignored(bench: Bench) -> None:
    """What was paid for under the wish for logprobs is not bought again because a probe says that none come."""
    with PersonaServer(Persona(logprobs="ignored", says="Answer: A\nExplanation: So it is.")) as server:
        run(bench, server)
        bench.ask(server)
        again = run(bench, server)

    assert again.document["requests"]["sent"] == 0
    assert all("returned no log-probabilities" in one["tvd_reason"] for one in trials(again, bench))


def test_a_run_after_a_good_probe_has_the_keys_of_a_run_before(bench: Bench) -> None:
    """Probing costs no answer twice."""
    with PersonaServer() as server:
        run(bench, server)
        bench.ask(server)
        again = run(bench, server)

    assert again.document["requests"]["sent"] == 0


def test_run_warns_of_reasoning_that_the_probe_saw(bench: Bench) -> None:
    """Also where the answers themselves do not show it."""
    bench.find(Persona(reasoning="field"))
    with PersonaServer(Persona()) as server:
        result = run(bench, server)

    assert "the probe found that openai/tiny reasons before it answers" in result.stderr


def test_probe_asks_one_model(bench: Bench) -> None:
    """None, or two, is an error of the command line."""
    result = bench.warm.run("probe", "--json", cwd=bench.directory)

    assert result.code == 2
    assert "--model" in result.document["error"]["message"]


def test_the_probe_is_kept_per_endpoint_and_model(bench: Bench) -> None:
    """Another model of the same endpoint has none."""
    bench.find(Persona())
    with open_store(bench.directory / "cache", readonly=True) as store:
        assert stored_probe(store, "lab", MODEL) is not None
        assert stored_probe(store, "lab", "openai/other") is None
        assert stored_probe(store, "elsewhere", MODEL) is None
