"""The interface of every client layer: `complete` takes a request and returns its completion."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from explaineval.records import Completion, Request


class Client(Protocol):
    """Anything that can answer a request."""

    async def complete(self, request: Request) -> Completion:
        """Return the completion of one request.

        Raises:
            RequestFailedError: this request alone has no completion.
            EndpointError: the whole endpoint is unusable.
        """
        ...


class Transport(Client, Protocol):
    """A client that sends requests itself, over connections that have to be closed."""

    async def close(self) -> None:
        """Close all connections. Call it before the event loop ends."""
        ...


class Listener:
    """What the layers of a model tell of its requests, and what they ask about them. This one hears nothing."""

    def on_answer(self, request: Request, key: str, completion: Completion, *, hit: bool) -> None:
        """Note a distinct request that is answered, once; `hit` says whether the answer was stored already."""

    def on_unsent(self, request: Request) -> None:
        """Note a distinct request that stays unsent, once."""

    def on_wait(self, change: int) -> None:
        """Note that one request more (1) waits for another process's answer, or one fewer (-1)."""

    def is_withheld(self, request: Request) -> bool:  # noqa: ARG002 - for those who know
        """Return whether a request is not to be sent any more: then only a stored answer is used."""
        return False

    def report(self, message: str) -> None:
        """Show a message to the user."""


class SpendingAccount(Protocol):
    """Books what is spent, so that nothing is lost where the process is killed. `model` is (endpoint, model)."""

    def spent(self, model: tuple[str | None, str] | None = None) -> float:
        """Return the dollars that were spent before, by one model or all."""
        ...

    def mark_unknown(self, reason: str) -> None:
        """Note that something is spent whose price is not known."""
        ...

    def reserve(self, model: tuple[str | None, str], key: str, usd: float, *, batch: bool = False) -> int:
        """Write that an attempt is about to be sent that may cost so much, and return its number.

        Raises InputError where that cannot be written: then it must not be sent.
        """
        ...

    def settle(self, number: int, usd: float, *, billed: bool = True) -> None:
        """Book what an attempt cost; without a bill, the most that it can have cost."""
        ...

    def open_batch(self, key: str) -> tuple[int, float] | None:
        """Return the number and the dollars of a request that an earlier process put into a batch, if one is open."""
        ...


class SharedLimits(Protocol):
    """Limits that hold over several processes, kept by somebody else: what may be spent, and how fast may be asked.

    Both methods raise RequestUnsentError where the run is to stop, so that nothing is sent.
    """

    async def reserve(self, usd: float, key: str) -> bool:
        """Reserve dollars for one attempt at the request of a key; False if none are left.

        Waits while others' reservations leave no room.
        """
        ...

    def release(self, usd: float, cost: float, key: str, *, billed: bool) -> None:
        """End the reservation of so many dollars for a key with what the attempt cost.

        `billed` says whether that is known; else it is the attempt's worst case.
        """
        ...

    def has_answered(self, place: str) -> bool:
        """Return whether an endpoint has answered a process before this one, so that it is waited for."""
        ...

    def note_full(self, reason: str | None) -> None:
        """Say why answers wait to be stored, or that they no longer do."""
        ...

    def slot(self, place: str, tokens: int) -> AbstractAsyncContextManager[None]:
        """Hold one of the endpoint's connections, once its rates allow a request of about so many tokens."""
        ...

    def correct(self, place: str, estimated: int, used: int) -> None:
        """Replace the estimate of a request's tokens by what it used."""
        ...
