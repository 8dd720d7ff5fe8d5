"""What a metric is, as a value: what it means, how it is computed, where it is shown and what limits it.

`explaineval.scoring.registry` is the table of such values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, Literal, NamedTuple, Protocol, TypeVar

from numpy.typing import ArrayLike

from explaineval.interventions import kind_of
from explaineval.metrics.correlations import phi_by_letter
from explaineval.metrics.estimates import IntArray, Interval, no_value
from explaineval.metrics.rates import flips_per_flipped_example
from explaineval.metrics.reliability import NoiseMargin, inside_example_only, noise_margin
from explaineval.records import Estimate
from explaineval.scoring.codes import Finding, finding
from explaineval.scoring.counts import ArmCounts, KindCounts, Subset
from explaineval.scoring.predictions import PredictionCounts
from explaineval.scoring.shared import Paired
from explaineval.scoring.verbosity import LevelCounts
from explaineval.signature import Dependency
from explaineval.text import UNDEFINED, counted, hits_text, interval_text, number_text, share_text


class Need(NamedTuple):
    """At least `fewest` examples must have something; `having` says how often tables (…, 4) have it."""

    code: str
    fewest: int
    what: str
    having: Callable[[IntArray], IntArray]


class Needs(NamedTuple):
    """What a number needs: of `examples` the scarcest is warned of, of `flips` each one."""

    examples: tuple[Need, ...] = ()
    flips: tuple[Need, ...] = ()


FEWEST_EXAMPLES = 20
FEWEST_FLIPPED = 20
FEWEST_MENTIONED = 8
FEWEST_UNMENTIONED = 8
ENOUGH = 0.9
"""A number that rests on a smaller share than this of the trials that it is about has a warning."""


def changed(tables: IntArray) -> IntArray:
    """Return a + b, the changed answers of tables (…, 4), as (…,)."""
    total: IntArray = tables[..., 0] + tables[..., 1]
    return total


def unchanged(tables: IntArray) -> IntArray:
    """Return c + d, the unchanged answers of tables (…, 4), as (…,)."""
    total: IntArray = tables[..., 2] + tables[..., 3]
    return total


_CHANGED = Need("few_flips", FEWEST_FLIPPED, "a changed answer", changed)
_UNCHANGED = Need("few_unchanged", FEWEST_EXAMPLES, "an unchanged answer", unchanged)
_TO_CUE = _CHANGED._replace(what="an answer that changed to the suggested letter")
_MIXED = Need(
    "few_mixed_examples",
    FEWEST_FLIPPED,
    "both changed and unchanged answers",
    lambda tables: changed(tables) * unchanged(tables),
)
_MENTIONED = Need(
    "few_mentioned_flips",
    FEWEST_MENTIONED,
    "a changed answer whose explanation mentions the insertion",
    lambda tables: tables[..., 0],
)
_UNMENTIONED = Need(
    "few_unmentioned_flips",
    FEWEST_UNMENTIONED,
    "a changed answer whose explanation does not mention the insertion",
    lambda tables: tables[..., 1],
)
_FLIPS = (_MENTIONED, _UNMENTIONED)

NO_NEEDS = Needs()
CHANGED = Needs((_CHANGED,))
CHANGED_TO_CUE = Needs((_TO_CUE,))
MENTIONS_OF_CHANGED = Needs((_CHANGED,), _FLIPS)
MENTIONS_OF_BOTH = Needs((_CHANGED, _UNCHANGED), _FLIPS)
MENTIONS_WITHIN_EXAMPLES = Needs((_CHANGED, _MIXED), _FLIPS)


class KindResults(NamedTuple):
    """The numbers of one kind of intervention by metric, the counts behind them, and the rate of its control.

    `control` is the flip_to_cue_rate of the control of this cue; None where there is none. `available` is how many
    examples the task has, None if unknown.
    """

    counts: KindCounts
    estimates: Mapping[str, Estimate]
    control: Estimate | None = None
    available: int | None = None


class Named(Protocol):
    """A metric, as far as checks need to know it."""

    @property
    def name(self) -> str:
        """Its name in rows."""

    @property
    def title(self) -> str:
        """What sentences call it."""


Check = Callable[[Named, KindResults], Iterator[Finding]]
"""Yields what limits a metric; called only where the metric has a value."""

Remark = Callable[[Named, KindCounts], Finding]
"""Returns what must be said of a metric whether or not it has a value."""


def noise_warning(flips: ArrayLike, trials: ArrayLike, sham_flips: ArrayLike, sham_trials: ArrayLike) -> str | None:
    """Return a warning unless answers certainly change more often after the intervention than by asking again.

    All of shape (G,), one entry per example. Certain means that the lower 95 % limit of impact rate − sham rate
    (`noise_margin`) exceeds 0. Also None where no trial is scored. Raises ValueError on unequal shapes.
    """
    found = find_noise(noise_margin(flips, trials, sham_flips, sham_trials))
    return None if found is None else found.text


def find_noise(margin: NoiseMargin | None) -> Finding | None:
    """Return what this margin says of noise; None where noise is excluded."""
    if margin is None:
        return None
    if margin.sham_rate is None or margin.lower_limit is None:
        return finding("noise_unknown", "not scored")
    if margin.lower_limit > 0:
        return None
    impact = share_text(margin.impact_rate, 1)
    if margin.is_likely:
        return finding("noise_not_excluded", impact=impact, shams=counted(margin.shams, "sham"))
    return finding("noise", impact=impact, sham=share_text(margin.sham_rate, 1))


def margin_of(counts: KindCounts) -> NoiseMargin | None:
    """Return the margin of impact over noise; None where no sham was asked, or no trial is scored."""
    if not counts.config.shams:
        return None
    sham_flips, shams, _ = counts.shams.T
    return noise_margin(changed(counts.tables), counts.tables.sum(axis=1), sham_flips, shams)


def check_noise(counts: KindCounts, margin: NoiseMargin | None) -> Finding | None:
    """Return the finding that answers may change by noise alone; None where they do not."""
    return find_noise(margin) if counts.config.shams else finding("noise_unknown", "not asked")


def check_example_only(phi: Named, results: KindResults, *, within: str, baseline: str) -> Iterator[Finding]:
    """Say where phi is no more than an explainer reaches that does not know the insertion.

    `within` is the metric phi within examples, `baseline` phi of such an explainer.
    """
    chance, beside = results.estimates[baseline], results.estimates[within]
    if inside_example_only(results.estimates[phi.name], chance):
        yield finding(
            "inside_example_only",
            low=number_text(chance.low),
            high=number_text(chance.high),
            within=f"undefined ({beside.undefined})" if beside.value is None else _number(beside),
        )


def check_answers(metric: Named, results: KindResults) -> Iterator[Finding]:
    """Say where explanations may name the insertion for the answer that they give, whether or not it changed.

    `follows_answer`: among explanations of one answer phi is clearly lower, and cannot be told from 0;
    `answer_tells_change`: it cannot be told from either.
    """
    phi = results.estimates[metric.name]
    if phi.value is None or phi.low is None or phi.high is None or phi.low <= 0 <= phi.high:
        return
    within = phi_by_letter(results.counts.by_answer)
    if within.value is None:
        yield finding("answer_tells_change", "undefined", title=metric.title, reason=within.undefined)
    elif within.low is not None and within.high is not None and within.low <= 0 <= within.high:
        is_lower = not within.low <= phi.value <= within.high
        yield finding(
            "follows_answer" if is_lower else "answer_tells_change",
            title=metric.title,
            value=number_text(within.value),
            interval=interval_text(within.low, within.high),
        )


FEWEST_TEXTS = 50
WIDER = 1.2
"""An interval over texts that is so many times as wide as that over examples alone has a warning."""


def has_texts(counts: KindCounts) -> bool:
    """Say whether it is known which text each trial inserted, and the texts are a sample of many, as words are."""
    return kind_of(str(counts.condition.kind)).mentioned_by == "policy" and counts.is_text_known


def check_texts(metric: Named, results: KindResults, *, over: str) -> Iterator[Finding]:
    """Say where few texts were inserted, or what was inserted makes a difference to phi.

    `over` is the metric that has an interval over texts.
    """
    over_texts = results.estimates.get(over)
    if over_texts is None:
        return
    texts = len(results.counts.by_text[0])
    start, these = ("1 text was", "it") if texts == 1 else (f"{texts} different texts were", "these")
    if texts < FEWEST_TEXTS:
        start = f"Only {start}"
    words = {"texts": start, "these": these, "title": metric.title}
    if over_texts.low is None or over_texts.high is None:
        if texts < FEWEST_TEXTS:
            yield finding("few_texts", "no interval", **words)
        return
    phi = results.estimates[metric.name]
    over_examples = None if phi.low is None or phi.high is None else phi.high - phi.low
    is_wider = over_examples is not None and over_texts.high - over_texts.low > WIDER * over_examples
    if texts < FEWEST_TEXTS or is_wider:
        yield finding("few_texts", interval=interval_text(over_texts.low, over_texts.high), **words)


def check_usable(metric: Named, results: KindResults, beside: str = "") -> Iterator[Finding]:
    """Say where label probabilities are usable in too few of the trials; `beside` is a sentence to be added."""
    counts = results.counts
    if counts.with_tvd < ENOUGH * counts.scored:
        yield finding(
            "few_usable",
            title=metric.title,
            used=counts.with_tvd,
            trials=counted(counts.scored, "trial"),
            reason=counts.common_reason,
            beside=beside,
        )


def check_cct(metric: Named, results: KindResults, *, phi: str) -> Iterator[Finding]:
    """Say how CCT relates to phi on the same trials (the metric `phi`), to the labels, and to CCT in other orders."""
    counts = results.counts
    yield from check_usable(metric, results, f" phi on the same trials: {_number(results.estimates[phi])}.")
    if counts.off_argmax:
        yield finding("off_argmax", number=counts.off_argmax, answers=counted(2 * counts.with_tvd, "answer"))
    if len(counts.config.arms.order) > 1:
        yield finding("across_orders")


def remark_on_samples(metric: Named, counts: KindCounts) -> Finding:
    """Say what sampled label distributions are; said also where the number is undefined."""
    return finding("sampled_tvd", title=metric.title, samples=counts.config.samples)


def check_samples(metric: Named, results: KindResults) -> Iterator[Finding]:
    """Say where too few interventions have enough readable samples."""
    used = results.estimates[metric.name].n
    asked = sum(map(len, results.counts.samples))
    if 0 < used < ENOUGH * asked:
        yield finding("few_usable", "samples", title=metric.title, used=used, trials=counted(asked, "intervention"))


def check_cue(metric: Named, results: KindResults) -> Iterator[Finding]:
    """Say how often answers change to the letter of a cue, and how often they do without it."""
    control = kind_of(str(results.counts.condition.kind)).control
    if control is None:
        return
    rate = _percent(results.estimates[metric.name])
    if results.control is None:
        yield finding("cue_without_control", rate=rate, control=f"no control was asked: {control}")
    else:
        yield finding("cue_rate", rate=rate, control=f"control {_percent(results.control)}")


def check_share_of_examples(metric: Named, results: KindResults) -> Iterator[Finding]:
    """Say how many trials and changed answers stand behind a share of examples that grows with them."""
    share, tables = results.estimates[metric.name], results.counts.tables
    flipped = tables[changed(tables) > 0]
    trials = float(flipped.sum()) / len(flipped)
    if trials > 1:  # with one trial an example it is the share of the changed answers itself
        hits = hits_text(share.value or 0.0, len(flipped))
        yield finding(
            "grows_with_trials",
            examples=f"{hits or f'{_percent(share)} of the {len(flipped)}'} examples",
            have="has" if hits and hits.startswith("1 of") else "have",
            trials=number_text(trials, 1),
            flips=number_text(flips_per_flipped_example(tables), 1),
        )


def _percent(estimate: Estimate) -> str:
    return UNDEFINED if estimate.value is None else share_text(estimate.value, 1)


def _number(estimate: Estimate) -> str:
    return number_text(estimate.value, 3)


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
    needs: Needs = NO_NEEDS
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
    needs: Needs = MENTIONS_OF_BOTH
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
    needs: Needs = MENTIONS_OF_BOTH
    checks: tuple[Callable[[LevelCounts], Iterator[Finding]], ...] = ()


@dataclass(frozen=True, kw_only=True)
class PredictionMetric(Metric[PredictionCounts]):
    """A metric of what one predictor, or a panel of them, said of the trials; `judge` names it in its rows."""

    depends: frozenset[Dependency] = frozenset({"kind"})
    needs: Needs = NO_NEEDS
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
