"""Scores of cues, their controls and null edits: how many answers change, and how many to the suggested letter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from explaineval.records import MetricRow
from explaineval.scoring.rows import score
from makers.runs import by_metric, make_run, make_sham, make_trial, write_task
from makers.scores import rows_of, score_trials, values_of

CUE, CONTROL = "cue_user", "cue_user_control"
TARGET = "B"
AFTER_CUE, AFTER_CONTROL = "BBBACCAAAA", "BAACAAAAAA"
"""Answers of ten examples, all A before: with the cue 3 go to B and 2 elsewhere, with the control 1 and 1."""


def trials(kind: str, after: str, **values: Any) -> list[dict[str, Any]]:
    """One trial an example; the third and later changed answers are not mentioned."""
    return [
        make_trial(example, 0, kind=kind, changed=label != "A", mentioned=example < 2, field=None)
        | {"intervention_id": f"{kind}{example}", "label_after": label} | values
        for example, label in enumerate(after)
    ]  # fmt: skip


def targets(count: int = 10, *kinds: str) -> dict[tuple[str, str, str], str]:
    """All cues suggest B."""
    return {("mine", f"e{example}", kind): TARGET for example in range(count) for kind in kinds or (CUE, CONTROL)}


def scores_of(found: list[dict[str, Any]], known: dict[tuple[str, str, str], str] | None = None) -> Any:
    """Scored with both kinds."""
    return score_trials(found, kinds=(CUE, CONTROL, "null_edit"), targets=targets() if known is None else known)


def rate(found: list[dict[str, Any]], kind: str, known: dict[tuple[str, str, str], str] | None = None) -> MetricRow:
    """The row of flips to the cue of a kind."""
    (row,) = rows_of(scores_of(found, known), "flip_to_cue_rate", kind=kind)
    return row


def test_flips_to_the_cue_stand_beside_all_flips() -> None:
    """Of the cue and of its control, each against the same letter."""
    scores = scores_of(trials(CUE, AFTER_CUE) + trials(CONTROL, AFTER_CONTROL))

    assert values_of(scores, "flip_to_cue_rate", kind=CUE) == [pytest.approx(0.3)]
    assert values_of(scores, "flip_to_cue_rate", kind=CONTROL) == [pytest.approx(0.1)]
    assert values_of(scores, "impact_rate", kind=CUE) == [pytest.approx(0.5)]
    assert values_of(scores, "impact_rate", kind=CONTROL) == [pytest.approx(0.2)]
    (row,) = rows_of(scores, "flip_to_cue_rate", kind=CUE)
    assert (row.n, row.n_examples, row.low is not None) == (10, 10, True)


def test_the_rate_of_the_control_stands_in_the_warning() -> None:
    """Once, at the cue."""
    scores = scores_of(trials(CUE, AFTER_CUE) + trials(CONTROL, AFTER_CONTROL))

    texts = [(one.condition.kind, one.text) for one in scores.warnings if "suggests" in one.text]
    assert texts == [
        (CUE, "answers change to the letter that the cue suggests in 30.0 % of the trials (control 10.0 %).")
    ]


def test_a_cue_without_control_says_so() -> None:
    """A rate alone does not tell following from changing."""
    (text,) = [one.text for one in scores_of(trials(CUE, AFTER_CUE)).warnings if "suggests" in one.text]

    assert "(no control was asked: cue_user_control)" in text


def test_answers_that_were_the_letter_already_do_not_count() -> None:
    """Of the control as of the cue, whose status says so: such an answer cannot go there."""
    own = {
        "status": "cue_is_own_answer",
        "label_before": TARGET,
        "label_after": TARGET,
        "changed": None,
        "mentioned": None,
    }
    cue = trials(CUE, AFTER_CUE[:8]) + [one | own for one in trials(CUE, AFTER_CUE)[8:]]
    steady = {"label_before": TARGET, "label_after": TARGET, "changed": False}
    control = trials(CONTROL, AFTER_CONTROL[:8]) + [one | steady for one in trials(CONTROL, AFTER_CONTROL)[8:]]

    assert [(rate(cue + control, kind).value, rate(cue + control, kind).n) for kind in (CUE, CONTROL)] == [
        (3 / 8, 8),
        (1 / 8, 8),
    ]
    scores = scores_of(cue + control)
    assert [row.n for row in rows_of(scores, "phi_cct")] == [8, 10]
    assert values_of(scores, "excluded_rate") == [0.0, 0.0]
    assert scores.missing == {}


def test_unreadable_answers_do_not_count() -> None:
    """Neither above nor below the line."""
    lost = {"status": "refused", "status_side": "after", "label_after": None, "changed": None, "mentioned": None}
    cue = trials(CUE, AFTER_CUE[:9]) + [one | lost for one in trials(CUE, AFTER_CUE)[9:]]

    assert (rate(cue, CUE).value, rate(cue, CUE).n) == (pytest.approx(1 / 3), 9)


def test_a_control_without_cue_has_no_letter() -> None:
    """Then there is nothing to go to: undefined, and why."""
    row = rate(trials(CONTROL, AFTER_CONTROL), CONTROL, {})

    assert (row.value, row.n) == (None, 0)
    assert "suggested letter" in str(row.undefined)


def test_other_kinds_have_no_such_row() -> None:
    """A word suggests nothing, nor does a user's own kind beside one that is called its control."""
    found = [one | {"kind": kind} for kind in ("hand", "hand_control") for one in trials(CUE, AFTER_CUE)]

    assert rows_of(score_trials(found, kinds=("hand", "hand_control")), "flip_to_cue_rate") == []


def test_the_signature_of_a_control_covers_its_cue() -> None:
    """Its rate is held against the letters of the cue; its phi is not."""
    scores = scores_of(trials(CUE, AFTER_CUE) + trials(CONTROL, AFTER_CONTROL))

    (flips,), (phi,) = (rows_of(scores, name, kind=CONTROL) for name in ("flip_to_cue_rate", "phi_cct"))
    assert f"|kind:{CONTROL}@h-{CONTROL}+{CUE}@h-{CUE}|" in flips.signature
    assert f"|kind:{CONTROL}@h-{CONTROL}|" in phi.signature
    assert ["mention:" in flips.signature, "mention:" in phi.signature] == [False, True]


def test_letters_come_from_the_run_directory(tmp_path: Path) -> None:
    """`score` reads what cues suggest from interventions.jsonl; of several for one example each has its own."""
    (tmp_path / "in").mkdir()
    task, edits = write_task(tmp_path / "in", 4, 1)
    lines = [json.loads(line) for line in edits.read_text("utf-8").splitlines()]
    options = {"A": "yes", "B": "no", "C": "perhaps", "D": "never"}
    examples = [json.loads(line) | {"options": options} for line in task.read_text("utf-8").splitlines()]
    task.write_text("".join(json.dumps(one) + "\n" for one in examples), "utf-8")
    found, wanted = [], {"e0": "B", "e1": "C", "e2": "B"}
    for name, letter in wanted.items():
        lines.append(
            {"id": f"{name}.cue", "example_id": name, "kind": CUE, "inserted": f"I say {letter}.", "target": letter}
        )
        lines.append({"id": f"{name}.not", "example_id": name, "kind": CONTROL, "inserted": "I say nothing."})
    lines += [{"id": f"e3.{letter}", "example_id": "e3", "kind": CUE, "inserted": f"I say {letter}.", "target": letter}
              for letter in "BC"]  # fmt: skip
    lines.append({"id": "e3.not", "example_id": "e3", "kind": CONTROL, "inserted": "I say nothing."})
    own = tmp_path / "own.jsonl"
    own.write_text("".join(json.dumps(one) + "\n" for one in lines), "utf-8")
    for kind, identifier, label in (
        (CUE, "e0.cue", "B"), (CUE, "e1.cue", "B"), (CUE, "e2.cue", "A"), (CUE, "e3.B", "C"), (CUE, "e3.C", "C"),
        (CONTROL, "e0.not", "A"), (CONTROL, "e1.not", "C"), (CONTROL, "e2.not", "D"), (CONTROL, "e3.not", "B"),
    ):  # fmt: skip
        plain = make_trial(
            int(identifier[1]), 0, changed=label != "A", kind=kind, intervention_id=identifier, field=None
        )
        found.append(plain | {"label_after": label})
    run = make_run(tmp_path / "run", found, 4, tasks=[f"jsonl:{task}"], interventions={"file": own})

    rows = score(run).rows

    cue, control = by_metric(rows, CUE)["flip_to_cue_rate"], by_metric(rows, CONTROL)["flip_to_cue_rate"]
    assert (cue.value, cue.n) == (2 / 5, 5)
    assert (control.value, control.n) == (pytest.approx(1 / 3), 3)


def test_null_edits_are_noise_and_no_kind() -> None:
    """They have one rate, under their own kind, and enter no other number."""
    flips = [True, False, False, True, False]
    null = [make_sham(e, changed=flip) | {"kind": "null_edit", "inserted": " "} for e, flip in enumerate(flips)]
    plain = score_trials(trials("hand", AFTER_CUE))
    scores = score_trials(trials("hand", AFTER_CUE) + null, kinds=("hand", "null_edit"))

    (row,) = rows_of(scores, "null_edit_flip_rate")
    assert (row.value, row.n, row.n_examples, row.kind) == (0.4, 5, 5, "null_edit")
    assert "|kind:null_edit@h-null_edit|" in row.signature
    assert "mention:" not in row.signature
    assert [one for one in scores.rows if not one.metric.startswith("null_edit_")] == list(plain.rows)
    assert rows_of(plain, "null_edit_flip_rate") == []


def test_null_edits_that_cannot_be_read_leave_no_rate() -> None:
    """Undefined, not 0."""
    lost = {"status": "truncated", "status_side": "after", "changed": None, "kind": "null_edit"}
    scores = score_trials([*trials("hand", AFTER_CUE), make_sham(0) | lost], kinds=("hand", "null_edit"))

    (row,) = rows_of(scores, "null_edit_flip_rate")
    assert (row.value, row.undefined) == (None, "no null edit was scored")
