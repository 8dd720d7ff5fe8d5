"""Sums over examples that do not depend on their order.

`math.fsum` returns the correctly rounded sum, so no digit depends on which request came back first.
"""

from __future__ import annotations

import math

import numpy as np

from explaineval.metrics.tables import FloatArray


def exact_sum(values: FloatArray) -> float:
    """The correctly rounded sum of a vector."""
    return math.fsum(values.tolist())


def column_sums(rows: FloatArray) -> FloatArray:
    """The correctly rounded sum of each column: rows (G, K) to (K,)."""
    return np.array([exact_sum(column) for column in rows.T], dtype=np.float64)


def leave_one_out_sums(rows: FloatArray) -> FloatArray:
    """Column sums without each row in turn: rows (G, K) to (G, K).

    The rounding error of the total is kept and added back, so that what is left after taking away a row that
    holds nearly everything is still right to the last digits (and exactly 0 where nothing is left).
    """
    left = np.empty_like(rows)
    for column in range(rows.shape[1]):
        values = rows[:, column].tolist()
        total = math.fsum(values)
        lost = math.fsum([*values, -total])
        left[:, column] = (total - rows[:, column]) + lost
    return left
