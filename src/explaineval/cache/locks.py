"""Claims between the processes of one machine: who is asking which request now, and who started where.

A claim is a lock on one byte of `claims.lock`; where the byte stands says what is claimed. The kernel keeps the locks
and drops them with their process, however it ends, so nothing is left over and no service is needed. The file stays
empty: bytes beyond its end can be locked too. Locks of POSIX belong to a process, so one directory must be claimed by
one `Claims` at a time in each process.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
import sys
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from explaineval.errors import InputError

NETWORK_TYPES = frozenset(
    {"9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fhgfs", "gfs", "gfs2", "glusterfs"}
    | {"gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "smb3", "smbfs"}
)
"""Types served from another machine."""

LOCAL_FUSE = frozenset({"fuse.encfs", "fuse.fuse-overlayfs", "fuse.gocryptfs", "fuse.ntfs-3g", "fuse.bindfs"})
"""Types in user space that stay on this machine; every other `fuse.` name is taken for a remote one."""

_OCTAL = re.compile(r"\\([0-7]{3})")


def find_network_type(mounts: str, directory: PurePosixPath) -> str | None:
    """The type of network file system that `directory` (absolute, links resolved) is on, None if it is local.

    `mounts` has the form of /proc/mounts: device, mount point, type and more, one mount a line, blanks in
    names as octal escapes. The longest mount point above the directory counts; of two equal ones the later,
    which covers the earlier.
    """
    depth, kind = -1, ""
    for line in mounts.splitlines():
        columns = line.split(" ")
        if len(columns) < 3:
            continue
        point = PurePosixPath(_OCTAL.sub(lambda match: chr(int(match[1], 8)), columns[1]))
        if directory.is_relative_to(point) and len(point.parts) >= depth:
            depth, kind = len(point.parts), columns[2]
    remote = kind in NETWORK_TYPES or (kind.startswith("fuse.") and kind not in LOCAL_FUSE)
    return kind if remote else None


FILE = "claims.lock"
PLACES = 1024
_IS_BSD = sys.platform != "linux"
_FLOCK = "qqihh" if _IS_BSD else "hhqqi"
_KEYS_FROM = 2**20
_KEYS = 2**62


class Claims:
    """The claims of this process on one cache directory. Use as a context manager."""

    def __init__(self, directory: Path) -> None:
        path = directory / FILE
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as exc:
            raise InputError(f"{path} cannot be opened ({exc.strerror or exc}): make the cache writable.") from exc

    def claim(self, key: str) -> bool:
        """Claim a key (hexadecimal digits); False where another process has it."""
        return self._lock(_place_of(key))

    def release(self, key: str) -> None:
        """Give a key up."""
        fcntl.lockf(self._handle, fcntl.LOCK_UN, 1, _place_of(key))

    def holder(self, key: str) -> int | None:
        """The number of the process that has claimed a key; None where no other process has, or it is not told."""
        asked = struct.pack(_FLOCK, *_flock(fcntl.F_WRLCK, _place_of(key), 1, 0))
        try:
            found = struct.unpack(_FLOCK, fcntl.fcntl(self._handle, fcntl.F_GETLK, asked))
        except OSError:
            return None
        kind, process = (found[3], found[2]) if _IS_BSD else (found[0], found[4])
        return None if kind == fcntl.F_UNLCK or process <= 0 else int(process)

    def take_place(self) -> int:
        """The lowest number that no other process on this directory has: 0 for the first, and so on."""
        return next((place for place in range(PLACES) if self._lock(place)), 0)

    def close(self) -> None:
        """Give up everything."""
        os.close(self._handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _lock(self, place: int) -> bool:
        try:
            fcntl.lockf(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except (BlockingIOError, PermissionError):
            return False
        return True


def spread(place: int) -> float:
    """Where in its plan the process of this number begins, as a share: 0, 1/2, 1/4, 3/4, 1/8, …

    The van der Corput sequence: however many there are, they begin about equally far apart.

    >>> [spread(place) for place in range(5)]
    [0.0, 0.5, 0.25, 0.75, 0.125]
    """
    share, part = 0.0, 0.5
    while place:
        share += part * (place & 1)
        place >>= 1
        part /= 2
    return share


def is_stopped(process: int) -> bool:
    """Whether a process of this machine is stopped (Ctrl-Z, SIGSTOP), as far as this system tells."""
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[:1] == ["T"]


def _flock(kind: int, start: int, length: int, process: int) -> tuple[int, ...]:
    """The fields of a `struct flock` in this system's order."""
    if _IS_BSD:
        return start, length, process, kind, os.SEEK_SET
    return kind, os.SEEK_SET, start, length, process


def _place_of(key: str) -> int:
    return _KEYS_FROM + int(key[:16], 16) % _KEYS
