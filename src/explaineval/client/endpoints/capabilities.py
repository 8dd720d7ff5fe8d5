"""How requests to an endpoint are sent: what `probe` found, else what the first real request shows.

One document for each (endpoint, model) is kept beside the answers, so that a rerun asks under the same keys. An
endpoint that ignores the wish for logprobs is still sent it by `run`, if no probe came first: the key stays one, and
nothing is asked twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from explaineval.cache import Store, verdict_name
from explaineval.client.protocol import Client
from explaineval.config import ModelConfig, RunConfig
from explaineval.errors import EndpointError, RequestRejectedError, TransientError
from explaineval.records import Completion, Request, Style
from explaineval.rundir.schema import LogprobsState

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


LADDERS: dict[Style, tuple[int, ...]] = {"chat": (20, 5, 1), "completion": (5, 1)}
"""How many top alternatives to ask for, in the order of trying."""


REASONS: dict[LogprobsState, str] = {
    "ignored": "the endpoint returned no log-probabilities",
    "rejected": "the endpoint rejects requests for logprobs",
    "off": "logprobs were switched off (--logprobs off)",
}


ROUTE_LOSES = "litellm's route to this provider takes no wish for logprobs"


@dataclass(frozen=True)
class Capabilities:
    """How every request of one (endpoint, model, style) is sent. `found` is the probe's sentence on bad logprobs."""

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
    """What is known of one style. `unusable` says why its logprobs are not worth asking for; only a probe can tell."""

    logprobs: int | None
    temperature: Literal["sent", "omit"]
    unusable: str | None = None
    probed: bool = False

    def document(self) -> dict[str, Any]:
        """As it is stored."""
        return {
            "logprobs": self.logprobs,
            "temperature": self.temperature,
            "unusable": self.unusable,
            "probed": self.probed,
        }


def stored_probe(store: Store, endpoint: str | None, model: str) -> dict[str, Any] | None:
    """The last probe's document, with the time it was made under `probed`; None where there was no probe."""
    found = store.get_verdict(verdict_name(endpoint, model)) or {}
    probe = found.get("probe")
    return probe if isinstance(probe, dict) else None


def style_verdict(store: Store, endpoint: str | None, model: str, style: Style) -> StyleVerdict | None:
    """What is known of one style, None where nothing readable is stored."""
    return _read(store.get_verdict(verdict_name(endpoint, model)) or {}, style)


async def store_probe(
    store: Store, endpoint: str | None, model: str, probe: Mapping[str, Any], styles: Mapping[Style, StyleVerdict]
) -> None:
    """Keep a probe's document and its verdicts until the next probe.

    Where nothing comes back for a wish that is taken, an earlier run's wish stays: its paid answers stand under it.
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
    store: Store | None, config: RunConfig, model: ModelConfig, style: Style
) -> tuple[Capabilities, bool]:
    """How this style would be sent, without asking: as the stored verdict says, else as most endpoints take it.

    The second value tells whether there is a verdict, or none is needed.
    """
    known = None if store is None else style_verdict(store, model.endpoint, model.model, style)
    temperature = None if config.temperature == "omit" else (config.temperature or 0.0)
    if config.temperature is None and known is not None and known.temperature == "omit":
        temperature = None
    logprobs = _rungs(config, style, known)[0]
    state: LogprobsState = "off" if config.logprobs == "off" else "rejected" if logprobs is None else "returned"
    found = None
    if known is not None and known.unusable and config.logprobs == "auto":
        state, found = _told(known)
    settled = known is not None or (config.logprobs == "off" and config.temperature is not None)
    return Capabilities(logprobs, temperature, state, found), settled


async def determine_capabilities(
    client: Client, store: Store, config: RunConfig, style: Style, build: Build, *, keep: bool = True
) -> Capabilities:
    """How this style is sent, confirmed by one real request. `build(logprobs, temperature)` makes the request.

    `keep` stores what was found out, unless a probe did before. Raises EndpointError where the endpoint cannot be used
    at all, RequestUnsentError where it was not asked.
    """
    temperature = None if config.temperature == "omit" else (config.temperature or 0.0)
    first = build(None, temperature)
    known = style_verdict(store, first.endpoint, first.model, style)
    free = config.temperature is None
    if free and known is not None and known.temperature == "omit":
        temperature = None
    try:
        found = await negotiate(client, _rungs(config, style, known), temperature, may_omit=free, build=build)
    except RequestRejectedError as exc:
        hint = "; with --logprobs on this cannot be mended" if config.logprobs == "on" else ""
        raise EndpointError(f"{exc}{hint}.") from exc
    except TransientError as exc:
        raise EndpointError(f"{exc}; is it running and reachable? `explaineval probe` tells more.") from exc
    if config.logprobs == "off":
        return Capabilities(None, found.temperature, "off")
    if keep and (known is None or not known.probed):
        sent: Literal["sent", "omit"] = "sent" if found.temperature is not None else "omit"
        if not free:
            sent = known.temperature if known is not None else "sent"
        lost = ROUTE_LOSES if found.refused_unsent else known.unusable if known is not None else None
        await _store_style(store, first.endpoint, first.model, style, StyleVerdict(found.logprobs, sent, lost))
    if known is not None and known.unusable and config.logprobs == "auto":
        return Capabilities(found.logprobs, found.temperature, *_told(known))
    if found.logprobs is None:
        return Capabilities(None, found.temperature, "rejected", ROUTE_LOSES if found.refused_unsent else None)
    returned = found.completion.logprobs is not None
    return Capabilities(found.logprobs, found.temperature, "returned" if returned else "ignored")


def _told(known: StyleVerdict) -> tuple[LogprobsState, str]:
    """The state that a verdict against logprobs stands for, and its sentence."""
    assert known.unusable is not None  # noqa: S101 - asked only where there is one
    if not known.probed:  # the route's own word, kept from an earlier run
        return "rejected", known.unusable
    return "ignored" if known.unusable in REASONS.values() else "unusable", f"{known.unusable} (found by probe)"


def _rungs(config: RunConfig, style: Style, known: StyleVerdict | None) -> tuple[int | None, ...]:
    ladder = LADDERS[style]
    if config.logprobs == "off":
        return (None,)
    if known is not None and known.logprobs is not None:
        ladder = tuple(rung for rung in ladder if rung <= known.logprobs)
    elif known is not None and config.logprobs == "auto":
        return (None,)
    return ladder if config.logprobs == "on" else (*ladder, None)


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
    if logprobs not in (*LADDERS[style], None) or temperature not in ("sent", "omit"):
        return None
    return StyleVerdict(
        logprobs, temperature, unusable if isinstance(unusable, str) else None, bool(entry.get("probed"))
    )


OLLAMA_ROUTES = ("ollama", "ollama_chat")


def route_warning(model: str) -> str | None:
    """What to say of a route that loses log-probabilities though the endpoint has them.

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
