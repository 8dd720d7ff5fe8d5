"""What an endpoint takes, found out with the first real request: whether it gives logprobs, whether it takes T = 0.

The verdict is stored beside the answers, so that a rerun asks under the same keys. An endpoint that ignores the
wish for logprobs is still sent it: the key stays one, and nothing is asked twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from explaineval.cache import Store
from explaineval.client.protocols import Client
from explaineval.config import RunConfig
from explaineval.errors import EndpointError, RequestRejectedError, RequestUnsentError, TransientError
from explaineval.records import Request, Style

LADDERS: dict[Style, tuple[int, ...]] = {"chat": (20, 5, 1), "completion": (5, 1)}
"""How many top alternatives to ask for, in the order of trying."""

LogprobsState = Literal["returned", "ignored", "rejected", "off"]


@dataclass(frozen=True)
class Capabilities:
    """How every request of one (endpoint, model, style) is sent."""

    logprobs: int | None
    temperature: float | None
    state: LogprobsState

    @property
    def reason(self) -> str | None:
        """Why there is no CCT here, as far as the endpoint is the cause."""
        return {
            "returned": None,
            "ignored": "the endpoint returned no log-probabilities",
            "rejected": "the endpoint rejects requests for logprobs",
            "off": "logprobs were switched off (--logprobs off)",
        }[self.state]


def verdict_name(endpoint: str | None, model: str, style: Style) -> str:
    """The name under which the verdict on one (endpoint, model, style) is stored."""
    return hashlib.sha256(json.dumps([endpoint, model, style]).encode()).hexdigest()[:32]


async def settle(
    client: Client,
    store: Store,
    config: RunConfig,
    style: Style,
    build: Callable[[int | None, float | None], Request],
) -> Capabilities:
    """Find out with one real request what this endpoint takes. `build(logprobs, temperature)` makes the request.

    Raises EndpointError where the endpoint cannot be used at all.
    """
    temperature = None if config.temperature == "omit" else (config.temperature or 0.0)
    probe = build(None, temperature)
    name = verdict_name(probe.endpoint, probe.model, style)
    verdict = store.get_verdict(name) or {}
    if config.temperature is None and verdict.get("temperature") == "omit":
        temperature = None
    ladder: Iterable[int | None]
    if config.logprobs == "off":
        ladder = (None,)
    elif config.logprobs == "on":
        ladder = LADDERS[style]
    elif verdict.get("logprobs") in (*LADDERS[style], "rejected"):
        ladder = (None if verdict["logprobs"] == "rejected" else verdict["logprobs"],)
    else:
        ladder = (*LADDERS[style], None)
    found = await _first_taken(client, config, ladder, temperature, build)
    if config.logprobs == "off":
        return Capabilities(None, found.temperature, "off")
    new = {
        "logprobs": "rejected" if found.logprobs is None else found.logprobs,
        "temperature": "omit" if found.temperature is None and config.temperature is None else "sent",
    }
    if new != verdict:
        await store.put_verdict(name, new)
    return found


async def _first_taken(
    client: Client,
    config: RunConfig,
    ladder: Iterable[int | None],
    temperature: float | None,
    build: Callable[[int | None, float | None], Request],
) -> Capabilities:
    rungs = list(ladder)
    last: RequestRejectedError | None = None
    while rungs:
        try:
            completion = await client.complete(build(rungs[0], temperature))
        except RequestRejectedError as exc:
            last = exc
            if temperature is not None and config.temperature is None and "temperature" in str(exc).lower():
                temperature = None
                continue
            rungs.pop(0)
            if rungs and rungs[0] is not None and "logprob" not in str(exc).lower():
                rungs = rungs[-1:]  # the complaint is about something else: one try without logprobs tells
            continue
        except (TransientError, RequestUnsentError) as exc:
            raise EndpointError(f"{exc}; is it running and reachable?") from exc
        if rungs[0] is None:
            return Capabilities(None, temperature, "rejected")
        return Capabilities(rungs[0], temperature, "ignored" if completion.logprobs is None else "returned")
    hint = "; with --logprobs on this cannot be mended" if config.logprobs == "on" else ""
    raise EndpointError(f"{last}{hint}.") from last
