"""Answers out of completions: what a model's text says, or why it cannot be read. Pure.

`classify` sorts out completions that are not to be read, `parse` reads label and explanation, `parse_label` and
`parse_explanation` one of them each, `leading_reasoning` what a model thought before its answer, `own_reply` leaves out
what is not the model's own turn, and `label_probabilities` reads p(label) at the letter's own token. Terms: the method
page.
"""

from __future__ import annotations

from explaineval.parsing.answers import Label, parse, parse_explanation, parse_label
from explaineval.parsing.completions import (
    argmax_disagrees,
    classify,
    is_one_hot,
    label_probabilities,
    total_variation,
    tvd_of,
)
from explaineval.parsing.text import leading_reasoning, own_reply

__all__ = [
    "Label",
    "argmax_disagrees",
    "classify",
    "is_one_hot",
    "label_probabilities",
    "leading_reasoning",
    "own_reply",
    "parse",
    "parse_explanation",
    "parse_label",
    "total_variation",
    "tvd_of",
]
