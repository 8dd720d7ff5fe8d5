"""Compare models, arms of one model, or runs on the trials that all of them share.

Reads run directories only. `runs` reads them and brings systems into the order of the configuration, `groups` says
which are compared with each other, `task_groups` measures them on their shared trials, `families` tests the differences
of every metric that has a `paired` in the registry and says what may be claimed of them.
`explaineval.reporting` puts the results into words.
"""

from explaineval.scoring.comparisons.families import (
    Claim,
    Compared,
    compare_groups,
    sham_differences,
    variance_explained,
)
from explaineval.scoring.comparisons.groups import (
    PRIMARY,
    PRIMARY_OVER_LEVELS,
    By,
    CarriedWarning,
    Choices,
    Group,
    GroupTrials,
    ModelSize,
    TunedPair,
    TuningResult,
    comparable_metrics,
    form_groups,
    share_trials,
)
from explaineval.scoring.comparisons.runs import GroupResult, compare_runs, run_names

__all__ = [
    "PRIMARY",
    "PRIMARY_OVER_LEVELS",
    "By",
    "CarriedWarning",
    "Choices",
    "Claim",
    "Compared",
    "Group",
    "GroupResult",
    "GroupTrials",
    "ModelSize",
    "TunedPair",
    "TuningResult",
    "comparable_metrics",
    "compare_groups",
    "compare_runs",
    "form_groups",
    "run_names",
    "sham_differences",
    "share_trials",
    "variance_explained",
]
