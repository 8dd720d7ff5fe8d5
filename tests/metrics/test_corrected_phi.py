"""Phi corrected by a sample that people judged, against computations from single trials."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from metrics_oracles import clustered_tables, pearson_of_trials
from scipy.optimize import approx_fprime
from scipy.stats import t
from statsmodels.stats.proportion import proportion_confint

from explaineval.metrics.correlations import phi
from explaineval.metrics.reliability import CELLS, allocate, correct

TABLES = clustered_tables(60, 6, seed=3)
COUNTS = TABLES.sum(axis=0)
FULL = (COUNTS[0], 0, COUNTS[2], 0)
"""What people say of every trial where they agree with all decisions."""


def test_where_people_agree_with_every_decision_nothing_moves() -> None:
    """With the whole run judged, phi, TPR, FPR and J are those of the table itself."""
    found = correct(TABLES, FULL, COUNTS)
    a, b, c, d = COUNTS.tolist()

    assert found.table == (a, b, c, d)
    assert found.phi.value == pytest.approx(pearson_of_trials(TABLES))
    values = [found.tpr.value, found.fpr.value, found.youden_j.value]
    assert values == pytest.approx([a / (a + b), c / (c + d), a / (a + b) - c / (c + d)])
    assert (found.phi.n, found.phi.n_examples) == (COUNTS.sum(), 60)


def test_corrected_cells_by_hand() -> None:
    """Of 40, 20, 30, 110 trials, people call 9/10, 5/10, 2/10 and 1/11 mentioned: a, c = 46, 16."""
    tables = np.array([[2, 1, 1, 5], [2, 1, 2, 6]] * 10)
    found = correct(tables, (9, 5, 2, 1), (10, 10, 10, 11))

    a, c = 40 * 0.9 + 20 * 0.5, 30 * 0.2 + 110 / 11
    assert found.table == pytest.approx((a, 60 - a, c, 140 - c))
    assert found.phi.value == pytest.approx((a * (140 - c) - (60 - a) * c) / math.sqrt(60 * 140 * 62 * 138))
    assert (found.tpr.value, found.fpr.value) == pytest.approx((a / 60, c / 140))


def test_wrong_grades_move_phi_as_they_would_move_the_shares() -> None:
    """Three in a hundred wrong at random, and in the worst way: phi of the shares that would then be true."""
    called, judged = np.array([20.0, 6.0, 4.0, 0.0]), np.array([22, 15, 15, 15])
    found = correct(TABLES, called, judged).wrong_grades
    shares = called / judged

    def phi_of(true):
        return correct(TABLES, np.clip(true, 0, 1) * judged, judged).phi.value

    corners = [phi_of(shares + np.array(signs) * 0.03) for signs in itertools.product((-1, 1), repeat=4)]
    assert found is not None
    assert found.value == pytest.approx(phi_of((shares - 0.03) / 0.94))
    assert (found.low, found.high) == pytest.approx((min(corners), max(corners)))
    assert found.low < correct(TABLES, called, judged).phi.value < found.high
    assert correct(TABLES, (0, 0, 0, 0), COUNTS).wrong_grades is None  # nothing is called mentioned


def test_the_interval_by_numeric_derivatives_and_a_naive_jackknife() -> None:
    """tanh(atanh phi ± t·√(V_jackknife + Σ(∂phi/∂π)²·π̃(1−π̃)/m)/(1 − phi²)), computed from its definition."""
    called, judged = np.array([20, 6, 4, 1]), np.array([22, 15, 15, 15])
    found = correct(TABLES, called, judged)

    def phi_of(shares, tables=TABLES):
        n = tables.sum(axis=0)
        a, c = n[0] * shares[0] + n[1] * shares[1], n[2] * shares[2] + n[3] * shares[3]
        return phi(a, n[0] + n[1] - a, c, n[2] + n[3] - c)

    shares = called / judged
    left_out = [phi_of(shares, np.delete(TABLES, row, axis=0)) for row in range(60)]
    jackknife = 59 / 60 * sum((one - np.mean(left_out)) ** 2 for one in left_out)
    slopes = approx_fprime(shares, phi_of, 1e-7)
    smooth = (called + 0.5) / (judged + 1)
    error = math.sqrt(jackknife + sum(slopes**2 * smooth * (1 - smooth) / judged))
    carriers = int((TABLES[:, :2].sum(axis=1) > 0).sum())
    value = phi_of(shares)
    half = t.ppf(0.975, carriers - 1) * error / (1 - value**2)
    expected = [math.tanh(math.atanh(value) + sign * half) for sign in (-1, 1)]
    assert [found.phi.low, found.phi.high] == pytest.approx(expected, abs=1e-5)


def test_the_limits_of_the_rates_add_wilsons_of_each_share_and_the_jackknife() -> None:
    """As independent errors: statsmodels' Wilson limits weighted by the cells, and t times a jackknife's error."""
    called, judged = np.array([20, 6, 4, 1]), np.array([22, 15, 15, 15])
    found = correct(TABLES, called, judged)
    for rate, cells in ((found.tpr, [0, 1]), (found.fpr, [2, 3])):
        shares, tables = (called / judged)[cells], TABLES[:, cells]
        tables = tables[tables.sum(axis=1) > 0]
        value = (tables @ shares).sum() / tables.sum()
        left_out = [
            (rest @ shares).sum() / rest.sum() for rest in (np.delete(tables, i, 0) for i in range(len(tables)))
        ]
        error = math.sqrt((len(tables) - 1) / len(tables) * sum((one - np.mean(left_out)) ** 2 for one in left_out))
        limits = [proportion_confint(called[cell], judged[cell], method="wilson") for cell in cells]
        weights = tables.sum(axis=0) / tables.sum()
        run = t.ppf(0.975, len(tables) - 1) * error
        below = math.hypot(
            run, *(w * (share - low) for w, share, (low, _) in zip(weights, shares, limits, strict=True))
        )
        above = math.hypot(
            run, *(w * (high - share) for w, share, (_, high) in zip(weights, shares, limits, strict=True))
        )
        assert (rate.value, rate.low, rate.high) == pytest.approx((value, value - below, value + above))


def test_a_cell_without_a_judged_row_leaves_its_numbers_undefined() -> None:
    """With the reason, and only those that rest on it; an empty cell needs no row."""
    found = correct(TABLES, (3, 0, 1, 0), (5, 5, 5, 0))
    assert (found.phi.value, found.fpr.value, found.youden_j.value, found.table) == (None, None, None, None)
    reason = f"no row of the sheet with a grade is from the {COUNTS[3]} {CELLS[3]}"
    assert {found.phi.undefined, found.fpr.undefined, found.youden_j.undefined} == {reason}
    assert found.tpr.value is not None

    tables = TABLES * [1, 0, 1, 1]
    assert correct(tables, (3, 0, 1, 0), (5, 0, 5, 5)).tpr.value == pytest.approx(3 / 5)


@pytest.mark.parametrize(
    ("tables", "called", "judged", "reason"),
    [
        (np.zeros((0, 4), int), (0,) * 4, (0,) * 4, "no scored trial"),
        ([[1, 1, 0, 0], [2, 0, 0, 0]], (1, 0, 0, 0), (1, 1, 0, 0), "every answer changed"),
        ([[0, 0, 1, 1], [0, 0, 2, 0]], (0, 0, 1, 0), (0, 0, 1, 1), "no answer changed"),
        ([[1, 1, 1, 1], [2, 0, 0, 3]], (0, 0, 0, 0), (1, 1, 1, 1), "people call none of the insertions mentioned"),
        ([[1, 1, 1, 1], [2, 0, 0, 3]], (1, 1, 1, 1), (1, 1, 1, 1), "people call all of the insertions mentioned"),
    ],
)
def test_an_undefined_phi_says_why(tables, called, judged, reason: str) -> None:
    """Never 0 and never an error."""
    found = correct(tables, called, judged)
    assert (found.phi.value, found.phi.undefined) == (None, reason)


def test_perfect_phi_has_a_value_and_no_interval() -> None:
    """A rate of 1 or 0 still has limits, since a few more rows could have said otherwise."""
    tables = np.array([[2, 0, 0, 4]] * 8)
    found = correct(tables, (5, 0, 0, 0), (5, 0, 0, 5))
    assert (found.phi.value, found.phi.low, found.phi.note) == (1.0, None, "no interval: the value is exactly 1")
    assert (found.tpr.value, found.tpr.high, found.fpr.value, found.fpr.low) == (1.0, 1.0, 0.0, 0.0)
    assert 0.3 < found.tpr.low < 0.9
    assert 0.1 < found.fpr.high < 0.7


@pytest.mark.parametrize(
    ("called", "judged"),
    [((-1, 0, 0, 0), (5,) * 4), ((6, 0, 0, 0), (5,) * 4), ((0,) * 4, (9999, 1, 1, 1)), ((0,), (1,))],
)
def test_impossible_samples_are_refused(called, judged) -> None:
    """More called than judged, more judged than there is, not four cells."""
    with pytest.raises(ValueError, match="cell"):
        correct(TABLES, called, judged)


P, TPR, FPR = 0.1, 0.6, 0.2
MISSED = {True: 0.5, False: 0.1}
"""The share of mentions that the decisions miss, where the answer changed and where it did not."""


def draw_world(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The decisions' tables (200, 4) of six trials each, and the true mentions among each example's cells, (200, 4)."""
    changed = rng.random((200, 6)) < rng.beta(P * 1.5, (1 - P) * 1.5, (200, 1))  # intra-class correlation .4
    said = rng.random((200, 6)) < np.where(changed, TPR, FPR)
    seen = said & (rng.random((200, 6)) >= np.where(changed, MISSED[True], MISSED[False]))
    cells = (changed & seen, changed & ~seen, ~changed & seen, ~changed & ~seen)
    return tuple(np.stack([part.sum(axis=1) for part in parts], axis=1) for parts in (cells, [c & said for c in cells]))


@pytest.mark.slow
@pytest.mark.parametrize("sheet", [100, 200])
def test_the_interval_covers_a_planted_truth(sheet: int) -> None:
    """2,000 sets, each with a sheet: phi as decided misses the truth, corrected it holds it as often as it says.

    benchmarks/coverage_correction.py does the same in many worlds.
    """
    q = P * TPR + (1 - P) * FPR
    truth = (TPR - FPR) * math.sqrt(P * (1 - P) / (q * (1 - q)))
    covered, values, decided = 0, [], []
    for number in range(2000):
        rng = np.random.default_rng([5, sheet, number])
        tables, true = draw_world(rng)
        sizes = tables.sum(axis=0)
        drawn = allocate(sizes.tolist(), sheet)
        called = [rng.hypergeometric(true[:, i].sum(), sizes[i] - true[:, i].sum(), drawn[i]) for i in range(4)]
        found = correct(tables, called, drawn).phi
        covered += found.low <= truth <= found.high
        values.append(found.value)
        decided.append(phi(*sizes))

    assert 0.93 <= covered / 2000 <= 0.97
    assert abs(np.mean(values) - truth) < 0.005
    assert np.mean(decided) < truth - 0.08
