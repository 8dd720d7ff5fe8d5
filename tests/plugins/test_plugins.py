"""Plug-ins: the example package is installed, and what it adds is there everywhere; a broken plug-in is left out."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from servers.commands import Result, run
from servers.service import RUN as SERVED_RUN
from servers.service import Service

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


def read_rows(directory: Path) -> dict[tuple[str, str | None], dict[str, Any]]:
    """The rows of metrics.json by metric and kind."""
    return {(row["metric"], row["kind"]): row for row in json.loads((directory / "metrics.json").read_text("utf-8"))}


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
        ("odd", "lab:NUMBER", "lab:NUMBER is of type int, not Format"),
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
    sentence = f"explaineval: the task format {name} of the plug-in lab-things 0.3 is left out: {reason}."
    assert result.stderr.splitlines() == [sentence]


def test_of_two_plugins_of_one_name_the_second_is_left_out(installed: Path, tmp_path: Path) -> None:
    """It is named with its package, and the first one works."""
    broken(tmp_path / "lab", "tasks", "reviews", "lab:NUMBER")
    paths = os.pathsep.join((str(installed), with_plugins(tmp_path / "lab")["PYTHONPATH"]))
    result = run("run", "--help", cwd=tmp_path, env={"PYTHONPATH": paths})

    assert "reviews:FILE.tsv" in " ".join(result.stdout.split())
    assert result.stderr == (
        f"explaineval: the task format reviews of the plug-in lab-things 0.3 is left out: {VERSION} has one of this "
        "name.\n"
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


def test_a_kind_is_built_run_and_listed(call: Call, tmp_path: Path) -> None:
    """`interventions build --kind` and `run --kind` build it; its rows are signed with package and version."""
    task = ("--task", "reviews:reviews.tsv", "--shots", "0")
    built = call("interventions", "build", *task, "--kind", "greeting", "--per-example", "1", "--out", "built.jsonl")
    result = call(*RUN, "--task", "reviews:reviews.tsv", "--kind", "greeting", "--per-example", "1")

    assert built.code == result.code == 0, built.stderr + result.stderr
    rows = read_rows(tmp_path / "out")
    signature = rows["impact_rate", "greeting"]["signature"]
    assert re.search(rf"\|kind:greeting@[0-9a-f]{{8}} \({VERSION}\)\|", signature)
    assert re.search(rf"^task:reviews@[0-9a-f]{{8}} \({VERSION}\)\|", signature)
    assert "example" not in rows["impact_rate", "greeting"]["signature"].replace(VERSION, "")
    assert "[plug-ins: greeting]" in " ".join(call("run", "--help").stdout.split())
    lists = call("interventions", "build", *task, "--kind", "none").stderr
    assert "cue_user" in lists
    assert "greeting" in lists


def test_a_mention_policy_decides_and_is_listed(call: Call, tmp_path: Path) -> None:
    """`run --mention` and `score --mention` take it; only rows that depend on it are signed with it."""
    assert call(*RUN, "--task", "sense", "--limit", "4", "--mention", "initial").code == 0
    rows = read_rows(tmp_path / "out")
    by_run = call("score", "out", "--json").document["metrics"]
    beside = call("score", "out", "--mention", "word", "--mention", "initial", "--json").document["metrics"]

    assert f"|mention:initial ({VERSION})|" in rows["mention_rate", "handwritten"]["signature"]
    assert rows["mention_rate", "handwritten"]["mention"] == "initial"
    assert VERSION not in rows["impact_rate", "handwritten"]["signature"]
    assert [row["value"] for row in by_run] == [row["value"] for row in rows.values()]
    values = {row["mention"]: row["value"] for row in beside if row["metric"] == "mention_rate"}
    assert values.keys() == {"word", "initial"}
    assert values["initial"] == rows["mention_rate", "handwritten"]["value"] != values["word"]
    assert "[plug-ins: initial]" in " ".join(call("score", "--help").stdout.split())
    assert "'initial'" in call("score", "out", "--mention", "none").stderr


def test_a_metric_is_computed_where_it_is_asked_for(call: Call, tmp_path: Path) -> None:
    """It is in metrics.json with package and version, in the table and on the page; `explain` tells of it."""
    assert call(*RUN, "--task", "sense", "--limit", "4").code == 0
    plain = (tmp_path / "out" / "metrics.json").read_bytes()
    assert b"silent_share" not in plain
    table = call(*RUN, "--task", "sense", "--limit", "4", "--metric", "silent_share", "--table")
    assert table.code == 0, table.stderr

    rows = read_rows(tmp_path / "out")
    own = rows.pop(("silent_share", "handwritten"))
    assert f"|metric:silent_share ({VERSION})|" in own["signature"]
    assert 0 <= own["value"] <= 1
    assert list(rows.values()) == json.loads(plain)
    assert "silent" in table.stdout
    assert call("report", "out", "--out", "page.html").code == 0
    assert "silent share" in (tmp_path / "page.html").read_text("utf-8")
    assert "Share of trials whose answer changed and" in call("explain", "silent share").stdout
    assert "silent_share" in call("explain").stdout
    assert "[plug-ins: silent_share]" in " ".join(call("score", "--help").stdout.split())


def test_a_run_without_its_plugins(call: Call, tmp_path: Path) -> None:
    """Kinds and policies are needed to read a run; a format is not, and a metric is left out in one sentence."""
    greeted = (*RUN, "--task", "reviews:reviews.tsv", "--kind", "greeting", "--per-example", "1")
    assert call(*greeted).code == 0
    result = run("score", "out", cwd=tmp_path)
    assert result.code == 2
    assert result.stderr == (
        f"explaineval: out/run.json: the run needs the kind of intervention greeting of the plug-in {VERSION}, which "
        "cannot be loaded here: install it.\n"
    )

    other = (*RUN[:-1], "other", "--task", "reviews:reviews.tsv", "--interventions", "edits.jsonl")
    assert call(*other, "--metric", "silent_share").code == 0
    result = run("score", "other", "--json", cwd=tmp_path)
    assert result.code == 0
    assert "silent_share" not in {row["metric"] for row in result.document["metrics"]}
    assert result.stderr == (
        "explaineval: other: scored without the metric silent_share, whose plug-in cannot be loaded here.\n"
    )


def test_another_version_of_a_plugin_is_another_run(call: Call, installed: Path, tmp_path: Path) -> None:
    """The directory of a run is not continued with it; mentions are decided anew, and signed with the new version."""
    options = ("--kind", "greeting", "--per-example", "1", "--mention", "initial")
    greeted = (*RUN, "--task", "reviews:reviews.tsv", *options)
    assert call(*greeted).code == 0
    newer = tmp_path / "newer"
    shutil.copytree(installed, newer)
    about = next(newer.glob("*.dist-info")) / "METADATA"
    about.write_text(about.read_text("utf-8").replace("Version: 1.5", "Version: 1.6"), "utf-8")
    module = newer / "explaineval_plugin_example" / "__init__.py"
    module.write_text(module.read_text("utf-8").replace("{re.escape(inserted[0])}", "zq"), "utf-8")

    again = run(*greeted, cwd=tmp_path, env=with_plugins(newer))
    assert again.code == 2
    assert (
        f"it was made with the plug-in tasks/reviews of {VERSION}, now explaineval-plugin-example 1.6" in again.stderr
    )
    rows = run("score", "out", "--json", cwd=tmp_path, env=with_plugins(newer)).document["metrics"]
    (row,) = [row for row in rows if row["metric"] == "mention_rate"]
    assert row["value"] == 0.0
    assert "|mention:initial (explaineval-plugin-example 1.6)|" in row["signature"]


def test_what_no_package_adds_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    """An unknown kind, policy or metric costs nothing."""
    for option in ("--kind", "--mention", "--metric"):
        result = run(*RUN, "--task", "sense", option, "none", cwd=tmp_path)
        assert (result.code, "'none'" in result.stderr) == (2, True)
        assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_service_uses_the_plugins_that_its_file_names(installed: Path, tmp_path: Path) -> None:
    """A task of its format, its mention policy and its export format, in all processes of the service."""
    (tmp_path / "reviews.tsv").write_text(REVIEWS, "utf-8")
    named = {"embedded": False, "plugins": ["explaineval-plugin-example"], "tasks": {"own": "reviews:../reviews.tsv"}}
    service = Service(tmp_path / "service", named, with_plugins(installed))
    service.start()
    try:
        tasks = service.ask("GET", "/api/endpoints").document["tasks"]
        run_id = service.submit({**SERVED_RUN, "mention": "initial"})
        service.wait(run_id)
        metrics = service.ask("GET", f"/api/runs/{run_id}/metrics").document
        written = service.ask("GET", f"/api/runs/{run_id}/files/numbers.lines")
    finally:
        service.stop()

    assert tasks[-1] == "own"
    assert {row["mention"] for row in metrics} >= {"initial"}
    assert written.status == 200
    assert b"impact_rate " in written.body


@pytest.mark.slow
def test_the_service_refuses_plugins_that_its_file_does_not_name(installed: Path, tmp_path: Path) -> None:
    """Neither a task of the format nor the policy is taken, whatever the environment of the operator says."""
    (tmp_path / "reviews.tsv").write_text(REVIEWS, "utf-8")
    environment = {**with_plugins(installed), "EXPLAINEVAL_PLUGINS": "explaineval-plugin-example"}
    (tmp_path / "serve.yaml").write_text(json.dumps({"tasks": {"own": "reviews:reviews.tsv"}}), "utf-8")
    refused = run("serve", "--config", "serve.yaml", "--port", "0", cwd=tmp_path, env=environment)
    assert (refused.code, "unknown task 'reviews'" in refused.stderr) == (2, True)

    service = Service(tmp_path / "service", {"embedded": False}, environment)
    service.start()
    try:
        reply = service.ask("POST", "/api/runs", {**SERVED_RUN, "mention": "initial"})
    finally:
        service.stop()
    assert reply.status == 422
    assert "word" in json.dumps(reply.document)
