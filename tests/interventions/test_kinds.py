"""The table of kinds: what a name stands for."""

from __future__ import annotations

import pytest

from explaineval.interventions import KINDS, Kind, kind_of


@pytest.mark.parametrize(
    ("name", "inserts", "mentioned_by", "cue", "control", "control_of"),
    [
        ("random_word", "word", "policy", None, None, None),
        ("random_word_natural", "word", "policy", None, None, None),
        ("editor_natural", "word", "policy", None, None, None),
        ("null_edit", "space", None, None, None, None),
        ("null_edit_natural", "word or text", "policy", None, None, None),
        ("sham", "nothing", None, None, None, None),
        ("cue_user", "text", "phrases", "user", "cue_user_control", None),
        ("cue_user_control", "text", "phrases", "user", None, "cue_user"),
        ("cue_control", "text", "phrases", "control", "cue_control_control", None),
        ("cue_x_natural", "text", "phrases", "x_natural", "cue_x_natural_control", None),
        ("my_control", "word or text", "policy", None, None, None),
        ("Random_Word", "word or text", "policy", None, None, None),
        ("cue*[a]", "word or text", "policy", None, None, None),
    ],
)
def test_a_name_finds_its_kind(
    name: str, inserts: str, mentioned_by: str | None, cue: str | None, control: str | None, control_of: str | None
) -> None:
    """A cue is known by what its name begins with; a name that is in no line of the table is a kind of the user's."""
    kind = kind_of(name)

    assert kind.name == name
    assert (kind.inserts, kind.mentioned_by) == (inserts, mentioned_by)
    assert (kind.cue, kind.control, kind.control_of) == (cue, control, control_of)


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_every_line_of_the_table_is_found_under_its_name(kind: Kind) -> None:
    """No line hides behind an earlier one, and a kind and its control name each other."""
    name = kind.name.replace("*", "x")
    found = kind_of(name)

    assert found.title == kind.title
    if found.control is not None:
        assert kind_of(found.control).control_of == name
    if found.measures_noise:
        assert found.mentioned_by is None
