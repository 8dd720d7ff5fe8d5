"""The plan: every request of a run, known before the first is sent, built lazily one example at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from explaineval.client import Capabilities
from explaineval.config import Arm, ModelConfig, RunConfig, arms_for
from explaineval.datasets import Task
from explaineval.experiment.builders import RequestBuilder
from explaineval.experiment.mentionings import phrases_of
from explaineval.interventions import NULL_EDIT, apply
from explaineval.mentions import already_present
from explaineval.prompts import PromptBook
from explaineval.records import Example, Intervention, Request


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
    if one.field is None or one.kind == NULL_EDIT:
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
