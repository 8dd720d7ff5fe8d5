"""How many threads the embedded model may use: the physical cores that nobody else keeps busy.

A server with more threads than free cores waits for its slowest thread at every step: on a busy machine that takes
many times as long as one thread does.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path, PurePosixPath

_ROOT = Path("/")


def threads_for(*, cores: int, allowed: int, load: float, quota: float | None) -> int:
    """The number of threads to start, at least 1.

    `cores` is the number of the machine's physical cores, `allowed` how many of them this process may use, `load`
    the mean number of processes that ran or waited on the machine in the last minute, `quota` the limit of the
    control group in cores. Of the load, the allowed cores carry their share.

    >>> threads_for(cores=8, allowed=8, load=2.9, quota=None), threads_for(cores=2, allowed=2, load=9, quota=None)
    (5, 1)
    """
    busy = round(load * min(allowed, cores) / max(cores, 1))
    free = min(allowed, cores) - busy
    return max(1, free if quota is None else min(free, int(quota)))


def free_threads() -> int:
    """`threads_for` on this machine, now."""
    everyone = range(os.cpu_count() or 1)
    mine = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else everyone
    try:
        load = os.getloadavg()[0]
    except (OSError, AttributeError):  # not known on every system
        load = 0.0
    cores, allowed = count_cores(everyone), count_cores(mine)
    return threads_for(cores=cores, allowed=allowed, load=load, quota=read_quota())


def count_cores(processors: Collection[int], root: Path = _ROOT) -> int:
    """The number of physical cores that these logical processors are of; where Linux does not say, each is one."""
    siblings = set()
    for number in processors:
        path = root / f"sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list"
        siblings.add(_read(path) or str(number))
    return len(siblings)


def read_quota(root: Path = _ROOT) -> float | None:
    """The cores that the control groups of this process leave it (versions 1 and 2), None without a limit."""
    quotas: list[float | None] = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        group = PurePosixPath(name.lstrip("/"))
        places = (top / group, *(top / parent for parent in group.parents))
        quotas += [_quota_of(place, version=1 if controllers else 2) for place in places]
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota_of(group: Path, version: int) -> float | None:
    if version == 2:
        values = _read(group / "cpu.max").split()
    else:
        values = [_read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")]
    if len(values) != 2 or not all(value.isdigit() for value in values) or int(values[1]) == 0:  # "max", -1, no file
        return None
    return int(values[0]) / int(values[1])


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
