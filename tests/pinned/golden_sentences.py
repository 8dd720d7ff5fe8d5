"""Record the help of all commands, and every sentence that an error of explaineval's own is raised with."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import click
from golden_runs import call, stage

import explaineval
from explaineval.cli.app import app


def record_help(work: Path) -> dict[str, str]:
    """Return the help of every command."""
    with stage(work):
        return {"help/commands.txt": "".join(call(*words, "--help") for words in _commands(app, ()))}


def _commands(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    yield words
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from _commands(found, (*words, name))


def record_errors(_: Path) -> dict[str, str]:
    """Return every sentence in an error that is raised, {} for what is filled in; where it stands does not matter."""
    sentences = set()
    for path in Path(explaineval.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                sentences |= {text for argument in node.exc.args for text in _texts(argument)}
    return {"errors/sentences.txt": "".join(f"{text}\n" for text in sorted(sentences) if " " in text)}


def _texts(node: ast.expr) -> Iterator[str]:
    """Yield the texts that an expression can have, as far as they are written down."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield repr(node.value)[1:-1]
    elif isinstance(node, ast.JoinedStr):
        parts = [str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values]
        yield repr("".join(parts))[1:-1]
    elif isinstance(node, ast.IfExp):
        yield from (*_texts(node.body), *_texts(node.orelse))
    elif isinstance(node, ast.BinOp):
        yield from (*_texts(node.left), *_texts(node.right))
