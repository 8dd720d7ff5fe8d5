"""Lines of an interventions file: what is taken, what is refused, and with which sentence."""

from __future__ import annotations

import hashlib
import re

import pytest

from explaineval.errors import InputError
from explaineval.interventions import intervention_from
from explaineval.records import Example, Intervention

TWO = {"A": "yes", "B": "no"}
TASKS = {
    "nli": {"x1": Example(id="x1", task="nli", fields={"premise": "A dog.", "hypothesis": "A cat."}, options=TWO)},
    "qa": {
        "x1": Example(id="x1", task="qa", fields={"question": "Why?"}, options=TWO),
        "q2": Example(id="q2", task="qa", fields={"question": "Who is it?"}, options=TWO),
    },
}
EDIT = {
    "task": "qa",
    "example_id": "q2",
    "kind": "own",
    "field": "question",
    "offset": 4,
    "inserted": "really",
}
CUE = {
    "task": "qa",
    "example_id": "q2",
    "kind": "cue_user",
    "field": None,
    "offset": None,
    "inserted": "I say A.",
}


def test_full_line_becomes_an_intervention() -> None:
    """Every key of the contract is taken over, and a given id is kept."""
    line = {**EDIT, "id": "mine", "pos": "ADV", "edited": "Who Really is it?"}

    intervention = intervention_from(line, where="F:1", tasks=TASKS)

    assert line == intervention.model_dump(exclude_none=True)


def test_cue_has_neither_field_nor_offset() -> None:
    """A cue's nulls stay null, and its letter is its target."""
    intervention = intervention_from({**CUE, "target": "A"}, where="F:1", tasks=TASKS)

    assert (intervention.field, intervention.offset, intervention.target) == (None, None, "A")


def test_missing_task_is_found_by_the_example() -> None:
    """An example that only one loaded task has needs no task on its line."""
    line = {key: value for key, value in EDIT.items() if key != "task"}

    assert intervention_from(line, where="F:1", tasks=TASKS).task == "qa"


def test_missing_task_is_found_by_the_field() -> None:
    """Where two tasks share the example's id, a field that one of them has decides."""
    line = {"example_id": "x1", "kind": "own", "field": "premise", "offset": 2, "inserted": "big"}

    assert intervention_from(line, where="F:1", tasks=TASKS).task == "nli"


def test_missing_id_is_derived_from_the_content() -> None:
    """Two lines with the same content get the same id, whether the task is named or found."""
    without_task = {key: value for key, value in EDIT.items() if key != "task"}

    first = intervention_from(EDIT, where="F:1", tasks=TASKS)
    second = intervention_from(without_task, where="F:2", tasks=TASKS)

    assert first.id == second.id == Intervention.identified(**EDIT).id


def test_id_is_pinned() -> None:
    """The id is the SHA-256 of this very JSON: a change would orphan the ids in people's files."""
    canonical = '{"example_id":"q2","field":"question","inserted":"really","kind":"own","offset":4,"task":"qa"}'

    assert hashlib.sha256(canonical.encode()).hexdigest()[:16] == Intervention.identified(**EDIT).id


@pytest.mark.parametrize(
    "change",
    [
        {"task": "nli"}, {"example_id": "q3"}, {"kind": "other"}, {"field": None}, {"offset": 5},
        {"inserted": "truly"}, {"pos": "ADV"}, {"edited": "Who really is it?"}, {"target": "A"},
    ],
)  # fmt: skip
def test_id_depends_on_every_part(change: dict[str, object]) -> None:
    """No two different contents share an id."""
    assert Intervention.identified(**{**EDIT, **change}).id != Intervention.identified(**EDIT).id


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ([], "a line must be one JSON object, not an array"),
        (None, "a line must be one JSON object, not null"),
        ({**EDIT, "ofset": 4}, "unknown key 'ofset'"),
        ({**EDIT, "kind": None}, "'kind' is missing"),
        ({"example_id": "q2", "kind": "own"}, "'inserted' is missing"),
        ({**EDIT, "inserted": " "}, "'inserted' is empty"),
        ({**EDIT, "inserted": 5}, "'inserted' must be a string, not a number"),
        ({**EDIT, "example_id": 2}, "'example_id' must be a string, not a number"),
        ({**EDIT, "offset": "4"}, "'offset' must be a whole number, not a string"),
        ({**EDIT, "offset": 4.0}, "'offset' must be a whole number, not a number with a decimal point"),
        ({**EDIT, "offset": True}, "'offset' must be a whole number, not true or false"),
        ({**EDIT, "offset": 11}, "has offset 11, but field 'question' of example 'q2' has 10 characters"),
        ({**EDIT, "field": "premise"}, "names the field 'premise'"),
        ({**EDIT, "edited": ""}, "does not contain the inserted 'really'"),
        ({**EDIT, "kind": "sham"}, "the kind 'sham' is reserved"),
        ({**EDIT, "task": "esnli"}, "is for task 'esnli', which is not loaded (loaded: nli, qa)"),
        ({**EDIT, "example_id": "q3"}, "task 'qa' has no example 'q3'"),
        ({**EDIT, "task": None, "example_id": "q3"}, "no loaded task (loaded: nli, qa) has an example 'q3'"),
        ({**CUE, "task": None, "example_id": "x1"}, "example 'x1' is in the tasks nli and qa"),
        ({**CUE, "target": "C"}, "points to option 'C', but example 'q2' has the options A, B"),
    ],
)
def test_bad_lines_are_refused_by_name(line: object, message: str) -> None:
    """The message begins with the line's place and says what is wrong there."""
    with pytest.raises(InputError, match=rf"^F\.jsonl:7: .*{re.escape(message)}"):
        intervention_from(line, where="F.jsonl:7", tasks=TASKS)
