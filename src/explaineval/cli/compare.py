"""`explaineval compare`: paired differences of models, arms or runs, with intervals and ranks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from explaineval.cli.options import JSON, PATH, option, options
from explaineval.cli.output import columns, echo, echo_document
from explaineval.errors import InputError
from explaineval.records import Mention, Trial
from explaineval.reporting.comparison_view import document_of, lines_of, titles, warning_documents
from explaineval.rundir.directory import PROMPTS, read_run, read_trials
from explaineval.scoring.comparisons import (
    By,
    Choices,
    Compared,
    Group,
    GroupResult,
    ModelSize,
    comparables,
    compare_all,
    form_groups,
)
from explaineval.scoring.mentioning import is_mentioned, phrases_in
from explaineval.scoring.shared import Trials

NARROW = 100
"""Columns of a comparison that is not printed on a terminal."""

DIFFERENT = 6
"""Exit code of a gate that is not passed."""


@click.command("compare")
@click.argument("run_dirs", type=PATH, nargs=-1, required=True, metavar="RUN_DIR...")
@options(
    option("--by", type=click.Choice(["model", "arm", "run"]), help="What to compare.  [default: what differs]"),
    option("--against", metavar="NAME", help="Test the others against this model (arm, run), named beforehand."),
    option("--equivalent", type=click.FloatRange(0, 2, min_open=True), metavar="DELTA",
           help="Say which differ by less than DELTA, declared beforehand."),
    option("--impact-rate", type=click.FloatRange(0, 1, min_open=True, max_open=True), metavar="P",
           help="Impact rate of phi_at_p.  [default: the mean of the models]"),
    option("--fail-if-lower", metavar="METRIC[:MARGIN]",
           help="Exit with 6 unless the difference of METRIC is above -MARGIN, by its lower limit."),
    option("--mention", type=click.Choice(["word", "lemma", "substring"]), help="Mention policy."),
    option("--seed", type=int, default=0, show_default=True, help="Seed of the draws that adjust p-values."),
    JSON,
)  # fmt: skip
def compare_command(
    run_dirs: Sequence[Path],
    by: By | None,
    against: str | None,
    equivalent: float | None,
    impact_rate: float | None,
    fail_if_lower: str | None,
    mention: Mention | None,
    seed: int,
    json: bool,
) -> int:
    """Compare models, arms of one model, or runs on the trials that all of them share.

    The first line is a sentence to quote. With two RUN_DIRs of one model the difference is the second minus the first.
    Without --against all pairs are tested, and their p-values and intervals are adjusted for their number.
    """
    gate = None if fail_if_lower is None else _read_gate(fail_if_lower)
    trials = Trials()
    sizes: dict[tuple[str | None, str], ModelSize] = {}
    for number, directory in enumerate(run_dirs):
        sizes |= _add_run(trials, number, directory, mention)
    groups = form_groups(list(trials.systems), by, [str(path) for path in run_dirs])
    if not groups:
        raise InputError("there is nothing to compare: give runs with two models, two arms, or two runs of one model.")
    references = [_reference(group, against) for group in groups]
    if against is not None and all(reference is None for reference in references):
        names = dict.fromkeys(name for group in groups for name in group.names)
        raise InputError(f"--against {against}: there is no such name among {', '.join(names)}.")
    choices = Choices(equivalent=equivalent, impact_rate=impact_rate, seed=seed, sizes=sizes)
    results = compare_all(trials, groups, choices, references)
    if not any(result.families for result in results):
        raise InputError("there is nothing to compare: no trial has a score in two of the models, arms or runs.")
    failures = [] if gate is None else _failures(results, *gate)
    code = DIFFERENT if failures else 0
    if json:
        echo_document(document_of(results, titles()), [], None, code, " ".join(failures), warning_documents(results))
        return code
    for line in lines_of(results, titles(), columns(NARROW)):
        echo(line)
    for failure in failures:
        echo(f"explaineval: {failure}", err=True)
    return code


def _add_run(
    trials: Trials, number: int, directory: Path, mention: Mention | None
) -> dict[tuple[str | None, str], ModelSize]:
    """Count the trials of a run; return what its configuration says of the sizes of its models."""
    config = read_run(directory).config
    phrases = phrases_in(directory / PROMPTS)
    policy = mention or config.mention

    def judge(trial: Trial) -> bool | None:
        if policy == config.mention:
            return trial.mentioned
        return is_mentioned(policy, trial.kind, trial.inserted or "", trial.explanation or "", phrases(trial.kind))

    trials.add(number, read_trials(directory), judge)
    return {
        (model.endpoint, model.model): ModelSize(model.family, model.parameters)
        for model in config.models
        if model.family is not None and model.parameters is not None
    }


def _reference(group: Group, against: str | None) -> int | None:
    """The number of the system that is named, in full or without its provider; two runs are compared with the first."""
    if against is None:
        return None
    for number, name in enumerate(group.names):
        if against in (name, name.partition("/")[2]):
            return number
    return None


def _read_gate(text: str) -> tuple[str, float]:
    found = re.fullmatch(r"(\w+)(?::(\d*\.?\d+))?", text)
    known = [metric.metric for metric in comparables(0.5)]
    if found is None or found[1] not in known:
        raise InputError(f"--fail-if-lower {text}: write METRIC or METRIC:MARGIN, with a METRIC of {', '.join(known)}.")
    return found[1], float(found[2] or 0)


def _failures(results: Sequence[GroupResult], metric: str, margin: float) -> list[str]:
    """Why the gate is not passed: each difference whose lower limit is not above −margin, or that has none.

    A difference is that of a system and the reference; without one, of a later system and an earlier one.
    """
    sentences = []
    for result in results:
        for compared in _main_families(result, metric):
            for row in compared.family.differences:
                names = compared.group.names
                later, earlier = names[row.second], names[row.first]
                low = None if row.high_adjusted is None else -row.high_adjusted
                if result.reference is not None:
                    later, earlier, low = names[row.first], names[row.second], row.low_adjusted
                if low is None:
                    reason = row.undefined or "it has no interval"
                    sentences.append(f"{metric} of {later} against {earlier} does not pass: {reason}.")
                elif not low > -margin:
                    sentences.append(
                        f"{metric} of {later} against {earlier} does not pass: the difference may be as low as "
                        f"{low:.3f}, and {-margin:g} is the limit."
                    )
    return sentences


def _main_families(result: GroupResult, metric: str) -> list[Compared]:
    """The families of a metric on the same tasks and kinds as the primary ones."""
    found: list[Any] = [result.family(metric, compared) for compared in result.primary]
    return [compared for compared in found if compared is not None]
