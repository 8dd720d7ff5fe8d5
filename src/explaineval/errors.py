"""The exit codes, and one tree of errors, each with its own. Raised anywhere, they are shown only by the command line.

ExplainevalError                 1  an error in explaineval itself
├── InputError                   2  bad input or configuration
│   ├── StoreError               2  the store of answers cannot be read or written (full, locked, damaged)
│   ├── DamageError              2  the store of answers is damaged or lost: what is left can be saved, nothing is added
│   └── InUseError               2  another process is writing the same run directory
├── EndpointError                5  an endpoint is unusable, or stayed so after all retries
└── RequestFailedError           -  one request has no answer (an outcome of that request; the run goes on)
    ├── RequestRejectedError     -  the endpoint refused the request as such (400, context too long)
    ├── OversizedError           -  the answer is larger than is ever read (kept as an outcome)
    ├── TransientError           -  worth another attempt (rate limit, 5xx, reset, time-out, broken body)
    └── RequestUnsentError       -  never sent, never paid: the run is stopping, or
        ├── BudgetReachedError   3  the spending limit leaves no room for it
        ├── NotStoredError       4  only stored answers may be used (--offline), and it is not among them
        └── WithheldError        5  nothing more is asked of the model there, since its answers cannot be read
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from explaineval.secrets import SECRETS


class ExitCode(IntEnum):
    """The exit codes of commands.

    >>> ExitCode.worst([ExitCode.NOT_STORED, ExitCode.ENDPOINT]).name
    'ENDPOINT'
    """

    DONE = 0
    INTERNAL_ERROR = 1
    BAD_INPUT = 2
    SPENDING_LIMIT = 3
    NOT_STORED = 4
    """A request was not sent because only stored answers may be used."""
    ENDPOINT = 5
    """A request has no answer after all retries, or an endpoint cannot be used."""
    DIFFERENT = 6
    """What was checked is not as it was, or not as it is required to be."""
    UNDECIDED = 7
    """A requirement can neither be shown to be met nor to be broken."""
    INTERRUPTED = 130

    @classmethod
    def worst(cls, codes: Iterable[ExitCode]) -> ExitCode:
        """Return the exit code of a command that ended for several reasons; DONE where there is none."""
        return min(codes, key=_WORST_FIRST.index, default=cls.DONE)


_WORST_FIRST = (
    ExitCode.INTERRUPTED,
    ExitCode.INTERNAL_ERROR,
    ExitCode.BAD_INPUT,
    ExitCode.DIFFERENT,
    ExitCode.SPENDING_LIMIT,
    ExitCode.ENDPOINT,
    ExitCode.NOT_STORED,
    ExitCode.UNDECIDED,
    ExitCode.DONE,
)


class ExplainevalError(Exception):
    """The base of all errors. Its text is one sentence for the user: what is wrong, where, and what to do.

    Secrets in the text are masked whenever it is read. `sent` is False where a request was to be sent and nothing of
    it went over the wire.
    """

    exit_code = ExitCode.INTERNAL_ERROR
    sent = True

    def __str__(self) -> str:
        return SECRETS.mask(super().__str__())


class InputError(ExplainevalError):
    """Something the user gave (an option, a file, a row) cannot be used."""

    exit_code = ExitCode.BAD_INPUT


class StoreError(InputError):
    """The store of answers cannot be read or written: disk full, locked too long, read-only, damaged.

    `full` says that only room on the disk is missing, so that the same may succeed later.
    """

    full = False


class DamageError(InputError):
    """The store of answers is damaged or lost: what is left can be saved, nothing is added to it."""


class InUseError(InputError):
    """Another process is writing the same run directory."""


class EndpointError(ExplainevalError):
    """An endpoint cannot be used at all: unknown host, refused connection, wrong key, unknown model.

    `unavailable` marks what may pass where the endpoint has answered before: its name cannot be resolved.
    """

    exit_code = ExitCode.ENDPOINT

    def __init__(self, message: str, *, unavailable: bool = False) -> None:
        super().__init__(message)
        self.unavailable = unavailable
        self.sent = not unavailable


class RequestFailedError(ExplainevalError):
    """One request ended without a completion; the run goes on."""


class RequestRejectedError(RequestFailedError):
    """This very request is rejected (status 400, context too long): asking again cannot help.

    `sent` is False where the route refused it before anything went over the wire.
    """

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class OversizedError(RequestFailedError):
    """The answer goes beyond the bounds on what is received; it may have been charged, so it is not asked for again."""


class TransientError(RequestFailedError):
    """Another attempt may succeed; after the last one the request counts as failed.

    `retry_after` is the waiting time in seconds that the endpoint asks for. `refused` marks a refused connection,
    `overload` an overloaded endpoint (429, 503, 529), and `unbilled` an attempt that was certainly not charged:
    refused, or answered with an error. After a time-out, a reset or a cut body it is unknown whether it was charged.
    `unavailable` marks what an endpoint out of service shows: refused, reset, time-out, 429, 502 to 504 and the like.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        refused: bool = False,
        overload: bool = False,
        unbilled: bool = False,
        unavailable: bool = False,
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.refused = refused
        self.sent = not refused
        self.overload = overload
        self.unbilled = unbilled or refused or overload
        self.unavailable = unavailable or refused or overload


class RequestUnsentError(RequestFailedError):
    """The run is stopping; this request was never sent."""


class BudgetReachedError(RequestUnsentError):
    """The spending limit leaves no room for this request's worst case."""

    exit_code = ExitCode.SPENDING_LIMIT


class WithheldError(RequestUnsentError):
    """Nothing more is asked of the model there, since its answers cannot be read."""

    exit_code = ExitCode.ENDPOINT


class NotStoredError(RequestUnsentError):
    """Only stored answers may be used, and there is none for this request."""

    exit_code = ExitCode.NOT_STORED


class PluginWarning(UserWarning):
    """A plug-in is broken or missing, and left out."""
