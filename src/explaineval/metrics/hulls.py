"""F-AUROC under the upper convex hull of the levels: the best that mixing levels could reach (Fawcett 2006, section 6).

The hull picks the levels that came out well, so that chance alone lifts it above 0.5. It has no interval and is
read only beside its mean over permuted mentions, which is what chance alone gives on the same trials.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from explaineval.metrics.aurocs import verbosity_points, why_no_area
from explaineval.metrics.tables import FloatArray, IntArray
from explaineval.records import Estimate

PERMUTATIONS = 200


class HullArea(NamedTuple):
    """The area under the hull, and its mean over permutations of the mentions (None where undefined)."""

    estimate: Estimate
    permuted: float | None


def f_auroc_hull(
    mentions: ArrayLike,
    impacts: ArrayLike,
    rng: np.random.Generator,
    *,
    n_examples: int,
    permutations: int = PERMUTATIONS,
) -> HullArea:
    """The hull's area of mentions (trials, V) at V levels and impacts (trials,), both of booleans.

    A permutation gives each trial's mentions, over all levels together, to another trial's impact. Trials with
    the same mentions are interchangeable, so the number of each pattern among the changed answers is drawn
    (multivariate hypergeometric): the order of trials changes no digit. `n_examples` is passed on. Raises
    ValueError on arrays that are not boolean or not aligned.
    """
    said, changed = _aligned(mentions, impacts)
    n = said.size
    kinds, of_trial = np.unique(said, axis=0, return_inverse=True)
    counts = np.bincount(of_trial.reshape(-1), minlength=len(kinds))
    in_flips = np.bincount(of_trial.reshape(-1)[changed], minlength=len(kinds))
    undefined = why_no_area(_pooled(kinds, in_flips, counts))
    if undefined:
        return HullArea(Estimate(value=None, n=n, n_examples=n_examples, undefined=undefined), None)
    drawn = rng.multivariate_hypergeometric(counts, int(changed.sum()), size=permutations)
    value, *chance = (_area_of(_pooled(kinds, flips, counts)) for flips in (in_flips, *drawn))
    permuted = math.fsum(chance) / permutations
    note = f"no interval: the hull is biased upward; chance alone gives {permuted:.3f} on the same trials"
    return HullArea(Estimate(value=value, n=n, n_examples=n_examples, note=note), permuted)


def hull_area(fpr: FloatArray, tpr: FloatArray) -> float:
    """The area under the upper convex hull of points (V,) with (0, 0) and (1, 1).

    >>> hull_area(np.array([0.5, 0.2]), np.array([0.5, 0.8]))
    0.8
    """
    points = sorted([(0.0, 0.0), *zip(fpr.tolist(), tpr.tolist(), strict=True), (1.0, 1.0)])
    hull: list[tuple[float, float]] = []
    for point in points:
        while len(hull) > 1 and _turn(hull[-2], hull[-1], point) >= 0:
            hull.pop()
        hull.append(point)
    pairs = itertools.pairwise(hull)
    return math.fsum((right[0] - left[0]) * (right[1] + left[1]) / 2 for left, right in pairs)


def _turn(first: tuple[float, float], second: tuple[float, float], third: tuple[float, float]) -> float:
    """Above 0 for a turn to the left: then the second point is below the hull."""
    (x, y), (x1, y1), (x2, y2) = first, second, third
    return (x1 - x) * (y2 - y) - (y1 - y) * (x2 - x)


def _pooled(kinds: NDArray[np.bool_], in_flips: IntArray, counts: IntArray) -> IntArray:
    """The table of each level, (1, V, 4), of `counts` trials with each kind (K, V) of mentions."""
    a, c = in_flips @ kinds, (counts - in_flips) @ kinds
    flips = int(in_flips.sum())
    return np.stack([a, flips - a, c, int(counts.sum()) - flips - c], axis=-1)[np.newaxis]


def _area_of(pooled: IntArray) -> float:
    fpr, tpr = verbosity_points(pooled).T
    return hull_area(fpr, tpr)


def _aligned(mentions: ArrayLike, impacts: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    said, changed = np.asarray(mentions), np.asarray(impacts)
    if said.size == 0:
        return np.zeros((0, 0), dtype=np.bool_), np.zeros(0, dtype=np.bool_)
    if said.dtype != np.bool_ or changed.dtype != np.bool_:
        raise ValueError(f"mentions and impacts must be booleans, got {said.dtype} and {changed.dtype}")
    if said.ndim != 2 or changed.shape != said.shape[:1]:
        raise ValueError(f"mentions {said.shape} and impacts {changed.shape} must be (trials, levels) and (trials,)")
    return said, changed
