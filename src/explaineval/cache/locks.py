"""Locks between the processes of one machine, and the file systems on which locks do not work.

A claim on a request is a lock on one byte of `claims.lock`; the byte's position says what is claimed. The kernel keeps
the locks and drops them with their process, however it ends, so nothing is left over and no service is needed. The file
stays empty, because bytes beyond its end can be locked too. POSIX locks belong to a process, so one directory must be
claimed by one `Claims` at a time in each process.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
import sys
from pathlib import Path, PurePosixPath
from typing import Self

from explaineval.errors import InputError

NETWORK_TYPES = frozenset(
    {"9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fhgfs", "gfs", "gfs2", "glusterfs"}
    | {"gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "smb3", "smbfs"}
)
"""Types of file systems that another machine serves."""

LOCAL_FUSE = frozenset({"fuse.encfs", "fuse.fuse-overlayfs", "fuse.gocryptfs", "fuse.ntfs-3g", "fuse.bindfs"})
"""Types in user space that stay on this machine; every other `fuse.` type is taken for a remote one."""

_OCTAL = re.compile(r"\\([0-7]{3})")


def find_network_type(mounts: str, directory: PurePosixPath) -> str | None:
    """Return the type of network file system that `directory` (absolute, links resolved) is on, None if it is local.

    `mounts` has the form of /proc/mounts: device, mount point, type and more, one mount a line, blanks in names as
    octal escapes. The longest mount point above the directory counts; of two equal ones the later, which covers the
    earlier.
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


def describe_network(directory: Path) -> str | None:
    """Return a warning if the directory is on a network file system, None if not or if the system does not say."""
    try:
        mounts = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None  # no such table on this system
    kind = find_network_type(mounts, PurePosixPath(os.path.realpath(directory)))  # realpath accepts a link to itself
    if kind is None:
        return None
    return (
        f"The cache directory {directory} is on a network file system ({kind}), where SQLite's log does not work and "
        "answers could be lost: choose a local directory (--cache DIR); answers that are here are moved by "
        f"`explaineval cache export --cache {directory} --out FILE` and `explaineval cache import FILE --cache DIR`."
    )


FILE = "claims.lock"
MAX_PROCESSES = 1024
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
        """Claim a key (hexadecimal digits); returns whether no other process has claimed it."""
        return self._lock(_position_of(key))

    def release(self, key: str) -> None:
        """Release a key."""
        fcntl.lockf(self._handle, fcntl.LOCK_UN, 1, _position_of(key))

    def holder(self, key: str) -> int | None:
        """Return the id of the process that has claimed a key, None where no other has or the system does not say."""
        query = struct.pack(_FLOCK, *_flock(fcntl.F_WRLCK, _position_of(key), 1, 0))
        try:
            answer = struct.unpack(_FLOCK, fcntl.fcntl(self._handle, fcntl.F_GETLK, query))
        except OSError:
            return None
        kind, process = (answer[3], answer[2]) if _IS_BSD else (answer[0], answer[4])
        return None if kind == fcntl.F_UNLCK or process <= 0 else int(process)

    def take_number(self) -> int:
        """Claim and return the lowest number that no other process on this directory has; the first gets 0."""
        return next((number for number in range(MAX_PROCESSES) if self._lock(number)), 0)

    def close(self) -> None:
        """Release everything."""
        os.close(self._handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _lock(self, position: int) -> bool:
        try:
            fcntl.lockf(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, position)
        except (BlockingIOError, PermissionError):
            return False
        return True


def spread(number: int) -> float:
    """Return where in its plan the process of this number begins, as a share: 0, 1/2, 1/4, 3/4, 1/8, …

    This is the van der Corput sequence: however many processes there are, they begin about equally far apart.

    >>> [spread(number) for number in range(5)]
    [0.0, 0.5, 0.25, 0.75, 0.125]
    """
    share, part = 0.0, 0.5
    while number:
        share += part * (number & 1)
        number >>= 1
        part /= 2
    return share


def is_stopped(process: int) -> bool:
    """Return whether a process of this machine is stopped (Ctrl-Z, SIGSTOP), as far as this system says."""
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[:1] == ["T"]


def _flock(kind: int, start: int, length: int, process: int) -> tuple[int, ...]:
    """Return the fields of a `struct flock` in this system's order."""
    if _IS_BSD:
        return start, length, process, kind, os.SEEK_SET
    return kind, os.SEEK_SET, start, length, process


def _position_of(key: str) -> int:
    return _KEYS_FROM + int(key[:16], 16) % _KEYS
