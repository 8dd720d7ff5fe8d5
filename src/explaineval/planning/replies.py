"""Replies to requests, and how they are read as the answers and explanations of an example."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeVar

from explaineval.cache import request_key
from explaineval.client.responses import UNKNOWN, Reasoning, reasoning_of
from explaineval.config import Arm
from explaineval.errors import RequestUnsentError
from explaineval.parsing import (
    Label,
    classify,
    label_probabilities,
    parse,
    parse_explanation,
    parse_label,
)
from explaineval.records import (
    Answer,
    Completion,
    Example,
    LabelProbabilities,
    Order,
    Request,
    Status,
    Style,
    Unreadable,
)

RETRY_SAMPLES = 1000
"""Sample indices from here on are answers asked again because the first could not be scored."""

LONGER = 4
"""How many times the limit of tokens a truncated answer gets when it is asked again."""

T = TypeVar("T")


@dataclass(frozen=True)
class Failure:
    """What stands in place of a completion where a request was rejected, or failed after all retries."""

    status: Status
    reason: str


Dialogue = Generator[Request, Completion | Failure, T]
"""Requests sent one after the other, each perhaps built from the replies so far; what it returns is the result.

RequestUnsentError is thrown into it where a request is not sent.
"""


@dataclass(frozen=True)
class Reply:
    """What came back for one request; the request is another one where the first answer was asked again.

    `explanation` is the reply to the second call where the explanation is asked for in a call of its own.
    """

    request: Request
    result: Completion | Failure
    explanation: Reply | None = None

    @property
    def reasoning(self) -> Reasoning:
        """What came of the model's reasoning."""
        return UNKNOWN if isinstance(self.result, Failure) else reasoning_of(self.result)


@dataclass(frozen=True)
class Reading:
    """One side of a trial as read: a status, and what could be read.

    `key` is that of the call that gave the explanation, `key_answer` that of the answer's own call where there is one.
    `reasoning` is that of the call that gave the answer, `reasoning_explanation` that of the explaining call.
    """

    status: Status
    key: str
    label: str | None = None
    explanation: str | None = None
    probabilities: LabelProbabilities | None = None
    no_probabilities: str | None = None
    key_answer: str | None = None
    reasoning: Reasoning = UNKNOWN
    reasoning_explanation: str | None = None

    @property
    def probs(self) -> dict[str, float] | None:
        """p(label), if the endpoint gave it."""
        return self.probabilities.probs if self.probabilities else None

    @property
    def mass(self) -> float | None:
        """Probability on option letters before renormalisation."""
        return self.probabilities.mass if self.probabilities else None


@lru_cache(maxsize=256)  # an unchanged prompt that is asked again often gets the same text, which takes long to read
def _parse(
    text: str,
    options: tuple[tuple[str, str], ...],
    order: Order,
    style: Style,
    fields: tuple[tuple[str, str], ...],
    said: tuple[str, ...],
) -> Answer | Label | Unreadable:
    if order == "pe2":
        return parse_label(text, dict(options), style, fields=dict(fields), said=said)
    return parse(text, dict(options), order, style, fields=dict(fields), said=said)


@dataclass(frozen=True)
class ReplyReader:
    """Reads the replies to the requests about one input of an example under one arm.

    `no_logprobs` says why the endpoint gives no log-probabilities, where that is known. `fields` are those that the
    prompt showed, edited or not, and `said` is what else it said: no answer where a reply repeats it.
    """

    example: Example
    arm: Arm
    no_logprobs: str | None
    fields: Mapping[str, str]
    said: tuple[str, ...] = ()

    def read(self, reply: Reply) -> Reading:
        """One side of a trial, with the second call where there was one."""
        reading = replace(self.read_answer(reply), reasoning=reply.reasoning)
        if self.arm.order != "pe2":
            return reading
        reading = replace(reading, key_answer=reading.key)
        second, label = reply.explanation, reading.label
        if second is None or label is None:
            return reading
        reading = replace(reading, key=request_key(second.request), reasoning_explanation=second.reasoning.text)
        explanation = self._read_explanation(label, second)
        if isinstance(explanation, str):
            return replace(reading, explanation=explanation)
        return replace(reading, status=explanation.status)

    def read_answer(self, reply: Reply) -> Reading:
        """What the call for the answer gave."""
        key = request_key(reply.request)
        if isinstance(reply.result, Failure):
            return Reading(reply.result.status, key)
        unreadable = classify(reply.result)
        if unreadable is not None:
            return Reading(unreadable.status, key)
        options = self.example.options
        answer = _parse(
            reply.result.text or "",
            tuple(options.items()),
            self.arm.order,
            self.arm.style,
            tuple(self.fields.items()),
            self.said,
        )
        if isinstance(answer, Unreadable):
            return Reading(answer.status, key)
        reading = Reading("ok", key, answer.label, answer.explanation if isinstance(answer, Answer) else None)
        if reply.request.logprobs is None:
            return replace(reading, no_probabilities=self.no_logprobs or "logprobs were not asked for")
        probabilities = label_probabilities(reply.result, answer, tuple(options))
        if isinstance(probabilities, str):
            return replace(reading, no_probabilities=probabilities)
        return replace(reading, probabilities=probabilities)

    def _read_explanation(self, label: str, reply: Reply) -> str | Unreadable | Failure:
        if isinstance(reply.result, Failure):
            return reply.result
        unreadable = classify(reply.result)
        if unreadable is not None:
            return unreadable
        text, options = reply.result.text or "", self.example.options
        return parse_explanation(text, label, options, self.arm.style, fields=self.fields, said=self.said)

    def ask(self, request: Request, retry: Collection[str], label: str | None = None) -> Dialogue[Reply]:
        """Send a request, and once more where the reply has a status in `retry`; without a second one the first counts.

        With a `label` the request asks to explain that answer. Raises RequestUnsentError where it is not sent at all.
        """
        reply = Reply(request, (yield request))
        if not retry or isinstance(reply.result, Failure) or request.sample >= RETRY_SAMPLES:
            return reply
        status: Status
        if label is None:
            status = self.read_answer(reply).status
        else:
            explanation = self._read_explanation(label, reply)
            status = "ok" if isinstance(explanation, str) else explanation.status
        if status not in retry:
            return reply
        limit = request.max_tokens * (LONGER if status == "truncated" else 1)
        again = request.model_copy(update={"sample": RETRY_SAMPLES + request.sample, "max_tokens": limit})
        try:
            return Reply(again, (yield again))
        except RequestUnsentError:
            return reply
