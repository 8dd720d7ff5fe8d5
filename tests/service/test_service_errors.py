"""How errors of the machine are told."""

from __future__ import annotations

import asyncio
import errno
import sqlite3
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from explaineval.service.directory import Disk
from explaineval.service.table import ReplacedError, StateFile
from explaineval.service.web import install_errors


def fill(directory: Path) -> None:
    """Write into a table that may not grow. Raises sqlite3.OperationalError."""
    with sqlite3.connect(directory / "full.sqlite") as table:
        table.execute("CREATE TABLE texts (text TEXT)")
        table.execute("PRAGMA max_page_count = 2")
        table.execute("INSERT INTO texts VALUES (?)", ("x" * 100_000,))


@pytest.mark.parametrize(
    ("name", "status", "sentence"),
    [
        ("a full disk", 503, "no space left"),
        ("a full table", 503, "no space left"),
        ("a lost file", 500, "OSError"),
        ("a replaced table", 503, "must put its table of runs back"),
    ],
)
def test_a_full_disk_is_no_fault_of_ours(tmp_path: Path, name: str, status: int, sentence: str) -> None:
    """It is the operator's to mend; another error of the system is a fault."""
    app = FastAPI()
    install_errors(app)

    @app.get("/")
    def fail() -> None:
        if name == "a full table":
            fill(tmp_path)
        if name == "a replaced table":
            raise ReplacedError
        raise OSError(errno.ENOSPC if name == "a full disk" else errno.EBADF, "x")

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/")

    reply = asyncio.run(ask())

    assert reply.status_code == status
    assert sentence in reply.json()["error"]["message"]


def test_a_table_that_was_replaced_is_not_written(tmp_path: Path) -> None:
    """What is spent would be lost with it; readiness tells it, until it is put back."""
    table = StateFile(tmp_path)
    disk = Disk(tmp_path, (), table, lambda: None)
    table.path.rename(tmp_path / "aside")
    for _ in range(2):
        with pytest.raises(ReplacedError):
            table.add_run("r", "ann", "now", {}, {}, {}, None, None)
        asyncio.run(disk.check())
        assert disk.sentence == (
            "the table of runs cannot be written (it was removed or replaced while the service goes): the operator "
            "must put it back."
        )
        table.path.touch()
    (tmp_path / "aside").rename(table.path)
    disk.suspect()
    asyncio.run(disk.check())
    table.add_run("r", "ann", "now", {}, {}, {}, None, None)
    runs = table.count_runs()
    table.close()

    assert (disk.sentence, runs) == (None, 1)
