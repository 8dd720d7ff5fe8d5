"""Plug-ins: the example package is installed, and what it adds is there everywhere; a broken plug-in is left out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from servers.commands import Result, run

EXAMPLE = Path(__file__).parents[1] / "plugin_example"
VERSION = "explaineval-plugin-example 1.5"
REVIEWS = "It broke.\tB\nIt works.\tA\nIt is late.\tB\nIt shines.\tA\n"
COUNT = """
import atexit
from importlib import metadata
found, calls = metadata.entry_points, []
metadata.entry_points = lambda **by: calls.append(by) or found(**by)
atexit.register(lambda: print("read:", [by["group"] for by in calls if by["group"].startswith("explaineval")]))
"""
"""Prints at the end of which groups the entry points were read."""

Call = Callable[..., Result]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory into which the example package is installed."""
    target = tmp_path_factory.mktemp("installed")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(EXAMPLE)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return target


def with_plugins(path: Path) -> dict[str, str]:
    """The environment of a process that finds the packages in a directory."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(path), os.environ.get("PYTHONPATH"))))}


@pytest.fixture
def call(installed: Path, tmp_path: Path) -> Call:
    """Run a command in a directory with a file of reviews, with the example package installed."""
    (tmp_path / "reviews.tsv").write_text(REVIEWS, "utf-8")
    edits = [{"kind": "mine", "field": "review", "offset": 0, "inserted": "Frankly,", "example_id": str(n + 1)}
             for n in range(4)]  # fmt: skip
    (tmp_path / "edits.jsonl").write_text("".join(json.dumps(edit) + "\n" for edit in edits), "utf-8")
    return lambda *words, **more: run(*words, cwd=tmp_path, env=with_plugins(installed), **more)


RUN = ("run", "--model", "simulated/faithful", "--shots", "0", "--out", "out")


def broken(directory: Path, group: str, name: str, value: str, package: str = "lab-things") -> Path:
    """Install a package of one module `lab` with an entry point into a directory; return the directory."""
    about = directory / f"{package.replace('-', '_')}-0.3.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 0.3\n", "utf-8")
    (about / "entry_points.txt").write_text(f"[explaineval.{group}]\n{name} = {value}\n", "utf-8")
    (directory / "lab.py").write_text("NUMBER = 7\n", "utf-8")
    return directory


def test_a_format_is_read_and_listed(call: Call, tmp_path: Path) -> None:
    """`run --task` reads a file with it, `run --help` and the messages name it."""
    result = call(*RUN, "--task", "reviews:reviews.tsv", "--interventions", "edits.jsonl")

    assert result.code == 0, result.stderr
    rows = json.loads((tmp_path / "out" / "metrics.json").read_text("utf-8"))
    assert {row["task"] for row in rows} == {"reviews"}
    assert "reviews:FILE.tsv" in " ".join(call("run", "--help").stdout.split())
    assert "reviews:reviews.tsv" in call("plan", "--task", "reviews.tsv", "--model", "openai/m").stderr


def test_an_export_format_is_written_and_listed(call: Call, tmp_path: Path) -> None:
    """`export --format` and the suffix of --out choose it, `export --help` and the messages name it."""
    assert call(*RUN, "--task", "sense", "--limit", "2").code == 0
    by_name = call("export", "out", "--format", "lines", "--out", "a.lines")
    by_suffix = call("export", "out", "--out", "b.lines")

    assert by_name.code == by_suffix.code == 0, by_name.stderr + by_suffix.stderr
    assert "impact_rate " in (tmp_path / "a.lines").read_text("utf-8")
    assert (tmp_path / "a.lines").read_bytes() == (tmp_path / "b.lines").read_bytes()
    assert "[plug-ins: lines]" in " ".join(call("export", "--help").stdout.split())
    assert "'lines'" in call("export", "out", "--format", "line", "--out", "c").stderr


def test_an_ordinary_run_reads_no_entry_points(call: Call) -> None:
    """Neither a run with built-in names, nor what is written and printed of it; an unknown name does."""
    ordinary = (
        (*RUN, "--task", "sense", "--limit", "2"),
        ("score", "out", "--mention", "lemma"),
        ("export", "out", "--out", "numbers.csv"),
        ("export", "out", "--out", "run.zip"),
        ("report", "out", "--out", "page.html"),
        ("compare", "out", "out"),
        ("explain", "tpr"),
    )
    for words in ordinary:
        result = call(*words, setup=COUNT)
        assert result.stdout.endswith("read: []\n"), (words, result.stdout[-300:], result.stderr)
    assert "['explaineval.tasks']" in call("plan", "--task", "none", "--model", "openai/m", setup=COUNT).stdout


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("odd", "nowhere:FORMAT", "ModuleNotFoundError: No module named 'nowhere'"),
        ("odd", "lab:NUMBER", "lab:NUMBER is a int and no Format"),
        ("jsonl", "lab:NUMBER", "this name is built in"),
        ("sense", "lab:NUMBER", "this name is built in"),
    ],
)
def test_a_broken_plugin_is_named_and_left_out(tmp_path: Path, name: str, value: str, reason: str) -> None:
    """One sentence names it with its package; the rest works."""
    env = with_plugins(broken(tmp_path / "lab", "tasks", name, value))
    result = run("run", "--help", cwd=tmp_path, env=env)

    assert result.code == 0
    assert "jsonl:FILE" in result.stdout
    sentence = f"explaineval: the plug-in {name} (tasks) of lab-things 0.3 is left out: {reason}."
    assert result.stderr.splitlines() == [sentence]


def test_of_two_plugins_of_one_name_the_second_is_left_out(installed: Path, tmp_path: Path) -> None:
    """It is named with its package, and the first one works."""
    broken(tmp_path / "lab", "tasks", "reviews", "lab:NUMBER")
    paths = os.pathsep.join((str(installed), with_plugins(tmp_path / "lab")["PYTHONPATH"]))
    result = run("run", "--help", cwd=tmp_path, env={"PYTHONPATH": paths})

    assert "reviews:FILE.tsv" in " ".join(result.stdout.split())
    assert result.stderr == (
        f"explaineval: the plug-in reviews (tasks) of lab-things 0.3 is left out: {VERSION} has one of this name.\n"
    )


def test_the_variable_names_the_packages_that_may_be_used(call: Call, installed: Path, tmp_path: Path) -> None:
    """Others are as if they were not installed."""
    for packages, listed in (
        ("Explaineval_Plugin.Example", True),
        ("another,explaineval-plugin-example", True),
        ("", False),
    ):
        result = run("run", "--help", cwd=tmp_path, env={**with_plugins(installed), "EXPLAINEVAL_PLUGINS": packages})
        assert ("reviews:FILE.tsv" in " ".join(result.stdout.split())) is listed
