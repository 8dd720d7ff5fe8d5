"""The numbers of one planted data set, by the package's own functions on counts."""

from __future__ import annotations

import numpy as np
from coverage_worlds import MIDDLE, Draw
from numpy.typing import NDArray

from explaineval.metrics import auroc, correlations, rates
from explaineval.metrics.estimates import Interval
from explaineval.records import Estimate

INTERVAL = Interval()


def seeded(cell: int, number: int) -> np.random.Generator:
    """The generator of one data set."""
    return np.random.default_rng([2025, cell, number])


def estimates(draw: Draw) -> dict[str, Estimate]:
    """The numbers of a data set, from the functions that score runs."""
    tables = draw.tables()
    middle = tables[:, MIDDLE]
    return {
        "phi_cct": correlations.phi_cct(middle, INTERVAL),
        "cct": correlations.cct(moments(draw, draw.mentioned[..., MIDDLE]), INTERVAL),
        "cct_graded": correlations.cct(moments(draw, draw.graded), INTERVAL),
        "tpr": rates.tpr(middle, INTERVAL),
        "fpr": rates.fpr(middle, INTERVAL),
        "youden_j": correlations.youden_j(middle, INTERVAL),
        "g_mean2": rates.g_mean2(middle, INTERVAL),
        "g_mean2_control": rates.g_mean2_control(middle, draw.floor_counts(), INTERVAL),
        "f_auroc": auroc.f_auroc(tables, INTERVAL),
    }


def moments(draw: Draw, mentioned: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The rows of CCT, (G, 6)."""
    pairs = zip(draw.tvd.tolist(), mentioned.tolist(), strict=True)
    return np.array([correlations.tvd_moments(distances, said) for distances, said in pairs])
