"""Plan → execute → score. Only `execution` and `runs` wait for the world; scoring can be run again for nothing."""

from __future__ import annotations

from explaineval.experiment.batches import check_batches
from explaineval.experiment.edits import random_words
from explaineval.experiment.lanes import Lane
from explaineval.experiment.ledgers import prices_of, read_price_list
from explaineval.experiment.preparations import Prepared, prepare
from explaineval.experiment.projections import Projection, project, total_of
from explaineval.experiment.runs import Outcome, execute
from explaineval.experiment.scores import Scores, score
from explaineval.experiment.warnings import RowWarning

__all__ = [
    "Lane", "Outcome", "Prepared", "Projection", "RowWarning", "Scores", "check_batches", "execute", "prepare",
    "prices_of", "project", "random_words", "read_price_list", "score", "total_of",
]  # fmt: skip
