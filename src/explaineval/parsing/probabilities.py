"""Label probabilities from token log-probabilities (Siegel et al. 2024; the method page)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from explaineval.parsing.answers import Label
from explaineval.records import Answer, Completion, LabelProbabilities, TokenAlternatives

POSITIVE_TOLERANCE = 1e-6
"""Log-probabilities are at most 0; servers that compute in half precision overshoot by less than this."""

SUM_TOLERANCE = 1e-4
"""By how much the probabilities of one token's alternatives may exceed 1."""


def label_probabilities(
    completion: Completion, answer: Answer | Label, letters: Iterable[str]
) -> LabelProbabilities | str:
    """p(label) at the very token that holds the answer's letter, or the reason why there is none.

    The probabilities of all top alternatives that, stripped, are the same option letter are added up (" B"
    and "B" are two tokens of one label). Letters are upper case; if the model's own token is lower case,
    case is ignored. The result holds every letter of `letters`, in that order, renormalised to sum 1;
    `mass` is their sum before. Whether that mass is enough is the caller's decision.
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

    The first token of an option's text may look like a letter ("B" + "anana"), so the text after it counts
    too.
    """
    text = completion.text or ""
    for token in completion.logprobs or ():
        end = token.offset + len(token.token)
        if token.offset <= answer.label_offset < end:
            alone = not text[end : end + 1].isalnum() or token.token[-1:].isspace()
            return token if alone and token.token.strip().upper() == answer.label.upper() else None
    return None


def _collect(pairs: Iterable[tuple[str, float | None]], letters: list[str], *, fold: bool) -> LabelProbabilities | str:
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
    """Return (TVD, None), or (None, the reason why there is none).

    `before` and `after` are each (probabilities by letter, label mass, reason for missing probabilities); a label mass
    below `least` gives no TVD.
    """
    for name, (probs, mass, why) in (("before", before), ("after", after)):
        if probs is None or mass is None:
            return None, f"{name}: {why or 'no label probabilities'}"
        if mass < least:
            return None, f"{name}: less than {least:g} of the probability is on option letters"
    assert before[0] is not None  # noqa: S101 - narrowed above, for the type checker
    assert after[0] is not None  # noqa: S101
    return total_variation(before[0], after[0]), None
