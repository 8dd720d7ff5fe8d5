"""How a finished run is told: one table (or one JSON document) on standard output, the rest on standard error."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from explaineval.secrets import SECRETS
from explaineval.text import escaped, visible

if TYPE_CHECKING:
    from rich.console import RenderableType

    from explaineval.planning.notes import Note
    from explaineval.scoring.rows import Scores


def echo(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a text, on standard error with `err`; line breaks and tabs in it are kept.

    Where standard error cannot be written nobody is told, and the work goes on.
    """
    with suppress(*((OSError,) if err else ())):
        click.echo(visible(SECRETS.mask(text)), err=err, nl=nl)


def echo_json(document: Any) -> None:
    """Print one JSON document on one line. Nothing is lost: what a terminal would obey is written as \\uXXXX."""
    click.echo(escaped(json.dumps(SECRETS.mask_value(document), ensure_ascii=False)))


def echo_table(content: RenderableType, *, width: int | None = None, color: bool = False, err: bool = False) -> None:
    """Print a table or any other layout of rich's; its own colours are the only sequences that pass."""
    from explaineval.reporting.tables import render

    with suppress(*((OSError,) if err else ())):
        click.echo(SECRETS.mask(render(content, width=width, color=color)), err=err)


SCHEMA = 2
"""Grows with every change that a reader of the documents could stumble over."""


def show_document(
    document: Mapping[str, Any],
    notes: Iterable[Note] = (),
    scores: Scores | None = None,
    code: int = 0,
    message: str = "",
) -> None:
    """Print the document with its schema and warnings, and with `error` where the exit code is not 0."""
    whole: dict[str, Any] = {"schema": SCHEMA, **document}
    whole["warnings"] = [*map(_of_run, notes), *(() if scores is None else _of_rows(scores))]
    if code:
        whole["error"] = {"code": code, "message": message}
    echo_json(whole)


def show_error(code: int, message: str) -> None:
    """Print the document of a command that came to nothing."""
    echo_json({"schema": SCHEMA, "warnings": [], "error": {"code": code, "message": message}})


def _of_run(one: Note) -> dict[str, Any]:
    return {"code": one.code, "grade": one.grade, "row": None, "metric": None, "text": one.text, "todo": one.todo}


def _of_rows(scores: Scores) -> Iterable[dict[str, Any]]:
    """Warnings about numbers: `row` has the fields of the metric rows that they are about."""
    for found in scores.warnings:
        one = found.warning
        yield {
            "code": one.code,
            "grade": one.grade,
            "row": found.condition._asdict(),
            "metric": one.metric,
            "text": one.text,
            "todo": one.todo,
        }


UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})
"""What an open stream answers that takes no more."""


def silence(stream: TextIO) -> None:
    """Point a stream that takes no more at nothing, so that Python's end, which flushes it, is quiet."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def explain(exc: OSError) -> str:
    """The sentence about an error of the system. Our own files are named by who writes them: without a name it is
    standard output."""
    reason = exc.strerror or str(exc)
    if exc.filename is None and exc.errno in UNWRITABLE:
        return (
            f"standard output cannot be written ({reason}): what was computed and paid for is kept in the run "
            "directory and the cache; give the same command again with another output."
        )
    name = exc.filename if isinstance(exc.filename, str) else "a file"
    return f"{name} cannot be read or written ({reason}): make room, or check the path and its permissions."


def show_scores(scores: Scores) -> None:
    """Print the table of a run."""
    from explaineval.reporting.tables import results_table, table_warnings

    warnings = table_warnings((one.condition, one.warning) for one in scores.warnings)
    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else 160
    content = results_table(scores.rows, warnings, scores.missing, width)
    echo_table(content, width=max(width, 40), color=terminal and not _no_color())


def show_legend() -> None:
    """Print how to read the table."""
    from explaineval.reporting.tables import legend

    echo_table(legend(), width=min(100, shutil.get_terminal_size().columns))


def show_json(
    directory: Path | None,
    code: int,
    signature: str,
    summary: Mapping[str, Any],
    scores: Scores,
    notes: Sequence[Note] = (),
    faults: Sequence[str] = (),
) -> None:
    """Print the run's one JSON document."""
    document = {
        "run_dir": None if directory is None else str(directory),
        "exit_code": code,
        "signature": signature,
        **{name: summary.get(name) for name in ("usd_spent", "usd_saved_by_cache", "usd_from_scratch", "requests")},
        "metrics": [row.model_dump(mode="json") for row in scores.rows],
    }
    show_document(document, notes, scores, code, " ".join(faults))


def summary_line(summary: Mapping[str, Any]) -> str:
    """Requests and dollars of a run in one line."""
    counts = summary["requests"]
    text = (
        f"{counts['planned']} requests planned, {counts['distinct']} distinct: {counts['hits']} from the cache, "
        f"{counts['sent']} sent, {counts['unsent']} unsent, {counts['retries']} retries."
    )
    if summary["usd_spent"] is None:
        return text + " Cost unknown (no price is known for a model; give --price IN,OUT)."
    return (
        f"{text} Spent ${summary['usd_spent']:.4f}, saved by the cache ${summary['usd_saved_by_cache']:.4f}, "
        f"from scratch ${summary['usd_from_scratch']:.4f}."
    )


def say(lines: Iterable[str | Note]) -> None:
    """Print notes on standard error."""
    for line in lines:
        echo(f"explaineval: {line if isinstance(line, str) else line.text}", err=True)


def _no_color() -> bool:
    return bool(os.environ.get("NO_COLOR"))
