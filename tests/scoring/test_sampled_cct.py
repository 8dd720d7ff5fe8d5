"""Label distributions from samples: sampled TVD by hand, its correlation by scipy, and when there is none."""

from __future__ import annotations

import random
from typing import Any

import pytest
from pydantic import ValidationError
from scipy.stats import pearsonr

from explaineval.config import RunConfig
from explaineval.records import MetricRow
from explaineval.scoring.counts import Samples
from makers.runs import MODEL, make_missing, make_trial
from makers.scores import rows_of, score_trials, values_of

SAMPLES = 50
SCIENCE: dict[str, Any] = {"tvd_samples": SAMPLES, "temperature": 1.0}


def asked(example: int, number: int, before: int, after: int, *, said: bool) -> list[dict[str, Any]]:
    """50 samples of one intervention: how many answer B before and after; only sample 0 tells the mention."""
    found = []
    for sample in range(SAMPLES):
        labels = {"label_before": "B" if sample < before else "A", "label_after": "B" if sample < after else "A"}
        one = make_trial(example, number, mentioned=said if sample == 0 else not said, sample=sample, **labels)
        found.append(one | {"changed": labels["label_before"] != labels["label_after"]})
    return found


PLAN = [(0, 0, 0, 30, True), (0, 1, 0, 5, False), (1, 0, 10, 45, True), (1, 1, 10, 10, False), (2, 0, 20, 0, False),
        (2, 1, 20, 25, True)]  # fmt: skip
"""example, intervention, answers B before, answers B after, whether sample 0 mentions it."""


def trials() -> list[dict[str, Any]]:
    """All samples of the plan."""
    return [one for e, n, before, after, said in PLAN for one in asked(e, n, before, after, said=said)]


def sampled(found: list[dict[str, Any]], **values: Any) -> MetricRow:
    """The row of the sampled number."""
    (row,) = rows_of(score_trials(found, **(SCIENCE | values)), "cct_sampled")
    return row


def test_the_correlation_is_that_of_the_shares() -> None:
    """TVD = |share of B after − before|, M from the explanation of sample 0, one pair an intervention."""
    row = sampled(trials())

    distances = [abs(after - before) / SAMPLES for _, _, before, after, _ in PLAN]
    expected = pearsonr(distances, [said for *_, said in PLAN]).statistic
    assert (pytest.approx(row.value), row.n, row.n_examples) == (expected, 6, 3)
    assert row.low is not None
    assert row.high is not None


def test_the_order_of_lines_changes_no_digit() -> None:
    """Samples come home in any order."""
    shuffled = trials()
    random.Random("samples").shuffle(shuffled)

    assert sampled(trials()) == sampled(shuffled)


def test_it_never_goes_by_the_name_of_cct() -> None:
    """Its row stands only where it was asked for; CCT keeps resting on label probabilities."""
    found = [one | {"probs_before": None, "probs_after": None, "tvd": None, "tvd_reason": "before: none offered"}
             for one in trials()]  # fmt: skip

    scores = score_trials(found, **SCIENCE)
    assert values_of(scores, "cct") == [None]
    assert values_of(scores, "cct_sampled") != [None]
    assert rows_of(score_trials(found, samples=SAMPLES), "cct_sampled") == []


def test_too_few_readable_answers_make_no_distribution() -> None:
    """One of 50 unreadable on a side leaves 49: that intervention has no sampled TVD."""
    found = [
        make_missing(0, 0, "after", sample=9) if (one["intervention_id"], one["sample"]) == ("e0.0", 9) else one
        for one in trials()
    ]

    row = sampled(found)

    kept = PLAN[1:]
    expected = pearsonr([abs(a - b) for _, _, b, a, _ in kept], [said for *_, said in kept]).statistic
    assert (pytest.approx(row.value), row.n) == (expected, 5)


def test_more_samples_make_up_for_unreadable_ones() -> None:
    """--samples 60 asks more than are needed; the shares are over those that can be read."""
    more = [one | {"sample": sample} for one in trials() for sample in (one["sample"], one["sample"] + SAMPLES)
            if sample < 60]  # fmt: skip
    found = [
        make_missing(0, 0, "after", sample=9) if (one["intervention_id"], one["sample"]) == ("e0.0", 9) else one
        for one in more
    ]

    assert sampled(found, samples=60).n == 6


def test_without_a_score_of_sample_0_there_is_no_mention() -> None:
    """The mention is that of sample 0, and of no other."""
    found = [
        make_missing(0, 0, "after", sample=0) if (one["intervention_id"], one["sample"]) == ("e0.0", 0) else one
        for one in trials()
    ] + [make_trial(0, 0, sample=SAMPLES)]

    assert sampled(found, samples=51).n == 5


def test_nothing_asked_often_enough_is_undefined() -> None:
    """And why."""
    row = sampled([one for one in trials() if one["sample"] < 49])

    assert (row.value, row.n) == (None, 0)
    assert row.undefined == "no insertion has 50 readable answers both before and after it"


@pytest.mark.parametrize(
    ("after", "said", "reason"),
    [(30, None, "total variation distance is the same"), (None, False, "no explanation mentions")],
)
def test_a_constant_side_is_told(after: int | None, said: bool | None, reason: str) -> None:
    """No spread, no correlation."""
    found = [
        one
        for e, n, _, own, mention in PLAN
        for one in asked(e, n, 0, own if after is None else after, said=mention if said is None else said)
    ]

    row = sampled(found)

    assert row.value is None
    assert reason in str(row.undefined)


def test_the_signature_tells_of_the_samples() -> None:
    """tvd_samples stands in this row only; the number of samples in all."""
    scores = score_trials(trials(), **SCIENCE)

    signatures = {row.metric: row.signature for row in scores.rows}
    assert "|tvd_samples:50" in signatures["cct_sampled"]
    assert [name for name, text in signatures.items() if "tvd_samples" in text] == ["cct_sampled"]
    assert all("|samples:50" in text for text in signatures.values())


def test_it_is_told_what_the_samples_are() -> None:
    """That samples count as trials elsewhere, and that the two CCTs are not compared."""
    texts = [one.text for one in score_trials(trials(), **SCIENCE).warnings]

    assert any("asked 50 times" in text and "never compared" in text and "one cluster" in text for text in texts)


@pytest.mark.parametrize(
    ("before", "after", "tvd"), [("AAAB", "AAAB", 0.0), ("AAAA", "BBB", 1.0), ("AABB", "ABCC", 0.5), ("AB", "CD", 1.0)]
)
def test_the_distance_between_shares(before: str, after: str, tvd: float) -> None:
    """Half of the absolute differences, over the letters of both sides."""
    samples = Samples()
    for label in before:
        samples.add(label, None)
    for label in after:
        samples.add(None, label)

    assert tvd == pytest.approx(samples.tvd)


@pytest.mark.parametrize(
    ("values", "samples"),
    [({"tvd_samples": 50, "temperature": 0.7}, 50), ({"tvd_samples": 60, "temperature": "omit"}, 60),
     ({"tvd_samples": 50, "samples": 80, "temperature": 1}, 80),
     ({"tvd_samples": 50, "samples": 2, "temperature": 1}, 50),
     ({"samples": 2}, 2), ({}, 1)],
)  # fmt: skip
def test_samples_are_as_many_as_the_distribution_needs(values: dict[str, Any], samples: int) -> None:
    """The larger of the two numbers is asked, and stays so when the configuration is read again."""
    config = RunConfig.model_validate({"tasks": ["nli"], "models": [{"model": MODEL}]} | values)

    assert samples == config.samples
    assert config == RunConfig.model_validate(config.model_dump(mode="json"))


@pytest.mark.parametrize("temperature", [None, 0, 0.0])
def test_sampling_at_temperature_0_is_refused(temperature: float | None) -> None:
    """It gives the same answer each time."""
    values = {"tasks": ["nli"], "models": [{"model": MODEL}], "tvd_samples": 50, "temperature": temperature}

    with pytest.raises(ValidationError, match="sampling at temperature 0 gives one-hot distributions"):
        RunConfig.model_validate(values)


@pytest.mark.parametrize("count", [0, 1, 49, -50])
def test_a_small_number_of_samples_is_refused(count: int) -> None:
    """Below 50 the shares are mostly noise."""
    with pytest.raises(ValidationError, match="greater than or equal to 50"):
        RunConfig.model_validate(
            {"tasks": ["nli"], "models": [{"model": MODEL}], "temperature": 1, "tvd_samples": count}
        )
