"""A disk that gets full while a process writes to it: a small tmpfs, or a limit on the size of files.

The limit stands in where none may be mounted; it holds for all files of the process. Both make writes fail in the
middle of a file.
"""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from servers.commands import Child


@dataclass
class SmallDisk:
    """A directory with `size` bytes of room. Use as a context manager."""

    directory: Path
    size: int = 8 * 2**20
    mounted: bool = False

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={self.size}", "tmpfs", str(self.directory)]
        with suppress(OSError):
            self.mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.directory)], capture_output=True, check=False)

    def fill(self, child: Child) -> None:
        """Leave no room for what the child writes from now on."""
        if not self.mounted:
            largest = max((path.stat().st_size for path in self.directory.rglob("*") if path.is_file()), default=0)
            resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
            return
        for step in (2**16, 2**12, 1):
            with suppress(OSError), (self.directory / "ballast").open("ab", buffering=0) as file:
                while file.write(os.urandom(step)):
                    pass

    def free(self) -> None:
        """Make room again."""
        (self.directory / "ballast").unlink(missing_ok=True)


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond `size` bytes in the block: writes across it are cut, later ones fail."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
