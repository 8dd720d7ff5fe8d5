"""How requests to an endpoint are sent: as `probe` found out, else as the first real request shows.

One document for each (endpoint, model) is kept beside the answers, so that a rerun sends the same requests. If no probe
came first, `run` goes on asking for logprobs where an endpoint ignores that: the cache key stays the same, and nothing
is asked twice. `Findings` hold what a probe received, judged: whether log-probabilities are usable, and whether a model
reasons first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

from explaineval.cache import Store, verdict_name
from explaineval.client.protocol import Client
from explaineval.client.responses import reasoning_of
from explaineval.config import ClientConfig, ModelConfig
from explaineval.cost import reasoning_tokens, reasons_first
from explaineval.errors import EndpointError, RequestRejectedError, TransientError
from explaineval.parsing.completions import POSITIVE_TOLERANCE, SUM_TOLERANCE
from explaineval.parsing.text import find_reasoning
from explaineval.records import Completion, ReasoningReturned, Request, Style, TokenAlternatives
from explaineval.rundir.schema import LogprobsState
from explaineval.text import counted


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


ONE_HOT = 1e-9
"""Probability left for all other tokens, below which a token's distribution is a certainty."""

FEWEST_POSITIONS = 3
"""Tokens that must carry the very same numbers before they count as constant."""


@dataclass(frozen=True)
class LogprobsFinding:
    """Whether log-probabilities are usable (None: not known), why not, and how many alternatives came back."""

    usable: bool | None
    reason: str | None
    returned: int | None = None


def judge_logprobs(asked: int | None, answers: Sequence[tuple[Completion, Mapping[str, Any]]]) -> LogprobsFinding:
    """Judge the answers (each with its raw body, if seen) to requests for `asked` top alternatives.

    Usable: at the token of the answer's letter, several alternatives, finite, at most 0, together at most 1, neither
    all the same, nor a certainty every time, nor the same at every token.
    """
    if asked is None:
        return LogprobsFinding(False, REASONS["rejected"])
    if all(completion.logprobs is None for completion, _ in answers):
        return LogprobsFinding(False, REASONS["ignored"], 0)
    lettered = [completion for completion, _ in answers if written_letter(completion.text) is not None]
    if not lettered:
        return LogprobsFinding(None, "not told: the model wrote no answer letter whose log-probabilities could be read")
    tokens = [token for completion in lettered if (token := _answer_token(completion)) is not None]
    if not tokens:
        return LogprobsFinding(
            False, "there are log-probabilities, but none for the answer's letter as a token of its own"
        )
    returned = max(len({name for name, _ in token.top}) for token in tokens)
    reason = next(filter(None, map(_problem_of, tokens)), None)
    if reason is None and all(_is_certain(token) for token in tokens):
        reason = "the log-probabilities are one-hot (all probability on one token): no distribution"
    if reason is None and _is_constant([body for _, body in answers]):
        reason = "the log-probabilities are the same at every token"
    return LogprobsFinding(reason is None, reason, returned)


def written_letter(text: str | None) -> str | None:
    """Return the letter of an answer, read leniently; None where there is none."""
    bare = _without_reasoning(text or "")
    letter = re.search(r"\banswer\b\W*\b([A-D])\b", bare, re.IGNORECASE) or re.search(r"\b([A-D])\b", bare)
    return letter.group(1).upper() if letter else None


def reasoning_evidence(completion: Completion, body: Mapping[str, Any]) -> str | None:
    """Return what shows that the model reasoned before its answer; None where nothing does."""
    if reasons_first(completion.usage):
        return f"{counted(reasoning_tokens(completion.usage), 'reasoning token')} in its usage"
    message = _choice(body).get("message")
    message = message if isinstance(message, Mapping) else {}
    for name in ("reasoning_content", "reasoning"):
        if isinstance(message.get(name), str) and message[name].strip():
            return f"`{name}` before the answer"
    texts = [text for text in (completion.text, message.get("content")) if isinstance(text, str)]
    if any(find_reasoning(text) for text in texts):
        return "marked reasoning, such as <think>, before the answer"
    if not completion.text and completion.refusal is None and completion.finish_reason == "length":
        return "the whole token limit went without a word of answer"
    return None


SHOWN_FIRST: Sequence[ReasoningReturned] = ("summary", "text", "hidden", "absent")
"""What may come of reasoning; the first of them that some answer shows is what the endpoint returns.

Short reasoning does not show that it is a summary.
"""

FIELDS = ("reasoning_content", "reasoning", "reasoning_details")


def reasoning_returned(
    answers: Sequence[tuple[Completion, Mapping[str, Any]]],
) -> tuple[ReasoningReturned | None, str | None]:
    """Return what the endpoint returns of reasoning, and in which field, from answers with their raw bodies."""
    whole = [answer for answer in answers if answer[0].finish_reason != "length"]  # one that was cut shows less
    found = {reasoning_of(completion).returned: (completion, body) for completion, body in reversed(whole or answers)}
    returned = next((kind for kind in SHOWN_FIRST if kind in found), None)
    if returned not in ("text", "summary"):
        return returned, None
    return returned, _place_of_reasoning(*found[returned])


def _place_of_reasoning(completion: Completion, body: Mapping[str, Any]) -> str:
    """Return the name of the field that holds the reasoning in a body, or `text` where tags in the text do."""
    choice, content = _choice(body), body.get("content")
    message = choice.get("message")
    holder = message if isinstance(message, Mapping) else choice
    field_name = next((name for name in FIELDS if holder.get(name)), None)
    if field_name is None and isinstance(content, list):
        types = [block.get("type") for block in content if isinstance(block, Mapping)]
        field_name = "thinking" if "thinking" in types else None
    if field_name is None and isinstance(body.get("candidates"), list):
        field_name = "thought"
    if field_name is not None:
        return field_name
    said = holder.get("content") or holder.get("text")
    if isinstance(said, list):
        return "content"
    return "text" if completion.reasoning is None or isinstance(said, str) else "a field of its own"


def _answer_token(completion: Completion) -> TokenAlternatives | None:
    letter = written_letter(completion.text)
    own = [token for token in completion.logprobs or () if token.token.strip().upper() == letter]
    text = completion.text or ""
    label = re.search(r"\banswer\b\W*", text, re.IGNORECASE)
    after = [token for token in own if label and token.offset + len(token.token) > label.end()]
    return next(iter(after or own), None)


def _problem_of(token: TokenAlternatives) -> str | None:
    values = list(dict(token.top).values())
    finite = [value for value in values if value is not None]
    if len(values) < 2:
        return "only one alternative comes back at the answer's letter"
    if not finite:
        return "no log-probability at the answer's letter is a finite number"
    if max(finite) > POSITIVE_TOLERANCE:
        return "a log-probability at the answer's letter is positive"
    if len(finite) > 1 and len(set(finite)) == 1:
        return "the log-probabilities are the same for every alternative"
    if math.fsum(math.exp(value) for value in finite) > 1 + SUM_TOLERANCE:
        return "the probabilities at the answer's letter sum to more than 1"
    return None


def _is_certain(token: TokenAlternatives) -> bool:
    finite = sorted((value for value in dict(token.top).values() if value is not None), reverse=True)
    return math.fsum(math.exp(value) for value in finite[1:]) <= ONE_HOT and finite[0] >= -ONE_HOT


def _is_constant(bodies: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether all tokens of all raw bodies have the very same log-probabilities."""
    positions = [numbers for body in bodies for numbers in _numbers(_choice(body).get("logprobs"))]
    return len(positions) >= FEWEST_POSITIONS and len(set(positions)) == 1


def _numbers(logprobs: object) -> list[tuple[float | None, ...]]:
    if not isinstance(logprobs, Mapping):
        return []
    content = logprobs.get("content")
    if isinstance(content, list):
        tops = [entry.get("top_logprobs") for entry in content if isinstance(entry, Mapping)]
        rows = [
            [entry.get("logprob") for entry in top if isinstance(entry, Mapping)]
            for top in tops
            if isinstance(top, list)
        ]
    else:
        lists = logprobs.get("top_logprobs")
        rows = [list(top.values()) for top in lists if isinstance(top, Mapping)] if isinstance(lists, list) else []
    return [tuple(value if isinstance(value, (int, float)) else None for value in row) for row in rows]


def _choice(body: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, Mapping) else {}


def _without_reasoning(text: str) -> str:
    for start, end in reversed(find_reasoning(text)):
        text = text[:start] + "\n" + text[end:]
    return text


UNKNOWN = LogprobsFinding(None, "not told: no answer came")


@dataclass
class StyleFinding:
    """What is known of one style; None is not known. `why` says why it does not work, or why that is not known."""

    works: bool | None = None
    why: str | None = None
    asked: int | None = None
    logprobs: LogprobsFinding = UNKNOWN
    temperature_zero: bool | None = None
    stable: bool | None = None
    seed: bool | None = None
    system_role: bool | None = None
    reasoning: str | None = None
    returned: ReasoningReturned | None = None
    """What came of the reasoning, and in which field."""
    reasoning_field: str | None = None
    limit_name: str | None = None
    returned_model: str | None = None
    fingerprint: str | None = None

    @property
    def verdict(self) -> StyleVerdict:
        """Return how `run` should ask in this style."""
        bad = self.logprobs.usable is False
        return StyleVerdict(
            None if bad else self.asked,
            "omit" if self.temperature_zero is False else "sent",
            self.logprobs.reason if bad else None,
            True,
        )


@dataclass
class Findings:
    """What is known of one (endpoint, model). `error` is the sentence where it cannot be used at all."""

    endpoint: str | None
    model: str
    reachable: bool = False
    styles: dict[Style, StyleFinding] = field(default_factory=dict)
    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    usd: float | None = None
    price: tuple[float, float] | None = None
    error: str | None = None

    @property
    def usable(self) -> bool:
        """Return whether the endpoint answers in any style."""
        return any(finding.works for finding in self.styles.values())

    @property
    def main(self) -> StyleFinding:
        """Return the style that the summary is about: chat, or text completion where only that works."""
        chat, text = self.style("chat"), self.style("completion")
        return text if text.works and not chat.works else chat

    def style(self, style: Style) -> StyleFinding:
        """Return the finding on one style, an empty one where it was not asked."""
        return self.styles.get(style, StyleFinding(why=self.error))

    @property
    def verdicts(self) -> Mapping[Style, StyleVerdict]:
        """Return what to store for `run`: the verdicts on styles that work, as far as they are known."""
        return {
            style: finding.verdict
            for style, finding in self.styles.items()
            if finding.works and not (finding.asked is None and finding.logprobs.usable is None)
        }

    @property
    def logprobs_reason(self) -> str | None:
        """Return why there are no usable log-probabilities, in the main style or else in the other."""
        main, text = self.main, self.style("completion")
        if not main.works:
            return f"not told: {self.error or main.why or 'no answer came'}".rstrip(".")
        if main.logprobs.usable is not True:
            return main.logprobs.reason
        if text.works and text.logprobs.usable is not True:
            return f"in completion style: {text.logprobs.reason}"
        return None

    def document(self) -> dict[str, Any]:
        """Return the probe's JSON document."""
        main = self.main
        return {
            "model": self.model,
            "endpoint": self.endpoint,
            "reachable": self.reachable,
            "chat": self.style("chat").works,
            "completion": self.style("completion").works,
            "logprobs": main.logprobs.usable,
            "logprobs_reason": self.logprobs_reason,
            "max_top_logprobs": main.asked if main.logprobs.returned else None,
            "seed": main.seed,
            "stable": main.stable,
            "temperature_zero": main.temperature_zero,
            "token_limit_param": main.limit_name,
            "system_role": main.system_role,
            "reasoning_first": None if not main.works else main.reasoning is not None,
            "reasoning": {"returned": main.returned, "field": main.reasoning_field} if main.works else None,
            "returned_model": main.returned_model,
            "fingerprint": main.fingerprint,
            "price": None if self.price is None else list(self.price),
            "requests": self.requests,
            "usd": self.usd,
        }
