"""Copy the data directory, also while the service runs, so that the copy can be served.

The copy is of one moment: both databases and the ledgers of runs that go on are read while the table of the service is
locked, for some milliseconds. Nothing is reserved meanwhile, and nothing is sent that is not reserved. An answer is
stored before its reservation is settled. So each answer in the copy is booked there, or its reservation is open and is
settled from the answer when the copy is served. All other files are copied afterwards: a run that goes on writes them
anew from its answers.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from explaineval.cache.database import FILE as ANSWERS
from explaineval.errors import InputError, StoreError
from explaineval.files import open_regular
from explaineval.rundir.directory import LEDGER, RUN
from explaineval.service.processes.workers import LOGS, RUNS
from explaineval.service.runs import CACHE, EXPORTS
from explaineval.service.table import ACTIVE, FILE
from explaineval.service.uploads import UPLOADS

LOCK_SECONDS = 30.0
"""For how long the copy waits for the table while others write to it."""
PAGES = 2048
"""Pages of a database that are copied at a time."""
BLOCK = 1 << 16
GROWING = (".jsonl", ".txt")
"""Endings of files in `runs` and `logs` that grow by whole lines."""


@dataclass(frozen=True)
class Backup:
    """What a copy holds: how many runs, how many of them go on, and its size in bytes."""

    runs: int
    going_on: int
    bytes: int


@dataclass(frozen=True)
class _Moment:
    """The databases as they were at one moment, and what files held then."""

    table: sqlite3.Connection
    answers: sqlite3.Connection
    directories: frozenset[str]
    ledgers: dict[str, bytes]
    """By run, the ledger in its directory; of runs that wait or go on."""


def back_up(directory: Path, target: Path) -> Backup:
    """Copy a data directory; `target` is there when the copy is whole, and not before.

    Files get the modes that the umask leaves.

    Raises:
        InputError: there is no data directory, the target exists or cannot be written, or somebody else may read it
            alone.
        StoreError: a database is damaged, or was locked for too long.
    """
    if not (directory / FILE).is_file():
        raise InputError(f"{directory} is no data directory of the service: it has no {FILE}. Name it by --data.")
    if os.path.lexists(target):
        raise InputError(f"--out {target} exists, and nothing is replaced: name a new directory.")
    if directory.resolve() in target.resolve().parents:
        raise InputError(f"--out {target} is in the data directory, which only the service writes: name another place.")
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir(mode=0o700)
        found = _copy(directory, draft)
        os.sync()
        draft.rename(target)
    except OSError as exc:
        reason = exc.strerror or exc
        raise InputError(f"{exc.filename or target}: {reason}. There is no copy: mend that, and try again.") from None
    except sqlite3.Error as exc:
        raise _explained(exc, directory) from exc
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return found


def _copy(directory: Path, draft: Path) -> Backup:
    """Copy everything into the draft."""
    with _moment(directory) as moment, ExitStack() as stack:
        (draft / CACHE).mkdir()
        table = stack.enter_context(closing(_copy_database(moment.table, draft / FILE)))
        moment.table.close()  # the log of the service can be folded in again
        answers = stack.enter_context(closing(_copy_database(moment.answers, draft / CACHE / ANSWERS)))
        for name in (RUNS, UPLOADS, LOGS, EXPORTS):
            (draft / name).mkdir()
        _copy_runs(directory / RUNS, draft / RUNS, moment)
        _copy_folder(directory / UPLOADS, draft / UPLOADS)
        _copy_folder(directory / LOGS, draft / LOGS, cut=True)
        _copy_folder(directory / CACHE, draft / CACHE)
        _drop_deleted(table, directory, draft, moment)
        for connection in (table, answers):
            result = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if result != "ok":
                raise StoreError(f"a database in {directory} is damaged ({result}): restore an earlier copy.")
        runs = table.execute("SELECT COUNT(*) FROM runs").fetchone()[0]
        going_on = len(_going_on(table))
    size = sum(path.stat().st_size for path in draft.rglob("*") if path.is_file())
    return Backup(runs, going_on, size)


@contextmanager
def _moment(directory: Path) -> Iterator[_Moment]:
    """Yield the databases as they are at one moment; they can be written meanwhile."""
    with ExitStack() as stack:
        lock, table, answers = (
            stack.enter_context(closing(_connect(path, "rw")))
            for path in (directory / FILE, directory / FILE, directory / CACHE / ANSWERS)
        )
        lock.execute("BEGIN IMMEDIATE")
        ledgers = {}
        for run in _going_on(lock):
            with suppress(FileNotFoundError), open_regular(directory / RUNS / run / LEDGER) as handle:
                ledgers[run] = handle.read()
        for connection in (table, answers):
            connection.execute("BEGIN")
            connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()  # from here on it sees this moment
        names = frozenset(path.name for path in (directory / RUNS).iterdir())
        lock.execute("ROLLBACK")
        yield _Moment(table, answers, names, ledgers)


def _going_on(table: sqlite3.Connection) -> list[str]:
    marks = ", ".join("?" * len(ACTIVE))
    return [run for (run,) in table.execute(f"SELECT id FROM runs WHERE state IN ({marks})", ACTIVE)]  # noqa: S608


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    address = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(address, uri=True, timeout=LOCK_SECONDS, isolation_level=None)
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _copy_database(source: sqlite3.Connection, target: Path) -> sqlite3.Connection:
    """Copy what a connection sees; return a connection to the copy."""
    connection = _connect(target, "rwc")
    try:
        source.backup(connection, pages=PAGES, sleep=0)
    except BaseException:
        connection.close()
        raise
    return connection


def _copy_runs(source: Path, target: Path, moment: _Moment) -> None:
    """Copy run directories. One without run.json has asked nothing yet, and begins anew."""
    for name in sorted(moment.directories):
        with suppress(FileNotFoundError):  # deleted meanwhile
            if (source / name / RUN).is_file():
                (target / name).mkdir()
                _copy_folder(source / name, target / name, cut=True)
                if name in moment.ledgers:
                    (target / name / LEDGER).write_bytes(_whole_lines(moment.ledgers[name]))


def _copy_folder(source: Path, target: Path, *, cut: bool = False) -> None:
    """Copy the regular files of a folder and those below it, but drafts and the databases, which are copied otherwise.

    `cut` cuts files that may grow meanwhile after their last whole line. What is deleted meanwhile is left out.
    """
    with suppress(FileNotFoundError):
        for path in sorted(source.iterdir()):
            if path.is_symlink() or path.name.startswith((".", "draft-", ANSWERS)):
                continue
            if path.is_dir():
                (target / path.name).mkdir()
                _copy_folder(path, target / path.name, cut=cut)
            elif path.is_file():
                with suppress(FileNotFoundError):
                    _copy_file(path, target / path.name, cut=cut and path.suffix in GROWING)


def _copy_file(source: Path, target: Path, *, cut: bool) -> None:
    with open_regular(source) as reading, target.open("xb") as writing:
        end = written = 0  # end: after the last whole line
        while block := reading.read(BLOCK):
            end = written + block.rfind(b"\n") + 1 if b"\n" in block else end
            written += writing.write(block)
        if cut:
            writing.truncate(end)


def _whole_lines(content: bytes) -> bytes:
    return content[: content.rfind(b"\n") + 1]


def _drop_deleted(table: sqlite3.Connection, directory: Path, draft: Path, moment: _Moment) -> None:
    """Delete from the copy what users deleted while it was made: runs and uploads whose files are gone."""
    for run in moment.directories:
        if not (directory / RUNS / run).exists():
            table.execute("DELETE FROM runs WHERE id = ?", (run,))
            shutil.rmtree(draft / RUNS / run, ignore_errors=True)
    for digest, name in table.execute("SELECT DISTINCT sha256, name FROM files").fetchall():
        if not (draft / UPLOADS / digest / name).exists():
            table.execute("DELETE FROM files WHERE sha256 = ? AND name = ?", (digest, name))


def _explained(exc: sqlite3.Error, directory: Path) -> InputError | StoreError:
    """Return an error of SQLite as a sentence that says what to do."""
    code = (getattr(exc, "sqlite_errorcode", None) or 0) & 0xFF
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return InputError(
            f"the databases in {directory} cannot be opened for writing, which a copy of one moment needs ({exc}): "
            "run this as the user of the service."
        )
    if code == sqlite3.SQLITE_FULL:
        return InputError("the disk is full, and there is no copy: make room, or name another place by --out.")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreError(f"another process kept a database in {directory} locked for {LOCK_SECONDS:g} s: try again.")
    return StoreError(f"the databases in {directory} cannot be copied ({exc}): restore an earlier copy.")
