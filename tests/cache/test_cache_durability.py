"""Answers survive kill -9, other processes, locks, full disks; the event loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from explaineval.cache import Store, database, open_store, request_key
from explaineval.cache import database as cache_writer
from explaineval.errors import StoreError
from explaineval.records import Completion

Make = Callable[..., Any]

WRITE = """
    import asyncio, sys
    from pathlib import Path
    from explaineval.cache import open_store, request_key
    from explaineval.records import Completion, Request

    store = open_store(Path(sys.argv[1]))
    name, count = sys.argv[2], int(sys.argv[3])
    numbers = iter(range(count))

    async def work():
        for number in numbers:
            request = Request(model=name, style="completion", prompt=str(number), max_tokens=1)
            await store.put(request, Completion(text=f"{name} {number}"))
            print(request_key(request), number, flush=True)

    async def main():
        await asyncio.gather(*(work() for _ in range(16)))

    asyncio.run(main())
    store.close()
"""

LOCK = """
    import sqlite3, sys
    connection = sqlite3.connect(sys.argv[1], isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    print("locked", flush=True)
    sys.stdin.readline()
    connection.execute("ROLLBACK")
"""


def start(code: str, *arguments: object, stdin: int | None = None) -> subprocess.Popen[str]:
    """A child process that runs `code`."""
    source = Path(database.__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdin=stdin,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(source)},
    )


def test_every_acknowledged_answer_outlives_kill_9(directory: Path) -> None:
    """A child prints each key once its put has returned, and is killed in the middle."""
    child = start(WRITE, directory, "killed", 1_000_000)
    assert child.stdout is not None
    lines = [child.stdout.readline() for _ in range(300)]
    os.kill(child.pid, signal.SIGKILL)
    lines += child.stdout.read().splitlines(keepends=True)
    child.wait()
    child.stdout.close()
    acknowledged = [line.split() for line in lines if line.endswith("\n")]

    assert child.returncode == -signal.SIGKILL
    assert len(acknowledged) >= 300
    assert (directory / "cache.db-wal").stat().st_size > 0
    with open_store(directory) as store:
        assert [f"killed {number}" for _, number in acknowledged] == [
            answer.text for key, _ in acknowledged for answer in [store.get(key)] if answer is not None
        ]
        assert store.warnings == ()


def test_two_processes_share_one_store(directory: Path) -> None:
    """Both write at the same time from the making of the store on; nothing is lost."""
    children = [start(WRITE, directory, name, 400) for name in ("one", "two")]
    outputs = [child.communicate(timeout=60)[0] for child in children]

    assert [child.returncode for child in children] == [0, 0]
    with open_store(directory) as store:
        for name, output in zip(("one", "two"), outputs, strict=True):
            lines = [line.split() for line in output.splitlines()]
            assert len(lines) == 400
            assert all(store.get(key) == Completion(text=f"{name} {number}") for key, number in lines)
        assert store.stats().entries == 800


def test_the_loop_goes_on_while_another_process_holds_the_lock(
    store: Store, make_request: Make, make_completion: Make
) -> None:
    """The loop takes 500 steps with a read in each before the lock is released; only then the put returns."""

    async def main() -> None:
        await store.put(make_request(0), make_completion(0))
        child = await asyncio.to_thread(start, LOCK, store.directory / "cache.db", stdin=subprocess.PIPE)
        assert child.stdout is not None
        assert await asyncio.to_thread(child.stdout.readline) == "locked\n"
        put = asyncio.create_task(store.put(make_request(1), make_completion(1)))
        for _ in range(500):
            assert store.get(request_key(make_request(0))) == make_completion(0)
            await asyncio.sleep(0)
        assert not put.done()
        await asyncio.to_thread(child.communicate, "release\n")
        await put

    asyncio.run(main())

    assert store.get(request_key(make_request(1))) == make_completion(1)


def test_a_lock_beyond_the_time_out_reaches_every_waiter(
    directory: Path, make_request: Make, make_completion: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence for each; afterwards the store writes again, and what was there is there."""
    monkeypatch.setattr(database, "LOCK_TIMEOUT", 0.2)

    async def put_some(numbers: range) -> list[BaseException | None]:
        puts = [store.put(make_request(number), make_completion(number)) for number in numbers]
        return await asyncio.gather(*puts, return_exceptions=True)

    with open_store(directory) as store:
        assert asyncio.run(put_some(range(1))) == [None]
        other = sqlite3.connect(directory / "cache.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        failures = asyncio.run(put_some(range(1, 6)))
        other.execute("ROLLBACK")
        other.close()

        assert {type(failure) for failure in failures} == {StoreError}
        assert all("kept it locked for 0.2 s" in str(failure) for failure in failures)
        assert asyncio.run(put_some(range(1, 6))) == [None] * 5
        assert store.stats().entries == 6


def test_a_full_disk_is_named_and_loses_nothing(store: Store, make_request: Make, make_completion: Make) -> None:
    """SQLite's own limit on pages stands for the disk."""
    asyncio.run(store.put(make_request(0), make_completion(0)))
    writer = store._writer
    assert writer is not None
    prepare = writer._database.prepare_writes

    def prepare_full() -> None:
        prepare()
        writer._database._sql("PRAGMA max_page_count = 1")

    writer._database.prepare_writes = prepare_full
    noise = "".join(chr(33 + number * 7919 % 9973) for number in range(50_000))
    with pytest.raises(StoreError, match="disk is full"):
        asyncio.run(store.put(make_request(1), Completion(text=noise)))

    assert store.get(request_key(make_request(0))) == make_completion(0)
    assert store.get(request_key(make_request(1))) is None
    writer._database.prepare_writes = prepare
    asyncio.run(store.put(make_request(1), Completion(text=noise)))
    assert store.get(request_key(make_request(1))) == Completion(text=noise)


def test_a_database_turned_read_only_is_named(
    store: Store, make_request: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """diskcache would call it a time-out."""
    writer = store._writer
    assert writer is not None
    prepare = writer._database.prepare_writes

    def prepare_readonly() -> None:
        prepare()
        writer._database._sql("PRAGMA query_only = ON")

    monkeypatch.setattr(writer._database, "prepare_writes", prepare_readonly)

    with pytest.raises(StoreError, match="read-only"):
        asyncio.run(store.put(make_request(), Completion(text="x")))


def test_waiting_answers_share_a_transaction(
    store: Store, make_request: Make, make_completion: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Group commit: many puts, few transactions, none larger than the limit."""
    monkeypatch.setattr(cache_writer, "MAX_BATCH", 40)
    writer = store._writer
    assert writer is not None
    sizes = []
    commit = writer._commit
    monkeypatch.setattr(writer, "_commit", lambda: (sizes.append(len(writer._batch)), commit())[1])

    async def put_all() -> None:
        await asyncio.gather(*(store.put(make_request(n), make_completion(n)) for n in range(100)))

    asyncio.run(put_all())

    assert sum(sizes) == 100
    assert max(sizes) <= 40
    assert len(sizes) < 50
    assert store.stats().entries == 100


def test_closing_writes_what_is_queued(
    directory: Path, make_request: Make, make_completion: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers that arrive while the writer is busy are stored before it ends."""
    store = open_store(directory)
    writer = store._writer
    assert writer is not None
    busy, go_on = threading.Event(), threading.Event()
    commit = writer._commit
    monkeypatch.setattr(writer, "_commit", lambda: (busy.set(), go_on.wait(10), commit())[2])

    async def main() -> None:
        first = asyncio.create_task(store.put(make_request(0), make_completion(0)))
        await asyncio.to_thread(busy.wait, 10)
        rest = [asyncio.create_task(store.put(make_request(n), make_completion(n))) for n in range(1, 9)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(asyncio.to_thread(store.close))
        while writer._open:  # noqa: ASYNC110  # closing has no event of its own
            await asyncio.sleep(0.001)
        go_on.set()
        await asyncio.gather(first, *rest, closing)

    asyncio.run(main())

    with open_store(directory) as again:
        assert again.stats().entries == 9


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_in_the_writer_leaves_no_waiter_hanging(
    store: Store, make_request: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even an error that nobody thought of ends every wait."""
    writer = store._writer
    assert writer is not None

    def fail() -> None:
        raise MemoryError("planted")

    monkeypatch.setattr(writer, "_commit", fail)

    async def put_some() -> list[BaseException | None]:
        puts = [store.put(make_request(number), Completion(text="x")) for number in range(5)]
        return await asyncio.wait_for(asyncio.gather(*puts, return_exceptions=True), 10)

    assert {StoreError} == {type(failure) for failure in asyncio.run(put_some())}
    with pytest.raises(StoreError, match="closed"):
        asyncio.run(store.put(make_request(), Completion(text="x")))
