"""How many examples an interval of phi needs: against a textbook, simulated data sets and the interval itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
from metrics_oracles import JACKKNIFE, PERCENTILE, clustered_tables, naive_tanh_jackknife, pearson_of_trials

from explaineval.metrics.correlations import phi_cct
from explaineval.metrics.precision import (
    FEWEST_MENTIONED_FLIPS,
    HALF,
    NINE_IN_TEN,
    RAREST_TRIALS,
    correlation_of_changes,
    examples_for,
    expect,
    half_width,
    is_precise,
    pilot,
    piloted_population,
    piloted_rates_population,
    population,
    share_reached,
)

WORLDS = [(0.1, 0.6, 0.2, 0.4, 6), (0.3, 0.9, 0.5, 0.0, 4), (0.05, 0.6, 0.2, 0.7, 6), (0.15, 0.3, 0.3, 0.2, 3)]


def draw(world, examples, seed):
    """Tables of a world whose changes are beta-binomial and whose mentions depend on the change alone."""
    p, tpr, fpr, icc, trials = world
    rng = np.random.default_rng(seed)
    rates = np.full((examples, 1), p)
    if icc:
        rates = rng.beta(p * (1 - icc) / icc, (1 - p) * (1 - icc) / icc, (examples, 1))
    changed = rng.random((examples, trials)) < rates
    said = rng.random((examples, trials)) < np.where(changed, tpr, fpr)
    return np.stack(
        [x.sum(axis=1) for x in (changed & said, changed & ~said, ~changed & said, ~changed & ~said)], axis=1
    )


@pytest.mark.parametrize(("p", "tpr", "fpr"), [(0.1, 0.6, 0.2), (0.3, 0.9, 0.5), (0.02, 0.4, 0.4), (0.5, 0.1, 0.7)])
def test_the_variance_of_independent_trials_is_the_textbook_one(p, tpr, fpr):
    """One trial an example: the asymptotic variance of phi in Bishop, Fienberg and Holland 1975, section 11.4."""
    q = p * tpr + (1 - p) * fpr
    rows, columns = (p, 1 - p), (q, 1 - q)
    phi = (p * tpr - p * q) / math.sqrt(math.prod(rows) * math.prod(columns))
    product = math.sqrt(math.prod(rows) * math.prod(columns))
    skew = (rows[0] - rows[1]) * (columns[0] - columns[1]) / product
    squares = (rows[0] - rows[1]) ** 2 / math.prod(rows) + (columns[0] - columns[1]) ** 2 / math.prod(columns)
    variance = 1 - phi**2 + phi * (1 + phi**2 / 2) * skew - 0.75 * phi**2 * squares

    found = expect(p, tpr, fpr, 0.0, 1)

    assert (found.phi, found.variance, found.carriers) == pytest.approx((phi, variance, p * tpr))
    assert expect(p, tpr, fpr, 0.9, 1).variance == pytest.approx(variance)  # one trial cannot be clustered
    assert expect(p, tpr, fpr, 0.0, 5).variance == pytest.approx(variance / 5)


@pytest.mark.parametrize("world", WORLDS)
def test_expected_numbers_are_those_of_large_data_sets(world):
    """phi, the jackknife's variance for each example, and the share with a mentioned change, of 40,000 examples."""
    tables = draw(world, 40_000, 3)

    found, seen = expect(*world), pilot(tables)

    assert found.phi == pytest.approx(seen.phi, abs=0.01)
    assert found.variance == pytest.approx(seen.variance, rel=0.06)
    assert found.carriers == pytest.approx(seen.carriers, abs=0.01)


@pytest.mark.parametrize("world", WORLDS)
def test_as_many_examples_as_said_reach_the_half_width(world):
    """The median interval of data sets of that size is within 12 % of the wanted half width."""
    wanted = 0.1
    needed = expect(*world).examples_needed(wanted)
    found = [half_width(phi_cct(draw(world, needed, (7, seed)), JACKKNIFE)) for seed in range(120)]

    assert np.median([one for one in found if one is not None]) == pytest.approx(wanted, rel=0.12)


def test_an_explainer_that_mentions_nearly_everything_takes_enough_examples_to_be_seen_silent():
    """As many as said reach the half width at once in 19 of 20 runs; half as many do so in far fewer."""
    world, wanted = (0.1, 0.99, 0.95, 0.2, 6), 0.15
    needed = expect(*world).examples_needed(wanted)

    def share(examples):
        return np.mean([is_precise(draw(world, examples, (5, seed)), wanted, JACKKNIFE) for seed in range(100)])

    assert needed == math.ceil(RAREST_TRIALS / (0.1 * 0.01 * 6))
    assert share(needed) >= 0.9
    assert share(needed // 5) <= 0.5


@pytest.mark.parametrize("world", WORLDS)
def test_the_rarest_cell_is_that_of_large_data_sets(world):
    """Its trials an example, of the rates and of 40,000 examples of them; an empty one counts as half a trial."""
    assert expect(*world).rarest == pytest.approx(pilot(draw(world, 40_000, 3)).rarest, rel=0.06)
    assert pilot([[2, 0, 1, 3], [1, 0, 2, 1], [1, 0, 1, 2]]).rarest == pytest.approx(0.5 / 3)


@pytest.mark.parametrize("wanted", [0.02, 0.1, 0.3])
def test_no_fewer_examples_would_do(wanted):
    """The number is the smallest one, and has enough mentioned changes."""
    for world in WORLDS:
        expected = expect(*world)
        needed = expected.examples_needed(wanted)
        assert expected.half_width(needed) <= wanted
        fewer = expected.half_width(needed - 1)
        too_few = (
            expected.carriers * (needed - 1) < FEWEST_MENTIONED_FLIPS or expected.rarest * (needed - 1) < RAREST_TRIALS
        )
        assert fewer is None or fewer > wanted or too_few


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_pilot_predicts_its_own_interval(seed):
    """With as many examples as the pilot had, the half width is that of its interval."""
    tables = clustered_tables(60, 5, seed)

    expected = pilot(tables)

    interval = phi_cct(tables, JACKKNIFE)
    assert expected.phi == pytest.approx(interval.value)
    assert expected.half_width(60) == pytest.approx((interval.high - interval.low) / 2, rel=1e-9)
    assert expected.half_width(240) == pytest.approx(expected.half_width(60) / 2, rel=0.05)


@pytest.mark.parametrize(
    ("tables", "reason"),
    [
        ([], "no scored trial"),
        ([[0, 0, 1, 3]] * 5, "no answer changed"),
        ([[1, 0, 0, 3], [0, 0, 0, 4]], "without one of the examples there is no value"),
    ],
)
def test_a_pilot_without_phi_says_why(tables, reason):
    """Its number of examples cannot be told."""
    with pytest.raises(ValueError, match=reason):
        pilot(tables)


def test_impossible_rates_and_widths_have_no_number():
    """No change, every change; changes that are never mentioned reach no interval however many examples."""
    for p, tpr, fpr in ((0, 0.5, 0.5), (1, 0.5, 0.5), (0.1, 0, 0), (0.1, 1, 1)):
        with pytest.raises(ValueError, match="phi is undefined"):
            expect(p, tpr, fpr, 0.1, 4)
    assert expect(0.1, 0.0, 0.5, 0.1, 4).examples_needed(0.1) is None
    assert expect(0.1, 1.0, 0.0, 0.1, 4).examples_needed(0.1) is None
    assert expect(0.1, 0.6, 0.2, 0.1, 4).half_width(3) is None


@pytest.mark.parametrize(("icc", "least", "most"), [(0.0, 0.0, 0.03), (0.4, 0.37, 0.43), (0.7, 0.67, 0.73)])
def test_the_correlation_of_changes_is_found_again(icc, least, most):
    """The planted one, in 20,000 examples; none where nothing varies or no example has two trials."""
    assert least <= correlation_of_changes(draw((0.2, 0.6, 0.2, icc, 5), 20_000, 11)) <= most
    assert correlation_of_changes([[0, 0, 1, 1]] * 9) is None
    assert correlation_of_changes([[1, 0, 0, 0], [0, 0, 1, 0]]) is None
    assert correlation_of_changes([[1, 1, 0, 0], [0, 0, 1, 1]] * 4) == 1


def test_precise_is_a_matter_of_width_alone():
    """The limit is that of a plain jackknife; a faithful and a perverse explainer of one width stop alike."""
    tables = clustered_tables(80, 5, 4)
    rows = [tuple(row) for row in tables.tolist()]
    low, high = naive_tanh_jackknife(
        pearson_of_trials(rows), rows, pearson_of_trials, int((tables[:, 0] > 0).sum()) - 1
    )
    half = (high - low) / 2

    assert is_precise(tables, half + 1e-9, JACKKNIFE)
    assert not is_precise(tables, half - 1e-9, JACKKNIFE)
    turned = np.array([[2, 3, 0, 5]] * 6 + [[1, 1, 1, 7]] * 30)
    assert phi_cct(turned, JACKKNIFE).value > 0 > phi_cct(turned[:, [1, 0, 3, 2]], JACKKNIFE).value
    assert is_precise(turned, 0.3, JACKKNIFE) == is_precise(turned[:, [1, 0, 3, 2]], 0.3, JACKKNIFE)


@pytest.mark.parametrize(
    "tables",
    [
        [[0, 1, 2, 3]] * 30,
        [[0, 0, 2, 3]] * 30,
        [[1, 0, 1, 3]] * 4 + [[0, 1, 1, 3]] * 200,
        [[1, 0, 0, 3]] * 30,
        [],
        [[1, 0, 2, 1]] * 20 + [[0, 0, 4, 0]] * 60,
        [[3, 0, 0, 1]] * 20 + [[0, 4, 0, 0]] * 60,
    ],
    ids=[
        "no mentioned change", "no change", "four mentioned changes", "no spread", "no trial",
        "no unmentioned change among many mentions", "no unchanged mention among many changes",
    ],
)  # fmt: skip
def test_what_is_unknown_is_not_precise(tables):
    """However wide an interval may be: undefined numbers, no interval, too few mentioned changes, an empty cell."""
    assert not is_precise(tables, 0.999, JACKKNIFE)


def test_the_bootstrap_decides_where_it_is_the_interval():
    """The rule takes the run's own interval."""
    tables = clustered_tables(60, 5, 9)
    drawn = half_width(phi_cct(tables, PERCENTILE))

    assert is_precise(tables, drawn, PERCENTILE)
    assert not is_precise(tables, drawn - 1e-9, PERCENTILE)


@pytest.mark.parametrize(
    ("world", "most"), [((0.1, 0.6, 0.2, 0.4, 6), 250), ((0.1, 0.98, 0.97, 0.4, 6), 600)], ids=["middle", "verbose"]
)
def test_intervals_hold_the_truth_where_the_rule_stops(world, most):
    """300 data sets of one world, stopped by the rule: at least 93 % hold the truth, and they differ in size."""
    wanted = 0.12
    truth, held, sizes = expect(*world).phi, 0, []
    for seed in range(300):
        tables = draw(world, 600, (13, seed))
        sizes.append(next(n for n in range(50, 651, 50) if is_precise(tables[:n], wanted, JACKKNIFE)))
        found = phi_cct(tables[: sizes[-1]], JACKKNIFE)
        held += found.low <= truth <= found.high

    assert held >= 0.93 * 300
    assert 50 <= min(sizes) < max(sizes) <= most


@pytest.mark.parametrize("world", [*WORLDS, (0.1, 0.6, 0.2, 0.4, 1)])
def test_a_population_has_the_rates_it_is_made_of(world):
    """Impact rate, TPR, FPR, correlation of changes and size of the examples, from all tables with their shares."""
    p, tpr, fpr, icc, trials = world
    tables, shares = population(*world)
    a, b, c, d = shares[0] @ tables
    changes = tables[:, 0] + tables[:, 1]

    assert (a + b + c + d, (a + b) / trials, a / (a + b), c / (c + d)) == pytest.approx((trials, p, tpr, fpr), rel=2e-3)
    variance = trials * p * (1 - p) * (1 + (trials - 1) * icc)
    assert shares[0] @ (changes - trials * p) ** 2 == pytest.approx(variance, rel=0.01)


def test_a_mean_of_trials_that_is_not_whole_has_examples_of_both_sizes():
    """5.25 trials: a quarter of the examples has 6."""
    tables, shares = population(0.2, 0.6, 0.2, 0.3, 5.25)

    assert shares[0] @ (tables.sum(axis=1) == 6) == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize("world", [WORLDS[0], WORLDS[1], WORLDS[3]])
def test_the_share_that_is_reached_is_that_of_drawn_runs(world):
    """The two numbers of a plan, checked by 120 data sets drawn here and the interval itself."""
    half, most = (examples_for(population(*world), 0.1, share, 100) for share in (HALF, NINE_IN_TEN))

    assert half < most
    for examples, share in ((half, HALF), (most, NINE_IN_TEN)):
        found = [is_precise(draw(world, examples, (23, examples, seed)), 0.1, JACKKNIFE) for seed in range(120)]
        assert np.mean(found) == pytest.approx(share, abs=3.5 * math.sqrt(share * (1 - share) / 120) + 0.02)


def test_a_pilot_makes_nine_in_ten_dearer():
    """60 examples, and ten times the same: what is less sure takes more examples for nine in ten, not for half."""
    tables = draw(WORLDS[0], 60, 4)
    small, large = piloted_population(tables), piloted_population(np.tile(tables, (10, 1)))

    assert examples_for(small, 0.1, NINE_IN_TEN, 100) > 1.1 * examples_for(large, 0.1, NINE_IN_TEN, 100)
    assert examples_for(small, 0.1, HALF, 100) == pytest.approx(examples_for(large, 0.1, HALF, 100), rel=0.15)


def test_a_pilot_with_other_trials_plans_by_its_rates():
    """From 300 examples × 6 to 3 trials each: about what the true rates say."""
    p, tpr, fpr, icc, _ = WORLDS[0]
    of = piloted_rates_population(draw(WORLDS[0], 300, 5), 3)

    assert set(of.tables.sum(axis=1)) == {3}
    expected = examples_for(population(p, tpr, fpr, icc, 3), 0.1, HALF, 100)
    assert examples_for(of, 0.1, HALF, 100) == pytest.approx(expected, rel=0.25)


def test_no_run_is_precise_where_nothing_changes():
    """Neither an interval nor a number of examples."""
    silent = population(0.2, 0.0, 0.0, 0.0, 4)

    assert share_reached(silent, 500, 0.1) == 0
    assert examples_for(silent, 0.1, HALF, 100) is None
