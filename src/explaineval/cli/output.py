"""Print results on standard output and everything else on standard error. No other module prints."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from explaineval.secrets import SECRETS
from explaineval.text import counted, dollars_text, escaped, visible, wrapped

if TYPE_CHECKING:
    from rich.console import RenderableType

    from explaineval.reporting.screen import LineStyle, StyledLine
    from explaineval.rundir.schema import Totals
    from explaineval.scoring.codes import Note
    from explaineval.scoring.rows import Scores, Sensitivity

SCHEMA = 2
"""Version of the JSON documents; it grows with every change that could break a reader."""

PIPED_WIDTH = 160
SCREEN_WIDTH = 100
"""Columns of sentences that are not printed on a terminal."""
NARROWEST = 40


def is_terminal(stream: TextIO | None = None) -> bool:
    """Say whether standard output, or the stream given, is a terminal."""
    return (stream or sys.stdout).isatty()


def uses_color() -> bool:
    """Say whether standard output shows colours: in a terminal, unless NO_COLOR is set."""
    return is_terminal() and not os.environ.get("NO_COLOR")


def columns(piped: int = PIPED_WIDTH) -> int:
    """Return the width of standard output: COLUMNS if set, else the terminal's, else `piped`; 40 at least."""
    return max(NARROWEST, shutil.get_terminal_size((piped, 24)).columns)


def echo_text(text: str, width: int, first: str = "", rest: str = "") -> None:
    """Print a text in lines of at most so many columns, with indents."""
    for line in wrapped(text, width, first, rest):
        echo(line)


def echo(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a text, on standard error with `err`; its line breaks and tabs are kept.

    Errors of standard error itself are ignored: the work goes on where nobody can read messages.
    """
    with suppress(*((OSError,) if err else ())):
        click.echo(visible(SECRETS.mask(text)), err=err, nl=nl)


def echo_notes(notes: Iterable[str | Note]) -> None:
    """Print one line for each note on standard error."""
    for note in notes:
        echo(f"explaineval: {note if isinstance(note, str) else note.text}", err=True)


def echo_table(content: RenderableType, *, piped: int = PIPED_WIDTH, err: bool = False) -> None:
    """Print a table or another layout of rich's, as wide as `columns(piped)`. Only its own colours pass."""
    from explaineval.reporting.tables import render

    with suppress(*((OSError,) if err else ())):
        text = render(content, width=columns(piped), color=uses_color() and not err)
        click.echo(SECRETS.mask(text), err=err)


def echo_json(document: Any) -> None:
    """Print one JSON document on one line; characters that a terminal would obey are written as \\uXXXX."""
    click.echo(escaped(json.dumps(SECRETS.mask_value(document), ensure_ascii=False)))


def echo_document(
    document: Mapping[str, Any],
    notes: Iterable[Note] = (),
    scores: Scores | None = None,
    code: int = 0,
    message: str = "",
    warnings: Iterable[Mapping[str, Any]] = (),
) -> None:
    """Print a command's JSON document with its schema and warnings, and with `error` where the exit code is not 0."""
    whole: dict[str, Any] = {"schema": SCHEMA, **document}
    of_scores = () if scores is None else warning_documents(scores)
    whole["warnings"] = [*map(note_document, notes), *of_scores, *warnings]
    if code:
        whole["error"] = {"code": code, "message": message}
    echo_json(whole)


def note_document(note: Note) -> dict[str, Any]:
    """Return a note about a run or command as a whole as it stands among the warnings of JSON documents."""
    return {"code": note.code, "grade": note.grade, "row": None, "metric": None, "text": note.text, "todo": note.todo}


def warning_documents(scores: Scores) -> Iterator[dict[str, Any]]:
    """Yield the warnings about numbers; `row` has the fields of the metric rows that a warning is about."""
    for row_warning in scores.warnings:
        warning, row = row_warning.warning, row_warning.condition._asdict()
        yield {
            "code": warning.code,
            "grade": warning.grade,
            "row": row,
            "metric": warning.metric,
            "text": warning.text,
            "todo": warning.todo,
        }


def finish(
    document: Mapping[str, Any],
    lines: Iterable[str],
    notes: Iterable[Note] = (),
    *,
    json: bool,
    code: int = 0,
    message: str = "",
) -> int:
    """Print a command's notes and its result, with `json` as a document and else as lines; return its exit code."""
    notes = list(notes)
    echo_notes(notes)
    if json:
        echo_document(document, notes, None, code, message)
    else:
        for line in lines:
            echo(line)
    return code


STYLES: Mapping[LineStyle, Mapping[str, Any]] = {
    "head": {"bold": True},
    "plain": {},
    "warning": {"fg": "yellow"},
    "dim": {"dim": True},
}
"""How lines look on a terminal with colours."""


def echo_lines(lines: Iterable[StyledLine]) -> None:
    """Print lines, in their looks where standard output shows colours."""
    colored = uses_color()
    for line in lines:
        text = visible(SECRETS.mask(line.text))
        click.echo(click.style(text, **STYLES[line.look]) if colored and text else text, color=colored)


def echo_scores(scores: Scores, run: object, *, table: bool = False) -> None:
    """Print the results of a run in sentences, or with `table` as the wide table with all of its numbers."""
    from explaineval.reporting.screen import prediction_lines, sensitivity_lines

    if table:
        from explaineval.reporting.tables import results_table, table_warnings

        shown = scores.headline
        warnings = table_warnings((item.condition, item.warning) for item in shown.warnings)
        echo_table(results_table(shown.rows, warnings, shown.missing, columns()))
    else:
        from explaineval.reporting.results import run_headlines
        from explaineval.reporting.screen import summary

        echo_lines(summary(scores, str(run), columns(SCREEN_WIDTH), run_headlines(Path(str(run)), scores)))
    echo_lines(sensitivity_lines(scores, columns(SCREEN_WIDTH)))
    echo_lines(prediction_lines(scores.rows, scores.warnings, columns(SCREEN_WIDTH)))


def run_document(
    directory: object, code: int, signature: str | None, totals: Totals | None, scores: Scores
) -> dict[str, Any]:
    """Return the JSON document of `run`, `demo` and `score`; `totals` are None for a run that did not finish.

    Of a file of trials the directory and the signature are None too.
    """
    spent = dict.fromkeys(("usd_spent", "usd_saved_by_cache", "usd_from_scratch", "requests"))
    return {
        "run_dir": None if directory is None else str(directory),
        "exit_code": code,
        "signature": signature,
        **(spent if totals is None else totals.model_dump(include=set(spent))),
        "metrics": [row.model_dump(mode="json") for row in scores.rows],
        "sensitivity": [sensitivity_document(item) for item in scores.sensitivity],
        "by_rule": [
            {
                **item.condition.asked,
                "low": None if item.range is None else item.range[0],
                "high": None if item.range is None else item.range[1],
                "values": [{**rule._asdict(), "value": value} for rule, value in item.values.items()],
            }
            for item in scores.by_rule
        ],
        "zero_tests": [
            {**condition.asked, "p": test.p, "p_adjusted": test.p_adjusted}
            for condition, test in scores.zero_tests.items()
        ],
    }


def sensitivity_document(item: Sensitivity) -> dict[str, Any]:
    """Return how a source of mentions compares with its reference, as it stands in JSON documents."""
    from explaineval.scoring.registry import YOUDEN_J

    both, only_reference, only_this, neither = item.counts
    kappa, difference = item.kappa, item.difference
    return {
        **item.condition._asdict(),
        "reference": {name: getattr(item.reference, name) for name in ("channel", "mention", "judge")},
        "n": sum(item.counts),
        "both": both,
        "only_reference": only_reference,
        "only_this": only_this,
        "neither": neither,
        "kappa": kappa.model_dump(mode="json", include={"value", "low", "high", "undefined"}),
        YOUDEN_J: item.youden_j,
        "reference_youden_j": item.reference_youden_j,
        "difference": difference.value,
        "low": difference.low,
        "high": difference.high,
        "p": difference.p,
        "undefined": difference.undefined,
    }


def totals_line(totals: Totals) -> str:
    """Return the requests and dollars of a run in sentences."""
    counts = totals.requests
    parts = [f"{counts.hits:,} from the cache", f"{counts.sent:,} sent"]
    parts += [f"{counts.unsent:,} unsent"] if counts.unsent else []
    parts += [counted(counts.retries, "retry")] if counts.retries else []
    text = f"{counted(counts.distinct, 'distinct request')}: {', '.join(parts)} ({counts.planned:,} planned in all)."
    if totals.usd_spent is None:
        return f"{text} Cost unknown ({totals.cost_unknown})."
    if not totals.usd_from_scratch and not totals.usd_spent:
        return f"{text} Nothing was paid."
    return (
        f"{text} Spent {dollars_text(totals.usd_spent)}; the cache saved "
        f"{dollars_text(totals.usd_saved_by_cache)}; from scratch it "
        f"costs {dollars_text(totals.usd_from_scratch)}."
    )


FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})
"""Error numbers of an open stream that takes no more."""


def discard_output(stream: TextIO) -> None:
    """Point a stream that takes no more at the null device, so that Python can flush it at its end without an error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def describe_os_error(exc: OSError) -> str:
    """Return the sentence for an error of the operating system; without a file name it is about standard output."""
    reason = exc.strerror or str(exc)
    if exc.filename is None and exc.errno in FULL:
        return (
            f"standard output cannot be written ({reason}): what was computed and paid for is kept in the run "
            "directory and the cache; give the same command again with another output."
        )
    name = exc.filename if isinstance(exc.filename, str) else "a file"
    return f"{name} cannot be read or written ({reason}): make room, or check the path and its permissions."


def count_reasons(reasons: Counter[str]) -> str:
    """Return reasons with their counts, the most frequent first.

    >>> count_reasons(Counter({"unparsed": 1, "refused": 2}))
    '2 refused, 1 unparsed'
    """
    return ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
