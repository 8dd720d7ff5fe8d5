"""One lane a model: its clients, how its plan is asked, and all lanes beside each other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from explaineval.cache import Store
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
    settle,
    stored_probe,
)
from explaineval.config import Arm, ModelConfig, arms_for
from explaineval.errors import EndpointError, RequestRejectedError
from explaineval.experiment.execution import Executor, Progress, stop_on_interrupt
from explaineval.experiment.ledgers import Ledger, PriceList, price_for
from explaineval.experiment.plans import RequestBuilder, Unit, plan
from explaineval.experiment.preparations import Prepared
from explaineval.experiment.trials import Reply, unit_trials
from explaineval.records import Example, Request

SETTLE_WITH = 3
"""Examples that are tried before an endpoint that rejects them counts as unusable."""


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


async def ask_all(
    prepared: Prepared,
    store: Store,
    lanes: list[Lane],
    lines: TextIO,
    watch: Callable[[list[Lane]], None],
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


async def _tick(lanes: list[Lane], watch: Callable[[list[Lane]], None]) -> None:
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
