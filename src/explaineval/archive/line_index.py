"""Bring the lines of several files into one order without holding them in memory: 24 bytes are kept of each line."""

from __future__ import annotations

import os
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

MOST_OPEN = 200
"""Files that are open at once: there may be more shards than a process may open files."""


class LineIndex:
    """Where each line of some files stands, and its key: an integer by which the lines are ordered."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._keys = array("q")
        self._files = array("i")
        self._starts = array("q")
        self._lengths = array("i")
        self._open: OrderedDict[int, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, file: int, key: int, start: int, length: int) -> None:
        """Add the line of `length` bytes at byte `start` of the file with this index."""
        self._keys.append(key)
        self._files.append(file)
        self._starts.append(start)
        self._lengths.append(length)

    def sorted_keys(self) -> npt.NDArray[np.int64]:
        """Return all keys in ascending order."""
        return np.sort(np.array(self._keys, dtype=np.int64))

    def lines(self) -> Iterator[bytes]:
        """Yield the lines in the order of their keys; lines with one key stay in the order in which they were added.

        Raises OSError where a file cannot be read, or became shorter meanwhile.
        """
        order = np.argsort(np.array(self._keys, dtype=np.int64), kind="stable")
        try:
            for number in order:
                file, length = self._files[number], self._lengths[number]
                line = os.pread(self._descriptor(file), length, self._starts[number])
                if len(line) != length:
                    raise OSError(None, "it was changed while it was read", str(self._paths[file]))
                yield line
        finally:
            for descriptor in self._open.values():
                os.close(descriptor)
            self._open.clear()

    def _descriptor(self, file: int) -> int:
        """Return a file's descriptor; of those that were not used for the longest time one is closed for it."""
        if file in self._open:
            self._open.move_to_end(file)
        else:
            if len(self._open) >= MOST_OPEN:
                os.close(self._open.popitem(last=False)[1])
            self._open[file] = os.open(self._paths[file], os.O_RDONLY | os.O_CLOEXEC)
        return self._open[file]
