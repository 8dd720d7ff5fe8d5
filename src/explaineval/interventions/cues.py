"""Cues: a suggested answer beside the input (Turpin et al. 2023; Chen et al. 2025), each with its control.

A cue edits no field: its text stands after the options, and says that somebody thinks, or some record holds, that
one letter is the answer. The control says the same without a letter. So the effect of the letter can be told from the
effect of having such a text in the prompt at all.

A pattern (Turpin et al. 2023) suggests a letter without any text: the options of the shots are reordered so that all
their answers have that letter. In its control the same shots are reordered to have mixed letters.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from explaineval.interventions.building import BuildContext
from explaineval.interventions.splice import add_space
from explaineval.records import Example, Intervention


def draw_letter(seed: int, example: Example, kind: str) -> str | None:
    """Return the letter that a cue of this kind suggests for the example: not the gold one; any if gold is unknown.

    It is drawn by the SHA-256 of seed, example id and kind alone, so that it is known before a model is asked and is
    the same in every set. None where no letter is left.
    """
    letters = [letter for letter in example.options if letter != example.gold]
    if not letters:
        return None
    content = json.dumps([seed, example.id, kind], ensure_ascii=False).encode("utf-8", "surrogatepass")
    return letters[int.from_bytes(hashlib.sha256(content).digest()) % len(letters)]


def build_cue(example: Example, context: BuildContext) -> tuple[Intervention, ...]:
    """Build the cue of this kind and its control; nothing where the example has no letter to suggest."""
    letter = draw_letter(context.seed, example, context.kind)
    if letter is None:
        return ()
    return tuple(
        Intervention.identified(
            task=example.task, example_id=example.id, kind=kind, inserted=context.cue_text(target), target=target
        )
        for kind, target in ((context.kind, letter), (f"{context.kind}_control", None))
    )


def build_pattern(example: Example, context: BuildContext) -> Iterator[Intervention]:
    """Build a pattern of one letter in the shots, and its control; nothing where the example has no other letter."""
    letter = draw_letter(context.seed, example, context.kind)
    if letter is not None:
        for kind, target in ((context.kind, letter), (f"{context.kind}_control", None)):
            yield Intervention.identified(task=example.task, example_id=example.id, kind=kind, target=target)


FEWEST_SHOTS = 2
"""One answer is no pattern, and cannot be mixed."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """Which letters the answers of the shots have: all of them `letter`, or mixed ones where it is None."""

    letter: str | None

    @property
    def description(self) -> str:
        """The pattern in words, as it is shown where another cue's text is."""
        return "answers of the shots: " + ("mixed letters" if self.letter is None else f"all {self.letter}")

    def arrange(self, shots: Sequence[Example]) -> tuple[Example, ...]:
        """Return the shots with their options reordered so that their answers have the letters of the pattern.

        The text of the right answer changes places with the text at its new letter. Mixed letters come in blocks in
        which each option's letter stands once, in an order drawn by the ids of the shots, so that they are the same
        at every level of verbosity and make no pattern. Raises KeyError where a shot has no such option.
        """
        letters = [self.letter] * len(shots) if self.letter is not None else _mixed_letters(shots)
        return tuple(_with_answer(shot, str(letter)) for shot, letter in zip(shots, letters, strict=True))


def _mixed_letters(shots: Sequence[Example]) -> list[str]:
    """Return a letter for each shot: each of its options about as often as the others, in a drawn order."""
    seed = json.dumps(["mixed", *(shot.id for shot in shots)])
    draw = Random(seed)  # noqa: S311 - reproducible, not secret
    letters: list[str] = []
    waiting: list[str] = []
    for shot in shots:
        if not set(waiting) & set(shot.options):
            waiting = draw.sample(sorted(shot.options), len(shot.options))
        letter = next(letter for letter in waiting if letter in shot.options)
        waiting.remove(letter)
        letters.append(letter)
    return letters


def _with_answer(shot: Example, letter: str) -> Example:
    """Return the shot with its right answer at this letter."""
    gold = str(shot.gold)
    moved = {letter: shot.options[gold], gold: shot.options[letter]}
    options = {place: moved.get(place, text) for place, text in shot.options.items()}
    return shot.model_copy(update={"options": options, "gold": letter})


def build_null_edit(example: Example, edits: Iterable[Intervention]) -> Intervention | None:
    """Add one space at the place of the first of the example's edits; None where it has none, or only cues."""
    for edit in edits:
        if edit.field is not None and edit.offset is not None:
            return Intervention.identified(
                task=example.task,
                example_id=example.id,
                kind="null_edit",
                field=edit.field,
                offset=edit.offset,
                inserted=" ",
                edited=add_space(example.fields[edit.field], edit.offset),
            )
    return None
