"""What the tests of `run --batch` share: a planted task, a provider of batches that answers it, commands on both."""

from __future__ import annotations

import hashlib
import json
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from explaineval.cache import open_store
from servers import replies, shapes
from servers.batch_server import BatchServer, Call
from servers.commands import Child, Result, WarmCommands
from servers.planted import given_answer, recognise
from servers.shapes import Shape
from servers.tables import Arm, Table

Route = Literal["openai", "anthropic"]
MODELS = {"openai": "openai/planted", "anthropic": "anthropic/planted"}
TABLE = Table(examples=6, words=2, seed=5)
EACH = 1 + TABLE.words + 1
DISTINCT = TABLE.examples * EACH
MOST = 64
"""--max-tokens of all these runs."""
CUT = TABLE.token("x004")
"""The example whose answers are cut off as long as no more than MOST tokens are allowed."""


def limit_of(body: Mapping[str, Any]) -> int:
    """How many tokens the answer may have."""
    return int(body.get("max_tokens") or body["max_completion_tokens"])


def usage_of(body: Mapping[str, Any]) -> tuple[int, int]:
    """Tokens in and out of the answer to a body: few enough for the limit, and decided by the body alone."""
    text = json.dumps(body.get("messages") or body["prompt"], sort_keys=True)
    draw = int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)
    return len(text.split()), 1 + draw % limit_of(body)


def answer(shape: Shape, body: Mapping[str, Any]) -> dict[str, Any]:
    """What the planted model says, in the shape of either provider."""
    style = "completion" if shape == "text" else "chat"
    asked = {**body, "messages": [{**turn, "content": _flat(turn["content"])} for turn in body.get("messages", ())]}
    order, (example, word) = recognise(asked, style)
    given, arm = given_answer(asked, style), Arm("planted", style, order)
    form = order if given is None else f"{order} explained"
    text = replies.compose(form, style, TABLE.label(arm, example, word), TABLE.explanation(arm, example, word))
    top = shapes.top_asked(shape, body)
    tokens = replies.spell_tokens(text, order, TABLE.distribution(arm, example, word), top) if top else None
    cut = TABLE.token(example) == CUT and limit_of(body) <= MOST and given is None
    found = shapes.answer(shape, str(body["model"]), text, "length" if cut else "stop", tokens)
    names = ("input_tokens", "output_tokens") if shape == "anthropic" else ("prompt_tokens", "completion_tokens")
    return {**found, "usage": dict(zip(names, usage_of(body), strict=True))}


def _flat(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


@dataclass
class BatchRuns:
    """Runs of the command line in `directory` against `server`. Use as a context manager."""

    warm: WarmCommands
    directory: Path
    route: Route = "openai"
    server: BatchServer = field(default_factory=lambda: BatchServer(answer=answer))

    def __enter__(self) -> Self:
        TABLE.write_task(self.directory / "task.jsonl")
        TABLE.write_interventions(self.directory / "edits.jsonl")
        self.server.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.__exit__(kind, error, trace)

    @property
    def model(self) -> str:
        """The model that is asked."""
        return MODELS[self.route]

    @property
    def url(self) -> str:
        """The server, as the route wants its address."""
        return f"{self.server.root}/v1" if self.route == "openai" else self.server.root

    def options(self, *more: str | Path, command: str = "run", task: str = "task.jsonl") -> list[str]:
        """A command with what a test adds."""
        fixed = [command, "--task", f"jsonl:{task}", "--interventions", "edits.jsonl", "--shots", "2", "--json"]
        fixed += ["--max-tokens", str(MOST), "--model", self.model, "--batch-poll", "0.02"]
        return [*fixed, "--base-url", self.url, "--endpoint-name", "lab", *map(str, more)]

    def run(self, *more: str | Path, command: str = "run") -> Result:
        """A command from beginning to end."""
        return self.warm.run(*self.options(*more, command=command), cwd=self.directory)

    def start(self, *more: str | Path) -> Child:
        """Begin a run."""
        return self.warm.start(*self.options(*more), cwd=self.directory)

    def end_at(self, number: signal.Signals, call: Call, *more: str | Path, nth: int = 1) -> Result:
        """A run that gets a signal when the server gets its nth such call, before that is answered."""
        begun, seen = threading.Event(), 0
        child: list[Child] = []

        def told(one: Call) -> None:
            nonlocal seen
            seen += one == call
            if one == call and seen == nth:
                begun.wait(10)
                child[0].send(number)

        self.server.on_call = told
        child.append(self.start(*more))
        begun.set()
        try:
            return child[0].finish()
        finally:
            self.server.on_call = None

    def wait_for(self, call: Call, count: int = 1, timeout: float = 180.0) -> None:
        """Return once the server had so many calls of a kind."""
        end = time.monotonic() + timeout
        while self.server.count(call) < count:
            if time.monotonic() > end:
                raise TimeoutError(f"only {self.server.count(call)} of {count} calls of kind {call} came in")
            time.sleep(0.005)

    def stored(self, cache: str = "cache") -> dict[str, str]:
        """The requests in a store, by their keys."""
        with open_store(self.directory / cache, readonly=True) as store:
            return {key: request.model_dump_json() for key, request, _ in store.iterate()}

    def journal_states(self, cache: str = "cache") -> list[str]:
        """Return the states of all journal entries."""
        return sorted(json.loads(path.read_text())["state"] for path in (self.directory / cache).glob("batches/*.json"))

    def dollars(self, singly: tuple[float, float], batched: tuple[float, float]) -> float:
        """What the server would charge for everything so far, at prices per token in and out."""
        bodies = [(body, singly) for body in self.server.plain]
        for text, count in self.server.bodies.items():
            bodies += [(json.loads(text), batched)] * count
        return sum(used * price for body, prices in bodies for used, price in zip(usage_of(body), prices, strict=True))

    def is_billed_once(self, distinct: int = DISTINCT) -> bool:
        """Whether everything was asked once: one request alone, the others in batches."""
        return (len(self.server.plain), len(self.server.billed), set(self.server.billed.values())) == (
            1,
            distinct - 1,
            {1},
        )


def counts(result: Result) -> tuple[int, ...]:
    """Distinct, hits, sent, unsent of a result; that they add up is checked."""
    found = result.document["requests"]
    assert found["distinct"] == found["hits"] + found["sent"] + found["unsent"]
    return tuple(found[name] for name in ("distinct", "hits", "sent", "unsent"))


def read(runs: BatchRuns, path: str) -> bytes:
    """A file of the directory."""
    return (runs.directory / path).read_bytes()
