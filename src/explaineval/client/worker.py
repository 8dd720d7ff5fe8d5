"""What runs in a worker process: it sends the requests that it is handed, and keeps what came of them until collected.

It knows nothing of Ray, which calls its methods. What they take and return is bytes, lines of `NUMBER JSON`: a call
holds a request and the class of the transport that sends it, a reply a completion or an error. Keys never travel: an
endpoint names the variable that holds its key, which is read from the worker's environment. The guard on addresses and
sizes is at work here, under the transport. What comes back is validated, since an endpoint may have sent anything.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pkgutil import resolve_name
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from explaineval._version import __version__
from explaineval.client.protocol import Transport
from explaineval.config import Endpoint
from explaineval.errors import (
    EndpointError,
    ExplainevalError,
    InputError,
    OversizedError,
    RequestFailedError,
    RequestRejectedError,
    RequestUnsentError,
    TransientError,
)
from explaineval.records import Completion, Record, Request

LONGEST_MESSAGE = 2000
"""Characters of an error's sentence."""

ErrorName = Literal["endpoint", "input", "oversized", "failed", "rejected", "unsent", "transient", "internal"]

ERRORS: Mapping[ErrorName, type[ExplainevalError]] = {
    "endpoint": EndpointError,
    "input": InputError,
    "oversized": OversizedError,
    "rejected": RequestRejectedError,
    "transient": TransientError,
    "unsent": RequestUnsentError,
    "failed": RequestFailedError,
    "internal": ExplainevalError,
}
"""Names of errors on the way, the special ones before those that they are kinds of."""


class EndpointSetup(Record):
    """Where an endpoint is reached, and the name of the variable that holds its key."""

    identity: str | None
    base_url: str | None
    name: str | None
    api_key_env: str | None


class Setup(Record):
    """What a worker is started with. `timeout` is in seconds, for one attempt."""

    endpoints: tuple[EndpointSetup, ...]
    timeout: float

    @classmethod
    def of(cls, endpoints: Mapping[str | None, Endpoint], timeout: float) -> Setup:
        """Return the setup for endpoints by their identity in requests."""
        rows = (EndpointSetup(identity=identity, **vars(endpoint)) for identity, endpoint in endpoints.items())
        return cls(endpoints=tuple(rows), timeout=timeout)

    def by_identity(self) -> dict[str | None, Endpoint]:
        """Return the endpoints by their identity in requests."""
        return {row.identity: Endpoint(row.base_url, row.name, row.api_key_env) for row in self.endpoints}


class Hello(Record):
    """What a worker says of itself: the version of explaineval, its machine, its process."""

    version: str
    host: str
    pid: int


class Call(Record):
    """A request, and the class of the transport that sends it, as module:class."""

    transport: str
    request: Request


class ErrorMessage(Record):
    """An error; the fields beside `message` are those of the errors that have them."""

    error: ErrorName
    message: Annotated[str, Field(max_length=LONGEST_MESSAGE)]
    retry_after: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] | None = None
    refused: bool = False
    overload: bool = False
    unbilled: bool = False
    unavailable: bool = False
    sent: bool = True

    @classmethod
    def of(cls, error: ExplainevalError) -> ErrorMessage:
        """Return an error as it travels, without secrets."""
        name = next(name for name, kind in ERRORS.items() if isinstance(error, kind))
        fields = {key: value for key, value in vars(error).items() if key in cls.model_fields}
        return cls(error=name, message=str(error)[:LONGEST_MESSAGE], **fields)

    def exception(self) -> ExplainevalError:
        """Return the error."""
        if self.error == "transient":
            return TransientError(
                self.message,
                retry_after=self.retry_after,
                refused=self.refused,
                overload=self.overload,
                unbilled=self.unbilled,
                unavailable=self.unavailable,
            )
        if self.error == "rejected":
            return RequestRejectedError(self.message, sent=self.sent)
        if self.error == "endpoint":
            return EndpointError(self.message, unavailable=self.unavailable)
        return ERRORS[self.error](self.message)


class CallResult(Record):
    """What came of a call: a completion or a failure."""

    completion: Completion | None = None
    failure: ErrorMessage | None = None


def encode_call(number: int, transport: str, request: Request) -> bytes:
    """Return the line of a call. Numbers keep their spelling, so that the same body goes over the wire."""
    call = {"transport": transport, "request": request.model_dump(exclude_defaults=True)}
    return b"%d %s" % (number, json.dumps(call, separators=(",", ":")).encode("ascii"))


def encode_reply(number: int, outcome: Completion | ExplainevalError) -> bytes:
    """Return the line of a reply."""
    reply = (
        CallResult(completion=outcome)
        if isinstance(outcome, Completion)
        else CallResult(failure=ErrorMessage.of(outcome))
    )
    return b"%d %s" % (number, reply.model_dump_json().encode("utf-8"))


def decode_call(line: bytes) -> tuple[int, Call]:
    """Return the number and the content of a call's line."""
    number, _, text = line.partition(b" ")
    return int(number), Call.model_validate(json.loads(text))


def decode_reply(line: bytes) -> tuple[int, Completion | ExplainevalError]:
    """Return the number of a reply's line, and its completion or error.

    What cannot be read is a TransientError, whose call may have been charged.

    Raises:
        ValueError: the line does not begin with a number.
    """
    number, _, text = line.partition(b" ")
    try:
        reply = CallResult.model_validate_json(text)
    except ValidationError as exc:
        return int(number), TransientError(f"a worker sent a reply that cannot be read ({exc.error_count()} faults)")
    if reply.completion is not None:
        return int(number), reply.completion
    if reply.failure is not None:
        return int(number), reply.failure.exception()
    return int(number), TransientError("a worker sent an empty reply")


def join(lines: Iterable[bytes]) -> bytes:
    """Return lines as one batch; JSON text holds no line break."""
    return b"\n".join(lines)


def split(batch: bytes) -> Iterator[bytes]:
    """Yield the lines of a batch."""
    yield from filter(None, batch.split(b"\n"))


GATHER = 0.003
"""Seconds in which further replies are gathered after the first, since each collection costs time here and there."""
HEARTBEAT = 5.0
"""Seconds after which a collection returns without a reply, so that a run can tell a frozen worker from a busy one."""
MOST_BYTES = 8 * 2**20
"""Bytes of replies in one collection, unless the first is larger."""


class RequestSender:
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
