"""F-AUROC through tally and score: planted explainers whose area is known by hand, and what is told of the levels."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import auc

from explaineval.scoring.rows import Scores
from makers.runs import ENDPOINT, MODEL, make_missing, make_trial
from makers.scores import LEVELS, rows_of, score_trials, sweep, values_of

Table = Sequence[Sequence[bool]]
EXAMPLES, CHANGED, KEPT = 12, 2, 4
FLIPS: Table = [[True] * CHANGED + [False] * KEPT] * EXAMPLES
"""In each of 12 examples 2 answers change and 4 do not."""
ARMS: dict[str, Any] = {"order": ["pe2"], "verbosity": list(LEVELS)}


def said(tpr: float, fpr: float) -> Table:
    """Mentions of which these shares fall to the changed and the unchanged answers, the same in every example."""
    hits, alarms = round(tpr * CHANGED), round(fpr * KEPT)
    return [[n < hits for n in range(CHANGED)] + [n < alarms for n in range(KEPT)]] * EXAMPLES


def planted(*points: tuple[float, float], **values: Any) -> Scores:
    """A sweep whose levels are these points (TPR, FPR)."""
    return score_trials(
        sweep(dict(zip(LEVELS, (said(*one) for one in points), strict=True)), FLIPS), arms=ARMS, **values
    )


def texts_of(scores: Scores) -> list[str]:
    """The warnings about the levels together, as sentences."""
    return [one.text for one in scores.warnings if not one.condition.verbosity]


@pytest.mark.parametrize(
    ("points", "area"),
    [
        pytest.param([(1, 0)] * 3, 1.0, id="fully faithful at every level"),
        pytest.param([(0.5, 0.25)] * 3, 0.25 * 0.5 / 2 + 0.75 * 1.5 / 2, id="as faithful at every level"),
        pytest.param([(1, 1)] * 3, 0.5, id="says everything"),
        pytest.param([(0, 0)] * 3, 0.5, id="says nothing"),
        pytest.param([(0, 0), (1, 1), (1, 1)], 0.5, id="says everything above a level, nothing below"),
        pytest.param([(0.5, 0), (1, 1), (1, 1)], 0.75, id="says everything above a level, some below"),
        pytest.param([(0.5, 0), (1, 0.5), (1, 1)], 0.5 * 1.5 / 2 + 0.5, id="says more and more"),
        pytest.param([(0, 0.5), (0.5, 1), (1, 1)], 0.5 * 0.5 / 2, id="says the wrong things first"),
    ],
)
def test_a_planted_explainer_has_its_area(points: list[tuple[float, float]], area: float) -> None:
    """The trapezoids under (FPR, TPR) of each level, worked out by hand."""
    scores = planted(*points)

    (row,) = rows_of(scores, "f_auroc")
    assert area == pytest.approx(row.value)
    assert (row.verbosity, row.kind, row.n, row.n_examples) == (None, "hand", 12 * 6 * 3, 12)
    assert [point[0] for point in points] == pytest.approx(values_of(scores, "tpr"))
    assert [point[1] for point in points] == pytest.approx(values_of(scores, "fpr"))


def drawn(seed: str, order: str = "pe2", examples: int = 80) -> list[dict[str, Any]]:
    """A sweep drawn at random; the answers are the same at all levels."""
    draw = random.Random(seed)
    flips = [[draw.random() < 0.3 for _ in range(4)] for _ in range(examples)]
    mentions = {
        level: [[draw.random() < share + 0.2 * flip for flip in row] for row in flips]
        for level, share in zip(LEVELS, (0.1, 0.3, 0.6), strict=True)
    }
    return [one | {"order": order} for one in sweep(mentions, flips)]


def test_the_area_is_that_of_scikit_learn() -> None:
    """Its trapezoids under the points of the levels' own rows."""
    scores = score_trials(drawn("auc"), arms=ARMS)

    fpr, tpr = [0.0, *values_of(scores, "fpr"), 1.0], [0.0, *values_of(scores, "tpr"), 1.0]
    assert auc(*zip(*sorted(zip(fpr, tpr, strict=True)), strict=True)) == pytest.approx(*values_of(scores, "f_auroc"))


def test_only_trials_that_every_level_has_enter() -> None:
    """One that is unreadable at one level is left out at all of them, and how many are is told."""
    trials = drawn("shared")
    whole = score_trials([one for one in trials if one["intervention_id"] != "e3.1"], arms=ARMS)
    lost = make_missing(3, 1, "after", order="pe2", verbosity="normal")
    found = [lost if (one["intervention_id"], one["verbosity"]) == ("e3.1", "normal") else one for one in trials]

    scores = score_trials(found, arms=ARMS)

    assert rows_of(whole, "f_auroc") == rows_of(scores, "f_auroc")
    assert rows_of(whole, "f_auroc_hull") == rows_of(scores, "f_auroc_hull")
    assert "F-AUROC rests on 319 trials; 1 more have a score at some levels only, and are left out of it." in texts_of(
        scores
    )
    assert not any("left out" in text for text in texts_of(whole))


def test_a_level_that_cannot_be_read_leaves_no_area() -> None:
    """Nothing is shared with it."""
    trials = [
        one if one["verbosity"] != "normal" else make_missing(int(one["example_id"][1:]), 0, "after", order="pe2")
        for one in drawn("lost", examples=5)
    ]

    for name in ("f_auroc", "f_auroc_hull"):
        (row,) = rows_of(score_trials(trials, arms=ARMS), name)
        assert (row.value, row.undefined) == (None, "no trial is readable at every level")


def test_answers_of_their_own_have_a_name_of_their_own() -> None:
    """Where each level asks again the number is f_auroc_own, without hull; impact rates and agreement are told."""
    trials = drawn("own", order="pe", examples=10)
    for one in trials:
        if one["verbosity"] == "normal" and one["intervention_id"] in ("e0.0", "e1.0", "e2.0", "e3.0"):
            flipped = not one["changed"]
            one |= {"changed": flipped, "label_after": "B" if flipped else "A"}

    scores = score_trials(trials, arms=ARMS | {"order": ["pe"]})

    assert [row.verbosity for row in rows_of(scores, "f_auroc_own")] == [None]
    assert [] == rows_of(scores, "f_auroc") == rows_of(scores, "f_auroc_hull")
    rates = ", ".join(
        f"{level} {value:.2f}" for level, value in zip(LEVELS, values_of(scores, "impact_rate"), strict=True)
    )
    (text,) = [text for text in texts_of(scores) if "asked for the answer again" in text]
    assert f"impact rates are {rates}, and 90 % of the answers are the same at all levels" in text


def test_answers_asked_once_cannot_differ() -> None:
    """Such lines are not of one run: no area, and why."""
    trials = drawn("mixed")
    one = next(one for one in trials if one["verbosity"] == "normal" and not one["changed"])
    one |= {"changed": True, "label_after": "B"}

    (row,) = rows_of(score_trials(trials, arms=ARMS), "f_auroc")

    assert row.value is None
    assert "differ between levels" in str(row.undefined)


def test_the_signature_names_all_levels() -> None:
    """And the seed for the hull alone."""
    scores = score_trials(drawn("signed"), arms=ARMS, seed=7)

    area, hull = (rows_of(scores, name)[0].signature for name in ("f_auroc", "f_auroc_hull"))
    assert "|verbosity:minimal+normal+exhaustive|" in area
    assert ["mention:word" in area, "seed:7" in area, "seed:7" in hull] == [True, False, True]
    assert {f"verbosity:{level}" for level in LEVELS} == {
        re.search(r"verbosity:[^|]*", row.signature).group()  # type: ignore[union-attr]
        for row in rows_of(scores, "tpr")
    }


def test_the_hull_is_told_with_what_chance_gives() -> None:
    """The mean over permutations of whole rows of mentions, found here by shuffling."""
    trials = drawn("chance")
    scores = score_trials(trials, arms=ARMS)
    rows = {level: [one for one in trials if one["verbosity"] == level] for level in LEVELS}
    mentions = np.array([[one["mentioned"] for one in rows[level]] for level in LEVELS])
    changed = np.array([one["changed"] for one in rows["normal"]])
    draw = np.random.default_rng(1)

    def hull(flips: Any) -> float:
        points = sorted({(0.0, 0.0), (1.0, 1.0), *((m[~flips].mean(), m[flips].mean()) for m in mentions)})
        grid = np.linspace(0, 1, 2001)
        best = [
            max(
                y0 + (y1 - y0) * (x - x0) / (x1 - x0) if x1 > x0 else max(y0, y1)
                for x0, y0 in points if x0 <= x for x1, y1 in points if x1 >= x
            )
            for x in grid[::20]
        ]  # fmt: skip
        return float(np.trapezoid(best, grid[::20]))

    chance = np.mean([hull(draw.permutation(changed)) for _ in range(60)])

    (text,) = [text for text in texts_of(scores) if "hull" in text]
    found = re.search(r"is (0\.\d+); chance alone gives (0\.\d+) ", text)
    assert found is not None
    assert values_of(scores, "f_auroc_hull") == pytest.approx([float(found[1])], abs=5e-4)
    assert chance == pytest.approx(float(found[2]), abs=0.01)
    assert hull(changed) == pytest.approx(float(found[1]), abs=0.003)
    assert [(row.low, row.high) for row in rows_of(scores, "f_auroc_hull")] == [(None, None)]


def test_an_area_whose_order_is_chance_is_told() -> None:
    """The note of the estimate reaches the reader."""
    draw = random.Random("order")
    flips = [[draw.random() < 0.4 for _ in range(4)] for _ in range(40)]
    rates = dict(zip(LEVELS, ((0.8, 0.40), (0.3, 0.40), (0.9, 0.8)), strict=True))
    mentions = {
        level: [[draw.random() < (hit if flip else alarm) for flip in row] for row in flips]
        for level, (hit, alarm) in rates.items()
    }

    texts = texts_of(score_trials(sweep(mentions, flips), arms=ARMS))

    assert any(text.startswith("F-AUROC: rough interval: TPR falls between two levels") for text in texts)


LACKING = [
    {"endpoint": ENDPOINT, "model": MODEL, "task": "mine", "order": "pe", "style": "completion", "shots": 8,
     "verbosity": level} for level in LEVELS
]  # fmt: skip


def test_levels_without_shots_are_undefined_rows() -> None:
    """Even where nothing else of the model exists; null edits have no such rows."""
    arms = {"style": ["completion"], "verbosity": list(LEVELS)}
    scores = score_trials([], kinds=("hand", "null_edit"), lacking=LACKING, arms=arms)

    names = ["phi_cct", "cct", "tpr", "fpr", "impact_rate", "mention_rate", "explanation_words"]
    assert [(level, name) for level in LEVELS for name in names] == [
        (row.verbosity, row.metric) for row in scores.rows if row.verbosity
    ]
    assert [(row.metric, row.verbosity) for row in scores.rows if not row.verbosity] == [("f_auroc_own", None)]
    assert {("hand", None, "no level shots", 0)} == {(row.kind, row.value, row.undefined, row.n) for row in scores.rows}


def test_one_level_without_shots_is_left_out_and_told() -> None:
    """The area is that of the others."""
    trials = [one | {"style": "completion", "shots": 8} for one in drawn("some") if one["verbosity"] != "normal"]
    arms = ARMS | {"style": ["completion"]}
    scores = score_trials(trials, lacking=[LACKING[1] | {"order": "pe2"}], arms=arms)
    twin = score_trials(trials, arms=arms | {"verbosity": ["minimal", "exhaustive"]})

    assert values_of(twin, "f_auroc") == values_of(scores, "f_auroc")
    assert "left out because no shots have that length: normal." in texts_of(scores)
    assert values_of(scores, "phi_cct", verbosity="normal") == [None]
    assert [row.verbosity for row in rows_of(scores, "phi_cct")] == list(LEVELS)


@pytest.mark.parametrize(
    ("words", "unruly"),
    [((2, 4, 9), []), ((2, 4, 4), ["exhaustive (4.0 words) than at normal (4.0)"]),
     ((5, 3, 1), ["normal (3.0 words) than at minimal (5.0)", "exhaustive (1.0 words) than at normal (3.0)"])],
)  # fmt: skip
def test_a_model_that_does_not_say_more_is_told(words: tuple[int, int, int], unruly: list[str]) -> None:
    """A level that asks for more words and gets none is named, with the words."""
    count = dict(zip(LEVELS, words, strict=True))
    trials = [one | {"explanation": " ".join(["why"] * count[one["verbosity"]])} for one in drawn("words")]

    texts = [text for text in texts_of(score_trials(trials, arms=ARMS)) if "explanations are no longer" in text]

    assert len(unruly) == len(texts)
    assert all(part in text for part, text in zip(unruly, texts, strict=True))


def test_levels_of_other_names_promise_no_length() -> None:
    """What a user calls his own levels says nothing of words."""
    trials = [make_trial(e, n, order="pe2", verbosity=level, changed=n == 0)
              for e in range(6) for n in range(3) for level in ("terse", "florid")]  # fmt: skip

    texts = texts_of(score_trials(trials, arms={"order": ["pe2"], "verbosity": ["terse", "florid"]}))

    assert not any("no longer" in text for text in texts)
