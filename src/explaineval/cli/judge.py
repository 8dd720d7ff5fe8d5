"""`explaineval judge`: a model decides which explanations mention a cue, beside the phrase list."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from explaineval.assist.mention_judge import Agreement, compare_verdicts, find_questions, judge_mentions, score_judged
from explaineval.cli.configuration import resolve_role
from explaineval.cli.options import CACHE, JSON, MAX_USD, PATH, option, options, role_options
from explaineval.cli.output import count_reasons, echo, echo_document, echo_notes, echo_scores, totals_line
from explaineval.cli.progress import watch_lines
from explaineval.errors import ExitCode, InputError
from explaineval.planning.notes import note
from explaineval.prompts import PromptBook, default_directory
from explaineval.records import EXPLANATION, Condition
from explaineval.rundir.directory import read_trials
from explaineval.scoring.rows import score
from explaineval.signature import PHRASES


@click.command("judge")
@click.argument("run_dir", type=PATH)
@options(
    *role_options("judge", "Model that judges which explanations mention a cue."),
    option("--prompts", type=PATH, metavar="DIR", help="Prompts with your own mention_judge.j2."),
    MAX_USD,
    option("--offline/--no-offline", default=False, help="Use the judge's stored answers only."),
    CACHE,
    JSON,
)
def judge_command(run_dir: Path, json: bool, **given: Any) -> int:
    """Let a model judge which explanations of RUN_DIR mention a cue, and compare it with the phrase list.

    A phrase list misses paraphrases. The judge is asked once for each distinct pair of cue and explanation in the
    scored trials, through the cache and under --max-usd. The numbers of the cues are computed with its decisions and
    only printed; the run's own metrics.json stays as it is. Where no judgement can be read, the trial counts as
    missing.
    """
    if not given["judge_model"]:
        raise InputError("no judge given: add --judge-model PROVIDER/MODEL.")
    score(run_dir)  # refuses an incomplete directory before any money is spent
    questions = find_questions(run_dir)
    judge = resolve_role("judge", given, PromptBook(given["prompts"] or default_directory()))
    judged = judge_mentions(judge, questions, watch_lines("judge"))
    verdicts = dict(zip(questions, judged.results, strict=True))
    agreements = compare_verdicts(read_trials(run_dir), verdicts)
    scores = score_judged(run_dir, judge, verdicts)
    echo_notes([f"judge: {totals_line(judged.totals)}"])
    failed = f"judge: {judged.failed} requests failed after all retries; the same command asks them again."
    notes = [note("requests_failed", failed)] if judged.failed else []
    text = f"scored by {judge.model.model}'s judgements; the run's own metrics.json stays as it is."
    notes.append(note("scored_otherwise", text))
    echo_notes(notes)
    code = ExitCode.ENDPOINT if judged.failed else ExitCode.DONE
    if json:
        document = {
            "run_dir": str(run_dir),
            "agreement": [_document(condition, row, judge.model.model) for condition, row in agreements.items()],
            "metrics": [row.model_dump(mode="json") for row in scores.rows],
        }
        echo_document(document, notes, scores, code, failed)
    else:
        _echo_agreements(agreements)
        echo_scores(scores, run_dir)
    return code


def _document(condition: Condition, agreement: Agreement, judge: str) -> dict[str, Any]:
    about = condition._replace(channel=EXPLANATION, mention=PHRASES, judge=judge)
    counts = {name: getattr(agreement, name) for name in ("both", "only_phrases", "only_judge", "neither")}
    return {**about._asdict(), **counts, "unreadable": agreement.unreadable.total()}


def _echo_agreements(agreements: Mapping[Condition, Agreement]) -> None:
    """Print one sentence for each model, task, arm and kind."""
    for condition, agreement in agreements.items():
        arm = f"{condition.model}, {condition.task}, {condition.kind}, {condition.style} {condition.order}"
        unread = agreement.unreadable
        missing = f"; without a readable judgement: {count_reasons(unread)}" if unread else ""
        echo(
            f"{arm}, {condition.shots} shots, {condition.verbosity}: mentioned by phrase list and judge "
            f"{agreement.both}, by the phrase list only {agreement.only_phrases}, by the judge only "
            f"{agreement.only_judge}, by neither {agreement.neither}{missing}."
        )
    echo()
