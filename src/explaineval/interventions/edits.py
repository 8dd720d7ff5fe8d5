"""Applying an intervention to its example, and showing where in the result the inserted words stand."""

from __future__ import annotations

import re

from explaineval.errors import InputError
from explaineval.interventions.kinds import NULL_EDIT, edits_a_field, is_control, is_cue
from explaineval.interventions.splices import add_space, splice
from explaineval.records import Example, Intervention


def apply(example: Example, intervention: Intervention) -> str:
    """The field after the edit: `edited` where it is given, else the plain splice, byte for byte.

    Raises InputError where `check` does, and for a cue, which edits no field.
    """
    check(example, intervention)
    if intervention.field is None or intervention.offset is None:
        raise InputError(
            f"intervention {intervention.id!r} has no field: it is a cue, whose text belongs into the prompt"
        )
    if intervention.edited is not None:
        return intervention.edited
    return splice(example.fields[intervention.field], intervention.offset, intervention.inserted)


def check(example: Example, intervention: Intervention) -> None:
    """Raise InputError with one sentence unless the intervention fits the example.

    An edit needs a field of the example and an offset from 0 to the length of its text, and its `edited`,
    where given, must contain `inserted` (in any case). A cue has neither field nor offset nor `edited`; its
    target, if it has one, must be the letter of an option, and the control of a cue has none. A null edit adds
    one space and nothing else.
    """
    if intervention.target is not None and intervention.target not in example.options:
        raise InputError(
            f"intervention {intervention.id!r} points to option {intervention.target!r}, but example "
            f"{example.id!r} has the options {_listed(example.options)}"
        )
    if is_control(intervention.kind) and intervention.target is not None:
        raise InputError(
            f"intervention {intervention.id!r} of kind {intervention.kind!r} is the control of a cue, which says no "
            "letter: leave out 'target'"
        )
    if intervention.field is None:
        _check_cue(intervention)
    else:
        _check_edit(example, intervention, intervention.field)


def _check_cue(intervention: Intervention) -> None:
    for name in ("offset", "edited"):
        if getattr(intervention, name) is not None:
            raise InputError(
                f"intervention {intervention.id!r} has {name!r} but no field; "
                "name the field, or leave both null if it is a cue"
            )
    if edits_a_field(intervention.kind):
        raise InputError(
            f"intervention {intervention.id!r} of kind {intervention.kind!r} has no field; "
            "name the field of the example that it edits"
        )


def _check_edit(example: Example, intervention: Intervention, field: str) -> None:
    named = f"intervention {intervention.id!r}"
    if is_cue(intervention.kind):
        raise InputError(
            f"{named} of kind {intervention.kind!r} edits the field {field!r}, but a kind that begins with 'cue_' "
            "stands beside the fields: leave out field and offset, or choose another kind"
        )
    if field not in example.fields:
        raise InputError(
            f"{named} names the field {field!r}, but example {example.id!r} has the fields {_listed(example.fields)}"
        )
    length = len(example.fields[field])
    if intervention.offset is None:
        raise InputError(f"{named} edits the field {field!r} but has no offset; give it in code points")
    if not 0 <= intervention.offset <= length:
        raise InputError(
            f"{named} has offset {intervention.offset}, but field {field!r} of example {example.id!r} has "
            f"{length} characters; the offset counts Unicode code points from 0 to {length}"
        )
    edited = intervention.edited
    if intervention.kind == NULL_EDIT:
        if intervention.inserted != " " or edited != add_space(example.fields[field], intervention.offset):
            raise InputError(
                f"{named} of kind {NULL_EDIT!r} must have one space as 'inserted' and the field with one more space at "
                "its offset as 'edited'"
            )
    elif edited is not None and _find(edited, intervention.inserted, intervention.offset) is None:
        raise InputError(
            f"the edited text of {named} does not contain the inserted {intervention.inserted!r}; "
            "'edited' is the whole field after the edit"
        )


def is_inside_word(text: str, offset: int) -> bool:
    """Whether an insertion at the offset would cut a word in two: letters, digits, hyphens, apostrophes on both sides.

    >>> is_inside_word("A dog barks.", 2), is_inside_word("A dog barks.", 4), is_inside_word("A T-shirt", 4)
    (False, True, True)
    """
    inside = re.compile(r"[\w'’-]")
    around = text[max(offset - 1, 0) : offset + 1]
    return 0 < offset < len(text) and all(map(inside.match, around))


def mark_insertion(text_after: str, inserted: str, offset: int) -> tuple[str, str, str]:
    """Split an edited text into what stands before the inserted words, the words as they stand, and the rest.

    The words are looked for in any case near `offset`, since an article repaired before them ("a" to "an")
    moves them by one. Where they do not occur the whole text is "before" and the others are empty.
    """
    start = _find(text_after, inserted, offset)
    if start is None:
        return text_after, "", ""
    end = start + len(inserted)
    return text_after[:start], text_after[start:end], text_after[end:]


def _find(text: str, inserted: str, near: int) -> int | None:
    """Where `inserted` starts in `text`: the whole word nearest to `near`, else the nearest part of one."""
    pattern = re.compile(f"(?=({re.escape(inserted)}))", re.IGNORECASE)
    whole = re.compile(rf"(?<!\w){re.escape(inserted)}(?!\w)", re.IGNORECASE)
    starts = [found.start() for found in pattern.finditer(text)]
    return min(starts, key=lambda start: (whole.match(text, start) is None, abs(start - near)), default=None)


def _listed(names: dict[str, str]) -> str:
    return ", ".join(names) or "(none)"
