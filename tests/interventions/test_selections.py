"""The naturalness filter: which candidates stay, by hand and by brute force."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explaineval.interventions import Judged, call_natural, keep_natural
from explaineval.records import Intervention


def judged(number: int, natural: bool, probability: float | None = None) -> Judged:
    """A judged candidate."""
    one = Intervention(
        id=f"i{number}", task="t", example_id="x", kind="random_word", field="q", offset=0, inserted=f"w{number}"
    )
    return Judged(one, natural, probability)


def numbers(found: list[Judged]) -> list[int]:
    """Which candidates these are."""
    return [int(one.intervention.id[1:]) for one in found]


@pytest.mark.parametrize(
    ("count", "share", "kept"),
    [(1, 0.2, 1), (4, 0.2, 1), (5, 0.2, 1), (9, 0.2, 1), (10, 0.2, 2), (20, 0.2, 4), (10, 0.3, 3), (3, 1.0, 3)],
)
def test_the_share_is_rounded_down_but_one_stays(count: int, share: float, kept: int) -> None:
    """Twenty candidates and a fifth of them are four."""
    assert len(keep_natural([judged(n, False) for n in range(count)], share)) == kept


def test_the_most_probable_stay_in_their_own_order() -> None:
    """By the probability of yes, whatever the letter says."""
    found = [judged(0, True, 0.6), judged(1, False, 0.9), judged(2, True, 0.2), judged(3, True, 0.7)]

    assert numbers(keep_natural(found, 0.5)) == [1, 3]


def test_without_a_probability_for_each_the_letter_decides() -> None:
    """One candidate without a probability: then yes goes before no."""
    found = [judged(0, False, 0.99), judged(1, True, 0.51), judged(2, True)]

    assert numbers(keep_natural(found, 0.7)) == [1, 2]


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.floats(0.01, 1), st.randoms())
def test_ties_are_broken_by_hash_not_by_order(answers: list[bool], share: float, random: object) -> None:
    """The kept set is the same in any order, and is the first by (no, hash of id)."""
    found = [judged(number, natural) for number, natural in enumerate(answers)]
    shuffled = list(found)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    count = max(1, int(share * len(found) + 1e-9))
    ranked = sorted(found, key=lambda x: (not x.natural, hashlib.sha256(x.intervention.id.encode()).hexdigest()))

    assert set(numbers(keep_natural(found, share))) == set(numbers(ranked[:count]))
    assert set(numbers(keep_natural(shuffled, share))) == set(numbers(ranked[:count]))


def test_a_kept_candidate_has_a_kind_of_its_own() -> None:
    """Same edit, kind random_word_natural, and the id that the builder gives to that content."""
    before = judged(0, True).intervention
    after = call_natural(before)

    assert after.kind == "random_word_natural"
    assert after.model_dump(exclude={"id", "kind"}) == before.model_dump(exclude={"id", "kind"})
    assert after == Intervention.identified(
        task="t", example_id="x", kind="random_word_natural", field="q", offset=0, inserted="w0"
    )
