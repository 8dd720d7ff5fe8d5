"""The options of all commands. Each option with a single value can also be set by an environment variable.

The default of an option that a configuration file can also give is None, which tells that it was not given;
`configuration.resolve` decides between option, file and default.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from explaineval.cli.app import REPEATED, write_sections
from explaineval.config import SETTINGS, Setting, read_duration
from explaineval.config.fields import Group
from explaineval.datasets.readers import added_formats, task_help
from explaineval.interventions import KINDS
from explaineval.mentions import SEARCHES
from explaineval.plugins import Registry

F = TypeVar("F", bound=Callable[..., Any])


class NumberRange(click.FloatRange):
    """A range of numbers that refuses "nan", which click takes for a number inside every range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Convert the text of an option's value."""
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


class DurationType(click.ParamType[float]):
    """Seconds, given with a unit or without: 5m, 90s, 0."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Convert the text of an option's value."""
        try:
            return read_duration(value)
        except ValueError as exc:
            self.fail(f"{value!r}: {exc}.", param, ctx)


PATH = click.Path(path_type=Path)
AT_LEAST_1 = click.IntRange(min=1)
AT_LEAST_0 = click.IntRange(min=0)
ABOVE_0 = NumberRange(min=0, min_open=True)


class GroupedOption(click.Option):
    """An option that names the heading under which `GroupedCommand` lists it.

    `added` returns what plug-ins add to its values, for its help.
    """

    def __init__(
        self, *names: Any, group: str | None = None, added: Callable[[], Sequence[str]] = tuple, **settings: Any
    ) -> None:
        super().__init__(*names, **settings)
        self.group, self.added = group, added

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the option and its help."""
        record, added = super().get_help_record(ctx), self.added()
        return record if record is None or not added else (record[0], f"{record[1]}  [plug-ins: {', '.join(added)}]")


class GroupedCommand(click.Command):
    """A command whose `--help` lists options under headings, those without one under the last."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section for each heading."""
        sections: dict[str, list[tuple[str, str]]] = {group: [] for group in get_args(Group)}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                sections[getattr(parameter, "group", None) or "Output"].append(record)
        write_sections(formatter, sections)


class SingleOption(GroupedOption):
    """An option with one value. If several are given the last one holds, and `repeated` reports it."""

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Let the parser keep every value given."""
        self.multiple = True
        try:
            super().add_to_parser(parser, ctx)
        finally:
            self.multiple = False

    def handle_parse_result(
        self, ctx: click.Context, opts: Mapping[str, Any], args: list[str]
    ) -> tuple[Any, list[str]]:
        """Take the last value, and record a sentence if it contradicts an earlier one."""
        name = str(self.name)
        values = opts.get(name)
        if isinstance(values, list):
            opts = {**opts, name: values[-1]}
            if any(value != values[-1] for value in values):
                ctx.meta.setdefault(REPEATED, []).append(self._contradiction(values))
        return super().handle_parse_result(ctx, opts, args)

    def _contradiction(self, values: Sequence[Any]) -> str:
        if self.is_flag:
            last = (self.opts if values[-1] else self.secondary_opts)[0]
            return f"{self.opts[0]} and {self.secondary_opts[0]} contradict each other: the last, {last}, holds."
        *earlier, last = map(str, values)
        return f"{self.opts[0]} takes one value: the last, {last}, holds, not {', '.join(dict.fromkeys(earlier))}."


def repeated(ctx: click.Context) -> list[str]:
    """Return the sentences on options that were given several values, and forget them, so that each is printed once."""
    sentences, ctx.meta[REPEATED] = ctx.meta.get(REPEATED, []), []
    return list(sentences)


class Several(click.Choice[str]):
    """A choice that may be given several times; in the environment variable, separated by commas or spaces."""

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        """Split the variable's text into values."""
        return rv.replace(",", " ").split()


class NameChoice(Several):
    """A choice of names to which plug-ins may add; they are read for another name than `names`."""

    def __init__(self, names: Iterable[str], registry: Registry[Any]) -> None:
        super().__init__(tuple(names))
        self._registry = registry

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Convert the text of an option's value."""
        if value not in self.choices and self._registry.find(value) is None:
            return Several((*self.choices, *self._registry.added())).convert(value, param, ctx)
        return str(value)


class Names(click.types.StringParamType):
    """Names that may be given several times; in the environment variable, separated by commas or spaces."""

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        """Split the variable's text into values."""
        return rv.replace(",", " ").split()


def option(*names: str, **settings: Any) -> Callable[[F], F]:
    """Return a click option. Except for repeatable ones of other types it can also be set as EXPLAINEVAL_<NAME>."""
    settings["cls"] = GroupedOption if settings.get("multiple") else SingleOption
    kind = settings.get("type")
    if settings.get("metavar") is None and (kind is int or isinstance(kind, (click.IntRange, click.FloatRange))):
        settings["metavar"] = "X" if isinstance(kind, click.FloatRange) else "N"
    if not settings.get("multiple") or isinstance(settings.get("type"), (Several, Names)):
        settings["envvar"] = "EXPLAINEVAL_" + names[0].partition("/")[0].lstrip("-").upper().replace("-", "_")
    return click.option(*names, **settings)


def options(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Combine several options into one decorator; `--help` lists them in this order."""

    def apply(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


def _added_kinds() -> list[str]:
    return [name for name in KINDS.added() if KINDS[name].builder is not None]


def _added_metrics() -> list[str]:
    from explaineval.scoring.registry import METRICS  # which imports scipy

    return METRICS.added()


ADDED: Mapping[str, Callable[[], Sequence[str]]] = {
    "task": added_formats, "kind": _added_kinds, "mention": SEARCHES.added, "metric": _added_metrics,
}  # fmt: skip
"""What plug-ins add to the values of a setting, by its name."""


def offered(
    name: str,
    *,
    help: str | None = None,
    metavar: str | None = None,
    default: Any = None,
    default_text: str | None = None,
    several: bool | None = None,
    dest: str | None = None,
    **more: Any,
) -> Callable[[F], F]:
    """Return the option of a setting, as the table in `config/fields.py` has it.

    Args:
        name: of the option, as Python writes it.
        help: what it means in this command, where that is something else than for a run.
        metavar: what stands for its value, where it is something else than for a run.
        default: its default in this command. Without one it is None, which tells that the option was not given.
        default_text: the default in words.
        several: whether it can be given several times.
        dest: the parameter of the command that takes its value, where it is not called as the option.
        **more: further arguments of `option`.
    """
    setting = SETTINGS[name]
    row = setting.offered
    more.setdefault("added", ADDED.get(name, tuple))
    assert row is not None  # noqa: S101 - the table has options only
    several = setting.is_repeatable if several is None else several
    if default_text is None:
        default_text = setting.default_text if default in (None, False) else str(default)
    text = help or " ".join(filter(None, (row.help, row.note)))
    text += " Repeatable." if several else ""
    spelling = f"{setting.option}/--no-{setting.option[2:]}" if setting.type.base is bool else setting.option
    return option(
        spelling,
        *filter(None, (dest,)),
        help=f"{text}  [default: {default_text}]" if default_text else text,
        metavar=metavar or row.metavar,
        type=_click_type(setting, several=several),
        multiple=several,
        group=row.group,
        **({} if several else {"default": default}),
        **more,
    )


def _click_type(setting: Setting, *, several: bool) -> Any:
    """Return click's type for one value of a setting, None for a text or a flag."""
    kind, row = setting.type, setting.offered
    if row is not None and row.read is not None:
        return None
    if setting.name == "mention":
        return NameChoice(kind.choices, SEARCHES)
    if kind.choices:
        return Several(kind.choices) if several else click.Choice(kind.choices)
    if kind.is_duration:
        return DurationType()
    if kind.base in (int, float):
        low, high = kind.bound("ge", "gt"), kind.bound("le", "lt")
        if low is None and high is None:
            return kind.base
        number = click.IntRange if kind.base is int else NumberRange
        return number(low, high, kind.bound("gt") is not None, kind.bound("lt") is not None)
    if several and kind.has_rules:
        return Names()
    return PATH if kind.base is Path else None


TASKS = offered("task", help=task_help())
ENDPOINT = tuple(map(offered, ("base_url", "endpoint_name", "api_key_env", "price")))
TRANSPORT = tuple(map(offered, ("transport", "max_connections", "rpm", "tpm", "max_retries", "timeout", "patience")))
CACHE_OF_RUN = offered("cache", default_text="the run's own")
STORED = offered(
    "cache", default=SETTINGS["cache"].default, default_text=SETTINGS["cache"].default_text, dest="directory"
)
"""The same for the commands of `explaineval cache`, which read no configuration file."""

TABLE = option(
    "--table", is_flag=True, default=False, group="Output", help="Print the wide table of all numbers, not sentences."
)
ADDRESSES = option(
    "--addresses", is_flag=True, default=False, help="Write beside each answer the address that gave it, if known."
)
JSON = option(
    "--json", is_flag=True, default=False, group="Output",
    help="Print one JSON document on standard output, nothing else.",
)  # fmt: skip

RUN = (*(TASKS if name == "task" else offered(name) for name in SETTINGS), JSON)
"""The options of `run` and `plan`: all settings."""


def role_options(role: str, purpose: str) -> tuple[Callable[[F], F], ...]:
    """Return `--ROLE-model` and the options for its address, key and price."""
    return (
        option(f"--{role}-model", metavar="PROVIDER/MODEL", help=purpose),
        option(f"--{role}-base-url", metavar="URL", help="Its address, if it is not the provider's own."),
        option(f"--{role}-api-key-env", metavar="VAR", help="Environment variable that holds its key."),
        option(f"--{role}-price", metavar="IN,OUT", help="Its price in dollars per million tokens."),
    )
