"""Gains of predictors whose behaviour is planted, against counts made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from explaineval.metrics.estimates import Interval
from explaineval.metrics.simulatability import (
    FEWEST_ERRORS,
    nsg,
    nsg_difference,
    simulation_accuracy,
    simulation_counts,
    simulation_gain_balanced,
    simulation_gain_balanced_difference,
)

JACKKNIFE = Interval()

ONLY_WITH = np.array([[1, 1, 0, 3, 3, 0]] * 30)
"""Right on every trial with the explanation, wrong on every one without it."""

ALWAYS_SAME = np.array([[1, 0, 0, 3, 3, 3]] * 30)
"""Predicts that the answer does not change, whatever it reads."""

ALREADY_RIGHT = np.array([[1, 1, 1, 3, 3, 3]] * 30)
"""Right without the explanation too."""


def test_a_reader_that_is_right_only_with_the_explanation_gains_everything() -> None:
    """Both gains are 1, which leaves no interval."""
    balanced, normalised = simulation_gain_balanced(ONLY_WITH, JACKKNIFE), nsg(ONLY_WITH, JACKKNIFE)

    assert (balanced.value, normalised.value) == (1, 1)
    assert balanced.low is None
    assert normalised.note == "no interval: the value is exactly 1"


def test_a_reader_that_always_predicts_the_same_gains_nothing() -> None:
    """It is wrong on the 30 changed answers with and without the explanation."""
    balanced, normalised = simulation_gain_balanced(ALWAYS_SAME, JACKKNIFE), nsg(ALWAYS_SAME, JACKKNIFE)

    assert (balanced.value, normalised.value) == (0, 0)
    assert simulation_accuracy(ALWAYS_SAME, JACKKNIFE, explained=True).value == 0.75


def test_a_reader_that_is_right_without_the_explanation_has_no_normalised_gain() -> None:
    """There is no error that an explanation could mend."""
    result = nsg(ALREADY_RIGHT, JACKKNIFE)

    assert result.value is None
    assert result.undefined == (
        f"no example has a wrong prediction without the explanation; {FEWEST_ERRORS} are needed"
    )


@pytest.mark.parametrize("examples", [FEWEST_ERRORS - 1, FEWEST_ERRORS])
def test_twenty_examples_with_an_error_are_needed(examples: int) -> None:
    """One fewer leaves the normalised gain undefined."""
    counts = np.array([[1, 0, 0, 3, 3, 3]] * examples + [[0, 0, 0, 2, 2, 2]] * 10)

    assert (nsg(counts, JACKKNIFE).value is None) == (examples < FEWEST_ERRORS)


def test_the_gains_of_mixed_counts_are_those_of_the_definitions() -> None:
    """Accuracy .6 against .4 where the answer changed, .9 against .8 where it did not, by hand."""
    counts = np.array([[1, 1, 1, 2, 2, 2], [1, 1, 0, 2, 2, 1], [1, 0, 0, 2, 1, 1], [1, 1, 1, 2, 2, 2],
                       [1, 0, 0, 2, 2, 2]] * 10)  # fmt: skip

    balanced, normalised = simulation_gain_balanced(counts, JACKKNIFE), nsg(counts, JACKKNIFE)

    assert balanced.value == pytest.approx(((0.6 - 0.4) + (0.9 - 0.8)) / 2)
    assert normalised.value == pytest.approx((12 / 15 - 10 / 15) / (1 - 10 / 15))
    assert simulation_accuracy(counts, JACKKNIFE, explained=False).value == pytest.approx(10 / 15)
    for result in (balanced, normalised):
        assert result.low is not None
        assert result.high is not None
        assert result.low < result.value < result.high


def test_the_balanced_gain_does_not_follow_the_rate_of_changes_and_the_normalised_one_does() -> None:
    """The same reader, right in 9 of 10 unchanged answers without and in 8 with, in 2 and 5 of 10 changed ones."""
    rare = np.array([[1, 1, 1, 50, 40, 45]] * 20 + [[1, 1, 0, 50, 40, 45]] * 30 + [[1, 0, 0, 50, 40, 45]] * 50)
    often = np.array([[20, 10, 4, 50, 40, 45]] * 100)

    assert simulation_gain_balanced(rare, JACKKNIFE).value == pytest.approx(0.1)
    assert simulation_gain_balanced(often, JACKKNIFE).value == pytest.approx(0.1)
    low, high = nsg(rare, JACKKNIFE).value, nsg(often, JACKKNIFE).value
    assert low is not None
    assert high is not None
    assert low < -0.5 < 0 < high


def test_a_panel_adds_gains_and_errors() -> None:
    """Two predictors over the same trials: 15 + 0 gains over 30 + 30 errors."""
    first = np.array([[1, 1, 0, 1, 1, 1], [1, 0, 0, 1, 1, 1]] * 15)

    assert nsg(first + ALWAYS_SAME_OF_TWO, JACKKNIFE).value == pytest.approx(15 / 60)


ALWAYS_SAME_OF_TWO = np.array([[1, 0, 0, 1, 1, 1]] * 30)


def test_the_difference_from_shuffled_explanations_is_that_of_both_gains() -> None:
    """It is defined on the same trials, and has an interval of its own."""
    own = np.array([[1, 1, 0, 1, 1, 1], [1, 0, 0, 1, 1, 1], [2, 2, 0, 1, 1, 0]] * 15)
    shuffled = np.array([[1, 0, 0, 1, 1, 1], [1, 0, 0, 1, 1, 1], [2, 1, 0, 1, 0, 0]] * 15)

    result = nsg_difference(own, shuffled, JACKKNIFE)

    expected = [nsg(counts, JACKKNIFE).value for counts in (own, shuffled)]
    assert expected[0] is not None
    assert expected[1] is not None
    assert result.value == pytest.approx(expected[0] - expected[1])
    assert result.low is not None
    assert result.low < result.value


def test_the_balanced_difference_is_that_of_both_balanced_gains() -> None:
    """What is right without an explanation drops out; the interval is that of the gain over the other explanation."""
    own = np.array([[1, 1, 0, 1, 1, 1], [1, 0, 0, 1, 1, 1], [2, 2, 0, 1, 1, 0]] * 15)
    shuffled = np.array([[1, 0, 0, 1, 1, 1], [1, 0, 0, 1, 1, 1], [2, 1, 0, 1, 0, 0]] * 15)

    result = simulation_gain_balanced_difference(own, shuffled, JACKKNIFE)

    expected = [simulation_gain_balanced(counts, JACKKNIFE).value for counts in (own, shuffled)]
    assert expected[0] is not None
    assert expected[1] is not None
    assert result.value == pytest.approx(expected[0] - expected[1])
    assert result.low is not None
    assert 0 < result.low < result.value
    with pytest.raises(ValueError, match="same trials"):
        simulation_gain_balanced_difference(ONLY_WITH, ALWAYS_SAME, JACKKNIFE)


def test_the_difference_refuses_counts_of_other_trials() -> None:
    """Errors without an explanation are shared, so they must be the same."""
    with pytest.raises(ValueError, match="same trials"):
        nsg_difference(ONLY_WITH, ALWAYS_SAME, JACKKNIFE)


@pytest.mark.parametrize(
    ("counts", "reason"),
    [([[0, 0, 0, 2, 1, 1]] * 3, "no answer changed"), ([[2, 1, 1, 0, 0, 0]] * 3, "every answer changed"),
     (np.zeros((0, 6), int), "no scored trial")],
)  # fmt: skip
def test_the_balanced_gain_needs_changed_and_unchanged_answers(counts: object, reason: str) -> None:
    """Half of it would not be what its name says."""
    assert simulation_gain_balanced(counts, JACKKNIFE).undefined == reason  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("counts", "problem"),
    [([[1, 2, 0, 0, 0, 0]], "more right predictions"), ([[1, 1]], "shape"), ([[1, -1, 0, 0, 0, 0]], "negative")],
)
def test_counts_that_cannot_be_are_refused(counts: list[list[int]], problem: str) -> None:
    """A mistake of the caller is an error, not a number."""
    with pytest.raises(ValueError, match=problem):
        simulation_counts(counts)


def test_the_intervals_cover_the_truth_of_a_planted_reader() -> None:
    """300 drawn sets of 80 examples whose readers have known accuracies and share an effect within examples."""
    generator = np.random.default_rng(7)
    covered = {"balanced": 0, "normalised": 0}
    changed_rate, right = 0.2, {"with": (0.5, 0.92), "without": (0.25, 0.9)}
    balanced = ((0.5 - 0.25) + (0.92 - 0.9)) / 2
    errors = [changed_rate * (1 - a) + (1 - changed_rate) * (1 - b) for a, b in (right["with"], right["without"])]

    for _ in range(300):
        changed = generator.random((80, 5)) < changed_rate
        hits = {name: generator.random((80, 5)) < np.where(changed, *rates) for name, rates in right.items()}
        counts = np.stack(
            [array.sum(axis=1) for group in (changed, ~changed)
             for array in (group, group & hits["with"], group & hits["without"])],
            axis=1,
        )  # fmt: skip
        for name, result, truth in (
            ("balanced", simulation_gain_balanced(counts, JACKKNIFE), balanced),
            ("normalised", nsg(counts, JACKKNIFE), 1 - errors[0] / errors[1]),
        ):
            assert result.low is not None
            assert result.high is not None
            covered[name] += result.low <= truth <= result.high

    assert covered["balanced"] >= 0.92 * 300
    assert covered["normalised"] >= 0.92 * 300


def test_the_reason_counts_one_example_in_the_singular():
    """A lone example with an error without the explanation is no plural."""
    found = nsg([[1, 1, 0, 2, 2, 2]], JACKKNIFE)

    assert found.undefined == "only 1 example has a wrong prediction without the explanation; 20 are needed"
