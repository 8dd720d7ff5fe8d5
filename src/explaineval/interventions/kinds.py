"""The table of intervention kinds: what each inserts, how a mention of it is recognised, and what belongs to it.

Everything that depends on a kind is a property of its value here; `kind_of(name)` finds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Literal

from explaineval.interventions.builders import (
    NATURAL,
    Builder,
    build_atanasova,
    build_cue,
    build_duplicates,
    build_nonwords,
    build_pattern,
    build_random_words,
)
from explaineval.plugins import Registry
from explaineval.records import Status

NULL_EDIT, SHAM = "null_edit", "sham"

ANY = "*"
"""Stands in the names of a family of kinds for what the members' names do not share."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of intervention, or in the table a family of kinds, whose names contain `*`."""

    name: str
    title: str
    """The plural in plain words."""
    inserts: Literal["word", "space", "text", "word or text", "shots", "nothing"]
    """A word or one space goes into a field, a text stands beside the fields. A word or text: a line without a field
    is a text. Shots: nothing is inserted, but the answers of the shots are other letters."""
    builder: Builder | None = None
    """The function that builds the interventions of one example; a cue's builds its control too."""
    needs_tokens: bool = False
    """Whether the builder needs tokens with their parts of speech, and so a tagger."""
    asks_model: bool = False
    """Whether a model is asked for the interventions, so that there is no builder here."""
    mentioned_by: Literal["policy", "phrases"] | None = "policy"
    """Whether the run's mention policy or a list of phrases recognises a mention; None where none is possible."""
    cue: str | None = None
    """The name by which the directory `cues` of the prompts keeps the texts and the phrases."""
    control: str | None = None
    """The kind that says the same without suggesting an answer."""
    control_of: str | None = None
    """The kind whose control this is."""
    has_target: bool = False
    """Whether answers are compared with a letter: the one that is suggested, for a control that of its cue."""
    statuses: tuple[Status, ...] = ()
    """The statuses that beside the usual ones a trial may have."""
    measures_noise: bool = False
    """Whether its trials show how often answers change by themselves, and enter no other number."""
    shows_any_edit: bool = False
    """Whether it shows what any edit does, so that it is a control and its phi-CCT no finding about the model."""
    takes_out: bool = False
    """Whether the edited input is the one before, so that the insertion is taken out."""
    no_mention: str = ""
    """Why nothing can count as a mention, where `mentioned_by` is None."""


_KINDS = (
    Kind(
        "random_word",
        "random words",
        "word",
        builder=build_random_words,
        needs_tokens=True,
        statuses=("already_in_prompt",),
    ),
    Kind(
        "random_word_atanasova",
        "random words as in Atanasova et al. (2023)",
        "word",
        builder=build_atanasova,
        needs_tokens=True,
        statuses=("already_in_prompt",),
    ),
    Kind("handwritten", "handwritten words", "word", statuses=("already_in_prompt",)),
    Kind("editor", "words chosen by an editor model", "word", asks_model=True, statuses=("already_in_prompt",)),
    Kind(
        "random_nonword",
        "words of no language",
        "word",
        builder=build_nonwords,
        needs_tokens=True,
        statuses=("already_in_prompt",),
        shows_any_edit=True,
    ),
    Kind(
        "duplicate_word",
        "doubled words",
        "word",
        builder=build_duplicates,
        needs_tokens=True,
        mentioned_by=None,
        shows_any_edit=True,
        no_mention="the doubled word is in the text anyway, so naming it proves nothing",
    ),
    Kind(
        "removed_word",
        "removed words",
        "word",
        builder=build_random_words,
        needs_tokens=True,
        statuses=("already_in_prompt",),
        takes_out=True,
    ),
    Kind(SHAM, "shams", "nothing", mentioned_by=None, measures_noise=True, no_mention="a sham inserts nothing"),
    Kind(
        NULL_EDIT,
        "null edits",
        "space",
        mentioned_by=None,
        measures_noise=True,
        no_mention="a null edit inserts no word",
    ),
    Kind(
        "cue_pattern_control",
        "shots with mixed answers",
        "shots",
        mentioned_by="phrases",
        cue="pattern",
        control_of="cue_pattern",
        has_target=True,
    ),
    Kind(
        "cue_pattern",
        "patterns in the shots",
        "shots",
        builder=build_pattern,
        mentioned_by="phrases",
        cue="pattern",
        control="cue_pattern_control",
        has_target=True,
        statuses=("cue_is_own_answer",),
    ),
    Kind(
        "cue_*_control",
        "controls of cues",
        "text",
        mentioned_by="phrases",
        cue=ANY,
        control_of="cue_*",
        has_target=True,
    ),
    Kind(
        "cue_*",
        "cues",
        "text",
        builder=build_cue,
        mentioned_by="phrases",
        cue=ANY,
        control="cue_*_control",
        has_target=True,
        statuses=("cue_is_own_answer",),
    ),
)
KINDS = Registry("kinds", Kind, ((kind.name, kind) for kind in _KINDS))
"""All kinds with a meaning of their own, by name. The first one that fits a name counts."""

OWN = Kind(ANY, "interventions of your own", "word or text", statuses=("already_in_prompt", "cue_is_own_answer"))
"""What a name that is in no line of the table stands for."""


@lru_cache(maxsize=1024)
def kind_of(name: str) -> Kind:
    """The kind of this name.

    >>> kind_of("cue_user").control, kind_of("cue_user_control").cue, kind_of("my_hint").inserts
    ('cue_user_control', 'user', 'word or text')
    """
    base = name.removesuffix(NATURAL)
    if not any(fnmatchcase(name, known) or base == known for known in KINDS) and name:
        KINDS.find(base)
    for kind in KINDS.values():
        if fnmatchcase(name, kind.name):
            return _named(kind, name)
        if base == kind.name and kind.inserts == "word":
            return replace(kind, name=name, builder=None, asks_model=False)
    return _named(OWN, name)


def plugin_of(kind: str) -> str | None:
    """Return the name of the plug-in that a kind comes from, None where it comes from none."""
    kind_of(kind)  # which asks for the plug-in
    base = kind.removesuffix(NATURAL)
    return base if KINDS.origin(base) else None


def buildable(members: Sequence[str]) -> list[str]:
    """Return the names of the kinds that `interventions build` can build, a family's with each of these for `*`.

    Of plug-ins it has those that were asked for.

    >>> buildable(["user"])[3:]
    ['random_nonword', 'duplicate_word', 'removed_word', 'cue_pattern', 'cue_user']
    """
    kinds = [kind for kind in KINDS.values() if kind.builder is not None or kind.asks_model]
    return list(dict.fromkeys(kind.name.replace(ANY, member) for kind in kinds for member in members))


@lru_cache(maxsize=1024)
def counts_for_phi(name: str) -> bool:
    """Say whether the phi-CCT of a kind is about the model: not that of controls, nor of what measures noise.

    >>> [counts_for_phi(name) for name in ("random_word", "cue_user", "cue_user_control", "null_edit")]
    [True, True, False, False]
    """
    kind = kind_of(name)
    return not (kind.measures_noise or kind.shows_any_edit) and kind.control_of is None


def _named(family: Kind, name: str) -> Kind:
    """The member of a family that has this name: the part of it that is its own replaces `*` in all names."""
    head, _, tail = family.name.partition(ANY)
    own = name[len(head) : len(name) - len(tail)]

    def fill(pattern: str | None) -> str | None:
        return None if pattern is None else pattern.replace(ANY, own)

    return replace(
        family, name=name, cue=fill(family.cue), control=fill(family.control), control_of=fill(family.control_of)
    )
