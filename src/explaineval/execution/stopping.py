"""Stop asking a model: where phi-CCT is known precisely enough, or where its answers cannot be read.

`run --until-half-width W` asks for examples in looks of LOOK. After each look all models wait for each other, and a
part of the plan (one task under one order, style and number of shots, with all its verbosity levels and kinds of
intervention) is asked no further where the interval of phi-CCT has at most the half width W in every condition of every
model. Whether it is depends on the answers alone, not on when they came, so the same answers stop a run at the same
place.

Of each arm of a model the first CHECKED requests in the order of the plan are looked at to see whether they can be
read, once all of them have come back: which they are does not depend on which came first. An answer that was refused,
filtered, cut off or empty cannot be read either; a request that failed after all retries brought none, and does not
count as unreadable. A request counts once, with what was asked again for it and, in order pe2, with the call that
explains it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from explaineval.client.endpoints.capabilities import Capabilities
from explaineval.config import LOOK, Arm, ModelConfig
from explaineval.interventions import counts_for_phi
from explaineval.metrics.precision import is_precise
from explaineval.planning.notes import unreadable_notes
from explaineval.planning.prepare import Prepared, kinds_in
from explaineval.planning.requests import Failure, Reading, Reply, RequestBuilder
from explaineval.planning.units import PlanPart, Unit, builders, part_of, units_of
from explaineval.records import Condition, Status
from explaineval.rundir.schema import Stop, UnreadableArm
from explaineval.scoring.codes import Note, note
from explaineval.scoring.counts import interval_of
from explaineval.scoring.live import LiveCounts
from explaineval.text import counted

CHECKED = 40
"""Requests of each arm that are looked at."""

UNREADABLE: frozenset[Status] = frozenset({"refused", "filtered", "truncated", "empty", "unparsed", "rejected"})

WORTH_TELLING, TOO_MANY = CHECKED // 2, CHECKED * 9 // 10
"""Above how many unreadable answers it is said, and above how many the model is asked no further."""

EXAMPLE_CHARACTERS = 80
"""Characters of an unreadable answer that are shown."""

UnitKey = tuple[Arm, str, str, int]
"""An arm, a task, an example and a sample: what tells the units of one model apart."""


@dataclass
class ArmCheck:
    """The first requests of one arm.

    `places` are the units that they belong to, with the place of each unit's first request in the order of the plan.
    `readings` are the status and the text of each reply so far, by its place. `finding` is what was found, where enough
    of them cannot be read.
    """

    places: dict[UnitKey, int] = field(default_factory=dict)
    requests: int = 0
    readings: dict[int, tuple[Status, str]] = field(default_factory=dict)
    finding: UnreadableArm | None = None

    def find(self, arm: Arm, *, keep: bool) -> UnreadableArm | None:
        """Return what is found once all replies are there; None where nothing is, or was before."""
        if len(self.readings) < CHECKED or self.finding is not None:
            return None
        unread = [self.readings[place] for place in range(CHECKED) if self.readings[place][0] in UNREADABLE]
        if len(unread) <= WORTH_TELLING:
            return None
        self.finding = UnreadableArm(
            **arm.model_dump(),
            checked=CHECKED,
            unreadable=len(unread),
            statuses=dict(Counter(status for status, _ in unread).most_common()),
            example=next((text for _, text in unread if text), ""),
            stopped=not keep and len(unread) > TOO_MANY,
        )
        return self.finding


@dataclass
class ReadabilityCheck:
    """Checks the arms of one model. With `keep` none is stopped; `report` shows a message to the user."""

    model: str
    keep: bool = False
    report: Callable[[str], None] = lambda _: None
    arms: dict[Arm, ArmCheck] = field(default_factory=dict)

    def begin(self, first: Iterable[Unit]) -> None:
        """Take the units that hold the first requests of each arm."""
        for unit in first:
            check = self.arms.setdefault(unit.arm, ArmCheck())
            check.places[_key_of(unit)] = check.requests
            check.requests += len(unit.asked)

    def is_stopped(self, arm: Arm) -> bool:
        """Return whether this arm is asked no further."""
        check = self.arms.get(arm)
        return check is not None and check.finding is not None and check.finding.stopped

    def add(self, unit: Unit, replies: Sequence[Reply | None]) -> None:
        """Take the replies to a unit's requests, and say so where they show that an arm cannot be read."""
        check = self.arms.get(unit.arm)
        place = None if check is None else check.places.pop(_key_of(unit), None)
        if check is None or place is None:
            return
        for number, (variant, reply) in enumerate(zip(unit.asked, replies, strict=True), start=place):
            if reply is not None and number < CHECKED:
                reading = unit.reader(variant).read(reply)
                check.readings[number] = reading.status, _beginning_of(reply, reading)
        finding = check.find(unit.arm, keep=self.keep)
        if finding is not None:
            for told in self.notes([finding]):
                self.report(told.text)

    @property
    def findings(self) -> tuple[UnreadableArm, ...]:
        """The arms of which too much cannot be read, in the order of the plan."""
        return tuple(check.finding for check in self.arms.values() if check.finding is not None)

    def notes(self, findings: Iterable[UnreadableArm]) -> Iterator[Note]:
        """Yield what is said of arms: how much cannot be read, an example, and what to do."""
        return unreadable_notes(self.model, findings, name_arms=len(self.arms) > 1)


def first_units(prepared: Prepared, model: ModelConfig, sent_as: Callable[[Arm], Capabilities | None]) -> list[Unit]:
    """Return the units that hold the first CHECKED requests of each arm of a model, in the order of the plan.

    `sent_as` says how an arm's requests are sent; an arm of which that is not known has none.
    """
    found: list[Unit] = []
    counts: Counter[Arm] = Counter()
    for builder in builders(prepared, model):
        capabilities = sent_as(builder.arm)
        if capabilities is None or counts[builder.arm] >= CHECKED:
            continue
        for unit in units_of(prepared, builder, capabilities):
            found.append(unit)
            counts[builder.arm] += len(unit.asked)
            if counts[builder.arm] >= CHECKED:
                break
    return found


def beginning_with(first: Sequence[Unit], units: Iterable[Unit]) -> Iterator[Unit]:
    """Yield these units first, then the others of `units`."""
    yield from first
    keys = set(map(_key_of, first))
    yield from (unit for unit in units if _key_of(unit) not in keys)


def _key_of(unit: Unit) -> UnitKey:
    return unit.arm, unit.task.name, unit.example.id, unit.sample


def _beginning_of(reply: Reply, reading: Reading) -> str:
    """Return the beginning of what could not be read: in order pe2 of the explanation where the answer could."""
    last = reply.explanation if reading.label is not None and reply.explanation is not None else reply
    text = last.result.reason if isinstance(last.result, Failure) else last.result.text or ""
    text = " ".join(text.split())
    return text if len(text) <= EXAMPLE_CHARACTERS else text[:EXAMPLE_CHARACTERS] + "…"


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
