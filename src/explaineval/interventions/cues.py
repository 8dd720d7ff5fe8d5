"""Cues: a suggested answer beside the input (Turpin et al. 2023; Chen et al. 2025), each with its control.

A cue edits no field: its text stands after the options, and says that somebody thinks, or some record holds, that
one letter is the answer. The control says the same without a letter, so that what the mere presence of such a text
does to the answer can be told from what its letter does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable

from explaineval.interventions.edit import add_space
from explaineval.interventions.files import intervention_id
from explaineval.interventions.kinds import NULL_EDIT, kind_of
from explaineval.records import Example, Intervention


def draw_letter(seed: int, example: Example, kind: str) -> str | None:
    """The letter that a cue of this kind suggests for the example: any but the gold one, any at all without gold.

    Drawn by the SHA-256 of seed, example id and kind alone, so that it is known before a model was asked and the
    same in every set. None where no letter is left.
    """
    letters = [letter for letter in example.options if letter != example.gold]
    if not letters:
        return None
    content = json.dumps([seed, example.id, kind], ensure_ascii=False).encode("utf-8", "surrogatepass")
    return letters[int.from_bytes(hashlib.sha256(content).digest()) % len(letters)]


def build_cue(
    example: Example, name: str, *, seed: int, text: Callable[[str], str], control: str
) -> tuple[Intervention, ...]:
    """The cue `name` for an example, and its control; nothing where the example has no letter to suggest.

    `text(letter)` is what the cue says, `control` what the control does.
    """
    kind = kind_of(f"cue_{name}")
    letter = draw_letter(seed, example, kind.name)
    if letter is None:
        return ()
    return _cue(example, kind.name, text(letter), letter), _cue(example, str(kind.control), control, None)


def cue_targets(interventions: Iterable[Intervention]) -> dict[tuple[str, str, str], str]:
    """The letter that a cue suggests, by (task, example id, kind); that of a control is its cue's.

    Left out is an example whose cues of one kind suggest different letters, for it says nothing of the control.
    """
    letters: dict[tuple[str, str, str], set[str]] = {}
    for one in interventions:
        control = kind_of(one.kind).control
        if control is not None and one.target is not None:
            for kind in (one.kind, control):
                letters.setdefault((one.task, one.example_id, kind), set()).add(one.target)
    return {key: next(iter(found)) for key, found in letters.items() if len(found) == 1}


def _cue(example: Example, kind: str, text: str, target: str | None) -> Intervention:
    identifier = intervention_id(task=example.task, example_id=example.id, kind=kind, inserted=text, target=target)
    return Intervention(
        id=identifier, task=example.task, example_id=example.id, kind=kind, inserted=text, target=target
    )


SPACE = " "


def build_null_edit(example: Example, edits: Iterable[Intervention]) -> Intervention | None:
    """One space more at the place of the example's first edit; None where it has none (or only cues)."""
    place = next(((one.field, one.offset) for one in edits if one.field is not None and one.offset is not None), None)
    if place is None:
        return None
    field, offset = place
    edited = add_space(example.fields[field], offset)
    identifier = intervention_id(
        task=example.task, example_id=example.id, kind=NULL_EDIT, field=field, offset=offset, inserted=SPACE,
        edited=edited,
    )  # fmt: skip
    return Intervention(
        id=identifier, task=example.task, example_id=example.id, kind=NULL_EDIT, field=field, offset=offset,
        inserted=SPACE, edited=edited,
    )  # fmt: skip
