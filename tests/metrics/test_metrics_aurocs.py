"""F-AUROC, F-AUROC with answers asked again, and F-AUROC under the hull."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from metrics_oracles import JACKKNIFE, PERCENTILE, table
from scipy import stats
from scipy.spatial import ConvexHull
from sklearn.metrics import auc

from explaineval.metrics.auroc import f_auroc, f_auroc_hull, f_auroc_own, verbosity_points

trial = st.tuples(st.booleans(), st.lists(st.booleans(), min_size=3, max_size=3))
trial_lists = st.lists(st.lists(trial, min_size=1, max_size=4), min_size=1, max_size=6)
rising = st.tuples(st.booleans(), st.integers(0, 3).map(lambda first: [level >= first for level in range(3)]))
rising_lists = st.lists(st.lists(rising, min_size=1, max_size=4), min_size=1, max_size=6)
TIED = [
    [(False, [False] * 3), (False, [False, True, False]), (True, [False, False, True])],
    [(False, [True, False, False]), (False, [True, True, False]), (True, [False] * 3)],
]
"""Two levels at the same point, but not by the same insertions."""

own_lists = st.lists(st.lists(table, min_size=3, max_size=3), min_size=1, max_size=6)


def tables_of(examples):
    """Tables (G, V, 4) of examples, each a list of (changed, mentioned at each level)."""
    levels = len(examples[0][0][1])
    counts = np.zeros((len(examples), levels, 4), dtype=np.int64)
    for index, trials in enumerate(examples):
        for changed, mentioned in trials:
            for level, said in enumerate(mentioned):
                counts[index, level, 2 * (not changed) + (not said)] += 1
    return counts


def points_of(examples):
    """(FPR, TPR) of each level by counting trials; None where a level has no changed or no unchanged answer."""
    trials = [one for example in examples for one in example]
    flips, others = ([said for changed, said in trials if changed is value] for value in (True, False))
    if not flips or not others:
        return None
    return sorted(zip(np.mean(others, axis=0).tolist(), np.mean(flips, axis=0).tolist(), strict=True))


def area_of(points):
    """numpy's trapezoid under sorted points with the two corners."""
    x, y = zip(*[(0, 0), *points, (1, 1)], strict=True)
    return float(np.trapezoid(y, x))


def seeded_examples(seed, number=30, trials=5):
    """Examples with a flip rate of their own, whose mentions rise with the level and more so after a flip."""
    generator = np.random.default_rng(seed)
    made = []
    for rate in generator.beta(1, 4, number).tolist():
        changed = generator.random(trials) < rate
        ready = generator.random(trials) - 0.3 * changed
        made.append([(bool(i), (r < np.array([0.1, 0.3, 0.5])).tolist()) for i, r in zip(changed, ready, strict=True)])
    return made


def planted(flips, others):
    """Tables (20, V, 4): ten examples with 10 flips, ten with 10 others, so many of which each level mentions."""
    changed = [[m, 10 - m, 0, 0] for m in flips]
    unchanged = [[0, 0, m, 10 - m] for m in others]
    return np.array([changed, unchanged] * 10)


@pytest.mark.parametrize(
    ("flips", "others", "expected"),
    [
        ((6, 6, 6), (2, 2, 2), 0.7),  # verbosity changes nothing: a triangle over the diagonal, (1 + TPR − FPR)/2
        ((10, 10, 10), (10, 10, 10), 0.5),  # says everything
        ((0, 0, 0), (0, 0, 0), 0.5),  # says nothing
        ((0, 0, 10, 10), (0, 0, 10, 10), 0.5),  # says nothing, and everything above a level
        ((6, 10, 10), (2, 10, 10), 0.7),  # says everything above a level: the rest stays as it was
        ((10, 10), (0, 0), 1.0),  # says what moved the answer and nothing else
        ((0, 0), (10, 10), 0.0),  # says the very opposite
        ((2, 6, 9), (0, 2, 5), 0.08 + 0.225 + 0.475),  # .2·(.2+.6)/2 + .3·(.6+.9)/2 + .5·(.9+1)/2
        ((9, 2, 6), (5, 0, 2), 0.08 + 0.225 + 0.475),  # in whatever order the levels come
        ((5, 2), (0, 0), 0.75),  # two levels without a false mention: up to .5, then to the corner
        ((8, 4), (2, 6), 0.08 + 0.24 + 0.28),  # more is said and less of it true: the points fall
    ],
)
def test_planted_levels_give_the_area_by_hand(flips, others, expected):
    """Areas worked out on paper come out to the last digits."""
    assert expected == pytest.approx(f_auroc(planted(flips, others), JACKKNIFE).value, abs=1e-15)


@pytest.mark.parametrize("m", [0, 10])
def test_saying_everything_or_nothing_is_exactly_one_half(m):
    """A constant explainer gets exactly 0.5, without an interval since nothing varies."""
    estimate = f_auroc(planted((m, m), (m, m)), JACKKNIFE)

    assert estimate.value == 0.5
    assert (estimate.low, estimate.high) == (None, None)
    assert "no spread" in estimate.note


@given(trial_lists)
def test_value_is_the_trapezoid_of_the_trials(examples):
    """The area is numpy's and scikit-learn's under the points counted from the trials."""
    points = points_of(examples)
    estimate = f_auroc(tables_of(examples), JACKKNIFE)

    assert (points is None) == (estimate.value is None)
    assert estimate.n == 3 * sum(map(len, examples))
    assert estimate.n_examples == len(examples)
    if points is not None:
        assert area_of(points) == pytest.approx(estimate.value, abs=1e-12)
        assert auc(*zip((0, 0), *points, (1, 1), strict=True)) == pytest.approx(estimate.value, abs=1e-12)
        assert 0 <= estimate.value <= 1


@given(trial_lists, st.permutations(range(3)), st.randoms(use_true_random=False))
@example(TIED, [1, 0, 2], random.Random(0))
def test_order_and_duplication_change_nothing(examples, levels, shuffler):
    """Levels and examples in another order, and empty examples, give the same digits; doubling the same value."""
    tables = tables_of(examples)
    shuffled = np.array(shuffler.sample([*tables[:, levels].tolist(), [[0] * 4] * 3], len(tables) + 1))
    estimate = f_auroc(tables, JACKKNIFE)

    assert estimate == f_auroc(shuffled, JACKKNIFE)
    assert estimate.value == f_auroc(np.concatenate([tables, tables]), JACKKNIFE).value


@given(rising_lists)
def test_the_opposite_explainer_gets_the_rest(examples):
    """Where more verbose levels repeat the others, saying what was not said turns the square by half a circle."""
    opposite = [[(changed, [not one for one in said]) for changed, said in trials] for trials in examples]
    value = f_auroc(tables_of(examples), JACKKNIFE).value
    assume(value is not None)

    assert 1 - value == pytest.approx(f_auroc(tables_of(opposite), JACKKNIFE).value, abs=1e-12)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_interval_is_the_naive_jackknife(seed):
    """Limits are those of a loop that leaves each example out, on the logit scale, df = flipped examples − 1."""
    examples = seeded_examples(seed)
    estimate = f_auroc(tables_of(examples), JACKKNIFE)
    left_out = [area_of(points_of(examples[:g] + examples[g + 1 :])) for g in range(len(examples))]
    error = math.sqrt((len(left_out) - 1) * np.var(left_out))
    value = area_of(points_of(examples))
    df = sum(any(changed for changed, _ in trials) for trials in examples) - 1
    half = stats.t.ppf(0.975, df) * error / (value * (1 - value))
    expected = [1 / (1 + math.exp(-(math.log(value / (1 - value)) + sign * half))) for sign in (-1, 1)]

    assert expected == pytest.approx([estimate.low, estimate.high], rel=1e-9)
    assert estimate.note is None


@pytest.mark.parametrize(("function", "interval"), [(f_auroc_own, JACKKNIFE), (f_auroc_own, PERCENTILE)])
@given(rows=own_lists)
def test_limits_enclose_or_are_explained(function, interval, rows):
    """Limits lie in [0, 1] in order, and there is a note where there are none."""
    estimate = function(np.array(rows), interval)

    assert (estimate.value is None) == (estimate.undefined is not None)
    assert (estimate.low is None) == (estimate.high is None)
    if estimate.low is not None:
        assert 0 <= estimate.low <= estimate.high <= 1
    elif estimate.value is not None:
        assert estimate.note


@given(own_lists)
def test_own_answers_give_each_level_its_rates(rows):
    """Each level's point comes from its own table; levels without one are left out, fewer than two are undefined."""
    sums = np.array(rows).sum(axis=0)
    usable = [(c / (c + d), a / (a + b)) for a, b, c, d in sums.tolist() if a + b and c + d]
    estimate = f_auroc_own(np.array(rows), JACKKNIFE)

    assert (estimate.value is None) == (len(usable) < 2)
    if estimate.value is not None:
        assert area_of(sorted(usable)) == pytest.approx(estimate.value, abs=1e-12)


def test_the_same_impacts_give_the_same_number_under_both_names():
    """Where the answers agree the two functions do, digit for digit."""
    tables = tables_of(seeded_examples(4))

    assert f_auroc(tables, JACKKNIFE) == f_auroc_own(tables, JACKKNIFE)
    assert f_auroc(tables, PERCENTILE) == f_auroc_own(tables, PERCENTILE)


def test_a_level_without_a_point_is_left_out_and_not_counted():
    """A level at which no answer changed does not enter, nor do examples asked at that level only."""
    both = planted((6, 9), (2, 5))
    third = np.zeros((20, 1, 4), dtype=np.int64)
    third[:, 0, 2] = 3
    tables = np.concatenate([both, third], axis=1)
    only_third = np.concatenate([np.zeros((1, 2, 4), dtype=np.int64), third[:1]], axis=1)
    estimate = f_auroc_own(np.concatenate([tables, only_third]), JACKKNIFE)

    assert estimate == f_auroc(both, JACKKNIFE)
    assert estimate.n == 400


def test_the_level_with_the_fewest_flipped_examples_sets_the_degrees_of_freedom():
    """With answers of their own, one level's three flipped examples make the whole interval rough."""
    tables = np.array([[[1, 1, 1, 5], [0, 0, 2, 6]], [[1, 0, 1, 6], [0, 0, 1, 7]]] * 5)
    tables[:3, 1] = [[1, 0, 2, 5], [0, 1, 1, 6], [1, 0, 1, 6]]

    assert "only 3 examples have a changed answer" in f_auroc_own(tables, JACKKNIFE).note


@pytest.mark.parametrize(
    ("tables", "reason"),
    [
        (np.zeros((0, 3, 4), dtype=int), "no scored trial"),
        (np.zeros((2, 3, 4), dtype=int), "no scored trial"),
        ([[[1, 1, 1, 1]]], "only one level of verbosity was asked"),
        ([[[0, 0, 1, 1], [0, 0, 2, 0]]], "no answer changed"),
        ([[[1, 1, 0, 0], [2, 0, 0, 0]]], "every answer changed"),
        ([[[1, 1, 1, 1], [0, 0, 2, 2]]], "only one level of verbosity has both"),
        ([[[1, 1, 0, 0], [0, 0, 2, 2]]], "no level of verbosity has both"),
    ],
)
def test_undefined_says_why(tables, reason):
    """Fewer than two levels with a point: no number, and the reason in words."""
    estimate = f_auroc_own(np.array(tables), JACKKNIFE)

    assert estimate.value is None
    assert reason in estimate.undefined


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        (planted((10, 10), (0, 0)), "exactly 1"),
        (planted((0, 0), (10, 10)), "exactly 0"),
        ([[[1, 1, 1, 1], [2, 0, 1, 1]], [[0, 0, 1, 3], [0, 0, 2, 2]]], "fewer than 2 examples have a changed answer"),
        ([[[1, 1, 1, 1], [2, 0, 1, 1]], [[1, 1, 0, 0], [1, 1, 0, 0]]], "without one of the examples"),
    ],
)
def test_no_interval_gives_its_reason(tables, words):
    """The value stays, the limits go, the note says why."""
    estimate = f_auroc(np.array(tables), JACKKNIFE)

    assert estimate.value is not None
    assert (estimate.low, estimate.high) == (None, None)
    assert words in estimate.note


@pytest.mark.parametrize(
    ("flips", "others", "unsure"),
    [
        ((3, 9), (21, 20), True),  # a false mention more or less decides whether the higher TPR comes first
        ((9, 3), (21, 20), False),  # the points rise: what comes first changes little
        ((3, 9), (80, 20), False),  # the points fall, but their order is beyond doubt
        ((3, 9), (20, 20), True),  # a tie by chance, of other insertions
    ],
)
def test_an_order_of_levels_within_chance_is_said(flips, others, unsure):
    """The area jumps where two levels change places, so their order must be sure or the interval is rough."""
    generator = np.random.default_rng(5)
    tables = np.zeros((100, 2, 4), dtype=np.int64)
    tables[..., 3] += 3
    for level in range(2):
        for column, said, among in ((0, flips[level], range(12)), (2, others[level], range(100))):
            mentioned = generator.permutation(among)[:said]
            tables[mentioned, level, column] += 1
            tables[np.setdiff1d(among, mentioned), level, column + 1] += 1
    estimate = f_auroc(tables, JACKKNIFE)

    assert estimate.low < estimate.value < estimate.high
    assert unsure == ("order by FPR is within chance" in (estimate.note or ""))


def test_points_are_fpr_and_tpr_of_each_level():
    """The points stand in the order of the levels, NaN where a level has none."""
    tables = planted((6, 9), (2, 5))
    tables[::2, 1] = 0

    assert verbosity_points(tables)[0].tolist() == [0.2, 0.6]
    assert verbosity_points(tables)[1, 0] == 0.5
    assert math.isnan(verbosity_points(tables)[1, 1])


@pytest.mark.parametrize("function", [f_auroc, f_auroc_own, lambda tables, _: verbosity_points(tables)])
@pytest.mark.parametrize("tables", [np.ones((2, 4), dtype=int), np.ones((2, 2, 3), dtype=int), np.ones((2, 2, 4))])
def test_wrong_tables_are_refused(function, tables):
    """A missing axis, a wrong number of columns and averages are errors, not numbers."""
    with pytest.raises(ValueError, match=r"tables|counts"):
        function(tables, JACKKNIFE)


def test_different_impacts_are_refused_under_the_name_that_promises_the_same():
    """f_auroc takes no levels that changed different answers; f_auroc_own does."""
    tables = np.array([[[1, 1, 1, 1], [1, 0, 2, 1]]])

    with pytest.raises(ValueError, match="f_auroc_own"):
        f_auroc(tables, JACKKNIFE)
    assert f_auroc_own(tables, JACKKNIFE).value is not None


@given(trial_lists)
def test_hull_is_scipys_and_no_smaller_than_the_area(examples):
    """The hull's area is that of scipy's polygon with the corner (1, 0), and at least the trapezoid's and one half."""
    points = points_of(examples)
    mentions, impacts = arrays_of(examples)
    found = f_auroc_hull(mentions, impacts, np.random.default_rng(0), n_examples=len(examples)).estimate

    assert (points is None) == (found.value is None)
    assert (found.low, found.high) == (None, None)
    if points is not None:
        above = [point for point in points if point[1] >= point[0]]
        expected = ConvexHull([(0, 0), (1, 0), (1, 1), *above]).volume
        assert expected == pytest.approx(found.value, abs=1e-9)
        assert found.value >= max(0.5, area_of(points) - 1e-12)


def test_hull_of_permuted_mentions_is_what_shuffling_rows_gives():
    """The stated mean over permutations is that of a plain loop which deals whole rows of mentions anew."""
    mentions, impacts = arrays_of(seeded_examples(6))
    rng, values = np.random.default_rng(1), []
    for _ in range(4000):
        dealt = rng.permutation(mentions, axis=0)
        points = zip(dealt[~impacts].mean(axis=0), dealt[impacts].mean(axis=0), strict=True)
        above = [point for point in points if point[1] >= point[0]]
        values.append(ConvexHull([(0, 0), (1, 0), (1, 1), *above]).volume)
    found = f_auroc_hull(mentions, impacts, np.random.default_rng(2), n_examples=30, permutations=4000)

    assert np.mean(values) == pytest.approx(found.permuted, abs=4 * np.std(values) / math.sqrt(2000))
    assert found.permuted > 0.5
    assert f"{found.permuted:.3f}" in found.estimate.note


@given(trial_lists, st.randoms(use_true_random=False))
def test_hull_does_not_depend_on_the_order_of_trials(examples, shuffler):
    """Shuffling trials changes no digit, the permutations' mean included."""
    mentions, impacts = arrays_of(examples)
    order = shuffler.sample(range(len(impacts)), len(impacts))
    first, second = (
        f_auroc_hull(said, changed, np.random.default_rng(3), n_examples=1, permutations=5)
        for said, changed in ((mentions, impacts), (mentions[order], impacts[order]))
    )

    assert first == second


@pytest.mark.parametrize(
    ("mentions", "impacts", "reason"),
    [
        (np.zeros((0, 3), dtype=bool), np.zeros(0, dtype=bool), "no scored trial"),
        (np.eye(3, dtype=bool), np.zeros(3, dtype=bool), "no answer changed"),
        (np.eye(3, dtype=bool), np.ones(3, dtype=bool), "every answer changed"),
        (np.ones((2, 1), dtype=bool), np.array([True, False]), "only one level"),
    ],
)
def test_hull_undefined_says_why(mentions, impacts, reason):
    """Where there is no area there is no hull, nor a mean over permutations."""
    estimate, permuted = f_auroc_hull(mentions, impacts, np.random.default_rng(0), n_examples=1)

    assert (estimate.value, permuted) == (None, None)
    assert reason in estimate.undefined


@pytest.mark.parametrize(
    ("mentions", "impacts"),
    [
        (np.ones((2, 2)), np.ones(2, dtype=bool)),
        (np.ones((2, 2), dtype=bool), np.ones(2)),
        (np.ones((2, 2), dtype=bool), np.ones(3, dtype=bool)),
        (np.ones(2, dtype=bool), np.ones(2, dtype=bool)),
    ],
)
def test_wrong_trials_are_refused(mentions, impacts):
    """Numbers in place of booleans, and arrays that do not fit, are errors."""
    with pytest.raises(ValueError, match="mentions"):
        f_auroc_hull(mentions, impacts, np.random.default_rng(0), n_examples=1)


def arrays_of(examples):
    """Mentions (trials, V) and impacts (trials,) of examples."""
    trials = [one for example in examples for one in example]
    return np.array([said for _, said in trials]), np.array([changed for changed, _ in trials])
