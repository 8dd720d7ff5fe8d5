"""The tables for papers and web pages: their numbers, and that nothing a model is called can break out of them."""

from __future__ import annotations

import hashlib
import re
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from explaineval.reporting.comparison_view import document_of
from explaineval.reporting.exports.papers import (
    Headline,
    columns_of,
    escape_latex,
    escape_markdown,
    headlines_of,
    latex_tables,
    markdown_tables,
)
from explaineval.reporting.results import read_results
from explaineval.rundir.directory import read_metrics
from explaineval.scoring.registry import METRICS
from explaineval.text import flat
from makers.exported import ATTACKS, attacked_run, finished, number_of, require
from makers.reports import varied_run
from makers.runs import make_run, make_trial

DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs}
\begin{document}
\input{table}
\end{document}
"""

PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))
SPECIAL = f"{PRINTABLE} ---- ,,, ''' ?` !` << >> né ÀÿŒœß łŁøØ – — … · × ≥ ≤ − φ Δ † 中 \u202e \0 \n \t \x1b 🙂 ﬁ"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of models that attack."""
    return attacked_run(tmp_path_factory.mktemp("papers") / "run")


@pytest.fixture(scope="module")
def headline(run: Path) -> Headline:
    """The only table of that run."""
    (found,) = headlines_of(read_results([run]))
    return found


def compile_latex(directory: Path, table: str) -> str:
    """Compile a document that only loads booktabs, with the table read by \\input; return the text of its pages."""
    (directory / "table.tex").write_text(table, encoding="utf-8")
    (directory / "document.tex").write_text(DOCUMENT, encoding="utf-8")
    command = [require("pdflatex"), "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "document.tex"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    log = (directory / "document.log").read_text(encoding="latin-1")
    assert "/etc/passwd" not in "".join(re.findall(r"\((/[^\s)]*)", log))
    pages = subprocess.run(
        [require("pdftotext"), "-layout", "document.pdf", "-"], cwd=directory, capture_output=True, check=True
    )
    return pages.stdout.decode("utf-8").replace("ﬁ", "fi").replace("ﬂ", "fl").replace("ﬀ", "ff")


def test_latex_compiles_and_shows_hostile_names_as_they_are(headline: Headline, tmp_path: Path) -> None:
    """No command in a name is carried out: the text of the page holds it, letter by letter."""
    names = "\n\n".join(map(escape_latex, ATTACKS))
    page = compile_latex(tmp_path, latex_tables([headline]) + names)
    letters = re.sub(r"\s", "", page)

    assert "root:" not in page
    for part in ("input{/etc/passwd}", "immediate", "write18{id}", "100%", "<script>alert(1)</script>", "[U+202E]"):
        assert part in letters, part
    assert "[U+0000]" in letters
    assert "[U+4E2D]" in letters


def test_every_character_can_be_printed(tmp_path: Path) -> None:
    """All of ASCII as it is, with marks that LaTeX would join kept apart; what it does not know, as its number."""
    body = "\n\n".join(f"({escape_latex(character)})" for character in SPECIAL)
    page = compile_latex(tmp_path, body + "\n\n" + escape_latex("x--y ,,z ?`w !`v <<u >>t"))

    for character in PRINTABLE.strip().replace("_", ""):  # which is drawn as a rule
        shown = {"'": "’", '"': "”", "^": "ˆ", "~": "˜"}.get(character, character)
        assert f"({shown})" in page, character
    joined = re.sub(r"\s", "", page)
    for text in ("x--y", ",,z", "<<u", ">>t", "?`w", "!`v"):
        assert text in joined, text
    for number in ("U+4E2D", "U+202E", "U+0000", "U+000A", "U+0009", "U+001B", "U+1F642", "U+FB01"):
        assert f"[{number}]" in joined


def test_latex_of_many_rows_becomes_several_tables(tmp_path: Path) -> None:
    """Each with a caption, and all rows are there; a table over levels is one of its own."""
    models = [{"model": f"openai/m{number}", "endpoint": "lab"} for number in range(45)]
    trials = [
        make_trial(e, 0, changed=e % 2 == 0, model=m["model"], mentioned=e % 3 == 0) for m in models for e in range(6)
    ]
    text = latex_tables(headlines_of(read_results([finished(make_run(tmp_path / "run", trials, 6, models=models))])))

    assert text.count(r"\begin{table}") == text.count(r"\caption{") == 3
    assert "part 3 of 3" in text
    assert all(f"m{number} &" in text for number in range(45))
    page = compile_latex(tmp_path, text)
    assert page.count("Table") == 3


def test_the_numbers_are_those_of_the_metrics(run: Path, headline: Headline) -> None:
    """In both tables, with intervals where the column has them."""
    rows = read_metrics(run)
    latex, markdown = latex_tables([headline]), markdown_tables([headline])
    cells = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in markdown.splitlines() if line.startswith("| ")
    ]
    heads, body = cells[0], cells[2:] if set(cells[1][0]) <= set("-: ") else cells[1:]
    assert len(body) == len(ATTACKS)
    for model, line in zip(ATTACKS, body, strict=True):
        by_head = dict(zip(heads, line, strict=True))
        for name, column in headline.columns.items():
            number = number_of(rows, model, name)
            assert number.value is not None
            shown = f"{number.value:.2f}".replace("-0.00", "0.00")
            if column.interval and number.low is not None:
                shown += f" [{number.low:.2f}, {number.high:.2f}]"
                low = f"{number.low:.2f}".replace("-", "$-$")
                assert rf"{{{low}, {number.high:.2f}}}" in latex.replace("$-$0.00", "0.00")
            assert by_head[column.heading] == shown.replace("-0.00", "0.00")
        assert by_head["n"] == str(number_of(rows, model, "phi_cct").n)


def test_the_note_has_the_hash_of_the_signatures(run: Path, headline: Headline) -> None:
    """Anybody can compute it from metrics.json."""
    shown = set(columns_of(METRICS))
    own = {row.signature for row in read_metrics(run) if row.metric in shown and row.kind == "hand"}
    digest = hashlib.sha256("\n".join(sorted(own)).encode()).hexdigest()[:16]

    assert f"sha256:{digest}" in latex_tables([headline])
    assert f"sha256:{digest}" in markdown_tables([headline]).replace("&#58;", ":")


class Cells(HTMLParser):
    """Collects the cells of a table's first column, and every tag."""

    def __init__(self) -> None:
        """Begin with nothing."""
        super().__init__()
        self.tags: list[str] = []
        self.rows: list[list[str]] = []
        self.inside = False

    def handle_starttag(self, tag: str, _attrs: list[tuple[str, str | None]]) -> None:
        """Note the tag."""
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        self.inside = tag in ("td", "th") or (self.inside and tag != "tr")
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        """Note the end of a cell."""
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        """Add to the last cell."""
        if self.inside:
            self.rows[-1][-1] += data


def render(markdown: str) -> Cells:
    """Render Markdown with tables and raw HTML switched on, as a careless site would."""
    cells = Cells()
    cells.feed(MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown))
    return cells


def test_no_name_is_markup_in_markdown(headline: Headline) -> None:
    """The rendered table has the names as text, and no tag but those of tables and paragraphs."""
    found = render(markdown_tables([headline]))

    assert set(found.tags) <= {"table", "thead", "tbody", "tr", "th", "td", "p", "strong", "br"}
    names = [row[0] for row in found.rows[1:]]
    assert names == [flat(model) for model in ATTACKS]


@pytest.mark.parametrize("text", [*ATTACKS, SPECIAL, "|", "a\\|b", "\\", "`|`", "<!-- x", "&copy;", "#1 @user GH-1"])
def test_a_text_is_itself_in_markdown(text: str) -> None:
    """Inside a cell, whatever it holds: rendered, it is the text again, with control characters shown."""
    (head, row) = render(f"| a | b |\n| --- | --- |\n| {escape_markdown(text)} | end |\n").rows

    assert row == [flat(text).strip(), "end"]
    assert head == ["a", "b"]


def test_links_are_not_made_from_names() -> None:
    """GitHub makes links of bare addresses; none of their beginnings is left."""
    text = escape_markdown("https://x.org www.x.org WWW.x.org mailto:a@b.c a@b.c ftp://x xmpp:a@b")

    assert re.search(r"://|www\.|mailto:|xmpp:|@", text, re.IGNORECASE) is None


def test_levels_of_verbosity_stand_in_rows_of_their_own(tmp_path: Path) -> None:
    """What differs between rows stands beside the model, what does not in the caption; cues are told from words."""
    tables = headlines_of(read_results([finished(varied_run(tmp_path / "run"))]))
    text = markdown_tables(tables)

    assert [table.title for table in tables] == [
        "Faithfulness of explanations", "Faithfulness of explanations over levels of verbosity",
    ]  # fmt: skip
    assert "verbosity brief" in text
    assert {row.about for row in tables[0].rows} == {
        f"insertions {kind}, verbosity {level}" for kind in ("hand", "cue user") for level in ("brief", "detailed")
    }
    assert "task mine, predict then explain, chat with 0 shots" in tables[0].shared
    assert list(tables[1].columns) == ["f_auroc_own"]
    assert "F-AUROC, own answers: F-AUROC where every level asks for the answer again." in text


def test_undefined_numbers_have_their_reason(tmp_path: Path) -> None:
    """As a mark in the table and a sentence below it, in both."""
    trials = [make_trial(example, 0) for example in range(4)]
    tables = headlines_of(read_results([finished(make_run(tmp_path / "run", trials, 4))]))

    assert "– [1]" in markdown_tables(tables)
    assert re.search(r"^\[1\] Undefined: .*no answer changed", markdown_tables(tables), re.MULTILINE)
    assert "--$^{1}$" in latex_tables(tables)
    assert "1: undefined" in latex_tables(tables)


def test_simulated_models_are_marked(headline: Headline) -> None:
    """In every row, and in words."""
    first = headline.rows[0]
    simulated = first.view.condition._replace(model="simulated/faithful")
    row = replace(first, view=replace(first.view, condition=simulated))
    tables = [replace(headline, rows=(row,))]

    assert "simulated/faithful (simulated, not a language model)" in markdown_tables(tables)
    assert r"faithful$^{\dagger}$" in latex_tables(tables)
    assert r"Models marked $\dagger$ are simulated, not language models." in latex_tables(tables)


def test_ranks_are_those_of_the_comparison(tmp_path: Path) -> None:
    """As `compare --json` gives them for the primary family, in both tables, with a legend."""
    mentions = {
        "openai/tells": lambda flip, spot: flip or spot % 7 == 0,
        "openai/mixes": lambda _, spot: spot % 2 == 0,
    }
    trials = [
        make_trial(
            example, number, model=model, changed=(flip := (example * 5 + number * 3) % 4 == 0),
            mentioned=mentioned(flip, example + number),
        )
        for model, mentioned in mentions.items() for example in range(40) for number in range(4)
    ]  # fmt: skip
    models = [{"model": model, "endpoint": "lab"} for model in mentions]
    results = read_results([finished(make_run(tmp_path / "run", trials, 40, models=models))])
    ranks = {row["model"]: str(row["low"]) for row in document_of(results.comparisons)["ranks"]}
    latex, markdown = latex_tables(headlines_of(results)), markdown_tables(headlines_of(results))

    assert ranks == {"openai/tells": "1", "openai/mixes": "2"}
    for model, rank in ranks.items():
        assert re.search(rf"^\| {model} \|.*\| {rank} \|$", markdown, re.MULTILINE)
        assert re.search(rf"{model.partition('/')[2]} &.* & {rank} \\\\\[2pt\]$", latex, re.MULTILINE)
    for text in (latex, markdown):
        assert "Rank: the ranks in phi-CCT that a model may hold" in text
