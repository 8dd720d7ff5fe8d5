"""Answers with status 200 that no honest endpoint gives: the one trial has an outcome, the run and all reruns go on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest

from explaineval.cache import open_store
from servers.commands import Result, WarmCommands
from servers.hostile import BOUNDED, KEY, SHOWN, STORED, HostileServer, Spoil
from servers.tables import Table

Route = Literal["chat", "completion", "batch"]
ROUTES: tuple[Route, ...] = ("chat", "completion", "batch")
MOST_MEMORY = 600_000
"""kB that a run may take at its peak."""

NO_ANSWER = {
    "message-is-null", "body-is-a-list", "body-is-text", "body-is-a-number", "body-is-null", "body-is-empty-object",
    "escape-in-an-error-object", "key-in-an-error-object",
}  # fmt: skip
"""Bodies without any answer: they may fail, and are then asked again next time."""


class HostileRuns:
    """Runs against a hostile server in a directory."""

    def __init__(self, warm: WarmCommands, directory: Path, route: Route, cases: Mapping[str, Spoil]) -> None:
        self.warm, self.directory, self.route, self.cases = warm, directory, route, list(cases)
        self.table = Table(examples=len(cases), words=2, seed=5)
        self.table.write_task(directory / "task.jsonl")
        self.table.write_interventions(directory / "edits.jsonl")
        self.server = HostileServer(cases=list(cases.items()), table=self.table)

    def command(self, name: str, *arguments: str | Path) -> Result:
        """Any command."""
        return self.warm.run(name, *arguments, cwd=self.directory, env={"LAB_KEY": KEY})

    def run(self, *more: str) -> Result:
        """The run."""
        fixed = ["--task", "jsonl:task.jsonl", "--interventions", "edits.jsonl", "--shots", "2", "--shams", "0"]
        fixed += ["--max-tokens", "64", "--model", "openai/planted", "--base-url", f"{self.server.root}/v1"]
        fixed += ["--endpoint-name", "lab", "--api-key-env", "LAB_KEY", "--max-retries", "1", "--out", "out"]
        fixed += ["--batch", "--batch-poll", "0.02"] if self.route == "batch" else ["--style", self.route]
        return self.command("run", *fixed, "--json", *more)

    def trials(self) -> tuple[dict[str, str], set[str]]:
        """The statuses of the trials that met a hostile answer, by case, and those of all others."""
        by_case, others = {}, set()
        for line in (self.directory / "out" / "trials.jsonl").read_text(encoding="utf-8").splitlines():
            trial = json.loads(line)
            if trial["inserted"] == self.table.markers(trial["example_id"])[0]:
                by_case[self.cases[self.table.ids.index(trial["example_id"])]] = trial["status"]
            else:
                others.add(trial["status"])
        return by_case, others

    def texts(self, *results: Result) -> Iterator[tuple[str, bytes]]:
        """Everything that was printed, and every file, the answers in the store unpacked."""
        for number, result in enumerate(results):
            yield f"stdout {number}", result.stdout.encode("utf-8", "surrogatepass")
            yield f"stderr {number}", result.stderr.encode("utf-8", "surrogatepass")
        for path in sorted(self.directory.rglob("*")):
            if path.is_file() and path.suffix not in (".db", ".db-wal", ".db-shm", ".lock", ".stdout", ".stderr"):
                yield str(path.relative_to(self.directory)), path.read_bytes()
        with open_store(self.directory / "cache", readonly=True) as store:
            for key, _, completion in store.iterate():
                yield f"the answer {key}", completion.model_dump_json().encode()


@pytest.fixture
def hostile(warm: WarmCommands, tmp_path: Path) -> Iterator[Callable[..., HostileRuns]]:
    """Make a directory and a running server for a route and some cases."""
    running: list[HostileServer] = []

    def make(route: Route, cases: Mapping[str, Spoil]) -> HostileRuns:
        one = HostileRuns(warm, tmp_path, route, cases)
        running.append(one.server.__enter__())  # type: ignore[arg-type]
        return one

    yield make
    for server in running:
        server.__exit__(None, None, None)


def check_twice(one: HostileRuns) -> list[Result]:
    """Run and run again; what every hostile answer must leave standing."""
    first = one.run()
    asked = dict(one.server.served)
    statuses, others = one.trials()
    assert first.code in (0, 5), first.stdout[:2000] + first.stderr[-2000:]
    metrics = (one.directory / "out" / "metrics.json").read_bytes()
    again = one.run()

    for result in (first, again):
        assert result.code in (0, 5), result.stdout[:2000] + result.stderr[-2000:]
        assert "Traceback" not in result.stderr
        assert "an error in explaineval itself" not in result.stdout + result.stderr
        assert "UserWarning" not in result.stderr
        assert result.peak < MOST_MEMORY
        found = result.document["requests"]
        assert found["distinct"] == found["hits"] + found["sent"] + found["unsent"] == 3 * len(one.cases)
        assert found["unsent"] == 0
    assert others == {"ok"}
    assert set(statuses) == set(one.cases)
    assert {case for case, status in statuses.items() if status == "failed"} <= NO_ANSWER
    assert {case for case in one.cases if one.server.served[case] > asked[case]} <= NO_ANSWER
    assert {case for case in one.cases if asked[case] > 1} <= NO_ANSWER
    assert one.trials() == (statuses, others)
    assert (one.directory / "out" / "metrics.json").read_bytes() == metrics
    return [first, again]


@pytest.mark.slow
@pytest.mark.parametrize("route", ROUTES)
def test_every_hostile_answer_is_an_outcome(hostile: Callable[..., HostileRuns], route: Route) -> None:
    """What came is kept with its reason and not bought again; every other trial is as if nothing had happened."""
    one = hostile(route, STORED)
    results = check_twice(one)
    statuses, _ = one.trials()

    assert {status for case, status in statuses.items() if case.startswith("half-a-pair-in-the-text")} == {"ok"}
    assert {statuses[case] for case in ("text-beyond-the-bound", "text-of-17-mib", "text-is-a-number")} == {"unparsed"}
    assert "oversized" in results[0].stderr
    assert "malformed" in results[0].stderr
    with open_store(one.directory / "cache", readonly=True) as store:
        assert {completion.fault for _, _, completion in store.iterate()} == {None, "oversized", "malformed"}
        assert store.warnings == ()


@pytest.mark.slow
def test_every_command_reads_a_store_of_hostile_answers(hostile: Callable[..., HostileRuns]) -> None:
    """score, show, the commands of the cache, export and reproduce end well over everything that came."""
    one = hostile("chat", STORED)
    assert one.run().code in (0, 5)
    pages = [("show", "out", "--example", example) for example in one.table.ids[::8]]
    commands: list[tuple[Any, ...]] = [
        ("score", "out", "--json"), ("cache", "stats", "--json"), ("cache", "verify"),
        ("cache", "export", "--out", "all.pack"), ("cache", "import", "all.pack", "--cache", "other"),
        ("export", "out", "--out", "bundle"), ("reproduce", "bundle"), *pages,
    ]  # fmt: skip
    for command in commands:
        result = one.command(*command)
        told = result.stdout + result.stderr
        assert result.code == 0 or "missing" in told, (command, told[-1500:])
        assert "Traceback" not in told
        assert "an error in explaineval itself" not in told


@pytest.mark.sampled(1)
@pytest.mark.parametrize("route", ROUTES)
def test_no_escape_sequence_and_no_key_is_kept_or_printed(hostile: Callable[..., HostileRuns], route: Route) -> None:
    """An endpoint's control characters reach no terminal, and the key that was sent to it stands in no file."""
    one = hostile(route, {**SHOWN, "honest": lambda body: body})
    results = check_twice(one)
    results += [one.command("show", "out", "--example", example) for example in one.table.ids]

    for place, text in one.texts(*results):
        assert b"\x1b" not in text, place
        assert KEY.encode() not in text, place
        assert KEY.replace("-", "%2D").encode() not in text, place
        assert KEY[8:28].encode() not in text, place


@pytest.mark.sampled(2)
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("case", BOUNDED)
def test_what_is_received_is_bounded(hostile: Callable[..., HostileRuns], route: Route, case: str) -> None:
    """A body beyond every bound is an outcome too, and costs little memory."""
    check_twice(hostile(route, {case: BOUNDED[case], "honest": lambda body: body}))
