"""`score` with several policies, and what the other commands show of a run with more than one source of mentions."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import explaineval
from explaineval.rundir.directory import read_run, write_metrics
from explaineval.scoring.rows import score
from makers.command_line import Call
from makers.runs import make_run, make_sham, make_trial

COLUMNS = 100

EXAMPLES, WORDS = 30, 4
TEXTS = ("Because the grumpy clerk is there.", "Because of ungrumpyness.", "Because the clerk is there.")
TITLE = "Who decides what is mentioned, and where it is looked for:"


def trials_of(tasks: tuple[str, ...] = ("mine",), models: tuple[str, ...] = ("openai/smol",)) -> list[dict[str, Any]]:
    """Trials whose explanations hold the word, a longer word around it, or neither, with reasoning of their own."""
    generator = np.random.default_rng(4)
    found: list[dict[str, Any]] = []
    for task in tasks:
        for model in models:
            about = {"task": task, "model": model}
            for example in range(EXAMPLES):
                found.append(make_sham(example) | about)
                for number in range(WORDS):
                    changed = bool(generator.random() < 0.5)
                    text = str(generator.choice(TEXTS, p=[0.4, 0.3, 0.3] if changed else [0.1, 0.2, 0.7]))
                    thought = str(generator.choice(TEXTS, p=[0.8, 0, 0.2] if changed else [0.3, 0, 0.7]))
                    values = {
                        "explanation": text, "mentioned": text == TEXTS[0], "reasoning": thought,
                        "reasoning_before": TEXTS[2], "reasoning_returned": "text",
                        "reasoning_returned_before": "text", "mentioned_reasoning": thought == TEXTS[0],
                    }  # fmt: skip
                    found.append(make_trial(example, number, changed=changed) | values | about)
    return found


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A scored run of one model that reasons."""
    directory = make_run(tmp_path / "run", trials_of(), EXAMPLES)
    write_metrics(directory, score(directory).rows)
    return directory


def without_sources(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same trials without reasoning."""
    return [{name: value for name, value in trial.items() if "reasoning" not in name} for trial in trials]


def test_policies_and_channels_stand_beside_each_other(call: Call, run_dir: Path) -> None:
    """One line each, under the numbers of the run's own policy, which are as ever."""
    code, out, err = call("score", run_dir, "--mention", "substring", "--mention", "word")
    shown, _, table = out.partition(TITLE)
    lines = [line for line in table.splitlines() if "[" in line and "kappa" not in line and "interval" not in line]

    assert code == 0
    assert [line.split("  ")[1].strip() for line in lines] == [
        "word", "substring", "word, reasoning", "substring, reasoning", "word, either", "substring, either",
    ]  # fmt: skip
    assert "scored with mention=substring+word" in err
    assert shown.strip() == call("score", run_dir)[1].partition(TITLE)[0].strip()
    assert all(len(line) <= 100 for line in out.splitlines())
    document = json.loads(call("score", run_dir, "--mention", "substring", "--mention", "word", "--json")[1])
    kappa = next(item["kappa"]["value"] for item in document["sensitivity"] if item["mention"] == "substring")
    assert f"{kappa:.3f}" in lines[1]
    assert "mention:word" in document["signature"]


def test_the_variable_takes_several_policies(call: Call, run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Separated by commas."""
    monkeypatch.setenv("EXPLAINEVAL_MENTION", "lemma,substring")
    document = json.loads(call("score", run_dir, "--json")[1])

    assert [row["mention"] for row in document["metrics"] if row["metric"] == "phi_cct"] == [
        "lemma", "substring", "lemma", "substring", "lemma", "substring",
    ]  # fmt: skip


def test_a_narrow_terminal_gets_sentences(call: Call, run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every number of the table, in lines that fit."""
    monkeypatch.setenv("COLUMNS", "60")
    out = call("score", run_dir)[1].partition(TITLE.split(",")[0])[2]

    assert "word, reasoning: phi-CCT" in out
    assert all(len(line) <= 60 for line in out.splitlines())


def test_many_conditions_are_ranges(call: Call, tmp_path: Path) -> None:
    """More conditions than fit on a screen: one line for each source, with the range of its kappa."""
    models = tuple(f"openai/m{number}" for number in range(7))
    specs = [{"model": model, "endpoint": "lab"} for model in models]
    directory = make_run(tmp_path / "many", trials_of(models=models), EXAMPLES, models=specs)
    out = call("score", directory, "--mention", "word", "--mention", "substring")[1].partition(TITLE)[2]
    items = score(directory, {"mention": ("word", "substring")}).sensitivity
    kappas = [item.kappa.value or 0 for item in items if item.condition[-3:] == ("explanation", "substring", None)]

    assert len(kappas) == 7
    assert f"substring, 7 conditions: kappa {min(kappas):.2f} to {max(kappas):.2f} (7)" in " ".join(out.split())


def test_other_commands_show_the_headline(call: Call, run_dir: Path, tmp_path: Path) -> None:
    """The wide table, `compare` and the frames say the same of a run with and without reasoning."""
    plain = make_run(tmp_path / "plain", without_sources(trials_of()), EXAMPLES)
    write_metrics(plain, score(plain).rows)

    assert call("score", plain, "--table")[1].strip() in call("score", run_dir, "--table")[1]
    assert TITLE not in call("score", plain)[1]
    notes = call("notes", run_dir)[1]
    assert "mentions by word in the reasoning" in notes
    assert "mentions by" not in call("notes", plain)[1]
    documents = [json.loads(call("compare", a, b, "--json")[1]) for a, b in ((run_dir, plain), (plain, run_dir))]
    assert {row["difference"] for document in documents for row in document["rows"]} <= {0.0, None}
    frame = explaineval.load(run_dir).metrics
    headline = frame[frame["channel"].isin([None, "explanation"]) | frame["channel"].isna()]
    assert headline["value"].tolist() == pytest.approx(explaineval.load(plain).metrics["value"].tolist(), nan_ok=True)
    assert str(explaineval.load(run_dir).trials["mentioned_reasoning"].dtype) == "boolean"


def test_a_file_of_trials_takes_several_policies(call: Call, tmp_path: Path) -> None:
    """Where it holds texts; the first policy leads. Where mentions are given, none applies."""
    rows = [trial for trial in without_sources(trials_of()) if trial["kind"] == "hand"]
    names = ["example_id", "inserted", "explanation", "changed"]
    with (tmp_path / "trials.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows({**row, "intervention_id": f"{number}"} for number, row in enumerate(rows))
    several = json.loads(call("score", "trials.csv", "--mention", "substring", "--mention", "word", "--json")[1])
    alone = json.loads(call("score", "trials.csv", "--mention", "word", "--json")[1])

    def phis(document: dict[str, Any]) -> dict[str, float]:
        return {row["mention"]: row["value"] for row in document["metrics"] if row["metric"] == "phi_cct"}

    assert list(phis(several)) == ["substring", "word"]
    assert phis(several)["word"] == phis(alone)["word"] != phis(several)["substring"]
    assert len(several["sensitivity"]) == 1
    assert TITLE in call("score", "trials.csv", "--mention", "substring", "--mention", "word")[1]
    given = tmp_path / "given.csv"
    given.write_text("changed,mentioned\n1,1\n0,0\n", "utf-8")
    code, _, err = call("score", given, "--mention", "lemma", "--mention", "word")
    assert (code, "mention lemma does not apply" in err) == (2, True)


def test_python_takes_several_policies(run_dir: Path) -> None:
    """`explaineval.score` has their rows in the order of `--mention`, the run's own first."""
    frame = explaineval.score(run_dir, mention=("substring", "word"))
    phis = frame[(frame["metric"] == "phi_cct") & (frame["channel"] == "explanation")]

    assert phis["mention"].tolist() == ["word", "substring"]
    assert read_run(run_dir).config.mention == "word"
