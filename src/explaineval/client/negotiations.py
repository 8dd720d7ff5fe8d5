"""Which wishes an endpoint takes: how many top alternatives, and whether a temperature of 0. Asked, never looked up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from explaineval.client.protocols import Client
from explaineval.errors import RequestRejectedError
from explaineval.records import Completion, Request

Build = Callable[[int | None, float | None], Request]
"""The request for a wish of top alternatives (None: no logprobs) and a temperature (None: none is sent)."""


@dataclass(frozen=True)
class Accepted:
    """The first wish that was taken, and its answer."""

    logprobs: int | None
    temperature: float | None
    completion: Completion
    refused_unsent: bool = False
    """Whether the route itself refused the wish for logprobs, before the endpoint heard of it."""


async def negotiate(
    client: Client, rungs: Sequence[int | None], temperature: float | None, *, may_omit: bool, build: Build
) -> Accepted:
    """Go down the rungs (numbers of top alternatives, None last where one may do without) until one is taken.

    A complaint that names the temperature drops it where `may_omit`; one that names logprobs goes a rung down; for
    any other, a request without logprobs tells whose fault it is. Raises the last RequestRejectedError where nothing
    is taken; whatever else the client raises passes through.
    """
    left = list(rungs)
    plain: Accepted | None = None
    unsent = False
    while True:
        if left[0] is None and plain is not None:
            return plain
        try:
            answer = await client.complete(build(left[0], temperature))
            return Accepted(left[0], temperature, answer, unsent)
        except RequestRejectedError as exc:
            complaint = str(exc).lower()
            unsent = unsent or ("logprob" in complaint and not exc.sent)
            droppable = may_omit and temperature is not None
            if droppable and ("temperature" in complaint or left[0] is None):
                temperature = None
                continue
            if "logprob" not in complaint and None in left[1:] and plain is None:
                plain = await _ask_plainly(client, temperature, droppable, build)
                if plain.temperature != temperature:
                    temperature = plain.temperature
                    continue
            left.pop(0)
            if not left:
                raise


async def _ask_plainly(client: Client, temperature: float | None, droppable: bool, build: Build) -> Accepted:
    try:
        return Accepted(None, temperature, await client.complete(build(None, temperature)))
    except RequestRejectedError:
        if not droppable:
            raise
        return Accepted(None, None, await client.complete(build(None, None)))
