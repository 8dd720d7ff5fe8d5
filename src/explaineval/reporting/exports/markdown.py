"""Lay out the headline table as a pipe table of GitHub's Markdown; no foreign text can be markup in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from explaineval.records import SIMULATED_NOTE, MetricRow
from explaineval.reporting.comparison_text import rank_text
from explaineval.reporting.exports.headline import Headline
from explaineval.reporting.view import Footnotes, ShownNumber
from explaineval.text import NONE, UNDEFINED, flat

MARKUP = re.compile(r"[^\w\s.,/%()=+;?':-]|(?i:(?<=www)\.)|:(?=/)|(?i:(?<=mailto):|(?<=xmpp):)", re.ASCII)
"""What could be markup, HTML or a link inside a line of text."""


def markdown_tables(headlines: Sequence[Headline]) -> str:
    """Return the tables, each with its legend, the reasons of undefined numbers, and its note."""
    return "\n".join(map(_table, headlines))


def _table(headline: Headline) -> str:
    notes = Footnotes()
    headings = ["Model", *(["What"] if any(row.about for row in headline.rows) else []), "n"]
    names = len(headings) - 1
    headings += [column.heading for column in headline.columns] + (["Rank"] if headline.ranked else [])
    body = []
    for row in headline.rows:
        simulated = f" ({SIMULATED_NOTE})" if row.is_simulated else ""
        cells = [*[escape(row.model) + simulated, escape(row.about)][:names], f"{row.trials}"]
        cells += [_cell(row.numbers.get(column.metric), column.interval, notes) for column in headline.columns]
        cells += [rank_text(row.rank)] * headline.ranked
        body.append(cells)
    lines = [f"**{headline.title}**: {escape(headline.shared)}.", ""]
    lines += [*pipe_table(headings, body, right=range(names, len(headings))), ""]
    lines += [f"[{index}] Undefined: {escape(reason)}.  " for index, reason in enumerate(notes.reasons, start=1)]
    lines += [""] if notes.reasons else []
    lines += [escape(" ".join(headline.legend())), "", escape(headline.note())]
    return "\n".join(lines) + "\n"


def pipe_table(headings: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> Iterator[str]:
    """Yield the lines of a table of cells that are escaped already; `right` are the columns to be aligned right."""
    numbers = set(right)
    yield f"| {' | '.join(headings)} |"
    yield f"|{'|'.join(' ---: ' if index in numbers else ' --- ' for index in range(len(headings)))}|"
    for cells in rows:
        yield f"| {' | '.join(cells)} |"


def escape(text: str) -> str:
    """Return a text as Markdown that shows it: whatever could be markup, HTML or a link is written as an entity.

    Control characters, line breaks and what changes the direction of text are shown, not carried out.

    >>> escape("a_b | <b>"), escape("www.x.org"), escape("one\\ntwo")
    ('a\\\\_b &#124; &#60;b&#62;', 'www&#46;x.org', 'one␊two')
    """
    safe = MARKUP.sub(lambda match: match[0] if not match[0].isascii() else f"&#{ord(match[0])};", flat(text))
    return safe.replace("_", r"\_")


def _cell(row: MetricRow | None, with_interval: bool, notes: Footnotes) -> str:
    if row is None:
        return ""
    if row.value is None:
        return f"{NONE} [{notes.mark(row.undefined or UNDEFINED)}]"
    number = ShownNumber(row)
    return f"{number.value()} {number.interval()}" if with_interval and row.low is not None else number.value()
