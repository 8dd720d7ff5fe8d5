"""The plan: every request of a run, known before the first is sent, built lazily one example at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from explaineval.client import Capabilities
from explaineval.config import Arm, ModelConfig, RunConfig, arms_for
from explaineval.datasets import Task
from explaineval.interventions import apply
from explaineval.mentions import already_present
from explaineval.prompts import PromptBook
from explaineval.records import Example, Intervention, Request

STOPS = ("\n\n",)
"""What ends a completion-style answer: the blank line between shots."""


@dataclass(frozen=True)
class Asked:
    """One intervention of a unit: the edited field, and the request, unless the insertion was there before."""

    intervention: Intervention
    text_after: str
    request: Request | None


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

    @property
    def planned(self) -> int:
        """Requests before dedupe: every trial needs an answer before and one after."""
        return 2 * (sum(one.request is not None for one in self.asked) + len(self.shams))

    @property
    def size(self) -> int:
        """Requests after dedupe within the unit."""
        return 1 + sum(one.request is not None for one in self.asked) + len(self.shams)


@dataclass(frozen=True)
class RequestBuilder:
    """Turns an example with perhaps edited fields into the request of one model and arm."""

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
    ) -> Request:
        """The request; nothing else than what is given here or configured can change its key."""
        rendered = self.prompts.render(
            example,
            fields,
            style=self.arm.style,
            order=self.arm.order,
            shape=self.task.shape,
            shots=self.shots,
            verbosity=self.arm.verbosity,
        )
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

    @property
    def shots(self) -> Sequence[Example]:
        """The last shots of the task's reserve: fewer shots are a part of more."""
        return self.task.shots[len(self.task.shots) - self.arm.shots :]

    def fixed_text(self, example: Example) -> str:
        """All that stands in the prompt beside the example's own fields and options."""
        parts = [self.prompts.instruction(example, self.task.shape)]
        parts.append(self.prompts.level(self.arm.style, self.arm.verbosity))
        for shot in self.shots:
            parts += [*shot.fields.values(), *shot.options.values(), shot.explanation or ""]
        return "\n".join(parts)


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
        able = capabilities(arm)
        builder = RequestBuilder(config, prompts, model, arm, task)
        for example in (task.examples[number] for number in numbers):
            fixed = builder.fixed_text(example)
            own = "\n".join((*example.fields.values(), *example.options.values()))
            for sample in range(config.samples):
                yield _unit(builder, able, example, edits.get((task.name, example.id), ()), sample, (fixed, own))


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
    def request(fields: Mapping[str, str], index: int) -> Request:
        return builder.build(example, fields, able.logprobs, able.temperature, index)

    fixed, own = texts
    asked = []
    for one in interventions:
        after = apply(example, one)
        there = _fixed_present(one.inserted, fixed) or already_present(one.inserted, (own,))
        fields = {**example.fields, one.field or "": after}
        asked.append(Asked(one, after, None if there else request(fields, sample)))
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
    )
