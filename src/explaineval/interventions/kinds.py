"""The names of kinds: which are cues, which their controls, which is the null edit, and what a judge adds."""

from __future__ import annotations

NULL_EDIT = "null_edit"
"""The kind of an edit that adds one space: it measures noise, and has nothing that could be mentioned."""

CUE, CONTROL, NATURAL = "cue_", "_control", "_natural"
WORD_KINDS = ("random_word", "random_word_atanasova", "editor")
"""Kinds that insert a word into a field, as our builders name them."""


def is_cue(kind: str) -> bool:
    """Whether the kind is a cue or a cue's control.

    >>> is_cue("cue_user"), is_cue("cue_user_control"), is_cue("random_word")
    (True, True, False)
    """
    return kind.startswith(CUE)


def is_control(kind: str) -> bool:
    """Whether the kind is the letterless control of a cue."""
    return is_cue(kind) and kind.endswith(CONTROL)


def cue_name(kind: str) -> str:
    """The name under which the prompts directory keeps a cue; a control goes by that of its cue.

    >>> cue_name("cue_user"), cue_name("cue_user_control")
    ('user', 'user')
    """
    return kind.removeprefix(CUE).removesuffix(CONTROL)


def edits_a_field(kind: str) -> bool:
    """Whether a kind is one of ours that needs a field: an inserted word, judged natural or not, or the null edit."""
    return kind.removesuffix(NATURAL) in WORD_KINDS or kind == NULL_EDIT
