"""Per-example 2×2 tables of impact and mention, the sufficient statistics of every binary number.

One row per example, columns a (changed, mentioned), b (changed, not mentioned), c (unchanged, mentioned),
d (unchanged, not mentioned), as in Siegel et al. 2024, section 3.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

NO_TRIAL = "no scored trial"
NEVER_CHANGED = "no answer changed"
ALWAYS_CHANGED = "every answer changed"
NEVER_MENTIONED = "no explanation mentions the insertion"
ALWAYS_MENTIONED = "every explanation mentions the insertion"


def check_counts(counts: ArrayLike) -> IntArray:
    """Counts as an int64 array. Raises ValueError unless they are whole and not negative."""
    array = np.asarray(counts)
    if array.size == 0:
        return np.zeros(array.shape, dtype=np.int64)
    if array.dtype.kind not in "biu":
        raise ValueError(f"counts must be integers, got an array of {array.dtype}: count trials, do not average")
    whole = array.astype(np.int64)
    if (least := int(np.min(whole))) < 0:
        raise ValueError(f"counts must not be negative, got {least}")
    return whole


def scored_tables(tables: ArrayLike) -> IntArray:
    """The rows of `tables` (G, 4) with at least one trial, as int64.

    An example without a trial says nothing and must not count as a cluster. Raises ValueError unless the
    shape is (G, 4) and the counts are whole and not negative.
    """
    array = check_counts(tables)
    if array.size == 0:
        return np.zeros((0, 4), dtype=np.int64)
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"tables must have the shape (examples, 4), got {array.shape}: columns are a, b, c, d")
    scored: IntArray = array[array.sum(axis=1) > 0]
    return scored


def total_table(tables: IntArray) -> tuple[int, int, int, int]:
    """The pooled table (a, b, c, d) of tables (G, 4)."""
    a, b, c, d = (int(count) for count in tables.sum(axis=0))
    return a, b, c, d


def empty_margin(a: int, b: int, c: int, d: int) -> str | None:
    """Why phi is undefined on this table, in words; None where it is defined.

    >>> empty_margin(0, 0, 2, 5)
    'no answer changed'
    """
    if a + b + c + d == 0:
        return NO_TRIAL
    if a + b == 0:
        return NEVER_CHANGED
    if c + d == 0:
        return ALWAYS_CHANGED
    if a + c == 0:
        return NEVER_MENTIONED
    if b + d == 0:
        return ALWAYS_MENTIONED
    return None
