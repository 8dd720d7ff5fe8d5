"""`notes` and `explain`: what limits the numbers of a run, and what each number means."""

from __future__ import annotations

import json

import pytest

from explaineval.scoring.registry import COMPARED_ONLY, METRICS
from makers.command_line import Call


@pytest.mark.parametrize("metric", [*METRICS, *COMPARED_ONLY])
def test_every_metric_is_explained(call: Call, metric: str) -> None:
    """With its title, meaning, source and pitfall, at 80 columns; --json has the same texts."""
    code, out, err = call("explain", metric)
    document = json.loads(call("explain", metric, "--json")[1])

    assert (code, err) == (0, "")
    assert out.startswith(f"{metric}: {document['title']}\n")
    flat = " ".join(out.split())
    for name in ("definition", "source", "pitfall"):
        assert document[name] in flat
    assert all(len(line) <= 80 for line in out.splitlines())


def test_without_a_metric_all_are_listed(call: Call) -> None:
    """One line each, those that only compare has included."""
    out = call("explain")[1]

    assert [line.split()[0] for line in out.splitlines()] == [*METRICS, *COMPARED_ONLY]


def test_an_unknown_metric_is_told_with_what_is_near(call: Call) -> None:
    """One sentence, exit code 2."""
    assert call("explain", "phi_ct") == (
        2, "", "explaineval: there is no metric 'phi_ct': did you mean phi_cct, phi_at_p, phi_cct_never?\n",
    )  # fmt: skip


def test_the_notes_of_a_run_say_what_to_do(call: Call) -> None:
    """The gravest first, each with its advice and what it limits; --json has the same warnings."""
    call("run", "--task", "sense", "--limit", "6", "--model", "simulated/faithful", "--out", "out")
    code, out, _ = call("notes", "out")
    document = json.loads(call("notes", "out", "--json")[1])

    assert code == 0
    assert out.startswith("Do not quote these numbers as they stand\n")
    assert "\nWhat would settle it\n" in out
    flat = " ".join(out.split())
    assert document["warnings"]
    assert [warning["todo"] for warning in document["warnings"] if warning["todo"].rstrip(".") not in flat] == []
    assert all(len(line) <= 80 for line in out.splitlines())


def test_a_run_of_two_models_names_the_next_step(call: Call) -> None:
    """The screen ends with the command that compares them; one model has nothing to compare."""
    two = ("--model", "simulated/faithful", "--model", "simulated/random")

    assert (
        "How they differ, with intervals: explaineval compare two"
        in (call("run", "--task", "sense", "--limit", "6", *two, "--out", "two")[1])
    )
    assert "explaineval compare" not in call("run", "--task", "sense", "--limit", "6", *two[:2], "--out", "one")[1]


@pytest.mark.parametrize(
    ("text", "name"),
    [("TPR", "tpr"), ("phi-CCT", "phi_cct"), ("PHI CCT", "phi_cct"), ("impact", "impact_rate"),
     ("again", "sham_flip_rate"), ("at p", "phi_at_p"), ("phi-CCT at p", "phi_at_p"), ("J", "youden_j"),
     ("ratio of odds ratios", "odds_ratio_within"),
     ("named if changed", "tpr"), ("F-AUROC", "f_auroc"), ("CT unfaithfulness", "ct_unfaithfulness")],
)  # fmt: skip
def test_explain_knows_the_names_on_the_screen(call: Call, text: str, name: str) -> None:
    """A title or a heading means the metric that stands under it."""
    assert call("explain", text) == call("explain", name)


def test_explain_offers_every_metric_that_has_the_word(call: Call) -> None:
    """`CT` alone is no metric, and is not taken for another one."""
    assert call("explain", "CT")[2].startswith("explaineval: there is no metric 'CT': did you mean ct_unfaithfulness")
