"""What the table of settings says of one beside its name and type: where it is offered, and in which words."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from explaineval.config.values import read_duration, short_duration
from explaineval.plugins import PluginName

Group = Literal["What to ask", "Whom", "Money", "How", "Output"]
"""Under which heading `explaineval run --help` lists an option."""


@dataclass(frozen=True)
class Offered:
    """How a setting is offered as an option.

    Args:
        help: what it means, for every place where it is offered.
        group: the heading in `--help`.
        option: the option's name, where it is not the field's.
        metavar: what stands for the value in `--help`.
        default: the default in words, where the field's own does not say it.
        note: a sentence for the command line alone.
        read: turns the option's text into the setting's value. Without it the option has the setting's type.
        several: whether it may be given several times, where the field's type says something else.
    """

    help: str
    group: Group
    option: str | None = None
    metavar: str | None = None
    default: str | None = None
    note: str = ""
    read: Callable[[str], Any] | None = None
    several: bool | None = None


@dataclass(frozen=True)
class Served:
    """How a setting is offered by the service.

    Args:
        most: its largest value there; also its smallest with a minus, where the field has no lower bound.
        label: its label in the form of a new run; without it the form does not have it.
        empty: what an empty field of the form means, where the default does not say it.
        field: the field of the form that its errors belong to, where it is not its own.
    """

    most: float | None = None
    label: str | None = None
    empty: str | None = None
    field: str | None = None


@dataclass(frozen=True)
class Setting:
    """One setting with all that the table says of it. `path` leads to it in a configuration file."""

    path: tuple[str, ...]
    field: FieldInfo
    is_science: bool

    def _find(self, kind: type[Any]) -> Any:
        return next((part for part in self.field.metadata if isinstance(part, kind)), None)

    @cached_property
    def offered(self) -> Offered | None:
        """How it is an option, None where it is none."""
        found: Offered | None = self._find(Offered)
        return found

    @cached_property
    def served(self) -> Served | None:
        """How the service offers it, None where it does not."""
        found: Served | None = self._find(Served)
        return found

    @property
    def option(self) -> str:
        """The name of its option."""
        given = self.offered and self.offered.option
        return given or "--" + self.path[-1].replace("_", "-")

    @property
    def name(self) -> str:
        """The option's name as a Python identifier."""
        return self.option.lstrip("-").replace("-", "_")

    @property
    def in_file(self) -> bool:
        """Whether a configuration file may say it."""
        return not self.field.exclude

    @property
    def default(self) -> Any:
        """Its default, None where it has none or must be given."""
        return None if self.field.is_required() else self.field.get_default(call_default_factory=True)

    @property
    def default_text(self) -> str:
        """Its default in words, empty where nothing is to be said."""
        if self.offered is not None and self.offered.default is not None:
            return self.offered.default
        value = self.default
        if value is None or value is False or isinstance(value, (dict, BaseModel)):
            return ""
        if isinstance(value, tuple):
            return ", ".join(map(str, value))
        if isinstance(value, Path):
            return f"{value}/"
        if self.type.is_duration:
            return short_duration(value)
        return f"{value:g}" if isinstance(value, float) else str(value)

    @property
    def empty_text(self) -> str:
        """What an empty field of the form means."""
        return (self.served and self.served.empty) or self.default_text

    @property
    def help(self) -> str:
        """What it means, for places other than the command line: without dashes before the names of other settings."""
        text = "" if self.offered is None else self.offered.help
        return re.sub(r"--([a-z-]+)", lambda match: match[1].replace("-", "_"), text)

    def value_of(self, given: Any) -> Any:
        """Return the setting's value for what its option was given."""
        if self.offered is not None and self.offered.read is not None:
            return self.offered.read(given)
        if self.type.several:
            return list(given) if self.is_repeatable else [given]
        return given

    @property
    def is_repeatable(self) -> bool:
        """Whether its option may be given several times."""
        several = None if self.offered is None else self.offered.several
        return self.type.several if several is None else several

    @cached_property
    def type(self) -> ValueType:
        """The type of its values."""
        return ValueType.of(rebuilt(self.field))


@dataclass(frozen=True)
class ValueType:
    """What one value of a setting can be: of the type `base`, with bounds; `several` values may be listed."""

    base: Any
    several: bool
    metadata: tuple[Any, ...]
    is_duration: bool
    has_rules: bool
    """Whether the type has rules of its own beside bounds."""

    @classmethod
    def of(cls, annotation: Any) -> ValueType:
        """Return the type behind an annotation: without None, and of one entry of a list."""
        several = False
        metadata: list[Any] = []
        while True:
            origin = get_origin(annotation)
            if origin is Annotated:
                annotation, *more = get_args(annotation)
                metadata += more
            elif origin in (Union, UnionType):
                annotation = next(part for part in get_args(annotation) if part is not NoneType)
            elif origin is tuple and get_args(annotation)[-1] is Ellipsis:
                annotation, several = get_args(annotation)[0], True
            else:
                break
        flat = [part for more in metadata for part in (more.metadata if isinstance(more, FieldInfo) else [more])]
        rules = [part.func for part in flat if isinstance(part, (AfterValidator, BeforeValidator))]
        return cls(annotation, several, tuple(flat), read_duration in rules, bool(rules))

    @property
    def choices(self) -> tuple[str, ...]:
        """The values to choose from, empty where they are not listed."""
        if get_origin(self.base) is Literal:
            return get_args(self.base)
        return next((part.names for part in self.metadata if isinstance(part, PluginName)), ())

    @property
    def is_simple(self) -> bool:
        """Whether it is one number or one choice."""
        return not self.several and (self.base in (int, float) or bool(self.choices))

    @property
    def input_mode(self) -> str:
        """Which keys a browser shows for it."""
        return "numeric" if self.base is int else "decimal"

    def bound(self, *names: str) -> Any:
        """Return the bound with one of these names: ge, gt, le, lt."""
        return next((getattr(part, name) for part in self.metadata for name in names if hasattr(part, name)), None)


def rebuilt(field: FieldInfo) -> Any:
    """Return a field's annotation with the bounds that pydantic took out of it, without `Offered` and `Served`."""
    metadata = tuple(part for part in field.metadata if not isinstance(part, (Offered, Served)))
    return Annotated[(field.annotation, *metadata)] if metadata else field.annotation
