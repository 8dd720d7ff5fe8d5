"""Build the request for one example, perhaps edited, under one arm of one model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from explaineval.config import Arm, ModelConfig, RunConfig
from explaineval.datasets import Task
from explaineval.interventions import Pattern
from explaineval.prompts import PromptBook
from explaineval.records import Example, Message, Request

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
