"""The table for papers and web pages: the first numbers of each condition, as LaTeX and as Markdown.

`headlines_of` says what stands in it; the two layouts escape every foreign text.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from explaineval.metrics.differences import Rank
from explaineval.records import SIMULATED_NOTE, SIMULATED_PREFIX, Condition
from explaineval.reporting.comparison_text import rank_text
from explaineval.reporting.results import ComparedRuns, RunResults
from explaineval.reporting.view import ConditionView, Footnotes, ShownNumber, condition_of, lower_first
from explaineval.scoring.comparisons import GroupResult
from explaineval.scoring.metric import Cell
from explaineval.scoring.registry import FPR, IMPACT_RATE, MENTION_RATE, METRICS, PHI_CCT, TPR
from explaineval.scoring.task_means import MEAN
from explaineval.text import NONE, ORDERS, UNDEFINED, counted, flat

RANK_LEGEND = (
    "Rank: the ranks in {} that a model may hold among the models compared, on the trials that all of them share, at "
    "the 5 % level adjusted for all pairs."
)
DIGEST = 16
"""Hexadecimal digits of the hash of the signatures."""

FIRST = (PHI_CCT, IMPACT_RATE, MENTION_RATE, TPR, FPR)
"""The metrics on the left, in this order; the others follow in that of the registry."""


def columns_of(metrics: Container[str]) -> dict[str, Cell]:
    """Return the columns for some metrics from left to right, by their metric."""
    names = [name for name in dict.fromkeys((*FIRST, *METRICS)) if name in metrics]
    return {name: cell for name in names if (cell := METRICS[name].paper_cell) is not None}


@dataclass(frozen=True)
class HeadlineRow:
    """One condition, the ranks that its model may hold, and the words that tell it from others."""

    view: ConditionView
    rank: Rank | None
    about: str

    @property
    def model(self) -> str:
        """The model's name."""
        return self.view.condition.model

    @property
    def is_simulated(self) -> bool:
        """Whether the model is simulated, and no language model."""
        return self.model.startswith(SIMULATED_PREFIX)

    @property
    def numbers(self) -> dict[str, ShownNumber]:
        """The numbers of the table."""
        return {name: self.view.numbers[name] for name in columns_of(self.view.numbers)}

    @property
    def trials(self) -> int:
        """The number of scored trials."""
        return next((number.row.n for number in self.numbers.values()), 0)


@dataclass(frozen=True)
class Headline:
    """One table of a run: its rows and columns, what holds for all rows, and the hash of the signatures shown."""

    title: str
    rows: tuple[HeadlineRow, ...]
    shared: str
    run: str
    version: str
    digest: str

    @property
    def columns(self) -> dict[str, Cell]:
        """The columns that some row has a number in."""
        return columns_of({name for row in self.rows for name in row.view.numbers})

    @property
    def ranked(self) -> bool:
        """Whether some row has ranks."""
        return any(row.rank is not None for row in self.rows)

    def legend(self) -> Iterator[str]:
        """Yield what the headings mean, one sentence each."""
        for name, cell in self.columns.items():
            text = METRICS[name].definition.partition(". ")[0].removesuffix(".")
            yield f"{cell.heading}: {lower_first(text)}."
        yield "In brackets: 95 % intervals; examples are the unit. n: scored trials."
        if self.ranked:
            yield RANK_LEGEND.format(next(iter(self.columns.values())).heading)

    def note(self) -> str:
        """Return where the numbers come from."""
        return (
            f"explaineval {self.version}, {self.run}, signatures sha256:{self.digest} (of those that these numbers "
            "have in metrics.json, sorted, one a line)."
        )


def headlines_of(results: ComparedRuns) -> tuple[Headline, ...]:
    """Return the tables of the first run: that of its arms, and that of its levels of verbosity together, if any."""
    run, ranks = results.runs[0], dict(_ranks(results.comparisons))
    views = [view for view in run.conditions if columns_of(view.numbers)]
    titled = {
        "Faithfulness of explanations": [view for view in views if not view.over_levels],
        "Faithfulness of explanations over levels of verbosity": [view for view in views if view.over_levels],
    }
    return tuple(_headline(title, run, members, ranks) for title, members in titled.items() if members)


def _headline(title: str, run: RunResults, views: Sequence[ConditionView], ranks: Mapping[Condition, Rank]) -> Headline:
    parts = [_parts(view.condition, run) for view in views]
    same = [name for name in parts[0] if len({by_name[name] for by_name in parts}) == 1]
    rows = tuple(
        HeadlineRow(
            view,
            ranks.get(view.condition),
            ", ".join(text for name, text in by_name.items() if name not in same and text),
        )
        for view, by_name in zip(views, parts, strict=True)
    )
    signatures = {number.row.signature for row in rows for number in row.numbers.values()}
    return Headline(
        title,
        rows,
        ", ".join(text for name, text in parts[0].items() if name in same and text),
        run.record.signature.rpartition("|")[2],
        run.record.explaineval,
        hashlib.sha256("\n".join(sorted(signatures)).encode("utf-8", "surrogatepass")).hexdigest()[:DIGEST],
    )


def _parts(condition: Condition, run: RunResults) -> dict[str, str]:
    """Return what a condition is about beside its model, by name, in words; empty for what needs no word."""
    endpoints = {model.endpoint for model in run.record.config.models if model.model == condition.model}
    return {
        "endpoint": f"at {condition.endpoint or 'the default endpoint'}" if len(endpoints) > 1 else "",
        "task": "mean over tasks" if condition.task == MEAN else f"task {condition.task}",
        "kind": f"insertions {str(condition.kind).replace('_', ' ')}",
        "order": ORDERS.get(condition.order, condition.order),
        "style": f"{condition.style} with {counted(condition.shots, 'shot')}",
        "verbosity": "all levels" if condition.verbosity is None else f"verbosity {condition.verbosity}",
    }


def _ranks(comparisons: Sequence[GroupResult]) -> Iterator[tuple[Condition, Rank]]:
    """Yield the ranks of models that were compared under the same arm, by condition."""
    for result in comparisons:
        group = result.group
        if group.by != "model" or group.confounded:
            continue
        for compared in result.families:
            if compared.metric == group.primary_metric and compared.tested:
                for system, rank in zip(group.systems, compared.family.ranks, strict=True):
                    if rank is not None:
                        yield condition_of(system, compared), rank


MARKUP = re.compile(r"[^\w\s.,/%()=+;?':-]|(?i:(?<=www)\.)|:(?=/)|(?i:(?<=mailto):|(?<=xmpp):)", re.ASCII)
"""What could be markup, HTML or a link inside a line of text."""


def markdown_tables(headlines: Sequence[Headline]) -> str:
    """Return the tables, each with its legend, the reasons of undefined numbers, and its note."""
    return "\n".join(map(_markdown_table, headlines))


def _markdown_table(headline: Headline) -> str:
    notes = Footnotes()
    headings = ["Model", *(["What"] if any(row.about for row in headline.rows) else []), "n"]
    names = len(headings) - 1
    headings += [cell.heading for cell in headline.columns.values()] + (["Rank"] if headline.ranked else [])
    body = []
    for row in headline.rows:
        simulated = f" ({SIMULATED_NOTE})" if row.is_simulated else ""
        cells = [*[escape_markdown(row.model) + simulated, escape_markdown(row.about)][:names], f"{row.trials}"]
        cells += [_markdown_cell(row.view.numbers.get(name), cell, notes) for name, cell in headline.columns.items()]
        cells += [rank_text(row.rank)] * headline.ranked
        body.append(cells)
    lines = [f"**{headline.title}**: {escape_markdown(headline.shared)}.", ""]
    lines += [*pipe_table(headings, body, right=range(names, len(headings))), ""]
    lines += [
        f"[{index}] Undefined: {escape_markdown(reason)}.  " for index, reason in enumerate(notes.reasons, start=1)
    ]
    lines += [""] if notes.reasons else []
    lines += [escape_markdown(" ".join(headline.legend())), "", escape_markdown(headline.note())]
    return "\n".join(lines) + "\n"


def pipe_table(headings: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> Iterator[str]:
    """Yield the lines of a table of cells that are escaped already; `right` are the columns to be aligned right."""
    numbers = set(right)
    yield f"| {' | '.join(headings)} |"
    yield f"|{'|'.join(' ---: ' if index in numbers else ' --- ' for index in range(len(headings)))}|"
    for cells in rows:
        yield f"| {' | '.join(cells)} |"


def escape_markdown(text: str) -> str:
    """Return a text as Markdown that shows it: whatever could be markup, HTML or a link is written as an entity.

    Control characters, line breaks and what changes the direction of text are shown, not carried out.

    >>> escape_markdown("a_b | <b>"), escape_markdown("www.x.org"), escape_markdown("one\\ntwo")
    ('a\\\\_b &#124; &#60;b&#62;', 'www&#46;x.org', 'one␊two')
    """
    safe = MARKUP.sub(lambda match: match[0] if not match[0].isascii() else f"&#{ord(match[0])};", flat(text))
    return safe.replace("_", r"\_")


def _markdown_cell(number: ShownNumber | None, cell: Cell, notes: Footnotes) -> str:
    if number is None:
        return ""
    if number.value is None:
        return f"{NONE} [{notes.mark(number.row.undefined or UNDEFINED)}]"
    return str(number) if cell.interval and number.limits is not None else number.plain()


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
            tables.append("\n".join(_latex_table(headline, rows, part, explained=index == 0)))
    return head + "\n\n".join(tables) + "\n"


def escape_latex(text: str) -> str:
    """Return a text as LaTeX that prints it, whatever it holds.

    A character that LaTeX does not know without further packages, and one that is invisible, is printed as its number.

    >>> escape_latex("50 % of a_b"), escape_latex(chr(92) + "input{x}"), escape_latex("né\\u202e")
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
    return r"\allowbreak{}".join(map(escape_latex, pieces))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_NAME else f"{text[:80]}…{text[-39:]}"


def _latex_table(headline: Headline, rows: Sequence[HeadlineRow], part: str, *, explained: bool) -> Iterator[str]:
    reasons = Footnotes()
    body = list(_body(headline, rows, reasons))
    caption = [f"{headline.title}{part}: {headline.shared}."]
    caption += headline.legend() if explained else ["Headings as in part 1."]
    if any(row.is_simulated for row in rows):
        caption.append("Models marked † are simulated, not language models.")
    notes = [f"{index}: undefined, {_cut(reason)}." for index, reason in enumerate(reasons.reasons, start=1)]
    headings = ["Model", "n", *(cell.heading for cell in headline.columns.values())] + ["Rank"] * headline.ranked
    yield r"\begin{table}"
    yield r"\centering"
    yield STACKED
    yield rf"\caption{{\footnotesize {' '.join(map(escape_latex, caption))}}}"
    yield r"\smallskip"
    yield r"\footnotesize"
    yield r"\setlength{\tabcolsep}{3pt}"
    width = NARROW if len(headline.columns) > MANY_COLUMNS else WIDE
    yield rf"\begin{{tabular}}{{@{{}}p{{{width}}}r{'c' * (len(headings) - 2)}@{{}}}}"
    yield r"\toprule"
    yield " & ".join(map(escape_latex, headings)) + r" \\"
    yield r"\midrule"
    yield from body
    yield r"\bottomrule"
    yield r"\end{tabular}"
    yield r"\par\smallskip"
    yield r"\begin{minipage}{\linewidth}\scriptsize\raggedright"
    yield " ".join(map(escape_latex, [*notes, headline.note()]))
    yield r"\end{minipage}"
    yield r"\end{table}"


def _body(headline: Headline, rows: Sequence[HeadlineRow], reasons: Footnotes) -> Iterator[str]:
    """Yield the rows of numbers; a model of several rows is named in the first of them."""
    before = None
    for row in rows:
        names = [] if row.model == before else [_name(row.model) + r"$^{\dagger}$" * row.is_simulated]
        names += [rf"\scriptsize {escape_latex(row.about)}"] if row.about else []
        before = row.model
        cells = [_latex_cell(row.view.numbers.get(name), cell, reasons) for name, cell in headline.columns.items()]
        ranks = [escape_latex(rank_text(row.rank))] * headline.ranked
        name = r"\raggedright " + r"\newline ".join(names)
        yield " & ".join([name, str(row.trials), *cells, *ranks]) + r" \\[2pt]"


def _latex_cell(number: ShownNumber | None, cell: Cell, reasons: Footnotes) -> str:
    if number is None:
        return ""
    if number.value is None:
        return rf"--$^{{{reasons.mark(number.row.undefined or UNDEFINED)}}}$"
    value = number.plain().replace("-", "$-$")
    if not cell.interval or number.limits is None:
        return value
    return rf"\withinterval{{{value}}}{{{number.plain_interval().strip('[]').replace('-', '$-$')}}}"
