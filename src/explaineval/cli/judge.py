"""`explaineval judge`: a model decides which explanations mention a cue, beside the phrase list."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from explaineval.assist.mention_judge import Agreement, compare_verdicts, find_questions, judge_mentions, score_judged
from explaineval.assist.session import Consultant
from explaineval.cli.options import CACHE, JSON, MAX_USD, READABLE, option, options, resolve
from explaineval.cli.output import echo, say, show_document, show_scores, summary_line
from explaineval.cli.progress import EVERY
from explaineval.errors import InputError
from explaineval.execution.model_run import ModelRun
from explaineval.planning.notes import note
from explaineval.prompts import PromptBook, default_directory
from explaineval.records import EXPLANATION, Condition
from explaineval.rundir.directory import read_trials
from explaineval.scoring.rows import score
from explaineval.signature import PHRASES

F = TypeVar("F", bound=Callable[..., Any])
ASKED = ("model", "base_url", "api_key_env", "price")


def consultant_options(role: str, what: str) -> tuple[Callable[[F], F], ...]:
    """`--ROLE-model` and where it is, what it costs, which variable holds its key."""
    return (
        option(f"--{role}-model", metavar="PROVIDER/MODEL", help=what),
        option(f"--{role}-base-url", metavar="URL", help="Its address, if it is not the provider's own."),
        option(f"--{role}-api-key-env", metavar="VAR", help="Environment variable that holds its key."),
        option(f"--{role}-price", metavar="IN,OUT", help="Its price in dollars per million tokens."),
    )


def consultant(role: str, given: dict[str, Any], prompts: PromptBook, spent: float) -> Consultant:
    """The model that the options name, with what is left of --max-usd after `spent`. Raises InputError."""
    asked = {name: given[f"{role}_{name}"] for name in ASKED}
    left = None if given["max_usd"] is None else max(0.0, given["max_usd"] - spent)
    common = {"cache": given["cache"], "offline": given["offline"], "max_usd": left}
    # resolve wants a task; everything else is read as `run` reads it
    science, transport, _ = resolve(None, {**asked, **common, "model": (asked["model"],), "task": ("none",)})
    return Consultant(role, science.models[0], transport, prompts)


def show_progress(role: str) -> Callable[[list[ModelRun]], None]:
    """Tell on standard error, now and then, how many requests are done, and that Ctrl-C was heard."""
    last = time.monotonic()
    told = 0

    def show(model_runs: list[ModelRun]) -> None:
        nonlocal last, told
        for message in (message for model_run in model_runs for message in model_run.messages[told:]):
            told += 1
            echo(f"explaineval: {message}", err=True)
        now = time.monotonic()
        if now - last >= EVERY:
            last = now
            hits, sent = (
                sum(getattr(model_run.cached.tally, name) for model_run in model_runs) for name in ("hits", "sent")
            )
            echo(f"explaineval: {role}: {hits + sent} requests done, {hits} of them from the cache", err=True)

    return show


def count_reasons(reasons: Counter[str]) -> str:
    """Reasons with their numbers, the most frequent first.

    >>> count_reasons(Counter({"unparsed": 1, "refused": 2}))
    '2 refused, 1 unparsed'
    """
    return ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items(), key=lambda pair: -pair[1]))


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
            "agreement": [_document(condition, one, who.model.model) for condition, one in agreements.items()],
            "metrics": [row.model_dump(mode="json") for row in scores.rows],
        }
        show_document(document, notes, scores, code, failed)
    else:
        _show(agreements)
        show_scores(scores)
    return code


def _document(condition: Condition, one: Agreement, judge: str) -> dict[str, Any]:
    about = condition._replace(channel=EXPLANATION, mention=PHRASES, judge=judge)
    counts = {name: getattr(one, name) for name in ("both", "only_phrases", "only_judge", "neither")}
    return {**about._asdict(), **counts, "unreadable": one.unreadable.total()}


def _show(agreements: Mapping[Condition, Agreement]) -> None:
    """One line per model, task, arm and kind."""
    for condition, one in agreements.items():
        where = f"{condition.model}, {condition.task}, {condition.kind}, {condition.style} {condition.order}"
        lost = f"; without a readable judgement: {count_reasons(one.unreadable)}" if one.unreadable else ""
        echo(
            f"{where}, {condition.shots} shots, {condition.verbosity}: mentioned by phrase list and judge {one.both}, "
            f"by the phrase list only {one.only_phrases}, by the judge only {one.only_judge}, by neither "
            f"{one.neither}{lost}."
        )
    echo()
