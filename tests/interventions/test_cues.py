"""Cues: which letter they suggest, what goes into their records, and whose letter a control is compared with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from explaineval.interventions import BuildContext, build_cue, check, cue_targets, draw_letter
from explaineval.records import Example, Intervention

LETTERS = "ABCDE"


def example(number: int = 0, options: int = 3, gold: str | None = "B") -> Example:
    """An example with so many options."""
    return Example(
        id=f"x{number}", task="t", fields={"q": "Why?"}, options={x: x.lower() for x in LETTERS[:options]}, gold=gold
    )


@given(st.integers(), st.integers(min_value=0), st.integers(2, 5), st.sampled_from([None, "A", "B"]))
def test_the_letter_is_an_option_and_never_the_gold_one(seed: int, number: int, options: int, gold: str | None) -> None:
    """Without a gold letter any option may come; the same arguments give the same letter."""
    one = example(number, options, gold)
    letter = draw_letter(seed, one, "cue_user")

    assert letter in set(one.options) - {gold}
    assert letter == draw_letter(seed, one, "cue_user")


def test_letters_are_spread_evenly_and_depend_on_seed_example_and_kind() -> None:
    """Over 3,000 examples each of two letters comes about as often; another seed or kind draws anew."""
    draws = [draw_letter(0, example(number), "cue_user") for number in range(3000)]
    others = [
        [draw_letter(1, example(number), "cue_user") for number in range(3000)],
        [draw_letter(0, example(number), "cue_expert") for number in range(3000)],
    ]

    assert set(Counter(draws)) == {"A", "C"}
    assert abs(Counter(draws)["A"] - 1500) < 150
    for other in others:
        same = sum(a == b for a, b in zip(draws, other, strict=True))
        assert abs(same - 1500) < 150


def test_a_known_letter_stays() -> None:
    """A changed draw would be a changed experiment."""
    assert [draw_letter(0, example(number), "cue_user") for number in range(8)] == list("CAAAACAA")


def context(cue_text: Callable[[str | None], str]) -> BuildContext:
    """What the builder of the cue `user` gets; it needs no tokens and no texts of the prompt."""
    return BuildContext(
        kind="cue_user",
        per_example=1,
        seed=0,
        cue_text=cue_text,
        prompt_texts=lambda _: [],
        is_present=lambda _, __: False,
    )


def test_a_cue_comes_with_its_control() -> None:
    """The cue has its letter in text and target, the control neither; both edit no field and fit the example."""
    cue, control = build_cue(example(), context(lambda letter: f"It is ({letter})." if letter else "I wonder."))

    assert (cue.kind, control.kind) == ("cue_user", "cue_user_control")
    assert (cue.target, control.target) == ("C", None)
    assert (cue.inserted, control.inserted) == ("It is (C).", "I wonder.")
    for one in (cue, control):
        assert (one.field, one.offset, one.edited, one.example_id) == (None, None, None, "x0")
        check(example(), one)
    assert cue.id != control.id


def test_an_example_without_another_letter_gets_no_cue() -> None:
    """With one option, the gold one, there is nothing to suggest."""
    one = example(options=1, gold="A")

    assert build_cue(one, context(str)) == ()


def cue(kind: str, target: str | None, example_id: str = "x0") -> Intervention:
    """A cue's record."""
    return Intervention(
        id=f"{kind}{target}{example_id}", task="t", example_id=example_id, kind=kind, inserted="i", target=target
    )


def test_a_control_is_compared_with_the_letter_of_its_cue() -> None:
    """By task, example and kind; words have no letter, nor has a control without its cue, or with two."""
    found = cue_targets(
        [
            cue("cue_user", "A"),
            cue("cue_user_control", None),
            cue("cue_expert", "C"),
            cue("cue_user", "B", "x1"),
            cue("cue_expert_control", None, "x1"),
            cue("cue_user", "A", "x2"),
            cue("cue_user", "C", "x2"),
            cue("hint", "A", "x3"),
        ]
    )

    assert found == {
        ("t", "x0", "cue_user"): "A",
        ("t", "x0", "cue_user_control"): "A",
        ("t", "x0", "cue_expert"): "C",
        ("t", "x0", "cue_expert_control"): "C",
        ("t", "x1", "cue_user"): "B",
        ("t", "x1", "cue_user_control"): "B",
    }
