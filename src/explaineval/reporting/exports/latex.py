"""Lay out the headline table as LaTeX for a document that loads booktabs; every foreign text is escaped."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

from explaineval.records import MetricRow
from explaineval.reporting.comparison_text import rank_text
from explaineval.reporting.exports.headline import Column, Headline, HeadlineRow
from explaineval.reporting.view import Footnotes
from explaineval.text import UNDEFINED, number_text

ROWS_PER_TABLE = 20
"""Rows that fit on a page; more become several tables."""

LONGEST_NAME = 120
"""Characters of a name or reason that are printed."""

COMMANDS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "`": r"\`{}", '"': "''", "[": "{[}", "]": "{]}", "*": "{*}",
    "–": "--{}", "—": "---{}", "−": "$-$", "…": r"\ldots{}", "·": r"$\cdot$", "×": r"$\times$",
    "≥": r"$\geq$", "≤": r"$\leq$", "φ": r"$\phi$", "Δ": r"$\Delta$", "†": r"$\dagger$", "ß": r"\ss{}", "æ": r"\ae{}",
    "Æ": r"\AE{}", "ø": r"\o{}", "Ø": r"\O{}", "ı": r"\i{}", "ł": r"\l{}", "Ł": r"\L{}", "\N{NO-BREAK SPACE}": "~",
}  # fmt: skip
"""How characters are written that LaTeX would obey, join to others or not know. """

ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0308": '"', "\u030a": "r", "\u030c": "v",
    "\u0327": "c", "\u0304": "=", "\u0307": ".", "\u030b": "H", "\u0306": "u",
}  # fmt: skip
"""LaTeX's accents by the combining character."""

STACKED = r"\def\withinterval#1#2{\begin{tabular}[t]{@{}c@{}}#1\\[-1pt]\scriptsize[#2]\end{tabular}}"
"""Puts an interval below its number; it is defined inside the table only."""

NARROW, WIDE, MANY_COLUMNS = r"0.27\linewidth", r"0.5\linewidth", 4
"""Widths of the column of names, beside more than so many columns of numbers and beside fewer."""

JOINED = "-,'"
"""Marks that LaTeX joins to one where they stand twice; an empty group keeps them apart."""

BREAK = re.compile(r"(?<=[/_@-])(?=\w)")


def latex_tables(headlines: Sequence[Headline]) -> str:
    """Return the tables as LaTeX to be read by \\input in a document that loads booktabs; nothing else is needed.

    More rows than fit on a page become several tables, each with a caption and a note of its own.
    """
    head = "% Made by `explaineval export --format latex`. It needs \\usepackage{booktabs} and nothing else.\n"
    tables = []
    for headline in headlines:
        starts = range(0, len(headline.rows), ROWS_PER_TABLE)
        for index, start in enumerate(starts):
            rows = headline.rows[start : start + ROWS_PER_TABLE]
            part = f" (part {index + 1} of {len(starts)})" if len(starts) > 1 else ""
            tables.append("\n".join(_table(headline, rows, part, explained=index == 0)))
    return head + "\n\n".join(tables) + "\n"


def escape(text: str) -> str:
    """Return a text as LaTeX that prints it, whatever it holds.

    A character that LaTeX does not know without further packages, and one that is invisible, is printed as its number.

    >>> escape("50 % of a_b"), escape(chr(92) + "input{x}"), escape("né\\u202e")
    ('50 \\\\% of a\\\\_b', '\\\\textbackslash{}input\\\\{x\\\\}', "n\\\\'{e}{[}U+202E{]}\\\\allowbreak{}")
    """
    whole = unicodedata.normalize("NFC", text)
    return "".join(
        _escape(mark) + "{}" * (mark in JOINED and mark == after)
        for mark, after in zip(whole, [*whole[1:], ""], strict=True)
    )


def _escape(character: str) -> str:
    if character in COMMANDS:
        return COMMANDS[character]
    if " " <= character <= "~":
        return character
    parts = unicodedata.normalize("NFD", character)
    if len(parts) == 2 and parts[0].isascii() and parts[0].isalpha() and parts[1] in ACCENTS:
        return f"\\{ACCENTS[parts[1]]}{{{parts[0]}}}"
    return rf"{{[}}U+{ord(character):04X}{{]}}\allowbreak{{}}"


def _name(text: str) -> str:
    """Return a name, shortened if need be, that may be broken after its separators and within long words."""
    cut = _cut(text)
    pieces = [piece[start : start + 12] for piece in BREAK.split(cut) for start in range(0, len(piece), 12)]
    return r"\allowbreak{}".join(map(escape, pieces))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_NAME else f"{text[:80]}…{text[-39:]}"


def _table(headline: Headline, rows: Sequence[HeadlineRow], part: str, *, explained: bool) -> Iterator[str]:
    reasons = Footnotes()
    body = list(_body(headline, rows, reasons))
    caption = [f"{headline.title}{part}: {headline.shared}."]
    caption += headline.legend() if explained else ["Headings as in part 1."]
    if any(row.is_simulated for row in rows):
        caption.append("Models marked † are simulated, not language models.")
    notes = [f"{index}: undefined, {_cut(reason)}." for index, reason in enumerate(reasons.reasons, start=1)]
    headings = ["Model", "n", *(column.heading for column in headline.columns)] + ["Rank"] * headline.ranked
    yield r"\begin{table}"
    yield r"\centering"
    yield STACKED
    yield rf"\caption{{\footnotesize {' '.join(map(escape, caption))}}}"
    yield r"\smallskip"
    yield r"\footnotesize"
    yield r"\setlength{\tabcolsep}{3pt}"
    width = NARROW if len(headline.columns) > MANY_COLUMNS else WIDE
    yield rf"\begin{{tabular}}{{@{{}}p{{{width}}}r{'c' * (len(headings) - 2)}@{{}}}}"
    yield r"\toprule"
    yield " & ".join(map(escape, headings)) + r" \\"
    yield r"\midrule"
    yield from body
    yield r"\bottomrule"
    yield r"\end{tabular}"
    yield r"\par\smallskip"
    yield r"\begin{minipage}{\linewidth}\scriptsize\raggedright"
    yield " ".join(map(escape, [*notes, headline.note()]))
    yield r"\end{minipage}"
    yield r"\end{table}"


def _body(headline: Headline, rows: Sequence[HeadlineRow], reasons: Footnotes) -> Iterator[str]:
    """Yield the rows of numbers; a model of several rows is named in the first of them."""
    before = None
    for row in rows:
        names = [] if row.model == before else [_name(row.model) + r"$^{\dagger}$" * row.is_simulated]
        names += [rf"\scriptsize {escape(row.about)}"] if row.about else []
        before = row.model
        cells = [_cell(row.numbers.get(column.metric), column, reasons) for column in headline.columns]
        ranks = [escape(rank_text(row.rank))] * headline.ranked
        name = r"\raggedright " + r"\newline ".join(names)
        yield " & ".join([name, str(row.trials), *cells, *ranks]) + r" \\[2pt]"


def _cell(row: MetricRow | None, column: Column, reasons: Footnotes) -> str:
    if row is None:
        return ""
    if row.value is None:
        return rf"--$^{{{reasons.mark(row.undefined or UNDEFINED)}}}$"
    if not column.interval or row.low is None or row.high is None:
        return _digits(row.value)
    return rf"\withinterval{{{_digits(row.value)}}}{{{_digits(row.low)}, {_digits(row.high)}}}"


def _digits(value: float) -> str:
    return number_text(value).replace("-", "$-$")
