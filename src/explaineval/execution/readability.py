"""Notice while a run goes that a model's answers cannot be read, and stop asking it there.

Of each arm of a model the first CHECKED requests in the order of the plan are looked at, once all of them have come
back: which they are does not depend on which came first. An answer that was refused, filtered, cut off or empty cannot
be read either; a request that failed after all retries brought none, and does not count as unreadable. A request counts
once, with what was asked again for it and, in order pe2, with the call that explains it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from explaineval.client.endpoints.capabilities import Capabilities
from explaineval.config import Arm, ModelConfig
from explaineval.planning.notes import unreadable_note
from explaineval.planning.prepare import Prepared
from explaineval.planning.replies import Failure, Reading, Reply
from explaineval.planning.units import Unit, builders, units_of
from explaineval.records import Status
from explaineval.rundir.schema import UnreadableArm
from explaineval.scoring.codes import Note

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
            self.report(self.note(finding).text)

    @property
    def findings(self) -> tuple[UnreadableArm, ...]:
        """The arms of which too much cannot be read, in the order of the plan."""
        return tuple(check.finding for check in self.arms.values() if check.finding is not None)

    def note(self, finding: UnreadableArm) -> Note:
        """Return what is said of an arm: how much cannot be read, an example, and what to do."""
        return unreadable_note(self.model, finding, name_arm=len(self.arms) > 1)


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
