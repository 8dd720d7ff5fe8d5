"""`explaineval judge`: a model decides which explanations mention a cue, beside the phrase list."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from explaineval.cli.consultants import consultant, consultant_options, count_reasons, show_progress
from explaineval.cli.documents import show_document
from explaineval.cli.options import CACHE, JSON, MAX_USD, READABLE, option, options
from explaineval.cli.outputs import say, show_scores, summary_line
from explaineval.cli.printing import echo
from explaineval.errors import InputError
from explaineval.experiment import score
from explaineval.experiment.directories import read_trials
from explaineval.experiment.mention_judgings import (
    Agreement,
    compare_verdicts,
    find_questions,
    judge_mentions,
    score_judged,
)
from explaineval.experiment.notes import note
from explaineval.experiment.tallies import Group
from explaineval.prompts import PromptBook, default_directory

ENDPOINT_FAULT = 5


@click.command("judge")
@click.argument("run_dir", type=click.Path(path_type=Path))
@options(
    *consultant_options("judge", "Model that judges which explanations mention a cue."),
    option("--prompts", type=READABLE, metavar="DIR", help="Prompts with your own mention_judge.j2."),
    MAX_USD,
    option("--offline/--no-offline", default=False, help="Answers of the judge from the cache only."),
    CACHE,
    JSON,
)
def judge_command(run_dir: Path, json: bool, **given: Any) -> int:
    """Let a model judge which explanations of RUN_DIR mention a cue, and compare it with the phrase list.

    A phrase list misses paraphrases. The judge is asked once per distinct cue and explanation of the scored trials,
    through the cache, under --max-usd. The numbers of the cues are computed with its decisions and only printed; the
    run's own metrics.json stays as it is. Where no judgement can be read the trial counts as missing.
    """
    if not given["judge_model"]:
        raise InputError("judge needs a model that judges: add --judge-model PROVIDER/MODEL.")
    score(run_dir)  # refuses a directory that is not whole before any money is spent
    questions = find_questions(run_dir)
    who = consultant("judge", given, PromptBook(given["prompts"] or default_directory()), 0.0)
    consulted = judge_mentions(who, questions, show_progress("judge"))
    verdicts = dict(zip(questions, consulted.results, strict=True))
    agreements = compare_verdicts(read_trials(run_dir), verdicts)
    scores = score_judged(run_dir, who, verdicts)
    say([f"judge: {summary_line(consulted.summary)}"])
    failed = f"judge: {consulted.failed} requests stayed failed after all retries; the same command asks again."
    notes = [note("requests_failed", failed)] if consulted.failed else []
    told = f"scored by {who.model.model}'s judgements; the run's own metrics.json stays as it is."
    notes.append(note("scored_otherwise", told))
    say(notes)
    code = ENDPOINT_FAULT if consulted.failed else 0
    if json:
        document = {
            "run_dir": str(run_dir),
            "agreement": [_document(group, one) for group, one in agreements.items()],
            "metrics": [row.model_dump(mode="json") for row in scores.rows],
        }
        show_document(document, notes, scores, code, failed)
    else:
        _show(agreements)
        show_scores(scores)
    return code


def _document(group: Group, one: Agreement) -> dict[str, Any]:
    counts = {name: getattr(one, name) for name in ("both", "only_phrases", "only_judge", "neither")}
    return {**group._asdict(), **counts, "unreadable": one.unreadable.total()}


def _show(agreements: Mapping[Group, Agreement]) -> None:
    """One line per model, task, arm and kind."""
    for group, one in agreements.items():
        where = f"{group.model}, {group.task}, {group.kind}, {group.style} {group.order}"
        lost = f"; without a readable judgement: {count_reasons(one.unreadable)}" if one.unreadable else ""
        echo(
            f"{where}, {group.shots} shots, {group.verbosity}: mentioned by phrase list and judge {one.both}, "
            f"by the phrase list only {one.only_phrases}, by the judge only {one.only_judge}, by neither "
            f"{one.neither}{lost}."
        )
    echo()
