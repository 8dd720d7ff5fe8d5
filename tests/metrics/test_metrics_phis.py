"""phi-CCT, phi within examples, Youden's J and phi at another impact rate."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from metrics_oracles import (
    JACKKNIFE,
    PERCENTILE,
    clustered_tables,
    expand_all,
    naive_tanh_jackknife,
    pearson_of_trials,
    table,
    table_lists,
    within_of_trials,
    youden_of_trials,
)
from scipy import stats
from sklearn.metrics import matthews_corrcoef
from statsmodels.stats.contingency_tables import StratifiedTable
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from explaineval.metrics.correlations import (
    odds_ratio_within,
    perfect_limit,
    phi,
    phi_at_p,
    phi_by_letter,
    phi_cct,
    phi_within,
    youden_j,
)
from explaineval.metrics.estimates import Interval, empty_margin
from explaineval.metrics.rates import difference_limits, fpr, rate, tpr
from explaineval.records import Estimate

ALL = [(phi_cct, pearson_of_trials), (phi_within, within_of_trials), (youden_j, youden_of_trials)]
FUNCTIONS = [function for function, _ in ALL]


@given(table)
def test_phi_is_matthews_and_pearson(row):
    """On a defined table phi is scikit-learn's MCC and scipy's Pearson r of the trials."""
    assume(empty_margin(*row) is None)
    _, impact, mention = expand_all([row])

    assert matthews_corrcoef(impact, mention) == pytest.approx(phi(*row))
    assert pearson_of_trials([row]) == pytest.approx(phi(*row))


@given(table)
def test_phi_is_nan_exactly_where_a_margin_is_empty(row):
    """NaN and the reason in words go together, and with Pearson's being undefined."""
    assert math.isnan(pearson_of_trials([row])) == math.isnan(phi(*row)) == (empty_margin(*row) is not None)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ((0, 0, 0, 0), "no scored trial"),
        ((0, 0, 2, 5), "no answer changed"),
        ((2, 5, 0, 0), "every answer changed"),
        ((0, 3, 0, 5), "no explanation mentions the insertion"),
        ((3, 0, 5, 0), "every explanation mentions the insertion"),
        ((1, 0, 0, 1), None),
    ],
)
def test_empty_margin_says_which(row, reason):
    """Each empty margin has its own words."""
    assert reason == empty_margin(*row)


@given(table)
def test_phi_is_symmetric_and_changes_sign_under_negation(row):
    """Swapping I and M leaves phi, negating either one changes its sign, negating both leaves it."""
    a, b, c, d = row
    assume(empty_margin(*row) is None)
    value = phi(a, b, c, d)

    assert -1 <= value <= 1
    assert value == phi(a, c, b, d)
    assert value == -phi(b, a, d, c)
    assert value == -phi(c, d, a, b)
    assert value == phi(d, c, b, a)


def test_phi_survives_large_counts():
    """A perfect table of a hundred million trials gives exactly 1, without overflow."""
    assert phi(30_000_000, 0, 0, 70_000_000) == 1.0


@pytest.mark.parametrize(("function", "oracle"), ALL)
@given(rows=table_lists)
def test_values_match_the_trials(function, oracle, rows):
    """Every pooled number is the plain one of its trials, and undefined together with it."""
    estimate = function(np.array(rows, dtype=np.int64).reshape(-1, 4), JACKKNIFE)
    expected = oracle(rows)

    assert (estimate.value is None) == math.isnan(expected)
    if estimate.value is not None:
        assert expected == pytest.approx(estimate.value, abs=1e-9)
    assert sum(map(sum, rows)) == estimate.n
    assert sum(sum(row) > 0 for row in rows) == estimate.n_examples


@pytest.mark.parametrize(("function", "oracle"), ALL[:2])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_interval_is_the_naive_jackknife(function, oracle, seed):
    """Limits are those of a loop that leaves each example out and starts again from the trials."""
    tables = clustered_tables(25, 5, seed)
    estimate = function(tables, JACKKNIFE)
    df = sum(row[0] > 0 for row in tables.tolist()) - 1
    expected = naive_tanh_jackknife(oracle(tables.tolist()), tables.tolist(), oracle, df)

    assert expected == pytest.approx((estimate.low, estimate.high), rel=1e-9)
    assert estimate.note is None


@pytest.mark.sampled(2)
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("interval", [JACKKNIFE, PERCENTILE], ids=lambda interval: interval.method)
@given(rows=table_lists, random=st.randoms(use_true_random=False))
def test_order_of_examples_and_empty_examples_change_nothing(function, interval, rows, random):
    """Shuffling examples and adding ones without a trial gives the same digits."""
    assume(rows)
    shuffled = [*rows, (0, 0, 0, 0)]
    random.shuffle(shuffled)

    assert function(np.array(rows), interval) == function(np.array(shuffled), interval)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("interval", [JACKKNIFE, PERCENTILE], ids=lambda interval: interval.method)
@given(rows=table_lists)
def test_limits_enclose_or_are_explained(function, interval, rows):
    """Limits lie in [−1, 1] in order and there is a note where there are none."""
    estimate = function(np.array(rows, dtype=np.int64).reshape(-1, 4), interval)

    assert (estimate.value is None) == (estimate.undefined is not None)
    assert (estimate.low is None) == (estimate.high is None)
    if estimate.low is not None:
        assert -1 <= estimate.low <= estimate.high <= 1
    elif estimate.value is not None:
        assert estimate.note


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("interval", [JACKKNIFE, PERCENTILE], ids=lambda interval: interval.method)
def test_nothing_scored_is_undefined(function, interval):
    """Without an example, or without a trial in any, the number is undefined and says why."""
    for tables in (np.zeros((0, 4), dtype=np.int64), np.zeros((3, 4), dtype=np.int64)):
        estimate = function(tables, interval)

        assert (estimate.value, estimate.undefined) == (None, "no scored trial")
        assert (estimate.n, estimate.n_examples) == (0, 0)


def test_within_names_its_own_reasons():
    """Where only differences between examples exist, phi is defined and phi within is not."""
    no_flip_inside = np.array([[1, 1, 0, 0], [0, 0, 1, 3]])
    no_mention_inside = np.array([[1, 0, 1, 0], [0, 1, 0, 3]])

    assert phi_cct(no_flip_inside, JACKKNIFE).value is not None
    assert phi_within(no_flip_inside, JACKKNIFE).undefined == "no example has both changed and unchanged answers"
    assert phi_within(no_mention_inside, JACKKNIFE).undefined == (
        "no example has both mentioned and unmentioned insertions"
    )


def test_within_is_zero_for_an_explainer_blind_to_the_insertion():
    """Unstable examples that also talk more give a positive phi and a phi within of 0."""
    tables = np.array([[2, 2, 2, 2], [0, 1, 1, 6], [0, 0, 0, 8]] * 10)
    tables[1::3] = [1, 3, 1, 3]
    tables[2::3] = [0, 0, 0, 8]

    assert phi_cct(tables, JACKKNIFE).value > 0.1
    assert phi_within(tables, JACKKNIFE).value == pytest.approx(0, abs=1e-12)


def test_youden_is_zero_when_nothing_is_mentioned():
    """J needs flips and non-flips only: with no mention it is 0, while phi is undefined."""
    estimate = youden_j(np.array([[0, 2, 0, 3], [0, 1, 0, 4]]), JACKKNIFE)

    assert estimate.value == 0
    assert estimate.low < 0 < estimate.high
    assert "only 2 examples have a changed answer; rough interval: only 2 examples have an unchanged" in estimate.note


def test_youden_has_the_interval_of_newcombe():
    """One trial an example, as many changed as unchanged: statsmodels' Newcombe interval at the t quantile's level."""
    for mentioned, alarms, n in ((18, 3, 20), (20, 0, 20), (19, 12, 40), (0, 0, 15), (5, 5, 5), (2, 30, 33)):
        tables = [[1, 0, 0, 0]] * mentioned + [[0, 1, 0, 0]] * (n - mentioned)
        tables += [[0, 0, 1, 0]] * alarms + [[0, 0, 0, 1]] * (n - alarms)
        level = 2 * stats.norm.sf(stats.t.ppf(0.975, n - 1))

        estimate = youden_j(np.array(tables), JACKKNIFE)

        expected = confint_proportions_2indep(mentioned, n, alarms, n, method="newcomb", alpha=level)
        assert expected == pytest.approx((estimate.low, estimate.high), abs=1e-9)


def test_limits_of_a_difference_are_the_published_ones():
    """56 of 70 against 48 of 80: method 10 of Newcombe (1998) gives 0.0524 to 0.3339."""
    first, second = (
        Estimate(value=hits / n, low=low, high=high, n=n, n_examples=n)
        for hits, n in ((56, 70), (48, 80))
        for low, high in [proportion_confint(hits, n, method="wilson")]
    )

    found = difference_limits(0.2, first, second, ("one", "other"))

    assert [round(found.low, 4), round(found.high, 4)] == [0.0524, 0.3339]
    assert found == pytest.approx((*confint_proportions_2indep(56, 70, 48, 80, method="newcomb"), None))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_youden_joins_the_clustered_limits_of_its_two_rates(seed):
    """Each side adds the distances of one rate's lower and the other's upper limit in squares."""
    tables = clustered_tables(30, 5, seed)
    hits, alarms = tpr(tables, JACKKNIFE), fpr(tables, JACKKNIFE)

    estimate = youden_j(tables, JACKKNIFE)

    low = ((hits.value - hits.low) ** 2 + (alarms.high - alarms.value) ** 2) ** 0.5
    high = ((hits.high - hits.value) ** 2 + (alarms.value - alarms.low) ** 2) ** 0.5
    assert (estimate.value - low, estimate.value + high) == pytest.approx((estimate.low, estimate.high), abs=1e-12)
    assert estimate.note is None


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([[1, 1, 1, 5], [0, 0, 1, 5], [0, 0, 0, 5]], "fewer than 2 examples have a changed answer"),
        ([[1, 1, 1, 5], [1, 2, 0, 0], [3, 1, 0, 0]], "fewer than 2 examples have an unchanged answer"),
    ],
)
def test_youden_without_the_interval_of_a_rate_has_none(rows, words):
    """Where one of the two rates rests on a single example the note says which."""
    estimate = youden_j(np.array(rows), JACKKNIFE)

    assert estimate.value is not None
    assert (estimate.low, estimate.high) == (None, None)
    assert words in estimate.note


def test_a_perfect_youden_has_a_lower_limit():
    """J = 1 is not certain: the rates it is made of are 1 and 0 with limits of their own."""
    estimate = youden_j(np.array([[1, 0, 0, 3]] * 12), JACKKNIFE)

    assert (estimate.value, estimate.high) == (1, 1)
    assert 0.5 < estimate.low < 1


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([[1, 1, 1, 5], [0, 1, 1, 5], [0, 1, 0, 5]], "fewer than 2 examples have a changed answer"),
        ([[1, 0, 0, 4], [2, 0, 0, 4], [1, 0, 0, 3]], "exactly 1"),
        ([[1, 0, 2, 0], [2, 0, 1, 0], [0, 1, 1, 2]], "without one of the examples"),
        ([[1, 1, 1, 5]] * 6, "no spread"),
    ],
)
def test_no_interval_gives_its_reason(rows, words):
    """The value stays, the limits go, the note says why."""
    estimate = phi_cct(np.array(rows), JACKKNIFE)

    assert estimate.value is not None
    assert (estimate.low, estimate.high) == (None, None)
    assert words in estimate.note


def test_few_mentioned_flips_give_a_rough_interval():
    """With two to four examples that have a mentioned flip the interval stands, with a note."""
    tables = np.array([[1, 0, 0, 4], [1, 0, 1, 4], [0, 1, 1, 4], [0, 1, 0, 5], [1, 1, 0, 5]])
    estimate = phi_cct(tables, JACKKNIFE)

    assert estimate.low < estimate.value < estimate.high
    assert "only 3 examples" in estimate.note


def pooled_odds(tables):
    """statsmodels' Mantel–Haenszel odds ratio, the tables as strata."""
    return float(StratifiedTable([np.array(row).reshape(2, 2) for row in tables]).oddsratio_pooled)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_odds_ratio_is_mantel_and_haenszels(seed):
    """The value is statsmodels', the limits those of a loop that leaves out each example, on the logarithm."""
    tables = clustered_tables(40, 6, seed)
    estimate = odds_ratio_within(tables, JACKKNIFE)
    left = [math.log(pooled_odds(np.delete(tables, at, axis=0))) for at in range(len(tables))]
    error = math.sqrt((len(left) - 1) / len(left) * sum((value - np.mean(left)) ** 2 for value in left))
    df = int((tables[:, 0] > 0).sum()) - 1

    assert estimate.value == pytest.approx(pooled_odds(tables))
    expected = stats.t.interval(0.95, df, math.log(estimate.value), error)
    assert (math.log(estimate.low), math.log(estimate.high)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("rows", "value", "reason"),
    [
        ([[0, 0, 2, 5]] * 3, None, "no answer changed"),
        ([[1, 1, 0, 0], [0, 0, 1, 3]], None, "no example has both changed and unchanged answers"),
        ([[1, 0, 0, 3]] * 9, None, "infinite: no example has both an unmentioned change"),
        ([[1, 1, 0, 0], [1, 0, 1, 0]], None, "no example has changed and unchanged answers as well as"),
        ([[0, 1, 1, 3]] * 9, 0.0, "no interval: the value is exactly 0"),
    ],
)
def test_the_odds_ratio_is_undefined_with_a_reason(rows, value, reason):
    """Empty margins, an infinite ratio, and 0, which has no logarithm."""
    estimate = odds_ratio_within(np.array(rows), JACKKNIFE)

    assert estimate.value == value
    assert reason in str(estimate.undefined or estimate.note)
    assert (estimate.low, estimate.high) == (None, None)


@given(rows=table_lists, random=st.randoms(use_true_random=False))
def test_the_order_of_examples_leaves_the_odds_ratio(rows, random):
    """Shuffled examples and one without a trial give the same digits, and limits enclose the value."""
    shuffled = [*rows, (0, 0, 0, 0)]
    random.shuffle(shuffled)
    estimates = [odds_ratio_within(np.array(given).reshape(-1, 4), JACKKNIFE) for given in (rows, shuffled)]

    assert estimates[0] == estimates[1]
    if estimates[0].low is not None:
        assert 0 < estimates[0].low <= estimates[0].value <= estimates[0].high


@pytest.mark.parametrize(("p", "expected"), [(0.02, 0.14), (0.05, 0.21), (0.1, 0.28), (0.3, 0.39)])
def test_phi_at_p_gives_the_published_row(p, expected):
    """TPR .6 and FPR .2 give the row of phi values printed on the method page."""
    assert expected == round(phi_at_p(0.6, 0.2, p), 2)


@given(table)
def test_phi_at_its_own_impact_rate_is_phi(row):
    """Carried to its own impact rate, phi stays."""
    assume(empty_margin(*row) is None)
    a, b, c, d = row

    assert phi(*row) == pytest.approx(phi_at_p(a / (a + b), c / (c + d), (a + b) / sum(row)), abs=1e-12)


@pytest.mark.parametrize("arguments", [(0.6, 0.2, 0.0), (0.6, 0.2, 1.0), (0.0, 0.0, 0.3), (1.0, 1.0, 0.3)])
def test_phi_at_p_is_nan_on_an_empty_margin(arguments):
    """An impact or mention rate of 0 or 1 leaves nothing to correlate."""
    assert math.isnan(phi_at_p(*arguments))


@pytest.mark.parametrize(
    "tables",
    [np.ones((2, 3), dtype=int), np.ones(4, dtype=int), np.ones((2, 4)), -np.ones((2, 4), dtype=int)],
)
def test_wrong_tables_are_refused(tables):
    """A wrong shape, averages and negative counts are errors, not numbers."""
    with pytest.raises(ValueError, match=r"tables|counts"):
        phi_cct(tables, JACKKNIFE)


def test_the_limit_of_a_perfect_phi_is_the_lowest_that_would_seldom_be_perfect():
    """One trial an example, 20 changed and 20 not: by brute force over TPR, FPR and three impact rates."""
    tables = np.array([[1, 0, 0, 0]] * 20 + [[0, 0, 0, 1]] * 20)
    impact = rate([1] * 20 + [0] * 20, [1] * 40, Interval())
    grid = np.linspace(0.5, 1, 401)
    kept = [(t, s) for t in grid for s in grid if t**20 * s**20 >= 0.025]

    lowest = min(phi_at_p(t, 1 - s, p) for t, s in kept for p in (impact.low, 0.5, impact.high))
    assert perfect_limit(tables) == pytest.approx(lowest, abs=0.005)
    assert f"if it were truly below {perfect_limit(tables):.2f}" in phi_cct(tables, Interval()).note
    assert f"if it were truly above {-perfect_limit(tables):.2f}" in phi_cct(tables[:, [1, 0, 3, 2]], Interval()).note


@pytest.mark.parametrize(("p", "hit", "alarm"), [(0.3, 0.95, 0.002), (0.1, 0.85, 0.0), (0.5, 0.99, 0.02)])
def test_the_limit_of_a_perfect_phi_seldom_lies_above_the_truth(p, hit, alarm):
    """In 2,000 samples of 60 examples × 3, perfect ones or not, at most 2.5 % claim too much (3 s.e. more here)."""
    rng = np.random.default_rng(8)
    truth, wrong = phi_at_p(hit, alarm, p), 0
    for _ in range(2000):
        changed = rng.random((60, 3)) < p
        said = rng.random((60, 3)) < np.where(changed, hit, alarm)
        if (changed == said).all() and changed.any() and not changed.all():
            cells = (changed & said, changed & ~said, ~changed & said, ~changed & ~said)
            wrong += perfect_limit(np.stack([cell.sum(axis=1) for cell in cells], axis=1)) > truth

    assert wrong / 2000 <= 0.025 + 3 * 0.0035


def test_phi_by_letter_is_the_correlation_of_what_is_left_within_answers():
    """Pearson's correlation of impact and mention, each less its mean among the trials with the same answer."""
    rng = np.random.default_rng(9)
    answer, changed = rng.integers(3, size=(40, 5)), rng.random((40, 5)) < 0.3
    said = rng.random((40, 5)) < 0.2 + 0.2 * answer + 0.2 * changed
    cells = (changed & said, changed & ~said, ~changed & said, ~changed & ~said)
    tables = np.stack([np.stack([(c & (answer == k)).sum(axis=1) for c in cells], axis=1) for k in range(3)], axis=1)

    def within(values):
        means = np.array([values[answer == k].mean() for k in range(3)])
        return (values - means[answer]).ravel()

    found = phi_by_letter(tables)
    assert found.value == pytest.approx(stats.pearsonr(within(changed), within(said)).statistic)
    assert found.low < found.value < found.high
