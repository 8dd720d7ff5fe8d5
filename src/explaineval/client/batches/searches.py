"""A batch whose creation nobody confirmed, looked for in the provider's list before anything is submitted again."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

from explaineval.client.batches.ledgers import Ledger, Shelf
from explaineval.client.batches.protocols import BatchProvider, Trace

ENDED = ("ended", "expired", "cancelled")


@dataclass(frozen=True)
class Sighting:
    """`batch` is the one looked for. `undecided`: one that may be it is not ended, and only its results can tell."""

    batch: str | None = None
    undecided: bool = False


async def look_for(provider: BatchProvider, shelf: Shelf, ledger: Ledger) -> Sighting:
    """One look into the provider's list. Raises TransientError, EndpointError."""
    trace = Trace(ledger.tag, ledger.uploaded, ledger.count, ledger.created, shelf.batches())
    undecided = False
    for found in await provider.find(trace):
        if found.sure:
            return Sighting(found.batch)
        if found.progress not in ENDED:
            undecided = True
        elif await _is_ours(provider, shelf, ledger, found.batch):
            return Sighting(found.batch)
    return Sighting(undecided=undecided)


async def _is_ours(provider: BatchProvider, shelf: Shelf, ledger: Ledger, batch: str) -> bool:
    """Whether the first readable result is of one of the ledger's requests."""
    lines = cast("Any", provider.results(batch))  # a generator, whose connection must be closed
    with shelf.requests(ledger) as requests:
        async with aclosing(lines):
            async for line in lines:
                if line.key is not None:
                    return requests.get(line.key) is not None
    return False
