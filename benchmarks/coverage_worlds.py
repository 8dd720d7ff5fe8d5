"""Planted worlds for coverage.py: what is drawn, and what the numbers of the whole population are.

An example's answers change at a rate drawn from a beta distribution with mean p and intra-class correlation ICC.
The model says each insertion more or less readily: at level v of verbosity it mentions it with probability TPR_v if
the answer changed and FPR_v if not, points on the curve Φ⁻¹(TPR) = Φ⁻¹(FPR) + δ, of which the middle level is the
planted one. A trial's readiness is the same at all levels, so that more verbose explanations repeat the others.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

EXAMPLES, TRIALS = 200, 6
SHIFTS = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
"""Levels of verbosity, on the normal scale."""

MIDDLE = 2

CHANGED_TVD, SAME_TVD = (4.0, 4.0), (1.0, 12.0)
"""Beta distributions of the TVD where the answer changed, and where it did not."""

SLOPE = 0.2
"""In the graded world the mention rate rises by this much per unit of TVD beyond what the change of answer explains."""

IMPACT_RATES = (0.02, 0.05, 0.10, 0.30)
CORRELATIONS = (0.0, 0.4, 0.7)
RATES = ((0.6, 0.2), (0.2, 0.04), (0.9, 0.5))


@dataclass(frozen=True)
class Draw:
    """One data set: changed (G, K), mentioned (G, K, V), tvd (G, K); graded (G, K) are mentions that follow TVD too.

    floor (G, K) are insertions found in the explanation of the original input, which never had them.
    """

    changed: NDArray[np.bool_]
    mentioned: NDArray[np.bool_]
    tvd: NDArray[np.float64]
    graded: NDArray[np.bool_]
    floor: NDArray[np.bool_]

    def tables(self) -> NDArray[np.int64]:
        """Per-example counts a, b, c, d at each level, (G, V, 4)."""
        changed, said = self.changed[..., np.newaxis], self.mentioned
        cells = (changed & said, changed & ~said, ~changed & said, ~changed & ~said)
        return np.stack([cell.sum(axis=1) for cell in cells], axis=-1)

    def floor_counts(self) -> NDArray[np.int64]:
        """Per example, insertions found in the explanation of the original input, and all, (G, 2)."""
        return np.stack([self.floor.sum(axis=1), np.full(len(self.floor), self.floor.shape[1])], axis=1)


@dataclass(frozen=True)
class World:
    """One cell: impact rate p, intra-class correlations of changes and of mentions, TPR and FPR at the middle level."""

    p: float
    icc: float
    tpr: float
    fpr: float
    chatter: float = 0.0
    examples: int = EXAMPLES
    trials: int = TRIALS

    @property
    def name(self) -> str:
        """How the cell is called in tables."""
        size = "" if self.trials == TRIALS else f", × {self.trials}"
        return f"p {self.p:g}, ICC {self.icc:g}, TPR {self.tpr:g}, FPR {self.fpr:g}{size}"

    @property
    def floor(self) -> float:
        """The rate at which an insertion is found in the explanation of the original input: half of FPR."""
        return self.fpr / 2

    @cached_property
    def levels(self) -> NDArray[np.float64]:
        """(TPR_v, FPR_v) of each level, (2, V)."""
        found: NDArray[np.float64] = ndtr(ndtri([[self.tpr], [self.fpr]]) + SHIFTS)
        return found

    def draw(self, rng: np.random.Generator) -> Draw:
        """One data set."""
        shape = (self.examples, self.trials)
        changed = self.draw_changes(rng)
        tvd = np.where(changed, rng.beta(*CHANGED_TVD, shape), rng.beta(*SAME_TVD, shape))
        readiness = rng.random(shape)
        if self.chatter:  # a part of the readiness belongs to the example
            own, shared = rng.standard_normal(shape), rng.standard_normal((self.examples, 1))
            readiness = ndtr(math.sqrt(1 - self.chatter) * own + math.sqrt(self.chatter) * shared)
        tprs, fprs = self.levels
        rates: NDArray[np.float64] = np.where(changed[..., np.newaxis], tprs, fprs)
        means = np.where(changed, _mean(CHANGED_TVD), _mean(SAME_TVD))
        graded = readiness < rates[..., MIDDLE] + SLOPE * (tvd - means)
        floor = rng.random(shape) < self.floor  # drawn last, so that the rest is as it was without it
        return Draw(changed, readiness[..., np.newaxis] < rates, tvd, graded, floor)

    def draw_changes(self, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Which answers change, (G, K)."""
        rates = np.full((self.examples, 1), self.p)
        if self.icc:
            strength = (1 - self.icc) / self.icc
            rates = rng.beta(self.p * strength, (1 - self.p) * strength, (self.examples, 1))
        return rng.random((self.examples, self.trials)) < rates

    @cached_property
    def truths(self) -> dict[str, float]:
        """The population's numbers, in closed form."""
        p, tpr, fpr = self.p, self.tpr, self.fpr
        q = p * tpr + (1 - p) * fpr
        within = p * _variance(CHANGED_TVD) + (1 - p) * _variance(SAME_TVD)
        between = p * (1 - p) * (_mean(CHANGED_TVD) - _mean(SAME_TVD))
        scale = math.sqrt((within + between * (_mean(CHANGED_TVD) - _mean(SAME_TVD))) * q * (1 - q))
        (tprs, fprs) = self.levels
        x, y = [0.0, *fprs, 1.0], [0.0, *tprs, 1.0]
        return {
            "phi_cct": (tpr - fpr) * math.sqrt(p * (1 - p) / (q * (1 - q))),
            "cct": between * (tpr - fpr) / scale,
            "cct_graded": (between * (tpr - fpr) + SLOPE * within) / scale,
            "tpr": tpr,
            "fpr": fpr,
            "youden_j": tpr - fpr,
            "g_mean2": tpr * (1 - fpr),
            "g_mean2_control": tpr * (1 - self.floor),
            "f_auroc": sum((x[i + 1] - x[i]) * (y[i + 1] + y[i]) / 2 for i in range(len(x) - 1)),
        }


def all_worlds(chatter: float = 0.0) -> Iterator[World]:
    """The 36 cells."""
    for p, icc, (tpr, fpr) in itertools.product(IMPACT_RATES, CORRELATIONS, RATES):
        yield World(p, icc, tpr, fpr, chatter)


def unmentioned_worlds(chatter: float = 0.0) -> Iterator[World]:
    """16 cells in which answers change rarely and few of the changed ones go unmentioned."""
    for p, icc, trials, tpr in itertools.product((0.02, 0.05), (0.0, 0.4), (6, 4), (0.9, 0.95)):
        yield World(p, icc, tpr, 0.2, chatter, trials=trials)


def _mean(shape: tuple[float, float]) -> float:
    return shape[0] / sum(shape)


def _variance(shape: tuple[float, float]) -> float:
    alpha, beta = shape
    return alpha * beta / (alpha + beta) ** 2 / (alpha + beta + 1)
