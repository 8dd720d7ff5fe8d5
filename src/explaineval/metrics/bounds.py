"""What phi could have been, had no trial been missing (method page, "Missing trials"). Not confidence limits.

phi rises in a and d and falls in b and c, so the highest phi has every missing trial in a or d, as far as
what is known of it allows, and the lowest every one in b or c; only the split of the wholly unknown is open.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from explaineval.metrics.phis import phi_values
from explaineval.metrics.tables import check_counts

Counts = tuple[int, ...]  # four: a, b, c, d or u1, u0, v1, v0


def phi_bounds(a: int, b: int, c: int, d: int, u1: int, u0: int, v1: int, v0: int, w: int) -> tuple[float, float]:
    """The lowest and highest phi over all completions of the missing trials; (NaN, NaN) if none is defined.

    a, b, c, d: the observed table. u1, u0: trials with a known impact (1, 0) and unknown mention. v1, v0:
    trials with a known mention (1, 0) and unknown impact. w: trials of which neither is known. Raises
    ValueError on a negative count.

    >>> phi_bounds(1, 0, 0, 1, 0, 0, 0, 0, 1)
    (0.5, 1.0)
    """
    check_counts([a, b, c, d, u1, u0, v1, v0, w])
    # negating M swaps a with b, c with d, v1 with v0 and changes the sign of phi; 0.0 − x never gives −0.0
    low = 0.0 - _highest((b, a, d, c), (u1, u0, v0, v1), w)
    return low, _highest((a, b, c, d), (u1, u0, v1, v0), w)


def _highest(table: Counts, known: Counts, w: int) -> float:
    """The highest defined phi. Where every best completion empties a margin, the next best ones are tried.

    A margin is filled again by putting one trial of some class, or one or two of the wholly unknown, into b
    or c.
    """
    best = _scan(table, known, (0, 0, 0, 0), w)
    if not math.isnan(best):
        return best
    moves = itertools.product(*(range(min(count, 1) + 1) for count in known))
    splits = [(b, c) for b in (0, 1) for c in (0, 1) if b + c <= w]
    values = [
        _scan((table[0], table[1] + b, table[2] + c, table[3]), known, move, w - b - c)
        for move, (b, c) in itertools.product(moves, splits)
    ]
    return max((value for value in values if not math.isnan(value)), default=math.nan)


def _scan(table: Counts, known: Counts, moved: Counts, w: int) -> float:
    """The highest phi over all splits of w between a and d, with `moved` trials of each class in b or c."""
    a, b, c, d = table
    u1, u0, v1, v0 = (count - away for count, away in zip(known, moved, strict=True))
    b, c = b + moved[0] + moved[3], c + moved[1] + moved[2]
    in_a = np.arange(w + 1, dtype=np.float64)
    tables = np.empty((w + 1, 4))
    tables[:, 0] = a + u1 + v1 + in_a
    tables[:, 1] = b
    tables[:, 2] = c
    tables[:, 3] = d + u0 + v0 + (w - in_a)
    values = phi_values(tables)
    defined = values[~np.isnan(values)]
    return float(np.max(defined)) if defined.size else math.nan
