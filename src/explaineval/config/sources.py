"""Read a configuration file, and build a configuration from what was given; each error becomes one sentence."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from explaineval.config.configs import ClientConfig, RunConfig
from explaineval.config.fields import FILE_KEYS, SETTINGS, ArmConfig, EndpointConfig, InterventionConfig, ModelConfig
from explaineval.config.params import check_params
from explaineval.errors import InputError

if TYPE_CHECKING:
    import yaml

Config = TypeVar("Config", bound=BaseModel)
_HIDDEN = frozenset({"older_name", "file_name", "key_from_file"})
"""What is noted about an endpoint and never written by a user."""
PATHS = ("prompts", "shots_from", "cache", "out")
SYSTEM = tuple(map(Path, ("/etc", "/proc", "/sys", "/dev", "/run")))
"""Folders in which no data of a study lie."""


class FilePart(NamedTuple):
    """A part of the file that is a mapping, or holds some: the type of one, and an example of it."""

    model: type[BaseModel]
    example: str


PARTS = {
    "models": FilePart(ModelConfig, "{model: openai/gpt-4o-mini}"),
    "endpoints": FilePart(EndpointConfig, '{base_url: "http://127.0.0.1:8000/v1"}'),
    "arms": FilePart(ArmConfig, "{order: [pe], style: [chat]}"),
    "interventions": FilePart(InterventionConfig, "{kind: random_word}"),
}

NEAR = 0.7
"""How alike a key and an unknown one are, from 0 to 1, for it to be suggested."""


def read_config(path: Path) -> dict[str, Any]:
    """Return the settings in a configuration file; relative paths become relative to the file's directory.

    Raises:
        InputError: the YAML cannot be read, a key is not known, or a value has a wrong form. It names the line.
    """
    from explaineval.config.yaml_files import line_of, read_yaml  # yaml, which few commands need, is slow to import

    values, tree = read_yaml(path, "configuration file", "tasks: [nli]")
    for key in values:
        if key == "allow_key":
            raise InputError(
                f"{path}:{line_of(tree, (key,))}: a file cannot allow where keys are sent: give --allow-key on the "
                "command line (EXPLAINEVAL_ALLOW_KEY, in Python allow_key=[...])."
            )
        if key not in FILE_KEYS:
            near = difflib.get_close_matches(str(key), FILE_KEYS, n=1, cutoff=NEAR)
            hint = f"did you mean {near[0]}?" if near else "`explaineval run --help` names the options."
            raise InputError(f"{path}:{line_of(tree, (key,))}: unknown key {key!r}; {hint}")
    _check_nested(values, tree, path)
    _mark_keys(values)
    if values.get("ray_address") is not None:
        values["ray_address_from_file"] = True
    params = values.get("params")
    for name, value in params.items() if isinstance(params, dict) else ():
        error = check_params({name: value})
        if error is not None:
            raise InputError(f"{path}:{line_of(tree, ('params', name))}: {error}.")
    base = path.parent
    for key in PATHS:
        if isinstance(values.get(key), str):
            values[key] = str(base / home(values[key]))
    edits = values.get("interventions")
    if isinstance(edits, dict) and isinstance(edits.get("file"), str):
        edits["file"] = str(base / home(edits["file"]))
    if isinstance(values.get("tasks"), list):
        values["tasks"] = [_rebase(str(task), base) for task in values["tasks"]]
    outside = [name for name, file, place in _files_in(values) if _is_outside(file, place, tree, path)]
    if outside:
        values["files_outside"] = outside
    return values


def _files_in(values: Mapping[str, Any]) -> Iterator[tuple[str, Path, tuple[str | int, ...]]]:
    """Yield the files of a configuration whose texts are sent: as they are named, the path, and the place in it."""
    for number, task in enumerate(values.get("tasks") or ()):
        _, colon, rest = str(task).partition(":")
        if colon and rest:
            yield str(task), Path(rest), ("tasks", number)
    for key in ("prompts", "shots_from"):
        if isinstance(values.get(key), str) and os.path.lexists(values[key]):  # shots_from may name a bundled task
            yield values[key], Path(values[key]), (key,)
    edits = values.get("interventions")
    if isinstance(edits, Mapping) and isinstance(edits.get("file"), str):
        yield edits["file"], Path(edits["file"]), ("interventions", "file")


def _is_outside(file: Path, place: tuple[str | int, ...], tree: yaml.Node | None, path: Path) -> bool:
    """Return whether a file lies outside of the configuration file's folder.

    Raises:
        InputError: it lies where keys and passwords are kept, and a file alone may not choose that its text is sent.
    """
    from explaineval.config.yaml_files import line_of

    try:
        real, base = file.resolve(), path.parent.resolve()
    except RuntimeError:
        raise InputError(
            f"{path}:{line_of(tree, place)}: {_key_of(place)}: {file} is a link that leads back to itself."
        ) from None
    shared = Path(os.path.commonpath((real, base)))
    hidden = any(part.startswith(".") for part in real.relative_to(shared).parts)
    if hidden or any(real.is_relative_to(folder) and not base.is_relative_to(folder) for folder in SYSTEM):
        option = next(row.option for row in SETTINGS.values() if row.path == tuple(map(str, place))[: len(row.path)])
        raise InputError(
            f"{path}:{line_of(tree, place)}: {_key_of(place)}: {real} lies in a hidden or system folder, where keys "
            "and passwords are kept, and a file alone may not choose that its text is sent. If you want it, give it by "
            f"{option}, or copy it to another folder."
        )
    return not real.is_relative_to(base)


def _mark_keys(values: dict[str, Any]) -> None:
    """Note which keys' variables the file chose: a file alone cannot decide which secret goes where."""
    for entry in (values, *(values.get("endpoints") or {}).values()):
        if isinstance(entry, dict) and entry.get("api_key_env") is not None:
            entry["key_from_file"] = True


def home(text: str) -> Path:
    """Return the path with its `~` replaced; a `~name` of an unknown user stays as it is, as in a shell."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def build(model: type[Config], values: Mapping[str, Any], place: str) -> Config:
    """Return the validated model. `place` says where the values come from.

    Raises:
        InputError: a value is wrong. The sentence names the first one.
    """
    for key, value in values.items():
        if key not in PATHS and not _is_storable(value):
            raise InputError(f"{place}: {key}: a text holds bytes that are not UTF-8, or half of a surrogate pair.")
    try:
        return model.model_validate(dict(values))
    except ValidationError as exc:
        first = exc.errors()[0]
        name = _key_of([part for part in first["loc"] if not str(part).startswith(("function-", "constrained-"))])
        message = _plain(first["msg"])
        raise InputError(f"{place}: {name + ': ' if name else ''}{message}.") from None


def _is_storable(value: Any) -> bool:
    """Whether every text inside a value can be written as UTF-8."""
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, str) and re.search("[\ud800-\udfff]", item):
            return False
        if isinstance(item, Mapping):
            left += [*item, *item.values()]
        elif isinstance(item, list | tuple):
            left += item
    return True


def _check_nested(values: Mapping[str, Any], tree: yaml.Node | None, path: Path) -> None:
    """Validate the settings of the file alone, so that an error can be reported with its line.

    What the file may leave to options has a stand-in meanwhile.
    """
    from explaineval.config.yaml_files import line_of

    given = {key: value for key, value in values.items() if key in RunConfig.model_fields}
    for required, stand_in in (("tasks", ["nli"]), ("models", [{"model": "x/y"}])):
        given.setdefault(required, stand_in)
    transport = {key: value for key, value in values.items() if key in FILE_KEYS & ClientConfig.model_fields.keys()}
    for name, entry in (values.get("endpoints") or {}).items() if isinstance(values.get("endpoints"), dict) else ():
        hidden = [key for key in entry if key in _HIDDEN] if isinstance(entry, dict) else []
        if hidden:
            line = line_of(tree, ("endpoints", name, hidden[0]))
            raise InputError(f"{path}:{line}: endpoints.{name}.{hidden[0]}: unknown key.")
    for model, part in ((RunConfig, given), (ClientConfig, transport)):
        try:
            model.model_validate(part)
        except ValidationError as exc:
            errors = exc.errors()
            siblings = [error for error in errors if error["loc"][:-1] == errors[0]["loc"][:-1]]
            # an unknown key is told rather than the missing one, which it is meant to be
            first = next((error for error in siblings if error["type"] == "extra_forbidden"), errors[0])
            where = tuple(first["loc"])
            name = _key_of(where)
            text = f"{path}:{line_of(tree, where)}: {name + ': ' if name else ''}{_in_plain_words(first)}"
            raise InputError(text if text.endswith("?") else f"{text}.") from None
    endpoints = values.get("endpoints") or {}
    for number, entry in enumerate(values.get("models") or ()):
        endpoint = entry.get("endpoint")
        if endpoints and endpoint is not None and endpoint not in endpoints:
            key = ("models", number, "endpoint")
            raise InputError(
                f"{path}:{line_of(tree, key)}: {_key_of(key)}: {endpoint!r} is "
                f"not among the endpoints of this file ({', '.join(endpoints)})."
            )


def _key_of(where: Sequence[str | int]) -> str:
    """Return where a value stands in a configuration, entries of lists counted from 1.

    >>> _key_of(("models", 1, "model")), _key_of(("arms", "order", 0))
    ('models, entry 2, model', 'arms.order, entry 1')
    """
    text, before = "", None
    for part in where:
        joint = "." if isinstance(part, str) and isinstance(before, str) else ", "
        text += (joint if text else "") + (f"entry {part + 1}" if isinstance(part, int) else part)
        before = part
    return text


def _in_plain_words(error: ErrorDetails) -> str:
    """What is wrong and what to write, for one error of pydantic's."""
    where, kind = error["loc"], error["type"]
    part = PARTS.get(str(where[0])) if where else None
    if kind == "extra_forbidden" and part is not None:
        names = [name for name, field in part.model.model_fields.items() if not field.exclude]
        near = difflib.get_close_matches(str(where[-1]), names, n=1, cutoff=NEAR)
        return f"unknown key; did you mean {near[0]}?" if near else f"unknown key; choose from {', '.join(names)}"
    if kind == "extra_forbidden":
        return "unknown key"
    if kind == "missing":
        return f"this key is missing{'' if part is None else f'; write for example {part.example}'}"
    if kind in ("model_type", "dict_type") and part is not None:
        return f"write a mapping, for example {part.example}"
    if kind == "tuple_type" and len(where) == 1 and part is not None:
        return f"write a list, for example [{part.example}]"
    return _plain(error["msg"])


def _plain(message: str) -> str:
    """pydantic's words in those of a configuration file."""
    for theirs, ours in (
        ("Value error, ", ""),
        ("Input should be a valid tuple", "write a list, for example [x]"),
        ("Input should be a valid number, unable to parse string as a number", "write a number, for example 7e9"),
        ("Input should be a valid integer, unable to parse string as an integer", "write a whole number"),
        ("Input is not a valid path for <class 'pathlib.Path'>", "this must be a path"),
        ("Input should be a valid string", "this must be a text"),
        ("Input should be a valid number", "this must be a number"),
        ("Input should be a valid integer", "this must be a whole number"),
        ("Input should be a valid boolean", "this must be true or false"),
        ("Input should be a valid list", "this must be a list"),
        ("Input should be a valid dictionary", "this must be a mapping"),
        ("Input should be ", "this must be "),
    ):
        message = message.replace(theirs, ours)
    return message


def _rebase(task: str, base: Path) -> str:
    """Make the path in a task such as `jsonl:FILE` relative to the directory `base`."""
    reader, colon, rest = task.partition(":")
    return f"{reader}:{base / home(rest)}" if colon and rest else task
