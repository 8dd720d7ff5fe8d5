"""Check an intervention against its example, apply it, and find the letters that cues suggest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from explaineval.errors import InputError
from explaineval.interventions.builders import Pattern
from explaineval.interventions.kinds import Kind, kind_of
from explaineval.interventions.splice import add_space, find_insertion, splice
from explaineval.records import Example, Intervention
from explaineval.text import counted


def apply(example: Example, intervention: Intervention) -> str:
    """Return the field after the edit: `edited` where it is given, else the splice.

    Raises InputError where `check` does, and for a cue, which edits no field.
    """
    check(example, intervention)
    if intervention.field is None or intervention.offset is None:
        raise InputError(
            f"intervention {intervention.id!r} has no field: it is a cue, whose text belongs into the prompt"
        )
    if intervention.edited is not None:
        return intervention.edited
    return splice(example.fields[intervention.field], intervention.offset, intervention.inserted or "")


def pattern_of(intervention: Intervention) -> Pattern | None:
    """Return the pattern that the shots show with this intervention; None for a kind that leaves them alone."""
    return Pattern(intervention.target) if kind_of(intervention.kind).inserts == "shots" else None


def check(example: Example, intervention: Intervention) -> None:
    """Raise InputError with one sentence unless the intervention fits the example.

    An edit needs a field of the example and an offset from 0 to the length of its text, and its `edited`,
    where given, must contain `inserted` (in any case). A cue has neither field nor offset nor `edited`; its
    target, if it has one, must be the letter of an option, and the control of a cue has none. A pattern in the shots
    has a target and inserts nothing, everything else inserts something. A null edit adds one space and nothing else.
    """
    kind, name = kind_of(intervention.kind), f"intervention {intervention.id!r}"
    if intervention.fields is not None:
        _check_pair(example, intervention.fields, kind, name)
        return
    if kind.inserts == "shots":
        _check_pattern(intervention, kind, name)
    elif intervention.inserted is None:
        raise InputError(f"{name} of kind {kind.name!r} inserts nothing: give its text as 'inserted'")
    if intervention.target is not None and intervention.target not in example.options:
        raise InputError(
            f"{name} points to option {intervention.target!r}, but example {example.id!r} has the options "
            f"{', '.join(example.options) or '(none)'}"
        )
    if kind.control_of is not None and intervention.target is not None:
        raise InputError(
            f"{name} of kind {kind.name!r} is the control of a cue, which says no letter: leave out 'target'"
        )
    if intervention.field is None:
        _check_text(intervention, kind, name)
    else:
        _check_edit(example, intervention, intervention.field, kind, name)


def _check_pair(example: Example, fields: Mapping[str, str], kind: Kind, name: str) -> None:
    if kind.inserts != "word or text" and not kind.takes_out:
        raise InputError(
            f"{name} brings a whole input, which the kind {kind.name!r} does not: choose a name of your own"
        )
    unknown = [field for field in fields if field not in example.fields]
    if unknown:
        raise InputError(
            f"{name} names the field {unknown[0]!r}, but example {example.id!r} has the fields "
            f"{', '.join(example.fields) or '(none)'}"
        )
    if not changed_fields(example, fields):
        raise InputError(f"{name} changes nothing: its fields are those of example {example.id!r}")


def changed_fields(example: Example, fields: Mapping[str, str]) -> dict[str, str]:
    """Return the fields that are other than the example's."""
    return {name: text for name, text in fields.items() if text != example.fields.get(name)}


def _check_pattern(intervention: Intervention, kind: Kind, name: str) -> None:
    if intervention.inserted is not None or intervention.field is not None:
        key = "inserted" if intervention.inserted is not None else "field"
        raise InputError(
            f"{name} of kind {kind.name!r} is a pattern in the shots, which inserts nothing: leave out {key!r}"
        )
    if kind.control is not None and intervention.target is None:
        raise InputError(f"{name} of kind {kind.name!r} names no letter: give that of the pattern as 'target'")


def _check_text(intervention: Intervention, kind: Kind, name: str) -> None:
    for key in ("offset", "edited"):
        if getattr(intervention, key) is not None:
            raise InputError(f"{name} has {key!r} but no field; name the field, or leave both null if it is a cue")
    if kind.inserts in ("word", "space"):
        raise InputError(f"{name} of kind {kind.name!r} has no field; name the field of the example that it edits")


def _check_edit(example: Example, intervention: Intervention, field: str, kind: Kind, name: str) -> None:
    if kind.inserts == "text":
        raise InputError(
            f"{name} of kind {kind.name!r} edits the field {field!r}, but a kind that begins with 'cue_' "
            "stands beside the fields: leave out field and offset, or choose another kind"
        )
    if field not in example.fields:
        raise InputError(
            f"{name} names the field {field!r}, but example {example.id!r} has the fields "
            f"{', '.join(example.fields) or '(none)'}"
        )
    text, offset, edited = example.fields[field], intervention.offset, intervention.edited
    if offset is None:
        raise InputError(f"{name} edits the field {field!r} but has no offset; give it in code points")
    if not 0 <= offset <= len(text):
        raise InputError(
            f"{name} has offset {offset}, but field {field!r} of example {example.id!r} has "
            f"{counted(len(text), 'character')}; the offset counts Unicode code points from 0 to {len(text)}"
        )
    if kind.inserts == "space":
        if intervention.inserted != " " or edited != add_space(text, offset):
            raise InputError(
                f"{name} of kind {kind.name!r} must have one space as 'inserted' and the field with one more space at "
                "its offset as 'edited'"
            )
    elif edited is not None and find_insertion(edited, intervention.inserted or "", offset) is None:
        raise InputError(
            f"the edited text of {name} does not contain the inserted {intervention.inserted!r}; "
            "'edited' is the whole field after the edit"
        )


def cue_targets(interventions: Iterable[Intervention]) -> dict[tuple[str, str, str], str]:
    """Return the letter that a cue suggests, by (task, example id, kind); that of a control is its cue's.

    An example whose cues of one kind suggest different letters is left out: its control fits neither.
    """
    letters: dict[tuple[str, str, str], set[str]] = {}
    for intervention in interventions:
        control = kind_of(intervention.kind).control
        if control is not None and intervention.target is not None:
            for kind in (intervention.kind, control):
                key = (intervention.task, intervention.example_id, kind)
                letters.setdefault(key, set()).add(intervention.target)
    return {key: next(iter(suggested)) for key, suggested in letters.items() if len(suggested) == 1}
