"""Interventions on an example: built, read, checked and applied. Pure; the only files read are the word lists."""

from __future__ import annotations

from explaineval.interventions.builders import (
    FEWEST_SHOTS,
    LEAST_MASS,
    BuildContext,
    Judged,
    Pattern,
    Proposal,
    Refusal,
    Token,
    build_atanasova,
    build_cue,
    build_duplicates,
    build_nonwords,
    build_null_edit,
    build_pattern,
    build_random_words,
    call_natural,
    draw_letter,
    keep_natural,
    read_proposal,
)
from explaineval.interventions.edit import (
    apply,
    changed_fields,
    check,
    cue_targets,
    pattern_of,
)
from explaineval.interventions.files import intervention_from
from explaineval.interventions.kinds import KINDS, NULL_EDIT, SHAM, Kind, buildable, counts_for_phi, kind_of, plugin_of
from explaineval.interventions.splice import is_inside_word, mark_insertion, splice, splice_naturally
from explaineval.interventions.words import SenseLists, WordLists, load_sense_words, load_words

__all__ = [
    "FEWEST_SHOTS", "KINDS", "LEAST_MASS", "NULL_EDIT", "SHAM", "BuildContext", "Judged", "Kind", "Pattern", "Proposal",
    "Refusal", "SenseLists", "Token", "WordLists", "apply", "build_atanasova", "build_cue", "build_duplicates",
    "build_nonwords", "build_null_edit", "build_pattern", "build_random_words", "buildable", "call_natural",
    "changed_fields", "check", "counts_for_phi", "cue_targets", "draw_letter", "intervention_from", "is_inside_word",
    "keep_natural", "kind_of", "load_sense_words", "load_words", "mark_insertion", "pattern_of", "plugin_of",
    "read_proposal", "splice", "splice_naturally",
]  # fmt: skip
