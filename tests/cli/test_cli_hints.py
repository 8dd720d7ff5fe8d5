"""Messages that say what to do: the variable of a missing key, a missing /v1, a path without its format, the levels."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from explaineval.client.endpoints.routes import KEY_NAMES, advice_on, provider_key_names
from explaineval.config import Endpoint
from servers.commands import WarmCommands
from servers.key_echo import EchoingServer, Mode

OTHERS = "sk-somebody-elses-1a2b3c4d"
ESNLI = ("pairID", "gold_label", "Sentence1", "Sentence2", "Explanation_1")


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmCommands]:
    """Commands without the seconds of litellm's import."""
    with WarmCommands(tmp_path_factory.mktemp("warm")) as commands:
        yield commands


def test_a_missing_key_is_named_with_its_variable(tmp_path: Path, warm: WarmCommands) -> None:
    """With a base URL the provider's key is not sent, and the message says which variable would be."""
    with EchoingServer(plant=lambda _: "no key", mode="401") as server:
        fixed = ("--model", "openai/m", "--base-url", server.url, "--max-retries", "0")
        run = warm.run("run", "--task", "qa", "--limit", "2", *fixed, cwd=tmp_path, env={"OPENAI_API_KEY": OTHERS})
        probe = warm.run("probe", *fixed, cwd=tmp_path)
        named = warm.run("probe", *fixed, "--api-key-env", "LAB", cwd=tmp_path, env={"LAB": OTHERS})

    assert run.code == probe.code == named.code == 5
    assert "no key was sent" in run.stderr
    assert "EXPLAINEVAL_API_KEY" in run.stderr
    assert "--api-key-env OPENAI_API_KEY" in run.stderr
    assert "no key was sent" in probe.stderr
    assert "OPENAI_API_KEY" not in probe.stderr
    assert "the key is not accepted; check LAB, which holds it" in named.stderr
    assert all(headers["authorization"] == "Bearer none" for headers in server.headers[:1])


@pytest.mark.parametrize(
    ("model", "variable"),
    [
        ("openai/m", "OPENAI_API_KEY"),
        ("text-completion-openai/m", "OPENAI_API_KEY"),
        ("anthropic/m", "ANTHROPIC_API_KEY"),
        ("gemini/m", "GEMINI_API_KEY"),
        ("groq/m", "GROQ_API_KEY"),
        ("mistral/m", "MISTRAL_API_KEY"),
        ("openrouter/a/b", "OPENROUTER_API_KEY"),
        ("new-provider/m", "NEW_PROVIDER_API_KEY"),
    ],
)
def test_a_providers_own_variable_is_named(model: str, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a base URL: the variable that is not set, or the one whose key is not accepted."""
    missing = str(advice_on(Endpoint(), model, 401))
    monkeypatch.setenv(variable, OTHERS)
    refused = str(advice_on(Endpoint(), model, 401))

    assert missing.startswith("no key was sent: set ")
    assert variable in missing
    assert refused == f"the key is not accepted; check {variable}, which holds it"
    assert provider_key_names(model)[0] == [variable]


def test_every_variable_that_is_named_is_one_of_litellms() -> None:
    """No message names a variable that litellm does not read."""
    spec = importlib.util.find_spec("litellm")
    assert spec is not None
    assert spec.origin is not None
    paths = [*Path(spec.origin).parent.glob("*.py"), *(Path(spec.origin).parent / "llms").rglob("*.py")]
    source = "".join(path.read_text(encoding="utf-8") for path in paths)
    named = {name for names in KEY_NAMES.values() for name in names}

    assert {name for name in named if f'"{name}"' not in source} == set()


def test_an_access_denied_without_a_key_says_so() -> None:
    """A 403 without a key is said to be a missing key; with a key it is not."""
    address = "http://127.0.0.1:9/v1"

    assert "no key was sent" in str(advice_on(Endpoint(address), "openai/m", 403))
    assert advice_on(Endpoint(address, None, "LAB"), "openai/m", 403) is None


@pytest.mark.parametrize("command", ["run", "probe"])
def test_a_404_hints_at_a_missing_v1(tmp_path: Path, warm: WarmCommands, command: str) -> None:
    """The message suggests /v1 where the base URL lacks it, and not where it has it."""
    task = ("--task", "qa", "--limit", "2") if command == "run" else ()
    with EchoingServer(plant=lambda _: "m", mode="404") as server:
        fixed = (command, *task, "--model", "openai/m", "--max-retries", "0", "--base-url")
        without = warm.run(*fixed, server.root, cwd=tmp_path)
        with_it = warm.run(*fixed, server.url, cwd=tmp_path)

    assert without.code == with_it.code == 5
    assert f"try {server.root}/v1" in without.stderr
    assert "has no /v1" not in with_it.stderr


@pytest.mark.parametrize("mode", ["html", "404"])
def test_an_html_page_is_called_one(tmp_path: Path, warm: WarmCommands, mode: Mode) -> None:
    """The message says that it is an HTML page, whatever the status, and does not quote its source."""
    page = "<!DOCTYPE html><html><head><title>Sign in</title></head><body><p>Hello</p></body></html>"
    with EchoingServer(plant=lambda _: page if mode == "404" else "Sign in", mode=mode) as server:
        found = warm.run("probe", "--model", "openai/m", "--base-url", server.url, "--max-retries", "0", cwd=tmp_path)

    assert found.code == 5
    assert "an HTML page (Sign in)" in found.stderr
    assert "<" not in found.stderr.partition("; the endpoint serves")[0]


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("data/mine.jsonl", "jsonl:data/mine.jsonl"),
        ("data/mine.csv", "esnli:data/mine.csv or ecqa:data/mine.csv or csv:data/mine.csv"),
        ("data", "comve:data"),
        ("plain", "jsonl:plain"),
        ("esnlii:x.csv", "perhaps esnli is meant"),
        ("sence", "perhaps sense is meant"),
        ("comve:data/mine.csv", "comve:data"),
        ("esnli:bars.csv", "columns pairID, gold_label, Sentence1, Sentence2, Explanation_1 are missing"),
    ],
)
def test_a_task_that_is_nearly_right_gets_a_suggestion(
    tmp_path: Path, warm: WarmCommands, task: str, words: str
) -> None:
    """One sentence suggests what was meant."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.csv").write_text("a,b\n", encoding="utf-8")
    (tmp_path / "plain").write_text("{}\n", encoding="utf-8")
    (tmp_path / "bars.csv").write_text(f"{'|'.join(ESNLI)}\n1|a|b|c|d\n", encoding="utf-8")
    found = warm.run("run", "--task", task, "--model", "openai/m", cwd=tmp_path)

    assert found.code == 2
    assert words in found.stderr
    assert found.stderr.count("\n") == 1


def test_a_levels_typo_lists_the_levels(tmp_path: Path, warm: WarmCommands) -> None:
    """The message names the nearest level and all levels of the prompts directory."""
    found = warm.run("run", "--task", "qa", "--model", "openai/m", "--verbosity", "breif", cwd=tmp_path)

    assert found.code == 2
    assert "no verbosity level 'breif' (did you mean brief?)" in found.stderr
    assert "brief, detailed, exhaustive, minimal, normal" in found.stderr
