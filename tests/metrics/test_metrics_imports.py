"""The package stays light."""

from __future__ import annotations

import subprocess
import sys


def test_importing_metrics_loads_no_scipy():
    """`--help` must stay fast: scipy is loaded when the first quantile is asked for."""
    code = (
        "import sys, explaineval.metrics.auroc, explaineval.metrics.reliability; "
        "print([name for name in sys.modules if name.startswith('scipy')])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "[]"


def test_an_interval_loads_no_scipy_stats():
    """scipy.special suffices for every interval; scipy.stats would cost a second."""
    code = (
        "import sys; from explaineval.metrics.correlations import phi_cct; "
        "from explaineval.metrics.rates import rate; from explaineval.metrics.estimates import Interval; "
        "phi_cct([[1, 1, 1, 2], [2, 1, 0, 3], [1, 0, 1, 3]], Interval()); "
        "rate([1, 2], [3, 3], Interval(method='percentile')); print('scipy.stats' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "False"
