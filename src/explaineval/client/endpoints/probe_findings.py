"""Judge what a probe received: whether log-probabilities are usable, and whether a model reasons first. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from explaineval.client.endpoints.capabilities import REASONS, StyleVerdict
from explaineval.client.reasoning import reasoning_of
from explaineval.cost import reasoning_tokens, reasons_first
from explaineval.parsing.completions import POSITIVE_TOLERANCE, SUM_TOLERANCE
from explaineval.parsing.text import find_reasoning
from explaineval.records import Completion, ReasoningReturned, Style, TokenAlternatives
from explaineval.text import counted

ONE_HOT = 1e-9
"""Probability left for all other tokens, below which a token's distribution is a certainty."""

FEWEST_POSITIONS = 3
"""Tokens that must carry the very same numbers before they count as constant."""


@dataclass(frozen=True)
class Judgement:
    """Whether log-probabilities are usable (None: not known), why not, and how many alternatives came back."""

    usable: bool | None
    reason: str | None
    returned: int | None = None


def judge_logprobs(asked: int | None, answers: Sequence[tuple[Completion, Mapping[str, Any]]]) -> Judgement:
    """Judge the answers (each with its raw body, if seen) to requests for `asked` top alternatives.

    Usable: at the token of the answer's letter, several alternatives, finite, at most 0, together at most 1, neither
    all the same, nor a certainty every time, nor the same at every token.
    """
    if asked is None:
        return Judgement(False, REASONS["rejected"])
    if all(completion.logprobs is None for completion, _ in answers):
        return Judgement(False, REASONS["ignored"], 0)
    lettered = [completion for completion, _ in answers if written_letter(completion.text) is not None]
    if not lettered:
        return Judgement(None, "not told: the model wrote no answer letter whose log-probabilities could be read")
    tokens = [token for completion in lettered if (token := _answer_token(completion)) is not None]
    if not tokens:
        return Judgement(False, "there are log-probabilities, but none for the answer's letter as a token of its own")
    returned = max(len({name for name, _ in token.top}) for token in tokens)
    reason = next(filter(None, map(_problem_of, tokens)), None)
    if reason is None and all(_is_certain(token) for token in tokens):
        reason = "the log-probabilities are one-hot (all probability on one token): no distribution"
    if reason is None and _is_constant([body for _, body in answers]):
        reason = "the log-probabilities are the same at every token"
    return Judgement(reason is None, reason, returned)


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


UNKNOWN = Judgement(None, "not told: no answer came")


@dataclass
class StyleFinding:
    """What is known of one style; None is not known. `why` says why it does not work, or why that is not known."""

    works: bool | None = None
    why: str | None = None
    asked: int | None = None
    logprobs: Judgement = UNKNOWN
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
