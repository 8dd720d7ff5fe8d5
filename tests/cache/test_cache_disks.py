"""Rows of strangers never run code, never touch a file, never fill the memory."""

from __future__ import annotations

import ast
import contextlib
import math
import os
import pickle
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import diskcache
import pytest
from hypothesis import given
from hypothesis import strategies as st

import explaineval
from explaineval.cache.database import Database, JsonDisk
from explaineval.cache.keys import MAX_BYTES, Packed, RefusedRowError, pack, unpack
from explaineval.errors import StoreError

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[diskcache.Cache]:
    """diskcache itself over our disk, with culling on, so that each of its methods can be tried."""
    opened = diskcache.Cache(
        str(tmp_path / "cache"), disk=JsonDisk, cull_limit=10, eviction_policy="least-recently-stored"
    )
    yield opened
    opened.close()


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file beside the cache's directory that must outlive everything."""
    path = tmp_path / "outside.txt"
    path.write_text("precious")
    return path


def poison(cache: diskcache.Cache, **columns: object) -> None:
    """Change columns of the row under `key`."""
    for name, value in columns.items():
        cache._sql(f"UPDATE Cache SET {name} = ? WHERE key = 'key'", (value,))  # noqa: S608  # our own names


class Payload:
    """Unpickled, it makes the file that it was given."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


@given(json_values)
def test_values_come_back_as_they_were(value: Any) -> None:
    """Packing and unpacking are inverse, lone surrogates of broken answers included."""
    assert value == unpack(pack(value))
    assert ["\ud83d", value] == unpack(pack(["\ud83d", value]))


def test_packed_rows_are_compressed_utf8_json() -> None:
    """Anybody can read a row with zlib and json alone."""
    assert zlib.decompress(pack({"a": "ü", "b": [1]})) == '{"a":"ü","b":[1]}'.encode()


@pytest.mark.parametrize(
    "value", [{1, 2}, math.nan, [math.inf], b"x", {"x": object()}], ids=["set", "nan", "inf", "bytes", "object"]
)
def test_values_that_are_not_json_are_not_stored(value: object) -> None:
    """No fallback to another form of serialisation."""
    with pytest.raises(RefusedRowError, match="not JSON"):
        pack(value)


def test_values_too_large_to_be_read_again_are_not_stored() -> None:
    """What is accepted can be read back."""
    fits = "x" * (MAX_BYTES - 2)

    assert fits == unpack(pack(fits))
    with pytest.raises(RefusedRowError, match="limit"):
        pack(fits + "x")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (zlib.compress(b'"' + b"x" * MAX_BYTES + b'"'), "larger"),
        (zlib.compress(b"[" * 1_000_000), "not JSON"),
        (zlib.compress(b"{}")[:-1], "cut short"),
        (zlib.compress(b"{}") + b"x", "follows"),
        (zlib.compress(b"{}") + zlib.compress(b"{}"), "follows"),
        (zlib.compress(b'{"a": NaN}'), "not JSON"),
        (zlib.compress(b'"\xff"'), "not JSON"),
        (zlib.compress(b"{"), "not JSON"),
        (b"", "cut short"),
        (b"garbage", "damaged"),
        (pickle.dumps({}), "damaged"),
    ],
    ids=["bomb", "nested", "cut", "tail", "second", "nan", "latin", "half", "empty", "garbage", "pickle"],
)
def test_damaged_or_hostile_bytes_are_refused(data: bytes, reason: str) -> None:
    """Each kind has its reason."""
    with pytest.raises(RefusedRowError, match=reason):
        unpack(data)


@pytest.mark.slow
def test_a_bomb_is_not_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gigabyte of zeros stops just above the limit: its size is bounded before it exists."""
    squeeze = zlib.compressobj(9)
    bomb = b"".join(squeeze.compress(bytes(2**20)) for _ in range(1024)) + squeeze.flush()
    sizes = []
    make = zlib.decompressobj

    class Watched:
        def __init__(self) -> None:
            self.inner = make()

        def decompress(self, *arguments: Any) -> bytes:
            result = self.inner.decompress(*arguments)
            sizes.append(len(result))
            return result

    monkeypatch.setattr(zlib, "decompressobj", Watched)

    with pytest.raises(RefusedRowError, match="larger"):
        unpack(bomb)
    assert sizes == [MAX_BYTES + 1]


@pytest.mark.parametrize("key", [1, 1.5, b"key", ("a",), None], ids=repr)
def test_keys_are_text(cache: diskcache.Cache, key: object) -> None:
    """diskcache would pickle any other key."""
    with pytest.raises(RefusedRowError, match="keys are text"):
        cache.set(key, {})


def test_large_values_stay_in_the_row(cache: diskcache.Cache) -> None:
    """No value gets a file of its own, whatever its size and whoever asks."""
    cache.set("key", "x" * 100_000)

    ((mode, filename, kind),) = cache._sql("SELECT mode, filename, typeof(value) FROM Cache").fetchall()
    assert (mode, filename, kind) == (1, None, "blob")
    with pytest.raises(RefusedRowError, match="JSON only"):
        cache._disk.filename()
    with pytest.raises(RefusedRowError, match="JSON only"), Path(__file__).open("rb") as file:
        cache.set("key", file, read=True)


@pytest.mark.parametrize("mode", [0, 2, 3, 4, 1.5, "raw", None])
def test_rows_of_another_mode_are_refused(cache: diskcache.Cache, tmp_path: Path, mode: object) -> None:
    """The payload of a pickled row is never loaded."""
    trap = tmp_path / "executed"
    cache.set("key", {})
    poison(cache, mode=mode, value=pickle.dumps(Payload(trap)))

    for read in (lambda: cache.get("key"), lambda: cache["key"], cache.peekitem, lambda: cache.pop("key")):
        with pytest.raises(RefusedRowError, match="mode"):
            read()
    assert not trap.exists()


def test_the_trap_would_work(tmp_path: Path) -> None:
    """diskcache's own disk does run the payload, so the test above can fail."""
    trap = tmp_path / "executed"
    plain = diskcache.Cache(str(tmp_path / "plain"))
    plain.set("key", b"x")
    poison(plain, mode=4, value=pickle.dumps(Payload(trap)))
    plain.get("key")
    plain.close()

    assert trap.exists()


@pytest.mark.parametrize("value", ["text", 7, 1.5, None], ids=repr)
def test_rows_without_bytes_are_refused(cache: diskcache.Cache, value: object) -> None:
    """A raw value that is no byte string is not ours."""
    cache.set("key", {})
    poison(cache, value=value)

    with pytest.raises(RefusedRowError, match="not bytes"):
        cache.get("key")


@pytest.mark.parametrize("mode", [1, 2, 3, 4])
@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize(
    "act",
    [
        lambda cache: cache.set("key", {"new": 1}),
        lambda cache: cache.add("key", {"new": 1}),
        lambda cache: cache.delete("key"),
        lambda cache: cache.pop("key"),
        lambda cache: cache.get("key"),
        lambda cache: cache.read("key"),
        lambda cache: cache.peekitem(),
        lambda cache: cache.expire(now=time.time() + 1e6),
        lambda cache: cache.evict("tag"),
        lambda cache: cache.clear(),
        lambda cache: (cache.reset("size_limit", 1), cache.cull()),
        lambda cache: (cache.reset("size_limit", 1), cache.set("other", {})),
        lambda cache: [cache.get(key) for key in cache],
        lambda cache: [cache.get(key) for key in cache.iterkeys()],
    ],
    ids=[
        "set", "add", "delete", "pop", "get", "read", "peekitem", "expire", "evict", "clear", "cull",
        "set_culls", "iter", "iterkeys",
    ],
)  # fmt: skip
def test_files_named_by_rows_are_neither_read_nor_deleted(
    cache: diskcache.Cache, outside: Path, mode: int, absolute: bool, act: Callable[[Any], object]
) -> None:
    """Each of diskcache's ways to a file name ends at our disk."""
    cache.set("key", {}, expire=1e5, tag="tag")
    poison(cache, mode=mode, filename=str(outside) if absolute else "../outside.txt")

    with contextlib.suppress(RefusedRowError):
        act(cache)

    assert outside.read_text() == "precious"


def test_a_whole_value_beside_a_file_name_is_refused(cache: diskcache.Cache, outside: Path) -> None:
    """We never write such a row, so somebody else did; an open file is never handed out."""
    cache.set("key", {})
    with pytest.raises(RefusedRowError, match="file"):
        cache.read("key")
    poison(cache, filename="../outside.txt")

    with pytest.raises(RefusedRowError, match="file"):
        cache.get("key")


def test_an_expired_row_is_replaced_without_deleting_its_file(cache: diskcache.Cache, outside: Path) -> None:
    """The path of `add` over a row that has expired."""
    cache.set("key", {})
    poison(cache, filename="../outside.txt", expire_time=1.0)

    assert cache.add("key", {"new": 1})
    assert cache.get("key") == {"new": 1}
    assert outside.read_text() == "precious"


def test_pickled_keys_are_not_loaded(cache: diskcache.Cache, tmp_path: Path) -> None:
    """A row's key can be a pickle too: iterating must not load it."""
    trap = tmp_path / "executed"
    cache.set("key", {})
    poison(cache, raw=0, key=sqlite3.Binary(pickle.dumps(Payload(trap))))

    for walk in (lambda: list(cache), lambda: list(cache.iterkeys()), cache.peekitem):
        with pytest.raises(RefusedRowError, match="key is not plain text"):
            walk()
    assert not trap.exists()


def test_diskcaches_own_check_is_switched_off(tmp_path: Path) -> None:
    """With fix=True it deletes every file in the directory that no row names."""
    database = Database(tmp_path)
    database.close()
    note = tmp_path / "note.txt"
    note.write_text("mine")

    with pytest.raises(StoreError, match="switched off"):
        database.check(fix=True)
    assert note.exists()


def test_packed_values_are_stored_as_they_are(cache: diskcache.Cache) -> None:
    """The writer compresses before it takes the lock."""
    packed = pack({"a": 1})
    cache.set("key", packed)

    assert isinstance(packed, Packed)
    assert cache.get("key") == {"a": 1}


def test_no_module_imports_a_serialiser_that_runs_code() -> None:
    """Nothing under src imports pickle, marshal, shelve or their kin, nor calls eval or exec."""
    modules = {
        "pickle",
        "cPickle",
        "_pickle",
        "marshal",
        "shelve",
        "dill",
        "cloudpickle",
        "joblib",
        "jsonpickle",
    }
    sources = sorted(Path(explaineval.__file__).parent.rglob("*.py"))
    found = []
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name.split(".")[0] for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [(node.module or "").split(".")[0]]
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                names = [node.func.id] if node.func.id in {"eval", "exec"} else []
            found += [(source.name, name) for name in names if name in modules | {"eval", "exec"}]

    assert len(sources) > 10
    assert found == []
