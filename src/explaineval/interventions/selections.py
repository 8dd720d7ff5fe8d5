"""The naturalness filter: of an example's candidates the share that a judge finds most natural (Siegel et al. 2024).

A filtered set is a kind of its own, since what it says of a model is not what the unfiltered one says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from explaineval.interventions.kinds import NATURAL
from explaineval.interventions.lines import intervention_id
from explaineval.records import Intervention

LEAST_MASS = 0.9
"""Probability on the two letters below which a judge's probabilities are not used."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A candidate with the judge's answer, and its probability of "yes" where the endpoint gave usable ones."""

    intervention: Intervention
    natural: bool
    probability: float | None = None


def keep_natural(judged: Sequence[Judged], share: float) -> list[Judged]:
    """The top `share` (0 to 1) of one example's judged candidates, rounded down but at least one, in their own order.

    They are ranked by the probability of "yes" where each of them has one, else by yes or no; ties are broken by a
    hash of the intervention's id, which has nothing to do with the order of building.
    """
    graded = all(one.probability is not None for one in judged)
    count = max(1, int(share * len(judged) + 1e-9))

    def rank(one: Judged) -> tuple[float, str]:
        score = one.probability if graded and one.probability is not None else float(one.natural)
        return -score, hashlib.sha256(one.intervention.id.encode("utf-8", "surrogatepass")).hexdigest()

    kept = {id(one) for one in sorted(judged, key=rank)[:count]}
    return [one for one in judged if id(one) in kept]


def call_natural(intervention: Intervention) -> Intervention:
    """The intervention under its kind in the filtered set (random_word_natural), with the id that goes with it."""
    content = intervention.model_dump(exclude={"id", "kind"}, exclude_none=True)
    kind = intervention.kind + NATURAL
    return Intervention(id=intervention_id(kind=kind, **content), kind=kind, **content)
