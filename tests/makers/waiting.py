"""Waiting for what a test expects, so long that a busy machine fails none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

LONGEST = 180.0


def wait_for(condition: Callable[[], bool]) -> None:
    """Return once something is so."""
    end = time.monotonic() + LONGEST
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not so within {LONGEST:g} seconds")
        time.sleep(0.01)


def run(course: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine, and fail instead of waiting for ever."""

    async def bounded() -> Any:
        async with asyncio.timeout(LONGEST):
            return await course

    return asyncio.run(bounded())
