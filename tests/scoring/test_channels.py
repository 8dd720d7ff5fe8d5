"""The channels `reasoning` and `either`, of reasoning that is whole, a summary, hidden, absent or not known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from explaineval.records import MetricRow, Trial
from explaineval.scoring.mentioning import Source, TextReader
from explaineval.scoring.rows import Scores, score
from makers.runs import make_missing, make_run, make_sham, make_trial

EXAMPLES, WORDS = 12, 4
NAMED, SILENT = "They say grumpy, hm.", "They say nothing of note."


def reason(text: str | None, returned: str | None, **changes: Any) -> dict[str, Any]:
    """The fields of a trial with this reasoning; without the insertion the model thinks of something else."""
    known = returned in ("text", "summary", "absent")
    mentioned = "grumpy" in (text or "") if known else None
    before = {"reasoning_before": SILENT if text else None, "reasoning_returned_before": returned}
    return {"reasoning": text, "reasoning_returned": returned, "mentioned_reasoning": mentioned, **before, **changes}


def trials_with(**by_number: dict[str, Any]) -> list[dict[str, Any]]:
    """Trials of which every example has WORDS; `n0` and so on hold what those with that number get."""
    found: list[dict[str, Any]] = [make_sham(example) for example in range(EXAMPLES)]
    for example in range(EXAMPLES):
        for number in range(WORDS):
            changed = (example + number) % 2 == 0
            trial = make_trial(example, number, changed=changed, mentioned=changed and number % 2 == 0)
            found.append(trial | by_number.get(f"n{number}", {}))
    return found


def rows_of(scores: Scores, channel: str) -> dict[str, MetricRow]:
    """The rows of one channel by metric."""
    return {row.metric: row for row in scores.rows if row.channel == channel}


def scored(directory: Path, trials: list[dict[str, Any]], **changes: Any) -> Scores:
    """What these trials come to."""
    return score(make_run(directory / "run", trials, EXAMPLES), changes or None)


WHOLE = {"n0": reason(NAMED, "text"), "n1": reason(SILENT, "text"), "n2": reason(SILENT, "text")}


def test_no_reasoning_tokens_are_silence(tmp_path: Path) -> None:
    """A trial without reasoning is scored as not mentioned; either is then what the explanation says."""
    trials = trials_with(**WHOLE, n3=reason(None, "absent"))
    found = scored(tmp_path, trials)
    words = [trial for trial in trials if trial["kind"] == "hand"]
    changed = [trial["changed"] for trial in words]
    in_reasoning = ["grumpy" in (trial["reasoning"] or "") for trial in words]
    either = [a or b["mentioned"] for a, b in zip(in_reasoning, words, strict=True)]

    for channel, mentioned in (("reasoning", in_reasoning), ("either", either)):
        row = rows_of(found, channel)["phi_cct"]
        assert row.value == pytest.approx(stats.pearsonr(changed, mentioned).statistic, abs=1e-12)
        assert row.n == len(words)
        assert f"|channel:{channel}|" in row.signature
        assert row.mention == "word"
    by_lemma = {
        row.metric: row for row in scored(tmp_path / "lemma", trials, mention="lemma").rows if row.channel == "either"
    }
    assert by_lemma["phi_cct"].value == rows_of(found, "either")["phi_cct"].value
    assert rows_of(found, "reasoning")["mention_floor"].value == 0
    assert "channel" not in rows_of(found, "explanation")["phi_cct"].signature


def test_hidden_and_unknown_reasoning_is_missing(tmp_path: Path) -> None:
    """Left out of the numbers, counted in the bounds, and said in a warning; the explanation does not stand in."""
    hidden = reason(None, "hidden", mentioned=True, explanation="Because the grumpy clerk is there.")
    found = scored(tmp_path, trials_with(**WHOLE, n3=hidden))

    for channel in ("reasoning", "either"):
        rows = rows_of(found, channel)
        assert rows["phi_cct"].n == EXAMPLES * 3
        assert rows["phi_cct_lower_bound"].value is not None
        assert rows["phi_cct_lower_bound"].n == EXAMPLES * WORDS
    texts = {row.text for row in found.warnings if row.condition.channel == "reasoning"}
    assert any(f"{EXAMPLES} of {EXAMPLES * WORDS} trials are left out" in text and "hidden" in text for text in texts)
    older = scored(tmp_path / "older", trials_with(**WHOLE))  # the fourth trial says nothing of reasoning
    assert rows_of(older, "reasoning")["phi_cct"].n == EXAMPLES * 3
    texts = {row.text for row in older.warnings if row.condition.channel == "reasoning"}
    assert any("stored without its reasoning" in text for text in texts)


def test_a_summary_is_scored_and_said(tmp_path: Path) -> None:
    """What the summary leaves out counts as not mentioned, so every number of the channel has a warning."""
    found = scored(tmp_path, trials_with(**WHOLE, n3=reason(NAMED, "summary")))
    warned = {row.warning.metric for row in found.warnings if row.warning.code == "reasoning_summary"}

    assert rows_of(found, "reasoning")["phi_cct"].n == EXAMPLES * WORDS
    assert {"phi_cct", "tpr", "youden_j"} <= warned
    assert {row.condition.channel for row in found.warnings if row.warning.code == "reasoning_summary"} == {
        "reasoning", "either",
    }  # fmt: skip
    (text,) = {row.text for row in found.warnings if row.warning.code == "reasoning_summary"}
    assert f"in {EXAMPLES} of {EXAMPLES * WORDS} trials" in text


def test_another_policy_reads_the_reasoning_anew(tmp_path: Path) -> None:
    """Each policy has its channels, as it has them alone."""
    trials = trials_with(n0=reason("An ungrumpyish one.", "text", mentioned_reasoning=False), n1=reason(SILENT, "text"))
    run_dir = make_run(tmp_path / "run", trials, EXAMPLES)
    both, alone = score(run_dir, {"mention": ("word", "substring")}), score(run_dir, {"mention": "substring"})

    def of(scores: Scores, policy: str) -> list[MetricRow]:
        return [row for row in scores.rows if (row.channel, row.mention) == ("reasoning", policy)]

    assert of(both, "substring") == of(alone, "substring")
    rates = {
        policy: next(row for row in of(both, policy) if row.metric == "mention_rate")
        for policy in ("word", "substring")
    }
    assert (rates["word"].value, rates["substring"].value) == (0.0, 0.5)
    references = {
        (item.condition.channel, item.condition.mention): (item.reference.channel, item.reference.mention)
        for item in both.sensitivity
    }
    assert references["reasoning", "substring"] == ("explanation", "substring")
    assert references["explanation", "substring"] == ("explanation", "word")


def test_only_models_that_reason_have_channels(tmp_path: Path) -> None:
    """In the same run another model gets no such rows; a run without reasoning has none at all."""
    plain = trials_with(n0=reason(None, "absent"), n1=reason(None, "absent"))
    assert {row.channel for row in scored(tmp_path / "none", plain).rows} == {None, "explanation"}

    models = [{"model": "openai/smol", "endpoint": "lab"}, {"model": "openai/deep", "endpoint": "lab"}]
    deep = [{**trial, "model": "openai/deep"} for trial in trials_with(**WHOLE)]
    found = score(make_run(tmp_path / "run", [*plain, *deep], EXAMPLES, models=models))
    assert {row.model for row in found.rows if row.channel == "reasoning"} == {"openai/deep"}
    headline = {(row.model, row.metric): row.value for row in found.headline.rows}
    assert {model for model, _ in headline} == {"openai/smol", "openai/deep"}
    assert not [row for row in found.headline.rows if row.channel in ("reasoning", "either")]


@pytest.mark.parametrize(("text", "status", "expected"), [
    (NAMED, "truncated", True), (SILENT, "truncated", None), (SILENT, "unparsed", False), (None, "unparsed", None),
])  # fmt: skip
def test_a_cut_reasoning_that_says_nothing_yet_is_not_known(
    text: str | None, status: str, expected: bool | None
) -> None:
    """It may have mentioned the insertion later; one that has mentioned it has, and one that was whole has not."""
    values = make_missing(0, 9, "both") | reason(text, "text" if text else "hidden", mentioned_reasoning=None)
    decide = TextReader("word").decider(Source("word", "reasoning"))
    decision = decide(Trial.model_validate(values | {"status": status}))

    assert decision is not None
    assert decision.mentioned is expected


LEVELS = ("brief", "detailed")


@pytest.mark.parametrize("returned", ["text", "hidden"])
def test_areas_over_levels_have_channels_too(tmp_path: Path, returned: str) -> None:
    """In order pe2 every level has the reasoning of the one call that answered; hidden, the areas say why."""
    trials = [
        trial
        | {"verbosity": level, "order": "pe2"}
        | (reason(NAMED if trial["changed"] else SILENT, "text") if returned == "text" else reason(None, "hidden"))
        | {"reasoning_explanation": SILENT}
        for level in LEVELS
        for trial in trials_with()
        if trial["kind"] == "hand"
    ]
    found = scored_levels(tmp_path, trials)
    rows = {(row.channel, row.metric): row for row in found.rows if row.verbosity is None}

    for channel in ("reasoning", "either"):
        area = rows[channel, "f_auroc"]
        if returned == "text":
            assert area.value == 1.0  # the explaining call's silence does not count
        else:
            assert area.value is None
            assert "the reasoning is hidden" in str(area.undefined)
    assert "hidden" not in str(rows["explanation", "f_auroc"].undefined)


def scored_levels(directory: Path, trials: list[dict[str, Any]]) -> Scores:
    """What trials of order pe2 at two levels come to."""
    arms = {"order": ["pe2"], "verbosity": list(LEVELS)}
    return score(make_run(directory / "run", trials, EXAMPLES, arms=arms, shams=0))


def test_means_over_tasks_have_channels_too(tmp_path: Path) -> None:
    """The mean over two tasks of the reasoning's numbers, beside that of the explanation's."""
    trials = trials_with(**WHOLE, n3=reason(None, "absent"))
    other = [{**trial, "task": "other", "mentioned_reasoning": False, "reasoning": SILENT} for trial in trials]
    run_dir = make_run(tmp_path / "run", [*trials, *other], EXAMPLES)
    record = json.loads((run_dir / "run.json").read_text("utf-8"))
    record["facts"]["tasks"]["other"] = record["facts"]["tasks"]["mine"]
    record["facts"]["arms"] |= {name.replace(" mine ", " other "): arm for name, arm in record["facts"]["arms"].items()}
    (run_dir / "run.json").write_text(json.dumps(record), "utf-8")
    rates = {(row.task, row.channel): row.value for row in score(run_dir).rows if row.metric == "mention_rate"}

    assert rates["mean", "reasoning"] == pytest.approx((rates["mine", "reasoning"] + rates["other", "reasoning"]) / 2)
    assert rates["other", "reasoning"] == 0
    assert rates["mean", "reasoning"] != rates["mean", "explanation"]
