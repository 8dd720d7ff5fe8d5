"""Read a YAML file that a user wrote, within bounds, and find the lines of its values for error messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from explaineval.errors import InputError
from explaineval.text import json_kind

MOST_TEXT = 1 << 20
"""Characters of a configuration file."""
MOST_NODES = 100_000
"""Values in a configuration file, those that an anchor repeats counted each time."""
TOO_MANY = f"it holds more than {MOST_NODES:,} values"


KEYS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")
"""What a key may be: a text, or <<, which takes over the keys of another mapping."""
DEEPEST = 100
"""Levels of lists and mappings in one another."""
LONGEST_NUMBER = 1_000
"""Characters of a number, a date or another value that is no text: PyYAML's time grows with their square."""


class _Loader(yaml.SafeLoader):
    """The safe loader within bounds; a scalar that it cannot convert (2026-13-45, !!int x) is an error at its line."""

    nodes = depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.nodes += 1
        self.depth += 1
        try:
            if self.nodes > MOST_NODES:
                raise yaml.composer.ComposerError(None, None, TOO_MANY, self.get_mark())
            if self.depth > DEEPEST:
                raise yaml.composer.ComposerError(None, None, "it is nested too deep", self.get_mark())
            node: yaml.Node | None = super().compose_node(parent, index)
            return node
        finally:
            self.depth -= 1

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        kind = node.tag.rpartition(":")[2]
        text = node.value if isinstance(node, yaml.ScalarNode) and kind != "str" else ""
        if len(text) > LONGEST_NUMBER:
            problem = f"a value of more than {LONGEST_NUMBER:,} characters is read as {kind}: quote it if it is a text"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, ValueError) as exc:
            raise yaml.constructor.ConstructorError(
                None, None, f"a value cannot be read as {kind}", node.start_mark
            ) from exc


def read_yaml(path: Path, what: str, example: str) -> tuple[dict[Any, Any], yaml.Node | None]:
    """A YAML file that holds a mapping, and its tree, by which `line_of` finds lines. The file is bounded in size.

    `what` is how messages call the file, `example` a line of it. Raises InputError, with the line, for what
    cannot be read, is too large or too deep, holds itself or a NUL character, or has a key twice.
    """
    try:
        with path.open(encoding="utf-8") as handle:
            text = handle.read(MOST_TEXT + 1)
    except FileNotFoundError:
        raise InputError(f"{path}: no such {what}; check the path.") from None
    except OSError as exc:
        raise InputError(f"{path} cannot be read: {exc.strerror}.") from None
    except UnicodeDecodeError as exc:
        raise InputError(f"{path} is not UTF-8 text (byte {exc.start}): convert it first.") from None
    if len(text) > MOST_TEXT:
        raise InputError(f"{path} is larger than {MOST_TEXT >> 20} MiB: it is no {what}.")
    try:
        loader = _Loader(text)
        tree = loader.get_single_node()
        _check_size(tree, path)
        _check_keys(tree, path)
        values = _Loader(text).get_single_data()  # from a tree of its own: merge keys (<<) change it
    except yaml.MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark else "?"
        problem = str(exc.problem)
        if "<block end>" in problem:
            problem = "the indentation of this line does not fit the lines above it"
        raise InputError(f"{path}:{line}: bad YAML: {problem}.") from None
    except yaml.reader.ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        raise InputError(f"{path}:{line}: bad YAML: a character that is not allowed (#x{exc.character:04x}).") from None
    except (OverflowError, ValueError):  # \\U00110000, %YAML 1.99999…
        raise InputError(f"{path}:{loader.get_mark().line + 1}: bad YAML: a number that is too large.") from None
    except yaml.YAMLError as exc:
        raise InputError(f"{path}: bad YAML: {exc}.") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected a mapping, found {json_kind(values)}; write lines like `{example}`.")
    return values, tree


def line_of(tree: yaml.Node | None, path: tuple[str | int, ...]) -> int:
    """Return the line (from 1) of a key in a composed YAML tree."""
    node, line = tree, 1
    for part in path:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    line, node = key.start_mark.line + 1, value
                    break
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line


def _check_size(tree: yaml.Node | None, path: Path) -> None:
    """Raise InputError where an anchor contains itself, or where anchors multiply the values beyond MOST_NODES."""
    sizes: dict[int, int] = {}

    def measure(node: yaml.Node) -> int:
        size = sizes.get(id(node))
        if size is None:
            sizes[id(node)] = 0  # being measured
            inside: list[yaml.Node] = node.value if isinstance(node, yaml.SequenceNode) else []
            if isinstance(node, yaml.MappingNode):
                inside = [part for pair in node.value for part in pair]
            size = sizes[id(node)] = 1 + sum(map(measure, inside))
        error = "an anchor holds itself" if not size else TOO_MANY
        if not 0 < size <= MOST_NODES:
            raise InputError(f"{path}:{node.start_mark.line + 1}: bad YAML: {error}.")
        return size

    if tree is not None:
        measure(tree)


def _check_keys(tree: yaml.Node | None, path: Path) -> None:
    """Raise InputError for a NUL, for a key that is no text, and for one that is twice in a mapping.

    YAML would silently keep the last one.
    """
    left, visited = [tree], set[int]()
    while left:
        node = left.pop()
        if id(node) in visited:  # an anchor, which may even hold itself
            continue
        visited.add(id(node))
        if isinstance(node, yaml.ScalarNode) and "\0" in node.value:  # no path and no text that is sent may hold one
            raise InputError(f"{path}:{node.start_mark.line + 1}: a character that is not allowed (\\0).")
        if isinstance(node, yaml.SequenceNode):
            left += node.value
        elif isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                place = f"{path}:{key.start_mark.line + 1}"
                if not isinstance(key, yaml.ScalarNode):
                    raise InputError(f"{place}: a key must be a text, not a list or a mapping.")
                if key.tag not in KEYS:
                    raise InputError(f"{place}: the key {key.value!r} is not read as a text: put it in quotes.")
                if key.value in seen:
                    raise InputError(f"{place}: the key {key.value!r} stands twice.")
                seen.add(key.value)
                left += [key, value]
