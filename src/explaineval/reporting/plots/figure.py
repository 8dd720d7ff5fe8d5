"""What a figure is: points, lines, axes and the words that go with them. Pure data, which `drawing` draws."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from explaineval.records import SIMULATED_NOTE, SIMULATED_PREFIX, Condition
from explaineval.reporting.results import ComparedRuns
from explaineval.reporting.view import ConditionView, ShownNumber
from explaineval.scoring.metric import Scale
from explaineval.scoring.task_means import MEAN
from explaineval.text import counted, flat, interval_text, joined

Limits = tuple[float, float]

CurveKind = Literal["trend", "frontier_base", "frontier_instruct", "iso_phi", "reference", "chance"]


@dataclass(frozen=True)
class Point:
    """One model under one condition: its two coordinates, and their 95 % limits where they have any.

    `label` names it within the figure. `run` is the name of the run that it comes from. `undefined` says why there is
    no number; its coordinates are then places where that is written. `beside` is what stands beside it where there is
    room, if that is not the label. `shift` says by how many powers of ten its mark is moved along a logarithmic x axis,
    so that points of the same x do not hide each other.
    """

    label: str
    x: float
    y: float
    condition: Condition
    run: str
    x_limits: Limits | None = None
    y_limits: Limits | None = None
    family: str | None = None
    tuned: Literal["instruct", "base"] | None = None
    undefined: str | None = None
    beside: str | None = None
    shift: float = 0.0

    @property
    def drawn_x(self) -> float:
        """Where the mark stands on the x axis."""
        return self.x * 10.0**self.shift if self.shift else self.x

    @property
    def simulated(self) -> bool:
        """Whether it stands for a simulated model, which is no language model."""
        return self.condition.model.startswith(SIMULATED_PREFIX)


@dataclass(frozen=True)
class Series:
    """Points that belong together, in order. `joined` connects them.

    Series with the same `group` (a family, say) share colour and shape and have one entry in the legend; `look` is the
    number of that colour and shape. `group` None has no entry.
    """

    name: str
    points: tuple[Point, ...]
    group: str | None = None
    look: int = 0
    joined: bool = False


@dataclass(frozen=True)
class Curve:
    """A line that is no data: a trend, a frontier, a curve of equal phi, a reference.

    `label` is what stands beside it in the drawing; `look` is the look of the series that it belongs to, if any.
    """

    kind: CurveKind
    name: str
    points: tuple[tuple[float, float], ...]
    label: str = ""
    look: int | None = None


@dataclass(frozen=True)
class Axis:
    """One axis from `low` to `high`, with a logarithmic scale where `log`.

    `ticks` are places and their texts; without any the drawing chooses them.
    """

    title: str
    low: float
    high: float
    log: bool = False
    ticks: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True)
class Figure:
    """One figure.

    `id` is unique among the figures of a report and can stand in file names and HTML. `subject` is shared by figures
    that show the same for other tasks, kinds or levels; `setting` says which in words. `caption` says how to read the
    figure and what is seen, `alt` says it in words for those who do not see it. `notes` say what limits it. A `square`
    figure has axes of the same length. Without `intervals` the limits of its points are not drawn, since they would
    hide the points.
    """

    id: str
    subject: str
    title: str
    setting: str
    caption: str
    alt: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    lines: tuple[Curve, ...] = ()
    notes: tuple[str, ...] = ()
    square: bool = False
    intervals: bool = True

    @property
    def points(self) -> tuple[Point, ...]:
        """All points, series by series."""
        return tuple(point for series in self.series for point in series.points)


@dataclass(frozen=True)
class MissingFigure:
    """A figure that these results do not allow, and in `undefined` the reason, as a clause without a full stop."""

    id: str
    subject: str
    title: str
    undefined: str


LISTED = 12
"""Points that an alternative text lists one by one."""

MOST_WITH_INTERVALS = 30
"""Points whose intervals can be told apart in a plane of two numbers."""

NOT_DRAWN = "With so many points their intervals are not drawn."

FEWEST_TICKS = 3

# XML knows no such characters, not even as escapes; `flat` shows all others that do harm.
_NOT_IN_XML = str.maketrans({"\ufffe": "\ufffd", "\uffff": "\ufffd"})


def crowded(points: Sequence[Point]) -> tuple[str, ...]:
    """Return a note that the intervals of these points are not drawn; none where they can be told apart."""
    return (NOT_DRAWN,) if len(points) > MOST_WITH_INTERVALS else ()


def xs_of(points: Iterable[Point]) -> list[float]:
    """Return the x coordinates of points with a number, and their limits."""
    return [x for point in points if point.undefined is None for x in (point.x, *(point.x_limits or ()))]


def ys_of(points: Iterable[Point]) -> list[float]:
    """Return the y coordinates of points with a number, and their limits."""
    return [y for point in points if point.undefined is None for y in (point.y, *(point.y_limits or ()))]


def in_few_words(texts: Sequence[str]) -> str:
    """Return texts as one sentence lists them; of more than LISTED the first and the last ones."""
    half = LISTED // 2
    if len(texts) > LISTED:
        texts = [*texts[:half], f"… {len(texts) - 2 * half} more …", *texts[-half:]]
    return "; ".join(texts)


def limits_text(limits: Limits | None) -> str:
    """Return limits in brackets.

    >>> limits_text((0.1, 0.25)), limits_text(None)
    ('[0.10, 0.25]', 'no interval')
    """
    return interval_text(*(limits or (None, None)))


def one_line(text: str) -> str:
    """Return a text on one line, with characters that control or hide something made visible.

    >>> one_line("a\\nb\\x00")
    'a␊b␀'
    """
    return flat(text).translate(_NOT_IN_XML)


def shown(text: str, longest: int = 40) -> str:
    """Return a name on one line, without characters that do harm, and without its middle where it is longer.

    >>> shown("a" * 50 + "z", 9)
    'aaaa…aaaz'
    """
    text = one_line(text)
    if len(text) <= longest:
        return text
    end = (longest - 1) // 2
    return f"{text[: longest - 1 - end]}…{text[-end:]}"


def span(values: Iterable[float], include: Sequence[float] = (), *, room: float = 0.02) -> Limits:
    """Return limits of an axis around all values: multiples of 0.1, with a share of the range as room.

    >>> span([0.22, 0.58], include=[0])
    (-0.1, 0.6)
    """
    everything = [*values, *include]
    low, high = min(everything), max(everything)
    space = room * (high - low)
    return math.floor(round(10 * (low - space), 6)) / 10, math.ceil(round(10 * (high + space), 6)) / 10


def axis_of(title: str, values: Iterable[float], scale: Scale, include: Sequence[float] = ()) -> Axis:
    """Return a linear axis around all values, and not beyond what values of this scale can be."""
    low, high = span(values, include)
    return Axis(
        title, low if scale.low is None else max(low, scale.low), high if scale.high is None else min(high, scale.high)
    )


def log_axis(title: str, values: Sequence[float], text_of: Callable[[float], str]) -> Axis:
    """Return a logarithmic axis around positive values, with ticks at powers of ten, or finer ones on a short axis."""
    room = max(1.5, (max(values) / min(values)) ** 0.12)
    low, high = min(values) / room, max(values) * room
    for digits in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), tuple(map(float, range(1, 10)))):
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        places = [digit * 10.0**decade for decade in decades for digit in digits]
        ticks = tuple((place, text_of(place)) for place in places if low <= place <= high)
        if len(ticks) >= FEWEST_TICKS:
            break
    return Axis(title, low, high, log=True, ticks=ticks)


def simulated_mark(points: Sequence[Point]) -> str | None:
    """Return what a drawing says where it shows simulated models, None where it shows none."""
    simulated = [point for point in points if point.simulated]
    if not simulated:
        return None
    if len(simulated) == len(points):
        return f"All models here are {SIMULATED_NOTE.replace('a language model', 'language models')}."
    return f"simulated/…: {SIMULATED_NOTE}."


MOST_POINTS_NAMED = 10
"""Points with their names beside them; where there are more, the legend names their families."""

LONGEST_NAME = 60
"""Characters of a name in captions, titles of points and alternative texts."""


def point_of(entry: ConditionView, label: str, x: float, y: float) -> Point:
    """Return a point for a condition, still without limits."""
    model = entry.model
    family, tuned = (None, None) if model is None else (model.family, model.tuned)
    return Point(label, x, y, entry.condition, entry.run_name, family=family, tuned=tuned)


@dataclass(frozen=True)
class FigureScope:
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


def setting_of(entry: ConditionView) -> FigureScope:
    """Return what a condition shares with the others of its figure."""
    condition = entry.condition
    return FigureScope(entry.tasks, str(condition.kind), condition.order, condition.verbosity)


def gather_by_policy(results: ComparedRuns, metric: str) -> dict[FigureScope, list[ConditionView]]:
    """Return the rows of one metric by setting, one for each mention policy, judge and channel; the run's own first."""
    gathered = []
    for run in results.runs:
        own = set(run.rows)
        rows = [row for row in (*run.scores.rows, *run.other_policies) if row.metric == metric and row.mention]
        rows.sort(key=lambda row: row not in own)
        gathered += [ConditionView(run.number, row.condition, {metric: ShownNumber(row)}, source=run) for row in rows]
    return by_setting(gathered)


def by_setting(entries: Iterable[ConditionView]) -> dict[FigureScope, list[ConditionView]]:
    """Sort numbers by setting; the mean over tasks comes before the tasks."""
    found: dict[FigureScope, list[ConditionView]] = {}
    for entry in entries:
        found.setdefault(setting_of(entry), []).append(entry)
    return dict(sorted(found.items(), key=lambda item: len(item[0].tasks) == 1))


def headlines(settings: Mapping[FigureScope, list[ConditionView]]) -> dict[FigureScope, list[ConditionView]]:
    """Return the settings without those of single tasks whose mean is among them."""
    averaged = {
        replace(setting, tasks=(task,)) for setting in settings if len(setting.tasks) > 1 for task in setting.tasks
    }
    return {setting: entries for setting, entries in settings.items() if setting not in averaged}


def without_levels(settings: Mapping[FigureScope, list[ConditionView]]) -> dict[FigureScope, list[ConditionView]]:
    """Put the levels of verbosity of a setting together."""
    found: dict[FigureScope, list[ConditionView]] = {}
    for setting, entries in settings.items():
        found.setdefault(replace(setting, verbosity=None), []).extend(entries)
    return found


def describe(setting: FigureScope, all_settings: Iterable[FigureScope]) -> str:
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


def short_names(entries: Iterable[ConditionView]) -> dict[str, str]:
    """Return the names of all models without their provider, if all of them have the same; they stand as keys."""
    names = list(dict.fromkeys(entry.condition.model for entry in entries))
    shared = len({name.partition("/")[0] for name in names}) == 1
    return {name: name.partition("/")[2] if shared and "/" in name else name for name in names}


def labels_of(entries: Sequence[ConditionView], *, levels: bool = False) -> list[str]:
    """Name conditions with no more than tells them apart, with `levels` also by their level of verbosity."""
    names = short_names(entries)
    parts: list[Callable[[ConditionView], str]] = [
        lambda entry: entry.condition.order,
        lambda entry: entry.condition.style,
        lambda entry: counted(entry.condition.shots, "shot"),
        lambda entry: entry.run_name,
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


class FigureStyles:
    """Give each family the same colour and shape in all figures; models without a family get theirs by name.

    With more than MOST_NAMED models without a family, these share one look and stand in no legend.
    """

    MOST_NAMED = 12

    def __init__(self, entries: Sequence[ConditionView]) -> None:
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
