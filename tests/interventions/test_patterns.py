"""Patterns in the shots: all answers at one letter, or mixed, by moving options; what lines of a file may say."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explaineval.errors import InputError
from explaineval.interventions import (
    BuildContext,
    Pattern,
    build_pattern,
    draw_letter,
    intervention_from,
    kind_of,
    pattern_of,
)
from explaineval.records import Example, Intervention

LETTERS = "ABCDE"
ORDERED = [f"text {letter}" for letter in LETTERS]


def shot(number: int, options: int = 3, gold: str = "B", explanation: str = "so") -> Example:
    """A shot whose options say which letter they had."""
    texts = dict(zip(LETTERS[:options], ORDERED, strict=False))
    return Example(
        id=f"s{number}", task="t", fields={"q": f"{number}?"}, options=texts, gold=gold, explanation=explanation
    )


SHOTS = [shot(number, gold="ABC"[number % 3]) for number in range(8)]


@given(st.lists(st.sampled_from("ABC"), min_size=2, max_size=9), st.sampled_from(["A", "B", "C", None]))
def test_the_right_text_moves_and_stays_right(golds: list[str], letter: str | None) -> None:
    """Each shot keeps its texts, fields, explanation and letters; two texts at most change places."""
    shots = [shot(number, gold=gold) for number, gold in enumerate(golds)]

    for before, after in zip(shots, Pattern(letter).arrange(shots), strict=True):
        assert after.options[str(after.gold)] == before.options[str(before.gold)]
        assert list(after.options) == list(before.options)
        assert sorted(after.options.values()) == ORDERED[:3]
        assert sum(before.options[place] != after.options[place] for place in "ABC") in (0, 2)
        assert letter in (None, after.gold)
        assert (after.id, after.fields, after.explanation) == (before.id, before.fields, before.explanation)


def test_mixed_letters_are_even_and_make_no_pattern() -> None:
    """Of eight shots with three options no letter has more than three, and no two orders of ids need be alike."""
    golds = [str(one.gold) for one in Pattern(None).arrange(SHOTS)]
    orders = {
        tuple(one.gold for one in Pattern(None).arrange([shot(number + start) for number in range(6)]))
        for start in range(40)
    }

    assert sorted(Counter(golds).values()) == [2, 3, 3]
    assert len(orders) > 20
    assert all(sorted(str(letter) for letter in order) == list("AABBCC") for order in orders)


def test_mixed_letters_depend_on_the_shots_alone() -> None:
    """The same shots with explanations of another length have the same letters; a known order stays."""
    longer = [one.model_copy(update={"explanation": "because " * 9}) for one in SHOTS]

    golds = [one.gold for one in Pattern(None).arrange(SHOTS)]
    assert golds == [one.gold for one in Pattern(None).arrange(longer)]
    assert golds == list("BACBACAB")


def test_shots_with_unlike_options_are_mixed_within_their_own() -> None:
    """A shot with two options among such with five gets one of its two letters."""
    shots = [shot(0, 5), shot(1, 2, "A"), shot(2, 5, "E"), shot(3, 2, "B"), shot(4, 5)]

    for one in Pattern(None).arrange(shots):
        assert str(one.gold) in one.options


def test_a_letter_that_a_shot_lacks_cannot_be_shown() -> None:
    """`prepare` turns this into a sentence."""
    with pytest.raises(KeyError):
        Pattern("E").arrange(SHOTS)


def test_a_pattern_comes_with_its_control_and_inserts_nothing() -> None:
    """The letter is that of all cues: never the gold one."""
    example = shot(1)
    context = BuildContext(
        kind="cue_pattern", per_example=1, seed=0, prompt_texts=lambda _: [], is_present=lambda _, __: False,
        cue_text=str,
    )  # fmt: skip
    letter = draw_letter(0, example, "cue_pattern")

    pattern, control = build_pattern(example, context)

    assert (pattern.kind, pattern.target, pattern.inserted) == ("cue_pattern", letter, None)
    assert (control.kind, control.target, control.inserted) == ("cue_pattern_control", None, None)
    assert (pattern_of(pattern), pattern_of(control)) == (Pattern(letter), Pattern(None))
    assert letter != example.gold
    assert pattern.id != control.id
    assert list(build_pattern(shot(2, 1, "A"), context)) == []


def test_only_patterns_rearrange_shots() -> None:
    """Words, spaces and other cues leave the shots alone."""
    for kind in ("cue_user", "cue_pattern_of_mine", "my_words"):
        assert pattern_of(Intervention(id="i", task="t", example_id="x", kind=kind, inserted="x")) is None
    assert kind_of("cue_pattern").control == "cue_pattern_control"
    assert kind_of("cue_pattern_control").control_of == "cue_pattern"


LINE = {"example_id": "s1", "kind": "cue_pattern", "target": "C"}


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (LINE, None),
        ({"example_id": "s1", "kind": "cue_pattern_control"}, None),
        ({**LINE, "inserted": None, "field": None}, None),
        ({**LINE, "inserted": "All A."}, "which inserts nothing: leave out 'inserted'"),
        ({**LINE, "field": "q"}, "which inserts nothing: leave out 'field'"),
        ({**LINE, "offset": 0}, "has 'offset' but no field"),
        ({**LINE, "target": None}, "names no letter: give that of the pattern as 'target'"),
        ({**LINE, "target": "E"}, "points to option 'E'"),
        ({**LINE, "kind": "cue_pattern_control"}, "is the control of a cue, which says no letter"),
        ({**LINE, "kind": "cue_user"}, "'inserted' is missing"),
        ({**LINE, "kind": "cue_user", "inserted": " "}, "'inserted' is empty"),
    ],
)
def test_lines_of_a_file(line: dict[str, Any], sentence: str | None) -> None:
    """A pattern has a letter and no text; everything else has a text."""
    tasks = {"t": {"s1": shot(1)}}
    if sentence is None:
        assert intervention_from(line, where="F:1", tasks=tasks).inserted is None
    else:
        with pytest.raises(InputError, match=sentence):
            intervention_from(line, where="F:1", tasks=tasks)
