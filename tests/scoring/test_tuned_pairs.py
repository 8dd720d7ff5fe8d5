"""Instruction-tuned models against their pretrained siblings, from trials to the sentence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from explaineval.records import Trial
from explaineval.reporting.comparison_text import pair_sentence, trend_of, tuning_sentences
from explaineval.reporting.comparison_view import tuning_document
from explaineval.scoring.comparisons import Choices, GroupTrials, ModelSize, compare_groups, form_groups, share_trials
from explaineval.scoring.comparisons.groups import TuningResult, compare_tuned, tuned_pairs
from explaineval.scoring.mentioning import TextReader
from explaineval.scoring.shared import Trials
from makers.runs import make_trial

LEVELS = {"brief": 0.05, "normal": 0.15, "detailed": 0.3}
"""FPR by level."""

SIZES = {
    ("lab", f"openai/{family}-{tuned}"): ModelSize(family, 7e9, tuned)
    for family in ("ash", "elm", "oak")
    for tuned in ("base", "instruct")
}


def swept(seed: int, model: str, higher: float = 0.0, *, examples: int = 150, **changes: Any) -> Iterator[Trial]:
    """Trials of one model that is asked once and explains at three levels; `higher` is added to TPR .35, .5, .65."""
    generator = np.random.default_rng(seed)
    flips = generator.random((examples, 4)) < 0.35
    ready = generator.random(flips.shape)
    for (level, fpr), tpr in zip(LEVELS.items(), (0.35, 0.5, 0.65), strict=True):
        for (example, number), flip in np.ndenumerate(flips):
            said = bool(ready[example, number] < (tpr + higher if flip else fpr))
            values = {"model": model, "changed": bool(flip), "mentioned": said, "order": "pe2", "verbosity": level}
            yield Trial.model_validate(make_trial(example, number, **values | changes))


def compared(*trials: Iterator[Trial]) -> list[TuningResult]:
    """What the trials of one run say."""
    found = Trials()
    found.add(0, [trial for one in trials for trial in one], "word", TextReader("word"))
    (group,) = [group for group in form_groups(list(found.systems), None, ["run"]) if group.levels]
    return list(compare_tuned(group, found, SIZES))


def test_a_tuned_model_that_names_more_at_every_level_dominates() -> None:
    """Above by .3 everywhere; the sentence names both, and the document has every level."""
    (result,) = compared(swept(1, "openai/ash-base"), swept(2, "openai/ash-instruct", 0.3))
    (pair,) = result.pairs
    document = tuning_document(result)["pairs"][0]

    assert pair.dominance.claim == "first_dominates"
    assert pair_sentence(result, pair).startswith("ash-instruct dominates ash-base on mine over 3 levels of verbosity")
    assert (document["tuned"], document["pretrained"]) == ("openai/ash-instruct", "openai/ash-base")
    assert (document["claim"], [level["verbosity"] for level in document["levels"]]) == (
        "tuned_dominates",
        list(LEVELS),
    )
    assert document["f_auroc_low"] > 0
    assert document["n_pairs"] == 600


def test_the_order_of_the_models_changes_nothing() -> None:
    """A pair is tuned minus pretrained, whichever answered first."""
    both = [compared(*(swept(seed, f"openai/ash-{name}") for seed, name in order))
            for order in (((1, "base"), (2, "instruct")), ((2, "instruct"), (1, "base")))]  # fmt: skip

    documents = [tuning_document(results[0]) for results in both]
    assert documents[0] == documents[1]
    assert documents[0]["pairs"][0]["claim"] == "neither_shown"
    assert "no trade-off is shown" in documents[0]["sentences"][0]


def test_a_trade_off_is_named_with_its_levels() -> None:
    """Higher at brief, lower at detailed."""
    generator_of = swept(1, "openai/ash-base")
    tuned = [trial for trial in swept(2, "openai/ash-instruct", 0.25) if trial.verbosity == "brief"]
    tuned += [trial for trial in swept(2, "openai/ash-instruct", -0.25) if trial.verbosity == "detailed"]
    tuned += [trial for trial in swept(2, "openai/ash-instruct") if trial.verbosity == "normal"]
    (result,) = compared(generator_of, iter(tuned))

    assert result.pairs[0].dominance.claim == "trade_off"
    text = pair_sentence(result, result.pairs[0])
    assert "above at the pretrained level brief" in text
    assert "below at the pretrained level detailed" in text


def test_pairs_share_family_size_style_and_shots() -> None:
    """A sibling in another style, of another size or of unknown tuning is none."""
    found = Trials()
    models = [swept(seed, name, examples=4) for seed, name in enumerate(("openai/ash-base", "openai/ash-instruct"))]
    models.append(swept(3, "openai/elm-instruct", examples=4, style="completion"))
    found.add(0, [trial for one in models for trial in one], "word", TextReader("word"))
    (group,) = [group for group in form_groups(list(found.systems), None, ["run"]) if group.levels]
    smaller = {**SIZES, ("lab", "openai/ash-base"): ModelSize("ash", 1e9, "base")}
    unknown = {**SIZES, ("lab", "openai/ash-base"): ModelSize("ash", 7e9)}

    assert tuned_pairs(group, SIZES) == [(1, 0)]
    assert tuned_pairs(group, smaller) == tuned_pairs(group, unknown) == []


def test_several_pairs_have_a_mean_difference() -> None:
    """Three pairs: the mean of their differences of F-AUROC, adjusted claims, one sentence each."""
    trials = []
    for seed, family in enumerate(("ash", "elm", "oak")):
        trials += [swept(2 * seed, f"openai/{family}-base"), swept(2 * seed + 1, f"openai/{family}-instruct", 0.2)]
    (result,) = compared(*trials)
    *pairs, mean = tuning_sentences(result)

    assert len(pairs) == len(result.pairs) == 3
    assert result.mean is not None
    values = [pair.f_auroc.value for pair in result.pairs]
    assert result.mean.value == pytest.approx(np.mean(values))
    assert mean.startswith("Over 3 pairs F-AUROC of the instruction-tuned model minus the pretrained one's is +0.")


def test_the_trend_of_phi_is_told_with_those_of_the_impact_rate_and_of_phi_at_a_common_rate() -> None:
    """All three in one sentence and over the same models: those of which phi is defined."""
    trials, sizes = [], {}
    for family in range(3):
        for step in range(3):
            name = f"openai/f{family}-{step}"
            sizes["lab", name] = ModelSize(f"f{family}", 10.0 ** (8 + step))
            rate = 0.0 if (family, step) == (0, 2) else 1.0  # this one never mentions: phi is undefined
            generator = np.random.default_rng(10 * family + step)
            for example in range(80):
                for number in range(4):
                    changed = bool(generator.random() < 0.1 + 0.1 * step)
                    said = bool(generator.random() < rate * (0.3 + 0.3 * changed))
                    trials.append(
                        Trial.model_validate(make_trial(example, number, model=name, changed=changed, mentioned=said))
                    )
    found = Trials()
    found.add(0, trials, "word", TextReader("word"))
    (group,) = form_groups(list(found.systems), None, ["run"])
    (compared,) = compare_groups([GroupTrials(group, share_trials(group, found))], Choices(sizes=sizes))
    families = {one.metric: one for one in compared}
    text = trend_of(families["phi_cct"])

    assert text is not None
    first = text.split(". For these very families")[0]
    for title in ("phi-CCT on mine changes by", "the impact rate by +0.1", "phi-CCT at a common impact rate by"):
        assert title in first
    beside = families["phi_cct"].trends_beside
    assert set(beside) == {"impact_rate", "phi_at_p"}
    # without the model that has no phi, family f0 rests on two sizes, also for the impact rate
    changes = {s: np.mean([t.changed for t in trials if t.model == f"openai/f0-{s}"]) for s in (0, 1)}
    assert beside["impact_rate"].slopes["f0"] == pytest.approx(changes[1] - changes[0])


def test_models_without_a_tested_sibling_are_named_with_the_reason() -> None:
    """No sibling asked, asked in another style, no shared trial; nothing is said where only one tuning was asked."""
    (alone,) = compared(swept(1, "openai/ash-base"), swept(2, "openai/ash-instruct"), swept(3, "openai/elm-instruct"))
    results = compared(
        swept(1, "openai/ash-base"), swept(2, "openai/elm-instruct"), swept(3, "openai/elm-base", style="completion")
    )
    apart = compared(
        swept(1, "openai/ash-base", examples=40),
        swept(2, "openai/oak-base", examples=40),
        (one.model_copy(update={"example_id": f"x{one.example_id}"})
         for one in swept(3, "openai/ash-instruct", examples=40)),
    )  # fmt: skip

    assert list(tuning_sentences(alone))[-1] == (
        "Tuned against pretrained on mine over 3 levels of verbosity: not tested for elm-instruct (no pretrained model "
        "of its family and size was asked)."
    )
    assert tuning_document(alone)["not_tested"] == [
        {"model": "openai/elm-instruct", "reason": "no pretrained model of its family and size was asked"}
    ]
    (text,) = tuning_sentences(results[0])
    assert "ash-base (no instruction-tuned model of its family and size was asked)" in text
    assert "elm-instruct (openai/elm-base was not asked in the same way)" in text
    (text,) = tuning_sentences(apart[0])
    assert "ash-base (it shares no trial with openai/ash-instruct that both explained at every level)" in text
    assert compared(swept(1, "openai/ash-instruct"), swept(2, "openai/elm-instruct")) == []
