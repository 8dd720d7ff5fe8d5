"""The whole way: configuration → plan → execute → score, one model beside the other."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

from explaineval._version import __version__
from explaineval.cache import Store, open_store
from explaineval.client import (
    CachedClient,
    Capabilities,
    Client,
    EmbeddedClient,
    Gate,
    LiteLLMClient,
    Pace,
    RetryingClient,
    SlotClient,
    StoringClient,
    Tally,
    name_served,
    route_caution,
    settle,
    stored_probe,
)
from explaineval.config import Arm, ClientConfig, ModelConfig, RunConfig, arms_for
from explaineval.datasets import Task, load_tasks, parse_spec
from explaineval.errors import EndpointError, InputError, RequestRejectedError
from explaineval.experiment import directories, facts
from explaineval.experiment.edits import Chosen, choose
from explaineval.experiment.execution import Executor, Progress, stop_on_interrupt
from explaineval.experiment.ledgers import Ledger, PriceList, price_for, read_price_list
from explaineval.experiment.plans import RequestBuilder, Unit, plan
from explaineval.experiment.scores import Scores, score
from explaineval.experiment.trials import Reply, unit_trials
from explaineval.prompts import PromptBook, default_directory
from explaineval.records import Example, Request

PACKAGES = ("litellm", "diskcache", "httpx", "numpy", "scipy", "pydantic")
RUNS = Path("runs")
SETTLE_WITH = 3
"""Examples that are tried before an endpoint that rejects them counts as unusable."""


@dataclass(frozen=True)
class Prepared:
    """Everything known before the first request."""

    config: RunConfig
    client: ClientConfig
    tasks: tuple[Task, ...]
    prompts: PromptBook
    chosen: Chosen
    science: dict[str, Any]
    name: str


@dataclass
class Lane:
    """One model of the run on its way: its clients, its progress, what its endpoint takes, what it cost."""

    model: ModelConfig
    slots: SlotClient
    retrying: RetryingClient
    cached: CachedClient
    ledger: Ledger
    progress: Progress = field(default_factory=Progress)
    probe: dict[str, Any] | None = None
    able: dict[str, Capabilities] = field(default_factory=dict)
    fault: EndpointError | None = None


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    directory: Path
    exit_code: int
    signature: str
    scores: Scores
    summary: dict[str, Any]
    notes: tuple[str, ...]
    faults: tuple[str, ...]


Watch = Callable[[list[Lane]], None]


def prepare(config: RunConfig, client: ClientConfig) -> Prepared:
    """Read tasks, prompts and interventions; nothing is asked and nothing written yet. Raises InputError."""
    for model in config.models:
        client.endpoint_of(model)
    prompts = PromptBook(config.prompts or default_directory())
    shots = max(arm.shots for model in config.models for arm in arms_for(config, model))
    specs = [parse_spec(text) for text in config.tasks]
    tasks = tuple(load_tasks(specs, shots=shots, shots_from=config.shots_from, limit=config.limit))
    chosen = choose(config.interventions, tasks, prompts, config.arms.verbosity, config.seed)
    if not chosen.edits:
        raise InputError("there is no intervention for any example: nothing could be measured.")
    what = facts.science(config, tasks, prompts)
    examples, edits = _inputs(tasks, chosen)
    return Prepared(config, client, tasks, prompts, chosen, what, directories.science_hash(what, examples, edits))


def execute(prepared: Prepared, out: Path | None, watch: Watch, embedded: Path | None = None) -> Outcome:
    """Ask, store, write, score. `watch` is called now and then with the lanes, to show progress.

    `embedded` are the weights of a model that is served in a child process instead of reached by URL.
    Raises InputError for a directory or cache that cannot be used.
    """
    directory = out or directories.default_directory(RUNS, date.today(), prepared.name)
    examples, edits = _inputs(prepared.tasks, prepared.chosen)
    state = directories.prepare(directory, prepared.science, examples, edits)
    with open_store(prepared.client.cache) as store:
        directories.write_inputs(directory, examples, edits, prepared.prompts.directory)
        prices = read_price_list()
        lanes: list[Lane] = []
        known = {"tasks": facts.task_facts(prepared.tasks, prepared.chosen.edits), "arms": {}}
        run = _run_document(prepared, known, prices.version)
        directories.write_json(directory / directories.RUN, run)
        with (directory / directories.TRIALS).open(
            "w", encoding="utf-8", newline="\n", errors="surrogatepass"
        ) as lines:
            stopped = asyncio.run(_ask_all(prepared, store, lanes, lines, watch, prices, embedded))
        able = {
            (lane.model.endpoint, lane.model.model, style): found
            for lane in lanes
            for style, found in lane.able.items()
        }
        known["arms"] = facts.arm_facts(prepared.config, prepared.tasks, prepared.prompts, able)
        summary = _summary(lanes)
        run |= {"endpoints": [_endpoint(lane) for lane in lanes], **summary}
        directories.write_json(directory / directories.RUN, run)
        warnings = tuple(store.warnings)
    scores = score(directory)
    directories.write_metrics(directory, scores.rows)
    faults = tuple(str(lane.fault) for lane in lanes if lane.fault is not None)
    failed = sum(lane.progress.outcomes.get("failed", 0) for lane in lanes)
    code = 130 if stopped else 5 if faults or failed else 0
    notes: tuple[str, ...] = (f"run directory {state}",) if state != "new" else ()
    for lane in lanes:
        notes += tuple(lane.ledger.notes(lane.model.model, prepared.config.max_tokens, prepared.config.arms.order))
        notes += tuple(_probe_notes(lane, prepared.config))
    shots = tuple(
        f"{task.name}: shots from {task.shots_source}." for task in prepared.tasks if task.shots_source != "none"
    )
    return Outcome(
        directory, code, run["signature"], scores, summary, notes + shots + prepared.chosen.notes + warnings, faults
    )


async def _ask_all(
    prepared: Prepared,
    store: Store,
    lanes: list[Lane],
    lines: TextIO,
    watch: Watch,
    prices: PriceList,
    embedded: Path | None,
) -> bool:
    """Run all lanes beside each other; whether the run was interrupted."""
    stopping = asyncio.Event()
    config, client = prepared.config, prepared.client
    async with AsyncExitStack() as stack:
        endpoints = {model.endpoint: client.endpoint_of(model) for model in config.models}
        wire = LiteLLMClient(endpoints, timeout=client.timeout)
        stack.push_async_callback(wire.close)
        gates: dict[str, Gate] = {}
        for model in config.models:
            sender: Client = wire
            if embedded is not None:
                sender = EmbeddedClient(wire, str(model.endpoint), embedded, client.connections_of(model))
                stack.push_async_callback(sender.close)
            gate = gates.setdefault(
                model.endpoint or model.model.partition("/")[0],
                Gate(client.connections_of(model), stopping, Pace(*client.pace_of(model))),
            )
            slots = SlotClient(StoringClient(sender, store), gate, stopping)
            retrying = RetryingClient(slots, client.max_retries, stopping, gate.is_busy)
            ledger = Ledger(price_for(model, client, prices))
            cached = CachedClient(retrying, store, Tally(), ledger.add)
            probe = stored_probe(store, model.endpoint, model.model)
            lanes.append(Lane(model, slots, retrying, cached, ledger, probe=probe))
        work = [asyncio.create_task(_ask_one(prepared, store, lane, lines, stopping)) for lane in lanes]

        def give_up() -> None:
            for lane in lanes:
                lane.cached.cancel()
            for task in work:
                task.cancel()

        with stop_on_interrupt(stopping, give_up):
            ticker = asyncio.create_task(_tick(lanes, watch))
            results = await asyncio.gather(*work, return_exceptions=True)
            await asyncio.gather(*(lane.cached.finish() for lane in lanes))
            ticker.cancel()
        watch(lanes)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
            raise result.exceptions[0] if isinstance(result, BaseExceptionGroup) else result
    return stopping.is_set()


async def _tick(lanes: list[Lane], watch: Watch) -> None:
    while True:
        watch(lanes)
        await asyncio.sleep(0.25)


async def _ask_one(prepared: Prepared, store: Store, lane: Lane, lines: TextIO, stopping: asyncio.Event) -> None:
    config, tasks = prepared.config, prepared.tasks
    try:
        for arm in arms_for(config, lane.model):
            if arm.style not in lane.able:
                lane.able[arm.style] = await _settle(prepared, store, lane, arm)
    except EndpointError as exc:
        lane.fault = await name_served(exc, prepared.client.endpoint_of(lane.model))
        return

    def able(arm: Arm) -> Capabilities:
        return lane.able[arm.style]

    def sink(unit: Unit, base: Reply | None, after: list[Reply | None], shams: list[Reply | None]) -> None:
        if base is None:
            return
        for trial in unit_trials(unit, base, after, shams, config.mention, config.min_label_mass):
            lines.write(trial.model_dump_json() + "\n")

    units: Iterator[Unit] = plan(config, prepared.prompts, tasks, prepared.chosen.edits, lane.model, able)
    executor = Executor(lane.cached, lane.slots.gate.ceiling, stopping, config.retry, lane.progress)
    await executor.run(units, sink)
    if lane.slots.down is not None:
        lane.fault = await name_served(lane.slots.down, prepared.client.endpoint_of(lane.model))


async def _settle(prepared: Prepared, store: Store, lane: Lane, arm: Arm) -> Capabilities:
    """Find out what the endpoint takes with the plan's first request; where that very text is rejected, a later one.

    Raises EndpointError where SETTLE_WITH examples are rejected whatever is asked along with them.
    """
    task = prepared.tasks[0]
    builder = RequestBuilder(prepared.config, prepared.prompts, lane.model, arm, task)
    examples = task.examples[:SETTLE_WITH]
    for example in examples:
        try:
            return await settle(lane.cached, store, prepared.config, arm.style, _asking(builder, example))
        except EndpointError as exc:
            if not isinstance(exc.__cause__, RequestRejectedError) or example is examples[-1]:
                raise
    raise AssertionError("a task has at least one example")


def _asking(builder: RequestBuilder, example: Example) -> Callable[[int | None, float | None], Request]:
    return lambda logprobs, temperature: builder.build(example, example.fields, logprobs, temperature)


def _inputs(tasks: tuple[Task, ...], chosen: Chosen) -> tuple[list[Any], list[Any]]:
    examples = [example for task in tasks for example in task.examples]
    edits = [one for example in examples for one in chosen.edits.get((example.task, example.id), ())]
    return examples, edits


def _run_document(prepared: Prepared, known: dict[str, Any], prices: str) -> dict[str, Any]:
    return {
        "explaineval": __version__,
        "signature": facts.run_signature(prepared.config, prepared.name),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "config": prepared.config.model_dump(mode="json"),
        "client": prepared.client.model_dump(mode="json"),
        "science": prepared.science,
        "facts": known,
        "prices": prices,
        "endpoints": [],
    }


def _endpoint(lane: Lane) -> dict[str, Any]:
    return {
        "endpoint": lane.model.endpoint,
        "model": lane.model.model,
        "probe": lane.probe,
        "capabilities": {
            style: {"logprobs": able.logprobs, "temperature": able.temperature, "state": able.state}
            for style, able in lane.able.items()
        },
        "fault": None if lane.fault is None else str(lane.fault),
        "tokens": lane.ledger.tokens,
        "requests": _counts([lane]),
    }


def _probe_notes(lane: Lane, config: RunConfig) -> Iterator[str]:
    """What a probe, or the name of the route, says against the way this model is asked."""
    caution = route_caution(lane.model.model)
    if caution is not None and config.logprobs != "off":
        yield caution
    reasons = (lane.probe or {}).get("reasoning_first") is True
    if reasons and "pe" in config.arms.order and not lane.ledger.reasoned:  # else the ledger's note says it
        yield (
            f"the probe found that {lane.model.model} reasons before it answers: order pe is then not "
            "predict-then-explain."
        )


def _counts(lanes: list[Lane]) -> dict[str, int]:
    tallies = [lane.cached.tally for lane in lanes]
    hits = sum(tally.hits for tally in tallies)
    sent = sum(tally.sent for tally in tallies)
    unsent = sum(tally.unsent for tally in tallies) + sum(lane.progress.unsent for lane in lanes)
    return {
        "planned": sum(lane.progress.planned for lane in lanes),
        "distinct": hits + sent + unsent,
        "hits": hits,
        "sent": sent,
        "unsent": unsent,
        "retries": sum(lane.retrying.retries for lane in lanes),
    }


def _summary(lanes: list[Lane]) -> dict[str, Any]:
    known = all(lane.ledger.price is not None for lane in lanes)
    spent = sum(lane.ledger.spent for lane in lanes)
    saved = sum(lane.ledger.saved for lane in lanes)
    return {
        "usd_spent": spent if known else None,
        "usd_saved_by_cache": saved if known else None,
        "usd_from_scratch": spent + saved if known else None,
        "requests": _counts(lanes),
    }
