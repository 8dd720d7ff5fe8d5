"""Connections of clients: time limits on what they send and read, and how many one address may have.

A connection that is asked nothing yet (its head or body has not arrived, or it is idle) gives way to a new one where
an address, or the whole service, has as many as it may. So half-sent requests, however many, keep nobody out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import Any

import h11
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from explaineval.service.api.errors import error
from explaineval.service.gate.places import Shares

READ_SECONDS = 60.0
"""For how long a client may read nothing of what is sent to it."""
SPARE_CONNECTIONS = 64
"""Connections beyond the limit that are answered: about the service's health, and everything else by a refusal."""
HEALTH = frozenset({"/healthz", "/readyz"})
"""Paths below `base_path` that are answered also where all connections are taken."""
CROWDED = "all connections from this address, or of the service, are in use: close some, and try again later."


class Crowd:
    """The open connections of a service.

    Args:
        most: how many there may be.
        each: how many of them one address may have.
        head_seconds: for how long the head of a request may take to arrive.
    """

    def __init__(self, most: int, each: int, head_seconds: float) -> None:
        self.shares = Shares(most, each, "connections")
        self.head_seconds = head_seconds
        self.displaced = 0
        """How many connections gave way to others."""
        self._open: dict[LimitedProtocol, str] = {}

    def enter(self, connection: LimitedProtocol) -> bool:
        """Count a new connection, for which an older one may have to give way; return whether it has a place."""
        address = group_of(connection.address)
        roomy = self.shares.has_room(address) or self._displace(address)
        if roomy or self.shares.total < self.shares.most + SPARE_CONNECTIONS:
            self.shares.take(address)
            self._open[connection] = address
        else:
            connection.abort()
        return roomy

    def leave(self, connection: LimitedProtocol) -> None:
        """Count a connection no more."""
        address = self._open.pop(connection, None)
        if address is not None:
            self.shares.give_back(address)

    def _displace(self, address: str) -> bool:
        """End the oldest connection that is asked nothing: one of this address, or any where all places are taken."""
        full = self.shares.total >= self.shares.most
        oldest = next(
            (one for one, holder in self._open.items() if one.is_waiting and (full or holder == address)), None
        )
        if oldest is None:
            return False
        self.displaced += 1
        self.leave(oldest)
        oldest.abort()
        return True


class LimitedProtocol(H11Protocol):
    """uvicorn's protocol with time limits, and with a place in a crowd."""

    def __init__(self, *args: Any, crowd: Crowd, base_path: str = "", **options: Any) -> None:
        super().__init__(*args, **options)
        self.crowd, self.base_path = crowd, base_path
        self.app = self._answer
        self.address = ""
        self.has_place = True
        self._head: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether the client is asking nothing: no request has arrived as a whole, or its answer is sent."""
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for a request."""
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        self.has_place = self.crowd.enter(self)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.crowd.leave(self)
        for timer in (self._head, self._reading):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what the client sent."""
        super().data_received(data)
        self._await_head()

    def pause_writing(self) -> None:
        """Give the client time to read."""
        super().pause_writing()
        self._end_unread()

    def resume_writing(self) -> None:
        """Go on: the client has read."""
        super().resume_writing()
        if self._reading is not None and not self.transport.is_closing():
            self._reading.cancel()
            self._reading = None

    def timeout_keep_alive_handler(self) -> None:
        """End an idle connection, also where the client does not read the end of its answer."""
        super().timeout_keep_alive_handler()
        self._end_unread()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        self._refuse(400, msg)

    def abort(self) -> None:
        """End the connection at once."""
        self.transport.abort()

    def _await_head(self) -> None:
        """Start the clock of a head that has begun to arrive; what arrives later does not set it back."""
        between = self.cycle is None or self.cycle.response_complete
        if self._head is not None and not between:
            self._head.cancel()
            self._head = None
        elif self._head is None and between and not self.transport.is_closing():
            self._head = self.loop.call_later(self.crowd.head_seconds, self._end_head)

    def _end_head(self) -> None:
        begun = bool(self.conn.trailing_data[0]) and self.conn.our_state is h11.IDLE
        if begun:
            self._refuse(408, "the head of the request did not arrive in time.")
        else:
            self.transport.close()
            self._end_unread()

    def _end_unread(self) -> None:
        if self._reading is None:
            self._reading = self.loop.call_later(READ_SECONDS, self.abort)

    def _refuse(self, status: int, message: str) -> None:
        """Answer by an error, where no request is being answered, and end the connection."""
        if self.conn.our_state is h11.IDLE:
            answer = error(status, message, {"connection": "close"})
            response = h11.Response(status_code=status, headers=answer.raw_headers)
            for event in (response, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
        self._end_unread()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; where the connection has no place, refuse all but the questions about health."""
        app: ASGIApp = self.config.loaded_app
        path = scope.get("path", "").removeprefix(self.base_path)
        if not self.has_place and path not in HEALTH:
            app = error(503, CROWDED, {"connection": "close", "retry-after": "5"})
        await app(scope, receive, send)


def group_of(address: str) -> str:
    """Return what counts as one address: of IPv6 the network of 64 bits, since one machine has all of it.

    >>> group_of("10.1.2.3"), group_of("2001:db8::1"), group_of("::ffff:10.1.2.3"), group_of("")
    ('10.1.2.3', '2001:db8::/64', '10.1.2.3', '')
    """
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return f"{IPv6Address(int(found) >> 64 << 64)}/64"
    return str(found)


def protocol_of(crowd: Crowd, base_path: str = "") -> Callable[..., LimitedProtocol]:
    """Return what uvicorn calls for each connection."""

    def make(*args: Any, **options: Any) -> LimitedProtocol:
        return LimitedProtocol(*args, crowd=crowd, base_path=base_path, **options)

    return make
