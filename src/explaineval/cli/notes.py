"""`explaineval notes` and `explaineval explain`: what limits the numbers of a run, and what each number means."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

import click

from explaineval.cli.options import JSON, PATH, options
from explaineval.cli.output import columns, echo, echo_document, echo_lines, echo_text
from explaineval.errors import InputError
from explaineval.planning.notes import record_notes
from explaineval.reporting.comparison_view import HEADINGS
from explaineval.reporting.screen import SCREEN_HEADINGS, notes_lines
from explaineval.rundir.directory import read_run
from explaineval.rundir.ledger import spending_sentence
from explaineval.scoring.codes import Note
from explaineval.scoring.external import is_trials_file, score_file
from explaineval.scoring.registry import COMPARED_ONLY, METRICS, text_of
from explaineval.scoring.rows import score

NARROW = 100


@click.command("notes")
@click.argument("run_dir", type=PATH)
@options(JSON)
def notes_command(run_dir: Path, json: bool) -> int:
    """Print all warnings of RUN_DIR, the gravest first, each with the numbers that it limits and what to do.

    Below them stands what was spent in RUN_DIR, by run, judge and simulate.

    RUN_DIR may also be a FILE.csv or FILE.jsonl of trials that another program collected.
    """
    notes: list[Note] = []
    if is_trials_file(run_dir):
        scores = score_file(run_dir)
    else:
        scores, notes = score(run_dir), list(record_notes(read_run(run_dir)))
    spending = None if run_dir.is_file() else spending_sentence(run_dir)
    if json:
        echo_document({"run_dir": str(run_dir), "spending": spending}, notes, scores)
        return 0
    for note in notes:
        echo_text(note.text, columns(NARROW))
        echo()
    if scores.warnings:
        echo_lines(notes_lines(scores, str(run_dir), columns(NARROW)))
    elif not notes:
        echo("Nothing limits these numbers.")
    if spending is not None:
        echo()
        echo_text(spending, columns(NARROW))
    return 0


@click.command("explain")
@click.argument("metric", required=False, metavar="[METRIC]")
@options(JSON)
def explain_command(metric: str | None, json: bool) -> int:
    """Explain METRIC: its meaning, its source, what would make it wrong. Without METRIC, list all metrics.

    METRIC is a name as in metrics.json or as on the screen: tpr, TPR, phi-CCT, impact, F-AUROC.
    """
    names = [*METRICS, *COMPARED_ONLY]
    if metric is None or (metric := _name_of(given := metric, names)) not in names:
        names = [*METRICS.complete(), *COMPARED_ONLY]
        metric = metric and _name_of(given, names)
    if metric is None:
        if json:
            echo_document({"metrics": [_document(name) for name in names]})
        else:
            width = max(map(len, names))
            for name in names:
                echo(f"{name:<{width}}  {text_of(name).title}")
        return 0
    if metric not in names:
        words = {name: f"{_folded(name)} {_folded(text_of(name).title)}".split() for name in names}
        near = [name for name in names if _folded(metric) in words[name]][:3]
        near = near or difflib.get_close_matches(metric, names, 3)
        hint = f"did you mean {', '.join(near)}?" if near else "`explaineval explain` lists them all."
        raise InputError(f"there is no metric {metric!r}: {hint}")
    if json:
        echo_document(_document(metric))
        return 0
    about = text_of(metric)
    echo(f"{metric}: {about.title}")
    for name, text in (("Meaning", about.definition), ("Source", about.source), ("Beware", about.pitfall)):
        start = f"  {name:<9}"
        echo_text(text, columns(NARROW), start, " " * len(start))
    return 0


def _name_of(text: str, names: Sequence[str]) -> str:
    """Return the metric that `text` names: by its name in files, its title on the screen, or a column's heading."""
    wanted = _folded(text)
    cells = [(name, cell) for name, metric in METRICS.items() for cell in (metric.cell, metric.level_cell) if cell]
    by_text = {_folded(cell.heading): name for name, cell in reversed(cells)}
    by_text |= {_folded(heading): name for heading, name in (HEADINGS | SCREEN_HEADINGS).items()}
    by_text |= {_folded(text_of(name).title): name for name in names}
    by_text |= {_folded(name): name for name in names}
    return by_text.get(wanted, text)


def _folded(text: str) -> str:
    return re.sub(r"[\W_]+", " ", text.casefold()).strip()


def _document(name: str) -> dict[str, str]:
    about = text_of(name)
    return {
        "metric": name,
        "title": about.title,
        "definition": about.definition,
        "source": about.source,
        "pitfall": about.pitfall,
    }
