"""The standard streams, also where they cannot be written: a full disk, a reader that has gone."""

from __future__ import annotations

import errno
import os
from typing import TextIO

UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})
"""What an open stream answers that takes no more."""


def silence(stream: TextIO) -> None:
    """Point a stream that takes no more at nothing, so that Python's end, which flushes it, is quiet."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def explain(exc: OSError) -> str:
    """The sentence about an error of the system. Our own files are named by who writes them: without a name it is
    standard output."""
    reason = exc.strerror or str(exc)
    if exc.filename is None and exc.errno in UNWRITABLE:
        return (
            f"standard output cannot be written ({reason}): what was computed and paid for is kept in the run "
            "directory and the cache; give the same command again with another output."
        )
    name = exc.filename if isinstance(exc.filename, str) else "a file"
    return f"{name} cannot be read or written ({reason}): make room, or check the path and its permissions."
