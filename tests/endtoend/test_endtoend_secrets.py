"""Keys that a server writes into everything it sends: not one piece of them in any file or output."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from explaineval.cache import open_store
from explaineval.cache.integrity import scan
from explaineval.client import litellm_client
from explaineval.client.endpoints import guard
from explaineval.client.endpoints.routes import without_secrets
from explaineval.client.litellm_client import LiteLLMClient, load_litellm
from explaineval.config import Endpoint
from explaineval.errors import ExplainevalError
from explaineval.records import Completion, Message, Request, TokenAlternatives
from explaineval.secrets import SECRETS
from servers import shapes
from servers.batch_server import BatchServer
from servers.commands import Result, WarmCommands
from servers.key_echo import EchoingServer, Mode, spellings, traces
from servers.tables import Table

KEY = "sk-lab-7Qx/2vB+9_kT4mW8zR1nY6cH3=jL5pD0"
TABLE = Table(examples=2, words=1, seed=0)


@dataclass(frozen=True)
class Place:
    """A directory with a task in it, and the commands that are run there."""

    directory: Path
    warm: WarmCommands
    results: list[Result] = field(default_factory=list)

    def run(self, *arguments: str, **env: str) -> Result:
        """A command with an environment of its own."""
        result = self.warm.run(*arguments, cwd=self.directory, env=env)
        self.results.append(result)
        return result

    def stored(self, cache: str = "cache") -> bool:
        """Whether the store holds answers; its rows, which are compressed, are written out to be searched too."""
        with open_store(self.directory / cache) as store:
            found = [completion.model_dump_json() for _, _, completion in store.iterate()]
            kept = [json.dumps(row.value, ensure_ascii=False) for row in scan(store.reader)]
        (self.directory / f"{cache}.plain").write_text("\n".join([*found, *kept]), encoding="utf-8")
        return bool(found)

    def leaks(self, key: str = KEY) -> dict[str, set[str]]:
        """Pieces of the key by the place where they stand: every file below the directory, every output."""
        found = {str(path): traces(path.read_bytes(), key) for path in self.directory.rglob("*") if path.is_file()}
        for number, result in enumerate(self.results):
            found[f"output {number}"] = traces((result.stdout + result.stderr).encode(), key)
        return {place: pieces for place, pieces in found.items() if pieces}


@pytest.fixture
def place(tmp_path: Path, warm: WarmCommands) -> Place:
    """An empty place with a task."""
    TABLE.write_task(tmp_path / "task.jsonl")
    TABLE.write_interventions(tmp_path / "edits.jsonl")
    return Place(tmp_path, warm)


def command(server: EchoingServer, *more: str, model: str = "openai/m", url: str | None = None) -> list[str]:
    """`run` against the server."""
    fixed = ["run", "--task", "jsonl:task.jsonl", "--interventions", "edits.jsonl", "--base-url", url or server.url]
    return [
        *fixed,
        "--endpoint-name",
        "lab",
        "--model",
        model,
        "--max-retries",
        "0",
        "--shams",
        "0",
        "--shots",
        "0",
        *more,
    ]


@pytest.mark.sampled(4)
@pytest.mark.parametrize("mode", ["200", "200-error", "html", "400", "401", "404", "429", "500"])
@pytest.mark.parametrize("style", ["chat", "completion"])
def test_an_echoed_key_is_nowhere(place: Place, mode: Mode, style: str) -> None:
    """In errors, texts, names, counts and headers of answers, run as text and as JSON, then read again."""
    with EchoingServer(mode=mode) as server:
        fixed = command(server, "--style", style)
        named = place.run(*fixed, "--out", "a", "--cache", "one", "--api-key-env", "LAB", LAB=KEY)
        plain = place.run(*fixed, "--out", "b", "--cache", "two", "--json", EXPLAINEVAL_API_KEY=KEY)
        sent = [headers["authorization"] for headers in server.headers]

    assert named.code == plain.code == (0 if mode == "200" else 5)
    assert set(sent) == {f"Bearer {KEY}"}
    assert place.leaks() == {}
    assert place.stored("one") == (mode == "200")
    assert place.leaks() == {}


@pytest.mark.sampled(1)
@pytest.mark.parametrize("mode", ["200", "401", "429"])
def test_a_key_in_x_api_key_is_nowhere(place: Place, mode: Mode) -> None:
    """Anthropic's header, and its shape of answers."""
    with EchoingServer(mode=mode) as server:
        arguments = command(server, "--out", "out", model="anthropic/claude-3-haiku-20240307", url=server.root)
        result = place.run(*arguments, "--api-key-env", "LAB", "--logprobs", "off", LAB=KEY)
        sent = {headers.get("x-api-key") for headers in server.headers}

    assert result.code == (0 if mode == "200" else 5)
    assert KEY in sent
    assert place.stored() == (mode == "200")
    assert place.leaks() == {}


@pytest.mark.sampled(1)
@pytest.mark.parametrize("mode", ["200", "401", "400", "html"])
def test_a_probe_keeps_no_key(place: Place, mode: Mode) -> None:
    """Neither in what it prints nor in what it stores for later runs."""
    with EchoingServer(mode=mode) as server:
        for more in ((), ("--json",)):
            fixed = ("probe", "--model", "openai/m", "--base-url", server.url, "--max-retries", "0")
            place.run(*fixed, "--api-key-env", "LAB", *more, LAB=KEY)

    place.stored()
    assert place.leaks() == {}


def test_a_key_of_the_configuration_file_is_nowhere(place: Place) -> None:
    """The variable is named in the file; its value is masked all the same."""
    with EchoingServer(mode="401") as server:
        lines = [
            "tasks: ['jsonl:task.jsonl']", "interventions: {file: edits.jsonl}", "max_retries: 0",
            f"endpoints: {{lab: {{base_url: '{server.url}', api_key_env: EXPLAINEVAL_LAB}}}}",
            "models: [{model: openai/m, endpoint: lab}]",
        ]  # fmt: skip
        (place.directory / "run.yaml").write_text("\n".join(lines), encoding="utf-8")
        result = place.run("run", "run.yaml", "--out", "out", EXPLAINEVAL_LAB=KEY)

    assert result.code == 5
    assert "check EXPLAINEVAL_LAB, which holds it" in result.stderr
    assert place.leaks() == {}


def test_a_key_in_the_results_of_a_batch_is_nowhere(place: Place) -> None:
    """Neither from texts that a batch brings, nor from the errors in its lines and of its calls."""

    def echo(shape: shapes.Shape, body: Any) -> dict[str, Any]:
        said = f"Answer: B\nExplanation: {spellings(KEY)}"
        top = shapes.top_asked(shape, body)
        return shapes.answer(shape, spellings(KEY), said, "stop", shapes.spell("Answer: B", top) if top else None)

    with BatchServer(answer=echo) as server:
        fixed = ["run", "--task", "jsonl:task.jsonl", "--interventions", "edits.jsonl", "--model", "openai/m"]
        fixed += ["--base-url", f"{server.root}/v1", "--endpoint-name", "lab", "--batch", "--batch-poll", "0.05"]
        result = place.run(*fixed, "--out", "out", "--api-key-env", "LAB", LAB=KEY)

    assert server.batches
    assert result.code == 0
    assert place.stored()
    assert place.leaks() == {}


PROVIDERS_KEYS = {
    "openai/m": "OPENAI_API_KEY", "anthropic/m": "ANTHROPIC_API_KEY", "gemini/m": "GOOGLE_API_KEY",
    "azure/m": "AZURE_AD_TOKEN", "together_ai/m": "TOGETHER_AI_TOKEN", "huggingface/m": "HF_TOKEN",
    "watsonx/m": "WATSONX_APIKEY", "bedrock/m": "AWS_SECRET_ACCESS_KEY", "databricks/m": "DATABRICKS_CLIENT_SECRET",
    "openai/n": "OPENAI_LIKE_API_KEY", "gigachat/m": "GIGACHAT_CREDENTIALS",
}  # fmt: skip


@pytest.mark.sampled(4)
@pytest.mark.parametrize("model", PROVIDERS_KEYS)
@pytest.mark.parametrize("ends", ["error", "text"])
def test_a_key_that_litellm_finds_by_itself_is_masked(model: str, ends: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a base URL litellm reads the key from a variable by itself; explaineval masks it all the same.

    Some of these providers have no common address, and a request to them would be refused before any key is read: the
    address is taken as declared here, so that each of the variables is tested.
    """
    monkeypatch.setenv(PROVIDERS_KEYS[model], KEY)
    monkeypatch.setattr(litellm_client, "declared_origins", lambda *_: ())
    litellm = load_litellm()

    async def echoing(**arguments: Any) -> Any:
        attempt = guard._current.get()
        assert attempt is not None
        attempt.sent += 1  # as if the request had left
        if ends == "error":
            raise ValueError(f"Incorrect API key provided: {spellings(KEY)}")
        said = {"role": "assistant", "content": spellings(KEY), "refusal": spellings(KEY)}
        choice = {"index": 0, "finish_reason": "stop", "message": said}
        found = {"choices": [choice], "model": spellings(KEY), "usage": {"note": [spellings(KEY)], spellings(KEY): 1}}

        class Raw:
            def model_dump(self, **_: Any) -> dict[str, Any]:
                return found

        return Raw()

    monkeypatch.setattr(litellm, "acompletion", echoing)
    turn = Message(role="user", content="Q")

    async def ask() -> Completion:
        client = LiteLLMClient({None: Endpoint()}, timeout=5)
        try:
            return await client.complete(Request(model=model, style="chat", messages=(turn,), max_tokens=5))
        finally:
            await client.close()

    try:
        told = json.dumps(asyncio.run(ask()).model_dump(), ensure_ascii=False)
    except ExplainevalError as exc:
        told = str(exc)

    assert "***" in told
    assert traces(told.encode(), KEY) == set()


def test_a_masked_answer_keeps_its_length() -> None:
    """Offsets of tokens behind the key still point at their letters, so that probabilities stay readable."""
    SECRETS.add(KEY)
    top = ((" B", -0.1), (KEY, -3.0))
    at = TokenAlternatives(offset=len(KEY) + 9, token=" B", top=top)  # noqa: S106 - a token of a text
    found = without_secrets(Completion(text=f"{KEY} Answer: B", logprobs=(at,), usage={KEY: [KEY]}))

    assert found.text == "*" * len(KEY) + " Answer: B"
    assert found.logprobs == (at.model_copy(update={"top": ((" B", -0.1), ("*" * len(KEY), -3.0))}),)
    assert traces(found.model_dump_json().encode(), KEY) == set()


@pytest.mark.parametrize(
    "key", [KEY, "AIzaSyA1b2C3d4E5f6G7h8I9j0kLmNoPq", "sk-1234567890abcdef", "0123456789abcdef" * 2]
)
def test_a_key_in_the_place_of_its_variable_is_not_repeated(place: Place, key: str) -> None:
    """--api-key-env takes a name; what is pasted there instead is neither shown nor stored."""
    (place.directory / "run.yaml").write_text(
        f"tasks: [qa]\nmodels: [{{model: openai/m}}]\napi_key_env: '{key}'\n", encoding="utf-8"
    )
    fixed = ("run", "--task", "qa", "--model", "openai/m", "--base-url", "http://127.0.0.1:9/v1")
    results = [
        place.run(*fixed, "--api-key-env", key),
        place.run(*fixed[:5], "--api-key-env", key, "--json"),
        place.run("run", "run.yaml"),
        place.run("probe", *fixed[3:], "--api-key-env", key),
    ]
    (place.directory / "run.yaml").unlink()

    assert [one.code for one in results] == [2, 2, 2, 2]
    assert all("not the key itself" in one.stdout + one.stderr for one in results)
    assert place.leaks(key) == {}


def test_a_key_on_the_command_line_is_not_repeated(place: Place) -> None:
    """A key given as a parameter is refused without its value, in either form of output."""
    for more in ((), ("--json",)):
        for name in ("api_key", "headers", "extra_body"):
            result = place.run("run", "--task", "qa", "--model", "openai/m", "--param", f"{name}={KEY}", *more)
            assert result.code == 2
            told = result.stdout + result.stderr
            assert f"--param {name}" in told

    assert place.leaks() == {}
