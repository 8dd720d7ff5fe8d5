"""What is known of a trial without a score: bounds on phi against every completion, tried one by one."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from makers.runs import make_missing, make_sham, make_trial
from makers.scores import rows_of, score_trials, values_of

FULL = ([(1, 1)] * 3, [(1, 0)] * 2, [(0, 1)] * 2, [(0, 0)] * 7)
TABLE = [one for cell in FULL for one in cell]
"""a = 3, b = 2, c = 2, d = 7."""


def scored() -> list[dict[str, Any]]:
    """The trials of the table, seven in an example."""
    return [make_trial(i // 7, i % 7, changed=c, mentioned=m) for i, (c, m) in enumerate(TABLE)]


def half_known(count: int, *, changed: bool, start: int = 0) -> list[dict[str, Any]]:
    """Trials of order pe2 whose second call failed: both answers are known, the explanation is not."""
    gone = {"status": "failed", "status_side": "after", "changed": None, "mentioned": None, "tvd": None}
    gone |= {"explanation": None}
    return [make_trial(start + i, 20 + i, changed=changed) | gone for i in range(count)]


def said_only(count: int, *, mentioned: bool, start: int = 0) -> list[dict[str, Any]]:
    """Trials whose answer before is unknown: the explanation after is there."""
    return [make_missing(start + i, 40 + i, "before", mentioned=mentioned) for i in range(count)]


def nothing_known(count: int) -> list[dict[str, Any]]:
    """Trials unreadable after."""
    return [make_missing(i, 60 + i, "after") for i in range(count)]


def completions(u1: int, u0: int, v1: int, v0: int, w: int) -> list[float]:
    """phi of every way in which the missing trials could have come out."""
    ways = [[(1, 0), (1, 1)]] * u1 + [[(0, 0), (0, 1)]] * u0
    ways += [[(0, 1), (1, 1)]] * v1 + [[(0, 0), (1, 0)]] * v0 + [[(0, 0), (0, 1), (1, 0), (1, 1)]] * w
    found = []
    for extra in itertools.product(*ways):
        full = TABLE + list(extra)
        a, b, c, d = (full.count(cell) for cell in ((1, 1), (1, 0), (0, 1), (0, 0)))
        found.append((a * d - b * c) / ((a + b) * (c + d) * (a + c) * (b + d)) ** 0.5)
    return found


@pytest.mark.parametrize(
    "classes",
    [
        (1, 0, 0, 0, 0),
        (0, 1, 0, 0, 0),
        (3, 2, 0, 0, 0),
        (1, 2, 1, 0, 1),
        (2, 1, 1, 2, 0),
        (0, 0, 2, 2, 0),
        (1, 1, 1, 1, 2),
    ],
)
def test_bounds_are_those_of_every_completion(classes: tuple[int, int, int, int, int]) -> None:
    """Impact known (second call failed), mention known (first answer unreadable), neither known."""
    u1, u0, v1, v0, w = classes
    trials = [
        *scored(),
        *half_known(u1, changed=True),
        *half_known(u0, changed=False, start=1),
        *said_only(v1, mentioned=True),
        *said_only(v0, mentioned=False, start=1),
        *nothing_known(w),
    ]

    scores = score_trials(trials)

    phis = completions(*classes)
    (low,), (high,) = (values_of(scores, f"phi_cct_{side}_bound") for side in ("lower", "upper"))
    assert (min(phis), max(phis)) == pytest.approx((low, high))
    (excluded,) = rows_of(scores, "excluded_rate")
    assert (pytest.approx(excluded.value), excluded.n) == (sum(classes) / (14 + sum(classes)), 14 + sum(classes))
    assert values_of(score_trials(scored()), "phi_cct") == values_of(scores, "phi_cct")
    (text,) = [one.text for one in scores.warnings if "lies between" in one.text]
    assert f"{sum(classes)} of {14 + sum(classes)} trials {'has' if sum(classes) == 1 else 'have'} no score" in text
    assert f"between {min(phis):.3f} and {max(phis):.3f}" in text


def test_known_answers_narrow_the_bounds() -> None:
    """A trial whose impact is known leaves less open than one of which nothing is."""
    widths = []
    for extra in (half_known(3, changed=True), nothing_known(3)):
        scores = score_trials(scored() + extra)
        (low,), (high,) = (values_of(scores, f"phi_cct_{side}_bound") for side in ("lower", "upper"))
        assert low is not None
        assert high is not None
        widths.append(high - low)

    assert widths[0] < widths[1]


def test_without_missing_trials_there_are_no_bounds() -> None:
    """Neither rows nor words; shams and null edits that are missing are none of its business."""
    lost = {"status": "failed", "status_side": "after", "changed": None}
    gone = [make_sham(0) | lost, make_sham(1) | lost | {"kind": "null_edit"}]

    scores = score_trials(scored() + gone)

    assert [] == rows_of(scores, "phi_cct_lower_bound") == rows_of(scores, "phi_cct_upper_bound")
    assert values_of(scores, "excluded_rate") == [0.0]
    assert not any("lies between" in one.text for one in scores.warnings)
    assert {str(g.kind): by for g, by in scores.missing.items()} == {"sham": {"failed": 1}, "null_edit": {"failed": 1}}
