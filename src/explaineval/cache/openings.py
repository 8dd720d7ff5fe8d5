"""Opening a store: check what is there, then connect. `open_store` is the only place where a cache is opened."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path, PurePosixPath
from typing import Any

from explaineval.cache.checks import MARKER, check_files, check_integrity, read_marker, write_marker
from explaineval.cache.databases import FILE, Database, explain
from explaineval.cache.mounts import find_network_type
from explaineval.cache.readers import Reader
from explaineval.cache.stores import Store
from explaineval.errors import DamageError, InputError, StoreError


def open_store(directory: Path, *, readonly: bool = False, repairing: bool = False) -> Store:
    """Open the store in a directory, making both where they are missing (never with `readonly`).

    With `repairing` damaged rows do not keep it from being written: they are to be deleted or replaced.

    Raises:
        DamageError: the database is damaged or lost; with `readonly`, so much that nothing can be read.
        InputError: the directory cannot be used, or (but for `readonly`) is on a network file system; the database is
            another program's; with `readonly`, there is no store.
        StoreError: another process kept the database locked, or the disk fails.
    """
    directory = Path(os.path.abspath(directory))  # noqa: PTH100  # keeps links: messages name the user's path
    path = directory / FILE
    network = describe_network(directory)
    try:
        if not readonly:
            if network is not None:
                raise InputError(network)
            directory.mkdir(parents=True, exist_ok=True)
        elif not holds_store(directory):
            raise InputError(f"There is no cache in {directory}: check the path.")
        marker, blur = _read_marker(directory, readonly=readonly)
        cut = check_files(directory, marker, readonly=readonly)
        damage = cut or check_pages(path, marker, readonly=readonly, rows=not readonly and not repairing) or blur
        connections = connect(path, readonly=readonly, lenient=damage is not None)
        store = Store(directory, *connections, damage=damage, repairing=repairing)
        try:
            if marker is None and not readonly:
                write_marker(directory, None, clean=False)
        except OSError:
            store.close()
            raise
    except OSError as error:
        raise InputError(
            f"The cache directory {directory} cannot be used ({error.strerror or error}): choose another."
        ) from error
    if network is not None:
        store.warn(network)
    return store


def _read_marker(directory: Path, *, readonly: bool) -> tuple[dict[str, Any] | None, str | None]:
    """The marker and, where it is damaged and the store is opened for reading only, the sentence about that."""
    try:
        return read_marker(directory), None
    except DamageError as error:
        if not readonly:
            raise
        return {}, str(error)


def holds_store(directory: Path) -> bool:
    """Does the directory hold a store, or the remains of one?"""
    return any((directory / name).exists() for name in (MARKER, FILE))


def check_pages(path: Path, marker: dict[str, Any] | None, *, readonly: bool, rows: bool = False) -> str | None:
    """Check an existing database, and the checksums of its `rows` where asked.

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
        check_integrity(reader.connection, path, marker, rows=rows)
    except StoreError:
        raise
    except InputError as error:
        if readonly:
            return str(error)
        raise
    finally:
        reader.close()
    return None


def connect(path: Path, *, readonly: bool, lenient: bool = False) -> tuple[Reader, Database | None]:
    """The connections of a store: one that cannot write and, unless `readonly`, diskcache's for the writer.

    `lenient` reads a damaged database as far as it goes.

    Raises:
        InputError: settings of another program.
        StoreError: the database cannot be opened.
    """
    try:
        if readonly:
            return Reader(path, immutable=_is_frozen(path), lenient=lenient), None
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
    """What to say where the directory is on a network file system, as far as this system tells."""
    try:
        mounts = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None  # no such table on this system
    kind = find_network_type(mounts, PurePosixPath(os.path.realpath(directory)))  # which takes a link to itself too
    if kind is None:
        return None
    return (
        f"The cache directory {directory} is on a network file system ({kind}), where SQLite's log does not work and "
        "answers could be lost: choose a local directory (--cache DIR); answers that are here are moved by "
        f"`explaineval cache export --cache {directory} --out FILE` and `explaineval cache import FILE --cache DIR`."
    )
