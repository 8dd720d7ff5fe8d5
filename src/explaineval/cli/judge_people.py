"""`explaineval judge sheet` and `judge agree`: people judge explanations, and phi is corrected by what they say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from explaineval.assist.sheets import (
    PICKED,
    Kappa,
    Numbers,
    SheetKey,
    SheetResults,
    agree,
    choose_source,
    draw_sheet,
    instructions_path,
    key_path,
    write_sheet,
)
from explaineval.cli.options import AT_LEAST_0, AT_LEAST_1, JSON, PATH, NameChoice, option, options
from explaineval.cli.output import SCREEN_WIDTH, columns, finish
from explaineval.errors import InputError
from explaineval.mentions import SEARCHES
from explaineval.metrics.reliability import CELLS, WRONG_GRADES, WrongGrades
from explaineval.records import POLICIES, Estimate
from explaineval.scoring.codes import note
from explaineval.scoring.mentioning import MENTIONED
from explaineval.scoring.registry import FPR, PHI_CCT, TPR, YOUDEN_J
from explaineval.text import agreeing, counted, interval_text, number_text, share_text, wrapped

TITLES = {PHI_CCT: "phi-CCT", TPR: "TPR", FPR: "FPR", YOUDEN_J: "J"}


@click.command("sheet")
@click.argument("run_dir", type=PATH)
@options(
    option("--n", "rows", type=AT_LEAST_1, default=200, show_default=True, help="Rows of the sheet."),
    option("--seed", type=int, metavar="N", default=0, show_default=True, help="Seed of the draw."),
    option(
        "--mention",
        type=NameChoice([*POLICIES, *MENTIONED], SEARCHES),
        added=SEARCHES.added,
        help="What decides on mentions, and is to be corrected.  [default: the run's own policy]",
    ),
    option("--judge", metavar="MODEL", help="Whose verdicts decide, with --mention judge or judge_reason."),
    option("--model", metavar="PROVIDER/MODEL", help="The model whose explanations are judged."),
    option("--task", metavar="NAME", help="Its task."),
    option("--kind", metavar="NAME", help="The kind of intervention."),
    option("--order", type=click.Choice(["pe", "pe2", "ep"]), help="The order of answer and explanation."),
    option("--style", type=click.Choice(["chat", "completion"]), help="The style of the prompts."),
    option("--shots", type=AT_LEAST_0, help="The number of demonstrations."),
    option("--verbosity", metavar="NAME", help="The length of the explanations."),
    option("--out", type=PATH, metavar="SHEET.csv", help="The sheet to write; its key and instructions go beside it."),
    JSON,
)
def sheet_command(
    run_dir: Path, rows: int, seed: int, mention: str | None, judge: str | None, out: Path | None, json: bool,
    **picked: Any,
) -> int:  # fmt: skip
    """Write a sheet on which people say which explanations of RUN_DIR mention what was inserted.

    The rows are drawn equally from the four cells (answer changed or not, mentioned or not as --mention decides) of one
    condition, and shuffled; neither stands on the sheet. SHEET.key.json holds both, and the sizes of the cells;
    SHEET.txt tells the people what to do. `judge agree` reads the sheet when it is filled in.
    """
    if out is None or out.suffix.lower() != ".csv":
        raise InputError("no sheet named: add --out SHEET.csv.")
    source = choose_source(run_dir, mention, judge)
    fits = {name: picked[name] for name in PICKED if picked[name] is not None}
    sheet = draw_sheet(run_dir, source, fits, rows, seed)
    write_sheet(sheet, out)
    key = sheet.key
    notes = []
    if len(key.rows) < rows:
        notes.append(note("sheet_short", trials=counted(len(key.rows), "scored trial")))
    document = {
        "run_dir": str(run_dir), "sheet": key.sheet, "out": str(out), "key": str(key_path(out)),
        "instructions": str(instructions_path(out)), "rows": len(key.rows), "condition": key.condition._asdict(),
        "cells": [cell.model_dump() for cell in key.cells],
    }  # fmt: skip
    return finish(document, _sheet_lines(run_dir, key, out), notes, json=json)


def _sheet_lines(run_dir: Path, key: SheetKey, out: Path) -> Iterator[str]:
    yield f"{out}: {counted(len(key.rows), 'row')} of {_condition(key)}."
    yield from _cell_lines((cell.trials, f"{cell.rows} on the sheet") for cell in key.cells)
    yield f"Give people {out} and {instructions_path(out)}, but not {key_path(out)}."
    yield f"When it is filled in: explaineval judge agree {run_dir} {out}"


@click.command("agree")
@click.argument("run_dir", type=PATH)
@click.argument("sheets", type=PATH, nargs=-1, metavar="SHEET.csv...")
@options(
    option("--key", type=PATH, metavar="FILE", help="The key of the sheets.  [default: beside one of them]"),
    JSON,
)
def agree_command(run_dir: Path, sheets: tuple[Path, ...], key: Path | None, json: bool) -> int:
    """Compare filled-in sheets with all policies and judges of RUN_DIR, and correct phi by what people say.

    Several sheets are copies of one that several people filled in. Rows without a grade are skipped. kappa is Cohen's,
    over three grades with linear weights, over "mentioned or not" plain. phi, TPR, FPR and J are those that people
    would find on all trials of the sheet's condition, with an interval that knows of the sheet's size.
    """
    if not sheets:
        raise InputError("no sheet given: name the files that `judge sheet` wrote and people filled in.")
    results = agree(run_dir, sheets, key)
    notes = [note("sheet_outgrown", text=text) for text in results.notes]
    skipped = {sheet.name: len(sheet.grades) - len(sheet.given) for sheet in results.sheets}
    total = len(results.key.rows)
    for sheet in results.sheets:
        absent = total - len(sheet.grades)
        if skipped[sheet.name] or absent:
            gone = f", {absent} are not in the file" if absent else ""
            notes.append(
                note(
                    "rows_ungraded",
                    sheet=sheet.name,
                    skipped=skipped[sheet.name],
                    rows=counted(total, "row"),
                    have=agreeing(skipped[sheet.name], "have"),
                    gone=gone,
                )
            )
    return finish(_document(run_dir, results), _lines(results), notes, json=json)


def _document(run_dir: Path, results: SheetResults) -> dict[str, Any]:
    return {
        "run_dir": str(run_dir),
        "sheet": results.key.sheet,
        "condition": results.key.condition._asdict(),
        "raters": [
            {
                "rater": sheet.name, "file": str(sheet.path), "rows": len(results.key.rows), "graded": len(sheet.given),
                "skipped": len(results.key.rows) - len(sheet.given),
            }
            for sheet in results.sheets
        ],
        "cells": [cell._asdict() for cell in results.cells],
        "kappa": [_kappa_document(kappa) for kappa in results.kappas],
        "numbers": [document for numbers in results.numbers for document in _number_documents(numbers)],
    }  # fmt: skip


def _kappa_document(kappa: Kappa) -> dict[str, Any]:
    named = {"first": kappa.first, "second": kappa.second, "grades": kappa.grades, "of": kappa.of}
    return named | kappa.estimate.model_dump()


def _number_documents(numbers: Numbers) -> Iterator[dict[str, Any]]:
    """Yield phi, TPR, FPR and J: corrected, and as the policy or judge counts them."""
    wrong = numbers.corrected.wrong_grades
    for name, estimate in _named(numbers):
        counted = numbers.as_counted[name]
        yield {
            "metric": name,
            "rater": numbers.rater,
            "mentioned_from": numbers.counted,
            **estimate.model_dump(),
            "as_counted": {part: getattr(counted, part) for part in ("value", "low", "high", "undefined")},
            "wrong_grades": wrong._asdict() if name == PHI_CCT and wrong is not None else None,
        }


def _lines(results: SheetResults) -> Iterator[str]:
    width = columns(SCREEN_WIDTH)
    raters = " and ".join(sheet.name for sheet in results.sheets)
    yield from wrapped(f"{_condition(results.key)}, judged by {raters}.", width)
    yield ""
    yield "What people call mentioned:"
    yield from _cell_lines((cell.trials, _called(cell.rows, cell.called_mentioned)) for cell in results.cells)
    yield ""
    together = next(item for item in results.numbers if item.rater is None and item.counted == "mentioned")
    by = results.key.judge or results.key.mention
    yield f"Corrected for the errors of {by} (people's grades 1 and 2 count as a mention):"
    for title, (name, estimate) in zip(TITLES.values(), _named(together), strict=True):
        yield f"  {title:<8} {_shown(estimate)}; as {by} counts: {_shown(together.as_counted[name])}"
    if together.corrected.wrong_grades is not None:
        yield from wrapped(_wrong_grades(together.corrected.wrong_grades), width, "  ", "  ")
    for text in dict.fromkeys(filter(None, (estimate.note for _, estimate in _named(together)))):
        yield f"  {text}"
    yield ""
    yield "Agreement (kappa: 1 full, 0 as by chance), on the sheet and weighted to all trials:"
    pairs: dict[tuple[str, str, int], dict[str, Estimate]] = {}
    for kappa in results.kappas:
        pairs.setdefault((kappa.first, kappa.second, kappa.grades), {})[kappa.of] = kappa.estimate
    for (first, second, grades), found in pairs.items():
        what = "three grades, linear weights" if grades > 2 else "mentioned or not"
        yield f"  {first} and {second}, {what}: {_shown(found['sheet'])}; {_shown(found['run'])}"


def _wrong_grades(wrong: WrongGrades) -> str:
    """Say what wrong grades would do to phi-CCT, since its interval takes people's word for the truth."""
    return (
        f"The interval takes people's grades as the truth. If {share_text(WRONG_GRADES)} of them were wrong at "
        "random, phi-CCT "
        f"would be {number_text(wrong.value)}; wrong in whatever way, between {number_text(wrong.low)} and "
        f"{number_text(wrong.high)}."
    )


def _named(numbers: Numbers) -> Iterator[tuple[str, Estimate]]:
    found = numbers.corrected
    yield from zip(TITLES, (found.phi, found.tpr, found.fpr, found.youden_j), strict=True)


def _called(rows: int, called: float) -> str:
    return f"{called:g} of {rows} judged" if rows else "none judged"


def _cell_lines(cells: Iterator[tuple[int, str]]) -> Iterator[str]:
    """Yield a line for each of the four cells."""
    for name, (trials, text) in zip(CELLS, cells, strict=True):
        yield f"  {name}: {counted(trials, 'trial')}, {text}"


def _condition(key: SheetKey) -> str:
    """Return the condition of a sheet and what decided on mentions, in words."""
    by = f"{key.judge} ({key.mention})" if key.judge else key.mention
    arm = f"{key.style} {key.order}, {counted(key.shots, 'shot')}, {key.verbosity}"
    return f"{key.model}, {key.task}, {key.kind}, {arm}, mentions by {by}"


def _shown(estimate: Estimate) -> str:
    if estimate.value is None:
        return f"undefined ({estimate.undefined})"
    return f"{number_text(estimate.value)} {interval_text(estimate.low, estimate.high)}"
