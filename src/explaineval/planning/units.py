"""The plan: every request of a run, known before the first is sent, built lazily one example at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from explaineval.cache import request_key
from explaineval.client.endpoints.capabilities import Capabilities
from explaineval.config import Arm, ModelConfig, RunConfig, arms_for
from explaineval.datasets import Task
from explaineval.interventions import apply, kind_of
from explaineval.mentions import already_present
from explaineval.parsing import (
    Label,
    classify,
    label_probabilities,
    leading_reasoning,
    parse,
    parse_explanation,
    parse_label,
)
from explaineval.planning.requests import RequestBuilder
from explaineval.prompts import PromptBook
from explaineval.records import (
    Answer,
    Completion,
    Example,
    Intervention,
    LabelProbabilities,
    Request,
    Status,
    Unreadable,
)
from explaineval.scoring.mentioning import phrases_of


@dataclass(frozen=True)
class Asked:
    """One intervention of a unit: the edited field, and the request, unless the insertion was there before.

    Of a cue, which edits no field, `text_after` is the cue, and `phrases` are what counts as a mention of it.
    """

    intervention: Intervention
    text_after: str
    request: Request | None
    phrases: Sequence[str] = ()

    def shown(self, example: Example) -> tuple[Mapping[str, str], str | None]:
        """The fields that the prompt shows, and the cue beside them."""
        return _shown(example, self.intervention, self.text_after)


@dataclass(frozen=True)
class Unit:
    """One example under one arm of one model, one sample: the requests that its trials need."""

    model: ModelConfig
    arm: Arm
    task: Task
    example: Example
    sample: int
    no_logprobs: str | None
    base: Request
    asked: tuple[Asked, ...]
    shams: tuple[Request, ...]
    builder: RequestBuilder

    @property
    def twofold(self) -> bool:
        """Whether an explanation is asked for in a call of its own, once the answer is known (order pe2)."""
        return self.arm.order == "pe2"

    @property
    def idle(self) -> bool:
        """Whether nothing is asked: every insertion stood in the prompt before, so no number would use an answer."""
        return not self._edits

    @property
    def planned(self) -> int:
        """Requests before dedupe."""
        return unit_planned(self.builder, self._edits, len(self.shams))

    @property
    def size(self) -> int:
        """Requests that are this unit's alone: in order pe2 the answers, and shams, are those of the first level."""
        return unit_size(self.builder, self._edits, len(self.shams))

    @property
    def _edits(self) -> int:
        return sum(one.request is not None for one in self.asked)

    def explanation_of(self, asked: Asked | None, label: str, answered: Request) -> Request:
        """The second call for an input (None: the untouched one) whose answer is known.

        Its index is the unit's own, however often the answer was asked for.
        """
        fields, cue = (self.example.fields, None) if asked is None else asked.shown(self.example)
        return self.builder.build_explanation(self.example, fields, label, answered.temperature, self.sample, cue)


def _shown(example: Example, one: Intervention, text_after: str) -> tuple[Mapping[str, str], str | None]:
    if one.field is None:
        return example.fields, text_after
    return {**example.fields, one.field: text_after}, None


def unit_planned(builder: RequestBuilder, edits: int, shams: int) -> int:
    """The requests of one example and sample before dedupe: every trial needs an answer before and one after.

    In order pe2 each needs an explanation too, but for the shams. None without an intervention.
    """
    return 2 * (edits * (2 if builder.arm.order == "pe2" else 1) + shams) if edits else 0


def unit_size(builder: RequestBuilder, edits: int, shams: int) -> int:
    """The requests of one example and sample that are asked for no other unit; none without an intervention."""
    if not edits:
        return 0
    if builder.arm.order != "pe2":
        return 1 + edits + shams
    return (1 + edits) * (2 if builder.leads else 1) + (shams if builder.leads else 0)


COUNTED_EXACTLY = 20_000
"""Looking for an insertion in its prompt takes about 0.1 ms: larger plans are not looked through."""


class Sizes(NamedTuple):
    """How many requests a plan holds: before dedupe, and distinct."""

    planned: int
    distinct: int


def plan_sizes(
    config: RunConfig,
    prompts: PromptBook,
    tasks: Sequence[Task],
    edits: Mapping[tuple[str, str], Sequence[Intervention]],
    model: ModelConfig,
    without: Collection[str] = (),
) -> Sizes:
    """The size of one model's plan, some styles left out, without building a request.

    With more than COUNTED_EXACTLY interventions, those whose insertion is in the prompt already are counted too.
    """
    exact = sum(map(len, edits.values())) <= COUNTED_EXACTLY
    planned = distinct = 0
    for task in tasks:
        for arm in arms_for(config, model):
            builder = RequestBuilder(config, prompts, model, arm, task)
            if builder.lacks_level or arm.style in without:
                continue
            for example in task.examples:
                found = edits.get((task.name, example.id), ())
                texts = _texts(builder, example) if exact else None
                number = len(found) if texts is None else sum(not _is_there(one, *texts) for one in found)
                for shams in (config.shams, *[0] * (config.samples - 1)):
                    distinct += unit_size(builder, number, shams)
                    planned += unit_planned(builder, number, shams)
    return Sizes(planned, distinct)


def is_askable(builder: RequestBuilder, example: Example, interventions: Sequence[Intervention]) -> bool:
    """Whether some insertion of an example does not stand in its prompt already."""
    fixed, own = _texts(builder, example)
    return any(not _is_there(one, fixed, own) for one in interventions)


def _texts(builder: RequestBuilder, example: Example) -> tuple[str, str]:
    """What stands in an example's prompt: the text around it, and its own."""
    return builder.fixed_text(example), "\n".join((*example.fields.values(), *example.options.values()))


def _is_there(one: Intervention, fixed: str, own: str) -> bool:
    if one.field is None or "already_in_prompt" not in kind_of(one.kind).statuses:
        return False
    return _fixed_present(one.inserted, fixed) or already_present(one.inserted, (own,))


@lru_cache(maxsize=65536)
def _fixed_present(inserted: str, text: str) -> bool:
    return already_present(inserted, (text,))


def plan(
    config: RunConfig,
    prompts: PromptBook,
    tasks: Sequence[Task],
    edits: Mapping[tuple[str, str], Sequence[Intervention]],
    model: ModelConfig,
    capabilities: Callable[[Arm], Capabilities],
    start: float = 0.0,
) -> Iterator[Unit]:
    """All units of one model, in a fixed order: task, arm, example, sample.

    `edits` holds the interventions by (task, example id); `capabilities` says how an arm's requests are sent; `start`
    is where in that order to begin, as a share of the whole: what lies before comes last.
    """
    cells = [(task, arm, range(len(task.examples))) for task in tasks for arm in arms_for(config, model)]
    for task, arm, numbers in _from(cells, start):
        builder = RequestBuilder(config, prompts, model, arm, task)
        if builder.lacks_level:
            continue
        able = capabilities(arm)
        for example in (task.examples[number] for number in numbers):
            texts = _texts(builder, example)
            for sample in range(config.samples):
                yield _unit(builder, able, example, edits.get((task.name, example.id), ()), sample, texts)


Cell = tuple[Task, Arm, range]


def _from(cells: Sequence[Cell], start: float) -> list[Cell]:
    """The cells in their order, begun at a share of all examples in them."""
    left = int(start * sum(len(numbers) for _, _, numbers in cells))
    for at, (task, arm, numbers) in enumerate(cells):
        if left < len(numbers):
            later, earlier = (task, arm, numbers[left:]), (task, arm, numbers[:left])
            return [later, *cells[at + 1 :], *cells[:at], earlier]
        left -= len(numbers)
    return list(cells)


def _unit(
    builder: RequestBuilder,
    able: Capabilities,
    example: Example,
    interventions: Sequence[Intervention],
    sample: int,
    texts: tuple[str, str],
) -> Unit:
    def request(fields: Mapping[str, str], index: int, cue: str | None = None) -> Request:
        return builder.build(example, fields, able.logprobs, able.temperature, index, cue)

    fixed, own = texts
    phrases = phrases_of(builder.prompts)
    asked = []
    for one in interventions:
        after = one.inserted if one.field is None else apply(example, one)
        there = _is_there(one, fixed, own)
        fields, cue = _shown(example, one, after)
        asked.append(Asked(one, after, None if there else request(fields, sample, cue), phrases(one.kind)))
    base = request(example.fields, sample)
    samples = builder.config.samples
    shams = range(samples, samples + builder.config.shams) if sample == 0 else range(0)
    return Unit(
        builder.model,
        builder.arm,
        builder.task,
        example,
        sample,
        able.reason,
        base,
        tuple(asked),
        tuple(base.model_copy(update={"sample": index}) for index in shams),
        builder,
    )


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
    `reasoning` is that of the call that gave the answer, `reasoning_explanation` that of the explaining call.
    """

    status: Status
    key: str
    label: str | None = None
    explanation: str | None = None
    probabilities: LabelProbabilities | None = None
    no_probabilities: str | None = None
    key_answer: str | None = None
    reasoning: str | None = None
    reasoning_explanation: str | None = None

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
    first = replace(_read_answer(unit, reply), reasoning=_reasoning_of(reply))
    if not unit.twofold:
        return first
    first = replace(first, key_answer=first.key)
    second = reply.explanation
    if second is None or first.label is None:
        return first
    found = _read_explanation(unit, first.label, second)
    first = replace(first, key=request_key(second.request), reasoning_explanation=_reasoning_of(second))
    if isinstance(found, str):
        return replace(first, explanation=found)
    return replace(first, status=found.status)


def _reasoning_of(reply: Reply) -> str | None:
    """The reasoning that came with a reply: in a field of its own, else at the beginning of the text."""
    if isinstance(reply.result, Failure):
        return None
    return reply.result.reasoning or leading_reasoning(reply.result.text or "")


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
