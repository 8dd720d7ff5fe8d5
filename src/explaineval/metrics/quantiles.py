"""Quantiles of the t and beta distributions, all for 95 % two-sided limits.

The only importer of scipy.special, and only when called: the import takes a quarter of a second that
`--help` need not pay.
"""

from __future__ import annotations

UPPER = 0.975
LOWER = 0.025


def student_t(df: int) -> float:
    """The 97.5 % quantile of Student's t with `df` ≥ 1 degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(df, UPPER))


def clopper_pearson(successes: int, trials: int) -> tuple[float, float]:
    """The exact 95 % limits of a binomial proportion (Clopper and Pearson 1934), trials ≥ 1.

    >>> clopper_pearson(0, 10)[0]
    0.0
    """
    from scipy.special import betaincinv

    failures = trials - successes
    low = float(betaincinv(successes, failures + 1, LOWER)) if successes else 0.0
    high = float(betaincinv(successes + 1, failures, UPPER)) if failures else 1.0
    return low, high
