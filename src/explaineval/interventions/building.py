"""What every builder of interventions is called with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from explaineval.records import Example, Intervention


@dataclass(frozen=True, slots=True)
class Token:
    """One token: `offset` in code points of its text, `pos` the universal tag (NOUN), `tag` the fine one."""

    text: str
    offset: int
    pos: str
    tag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildContext:
    """What a builder may use beside the example.

    `kind` is the name of the kind to build, `per_example` the number of interventions that are wanted of an example.
    `tokens` holds the tagged tokens of the example's fields, for kinds that need them. With `field_first` a field is
    drawn before the place in it, so that a short field is edited as often as a long one. `prompt_texts(example)`
    returns the texts of the prompt that depend on the example (its instruction). `is_present(word, texts)` says whether
    a mention of the word could be found in one of the texts, or in what stands around every example (shots, levels).
    `cue_text(letter)` returns what the cue of this kind says, and with None what its control says.
    """

    kind: str
    per_example: int
    seed: int
    prompt_texts: Callable[[Example], Sequence[str]]
    is_present: Callable[[str, Sequence[str]], bool]
    cue_text: Callable[[str | None], str]
    field_first: bool = False
    tokens: Mapping[str, Sequence[Token]] = field(default_factory=dict)


Builder = Callable[[Example, BuildContext], Iterable[Intervention]]
"""Builds the interventions of one example: always the same ones for the same arguments."""
