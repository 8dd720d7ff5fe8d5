"""The numbers of one planted data set, by the package's own functions on counts."""

from __future__ import annotations

import numpy as np
from coverage_worlds import MIDDLE, Draw
from numpy.typing import NDArray

from explaineval import metrics
from explaineval.records import Estimate

INTERVAL = metrics.Interval()


def seeded(cell: int, number: int) -> np.random.Generator:
    """The generator of one data set."""
    return np.random.default_rng([2025, cell, number])


def estimates(draw: Draw) -> dict[str, Estimate]:
    """The numbers of a data set, from the functions that score runs."""
    tables = draw.tables()
    middle = tables[:, MIDDLE]
    return {
        "phi_cct": metrics.phi_cct(middle, INTERVAL),
        "cct": metrics.cct(moments(draw, draw.mentioned[..., MIDDLE]), INTERVAL),
        "cct_graded": metrics.cct(moments(draw, draw.graded), INTERVAL),
        "tpr": metrics.tpr(middle, INTERVAL),
        "fpr": metrics.fpr(middle, INTERVAL),
        "youden_j": metrics.youden_j(middle, INTERVAL),
        "f_auroc": metrics.f_auroc(tables, INTERVAL),
    }


def moments(draw: Draw, mentioned: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The rows of CCT, (G, 6)."""
    pairs = zip(draw.tvd.tolist(), mentioned.tolist(), strict=True)
    return np.array([metrics.tvd_moments(distances, said) for distances, said in pairs])
