"""The null edit: one more space where a word would have gone. What it does to an answer is noise."""

from __future__ import annotations

from collections.abc import Iterable

from explaineval.interventions.kinds import NULL_EDIT
from explaineval.interventions.lines import intervention_id
from explaineval.interventions.splices import add_space
from explaineval.records import Example, Intervention

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
