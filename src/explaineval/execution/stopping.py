"""Stop asking where phi-CCT is known precisely enough: `run --until-half-width W`.

Examples are asked in looks of LOOK. After each look all models wait for each other, and a part of the plan (one task
under one order, style and number of shots, with all its verbosity levels and kinds of intervention) is asked no further
where the interval of phi-CCT has at most the half width W in every condition of every model. Whether it is depends on
the answers alone, not on when they came, so the same answers stop a run at the same place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from explaineval.config import LOOK, ModelConfig
from explaineval.execution.model_run import ReadabilityCheck
from explaineval.interventions import counts_for_phi
from explaineval.metrics.precision import is_precise
from explaineval.planning.interventions import kinds_in
from explaineval.planning.prepare import Prepared
from explaineval.planning.requests import RequestBuilder
from explaineval.planning.units import PlanPart, builders, part_of
from explaineval.records import Condition
from explaineval.rundir.schema import Stop
from explaineval.scoring.codes import Note, note
from explaineval.scoring.counts import interval_of
from explaineval.scoring.live import LiveCounts
from explaineval.text import counted


class AskedModel(Protocol):
    """One model of a run, as far as a look at its numbers needs it."""

    model: ModelConfig
    readability: ReadabilityCheck
    live: LiveCounts


@dataclass
class Looks:
    """The looks of a run: which examples are asked next, and which parts of the plan are precise enough.

    A model that cannot go on (its endpoint is unusable, its money is spent, an answer is missing offline) leaves, and
    no longer decides; the others go on without it.
    """

    prepared: Prepared
    wanted: float
    members: list[AskedModel] = field(default_factory=list, init=False)
    """The models that go on."""
    number: int = 0
    """How many looks there were."""
    stopped: dict[PlanPart, int] = field(default_factory=dict)
    """After how many examples the parts that are precise enough stopped."""
    _waiting: list[AskedModel] = field(default_factory=list)
    _next: asyncio.Event = field(default_factory=asyncio.Event)

    def next_examples(self, builder: RequestBuilder) -> range:
        """Return the indices of the examples to ask before the next look; none where a part has stopped or ended."""
        available = len(builder.task.examples)
        if part_of(builder) in self.stopped:
            return range(0)
        return range(min(available, LOOK * self.number), min(available, LOOK * (self.number + 1)))

    def has_more(self, model_run: AskedModel) -> bool:
        """Say whether there is anything left to ask a model."""
        return any(self.next_examples(builder) for builder in builders(self.prepared, model_run.model))

    async def look(self, model_run: AskedModel) -> None:
        """Wait until all models have come to the next look."""
        self._waiting.append(model_run)
        event = self._next
        self._look_if_all_wait()
        await event.wait()

    def join(self, model_run: AskedModel) -> None:
        """Let a model decide too; all join before the first look."""
        self.members.append(model_run)

    def leave(self, model_run: AskedModel) -> None:
        """Let the others go on without a model."""
        self.members = [member for member in self.members if member is not model_run]
        self._look_if_all_wait()

    def stops(self) -> tuple[Stop, ...]:
        """Return for each part of the plan how many of its examples were to be asked."""
        parts = {
            part_of(builder): len(builder.task.examples)
            for model in self.prepared.config.models
            for builder in builders(self.prepared, model)
        }
        return tuple(
            Stop(**part._asdict(), examples=self.stopped.get(part, available), available=available,
                 precise=part in self.stopped)
            for part, available in parts.items()
        )  # fmt: skip

    def _look_if_all_wait(self) -> None:
        if not self.members or len(self._waiting) < len(self.members):
            return
        self.number += 1
        asked: dict[PlanPart, list[bool]] = {}
        for model_run in self.members:
            for builder in builders(self.prepared, model_run.model):
                if model_run.readability.is_stopped(builder.arm):
                    continue  # nothing more is asked there
                if len(builder.task.examples) > LOOK * self.number or part_of(builder) in self.stopped:
                    asked.setdefault(part_of(builder), []).append(self._is_precise(model_run, builder))
        for part, precise in asked.items():
            if all(precise):
                self.stopped.setdefault(part, LOOK * self.number)
        self._waiting = []
        event, self._next = self._next, asyncio.Event()
        event.set()

    def _is_precise(self, model_run: AskedModel, builder: RequestBuilder) -> bool:
        """Say whether phi-CCT of every kind of a model's condition is precise enough; not where there is no kind."""
        conditions = list(self._conditions(model_run, builder))
        interval = interval_of(self.prepared.config)
        for condition in conditions:
            tables = model_run.live.tables.get(str(condition.kind))
            cells = None if tables is None else tables.of(condition)
            if cells is None or not is_precise(cells, self.wanted, interval):
                return False
        return bool(conditions)

    def _conditions(self, model_run: AskedModel, builder: RequestBuilder) -> Iterator[Condition]:
        """Yield the conditions in which phi-CCT counts: not the controls of cues, nor what measures noise."""
        for name in self._kinds[builder.task.name]:
            yield builder.arm.condition(model_run.model, builder.task.name)._replace(kind=name)

    @cached_property
    def _kinds(self) -> dict[str, list[str]]:
        """The kinds of intervention by task whose phi-CCT counts."""
        found: dict[str, set[str]] = {task.name: set() for task in self.prepared.tasks}
        for task, kind, _ in kinds_in(self.prepared.chosen.edits):
            found.setdefault(task, set()).add(kind)
        return {task: [name for name in sorted(names) if counts_for_phi(name)] for task, names in sorted(found.items())}


def stop_notes(stops: tuple[Stop, ...], wanted: float) -> Iterator[Note]:
    """Say where asking stopped, and where it went to the end without the wanted precision."""
    for stop in stops:
        where = f"{stop.task}, {stop.style} with {counted(stop.shots, 'shot')}, order {stop.order}"
        if stop.precise:
            yield note(
                "stopped_early",
                where=where,
                asked=f"{stop.examples:,}",
                available=counted(stop.available, "example"),
                wanted=f"{wanted:g}",
            )
        else:
            available = counted(stop.available, "example", "were")
            yield note("not_precise", where=where, available=available, wanted=f"{wanted:g}")
