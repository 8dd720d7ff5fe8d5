"""Reading a model's text: its label and explanation, or why they cannot be read, and its label probabilities.

Start at `answers.parse`. Everything here is pure; the method page explains the terms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from explaineval.parsing.completions import (
    argmax_disagrees,
    classify,
    is_one_hot,
    label_probabilities,
    total_variation,
    tvd_of,
)
from explaineval.parsing.text import leading_reasoning, own_reply

if TYPE_CHECKING:
    from explaineval.parsing.answers import Label, parse, parse_explanation, parse_label

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


def __getattr__(name: str) -> Any:
    """Import what reads answers when it is first used: compiling its patterns takes time, and scoring reads none."""
    if name in ("Label", "parse", "parse_explanation", "parse_label"):
        from explaineval.parsing import answers

        return getattr(answers, name)
    raise AttributeError(f"module 'explaineval.parsing' has no attribute {name!r}")
