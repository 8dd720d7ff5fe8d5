"""Gather the numbers of runs by condition, for figures: which model, from which run, how it is called."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from explaineval.config import ModelConfig
from explaineval.interventions import kind_of
from explaineval.records import Condition, MetricRow
from explaineval.reporting.plots.figure import Limits, Point, Series
from explaineval.reporting.plots.words import shown
from explaineval.reporting.results import Results, RunResults
from explaineval.scoring.task_means import MEAN
from explaineval.text import counted, joined

MOST_POINTS_NAMED = 10
"""Points with their names beside them; where there are more, the legend names their families."""

LONGEST_NAME = 60
"""Characters of a name in captions, titles of points and alternative texts."""


@dataclass(frozen=True)
class Numbers:
    """The metric rows of one condition of one run by name, those of its arm (accuracy) included."""

    run: RunResults
    condition: Condition
    rows: Mapping[str, MetricRow]

    @property
    def model(self) -> ModelConfig | None:
        """What the configuration says of the model."""
        return self.run.model(self.condition.endpoint, self.condition.model)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that the numbers rest on: one, or all of the run for the mean."""
        return tuple(self.run.record.facts.tasks) if self.condition.task == MEAN else (self.condition.task,)

    def value(self, metric: str) -> float | None:
        """Return the value of a metric, None where it is undefined or not there."""
        row = self.rows.get(metric)
        return None if row is None else row.value

    def limits(self, metric: str) -> Limits | None:
        """Return the limits of a metric, None where it has none."""
        row = self.rows.get(metric)
        return None if row is None or row.low is None or row.high is None else (row.low, row.high)

    def point(self, label: str, x: float, y: float) -> Point:
        """Return a point for this condition, still without limits."""
        model = self.model
        family, tuned = (None, None) if model is None else (model.family, model.tuned)
        return Point(label, x, y, self.condition, self.run.name, family=family, tuned=tuned)


@dataclass(frozen=True)
class Setting:
    """What all points of a figure share: tasks (several for their mean), kind, order, and level of verbosity."""

    tasks: tuple[str, ...]
    kind: str
    order: str
    verbosity: str | None

    @property
    def task(self) -> str:
        """The name of the task in rows."""
        return self.tasks[0] if len(self.tasks) == 1 else MEAN

    def parts(self) -> tuple[str, ...]:
        """Return the task or tasks, the kind, the order and the level as texts; empty where it is over all levels."""
        return (joined([shown(task) for task in self.tasks]), shown(self.kind), self.order, self.verbosity or "")


def setting_of(entry: Numbers) -> Setting:
    """Return what a condition shares with the others of its figure."""
    condition = entry.condition
    return Setting(entry.tasks, str(condition.kind), condition.order, condition.verbosity)


def gather(results: Results) -> list[Numbers]:
    """Return the numbers of all conditions that are about insertions, run by run in the order of their rows.

    Conditions over several levels of verbosity have verbosity None.
    """
    gathered = []
    for run in results.runs:
        by_condition: dict[Condition, dict[str, MetricRow]] = {}
        for row in run.rows:
            by_condition.setdefault(row.condition.without_mention, {})[row.metric] = row
        for condition, rows in by_condition.items():
            if condition.kind is not None and not kind_of(condition.kind).measures_noise:
                gathered.append(Numbers(run, condition, {**by_condition.get(condition.arm, {}), **rows}))
    return gathered


def gather_by_policy(results: Results, metric: str) -> dict[Setting, list[Numbers]]:
    """Return the rows of one metric by setting, one for each mention policy, judge and channel; the run's own first."""
    gathered = []
    for run in results.runs:
        own = set(run.rows)
        rows = [row for row in (*run.scores.rows, *run.other_policies) if row.metric == metric and row.mention]
        rows.sort(key=lambda row: row not in own)
        gathered += [Numbers(run, row.condition, {metric: row}) for row in rows]
    return by_setting(gathered)


def by_setting(entries: Iterable[Numbers]) -> dict[Setting, list[Numbers]]:
    """Sort numbers by setting; the mean over tasks comes before the tasks."""
    found: dict[Setting, list[Numbers]] = {}
    for entry in entries:
        found.setdefault(setting_of(entry), []).append(entry)
    return dict(sorted(found.items(), key=lambda item: len(item[0].tasks) == 1))


def headlines(settings: Mapping[Setting, list[Numbers]]) -> dict[Setting, list[Numbers]]:
    """Return the settings without those of single tasks whose mean is among them."""
    averaged = {
        replace(setting, tasks=(task,)) for setting in settings if len(setting.tasks) > 1 for task in setting.tasks
    }
    return {setting: entries for setting, entries in settings.items() if setting not in averaged}


def without_levels(settings: Mapping[Setting, list[Numbers]]) -> dict[Setting, list[Numbers]]:
    """Put the levels of verbosity of a setting together."""
    found: dict[Setting, list[Numbers]] = {}
    for setting, entries in settings.items():
        found.setdefault(replace(setting, verbosity=None), []).extend(entries)
    return found


def describe(setting: Setting, all_settings: Iterable[Setting]) -> str:
    """Return a setting in words: the task, and of the rest what is not the same in all settings of the report."""
    everything = list(all_settings)
    texts = []
    for number, text in enumerate(setting.parts()):
        if text and (number == 0 or len({other.parts()[number] for other in everything} - {""}) > 1):
            texts.append(text)
    if len(setting.tasks) > 1:
        texts[0] = f"mean over {texts[0]}"
    return ", ".join(texts)


def slug(text: str) -> str:
    """Return a text as it can stand in file names and HTML ids.

    >>> slug("cue user: <b>")
    'cue-user-b'
    """
    return re.sub("[^a-z0-9_]+", "-", text.lower()).strip("-")[:40]


def short_names(entries: Iterable[Numbers]) -> dict[str, str]:
    """Return the names of all models without their provider, if all of them have the same; they stand as keys."""
    names = list(dict.fromkeys(entry.condition.model for entry in entries))
    shared = len({name.partition("/")[0] for name in names}) == 1
    return {name: name.partition("/")[2] if shared and "/" in name else name for name in names}


def labels_of(entries: Sequence[Numbers], *, levels: bool = False) -> list[str]:
    """Name conditions with no more than tells them apart, with `levels` also by their level of verbosity."""
    names = short_names(entries)
    parts: list[Callable[[Numbers], str]] = [
        lambda entry: entry.condition.order,
        lambda entry: entry.condition.style,
        lambda entry: counted(entry.condition.shots, "shot"),
        lambda entry: entry.run.name,
        lambda entry: f"at {entry.condition.endpoint or 'the default endpoint'}",
    ]
    if levels:
        parts.insert(0, lambda entry: entry.condition.verbosity or "all levels")
    labels = []
    for entry in entries:
        label = names[entry.condition.model]
        same = [other for other in entries if other.condition.model == entry.condition.model]
        for part in parts:
            alike = [other for other in same if part(other) == part(entry)]
            if len(alike) < len(same):
                label, same = f"{label}, {part(entry)}", alike
        labels.append(shown(label, LONGEST_NAME))
    return labels


class Looks:
    """Give each family the same colour and shape in all figures; models without a family get theirs by name.

    With more than MOST_NAMED models without a family, these share one look and stand in no legend.
    """

    MOST_NAMED = 12

    def __init__(self, entries: Sequence[Numbers]) -> None:
        models = {entry.condition.model: entry.model for entry in entries}
        families = dict.fromkeys(model.family for model in models.values() if model is not None and model.family)
        others = [name for name, model in models.items() if model is None or not model.family]
        self._looks = {name: number for number, name in enumerate([*families, *others])}
        self._named = len(others) <= self.MOST_NAMED
        self._names = short_names(entries)
        self._rest = len(families)

    def notes(self, points: Sequence[Point]) -> list[str]:
        """Say where points cannot be told apart."""
        alike = [point for point in points if self.of(point)[0] is None]
        if len(alike) <= MOST_POINTS_NAMED:
            return []
        return [
            f"{counted(len(alike), 'point', 'look')} alike, since the configuration names no `family` for their models."
        ]

    def of(self, point: Point) -> tuple[str | None, int]:
        """Return the group of a point, which stands in the legend, and its look."""
        if point.family:
            return point.family, self._looks[point.family]
        if self._named:
            return self._names[point.condition.model], self._looks[point.condition.model]
        return None, self._rest

    def series(self, points: Sequence[Point]) -> list[Series]:
        """Return points as series: one for each family and tuning, joined in order, or model without a family."""
        found: dict[tuple[str | None, int, str | None], list[Point]] = {}
        for point in points:
            found.setdefault((*self.of(point), point.tuned), []).append(point)
        return [
            Series(", ".join(filter(None, (group or "others", tuned))), tuple(members), group, look)
            for (group, look, tuned), members in sorted(found.items(), key=lambda item: (item[0][1], item[0][2] or ""))
        ]
