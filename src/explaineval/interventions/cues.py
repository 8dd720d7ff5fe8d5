"""Cues: a suggested answer beside the input (Turpin et al. 2023; Chen et al. 2025), each with its control.

A cue edits no field: its text stands after the options, and says that somebody thinks, or some record holds, that
one letter is the answer. The control says the same without a letter. So the effect of the letter can be told from the
effect of having such a text in the prompt at all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

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
