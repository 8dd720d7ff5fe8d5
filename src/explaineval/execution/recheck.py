"""Stored requests asked again, to see whether an endpoint still answers as it did. The stored answers stay."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from explaineval.cache import Store, request_key
from explaineval.client.protocol import Client
from explaineval.client.stack import ClientStack
from explaineval.config import ClientConfig, ModelConfig
from explaineval.cost import Price, dollars
from explaineval.errors import BudgetReachedError, EndpointError, RequestFailedError, RequestUnsentError
from explaineval.execution.pool import stop_on_interrupt
from explaineval.records import Completion, Request

LETTER = re.compile(r"(?im)^\W*answer\W{0,6}([A-Z])(?![A-Za-z])")
BARE_LETTER = re.compile(r"\W{0,4}([A-Z])(?![A-Za-z])")

Prices = Mapping[tuple[str | None, str], Price | None]


@dataclass
class Agreement:
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

    @property
    def differs(self) -> bool:
        """Whether any answer is another one than before."""
        return self.same_text < self.asked


def choose_stored(store: Store, count: int, models: Iterable[str]) -> list[tuple[Request, Completion]]:
    """The first `count` stored answers (of these models, if any are named) in the order of their keys.

    Keys are hashes, so that this is a random choice, and the same one at every call.
    """
    wanted = frozenset(models)
    found = ((one, answer) for _, one, answer in store.iterate() if not wanted or one.model in wanted)
    return list(itertools.islice(found, count))


def reask(pairs: list[tuple[Request, Completion]], client: ClientConfig, prices: Prices) -> Agreement:
    """Ask each request once more at the endpoints of `client`, within its spending limit."""
    return asyncio.run(_reask(pairs, client, prices))


async def _reask(pairs: list[tuple[Request, Completion]], client: ClientConfig, prices: Prices) -> Agreement:
    models = [
        ModelConfig(model=model, endpoint=endpoint)
        for endpoint, model in sorted({(one.endpoint, one.model) for one, _ in pairs}, key=str)
    ]
    found = Agreement()
    async with ClientStack(client, models, stopping := asyncio.Event()) as stack:
        layers = {
            (model.endpoint, model.model): stack.layers(
                model, prices[model.endpoint, model.model], stack.transport_of(model)
            ).retrying
            for model in models
        }
        work = [
            asyncio.create_task(_compare(layers[one.endpoint, one.model], one, old, found, prices))
            for one, old in pairs
        ]

        def give_up() -> None:
            for task in work:
                task.cancel()

        with stop_on_interrupt(stopping, give_up):
            results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
            raise result
    found.unsent = len(pairs) - found.asked - found.failed
    if stack.billing_error is not None:
        found.fault = str(stack.billing_error)
        found.over_limit = found.unsent if stack.budget.total.overdrawn else found.over_limit
    found.interrupted = stopping.is_set()
    return found


async def _compare(client: Client, request: Request, old: Completion, found: Agreement, prices: Prices) -> None:
    try:
        new = await client.complete(request)
    except BudgetReachedError:
        found.over_limit += 1
        return
    except RequestUnsentError:  # stopped, or the endpoint is unusable, which another request told
        return
    except (RequestFailedError, EndpointError) as exc:
        found.failed += 1
        found.fault = found.fault or f"{request_key(request)[:16]}: {exc}"
        return
    found.asked += 1
    found.same_text += new.text == old.text
    found.other_model += (new.model, new.fingerprint) != (old.model, old.fingerprint)
    price = prices[request.endpoint, request.model]
    found.usd += 0.0 if price is None else dollars(new.usage, price)
    before, after = letter_of(request, old), letter_of(request, new)
    if before is not None and after is not None:
        found.lettered += 1
        found.same_letter += before == after


def letter_of(request: Request, completion: Completion) -> str | None:
    """The answer letter that a text names, as far as can be told without the options."""
    text = completion.text or ""
    if request.prompt is not None and request.prompt.rstrip().endswith("Answer:"):
        bare = BARE_LETTER.match(text)
        return bare.group(1) if bare else None
    line = LETTER.search(text)
    return line.group(1).upper() if line else None
