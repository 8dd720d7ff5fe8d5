"""`explaineval simulate`: whether a model's explanations let another model predict its answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from explaineval.assist.questions import PredictionQuestion, merge_predictions, predicting, prediction_questions
from explaineval.cli.configuration import resolve_role
from explaineval.cli.options import JSON, PATH, offered, option, options, role_options
from explaineval.cli.output import (
    SCREEN_WIDTH,
    columns,
    echo_document,
    echo_lines,
    echo_notes,
    finish,
    run_document,
    totals_line,
)
from explaineval.cli.plan import cost_lines
from explaineval.cli.progress import watch_lines
from explaineval.errors import ExitCode, InputError
from explaineval.execution.dry_run import cost_notes
from explaineval.planning.cost import read_price_list, total_costs
from explaineval.prompts import PromptBook, default_directory
from explaineval.reporting.screen import prediction_lines
from explaineval.rundir import directory as run_directory
from explaineval.rundir.ledger import account_of
from explaineval.rundir.schema import Prediction
from explaineval.scoring.codes import Note, note
from explaineval.scoring.metric import PredictionMetric
from explaineval.scoring.registry import METRICS
from explaineval.scoring.rows import Scores, score
from explaineval.text import counted

if TYPE_CHECKING:
    from explaineval.assist.session import Assistant


@click.command("simulate")
@click.argument("run_dir", type=PATH)
@options(
    *role_options("predictor", "Model that predicts the answers."),
    offered("limit", default_text="all"),
    option("--shuffled/--no-shuffled", default=True,
           help="Also predict with other examples' explanations, as a control."),
    offered("seed", default=0, help="Seed of the draws for the control."),
    offered("prompts", help="Prompts with your own simulate.j2."),
    option("--plan", is_flag=True, default=False, help="Say what it would ask and cost; nothing is sent."),
    offered("max_usd"),
    offered("spent"),
    offered("offline", default=False, help="Use the predictor's stored answers only."),
    offered("batch", default=False, help="Ask through the provider's batch endpoint."),
    *map(offered, ("batch_poll", "batch_wait", "transport", "patience", "cache")),
    JSON,
)  # fmt: skip
def simulate_command(
    run_dir: Path, limit: int | None, shuffled: bool, seed: int, plan: bool, json: bool, **given: Any
) -> int:
    """Find out whether the explanations of RUN_DIR let another model predict what the model answers next.

    For every scored trial a predictor sees the original question and the model's answer, and predicts the answer to the
    changed question: once without and once with the model's explanation, and as a control with an explanation of the
    same answer to another example. The predictions are stored in RUN_DIR, where `score` finds them; those of several
    predictors, asked one after the other, stand side by side and together as a panel.
    """
    if not given["predictor_model"]:
        raise InputError("no predictor given: add --predictor-model PROVIDER/MODEL.")
    score(run_dir)  # refuses an incomplete directory before any money is spent
    questions = prediction_questions(run_dir, limit=limit, shuffled=shuffled, seed=seed)
    predictor = resolve_role("predictor", given, PromptBook(given["prompts"] or default_directory()))
    if plan:
        return _echo_plan(predictor, questions, json=json)
    with account_of(run_dir, "simulate", offline=predictor.client.offline) as account:
        session = predicting(predictor, questions).ask(watch_lines("predictor"), account)
    scores = _store(run_dir, session.results)
    echo_notes([f"predictor: {totals_line(session.totals)}"])
    notes = []
    if session.failed:
        notes.append(note("requests_failed", who="predictor", requests=counted(session.failed, "request")))
    failed = " ".join(one.text for one in notes)
    notes += _unread_notes(session.results)
    echo_notes(notes)
    code = ExitCode.ENDPOINT if session.failed else ExitCode.DONE
    shown = _predicted(scores)
    if json:
        run = run_directory.read_run(run_dir)
        echo_document(run_document(run_dir, code, run.signature, session.totals, shown), notes, shown, code, failed)
    else:
        echo_lines(prediction_lines(shown.rows, shown.warnings, columns(SCREEN_WIDTH)))
    return code


def _store(run_dir: Path, predictions: Sequence[Prediction]) -> Scores:
    """Keep the predictions in the run directory, and compute its metrics anew with them."""
    with run_directory.locked(run_dir):
        merged = merge_predictions(run_directory.read_predictions(run_dir), predictions)
        run_directory.write_predictions(run_dir, merged)
        scores = score(run_dir)
        run_directory.write_metrics(run_dir, scores.rows)
    return scores


def _predicted(scores: Scores) -> Scores:
    """Return the part of the scores that predictors made."""
    rows = tuple(row for row in scores.rows if isinstance(METRICS[row.metric], PredictionMetric))
    names = {row.condition for row in rows}
    return Scores(rows, tuple(warning for warning in scores.warnings if warning.condition in names), {})


def _echo_plan(predictor: Assistant, questions: Sequence[PredictionQuestion], *, json: bool) -> int:
    cost = predicting(predictor, questions).plan()
    total = total_costs([cost])
    lines = cost_lines([cost], total, predictor.client.max_usd, read_price_list().version)
    return finish(
        {"models": [cost.document()], "total": total}, lines, list(cost_notes([cost], "--predictor-price")), json=json
    )


def _unread_notes(predictions: Sequence[Prediction]) -> list[Note]:
    unread = sum(prediction.label is None and prediction.status != "failed" for prediction in predictions)
    if not unread:
        return []
    return [note("predictor_unread", unread=f"{unread:,}", predictions=counted(len(predictions), "prediction"))]
