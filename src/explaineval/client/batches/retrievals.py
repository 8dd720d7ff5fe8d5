"""The results of one ended batch on their way into the store of answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

from explaineval.cache import Store
from explaineval.client.batches.books import Books
from explaineval.client.batches.contents import RequestFile
from explaineval.client.batches.protocols import BatchFailure, BatchProvider, Line
from explaineval.records import Completion, Request

GROUP = 200
"""Answers that are committed to the disk together."""


@dataclass
class Retrieval:
    """One pass over the results of a batch. `failures` and `missing` are by key; `strangers` counts foreign lines."""

    failures: dict[str, BatchFailure] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    strangers: int = 0
    unreadable: int = 0
    stopped: bool = False


@dataclass
class _Pass:
    provider: BatchProvider
    store: Store
    books: Books
    requests: RequestFile
    found: Retrieval = field(default_factory=Retrieval)
    answered: set[str] = field(default_factory=set)
    group: list[tuple[str, Request, Completion]] = field(default_factory=list)

    async def take(self, line: Line) -> None:
        """Sort one line. What is stored already, from an earlier pass or another line, is left as it is."""
        if line.key is None:
            self.found.unreadable += 1
            return
        request = self.requests.get(line.key)
        if request is None:
            self.found.strangers += 1
            return
        if line.key in self.answered or self.store.get(line.key) is not None:
            self.answered.add(line.key)
            return
        result = await self.provider.read(request, line)
        if isinstance(result, BatchFailure):
            self.found.failures.setdefault(line.key, result)
            return
        self.answered.add(line.key)
        self.group.append((line.key, request, result))
        if len(self.group) >= GROUP:
            await self.commit()

    async def commit(self) -> None:
        """Store the group, then tell of it."""
        group, self.group = self.group, []
        await asyncio.gather(*(self.store.put(request, completion) for _, request, completion in group))
        for key, request, completion in group:
            self.books.answer(key, request, completion)

    def finish(self) -> Retrieval:
        """What is left without an answer."""
        for key in self.answered:
            self.found.failures.pop(key, None)
        self.found.missing = [
            key for key in self.requests if key not in self.answered and key not in self.found.failures
        ]
        return self.found


async def retrieve(
    provider: BatchProvider,
    store: Store,
    books: Books,
    requests: RequestFile,
    batch: str,
    stopping: Callable[[], bool],
) -> Retrieval:
    """Store every answer of the batch that is not stored yet. Order and repetitions do not matter.

    Raises TransientError where the results break off (what came before is stored), EndpointError, StoreError.
    """
    one = _Pass(provider, store, books, requests)
    lines = cast("Any", provider.results(batch))  # a generator, whose connection must be closed
    async with aclosing(lines):
        try:
            async for line in lines:
                await one.take(line)
                if stopping():
                    one.found.stopped = True
                    break
        finally:
            await one.commit()
    return one.finish()
