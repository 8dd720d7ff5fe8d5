"""Comparisons of models, arms and runs on shared trials."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import StratifiedTable
from statsmodels.stats.proportion import proportion_confint

from explaineval.metrics.correlations import phi, phi_at_p
from explaineval.metrics.differences import Measured, Spread, compare_pairs
from explaineval.records import Trial
from explaineval.reporting.comparison_text import sentence_of
from explaineval.scoring.comparisons import (
    Choices,
    Compared,
    GroupTrials,
    ModelSize,
    compare_groups,
    form_groups,
    sham_differences,
    share_trials,
    variance_explained,
)
from explaineval.scoring.comparisons.families import _is_near_zero
from explaineval.scoring.mentioning import TextReader
from explaineval.scoring.shared import System, Trials
from explaineval.text import p_text
from makers.runs import make_sham, make_trial


def draw_trials(
    seed: int,
    model: str,
    *,
    impact: float = 0.15,
    tpr: float = 0.6,
    fpr: float = 0.2,
    examples: int = 120,
    **changes: Any,
) -> Iterator[Trial]:
    """Trials of one model, four insertions an example."""
    generator = np.random.default_rng(seed)
    for example in range(examples):
        for number in range(4):
            changed = bool(generator.random() < impact)
            mentioned = bool(generator.random() < (tpr if changed else fpr))
            after = float(generator.uniform(0, 0.4) if changed else generator.uniform(0.6, 0.9))
            values = {"model": model, "changed": changed, "mentioned": mentioned, "after": after} | changes
            yield Trial.model_validate(make_trial(example, number, **values))


def collect(*runs: list[Trial]) -> Trials:
    """The trials of several runs."""
    found = Trials()
    for number, trials in enumerate(runs):
        found.add(number, trials, "word", TextReader("word"))
    return found


def compare(
    trials: Trials, by: str | None = None, reference: int | None = None, **choices: Any
) -> dict[tuple[str, str], Compared]:
    """The families of the only group by metric and task."""
    (group,) = form_groups(list(trials.systems), by, ["run"])
    (found,) = compare_groups([GroupTrials(group, share_trials(group, trials), reference)], Choices(**choices))
    return {(one.metric, one.task): one for one in found}


def test_only_trials_scored_in_both_models_count():
    """Values and losses come from the insertions that both models were scored on."""
    first = list(draw_trials(1, "openai/a"))
    second = [trial for number, trial in enumerate(draw_trials(2, "openai/b")) if number % 5]
    found = compare(collect([*first, *second]))["phi_cct", "mine"]

    kept = {(trial.example_id, trial.intervention_id) for trial in second}
    tables = []
    for trials in (first, second):
        pairs = [
            (bool(trial.changed), bool(trial.mentioned))
            for trial in trials
            if (trial.example_id, trial.intervention_id) in kept
        ]
        tables.append([pairs.count(cell) for cell in ((True, True), (True, False), (False, True), (False, False))])
    assert found.values == pytest.approx(tuple(phi(*table) for table in tables))
    assert found.lost == (96, 0)
    assert found.n_pairs == 384
    assert found.unrestricted[0] != pytest.approx(found.values[0])
    assert found.unrestricted[1] == pytest.approx(found.values[1])


def test_what_a_metric_loses_is_counted_in_the_trials_that_it_can_use():
    """CCT rests on trials with label probabilities: its trials, examples and losses are counted among those."""
    first = [
        trial.model_copy(update={"tvd": None, "probs_after": None}) if number < 40 else trial
        for number, trial in enumerate(draw_trials(1, "openai/a"))
    ]
    second = [trial for number, trial in enumerate(draw_trials(2, "openai/b")) if number % 5]
    found = compare(collect([*first, *second]))
    phi_row, cct_row = found["phi_cct", "mine"], found["cct", "mine"]

    assert (phi_row.n_pairs, phi_row.n_examples, phi_row.lost) == (384, 120, (96, 0))
    assert (cct_row.n_pairs, cct_row.n_examples, cct_row.lost) == (352, 110, (88, 32))


def test_losses_over_levels_are_counted_in_trials():
    """A lost insertion is one trial at each level, as the shared trials are counted."""
    levels = ("brief", "normal")
    trials = [
        trial
        for seed, model in ((1, "openai/a"), (2, "openai/b"))
        for level in levels
        for number, trial in enumerate(draw_trials(seed, model, order="pe2", verbosity=level))
        if model == "openai/a" or number % 5
    ]
    collected = collect(trials)
    group = next(group for group in form_groups(list(collected.systems), None, ["run"]) if group.levels)
    found = compare_groups([GroupTrials(group, share_trials(group, collected))], Choices())[0][0]

    assert found.metric == "f_auroc"
    assert (found.n_pairs, found.lost) == (768, (192, 0))


def test_the_best_counts_as_separated_only_by_tests_against_it():
    """Against a reference that is not the best, nothing was tested against the best; else the tests say it."""
    trials = collect(
        [trial for number in range(3) for trial in draw_trials(number, f"openai/{number}", tpr=0.2 + 0.3 * number)]
    )

    assert compare(trials, reference=0)["phi_cct", "mine"].family.not_separated == ()
    assert 2 in compare(trials, reference=2)["phi_cct", "mine"].family.not_separated
    assert compare(trials, reference=0)["phi_cct", "mine"].family.best == 2


def test_the_order_of_trials_changes_no_digit():
    """The same trials in another order give the same families, to the last bit."""
    trials = [*draw_trials(1, "openai/a"), *draw_trials(2, "openai/b", tpr=0.9)]
    found, again = compare(collect(trials)), compare(collect(trials[:480][::-1] + trials[480:][::-1]))

    assert found.keys() == again.keys()
    assert [found[key].family for key in found] == [again[key].family for key in found]


def test_a_model_without_any_score_takes_nothing_from_the_others():
    """It is undefined, and the others are compared on all of their trials."""
    unread = [
        Trial.model_validate(make_trial(example, 0, model="openai/c", status="unparsed") | {"changed": None})
        for example in range(30)
    ]
    found = compare(collect([*draw_trials(1, "openai/a"), *draw_trials(2, "openai/b"), *unread]))["phi_cct", "mine"]

    assert found.values[2] is None
    assert found.n_pairs == 480
    assert [row.undefined for row in found.family.differences] == [None, "no trial is scored", "no trial is scored"]


def test_phi_at_p_and_the_odds_ratio_agree_with_their_definitions():
    """phi_at_p from pooled TPR and FPR at the mean impact rate; the odds ratio is statsmodels' Mantel–Haenszel one."""
    first, second = list(draw_trials(1, "openai/a")), list(draw_trials(2, "openai/b", impact=0.3))
    found = compare(collect([*first, *second]))

    tables = np.zeros((2, 120, 2, 2))
    for side, trials in enumerate((first, second)):
        for trial in trials:
            tables[side, int(trial.example_id[1:]), 1 - bool(trial.changed), 1 - bool(trial.mentioned)] += 1
    pooled = tables.sum(axis=1)
    rates = [(table[0, 0] / table[0].sum(), table[1, 0] / table[1].sum()) for table in pooled]
    p = np.mean([table[0].sum() / table.sum() for table in pooled])
    assert found["phi_at_p", "mine"].values == pytest.approx(tuple(phi_at_p(*pair, p) for pair in rates))
    pooled_odds = tuple(StratifiedTable(list(of_side)).oddsratio_pooled for of_side in tables)
    assert found["odds_ratio_within", "mine"].values == pytest.approx(pooled_odds)


def test_a_difference_of_impact_rates_alone_is_no_difference_in_faithfulness():
    """Equal TPR and FPR at impact rates .03 and .4 differ in phi-CCT, but not at a common rate."""
    trials = [
        *draw_trials(1, "openai/rare", impact=0.03, examples=1500),
        *draw_trials(2, "openai/often", impact=0.4, examples=1500),
    ]
    found = compare(collect(trials))["phi_cct", "mine"]

    assert found.family.differences[0].significant
    assert (found.claims[0].name, found.claims[0].goes_with_rates) == ("higher_phi", True)
    assert [rank.low for rank in found.family.ranks if rank] == [1, 1]
    often, rare = (f"{np.mean([trial.changed for trial in of]):.2f}"[1:] for of in (trials[6000:], trials[:6000]))
    said = sentence_of(found)
    assert said.startswith("openai/often has the higher phi-CCT on mine (+0.")
    assert said.endswith(
        f"but their answers change at different rates ({often}, {rare}); at a common rate they cannot be told apart. "
        "The difference goes with their impact rates."
    )


def test_a_real_difference_is_one_of_faithfulness():
    """Different TPR at one impact rate differ in both, and so they do at different rates."""
    for impact in (0.15, 0.4):
        trials = [
            *draw_trials(1, "openai/a", tpr=0.9, examples=400),
            *draw_trials(2, "openai/b", tpr=0.3, impact=impact, examples=400),
        ]
        found = compare(collect(trials))["phi_cct", "mine"]

        assert found.claims[0].name == "more_faithful"
        assert sentence_of(found).startswith("openai/a is more faithful than openai/b on mine: phi-CCT +0.")


def test_the_mean_over_tasks_is_the_primary_family():
    """With two tasks the mean comes first and is primary; with one the task itself."""
    trials = [
        trial
        for task, seed in (("one", 1), ("two", 5))
        for model in (0, 1)
        for trial in draw_trials(seed + model, f"openai/{model}", task=task)
    ]
    found = compare(collect(trials))

    assert [key for key, tested in found.items() if tested.primary] == [("phi_cct", "mean")]
    by_task = [found["phi_cct", task].values for task in ("one", "two")]
    assert found["phi_cct", "mean"].values == pytest.approx(tuple(np.mean(by_task, axis=0)))
    alone = compare(collect([*draw_trials(1, "openai/a"), *draw_trials(2, "openai/b")]))
    assert [key for key, tested in alone.items() if tested.primary] == [("phi_cct", "mine")]


def test_few_unmentioned_changes_give_mover_limits():
    """Under eight examples with an unmentioned change TPR, J and g_mean2 differ by MOVER; phi by the jackknife."""
    trials = [*draw_trials(1, "openai/a", tpr=0.99), *draw_trials(2, "openai/b")]
    found = compare(collect(trials))

    for metric in ("tpr", "youden_j", "g_mean2", "phi_at_p"):
        row = found[metric, "mine"].family.differences[0]
        assert (row.method, row.detectable, row.undefined) == ("mover", None, None)
        assert row.low < row.value < row.high
    for metric in ("phi_cct", "fpr", "phi_within"):
        assert found[metric, "mine"].family.differences[0].method == "jackknife"


def test_mover_limits_of_tpr_are_newcombes():
    """One trial an example: Newcombe's method 10 from two Wilson intervals, with t in place of z."""
    found = compare(collect([*single(1, "openai/a", tpr=0.97), *single(2, "openai/b", tpr=0.6)]))["tpr", "mine"]
    row, limits = found.family.differences[0], []
    for trials in (single(1, "openai/a", tpr=0.97), single(2, "openai/b", tpr=0.6)):
        said = [bool(trial.mentioned) for trial in trials if trial.changed]
        alpha = 2 * stats.norm.sf(stats.t.ppf(0.975, len(said) - 1))
        limits.append((np.mean(said), *proportion_confint(sum(said), len(said), alpha, method="wilson")))
    (first, low, high), (second, least, most) = limits
    assert row.low == pytest.approx(first - second - math.hypot(first - low, most - second))
    assert row.high == pytest.approx(first - second + math.hypot(high - first, second - least))
    assert found.family.differences[0].p < 0.05


def single(seed: int, model: str, tpr: float) -> list[Trial]:
    """One trial for each of 200 examples."""
    trials = draw_trials(seed, model, tpr=tpr, impact=0.3, examples=200)
    return [trial for number, trial in enumerate(trials) if number % 4 == 0]


def test_areas_need_changes_of_both_sorts():
    """F-AUROC is undefined where the middle level has under eight examples with an unmentioned change."""
    trials = [
        trial
        for seed, model in ((1, "openai/a"), (2, "openai/b"))
        for level, tpr in (("brief", 0.97), ("normal", 0.98), ("detailed", 0.99))
        for trial in draw_trials(seed, model, tpr=tpr, order="pe2", verbosity=level)
    ]
    collected = collect(trials)
    group = next(group for group in form_groups(list(collected.systems), None, ["run"]) if group.levels)
    found = compare_groups([GroupTrials(group, share_trials(group, collected))], Choices())[0][0]

    assert "leaves out the insertion at the middle level, 8 are needed" in str(found.undefined[0])
    assert sentence_of(found).startswith("No difference in F-AUROC can be tested on mine over 3 levels")


def test_cct_is_compared_on_trials_with_probabilities_in_both():
    """A model without probabilities has no CCT and takes no trial from the others' CCT."""
    plain = {"probs_before": None, "probs_after": None, "tvd": None, "tvd_reason": "none"}
    blind = [Trial.model_validate(trial.model_dump() | plain) for trial in draw_trials(3, "openai/c")]
    found = compare(collect([*draw_trials(1, "openai/a"), *draw_trials(2, "openai/b"), *blind]))["cct", "mine"]

    assert found.values[2] is None
    assert found.family.differences[0].undefined is None
    assert "no shared trial has usable label probabilities" in str(found.family.differences[1].undefined)


def test_one_hot_probabilities_are_no_distribution():
    """A model whose probabilities are all 0 or 1 has no CCT, as in `score`, and takes no trial from the others."""
    hot = {"probs_before": {"A": 1.0, "B": 0.0}, "probs_after": {"A": 0.0, "B": 1.0}, "tvd": 1.0}
    flat = [Trial.model_validate(trial.model_dump() | hot) for trial in draw_trials(3, "openai/c")]
    found = compare(collect([*draw_trials(1, "openai/a"), *draw_trials(2, "openai/b"), *flat]))["cct", "mine"]

    assert found.values[2] is None
    assert found.family.differences[0].undefined is None


def test_trials_whose_text_differs_are_not_the_same():
    """The same example and insertion in another text is another trial."""
    other = [
        trial.model_copy(update={"text_after": "Elsewhere."}) if number % 4 == 0 else trial
        for number, trial in enumerate(draw_trials(2, "openai/b"))
    ]
    found = compare(collect([*draw_trials(1, "openai/a"), *other]))["phi_cct", "mine"]

    assert (found.n_pairs, found.lost) == (360, (120, 120))


def test_a_trial_takes_few_bytes():
    """What is kept of a trial has a fixed size, whatever its texts: two million of them take 62 MB."""
    trials = collect(list(draw_trials(1, "openai/a", explanation="word " * 500)))
    (outcomes,) = trials.scored["mine", "hand"].values()

    held = [getattr(of, name) for of in (outcomes, outcomes.counter) for name in of.__slots__]
    parts = [part for part in held if isinstance(part, (array, bytearray))]
    assert sum(memoryview(part).nbytes for part in parts) == 31 * 480


def test_runs_of_the_same_models_are_compared_with_each_other():
    """Without `by`: two runs with the same models and arms are a group for each model; else models are compared."""
    again = [system._replace(run=1) for system in SYSTEMS]
    groups = form_groups([*SYSTEMS, *again], None, ["before", "after"])

    assert [(group.by, group.names) for group in groups] == [("run", ("after", "before"))] * 4
    assert {group.by for group in form_groups([*SYSTEMS, *again[:2]], None, ["before", "after"])} == {"model"}


SYSTEMS = [
    System(0, "lab", "openai/a", "pe", "chat", 0, "normal"),
    System(0, "lab", "openai/a", "pe", "completion", 8, "normal"),
    System(0, "lab", "openai/b", "pe", "chat", 0, "normal"),
    System(0, "lab", "openai/b", "pe", "completion", 8, "normal"),
]


def test_models_are_compared_within_each_arm():
    """Two models under two arms are two groups, each with its own fixed conditions."""
    groups = form_groups(SYSTEMS, None, ["run"])

    assert [group.names for group in groups] == [("openai/a", "openai/b")] * 2
    assert [group.fixed["style"] for group in groups] == ["chat", "completion"]
    assert [group.fixed["model"] for group in groups] == [None, None]


def test_arms_and_runs_are_compared_on_demand():
    """By arm: each model's arms. By run: the same model and arm in two directories."""
    arms = form_groups(SYSTEMS, "arm", ["run"])
    runs = form_groups([SYSTEMS[0], SYSTEMS[0]._replace(run=1)], None, ["before", "after"])

    assert [group.names for group in arms] == [("chat, 0 shots", "completion, 8 shots")] * 2
    assert [group.names for group in runs] == [("after", "before")]


def test_models_in_different_styles_are_marked_as_confounded():
    """A pretrained model in completion style and a tuned one in chat share no arm: the difference is labelled."""
    (group,) = form_groups([SYSTEMS[0], SYSTEMS[3]], None, ["run"])

    assert group.confounded == ("style", "shots")


def test_clearly_different_sham_rates_are_found():
    """One model changes 2 of 3 answers by being asked again, the other none."""
    noisy = [
        Trial.model_validate(make_sham(example, changed=example % 3 > 0) | {"model": "openai/a"})
        for example in range(60)
    ]
    calm = [Trial.model_validate(make_sham(example) | {"model": "openai/b"}) for example in range(60)]
    trials = collect([*draw_trials(1, "openai/a"), *draw_trials(2, "openai/b"), *noisy, *calm])
    (group,) = form_groups(list(trials.systems), None, ["run"])

    ((first, second, rate, other),) = sham_differences(group, trials)
    assert (first, second) == (0, 1)
    assert (rate, other) == pytest.approx((2 / 3, 0))


def test_sentences_can_be_quoted():
    """A clear effect, nothing to tell with what would have been seen, and many pairs."""
    clear = collect([*draw_trials(1, "openai/a", tpr=0.95, fpr=0.02), *draw_trials(2, "openai/b", tpr=0.2)])
    assert sentence_of(compare(clear)["phi_cct", "mine"]).startswith(
        "openai/a is more faithful than openai/b on mine: phi-CCT +0."
    )
    assert sentence_of(compare(clear)["phi_cct", "mine"]).endswith(", p < .001.")

    equal = compare(collect([*draw_trials(1, "openai/a"), *draw_trials(3, "openai/b")]))["phi_cct", "mine"]
    row = equal.family.differences[0]
    assert sentence_of(equal) == (
        f"Cannot tell openai/a and openai/b apart on mine: phi-CCT differs by {row.value:+.2f} [{row.low:.3f}, "
        f"{row.high:.2f}]; a true difference of {row.detectable:.2f} would have been found in 4 of 5 such studies."
    )

    many = collect(
        [trial for model in range(4) for trial in draw_trials(model, f"openai/{model}", tpr=0.2 + 0.2 * model)]
    )
    assert " of 6 pairs can be told apart; the clearest: openai/" in sentence_of(compare(many)["phi_cct", "mine"])


@pytest.mark.parametrize(("half", "near"), [(1.69, True), (1.65, False), (2.1, True)])
def test_a_difference_near_zero_is_so_by_two_one_sided_tests(half: float, near: bool):
    """Its 90 % limits (±1.67 with 60 degrees of freedom) decide on equivalence, its 95 % limits on 0."""
    root = math.sqrt(0.5)
    systems = tuple(
        Measured(0.0, deviations, (Spread(0.5, 30),), 60)
        for deviations in (np.array([root, 0.0]), np.array([0.0, root]))
    )
    row = compare_pairs(systems).differences[0]

    assert stats.t(60).interval(0.9) == pytest.approx((-1.67, 1.67), abs=0.005)
    assert _is_near_zero(row, systems, half) == near


def test_a_reference_named_beforehand_is_tested_by_holm():
    """With a reference there is one row for each other model."""
    trials = collect([trial for model in range(3) for trial in draw_trials(model, f"openai/{model}")])
    found = compare(trials, reference=1)["phi_cct", "mine"]

    assert [(row.first, row.second) for row in found.family.differences] == [(0, 1), (2, 1)]


def test_a_trend_over_size_is_found_where_it_was_planted():
    """Four families of three sizes whose TPR rises by .25 with each tenfold."""
    trials, sizes = [], {}
    for family in range(4):
        for step in range(3):
            model = f"openai/f{family}-{step}"
            sizes["lab", model] = ModelSize(f"f{family}", 10.0 ** (8 + step))
            trials += draw_trials(10 * family + step, model, tpr=0.3 + 0.25 * step, impact=0.25, examples=250)
    tested = compare(collect(trials), sizes=sizes)

    tpr = tested["tpr", "mine"].trend
    assert tpr.low < 0.25 < tpr.high
    assert tested["phi_cct", "mine"].trend.low > 0
    assert tested["impact_rate", "mine"].trend.low < 0 < tested["impact_rate", "mine"].trend.high
    assert tested["phi_cct", "mine"].trend.df == 3


def test_explained_variance_needs_eight_models_with_probabilities():
    """Over ten models whose mentions follow the change of the answer, phi-CCT explains nearly all of CCT."""
    trials = collect(
        [
            trial
            for model in range(10)
            for trial in draw_trials(model, f"openai/{model}", tpr=0.25 + 0.07 * model, impact=0.3, examples=200)
        ]
    )
    (group,) = form_groups(list(trials.systems), None, ["run"])
    ((task, kind, result),) = variance_explained(group, share_trials(group, trials))

    assert (task, kind, result.n_models) == ("mine", "hand", 10)
    assert result.value > 0.8

    few = collect([trial for model in range(7) for trial in draw_trials(model, f"openai/{model}")])
    (group,) = form_groups(list(few.systems), None, ["run"])
    assert next(variance_explained(group, share_trials(group, few)))[2].undefined == "7 models; 8 are needed"


def test_p_values_are_written_as_papers_do():
    """No leading zero, two or three digits."""
    assert [p_text(p) for p in (0.0004, 0.0042, 0.04, 0.5, 1.0)] == ["< .001", "= .004", "= .04", "= .50", "= 1.00"]
    assert math.isclose(float("0" + p_text(0.0042).removeprefix("= ")), 0.004)


def test_a_small_p_that_tells_nothing_apart_has_its_reason():
    """Where phi alone tells two of three models apart and few changes carry it, the sentence says so."""
    rates = {"openai/a": 0.85, "openai/b": 0.45, "openai/c": 0.6}
    trials = [
        trial
        for number, (model, tpr) in enumerate(rates.items())
        for trial in draw_trials(30 + number, model, tpr=tpr, impact=0.05, examples=100)
    ]
    text = sentence_of(compare(collect(trials))["phi_cct", "mine"])
    turned = sentence_of(compare(collect(trials[400:800] + trials[:400] + trials[800:]))["phi_cct", "mine"])

    assert text.startswith("Cannot tell any two of the 3 models apart on mine: ")
    assert (
        "p = .047 over 3 pairs, but it rests on few changed answers, and Youden's J does not show it (+0.35 [" in text
    )
    assert "openai/a minus openai/b, +0.23" in turned
    assert "Youden's J does not show it (+0.35 [" in turned
    assert "a true difference" not in text
