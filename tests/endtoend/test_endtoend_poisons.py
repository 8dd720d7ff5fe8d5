"""A cache that somebody poisoned: nothing is executed, nothing outside is touched, the answers are asked anew."""

from __future__ import annotations

import json
import os
import pickle
import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from planted_numbers import read_trials

from servers.commands import WarmCommands
from servers.tables import Table

TABLE = Table(examples=4, words=2, seed=2)
RAW, BINARY, TEXT, PICKLE = 1, 2, 3, 4
"""diskcache's modes of a row."""


class Payload:
    """Unpickled, it makes the directory that it was given."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


@pytest.mark.slow
def test_poisoned_rows_are_asked_anew(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """Pickles, rows that name files, and an answer moved under another key: warnings, and the right numbers."""
    one = bench(TABLE)
    command = one.options("--out", "out", "--json")
    assert warm.run(*command, cwd=one.directory).code == 0
    metrics = (one.directory / "out" / "metrics.json").read_bytes()
    asked = len(one.server.received)
    trials = read_trials(one.directory / "out")
    keys = list(dict.fromkeys(key for trial in trials for key in (trial["key_before"], trial["key_after"])))
    pickled, inline, named, moved = keys[:4]
    executed, outside = one.directory / "executed", one.directory / "outside.txt"
    outside.write_text("precious")
    payload = pickle.dumps(Payload(executed))
    connection = sqlite3.connect(one.directory / "cache" / "cache.db")
    with connection:
        change = "UPDATE Cache SET mode = ?, filename = ?, value = ? WHERE key = ?"
        assert connection.execute(change, (PICKLE, None, payload, pickled)).rowcount == 1
        assert connection.execute(change, (RAW, None, payload, inline)).rowcount == 1
        assert connection.execute(change, (BINARY, "../outside.txt", None, named)).rowcount == 1
        (answer,) = connection.execute("SELECT value FROM Cache WHERE key = ?", (keys[4],)).fetchone()
        assert connection.execute(change, (RAW, None, answer, moved)).rowcount == 1
    connection.close()

    again = warm.run(*command, cwd=one.directory)
    assert again.code == 0
    assert 4 == again.document["requests"]["sent"] == len(one.server.received) - asked
    for key in (pickled, inline, named, moved):
        assert key in again.stderr
    assert again.stderr.count("was not used") >= 4
    assert not executed.exists()
    assert outside.read_text() == "precious"
    assert metrics == (one.directory / "out" / "metrics.json").read_bytes()

    clean = warm.run(*command, cwd=one.directory)
    assert (clean.code, clean.document["requests"]["sent"]) == (0, 0)
    assert "was not used" not in clean.stderr
    assert outside.read_text() == "precious"


@pytest.mark.slow
def test_rows_that_earlier_versions_stored_are_read(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """Broken characters and counts of 400 digits in a store: nothing is bought again, and every command reads them."""
    one = bench(TABLE)
    command = one.options("--out", "out", "--json")
    assert warm.run(*command, cwd=one.directory).code == 0
    metrics = (one.directory / "out" / "metrics.json").read_bytes()
    asked = len(one.server.received)
    connection = sqlite3.connect(one.directory / "cache" / "cache.db")
    with connection:
        rows = connection.execute("SELECT key, value FROM Cache WHERE key NOT LIKE 'verdict:%'").fetchall()
        for key, value in rows:
            row = json.loads(zlib.decompress(value))
            row["completion"]["text"] += "\ud83d"
            row["completion"]["model"] = "m\ude00"
            row["completion"]["usage"] |= {"prompt_tokens": 10**400, "extra": {"deep": [-(10**400)]}}
            changed = zlib.compress(json.dumps(row).encode())
            connection.execute("UPDATE Cache SET value = ? WHERE key = ?", (changed, key))
    connection.close()

    again = warm.run(*command, cwd=one.directory)
    assert again.code == 0, again.stderr
    assert again.document["requests"]["sent"] == len(one.server.received) - asked == 0
    assert metrics == (one.directory / "out" / "metrics.json").read_bytes()
    for arguments in (
        ["score", "out"], ["cache", "verify"], ["cache", "stats", "--price", "1,1"], ["cache", "explain", "out"],
        ["cache", "export", "--out", "p.pack"], ["cache", "import", "p.pack", "--cache", "other"],
        ["show", "out", "--example", "x000", "--answers"], ["export", "out", "--out", "bundle"],
        ["reproduce", "bundle"], [*command, "--cache", "other", "--offline", "--out", "out2"],
    ):  # fmt: skip
        found = warm.run(*arguments, cwd=one.directory)
        assert found.code == 0, (arguments, found.stderr)
        assert "Traceback" not in found.stderr
        assert "was not used" not in found.stderr
    assert metrics == (one.directory / "out2" / "metrics.json").read_bytes()
