"""CONTRIBUTING.md, "To add a task format": a reader and a line of the table, and it is there everywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from servers.commands import run
from servers.scripted import ScriptedServer

SETUP = """
from explaineval.datasets import readers
from explaineval.datasets.text_files import read_text_lines
from explaineval.records import Example

def read_tsv(path, task):
    for number, line in read_text_lines(path):
        text, gold = line.rstrip("\\n").split("\\t")
        options = {"A": "good", "B": "bad"}
        yield readers.TaskRow(Example(id=str(number), task=task, fields={"review": text}, options=options, gold=gold))

readers.FORMATS["tsv"] = readers.Format("tsv", read_tsv, "FILE.tsv", (".tsv",))
"""
"""What a contributor adds: the reader and its line to `datasets/readers.py`."""

EDIT = {"kind": "mine", "field": "review", "offset": 0, "inserted": "Frankly,"}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which a file of the new format was run, with an intervention for each of its examples."""
    place = tmp_path_factory.mktemp("format")
    (place / "reviews.tsv").write_text("It broke.\tB\nIt works.\tA\n", "utf-8")
    edits = [json.dumps({**EDIT, "example_id": str(number)}) + "\n" for number in (1, 2)]
    (place / "edits.jsonl").write_text("".join(edits), "utf-8")
    with ScriptedServer(script=lambda _: ("Answer: A\nExplanation: The review says so.", None)) as server:
        models = ("--model", "openai/planted", "--base-url", server.url, "--shots", "0", "--transport", "direct")
        options = ("--interventions", "edits.jsonl", "--out", "out", "--table")
        result = run("run", "--task", "tsv:reviews.tsv", *models, *options, cwd=place, setup=SETUP)
    assert result.code == 0, result.stderr
    (place / "table.txt").write_text(result.stdout, "utf-8")
    return place


def test_the_format_is_in_the_help() -> None:
    """`run --help` lists the formats of the table beside --task."""
    result = run("run", "--help", cwd=Path.cwd(), setup=SETUP)

    assert "tsv:FILE.tsv" in " ".join(result.stdout.split())


def test_the_format_is_in_messages(tmp_path: Path) -> None:
    """A path without its format is answered with the format that its ending suggests."""
    result = run("plan", "--task", "reviews.tsv", "--model", "openai/m", cwd=tmp_path, setup=SETUP)

    assert result.code == 2
    assert "a file needs its format before it: tsv:reviews.tsv" in result.stderr


def test_the_task_is_in_metrics_signature_and_table(directory: Path) -> None:
    """Rows are named after the format, signed with the hash of the examples, and printed."""
    rows = json.loads((directory / "out" / "metrics.json").read_text("utf-8"))
    accuracy = next(row for row in rows if row["metric"] == "accuracy")

    assert {row["task"] for row in rows} == {"tsv"}
    assert (accuracy["value"], accuracy["n_examples"]) == (0.5, 2)
    assert accuracy["signature"].startswith("task:tsv@")
    assert "tsv" in (directory / "table.txt").read_text("utf-8")
