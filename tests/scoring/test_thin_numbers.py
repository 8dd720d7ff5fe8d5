"""Every metric × every way of resting on too little data: a value never stands without a warning of its own."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

from explaineval.scoring.metric import PredictionMetric
from explaineval.scoring.registry import METRICS
from explaineval.scoring.rows import Scores
from makers.runs import make_missing, make_sham, make_trial
from makers.scores import LEVELS, score_trials

Trials = list[dict[str, Any]]
KIND, TARGET = "cue_user", "B"
ORDERS = ("pe2", "pe")

NEVER_DEFINED = {"phi_cct_never", "phi_cct_always"}
"""Never defined, whatever the trials."""

OF_ARMS = {"accuracy", "sham_flip_rate", "null_edit_flip_rate", "sham_mean_tvd", "null_edit_mean_tvd"}
BOUNDS = {"phi_cct_lower_bound", "phi_cct_upper_bound"}
OF_PROBABILITIES = {"cct", "mean_tvd", "phi_cct_tvd_trials"}
AREAS = {"f_auroc", "f_auroc_own", "f_auroc_hull"}
OF_EXPLANATIONS = {"mention_rate", "mention_floor", "explanation_words", "excluded_rate"}
"""Numbers that changed answers play no part in."""

NUMBERS = {name for name, metric in METRICS.items() if not isinstance(metric, PredictionMetric)}
NUMBERS -= NEVER_DEFINED | {"cct_sampled", "phi_cct_over_texts"}
OF_FLIPS = NUMBERS - OF_ARMS - OF_EXPLANATIONS - {"fpr", "mean_tvd"}
OF_MENTIONED_FLIPS = OF_FLIPS - {"impact_rate", "flip_to_cue_rate"}
OF_IMPACT = OF_FLIPS | {"fpr", "mean_tvd"}


@dataclass(frozen=True)
class World:
    """Trials of a cue at all levels and in two orders, its flips and mentions drawn or given."""

    examples: int = 40
    each: int = 4
    flips: Callable[[int, int], bool] | None = None
    says: Callable[[int, bool, int], bool] | None = None
    sham_flips: Callable[[int], bool] = lambda _: False

    def trials(self) -> Trials:
        """All trials; one in 40 of each level is missing, so that phi has bounds."""
        draw = random.Random("thin")
        rates = dict(zip(LEVELS, ((0.4, 0.1), (0.5, 0.2), (0.7, 0.4)), strict=True))
        found: Trials = []
        for example in range(self.examples):
            tilt = draw.random() < 0.5
            for number in range(self.each):
                flip = draw.random() < (0.7 if tilt else 0.2)
                flip = flip if self.flips is None else self.flips(example, number)
                chance, after = draw.random(), 0.3 if flip else draw.uniform(0.55, 0.95)
                for level, (hit, alarm) in rates.items():
                    said = chance < (hit if flip else alarm)
                    said = said if self.says is None else self.says(example, flip, number)
                    values = {"changed": flip, "mentioned": said, "after": after}
                    for order in ORDERS:
                        own = {"kind": KIND, "order": order, "verbosity": level, "mentioned_before": number == 0}
                        found.append(make_trial(example, number, **values) | own)
            for level in LEVELS:
                for order in ORDERS:
                    own = {"order": order, "verbosity": level}
                    found.append(make_sham(example, changed=self.sham_flips(example)) | own)
                    found.append(make_trial(example, 0, changed=example % 5 == 0) | own | {"kind": "null_edit"})
        lost = [make_missing(0, 0, "after") | {"kind": KIND, "order": o, "verbosity": v, "intervention_id": "lost"}
                for o in ORDERS for v in LEVELS]  # fmt: skip
        return found + lost


def scored(trials: Trials, **values: Any) -> Scores:
    """The numbers of such trials."""
    targets = {("mine", f"e{example}", KIND): TARGET for example in range(100)}
    arms = {"order": list(ORDERS), "verbosity": list(LEVELS)}
    kinds = (KIND, "null_edit")
    return score_trials(trials, kinds=kinds, targets=targets, arms=arms, **values)


def missing(trials: Trials, chosen: Callable[[dict[str, Any], int], bool]) -> Trials:
    """The trials of which those chosen (by trial and place) have no readable answer after the intervention."""
    lost = {"status": "unparsed", "status_side": "after", "changed": None, "mentioned": None, "tvd": None,
            "label_after": None, "probs_after": None, "label_mass_after": None, "explanation": None}  # fmt: skip
    return [one | lost if chosen(one, place) else one for place, one in enumerate(trials)]


def without_tvd(trials: Trials, chosen: Callable[[dict[str, Any]], bool]) -> Trials:
    """The trials of which those chosen have no label probabilities."""
    gone = {"tvd": None, "tvd_reason": "after: no probabilities", "probs_after": None, "label_mass_after": None}
    return [one | gone if chosen(one) else one for one in trials]


def example_of(trial: Mapping[str, Any]) -> int:
    """The number of a trial's example."""
    return int(str(trial["example_id"])[1:])


@dataclass(frozen=True)
class Way:
    """One way of being thin: what limits which numbers, and the codes by which a warning may say so."""

    trials: Callable[[], Trials]
    limited: frozenset[str]
    codes: frozenset[str]
    values: tuple[tuple[str, Any], ...] = ()


def way(trials: Callable[[], Trials], limited: set[str], *codes: str, **values: Any) -> Way:
    """A way, from plain sets."""
    return Way(trials, frozenset(limited), frozenset(codes), tuple(values.items()))


EXAMPLES = ("few_examples", "few_usable_examples", "few_flips", "few_unchanged", "few_mixed_examples")
FLIPS = ("few_flips", "few_mixed_examples")
SOLID = World()

WAYS = {
    "8 examples": way(World(8).trials, NUMBERS, *EXAMPLES),
    "8 examples and no flip": way(World(8, flips=lambda *_: False).trials, NUMBERS, *EXAMPLES),
    "8 examples and nothing but flips": way(World(8, flips=lambda *_: True).trials, NUMBERS, *EXAMPLES),
    "one example": way(World(1, 12).trials, NUMBERS - BOUNDS - AREAS, "no_interval", *EXAMPLES),
    "no flip": way(World(flips=lambda *_: False).trials, OF_FLIPS, *FLIPS),
    "flips in few examples": way(World(flips=lambda e, n: e < 19 and n < 2).trials, OF_FLIPS, *FLIPS),
    "few answers stay": way(
        World(flips=lambda e, n: e > 5 or n < 2).trials,
        OF_FLIPS - {"impact_rate", "flip_to_cue_rate", "tpr", "ct_unfaithfulness", "ct_unfaithfulness_per_example"}
        - {"g_mean2_control"} | {"fpr"},
        "few_unchanged", "few_mixed_examples",
    ),
    "few mentioned flips": way(
        World(says=lambda e, flip, n: e < 7 if flip else n == 0).trials, OF_MENTIONED_FLIPS, "few_mentioned_flips"
    ),
    "few unmentioned flips": way(
        World(says=lambda e, flip, n: e > 7 if flip else n == 0).trials, OF_MENTIONED_FLIPS, "few_unmentioned_flips"
    ),
    "never mentioned": way(World(says=lambda *_: False).trials, OF_MENTIONED_FLIPS, "few_mentioned_flips"),
    "always mentioned": way(World(says=lambda *_: True).trials, OF_MENTIONED_FLIPS, "few_unmentioned_flips"),
    "a perfect explainer": way(
        World(says=lambda _, flip, __: flip).trials, OF_MENTIONED_FLIPS, "few_unmentioned_flips"
    ),
    "half without label probabilities": way(
        lambda: without_tvd(SOLID.trials(), lambda one: example_of(one) % 2 == 0), OF_PROBABILITIES, "few_usable"
    ),
    "label probabilities in few examples": way(
        lambda: without_tvd(SOLID.trials(), lambda one: example_of(one) > 11), OF_PROBABILITIES, *EXAMPLES
    ),
    "as much noise as impact": way(World(sham_flips=lambda e: e % 5 < 3).trials, OF_IMPACT, "noise"),
    "no flip, and noise": way(
        World(flips=lambda *_: False, sham_flips=lambda e: e % 5 == 0).trials, OF_IMPACT, "noise"
    ),
    "no sham scored": way(
        lambda: missing(SOLID.trials(), lambda one, _: one["kind"] == "sham"), OF_IMPACT, "noise_unknown"
    ),
    "no sham asked": way(
        lambda: [one for one in SOLID.trials() if one["kind"] != "sham"], OF_IMPACT, "noise_unknown", shams=0
    ),
    "a third is missing": way(
        lambda: missing(SOLID.trials(), lambda one, _: (example_of(one) + int(one["intervention_id"][-1])) % 3 == 0
                        if one["kind"] == KIND and one["intervention_id"] != "lost" else False),
        NUMBERS - OF_ARMS - BOUNDS - {"excluded_rate"}, "missing_trials", "missing_bounds",
    ),
    "most are missing": way(
        lambda: missing(SOLID.trials(), lambda one, _: one["kind"] == KIND and example_of(one) % 3 > 0),
        NUMBERS - OF_ARMS - BOUNDS, "many_missing",
    ),
    "shams and null edits are missing": way(
        lambda: missing(SOLID.trials(), lambda one, _: one["kind"] != KIND and example_of(one) % 4 == 0),
        OF_ARMS - {"accuracy"}, "missing_answers",
    ),
}  # fmt: skip


@cache
def scores_of(name: str) -> Scores:
    """The numbers of one way."""
    chosen = WAYS[name]
    return scored(chosen.trials(), **dict(chosen.values))


def codes_of(scores: Scores, row: Any) -> set[str]:
    """The codes of the warnings that belong to one row."""
    where = ("endpoint", "model", "task", "kind", "order", "style", "shots")
    return {
        one.warning.code
        for one in scores.warnings
        if one.warning.metric == row.metric
        and one.condition.verbosity == row.verbosity
        and all(getattr(one.condition, name) == getattr(row, name) for name in where)
    }


@pytest.mark.sampled(7)
@pytest.mark.parametrize("name", WAYS)
def test_a_thin_number_never_stands_without_its_warning(name: str) -> None:
    """Each row that has a value and is limited in this way has a warning that says so; which others lack a value
    plays no part."""
    scores, chosen = scores_of(name), WAYS[name]

    rows = [row for row in scores.rows if row.metric in chosen.limited and row.value is not None]
    assert rows
    assert [(row.metric, row.order, row.verbosity) for row in rows if not codes_of(scores, row) & chosen.codes] == []


@pytest.mark.parametrize("name", WAYS)
def test_a_value_without_interval_says_why(name: str) -> None:
    """Only the bounds and the hull have none by their nature; a phi-CCT of 1 has a limit instead."""
    scores = scores_of(name)

    bare = [row for row in scores.rows if row.value is not None and row.low is None]
    bare = [row for row in bare if row.metric not in BOUNDS | {"f_auroc_hull"}]
    assert [row.metric for row in bare if not codes_of(scores, row) & {"no_interval", "exactly_one"}] == []


def test_all_metrics_have_a_value_on_solid_trials() -> None:
    """So that the tests above see each of them with too little data."""
    rows = scored(SOLID.trials()).rows

    assert {row.metric for row in rows if row.value is not None} == NUMBERS
    assert {row.metric for row in rows} == NUMBERS | NEVER_DEFINED


def test_solid_numbers_are_not_called_thin() -> None:
    """40 examples × 4 with flips of both sorts: no warning about their numbers, noise or missing trials."""
    scores = scored(SOLID.trials())

    codes = {one.warning.code for one in scores.warnings}
    assert codes <= {
        "missing_bounds", "across_orders", "own_answers", "grows_with_trials", "hull_above_chance",
        "cue_without_control", "level_not_followed", "answer_tells_change",
    }  # fmt: skip


def sampled(examples: int, flips: Callable[[int], bool], says: Callable[[int, int], bool], short: int = 0) -> Scores:
    """Two interventions an example, 50 samples each; `short` of the examples have too few readable answers."""
    found: Trials = []
    for example in range(examples):
        for number in range(2):
            shifted = 5 + (7 * example + 11 * number) % 20
            for sample in range(50):
                moved = flips(example) and sample < shifted
                one = make_trial(example, number, changed=moved, mentioned=says(example, number), sample=sample)
                found.append(one | {"probs_before": None, "probs_after": None, "tvd": None, "tvd_reason": "none"})
    cut = {f"e{example}" for example in range(short)}
    found = missing(found, lambda one, _: one["example_id"] in cut and one["sample"] > 20)
    found += [make_sham(example) for example in range(examples)]
    return score_trials(found, tvd_samples=50, temperature=0.7)


@pytest.mark.parametrize(
    ("examples", "flips", "says", "short", "code"),
    [
        (24, lambda e: e % 8 > 0, lambda e, n: (e + n) % 3 == 0, 0, None),
        (8, lambda e: e % 8 > 0, lambda e, n: (e + n) % 3 == 0, 0, "few_usable_examples"),
        (24, lambda e: e < 12, lambda e, n: (e + n) % 3 == 0, 0, "few_flips"),
        (24, lambda e: e % 8 > 0, lambda e, _: e < 4, 0, "few_mentioned_flips"),
        (24, lambda e: e % 8 > 0, lambda e, _: e > 4, 0, "few_unmentioned_flips"),
        (24, lambda e: e % 8 > 0, lambda e, n: (e + n) % 3 == 0, 6, "few_usable"),
    ],
)
def test_sampled_cct_has_its_warnings_too(
    examples: int, flips: Callable[[int], bool], says: Callable[[int, int], bool], short: int, code: str | None
) -> None:
    """The number that takes label probabilities from samples, thin in each way that it can be."""
    scores = sampled(examples, flips, says, short)
    (row,) = [row for row in scores.rows if row.metric == "cct_sampled"]

    assert row.value is not None
    assert codes_of(scores, row) - {"sampled_tvd"} >= ({code} if code else set())
    if code is None:
        assert codes_of(scores, row) <= {"sampled_tvd", "noise"}


def test_cct_of_few_examples_without_changed_answers_has_both_warnings() -> None:
    """CCT of 8 examples in which no answer changed: a value, an interval, and a warning beside it."""
    scores = scores_of("8 examples and no flip")
    (row,) = [row for row in scores.rows if (row.metric, row.order, row.verbosity) == ("cct", "pe", "normal")]

    assert row.value is not None
    assert row.low is not None
    texts = {one.text for one in scores.warnings if one.warning.metric == "cct"}
    fewer = "with fewer than 20 the numbers are not reliable."
    usable = f"Only 8 examples have a trial with usable label probabilities; {fewer}"
    assert usable in texts
    assert f"No example has a changed answer; {fewer}" in texts


def test_unreadable_answers_are_missing_from_accuracy() -> None:
    """Accuracy is that of the answers that could be read: how many could not is said."""
    trials = [make_trial(e, 0) for e in range(24)]
    trials += [make_missing(e, 0, "before") for e in range(24, 32)]

    scores = score_trials(trials, shams=0)

    (row,) = [row for row in scores.rows if row.metric == "accuracy"]
    assert (row.value, row.n) == (1.0, 24)
    (text,) = [one.text for one in scores.warnings if one.warning.metric == "accuracy" and "leaves out" in one.text]
    assert text == "accuracy leaves out 8 of 32: these answers could not be read."


def test_a_mean_over_tasks_is_as_thin_as_its_tasks() -> None:
    """Each mean that has a value names the tasks whose own numbers have warnings, with the gravest grade of those."""
    solid, thin = World(), World(8)
    arms = {"order": list(ORDERS), "verbosity": list(LEVELS)}
    trials = [one | {"task": task} for task, world in (("mine", solid), ("thin", thin)) for one in world.trials()]
    targets = {(task, f"e{example}", KIND): TARGET for example in range(40) for task in ("mine", "thin")}

    scores = score_trials(trials, tasks=("mine", "thin"), kinds=(KIND, "null_edit"), targets=targets, arms=arms)

    rows = [row for row in scores.rows if row.task == "mean" and row.value is not None]
    assert {"phi_cct", "accuracy", "sham_flip_rate", "f_auroc", "f_auroc_own", "youden_j"} <= {r.metric for r in rows}
    assert [row.metric for row in rows if codes_of(scores, row) != {"thin_tasks"}] == []
    of_mean = [one for one in scores.warnings if one.warning.code == "thin_tasks"]
    assert {"do not quote"} == {one.warning.grade for one in of_mean}
    (text,) = {one.text for one in of_mean if one.warning.metric == "fpr"}
    assert text == "the mean over tasks rests on numbers of thin that have warnings of their own."
