"""Opening a database: check what is there, then connect."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path, PurePosixPath
from typing import Any

from explaineval.cache.checks import MARKER, check_integrity
from explaineval.cache.databases import FILE, Database, explain
from explaineval.cache.mounts import find_network_type
from explaineval.cache.readers import Reader
from explaineval.errors import InputError, StoreError


def holds_store(directory: Path) -> bool:
    """Does the directory hold a store, or the remains of one?"""
    return any((directory / name).exists() for name in (MARKER, FILE))


def check_pages(path: Path, marker: dict[str, Any] | None, *, readonly: bool) -> str | None:
    """Check an existing database.

    Returns the sentence about its damage where it is opened for reading only: what is left can still be
    saved.

    Raises:
        InputError, StoreError: see `checks.check_integrity`.
    """
    if not path.exists() or path.stat().st_size == 0 or (marker is None and path.with_name(f"{FILE}-journal").exists()):
        return None  # new, or its making was interrupted, which SQLite undoes by itself
    try:
        reader = Reader(path, immutable=readonly and _is_frozen(path))
    except sqlite3.Error as error:
        raise explain(error, path, doing="open") from error
    try:
        check_integrity(reader.connection, path, marker)
    except StoreError:
        raise
    except InputError as error:
        if readonly:
            return str(error)
        raise
    finally:
        reader.close()
    return None


def connect(path: Path, *, readonly: bool) -> tuple[Reader, Database | None]:
    """The connections of a store: one that cannot write and, unless `readonly`, diskcache's for the writer.

    Raises:
        InputError: settings of another program.
        StoreError: the database cannot be opened.
    """
    try:
        if readonly:
            return Reader(path, immutable=_is_frozen(path)), None
        database = Database(path.parent)
        try:
            reader = Reader(path)
        finally:
            database.close()  # this thread's connection; the writer opens its own
    except sqlite3.Error as error:
        raise explain(error, path, doing="open") from error
    return reader, database


def _is_frozen(path: Path) -> bool:
    """A directory that cannot be written, without a log to read: nobody can be writing the database."""
    log = path.with_name(f"{FILE}-wal")
    return not os.access(path.parent, os.W_OK) and not (log.exists() and log.stat().st_size)


def describe_network(directory: Path) -> str | None:
    """A warning where the directory is on a network file system, as far as this system tells."""
    try:
        mounts = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None  # no such table on this system
    kind = find_network_type(mounts, PurePosixPath(directory.resolve()))
    if kind is None:
        return None
    return (
        f"The cache directory {directory} is on a network file system ({kind}), where SQLite's log does not "
        "work across machines: use a local directory, or run from one machine at a time."
    )
