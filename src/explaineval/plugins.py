"""Plug-ins: what other installed packages add to the tables of task formats, kinds, mentions, metrics and exports.

A package declares an entry point in the group `explaineval.` and the name of the table; the entry point is called as
the value that it leads to. Entry points are read only where a name is not built in, or all names are asked for.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import cached_property
from importlib import metadata
from typing import Any, TypeVar

VARIABLE = "EXPLAINEVAL_PLUGINS"
"""The environment variable that names the packages whose plug-ins may be used, separated by commas; unset: all."""

Value = TypeVar("Value")


class PluginWarning(UserWarning):
    """A plug-in is broken and left out."""


class Registry(dict[str, Value]):
    """Values by name: what is built in, and the plug-ins that were asked for so far.

    `registry[name]` reads the plug-ins where the name is not built in; `find`, too, and returns None where there is
    none. Iterating reads no plug-ins, `complete` does. A plug-in must be of the type `kind`, and have no name that is
    built in or in `taken`.
    """

    def __init__(self, group: str, kind: Any, values: Iterable[tuple[str, Value]], taken: Iterable[str] = ()) -> None:
        super().__init__(values)
        self._group, self._kind, self._taken = group, kind, (*self, *taken)

    def __missing__(self, name: str) -> Value:
        point = self._points.pop(name, None)
        if point is None:
            raise KeyError(name)
        try:
            value: Value = point.load()
        except (Exception, SystemExit) as exc:  # whatever the package raises
            self._leave_out(point, f"{type(exc).__name__}: {exc}")
            raise KeyError(name) from None
        own = getattr(value, "name", name)
        if isinstance(value, type) or not isinstance(value, self._kind) or own != name:
            what = f"called {own}" if own != name else f"of type {type(value).__name__}, not {self._kind.__name__}"
            self._leave_out(point, f"{point.value} is {what}")
            raise KeyError(name)
        self[name], self._origins[name] = value, _package(point)
        return value

    def find(self, name: str) -> Value | None:
        """Return the value of a name, None where there is none."""
        try:
            return self[name]
        except KeyError:
            return None

    def complete(self) -> dict[str, Value]:
        """Return everything that is built in, and every plug-in."""
        for name in sorted(self._points):
            self.find(name)
        return self

    def added(self) -> list[str]:
        """Return the names of all plug-ins."""
        return [name for name in self.complete() if name in self._origins]

    def origin(self, name: str | None) -> str | None:
        """Return name, package and version of a plug-in that was asked for; None for what is built in."""
        return f"{name} {self._origins[name]}" if name in self._origins else None

    @cached_property
    def _origins(self) -> dict[str, str]:
        """The packages of the plug-ins that were asked for, with their versions, by the plug-in's name."""
        return {}

    @cached_property
    def _points(self) -> dict[str, metadata.EntryPoint]:
        """The entry points that may be used and were not asked for yet, by name."""
        allowed = os.environ.get(VARIABLE)
        names = None if allowed is None else {_normal(name) for name in allowed.split(",")}
        points: dict[str, metadata.EntryPoint] = {}
        for point in sorted(metadata.entry_points(group=f"explaineval.{self._group}"), key=_package):
            if names is not None and (point.dist is None or _normal(point.dist.name) not in names):
                continue
            if any(fnmatchcase(point.name, name) for name in self._taken):
                self._leave_out(point, "this name is built in")
            elif point.name in points:
                self._leave_out(point, f"{_package(points[point.name])} has one of this name")
            else:
                points[point.name] = point
        return points

    def _leave_out(self, point: metadata.EntryPoint, reason: str) -> None:
        text = f"the plug-in {point.name} ({self._group}) of {_package(point)} is left out: {reason.rstrip('.')}."
        warnings.warn(PluginWarning(text), stacklevel=2)


def _package(point: metadata.EntryPoint) -> str:
    return "an unknown package" if point.dist is None else f"{point.dist.name} {point.dist.version}"


def _normal(name: str) -> str:
    """Return a package's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
