"""Every fault by every route: attempts at the server, what becomes of the request, and whether it is stored."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from explaineval.cache import Store, open_store, request_key
from explaineval.client.cached import AnswerWriter, StoringClient
from explaineval.client.direct import DirectClient
from explaineval.client.litellm_client import LiteLLMClient
from explaineval.client.retries import RetryingClient
from explaineval.config import Endpoint
from explaineval.errors import EndpointError, RequestFailedError, RequestRejectedError, TransientError
from explaineval.parsing import classify, label_probabilities, parse
from explaineval.records import Completion, LabelProbabilities, Message, Request, Style, Unreadable
from servers.commands import WarmCommands
from servers.faults import BROKEN, REASONING, STATUSES, WAIT, WHOLE, FaultServer, dead_port
from servers.shapes import Shape

pytestmark = pytest.mark.filterwarnings("ignore")  # litellm imports lazily, and what it imports warns

RETRIES = 2
SHORT, LONG = 0.6, 30.0
OPTIONS = {"A": "entailment", "B": "neutral", "C": "contradiction"}


@dataclass(frozen=True)
class Route:
    """How a model is reached; `logprobs` are asked for where litellm sends the wish at all."""

    model: str
    path: str
    shape: Shape
    logprobs: int | None = 5
    client: type[LiteLLMClient] | type[DirectClient] = LiteLLMClient

    @property
    def style(self) -> Style:
        """The style of request that this shape serves."""
        return "completion" if self.shape == "text" else "chat"


ROUTES = {
    "openai": Route("openai/m", "/v1", "chat"),
    "openai text": Route("openai/m", "/v1", "text"),
    "vllm": Route("hosted_vllm/m", "/v1", "chat"),
    "vllm text": Route("hosted_vllm/m", "/v1", "text"),
    "direct": Route("openai/m", "/v1", "chat", client=DirectClient),
    "direct text": Route("openai/m", "/v1", "text", client=DirectClient),
    "direct vllm": Route("hosted_vllm/m", "/v1", "chat", client=DirectClient),
    "openrouter": Route("openrouter/x/m", "/v1", "chat"),
    "anthropic": Route("anthropic/claude-m", "", "anthropic", None),
    "gemini": Route("gemini/gemini-m", "/v1beta", "gemini", None),
}
OVERLOAD = ("429", "429-retry-after", "503", "529")
"""Faults that are no fault of the request, asked again PATIENCE times as often."""

FAULTS = {
    "none": "ok",
    **dict.fromkeys((*BROKEN, *WHOLE, "refused-connection"), "failed"),
    **dict.fromkeys((*OVERLOAD, "408", "500", "502", "504"), "failed"),
    **dict.fromkeys(("400", "context", "413", "flagged"), "rejected"),
    **dict.fromkeys(("quota", "401", "402", "403", "404"), "endpoint"),
    **dict.fromkeys(("error-object", "empty-choices", "null-choices", "error-finish"), "failed"),
    **dict.fromkeys(("null-content", "blank-content"), "empty"),
    **dict.fromkeys(("filter", "recitation", "blocked"), "filtered"),
    **dict.fromkeys(("length", "length-after-reasoning", "model-length"), "truncated"),
    "blocked-unbilled": "rejected",
    "refusal": "refused",
    "unreadable": "unparsed",
}
"""Fault → what becomes of the request; failed after all retries, rejected and endpoint at once, the rest is stored."""

OWN: dict[tuple[str, Shape], str | None] = {
    ("refusal", "anthropic"): "filtered",  # its stop reason "refusal" tells of a classifier, not of the model
    ("refusal", "gemini"): "filtered",
    ("empty-choices", "anthropic"): "empty",  # a message without content blocks is an answer in due form
    ("refusal", "text"): None,  # shapes that have no such answer
    **{("error-finish", shape): None for shape in ("text", "anthropic")},
    **{("model-length", shape): None for shape in ("text", "anthropic")},
    **{(fault, shape): None for fault in ("blocked", "blocked-unbilled") for shape in ("chat", "text", "anthropic")},
}
"""Where a provider's own shape differs; None: it does not exist there."""

NOT_READ = "no option letter is among the alternatives of the answer token"
LOGPROB_FAULTS: dict[str, str | None] = {
    "none": None,
    "logprobs-some-inf": None,
    "logprobs-missing": "the endpoint returned no log-probabilities",
    "logprobs-null": "the endpoint returned no log-probabilities",
    "logprobs-no-top": NOT_READ,
    "logprobs-inf": NOT_READ,
    "logprobs-nan": NOT_READ,
    "logprobs-constant": "the probabilities at the answer token sum to more than 1",
    "logprobs-zero": "the probabilities at the answer token sum to more than 1",
    "logprobs-positive": "a log-probability of the answer token is positive",
}
"""Fault → why there are no label probabilities; the answer itself is ok."""

Cell = tuple[str, str]


def expected(fault: str, route: str) -> str | None:
    """The status of a cell; None where the fault does not exist by this route."""
    return OWN.get((fault, ROUTES[route].shape), FAULTS[fault])


CELLS: list[Cell] = [(fault, route) for fault in FAULTS for route in ROUTES if expected(fault, route)]
WITH_LOGPROBS: list[Cell] = [
    (fault, route) for fault in LOGPROB_FAULTS for route in ROUTES if ROUTES[route].logprobs is not None
]


@dataclass
class Found:
    """What became of one cell."""

    attempts: int = 0
    retries: int = 0
    status: str = ""
    stored: bool = False
    reason: str = ""
    completion: Completion | None = None
    probabilities: LabelProbabilities | str | None = None
    waits: list[float] = field(default_factory=list)


class RecordingClient(RetryingClient):
    """Notes the seconds of each wait instead of waiting."""

    def __init__(self, inner: StoringClient) -> None:
        super().__init__(inner, RETRIES, asyncio.Event(), first_wait=0.2)
        self.waits: list[float] = []

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


class Matrix:
    """Runs cells against one server and one store, through the layers that a run has below its limits."""

    def __init__(self, server: FaultServer, store: Store, dead: int) -> None:
        self.server, self.store = server, store
        self._bases = {"": server.root, "refused-connection": f"http://127.0.0.1:{dead}"}

    async def run(self, cells: list[Cell], patience: float) -> dict[Cell, Found]:
        """All cells beside each other, a few at a time, so that a busy machine makes no time-outs."""
        urls = {base + route.path for base in self._bases.values() for route in ROUTES.values()}
        endpoints: dict[str | None, Endpoint] = {url: Endpoint(url) for url in urls}
        wires = {kind: kind(endpoints, timeout=patience) for kind in (LiteLLMClient, DirectClient)}
        few = asyncio.Semaphore(8)

        async def one(cell: Cell) -> tuple[Cell, Found]:
            async with few:
                return cell, await self._ask(wires[ROUTES[cell[1]].client], *cell)

        try:
            await wires[LiteLLMClient].complete(self.request("none", "openai"))  # the import takes seconds of its own
            return dict(await asyncio.gather(*map(one, cells)))
        finally:
            for wire in wires.values():
                await wire.close()

    def request(self, fault: str, name: str, logprobs: int | None = None) -> Request:
        """The request of a cell; its prompt tells the server which fault to play."""
        route = ROUTES[name]
        prompt = f"[[fault:{fault}]] Is it raining by the route of {name}?"
        base = self._bases.get(fault, self._bases[""])
        return Request(
            endpoint=base + route.path,
            model=route.model,
            style=route.style,
            messages=(Message(role="user", content=prompt),) if route.style == "chat" else None,
            prompt=f"{prompt}\nAnswer:" if route.style == "completion" else None,
            max_tokens=64,
            temperature=0.0,
            logprobs=logprobs or route.logprobs,
        )

    async def _ask(self, wire: LiteLLMClient | DirectClient, fault: str, name: str) -> Found:
        request, route = self.request(fault, name), ROUTES[name]
        before = len(self.server.attempts(f"[[fault:{fault}]] Is it raining by the route of {name}?"))
        storing = StoringClient(wire, AnswerWriter(self.store, asyncio.Event()))
        client = RecordingClient(storing)
        found = Found()
        try:
            found.completion = await client.complete(request)
        except EndpointError as exc:
            found.status, found.reason = "endpoint", str(exc)
        except RequestFailedError as exc:
            kinds = {RequestRejectedError: "rejected", TransientError: "failed"}
            found.status, found.reason = kinds.get(type(exc), type(exc).__name__), str(exc)
        else:
            _read(found, route)
        attempts = self.server.attempts(f"[[fault:{fault}]] Is it raining by the route of {name}?")[before:]
        found.attempts, found.retries = len(attempts), client.retries
        found.waits = client.waits
        stored = self.store.get(request_key(request))
        found.stored = stored is not None and stored == found.completion
        return found


def _read(found: Found, route: Route) -> None:
    completion = found.completion
    assert completion is not None
    outcome = classify(completion) or parse(completion.text or "", OPTIONS, "pe", route.style)
    if isinstance(outcome, Unreadable):
        found.status, found.reason = outcome.status, outcome.reason
        return
    found.status = "ok"
    found.probabilities = label_probabilities(completion, outcome, OPTIONS)


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Cell, Found]]:
    """All cells, each run once."""
    with ExitStack() as stack:
        server = stack.enter_context(FaultServer())
        store = stack.enter_context(open_store(tmp_path_factory.mktemp("matrix")))
        cells = list(dict.fromkeys([cell for cell in (*CELLS, *WITH_LOGPROBS) if cell != ("none", "openai")]))
        slow = [cell for cell in cells if cell[0] in ("stalled", "time-out")]
        bench = Matrix(server, store, stack.enter_context(dead_port()))

        async def all_of_them() -> dict[Cell, Found]:
            quick = await bench.run([cell for cell in cells if cell not in slow], LONG)
            return quick | await bench.run(slow, SHORT) | await bench.run([("none", "openai")], LONG)

        yield asyncio.run(all_of_them())
    gc.collect()  # what litellm leaves behind, while its warnings are ignored


@pytest.mark.parametrize(("fault", "route"), CELLS)
def test_every_fault_by_every_route(matrix: dict[Cell, Found], fault: str, route: str) -> None:
    """A passing fault is asked again up to the limit and never stored, a lasting one once; an outcome is stored."""
    found, status = matrix[fault, route], expected(fault, route)
    attempts = 1
    if status == "failed":
        attempts += RETRIES
    at_server = 0 if fault == "refused-connection" else attempts

    assert (status, at_server, attempts - 1, status not in ("failed", "rejected", "endpoint")) == (
        found.status,
        found.attempts,
        found.retries,
        found.stored,
    ), found.reason


@pytest.mark.parametrize(("fault", "route"), WITH_LOGPROBS)
def test_every_fault_of_logprobs(matrix: dict[Cell, Found], fault: str, route: str) -> None:
    """Logprobs that cannot be used cost the answer nothing: it is stored and ok, and says why there is no TVD."""
    found, reason = matrix[fault, route], LOGPROB_FAULTS[fault]

    assert (found.attempts, found.status, found.stored) == (1, "ok", True)
    assert reason == (found.probabilities if isinstance(found.probabilities, str) else None)


def test_good_logprobs_are_read(matrix: dict[Cell, Found]) -> None:
    """Where nothing is wrong, the shares that the server sent; minus infinity is no probability at all."""
    for route in (name for name in ROUTES if ROUTES[name].logprobs is not None):
        good, cut = matrix["none", route].probabilities, matrix["logprobs-some-inf", route].probabilities

        assert isinstance(good, LabelProbabilities)
        assert isinstance(cut, LabelProbabilities)
        assert pytest.approx({"A": 0.2 / 0.98, "B": 0.7 / 0.98, "C": 0.08 / 0.98}) == good.probs
        assert pytest.approx({"A": 0.2 / 0.9, "B": 0.7 / 0.9, "C": 0.0}) == cut.probs


@pytest.mark.parametrize("route", ROUTES)
def test_the_wait_that_is_asked_for_is_kept(matrix: dict[Cell, Found], route: str) -> None:
    """Retry-After, or what Gemini writes in its place, is read by every route; without it the wait is our own.

    Ours is at most 0.2 s, then 0.4 s: shorter than the wait that this server asks for.
    """
    requested, own = matrix["429-retry-after", route].waits, matrix["429", route].waits

    assert len(requested) == len(own) == RETRIES
    assert min(requested) >= WAIT
    assert max(own) < WAIT


@pytest.mark.parametrize("route", ROUTES)
def test_a_limit_used_up_by_reasoning_says_so(matrix: dict[Cell, Found], route: str) -> None:
    """Truncated, not empty, with the remedy; the hidden tokens are in what is billed."""
    found = matrix["length-after-reasoning", route]

    assert found.completion is not None
    assert found.completion.usage["total_tokens"] == 120 + REASONING
    assert "before any text by" in found.reason
    assert "raise --max-tokens" in found.reason


@pytest.mark.parametrize(("fault", "route"), [cell for cell in CELLS if cell[0] in STATUSES])
def test_messages_are_the_endpoints_own_words(matrix: dict[Cell, Found], fault: str, route: str) -> None:
    """Where there is a message it is shown as a sentence: no JSON, no class of litellm's, no traceback; never long."""
    found = matrix[fault, route].reason

    assert not any(noise in found for noise in ('{"', "{'", "litellm", "Exception", "Traceback")), found
    assert ROUTES[route].model in found
    assert len(found) < 450


@pytest.mark.parametrize("route", ["anthropic", "gemini"])
def test_a_wish_that_the_route_refuses_is_rejected_unsent(route: str, tmp_path: Path) -> None:
    """Logprobs by a route that has none: rejected with their name in the message, and nothing reaches the server."""

    async def ask(bench: Matrix) -> str:
        request = bench.request("none", route, logprobs=5)
        wire = LiteLLMClient({request.endpoint: Endpoint(request.endpoint)}, timeout=LONG)
        try:
            with pytest.raises(RequestRejectedError) as caught:
                await wire.complete(request)
        finally:
            await wire.close()
        return str(caught.value)

    with FaultServer() as server, open_store(tmp_path) as store:
        assert "logprobs" in asyncio.run(ask(Matrix(server, store, 1)))
        assert server.received == []


EXITS = {
    "none": (0, "ok"),
    "429-retry-after*1": (0, "ok"),
    "500*1": (0, "ok"),
    "html*1": (0, "ok"),
    "half-closed*1": (0, "ok"),
    "refusal": (0, "refused"),
    "filter": (0, "filtered"),
    "length": (0, "truncated"),
    "null-content": (0, "empty"),
    "unreadable": (0, "unparsed"),
    "400": (0, "rejected"),
    "context": (0, "rejected"),
    "logprobs-missing": (0, "ok"),
    "502": (5, "failed"),
    "reset": (5, "failed"),
    "time-out": (5, "failed"),
    "quota": (5, "failed"),
    "404": (5, "failed"),
}
"""Fault of the second example → exit code, and the status of that example's trial."""


@pytest.mark.sampled(4)
@pytest.mark.parametrize("fault", EXITS)
def test_exit_codes(fault: str, tmp_path: Path, warm: WarmCommands) -> None:
    """The first example is answered whatever happens to the second, whose trial and exit code tell of its fault."""
    with FaultServer() as server:
        options = write_run(tmp_path, [None, fault])
        options += ["--model", "openai/m", "--base-url", f"{server.root}/v1", "--timeout", "1", "--patience", "0"]
        result = warm.run(*options, "--max-retries", "1" if "*" in fault else "0", "--json", cwd=tmp_path)

    lines = (tmp_path / "out" / "trials.jsonl").read_text(encoding="utf-8").splitlines()
    trials = {trial["example_id"]: trial for trial in map(json.loads, lines)}
    code, status = EXITS[fault]
    assert (code, code) == (result.code, result.document["exit_code"]), result.stderr
    assert trials["x0"]["status"] == "ok"
    assert trials["x1"]["status"] == status
    assert (trials["x1"]["tvd"] is None) == (status != "ok" or fault == "logprobs-missing")


@pytest.mark.parametrize("fault", ["401", "403", "500", "html", "reset"])
def test_an_endpoint_that_fails_from_the_start(fault: str, tmp_path: Path, warm: WarmCommands) -> None:
    """Exit code 5, no metric, and one sentence on standard error that names the endpoint."""
    with FaultServer() as server:
        options = write_run(tmp_path, [fault, None])
        options += ["--model", "openai/m", "--base-url", f"{server.root}/v1", "--max-retries", "0", "--patience", "0"]
        result = warm.run(*options, "--json", cwd=tmp_path)

        assert (result.code, result.document["metrics"]) == (5, [])
        assert sum(f"{server.root}/v1" in line for line in result.stderr.splitlines()) == 1
        assert "Traceback" not in result.stderr


def write_run(directory: Path, faults: list[str | None]) -> list[str]:
    """A task whose n-th example meets the n-th fault, one insertion each; the options that run it."""
    examples, edits = [], []
    for number, fault in enumerate(faults):
        text = f"{f'[[fault:{fault}]] ' if fault else ''}It may rain in town {number}."
        examples.append({"id": f"x{number}", "fields": {"premise": text}, "options": OPTIONS, "gold": "B"})
        where = {"example_id": f"x{number}", "field": "premise", "offset": text.index("rain")}
        edits.append({"kind": "word", "inserted": "quickly", **where})
    for name, rows in (("task.jsonl", examples), ("edits.jsonl", edits)):
        (directory / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    options = ["run", "--task", "jsonl:task.jsonl", "--interventions", "edits.jsonl", "--out", "out"]
    return [*options, "--shots", "0", "--shams", "0"]


def test_one_hot_distributions_give_no_cct(tmp_path: Path, warm: WarmCommands) -> None:
    """Probabilities after temperature look fine one by one; as a whole they are refused, with the reason."""
    with FaultServer() as server:
        options = write_run(tmp_path, ["logprobs-one-hot", "logprobs-one-hot"])
        result = warm.run(*options, "--model", "openai/m", "--base-url", f"{server.root}/v1", "--json", cwd=tmp_path)

    rows = {row["metric"]: row for row in result.document["metrics"]}
    assert rows["cct"]["value"] is None
    assert "one-hot" in rows["cct"]["undefined"]
