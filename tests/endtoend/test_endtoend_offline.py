"""`--offline`: nothing is sent, nothing is written to the cache, and what is missing is said."""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from planted_numbers import read_trials

from explaineval.cache import open_store
from servers.commands import WarmCommands, run
from servers.guards import REPORT_TO
from servers.tables import Table

TABLE = Table(examples=4, words=2, seed=1)
EACH = 1 + TABLE.words + 1
DISTINCT = TABLE.examples * EACH


def go(one: Any, warm: WarmCommands, *more: str) -> Any:
    """A run of the bench with `--json`."""
    return warm.run(*one.options(*more, "--json"), cwd=one.directory)


def contents(directory: Path) -> dict[str, str]:
    """Every file below a directory with a hash of its bytes.

    Left out is what SQLite needs to read at all: its shared memory, which is no data, and a log that is empty.
    """
    found = {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    return {
        name: hashlib.sha256(data).hexdigest()
        for name, data in found.items()
        if not name.endswith("-shm") and (data or not name.endswith("-wal"))
    }


def test_a_complete_cache_suffices(bench: Callable[..., Any], warm: WarmCommands, tmp_path: Path) -> None:
    """Exit 0 with the same numbers, no connection, no litellm, and no byte of the cache is changed."""
    one = bench(TABLE)
    first = go(one, warm, "--out", "out")
    before, asked = contents(one.directory / "cache"), len(one.server.received)
    report = tmp_path / "report.json"
    options = one.options("--offline", "--out", "off", "--json", "--timeout", "7")
    done = run(*options, cwd=one.directory, env={REPORT_TO: str(report)})
    told = json.loads(report.read_text(encoding="utf-8"))

    assert (first.code, done.code) == (0, 0), done.stderr
    assert (asked, len(one.server.received)) == (DISTINCT, DISTINCT)
    assert told["connections"] == []
    assert {"litellm", "openai", "aiohttp", "pandas"} & set(told["modules"]) == set()
    assert before == contents(one.directory / "cache")
    assert done.document["requests"] == {
        **first.document["requests"],
        "hits": DISTINCT,
        "sent": 0,
    }
    assert (one.directory / "off" / "metrics.json").read_bytes() == (
        one.directory / "out" / "metrics.json"
    ).read_bytes()


def test_a_rerun_from_the_cache_loads_no_http_client(
    bench: Callable[..., Any], warm: WarmCommands, tmp_path: Path
) -> None:
    """Without --offline it could send; every answer is stored, so neither httpx nor litellm is imported."""
    one = bench(TABLE)
    go(one, warm, "--out", "out")
    report = tmp_path / "report.json"
    done = run(*one.options("--out", "again", "--json"), cwd=one.directory, env={REPORT_TO: str(report)})
    loaded = {module.partition(".")[0] for module in json.loads(report.read_text(encoding="utf-8"))["modules"]}

    assert (done.code, done.document["requests"]["sent"]) == (0, 0), done.stderr
    assert "diskcache" in loaded
    assert {"httpx", "litellm", "openai", "aiohttp"} & loaded == set()


def test_what_is_missing_is_listed(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """Half of it there: exit 4, the number of the others, the keys of the first of them; the rest is scored."""
    one = bench(TABLE)
    go(one, warm, "--limit", "2", "--out", "out")
    before, asked = contents(one.directory / "cache"), len(one.server.received)
    done = go(one, warm, "--offline", "--out", "off")
    requests = done.document["requests"]
    told = [line.split()[0] for line in done.stderr.splitlines() if line.startswith("    ")]

    assert done.code == 4 == done.document["exit_code"]
    assert (requests["hits"], requests["sent"], requests["unsent"]) == (2 * EACH, 0, 2 * EACH)
    assert requests["distinct"] == DISTINCT
    assert f"{2 * EACH} answers are not in the cache" in done.stderr
    assert len(one.server.received) == asked
    assert contents(one.directory / "cache") == before
    assert {trial["example_id"] for trial in read_trials(one.directory / "off")} == set(TABLE.ids[:2])

    go(one, warm, "--out", "out")  # the whole is asked, so that the keys of what was missing can be known
    with open_store(one.directory / "cache", readonly=True) as store:
        late = {key[:16]: str(request) for key, request, _ in store.iterate()}
    assert 3 <= len(told) == len(set(told))
    assert all(TABLE.token(TABLE.ids[2]) in late[key] or TABLE.token(TABLE.ids[3]) in late[key] for key in told)
    assert go(one, warm, "--offline", "--out", "off").code == 0


@pytest.mark.parametrize("made", [False, True], ids=["missing", "empty"])
def test_without_a_cache_everything_is_missing(bench: Callable[..., Any], warm: WarmCommands, made: bool) -> None:
    """Exit 4; each key counts once; no cache directory is made and no verdict is kept."""
    one = bench(TABLE)
    if made:
        (one.directory / "none").mkdir()
    done = go(one, warm, "--offline", "--cache", "none", "--max-usd", "1")

    assert done.code == 4
    assert tuple(done.document["requests"][name] for name in ("distinct", "unsent")) == (DISTINCT, DISTINCT)
    assert one.server.received == []
    assert (one.directory / "none").exists() is made
    assert not made or list((one.directory / "none").iterdir()) == []
    assert "assumed" in done.stderr


def test_no_verdict_is_stored(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """Answers without the verdict beside them, as in a pack: found under the assumption, and none is made of it."""
    one = bench(TABLE)
    go(one, warm, "--out", "out")
    copy = one.directory / "copy"

    async def fill() -> None:
        with open_store(one.directory / "cache", readonly=True) as old, open_store(copy) as new:
            for _, request, completion in old.iterate():
                await new.put(request, completion)

    asyncio.run(fill())
    before = contents(copy)
    done = go(one, warm, "--offline", "--cache", "copy", "--out", "off")

    assert done.code == 0, done.stderr
    assert done.document["requests"]["hits"] == DISTINCT
    assert contents(copy) == before


def test_one_example_is_enough_to_be_missing(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """A single missing answer: exit 4 with its own key, whose name `cache` knows it by."""
    one = bench(TABLE)
    one.server.always[TABLE.pairs()[0]] = "400"
    first = go(one, warm, "--out", "out")
    done = go(one, warm, "--offline", "--out", "off")
    keys = [trial["key_after"] for trial in read_trials(one.directory / "out") if trial["status"] == "rejected"]

    assert (first.code, done.code) == (0, 4)
    assert "offline, and 1 answer is not in the cache" in done.stderr
    assert [key[:16] for key in keys] == [line.split()[0] for line in done.stderr.splitlines() if line[:4] == "    "]


PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2


def _obey_modes() -> None:
    """Before a child starts: give up root's freedom to write where it may not, as far as there is one."""
    library = ctypes.CDLL(None, use_errno=True)
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        library.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs a child that obeys file modes even as root")
def test_a_cache_that_cannot_be_written(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """Read-only directory and files: offline works as ever; online says in one sentence that it does not."""
    one = bench(TABLE)
    go(one, warm, "--out", "out")
    cache = one.directory / "cache"
    for path in cache.iterdir():
        path.chmod(0o444)
    cache.chmod(0o555)
    try:
        probe = subprocess.run(["touch", str(cache / "x")], preexec_fn=_obey_modes, capture_output=True, check=False)
        if probe.returncode == 0:
            pytest.skip("this user may write everywhere")
        before = contents(cache)

        def child(*more: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-m", "explaineval", *one.options(*more, "--json")],
                cwd=one.directory,
                env=dict(os.environ),
                preexec_fn=_obey_modes,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )

        offline, online = child("--offline", "--out", "off"), child("--out", "on")
        assert contents(cache) == before
    finally:
        cache.chmod(0o755)

    assert (offline.returncode, json.loads(offline.stdout)["requests"]["hits"]) == (0, DISTINCT), offline.stderr
    assert online.returncode == 2
    assert "cache" in json.loads(online.stdout)["error"]["message"]
    assert len(one.server.received) == DISTINCT
