"""A store that was lost or damaged is never taken for an empty one."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from explaineval.cache import holds_store, integrity, open_store, plan_pruning, prune, request_key
from explaineval.errors import InputError, StoreError
from explaineval.records import Completion, Request

Make = Callable[..., Any]


@pytest.fixture
def keys(directory: Path, make_request: Make, make_completion: Make) -> list[str]:
    """The keys of a closed store with answers enough for several pages."""
    requests = [make_request(number) for number in range(200)]

    async def put_all(store: Any) -> None:
        await asyncio.gather(*(store.put(request, make_completion(n)) for n, request in enumerate(requests)))

    with open_store(directory) as store:
        asyncio.run(put_all(store))
    return [request_key(request) for request in requests]


def refuse(directory: Path, match: str) -> None:
    """Opening fails with that sentence and leaves the database as it is."""
    path = directory / "cache.db"
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(InputError, match=match):
        open_store(directory)
    assert before == (path.read_bytes() if path.is_file() else None)


def test_a_new_store_is_marked(tmp_path: Path) -> None:
    """The directory is made, with the marker beside the database."""
    directory = tmp_path / "a" / "b"
    assert not holds_store(directory)
    open_store(directory).close()

    marker = json.loads((directory / "store.json").read_text())
    assert marker["schema"] == 1
    assert len(marker["created"]) == len("2026-01-01")
    assert holds_store(directory)


def test_the_marker_keeps_its_date(directory: Path) -> None:
    """Reopening renews only what the last close left behind."""
    open_store(directory).close()
    path = directory / "store.json"
    path.write_text('{"schema": 1, "created": "2020-02-02"}')
    open_store(directory).close()

    assert json.loads(path.read_text())["created"] == "2020-02-02"


def test_an_empty_database_that_held_answers_is_refused(directory: Path, keys: list[str]) -> None:
    """SQLite would start anew without a word."""
    (directory / "cache.db").write_bytes(b"")

    refuse(directory, "is empty, but store.json says")


def test_a_missing_database_that_held_answers_is_refused(directory: Path, keys: list[str]) -> None:
    """So would a missing file."""
    (directory / "cache.db").unlink()

    refuse(directory, "is missing, but store.json says")


def test_an_empty_database_beside_its_log_is_refused(directory: Path) -> None:
    """SQLite deletes the log of an empty database, and with it the answers in it."""
    directory.mkdir()
    (directory / "cache.db").write_bytes(b"")
    (directory / "cache.db-wal").write_bytes(b"x" * 100)

    refuse(directory, "is empty, but cache.db-wal is not empty")
    assert (directory / "cache.db-wal").read_bytes() == b"x" * 100


def test_an_empty_file_without_a_marker_is_a_new_store(directory: Path) -> None:
    """Nothing was ever kept there."""
    directory.mkdir()
    (directory / "cache.db").write_bytes(b"")
    with open_store(directory) as store:
        assert store.stats().entries == 0


@pytest.mark.parametrize("content", [b"not a database at all" * 50, b"short", b"SQLite format 3\x00"])
def test_a_file_that_is_no_database_is_refused(directory: Path, content: bytes) -> None:
    """It is not overwritten."""
    directory.mkdir()
    (directory / "cache.db").write_bytes(content)

    refuse(directory, "is not a database")


@pytest.mark.parametrize("share", [0.25, 0.5, 0.99])
def test_a_cut_database_is_refused(directory: Path, keys: list[str], share: float) -> None:
    """As after a copy that broke off."""
    path = directory / "cache.db"
    os.truncate(path, int(path.stat().st_size * share))

    refuse(directory, r"is cut.*refusing to write to a damaged store")


def damage_pages(path: Path) -> None:
    """Overwrite the second half of the pages."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2 // 4096 * 4096)
        file.write(b"\xa5" * (size // 2))


def test_damaged_pages_are_refused(directory: Path, keys: list[str]) -> None:
    """Every page of a database of usual size is looked at."""
    damage_pages(directory / "cache.db")

    refuse(directory, "refusing to write to a damaged store")


def test_a_damaged_store_can_still_be_read(directory: Path, keys: list[str]) -> None:
    """For reading only it opens with a warning, and gives what is left."""
    damage_pages(directory / "cache.db")
    with open_store(directory, readonly=True) as store:
        assert "damaged" in store.warnings[0]
        found = [key for key in keys if store.get(key) is not None]

    assert len(found) < len(keys)


def test_a_page_damaged_meanwhile_makes_misses_and_the_next_opening_fails(
    directory: Path, keys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A miss and a warning while open; no clean close, so that even a large database is checked again."""
    monkeypatch.setattr(integrity, "ALWAYS_CHECKED", 0)
    path = directory / "cache.db"
    with open_store(directory) as store:
        damage_pages(path)
        missed = [key for key in keys if store.get(key) is None]
        assert missed
        assert store.warnings
    assert "closed" not in json.loads((directory / "store.json").read_text())

    refuse(directory, "refusing to write to a damaged store")


def test_a_large_database_is_checked_unless_its_last_close_vouches_for_it(
    directory: Path, keys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An untouched file is opened at once; one that anybody touched is looked at in full."""
    monkeypatch.setattr(integrity, "ALWAYS_CHECKED", 0)
    path = directory / "cache.db"
    status = path.stat()
    marker = integrity.read_marker(directory)
    statements: list[str] = []
    connection = sqlite3.connect(path)
    connection.set_trace_callback(statements.append)
    integrity.check_integrity(connection, path, marker)
    assert not any("integrity_check" in statement for statement in statements)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    integrity.check_integrity(connection, path, marker)
    connection.close()

    assert any("integrity_check" in statement for statement in statements)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (x)",
        "CREATE TRIGGER thief AFTER INSERT ON Cache BEGIN DELETE FROM Cache; END",
        "CREATE VIEW look AS SELECT 1",
    ],
)
def test_a_database_of_another_program_is_refused(directory: Path, plant: Make, statement: str) -> None:
    """Foreign tables would be mixed up with ours; a foreign trigger could delete answers."""
    open_store(directory).close()
    plant(statement)

    refuse(directory, "not part of a cache")


def test_a_changed_trigger_is_refused(directory: Path, plant: Make) -> None:
    """One of diskcache's own, with another body."""
    open_store(directory).close()
    plant("DROP TRIGGER Settings_count_insert")
    plant("CREATE TRIGGER Settings_count_insert AFTER INSERT ON Cache BEGIN DELETE FROM Cache; END")

    refuse(directory, "not part of a cache")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 2}', "\x00"])
def test_a_marker_of_another_version_is_refused(directory: Path, text: str) -> None:
    """Or one that cannot be read."""
    open_store(directory).close()
    (directory / "store.json").write_text(text)

    refuse(directory, "schema|cannot be read")


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """A path below a file."""
    (tmp_path / "file").write_text("x")

    for path in (tmp_path / "file", tmp_path / "file" / "cache"):
        with pytest.raises(InputError, match="cannot be used"):
            open_store(path)


def test_a_directory_without_permission_to_write_is_refused(
    directory: Path, keys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's refusal becomes our sentence (planted: root may write everywhere)."""

    class ReadOnly:
        def __init__(self, directory: Path) -> None:
            connection = sqlite3.connect(f"file:{directory}/cache.db?mode=ro", uri=True)
            try:
                connection.execute("CREATE TABLE x (y)")
            finally:
                connection.close()

    monkeypatch.setattr("explaineval.cache.database.Database", ReadOnly)

    with pytest.raises(StoreError, match="it is read-only; make it writable"):
        open_store(directory)


def test_a_frozen_directory_is_read_without_files_beside_the_database(
    directory: Path, keys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a read-only medium: the three files stay the same, and everything can be read."""
    before = sorted(path.name for path in directory.iterdir())
    monkeypatch.setattr(os, "access", lambda *_: False)
    with open_store(directory, readonly=True) as store:
        assert store.stats().entries == len(keys)
        assert before == sorted(path.name for path in directory.iterdir())


def test_reading_makes_nothing(directory: Path) -> None:
    """A wrong path is not turned into an empty cache."""
    with pytest.raises(InputError, match="no cache"):
        open_store(directory, readonly=True)
    assert not directory.exists()


def test_a_path_that_would_be_rewritten_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """diskcache replaces $NAME by the environment: the store would be made elsewhere."""
    monkeypatch.setenv("ELSEWHERE", "elsewhere")

    with pytest.raises(InputError, match="rename it"):
        open_store(tmp_path / "$ELSEWHERE")
    assert not (tmp_path / "elsewhere").exists()


def test_a_store_without_its_marker_gets_one(directory: Path, keys: list[str]) -> None:
    """As after a crash between the making of the two; the answers are there."""
    (directory / "store.json").unlink()
    with open_store(directory) as store:
        assert (directory / "store.json").exists()
        assert store.stats().entries == len(keys)


def test_a_log_left_by_a_crash_is_read(directory: Path, make_request: Make) -> None:
    """The copy of a store in use, log included, holds what was acknowledged."""
    request: Request = make_request()
    with open_store(directory) as store:
        asyncio.run(store.put(request, Completion(text="x")))
        copy = directory.with_name("copy")
        copy.mkdir()
        for name in ("cache.db", "cache.db-wal", "store.json"):
            (copy / name).write_bytes((directory / name).read_bytes())
    with open_store(copy) as store:
        assert store.get(request_key(request)) == Completion(text="x")


def flip_rows(directory: Path, rows: list[str]) -> None:
    """Change one bit in the middle of the stored value of each of these rows, as a bad disk does."""
    connection = sqlite3.connect(directory / "cache.db")
    values = {key: connection.execute("SELECT value FROM Cache WHERE key = ?", (key,)).fetchone()[0] for key in rows}
    connection.close()
    path = directory / "cache.db"
    data = bytearray(path.read_bytes())
    for value in values.values():
        place = data.find(value)
        assert place >= 0
        data[place + len(value) // 2] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("seed", range(20))
def test_thirty_flipped_bytes_are_refused(directory: Path, keys: list[str], seed: int) -> None:
    """Wherever they fall: in a page, in the index, in an answer, which SQLite itself does not notice."""
    path, draw = directory / "cache.db", random.Random(seed)
    data = bytearray(path.read_bytes())
    for place in draw.sample(range(100, len(data)), 30):
        data[place] ^= 1 << draw.randrange(8)
    path.write_bytes(data)

    refuse(directory, "refusing to write to a damaged store")


def test_a_damaged_answer_is_refused_saved_around_and_can_be_deleted(directory: Path, keys: list[str]) -> None:
    """SQLite finds nothing wrong: the checksum does. What is sound can be read; prune mends the store."""
    flip_rows(directory, keys[3:5])
    refuse(directory, "2 rows of the database .* are damaged.*prune --damaged")
    with open_store(directory, readonly=True) as store:
        sound = [key for key, _, _ in store.iterate()]
        planned = plan_pruning(store, None, damaged=True)
    assert sorted(set(keys) - set(keys[3:5])) == sound
    assert len(planned.versions) == 2
    with open_store(directory, repairing=True) as store:
        assert asyncio.run(prune(store, planned)) == 2

    with open_store(directory) as store:
        assert len(list(store.iterate())) == len(keys) - 2
        assert store.warnings == ()


def test_damage_found_while_open_stops_the_writing(directory: Path, keys: list[str], make_request: Make) -> None:
    """A row that does not fit its checksum is a miss, and nothing is written any more."""
    with open_store(directory) as store:
        asyncio.run(store.put(make_request(9_001), Completion(text="before")))
        connection = sqlite3.connect(directory / "cache.db")
        with connection:
            (value,) = connection.execute("SELECT value FROM Cache WHERE key = ?", (keys[0],)).fetchone()
            changed = value[: len(value) // 2] + bytes([value[len(value) // 2] ^ 4]) + value[len(value) // 2 + 1 :]
            connection.execute("UPDATE Cache SET value = ? WHERE key = ?", (changed, keys[0]))
        connection.close()
        assert store.get(keys[0]) is None
        with pytest.raises(StoreError, match="refusing to write to a damaged store"):
            asyncio.run(store.put(make_request(9_002), Completion(text="after")))
        assert store.get(request_key(make_request(9_001))) == Completion(text="before")
    assert "closed" not in json.loads((directory / "store.json").read_text())

    refuse(directory, "refusing to write to a damaged store")


def test_a_link_to_itself_is_no_fault_of_ours(tmp_path: Path) -> None:
    """It is refused like any other place that cannot hold a cache."""
    loop = tmp_path / "loop"
    loop.symlink_to("loop")

    with pytest.raises(InputError, match="cannot be used"):
        open_store(loop)
