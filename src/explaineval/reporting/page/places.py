"""Sort the numbers of runs into entries: one for each model, task, kind and arm, named as far as they differ. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from explaineval.interventions import kind_of
from explaineval.records import Condition, MetricRow
from explaineval.reporting.condition_text import by_condition, describe_source, parts_of, split_shared
from explaineval.reporting.results import Results
from explaineval.reporting.view import not_quoted

Place = tuple[int, Condition]
"""The number of a run and a condition in it: what numbers, warnings and missing trials are about."""


@dataclass(frozen=True)
class Entry:
    """One condition of one run with its numbers by metric, those of its arm included.

    `grave` are the metrics of it that must not be quoted as they stand.
    """

    run: int
    condition: Condition
    numbers: Mapping[str, MetricRow]
    grave: frozenset[str]

    @property
    def place(self) -> Place:
        """What it is about."""
        return self.run, self.condition

    @property
    def over_levels(self) -> bool:
        """Whether it is about several levels of verbosity together."""
        return self.condition.verbosity is None


def entries_of(results: Results) -> list[Entry]:
    """Return an entry for each kind of intervention at each level, and over the levels, in the order of the runs."""
    entries = []
    for number, run in enumerate(results.runs):
        conditions = by_condition(run.rows)
        grave = not_quoted(run.scores.headline.warnings)
        arms: dict[Condition, dict[str, MetricRow]] = {}
        grave_in_arms: dict[Condition, set[str]] = {}
        for condition, numbers in conditions.items():
            if not _is_shown(condition):
                arms.setdefault(condition.arm, {}).update(numbers)
                grave_in_arms.setdefault(condition.arm, set()).update(grave.get(condition, ()))
        for condition, numbers in conditions.items():
            if _is_shown(condition):
                marked = grave.get(condition, set()) | grave_in_arms.get(condition.arm, set())
                entries.append(Entry(number, condition, numbers | arms.get(condition.arm, {}), frozenset(marked)))
    return entries


def other_entries(results: Results) -> dict[str, list[Entry]]:
    """Return the numbers that do not stand first by their source in words: other channels, judges, predictors."""
    found: dict[str, dict[Place, dict[str, MetricRow]]] = {}
    for number, run in enumerate(results.runs):
        first = set(map(id, run.rows))
        for row in run.scores.rows:
            if id(row) not in first:
                place = number, row.condition.without_mention
                found.setdefault(source_of(row.condition), {}).setdefault(place, {})[row.metric] = row
    return {
        source: [Entry(run, condition, rows, frozenset()) for (run, condition), rows in places.items()]
        for source, places in found.items()
    }


def source_of(condition: Condition) -> str:
    """Say who or what decided on the mentions, or predicted, in a row that does not stand first."""
    if condition.mention is None:
        return f"predictions of {condition.judge}"
    return f"mentions {describe_source(condition)}"


def _is_shown(condition: Condition) -> bool:
    """Return whether a condition has a row of its own; the numbers of all others hold for a whole arm."""
    return condition.kind is not None and not kind_of(condition.kind).measures_noise


class Names:
    """Names conditions of runs in words, with the run where several runs hold the same."""

    def __init__(self, rows: Iterable[MetricRow], runs: Sequence[str]) -> None:
        """Take the rows of all runs, and the names of the runs in the order in which places count them."""
        every = {row.condition.without_mention: row for row in rows}
        self._rows = list(every.values())  # one of each condition says which models, kinds and levels there are
        self._runs = runs
        self._parts: dict[Condition, list[str]] = {}

    def parts(self, place: Place) -> list[str]:
        """Return the parts of a place's description, the run last where there are several."""
        run, condition = place
        if condition not in self._parts:
            self._parts[condition] = parts_of(condition, self._rows)
        return [*self._parts[condition], *([self._runs[run]] if len(self._runs) > 1 else [])]

    def split(self, places: Sequence[Place]) -> tuple[list[str], list[str]]:
        """Return the parts that all of these share, and the name of each in what is left; the model at least."""
        if not places:
            return [], []
        shared, names = split_shared([self.parts(place) for place in places])
        if len(places) == 1:
            return shared[1:], shared[:1]
        return shared, [name or self.parts(place)[0] for name, place in zip(names, places, strict=True)]
