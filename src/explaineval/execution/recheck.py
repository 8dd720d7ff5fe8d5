"""Stored requests asked again, to see whether an endpoint still answers as it did. The stored answers stay."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import partial

from explaineval.cache import Store, request_key
from explaineval.config import ClientConfig, ModelConfig
from explaineval.cost import Price, dollars
from explaineval.errors import BudgetReachedError, RequestUnsentError
from explaineval.execution.outcome import Reason, reasons_of
from explaineval.execution.session import ModelSession, Sessions, open_empty_cache
from explaineval.planning.cost import Prices
from explaineval.planning.requests import Dialogue, Failure
from explaineval.records import Completion, Request
from explaineval.rundir.ledger import Account

LETTER = re.compile(r"(?im)^\W*answer\W{0,6}([A-Z])(?![A-Za-z])")
BARE_LETTER = re.compile(r"\W{0,4}([A-Z])(?![A-Za-z])")


@dataclass
class ReaskedAnswers:
    """How the new answers compare with the stored ones. `lettered` counts pairs in which both name a letter.

    `unsent` counts what was not asked, `over_limit` those of them that the spending limit left no room for.
    """

    asked: int = 0
    same_text: int = 0
    lettered: int = 0
    same_letter: int = 0
    other_model: int = 0
    failed: int = 0
    unsent: int = 0
    over_limit: int = 0
    interrupted: bool = False
    usd: float = 0.0
    fault: str | None = None

    def add(self, request: Request, stored: Completion, reply: Completion | Failure, price: Price | None) -> None:
        """Count how an answer compares with the stored one."""
        if isinstance(reply, Failure):
            self.failed += 1
            self.fault = self.fault or f"{request_key(request)[:16]}: {reply.reason}"
            return
        self.asked += 1
        self.same_text += reply.text == stored.text
        self.other_model += (reply.model, reply.fingerprint) != (stored.model, stored.fingerprint)
        self.usd += 0.0 if price is None else dollars(reply.usage, price)
        before, after = letter_of(request, stored), letter_of(request, reply)
        if before is not None and after is not None:
            self.lettered += 1
            self.same_letter += before == after

    @property
    def differs(self) -> bool:
        """Whether any answer is another one than before."""
        return self.same_text < self.asked


def choose_stored(
    store: Store, count: int, models: Iterable[str], *, imported: bool = False, keys: Collection[str] | None = None
) -> list[tuple[Request, Completion]]:
    """The first `count` stored answers (of these models, if any are named) in the order of their keys.

    With `imported` only those that came from packs, or of which it is not known where they came from; with `keys` only
    those under them.

    Keys are hashes, so that this is a random choice, and the same one at every call.
    """
    wanted = frozenset(models)
    rows = (
        (request, answer)
        for _, request, answer in store.iterate(keys)
        if (not wanted or request.model in wanted) and not (imported and store.latest_origin.bought)
    )
    return list(itertools.islice(rows, count))


def reask(
    pairs: list[tuple[Request, Completion]], client: ClientConfig, prices: Prices, account: Account | None = None
) -> ReaskedAnswers:
    """Ask each request once more at the endpoints of `client`, within its spending limit.

    `account` books what that costs, and what it has spent before counts too.
    """
    by_model: dict[tuple[str | None, str], list[tuple[Request, Completion]]] = {}
    for request, stored in pairs:
        by_model.setdefault((request.endpoint, request.model), []).append((request, stored))
    models = [ModelConfig(model=model, endpoint=endpoint) for endpoint, model in sorted(by_model, key=str)]
    agreement = ReaskedAnswers()

    async def compare(session: ModelSession, pair: tuple[Request, Completion]) -> None:
        request, stored = pair
        try:
            reply = await session.pool.hold(_ask(request))
        except BudgetReachedError:
            agreement.over_limit += 1
        except RequestUnsentError:  # stopped, or the endpoint is unusable, as another request has told
            return
        else:
            agreement.add(request, stored, reply, prices.singly[request.endpoint, request.model])

    async def ask_all(store: Store) -> None:
        async with Sessions(client, models, prices, store, None, account=account) as sessions:
            work = [
                session.pool.run(by_model[session.model.endpoint, session.model.model], partial(compare, session))
                for session in sessions.models
            ]
            agreement.interrupted = await sessions.ask(work, lambda: None)
        agreement.unsent = len(pairs) - agreement.asked - agreement.failed
        billed = [session for session in sessions.models if session.billing_error is not None]
        if billed:
            agreement.fault = str(billed[0].billing_error)
            overdrawn = any(Reason.OVERDRAWN in reasons_of(session) for session in billed)
            agreement.over_limit = agreement.unsent if overdrawn else agreement.over_limit

    with open_empty_cache() as store:  # what is stored is not to be found, and stays
        asyncio.run(ask_all(store))
    return agreement


def _ask(request: Request) -> Dialogue[Completion | Failure]:
    return (yield request)


def letter_of(request: Request, completion: Completion) -> str | None:
    """The answer letter that a text names, as far as can be told without the options."""
    text = completion.text or ""
    if request.prompt is not None and request.prompt.rstrip().endswith("Answer:"):
        bare = BARE_LETTER.match(text)
        return bare.group(1) if bare else None
    line = LETTER.search(text)
    return line.group(1).upper() if line else None
