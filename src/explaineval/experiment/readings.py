"""What came back for a request, and how it is read as one side of a trial. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from explaineval.cache import request_key
from explaineval.experiment.plans import Asked, Unit
from explaineval.parsing import Label, classify, label_probabilities, parse, parse_explanation, parse_label
from explaineval.records import Answer, Completion, LabelProbabilities, Request, Status, Unreadable

RETRY_SAMPLES = 1000
"""Sample indices from here on are answers asked again because the first could not be scored."""

LONGER = 4
"""How many times the limit of tokens a truncated answer gets when it is asked again."""


@dataclass(frozen=True)
class Failure:
    """A request without completion that still makes a trial line: rejected, or failed after all retries."""

    status: Status
    reason: str


@dataclass(frozen=True)
class Reply:
    """What came back for one request of a unit; the request is another one where the first answer was asked again.

    `explanation` is the reply to the second call where the explanation is asked for in a call of its own.
    """

    request: Request
    result: Completion | Failure
    explanation: Reply | None = None


@dataclass(frozen=True)
class Reading:
    """One side of a trial as read: a status, and what could be read.

    `key` is that of the call that gave the explanation, `key_answer` that of the answer's own call where there is one.
    """

    status: Status
    key: str
    label: str | None = None
    explanation: str | None = None
    probabilities: LabelProbabilities | None = None
    no_probabilities: str | None = None
    key_answer: str | None = None

    @property
    def probs(self) -> dict[str, float] | None:
        """p(label), if the endpoint gave it."""
        return self.probabilities.probs if self.probabilities else None

    @property
    def mass(self) -> float | None:
        """Probability on option letters before renormalisation."""
        return self.probabilities.mass if self.probabilities else None


def read(unit: Unit, reply: Reply) -> Reading:
    """Read what came back as an answer of this unit's example, with the second call where there was one."""
    first = _read_answer(unit, reply)
    if not unit.twofold:
        return first
    first = replace(first, key_answer=first.key)
    second = reply.explanation
    if second is None or first.label is None:
        return first
    key = request_key(second.request)
    found = _read_explanation(unit, first.label, second)
    if isinstance(found, str):
        return replace(first, key=key, explanation=found)
    return replace(first, status=found.status, key=key)


def explanation_request(unit: Unit, asked: Asked | None, reply: Reply) -> Request | None:
    """The second call for a reply (`asked` None: of the untouched input); None where none is wanted or possible."""
    if not unit.twofold:
        return None
    label = _read_answer(unit, reply).label
    return None if label is None else unit.explanation_of(asked, label, reply.request)


def ask_again(unit: Unit, reply: Reply, retry: Collection[str], label: str | None = None) -> Request | None:
    """The request that asks once more for an answer with one of these statuses; None where it is not wanted.

    With a `label` the reply is one to the second call, which was given that answer.
    """
    if not retry or isinstance(reply.result, Failure) or reply.request.sample >= RETRY_SAMPLES:
        return None
    if label is None:
        status: Status = _read_answer(unit, reply).status
    else:
        found = _read_explanation(unit, label, reply)
        status = "ok" if isinstance(found, str) else found.status
    if status not in retry:
        return None
    limit = reply.request.max_tokens * (LONGER if status == "truncated" else 1)
    return reply.request.model_copy(update={"sample": RETRY_SAMPLES + reply.request.sample, "max_tokens": limit})


def _read_answer(unit: Unit, reply: Reply) -> Reading:
    request, result = reply.request, reply.result
    key = request_key(request)
    if isinstance(result, Failure):
        return Reading(result.status, key)
    outcome = classify(result)
    if outcome is not None:
        return Reading(outcome.status, key)
    text, options, fields = result.text or "", unit.example.options, tuple(unit.example.fields)
    answer: Answer | Label | Unreadable
    if unit.twofold:
        answer = parse_label(text, options, unit.arm.style, fields=fields)
    else:
        answer = parse(text, options, unit.arm.order, unit.arm.style, fields=fields)
    if isinstance(answer, Unreadable):
        return Reading(answer.status, key)
    explanation = answer.explanation if isinstance(answer, Answer) else None
    if request.logprobs is None:
        why = unit.no_logprobs or "logprobs were not asked for"
        return Reading("ok", key, answer.label, explanation, None, why)
    found = label_probabilities(result, answer, tuple(options))
    if isinstance(found, str):
        return Reading("ok", key, answer.label, explanation, None, found)
    return Reading("ok", key, answer.label, explanation, found, None)


def _read_explanation(unit: Unit, label: str, reply: Reply) -> str | Unreadable | Failure:
    if isinstance(reply.result, Failure):
        return reply.result
    outcome = classify(reply.result)
    if outcome is not None:
        return outcome
    fields = tuple(unit.example.fields)
    return parse_explanation(reply.result.text or "", label, unit.example.options, unit.arm.style, fields=fields)
