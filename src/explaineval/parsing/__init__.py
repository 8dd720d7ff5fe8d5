"""Answers out of completions: what a model's text says, or why it cannot be read. Pure.

`classify` sorts out completions that are not to be read, `parse` reads label and explanation,
`label_probabilities` reads p(label) at the letter's own token. Terms: the method page.
"""

from __future__ import annotations

from explaineval.parsing.answers import parse
from explaineval.parsing.outcomes import classify
from explaineval.parsing.probabilities import (
    argmax_disagrees,
    is_one_hot,
    label_probabilities,
    total_variation,
)

__all__ = ["argmax_disagrees", "classify", "is_one_hot", "label_probabilities", "parse", "total_variation"]
