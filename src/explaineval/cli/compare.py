"""`explaineval compare`: paired differences of models, arms or runs, with intervals and ranks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import click

from explaineval.cli.options import JSON, PATH, NumberRange, option, options
from explaineval.cli.output import columns, echo, echo_document
from explaineval.errors import ExitCode, InputError
from explaineval.records import Mention
from explaineval.reporting.comparison_document import document_of, warning_documents
from explaineval.reporting.comparison_view import lines_of
from explaineval.scoring.comparisons import By, GroupResult, comparable_metrics, compare_runs

NARROW = 100
"""Columns of a comparison that is not printed on a terminal."""


@click.command("compare")
@click.argument("run_dirs", type=PATH, nargs=-1, required=True, metavar="RUN_DIR...")
@options(
    option("--by", type=click.Choice(["model", "arm", "run"]), help="What to compare.  [default: what differs]"),
    option("--against", metavar="NAME", help="Test the others against this model (arm, run), named beforehand."),
    option("--equivalent", type=NumberRange(0, 2, min_open=True), metavar="DELTA",
           help="Say which differ by less than DELTA, declared beforehand."),
    option("--impact-rate", type=NumberRange(0, 1, min_open=True, max_open=True), metavar="P",
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

    The first line is a sentence to quote. A difference is that of a later RUN_DIR minus an earlier one, within a run
    that of the first model minus the second, with --against that of each other model minus the one named. Without
    --against all pairs are tested, and their p-values and intervals are adjusted for their number.
    """
    gate = None if fail_if_lower is None else _read_gate(fail_if_lower)
    results = compare_runs(
        run_dirs, by=by, against=against, equivalent=equivalent, impact_rate=impact_rate, mention=mention, seed=seed
    )
    failures = [] if gate is None else gate_failures(results, *gate)
    code = ExitCode.DIFFERENT if failures else ExitCode.DONE
    if json:
        echo_document(document_of(results), [], None, code, " ".join(failures), warning_documents(results))
        return code
    for line in lines_of(results, columns(NARROW)):
        echo(line)
    for failure in failures:
        echo(f"explaineval: {failure}", err=True)
    return code


def _read_gate(text: str) -> tuple[str, float]:
    """Read METRIC[:MARGIN]. Raises InputError."""
    found = re.fullmatch(r"(\w+)(?::(\d+\.?\d*|\.\d+))?", text)
    known = [*comparable_metrics(0.5), *comparable_metrics(0.5, over_levels=True)]
    if found is None or found[1] not in known:
        raise InputError(f"--fail-if-lower {text}: write METRIC or METRIC:MARGIN, with a METRIC of {', '.join(known)}.")
    return found[1], float(found[2] or 0)


def gate_failures(results: Sequence[GroupResult], metric: str, margin: float) -> list[str]:
    """Say why a gate is not passed: each difference whose lower limit is not above −margin, or that has none.

    The differences are those on the tasks (or their mean) and kinds of the primary families. With a reference only the
    groups that have it count.
    """
    named = any(result.reference is not None for result in results)
    sentences, gated = [], 0
    for result in results:
        if named and result.reference is None:
            continue
        names, model = result.group.names, result.group.fixed["model"]
        where = f"for {model}, " if model else ""
        if not result.families:
            sentences.append(f"{where}{metric} of {' and '.join(names)} does not pass: they share no trial.")
        for primary in result.primary:
            compared = result.family(metric, primary)
            if compared is None:  # a metric of single arms in a group over levels, or the other way round
                continue
            for row in compared.family.differences:
                gated += 1
                what = f"{where}{metric} of {names[row.first]} minus {names[row.second]} does not pass"
                if row.low_adjusted is None:
                    sentences.append(f"{what}: {compared.why_undefined(row) or 'it has no interval'}.")
                elif not row.low_adjusted > -margin:
                    sentences.append(f"{what}: its lower limit is {row.low_adjusted:.3f}, not above {-margin or 0:g}.")
    if not gated and not sentences:
        sentences.append(f"{metric} does not pass: nothing here has it to compare.")
    return sentences
