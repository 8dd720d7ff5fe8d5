"""Is a directory on a network file system? Read off the table of mounts (Linux, proc(5)). Pure.

SQLite's write-ahead log shares memory between the processes of one machine, so it does not work across
machines (sqlite.org/wal.html, "overview").
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

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
