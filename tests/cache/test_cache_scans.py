"""Damage of every kind: what can be read is found, nothing else is, and `verify_store` tells."""

from __future__ import annotations

import asyncio
import os
import random
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from explaineval.cache import Store, database, export_pack, import_pack, open_store, request_key, verify_store
from explaineval.errors import DamageError, InputError, StoreError
from explaineval.records import Completion, Request

Make = Callable[..., Any]
ANSWERS = 300


def ask(number: int) -> Request:
    """Distinct requests by number."""
    return Request(model="m", style="completion", prompt=str(number), max_tokens=9)


@pytest.fixture(scope="module")
def truth() -> dict[str, Completion]:
    """Answers of very different lengths, some over several pages."""
    draw = random.Random("answers")
    sizes = [draw.choice([50, 500, 3000, 20_000]) for _ in range(ANSWERS)]
    texts = ["".join(draw.choices("abcdefghijkl ", k=size)) for size in sizes]
    return {request_key(ask(number)): Completion(text=text) for number, text in enumerate(texts)}


@pytest.fixture(scope="module")
def sound(truth: dict[str, Completion], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The database of a store with these answers."""
    directory = tmp_path_factory.mktemp("sound")

    async def put_all(store: Store) -> None:
        completions = enumerate(truth.values())
        await asyncio.gather(*(store.put(ask(number), completion) for number, completion in completions))
        await store.put_verdict("a", {"x": 1})

    with open_store(directory) as store:
        asyncio.run(put_all(store))
    return (directory / "cache.db").read_bytes()


def lay_out(directory: Path, data: bytes) -> None:
    """A store with this database."""
    directory.mkdir()
    (directory / "cache.db").write_bytes(data)
    (directory / "store.json").write_text('{"schema": 1, "created": "2026-01-01"}\n')


def overwrite(data: bytes, place: int, new: bytes) -> bytes:
    """The same length with other bytes at a place."""
    return data[:place] + new[: len(data) - place] + data[place + len(new) :]


def page_of(data: bytes, what: str) -> int:
    """Number (from 0) of a page of the table (leaf), of its root, or of the index of keys (leaf or root)."""
    connection = sqlite3.connect(":memory:")
    connection.deserialize(overwrite(data, 18, b"\x01\x01"))  # in memory there is no log
    statement = "SELECT rootpage FROM sqlite_master WHERE name = ?"
    (root,) = connection.execute(statement, ("Cache" if "table" in what else "Cache_key_raw",)).fetchone()
    connection.close()
    if "root" in what:
        return int(root) - 1
    kind = 13 if "table" in what else 10
    leaves = [n for n in range(1, len(data) // 4096) if data[n * 4096] == kind and n != root - 1]
    leaves = [n for n in leaves if re.search(rb"[0-9a-f]{64}", data[n * 4096 : (n + 1) * 4096])]
    return leaves[len(leaves) // 2]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "leaf of the table": lambda data: overwrite(data, page_of(data, "table leaf") * 4096, bytes(4096)),
    "half a leaf of the table": lambda data: overwrite(data, page_of(data, "table leaf") * 4096 + 2048, b"\xa5" * 2048),
    "leaf of the index": lambda data: overwrite(data, page_of(data, "index leaf") * 4096, b"\xa5" * 4096),
    "root of the index": lambda data: overwrite(data, page_of(data, "index root") * 4096, b"\xa5" * 4096),
    "cut by a tenth": lambda data: data[: len(data) * 9 // 10 // 4096 * 4096],
    "cut within a page": lambda data: data[: len(data) * 2 // 3 + 77],
}
"""How the database is damaged."""

LEAST = {"leaf of the table": 0.9, "half a leaf of the table": 0.9, "leaf of the index": 1.0, "root of the index": 1.0}
"""Share of answers that must be found; for a cut it is the share of the table that is left, about."""


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_can_be_read_is_saved_into_a_new_store(
    sound: bytes, truth: dict[str, Completion], tmp_path: Path, damage: str
) -> None:
    """Exported from the damaged store, imported into a new one: only what stood on the damaged pages is lost."""
    lay_out(tmp_path / "bad", DAMAGES[damage](sound))
    before = (tmp_path / "bad" / "cache.db").read_bytes()
    found = verify_store(tmp_path / "bad")
    with open_store(tmp_path / "bad", readonly=True) as store:
        exported = export_pack(store, tmp_path / "saved.gz")
        assert store.warnings
    with open_store(tmp_path / "new") as store:
        imported = asyncio.run(import_pack(store, tmp_path / "saved.gz"))
        answers = {key: completion for key, _, completion in store.iterate()}

    assert answers.items() <= truth.items()
    assert exported.entries == imported.added == len(answers) == found.sound
    assert len(answers) >= LEAST.get(damage, 0.3) * ANSWERS
    assert not found.whole
    assert found.integrity is not None
    assert before == (tmp_path / "bad" / "cache.db").read_bytes()
    with pytest.raises(InputError, match="save what can still be read with `explaineval cache export`"):
        open_store(tmp_path / "bad")


def test_asking_for_keys_looks_past_a_damaged_index(sound: bytes, truth: dict[str, Completion], tmp_path: Path) -> None:
    """The answers of a run are found in the table though their index is gone."""
    lay_out(tmp_path / "bad", DAMAGES["root of the index"](sound))
    wanted = sorted(truth)[::10]
    with open_store(tmp_path / "bad", readonly=True) as store:
        found = export_pack(store, tmp_path / "p.gz", keys=[*wanted, "0" * 64])

    assert (found.entries, found.missing) == (len(wanted), ("0" * 64,))


@pytest.mark.parametrize("seed", range(14))
def test_no_damage_gives_a_wrong_answer_or_a_fault_of_ours(
    sound: bytes, truth: dict[str, Completion], tmp_path: Path, seed: int
) -> None:
    """Bits, bytes and pages at random: each answer found is the one that was stored, once, or one sentence says why."""
    draw = random.Random(f"damage {seed}")
    data = sound
    for _ in range(draw.choice([1, 3, 10])):
        place = draw.randrange(100, len(sound))
        size = draw.choice([1, 20, 4096])
        data = overwrite(data, place // size * size, draw.randbytes(size))
    if seed % 5 == 0:
        data = data[: draw.randrange(5000, len(data))]
    lay_out(tmp_path / "bad", data)
    found = verify_store(tmp_path / "bad")
    with open_store(tmp_path / "bad", readonly=True) as store:
        answers = [(key, completion) for key, _, completion in store.iterate()]

    assert len(answers) == len(dict(answers))
    assert dict(answers).items() <= truth.items()
    assert not (found.whole and len(answers) < ANSWERS)


def test_a_sound_store_is_whole(sound: bytes, tmp_path: Path) -> None:
    """Every row is counted, and nothing is written, not even a file beside the database that stays."""
    lay_out(tmp_path / "c", sound)
    before = {path.name: path.read_bytes() for path in (tmp_path / "c").glob("*") if not path.name.endswith("-shm")}
    found = verify_store(tmp_path / "c")
    after = {path.name: path.read_bytes() for path in (tmp_path / "c").glob("*") if path.stat().st_size < 2**15}

    assert (found.rows, found.sound, found.verdicts, found.strangers, found.faulty) == (ANSWERS + 1, ANSWERS, 1, 0, 0)
    assert (found.whole, found.integrity, found.faults) == (True, None, ())
    assert before["cache.db"] == (tmp_path / "c" / "cache.db").read_bytes()
    assert before["store.json"] == after["store.json"]


POISONS = {
    "garbage": ("UPDATE Cache SET value = x'00ff' WHERE key = ?", "compressed data are damaged"),
    "another mode": ("UPDATE Cache SET mode = 4 WHERE key = ?", "its mode is 4"),
    "a file": ("UPDATE Cache SET filename = '/etc/passwd' WHERE key = ?", "names a file"),
    "not UTF-8": ("UPDATE Cache SET filename = CAST(x'ff' AS TEXT) WHERE key = ?", "cannot read it"),
    "too large": ("UPDATE Cache SET value = zeroblob(18000000) WHERE key = ?", "cannot read it"),
    "another's row": (
        "UPDATE Cache SET value = (SELECT value FROM Cache WHERE key != ?1 AND length(key) = 64) WHERE key = ?1",
        "not the one that its key stands for",
    ),
}


@pytest.mark.parametrize("poison", POISONS)
def test_a_poisoned_row_is_named(
    directory: Path, store: Store, plant: Make, make_request: Make, make_completion: Make, poison: str
) -> None:
    """The row by its key, with the reason; the others are sound."""
    for number in range(3):
        asyncio.run(store.put(make_request(number), make_completion(number)))
    statement, reason = POISONS[poison]
    plant(statement, request_key(make_request(1)))
    found = verify_store(directory)

    assert (found.rows, found.sound, found.faulty, found.integrity, found.whole) == (3, 2, 1, None, False)
    assert found.faults[0].startswith(f"the row {request_key(make_request(1))}: ")
    assert reason in found.faults[0]


def test_strangers_and_bad_verdicts_are_counted(directory: Path, store: Store, plant: Make) -> None:
    """Rows under keys of any other form are strangers; a verdict of another name is damaged."""
    asyncio.run(store.put_verdict("a", {}))
    asyncio.run(store.put_verdict("b", {}))
    plant("UPDATE Cache SET key = 'verdict:c' WHERE key = 'verdict:b'")
    for key in (7, b"x", "short", "G" * 64):
        plant("INSERT INTO Cache(key, raw, mode, value) VALUES (?, 1, 1, x'00')", key)
    found = verify_store(directory)

    assert (found.rows, found.sound, found.verdicts, found.strangers, found.faulty) == (6, 0, 1, 4, 1)
    assert "verdict:c" in found.faults[0]
    assert not found.whole


def test_a_wrong_index_is_found(sound: bytes, tmp_path: Path) -> None:
    """A key changed in the index only: the pages are whole, but the answer cannot be found by its key."""
    page = page_of(sound, "index leaf") * 4096
    digits = [n for n in range(page + 200, page + 4096 - 64) if sound[n : n + 60].isalnum()]
    place = digits[len(digits) // 2] + 5
    changed = overwrite(sound, place, b"0" if sound[place : place + 1] != b"0" else b"1")
    lay_out(tmp_path / "c", changed)
    found = verify_store(tmp_path / "c")
    with open_store(tmp_path / "c", readonly=True) as store:
        assert len(list(store.iterate())) == ANSWERS

    assert found.sound == ANSWERS
    assert "missing from index" in str(found.integrity) or "out of order" in str(found.integrity)


@pytest.mark.parametrize(("content", "says"), [(b"", "is empty, but store.json"), (b"x" * 5000, "is not a database")])
def test_a_lost_database_is_damage(tmp_path: Path, content: bytes, says: str) -> None:
    """Nothing can be read: a finding of the check, not a refusal to look."""
    lay_out(tmp_path / "c", content)

    assert says in str(verify_store(tmp_path / "c").integrity)
    with pytest.raises(DamageError, match=says):
        open_store(tmp_path / "c", readonly=True)


def test_a_lost_table_is_damage(directory: Path, store: Store, plant: Make) -> None:
    """A run would take it for an empty cache, and buy everything again."""
    store.close()
    plant("DROP TABLE Cache")

    with pytest.raises(DamageError, match="its tables are missing"):
        open_store(directory)
    assert "its tables are missing" in str(verify_store(directory).integrity)


@pytest.mark.parametrize("text", ["", "{", "\x00\x00"])
def test_a_damaged_marker_does_not_hide_the_answers(
    directory: Path, store: Store, make_request: Make, text: str
) -> None:
    """As after a power failure: nothing is written beside it, everything is read, and the sentence says what to do."""
    asyncio.run(store.put(make_request(), Completion(text="x")))
    store.close()
    (directory / "store.json").write_text(text)
    with pytest.raises(DamageError, match="delete the marker"):
        open_store(directory)
    found = verify_store(directory)

    assert (found.sound, found.faulty) == (1, 0)
    assert "store.json" in str(found.integrity)
    (directory / "store.json").unlink()
    open_store(directory).close()
    assert verify_store(directory).whole


def test_a_lock_that_stays_is_no_damage(
    directory: Path, store: Store, make_request: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is said of rows that could not be read just now."""
    asyncio.run(store.put(make_request(), Completion(text="x")))
    store.close()
    monkeypatch.setattr(database, "LOCK_TIMEOUT", 0.1)
    other = sqlite3.connect(directory / "cache.db", isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match="locked"):
        verify_store(directory)
    other.execute("ROLLBACK")
    other.close()

    assert verify_store(directory).whole


def test_a_read_only_directory_can_be_verified(sound: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a read-only medium: no file is made beside the database."""
    lay_out(tmp_path / "c", sound)
    monkeypatch.setattr(os, "access", lambda *_: False)

    assert verify_store(tmp_path / "c").whole
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["cache.db", "store.json"]
