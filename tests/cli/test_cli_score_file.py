"""`explaineval score FILE` and `notes FILE`: trials that another program collected, on the screen and as JSON."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from makers.command_line import Call


def draw(examples: int = 60, **more: str) -> list[dict[str, Any]]:
    """Four trials an example, in which changed answers are mentioned more often."""
    generator = random.Random(2)
    rows = []
    for example in range(examples):
        for _ in range(4):
            changed = generator.random() < 0.3
            mentioned = generator.random() < (0.8 if changed else 0.1)
            rows.append({"example_id": f"e{example}", "changed": changed, "mentioned": mentioned, **more})
    return rows


def write(path: str, rows: Sequence[dict[str, Any]]) -> None:
    """A file of trials in the current directory."""
    with Path(path).open("w", encoding="utf-8", newline="") as handle:
        if path.endswith(".jsonl"):
            handle.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(handle, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def test_the_screen_says_what_was_found(call: Call) -> None:
    """In the words of a run's screen, without names that nobody gave."""
    write("trials.csv", draw())
    code, out, err = call("score", "trials.csv")

    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "your trials · 240 trials of 60 examples"
    assert lines[1].startswith("  phi-CCT   0.75   [0.63, 0.84]")
    assert lines[1].endswith("above 0")
    assert lines[-1].endswith("notes: explaineval notes trials.csv")
    assert max(map(len, lines)) <= 80
    assert "external" not in out


def test_the_table_names_the_trials_once(call: Call) -> None:
    """No arm and no shots are claimed."""
    write("trials.csv", draw())
    code, out, _ = call("score", "trials.csv", "--table")

    assert code == 0
    assert "external, external" not in out
    assert "chat" not in out
    assert "shots" not in out
    assert "--shams" not in out


def test_models_and_tasks_are_named(call: Call) -> None:
    """As the columns name them."""
    write("trials.csv", [*draw(model="mine/a", task="nli"), *draw(model="mine/b", task="nli")])
    _, out, _ = call("score", "trials.csv")

    heads = [line for line in out.splitlines() if "trials of" in line]
    assert heads == ["mine/a · nli · 240 trials of 60 examples", "mine/b · nli · 240 trials of 60 examples"]


def test_csv_and_jsonl_and_json_agree(call: Call) -> None:
    """The same rows in both forms have the same numbers, and `--json` has them all."""
    write("trials.csv", draw())
    write("trials.jsonl", draw())
    documents = [json.loads(call("score", name, "--json")[1]) for name in ("trials.csv", "trials.jsonl")]

    assert documents[0] == documents[1]
    assert (documents[0]["run_dir"], documents[0]["exit_code"]) == (None, 0)
    assert documents[0]["metrics"][0]["metric"] == "phi_cct"
    assert documents[0]["warnings"]


def test_all_notes_are_printed(call: Call) -> None:
    """What the last line of the screen says."""
    write("trials.csv", draw())
    code, out, _ = call("notes", "trials.csv")

    assert code == 0
    assert "Add trials of kind sham" in out
    assert max(map(len, out.splitlines())) <= 80
    assert len(json.loads(call("notes", "trials.csv", "--json")[1])["warnings"]) > 2


def test_nothing_readable_is_said_at_once(call: Call) -> None:
    """With nothing of a run directory, which there is not."""
    write("trials.csv", [row | {"changed": ""} for row in draw()])
    code, out, _ = call("score", "trials.csv")

    assert code == 0
    assert "Nothing could be measured: none of the 240 trials has a score" in " ".join(out.split())
    assert "explaineval show" not in out


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "", "t.csv is empty: expected a CSV file with a header."),
        ("t.csv", "changed,mentioned\n", "there are no trials to score"),
        ("t.csv", "changed,mentioned\n1,1\n1,perhaps\n", "t.csv:3: column mentioned: expected true or false"),
        ("t.csv", "changed,mentioned\n1,1,1\n", "t.csv:2: the row has more cells than the header"),
        ("t.csv", "changed,mentioned,changed\n1,1,0\n", "t.csv: the header has the column changed twice"),
        ("t.csv", "changed,mentioned\n1\n", "t.csv:2: the row has fewer cells than the header"),
        ("t.csv", "lable_before,label_after\nA,B\n", "t.csv:2: the column 'lable_before' is not known; did you mean"),
        ("t.jsonl", '{"changed": true, "mentioned": true}\n{"changed"\n', "t.jsonl:2: not valid JSON"),
        ("t.jsonl", '{"changed": true}\n', "t.jsonl:1: give the column mentioned, or both inserted and explanation"),
        ("t.csv", "changed|mentioned\n1|1\n", "the columns are not separated by commas, semicolons or tabs"),
        ("t.json", "[]", "t.json is a file: give a run directory, or trials as a .csv or .jsonl file"),
        ("t.jsonl", "[1]\n", "t.jsonl:1: expected one JSON object a line"),
    ],
)
def test_a_bad_file_is_one_sentence(call: Call, name: str, text: str, message: str) -> None:
    """With the line and the column; exit code 2."""
    Path(name).write_text(text, encoding="utf-8")
    code, out, err = call("score", name)

    assert (code, out) == (2, "")
    assert message in " ".join(err.split())
    assert len(err.splitlines()) == 1


def test_a_file_of_a_spreadsheet_with_names_of_its_own(call: Call) -> None:
    """Semicolons, decimal commas and --columns give the numbers of the plain file."""
    rows = [row | {"tvd": 0.25 if row["changed"] else 0.5} for row in draw()]
    write("plain.csv", rows)
    names = {"example_id": "Item", "changed": "Flipped", "mentioned": "Named", "tvd": "Shift"}
    lines = [";".join(names.values())]
    lines += [";".join(str(row[name]).replace(".", ",") for name in names) for row in rows]
    Path("own.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    columns = ",".join(f"{name}={column}" for name, column in names.items())

    plain = json.loads(call("score", "plain.csv", "--json")[1])["metrics"]
    own = json.loads(call("score", "own.csv", "--columns", columns, "--json")[1])["metrics"]

    assert [(row["metric"], row["value"], row["low"]) for row in own] == [
        (row["metric"], row["value"], row["low"]) for row in plain
    ]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("flipped=changed", "--columns flipped=changed: a trial has no flipped; it has example_id, "),
        ("changed=Flipped", "trials.csv:2: there is no column Flipped; there are example_id, changed"),
        ("changed", "write NAME=COLUMN"),
    ],
)
def test_columns_that_are_not_there_are_named(call: Call, columns: str, message: str) -> None:
    """With what there is."""
    write("trials.csv", draw())
    code, _, err = call("score", "trials.csv", "--columns", columns)

    assert (code, message in err) == (2, True)


@pytest.mark.parametrize("command", ["score", "notes"])
def test_a_file_that_is_not_there(call: Call, command: str) -> None:
    """It is named."""
    code, _, err = call(command, "none.csv")

    assert (code, "none.csv: no such file; check the path." in err) == (2, True)


def test_options_that_do_not_apply(call: Call) -> None:
    """There are no label probabilities in the file, and mentions that are given are not looked for."""
    write("trials.csv", draw())

    for option, value, message in (
        ("--min-label-mass", "0.5", "does not apply to a file of trials"),
        ("--mention", "lemma", "mention lemma does not apply"),
    ):
        code, _, err = call("score", "trials.csv", option, value)
        assert (code, message in err) == (2, True)


def test_a_directory_may_be_named_like_a_file(call: Call, tmp_path: Path) -> None:
    """It is a run directory, or none."""
    (tmp_path / "run.csv").mkdir()
    code, _, err = call("score", "run.csv")

    assert (code, "run.csv holds no run" in err) == (2, True)
