"""What runs in a worker process: it sends the requests that it is handed, and keeps what came of them until collected.

It knows nothing of Ray, which calls its methods; what they take and return is bytes (see `messages`). The guard on
addresses and sizes stands here, under the transport, and a key is read from this machine's environment.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable
from pkgutil import resolve_name

from explaineval._version import __version__
from explaineval.client.cluster.messages import Call, Hello, Setup, decode_call, encode_reply, join, split
from explaineval.client.protocol import Transport
from explaineval.errors import ExplainevalError, InputError
from explaineval.records import Completion

GATHER = 0.003
"""Seconds in which further replies are gathered after the first, since each collection costs time here and there."""
HEARTBEAT = 5.0
"""Seconds after which a collection returns without a reply, so that a run can tell a frozen worker from a busy one."""
MOST_BYTES = 8 * 2**20
"""Bytes of replies in one collection, unless the first is larger."""


class Worker:
    """Sends requests through transports, each opened at its first request.

    Args:
        setup: a `Setup` as JSON.
    """

    def __init__(self, setup: bytes) -> None:
        self._setup = Setup.model_validate_json(setup)
        self._transports: dict[str, Transport] = {}
        self._under_way: set[asyncio.Task[None]] = set()
        self._replies: deque[bytes] = deque()
        self._any = asyncio.Event()

    async def hello(self) -> bytes:
        """Return a `Hello` as JSON."""
        hello = Hello(version=__version__, host=socket.gethostname(), pid=os.getpid())
        return hello.model_dump_json().encode("utf-8")

    async def send(self, calls: bytes) -> None:
        """Begin to send the requests of these calls."""
        for line in split(calls):
            number, call = decode_call(line)
            task = asyncio.create_task(self._answer(number, call))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def collect(self) -> bytes:
        """Return the replies since the last collection; wait for one where there is none, at most for HEARTBEAT."""
        try:
            async with asyncio.timeout(HEARTBEAT):
                await self._any.wait()
        except TimeoutError:
            return b""
        await asyncio.sleep(GATHER)
        lines, size = [self._replies.popleft()], 0
        while self._replies and (size := size + len(lines[-1])) < MOST_BYTES:
            lines.append(self._replies.popleft())
        if not self._replies:
            self._any.clear()
        return join(lines)

    async def _answer(self, number: int, call: Call) -> None:
        outcome: Completion | ExplainevalError
        try:
            outcome = await self._transport(call.transport).complete(call.request)
        except InputError as exc:  # a key that is missing here, for example
            outcome = InputError(f"on the worker's machine {socket.gethostname()}, {exc}")
        except ExplainevalError as exc:
            outcome = exc
        except Exception as exc:  # told where the run is, as if it had happened there
            outcome = ExplainevalError(f"a worker failed: {type(exc).__name__}: {exc}")
        self._replies.append(encode_reply(number, outcome))
        self._any.set()

    def _transport(self, name: str) -> Transport:
        """Return the transport of this class, given as module:class."""
        if name not in self._transports:
            connect: Callable[..., Transport] = resolve_name(name)
            self._transports[name] = connect(self._setup.by_identity(), timeout=self._setup.timeout)
        return self._transports[name]
