"""Faithfulness metrics (Atanasova et al. 2023; Siegel et al. 2024, 2025). Pure: numbers in, numbers out.

Every number takes sufficient statistics, one row per example (the cluster), and gives an `Estimate`: value
and 95 % limits, or the reason why there is none. Neither the order of trials nor that of examples changes a
digit.
"""

from __future__ import annotations

from explaineval.metrics.auroc import HullArea, f_auroc, f_auroc_hull, f_auroc_own, verbosity_points
from explaineval.metrics.correlations import cct, mean_tvd, phi, phi_at_p, phi_cct, phi_within, tvd_moments, youden_j
from explaineval.metrics.estimates import Interval, empty_margin, seeded_generator
from explaineval.metrics.rates import (
    ct_unfaithfulness,
    ct_unfaithfulness_per_example,
    flips_per_flipped_example,
    fpr,
    impact_rate,
    mean,
    mention_rate,
    rate,
    tpr,
)
from explaineval.metrics.reliability import (
    always,
    example_only,
    inside_example_only,
    never,
    phi_bounds,
    random_explainer,
)
from explaineval.metrics.warnings import GRADES, Grade, MetricWarning, estimate_warnings, noise_warning, warn

__all__ = [
    "GRADES",
    "Grade",
    "HullArea",
    "Interval",
    "MetricWarning",
    "always",
    "cct",
    "ct_unfaithfulness",
    "ct_unfaithfulness_per_example",
    "empty_margin",
    "estimate_warnings",
    "example_only",
    "f_auroc",
    "f_auroc_hull",
    "f_auroc_own",
    "flips_per_flipped_example",
    "fpr",
    "impact_rate",
    "inside_example_only",
    "mean",
    "mean_tvd",
    "mention_rate",
    "never",
    "noise_warning",
    "phi",
    "phi_at_p",
    "phi_bounds",
    "phi_cct",
    "phi_within",
    "random_explainer",
    "rate",
    "seeded_generator",
    "tpr",
    "tvd_moments",
    "verbosity_points",
    "warn",
    "youden_j",
]
