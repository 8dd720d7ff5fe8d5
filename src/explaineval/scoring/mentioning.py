"""Decide whether an explanation mentions an insertion: by the run's policy for words, by lists of phrases for cues."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from explaineval.interventions import kind_of
from explaineval.mentions import mentions, mentions_phrase
from explaineval.records import Mention

if TYPE_CHECKING:
    from explaineval.prompts import PromptBook

Phrases = Callable[[str], Sequence[str]]
"""Returns the phrases that count as a mention of a kind; none for a kind that is no cue."""


def is_mentioned(policy: Mention, kind: str, inserted: str, text: str, phrases: Sequence[str]) -> bool | None:
    """Return whether `text` mentions what an intervention of this kind inserted; None for a kind that inserts no word.

    Explanations refer to a cue by what it is ("you think") and seldom repeat its words, so `phrases` decide on cues
    whatever the policy.
    """
    rule = kind_of(kind).mentioned_by
    if rule is None:
        return None
    if rule == "phrases":
        return mentions_phrase(phrases, text) is not None
    return mentions(policy, inserted, text)


def no_phrases(_: str) -> Sequence[str]:
    """Return no phrases: for runs without cues."""
    return ()


def phrases_of(prompts: PromptBook) -> Phrases:
    """Return a function that gives the phrases of a kind. It raises InputError for a cue that `prompts` lacks."""
    return lambda kind: () if (cue := kind_of(kind).cue) is None else prompts.phrases(cue)


def phrases_in(directory: Path) -> Phrases:
    """Return the same for a directory of prompts, which is opened at the first cue and need not exist without cues."""
    books: list[PromptBook] = []

    def find(kind: str) -> Sequence[str]:
        cue = kind_of(kind).cue
        if cue is None:
            return ()
        if not books:
            from explaineval.prompts import PromptBook

            books.append(PromptBook(directory))
        return books[0].phrases(cue)

    return find
