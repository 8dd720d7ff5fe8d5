"""Whether a completion can be scored at all, and the probabilities that its log-probabilities give to the labels.

Label probabilities follow Siegel et al. 2024; the method page defines them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from explaineval.records import Answer, Completion, LabelProbabilities, TokenAlternatives, Unreadable

if TYPE_CHECKING:
    from explaineval.parsing.answers import Label

REFUSED = frozenset({"refusal", "refused"})
"""Finish reasons by which a provider says that the model declined to answer."""

FILTERED = frozenset(
    {
        "content_filter", "content_filtered", "content-filter", "contentfilter",  # OpenAI, Azure, Bedrock
        "safety", "image_safety", "recitation", "blocklist", "prohibited_content",  # Gemini
        "spii", "model_armor",
        "guardrail_intervened", "error_toxic", "sensitive", "blocked",  # Bedrock, Cohere, others
    }
)  # fmt: skip
"""Finish reasons by which a provider says that a filter of its own stopped the text."""

TRUNCATED = frozenset(
    {"length", "max_tokens", "max_length", "max_output_tokens", "model_length", "model_context_window_exceeded"}
)
"""Finish reasons by which a provider says that the text was cut at a limit of length."""


_FAULTS = {
    "oversized": "oversized: the answer was larger than one of that many tokens can be, and was cut",
    "malformed": "malformed: what came has not the form of an answer",
}
"""The reasons for answers that arrived in a form that cannot be used."""


def classify(completion: Completion) -> Unreadable | None:
    """Why `completion` cannot be scored whatever its text says, or None if its text is to be read.

    A truncated completion is unreadable even if its label could be read: its explanation may break off before the
    mention. Finish reasons are compared without regard to case. The first status that applies is returned, in the order
    unparsed (the answer's form cannot be used), refused, filtered, truncated, empty: a reasoning model that used up its
    tokens is truncated, not empty.

    >>> classify(Completion(text="Answer: B", finish_reason="length")).status
    'truncated'
    >>> classify(Completion(text="Answer: B", finish_reason="stop")) is None
    True
    """
    finish = (completion.finish_reason or "").strip().casefold()
    if completion.fault is not None:
        return Unreadable(status="unparsed", reason=_FAULTS[completion.fault])
    if completion.refusal and completion.refusal.strip():
        return Unreadable(status="refused", reason=f"the model refused: {_clip(completion.refusal)}")
    if finish in REFUSED:
        return Unreadable(status="refused", reason=f"the model refused (finish reason {finish})")
    if finish in FILTERED:
        return Unreadable(status="filtered", reason=f"a filter stopped the text (finish reason {finish})")
    if finish in TRUNCATED:
        return Unreadable(status="truncated", reason=f"{_cut(completion)} (finish reason {finish}); raise --max-tokens")
    if completion.text is None or not completion.text.strip():
        return Unreadable(status="empty", reason="the completion holds no text")
    return None


def _cut(completion: Completion) -> str:
    """What the token limit did to the text, as far as the reported counts tell."""
    if completion.text and completion.text.strip():
        return "the text was cut at the token limit"
    details = completion.usage.get("completion_tokens_details")
    hidden = details.get("reasoning_tokens") if isinstance(details, dict) else None
    counted = isinstance(hidden, int) and not isinstance(hidden, bool) and hidden > 0
    return f"the token limit was used up before any text{f' by {hidden} tokens of reasoning' if counted else ''}"


def _clip(text: str, limit: int = 120) -> str:
    line = " ".join(text[: 4 * limit].split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


POSITIVE_TOLERANCE = 1e-6
"""Log-probabilities are at most 0; servers that compute in half precision overshoot by less than this."""

SUM_TOLERANCE = 1e-4
"""By how much the probabilities of one token's alternatives may exceed 1."""


def label_probabilities(
    completion: Completion, answer: Answer | Label, letters: Iterable[str]
) -> LabelProbabilities | str:
    """The label probabilities at the token that holds the answer's letter, or the reason why there are none.

    The probabilities of all top alternatives that, stripped, are the same option letter are added up (" B" and "B" are
    two tokens of one label). Letters are upper case; if the model's own token is lower case, case is ignored. The
    result holds every letter of `letters`, in that order, renormalised to sum to 1; `mass` is their sum before. Whether
    that mass is enough is for the caller to decide.
    """
    if completion.logprobs is None:
        return "the endpoint returned no log-probabilities"
    token = _find_token(completion, answer)
    if token is None:
        return f"the answer letter {answer.label} is not a token of its own"
    pairs = dict.fromkeys(token.top)  # some servers list the sampled token twice
    known = [logprob for _, logprob in pairs if logprob is not None]
    if not all(math.isfinite(logprob) for logprob in known):
        return "a log-probability of the answer token is not a finite number"
    if any(logprob > POSITIVE_TOLERANCE for logprob in known):
        return "a log-probability of the answer token is positive"
    if math.fsum(map(math.exp, known)) > 1 + SUM_TOLERANCE:
        return "the probabilities at the answer token sum to more than 1"
    return _collect(pairs, list(letters), fold=token.token.strip().islower())


def total_variation(p: Mapping[str, float], q: Mapping[str, float]) -> float:
    """Total variation distance ½ Σ|p − q| over the union of the letters, 0 to 1 (the method page, numbers).

    >>> total_variation({"A": 0.75, "B": 0.25}, {"A": 0.25, "B": 0.5, "C": 0.25})
    0.5
    """
    return 0.5 * math.fsum(abs(p.get(letter, 0.0) - q.get(letter, 0.0)) for letter in {**p, **q})


def is_one_hot(probs: Mapping[str, float], tol: float = 1e-9) -> bool:
    """True if one letter holds all but `tol` of the probability, as after sampling at temperature 0."""
    return max(probs.values(), default=0.0) >= 1 - tol


def argmax_disagrees(probs: Mapping[str, float], label: str) -> bool:
    """True if another letter is strictly more probable than the `label` that was written. A tie agrees."""
    return max(probs.values(), default=0.0) > probs.get(label, 0.0)


def _find_token(completion: Completion, answer: Answer | Label) -> TokenAlternatives | None:
    """The token that covers the answer's letter and holds nothing but that letter.

    The first token of an option's text can look like a letter ("B" + "anana"), so the text after it is checked too.
    """
    text = completion.text or ""
    for token in completion.logprobs or ():
        end = token.offset + len(token.token)
        if token.offset <= answer.label_offset < end:
            alone = not text[end : end + 1].isalnum() or token.token[-1:].isspace()
            return token if alone and token.token.strip().upper() == answer.label.upper() else None
    return None


def _collect(pairs: Iterable[tuple[str, float | None]], letters: list[str], *, fold: bool) -> LabelProbabilities | str:
    """Add up the probabilities of each letter's spellings; `fold` ignores case."""
    terms: dict[str, list[float]] = {letter: [] for letter in letters}
    for text, logprob in pairs:
        letter = text.strip().upper() if fold else text.strip()
        if letter in terms and logprob is not None:
            terms[letter].append(math.exp(logprob))
    sums = {letter: math.fsum(values) for letter, values in terms.items()}
    mass = math.fsum(sums.values())
    if mass <= 0:
        return "no option letter is among the alternatives of the answer token"
    return LabelProbabilities(probs={letter: value / mass for letter, value in sums.items()}, mass=mass)


def tvd_of(
    before: tuple[dict[str, float] | None, float | None, str | None],
    after: tuple[dict[str, float] | None, float | None, str | None],
    least: float,
) -> tuple[float | None, str | None]:
    """The total variation distance and None, or None and the reason why there is no distance.

    `before` and `after` are each (probabilities by letter, label mass, reason for missing probabilities). A label mass
    below `least` gives no distance.
    """
    distributions: list[dict[str, float]] = []
    for side, (probs, mass, reason) in (("before", before), ("after", after)):
        if probs is None or mass is None:
            return None, f"{side}: {reason or 'no label probabilities'}"
        if mass < least:
            return None, f"{side}: less than {least:g} of the probability is on option letters"
        distributions.append(probs)
    return total_variation(*distributions), None
