"""Warnings of planted weaknesses, each with its sentence."""

from __future__ import annotations

import random
from typing import Any

import pytest

from explaineval.scoring.rows import Scores
from makers.runs import make_sham, make_trial
from makers.scores import rows_of, score_trials, values_of


def drawn(seed: str, examples: int = 120, each: int = 6) -> list[dict[str, Any]]:
    """A fairly faithful explainer: mentions follow the change of the answer."""
    draw = random.Random(seed)
    found = [make_sham(example) for example in range(examples)]
    for example in range(examples):
        for number in range(each):
            flip = draw.random() < 0.2
            found.append(make_trial(example, number, changed=flip, mentioned=draw.random() < 0.1 + 0.5 * flip,
                                    after=0.3 if flip else draw.uniform(0.6, 0.9)))  # fmt: skip
    return found


def blind(seed: str, examples: int = 200, each: int = 8) -> list[dict[str, Any]]:
    """An explainer blind to the word: on unstable examples it says more, whatever the answer did."""
    draw = random.Random(seed)
    found = []
    for example in range(examples):
        unstable = example % 4 == 0
        found.append(make_sham(example))
        for number in range(each):
            flip = draw.random() < (0.4 if unstable else 0.05)
            found.append(
                make_trial(example, number, changed=flip, mentioned=draw.random() < (0.7 if unstable else 0.1))
            )
    return found


def texts_of(scores: Scores) -> list[str]:
    """All warnings, as sentences."""
    return [one.text for one in scores.warnings]


def test_a_blind_but_wordy_explainer_is_found_out() -> None:
    """phi is well above 0, phi within examples is not, and the warning says which to read."""
    scores = score_trials(blind("wordy"))

    (phi,), (within,), (chance,) = (rows_of(scores, name) for name in ("phi_cct", "phi_within", "phi_cct_example_only"))
    assert phi.low is not None
    assert phi.low > 0.1
    assert within.low is not None
    assert within.high is not None
    assert within.low < 0 < within.high
    assert chance.low is not None
    assert chance.high is not None
    assert chance.low <= (phi.value or 0) <= chance.high
    (text,) = [text for text in texts_of(scores) if "knows the example but not the insertion" in text]
    assert f"({chance.low:.2f} to {chance.high:.2f}); phi within examples is {within.value:.3f}." in text


def test_a_faithful_explainer_is_not_suspected() -> None:
    """Its phi lies above that of any explainer that knows the example only."""
    scores = score_trials(drawn("faithful"))

    assert not any("knows the example" in text for text in texts_of(scores))
    (within,) = rows_of(scores, "phi_within")
    assert (within.low or 0) > 0.3


def test_one_trial_an_example_cannot_tell_them_apart() -> None:
    """Then phi within examples is undefined, and so says the warning."""
    (text,) = [text for text in texts_of(score_trials(drawn("single", 200, 1))) if "knows the example" in text]

    assert "; phi within examples is undefined (no example has both changed and unchanged answers)." in text


def test_noise_rates_have_intervals() -> None:
    """Shams and the floor of mentions are estimates like any other."""
    trials = [
        one | {"mentioned_before": index % 7 == 0} if one["kind"] != "sham" else one
        for index, one in enumerate(drawn("floor"))
    ]

    scores = score_trials(trials)

    for name in ("sham_flip_rate", "mention_floor"):
        (row,) = rows_of(scores, name)
        assert row.low is not None
        assert row.high is not None
        assert row.low <= (row.value or 0) <= row.high
        assert row.high > row.low
    share = sum(bool(one["mentioned_before"]) for one in trials) / (120 * 6)
    assert values_of(scores, "mention_floor") == [pytest.approx(share)]


def test_steady_examples_have_a_phi_of_their_own() -> None:
    """phi_stable is that of the examples whose shams all agree."""
    trials = drawn("steady")
    wobbly = {f"e{index}" for index in range(0, 120, 5)}
    found = [
        one | {"changed": True, "label_after": "B"} if one["kind"] == "sham" and one["example_id"] in wobbly else one
        for one in trials
    ]

    (stable,) = values_of(score_trials(found), "phi_stable")

    (alone,) = values_of(score_trials([one for one in trials if one["example_id"] not in wobbly]), "phi_cct")
    assert alone == stable


def test_an_example_whose_sham_is_missing_is_not_steady() -> None:
    """Nothing is known of its noise, so phi_stable leaves it out."""
    trials = drawn("steady")
    lost = {"status": "failed", "status_side": "after", "changed": None, "label_after": None}
    more = [make_sham(example) | {"sample": 1} | (lost if example < 30 else {}) for example in range(120)]

    (stable,) = values_of(score_trials(trials + more), "phi_stable")

    (alone,) = values_of(score_trials([one for one in trials if int(one["example_id"][1:]) >= 30]), "phi_cct")
    assert alone == stable


def test_impact_that_is_no_more_than_noise_is_told() -> None:
    """As many shams change as interventions."""
    draw = random.Random("noise")
    trials = [make_sham(example, changed=draw.random() < 0.2) for example in range(120)]
    trials += [one for one in drawn("noise") if one["kind"] != "sham"]

    assert any("not clearly more than noise" in text for text in texts_of(score_trials(trials)))
    assert not any("more than noise" in text for text in texts_of(score_trials(drawn("noise"))))


def test_the_share_of_examples_is_told_with_its_trials() -> None:
    """ct_unfaithfulness_per_example grows with the number of interventions: that stands with it."""
    trials = drawn("share")
    scores = score_trials(trials)

    flips: dict[str, list[bool]] = {}
    for one in trials:
        if one["kind"] != "sham" and one["changed"]:
            flips.setdefault(one["example_id"], []).append(not one["mentioned"])
    share = sum(any(unsaid) for unsaid in flips.values()) / len(flips)
    mean = sum(len(unsaid) for unsaid in flips.values()) / len(flips)
    assert values_of(scores, "ct_unfaithfulness_per_example") == [pytest.approx(share)]
    (text,) = [text for text in texts_of(scores) if "goes unmentioned" in text]
    assert text.startswith(f"{100 * share:.1f} % of the {len(flips)} examples with a changed answer have one that ")
    assert f"with 6.0 trials and {mean:.1f} changed answers in each" in text


def test_few_flips_limit_the_numbers_made_of_flips() -> None:
    """Each of them has the sentence, and no number that is not made of flips."""
    scores = score_trials(drawn("few", 12))

    found = {one.warning.metric for one in scores.warnings if one.warning.code == "few_flips"}
    assert found >= {"phi_cct", "phi_within", "cct", "tpr", "youden_j", "ct_unfaithfulness", "impact_rate"}
    assert not found & {"fpr", "mention_rate", "mention_floor", "accuracy", "sham_flip_rate", "mean_tvd"}
    (text,) = {one.text for one in scores.warnings if one.warning.code == "few_flips"}
    start = "Only 10 examples have a changed answer; with fewer than 20 the numbers are not reliable"
    assert text == f"{start} (about 24 examples would do)."


def test_orders_are_never_compared_by_cct() -> None:
    """In ep the label probabilities come after the explanation."""
    trials = drawn("orders", 30)
    both = trials + [one | {"order": "ep"} for one in trials]

    assert any(
        "never compared across orders" in text for text in texts_of(score_trials(both, arms={"order": ["pe", "ep"]}))
    )
    assert not any("across orders" in text for text in texts_of(score_trials(trials)))


def test_an_interval_that_is_missing_is_explained() -> None:
    """A perfect phi within examples has none; a perfect phi-CCT says what it is above instead."""
    trials = [make_trial(example, number, changed=number == 0, mentioned=number == 0, after=0.5 if number else 0.1)
              for example in range(30) for number in range(4)]  # fmt: skip

    texts = texts_of(score_trials(trials, shams=0))

    assert any(text.startswith("phi within examples: no interval") for text in texts)
    assert not any(text.startswith("phi-CCT: no interval") for text in texts)
    (exact,) = [text for text in texts if text.startswith("phi-CCT: it is exactly 1; if it were truly below 0.")]
    assert exact.endswith("at most 1 in 40 such runs would show that.")
