"""Work that takes seconds of computing, done in processes beside the server: plans, comparisons, reports, exports.

A process does one job after the other. One that takes too long is killed, and one that has died is replaced.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explaineval.errors import InputError
from explaineval.service.gate.connection import encode
from explaineval.service.processes import jobs
from explaineval.service.processes.slots import FairSlots

LARGEST_REPLY = 256 << 20
"""Bytes of the largest reply, a comparison of many models."""


class BusyError(Exception):
    """A job took too long, or its process died of it: it is too large for this service."""


@dataclass(eq=False)
class _Process:
    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, job: Mapping[str, Any]) -> dict[str, Any]:
        self.writer.write(encode(dict(job)))
        line = await self.reader.readline()
        if not line:
            raise ConnectionError
        reply: dict[str, Any] = json.loads(line)
        return reply

    async def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        self.writer.close()
        await self.process.wait()


class Background:
    """A bounded number of processes that do jobs.

    Args:
        directory: the data directory.
        slots: how many processes there are at the most, and how many jobs of one user there may be.
        seconds: how long one job may take.
        memory: bytes of address space that one process may have.
        environment: what they find in the environment.
    """

    def __init__(
        self, directory: Path, slots: FairSlots, seconds: float, memory: int, environment: Mapping[str, str]
    ) -> None:
        self.directory, self.seconds, self.memory, self.environment = directory, seconds, memory, environment
        self.slots = slots
        self._idle: list[_Process] = []
        self._all: set[_Process] = set()

    async def do(self, job: str, user: str = "", **arguments: Any) -> Any:
        """Return the result of a job for a user; without one, for the service itself.

        Raises InputError where what it is about cannot be used, BusyError where it takes too long or too much memory,
        TooManyJobsError where the user has too many.
        """
        async with self.slots.slot(user):
            process = self._idle.pop() if self._idle else await self._start()
            done = False
            try:
                async with asyncio.timeout(self.seconds):
                    reply = await process.ask({"job": job, "arguments": arguments})
                done = True
            except TimeoutError:
                raise BusyError(f"this takes longer than {self.seconds:g} seconds: ask for less.") from None
            except (OSError, ValueError):
                raise BusyError("this takes more memory than is allowed: ask for less.") from None
            finally:
                if done:
                    self._idle.append(process)
                else:
                    self._all.discard(process)
                    await asyncio.shield(process.kill())
        if "error" in reply:
            raise InputError(without_paths(reply["error"], self.directory))
        if "fault" in reply:
            raise RuntimeError(reply["fault"])
        return reply["result"]

    async def close(self) -> None:
        """End all processes."""
        for process in self._all:
            await process.kill()

    async def _start(self) -> _Process:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", jobs.__name__, str(theirs.fileno()), str(self.memory),
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),), cwd=self.directory, env=dict(self.environment), start_new_session=True,
            )  # fmt: skip
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=LARGEST_REPLY)
        started = _Process(process, reader, writer)
        self._all.add(started)
        return started


def without_paths(text: str, directory: Path) -> str:
    """Return a sentence without the server's data directory: uploads and runs stand there by their names alone."""
    return re.sub(re.escape(str(directory)) + r"/(?:uploads/[^/\s]+/|runs/)?", "", text)
