"""Reading a model's text: its label and explanation, or why they cannot be read, and its label probabilities.

Start at `answers.parse`. Everything here is pure; the method page explains the terms.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from explaineval.parsing.completions import (
    argmax_disagrees,
    classify,
    is_one_hot,
    label_probabilities,
    total_variation,
    tvd_of,
)

if TYPE_CHECKING:
    from explaineval.parsing.answers import Label, parse, parse_explanation, parse_label
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


_MODULES = {
    **dict.fromkeys(("Label", "parse", "parse_explanation", "parse_label"), "answers"),
    **dict.fromkeys(("leading_reasoning", "own_reply"), "text"),
}
"""The modules of the names that read texts: compiling their patterns takes time, and scoring reads no text."""


def __getattr__(name: str) -> Any:
    """Import what reads texts when it is first used."""
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
