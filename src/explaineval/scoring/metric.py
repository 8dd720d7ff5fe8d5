"""What a metric is, as a value: what it means, how it is computed, where it is shown and what limits it.

`explaineval.scoring.registry` is the table of such values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Literal, NamedTuple, TypeVar

from explaineval.metrics.estimates import IntArray, Interval, no_value
from explaineval.records import Estimate
from explaineval.scoring import checks
from explaineval.scoring.checks import Check, Needs, Remark
from explaineval.scoring.codes import Finding
from explaineval.scoring.counts import ArmCounts, KindCounts, Subset
from explaineval.scoring.predictions import PredictionCounts
from explaineval.scoring.shared import Paired
from explaineval.scoring.verbosity import LevelCounts
from explaineval.signature import Dependency

Counts = TypeVar("Counts")


class Cell(NamedTuple):
    """How a table shows a metric; `reporting` decides where."""

    heading: str
    interval: bool = False
    digits: int = 3
    if_measured: bool = False
    """Whether it is shown only where some row has it."""
    remark: str = ""


class Scale(NamedTuple):
    """The values that a metric can take, and how the page and figures write and draw them.

    `nothing` is the value that stands for no relation at all.
    """

    low: float | None = None
    high: float | None = None
    nothing: float | None = None
    percent: bool = False
    digits: int = 2


OPEN = Scale()
CORRELATION = Scale(-1.0, 1.0, nothing=0.0)
AREA = Scale(0.0, 1.0, nothing=0.5)
SHARE = Scale(0.0, 1.0, percent=True, digits=1)
GAIN = Scale(high=1.0, nothing=0.0)

View = Literal["screen", "results", "noise", "missing", "more"]
"""Where a metric is seen beside the tables: the first screen, and the parts of the page that show numbers: what was
found, noise, missing trials, and all others."""


@dataclass(frozen=True, kw_only=True)
class Metric(Generic[Counts]):
    """One metric. Use KindMetric, ArmMetric or LevelMetric, which say what its rows are about."""

    name: str
    title: str
    """What sentences call it."""
    definition: str
    """One or two plain sentences; the first one stands in the legend of the table."""
    source: str = "this project"
    pitfall: str
    """What would make it wrong or misread, in one sentence."""
    compute: Callable[[Counts], Estimate]
    applies: Callable[[Counts], bool] = lambda _: True
    """Whether these counts have a row of this metric."""
    depends: frozenset[Dependency]
    """What its signature covers beside what is in every signature."""
    averaged: bool = True
    """Whether it has a mean over tasks."""
    undefined_if_not_asked: bool = False
    """Whether an arm that was not asked gets a row that says so."""
    has_interval: bool = True
    needs: Needs = checks.NO_NEEDS
    rests_on: tuple[str, str] | None = None
    """Where the number of examples decides how good the interval is: the code of a warning, and what they have."""
    cell: Cell | None = None
    """How the table of conditions shows it; None where it does not."""
    level_cell: Cell | None = None
    """How the table of verbosity levels shows it."""
    paired: Paired | None = None
    """How `compare` compares it; None where it does not."""
    always_warned: bool = False
    """Whether its warnings stand under the table although the table does not show it."""
    scale: Scale = OPEN
    paper_cell: Cell | None = None
    """How the tables for papers (LaTeX, Markdown) show it."""
    better: Literal["higher", "lower"] | None = None
    """Which values are better; None where it describes a model without being better or worse."""
    views: tuple[View, ...] = ("more",)
    """Where else it is seen."""
    own_kind: str | None = None
    """The kind of intervention whose trials it is computed from, and that stands in its rows: one that measures
    noise."""


@dataclass(frozen=True, kw_only=True)
class KindMetric(Metric[KindCounts]):
    """A metric of one kind of intervention under one arm."""

    depends: frozenset[Dependency] = frozenset({"kind", "mention"})
    needs: Needs = checks.MENTIONS_OF_BOTH
    trials: Subset = "all"
    """The trials that it rests on."""
    missing: Literal["left out", "bounded", "included", "measured"] = "left out"
    """How it treats missing trials: it has bounds over them, includes them as bounds do, or is their share."""
    limited_by_noise: bool = True
    """Whether answers that change by themselves limit it."""
    checks: tuple[Check, ...] = ()
    remark: Remark | None = None


@dataclass(frozen=True, kw_only=True)
class ArmMetric(Metric[ArmCounts]):
    """A metric of an arm, whatever the kind of intervention."""

    outcomes: Callable[[ArmCounts], IntArray]
    """The counts (examples, 3) that it is the rate of: hits, scored, missing."""
    missing: str
    """What the missing ones are, in words that follow "these"."""


@dataclass(frozen=True, kw_only=True)
class LevelMetric(Metric[LevelCounts]):
    """A metric of several verbosity levels together; the verbosity of its rows is None."""

    depends: frozenset[Dependency] = frozenset({"kind", "mention"})
    needs: Needs = checks.MENTIONS_OF_BOTH
    checks: tuple[Callable[[LevelCounts], Iterator[Finding]], ...] = ()


@dataclass(frozen=True, kw_only=True)
class PredictionMetric(Metric[PredictionCounts]):
    """A metric of what one predictor, or a panel of them, said of the trials; `judge` names it in its rows."""

    depends: frozenset[Dependency] = frozenset({"kind"})
    needs: Needs = checks.NO_NEEDS
    rests_on: tuple[str, str] | None = ("few_examples", "a predicted trial")
    control: bool = False
    """Whether it rests on predictions with explanations of other examples."""


def of_tables(
    function: Callable[[IntArray, Interval], Estimate], trials: Subset = "all"
) -> Callable[[KindCounts], Estimate]:
    """Compute a metric from the tables (examples, 4) of some of the trials."""
    return lambda counts: function(counts.subset(trials), counts.interval)


ONE_HOT = "every label distribution is one-hot (probabilities after temperature?)"
"""Why a number made of label probabilities is undefined where these are no distributions."""


def of_probabilities(compute: Callable[[KindCounts], Estimate]) -> Callable[[KindCounts], Estimate]:
    """Compute a metric of label probabilities, undefined where the run has none that are distributions."""

    def checked(counts: KindCounts) -> Estimate:
        if not counts.with_tvd and counts.common_reason is not None:
            return no_value(counts.common_reason)
        if counts.with_tvd and not counts.is_graded:
            return no_value(ONE_HOT, counts.with_tvd)
        return compute(counts)

    return checked


def of_permutations(function: Callable[..., Estimate]) -> Callable[[KindCounts], Estimate]:
    """Compute a metric that permutes mentions at random."""
    return lambda counts: function(counts.tables, seed=counts.config.seed)
