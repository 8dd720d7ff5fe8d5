"""The null edit: one space, and not a byte more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explaineval.errors import InputError
from explaineval.interventions import apply, build_null_edit, check, intervention_from, splice
from explaineval.records import Example, Intervention


def example(text: str) -> Example:
    """An example with one field."""
    return Example(id="x", task="t", fields={"q": text}, options={"A": "a", "B": "b"})


def word(offset: int | None, **changes: object) -> Intervention:
    """A word inserted at an offset."""
    values = {"id": "i", "task": "t", "example_id": "x", "kind": "own", "field": "q", "offset": offset}
    return Intervention.model_validate({**values, "inserted": "big", **changes})


@given(st.text(min_size=1), st.data())
def test_one_space_is_all_that_changes(text: str, data: st.DataObject) -> None:
    """The edited text is one character longer, and without the space at its offset it is the original."""
    offset = data.draw(st.integers(0, len(text)))
    built = build_null_edit(example(text), [word(offset)])

    assert built is not None
    after = apply(example(text), built)
    assert (built.kind, built.inserted, built.offset) == ("null_edit", " ", offset)
    assert (len(after), after[offset]) == (len(text) + 1, " ")
    assert after[:offset] + after[offset + 1 :] == text
    assert after != splice(text, offset, " ")


def test_the_place_is_that_of_the_first_edit() -> None:
    """Cues give no place."""
    cue = word(None, kind="cue_user", field=None)
    built = build_null_edit(example("A dog barks."), [cue, word(2), word(6)])

    assert built is not None
    assert built.edited == "A  dog barks."
    assert build_null_edit(example("A dog barks."), [cue]) is None
    assert build_null_edit(example("A dog barks."), []) is None


def test_a_null_edit_from_a_file_is_read() -> None:
    """Its inserted text is blank, which no other kind may have."""
    tasks = {"t": {"x": example("A dog.")}}
    line = {"example_id": "x", "kind": "null_edit", "field": "q", "offset": 2, "inserted": " ", "edited": "A  dog."}

    built = build_null_edit(example("A dog."), [word(2)])
    assert intervention_from(line, where="F:1", tasks=tasks) == built
    with pytest.raises(InputError, match="F:1: 'inserted' is empty"):
        intervention_from({**line, "kind": "own"}, where="F:1", tasks=tasks)
    with pytest.raises(InputError, match="F:1: 'inserted' is empty"):
        intervention_from({**line, "inserted": ""}, where="F:1", tasks=tasks)


@pytest.mark.parametrize("changes", [{"edited": None}, {"edited": "A  Dog."}, {"edited": "A dog. "}, {"inserted": "x"}])
def test_anything_more_than_a_space_is_refused(changes: dict[str, object]) -> None:
    """A null edit that changes more would measure more than noise."""
    one = word(2, kind="null_edit", **{"inserted": " ", "edited": "A  dog.", **changes})

    with pytest.raises(InputError, match="must have one space as 'inserted'"):
        check(example("A dog."), one)
