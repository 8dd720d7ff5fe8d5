"""A client whose requests end as a test says, with counts of how it was used."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from explaineval.records import Completion, Request

REQUEST = Request(model="a/b", style="completion", prompt="x", max_tokens=1)
ANSWER = Completion(text="A")


class ScriptedClient:
    """Raises what `failure_of` returns for the number of a call, from 1 on, and answers where it returns None.

    Every call takes `seconds`. `calls` counts them, `most` is how many were under way at once.
    """

    def __init__(self, failure_of: Callable[[int], Exception | None] = lambda _: None, seconds: float = 0.0) -> None:
        self.failure_of, self.seconds = failure_of, seconds
        self.calls = self.under_way = self.most = 0

    async def complete(self, _: Request) -> Completion:
        """End as the script says."""
        self.calls += 1
        call = self.calls
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(self.seconds)
            failure = self.failure_of(call)
            if failure is not None:
                raise failure
            return ANSWER
        finally:
            self.under_way -= 1


def always(failure: Exception) -> Callable[[int], Exception]:
    """Fail in every call."""
    return lambda _: failure
