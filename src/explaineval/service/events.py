"""What followers of a run are told: the last progress of each run, encoded once and handed to everybody who waits.

A follower that is slow gets the latest progress when it is ready for it, not every one in between, so nothing piles up
and the process of the run does not notice how many there are.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from explaineval.service.gate.places import Shares


@dataclass
class Channel:
    """One run: the last event, how often there was a new one, whether it was the last, and who waits for the next."""

    event: str = ""
    version: int = 0
    over: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        """Wake everybody who waits for a change."""
        self.changed.set()
        self.changed = asyncio.Event()


@dataclass(frozen=True)
class RunEvent:
    """One event: its id, its JSON, and whether it is the last one."""

    id: str
    data: str
    last: bool = False


class Events:
    """The channels of runs that wait or go on.

    Args:
        followers: the places of followers, by whose they are. Whoever follows holds one.
        name: differs from that of every earlier process, whose ids of events mean nothing here.
    """

    def __init__(self, followers: Shares, name: str) -> None:
        self.followers = followers
        self.name = name
        self.closing = False
        self._channels: dict[str, Channel] = {}

    def publish(self, run: str, view: Mapping[str, Any], *, last: bool = False) -> None:
        """Tell all followers of a run how it is now; `last` says that it has ended."""
        channel = self._channels.setdefault(run, Channel())
        channel.event = encode(view)
        channel.version += 1
        channel.over = last
        if last:
            del self._channels[run]
        channel.wake()

    def close(self) -> None:
        """End all followers' streams."""
        self.closing = True
        for channel in self._channels.values():
            channel.wake()

    async def follow(
        self, run: str, load: Callable[[], Awaitable[Mapping[str, Any]]], seen: str | None = None
    ) -> AsyncIterator[RunEvent]:
        """Yield how a run is, then every change, until it has ended.

        `load` returns how it is where nothing was published since it ended. `seen` is the id of the last event that the
        follower got before its connection broke.
        """
        channel = self._channels.get(run)
        if channel is None:
            yield RunEvent(f"{self.name}-end", encode(await load()), last=True)
            return
        last = channel.version if seen == f"{self.name}-{channel.version}" else -1
        while not self.closing:
            if channel.version != last:
                last, over = channel.version, channel.over
                yield RunEvent(f"{self.name}-{last}", channel.event, over)
                if over:
                    return
                continue
            await channel.changed.wait()


def encode(view: Mapping[str, Any]) -> str:
    """Return a view as one line of JSON."""
    return json.dumps(view, separators=(",", ":"))
