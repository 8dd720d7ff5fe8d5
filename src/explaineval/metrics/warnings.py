"""Warnings: what limits a number, how much that matters, and what to do about it.

Every warning is about one number and is made from that number's own counts. Whether another number is defined never
decides whether a warning is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from explaineval.metrics.estimates import FloatArray, IntArray, check_counts, clopper_pearson, exact_sum, student_t
from explaineval.records import Estimate, Record

Grade = Literal["do not quote", "mind", "for the record"]
GRADES: tuple[Grade, ...] = ("do not quote", "mind", "for the record")
"""The gravest first."""

MORE_EXAMPLES = "Ask more examples."
MORE_FLIPS = "Ask more examples, or more interventions of each."


class MetricWarning(Record):
    """One thing that limits one number: `code` and `grade` for programs, `text` and `todo` for people."""

    code: str
    grade: Grade
    metric: str
    text: str
    todo: str


class Code(NamedTuple):
    """What holds for all warnings of one code."""

    grade: Grade
    todo: str


CODES: Mapping[str, Code] = {
    "many_missing": Code("do not quote", "Find out why the trials have no score: `explaineval show RUN_DIR --list`."),
    "missing_trials": Code("mind", "Give the number of missing trials with the value."),
    "missing_bounds": Code("mind", "Give both bounds with phi-CCT."),
    "missing_answers": Code("mind", "Give the number of missing answers with the value."),
    "few_examples": Code("do not quote", MORE_EXAMPLES),
    "few_usable_examples": Code("do not quote", MORE_EXAMPLES),
    "few_unchanged": Code("do not quote", MORE_EXAMPLES),
    "few_flips": Code("do not quote", MORE_FLIPS),
    "few_mentioned_flips": Code("do not quote", MORE_FLIPS),
    "few_unmentioned_flips": Code("do not quote", MORE_FLIPS),
    "few_mixed_examples": Code("do not quote", MORE_FLIPS),
    "no_interval": Code("do not quote", MORE_EXAMPLES),
    "rough_interval": Code("do not quote", MORE_FLIPS),
    "noise": Code("do not quote", "Ask at temperature 0 if the model allows it, or ask more examples."),
    "noise_unknown": Code("mind", "Ask shams: --shams 1."),
    "inside_example_only": Code("do not quote", "Read phi_within instead."),
    "few_usable": Code("mind", "Give the number of usable trials with the value; do not compare it with phi_cct."),
    "off_argmax": Code("for the record", "Nothing, if the temperature is above 0; else look at some of the trials."),
    "across_orders": Code("mind", "Compare CCT within one order."),
    "sampled_tvd": Code("mind", "Compare cct_sampled with cct_sampled at the same number of samples only."),
    "cue_rate": Code("for the record", "Read flip_to_cue_rate beside that of the control."),
    "cue_without_control": Code("mind", "Ask the control too."),
    "grows_with_trials": Code("for the record", "Compare it at the same number of interventions only."),
    "levels_without_shots": Code("mind", "Give shots of that length, or leave the level out."),
    "levels_not_shared": Code("mind", "Give the number of trials with the value."),
    "hull_above_chance": Code("mind", "Compare the hull with its value by chance only."),
    "own_answers": Code("mind", "Ask with --order pe2."),
    "level_not_followed": Code("mind", "Read the levels with their numbers of words."),
    "thin_tasks": Code("do not quote", "Read the warnings of those tasks."),
}
"""Every code that a warning can have."""


class Need(NamedTuple):
    """How many examples must have something, `has` counts how often tables (…, 4) have it."""

    code: str
    fewest: int
    what: str
    has: Callable[[IntArray], IntArray]


FEWEST_EXAMPLES = 20
FEWEST_FLIPPED = 20
FEWEST_MENTIONED = 8
FEWEST_UNMENTIONED = 8
FEW = 0.9
"""A number on a smaller share than this of the trials that it is about is warned of."""

_CHANGED = Need("few_flips", FEWEST_FLIPPED, "a changed answer", lambda tables: tables[..., 0] + tables[..., 1])
_UNCHANGED = Need(
    "few_unchanged", FEWEST_EXAMPLES, "an unchanged answer", lambda tables: tables[..., 2] + tables[..., 3]
)
_TO_CUE = _CHANGED._replace(what="an answer that changed to the suggested letter")
_MIXED = Need(
    "few_mixed_examples",
    FEWEST_FLIPPED,
    "both changed and unchanged answers",
    lambda tables: (tables[..., 0] + tables[..., 1]) * (tables[..., 2] + tables[..., 3]),
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


class Needs(NamedTuple):
    """What a number needs: of `examples` the scarcest is told, of `flips` each one."""

    examples: tuple[Need, ...] = ()
    flips: tuple[Need, ...] = ()


_FLIPS = (_MENTIONED, _UNMENTIONED)
_BOTH = Needs((_CHANGED, _UNCHANGED), _FLIPS)
_OF_FLIPS = Needs((_CHANGED,), _FLIPS)
_NONE = Needs()

NEEDS: Mapping[str, Needs] = {
    "phi_cct": _BOTH,
    "phi_within": Needs((_CHANGED, _MIXED), _FLIPS),
    "phi_stable": _BOTH,
    "phi_cct_tvd_trials": _BOTH,
    "phi_cct_lower_bound": _BOTH,
    "phi_cct_upper_bound": _BOTH,
    "phi_cct_never": _BOTH,
    "phi_cct_always": _BOTH,
    "phi_cct_random": _BOTH,
    "phi_cct_example_only": _BOTH,
    "cct": _BOTH,
    "cct_sampled": _BOTH,
    "youden_j": _BOTH,
    "tpr": _OF_FLIPS,
    "ct_unfaithfulness": _OF_FLIPS,
    "ct_unfaithfulness_per_example": _OF_FLIPS,
    "f_auroc": _BOTH,
    "f_auroc_own": _BOTH,
    "f_auroc_hull": _BOTH,
    "fpr": _NONE,
    "impact_rate": Needs((_CHANGED,)),
    "flip_to_cue_rate": Needs((_TO_CUE,)),
    "mention_rate": _NONE,
    "mention_floor": _NONE,
    "mean_tvd": _NONE,
    "explanation_words": _NONE,
    "excluded_rate": _NONE,
    "accuracy": _NONE,
    "sham_flip_rate": _NONE,
    "null_edit_flip_rate": _NONE,
}
"""What each number needs of its table of impact and mention."""

COUNTED: Mapping[str, tuple[str, str]] = {
    "fpr": ("few_unchanged", "an unchanged answer"),
    "impact_rate": ("few_examples", "a scored trial"),
    "flip_to_cue_rate": ("few_examples", "a scored trial whose answer could change to the suggested letter"),
    "mention_rate": ("few_examples", "a scored trial"),
    "mention_floor": ("few_examples", "a scored trial"),
    "mean_tvd": ("few_usable_examples", "a trial with usable label probabilities"),
    "explanation_words": ("few_examples", "a scored trial"),
    "excluded_rate": ("few_examples", "a trial"),
    "accuracy": ("few_examples", "a gold label and a readable answer"),
    "sham_flip_rate": ("few_examples", "a scored sham"),
    "null_edit_flip_rate": ("few_examples", "a scored null edit"),
}
"""Code and words for what the examples behind a number have, where their number decides how good its interval is."""

TITLES: Mapping[str, str] = {"phi_cct": "phi-CCT", "cct": "CCT", "f_auroc": "F-AUROC", "f_auroc_own": "F-AUROC"}
CORRELATIONS_WITH_TVD = ("cct", "cct_sampled")

WITHOUT_INTERVAL = frozenset({"f_auroc_hull", "phi_cct_lower_bound", "phi_cct_upper_bound"})
"""Numbers that have no interval by their nature."""

OF_IMPACT = frozenset(NEEDS) - {
    "mention_rate",
    "mention_floor",
    "explanation_words",
    "excluded_rate",
    "accuracy",
    "sham_flip_rate",
    "null_edit_flip_rate",
}
"""Numbers that say something of what the insertion changed: noise in the answers limits them."""


TOGETHER = (
    "few_flips",
    "few_mentioned_flips",
    "few_unmentioned_flips",
    "few_mixed_examples",
    "few_unchanged",
    "few_examples",
)
"""Codes that a reader of a table gets as one paragraph, each of them once a row."""


def warn(code: str, metric: str, text: str) -> MetricWarning:
    """The warning of this code about this metric."""
    grade, todo = CODES[code]
    return MetricWarning(code=code, grade=grade, metric=metric, text=text, todo=todo)


def title(metric: str) -> str:
    """How a metric is called in sentences."""
    return TITLES.get(metric, metric)


def estimate_warnings(
    metric: str, estimate: Estimate, tables: ArrayLike = (), among: str = ""
) -> Iterator[MetricWarning]:
    """What limits one estimate by its own counts: few examples, few flips, no interval or a rough one.

    `tables` (G, 4), or (G, V, 4) over V levels, are those that the number rests on; `among` says in words which trials
    they hold where that is not all. Nothing where the estimate is undefined: then its reason says so. Raises KeyError
    for a metric without an entry in NEEDS.
    """
    needs = NEEDS[metric]
    if estimate.value is None:
        return
    levels = _by_level(tables)
    middle = ", at the middle level" if levels.shape[1] > 1 else ""
    found = [(need, _fewest(need.has(levels) > 0), among) for need in needs.examples]
    found = sorted(found, key=lambda one: one[1])[:1]
    found += [(need, _middle(need.has(levels) > 0), f"{among}{middle}") for need in needs.flips]
    for need, examples, where in found:
        if examples < need.fewest:
            text = f"{_examples_have(examples)} {need.what}{where}; below {need.fewest} the interval is not reliable."
            yield warn(need.code, metric, text)
    yield from _of_examples(metric, estimate.n_examples)
    yield from _of_interval(metric, estimate)


def _fewest(have: NDArray[np.bool_]) -> int:
    """How many examples of (G, V) have it at the level where the fewest do; levels where none does make no point."""
    counts = have.sum(axis=0)
    return int(counts[counts > 0].min()) if counts.any() else 0


def _middle(have: NDArray[np.bool_]) -> int:
    """How many examples of (G, V) have it at the level in the middle by that number, the lower one of two.

    A sweep from terse to talkative has a level that mentions nearly nothing and one that mentions nearly everything;
    the area is uncertain where that holds of most levels (docs/coverage.md).
    """
    counts = np.sort(have.sum(axis=0))
    return int(counts[(len(counts) - 1) // 2])


def _by_level(tables: ArrayLike) -> IntArray:
    """Tables as (G, V, 4), those of no levels with V = 1."""
    array = check_counts(tables)
    return array.reshape(0, 1, 4) if array.size == 0 else array.reshape(len(array), -1, 4)


def _of_examples(metric: str, examples: int) -> Iterator[MetricWarning]:
    if examples >= FEWEST_EXAMPLES:
        return
    if metric in CORRELATIONS_WITH_TVD:
        text = f"{title(metric)} rests on {examples} examples; below {FEWEST_EXAMPLES} its interval is not reliable."
        yield warn("few_usable_examples", metric, text)
    elif metric in COUNTED:
        code, what = COUNTED[metric]
        text = f"{_examples_have(examples)} {what}; below {FEWEST_EXAMPLES} the interval is not reliable."
        yield warn(code, metric, text)


def _of_interval(metric: str, estimate: Estimate) -> Iterator[MetricWarning]:
    if metric in WITHOUT_INTERVAL:
        return
    if estimate.low is None or estimate.high is None:
        yield warn("no_interval", metric, f"{title(metric)}: {estimate.note or 'no interval'}.")
    elif estimate.note:
        yield warn("rough_interval", metric, f"{title(metric)}: {estimate.note}.")


def noise_warning(flips: ArrayLike, trials: ArrayLike, sham_flips: ArrayLike, sham_trials: ArrayLike) -> str | None:
    """Warn unless answers certainly change more often after the intervention than by asking again.

    All of shape (G,), one entry per example. Certain means that the lower 95 % limit of impact rate − sham
    rate, paired over examples, exceeds 0. A sham rate of 0 counts with its Clopper–Pearson upper limit over
    the examples that have a sham. None also where no trial is scored. Raises ValueError on unequal shapes.
    """
    impact, sham = _aligned(flips, trials), _aligned(sham_flips, sham_trials)
    if impact.shape != sham.shape:
        raise ValueError(f"{len(impact)} examples with trials but {len(sham)} with shams: align them by example")
    if not impact[:, 1].sum():
        return None
    if not sham[:, 1].sum():
        return "No sham was scored, so it is unknown how many answers change by noise alone."
    impact_rate, sham_rate = (int(part[:, 0].sum()) / int(part[:, 1].sum()) for part in (impact, sham))
    seen = (impact[:, 1] > 0) | (sham[:, 1] > 0)
    limit = _lower_limit(impact[seen], sham[seen])
    if limit > 0:
        return None
    return (
        f"Answers change in {impact_rate:.1%} of the interventions and in {sham_rate:.1%} of the shams (the "
        "same prompt asked again): that is not clearly more than noise."
    )


def _lower_limit(impact: IntArray, sham: IntArray) -> float:
    """The lower 95 % limit of impact rate − sham rate; both (g, 2): flips, trials. −inf for one example."""
    examples = len(impact)
    if examples < 2:
        return -math.inf
    impact_rate, impact_parts = _linearised(impact)
    sham_rate, sham_parts = _linearised(sham)
    if not sham[:, 0].any():
        # shams of one example share an answer, so each example counts once, as in every rate of 0
        sham_rate = clopper_pearson(0, int((sham[:, 1] > 0).sum()))[1]
    variance = examples / (examples - 1) * exact_sum((impact_parts - sham_parts) ** 2)
    return impact_rate - sham_rate - student_t(examples - 1) * math.sqrt(variance)


def _linearised(counts: IntArray) -> tuple[float, FloatArray]:
    """A pooled rate and what each example adds to its deviation; counts (g, 2): flips, trials."""
    trials = int(counts[:, 1].sum())
    value = int(counts[:, 0].sum()) / trials
    return value, (counts[:, 0] - value * counts[:, 1]) / trials


def _aligned(flips: ArrayLike, trials: ArrayLike) -> IntArray:
    hits, counts = check_counts(flips), check_counts(trials)
    if hits.shape != counts.shape or hits.ndim != 1:
        raise ValueError(f"flips {hits.shape} and trials {counts.shape} must both have the shape (examples,)")
    if (hits > counts).any():
        raise ValueError("an example has more flips than trials: pass both arrays in the same order")
    return np.stack([hits, counts], axis=1)


def _examples_have(found: int) -> str:
    if found == 0:
        return "No example has"
    return "Only 1 example has" if found == 1 else f"Only {found} examples have"
