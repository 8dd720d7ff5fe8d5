"""Plan → execute → score. Only `execution` and `runs` wait for the world; scoring can be run again for nothing."""

from __future__ import annotations

from explaineval.experiment.edits import random_words
from explaineval.experiment.lanes import Lane
from explaineval.experiment.preparations import Prepared, prepare
from explaineval.experiment.runs import Outcome, execute
from explaineval.experiment.scores import Caution, Scores, score

__all__ = ["Caution", "Lane", "Outcome", "Prepared", "Scores", "execute", "prepare", "random_words", "score"]
