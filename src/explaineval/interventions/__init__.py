"""Edits of an example's text: built, read and applied. Pure; the only file read is the shipped word lists."""

from __future__ import annotations

from explaineval.interventions.edits import apply, check, mark_insertion
from explaineval.interventions.lines import intervention_from, intervention_id
from explaineval.interventions.random_words import build_random_words
from explaineval.interventions.splices import splice, splice_naturally
from explaineval.interventions.tokens import Token
from explaineval.interventions.words import WordLists, load_words

__all__ = [
    "Token",
    "WordLists",
    "apply",
    "build_random_words",
    "check",
    "intervention_from",
    "intervention_id",
    "load_words",
    "mark_insertion",
    "splice",
    "splice_naturally",
]
