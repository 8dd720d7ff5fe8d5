"""Followers of runs: the latest progress, each once, and an end."""

from __future__ import annotations

import asyncio
from typing import Any

from explaineval.service.monitoring import Events, RunEvent
from explaineval.service.processes.sharing import Shares

PLACES = Shares(10, 10, "followers")


async def load() -> dict[str, Any]:
    """Return how a run is that has ended."""
    return {"state": "finished", "loaded": True}


async def collect(events: Events, seen: str | None = None) -> list[RunEvent]:
    """Return all messages of a run."""
    return [message async for message in events.follow("r", load, seen)]


def test_every_follower_gets_the_end() -> None:
    """Also those that come late, after a break or too slowly for everything in between."""

    async def follow() -> tuple[list[RunEvent], list[RunEvent], list[RunEvent]]:
        events = Events(PLACES, "x")
        events.publish("r", {"state": "queued"})
        whole = asyncio.create_task(collect(events))
        await asyncio.sleep(0)
        for number in range(100):  # nobody is given time to read these
            events.publish("r", {"state": "running", "number": number})
        await asyncio.sleep(0)
        resumed = asyncio.create_task(collect(events, "x-101"))
        await asyncio.sleep(0)
        events.publish("r", {"state": "finished"}, last=True)
        return await whole, await resumed, await collect(events)

    whole, resumed, late = asyncio.run(follow())

    assert [message.id for message in whole] == ["x-1", "x-101", "x-102"]
    assert [message.id for message in resumed] == ["x-102"]
    assert [(message.data, message.last) for message in late] == [('{"state":"finished","loaded":true}', True)]
    assert [message.last for message in (whole[-1], resumed[-1])] == [True, True]


def test_an_id_of_an_earlier_process_is_not_believed() -> None:
    """The follower is told how the run is now."""

    async def follow() -> list[RunEvent]:
        events = Events(PLACES, "y")
        events.publish("r", {"state": "queued"})
        task = asyncio.create_task(collect(events, "x-1"))
        await asyncio.sleep(0)
        events.close()
        return await task

    assert [message.id for message in asyncio.run(follow())] == ["y-1"]
