"""Plug-ins: what other installed packages add to the tables of task formats, kinds, mentions, metrics and exports.

A package declares an entry point in the group `explaineval.` and the name of the table; the entry point is called as
the value that it leads to. Entry points are read only where a name is not built in, or all names are asked for.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache, cached_property
from importlib import metadata
from typing import Any, TypeVar

from pydantic_core import CoreSchema, core_schema

from explaineval.errors import InputError, PluginWarning

VARIABLE = "EXPLAINEVAL_PLUGINS"
"""The environment variable that names the packages whose plug-ins may be used, separated by commas; unset: all."""

GROUPS = {
    "tasks": "task format",
    "kinds": "kind of intervention",
    "mentions": "mention policy",
    "metrics": "metric",
    "exports": "export format",
}
"""What plug-ins can add, by the last part of the name of their group of entry points."""
RECORDED = "plug-in "
"""What the names of plug-ins in run.json begin with."""

Value = TypeVar("Value")


@cache
def _entry_points(group: str) -> tuple[metadata.EntryPoint, ...]:
    """Return the entry points of a group that may be used, by package."""
    allowed = os.environ.get(VARIABLE)
    names = None if allowed is None else {_normal(name) for name in allowed.split(",")}
    points = sorted(metadata.entry_points(group=f"explaineval.{group}"), key=_package)
    return tuple(p for p in points if names is None or (p.dist is not None and _normal(p.dist.name) in names))


def allow(packages: Iterable[str]) -> None:
    """Let this process, and those that it starts, use plug-ins of these packages only. Call it before any is read."""
    os.environ[VARIABLE] = ",".join(packages)
    _entry_points.cache_clear()


def plugin_names(group: str) -> set[str]:
    """Return the names of the plug-ins of installed packages, broken ones among them."""
    return {point.name for point in _entry_points(group)}


@dataclass(frozen=True)
class PluginName:
    """Makes pydantic take one of `names`, or the name of a plug-in of the group."""

    group: str
    names: tuple[str, ...]

    def __get_pydantic_core_schema__(self, *_: Any) -> CoreSchema:
        """Return the schema of the names, which JSON schemas and errors show, around which plug-ins pass."""
        return core_schema.no_info_wrap_validator_function(
            self._validate, core_schema.literal_schema([*self.names]), serialization=core_schema.to_string_ser_schema()
        )

    def _validate(self, value: Any, among_names: core_schema.ValidatorFunctionWrapHandler) -> Any:
        is_other = isinstance(value, str) and value not in self.names
        return value if is_other and value in plugin_names(self.group) else among_names(value)


class Registry(dict[str, Value]):
    """Values by name: what is built in, and the plug-ins that were asked for so far.

    `registry[name]` reads the plug-ins where the name is not built in; `find`, too, and returns None where there is
    none. Iterating reads no plug-ins, `complete` does. A plug-in must be of the type `kind`, and have no name that is
    built in or in `taken`.
    """

    def __init__(self, group: str, kind: Any, values: Iterable[tuple[str, Value]], taken: Iterable[str] = ()) -> None:
        super().__init__(values)
        self.group, self._kind, self._taken = group, kind, (*self, *taken)

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

    def require(self, name: str) -> Value:
        """Return the value of a name. Raises InputError where there is none."""
        value = self.find(name)
        if value is None:
            noun = GROUPS[self.group]
            raise InputError(f"there is no {noun} {name!r}: choose from {', '.join(self.complete())}.")
        return value

    def complete(self) -> dict[str, Value]:
        """Return everything that is built in, and every plug-in."""
        for name in sorted(self._points):
            self.find(name)
        return self

    def added(self) -> list[str]:
        """Return the names of all plug-ins."""
        return [name for name in self.complete() if name in self._origins]

    def origin(self, name: str | None) -> str | None:
        """Return package and version of a plug-in that was asked for; None for what is built in."""
        return self._origins.get(name or "")

    def recorded(self, name: str) -> str:
        """Return what run.json calls a plug-in of this name."""
        return f"{RECORDED}{self.group}/{name}"

    def signed(self, name: str) -> str:
        """Return a name as signatures have it: that of a plug-in with package and version."""
        return f"{name} ({self._origins[name]})" if name in self._origins else name

    @cached_property
    def _origins(self) -> dict[str, str]:
        """The packages of the plug-ins that were asked for, with their versions, by the plug-in's name."""
        return {}

    @cached_property
    def _points(self) -> dict[str, metadata.EntryPoint]:
        """The entry points that may be used and were not asked for yet, by name."""
        points: dict[str, metadata.EntryPoint] = {}
        for point in _entry_points(self.group):
            if any(fnmatchcase(point.name, name) for name in self._taken):
                self._leave_out(point, "this name is built in")
            elif point.name in points:
                self._leave_out(point, f"{_package(points[point.name])} has one of this name")
            else:
                points[point.name] = point
        return points

    def _leave_out(self, point: metadata.EntryPoint, reason: str) -> None:
        what = f"{GROUPS[self.group]} {point.name} of the plug-in {_package(point)}"
        warn(f"the {what} is left out: {reason.rstrip('.')}.")


def warn(text: str) -> None:
    """Say that a plug-in is left out."""
    warnings.warn(PluginWarning(text), stacklevel=3)


def _package(point: metadata.EntryPoint) -> str:
    return "an unknown package" if point.dist is None else f"{point.dist.name} {point.dist.version}"


def _normal(name: str) -> str:
    """Return a package's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
