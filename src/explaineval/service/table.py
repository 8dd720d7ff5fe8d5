"""The service's one SQLite file: its runs, what was spent and reserved, uploads and sessions of browsers.

What a run found is in its directory. Every method does one thing in one transaction and may be called from any thread;
none is quick enough for the event loop.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

from explaineval.errors import InputError
from explaineval.service.processes.states import ACTIVE, STATES, State, Status, WaitsFor, before

FILE = "service.sqlite"
VERSION = 2
RESERVE = 512 << 10
"""Bytes of the file that are kept free, so that states of runs can be written while the disk is full."""
CHECKPOINT = 100
"""Pages after which the log is written into the file; it stays below RESERVE, so that it need not grow later."""
MOST_LISTED = 100
"""Attempts without a bill that are listed of one run; all are counted."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    id TEXT PRIMARY KEY, number INTEGER UNIQUE, token TEXT NOT NULL, state TEXT NOT NULL, reason TEXT,
    created TEXT NOT NULL, started TEXT, ended TEXT, settings TEXT NOT NULL, job TEXT NOT NULL, plan TEXT NOT NULL,
    worst_usd REAL, max_usd REAL, usd REAL NOT NULL DEFAULT 0, restarts INTEGER NOT NULL DEFAULT 0,
    exit_code INTEGER, progress TEXT, unbilled TEXT, waits_for TEXT, resume_at REAL, begun REAL
) STRICT;
CREATE INDEX IF NOT EXISTS runs_of_token ON runs (token, number);
CREATE INDEX IF NOT EXISTS runs_by_state ON runs (state);
CREATE TABLE IF NOT EXISTS spending (token TEXT PRIMARY KEY, usd REAL NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS reservations (
    id INTEGER PRIMARY KEY, run TEXT NOT NULL, token TEXT NOT NULL, usd REAL NOT NULL, key TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS files (
    token TEXT NOT NULL, name TEXT NOT NULL, sha256 TEXT NOT NULL, kind TEXT NOT NULL, rows INTEGER NOT NULL,
    bytes INTEGER NOT NULL, created TEXT NOT NULL, PRIMARY KEY (token, name)
) STRICT;
CREATE TABLE IF NOT EXISTS sessions (
    digest BLOB PRIMARY KEY, token TEXT NOT NULL, token_digest BLOB NOT NULL, expires REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS answered (endpoint TEXT PRIMARY KEY) STRICT;
CREATE TABLE IF NOT EXISTS reserve (id INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;
"""
NEW_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "runs": ("unbilled TEXT", "waits_for TEXT", "resume_at REAL", "begun REAL"),
    "reservations": ("key TEXT",),
}
"""What version 1, that of explaineval 0.2, lacks."""

Method = TypeVar("Method", bound=Callable[..., Any])


@dataclass(frozen=True)
class RunRow:
    """One run. `settings` are what was submitted, `job` what its process is given, `plan` its costs at submission.

    `worst_usd` is what it can cost at the worst in all, what it spent included, `max_usd` the limit that was given,
    `usd` what was spent so far; dollars are None where they are not known or not limited. `number` counts submissions.
    Times are in UTC. `unbilled` are the attempts that were booked at their worst case, since nobody knows their bill:
    how many, their dollars, and a list. `resume_at` is when a run that waits for its rate goes on, `begun` when it
    first went on since it was submitted or continued, both in seconds since 1970.
    """

    id: str
    number: int
    token: str
    state: State
    reason: str | None
    created: str
    started: str | None
    ended: str | None
    settings: dict[str, Any]
    job: dict[str, Any]
    plan: dict[str, Any]
    worst_usd: float | None
    max_usd: float | None
    usd: float
    restarts: int
    exit_code: int | None
    progress: dict[str, Any] | None
    unbilled: dict[str, Any] | None = None
    waits_for: WaitsFor | None = None
    resume_at: float | None = None
    begun: float | None = None

    @property
    def active(self) -> bool:
        """Whether it waits or goes on."""
        return self.state in ACTIVE

    @property
    def commitment(self) -> float:
        """Dollars that are kept for it: its worst case or its limit, if that is less, without what it spent already."""
        return kept_of(self.worst_usd, self.max_usd, self.usd)


@dataclass(frozen=True)
class FileRow:
    """One upload: its owner and name, the digest of its content, and what it holds."""

    token: str
    name: str
    sha256: str
    kind: str
    rows: int
    bytes: int
    created: str


@dataclass(frozen=True)
class Reservation:
    """One line for the ledger: a reservation that begins, or one that ends with what the attempt cost."""

    id: int
    run: str
    token: str
    usd: float
    cost: float | None = None
    """Dollars that an ended reservation cost; None for one that begins."""
    key: str | None = None
    """The key of the request."""
    unbilled: str | None = None
    """The time at which the attempt was booked at its worst case since nobody knows its bill; None for others."""


_JSON = ("settings", "job", "plan", "progress", "unbilled")
_COLUMNS = tuple(RunRow.__dataclass_fields__)
_LISTED = """SELECT number, id, state, reason, waits_for, token, created, started, ended, usd, max_usd,
    json_extract(settings, '$.tasks') AS tasks,
    (SELECT json_group_array(json_extract(value, '$.model')) FROM json_each(settings, '$.models')) AS models,
    json_extract(plan, '$.total.distinct') AS requests,
    (SELECT COALESCE(SUM(json_extract(value, '$.done')), 0) FROM json_each(progress, '$.models')) AS done
    FROM runs"""


def now() -> str:
    """Return the time in UTC, as everywhere in the table."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def kept_of(worst: float | None, limit: float | None, spent: float) -> float:
    """Return the dollars of a budget that are kept for a run with this worst case and limit, which spent so much.

    >>> kept_of(0.2, 0.9, 0.0), kept_of(0.9, 0.2, 0.05), kept_of(None, None, 0.0), kept_of(1.0, None, 2.0)
    (0.2, 0.15, 0.0, 0.0)
    """
    whole = min((usd for usd in (worst, limit) if usd is not None), default=0.0)
    return max(0.0, round(whole - spent, 12))


def _writes(method: Method) -> Method:
    """Let a method that writes use the reserve where the disk is full."""

    @wraps(method)
    def write(table: StateFile, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(table, *args, **kwargs)
        except sqlite3.OperationalError as exc:
            if getattr(exc, "sqlite_errorcode", None) != sqlite3.SQLITE_FULL or not table.use_reserve():
                raise
        return method(table, *args, **kwargs)

    return cast(Method, write)


class ReplacedError(sqlite3.OperationalError):
    """The file was removed or replaced while it was in use; what is written to it now would be lost."""

    def __init__(self) -> None:
        super().__init__("it was removed or replaced while the service goes")


class StateFile:
    """The SQLite file in a data directory.

    It keeps RESERVE bytes of itself free. Where the disk is full, they are used, so that runs can still be stopped,
    continued and deleted.
    """

    def __init__(self, directory: Path) -> None:
        """Open the file, or make it. Raises InputError where it cannot be used."""
        self.path = directory / FILE
        self._lock, self._read_lock = threading.RLock(), threading.RLock()
        self._identity: tuple[int, int] | None = None
        try:
            self._writer, self._reader = self._connect(), self._connect()
            with self._lock:
                version = self._writer.execute("PRAGMA user_version").fetchone()[0]
                if version > VERSION:
                    raise InputError(
                        f"{self.path} is of a later version of explaineval ({version}, not {VERSION}): start that one."
                    )
                if version == 1:
                    self._add_columns()
                self._writer.executescript(SCHEMA)
                if version == 0:
                    self._writer.execute(f"PRAGMA user_version = {VERSION}")
        except sqlite3.Error as exc:
            raise InputError(f"{self.path} cannot be used: {exc}.") from None
        self._identity = self._find_identity()

    def _find_identity(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def check_place(self) -> None:
        """Raise ReplacedError where the file is no longer in its place."""
        if self._find_identity() != self._identity:
            raise ReplacedError

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=30.0)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT}")
        return connection

    def _add_columns(self) -> None:
        with self._transaction() as writer:
            for table, columns in NEW_COLUMNS.items():
                for column in columns:
                    writer.execute(f"ALTER TABLE {table} ADD COLUMN {column}")
            writer.execute(f"PRAGMA user_version = {VERSION}")

    def keep_reserve(self) -> None:
        """Keep the reserve again, if it was used. Raises sqlite3.OperationalError where there is no room for it."""
        if self._rows("SELECT EXISTS (SELECT 1 FROM reserve)")[0][0]:
            return
        with self._transaction() as writer:
            writer.execute("INSERT INTO reserve VALUES (1, zeroblob(?))", (RESERVE,))
        with self._lock:  # what the log took stays its own, and is written over from here on
            self._writer.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()

    def use_reserve(self) -> bool:
        """Give the reserve to what is to be written; return whether there was one."""
        if not self._rows("SELECT EXISTS (SELECT 1 FROM reserve)")[0][0]:
            return False
        with self._lock:
            self._writer.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        with self._transaction() as writer:
            writer.execute("DELETE FROM reserve")
        return True

    def close(self) -> None:
        """Close the file."""
        with self._lock, self._read_lock:
            self._writer.close()
            self._reader.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._identity is not None:
                self.check_place()
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:  # SQLite ends one by itself where the disk is full
                    self._writer.execute("ROLLBACK")
                raise

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._read_lock:
            return self._reader.execute(query, values).fetchall()

    @_writes
    def add_run(
        self,
        run: str,
        token: str,
        created: str,
        settings: Mapping[str, Any],
        job: Mapping[str, Any],
        plan: Mapping[str, Any],
        worst_usd: float | None,
        max_usd: float | None,
    ) -> None:
        """Add a run that waits."""
        texts = [json.dumps(value, ensure_ascii=False) for value in (settings, job, plan)]
        with self._transaction() as writer:
            writer.execute(
                "INSERT INTO runs (id, number, token, state, created, settings, job, plan, worst_usd, max_usd) VALUES "
                "(?, (SELECT COALESCE(MAX(number), 0) + 1 FROM runs), ?, 'queued', ?, ?, ?, ?, ?, ?)",
                (run, token, created, *texts, worst_usd, max_usd),
            )

    @_writes
    def update_run(self, run: str, *, only_in: Sequence[State] = STATES, **changes: Any) -> bool:
        """Change columns of a run, if it is in one of these states; return whether it was."""
        names = [name for name in changes if name in _COLUMNS]
        values = [
            json.dumps(changes[name], ensure_ascii=False) if name in _JSON and changes[name] is not None
            else changes[name]
            for name in names
        ]  # fmt: skip
        sets = ", ".join(f"{name} = ?" for name in names)
        with self._transaction() as writer:
            marks = ", ".join("?" * len(only_in))
            query = f"UPDATE runs SET {sets} WHERE id = ? AND state IN ({marks})"  # noqa: S608 - names of columns
            return writer.execute(query, (*values, run, *only_in)).rowcount > 0

    def set_state(self, run: str, state: Status, *, only_in: Sequence[State] | None = None, **changes: Any) -> bool:
        """Change the state of a run, and other columns, where it is in one that leads there; return whether it was."""
        changes |= {"state": state.state, "reason": state.reason, "waits_for": state.waits_for}
        changes |= {"resume_at": state.resume_at, "ended": None if state.state in ACTIVE else now()}
        return self.update_run(run, only_in=before(state.state) if only_in is None else only_in, **changes)

    @_writes
    def delete_run(self, run: str) -> None:
        """Delete a run; what it spent stays booked on its token."""
        with self._transaction() as writer:
            writer.execute("DELETE FROM runs WHERE id = ?", (run,))

    def run(self, run: str) -> RunRow | None:
        """Return a run, None where there is none of this id."""
        rows = self._rows(f"SELECT {', '.join(_COLUMNS)} FROM runs WHERE id = ?", (run,))  # noqa: S608
        return _run_row(rows[0]) if rows else None

    def runs(self, states: Sequence[State]) -> list[RunRow]:
        """Return the runs in these states, the newest first."""
        marks = ", ".join("?" * len(states))
        query = f"SELECT {', '.join(_COLUMNS)} FROM runs WHERE state IN ({marks}) ORDER BY number DESC"  # noqa: S608
        return [_run_row(row) for row in self._rows(query, states)]

    def listed_runs(self, token: str | None, before: int | None, limit: int) -> list[dict[str, Any]]:
        """Return what a list shows, the newest first: of one token or of all, below a number, `limit` at most.

        SQLite reads what was submitted, so that long settings take no memory here.
        """
        query = f"{_LISTED} WHERE (:token IS NULL OR token = :token) AND (:before IS NULL OR number < :before)"
        with self._read_lock:
            cursor = self._reader.execute(
                f"{query} ORDER BY number DESC LIMIT :limit", {"token": token, "before": before, "limit": limit}
            )
            names = [column[0] for column in cursor.description]
            rows = [dict(zip(names, row, strict=True)) for row in cursor]
        return [row | {name: json.loads(row[name]) for name in ("tasks", "models")} for row in rows]

    def count_runs(self, token: str | None = None, states: Sequence[State] = STATES) -> int:
        """Return how many runs there are in these states, of one token or of all."""
        marks = ", ".join("?" * len(states))
        query, values = f"SELECT COUNT(*) FROM runs WHERE state IN ({marks})", list[Any](states)  # noqa: S608
        if token is not None:
            query, values = f"{query} AND token = ?", [*values, token]
        return int(self._rows(query, values)[0][0])

    def states(self) -> dict[str, dict[State, int]]:
        """Return by token how many runs there are in each state; a token without runs is not named."""
        states: dict[str, dict[State, int]] = {}
        for token, state, count in self._rows("SELECT token, state, COUNT(*) FROM runs GROUP BY token, state"):
            states.setdefault(str(token), dict.fromkeys(STATES, 0))[state] = count
        return states

    def uses_file(self, sha256: str) -> bool:
        """Return whether an upload is still there, or a run asks about its content."""
        query = "SELECT EXISTS (SELECT 1 FROM files WHERE sha256 = ?) OR EXISTS (SELECT 1 FROM runs WHERE job LIKE ?)"
        return bool(self._rows(query, (sha256, f"%{sha256}%"))[0][0])

    @_writes
    def book(self, entries: Iterable[Reservation]) -> None:
        """Write reservations that begin and that end, all at once; they are on the disk when this returns."""
        with self._transaction() as writer:
            for entry in entries:
                if entry.cost is None:
                    writer.execute(
                        "INSERT INTO reservations VALUES (?, ?, ?, ?, ?)",
                        (entry.id, entry.run, entry.token, entry.usd, entry.key),
                    )
                    continue
                writer.execute("DELETE FROM reservations WHERE id = ?", (entry.id,))
                _spend(writer, entry.run, entry.token, entry.cost)
                if entry.unbilled is not None:
                    _list_unbilled(writer, entry)

    def reservations(self) -> list[Reservation]:
        """Return the reservations that are open, as a crash leaves them."""
        rows = self._rows("SELECT id, run, token, usd, key FROM reservations ORDER BY id")
        return [Reservation(number, run, token, usd, key=key) for number, run, token, usd, key in rows]

    def answered(self) -> set[str]:
        """Return the endpoints that have answered a run."""
        return {str(name) for (name,) in self._rows("SELECT endpoint FROM answered")}

    @_writes
    def add_answered(self, endpoint: str) -> None:
        """Note that an endpoint has answered a run."""
        with self._transaction() as writer:
            writer.execute("INSERT OR IGNORE INTO answered VALUES (?)", (endpoint,))

    def spending(self) -> dict[str, float]:
        """Return the dollars that were spent by each token."""
        return {str(token): float(usd) for token, usd in self._rows("SELECT token, usd FROM spending")}

    @_writes
    def put_file(self, row: FileRow) -> FileRow | None:
        """Add an upload or replace the one of its name; return the one that was replaced."""
        before = self.file(row.token, row.name)
        with self._transaction() as writer:
            writer.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", tuple(vars(row).values()))
        return before

    def file(self, token: str, name: str) -> FileRow | None:
        """Return an upload of a token, None where it has none of this name."""
        rows = self._rows("SELECT * FROM files WHERE token = ? AND name = ?", (token, name))
        return FileRow(*rows[0]) if rows else None

    def files(self, token: str) -> list[FileRow]:
        """Return the uploads of a token, sorted by name."""
        return [FileRow(*row) for row in self._rows("SELECT * FROM files WHERE token = ? ORDER BY name", (token,))]

    @_writes
    def delete_file(self, token: str, name: str) -> None:
        """Delete an upload."""
        with self._transaction() as writer:
            writer.execute("DELETE FROM files WHERE token = ? AND name = ?", (token, name))

    @_writes
    def add_session(self, digest: bytes, token: str, token_digest: bytes, expires: float, now: float) -> None:
        """Add a session of a browser, and delete those that have expired by now."""
        with self._transaction() as writer:
            writer.execute("DELETE FROM sessions WHERE expires <= ?", (now,))
            writer.execute("INSERT INTO sessions VALUES (?, ?, ?, ?)", (digest, token, token_digest, expires))

    def session(self, digest: bytes, now: float) -> tuple[str, bytes] | None:
        """Return whose session it is and the digest of the token that it began with; None where it has expired."""
        rows = self._rows("SELECT token, token_digest FROM sessions WHERE digest = ? AND expires > ?", (digest, now))
        return (str(rows[0][0]), bytes(rows[0][1])) if rows else None

    @_writes
    def delete_session(self, digest: bytes) -> None:
        """Delete a session."""
        with self._transaction() as writer:
            writer.execute("DELETE FROM sessions WHERE digest = ?", (digest,))


def _spend(writer: sqlite3.Connection, run: str, token: str, usd: float) -> None:
    writer.execute("UPDATE runs SET usd = usd + ? WHERE id = ?", (usd, run))
    writer.execute(
        "INSERT INTO spending VALUES (?, ?) ON CONFLICT (token) DO UPDATE SET usd = usd + excluded.usd", (token, usd)
    )


def _list_unbilled(writer: sqlite3.Connection, entry: Reservation) -> None:
    """List an attempt whose bill nobody knows with its run."""
    row = writer.execute("SELECT unbilled FROM runs WHERE id = ?", (entry.run,)).fetchone()
    if row is None:
        return
    unbilled: dict[str, Any] = {"attempts": 0, "usd": 0.0, "listed": []} if row[0] is None else json.loads(row[0])
    unbilled["attempts"] += 1
    unbilled["usd"] += entry.usd
    if len(unbilled["listed"]) < MOST_LISTED:
        unbilled["listed"].append({"key": entry.key, "usd": entry.usd, "time": entry.unbilled})
    writer.execute("UPDATE runs SET unbilled = ? WHERE id = ?", (json.dumps(unbilled), entry.run))


def _run_row(row: Sequence[Any]) -> RunRow:
    values = dict(zip(_COLUMNS, row, strict=True))
    for name in _JSON:
        values[name] = None if values[name] is None else json.loads(values[name])
    return RunRow(**values)
