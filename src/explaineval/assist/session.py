"""Ask one model beside a run, a judge or an editor, through the same layers as the models of a run.

Every answer is stored and never bought twice, the spending limit holds, and after Ctrl-C paid answers are waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, nullcontext, suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from explaineval.cache import Claims, Store, holds_store, open_store
from explaineval.client.endpoints.capabilities import Build, Capabilities, assume_capabilities
from explaineval.config import ClientConfig, ModelConfig, RunConfig
from explaineval.cost import Price
from explaineval.errors import (
    BudgetReachedError,
    EndpointError,
    InputError,
    NotStoredError,
    RequestUnsentError,
    StoreError,
)
from explaineval.execution.accounting import has_limit, settle_open, totals_of
from explaineval.execution.model_run import (
    ModelRun,
    Watch,
    build_model_runs,
    check_batches,
    open_cache,
    run_models,
)
from explaineval.execution.settle import settle_style
from explaineval.planning.cost import CostEstimate, PlanCost
from explaineval.planning.interventions import Chosen
from explaineval.planning.prepare import Prepared
from explaineval.planning.prices import Prices, price_for, read_price_list
from explaineval.planning.replies import Dialogue
from explaineval.planning.units import answer_from, find_nothing
from explaineval.prompts import PromptBook
from explaineval.records import Message, Request
from explaineval.rundir.ledger import Account
from explaineval.rundir.schema import Science, Totals
from explaineval.text import dollars_text

T = TypeVar("T")
Start = Callable[[Capabilities], Dialogue[T]]
"""Begins a dialogue, once it is known how requests are sent."""

MAX_TOKENS = 512


@dataclass(frozen=True)
class Assistant:
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
class SessionResult(Generic[T]):
    """All results in the order of the dialogues; counts and dollars as in a run's summary; `failed` requests."""

    results: list[T]
    totals: Totals
    spent: float
    failed: int


def plan_session(assistant: Assistant, starts: Sequence[Start[T]], *, logprobs: bool) -> PlanCost:
    """Return what all dialogues would ask and cost, held with stored answers as far as these go. Nothing is sent."""
    client, model = assistant.client, assistant.model
    cost = PlanCost(model, CostEstimate(price_for(model, client, read_price_list())))
    seen: set[str] = set()
    with open_store(client.cache, readonly=True) if holds_store(client.cache) else nullcontext() as store:
        capabilities, known = assume_capabilities(store, _config(assistant, logprobs=logprobs), model, "chat")
        cost.assumed = not known
        find = find_nothing if store is None else store.get
        for start in starts:
            for request, key, completion in answer_from(find, start(capabilities), client.older_names):
                cost.planned += 1
                if key not in seen:
                    seen.add(key)
                    cost.add(request, completion)
        cost.estimate.learn_lengths(store, model)
    return cost


def _config(assistant: Assistant, *, logprobs: bool) -> RunConfig:
    """The configuration of a run that would ask only this model; it has no task."""
    return RunConfig(tasks=("none",), models=(assistant.model,), logprobs="auto" if logprobs else "off")


def run_session(
    assistant: Assistant,
    starts: Sequence[Start[T]],
    first: Build,
    *,
    logprobs: bool,
    watch: Watch,
    account: Account | None = None,
) -> SessionResult[T]:
    """Hold all dialogues, as many at a time as the endpoint takes.

    Args:
        assistant: the model that is asked.
        starts: begin the dialogues.
        first: builds the first request of the first dialogue, by which is found out how the endpoint is asked.
        logprobs: whether log-probabilities are wanted.
        watch: called now and then, to show progress.
        account: books what is spent in a run directory; the spending limit counts what it knows of before.

    Raises:
        BudgetReachedError, NotStoredError (offline), EndpointError, StoreError, KeyboardInterrupt: not all dialogues
            could be finished, and half of a set is another set. All answers that were paid for are stored.
        InputError: a spending limit is set, and the price is not known; or batches are wanted that the provider lacks.
    """
    client = assistant.client
    price = price_for(assistant.model, client, read_price_list())
    if price is None and client.max_usd is not None and not client.offline:
        raise InputError(
            f"--max-usd is set, but the price of {assistant.model.model} is not known: give --{assistant.role}-price "
            "IN,OUT (dollars per million tokens)."
        )
    if client.batch and not client.offline:
        check_batches(assistant.model, client.endpoint_of(assistant.model))
    prepared = Prepared(
        _config(assistant, logprobs=logprobs), client, (), assistant.prompts, Chosen({}, ()), Science(), ""
    )
    results: dict[int, T] = {}
    with ExitStack() as stack:
        store, claims = open_cache(client, stack)
        if account is not None:
            model = assistant.model.endpoint, assistant.model.model
            settle_open(account, store, Prices({model: price}, {model: price}))
            account.check(limited=has_limit(prepared), stated=client.spent)
        work = _hold_all(prepared, store, claims, price, starts, first, watch, results, account)
        model_run, interrupted = asyncio.run(work)
    if interrupted:
        raise KeyboardInterrupt
    missing = len(starts) - len(results)
    if missing or model_run.billing_error is not None:
        raise _unfinished(assistant, model_run, missing)
    spent = model_run.budgeted.budget.total.spent if model_run.budgeted is not None else 0.0
    ordered = [results[number] for number in range(len(starts))]
    return SessionResult(ordered, totals_of([model_run]), spent, model_run.progress.outcomes["failed"])


async def _hold_all(
    prepared: Prepared,
    store: Store,
    claims: Claims | None,
    price: Price | None,
    starts: Sequence[Start[T]],
    first: Build,
    watch: Watch,
    results: dict[int, T],
    account: Account | None,
) -> tuple[ModelRun, bool]:
    """Put the results of finished dialogues into `results` by their number; whether the session was interrupted."""
    stopping = asyncio.Event()
    model = prepared.config.models[0]
    prices = {(model.endpoint, model.model): price}
    async with AsyncExitStack() as stack:
        asked_at = Prices(prices, prices)
        model_runs = build_model_runs(prepared, store, claims, asked_at, stopping, stack, None, account=account)
        model_run = model_runs[0]

        async def handle(numbered: tuple[int, Start[T]]) -> None:
            number, start = numbered
            with suppress(RequestUnsentError):
                results[number] = await model_run.pool.hold(start(model_run.capabilities["chat"]))

        def lacking() -> Iterator[tuple[str, Request]]:
            seen: set[str] = set()
            for start in starts:
                dialogue = start(model_run.capabilities["chat"])
                for request, key, completion in answer_from(store.get, dialogue, prepared.client.older_names):
                    if completion is None and key not in seen:
                        seen.add(key)
                        yield key, request

        async def work() -> None:
            error = None
            try:
                await settle_style(model_run, prepared, store, "chat", [first])
                if model_run.batches is not None:
                    from explaineval.execution.batches import submit

                    await submit(prepared.client, store, model_run, model_run.batches, lacking)
                    model_run.pool.stopping = asyncio.Event()  # nothing is sent any more, what came back is read
                await model_run.pool.run(enumerate(starts), handle)
            except EndpointError as exc:
                error = exc
            await model_run.set_error(prepared.client, error)

        interrupted = await run_models(model_runs, [work()], stopping, watch)
    model_run.progress.planned = model_run.progress.requests  # a dialogue plans what it asks
    return model_run, interrupted


def _unfinished(assistant: Assistant, model_run: ModelRun, missing: int) -> Exception:
    """What kept the session from its end."""
    role, limit = assistant.role, assistant.client.max_usd or 0.0
    rest = f"{missing} of the {role}'s tasks are not done, so nothing was written; every answer paid for is kept"
    budgeted = model_run.budgeted
    if model_run.writer.message is not None:
        return StoreError(f"{model_run.writer.message} {rest[0].upper()}{rest[1:]}.")
    if budgeted is not None and model_run.billing_error is not None:
        kind = BudgetReachedError if budgeted.overdrawn else EndpointError
        return kind(f"{str(model_run.billing_error).rstrip('.')}; {rest}.")
    if budgeted is not None and model_run.out_of_money:
        total = budgeted.budget.total
        what = (
            f"{dollars_text(limit)} for {role} in this run directory"
            if total.earlier
            else f"{dollars_text(limit)} left for the {role}"
        )
        earlier = f" ({dollars_text(total.earlier)} of it before)" if total.earlier else ""
        return BudgetReachedError(
            f"the spending limit ({what}) is reached: {dollars_text(total.earlier + total.spent)} are "
            f"spent{earlier}, and "
            f"{rest}. Give the same command with a higher --max-usd."
        )
    if model_run.error is not None:
        reason = str(model_run.error).rstrip(".").replace("--api-key-env", f"--{role}-api-key-env")
        return EndpointError(f"{reason}; {rest}.")
    if assistant.client.batch and not assistant.client.offline:
        return NotStoredError(f"{rest}. What is in a batch is fetched by the same command when the batch is done.")
    return NotStoredError(f"offline: {rest}. Without --offline they are asked.")
