"""How requests to an endpoint are sent: as `probe` found out, else as the first real request shows.

One document for each (endpoint, model) is kept beside the answers, so that a rerun sends the same requests. If no probe
came first, `run` goes on asking for logprobs where an endpoint ignores that: the cache key stays the same, and nothing
is asked twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from explaineval.cache import Store, verdict_name
from explaineval.client.protocol import Client
from explaineval.config import ClientConfig, ModelConfig
from explaineval.errors import EndpointError, RequestRejectedError, TransientError
from explaineval.records import Completion, Request, Style
from explaineval.rundir.schema import LogprobsState


class Sampling(Protocol):
    """What is wanted of every answer of a model: log-probabilities, and a temperature. A run's configuration has both.

    The temperature None is 0 where the endpoint takes that.
    """

    @property
    def logprobs(self) -> Literal["auto", "on", "off"]:
        """Whether log-probabilities are wanted."""
        ...

    @property
    def temperature(self) -> float | Literal["omit"] | None:
        """The temperature; `omit` where none is sent."""
        ...


Build = Callable[[int | None, float | None], Request]
"""Build the request for a number of top alternatives (None: no logprobs) and a temperature (None: none is sent)."""


@dataclass(frozen=True)
class Accepted:
    """The first request that was accepted, and its answer. `temperature` None means that none was sent."""

    logprobs: int | None
    temperature: float | None
    completion: Completion
    refused_unsent: bool = False
    """Whether the route itself refused logprobs, before anything was sent."""


async def negotiate(
    client: Client, choices: Sequence[int | None], temperature: float | None, *, may_omit: bool, build: Build
) -> Accepted:
    """Send a request with fewer and fewer logprobs until one is accepted.

    `choices` are the numbers of top alternatives to try in this order; None, the last where it is there, is a request
    without logprobs. A rejection that names the temperature drops it where `may_omit`; one that names logprobs goes on
    to the next choice; after any other, a request without logprobs shows whether they are the reason. Raises the last
    RequestRejectedError where nothing is accepted; whatever else the client raises passes through.
    """
    left = list(choices)
    plain: Accepted | None = None
    unsent = False
    while True:
        if left[0] is None and plain is not None:
            return plain
        try:
            answer = await client.complete(build(left[0], temperature))
            return Accepted(left[0], temperature, answer, unsent)
        except RequestRejectedError as exc:
            reason = str(exc).lower()
            unsent = unsent or ("logprob" in reason and not exc.sent)
            droppable = may_omit and temperature is not None
            if droppable and ("temperature" in reason or left[0] is None):
                temperature = None
                continue
            if "logprob" not in reason and None in left[1:] and plain is None:
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


TOP_LOGPROBS: dict[Style, tuple[int, ...]] = {"chat": (20, 5, 1), "completion": (5, 1)}
"""How many top alternatives to ask for, in the order of trying."""


REASONS: dict[LogprobsState, str] = {
    "ignored": "the endpoint returned no log-probabilities",
    "rejected": "the endpoint rejects requests for logprobs",
    "off": "logprobs were switched off (--logprobs off)",
}
ROUTE_LOSES = "litellm's route to this provider does not take a request for logprobs"


@dataclass(frozen=True)
class Capabilities:
    """How every request of one (endpoint, model, style) is sent.

    `logprobs` is the number of top alternatives asked for (None: not asked for), `temperature` None where none is sent,
    `found` the probe's sentence on logprobs that cannot be used.
    """

    logprobs: int | None
    temperature: float | None
    state: LogprobsState
    found: str | None = None

    @property
    def reason(self) -> str | None:
        """Why there is no CCT here, as far as the endpoint is the cause."""
        return self.found or REASONS.get(self.state)


@dataclass(frozen=True)
class StyleVerdict:
    """What is known of one style. `unusable` says why its logprobs are not worth asking for; a probe finds that out."""

    logprobs: int | None
    temperature: Literal["sent", "omit"]
    unusable: str | None = None
    probed: bool = False

    def document(self) -> dict[str, Any]:
        """The verdict as it is stored."""
        return asdict(self)


def stored_probe(store: Store, endpoint: str | None, model: str) -> dict[str, Any] | None:
    """The last probe's document, with the time it was made under `probed`; None where there was no probe."""
    found = store.get_verdict(verdict_name(endpoint, model)) or {}
    probe = found.get("probe")
    return probe if isinstance(probe, dict) else None


def older_verdicts(client: ClientConfig, models: Iterable[ModelConfig]) -> dict[str, str]:
    """Return names of verdicts → the names under which they stand where an endpoint had another name."""
    older = client.older_names
    return {
        verdict_name(model.endpoint, model.model): verdict_name(older[model.endpoint], model.model)
        for model in models
        if model.endpoint in older
    }


def style_verdict(store: Store, endpoint: str | None, model: str, style: Style) -> StyleVerdict | None:
    """What is known of one style, None where nothing readable is stored."""
    return _read(store.get_verdict(verdict_name(endpoint, model)) or {}, style)


async def store_probe(
    store: Store, endpoint: str | None, model: str, probe: Mapping[str, Any], styles: Mapping[Style, StyleVerdict]
) -> None:
    """Keep a probe's document and its verdicts until the next probe.

    Where logprobs are accepted but none come back, the number that an earlier run asked for stays: its paid answers are
    stored under that number.
    """
    name = verdict_name(endpoint, model)
    before = store.get_verdict(name) or {}
    new = {}
    for style, verdict in styles.items():
        old = _read(before, style)
        keep = verdict.unusable == REASONS["ignored"] and old is not None and old.logprobs is not None
        kept = StyleVerdict(old.logprobs, verdict.temperature, verdict.unusable, True) if keep and old else verdict
        new[style] = kept.document()
    await store.put_verdict(name, {"styles": {**_styles(before), **new}, "probe": dict(probe)})


def assume_capabilities(
    store: Store | None, sampling: Sampling, model: ModelConfig, style: Style
) -> tuple[Capabilities, bool]:
    """How this style would be sent, without asking the endpoint: by the stored verdict, else as most endpoints take it.

    The second value says whether that is certain: there is a verdict, or none is needed.
    """
    known = None if store is None else style_verdict(store, model.endpoint, model.model, style)
    temperature = None if sampling.temperature == "omit" else (sampling.temperature or 0.0)
    if sampling.temperature is None and known is not None and known.temperature == "omit":
        temperature = None
    logprobs = _choices(sampling, style, known)[0]
    state: LogprobsState = "off" if sampling.logprobs == "off" else "rejected" if logprobs is None else "returned"
    found = None
    if known is not None and known.unusable and sampling.logprobs == "auto":
        state, found = _unusable_state(known)
    settled = known is not None or (sampling.logprobs == "off" and sampling.temperature is not None)
    return Capabilities(logprobs, temperature, state, found), settled


async def determine_capabilities(
    client: Client, store: Store, sampling: Sampling, style: Style, build: Build, *, keep: bool = True
) -> Capabilities:
    """How this style is sent, found out with one real request. `build(logprobs, temperature)` makes the request.

    `keep` stores the result, unless a probe stored one before. Raises EndpointError where the endpoint cannot be used,
    RequestUnsentError where nothing was sent.
    """
    temperature = None if sampling.temperature == "omit" else (sampling.temperature or 0.0)
    first = build(None, temperature)
    known = style_verdict(store, first.endpoint, first.model, style)
    free = sampling.temperature is None
    if free and known is not None and known.temperature == "omit":
        temperature = None
    try:
        accepted = await negotiate(client, _choices(sampling, style, known), temperature, may_omit=free, build=build)
    except RequestRejectedError as exc:
        hint = "; with --logprobs on this cannot be mended" if sampling.logprobs == "on" else ""
        raise EndpointError(f"{exc}{hint}.") from exc
    except TransientError as exc:
        raise EndpointError(f"{exc}; is it running and reachable? `explaineval probe` tells more.") from exc
    if sampling.logprobs == "off":
        return Capabilities(None, accepted.temperature, "off")
    if keep and (known is None or not known.probed):
        sent: Literal["sent", "omit"] = "sent" if accepted.temperature is not None else "omit"
        if not free:
            sent = known.temperature if known is not None else "sent"
        unusable = ROUTE_LOSES if accepted.refused_unsent else known.unusable if known is not None else None
        await _store_style(store, first.endpoint, first.model, style, StyleVerdict(accepted.logprobs, sent, unusable))
    if known is not None and known.unusable and sampling.logprobs == "auto":
        return Capabilities(accepted.logprobs, accepted.temperature, *_unusable_state(known))
    if accepted.logprobs is None:
        return Capabilities(None, accepted.temperature, "rejected", ROUTE_LOSES if accepted.refused_unsent else None)
    returned = accepted.completion.logprobs is not None
    return Capabilities(accepted.logprobs, accepted.temperature, "returned" if returned else "ignored")


def _unusable_state(known: StyleVerdict) -> tuple[LogprobsState, str]:
    """The state of logprobs that a verdict calls unusable, and its sentence."""
    assert known.unusable is not None  # noqa: S101 - asked only where there is one
    if not known.probed:  # the route said so in an earlier run
        return "rejected", known.unusable
    return "ignored" if known.unusable in REASONS.values() else "unusable", f"{known.unusable} (found by probe)"


def _choices(sampling: Sampling, style: Style, known: StyleVerdict | None) -> tuple[int | None, ...]:
    """The numbers of top alternatives that may be asked for, in the order of trying; None for no logprobs."""
    numbers = TOP_LOGPROBS[style]
    if sampling.logprobs == "off":
        return (None,)
    if known is not None and known.logprobs is not None:
        numbers = tuple(number for number in numbers if number <= known.logprobs)
    elif known is not None and sampling.logprobs == "auto":
        return (None,)
    return numbers if sampling.logprobs == "on" else (*numbers, None)


async def _store_style(store: Store, endpoint: str | None, model: str, style: Style, verdict: StyleVerdict) -> None:
    name = verdict_name(endpoint, model)
    before = store.get_verdict(name) or {}
    styles = _styles(before)
    if styles.get(style) != verdict.document():
        await store.put_verdict(name, {**before, "styles": {**styles, style: verdict.document()}})


def _styles(document: Mapping[str, Any]) -> dict[str, Any]:
    styles = document.get("styles")
    return dict(styles) if isinstance(styles, dict) else {}


def _read(document: Mapping[str, Any], style: Style) -> StyleVerdict | None:
    entry = _styles(document).get(style)
    if not isinstance(entry, dict):
        return None
    logprobs, temperature, unusable = entry.get("logprobs"), entry.get("temperature"), entry.get("unusable")
    if logprobs not in (*TOP_LOGPROBS[style], None) or temperature not in ("sent", "omit"):
        return None
    return StyleVerdict(
        logprobs, temperature, unusable if isinstance(unusable, str) else None, bool(entry.get("probed"))
    )


OLLAMA_ROUTES = ("ollama", "ollama_chat")


def route_warning(model: str) -> str | None:
    """A warning about a route that loses log-probabilities though the endpoint has them, else None.

    >>> route_warning("openai/llama3.2") is None
    True
    """
    route, _, name = model.partition("/")
    if route not in OLLAMA_ROUTES:
        return None
    return (
        f"the route {route}/ loses log-probabilities, so there is no CCT: ask the same server as "
        f"--model openai/{name} --base-url http://HOST:11434/v1."
    )
