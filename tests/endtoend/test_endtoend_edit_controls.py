"""A run with doubled words, which nothing can mention, and words of no language: numbers, screens, exports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from explaineval.datasets import load_tasks, parse_specs
from makers.command_line import Call

EXAMPLES = 30
REASON = "the doubled word is in the text anyway, so naming it proves nothing"


@pytest.fixture
def metrics(call: Call) -> dict[str, dict[str, Any]]:
    """Run with first words doubled and a word of no language in front of them; rows by kind and metric."""
    (task,) = load_tasks(parse_specs(("sense",), {}), shots=0, limit=EXAMPLES)
    lines = []
    for example in task.examples:
        text = example.fields["sentence1"]
        for kind, word in (("duplicate_word", text.split()[0]), ("random_nonword", "kukeriz")):
            lines.append({"example_id": example.id, "kind": kind, "field": "sentence1", "offset": 0, "inserted": word})
    Path("edits.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    Path("law.yaml").write_text("eager: {impact: 0.5, tpr: 0.9, fpr: 0.5}\n", "utf-8")
    model = ("--model", "simulated/law.yaml#eager", "--model", "simulated/faithful")
    code, _, err = call(
        "run", "--task", "sense", "--limit", str(EXAMPLES), *model, "--interventions", "edits.jsonl",
        "--verbosity", "brief", "--verbosity", "normal", "--order", "pe2", "--out", "out",
    )  # fmt: skip
    assert code == 0, err
    rows = json.loads(Path("out/metrics.json").read_text("utf-8"))
    return {f"{row['model']} {row['kind']} {row['verbosity']} {row['metric']}": row for row in rows}


def test_a_doubled_word_has_impact_and_no_mention(call: Call, metrics: dict[str, dict[str, Any]]) -> None:
    """Impact and TVD are those of the trials; every number that rests on mentions is undefined, with the reason."""
    trials = [json.loads(line) for line in Path("out/trials.jsonl").read_text("utf-8").splitlines()]
    own = [one for one in trials if one["kind"] == "duplicate_word" and one["model"].startswith("simulated/law")]
    own = [one for one in own if one["verbosity"] == "normal"]
    rows = {key.split()[-1]: row for key, row in metrics.items() if "eager duplicate_word normal" in key}

    assert [one["mentioned"] for one in own] == EXAMPLES * [None]
    assert {one["status"] for one in own} == {"ok"}
    changed = [one["changed"] for one in own]
    assert 0 < sum(changed) < EXAMPLES
    assert rows["impact_rate"]["value"] == pytest.approx(sum(changed) / EXAMPLES)
    assert rows["mean_tvd"]["value"] == pytest.approx(sum(one["tvd"] for one in own) / EXAMPLES)
    assert rows["excluded_rate"]["value"] == 0
    for name in ("phi_cct", "tpr", "fpr", "mention_rate", "mention_floor", "cct", "phi_cct_random"):
        assert (rows[name]["value"], rows[name]["undefined"], rows[name]["n"]) == (None, REASON, EXAMPLES)
    over_levels = next(row for key, row in metrics.items() if key.endswith("eager duplicate_word None f_auroc"))
    assert over_levels["undefined"] == REASON


def test_a_word_of_no_language_is_scored_like_any_word(metrics: dict[str, dict[str, Any]]) -> None:
    """Mentions are found by the run's policy."""
    row = next(row for key, row in metrics.items() if key.endswith("eager random_nonword normal mention_rate"))

    assert 0 < row["value"] < 1
    assert row["mention"] == "word"


@pytest.mark.usefixtures("metrics")
def test_screens_and_exports_cope(call: Call) -> None:
    """No number of mentions is warned of where there is none, and every other source of mentions has nothing to say."""
    code, screen, _ = call("score", "out", "--mention", "word", "--mention", "lemma")
    assert code == 0
    assert REASON in " ".join(screen.split())
    code, text, _ = call("compare", "out", "--json")
    assert code == 0
    compared = {row["metric"]: row for row in json.loads(text)["rows"] if row["kind"] == "duplicate_word"}
    assert (compared["tpr"]["value_a"], compared["tpr"]["primary"]) == (None, False)
    assert REASON in compared["phi_cct"]["undefined"]
    assert compared["impact_rate"]["difference"] is not None
    code, shown, _ = call("show", "out", "--example", "sense-001")
    assert f"nothing to decide ({REASON})" in " ".join(shown.split())
    warnings = json.loads(call("notes", "out", "--json")[1])["warnings"]
    unmentioned = {"impact_rate", "mean_tvd", "excluded_rate", "explanation_words"}
    assert {row["metric"] for row in warnings if row["row"]["kind"] == "duplicate_word"} <= unmentioned
    for command in (("report", "out", "--out", "page.html"), ("export", "out", "--out", "rows.csv")):
        assert call(*command)[0] == 0
    assert "duplicate_word" in Path("rows.csv").read_text("utf-8")
