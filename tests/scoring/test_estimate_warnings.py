"""Warnings about thin data and about noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from explaineval.metrics.estimates import Interval
from explaineval.metrics.rates import rate
from explaineval.metrics.reliability import noise_margin
from explaineval.records import Estimate
from explaineval.scoring.codes import CODES
from explaineval.scoring.metric import find_noise, noise_warning
from explaineval.scoring.registry import METRICS
from explaineval.scoring.warnings import estimate_warnings, shortages_of

SURE = Estimate(value=0.5, low=0.4, high=0.6, n=120, n_examples=30)


def warned(name, estimate, tables=(), among=""):
    """The warnings of an estimate that rests on these tables."""
    metric = METRICS[name]
    return list(estimate_warnings(metric, estimate, shortages_of(metric, estimate, tables, among)))


@pytest.mark.parametrize(
    ("mentioned", "unmentioned", "both", "expected"),
    [
        (10, 10, 0, []),
        (8, 12, 0, []),
        (12, 8, 0, []),
        (9, 9, 1, ["Only 19 examples have a changed answer;"]),
        (7, 13, 0, ["Only 7 examples have a changed answer whose explanation mentions"]),
        (13, 7, 0, ["Only 7 examples have a changed answer whose explanation does not mention"]),
        (
            0,
            1,
            0,
            [
                "Only 1 example has a changed answer;",
                "No example has a changed answer whose explanation mentions",
                "Only 1 example has a changed answer whose explanation does not mention",
            ],
        ),
    ],
)
def test_each_threshold_has_its_sentence(mentioned, unmentioned, both, expected):
    """20 examples with a flip, 8 with a mentioned and 8 with an unmentioned one are enough, not one less."""
    flipped = [[1, 0, 0, 2]] * mentioned + [[0, 2, 0, 2]] * unmentioned + [[1, 1, 0, 2]] * both
    rows = np.array([*flipped, *[[0, 0, 1, 2]] * 20])

    found = warned("phi_cct", SURE, rows)

    assert len(expected) == len(found)
    assert all(one.text.startswith(start) for one, start in zip(found, expected, strict=True))


def test_an_undefined_number_has_no_warnings():
    """It says by itself why it is undefined."""
    undefined = Estimate(value=None, n=0, n_examples=0, undefined="no scored trial")

    assert warned("phi_cct", undefined, [[0, 0, 0, 0]]) == []


def test_the_scarcest_of_several_needs_is_told():
    """Few examples at all are told once; few with an unchanged answer where those are fewer still."""
    few = [[1, 1, 1, 1]] * 9
    mostly_changed = [[2, 2, 0, 0]] * 30 + [[1, 1, 1, 1]] * 3

    codes = [[one.code for one in warned("youden_j", SURE, rows)] for rows in (few, mostly_changed)]

    assert codes == [["few_flips"], ["few_unchanged"]]


def test_a_number_over_levels_is_as_thin_as_its_middle_level():
    """A terse level that mentions nothing and a talkative one that mentions everything are part of any sweep."""
    terse, middle, talkative = ([[mentioned, 2 - mentioned, 1, 1]] * 12 for mentioned in (0, 1, 2))
    wide = np.stack([terse * 2, middle * 2, talkative * 2], axis=1)
    tight = np.stack([terse * 2, talkative * 2, talkative * 2], axis=1)

    assert warned("f_auroc", SURE, wide) == []
    (found,) = warned("f_auroc", SURE, tight, ", among the trials that all levels share")
    assert found.text == (
        "No example has a changed answer whose explanation does not mention the insertion, among the trials that all "
        "levels share, at the middle level; with fewer than 8 the interval is too short."
    )


def test_an_interval_that_is_missing_or_rough_is_told():
    """With the estimate's own note; a number that has no interval by its nature has no such warning."""
    bare = Estimate(value=1.0, n=90, n_examples=30, note="no interval: the value is exactly 1")
    rough = SURE.model_copy(update={"note": "rough interval: only 3 examples have a changed answer"})

    assert [(one.code, one.text) for one in warned("accuracy", bare)] == [
        ("no_interval", "accuracy: no interval: the value is exactly 1.")
    ]
    assert [(one.code, one.text) for one in warned("accuracy", rough)] == [
        ("rough_interval", "accuracy: rough interval: only 3 examples have a changed answer.")
    ]
    assert warned("phi_cct_upper_bound", bare, [[1, 1, 1, 1]] * 30) == []


def mover(impact, low, sham, high):
    """The lower limit of a difference of two rates by MOVER."""
    return impact - sham - math.hypot(impact - low, high - sham)


def test_margin_of_noise_is_movers_with_statsmodels_limits():
    """One trial and one sham an example: Wilson's limit with t, and the exact upper limit, both by statsmodels."""
    flips, shams = np.array([1] * 12 + [0] * 28), np.array([1] * 3 + [0] * 37)
    _, high = proportion_confint(3, 40, method="beta")
    t = stats.t.ppf(0.975, 39)
    low, _ = proportion_confint(12, 40, alpha=2 * stats.norm.sf(t), method="wilson")

    margin = noise_margin(flips, np.ones(40, int), shams, np.ones(40, int))

    assert margin.lower_limit == pytest.approx(mover(12 / 40, low, 3 / 40, high))


@pytest.mark.parametrize(("same", "effective"), [(True, 20), (False, 60)])
def test_several_shams_count_as_far_as_impact_differs_within_examples(same, effective):
    """Changes that always come together make three shams one; changes that are independent leave them three."""
    flips = np.array([3, 0] * 10) if same else np.array([0, 1, 1, 2] * 5)
    _, high = proportion_confint(0, effective, method="beta")

    margin = noise_margin(flips, np.full(20, 3), np.zeros(20, int), np.full(20, 3))

    low = rate(flips, np.full(20, 3), Interval()).low
    assert margin.lower_limit == pytest.approx(mover(margin.impact_rate, low, 0, high))


def test_noise_is_not_excluded_but_unlikely_where_no_sham_changed():
    """21 of 360 answers change. Of 40 shams none does by chance in .942 to the 40th = 9 %, of 60 in 3 %."""
    flips, trials = np.array([5] * 2 + [1] * 11 + [0] * 47), np.full(60, 6)

    few = find_noise(noise_margin(flips, trials, np.zeros(60, int), np.array([1] * 40 + [0] * 20)))
    more = find_noise(noise_margin(flips, trials, np.zeros(60, int), np.ones(60, int)))

    assert (few[0], more[0]) == ("noise", "noise_not_excluded")
    assert "in none of the 60 shams" in more[1]
    assert CODES[more[0]].grade == "mind"


def test_the_number_of_examples_settles_noise():
    """That many examples with the same rates are enough, one tenth fewer are not; equal rates never are."""
    flips, shams = np.array([1] * 3 + [0] * 17), np.array([1] + [0] * 19)
    needed = noise_margin(flips, np.ones(20, int), shams, np.ones(20, int)).examples

    def is_settled(times):
        counts = np.tile(flips, times), np.tile(np.ones(20, int), times), np.tile(shams, times)
        return noise_warning(*counts, np.tile(np.ones(20, int), times)) is None

    assert not is_settled(math.floor(needed * 0.9 / 20))
    assert is_settled(math.ceil(needed * 1.05 / 20))
    assert noise_margin(flips, np.ones(20, int), flips, np.ones(20, int)).examples is None


def test_clear_impact_is_no_noise():
    """Half of the answers change and no sham does: no warning."""
    assert noise_warning([2] * 30, [4] * 30, [0] * 30, [1] * 30) is None


def test_impact_like_the_shams_is_noise():
    """As many changes by asking again as by the intervention: a sentence with both rates."""
    sentence = noise_warning([1, 0] * 20, [2] * 40, [1, 0] * 20, [2] * 40)

    assert "25.0 % of the interventions and in 25.0 % of the shams" in sentence


@pytest.mark.parametrize(("shams", "warned"), [(1, True), (200, False)])
def test_a_sham_rate_of_0_counts_with_its_upper_limit(shams, warned):
    """No sham flip among few examples with a sham does not prove that there is no noise."""
    flips = [1] * 40 + [0] * 160
    trials = [1] * 200
    sham_trials = [1] * shams + [0] * (200 - shams)

    assert warned == (noise_warning(flips, trials, [0] * 200, sham_trials) is not None)


def test_without_shams_noise_is_unknown():
    """Scored trials and no sham: the sentence says that noise is unknown."""
    assert "No sham was scored" in noise_warning([1, 1], [2, 2], [0, 0], [0, 0])


def test_without_trials_nothing_is_warned():
    """No scored trial, nothing to warn about."""
    assert noise_warning([], [], [], []) is None
    assert noise_warning([0], [0], [0], [1]) is None


def test_one_example_is_always_warned_about():
    """One example cannot show that impact exceeds noise."""
    assert noise_warning([4], [4], [0], [1]) is not None


@given(st.lists(st.tuples(*[st.integers(0, 3)] * 4), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_order_of_examples_changes_nothing(rows, random):
    """Shuffled examples get the same verdict."""
    shuffled = random.sample(rows, len(rows))
    verdicts = [
        noise_warning(
            [row[0] for row in one],
            [row[0] + row[1] for row in one],
            [row[2] for row in one],
            [row[2] + row[3] for row in one],
        )
        for one in (rows, shuffled)
    ]

    assert verdicts[0] == verdicts[1]


@pytest.mark.parametrize(
    "arguments",
    [([2], [1], [0], [1]), ([1], [1], [0, 0], [1, 1]), ([1], [1, 1], [0], [1])],
)
def test_wrong_counts_are_refused(arguments):
    """More flips than trials and arrays of different examples are errors."""
    with pytest.raises(ValueError, match=r"successes|shams"):
        noise_warning(*arguments)
