"""`explaineval judge`: models and people decide which explanations mention what was inserted, beside the policies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from explaineval.assist.questions import (
    Agreement,
    Question,
    compare_judgements,
    judge_questions,
    judging,
    verdicts_of,
)
from explaineval.assist.session import Assistant
from explaineval.cli.app import JUDGE, CommandWithActions
from explaineval.cli.configuration import resolve_role
from explaineval.cli.options import JSON, PATH, Names, offered, option, options, role_options
from explaineval.cli.output import (
    SCREEN_WIDTH,
    columns,
    count_reasons,
    echo,
    echo_document,
    echo_notes,
    echo_scores,
    echo_text,
    finish,
    totals_line,
)
from explaineval.cli.plan import cost_lines
from explaineval.cli.progress import watch_lines
from explaineval.errors import ExitCode, InputError
from explaineval.execution.dry_run import cost_notes
from explaineval.planning.cost import read_price_list, total_costs
from explaineval.prompts import PromptBook, default_directory
from explaineval.records import EXPLANATION, REASONING, Condition
from explaineval.rundir.directory import VERDICTS, read_run, read_trials, replace_verdicts
from explaineval.rundir.ledger import account_of
from explaineval.scoring.codes import Note, note
from explaineval.scoring.mentioning import MENTIONED
from explaineval.scoring.rows import Scores, score
from explaineval.text import counted


@click.group("judge", cls=CommandWithActions, sections=JUDGE)
@click.argument("run_dir", type=PATH)
@options(
    option(
        "--judge-model",
        multiple=True,
        type=Names(),
        metavar="PROVIDER/MODEL",
        help="Model that judges which explanations mention the insertion. Repeatable.",
    ),
    *role_options("judge", "")[1:],
    offered("prompts", help="Prompts with your own judge/words.j2 and judge/cues.j2."),
    option(
        "--channel",
        type=click.Choice([EXPLANATION, REASONING]),
        default=EXPLANATION,
        show_default=True,
        help="What is judged: the explanation, or the reasoning before the answer.",
    ),
    option("--plan", is_flag=True, default=False, help="Show what would be asked and cost; send nothing."),
    offered("max_usd"),
    offered("spent"),
    offered("offline", default=False, help="Use the judges' stored answers only."),
    offered("batch", default=False, help="Ask through the provider's batch endpoint."),
    *map(offered, ("batch_poll", "batch_wait", "transport", "patience", "cache")),
    JSON,
)
def judge_command(run_dir: Path, json: bool, **given: Any) -> int:
    """Let models judge which explanations of RUN_DIR mention what was inserted, in three grades.

    Absent, mentioned but not as a reason, or given as a reason. A mention policy misses synonyms, a list of phrases
    misses paraphrases. Each judge is asked once for each distinct insertion and explanation, through the cache and
    under --max-usd. Its verdicts are kept in RUN_DIR/verdicts.jsonl, so that `score` computes every number by each
    judge (mention `judge`; with the last grade alone, `judge_reason`) without the cache. Where no verdict can be read,
    the trial counts as missing.

    `judge sheet` writes a sheet that people fill in without knowing the answer; `judge agree` compares it with all
    policies and judges, and corrects phi for their errors.
    """
    if not any(given["judge_model"]):
        raise InputError("no judge given: add --judge-model PROVIDER/MODEL.")
    score(run_dir)  # refuses an incomplete directory before any money is spent
    channel = given["channel"]
    questions = judge_questions(run_dir, channel)
    prompts = PromptBook(given["prompts"] or default_directory())
    models = list(dict.fromkeys(filter(None, given["judge_model"])))
    judges = [resolve_role("judge", {**given, "judge_model": model}, prompts) for model in models]
    if given["plan"]:
        return _plan(judges, questions, given["max_usd"], json=json)
    notes: list[Note] = []
    agreements: dict[str, dict[Condition, Agreement]] = {}
    failed = []
    with account_of(run_dir, "judge", offline=bool(given["offline"])) as account:
        for model in models:
            judge = resolve_role("judge", {**given, "judge_model": model}, prompts)
            judged = judging(judge, questions).ask(watch_lines(f"judge {model}"), account)
            judgements = dict(zip(questions, judged.results, strict=True))
            verdicts = list(verdicts_of(read_trials(run_dir), judge, judgements, channel))
            if verdicts:
                replace_verdicts(run_dir, verdicts)
            agreements[model] = compare_judgements(
                read_trials(run_dir), judgements, read_run(run_dir).config.mention, channel
            )
            echo_notes([f"judge {model}: {totals_line(judged.totals)}"])
            if judged.failed:
                requests = counted(judged.failed, "request")
                failed.append(note("requests_failed", who=f"judge {model}", requests=requests))
    notes += failed
    notes.append(note("scored_otherwise", "judged", file=run_dir / VERDICTS))
    echo_notes(notes)
    everything = score(run_dir)
    scores = _by_judges(everything, models, channel)
    code = ExitCode.ENDPOINT if failed else ExitCode.DONE
    if json:
        document = {
            "run_dir": str(run_dir),
            "agreement": [
                _document(condition._replace(judge=model), row)
                for model, by_condition in agreements.items()
                for condition, row in by_condition.items()
            ],
            "metrics": [row.model_dump(mode="json") for row in scores.rows],
        }
        echo_document(document, notes, scores, code, " ".join(one.text for one in failed))
    else:
        for model, by_condition in agreements.items():
            _echo_agreements(model, by_condition)
        echo_scores(everything, run_dir)  # the run's own numbers, and all sources of mentions side by side
    return code


def _plan(judges: Sequence[Assistant], questions: Sequence[Question], limit: float | None, *, json: bool) -> int:
    """Print what the judges would be asked and cost, as `plan` does for a run."""
    costs = [judging(judge, questions).plan() for judge in judges]
    total = total_costs(costs)
    document = {"models": [cost.document() for cost in costs], "total": total}
    lines = cost_lines(costs, total, limit, read_price_list().version)
    return finish(document, lines, cost_notes(costs, "--judge-price"), json=json)


def _by_judges(scores: Scores, models: Sequence[str], channel: str) -> Scores:
    """Return what of the scores rests on the verdicts of these judges in this channel."""

    def is_theirs(condition: Condition) -> bool:
        return condition.judge in models and condition.channel == channel and condition.mention in MENTIONED

    rows = tuple(row for row in scores.rows if is_theirs(row.condition))
    warnings = tuple(warning for warning in scores.warnings if is_theirs(warning.condition))
    return Scores(rows, warnings, {})


def _document(condition: Condition, agreement: Agreement) -> dict[str, Any]:
    return {
        **condition._asdict(),
        "both": agreement.both,
        "only_phrases": agreement.only_policy,
        "only_judge": agreement.only_judge,
        "neither": agreement.neither,
        "grades": {grade: agreement.grades[grade] for grade in ("absent", "irrelevant", "reason")},
        "unreadable": agreement.unreadable.total(),
        "unreadable_reasons": dict(agreement.unreadable),
    }


def _echo_agreements(model: str, agreements: Mapping[Condition, Agreement]) -> None:
    """Print one sentence for each model, task, arm and kind."""
    for condition, agreement in agreements.items():
        text = " ".join(_sentences(model, condition, agreement))
        echo_text(text, columns(SCREEN_WIDTH), "", "  ")
    echo()


def _sentences(model: str, condition: Condition, agreement: Agreement) -> Iterator[str]:
    arm = f"{condition.model}, {condition.task}, {condition.kind}, {condition.style} {condition.order}"
    by = "the phrase list" if condition.mention == "phrases" else f"the policy {condition.mention}"
    yield (
        f"{arm}, {counted(condition.shots, 'shot')}, {condition.verbosity}: mentioned by {by} and {model} "
        f"{agreement.both}, by "
        f"{by} only {agreement.only_policy}, by {model} only {agreement.only_judge}, by neither {agreement.neither}."
    )
    if agreement.grades:
        yield (
            f"{model} graded {agreement.grades['absent']} absent, {agreement.grades['irrelevant']} mentioned but not "
            f"as a reason, {agreement.grades['reason']} given as a reason."
        )
    if agreement.unreadable:
        yield f"Without a readable verdict: {count_reasons(agreement.unreadable)}."
