"""What version 0.2 left on a disk is opened by this one: nothing is bought again or refused, and no number moves.

`record_upgrade.py` made the files in `data/` with the code of that version. Nothing listens at the addresses in them.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from record_upgrade import COMMANDS, SETTINGS, SUBMITTED, URL

from servers.commands import Result, WarmCommands
from servers.service import ENVIRONMENT, TOKENS, Service

DATA = Path(__file__).parent / "data" / "0.2.tar.xz"
RUNS = (*COMMANDS, "merged")
IDENTITY = ("endpoint", "model", "task", "kind", "order", "style", "shots", "verbosity", "channel", "mention", "judge")
NUMBERS = ("value", "low", "high", "n", "n_examples", "undefined")
MOVED: dict[str, str] = {"mean_tvd": "limits where all shifts were alike"}
"""Metrics whose numbers differ from those of 0.2 → why, as CHANGELOG.md says."""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recorded files, read only by the tests."""
    directory = tmp_path_factory.mktemp("recorded")
    with tarfile.open(DATA) as archive:
        archive.extractall(directory, filter="data")
    return directory


@pytest.fixture
def work(recorded: Path, tmp_path: Path) -> Path:
    """A copy of the recorded files for one test."""
    return shutil.copytree(recorded, tmp_path / "work")


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmCommands]:
    """Commands without the seconds of litellm's import."""
    with WarmCommands(tmp_path_factory.mktemp("warm")) as commands:
        yield commands


def read_rows(directory: Path) -> list[dict[str, Any]]:
    """The metric rows in a run directory."""
    rows: list[dict[str, Any]] = json.loads((directory / "metrics.json").read_text("utf-8"))
    return rows


def read_trials(directory: Path) -> list[dict[str, Any]]:
    """The trials in a run directory."""
    return [json.loads(line) for line in (directory / "trials.jsonl").read_text("utf-8").splitlines()]


def at_url(entries: list[dict[str, Any]], left_out: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """The entries with the base URL as endpoint, which the name `lab` of a file stood for in 0.2."""
    return [
        {
            name: URL if (name, value) == ("endpoint", "lab") else value
            for name, value in entry.items()
            if name not in left_out
        }
        for entry in entries
    ]


def compare_rows(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> None:
    """Every number that 0.2 computed is there with the same digits, except those in MOVED; others may be new."""
    found = {tuple(row[name] for name in (*IDENTITY, "metric")): row for row in after}
    missing, moved = [], []
    for row in before:
        name = tuple(row[name] for name in (*IDENTITY, "metric"))
        now = found.get(name)
        if now is None:
            missing.append(name)
        elif row["metric"] not in MOVED and any(row[number] != now[number] for number in NUMBERS):
            moved.append((name, [(row[number], now[number]) for number in NUMBERS if row[number] != now[number]]))

    assert before
    assert (missing, moved) == ([], [])


def compare_trials(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> None:
    """The trials are the same ones with the same content; fields may be new."""

    def by_keys(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
        fields = before[0].keys()
        return sorted(({name: trial[name] for name in fields} for trial in trials), key=json.dumps)

    assert by_keys(before) == by_keys(after)


def check(done: Result) -> Result:
    """The result, which is no error and shows no traceback."""
    assert done.code == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def check_reproduced(done: Result) -> None:
    """A bundle was reproduced to the last digit; the signatures may differ in the version (exit code 6)."""
    assert done.code in (0, 6), done.stdout + done.stderr
    found = done.document
    assert (found["missing"], found["refused"], found["trials_identical"]) == (0, [], True)
    rows = {entry["row"] for entry in found["differences"] if entry["name"] != "signature"}
    assert [row for row in rows if not any(row.endswith(f" {metric}") for metric in MOVED)] == []


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("continued", [True, False], ids=["continued", "afresh"])
def test_the_same_command_buys_nothing_and_moves_no_digit(
    name: str, continued: bool, work: Path, warm: WarmCommands
) -> None:
    """In the old run directory and in a new one; nothing listens at the endpoint."""
    out = f"runs/{name}" if continued else "again"
    before = (read_rows(work / "runs" / name), read_trials(work / "runs" / name))

    done = check(warm.run("run", *COMMANDS[name], "--cache", "cache", "--out", out, "--json", cwd=work))

    requests = done.document["requests"]
    assert requests["sent"] == requests["unsent"] == requests["retries"] == 0
    assert requests["hits"] == requests["distinct"] > 0
    before_trials = before[1]
    if name == "by-name" and not continued:  # the endpoint is its URL now, which stands in the keys
        before = (at_url(before[0]), before_trials)
        before_trials = at_url(before_trials, ("key_before", "key_after"))
    compare_trials(before_trials, read_trials(work / out))
    judged = [row for row in before[0] if row["judge"] is not None or row["mention"] not in (None, "word")]
    compare_rows([row for row in before[0] if row not in judged], read_rows(work / out))


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_plan_finds_every_answer(name: str, work: Path, warm: WarmCommands) -> None:
    """`plan` counts as stored what `run` would find."""
    done = check(warm.run("plan", *COMMANDS[name], "--cache", "cache", "--json", cwd=work))

    assert done.document["total"]["misses"] == 0
    assert done.document["total"]["hits"] > 0


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", RUNS)
def test_a_run_directory_is_scored_to_the_same_digits(name: str, work: Path, warm: WarmCommands) -> None:
    """`score` needs the directory alone; the judged run keeps its verdicts and both mention policies."""
    directory = work / "runs" / name
    before = read_rows(directory)
    policies = sorted({row["mention"] for row in before} & {"word", "substring"})

    check(warm.run("score", directory, *(part for one in policies for part in ("--mention", one)), cwd=work))

    compare_rows(before, read_rows(directory))


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", ["by-name", "cues", "merged"])
def test_a_run_directory_is_shown(name: str, work: Path, warm: WarmCommands) -> None:
    """Every command that reads a run directory reads this one."""
    directory = work / "runs" / name
    example = read_trials(directory)[0]["example_id"]

    for command in (
        ("notes", directory),
        ("show", directory, "--example", example),
        ("report", directory, "--out", "page.html"),
        ("export", directory, "--out", "card.md", "--format", "card"),
        ("export", directory, "--out", "rows.csv"),
        ("export", directory, "--out", "bundle.zip", "--cache", "cache"),
    ):
        check(warm.run(*command, cwd=work))
    reproduced = warm.run("reproduce", "bundle.zip", "--json", cwd=work)
    check_reproduced(reproduced)


def test_runs_are_compared(work: Path, warm: WarmCommands) -> None:
    """Two runs of 0.2 with one another."""
    check(warm.run("compare", "runs/by-url", "runs/direct", "--by", "arm", cwd=work))


def test_shards_are_merged(work: Path, warm: WarmCommands) -> None:
    """The shards of 0.2 give the merged run that 0.2 made of them."""
    check(warm.run("merge", "runs/shards/1", "runs/shards/2", "--out", "together", cwd=work))

    compare_trials(read_trials(work / "runs" / "merged"), read_trials(work / "together"))
    compare_rows(read_rows(work / "runs" / "merged"), read_rows(work / "together"))


def test_the_cache_is_whole(work: Path, warm: WarmCommands) -> None:
    """Its statistics are read, every row is verified, and the verdict of the probe is used."""
    stats = check(warm.run("cache", "stats", "--cache", "cache", "--json", cwd=work)).document
    check(warm.run("cache", "verify", "--cache", "cache", cwd=work))

    assert stats["entries"] > 100
    assert json.loads((work / "runs/by-url/run.json").read_text("utf-8"))["endpoints"][0]["probe"] is not None


def test_a_pack_serves_its_run(recorded: Path, work: Path, warm: WarmCommands) -> None:
    """Imported into an empty cache, the pack of 0.2 answers the run of its named endpoint offline."""
    check(warm.run("cache", "import", "by-name.pack.gz", "--cache", "empty", cwd=work))

    shutil.rmtree(work / "runs")  # nothing is left that shows which address the name stood for
    command = ("run", "study.yaml", "--offline", "--cache", "empty", "--out", "again", "--json")

    unproven = warm.run(*command, cwd=work)
    assert unproven.code == 4
    assert "older_name_unused" in {warning["code"] for warning in unproven.document["warnings"]}
    done = check(warm.run(*command, "--endpoint-name", "lab", cwd=work))

    assert done.document["requests"]["hits"] == done.document["requests"]["distinct"] > 0
    assert "answers_imported" in {warning["code"] for warning in done.document["warnings"]}
    compare_rows(read_rows(recorded / "runs/by-name"), read_rows(work / "again"))


@pytest.mark.parametrize("bundle", ["by-name.zip", "called.zip"])
def test_a_bundle_is_reproduced(bundle: str, work: Path, warm: WarmCommands) -> None:
    """Only the version in the signatures, and what is new, may differ."""
    before = read_rows(work / "runs" / bundle.removesuffix(".zip"))

    check_reproduced(warm.run("reproduce", bundle, "--out", "reproduced", "--json", cwd=work))

    compare_rows(before, read_rows(work / "reproduced"))


@pytest.fixture
def service(work: Path) -> Iterator[Service]:
    """A service of this version on the data folder of 0.2."""
    started = Service(work / "service", SETTINGS, ENVIRONMENT)
    started.start()
    yield started
    assert started.stop() == 0


@pytest.mark.slow
def test_a_data_folder_is_served(service: Service, work: Path) -> None:
    """Its runs are listed with their numbers and pages, and submitted again they send nothing."""
    before = json.loads((work / "service.json").read_text("utf-8"))
    token = TOKENS["ann"]

    listed = service.ask("GET", "/api/runs", token=token).document["runs"]

    assert {run["id"]: run["state"] for run in listed} == {run["id"]: "finished" for run in before}
    for old, settings in zip(before, SUBMITTED, strict=True):
        rows = service.ask("GET", f"/api/runs/{old['id']}/metrics", token=token).document
        compare_rows(read_rows(service.data / "runs" / old["id"]), rows["metrics"] if isinstance(rows, dict) else rows)
        assert service.ask("GET", f"/api/runs/{old['id']}/report", token=token).status == 200
        again = service.wait(service.submit(settings, token), token)
        assert again["state"] == "finished", (again, service.log())
        directory = service.data / "runs" / again["id"]
        assert json.loads((directory / "run.json").read_text("utf-8"))["requests"]["sent"] == 0
        compare_rows(read_rows(service.data / "runs" / old["id"]), read_rows(directory))
