"""CSV files of one's own: which column holds what, and one sentence for everything that does not fit."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from explaineval.cli.app import main
from explaineval.config import Columns, RunConfig, build, columns_of, read_columns
from explaineval.datasets import Task, load_tasks, parse_specs
from explaineval.errors import InputError

NLI = """ID,Text,Claim,Label,Why
r1,"A man naps, on a couch.",A man sleeps.,Entailment,Napping is sleeping.
r2,A dog runs.,A cat sits.,c,
r3,A girl reads.,She is happy.,neutral,
r4,A girl reads.,She is sad.,maybe,
"""
NLI_COLUMNS = {"id": "ID", "premise": "Text", "hypothesis": "Claim", "gold": "Label", "explanation": "Why"}
REVIEWS = """text,good,bad,label
It broke.,positive,negative,negative
It works.,positive,negative,A
"""
REVIEW_COLUMNS = {"review": "text", "A": "good", "B": "bad", "gold": "label"}


def load(path: Path, content: str, columns: dict[str, str]) -> Task:
    """Write a CSV file and load it as a task without shots."""
    path.write_text(content, encoding="utf-8")
    return load_tasks(parse_specs([f"csv:{path}"], columns), shots=0)[0]


def test_columns_become_an_example(tmp_path: Path) -> None:
    """Each named column lands where its name says; the options are those that go with premise and hypothesis."""
    task = load(tmp_path / "mine.csv", NLI, NLI_COLUMNS)
    first = task.examples[0]

    assert (task.name, task.shape, first.id) == ("mine", "nli", "r1")
    assert first.fields == {"premise": "A man naps, on a couch.", "hypothesis": "A man sleeps."}
    assert first.options == {"A": "entailment", "B": "neutral", "C": "contradiction"}
    assert [example.explanation for example in task.examples] == ["Napping is sleeping.", None, None, None]


def test_gold_is_a_letter_or_a_text(tmp_path: Path) -> None:
    """Capitals do not matter; what is neither is kept beside the example, for a note."""
    task = load(tmp_path / "mine.csv", NLI, NLI_COLUMNS)

    assert [example.gold for example in task.examples] == ["A", "C", "B", None]
    assert task.unknown_gold == {"r4": "maybe"}


def test_options_have_columns(tmp_path: Path) -> None:
    """A letter's column holds the text of that option in each row; without a column for ids the row is the id."""
    task = load(tmp_path / "reviews.csv", REVIEWS, REVIEW_COLUMNS)

    assert [example.id for example in task.examples] == ["1", "2"]
    assert [example.gold for example in task.examples] == ["B", "A"]
    assert task.examples[0].options == {"A": "positive", "B": "negative"}
    assert (task.shape, task.examples[0].fields) == (None, {"review": "It broke."})


def test_a_gold_label_that_fits_two_options_is_none(tmp_path: Path) -> None:
    """The letter of one option is the text of another: nothing is guessed."""
    task = load(tmp_path / "odd.csv", "q,x,y,g\nWhich?,B,A,A\n", {"question": "q", "A": "x", "B": "y", "gold": "g"})

    assert (task.examples[0].gold, task.unknown_gold) == (None, {"1": "A"})


def test_rows_with_gold_and_explanation_are_shots(tmp_path: Path) -> None:
    """As for any other format, the last of them are shots and are not evaluated."""
    path = tmp_path / "mine.csv"
    path.write_text(NLI, encoding="utf-8")
    task = load_tasks(parse_specs([f"csv:{path}"], NLI_COLUMNS), shots=1)[0]

    assert [shot.id for shot in task.shots] == ["r1"]
    assert [example.id for example in task.examples] == ["r2", "r3", "r4"]


@pytest.mark.parametrize("columns", [{}, {"id": "ID", "gold": "Label", "review": "Text"}], ids=["none", "no-options"])
def test_a_missing_file_is_said_to_be_missing(columns: dict[str, str], tmp_path: Path) -> None:
    """Whatever is wrong with the columns."""
    with pytest.raises(InputError, match=r"gone\.csv: no such file; check the path"):
        load_tasks(parse_specs([f"csv:{tmp_path / 'gone.csv'}"], columns), shots=0)


def test_other_tasks_take_no_columns(tmp_path: Path) -> None:
    """Beside a csv task, tasks of other formats are read as ever."""
    (tmp_path / "mine.csv").write_text(NLI, encoding="utf-8")
    own, bundled = parse_specs([f"csv:{tmp_path / 'mine.csv'}", "nli"], NLI_COLUMNS)

    assert (own.columns, bundled.columns) == (columns_of(NLI_COLUMNS), None)


@pytest.mark.parametrize(
    ("content", "columns", "message"),
    [
        (NLI, {"premise": "No", "hypothesis": "Yes"}, "columns No, Yes are missing; the header has ID, Text, Claim"),
        (NLI, {"premise": "Nope", "hypothesis": "Claim"}, "column Nope is missing; the header has ID, Text, Claim"),
        (NLI, {}, "say which column holds what, for example --columns id=ID,premise=Text"),
        (NLI, {}, "the header has ID, Text, Claim, Label, Why"),
        (NLI, {"review": "Text"}, "which options there are is not known for the fields review"),
        (NLI, {"question": "Text"}, "give the text of each option a column"),
        ("text,a,b\nIt broke.,,no\n", {"review": "text", "A": "a", "B": "b"}, ":2: the cell of column a is empty"),
        ("text,a,b\nOk.,1,2\n  ,1,2\n", {"review": "text", "A": "a", "B": "b"}, ":3: the cell of column text is empty"),
        ("x,x\n1,2\n", {"note": "x", "A": "y", "B": "z"}, "columns y, z are missing"),
        ("x,x,y,z\n1,2,3,4\n", {"note": "x", "A": "y", "B": "z"}, "the header has the column x twice"),
        ("i,x,y,z\n1,b,3,4\n1,a,3,4\n", {"id": "i", "note": "x", "A": "y", "B": "z"}, "the id '1' stands twice"),
        ("i,x,y,z\n,b,3,4\n", {"id": "i", "note": "x", "A": "y", "B": "z"}, ":2: the cell of column i is empty"),
        ("x|y|z\na|b|c\n", {"note": "x", "A": "y", "B": "z"}, "columns x, y, z are missing; the header has x|y|z"),
        ("", {"note": "x", "A": "y", "B": "z"}, "is empty"),
        ("x" * (1 << 20) + "x" + ",y\n1,2\n", {"note": "x", "A": "y", "B": "z"}, "field larger than field limit"),
        ("x,y,z\n", {"note": "x", "A": "y", "B": "z"}, "is empty"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    tmp_path: Path, content: str, columns: dict[str, str], message: str
) -> None:
    """One sentence names what is wrong and where."""
    with pytest.raises(InputError) as caught:
        load(tmp_path / "mine.csv", content, columns)

    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "mine.csv"))


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_cells_may_be_parted_as_spreadsheets_do(tmp_path: Path, delimiter: str) -> None:
    """Commas, semicolons and tabs give the same examples, also where texts hold the other signs."""
    path = tmp_path / "mine.csv"
    with path.open("w", encoding="utf-8", newline="") as handle:
        rows = [["ID", "Text", "A; or", "B"], ["1", "a, b; c\td", "x,y", "z"], ["2", 'say "no"', "u", "v;w"]]
        csv.writer(handle, delimiter=delimiter).writerows(rows)
    (task,) = load_tasks(parse_specs([f"csv:{path}"], {"id": "ID", "note": "Text", "A": "A; or", "B": "B"}), shots=0)

    assert [(one.id, one.fields, one.options) for one in task.examples] == [
        ("1", {"note": "a, b; c\td"}, {"A": "x,y", "B": "z"}),
        ("2", {"note": 'say "no"'}, {"A": "u", "B": "v;w"}),
    ]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": "ID", "gold": "Label"}, "no field is named"),
        ({"premise": "Text", "hypothesis": "Text"}, "the column 'Text' is given for premise and hypothesis"),
        ({"review": "Text", "A": "Good"}, "A is the only option"),
        ({"review": ""}, "a name or its column is blank"),
        ({" ": "Text"}, "a name or its column is blank"),
        ({"review": "Text", "options": "All"}, "give each option's text a column of its own"),
    ],
)
def test_columns_that_make_no_example_are_refused(columns: dict[str, str], message: str) -> None:
    """The option and the configuration refuse them with the same words."""
    with pytest.raises(InputError, match=message):
        columns_of(columns)
    with pytest.raises(InputError, match=f"columns: .*{message}"):
        build(RunConfig, {"tasks": ["csv:x.csv"], "models": [{"model": "x/y"}], "columns": columns}, "study.yaml")


def test_the_id_may_be_a_field_too() -> None:
    """An id's column is only a name, so it may be shown as well."""
    columns = columns_of({"id": "Text", "review": "Text", "A": "x", "B": "y"})

    assert Columns(id="Text", fields={"review": "Text"}, options={"A": "x", "B": "y"}) == columns
    assert columns.used == ["Text", "x", "y"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("premise", "write NAME=COLUMN"),
        ("premise=", "write NAME=COLUMN"),
        ("=Text", "write NAME=COLUMN"),
        ("premise=Text,,gold=Label", "write NAME=COLUMN"),
        ("premise=Text,premise=Claim", "names premise twice"),
    ],
)
def test_an_option_that_cannot_be_read_is_refused(text: str, message: str) -> None:
    """The sentence shows how to write it."""
    with pytest.raises(InputError, match=message):
        read_columns(text)


def test_columns_without_a_csv_task_are_refused() -> None:
    """They would be ignored without a word."""
    with pytest.raises(InputError, match="no task csv:FILE"):
        parse_specs(["nli"], NLI_COLUMNS)


def call(*arguments: str) -> int:
    """Run the command line in this process; its exit code."""
    with pytest.raises(SystemExit) as caught:
        main([*arguments])
    return int(caught.value.code or 0)


def test_a_run_is_continued_and_reproduced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same run wherever the file stands and however its columns are called; its bundle needs no file at all."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "words.csv").write_text(NLI, encoding="utf-8")
    (tmp_path / "sub" / "words.csv").write_text(NLI.replace("Text", "First"), encoding="utf-8")
    edits = [
        {"example_id": f"r{number}", "kind": "hand", "field": "premise", "offset": 2, "inserted": "tired"}
        for number in (1, 2, 3, 4)
    ]
    (tmp_path / "edits.jsonl").write_text("".join(json.dumps(edit) + "\n" for edit in edits), encoding="utf-8")
    common = ("--interventions", "edits.jsonl", "--model", "simulated/faithful", "--out", "out")
    columns = "id=ID,premise=Text,hypothesis=Claim,gold=Label,explanation=Why"

    assert call("run", "--task", "csv:words.csv", "--columns", columns, *common) == 0
    name = json.loads((tmp_path / "out" / "run.json").read_text("utf-8"))["signature"]
    (tmp_path / "study.yaml").write_text(
        json.dumps({"tasks": ["csv:sub/words.csv"], "columns": {**NLI_COLUMNS, "premise": "First"}}), encoding="utf-8"
    )
    assert call("run", "study.yaml", *common) == 0
    assert json.loads((tmp_path / "out" / "run.json").read_text("utf-8"))["signature"] == name
    assert call("export", "out", "--out", "out.zip") == 0
    for path in (tmp_path / "words.csv", tmp_path / "sub" / "words.csv"):
        path.unlink()
    assert call("reproduce", "out.zip") == 0


def test_the_options_task_leaves_the_files_columns_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--task` replaces the file's tasks, and with them the columns that describe these."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(
        json.dumps({"tasks": ["csv:words.csv"], "columns": NLI_COLUMNS, "models": [{"model": "simulated/silent"}]}),
        encoding="utf-8",
    )

    assert call("plan", "study.yaml", "--task", "sense", "--limit", "2") == 0
    assert call("plan", "--task", "sense", "--columns", "premise=Text", "--model", "simulated/silent") == 2
    assert "leave --columns out" in capsys.readouterr().err
