"""Write files so that a crash never leaves half of one, and read files within bounded memory.

Every function raises OSError where the disk or the file is at fault, so that its caller can say what that means.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Self

LONGEST_LINE = 128 << 20
"""Bytes of the longest line that is read. A trial holds up to six texts of at most 10 MB each."""
AT_ONCE, MOST_WAITING = 64 << 10, 16 << 20
"""Bytes of lines that are collected before they are written, and how many may wait for room on the disk."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
"""What the system says where nothing can be stored until somebody makes room."""


@contextmanager
def open_atomic(path: Path, *, durable: bool = False) -> Iterator[BinaryIO]:
    """Open a draft beside `path` for writing, and rename it to `path` if the block ends without an exception.

    Otherwise the draft is removed and `path` stays as it was. With `durable` the contents and the new name are on the
    disk when the block has ended, so that they also survive a power failure.

    Raises:
        OSError: the file cannot be written, or `path` exists and is not a regular file.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EEXIST, "it exists and is not a regular file, so it is not replaced", str(path))
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with draft.open("wb") as handle:
            yield handle
            if durable:
                handle.flush()
                os.fsync(handle.fileno())
        draft.replace(path)
    except OSError as exc:
        if exc.filename == str(draft):
            exc.filename = str(path)
        raise
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
    if durable:
        directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


@contextmanager
def open_text_atomic(path: Path) -> Iterator[io.TextIOWrapper]:
    """Do what `open_atomic` does for UTF-8 text; line breaks and halves of surrogate pairs are written as they are."""
    with open_atomic(path) as handle:
        text = io.TextIOWrapper(handle, encoding="utf-8", errors="surrogatepass", newline="\n")
        yield text
        text.flush()
        text.detach()


def write_text_atomic(path: Path, text: str) -> None:
    """Write a text file as a whole; see `open_text_atomic`."""
    with open_text_atomic(path) as handle:
        handle.write(text)


class LineWriter:
    """Writes a text file line by line. Lines that the disk does not take stay here, and the next call writes them.

    A text file of Python's would lose them: what `flush` could not write is missing from the file when there is room
    again. Use it as a context manager; a block that ends without an exception has everything on the disk.
    """

    def __init__(self, path: Path) -> None:
        self._handle = path.open("wb", buffering=0)
        self._waiting = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._handle, suppress(*(() if kind is None else (OSError,))):
            self.flush()
            os.fsync(self._handle.fileno())

    def write(self, line: str) -> None:
        """Add a line, without its end. Raises OSError where more than MOST_WAITING bytes cannot be written."""
        self._waiting += line.encode("utf-8", "surrogatepass") + b"\n"
        if len(self._waiting) > AT_ONCE:
            with suppress(*(() if len(self._waiting) > MOST_WAITING else (OSError,))):
                self.flush()

    def flush(self) -> None:
        """Write all lines so far, so that others can read them. Raises OSError where that cannot be done now."""
        while self._waiting:
            del self._waiting[: self._handle.write(self._waiting[:AT_ONCE])]


def copy_tree(source: Path, target: Path, whole: Path | None = None) -> None:
    """Copy a folder with all files in it. The copies are new files: their modes follow the umask, not the originals.

    `whole` is the folder out of which no link may lead, `source` itself if it is None. Raises OSError for such a link
    and for a pipe or device.
    """
    whole = source.resolve() if whole is None else whole
    target.mkdir()
    for path in sorted(source.iterdir()):
        if path.is_symlink() and not path.resolve().is_relative_to(whole):
            raise OSError(errno.EINVAL, "it is a link out of its folder", str(path))
        if path.is_dir():
            copy_tree(path, target / path.name, whole)
        else:
            with open_regular(path) as original, (target / path.name).open("xb") as copy:
                shutil.copyfileobj(original, copy)


def why_unwritable(directory: Path) -> str | None:
    """Say why this process may not write into a directory, or make it, and what to do; None where it may.

    The text names the first folder that is there, its owner and the user that the process runs as, because in a
    container a mounted folder often belongs to somebody else.
    """
    places = (directory, *directory.absolute().parents)
    place = next((path for path in places if os.path.exists(path)), directory)  # noqa: PTH110  # it may be forbidden
    if not place.is_dir() or os.access(place, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        return None
    if os.statvfs(place).f_flag & os.ST_RDONLY:
        return f"the folder {place} is on a file system that is mounted read-only: choose another, or mount it writable"
    owner, user = place.stat(), os.geteuid()
    if owner.st_uid == user:
        return f"the folder {place} does not let its owner write, as whom this runs: change that (chmod u+rwx {place})"
    return (
        f"the folder {place} belongs to user {owner.st_uid}, and this runs as user {user}, who may not write there: "
        f"give it to that user (chown {user} FOLDER), or run as its owner (docker run --user "
        f"{owner.st_uid}:{owner.st_gid})"
    )


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading. A device or a pipe, which may be endless, is refused without waiting for it.

    Raises:
        OSError: the file cannot be opened, or is not a regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(code, "it is not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a regular file with their line breaks; the last one may lack it.

    Raises:
        OSError: the file cannot be read, is not a regular file, or has a line of more than `LONGEST_LINE` bytes.
    """
    with open_regular(path) as handle:
        number = 0
        while line := handle.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) > LONGEST_LINE:
                raise OSError(errno.EFBIG, f"line {number} is longer than {LONGEST_LINE:,} bytes", str(path))
            yield line
