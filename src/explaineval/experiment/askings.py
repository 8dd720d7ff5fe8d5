"""How the lanes of a run are asked beside each other, and how each finds out what its endpoint takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TextIO

from explaineval.cache import Claims, Store, request_key, spread
from explaineval.client import Capabilities, assume, name_served, settle
from explaineval.config import Arm, arms_for
from explaineval.errors import EndpointError, RequestRejectedError, RequestUnsentError
from explaineval.experiment.builders import RequestBuilder
from explaineval.experiment.execution import Executor, WorkerPool, stop_on_interrupt
from explaineval.experiment.lanes import Lane, build_lanes
from explaineval.experiment.ledgers import Prices
from explaineval.experiment.plans import Unit, is_askable, plan, plan_sizes
from explaineval.experiment.preparations import Prepared
from explaineval.experiment.readings import Reply
from explaineval.experiment.submissions import submit
from explaineval.experiment.trials import unit_trials
from explaineval.records import Example, Request

SETTLE_WITH = 3
"""Examples that are tried before an endpoint that rejects them counts as unusable."""


@dataclass(frozen=True)
class Asking:
    """What all lanes share. `start` is where in its plan this process begins, as a share."""

    prepared: Prepared
    store: Store
    lines: TextIO
    stopping: asyncio.Event
    start: float


async def ask_all(
    prepared: Prepared,
    store: Store,
    claims: Claims | None,
    lanes: list[Lane],
    lines: TextIO,
    watch: Callable[[list[Lane]], None],
    prices: Prices,
    embedded: Path | None,
) -> bool:
    """Run all lanes beside each other; whether the run was interrupted. Appends to `lanes`."""
    stopping = asyncio.Event()
    start = spread(claims.take_place()) if claims is not None else 0.0
    asking = Asking(prepared, store, lines, stopping, start)
    async with AsyncExitStack() as stack:
        lanes += build_lanes(prepared, store, claims, prices, stopping, stack, embedded)
        work = [asyncio.create_task(_ask_one(asking, lane)) for lane in lanes]

        def give_up() -> None:
            for lane in lanes:
                lane.cached.cancel()
            for task in work:
                task.cancel()

        with stop_on_interrupt(stopping, give_up, lanes[0].messages.append) as interruption:
            ticker = asyncio.create_task(_tick(lanes, watch))
            results = await asyncio.gather(*work, return_exceptions=True)
            await asyncio.gather(*(lane.cached.finish() for lane in lanes))
            await asyncio.gather(*(lane.deposit.put_again() for lane in lanes[:1]))  # all lanes share it
            ticker.cancel()
        given_up = sum(lane.cached.tally.given_up for lane in lanes)
        if given_up:
            lanes[0].messages.append(f"{given_up} answers under way were not waited for; they may be charged.")
        watch(lanes)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
            raise result.exceptions[0] if isinstance(result, BaseExceptionGroup) else result
    return interruption.count > 0


async def _tick(lanes: list[Lane], watch: Callable[[list[Lane]], None]) -> None:
    while True:
        watch(lanes)
        await asyncio.sleep(0.25)


async def _ask_one(asking: Asking, lane: Lane) -> None:
    try:
        await _ask_plan(asking, lane)
    except Exception:
        asking.stopping.set()  # the run is over: what is on the wire is waited for, nothing else is sent
        raise
    finally:
        if not lane.progress.whole:  # what the run never came to is part of its plan too
            found = asking.prepared
            lane.progress.leave(plan_sizes(found.config, found.prompts, found.tasks, found.chosen.edits, lane.model))


async def _ask_plan(asking: Asking, lane: Lane) -> None:
    config, tasks = asking.prepared.config, asking.prepared.tasks
    try:
        for builder in _builders(asking.prepared, lane):
            if builder.arm.style not in lane.able:
                lane.able[builder.arm.style] = await _settle(asking, lane, builder)
    except EndpointError as exc:
        lane.progress.unsent -= _asked_already(asking.prepared, asking.store, lane)
        lane.fault = await name_served(exc, asking.prepared.client.endpoint_of(lane.model))
        return

    def able(arm: Arm) -> Capabilities:
        return lane.able[arm.style]

    def sink(unit: Unit, base: Reply | None, after: list[Reply | None], shams: list[Reply | None]) -> None:
        for trial in unit_trials(unit, base, after, shams, config.mention, config.min_label_mass):
            asking.lines.write(trial.model_dump_json() + "\n")
            lane.read(trial)

    def units() -> Iterator[Unit]:
        edits = asking.prepared.chosen.edits
        return plan(config, asking.prepared.prompts, tasks, edits, lane.model, able, asking.start)

    stopping = asking.stopping
    if lane.batches is not None:
        await submit(asking.prepared, asking.store, lane, lane.batches, units)
        stopping = asyncio.Event()  # nothing is sent from here on, so what is paid for is read to its end
    pool = WorkerPool(lane.slots.gate.ceiling)
    lane.cached.hold_up = pool.hold_up
    await Executor(lane.cached, pool, stopping, config.retry, lane.forecast.miss, lane.progress).run(units(), sink)
    if lane.fault is None:
        lane.fault = lane.billing_fault
    if lane.slots.down is not None and lane.fault is None:
        lane.fault = await name_served(lane.slots.down, asking.prepared.client.endpoint_of(lane.model))


def _asked_already(prepared: Prepared, store: Store, lane: Lane) -> int:
    """How many requests of the plan were asked to find out what the endpoint takes, before it turned out unusable."""
    keys = set()
    for builder in _builders(prepared, lane):
        able, _ = assume(store, prepared.config, lane.model, builder.arm.style)
        for example in _examples_to_settle(prepared, builder):
            keys.add(request_key(builder.build(example, example.fields, able.logprobs, able.temperature)))
    return sum(int(key[:16], 16) in lane.cached.tally.seen for key in keys)


def _examples_to_settle(
    prepared: Prepared, builder: RequestBuilder, free: Callable[[Example], bool] = lambda _: True
) -> Sequence[Example]:
    """The examples with which is found out what the endpoint takes: the first that are `free`, where any are."""
    edits = prepared.chosen.edits
    asked = [one for one in builder.task.examples if is_askable(builder, one, edits.get((one.task, one.id), ()))]
    # where nothing of this arm is asked, some example has to do: its trials need to say how the arm was asked
    return list(islice(filter(free, asked), SETTLE_WITH)) or asked[:SETTLE_WITH] or builder.task.examples[:1]


def _is_free(asking: Asking, lane: Lane, builder: RequestBuilder) -> Callable[[Example], bool]:
    """Whether no other process is asking about an example just now."""
    able, _ = assume(asking.store, asking.prepared.config, lane.model, builder.arm.style)
    return lambda one: not lane.cached.is_held_up(builder.build(one, one.fields, able.logprobs, able.temperature))


def _builders(prepared: Prepared, lane: Lane) -> Iterator[RequestBuilder]:
    """One for each arm and task of the lane's model that will be asked."""
    for arm in arms_for(prepared.config, lane.model):
        for task in prepared.tasks:
            builder = RequestBuilder(prepared.config, prepared.prompts, lane.model, arm, task)
            if not builder.lacks_level:
                yield builder


async def _settle(asking: Asking, lane: Lane, builder: RequestBuilder) -> Capabilities:
    """Find out what the endpoint takes with the plan's first request; where that very text is rejected, a later one.

    Where nothing may be asked (offline, no money, stopping) it is assumed. Raises EndpointError where SETTLE_WITH
    examples are rejected whatever is asked along with them.
    """
    config, store = asking.prepared.config, asking.store
    style, examples = builder.arm.style, _examples_to_settle(asking.prepared, builder, _is_free(asking, lane, builder))
    for example in examples:
        try:
            build = _asking(builder, example)
            return await settle(lane.cached, store, config, style, build, keep=not asking.prepared.client.offline)
        except RequestUnsentError:
            found, settled = assume(store, config, lane.model, style)
            lane.assumed = lane.assumed or not settled
            return found
        except EndpointError as exc:
            if not isinstance(exc.__cause__, RequestRejectedError) or example is examples[-1]:
                raise
    raise AssertionError("a task has at least one example")


def _asking(builder: RequestBuilder, example: Example) -> Callable[[int | None, float | None], Request]:
    return lambda logprobs, temperature: builder.build(example, example.fields, logprobs, temperature)
