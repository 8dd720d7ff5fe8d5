"""F-AUROC where the explanations of each level are made afresh, and where the levels' order by FPR is hard to tell.

In coverage.py more verbose explanations repeat the others. Here every level is drawn for itself, and some worlds put
levels of different TPR at nearly the same FPR: there the area jumps when two of them change places. The interval must
then say that it is rough.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from coverage_sizes import markdown
from coverage_worlds import EXAMPLES, TRIALS, World

from explaineval.metrics import auroc
from explaineval.metrics.estimates import Interval

RATES = (0.02, 0.05, 0.10, 0.30)
CORRELATION = 0.4
LEVELS = {
    "on a curve": tuple(World(0.1, 0.4, 0.6, 0.2).levels.tolist()),
    "blind: TPR = FPR": ((0.05, 0.1, 0.2, 0.4, 0.6), (0.05, 0.1, 0.2, 0.4, 0.6)),
    "two levels only": ((0.6, 0.8), (0.2, 0.4)),
    "all at (.2, .6)": ((0.6,) * 5, (0.2,) * 5),
    "FPR .04 to .06, TPR .3 to .8": ((0.3, 0.45, 0.6, 0.7, 0.8), (0.04, 0.045, 0.05, 0.055, 0.06)),
    "FPR .04, TPR .3 to .8": ((0.3, 0.45, 0.6, 0.7, 0.8), (0.04,) * 5),
}
"""(TPR of each level, FPR of each level)."""


def run(sets: int) -> tuple[list[dict[str, Any]], str]:
    """Coverage by world, apart for intervals with and without the remark on the order of levels."""
    found = [measure(name, p, number, sets) for p in RATES for number, name in enumerate(LEVELS)]
    heads = (
        "p",
        "levels",
        "truth",
        "bias",
        "width",
        "said to be unsure",
        "coverage without",
        "coverage with the remark",
    )
    rows = []
    for one in found:
        numbers = (f"{one['truth']:.3f}", f"{one['bias']:+.3f}", f"{one['width']:.3f}", f"{one['unsure']:.0%}")
        coverages = (_percent(one[key]) for key in ("sure_coverage", "unsure_coverage"))
        rows.append([f"{one['p']:g}", one["levels"], *numbers, *coverages])
    return found, f"F-AUROC with levels drawn for themselves, {sets} data sets each:\n\n{markdown(heads, rows)}"


def measure(name: str, p: float, number: int, sets: int) -> dict[str, Any]:
    """One world."""
    tpr, fpr = (np.array(rates) for rates in LEVELS[name])
    truth = area(sorted(zip(fpr.tolist(), tpr.tolist(), strict=True)))
    world = World(p, CORRELATION, 0.6, 0.2)
    hits: dict[bool, list[bool]] = {True: [], False: []}
    values, widths = [], []
    for one in range(sets):
        rng = np.random.default_rng([2026, round(1000 * p), number, one])
        changed = world.draw_changes(rng)[..., np.newaxis]
        said = rng.random((EXAMPLES, TRIALS, len(tpr))) < np.where(changed, tpr, fpr)
        cells = (changed & said, changed & ~said, ~changed & said, ~changed & ~said)
        estimate = auroc.f_auroc(np.stack([cell.sum(axis=1) for cell in cells], axis=-1), Interval())
        if estimate.value is None or estimate.low is None or estimate.high is None:
            continue
        hits["order by FPR" in (estimate.note or "")].append(estimate.low <= truth <= estimate.high)
        values.append(estimate.value)
        widths.append(estimate.high - estimate.low)
    return {
        "p": p, "levels": name, "truth": truth, "sets": len(values),
        "bias": float(np.mean(values)) - truth, "width": float(np.mean(widths)),
        "unsure": len(hits[True]) / len(values),
        "sure_coverage": _share(hits[False]), "unsure_coverage": _share(hits[True]),
    }  # fmt: skip


def area(points: list[tuple[float, float]]) -> float:
    """The trapezoid under sorted points and the two corners."""
    curve = [(0.0, 0.0), *points, (1.0, 1.0)]
    return sum((x1 - x) * (y1 + y) / 2 for (x, y), (x1, y1) in itertools.pairwise(curve))


def _share(hits: list[bool]) -> float | None:
    return sum(hits) / len(hits) if len(hits) >= 50 else None


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"
