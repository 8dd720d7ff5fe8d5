"""Asking one model beside a run: a judge or an editor of interventions, through the same layers as a run's models.

Every answer is stored and never bought twice, the spending limit holds, and Ctrl-C lets paid answers come home.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Generic, TypeVar

from explaineval.cache import Claims, Store, holds_store, open_store
from explaineval.client.endpoints.capabilities import Capabilities, assume_capabilities, determine_capabilities
from explaineval.client.endpoints.model_list import name_served_models
from explaineval.config import ClientConfig, ModelConfig, RunConfig
from explaineval.cost import Price
from explaineval.errors import (
    BudgetReachedError,
    EndpointError,
    InputError,
    NotStoredError,
    RequestFailedError,
    RequestRejectedError,
    RequestUnsentError,
    StoreError,
)
from explaineval.execution.accounting import totals_of
from explaineval.execution.model_run import ModelRun, build_model_runs
from explaineval.execution.pool import WorkerPool, stop_on_interrupt
from explaineval.planning.interventions import Chosen
from explaineval.planning.prepare import Prepared
from explaineval.planning.prices import Prices, price_for, read_price_list
from explaineval.planning.units import Failure
from explaineval.prompts import PromptBook
from explaineval.records import Completion, Message, Request
from explaineval.rundir.schema import Science, Totals

T = TypeVar("T")
Dialogue = Generator[Request, Completion | Failure, T]
"""What is asked, one request after the other, each perhaps built from the replies so far; its end is the result."""

Opening = Callable[[Capabilities], Dialogue[T]]
Watch = Callable[[list[ModelRun]], None]
TICK = 0.25
MAX_TOKENS = 512


@dataclass(frozen=True)
class Consultant:
    """The model that is asked, what for (`role`: judge or editor), and how it is reached and paid."""

    role: str
    model: ModelConfig
    client: ClientConfig
    prompts: PromptBook

    def request(
        self, template: str, logprobs: int | None, temperature: float | None, sample: int = 0, **values: object
    ) -> Request:
        """One user turn, filled from a template of the prompts directory."""
        text = self.prompts.fill(template, **values)
        return Request(
            endpoint=self.model.endpoint,
            model=self.model.model,
            style="chat",
            messages=(Message(role="user", content=text),),
            max_tokens=MAX_TOKENS,
            temperature=temperature,
            logprobs=logprobs,
            sample=sample,
        )


@dataclass(frozen=True)
class Consulted(Generic[T]):
    """All results in the order of the dialogues; counts and dollars as in a run's summary; `failed` requests."""

    results: list[T]
    totals: Totals
    spent: float
    failed: int


@dataclass
class _Talk(Generic[T]):
    """A consultation under way. `results` lacks what was not finished."""

    model_run: ModelRun
    stopping: asyncio.Event
    results: dict[int, T] = field(default_factory=dict)
    failed: int = 0
    interrupted: bool = False

    async def hold_all(self, openings: Iterator[tuple[int, Opening[T]]], able: Capabilities) -> None:
        """Hold all dialogues, as many beside each other as the endpoint takes."""

        async def hold(opening: tuple[int, Opening[T]]) -> bool:
            if not self.stopping.is_set():
                await self._hold(opening[0], opening[1](able))
            return not self.stopping.is_set()

        pool = WorkerPool(self.model_run.limited.limit.ceiling)
        self.model_run.cached.on_wait = pool.hold_up
        await pool.run(openings, hold)

    async def _hold(self, number: int, dialogue: Dialogue[T]) -> None:
        try:
            request = next(dialogue)
            while True:
                self.model_run.progress.planned += 1
                request = dialogue.send(await self._reply(request))
        except StopIteration as end:
            self.results[number] = end.value
        except RequestUnsentError:
            dialogue.close()

    async def _reply(self, request: Request) -> Completion | Failure:
        try:
            return await self.model_run.cached.complete(request)
        except RequestUnsentError:
            raise
        except RequestRejectedError as exc:
            return Failure("rejected", str(exc))
        except (EndpointError, RequestFailedError) as exc:
            self.failed += 1
            return Failure("failed", str(exc))


def consult(
    who: Consultant, openings: Sequence[Opening[T]], first: Callable[[int | None, float | None], Request],
    *, logprobs: bool, watch: Watch,
) -> Consulted[T]:  # fmt: skip
    """Hold all dialogues, as many beside each other as the endpoint takes.

    `first(logprobs, temperature)` is the first request of the first dialogue, by which is found out what the endpoint
    takes; `logprobs` says whether they are wanted at all. Where not all dialogues could be finished an error is
    raised, for half of a set is another set: BudgetReachedError, NotStoredError (offline), EndpointError,
    KeyboardInterrupt. All answers that were paid for are stored.
    """
    listed = read_price_list()
    price = price_for(who.model, who.client, listed)
    if price is None and who.client.max_usd is not None and not who.client.offline:
        raise InputError(
            f"--max-usd is set, but the price of {who.model.model} is not known: give --{who.role}-price IN,OUT "
            "(dollars per million tokens)."
        )
    config = RunConfig(tasks=("none",), models=(who.model,), logprobs="auto" if logprobs else "off")
    prepared = Prepared(config, who.client, (), who.prompts, Chosen({}, ()), Science(), "")
    with ExitStack() as stack:
        store, claims = _open(who.client, stack)
        talk, fault = asyncio.run(_talk(prepared, store, claims, price, openings, first, watch))
    totals = totals_of([talk.model_run])
    missing = len(openings) - len(talk.results)
    if missing or talk.model_run.billing_fault is not None:
        _complain(who, talk, fault, missing)
    purse = talk.model_run.budgeted.budget.total.spent if talk.model_run.budgeted is not None else 0.0
    return Consulted([talk.results[number] for number in range(len(openings))], totals, purse, talk.failed)


def _open(client: ClientConfig, stack: ExitStack) -> tuple[Store, Claims | None]:
    if not client.offline:
        store = stack.enter_context(open_store(client.cache))
        return store, stack.enter_context(Claims(store.directory))
    if not holds_store(client.cache):
        return stack.enter_context(open_store(Path(stack.enter_context(TemporaryDirectory())))), None
    return stack.enter_context(open_store(client.cache, readonly=True)), None


async def _talk(
    prepared: Prepared, store: Store, claims: Claims | None, price: Price | None, openings: Sequence[Opening[T]],
    first: Callable[[int | None, float | None], Request], watch: Watch,
) -> tuple[_Talk[T], EndpointError | None]:  # fmt: skip
    stopping = asyncio.Event()
    model = prepared.config.models[0]
    known = {(model.endpoint, model.model): price}
    async with AsyncExitStack() as stack:
        model_runs = build_model_runs(prepared, store, claims, Prices(known, known), stopping, stack, None)
        talk: _Talk[T] = _Talk(model_runs[0], stopping)

        async def all_of_it() -> None:
            able = await _settle(prepared, store, talk.model_run, first)
            await talk.hold_all(iter(enumerate(openings)), able)

        work = asyncio.create_task(all_of_it())

        def give_up() -> None:
            talk.model_run.cached.cancel()
            work.cancel()

        fault: EndpointError | None = None
        with stop_on_interrupt(stopping, give_up, talk.model_run.messages.append) as interruption:
            while not work.done():
                await asyncio.wait([work], timeout=TICK)
                watch(model_runs)
            await talk.model_run.cached.finish()
            await talk.model_run.writer.retry()
        talk.interrupted = interruption.count > 0
        if not work.cancelled():
            fault = _fault_of(work) or talk.model_run.billing_fault or talk.model_run.limited.down
        if fault is not None:
            fault = await name_served_models(fault, prepared.client.endpoint_of(model))
    return talk, fault


def _fault_of(work: asyncio.Task[None]) -> EndpointError | None:
    """The endpoint's error that ended the work, if one did; any other error is raised."""
    error = work.exception()
    if error is None or isinstance(error, EndpointError):
        return error
    raise error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error


async def _settle(
    prepared: Prepared, store: Store, model_run: ModelRun, first: Callable[[int | None, float | None], Request]
) -> Capabilities:
    keep = not prepared.client.offline
    try:
        return await determine_capabilities(model_run.cached, store, prepared.config, "chat", first, keep=keep)
    except RequestUnsentError:
        found, settled = assume_capabilities(store, prepared.config, model_run.model, "chat")
        model_run.assumed = not settled
        return found


def _complain(who: Consultant, talk: _Talk[Any], fault: EndpointError | None, missing: int) -> None:
    """Raise what kept the consultation from its end."""
    rest = f"{missing} of the {who.role}'s tasks are not done, so nothing was written; every answer paid for is kept"
    if talk.interrupted:
        raise KeyboardInterrupt
    if talk.model_run.writer.message is not None:
        raise StoreError(f"{talk.model_run.writer.message} {rest[0].upper()}{rest[1:]}.")
    if talk.model_run.billing_fault is not None:
        assert talk.model_run.budgeted is not None  # noqa: S101 - it has the fault
        error = BudgetReachedError if talk.model_run.budgeted.overdrawn else EndpointError
        raise error(f"{str(talk.model_run.billing_fault).rstrip('.')}; {rest}.")
    if talk.model_run.out_of_money and talk.model_run.budgeted is not None:
        spent = talk.model_run.budgeted.budget.total.spent
        limit = who.client.max_usd or 0.0
        raise BudgetReachedError(
            f"the spending limit (${limit:g} left for the {who.role}) is reached: ${spent:.4f} are spent, and {rest}. "
            "Give the same command with a higher --max-usd."
        )
    if fault is not None:
        raise EndpointError(f"{str(fault).rstrip('.')}; {rest}.")
    raise NotStoredError(f"offline: {rest}. Without --offline they are asked.")
