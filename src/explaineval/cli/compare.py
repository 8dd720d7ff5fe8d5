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
from explaineval.records import Mention
from explaineval.reporting.comparison_view import document_of, lines_of, titles, warning_documents
from explaineval.scoring.comparisons import By, Compared, GroupResult, comparables, compare_runs

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
    results = compare_runs(
        run_dirs, by=by, against=against, equivalent=equivalent, impact_rate=impact_rate, mention=mention, seed=seed
    )
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
