"""Copies of the data directory: taken while runs are under way, served again, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from explaineval.cache import open_store
from explaineval.cli.app import main
from explaineval.cost import dollars, price_given
from explaineval.errors import InputError, StoreError
from explaineval.service import directory
from explaineval.service.directory import back_up, prepare_directory
from explaineval.service.table import FileRow, StateFile
from servers.service import Service

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from billing_server import BillingServer, Settings
from made_up_cases import write_task

PRICE = (100.0, 200.0)
TOKEN = "ann-" + 20 * "a"
RUNS = 2
COPIES = 4
LIMIT = 2.4
"""Dollars of a run that costs 1.93, and up to 0.2 for what is under way in the copy."""


@pytest.fixture(scope="module")
def server() -> Iterator[BillingServer]:
    """The endpoint, which keeps books."""
    with BillingServer() as started:
        yield started


@pytest.fixture
def start() -> Iterator[Callable[[Path, dict[str, Any]], Service]]:
    """Starts services in directories, and ends those that go on after the test."""
    started: list[Service] = []

    def begin(directory: Path, settings: dict[str, Any]) -> Service:
        started.append(Service(directory, settings, {"TOKEN_ANN": TOKEN}))
        started[-1].start()
        return started[-1]

    yield begin
    for service in started:
        if service.process is not None:
            service.kill()


def submit(service: Service, folder: Path, number: int, examples: int, **changes: Any) -> str:
    """Upload a task and submit a run about it; return its id."""
    write_task(folder, examples, 4)
    for name, kept in (("task.jsonl", f"task{number}.jsonl"), ("edits.jsonl", f"edits{number}.jsonl")):
        service.ask("PUT", f"/api/files/{kept}", (folder / name).read_bytes(), TOKEN)
    settings = {
        "tasks": [f"jsonl:task{number}.jsonl"], "interventions": {"file": f"edits{number}.jsonl"}, "shams": 0,
        "models": [{"model": "openai/m", "endpoint": "lab"}], "max_tokens": 60, "max_connections": 4,
    }  # fmt: skip
    return service.submit(settings | changes, TOKEN)


def rows(data: Path, query: str) -> list[tuple[Any, ...]]:
    """Return what the table of a data directory says."""
    connection = sqlite3.connect(data / "service.sqlite")
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def unbooked(data: Path) -> float:
    """Return by how many dollars the answers in a data directory cost more than is booked there for them.

    An open reservation is settled from its answer, where that is there.
    """
    price = price_given(PRICE)
    with open_store(data / "cache") as store:
        costs = {key: dollars(completion.usage, price) for key, _, completion in store.iterate()}
    under_way = {key for (key,) in rows(data, "SELECT key FROM reservations")}
    booked = sum(usd for (usd,) in rows(data, "SELECT usd FROM spending"))
    return sum(cost for key, cost in costs.items() if key not in under_way) - booked


@pytest.mark.slow
def test_a_copy_made_under_load_is_of_one_moment_and_goes_on(
    server: BillingServer, start: Callable[[Path, dict[str, Any]], Service], tmp_path: Path
) -> None:
    """In each copy what is booked is what its answers cost; served, it buys none of them again and finishes."""
    address = server.open("room", Settings(prices={"m": PRICE}, latency=0.1))
    settings = {
        "endpoints": {"lab": {"base_url": address, "price": list(PRICE)}},
        "tokens": {"ann": {"token_env": "TOKEN_ANN", "max_usd": 50}},
        "embedded": False,
    }
    service = start(tmp_path / "first", settings)
    runs = [
        submit(service, tmp_path, number, 24, max_tokens=60 + number, max_usd=LIMIT) for number in range(1, RUNS + 1)
    ]
    copies: list[Path] = []
    counts: list[int] = []
    while len(copies) < COPIES:
        wanted = 40 + 25 * len(copies)
        end = time.monotonic() + 60
        while server.books("room")["attempts"] < wanted:
            assert time.monotonic() < end
            time.sleep(0.01)
        copies.append(tmp_path / f"copy{len(copies)}" / "data")
        counts.append(back_up(service.data, copies[-1]).going_on)
    service.stop()
    shutil.rmtree(service.data)  # nothing in the copy needs it
    differences = [unbooked(copy) for copy in copies]
    with open_store(copies[-1] / "cache", readonly=True) as store:
        kept = {key for key, _, _ in store.iterate()}
    calls = Counter(call.prompt for call in server.calls("room") if call.billed)
    restored = start(copies[-1].parent, settings)
    ends = [restored.wait(run, TOKEN) for run in runs]
    report = restored.ask("GET", f"/api/runs/{runs[0]}/report", token=TOKEN).status
    bundle = restored.ask("GET", f"/api/runs/{runs[0]}/files/bundle.zip", token=TOKEN).status
    restored.stop()
    again = Counter(call.prompt for call in server.calls("room") if call.billed) - calls
    unbilled = sum(json.loads(text)["usd"] for (text,) in rows(restored.data, "SELECT unbilled FROM runs") if text)
    with open_store(restored.data / "cache", readonly=True) as store:
        total = sum(1 for _ in store.iterate())

    assert counts == [RUNS] * COPIES, "the runs ended before the copies were made"
    assert differences == pytest.approx([0.0] * COPIES, abs=1e-9)
    assert [end["state"] for end in ends] == ["finished"] * RUNS, [end["reason"] for end in ends]
    assert sum(again.values()) == total - len(kept)
    assert unbooked(restored.data) == pytest.approx(-unbilled, abs=1e-9)
    assert (report, bundle) == (200, 200)


def made(directory: Path) -> StateFile:
    """Return the table of a new data directory."""
    prepare_directory(directory)
    return StateFile(directory)


def add_run(table: StateFile, run: str, **changes: Any) -> None:
    """Add a run with a directory."""
    table.add_run(run, "ann", "2026-01-01", {}, {"science": {}}, {}, 1.0, None)
    table.update_run(run, **changes)
    folder = table.path.parent / "runs" / run
    folder.mkdir()
    (folder / "run.json").write_text("{}")


def test_only_the_user_of_the_service_can_read_a_copy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever the umask, files are 0600 and folders 0700."""
    data = tmp_path / "data"
    table = made(data)
    add_run(table, "a1", state="running")
    table.close()
    before = os.umask(0)
    try:
        with pytest.raises(SystemExit) as ended:
            main(["serve", "backup", "--data", str(data), "--out", str(tmp_path / "copy")])
    finally:
        os.umask(before)
    paths = [tmp_path / "copy", *(tmp_path / "copy").rglob("*")]
    said = capsys.readouterr()

    assert ended.value.code == 0
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_dir()} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_file()} == {0o600}
    assert "1 run, 1 of them waiting or going on" in said.out
    assert "end the first one before" in said.err


def test_what_grows_is_cut_after_a_whole_line_and_drafts_are_left_out(tmp_path: Path) -> None:
    """A torn line, a run that has asked nothing, half an upload and a link; an upload keeps its last line."""
    data = tmp_path / "data"
    table = made(data)
    add_run(table, "a1", state="running")
    folder = data / "runs" / "a1"
    for name, text in {"trials.jsonl": '{"a":1}\n{"a', "ledger.jsonl": "1\n2", "notes.json": "3"}.items():
        (folder / name).write_text(text)
    (folder / ".trials.jsonl.1.part").write_text("draft")
    (folder / "link").symlink_to("/etc/hostname")
    (data / "logs" / "a1.txt").write_text("begin\nto")
    (data / "runs" / "b2").mkdir()
    (data / "runs" / "b2" / "examples.jsonl").write_text("{}\n")
    for name in ("f" * 64, "draft-1"):
        (data / "uploads" / name).mkdir()
        (data / "uploads" / name / "t.jsonl").write_text('{"id": 1}')
    table.close()
    found = back_up(data, tmp_path / "copy")
    files = {
        str(path.relative_to(tmp_path / "copy")): path.read_bytes()
        for path in (tmp_path / "copy").rglob("*") if path.is_file() and path.suffix not in (".db", ".sqlite")
    }  # fmt: skip
    files.pop("cache/store.json")

    assert (found.runs, found.going_on) == (1, 1)
    assert files == {
        "runs/a1/run.json": b"{}", "runs/a1/trials.jsonl": b'{"a":1}\n', "runs/a1/ledger.jsonl": b"1\n",
        "runs/a1/notes.json": b"3", "logs/a1.txt": b"begin\n", f"uploads/{'f' * 64}/t.jsonl": b'{"id": 1}',
    }  # fmt: skip


def test_what_is_deleted_meanwhile_is_not_in_the_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user deletes a run and an upload between the databases and the files."""
    data = tmp_path / "data"
    table = made(data)
    for run in ("a1", "b2"):
        add_run(table, run, state="finished")
    for digest in ("0" * 64, "1" * 64):
        (data / "uploads" / digest).mkdir()
        (data / "uploads" / digest / "t.jsonl").write_text("{}\n")
        table.put_file(FileRow("ann" + digest[0], "t.jsonl", digest, "task", 1, 3, "2026-01-01"))
    copy_runs = directory._copy_runs

    def delete_and_copy(*arguments: Any) -> None:
        shutil.rmtree(data / "runs" / "a1")
        table.delete_run("a1")
        table.delete_file("ann0", "t.jsonl")
        shutil.rmtree(data / "uploads" / ("0" * 64))
        copy_runs(*arguments)

    monkeypatch.setattr(directory, "_copy_runs", delete_and_copy)
    back_up(data, tmp_path / "copy")
    table.close()

    assert rows(tmp_path / "copy", "SELECT id FROM runs") == [("b2",)]
    assert rows(tmp_path / "copy", "SELECT sha256 FROM files") == [("1" * 64,)]
    assert [path.name for path in (tmp_path / "copy" / "runs").iterdir()] == ["b2"]


def test_what_cannot_be_copied_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An existing target, a place in the data directory, no data directory, a lock that stays, a damaged table."""
    data = tmp_path / "data"
    made(data).close()
    (tmp_path / "there").mkdir()
    for source, target, sentence in (
        (data, tmp_path / "there", "exists, and nothing is replaced"),
        (data, data / "copies" / "one", "is in the data directory"),
        (tmp_path, tmp_path / "copy", "is no data directory of the service"),
        (data, data / "service.sqlite" / "copy", "is in the data directory"),
    ):
        with pytest.raises(InputError, match=sentence):
            back_up(source, target)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="There is no copy"):
        back_up(data, tmp_path / "file" / "copy")
    monkeypatch.setattr(directory, "LOCK_SECONDS", 0.1)
    holder = sqlite3.connect(data / "service.sqlite", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match=r"kept a database .* locked"):
        back_up(data, tmp_path / "copy")
    holder.close()
    with (data / "service.sqlite").open("r+b") as handle:
        handle.seek(4096)
        handle.write(os.urandom(40_000))
    with pytest.raises(StoreError, match=r"damaged|cannot be copied"):
        back_up(data, tmp_path / "copy")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "file", "there"]
    assert list((tmp_path / "there").iterdir()) == []
