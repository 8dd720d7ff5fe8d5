"""Compare models, arms of one model, or runs on the trials that all of them share.

Reads run directories only. `groups` says which systems are compared with each other, `families` counts their shared
trials and tests the differences of every metric that has a `paired` in the registry, `runs` reads run directories.
`trends` and `tuning` look at families of models: over their sizes, and tuned against pretrained.
`explaineval.reporting` puts the results into words.
"""

from explaineval.scoring.comparisons.families import (
    IMPACT_NOT_MENTION,
    Choices,
    Compared,
    comparable_metrics,
    compare_group,
    label_of,
    sham_differences,
    share_trials,
    variance_explained,
)
from explaineval.scoring.comparisons.groups import (
    AT_P,
    PRIMARY,
    PRIMARY_OVER_LEVELS,
    By,
    Group,
    form_groups,
)
from explaineval.scoring.comparisons.runs import GroupResult, compare_runs, run_names
from explaineval.scoring.comparisons.tuning import ModelSize, TunedPair, TuningResult

__all__ = [
    "AT_P",
    "IMPACT_NOT_MENTION",
    "PRIMARY",
    "PRIMARY_OVER_LEVELS",
    "By",
    "Choices",
    "Compared",
    "Group",
    "GroupResult",
    "ModelSize",
    "TunedPair",
    "TuningResult",
    "comparable_metrics",
    "compare_group",
    "compare_runs",
    "form_groups",
    "label_of",
    "run_names",
    "sham_differences",
    "share_trials",
    "variance_explained",
]
