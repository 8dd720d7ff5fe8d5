"""Applying interventions to examples, and marking the inserted words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explaineval.errors import InputError
from explaineval.interventions import apply, check, mark_insertion, splice_naturally
from explaineval.records import Example, Intervention

EXAMPLE = Example(id="x1", task="t", fields={"question": "A  dog\tbarks 😀.\n"}, options={"A": "yes", "B": "no"})


def intervention(**changes: object) -> Intervention:
    """A valid edit of EXAMPLE, with changes."""
    values = {"id": "i1", "task": "t", "example_id": "x1", "kind": "own", "field": "question", "offset": 3}
    return Intervention.model_validate({**values, "inserted": "big", **changes})


def test_plain_edit_is_the_splice_byte_for_byte() -> None:
    """Without `edited`, the word and one space go in at the offset; nothing is repaired."""
    assert apply(EXAMPLE, intervention(inserted="old")) == "A  old dog\tbarks 😀.\n"


def test_offsets_count_code_points() -> None:
    """An emoji counts as one, so that the offset after it is that of the full stop."""
    assert apply(EXAMPLE, intervention(offset=14)) == "A  dog\tbarks 😀big .\n"


def test_offset_at_the_end_is_allowed() -> None:
    """The end of the text is a place, as slicing says."""
    assert apply(EXAMPLE, intervention(offset=16)) == "A  dog\tbarks 😀.\nbig "


def test_edited_is_taken_as_it_is() -> None:
    """`edited` wins over the splice; the inserted word may have taken a capital."""
    assert apply(EXAMPLE, intervention(edited="Big dog", inserted="big")) == "Big dog"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"field": "premise"}, "names the field 'premise', but example 'x1' has the fields question"),
        ({"offset": 17}, "has offset 17, but field 'question' of example 'x1' has 16 characters"),
        ({"offset": -1}, "has offset -1, but"),
        ({"offset": None}, "edits the field 'question' but has no offset"),
        ({"edited": "A small dog."}, "does not contain the inserted 'big'"),
        ({"field": None}, "has 'offset' but no field"),
        ({"field": None, "offset": None, "edited": "big"}, "has 'edited' but no field"),
        ({"field": None, "offset": None, "kind": "random_word"}, "of kind 'random_word' has no field"),
        ({"field": None, "offset": None, "kind": "cue_user", "target": "C"}, "points to option 'C', but"),
    ],
)
def test_interventions_that_do_not_fit_are_refused(changes: dict[str, object], message: str) -> None:
    """Each misfit gets its own sentence."""
    with pytest.raises(InputError, match=message):
        check(EXAMPLE, intervention(**changes))


def test_cue_fits_but_cannot_be_applied() -> None:
    """A cue is valid without field and offset, and edits no field."""
    cue = intervention(kind="cue_user", field=None, offset=None, inserted="I think it is (B).", target="B")

    check(EXAMPLE, cue)
    with pytest.raises(InputError, match="it is a cue"):
        apply(EXAMPLE, cue)


@pytest.mark.parametrize(
    ("text_after", "inserted", "offset", "expected"),
    [
        ("An old dog.", "old", 2, ("An ", "old", " dog.")),
        ("A red apple.", "red", 3, ("A ", "red", " apple.")),
        ("Old dogs.", "old", 0, ("", "Old", " dogs.")),
        ("bold old dog", "old", 5, ("bold ", "old", " dog")),
        ("bold old dog", "old", 0, ("bold ", "old", " dog")),
        ("old or old dog", "old", 7, ("old or ", "old", " dog")),
        ("dogold ", "old", 3, ("dog", "old", " ")),
        ("A dog (any).", "(any)", 6, ("A dog ", "(any)", ".")),
        ("A dog.", "cat", 2, ("A dog.", "", "")),
    ],
)
def test_marked_words_are_where_they_were_put(
    text_after: str, inserted: str, offset: int, expected: tuple[str, str, str]
) -> None:
    """The mark follows a repaired article and capital, prefers whole words, and may be empty."""
    assert mark_insertion(text_after, inserted, offset) == expected


@given(
    st.lists(st.sampled_from(["a", "an", "A", "dog", "Apple", "hour", "I", "😀", "."]), min_size=1, max_size=8),
    st.data(),
    st.sampled_from(["old", "honest", "big"]),
)
def test_mark_undoes_the_splice(words: list[str], data: st.DataObject, inserted: str) -> None:
    """What stands before and after the mark is the text, but for an article and a capital."""
    text = " ".join(words)
    starts = [len(" ".join(words[:i])) + (i > 0) for i in range(len(words))]
    offset = data.draw(st.sampled_from(starts))

    before, marked, after = mark_insertion(splice_naturally(text, offset, inserted), inserted, offset)

    assert marked.lower() == inserted
    assert after.lower() == " " + text[offset:].lower()
    assert abs(len(before) - offset) <= 1
