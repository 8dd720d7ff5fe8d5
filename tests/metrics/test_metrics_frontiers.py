"""The frontier of one model over the levels of another, and what is claimed from the gaps between them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from explaineval.metrics.frontiers import dominances, frontier_at, gaps_of, mean_difference, mean_gaps

LEVELS = ("brief", "normal", "detailed")
FPRS = np.array([0.05, 0.15, 0.3])


def draw(seed: int, tprs: tuple[float, ...], fprs=FPRS, examples: int = 400, p: float = 0.3) -> np.ndarray:
    """Tables (G, V, 4) of one model: the same answers at each level, more named at the next."""
    generator = np.random.default_rng(seed)
    changed = generator.random((examples, 6)) < generator.beta(p * 3, (1 - p) * 3, (examples, 1))
    said = generator.random(changed.shape)[..., None] < np.where(changed[..., None], tprs, fprs)
    flips = changed[..., None]
    cells = (flips & said, flips & ~said, ~flips & said, ~flips & ~said)
    return np.stack([cell.sum(axis=1) for cell in cells], axis=-1)


def rates(tables: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """FPR and TPR of each level."""
    a, b, c, d = tables.sum(axis=0).T
    return c / (c + d), a / (a + b)


def gap_by_hand(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The first model's line, by numpy's interpolation, minus the second's TPR; levels in the order of their FPR."""
    (x, y), (at, height) = rates(first), rates(second)
    return np.interp(at, [0, *x, 1], [0, *y, 1]) - height


def test_the_line_goes_through_the_points_and_both_corners() -> None:
    """It is numpy's interpolation where FPRs differ; of points at one FPR the highest counts, and order does not."""
    x, y = np.array([[0.4, 0.1, 0.2]]), np.array([[0.5, 0.3, 0.6]])
    at = np.array([[0.0, 0.05, 0.1, 0.15, 0.3, 0.4, 0.7, 1.0]])

    expected = np.interp(at[0], [0, 0.1, 0.2, 0.4, 1], [0, 0.3, 0.6, 0.5, 1])
    assert frontier_at(x, y, at)[0] == pytest.approx(expected)
    assert frontier_at(np.array([[0.2, 0.2]]), np.array([[0.3, 0.7]]), np.array([[0.2, 0.1]]))[0] == pytest.approx(
        [0.7, 0.15]
    )
    assert np.isnan(frontier_at(np.array([[math.nan]]), np.array([[0.3]]), np.array([[0.2]]))).all()


def test_gaps_and_their_errors_are_those_of_leaving_out_each_example() -> None:
    """Values, jackknife errors and Satterthwaite's degrees of freedom from their definitions."""
    first, second = draw(1, (0.5, 0.7, 0.8), examples=80), draw(2, (0.4, 0.5, 0.6), examples=80)
    gaps = gaps_of(first, second, LEVELS)

    def error(naive: list[np.ndarray]) -> np.ndarray:
        left = np.stack(naive)
        return np.sqrt(79 / 80 * ((left - left.mean(axis=0)) ** 2).sum(axis=0))

    without = [(np.delete(first, row, axis=0), np.delete(second, row, axis=0)) for row in range(80)]
    both = error([gap_by_hand(*pair) for pair in without])
    own = [
        error([gap_by_hand(pair[0], second) for pair in without]),
        error([gap_by_hand(first, pair[1]) for pair in without]),
    ]
    have = [int((tables[:, 0, :2].sum(axis=1) > 0).sum()) - 1 for tables in (first, second)]
    df = (own[0] ** 2 + own[1] ** 2) ** 2 / (own[0] ** 4 / have[0] + own[1] ** 4 / have[1])
    assert [gap.value for gap in gaps] == pytest.approx(gap_by_hand(first, second))
    assert [gap.error for gap in gaps] == pytest.approx(both)
    assert [gap.df for gap in gaps] == pytest.approx(df)
    low = gaps[0].value - stats.t.ppf(0.95, df[0]) * both[0]
    assert gaps[0].limits[0] == pytest.approx(low)


def test_dominance_is_the_largest_one_sided_p_over_levels() -> None:
    """By the intersection-union test, and Holm's over pairs and directions, as statsmodels computes it."""
    base = draw(2, (0.35, 0.5, 0.6))
    pairs = [gaps_of(draw(seed, tprs), base, LEVELS) for seed, tprs in ((1, (0.55, 0.7, 0.8)), (3, (0.36, 0.52, 0.6)))]
    found = dominances(pairs)

    for gaps, one in zip(pairs, found, strict=True):
        assert one.p_first == pytest.approx(max(stats.t.sf(gap.value / gap.error, gap.df) for gap in gaps))
        assert one.p_second == pytest.approx(max(stats.t.cdf(gap.value / gap.error, gap.df) for gap in gaps))
    plain = [p for one in found for p in (one.p_first, one.p_second)]
    adjusted = [p for one in found for p in (one.p_first_adjusted, one.p_second_adjusted)]
    assert adjusted == pytest.approx(multipletests(plain, method="holm")[1])
    assert [one.claim for one in found] == ["first_dominates", "neither_shown"]


def test_the_other_model_may_dominate_or_both_trade_off() -> None:
    """Below at every level; above at one level and below at another, each beyond chance among the levels."""
    base = draw(2, (0.4, 0.5, 0.7))
    lower, crossing = draw(1, (0.2, 0.3, 0.5)), draw(3, (0.2, 0.5, 0.9))

    assert dominances([gaps_of(lower, base, LEVELS)])[0].claim == "second_dominates"
    (found,) = dominances([gaps_of(crossing, base, LEVELS)])
    assert found.claim == "trade_off"
    plain = [gap.p for gap in found.gaps]
    assert found.p_levels == pytest.approx(multipletests(plain, method="holm")[1])


def test_one_equal_level_is_no_dominance() -> None:
    """Above at two levels, equal at the third: every level counts."""
    (found,) = dominances([gaps_of(draw(1, (0.6, 0.5, 0.85)), draw(2, (0.35, 0.5, 0.6)), LEVELS)])

    assert found.claim == "neither_shown"


def test_levels_at_the_ends_are_left_out() -> None:
    """A level that says nothing, or everything, tells nothing; with fewer than two others nothing is tested."""
    base = draw(2, (0.0, 0.5, 0.6), np.array([0.0, 0.15, 0.3]))
    gaps = gaps_of(draw(1, (0.5, 0.7, 0.8)), base, LEVELS)
    talkative = draw(2, (0.0, 0.5, 1.0), np.array([0.0, 0.15, 1.0]))

    assert [gap.value is None for gap in gaps] == [True, False, False]
    assert "saying nothing" in gaps[0].undefined
    assert dominances([gaps])[0].claim == "first_dominates"
    (untested,) = dominances([gaps_of(draw(1, (0.5, 0.7, 0.8)), talkative, LEVELS)])
    assert untested.claim is None
    assert untested.undefined.startswith("only 1 level has a gap, 2 are needed")


def test_means_over_tasks_add_independent_errors() -> None:
    """The mean of two gaps has half the root of the summed variances; a level that one task lacks is lacking."""
    one, other = (gaps_of(draw(seed, (0.5, 0.7, 0.8)), draw(seed + 9, (0.4, 0.5, 0.6)), LEVELS) for seed in (1, 2))
    mean = mean_gaps([one, other])

    assert [gap.value for gap in mean] == pytest.approx(
        [(a.value + b.value) / 2 for a, b in zip(one, other, strict=True)]
    )
    assert mean[0].error == pytest.approx(math.hypot(one[0].error, other[0].error) / 2)


def test_the_mean_over_pairs_is_a_one_sample_t_test() -> None:
    """As scipy computes it; of one pair there is no interval, of none no mean."""
    values = [0.05, -0.02, 0.08, 0.11, 0.03]
    found, test = mean_difference(values), stats.ttest_1samp(values, 0)

    assert (found.low, found.high) == pytest.approx(tuple(test.confidence_interval()))
    assert found.p == pytest.approx(test.pvalue)
    assert (mean_difference([0.1]).low, mean_difference([])) == (None, None)
