"""Build the request for one example, perhaps edited, under one arm of one model, and put requests into an order.

Requests that begin with the same text come close together. Servers keep what they have read of recent prompts, and read
of a new prompt only what comes after the longest beginning that they still know (llama.cpp by slots, vLLM by blocks,
hosted providers at a lower price). Two orders are possible:

- Prompts with shots begin with a long text of their arm. Its examples follow each other, so that it stays known.
- Prompts without shots begin with the input, and only their last lines tell the arm. All arms ask about one example
  before the next, so that the input is still known.

The prompts themselves show which of the two holds, so that it holds for the user's own templates too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import chain, islice
from typing import TypeVar

from explaineval.cache import request_key
from explaineval.client.responses import UNKNOWN, Reasoning, reasoning_of
from explaineval.config import Arm, ModelConfig, RunConfig
from explaineval.datasets import Task
from explaineval.errors import RequestUnsentError
from explaineval.interventions import Pattern
from explaineval.parsing import (
    Label,
    classify,
    label_probabilities,
    parse,
    parse_explanation,
    parse_label,
)
from explaineval.prompts import PromptBook
from explaineval.records import (
    Answer,
    Completion,
    Example,
    LabelProbabilities,
    Message,
    Order,
    Request,
    Status,
    Style,
    Unreadable,
)

MOST_FIXED_TEXTS = 16
"""Texts around examples that are remembered: one for each instruction, of which most tasks have a single one."""

STOPS = ("\n\n",)
"""What ends a completion-style answer: the blank line between shots."""


@dataclass(frozen=True)
class RequestBuilder:
    """Builds the requests of one model, arm and task."""

    config: RunConfig
    prompts: PromptBook
    model: ModelConfig
    arm: Arm
    task: Task

    def build(
        self,
        example: Example,
        fields: Mapping[str, str],
        logprobs: int | None,
        temperature: float | None,
        sample: int = 0,
        cue: str | None = None,
        pattern: Pattern | None = None,
    ) -> Request:
        """The request for an answer; nothing else than what is given here or configured can change its key.

        In order pe2 it is the first call, which is the same at every verbosity. `pattern` rearranges the shots.
        """
        shots = self.shots if self.arm.order != "pe2" else self._last(self.task.shots)
        rendered = self.prompts.render(
            example,
            fields,
            style=self.arm.style,
            order=self.arm.order,
            shape=self.task.shape,
            shots=shots if pattern is None else pattern.arrange(shots),
            verbosity=self.arm.verbosity,
            cue=cue,
        )
        return self._request(rendered, logprobs, temperature, sample)

    def build_explanation(
        self,
        example: Example,
        fields: Mapping[str, str],
        label: str,
        temperature: float | None,
        sample: int = 0,
        cue: str | None = None,
        pattern: Pattern | None = None,
    ) -> Request:
        """The second call of order pe2: the answer is given, its explanation asked for."""
        rendered = self.prompts.render_explanation(
            example,
            fields,
            label,
            style=self.arm.style,
            shape=self.task.shape,
            shots=self.shots if pattern is None else pattern.arrange(self.shots),
            verbosity=self.arm.verbosity,
            cue=cue,
        )
        return self._request(rendered, None, temperature, sample)

    def _request(
        self, rendered: tuple[Message, ...] | str, logprobs: int | None, temperature: float | None, sample: int
    ) -> Request:
        chat = not isinstance(rendered, str)
        return Request(
            endpoint=self.model.endpoint,
            model=self.model.model,
            style=self.arm.style,
            messages=rendered if chat else None,
            prompt=None if chat else rendered,
            max_tokens=self.config.max_tokens,
            temperature=temperature,
            stop=() if chat else STOPS,
            logprobs=logprobs,
            params=self.config.params,
            sample=sample,
        )

    @cached_property
    def shots(self) -> Sequence[Example]:
        """The last shots of the task's reserve, with explanations of the arm's verbosity where there are such.

        Fewer shots are a part of more.
        """
        return self._last(self.task.shots_at(self.arm.verbosity) or self.task.shots)

    def _last(self, reserve: Sequence[Example]) -> Sequence[Example]:
        return reserve[len(reserve) - self.arm.shots :]

    @property
    def lacks_level(self) -> bool:
        """Whether the arm's verbosity cannot be asked for: completion style needs shots of that length."""
        shown_by_shots = self.arm.style == "completion" and self.arm.shots > 0
        return shown_by_shots and self.task.shots_at(self.arm.verbosity) is None

    @property
    def is_first_level(self) -> bool:
        """Whether no earlier verbosity of the run can be asked for: in order pe2 its units have the answers."""
        first = next((builder for builder in self._levels if not builder.lacks_level), self)
        return first.arm.verbosity == self.arm.verbosity

    @property
    def _levels(self) -> Iterator[RequestBuilder]:
        for verbosity in self.config.arms.verbosity:
            yield replace(self, arm=self.arm.model_copy(update={"verbosity": verbosity}))

    def said(self, example: Example) -> tuple[str, ...]:
        """What the prompt of an example says beside its input, so that a reply that repeats it is no answer."""
        return self.prompts.said(
            example,
            style=self.arm.style,
            order=self.arm.order,
            shape=self.task.shape,
            verbosity=self.arm.verbosity,
        )

    def fixed_text(self, example: Example) -> str:
        """All that stands in the prompt beside the example's own fields and options."""
        instruction = self.prompts.instruction(example, self.task.shape)
        if instruction not in self._fixed_texts:
            if len(self._fixed_texts) >= MOST_FIXED_TEXTS:
                self._fixed_texts.clear()
            parts = [instruction, self.prompts.level(self.arm.style, self.arm.verbosity)]
            for shot in self.shots:
                parts += [*shot.fields.values(), *shot.options.values(), shot.explanation or ""]
            self._fixed_texts[instruction] = "\n".join(parts)
        return self._fixed_texts[instruction]

    @cached_property
    def _fixed_texts(self) -> dict[str, str]:
        """By instruction, so that the same text is one object, of which caches hold one copy."""
        return {}


Examples = Callable[[RequestBuilder], range]
"""Says which examples of its task a builder's requests are about, by their indices."""


def in_order(
    builders: Iterable[RequestBuilder], examples: Examples, start: float = 0.0
) -> Iterator[tuple[RequestBuilder, int]]:
    """Yield each builder with the index of each of its examples, in the order in which they are to be asked.

    `start` is where in that order to begin, as a share of the whole: what lies before comes last.
    """
    groups = [[(builder, examples(builder)) for builder in group] for group in group_builders(builders)]
    skipped = int(start * sum(len(numbers) for group in groups for _, numbers in group))
    return chain(islice(_pairs(groups), skipped, None), islice(_pairs(groups), skipped))


def group_builders(builders: Iterable[RequestBuilder]) -> list[list[RequestBuilder]]:
    """Group the builders whose prompts about one example share more than what comes before the example.

    Groups stand in the order of their first members.
    """
    groups: list[tuple[str, int, list[RequestBuilder]]] = []
    for builder in builders:
        prompt = _text_of(builder, builder.task.examples[0].fields)
        for text, before_input, members in groups:
            same_task = members[0].task is builder.task and members[0].arm.style == builder.arm.style
            if same_task and shared_length(text, prompt) > before_input:
                members.append(builder)
                break
        else:
            groups.append((prompt, _length_before_input(builder, prompt), [builder]))
    return [members for _, _, members in groups]


def prompt_text(request: Request) -> str:
    """Return all that a request's prompt says, in one text: two of them begin alike as far as their prompts do."""
    if request.prompt is not None:
        return request.prompt
    return "".join(f"{message.role}\n{message.content}\n" for message in request.messages or ())


def shared_length(text: str, other: str) -> int:
    """Return with how many characters both texts begin.

    >>> shared_length("Premise: a dog", "Premise: a cat")
    11
    """
    return next((at for at, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), min(len(text), len(other)))


def _pairs(groups: Sequence[Sequence[tuple[RequestBuilder, range]]]) -> Iterator[tuple[RequestBuilder, int]]:
    for group in groups:
        first = min(numbers.start for _, numbers in group)
        for number in range(first, max(numbers.stop for _, numbers in group)):
            yield from ((builder, number) for builder, numbers in group if number in numbers)


def _text_of(builder: RequestBuilder, fields: Mapping[str, str]) -> str:
    """Return the prompt about the task's first example, with these fields: in order pe2 that of the second call."""
    example: Example = builder.task.examples[0]
    if builder.arm.order == "pe2":
        return prompt_text(builder.build_explanation(example, fields, next(iter(example.options)), None))
    return prompt_text(builder.build(example, fields, None, None))


def _length_before_input(builder: RequestBuilder, prompt: str) -> int:
    """Return how many characters of the prompt about the task's first example are the same whatever its fields say."""
    fields = builder.task.examples[0].fields
    other = {name: ("!" if text.startswith("?") else "?") + text for name, text in fields.items()}
    return shared_length(prompt, _text_of(builder, other))


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
