"""Find the numbers of runs that must not be quoted, whatever the comparison says: noise, missing answers, chance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from explaineval.config import RunConfig
from explaineval.records import Mention, Trial
from explaineval.rundir.directory import PROMPTS
from explaineval.scoring.checks import MetricWarning, Results
from explaineval.scoring.comparisons.groups import WITHIN
from explaineval.scoring.counts import KindCounts, TrialCounter
from explaineval.scoring.mentioning import Source, TextReader, phrases_in
from explaineval.scoring.metric import KindMetric
from explaineval.scoring.registry import compute_all, metrics_of
from explaineval.scoring.shared import System
from explaineval.scoring.warnings import kind_warnings

CARRIED = ("noise", "many_missing", "mostly_unknown", "inside_example_only")
"""The codes that a comparison carries on from the numbers that it compares. That there are few trials of some sort is
carried by the intervals of differences."""

ASKED_BY_CHECKS = ("phi_cct_example_only", "phi_cct_tvd_trials", WITHIN)
"""Numbers that the checks of compared metrics need."""


class QuotableCounter:
    """Counts the trials of a run on their way, and then says which of its numbers must not be quoted."""

    def __init__(self, directory: Path, own_policy: Mention, config: RunConfig) -> None:
        """`config` has the mention policy of the comparison, `own_policy` is that of the run."""
        reader = TextReader(own_policy, phrases_in(directory / PROMPTS))
        source = Source(config.mention)
        self._config = config
        self._counter = TrialCounter({source: reader.decider(source)})

    def passed(self, trials: Iterable[Trial]) -> Iterator[Trial]:
        """Count the trials and pass them on."""
        for trial in trials:
            self._counter.add(trial)
            yield trial

    def unquotable(self, run: int) -> dict[tuple[System, str, str], dict[str, list[MetricWarning]]]:
        """Return the warnings of the run's numbers, by system (with the number of the run), task, kind and metric."""
        (counts,) = self._counter.by_source.values()
        metrics = [
            metric for metric in metrics_of(KindMetric) if metric.paired is not None or metric.name in ASKED_BY_CHECKS
        ]
        found: dict[tuple[System, str, str], dict[str, list[MetricWarning]]] = {}
        for condition in counts.kinds:
            of_kind = KindCounts(condition, counts, self._config)
            results = Results(of_kind, compute_all(metrics, of_kind))
            by_metric: dict[str, list[MetricWarning]] = {}
            for warning in kind_warnings(results):
                if warning.grade == "do not quote" and warning.code in CARRIED:
                    by_metric.setdefault(warning.metric, []).append(warning)
            if by_metric:
                system = System(
                    run, condition.endpoint, condition.model, condition.order, condition.style, condition.shots,
                    condition.verbosity,
                )  # fmt: skip
                found[system, condition.task, str(condition.kind)] = by_metric
        return found
