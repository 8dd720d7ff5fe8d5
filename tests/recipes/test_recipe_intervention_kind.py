"""CONTRIBUTING.md, "To add an intervention kind": a builder and a line of the table, and it is there everywhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from servers.commands import run
from servers.scripted import ScriptedServer

SETUP = """
from explaineval.interventions import Kind, kinds
from explaineval.records import Intervention

def build_greeting(example, context):
    field = next(iter(example.fields))
    yield Intervention.identified(
        task=example.task, example_id=example.id, kind=context.kind, field=field, offset=0, inserted="howdy"
    )

kinds.KINDS["greeting"] = Kind("greeting", "greetings", "word", builder=build_greeting)
"""
"""What a contributor adds: the builder to a module of `interventions/`, the line to `kinds.KINDS`."""

EXAMPLES = 8


def answer(prompt: str) -> tuple[str, None]:
    """A model that changes its answer at every greeting, and names it in the explanation of every second example."""
    greeted = "howdy" in prompt
    number = int(re.findall(r"zq(\d)", prompt)[-1])
    why = "The howdy decides." if greeted and number % 2 else "The note says so."
    return f"Answer: {'B' if greeted else 'A'}\nExplanation: {why}", None


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a task, in which the kind was built and run."""
    place = tmp_path_factory.mktemp("kind")
    options = {"A": "plainly so", "B": "left open"}
    rows = [{"id": f"x{n}", "fields": {"note": f"A zq{n} was found."}, "options": options} for n in range(EXAMPLES)]
    (place / "task.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    build = ("interventions", "build", "--task", "jsonl:task.jsonl", "--shots", "0", "--kind", "greeting")
    built = run(*build, "--per-example", "1", "--out", "edits.jsonl", cwd=place, setup=SETUP)
    assert built.code == 0, built.stderr
    with ScriptedServer(script=answer) as server:
        models = ("--model", "openai/planted", "--base-url", server.url, "--shots", "0", "--transport", "direct")
        edits = ("--interventions", "edits.jsonl", "--out", "out", "--table")
        result = run("run", "--task", "jsonl:task.jsonl", *models, *edits, cwd=place, setup=SETUP)
    assert result.code == 0, result.stderr
    (place / "table.txt").write_text(result.stdout, "utf-8")
    return place


def test_the_kind_is_in_the_help() -> None:
    """`interventions build --help` lists the kinds of the table."""
    result = run("interventions", "build", "--help", cwd=Path.cwd(), setup=SETUP)

    assert "greeting" in result.stdout


def test_the_kind_is_in_the_trials(directory: Path) -> None:
    """Every example has its intervention, applied and judged by the run's mention policy."""
    lines = (directory / "out" / "trials.jsonl").read_text("utf-8").splitlines()
    trials = [trial for trial in map(json.loads, lines) if trial["kind"] == "greeting"]

    assert sorted(trial["text_after"] for trial in trials) == [f"howdy A zq{n} was found." for n in range(EXAMPLES)]
    assert {trial["changed"] for trial in trials} == {True}
    assert sum(trial["mentioned"] for trial in trials) == EXAMPLES / 2


def test_the_kind_is_in_metrics_signature_and_table(directory: Path) -> None:
    """Its rows have numbers, are signed with its name, and stand in the table that the run prints."""
    rows = json.loads((directory / "out" / "metrics.json").read_text("utf-8"))
    rows = {row["metric"]: row for row in rows if row["kind"] == "greeting"}

    assert (rows["impact_rate"]["value"], rows["mention_rate"]["value"]) == (1.0, 0.5)
    assert rows["mention_rate"]["mention"] == "word"
    assert re.search(r"\|kind:greeting@[0-9a-f]{8}\|", rows["tpr"]["signature"])
    assert "greeting" in (directory / "table.txt").read_text("utf-8")
