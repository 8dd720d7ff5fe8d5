"""Count what predictors said of a run's trials (simulatability), per condition, predictor and example.

A predictor's three predictions of one trial are paired: gains are counted on the trials whose prediction without an
explanation and with one could both be read, the control on those whose third prediction could be read too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from explaineval.metrics.estimates import IntArray, Interval
from explaineval.records import Condition, Trial
from explaineval.rundir.schema import Prediction, Reads
from explaineval.signature import digest

PANEL = "panel"
"""The name of the judge in rows that stand for all predictors together."""

Predictor = tuple[str, str | None]
"""A predictor's model and endpoint."""

Answers = dict[Reads, bool]
"""Whether each of a predictor's readable predictions of one trial is right."""


@dataclass(slots=True)
class PredictedTrial:
    """One trial that was predicted: its example, whether its answer changed, and what each predictor said."""

    example: str
    changed: bool
    answers: dict[Predictor, Answers] = field(default_factory=dict)
    asked: dict[Predictor, set[Reads]] = field(default_factory=dict)


@dataclass(frozen=True)
class PredictionCounts:
    """The counts of one condition and predictor, or of the panel of all its predictors.

    `own` are counts (G, 6) as `explaineval.metrics.simulatability` defines them. `own_paired` and `shuffled` are those
    of the trials that also have a prediction with another example's explanation; both are empty without the control.
    `unread` counts trials that lack a prediction without or with the explanation, of `asked`: it could not be read, or
    was made from another answer or explanation than the trial has now.
    """

    condition: Condition
    predictor: str
    signature: str
    control_signature: str
    own: IntArray
    own_paired: IntArray
    shuffled: IntArray
    asked: int
    unread: int
    interval: Interval

    @property
    def has_control(self) -> bool:
        """Whether some trial has a prediction with another example's explanation."""
        return bool(len(self.shuffled))


class PredictionIndex:
    """The predictions of a run by trial, ready to meet the trials in one pass over trials.jsonl."""

    def __init__(self, predictions: Sequence[Prediction]) -> None:
        self._by_trial: dict[str, list[Prediction]] = {}
        self._asked: dict[Predictor, str] = {}
        for prediction in predictions:
            self._by_trial.setdefault(prediction.trial, []).append(prediction)
            self._asked[prediction.predictor, prediction.endpoint] = prediction.asked
        self._conditions: dict[Condition, dict[str, PredictedTrial]] = {}
        self._sources: dict[Condition, list[tuple[str, str]]] = {}

    def __len__(self) -> int:
        return len(self._by_trial)

    def add(self, trial: Trial) -> None:
        """Take one trial into account; one that is not scored, or was not predicted, changes nothing."""
        if not self._by_trial or trial.status != "ok" or trial.changed is None:
            return
        predictions = self._by_trial.get(trial.id)
        if predictions is None:
            return
        predicted = PredictedTrial(trial.example_id, trial.changed)
        for prediction in predictions:
            predictor = (prediction.predictor, prediction.endpoint)
            predicted.asked.setdefault(predictor, set()).add(prediction.reads)
            if prediction.text not in (None, trial.predicted_text):
                continue  # the model was asked again, and answered or explained otherwise
            if prediction.label is not None:
                right = prediction.label == trial.label_after
                predicted.answers.setdefault(predictor, {})[prediction.reads] = right
            if prediction.source is not None:
                self._sources.setdefault(trial.condition, []).append((trial.id, prediction.source))
        self._conditions.setdefault(trial.condition, {})[trial.id] = predicted

    def conditions(self) -> list[Condition]:
        """The conditions that were predicted, in the order of the trials."""
        return list(self._conditions)

    def counts(self, condition: Condition, interval: Interval) -> list[PredictionCounts]:
        """Return the counts of each predictor of a condition, and of all together where there are several."""
        trials = self._conditions[condition]
        predictors = list(dict.fromkeys(name for trial in trials.values() for name in trial.asked))
        found = [self._count(condition, (predictor,), predictor[0], interval) for predictor in predictors]
        if len(predictors) > 1:
            found.append(self._count(condition, tuple(predictors), PANEL, interval))
        return found

    def _count(
        self, condition: Condition, predictors: tuple[Predictor, ...], name: str, interval: Interval
    ) -> PredictionCounts:
        trials = self._conditions[condition].values()
        asked = [
            trial
            for trial in trials
            if all({"nothing", "explanation"} <= trial.asked.get(p, set()) for p in predictors)
        ]
        read = [trial for trial in asked if _all_read(trial, predictors, ("nothing", "explanation"))]
        paired = [trial for trial in read if _all_read(trial, predictors, ("shuffled",))]
        signatures = "+".join(self._signature(predictor) for predictor in predictors)
        sources = digest({"trial": trial, "source": source} for trial, source in self._sources.get(condition, ()))
        return PredictionCounts(
            condition=condition._replace(judge=name),
            predictor=name,
            signature=f"predictor:{signatures}",
            control_signature=f"shuffled:{sources}",
            own=_counts(read, predictors, "explanation"),
            own_paired=_counts(paired, predictors, "explanation"),
            shuffled=_counts(paired, predictors, "shuffled"),
            asked=len(asked),
            unread=len(asked) - len(read),
            interval=interval,
        )

    def _signature(self, predictor: Predictor) -> str:
        model, endpoint = predictor
        return f"{model}{f' at {endpoint}' if endpoint else ''}@{self._asked[predictor]}"


def _all_read(trial: PredictedTrial, predictors: Iterable[Predictor], reads: Iterable[Reads]) -> bool:
    return all(kind in trial.answers.get(predictor, {}) for predictor in predictors for kind in reads)


def _counts(trials: Iterable[PredictedTrial], predictors: Sequence[Predictor], explained: Reads) -> IntArray:
    """The counts (G, 6) of trials with one kind of explanation, added over predictors."""
    by_example: dict[str, list[int]] = {}
    for trial in trials:
        row = by_example.setdefault(trial.example, [0] * 6)
        first = 0 if trial.changed else 3
        for predictor in predictors:
            answers: Mapping[Reads, bool] = trial.answers[predictor]
            row[first] += 1
            row[first + 1] += answers[explained]
            row[first + 2] += answers["nothing"]
    return np.array(list(by_example.values()), dtype=np.int64).reshape(-1, 6)
