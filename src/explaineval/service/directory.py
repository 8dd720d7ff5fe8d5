"""Whether the data directory can be written: tried by writing, told by /readyz, and waited for by runs."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import secrets
import shutil
import sqlite3
import tempfile
import time
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explaineval.cache import open_store
from explaineval.cache.database import FILE as ANSWERS
from explaineval.errors import InputError, StoreError
from explaineval.files import FULL, open_regular
from explaineval.rundir.directory import LEDGER, RUN, check_is_no_file_name
from explaineval.service.models import FILE_NAME
from explaineval.service.processes.background import Background
from explaineval.service.processes.states import ACTIVE
from explaineval.service.settings import Capacity
from explaineval.service.table import FILE, FileRow, StateFile, now
from explaineval.text import counted

RUNS, CACHE, UPLOADS, LOGS, EXPORTS = "runs", "cache", "uploads", "logs", "exports"
"""Folders of the data directory. Exports can be made again."""
ROOM = 256 << 10
"""Bytes that are written on trial."""
USUAL_SECONDS, FULL_SECONDS = 30.0, 2.0
"""Seconds between two trials: usually, and while something cannot be written."""
FRESH_SECONDS = 2.0
"""Seconds for which a trial answers /readyz."""


def is_full(exc: BaseException | None) -> bool:
    """Return whether an error, or one that caused it, says that the disk is full.

    >>> import errno
    >>> is_full(OSError(errno.ENOSPC, "x")), is_full(OSError(errno.EBADF, "x")), is_full(None)
    (True, False, False)
    """
    while exc is not None:
        if (isinstance(exc, OSError) and exc.errno in FULL) or getattr(exc, "full", False):
            return True
        code = getattr(exc, "sqlite_errorcode", None)
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR_WRITE):
            return True
        exc = exc.__cause__ or exc.__context__
    return False


class Disk:
    """What of the data directory cannot be written, and why. Use `run` as a task.

    Args:
        directory: the data directory.
        names: the folders in it that are written.
        table: the file in it.
        then: called after a trial that came out otherwise than the one before.
    """

    def __init__(self, directory: Path, names: tuple[str, ...], table: StateFile, then: Callable[[], None]) -> None:
        self.places = {f"{name}/ of the data directory": directory / name for name in names}
        self.places = {"the data directory": directory, **self.places}
        self.places["the folder for temporary files (TMPDIR)"] = Path(tempfile.gettempdir())
        self.table, self.then = table, then
        self.faults: dict[str, str] = {}
        """What cannot be written → why."""
        self._checked = float("-inf")
        self._wake = asyncio.Event()
        self._checking = asyncio.Lock()

    @property
    def sentence(self) -> str | None:
        """Return what cannot be written; None where everything can."""
        if not self.faults:
            return None
        by_reason: dict[str, list[str]] = {}
        for name, reason in self.faults.items():
            by_reason.setdefault(reason, []).append(name)
        parts = [f"{', '.join(names)} cannot be written ({reason})" for reason, names in by_reason.items()]
        todo = "put it back" if any("replaced" in reason for reason in by_reason) else "make room"
        return f"{'; '.join(parts)}: the operator must {todo}."

    def suspect(self) -> None:
        """Try soon: something could not be written."""
        self._checked = float("-inf")
        self._wake.set()

    async def check(self) -> None:
        """Try to write, unless that was done a moment ago."""
        async with self._checking:
            if time.monotonic() - self._checked < FRESH_SECONDS:
                return
            before, self.faults = self.faults, await asyncio.to_thread(self._try)
            self._checked = time.monotonic()
            if bool(before) != bool(self.faults):
                self.then()

    async def run(self) -> None:
        """Try now and then, until cancelled."""
        while True:
            self._wake.clear()
            await self.check()
            with suppress(TimeoutError):
                async with asyncio.timeout(FULL_SECONDS if self.faults else USUAL_SECONDS):
                    await self._wake.wait()

    def _try(self) -> dict[str, str]:
        faults = {}
        for name, folder in self.places.items():
            try:
                write_on_trial(folder)
            except OSError as exc:
                faults[name] = (exc.strerror or str(exc)).lower()
        try:
            self.table.check_place()
            self.table.keep_reserve()
        except sqlite3.Error as exc:
            faults["the table of runs"] = str(exc)
        return faults


def write_on_trial(folder: Path) -> None:
    """Write ROOM bytes into a folder and remove them. Raises OSError where that cannot be done."""
    path = folder / f".trial.{os.getpid()}"
    try:
        with path.open("wb") as handle:
            handle.write(bytes(ROOM))
            handle.flush()
            os.fsync(handle.fileno())
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


LONGEST_ROW = 4 << 20
"""Bytes of one row."""
KEPT = re.compile(rf"(?P<reader>jsonl:)?/.*/{UPLOADS}/(?P<file>[0-9a-f]{{64}}/[^/]+)")
"""The path of a kept upload, alone or as a task, in whatever data directory."""


class FileTooLargeError(Exception):
    """A body is larger than is allowed."""


class Uploads:
    """The files in the data directory that users uploaded."""

    def __init__(self, directory: Path, table: StateFile, background: Background, limits: Capacity) -> None:
        self.directory, self.table, self.background, self.limits = directory / UPLOADS, table, background, limits
        self._under_way: Counter[str] = Counter()
        """How many uploads of each token arrive now."""

    async def put(self, token: str, name: str, body: AsyncIterator[bytes]) -> FileRow:
        """Keep an upload under a name of the token's, in place of an earlier one.

        Raises InputError where it cannot be used, FileTooLargeError where it is larger than is allowed.
        """
        if not re.fullmatch(FILE_NAME, name):
            raise InputError(f"{name!r} is no name of a file: use letters, digits, - and _, and .jsonl at the end.")
        rows = await asyncio.to_thread(self.table.files, token)
        others = sum(row.name != name for row in rows) + self._under_way[token]
        if others >= self.limits.files_per_token:
            raise InputError(
                f"there are {counted(others, 'upload')} already, as many as are allowed: delete one first."
            )
        self._under_way[token] += 1
        try:
            return await self._put(token, name, body)
        finally:
            self._under_way[token] -= 1

    async def _put(self, token: str, name: str, body: AsyncIterator[bytes]) -> FileRow:
        draft = self.directory / f"draft-{secrets.token_hex(8)}" / name
        await asyncio.to_thread(draft.parent.mkdir, parents=True)
        try:
            digest, size = await self._write(draft, name, body)
            content = await self.background.do(
                "check_file", token, path=str(draft), name=name, most_rows=self.limits.file_rows
            )
            row = FileRow(token, name, digest, content["kind"], content["rows"], size, now())
            await asyncio.to_thread(self._keep, draft, row)
        finally:
            await asyncio.to_thread(shutil.rmtree, draft.parent, ignore_errors=True)
        return row

    def path(self, row: FileRow) -> Path:
        """Return the file of an upload."""
        return self.directory / row.sha256 / row.name

    def delete(self, token: str, name: str) -> bool:
        """Delete an upload; return whether there was one. Its file stays while a run asks about it."""
        row = self.table.file(token, name)
        if row is None:
            return False
        self.table.delete_file(token, name)
        self._forget(row)
        return True

    async def _write(self, draft: Path, name: str, body: AsyncIterator[bytes]) -> tuple[str, int]:
        """Write the body into a file; return its digest and its size. Refuse it as soon as it cannot be right."""
        digest, size, row = hashlib.sha256(), 0, 0
        handle = await asyncio.to_thread(draft.open, "wb")
        with handle:
            async for block in body:
                if not size and block.removeprefix(BOM_UTF8).lstrip()[:1] not in (b"{", b""):
                    raise InputError(f"{name}:1: expected one JSON object a line.")
                size += len(block)
                if size > self.limits.file_bytes:
                    raise FileTooLargeError(f"an upload may have {self.limits.file_bytes:,} bytes.")
                digest.update(block)
                row = len(block) - block.rfind(b"\n") - 1 if b"\n" in block else row + len(block)
                if row > LONGEST_ROW:
                    raise InputError(f"{name}: a row is longer than {LONGEST_ROW:,} bytes.")
                await asyncio.to_thread(handle.write, block)
        return digest.hexdigest(), size

    def _keep(self, draft: Path, row: FileRow) -> None:
        target = self.path(row)
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.replace(target)
        before = self.table.put_file(row)
        if before is not None and before.sha256 != row.sha256:
            self._forget(before)

    def _forget(self, row: FileRow) -> None:
        """Delete the file of an upload where nothing refers to its content any more."""
        if not self.table.uses_file(row.sha256):
            with suppress(OSError):
                shutil.rmtree(self.directory / row.sha256)


def in_directory(value: Any, directory: Path) -> Any:
    """Return a JSON value with the paths of uploads as they are in this data directory, which may have been moved.

    >>> in_directory({"tasks": ["nli", f"jsonl:/old/uploads/{64 * '0'}/t.jsonl"]}, Path("/new"))["tasks"][1][:20]
    'jsonl:/new/uploads/0'
    """
    if isinstance(value, str):
        match = KEPT.fullmatch(value)
        return value if match is None else f"{match['reader'] or ''}{directory / UPLOADS / match['file']}"
    if isinstance(value, list):
        return [in_directory(item, directory) for item in value]
    if isinstance(value, dict):
        return {name: in_directory(item, directory) for name, item in value.items()}
    return value


def prepare_directory(directory: Path) -> None:
    """Make what a data directory holds, the cache of answers among it. Raises InputError where it cannot be used."""
    for name in (RUNS, CACHE, UPLOADS, LOGS, EXPORTS):
        try:
            (directory / name).mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            reason = exc.strerror or exc
            raise InputError(f"the data directory cannot be written: {directory / name}: {reason}.") from None
    for draft in (directory / UPLOADS).glob("draft-*"):  # of a process that was killed
        shutil.rmtree(draft, ignore_errors=True)
    open_store(directory / CACHE).close()  # or a plan could meet one that is just being made


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
    check_is_no_file_name(target)
    if os.path.lexists(target):
        raise InputError(f"--out {target} exists, and nothing is replaced: name a new directory.")
    if directory.resolve() in target.resolve().parents:
        raise InputError(f"--out {target} is in the data directory, which only the service writes: name another place.")
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir(mode=0o700)
        copied = _copy(directory, draft)
        os.sync()
        draft.rename(target)
    except OSError as exc:
        reason = exc.strerror or exc
        raise InputError(f"{exc.filename or target}: {reason}. There is no copy: mend that, and try again.") from None
    except sqlite3.Error as exc:
        raise _explained(exc, directory) from exc
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return copied


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
