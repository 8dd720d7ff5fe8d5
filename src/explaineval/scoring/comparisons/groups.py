"""Sort models, arms and runs into groups of systems that are compared with each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from explaineval.scoring.registry import F_AUROC, PHI_CCT
from explaineval.scoring.shared import System
from explaineval.text import counted

By = Literal["model", "arm", "run"]

PRIMARY, PRIMARY_OVER_LEVELS = PHI_CCT, F_AUROC
"""The metrics whose families are primary, of single arms and over levels of verbosity."""

ASKED_ONCE = "pe2"
"""The order in which levels of verbosity explain one and the same answer: only then are areas compared."""

PARTS = ("endpoint", "model", "order", "style", "shots", "verbosity")


@dataclass(frozen=True)
class Group:
    """Systems that are compared with each other, all under the same conditions but for what is compared.

    `names` are the systems' names in rows and sentences. `levels` are the levels of verbosity that are compared
    together; empty where each system is one arm. `confounded` names what else differs between the systems.
    """

    by: By
    systems: tuple[System, ...]
    names: tuple[str, ...]
    levels: tuple[str, ...] = ()
    confounded: tuple[str, ...] = ()

    @property
    def fixed(self) -> dict[str, str | int | None]:
        """The parts of the condition that all systems share; None for those that differ."""
        parts: dict[str, str | int | None] = {}
        for part in PARTS:
            values = {getattr(system, part) for system in self.systems}
            parts[part] = values.pop() if len(values) == 1 else None
        return parts

    @property
    def primary_metric(self) -> str:
        """The metric whose family is primary."""
        return PRIMARY_OVER_LEVELS if self.levels else PRIMARY


def form_groups(systems: Sequence[System], by: By | None, runs: Sequence[str]) -> list[Group]:
    """Sort systems into groups. `runs` are the names of the run directories.

    Without `by` it is what differs: runs where all of them hold the same models and arms, else models, else arms.
    Systems that could be compared only under different styles or shots form a group of their own that is marked as
    confounded. Models that were asked once and explained at several levels of verbosity also form groups over those
    levels. A later run stands before an earlier one, so that a difference is the later minus the earlier; within a run
    the order is that of `systems`.
    """
    chosen = by or _what_differs(systems)
    ordered = sorted(systems, key=lambda system: -system.run)
    groups = _group(ordered, chosen, runs)
    sweeps: dict[System, list[str]] = {}
    for system in ordered:
        if system.order == ASKED_ONCE:
            sweeps.setdefault(system._replace(verbosity=None), []).append(str(system.verbosity))
    for group in _group([system for system, levels in sweeps.items() if len(levels) > 1], chosen, runs):
        first, *others = [sweeps[system] for system in group.systems]
        levels = tuple(level for level in first if all(level in other for other in others))
        if len(levels) > 1:
            groups.append(replace(group, levels=levels))
    return groups


def _group(systems: Sequence[System], by: By, runs: Sequence[str]) -> list[Group]:
    same: Mapping[By, Callable[[System], tuple[object, ...]]] = {
        "model": lambda system: (system.order, system.verbosity, system.style, system.shots),
        "arm": lambda system: (system.run, system.endpoint, system.model),
        "run": lambda system: system[1:],
    }
    found = _by_key(systems, same[by])
    groups = [_make_group(by, members, runs) for members in found if len(members) > 1]
    alone = [members[0] for members in found if len(members) == 1]
    if by == "model":
        others = _by_key(alone, lambda system: (system.order, system.verbosity))
        groups += [_make_group(by, members, runs) for members in others if len(members) > 1]
    return groups


def _make_group(by: By, systems: Sequence[System], runs: Sequence[str]) -> Group:
    differing = tuple(part for part in PARTS[2:] if len({getattr(system, part) for system in systems}) > 1)
    alone = by == "arm" and (len(systems) > 2 or len(differing) < 2)
    return Group(by, tuple(systems), _names(systems, runs), confounded=() if alone else differing)


def _what_differs(systems: Sequence[System]) -> By:
    in_runs = [{system[1:] for system in systems if system.run == run} for run in {system.run for system in systems}]
    if len(in_runs) > 1 and all(arms == in_runs[0] for arms in in_runs):
        return "run"
    if len({(system.endpoint, system.model) for system in systems}) > 1:
        return "model"
    return "arm" if len({system[3:] for system in systems}) > 1 else "run"


def _by_key(systems: Sequence[System], key: Callable[[System], tuple[object, ...]]) -> list[list[System]]:
    found: dict[tuple[object, ...], list[System]] = {}
    for system in systems:
        found.setdefault(key(system), []).append(system)
    return list(found.values())


def _names(systems: Sequence[System], runs: Sequence[str]) -> tuple[str, ...]:
    """Names that tell the systems apart, with no more in them than that needs."""
    parts: list[Callable[[System], str]] = [
        lambda system: system.model,
        lambda system: system.order,
        lambda system: system.style,
        lambda system: counted(system.shots, "shot"),
        lambda system: f"{system.verbosity} verbosity",
        lambda system: runs[system.run],
    ]
    if len({parts[0](system) for system in systems}) == len(systems):
        return tuple(parts[0](system) for system in systems)
    telling = [part for part in parts if len({part(system) for system in systems}) > 1]
    if len({tuple(part(system) for part in telling) for system in systems}) < len(systems):
        telling.append(lambda system: f"at {system.endpoint or 'the default endpoint'}")
    return tuple(", ".join(part(system) for part in telling) for system in systems)
