"""The warnings of one kind of intervention and of an arm: what limits each of their numbers.

Each check stands by itself and is made for every number that it can limit. A number that is undefined has no warnings:
its reason says why it is undefined.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from explaineval import metrics
from explaineval.interventions import kind_of
from explaineval.metrics import MetricWarning, warn
from explaineval.metrics.warnings import FEW, OF_IMPACT, title
from explaineval.records import Condition, Estimate, MetricRow
from explaineval.scoring.counts import ArmTally
from explaineval.scoring.numbers import WITH_TVD, KindNumbers, arm_missing, common_reason
from explaineval.scoring.task_means import MEAN

BOUNDS = ("phi_cct_lower_bound", "phi_cct_upper_bound")
"""Numbers that count the missing trials as what they could have been."""

OF_LEVELS = ("many_missing", "missing_trials", "noise", "noise_unknown")
"""The codes by which what limits a level limits the area over the levels too."""

LEFT_OUT = {
    "accuracy": "answers could not be read",
    "sham_flip_rate": "shams have no score",
    "null_edit_flip_rate": "null edits have no score",
}


@dataclass(frozen=True)
class RowWarning:
    """A warning, and the condition of the rows that it is about."""

    condition: Condition
    warning: MetricWarning

    @property
    def text(self) -> str:
        """The warning as a sentence."""
        return self.warning.text


def kind_warnings(numbers: KindNumbers, control: Estimate | None = None) -> Iterator[MetricWarning]:
    """What limits each number of one kind, number by number.

    `control` is how often answers went to the cue's letter without it.
    """
    noise = _noise(numbers)
    if "cct_sampled" in numbers.estimates:
        yield from _of_samples(numbers)
    for metric, estimate in numbers.estimates.items():
        if estimate.value is None:
            continue
        yield from _of_missing(metric, numbers)
        yield from metrics.estimate_warnings(metric, estimate, *numbers.rests_on(metric))
        if noise is not None and metric in OF_IMPACT:
            yield warn(noise[0], metric, noise[1])
        yield from _of_metric(metric, numbers, control)


def arm_warnings(examples: Mapping[str, ArmTally], estimates: Mapping[str, Estimate]) -> Iterator[MetricWarning]:
    """What limits accuracy and the noise rates of one arm."""
    missing = arm_missing(examples)
    for metric, estimate in estimates.items():
        if estimate.value is None:
            continue
        yield from metrics.estimate_warnings(metric, estimate)
        lost, of = missing[metric]
        if lost > (1 - FEW) * of:
            yield warn("missing_answers", metric, f"{metric} leaves out {lost} of {of}: these {LEFT_OUT[metric]}.")


def area_warnings(
    condition: Condition, estimates: Mapping[str, Estimate], found: Sequence[RowWarning]
) -> Iterator[MetricWarning]:
    """What limits an area over levels because it limits the levels' own numbers: noise, and missing trials.

    `condition` has no verbosity; `found` holds the warnings of the levels, named with what is said of them.
    """
    levels: dict[tuple[str, str], list[str]] = {}
    for one in found:
        level = one.condition.verbosity
        if level is None or one.condition._replace(verbosity=None) != condition:
            continue
        if one.warning.metric == "impact_rate" and one.warning.code in OF_LEVELS:
            levels.setdefault((one.warning.code, one.text), []).append(level)
    for metric, estimate in estimates.items():
        if estimate.value is not None:
            for (code, text), names in levels.items():
                yield warn(code, metric, f"at {', '.join(names)}: {text}")


def mean_warnings(rows: Iterable[MetricRow], found: Sequence[RowWarning]) -> Iterator[RowWarning]:
    """For each mean over tasks (`rows`), the tasks whose own number has warnings that a reader must mind."""
    by_number: dict[tuple[Condition, str], dict[str, list[MetricWarning]]] = {}
    for one in found:
        if one.warning.grade != "for the record":
            number = one.condition._replace(task=MEAN), one.warning.metric
            by_number.setdefault(number, {}).setdefault(one.condition.task, []).append(one.warning)
    for row in rows:
        tasks = by_number.get((row.condition, row.metric))
        if row.value is None or not tasks:
            continue
        grades = {one.grade for of_task in tasks.values() for one in of_task}
        text = f"the mean over tasks rests on numbers that have warnings of their own: those of {', '.join(tasks)}."
        warning = warn("thin_tasks", row.metric, text)
        yield RowWarning(row.condition, warning.model_copy(update={"grade": min(grades, key=metrics.GRADES.index)}))


def _of_missing(metric: str, numbers: KindNumbers) -> Iterator[MetricWarning]:
    scored = int(numbers.tables.sum())
    missing = sum(sum(one.missing) for one in numbers.examples)
    if not missing or metric in BOUNDS:
        return
    if missing > scored:
        text = (
            f"{missing} of {missing + scored} trials have no score. If most are unparsed, the model does not keep "
            "the answer's form: try --shots 4, or --style completion."
        )
        yield warn("many_missing", metric, text)
    low, high = (numbers.estimates[f"phi_cct_{side}_bound"].value for side in ("lower", "upper"))
    if metric == "phi_cct" and low is not None and high is not None:
        text = (
            f"{missing} of {missing + scored} trials have no score: whatever they would have been, phi-CCT on all "
            f"of them lies between {low:.3f} and {high:.3f}."
        )
        yield warn("missing_bounds", metric, text)
    elif metric != "excluded_rate" and scored >= missing > (1 - FEW) * (missing + scored):
        yield warn("missing_trials", metric, f"{missing} of {missing + scored} trials have no score and are left out.")


def _noise(numbers: KindNumbers) -> tuple[str, str] | None:
    """The code and the text of the warning that answers may change by noise alone."""
    if not numbers.config.shams:
        return (
            "noise_unknown",
            "No sham was asked (--shams 0), so it is unknown how many answers change by noise alone.",
        )
    shams = np.array([[one.sham_flips, one.shams] for one in numbers.arm], dtype=np.int64).reshape(-1, 2)
    tables = numbers.tables
    text = metrics.noise_warning(tables[:, :2].sum(axis=1), tables.sum(axis=1), shams[:, 0], shams[:, 1])
    if text is None:
        return None
    return ("noise" if shams[:, 1].any() else "noise_unknown"), text


def _of_metric(metric: str, numbers: KindNumbers, control: Estimate | None) -> Iterator[MetricWarning]:
    """The warnings that one metric alone can have."""
    if metric == "phi_cct":
        yield from _of_phi(numbers)
    elif metric in WITH_TVD:
        yield from _of_tvd(metric, numbers)
    elif metric == "flip_to_cue_rate":
        yield from _of_cue(numbers, control)
    elif metric == "ct_unfaithfulness_per_example":
        yield from _of_unfaithfulness(numbers)


def _of_phi(numbers: KindNumbers) -> Iterator[MetricWarning]:
    found = numbers.estimates
    phi, within, baseline = found["phi_cct"], found["phi_within"], found["phi_cct_example_only"]
    if metrics.inside_example_only(phi, baseline):
        instead = f"read phi within examples instead ({_shown(within)})"
        if within.value is None:
            instead = f"and phi within examples is undefined ({within.undefined})"
        text = (
            "phi-CCT lies inside the range of an explainer that knows the example but not the insertion "
            f"({baseline.low:.2f} to {baseline.high:.2f}): {instead}."
        )
        yield warn("inside_example_only", "phi_cct", text)


def _of_tvd(metric: str, numbers: KindNumbers) -> Iterator[MetricWarning]:
    graded, scored = numbers.graded, int(numbers.tables.sum())
    if graded < FEW * scored:
        beside = ""
        if metric == "cct":
            beside = f" phi on the same trials: {_shown(numbers.estimates['phi_cct_tvd_trials'])}."
        text = (
            f"{title(metric)} rests on {graded} of {scored} trials: in the others the label probabilities are "
            f"not usable ({common_reason(numbers.counts.no_tvd[numbers.condition])}).{beside}"
        )
        yield warn("few_usable", metric, text)
    if metric != "cct":
        return
    off = numbers.counts.off_argmax[numbers.condition]
    if off:
        text = f"In {off} of {2 * graded} answers the label given is not the most probable one."
        yield warn("off_argmax", metric, text)
    if len(numbers.config.arms.order) > 1:
        text = (
            "CCT is never compared across orders: label probabilities are read after the explanation in order ep, "
            "before it in the others."
        )
        yield warn("across_orders", metric, text)


def _of_samples(numbers: KindNumbers) -> Iterator[MetricWarning]:
    text = (
        f"every prompt was asked {numbers.config.samples} times. cct_sampled compares the shares of the answers, "
        "and comes out weaker than CCT from label probabilities, so the two are never compared. All other numbers "
        "count each sample as a trial, and all trials of an example as one cluster."
    )
    yield warn("sampled_tvd", "cct_sampled", text)
    used = numbers.estimates["cct_sampled"].n
    asked = sum(len(by_id) for by_id in numbers.counts.samples.get(numbers.condition, {}).values())
    if 0 < used < FEW * asked:
        text = f"cct_sampled rests on {used} of {asked} interventions: the others have too few readable answers."
        yield warn("few_usable", "cct_sampled", text)


def _of_cue(numbers: KindNumbers, control: Estimate | None) -> Iterator[MetricWarning]:
    expected = kind_of(str(numbers.condition.kind)).control
    if expected is None:
        return
    rate = numbers.estimates["flip_to_cue_rate"].value
    code, beside = "cue_without_control", f"no control was asked: {expected}"
    if control is not None:
        code, beside = "cue_rate", f"control {_share(control.value)}"
    text = f"answers change to the letter that the cue suggests in {_share(rate)} of the trials ({beside})."
    yield warn(code, "flip_to_cue_rate", text)


def _of_unfaithfulness(numbers: KindNumbers) -> Iterator[MetricWarning]:
    metric = "ct_unfaithfulness_per_example"
    share = numbers.estimates[metric]
    flips = metrics.flips_per_flipped_example(numbers.tables)
    flipped = numbers.tables[numbers.tables[:, :2].sum(axis=1) > 0]
    trials = float(flipped.sum()) / len(flipped)
    if trials > 1:  # with one trial an example it is ct_unfaithfulness itself
        text = (
            f"{_share(share.value)} of the examples with a changed answer ({share.n_examples}) have one that goes "
            f"unmentioned (ct_unfaithfulness_per_example), with {trials:.1f} trials and {flips:.1f} changed answers in "
            "each; more trials raise that share by themselves."
        )
        yield warn("grows_with_trials", metric, text)


def _share(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.1%}"


def _shown(estimate: Estimate) -> str:
    return "undefined" if estimate.value is None else f"{estimate.value:.3f}"
