"""Uploads of users: task and interventions files, checked as they arrive and kept by the digest of their content.

A file that a run asks about stays as it was, also when its user uploads another of its name.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import shutil
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from explaineval.errors import InputError
from explaineval.service.models import FILE_NAME
from explaineval.service.processes.background import Background
from explaineval.service.settings import Capacity
from explaineval.service.table import Database, FileRow
from explaineval.text import counted

UPLOADS = "uploads"
LONGEST_ROW = 4 << 20
"""Bytes of one row."""
KEPT = re.compile(rf"(?P<reader>jsonl:)?/.*/{UPLOADS}/(?P<file>[0-9a-f]{{64}}/[^/]+)")
"""The path of a kept upload, alone or as a task, in whatever data directory."""


class FileTooLargeError(Exception):
    """A body is larger than is allowed."""


class Uploads:
    """The files in the data directory that users uploaded."""

    def __init__(self, directory: Path, table: Database, background: Background, limits: Capacity) -> None:
        self.directory, self.table, self.background, self.limits = directory / UPLOADS, table, background, limits
        self._under_way: Counter[str] = Counter()
        """How many uploads of each token arrive now."""

    async def put(self, token: str, name: str, body: AsyncIterator[bytes]) -> FileRow:
        """Keep an upload under a name of the token's, in place of an earlier one.

        Raises InputError where it cannot be used, FileTooLargeError where it is larger than is allowed.
        """
        if not re.fullmatch(FILE_NAME, name):
            raise InputError(f"{name!r} is no name of a file: use letters, digits, - and _, and .jsonl at the end.")
        known = await asyncio.to_thread(self.table.files, token)
        others = sum(row.name != name for row in known) + self._under_way[token]
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
            found = await self.background.do(
                "check_file", token, path=str(draft), name=name, most_rows=self.limits.file_rows
            )
            row = FileRow(
                token, name, digest, found["kind"], found["rows"], size,
                datetime.now(UTC).isoformat(timespec="milliseconds"),
            )  # fmt: skip
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
