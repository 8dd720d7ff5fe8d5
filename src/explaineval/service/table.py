"""The service's one SQLite file: its runs, what was spent and reserved, uploads and sessions of browsers.

What a run found is in its directory. Every method does one thing in one transaction and may be called from any thread;
none is quick enough for the event loop.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from explaineval.errors import InputError

State = Literal["queued", "running", "stopping", "stopped", "finished", "failed", "interrupted"]
STATES: tuple[State, ...] = get_args(State)
ACTIVE: tuple[State, ...] = ("queued", "running", "stopping")
"""States of runs that wait or go on."""

FILE = "service.sqlite"
VERSION = 1
SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    id TEXT PRIMARY KEY, number INTEGER UNIQUE, token TEXT NOT NULL, state TEXT NOT NULL, reason TEXT,
    created TEXT NOT NULL, started TEXT, ended TEXT, settings TEXT NOT NULL, job TEXT NOT NULL, plan TEXT NOT NULL,
    worst_usd REAL, max_usd REAL, usd REAL NOT NULL DEFAULT 0, restarts INTEGER NOT NULL DEFAULT 0,
    exit_code INTEGER, progress TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS runs_of_token ON runs (token, number);
CREATE INDEX IF NOT EXISTS runs_by_state ON runs (state);
CREATE TABLE IF NOT EXISTS spending (token TEXT PRIMARY KEY, usd REAL NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS reservations (
    id INTEGER PRIMARY KEY, run TEXT NOT NULL, token TEXT NOT NULL, usd REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS files (
    token TEXT NOT NULL, name TEXT NOT NULL, sha256 TEXT NOT NULL, kind TEXT NOT NULL, rows INTEGER NOT NULL,
    bytes INTEGER NOT NULL, created TEXT NOT NULL, PRIMARY KEY (token, name)
) STRICT;
CREATE TABLE IF NOT EXISTS sessions (
    digest BLOB PRIMARY KEY, token TEXT NOT NULL, token_digest BLOB NOT NULL, expires REAL NOT NULL
) STRICT;
"""


@dataclass(frozen=True)
class RunRow:
    """One run. `settings` are what was submitted, `job` what its process is given, `plan` its costs at submission.

    `worst_usd` is the worst case of the plan, `max_usd` the limit that was given, `usd` what was spent so far; dollars
    are None where they are not known or not limited. `number` counts submissions. Times are in UTC.
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

    @property
    def active(self) -> bool:
        """Whether it waits or goes on."""
        return self.state in ACTIVE

    @property
    def commitment(self) -> float:
        """Dollars that are kept for it: the given limit, else its worst case, without what it spent already."""
        whole = self.worst_usd if self.max_usd is None else self.max_usd
        return max(0.0, (whole or 0.0) - self.usd)


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
class Entry:
    """One line for the ledger: a reservation that begins, or one that ends with what the attempt cost."""

    id: int
    run: str
    token: str
    usd: float
    cost: float | None = None
    """Dollars that an ended reservation cost; None for one that begins."""


@dataclass(frozen=True)
class ListedRun:
    """What a list shows of one run; `requests` are the distinct ones of its plan, `done` those that have an outcome."""

    id: str
    number: int
    state: State
    reason: str | None
    token: str
    created: str
    started: str | None
    ended: str | None
    tasks: list[str]
    models: list[str]
    requests: int
    done: int
    usd: float
    max_usd: float | None


_JSON = ("settings", "job", "plan", "progress")
_COLUMNS = tuple(RunRow.__dataclass_fields__)
_LISTED = """SELECT id, number, state, reason, token, created, started, ended,
    json_extract(settings, '$.tasks'),
    (SELECT json_group_array(json_extract(value, '$.model')) FROM json_each(settings, '$.models')),
    json_extract(plan, '$.total.distinct'),
    (SELECT COALESCE(SUM(json_extract(value, '$.done')), 0) FROM json_each(progress, '$.models')),
    usd, max_usd FROM runs"""


class Table:
    """The SQLite file in a data directory."""

    def __init__(self, directory: Path) -> None:
        """Open the file, or make it. Raises InputError where it cannot be used."""
        self.path = directory / FILE
        self._lock, self._read_lock = threading.RLock(), threading.RLock()
        try:
            self._writer, self._reader = self._connect(), self._connect()
            with self._lock:
                found = self._writer.execute("PRAGMA user_version").fetchone()[0]
                if found not in (0, VERSION):
                    raise InputError(f"{self.path} is of another version of explaineval ({found}, not {VERSION}).")
                self._writer.executescript(SCHEMA)
                self._writer.execute(f"PRAGMA user_version = {VERSION}")
        except sqlite3.Error as exc:
            raise InputError(f"{self.path} cannot be used: {exc}.") from None

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=30.0)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def close(self) -> None:
        """Close the file."""
        with self._lock, self._read_lock:
            self._writer.close()
            self._reader.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
            except BaseException:
                self._writer.execute("ROLLBACK")
                raise
            self._writer.execute("COMMIT")

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._read_lock:
            return self._reader.execute(query, values).fetchall()

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

    def delete_run(self, run: str) -> None:
        """Delete a run; what it spent stays booked on its token."""
        with self._transaction() as writer:
            writer.execute("DELETE FROM runs WHERE id = ?", (run,))

    def run(self, run: str) -> RunRow | None:
        """Return a run, None where there is none of this id."""
        found = self._rows(f"SELECT {', '.join(_COLUMNS)} FROM runs WHERE id = ?", (run,))  # noqa: S608
        return _run_row(found[0]) if found else None

    def runs(
        self,
        *,
        token: str | None = None,
        states: Sequence[State] = STATES,
        before: int | None = None,
        limit: int = -1,
    ) -> list[RunRow]:
        """Return runs, the newest first: of one token or of all, below a number, so many at the most."""
        marks = ", ".join("?" * len(states))
        query = f"SELECT {', '.join(_COLUMNS)} FROM runs WHERE state IN ({marks})"  # noqa: S608
        values: list[Any] = list(states)
        if token is not None:
            query, values = f"{query} AND token = ?", [*values, token]
        if before is not None:
            query, values = f"{query} AND number < ?", [*values, before]
        rows = self._rows(f"{query} ORDER BY number DESC LIMIT ?", (*values, limit))
        return [_run_row(row) for row in rows]

    def listed_runs(self, token: str | None, before: int | None, limit: int) -> list[ListedRun]:
        """Return what a list shows, the newest first: of one token or of all, below a number, so many at the most.

        SQLite reads what was submitted, so that long settings take no memory here.
        """
        query = f"{_LISTED} WHERE (:token IS NULL OR token = :token) AND (:before IS NULL OR number < :before)"
        with self._read_lock:
            rows = self._reader.execute(
                f"{query} ORDER BY number DESC LIMIT :limit", {"token": token, "before": before, "limit": limit}
            ).fetchall()
        found = (dict(zip(ListedRun.__dataclass_fields__, row, strict=True)) for row in rows)
        return [ListedRun(**row | {name: json.loads(row[name]) for name in ("tasks", "models")}) for row in found]

    def count_runs(self, token: str | None = None, states: Sequence[State] = STATES) -> int:
        """Return how many runs there are in these states, of one token or of all."""
        marks = ", ".join("?" * len(states))
        query, values = f"SELECT COUNT(*) FROM runs WHERE state IN ({marks})", list[Any](states)  # noqa: S608
        if token is not None:
            query, values = f"{query} AND token = ?", [*values, token]
        return int(self._rows(query, values)[0][0])

    def states(self) -> dict[State, int]:
        """Return how many runs there are in each state."""
        counts = dict(self._rows("SELECT state, COUNT(*) FROM runs GROUP BY state"))
        return {state: counts.get(state, 0) for state in STATES}

    def uses_file(self, sha256: str) -> bool:
        """Return whether an upload is still there, or a run asks about its content."""
        query = "SELECT EXISTS (SELECT 1 FROM files WHERE sha256 = ?) OR EXISTS (SELECT 1 FROM runs WHERE job LIKE ?)"
        return bool(self._rows(query, (sha256, f"%{sha256}%"))[0][0])

    def book(self, entries: Iterable[Entry]) -> None:
        """Write reservations that begin and that end, all at once; they are on the disk when this returns."""
        with self._transaction() as writer:
            for entry in entries:
                if entry.cost is None:
                    writer.execute(
                        "INSERT INTO reservations VALUES (?, ?, ?, ?)", (entry.id, entry.run, entry.token, entry.usd)
                    )
                    continue
                writer.execute("DELETE FROM reservations WHERE id = ?", (entry.id,))
                _spend(writer, entry.run, entry.token, entry.cost)

    def settle(self) -> float:
        """Book every open reservation at its full amount, as after a crash; return the sum in dollars."""
        with self._transaction() as writer:
            open_ones = writer.execute("SELECT run, token, usd FROM reservations").fetchall()
            for run, token, usd in open_ones:
                _spend(writer, run, token, usd)
            writer.execute("DELETE FROM reservations")
        return sum(float(usd) for _, _, usd in open_ones)

    def last_reservation(self) -> int:
        """Return the highest id of a reservation that is open, 0 where there is none."""
        return int(self._rows("SELECT COALESCE(MAX(id), 0) FROM reservations")[0][0])

    def spending(self) -> dict[str, float]:
        """Return the dollars that were spent by each token."""
        return {str(token): float(usd) for token, usd in self._rows("SELECT token, usd FROM spending")}

    def run_spending(self, run: str) -> float:
        """Return the dollars that a run spent."""
        found = self._rows("SELECT usd FROM runs WHERE id = ?", (run,))
        return float(found[0][0]) if found else 0.0

    def put_file(self, row: FileRow) -> FileRow | None:
        """Add an upload or replace the one of its name; return the one that was replaced."""
        before = self.file(row.token, row.name)
        with self._transaction() as writer:
            writer.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", tuple(vars(row).values()))
        return before

    def file(self, token: str, name: str) -> FileRow | None:
        """Return an upload of a token, None where it has none of this name."""
        found = self._rows("SELECT * FROM files WHERE token = ? AND name = ?", (token, name))
        return FileRow(*found[0]) if found else None

    def files(self, token: str) -> list[FileRow]:
        """Return the uploads of a token, sorted by name."""
        return [FileRow(*row) for row in self._rows("SELECT * FROM files WHERE token = ? ORDER BY name", (token,))]

    def delete_file(self, token: str, name: str) -> None:
        """Delete an upload."""
        with self._transaction() as writer:
            writer.execute("DELETE FROM files WHERE token = ? AND name = ?", (token, name))

    def add_session(self, digest: bytes, token: str, token_digest: bytes, expires: float, now: float) -> None:
        """Add a session of a browser, and delete those that have expired by now."""
        with self._transaction() as writer:
            writer.execute("DELETE FROM sessions WHERE expires <= ?", (now,))
            writer.execute("INSERT INTO sessions VALUES (?, ?, ?, ?)", (digest, token, token_digest, expires))

    def session(self, digest: bytes, now: float) -> tuple[str, bytes] | None:
        """Return whose session it is and the digest of the token that it began with; None where it has expired."""
        found = self._rows("SELECT token, token_digest FROM sessions WHERE digest = ? AND expires > ?", (digest, now))
        return (str(found[0][0]), bytes(found[0][1])) if found else None

    def delete_session(self, digest: bytes) -> None:
        """Delete a session."""
        with self._transaction() as writer:
            writer.execute("DELETE FROM sessions WHERE digest = ?", (digest,))


def _spend(writer: sqlite3.Connection, run: str, token: str, usd: float) -> None:
    writer.execute("UPDATE runs SET usd = usd + ? WHERE id = ?", (usd, run))
    writer.execute(
        "INSERT INTO spending VALUES (?, ?) ON CONFLICT (token) DO UPDATE SET usd = usd + excluded.usd", (token, usd)
    )


def _run_row(row: Sequence[Any]) -> RunRow:
    values = dict(zip(_COLUMNS, row, strict=True))
    for name in _JSON:
        values[name] = None if values[name] is None else json.loads(values[name])
    return RunRow(**values)
