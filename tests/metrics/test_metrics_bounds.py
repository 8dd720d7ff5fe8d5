"""Bounds on phi over everything that missing trials could have been."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explaineval.metrics.correlations import phi
from explaineval.metrics.reliability import phi_bounds

small = st.tuples(*[st.integers(0, 2)] * 4, *[st.integers(0, 2)] * 4, st.integers(0, 3))


def completions(a, b, c, d, u1, u0, v1, v0, w):
    """phi of every completion: each missing trial takes every cell that what is known of it allows."""
    open_cells = ["ab"] * u1 + ["cd"] * u0 + ["ac"] * v1 + ["bd"] * v0 + ["abcd"] * w
    for cells in itertools.product(*open_cells):
        full = dict(zip("abcd", (a, b, c, d), strict=True))
        for cell in cells:
            full[cell] += 1
        i1, i0 = full["a"] + full["b"], full["c"] + full["d"]
        m1, m0 = full["a"] + full["c"], full["b"] + full["d"]
        if i1 * i0 * m1 * m0:
            yield (full["a"] * full["d"] - full["b"] * full["c"]) / math.sqrt(i1 * i0 * m1 * m0)


@settings(max_examples=2 * settings().max_examples)
@given(small)
def test_bounds_are_the_extremes_of_all_completions(case):
    """Lowest and highest are exactly those of a full enumeration, undefined tables left out."""
    if sum(case[4:]) > 7:
        case = (*case[:4], *(min(count, 1) for count in case[4:]))
    values = list(completions(*case))
    low, high = phi_bounds(*case)

    if values:
        assert min(values) == pytest.approx(low, abs=1e-12)
        assert max(values) == pytest.approx(high, abs=1e-12)
    else:
        assert math.isnan(low)
        assert math.isnan(high)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ((2, 2, 0, 0, 1, 0, 1, 0, 0), (-1 / math.sqrt(5), -1 / math.sqrt(10))),
        ((0, 0, 3, 0, 0, 0, 0, 0, 1), (-1.0, -1.0)),
        ((0, 0, 0, 1, 0, 0, 0, 0, 2), (-0.5, 1.0)),
    ],
)
def test_bounds_where_the_extreme_completion_is_undefined(case, expected):
    """Where the best completion empties a margin, the best defined one is found."""
    values = list(completions(*case))

    assert (min(values), max(values)) == pytest.approx(phi_bounds(*case))
    assert expected == pytest.approx(phi_bounds(*case))


def test_without_missing_trials_both_bounds_are_phi():
    """Nothing missing: nothing to bound."""
    assert (phi(5, 3, 2, 9),) * 2 == phi_bounds(5, 3, 2, 9, 0, 0, 0, 0, 0)


def test_nothing_defined_gives_nan():
    """No completion of an empty margin without missing trials is defined."""
    assert all(math.isnan(bound) for bound in phi_bounds(0, 0, 4, 5, 0, 0, 0, 0, 0))


def test_a_million_missing_trials_are_scanned():
    """A million wholly unknown trials are no burden, and can turn phi either way."""
    low, high = phi_bounds(500, 300, 200, 900, 10, 10, 10, 10, 1_000_000)

    assert -1 <= low < phi(500, 300, 200, 900) < high <= 1


def test_negative_counts_are_refused():
    """A negative number of missing trials is an error."""
    with pytest.raises(ValueError, match="negative"):
        phi_bounds(1, 1, 1, 1, 0, 0, 0, 0, -1)
