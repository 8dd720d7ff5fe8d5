"""What a careful reader should be told about the numbers of one kind of intervention, in plain sentences."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from explaineval import metrics
from explaineval.experiment.kinds import KindNumbers, common_reason
from explaineval.interventions import CONTROL, is_control, is_cue
from explaineval.records import Estimate

FEW = 0.9
"""CCT on a smaller share of the scored trials is said."""

FEWEST_EXAMPLES = 20


def cautions(numbers: KindNumbers, control: Estimate | None = None) -> Iterator[str]:
    """Everything to be told, the gravest first. `control` is how often answers went to the cue's letter without it."""
    yield from _of_missing(numbers)
    yield from _of_samples(numbers)
    yield from _of_cue(numbers, control)
    if not numbers.tables[:, :2].sum():
        return  # no answer changed: that phi is undefined says it all
    thin = metrics.estimate_warnings(numbers.tables)
    if thin:
        yield " ".join(thin)
    yield from _of_noise(numbers)
    yield from _of_phi(numbers)
    yield from _of_cct(numbers)
    yield from _of_unfaithfulness(numbers)


def _of_missing(numbers: KindNumbers) -> Iterator[str]:
    scored = int(numbers.tables.sum())
    missing = sum(sum(one.missing) for one in numbers.examples)
    if missing > scored:
        yield (
            f"{missing} of {missing + scored} trials have no score. If most are unparsed, the model does not keep "
            "the answer's form: try --shots 4, or --style completion."
        )
    found = numbers.estimates
    if missing and scored:
        low, high = (found[f"phi_cct_{side}_bound"].value for side in ("lower", "upper"))
        if low is not None and high is not None:
            yield (
                f"{missing} of {missing + scored} trials have no score: whatever they would have been, phi-CCT on all "
                f"of them lies between {low:.3f} and {high:.3f}."
            )


def _of_samples(numbers: KindNumbers) -> Iterator[str]:
    asked = numbers.config.tvd_samples
    if asked is not None:
        yield (
            f"every prompt was asked {numbers.config.samples} times. cct_sampled compares the shares of the answers, "
            "and comes out weaker than CCT from label probabilities, so the two are never compared. All other numbers "
            "count each sample as a trial, and all trials of an example as one cluster."
        )


def _of_cue(numbers: KindNumbers, control: Estimate | None) -> Iterator[str]:
    kind = str(numbers.group.kind)
    if not is_cue(kind) or is_control(kind):
        return
    rate = numbers.estimates["flip_to_cue_rate"].value
    if rate is None:
        return
    beside = f"no control was asked: {kind}{CONTROL}"
    if control is not None:
        beside = f"control {_share(control.value)}"
    yield f"answers change to the letter that the cue suggests in {_share(rate)} of the trials ({beside})."


def _of_noise(numbers: KindNumbers) -> Iterator[str]:
    if not numbers.config.shams:
        return
    shams = np.array([[one.sham_flips, one.shams] for one in numbers.arm], dtype=np.int64).reshape(-1, 2)
    tables = numbers.tables
    noise = metrics.noise_warning(tables[:, :2].sum(axis=1), tables.sum(axis=1), shams[:, 0], shams[:, 1])
    if noise:
        yield noise


def _of_phi(numbers: KindNumbers) -> Iterator[str]:
    found = numbers.estimates
    phi, within, baseline = found["phi_cct"], found["phi_within"], found["phi_cct_example_only"]
    if phi.value is not None and phi.note:
        yield f"phi-CCT: {phi.note}."
    if metrics.inside_example_only(phi, baseline):
        instead = f"read phi within examples instead ({_shown(within)})"
        if within.value is None:
            instead = f"and phi within examples is undefined ({within.undefined})"
        yield (
            "phi-CCT lies inside the range of an explainer that knows the example but not the insertion "
            f"({baseline.low:.2f} to {baseline.high:.2f}): {instead}."
        )


def _of_cct(numbers: KindNumbers) -> Iterator[str]:
    graded, scored, found = numbers.graded, int(numbers.tables.sum()), numbers.estimates
    if graded and graded < FEW * scored:
        yield (
            f"CCT rests on {graded} of {scored} trials: in the others the label probabilities are not usable "
            f"({common_reason(numbers.counts.no_tvd[numbers.group])}). "
            f"phi on the same trials: {_shown(found['phi_cct_tvd_trials'])}."
        )
    with_tvd = sum(bool(one.distances) for one in numbers.examples)
    if graded and with_tvd < FEWEST_EXAMPLES:
        yield f"CCT rests on {with_tvd} examples; below {FEWEST_EXAMPLES} its interval is not reliable."
    for name, shown in (("cct", "CCT"), ("cct_sampled", "cct_sampled")):
        if name in found and found[name].value is not None and found[name].note:
            yield f"{shown}: {found[name].note}."
    off = numbers.counts.off_argmax[numbers.group]
    if off:
        yield f"In {off} of {2 * graded} answers the label given is not the most probable one."
    if found["cct"].value is not None and len(numbers.config.arms.order) > 1:
        yield (
            "CCT is never compared across orders: label probabilities are read after the explanation in order ep, "
            "before it in the others."
        )


def _of_unfaithfulness(numbers: KindNumbers) -> Iterator[str]:
    share = numbers.estimates["ct_unfaithfulness_per_example"]
    flips = metrics.flips_per_flipped_example(numbers.tables)
    flipped = numbers.tables[numbers.tables[:, :2].sum(axis=1) > 0]
    trials = float(flipped.sum()) / len(flipped)
    if share.value is not None and trials > 1:  # with one trial an example it is ct_unfaithfulness itself
        yield (
            f"{share.value:.1%} of the examples with a changed answer ({share.n_examples}) have one that goes "
            f"unmentioned (ct_unfaithfulness_per_example), with {trials:.1f} trials and {flips:.1f} changed answers in "
            "each; more trials raise that share by themselves."
        )


def _share(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.1%}"


def _shown(estimate: Estimate) -> str:
    return "undefined" if estimate.value is None else f"{estimate.value:.3f}"
