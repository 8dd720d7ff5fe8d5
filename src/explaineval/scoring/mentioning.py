"""Does an explanation mention an intervention? A cue by its phrases, a null edit never, a word by the run's policy."""

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
"""The phrases that count as a mention of a kind; nothing for a kind that is no cue."""


def is_mentioned(policy: Mention, kind: str, inserted: str, text: str, phrases: Sequence[str]) -> bool | None:
    """Whether `text` mentions what an intervention of this kind put in; None for a kind that puts in no word.

    A cue is named by what it is ("you think"), seldom by its words, so it goes by `phrases` whatever the policy.
    """
    rule = kind_of(kind).mentioned_by
    if rule is None:
        return None
    if rule == "phrases":
        return mentions_phrase(phrases, text) is not None
    return mentions(policy, inserted, text)


def no_phrases(_: str) -> Sequence[str]:
    """Stands in where there are no cues."""
    return ()


def phrases_of(prompts: PromptBook) -> Phrases:
    """The phrases of a prompts directory by kind. Calling it raises InputError for a cue that has none there."""
    return lambda kind: () if (cue := kind_of(kind).cue) is None else prompts.phrases(cue)


def phrases_in(directory: Path) -> Phrases:
    """The same for the prompts kept in a run directory, opened at the first cue: without cues it need not be there."""
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
