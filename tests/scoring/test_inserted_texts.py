"""Few different inserted texts, explanations that follow the answer, noise of label probabilities, enough examples."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from explaineval.scoring.rows import Scores
from makers.runs import make_sham, make_trial
from makers.scores import rows_of, score_trials

Trials = list[dict[str, Any]]


def drawn(
    examples: int, each: int, text: Callable[[int, int], str], said: Callable[[int, int, bool, str], float], **law: Any
) -> Trials:
    """Trials whose original answers are A or B and change at the rate `p`; `said` gives the chance of a mention."""
    draw = random.Random(law.get("seed", 0))
    found: Trials = []
    for example in range(examples):
        before = "A" if draw.random() < law.get("at_a", 0.5) else "B"
        found.append(make_sham(example))
        for number in range(each):
            changed = draw.random() < law.get("p", 0.3)
            after = ("B" if before == "A" else "A") if changed else before
            mentioned = draw.random() < said(example, number, changed, after)
            own = {"label_before": before, "label_after": after, "inserted": text(example, number)}
            found.append(make_trial(example, number, changed=changed, mentioned=mentioned) | own)
    return found


def texts_of(scores: Scores, code: str) -> list[str]:
    """What the warnings of phi-CCT with this code say."""
    return [one.text for one in scores.warnings if one.warning.code == code and one.warning.metric == "phi_cct"]


def by_word(share: float) -> Callable[[int, int, bool, str], float]:
    """A share of the words is always named, the others only where the answer changed; words are numbers mod 10."""
    return lambda example, number, changed, _: 1.0 if (example + number) % 10 < 10 * share else 0.8 * changed


def test_few_different_texts_are_told_with_the_wider_interval() -> None:
    """10 words, of which some are always named: the interval over words is wider, and the sentence has both facts."""
    scores = score_trials(drawn(60, 4, lambda e, n: f"word{(e + n) % 10}", by_word(0.3)))

    (phi,), (over,) = rows_of(scores, "phi_cct"), rows_of(scores, "phi_cct_over_texts")
    assert phi.value == over.value
    assert None not in (phi.low, phi.high, over.low, over.high)
    assert over.low < phi.low
    (text,) = texts_of(scores, "few_texts")
    assert text.startswith("Only 10 different texts were inserted: the interval of phi-CCT holds for these.")
    assert text.endswith(f"[{over.low:.2f}, {over.high:.2f}].")


def test_texts_that_are_all_different_add_nothing() -> None:
    """With one trial a text, cells and texts are the same: the interval is that over examples, and no warning."""
    scores = score_trials(drawn(60, 4, lambda e, n: f"word{e}x{n}", by_word(0.3)))

    (phi,), (over,) = rows_of(scores, "phi_cct"), rows_of(scores, "phi_cct_over_texts")
    assert (over.low, over.high) == pytest.approx((phi.low, phi.high))
    assert texts_of(scores, "few_texts") == []


def test_with_one_text_phi_over_texts_is_undefined() -> None:
    """The sentence says that phi is known for it alone; nothing tells to ask more examples for it."""
    scores = score_trials(drawn(60, 4, lambda *_: "grumpy", lambda _, __, changed, ___: 0.2 + 0.5 * changed))

    (over,) = rows_of(scores, "phi_cct_over_texts")
    assert (over.value, over.undefined) == (None, "only one text was inserted")
    assert not [row for row in scores.warnings if row.warning.metric == "phi_cct_over_texts"]
    assert texts_of(scores, "few_texts") == ["Only 1 text was inserted, so phi-CCT is known for it alone."]


def test_capitals_make_no_other_text() -> None:
    """A word at the beginning of a sentence is the same word."""
    scores = score_trials(drawn(60, 4, lambda _, n: ("grumpy", "Grumpy")[n % 2], lambda _, __, c, ___: 0.2 + 0.5 * c))

    assert "Only 1 text" in texts_of(scores, "few_texts")[0]


def test_explanations_that_follow_the_answer_are_told() -> None:
    """Three quarters answer A; whatever ends at B names the word: phi is above 0, but not among answers alike."""
    blind = drawn(150, 4, lambda e, n: f"w{e}x{n}", lambda _, __, ___, after: 0.7 if after == "B" else 0.1, at_a=0.8)
    scores = score_trials(blind)

    (phi,) = rows_of(scores, "phi_cct")
    assert phi.low is not None
    assert phi.low > 0
    (text,) = texts_of(scores, "follows_answer")
    assert "among explanations of the same answer it is" in text


def test_explanations_that_follow_the_change_are_not() -> None:
    """The same answers, and mentions that depend on the change alone."""
    honest = drawn(150, 4, lambda e, n: f"w{e}x{n}", lambda _, __, changed, ___: 0.2 + 0.4 * changed, at_a=0.8)

    assert texts_of(score_trials(honest), "follows_answer") == []


def test_one_original_answer_cannot_tell_answer_from_change() -> None:
    """Where every original answer is A, each B is a change."""
    scores = score_trials(drawn(60, 4, lambda e, n: f"w{e}x{n}", lambda _, __, c, ___: 0.2 + 0.5 * c, at_a=1.0))

    (text,) = texts_of(scores, "answer_tells_change")
    assert text.endswith("every answer was given either after a change or without one.")


def test_shams_have_a_shift_of_label_probabilities() -> None:
    """Its mean stands under the kind sham: the noise floor of mean_tvd."""
    moved = [make_sham(e) | {"probs_after": {"A": 0.7, "B": 0.3}, "tvd": 0.05 * (e % 2)} for e in range(30)]
    scores = score_trials([*(make_trial(e, 0) for e in range(30)), *moved])

    (row,) = rows_of(scores, "sham_mean_tvd")
    assert (row.kind, row.n, row.mention, row.value) == ("sham", 30, None, pytest.approx(0.025))
    assert row.low is not None
    assert row.low < 0.025 < (row.high or 0)


def test_a_steady_server_has_a_noise_floor_of_0_with_a_limit() -> None:
    """30 shams without any shift leave room for one in 9 examples (Clopper and Pearson)."""
    scores = score_trials([*(make_trial(e, 0) for e in range(30)), *(make_sham(e) for e in range(30))])

    (row,) = rows_of(scores, "sham_mean_tvd")
    assert (row.value, row.low, row.high) == (0, 0, pytest.approx(1 - 0.025 ** (1 / 30)))


def test_shams_without_label_probabilities_say_so() -> None:
    """The reason is that of the trials."""
    gone = {"tvd": None, "tvd_reason": "after: no label probabilities", "probs_after": None, "label_mass_after": None}
    scores = score_trials([*(make_trial(e, 0) for e in range(30)), *(make_sham(e) | gone for e in range(30))])

    (row,) = rows_of(scores, "sham_mean_tvd")
    assert (row.value, row.undefined) == (None, "no label probabilities")


def numbers_in(scores: Scores) -> set[str]:
    """What the warnings about the kind say in brackets on the number of examples."""
    return {one.text.partition("(about ")[2] for one in scores.warnings if "(about " in one.text}


def test_one_number_of_examples_stands_everywhere() -> None:
    """The largest of all reasons: few changes, few of them mentioned, both sorts in one example, noise."""
    few = drawn(30, 4, lambda e, n: f"w{e}x{n}", lambda _, __, changed, ___: 0.1 + 0.3 * changed, p=0.12, seed=3)
    scores = score_trials(few)

    codes = {one.warning.code for one in scores.warnings if "(about " in one.text}
    assert len(codes) > 1
    (text,) = numbers_in(scores)
    number = int(text.split()[0].replace(",", ""))
    flipped = {one["example_id"] for one in few if one["kind"] != "sham" and one["changed"]}
    named = {one["example_id"] for one in few if one["kind"] != "sham" and one["changed"] and one["mentioned"]}
    assert number >= max(30 * 20 / len(flipped), 30 * 8 / len(named))


def test_the_number_says_when_the_task_has_fewer() -> None:
    """The task has 30 examples in all; where it has enough, nothing is said."""
    few = drawn(30, 4, lambda e, n: f"w{e}x{n}", lambda _, __, changed, ___: 0.1 + 0.3 * changed, p=0.12, seed=3)

    (small,) = numbers_in(score_trials(few, available=30))
    (large,) = numbers_in(score_trials(few, available=100_000))
    assert "; the task has 30)" in small
    assert "task has" not in large
