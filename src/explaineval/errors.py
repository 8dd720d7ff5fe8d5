"""One tree of errors, each with its exit code. Raised anywhere, shown only by the command line.

ExplainevalError                 1  a fault of ours
├── InputError                   2  bad input or configuration
│   └── StoreError               2  the store of answers cannot be read or written (full, locked, damaged)
├── EndpointError                5  an endpoint is unusable, or stayed so after all retries
└── RequestFailedError                -  one request has no answer (an outcome, caught by the executor)
    ├── RequestRejectedError          -  the endpoint refused the request as such (400, context too long)
    ├── TransientError         -  worth another attempt (rate limit, 5xx, reset, time-out, broken body)
    └── RequestUnsentError            -  the run is stopping: never sent, never paid
"""

from __future__ import annotations


class ExplainevalError(Exception):
    """The root. Its text is one sentence for the user: what is wrong, where, and what to do."""

    exit_code = 1


class InputError(ExplainevalError):
    """Something the user gave (an option, a file, a row) cannot be used."""

    exit_code = 2


class StoreError(InputError):
    """The store of answers cannot be read or written: disk full, locked too long, read-only, damaged."""


class EndpointError(ExplainevalError):
    """An endpoint cannot be used at all: unknown host, refused connection, wrong key, unknown model."""

    exit_code = 5


class RequestFailedError(ExplainevalError):
    """One request ended without a completion; the run goes on."""


class RequestRejectedError(RequestFailedError):
    """This very request is rejected (status 400, context too long): asking again cannot help.

    `sent` is False where the route refused it before anything went over the wire.
    """

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class TransientError(RequestFailedError):
    """Another attempt may succeed; after the last one the request counts as failed.

    `retry_after` is the endpoint's own wish in seconds, `refused` marks a refused connection, `overload` an endpoint
    that had too much to do (429, 503, 529).
    """

    def __init__(
        self, message: str, *, retry_after: float | None = None, refused: bool = False, overload: bool = False
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.refused = refused
        self.overload = overload


class RequestUnsentError(RequestFailedError):
    """The run is stopping; this request was never sent."""
