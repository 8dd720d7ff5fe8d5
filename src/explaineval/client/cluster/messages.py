"""What travels between a run and its workers: lines of `NUMBER JSON`, as bytes. Pure.

A call holds a request and the class of the transport that sends it; a reply holds a completion or an error. Keys never
travel: an endpoint names the variable that holds its key, which the worker reads where it runs. What comes back is
validated, since an endpoint may have sent anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field, ValidationError

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


class Failure(Record):
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
    def of(cls, error: ExplainevalError) -> Failure:
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


class Reply(Record):
    """What came of a call: a completion or a failure."""

    completion: Completion | None = None
    failure: Failure | None = None


def encode_call(number: int, transport: str, request: Request) -> bytes:
    """Return the line of a call. Numbers keep their spelling, so that the same body goes over the wire."""
    call = {"transport": transport, "request": request.model_dump(exclude_defaults=True)}
    return b"%d %s" % (number, json.dumps(call, separators=(",", ":")).encode("ascii"))


def encode_reply(number: int, outcome: Completion | ExplainevalError) -> bytes:
    """Return the line of a reply."""
    reply = Reply(completion=outcome) if isinstance(outcome, Completion) else Reply(failure=Failure.of(outcome))
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
        reply = Reply.model_validate_json(text)
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
