"""Ask one model beside a run, a judge or an editor, through the same layers as the models of a run.

Every answer is stored and never bought twice, the spending limit holds, and after Ctrl-C paid answers are waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Generic, Literal, TypeVar

from explaineval.cache import holds_store, open_store
from explaineval.client.batches.providers import check_batches
from explaineval.client.endpoints.capabilities import Build, Capabilities, assume_capabilities
from explaineval.config import ClientConfig, ModelConfig
from explaineval.errors import EndpointError, InputError, RequestUnsentError
from explaineval.execution.outcome import has_limit, settle_open, totals_of, unfinished_error
from explaineval.execution.session import ModelSession, Sessions, open_cache
from explaineval.parsing import Label, classify, parse_label
from explaineval.planning.cost import CostEstimate, PlanCost, Prices, price_for, read_price_list
from explaineval.planning.requests import Dialogue, Failure
from explaineval.planning.units import answer_from, find_nothing
from explaineval.prompts import PromptBook
from explaineval.records import Completion, Message, Request, Status, Unreadable
from explaineval.rundir.ledger import Account
from explaineval.rundir.schema import Totals

Q = TypeVar("Q")
T = TypeVar("T")
Start = Callable[[Capabilities], Dialogue[T]]
"""Begins a dialogue, once it is known how requests are sent."""

Watch = Callable[[ModelSession], None]
"""Called now and then to show progress."""

MAX_TOKENS = 512


@dataclass(frozen=True)
class AssistantSampling:
    """What is wanted of an assistant's answers: log-probabilities or not, at temperature 0 where that is taken."""

    logprobs: Literal["auto", "off"]
    temperature: None = None


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


@dataclass(frozen=True)
class Survey(Generic[Q, T]):
    """The same question to an assistant about each of several items; one reply answers it.

    `request` builds an item's request, given the wanted number of log-probabilities and the temperature; `read` makes
    the result of an item, its request and the reply.
    """

    assistant: Assistant
    items: Sequence[Q]
    request: Callable[[Assistant, Q, int | None, float | None], Request]
    read: Callable[[Q, Request, Completion | Failure], T]
    logprobs: bool = False

    def plan(self) -> PlanCost:
        """Return what asking would take. Nothing is sent."""
        return plan_session(self.assistant, self._starts(), logprobs=self.logprobs)

    def ask(self, watch: Watch, account: Account | None = None) -> SessionResult[T]:
        """Ask about all items; results are in their order. Raises what `run_session` raises."""
        first = partial(self.request, self.assistant, self.items[0])
        return run_session(self.assistant, self._starts(), first, logprobs=self.logprobs, watch=watch, account=account)

    def _starts(self) -> list[Start[T]]:
        return [partial(self._hold, item) for item in self.items]

    def _hold(self, item: Q, capabilities: Capabilities) -> Dialogue[T]:
        logprobs = capabilities.logprobs if self.logprobs else None
        request = self.request(self.assistant, item, logprobs, capabilities.temperature)
        return self.read(item, request, (yield request))


def read_choice(reply: Completion | Failure, options: Mapping[str, str]) -> Label | Status:
    """Return the option that a reply chooses, or in a word why none could be read: one that names two is unparsed."""
    if isinstance(reply, Failure):
        return reply.status
    unreadable = classify(reply)
    if unreadable is not None:
        return unreadable.status
    label = parse_label(reply.text or "", options, "chat")
    return label.status if isinstance(label, Unreadable) else label


def plan_session(assistant: Assistant, starts: Sequence[Start[T]], *, logprobs: bool) -> PlanCost:
    """Return what all dialogues would ask and cost, held with stored answers as far as these go. Nothing is sent."""
    client, model = assistant.client, assistant.model
    cost = PlanCost(model, CostEstimate(price_for(model, client, read_price_list())))
    seen: set[str] = set()
    with open_store(client.cache, readonly=True) if holds_store(client.cache) else nullcontext() as store:
        capabilities, known = assume_capabilities(store, _sampling(logprobs=logprobs), model, "chat")
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


def _sampling(*, logprobs: bool) -> AssistantSampling:
    return AssistantSampling("auto" if logprobs else "off")


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
        check_batches(assistant.model.model, client.endpoint_of(assistant.model))
    named = {(assistant.model.endpoint, assistant.model.model): price}
    prices = Prices(named, named)
    with open_cache(client, [assistant.model]) as (store, claims):
        if account is not None:
            settle_open(account, store, prices)
            account.check(limited=has_limit(client, [assistant.model]), stated=client.spent)

        async def work() -> tuple[ModelSession, dict[int, T], bool]:
            async with Sessions(client, [assistant.model], prices, store, claims, account=account) as sessions:
                (session,) = sessions.models
                held = DialogueSet(session, starts)
                asking = held.hold_all(_sampling(logprobs=logprobs), first)
                interrupted = await sessions.ask([asking], lambda: watch(session))
                return session, held.results, interrupted

        session, results, interrupted = asyncio.run(work())
    if interrupted:
        raise KeyboardInterrupt
    missing = len(starts) - len(results)
    if missing or session.billing_error is not None:
        raise unfinished_error(assistant.role, session, missing)
    session.progress.planned = session.progress.requests  # a dialogue plans what it asks
    spent = session.budgeted.budget.total.spent if session.budgeted is not None else 0.0
    ordered = [results[number] for number in range(len(starts))]
    return SessionResult(ordered, totals_of([session]), spent, session.failed)


class DialogueSet(Generic[T]):
    """Dialogues with one model, and the results of those that came to their end, by their number."""

    def __init__(self, session: ModelSession, starts: Sequence[Start[T]]) -> None:
        self.session, self.starts = session, starts
        self.results: dict[int, T] = {}

    async def hold_all(self, sampling: AssistantSampling, first: Build) -> None:
        """Hold all dialogues. `first` builds the request by which is found out how the endpoint is asked."""
        error = None
        try:
            await self.session.settle(sampling, "chat", [first])
            if self.session.batches is not None:
                from explaineval.execution.batches import submit

                await submit(self.session, self.session.batches, self._lacking)
            await self.session.pool.run(enumerate(self.starts), self._hold)
        except EndpointError as exc:
            error = exc
        await self.session.set_error(error)

    async def _hold(self, numbered: tuple[int, Start[T]]) -> None:
        number, start = numbered
        with suppress(RequestUnsentError):
            self.results[number] = await self.session.pool.hold(start(self.session.capabilities["chat"]))

    def _lacking(self) -> Iterator[tuple[str, Request]]:
        """Yield the key and the request of everything that is not stored yet."""
        seen: set[str] = set()
        for start in self.starts:
            dialogue = start(self.session.capabilities["chat"])
            older_names = self.session.client.older_names
            for request, key, completion in answer_from(self.session.store.get, dialogue, older_names):
                if completion is None and key not in seen:
                    seen.add(key)
                    yield key, request
