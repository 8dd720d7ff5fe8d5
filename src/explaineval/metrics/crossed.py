"""Compute phi-CCT with an interval over examples and inserted texts together.

Trials with the same text have something in common, as trials of one example have. An interval over examples alone holds
for other examples and the same texts; where there are few texts it is too short for other texts. The variance over both
is V = max(V_E, V_E + V_W − V_EW), from delete-one jackknives over examples, over texts, and over the cells of an
example and a text (Cameron, Gelbach and Miller 2011).
"""

from __future__ import annotations

import math

from numpy.typing import ArrayLike

from explaineval.metrics.correlations import MENTIONED_FLIP, phi_values
from explaineval.metrics.estimates import (
    FEWEST,
    column_sums,
    deviations,
    empty_margin,
    error_of,
    no_value,
    scored_tables,
    tanh_limits_of_error,
    total_table,
)
from explaineval.records import Estimate

ONE_TEXT = "only one text was inserted"


def phi_over_texts(examples: ArrayLike, texts: ArrayLike, cells: ArrayLike) -> Estimate:
    """Return phi-CCT with limits that hold over examples and texts.

    `examples` (G, 4), `texts` (W, 4) and `cells` (C, 4) hold the same trials, counted by example, by inserted text and
    by both. The degrees of freedom are one less than the examples, or the texts if these are fewer, with a mentioned
    flip. Raises ValueError where the totals differ.
    """
    clusters = [scored_tables(counts) for counts in (examples, texts, cells)]
    tables = {total_table(counts) for counts in clusters}
    if len(tables) > 1:
        raise ValueError(f"examples, texts and cells must hold the same trials, got the tables {sorted(tables)}")
    n, n_examples = int(clusters[0].sum()), len(clusters[0])
    undefined = empty_margin(*tables.pop()) or (ONE_TEXT if len(clusters[1]) < FEWEST else None)
    if undefined:
        return no_value(undefined, n, n_examples)
    rows = [counts.astype(float) for counts in clusters]
    value = float(phi_values(column_sums(rows[0])[None])[0])
    by_cluster = [int((counts[:, 0] > 0).sum()) for counts in clusters[:2]]

    def error() -> float:
        if any(len(counts) < FEWEST for counts in rows):
            return math.nan
        by_example, by_text, by_cell = (error_of(deviations(counts, phi_values)) ** 2 for counts in rows)
        return math.sqrt(max(by_example, by_example + by_text - by_cell))

    limits = tanh_limits_of_error(value, error, min(by_cluster), MENTIONED_FLIP)
    note = limits.note
    if note is not None and by_cluster[1] < by_cluster[0]:
        note = note.replace("examples have", "texts have")
    return Estimate(value=value, low=limits.low, high=limits.high, n=n, n_examples=n_examples, note=note)
