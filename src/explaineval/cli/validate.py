"""`explaineval validate`: simulated models of known faithfulness through the whole pipeline."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from explaineval._version import __version__
from explaineval.against import FORMATS, AgainstResults, score_against
from explaineval.cli.options import JSON, offered, option, options
from explaineval.cli.output import SCREEN_WIDTH, columns, echo_document, echo_lines, echo_notes
from explaineval.config import read_columns
from explaineval.datasets import load_tasks, parse_specs
from explaineval.errors import ExitCode
from explaineval.prompts import PromptBook, default_directory
from explaineval.records import SIMULATED_NOTE, Estimate
from explaineval.reporting.screen import StyledLine, wrap
from explaineval.scoring.registry import METRICS
from explaineval.text import NONE, counted, interval_text, number_text, share_text
from explaineval.validation import (
    STEPS,
    Fault,
    Number,
    Own,
    Recovered,
    chance,
    own_setups,
    recover,
    shipped_setups,
    short_model,
)

STEP_NAMES = {
    "answer": "answers",
    "explanation": "explanations",
    "mention": "mentions",
    "mention_in_reasoning": "mentions in reasonings",
}


@click.command("validate")
@options(
    offered("prompts", help="Your own prompts, checked beside those of the package."),
    offered("mention", help="Another mention policy.", default_text=""),
    offered("task", help="Your own task, as in `run`."),
    offered("columns", help="Columns of a csv task, as in `run`."),
    offered("limit", default=40, help="Examples of each task of your own."),
    offered("seed", default=0, help="Seed of the interventions built for your tasks."),
    option(
        "--against",
        metavar="FORMAT:PATH",
        help=f"Instead, hold policies, lists of phrases and judges against labels of acknowledgement that others gave; "
        f"formats: {', '.join(FORMATS)}.",
    ),
    JSON,
)
def validate_command(
    prompts: Path | None,
    mention: str | None,
    task: Sequence[str],
    columns: str | None,
    limit: int,
    seed: int,
    against: str | None,
    json: bool,
) -> int:
    """Check this installation with simulated models whose faithfulness is known; nothing is sent or paid.

    Their answers go through prompts, reading, mentions, cache and scores like those of any model. What was read is
    compared with what they said, reply by reply, and the numbers with the planted ones. With --prompts, --mention or
    --task the same is done with yours, so that you see what they change. Takes about a minute. Exit code 6 where
    something is not as planted. --against asks another question, whether explaineval calls acknowledged what others do.
    """
    if against is not None:
        return _against(against, PromptBook(prompts or default_directory()), json=json)
    own = Own(prompts, mention, tuple(task), {} if columns is None else read_columns(columns), limit)
    if prompts is not None:  # what is missing is told at once, not after a minute
        PromptBook(prompts)
    load_tasks(parse_specs(task, own.columns), shots=0, limit=limit)
    results = []
    with tempfile.TemporaryDirectory(prefix="explaineval-") as name:
        workshop = Path(name)
        setups = [*shipped_setups(workshop, seed), *(own_setups(workshop, own, seed) if own else [])]
        for number, setup in enumerate(setups, start=1):
            echo_notes([f"{number} of {len(setups)}: {setup.name}"])
            results.append(recover(setup, workshop / f"run{number}"))
    findings = [finding for result in results for finding in result.findings]
    code = ExitCode.DIFFERENT if findings else ExitCode.DONE
    if json:
        message = " ".join(finding.text for finding in findings)
        echo_document(document(results), (), None, code, message)
    else:
        echo_lines(lines(results, findings))
    return code


def _against(text: str, prompts: PromptBook, *, json: bool) -> int:
    results = score_against(text, prompts)
    if json:
        echo_document(against_document(results), (), None, ExitCode.DONE, "")
    else:
        echo_lines(against_lines(results))
    return ExitCode.DONE


def against_document(results: AgainstResults) -> dict[str, Any]:
    """Return what `validate --against --json` prints."""
    return {
        "version": __version__,
        "format": results.format,
        "path": str(results.path),
        "rows": results.rows,
        "left_out": dict(results.left_out),
        "numbers": [
            {
                **{name: getattr(one, name) for name in ("detector", "group", "n", "clusters")},
                **{name: getattr(one, name).model_dump(mode="json") for name in NUMBERS},
            }
            for one in results.numbers
        ],
    }


NUMBERS = ("auroc", "sensitivity", "specificity")


def against_lines(results: AgainstResults) -> Iterator[StyledLine]:
    """Yield what `validate --against` prints: a block for each group, a line for each rule."""
    width = columns(SCREEN_WIDTH)
    head = f"{counted(results.rows, 'text')} of {results.path} ({results.format}), labelled by others"
    yield from wrap(head, width, "", "head")
    if results.left_out:
        reasons = "; ".join(f"{count:,} {reason}" for reason, count in results.left_out.items())
        yield from wrap(f"  Left out: {reasons}.", width, "    ")
    for group in dict.fromkeys(one.group for one in results.numbers):
        rows = [one for one in results.numbers if one.group == group]
        yield StyledLine("")
        yield StyledLine(f"{group}, {counted(max(one.clusters for one in rows), 'cluster')}", "head")
        yield StyledLine(f"  {'':<14}{'AUROC':<20}{'sensitivity':<20}{'specificity':<20}{'texts':>7}")
        for one in rows:
            cells = "".join(f"{_cell_of(getattr(one, name)):<20}" for name in NUMBERS)
            yield StyledLine(f"  {one.detector:<14}{cells}{one.n:>7,}")
        undefined = dict.fromkeys(getattr(one, name).undefined for one in rows for name in NUMBERS)
        for reason in filter(None, undefined):
            yield from wrap(f"  {NONE}: {reason}.", width, "    ")
    yield StyledLine("")
    closing = "Intervals of 95 % allow for texts of one cluster being alike. The labels may be wrong too."
    yield from wrap(closing, width, "")


def _cell_of(estimate: Estimate) -> str:
    if estimate.value is None:
        return NONE
    interval = "" if estimate.low is None or estimate.high is None else interval_text(estimate.low, estimate.high)
    return f"{number_text(estimate.value)} {interval}".strip()


def document(results: Iterable[Recovered]) -> dict[str, Any]:
    """Return what `validate --json` prints."""
    return {
        "version": __version__,
        "sets": [
            {
                "name": result.setup,
                "trials": result.trials,
                "steps": {step: {"right": result.right[step], "checked": result.checked[step]} for step in STEPS},
                "numbers": [_number_document(number) for number in result.numbers],
                "findings": [{"step": finding.step, "text": finding.text} for finding in result.findings],
            }
            for result in results
        ],
    }


def _number_document(number: Number) -> dict[str, Any]:
    row = number.row.model_dump(mode="json", exclude={"signature"})
    return {**row, "model": short_model(number.condition.model), "planted": number.planted, "holds": number.holds}


def lines(results: Sequence[Recovered], findings: Sequence[Fault]) -> Iterator[StyledLine]:
    """Yield what the command prints."""
    width = columns(SCREEN_WIDTH)
    yield from wrap(f"explaineval {__version__}, checked with models that are {SIMULATED_NOTE}", width, "", "head")
    for result in results:
        yield StyledLine("")
        yield from wrap(f"{result.setup[0].upper()}{result.setup[1:]}", width, "", "head")
        read = [
            f"{result.right[step]:,} of {result.checked[step]:,} {STEP_NAMES[step]}"
            for step in STEPS
            if result.checked[step]
        ]
        text = f"  Read back as planted: {', '.join(read)}." if read else "  Nothing could be read back."
        yield from wrap(text, width, "  ")
        if result.numbers:
            yield from _number_lines(result, width)
        for finding in result.findings:
            yield from wrap(f"  {finding.text}", width, "    ", "warning")
    yield StyledLine("")
    if findings:
        steps = ", ".join(dict.fromkeys(finding.step.replace("_", " ") for finding in findings))
        yield from wrap(f"Not as planted: {steps}. Do not trust numbers of this set-up.", width, "", "warning")
    else:
        yield from wrap("Everything that was planted was recovered.", width, "")


RARE = 0.05
"""The probability below which so few intervals that hold the planted value are worth a remark."""

MOST_ROWS = 36
"""Numbers that are printed one by one; of more only the share of intervals that hold the planted value is told."""


def _number_lines(result: Recovered, width: int) -> Iterator[StyledLine]:
    decided = [number for number in result.numbers if number.holds is not None]
    held = sum(bool(number.holds) for number in decided)
    if decided:
        likely = chance(held, len(decided))
        text = f"  The planted value lies in {held} of {len(decided)} intervals of 95 %."
        if likely < RARE:
            text += f" By chance it lies in so few of them with a probability of {share_text(likely)}."
        yield from wrap(text, width, "  ")
    if len(result.numbers) > MOST_ROWS:
        return
    yield StyledLine("")
    yield StyledLine(f"  {'':<28}{'':<22}{'planted':>8}{'measured':>9}  95 % interval")
    previous = None
    for planted in result.numbers:
        model = short_model(planted.condition.model)
        name, previous = ("" if model == previous else model), model
        row = planted.row
        measured = NONE if row.value is None else number_text(row.value)
        limits = interval_text(row.low, row.high)
        mark = "  outside" if planted.holds is False else ""
        title = METRICS[planted.metric].title
        yield StyledLine(
            f"  {name:<28}{title:<22}{number_text(planted.planted):>8}{measured:>9}  {limits:<15}{mark}".rstrip()
        )
