"""Paired differences, families of them, Holm, ranks."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from explaineval.metrics.correlations import phi, phi_values
from explaineval.metrics.differences import (
    SAME,
    Measured,
    Spread,
    compare_pairs,
    compare_with_reference,
    holm_adjusted,
    mean_measure,
    measure,
    satterthwaite,
    undefined_measure,
)


def draw_tables(seed: int, examples: int = 80, trials: int = 5, tpr: float = 0.6, fpr: float = 0.2) -> np.ndarray:
    """Tables (G, 4) of one model: unstable examples change together, mentions follow TPR and FPR."""
    generator = np.random.default_rng(seed)
    unstable = generator.beta(1, 6, size=(examples, 1))
    changed = generator.random((examples, trials)) < unstable
    mentioned = generator.random((examples, trials)) < np.where(changed, tpr, fpr)
    cells = (changed & mentioned, changed & ~mentioned, ~changed & mentioned, ~changed & ~mentioned)
    return np.stack([cell.sum(axis=1) for cell in cells], axis=1)


def measure_phi(tables: np.ndarray) -> Measured:
    """phi of one model on the shared trials."""
    mentioned_flips = int((tables[:, 0] > 0).sum())
    return measure(tables.astype(float), phi_values, mentioned_flips, "a mentioned change", int(tables.sum()))


def leave_one_out(tables: np.ndarray) -> np.ndarray:
    """phi without each example in turn, computed one by one from the definition."""
    return np.array([phi(*np.delete(tables, at, axis=0).sum(axis=0)) for at in range(len(tables))])


def test_a_difference_has_the_paired_jackknife_error():
    """Value, standard error, df, limits and p agree with the textbook formulas, computed trial set by trial set."""
    tables = draw_tables(1), draw_tables(2, tpr=0.3)
    row = compare_pairs([measure_phi(one) for one in tables]).differences[0]

    left = [leave_one_out(one) for one in tables]
    count = len(tables[0])
    own = [(count - 1) / count * ((each - each.mean()) ** 2).sum() for each in left]
    gaps = left[0] - left[1]
    error = math.sqrt((count - 1) / count * ((gaps - gaps.mean()) ** 2).sum())
    carriers = [int((one[:, 0] > 0).sum()) for one in tables]
    df = sum(own) ** 2 / sum(square**2 / (number - 1) for square, number in zip(own, carriers, strict=True))
    value = phi(*tables[0].sum(axis=0)) - phi(*tables[1].sum(axis=0))

    assert row.value == pytest.approx(value)
    assert row.error == pytest.approx(error)
    assert row.df == pytest.approx(df)
    assert (row.low, row.high) == pytest.approx(stats.t.interval(0.95, df, value, error))
    assert row.p == pytest.approx(2 * stats.t.sf(abs(value / error), df))


def test_one_pair_needs_no_adjustment():
    """A family of one pair is tested as that pair alone."""
    row = compare_pairs([measure_phi(draw_tables(seed)) for seed in (1, 2)]).differences[0]

    assert row.p_adjusted == row.p
    assert (row.low_adjusted, row.high_adjusted) == (row.low, row.high)


def test_the_detectable_difference_has_the_power_it_claims():
    """At a true difference as large as `detectable`, the test of a single pair finds it with a probability of .8."""
    row = compare_pairs([measure_phi(draw_tables(seed)) for seed in (3, 4)]).differences[0]
    shift = row.detectable / row.error

    power = stats.nct.sf(stats.t.ppf(0.975, row.df), row.df, shift)

    assert power == pytest.approx(0.8, abs=0.01)


def test_max_t_agrees_with_draws_from_the_multivariate_t():
    """Adjusted p-values equal those of a multivariate t with the correlations of the pairs, drawn by scipy."""
    generator = np.random.default_rng(0)
    matrix = generator.standard_normal((60, 5)) * 0.02 + generator.standard_normal((60, 1)) * 0.02
    systems = [
        Measured(value, column, (Spread(float((column**2).sum()), 12),), 300)
        for value, column in zip((0.0, 0.05, 0.2, 0.3, 0.32), matrix.T, strict=True)
    ]
    rows = compare_pairs(systems, seed=5, draws=100_000).differences

    gaps = np.stack([matrix[:, one] - matrix[:, other] for one, other in itertools.combinations(range(5), 2)], axis=1)
    covariance = gaps.T @ gaps
    scale = np.sqrt(np.diag(covariance))
    df = float(np.median([row.df for row in rows]))
    drawn = stats.multivariate_t(shape=covariance / np.outer(scale, scale), df=df, allow_singular=True, seed=1)
    largest = np.abs(drawn.rvs(100_000)).max(axis=1)
    expected = [float((largest >= abs(row.value / row.error)).mean()) for row in rows]

    upper = [proportion_confint(round(share * 100_000), 100_000, method="beta")[1] for share in expected]
    assert [row.p_adjusted for row in rows] == pytest.approx(upper, abs=0.008)
    critical = np.quantile(largest, 0.95)
    assert [(row.high_adjusted - row.value) / row.error for row in rows] == pytest.approx([critical] * 10, rel=0.03)


def test_holm_agrees_with_statsmodels():
    """Step-down adjusted p-values, ties and order included."""
    values = [0.04, 0.001, 0.03, 0.04, 0.9, 0.012]

    assert holm_adjusted(values) == pytest.approx(multipletests(values, method="holm")[1])


def test_a_reference_is_tested_by_holm():
    """Every other system against the reference, and the reference against none."""
    systems = [measure_phi(draw_tables(seed, tpr=tpr)) for seed, tpr in ((1, 0.9), (2, 0.3), (3, 0.6), (4, 0.2))]
    rows = compare_with_reference(systems, 1).differences

    assert [(row.first, row.second) for row in rows] == [(0, 1), (2, 1), (3, 1)]
    assert [row.p_adjusted for row in rows] == pytest.approx(multipletests([row.p for row in rows], method="holm")[1])
    bonferroni = [row.value + stats.t.ppf(1 - 0.05 / 6, row.df) * row.error for row in rows]
    assert [row.high_adjusted for row in rows] == pytest.approx(bonferroni)


def test_the_mean_over_tasks_adds_independent_variances():
    """Its squared error is the sum of the tasks' squared errors over the squared number of tasks."""
    tasks = [[measure_phi(draw_tables(seed)) for seed in pair] for pair in ((1, 2), (3, 4), (5, 6))]
    alone = [compare_pairs(pair).differences[0] for pair in tasks]
    mean = compare_pairs([mean_measure([pair[side] for pair in tasks]) for side in (0, 1)]).differences[0]

    assert mean.value == pytest.approx(sum(row.value for row in alone) / 3)
    assert mean.error == pytest.approx(math.sqrt(sum(row.error**2 for row in alone)) / 3)
    assert mean.df > max(row.df for row in alone)


def test_satterthwaite_is_welchs_df():
    """Of two independent means it is the df of Welch's test."""
    generator = np.random.default_rng(3)
    one, other = generator.standard_normal(9), 2 * generator.standard_normal(15)
    spreads = [Spread(float(sample.var(ddof=1)) / len(sample), len(sample) - 1) for sample in (one, other)]

    assert satterthwaite(spreads) == pytest.approx(stats.ttest_ind(one, other, equal_var=False).df)


def test_a_system_without_a_value_takes_part_in_no_test():
    """Its rows are undefined with the reason, and the other pair is tested alone."""
    systems = [measure_phi(draw_tables(1)), undefined_measure(80, "no answer changed"), measure_phi(draw_tables(2))]
    family = compare_pairs(systems)

    assert [row.undefined for row in family.differences] == ["no answer changed", None, "no answer changed"]
    assert family.differences[1].p_adjusted == family.differences[1].p
    assert family.ranks[1] is None


def test_equal_outcomes_in_every_example_differ_by_exactly_zero():
    """A rerun that gives the same trials has a difference of 0 and limits of 0, and is never significant."""
    row = compare_pairs([measure_phi(draw_tables(1)), measure_phi(draw_tables(1))]).differences[0]

    assert (row.value, row.low, row.high, row.note, row.significant) == (0.0, 0.0, 0.0, SAME, False)


def test_few_carriers_are_said_and_fewer_give_no_value():
    """Under five examples with a mentioned change the row says so, under two it is undefined."""
    few = np.array([[1, 0, 0, 4]] * 3 + [[0, 1, 1, 3]] * 5 + [[0, 0, 1, 4]] * 20)
    one = np.array([[1, 0, 0, 4]] + [[0, 1, 1, 3]] * 5 + [[0, 0, 1, 4]] * 22)
    systems = [measure_phi(few), measure_phi(draw_tables(1, examples=28)), measure_phi(one)]
    rows = compare_pairs(systems).differences

    assert rows[0].note == "only 3 shared examples have a mentioned change"
    assert "fewer than 2 shared examples" in rows[1].undefined


def test_ranks_count_only_differences_that_are_told():
    """Three clear groups: best, middle pair, worst."""
    worlds = [(0.95, 0.02), (0.6, 0.2), (0.6, 0.2), (0.2, 0.2)]
    systems = [measure_phi(draw_tables(seed, examples=600, tpr=tpr, fpr=fpr)) for seed, (tpr, fpr) in enumerate(worlds)]
    family = compare_pairs(systems)

    assert [(rank.low, rank.high) for rank in family.ranks] == [(1, 1), (2, 3), (2, 3), (4, 4)]
    assert (family.best, family.not_separated) == (0, (0,))


def test_equivalence_needs_a_narrow_interval():
    """Within the declared margin only where the interval at 1 − 2α/m lies inside it."""
    systems = [measure_phi(draw_tables(seed, examples=500)) for seed in (1, 2, 3)]
    wide = compare_pairs(systems, equivalent=0.02).differences
    narrow = compare_pairs(systems, equivalent=0.9).differences

    assert [row.equivalent for row in wide] == [False] * 3
    assert [row.equivalent for row in narrow] == [True] * 3
    row = narrow[0]
    half = stats.t.ppf(1 - 0.05 / 3, row.df) * row.error
    edge = abs(row.value) + half
    assert compare_pairs(systems, equivalent=edge * 1.001).differences[0].equivalent
    assert not compare_pairs(systems, equivalent=edge * 0.999).differences[0].equivalent


def test_a_seed_fixes_every_digit():
    """The same seed gives the same adjusted p-values; another seed other draws."""
    systems = [measure_phi(draw_tables(seed)) for seed in range(4)]

    assert compare_pairs(systems, seed=1) == compare_pairs(systems, seed=1)
    assert compare_pairs(systems, seed=1) != compare_pairs(systems, seed=2)


def test_a_claim_and_its_interval_agree():
    """An adjusted p-value below .05 and adjusted limits without 0 come together."""
    systems = [measure_phi(draw_tables(seed, examples=150, tpr=0.3 + 0.08 * seed)) for seed in range(8)]
    rows = compare_pairs(systems).differences

    assert 0 < sum(row.significant for row in rows) < len(rows)
    for row in rows:
        assert row.significant == (row.low_adjusted > 0 or row.high_adjusted < 0)
