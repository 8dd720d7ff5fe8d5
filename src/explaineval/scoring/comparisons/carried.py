"""Find what limits the numbers of a run whatever a comparison says: noise, missing answers, chance, the answers."""

from __future__ import annotations

from explaineval.config import RunConfig
from explaineval.rundir.schema import Facts
from explaineval.scoring.checks import Results
from explaineval.scoring.codes import MetricWarning
from explaineval.scoring.comparisons.task_groups import Carried
from explaineval.scoring.counts import KindCounts, RunCounts
from explaineval.scoring.metric import KindMetric
from explaineval.scoring.registry import PHI_EXAMPLE_ONLY, PHI_TVD_TRIALS, PHI_WITHIN, compute_all, metrics_of
from explaineval.scoring.shared import System, system_of
from explaineval.scoring.warnings import kind_warnings

CARRIED = ("noise", "many_missing", "mostly_unknown", "inside_example_only", "follows_answer", "answer_tells_change")
"""The codes that a comparison carries on from the numbers that it compares. That there are few trials of some sort is
carried by the intervals of differences."""

ASKED_BY_CHECKS = (PHI_EXAMPLE_ONLY, PHI_TVD_TRIALS, PHI_WITHIN)
"""Numbers that the checks of compared metrics need."""


def carried_warnings(run: int, counts: RunCounts, config: RunConfig, facts: Facts) -> Carried:
    """Return the warnings of the run's numbers, by system (with the number of the run), task, kind and metric."""
    metrics = [
        metric for metric in metrics_of(KindMetric) if metric.paired is not None or metric.name in ASKED_BY_CHECKS
    ]
    found: dict[tuple[System, str, str], dict[str, list[MetricWarning]]] = {}
    for condition in counts.kinds:
        of_kind = KindCounts(condition, counts, config)
        available = facts.tasks[condition.task].available(config.limit)
        results = Results(of_kind, compute_all(metrics, of_kind), available=available)
        by_metric: dict[str, list[MetricWarning]] = {}
        for warning in kind_warnings(results):
            if warning.code in CARRIED:
                by_metric.setdefault(warning.metric, []).append(warning)
        if by_metric:
            found[system_of(run, condition), condition.task, str(condition.kind)] = by_metric
    return found
