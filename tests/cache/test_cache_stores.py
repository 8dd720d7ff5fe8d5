"""What goes into a store comes out of it, and nothing else does."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import shutil
import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explaineval.cache import Store, canonical, database, open_store, request_key
from explaineval.cache import store as store_module
from explaineval.cache.keys import make_row, read_completion
from explaineval.errors import InputError, StoreError
from explaineval.records import Completion, Request, TokenAlternatives

Make = Callable[..., Any]


def fill(store: Store, pairs: list[tuple[Request, Completion]]) -> None:
    """Put all at the same time."""

    async def put_all() -> None:
        await asyncio.gather(*(store.put(request, completion) for request, completion in pairs))

    asyncio.run(put_all())


@pytest.fixture
def answers(make_request: Make, make_completion: Make) -> list[tuple[Request, Completion]]:
    """Three answers."""
    return [(make_request(number), make_completion(number)) for number in range(3)]


@pytest.fixture
def filled(store: Store, answers: list[tuple[Request, Completion]]) -> Store:
    """A store with three answers."""
    fill(store, answers)
    return store


def test_answers_come_back(filled: Store, answers: list[tuple[Request, Completion]]) -> None:
    """By key, and None for what was never asked."""
    assert [completion for _, completion in answers] == [filled.get(request_key(r)) for r, _ in answers]
    assert filled.get("0" * 64) is None
    assert filled.warnings == ()


def test_answers_outlive_the_store(directory: Path, answers: list[tuple[Request, Completion]]) -> None:
    """A second opening reads them, also without permission to write."""
    with open_store(directory) as store:
        fill(store, answers)
    for readonly in (False, True):
        with open_store(directory, readonly=readonly) as store:
            assert answers[1][1] == store.get(request_key(answers[1][0]))
            assert store.warnings == ()


def test_the_file_is_an_ordinary_diskcache_with_readable_rows(
    directory: Path, filled: Store, answers: list[tuple[Request, Completion]]
) -> None:
    """sqlite3, zlib and json are enough to read a row: the canonical request beside the completion and its origin."""
    request, completion = answers[2]
    connection = sqlite3.connect(directory / "cache.db")
    ((value, *others),) = connection.execute(
        "SELECT value, raw, mode, filename, expire_time FROM Cache WHERE key = ?", (request_key(request),)
    )
    settings = dict(connection.execute("SELECT key, value FROM Settings"))
    connection.close()

    assert others == [1, 1, None, None]
    assert json.loads(zlib.decompress(value)) == {
        "request": canonical(request),
        "completion": {
            "text": completion.text,
            "finish_reason": "stop",
            "logprobs": [{"offset": 8, "token": " A", "top": [[" A", -0.25], ["B", None]]}],
            "usage": completion.usage,
            "model": "smol-2026",
            "created": 1_700_000_000,
        },
        "origin": {},
    }
    assert tuple(settings[n] for n in ("eviction_policy", "cull_limit", "size_limit")) == ("none", 0, 2**60)


texts = st.none() | st.text(max_size=9)
alternatives = st.builds(
    TokenAlternatives,
    offset=st.integers(0, 99),
    token=st.text(max_size=3),
    top=st.lists(st.tuples(st.text(max_size=3), st.none() | st.floats(-99, 0)), max_size=3).map(tuple),
)


@given(
    st.builds(
        Completion,
        text=texts,
        finish_reason=texts,
        refusal=texts,
        logprobs=st.none() | st.lists(alternatives, max_size=2).map(tuple),
        usage=st.dictionaries(st.text(max_size=3), st.none() | st.integers() | st.booleans(), max_size=3),
        model=texts,
        fingerprint=texts,
        created=st.none() | st.integers(0, 2**40),
    )
)
def test_every_completion_survives_its_row(completion: Completion) -> None:
    """Defaults and nulls are left out and come back; an empty list of alternatives is not none."""
    kept = json.loads(json.dumps(make_row({}, completion)))

    assert completion == read_completion(kept)
    assert None not in kept["completion"].values()


def test_the_last_answer_wins(store: Store, make_request: Make, make_completion: Make) -> None:
    """An outcome asked again replaces the former one."""
    for number in (1, 2):
        fill(store, [(make_request(), make_completion(number))])

    assert make_completion(2) == store.get(request_key(make_request()))
    assert store.stats().entries == 1


def test_verdicts_are_kept_apart_from_answers(filled: Store) -> None:
    """They replace each other, come back, and are not counted."""
    assert filled.get_verdict("lab/openai/smol") is None
    asyncio.run(filled.put_verdict("lab/openai/smol", {"logprobs": False}))
    asyncio.run(filled.put_verdict("lab/openai/smol", {"logprobs": True, "max": None}))

    assert filled.get_verdict("lab/openai/smol") == {"logprobs": True, "max": None}
    assert filled.stats().entries == 3
    assert len(list(filled.iterate())) == 3
    assert filled.warnings == ()


def test_a_verdict_under_another_name_is_refused(filled: Store, plant: Make) -> None:
    """A row copied from one endpoint to another would mix them up."""
    asyncio.run(filled.put_verdict("a", {"logprobs": True}))
    plant("UPDATE Cache SET key = 'verdict:b' WHERE key = 'verdict:a'")

    assert filled.get_verdict("b") is None
    assert "verdict:b" in filled.warnings[0]


def test_iteration_gives_every_answer_once_in_the_order_of_keys(
    store: Store, make_request: Make, make_completion: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Across the borders of pages too."""
    monkeypatch.setattr("explaineval.cache.database.PAGE", 3)
    pairs = [(make_request(number), make_completion(number)) for number in range(10)]
    fill(store, pairs)

    assert sorted((request_key(r), r, c) for r, c in pairs) == list(store.iterate())


def test_stats_count_by_endpoint_and_model(store: Store, make_request: Make, make_completion: Make) -> None:
    """Entries and the raw usage, summed by name; nested details are left alone."""
    fill(
        store,
        [(make_request(n), make_completion(n)) for n in range(4)]
        + [(make_request(n, endpoint=None, model="m"), make_completion(n)) for n in range(2)],
    )
    stats = store.stats()

    assert (stats.entries, stats.refused) == (6, 0)
    assert [(group.endpoint, group.model, group.entries) for group in stats.models] == [
        (None, "m", 2),
        ("lab", "openai/smol", 4),
    ]
    assert stats.models[1].tokens == {"completion_tokens": 0 + 1 + 2 + 3, "prompt_tokens": 40}
    assert stats.bytes >= (store.directory / "cache.db").stat().st_size


def spoil(plant: Make, key: str, outside: Path, kind: str) -> None:
    """Do to one row what a stranger or a bad disk could do."""
    blobs = {
        "garbage": b"garbage",
        "bomb": zlib.compress(bytes(17 * 2**20)),
        "huge": bytes(18 * 2**20),
        "no row": zlib.compress(b"[]"),
        "no completion": zlib.compress(b'{"request":{},"completion":{}}'),
    }
    if kind in blobs:
        plant("UPDATE Cache SET value = ? WHERE key = ?", blobs[kind], key)
    elif kind == "pickle":
        trap = pickle.dumps(Trap(outside.with_name("executed")))
        plant("UPDATE Cache SET mode = 4, value = ? WHERE key = ?", trap, key)
    elif kind == "file":
        plant("UPDATE Cache SET mode = 2, filename = '../outside.txt', value = NULL WHERE key = ?", key)
    elif kind == "text not in UTF-8":
        plant("UPDATE Cache SET filename = CAST(x'ff' AS TEXT) WHERE key = ?", key)


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    "kind",
    ["garbage", "bomb", "huge", "no row", "no completion", "pickle", "file", "text not in UTF-8"],
)
def test_a_spoiled_row_is_a_miss_and_a_warning(
    filled: Store,
    answers: list[tuple[Request, Completion]],
    plant: Make,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    kind: str,
) -> None:
    """Read, iterate and overwrite: nothing runs, nothing outside changes, the other rows are there."""
    outside = tmp_path / "outside.txt"
    outside.write_text("precious")
    request, completion = answers[0]
    key = request_key(request)
    spoil(plant, key, outside, kind)

    with caplog.at_level(logging.WARNING, logger="explaineval.cache"):
        assert filled.get(key) is None
        assert filled.get(key) is None
    assert len(list(filled.iterate())) == 2
    assert (filled.stats().entries, filled.stats().refused) == (2, 1)
    assert len(filled.warnings) == 1
    assert key in filled.warnings[0]
    assert caplog.messages == list(filled.warnings)
    fill(filled, [(request, completion)])
    assert completion == filled.get(key)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "outside.txt"]
    assert outside.read_text() == "precious"


def test_an_answer_under_another_key_is_refused(
    filled: Store, answers: list[tuple[Request, Completion]], plant: Make
) -> None:
    """A row copied to the key of another request is not that request's answer."""
    source, target = (request_key(request) for request, _ in answers[:2])
    plant("UPDATE Cache SET value = (SELECT value FROM Cache WHERE key = ?) WHERE key = ?", source, target)

    assert filled.get(target) is None
    assert "is not the one that its key stands for" in filled.warnings[0]
    assert answers[0][1] == filled.get(source)
    assert {source} <= {key for key, _, _ in filled.iterate()} != {target}
    assert target not in {key for key, _, _ in filled.iterate()}


def test_an_edited_answer_with_another_request_is_refused(
    filled: Store, answers: list[tuple[Request, Completion]], plant: Make
) -> None:
    """One changed character of the stored request is enough."""
    request, completion = answers[0]
    entries = canonical(request) | {"max_tokens": 10}
    value = zlib.compress(json.dumps(make_row(entries, completion)).encode())
    plant("UPDATE Cache SET value = ? WHERE key = ?", value, request_key(request))

    assert filled.get(request_key(request)) is None


def test_rows_of_strangers_are_counted_not_read(filled: Store, plant: Make) -> None:
    """Keys that are no SHA-256 are no answers."""
    for key in (7, b"x", "short", "G" * 64):
        plant("INSERT INTO Cache(key, raw, mode, value) VALUES (?, 1, 1, x'00')", key)

    assert len(list(filled.iterate())) == 3
    assert "holds 4 rows that hold no answer" in filled.warnings[0]


def test_warnings_are_bounded(store: Store) -> None:
    """A ruined store does not fill the memory with sentences."""
    for number in range(store_module.MAX_WARNINGS + 7):
        store.warn(f"Row {number} is bad.")
        store.warn("Row 0 is bad.")

    assert len(store.warnings) == store_module.MAX_WARNINGS + 1
    assert store.warnings[-1].startswith("7 more warnings")


def test_a_request_without_a_key_is_not_stored(store: Store, make_request: Make) -> None:
    """The error reaches the caller before anything is queued."""
    broken = make_request().model_copy(update={"params": {"x": None}})

    with pytest.raises(InputError, match=r"params\.x is null"):
        asyncio.run(store.put(broken, Completion(text="x")))


def test_one_bad_value_does_not_take_the_batch_with_it(store: Store, make_request: Make, make_completion: Make) -> None:
    """A document that is not JSON fails alone; its neighbours are stored."""

    async def put_both() -> list[BaseException | None]:
        bad, good = store.put_verdict("x", {"cost": float("nan")}), store.put(make_request(1), make_completion(1))
        return await asyncio.gather(bad, good, return_exceptions=True)

    first, second = asyncio.run(put_both())

    assert isinstance(first, StoreError)
    assert second is None
    assert store.get(request_key(make_request(1))) == make_completion(1)


def test_broken_characters_of_an_answer_are_kept(store: Store, make_request: Make) -> None:
    """An answer may hold half of a surrogate pair: it was paid for."""
    fill(store, [(make_request(), Completion(text="ü \ud83d"))])

    found = store.get(request_key(make_request()))
    assert found == Completion(text="ü \ud83d")
    assert (found.text, found.repaired) == ("ü \ufffd", ("text",))


@pytest.mark.parametrize(
    ("kept", "text", "usage"),
    [
        ({"text": "ü \ud83d"}, "ü \ufffd", {}),
        ({"text": "A", "usage": {"prompt_tokens": 10**400, "x": [-(10**30)]}}, "A",
         {"prompt_tokens": "about 10^400", "x": ["-about 10^30"]}),
        ({"text": "A", "created": 10**400}, "A", {}),
        ({"text": "A", "model": "\ud83d", "fingerprint": "\ude00", "finish_reason": "\udfff"}, "A", {}),
        ({"text": "A", "logprobs": [{"offset": 0, "token": "A", "top": [["A\ud83d", -0.5]]}]}, "A", {}),
    ],
)  # fmt: skip
def test_a_row_of_an_earlier_version_is_read(
    filled: Store, plant: Make, answers: list[tuple[Request, Completion]], kept: Any, text: str, usage: Any
) -> None:
    """What no file can hold, but earlier versions stored, is read as what can be written, without a warning."""
    key = request_key(answers[0][0])
    row = {"request": canonical(answers[0][0]), "completion": kept}
    plant("UPDATE Cache SET value = ? WHERE key = ?", zlib.compress(json.dumps(row).encode()), key)
    found = filled.get(key)

    assert found is not None
    assert (found.text, found.usage, filled.warnings) == (text, usage, ())
    assert Completion.model_validate_json(found.model_dump_json()) == found
    assert filled.stats().entries == 3


def test_a_store_for_reading_stores_nothing(filled: Store, make_request: Make) -> None:
    """And says so."""
    with open_store(filled.directory, readonly=True) as reading:
        assert reading.stats().entries == 3
        with pytest.raises(StoreError, match="reading only"):
            asyncio.run(reading.put(make_request(), Completion(text="x")))


def test_a_closed_store_says_so(store: Store, make_request: Make) -> None:
    """Closing twice is fine; using it afterwards is an error, never a silent miss."""
    store.close()
    store.close()

    with pytest.raises(StoreError, match="closed"):
        store.get("0" * 64)
    with pytest.raises(StoreError, match="closed"):
        list(store.iterate())
    with pytest.raises(StoreError, match="closed"):
        asyncio.run(store.put(make_request(), Completion(text="x")))


def test_a_cancelled_put_is_written_all_the_same(directory: Path, make_request: Make, make_completion: Make) -> None:
    """The answer was paid for: interrupting the wait does not throw it away."""

    async def cancel() -> None:
        task = asyncio.create_task(store.put(make_request(), make_completion()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with open_store(directory) as store:
        asyncio.run(cancel())
    with open_store(directory) as store:
        assert make_completion() == store.get(request_key(make_request()))


def test_a_locked_database_is_an_error_not_a_miss(
    filled: Store, answers: list[tuple[Request, Completion]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A miss would buy the answer again."""

    class Locked:
        def execute(self, *_: object) -> None:
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY  # type: ignore[misc]
            raise error

        def close(self) -> None:
            pass

    filled._reader.connection.close()
    monkeypatch.setattr(filled._reader, "connection", Locked())

    with pytest.raises(StoreError, match="locked"):
        filled.get(request_key(answers[0][0]))


def test_settings_cannot_come_from_the_file(directory: Path, plant: Make) -> None:
    """A stored policy that would evict answers, or a pragma that would lose them, is overruled."""
    open_store(directory).close()
    plant("UPDATE Settings SET value = 'least-recently-used' WHERE key = 'eviction_policy'")
    plant("UPDATE Settings SET value = 'off' WHERE key = 'sqlite_journal_mode'")
    plant("UPDATE Settings SET value = 'x; DROP TABLE Cache' WHERE key = 'sqlite_cache_size'")
    plant("UPDATE Settings SET value = 10 WHERE key = 'cull_limit'")
    open_store(directory).close()
    connection = sqlite3.connect(directory / "cache.db")
    settings = dict(connection.execute("SELECT key, value FROM Settings"))
    mode = connection.execute("PRAGMA journal_mode").fetchone()
    connection.close()

    assert {name: settings[name] for name in database.SETTINGS} == database.SETTINGS
    assert mode == ("wal",)


@pytest.mark.parametrize("key", ["_directory", "_disk", "sqlite_temp_store_directory", "disk_x", b"bytes"])
def test_foreign_settings_are_refused(directory: Path, plant: Make, tmp_path: Path, key: object) -> None:
    """diskcache makes attributes and pragmas of them: `_directory` would move the store."""
    open_store(directory).close()
    plant("INSERT INTO Settings VALUES (?, ?)", key, str(tmp_path / "elsewhere"))

    with pytest.raises(InputError, match="foreign setting"):
        open_store(directory)
    assert not (tmp_path / "elsewhere").exists()


def test_a_setting_planted_while_the_store_is_open_stops_the_writer_cleanly(
    store: Store, plant: Make, make_request: Make
) -> None:
    """The waiter gets an error; nothing hangs."""
    plant("INSERT INTO Settings VALUES ('sqlite_foreign', 'x')")

    with pytest.raises(StoreError):
        asyncio.run(asyncio.wait_for(store.put(make_request(), Completion(text="x")), 10))


@pytest.mark.parametrize("what", ["removed", "replaced"])
def test_a_database_that_is_no_longer_there_takes_nothing(
    tmp_path: Path, what: str, make_request: Make, make_completion: Make
) -> None:
    """What is written into a file without a name can never be found again, so it is said, and nothing more is asked."""
    path, other = tmp_path / "cache" / "cache.db", tmp_path / "other.db"
    with open_store(tmp_path / "cache") as store:
        asyncio.run(store.put(make_request(0), make_completion(0)))
        shutil.copy(path, other)
        _ = path.unlink() if what == "removed" else other.replace(path)
        for number in (1, 2):
            with pytest.raises(StoreError, match="removed or replaced while it was in use"):
                asyncio.run(store.put(make_request(number), make_completion(number)))
