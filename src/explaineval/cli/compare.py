"""`explaineval compare`: paired differences of models, arms or runs, with intervals and ranks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from explaineval.cli.options import JSON, PATH, NumberRange, offered, option, options
from explaineval.cli.output import columns, echo, echo_document
from explaineval.errors import ExitCode, InputError
from explaineval.metrics.differences import SAME, Difference
from explaineval.records import Mention
from explaineval.reporting.comparison_text import remark_of
from explaineval.reporting.comparison_view import document_of, lines_of, warning_documents
from explaineval.scoring.codes import GRADES
from explaineval.scoring.comparisons import PRIMARY, By, Compared, GroupResult, comparable_metrics, compare_runs
from explaineval.text import interval_text

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
    option("--primary", metavar="KIND",
           help="Kind of intervention of the primary family.  [default: all but controls]"),
    option("--fail-if-lower", metavar="METRIC:MARGIN",
           help="Exit with 6 where METRIC is shown to be lower by more than MARGIN, with 7 where that cannot be "
           "decided. Needs two runs, or --against."),
    offered("mention", default_text="each run's own"),
    offered("seed", default=0, help="Seed of the draws that adjust p-values."),
    JSON,
)  # fmt: skip
def compare_command(
    run_dirs: Sequence[Path],
    by: By | None,
    against: str | None,
    equivalent: float | None,
    impact_rate: float | None,
    primary: str | None,
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
    gate = None if fail_if_lower is None else _read_gate(fail_if_lower, len(run_dirs), against, by)
    results = compare_runs(
        run_dirs,
        by=by, against=against, equivalent=equivalent, impact_rate=impact_rate, primary=primary, mention=mention,
        seed=seed,
    )  # fmt: skip
    findings = [] if gate is None else list(gate_findings(results, *gate))
    code = ExitCode.worst(found for found, _ in findings)
    if json:
        text = " ".join(sentence for _, sentence in findings)
        echo_document(document_of(results), [], None, code, text, warning_documents(results))
        return code
    for line in lines_of(results, columns(NARROW)):
        echo(line)
    for _, sentence in findings:
        echo(f"explaineval: {sentence}", err=True)
    return code


def _read_gate(text: str, runs: int, against: str | None, by: By | None) -> tuple[str, float]:
    """Read METRIC:MARGIN. Raises InputError, also where nothing says which numbers are the old ones."""
    found = re.fullmatch(r"(\w+):(\d+\.?\d*|\.\d+)", text)
    known = [*comparable_metrics(0.5), *comparable_metrics(0.5, over_levels=True)]
    if found is None or found[1] not in known:
        raise InputError(
            f"--fail-if-lower {text}: write METRIC:MARGIN, as phi_cct:0.05, with a METRIC of {', '.join(known)}."
        )
    if against is None and (runs != 2 or by == "arm"):
        raise InputError("--fail-if-lower: give two run directories, the earlier one first, or --against NAME.")
    return found[1], float(found[2])


def gate_findings(results: Sequence[GroupResult], metric: str, margin: float) -> Iterator[tuple[ExitCode, str]]:
    """Yield why a gate is not passed: each difference that is shown to be lower or that cannot be decided.

    The differences are new minus old on the tasks (or their mean) and kinds of the primary family: a run minus the
    earlier one, with a reference each other one minus that.
    """
    named = any(result.reference is not None for result in results)
    kinds = {compared.kind for result in results for compared in result.families if compared.primary}
    gated = False
    for result in results:
        if named and result.reference is None:
            continue
        model = result.group.fixed["model"]
        where = f"for {model}, " if model else ""
        if not result.families:
            gated = True
            yield ExitCode.UNDECIDED, f"{where}{metric} of {' and '.join(result.group.names)}: they share no trial."
        for leading in result.leading:
            compared = result.family(metric, leading)
            if compared is None or (kinds and leading.kind not in kinds):
                continue  # of single arms in a group over levels or the other way round, or a control
            for number, row in enumerate(compared.family.differences):
                systems = result.group.systems[row.first], result.group.systems[row.second]
                if not named and systems[0].run == systems[1].run:
                    continue
                gated = True
                found = _outcome(compared, number, row, margin)
                if found is not None:
                    code, why = found
                    names = f"{result.group.names[row.first]} minus {result.group.names[row.second]}"
                    context = f" ({', '.join(compared.context)})" if compared.context else ""
                    yield code, f"{where}{metric} of {names}{context} {why}"
    if not gated:
        yield ExitCode.UNDECIDED, f"{metric} cannot be decided: nothing here has it to compare."


def _outcome(compared: Compared, number: int, row: Difference, margin: float) -> tuple[ExitCode, str] | None:
    """Return why one difference does not pass the gate; None where it does."""
    pair = row.first, row.second
    grave = [
        f"{carried.about(compared.group.names[number])}: {carried.warning.text.rstrip('.')}"
        for number in pair
        for carried in compared.carried[number]
        if carried.warning.grade == GRADES[0]
    ]
    if grave:
        why = "; ".join(grave)
        return ExitCode.UNDECIDED, f"cannot be decided: a number is marked do not quote ({why})."
    low, high = row.low_adjusted, row.high_adjusted
    if low is None or high is None:
        return ExitCode.UNDECIDED, f"cannot be decided: {compared.why_undefined(row) or 'it has no interval'}."
    if low > -margin or row.note == SAME:
        return None
    limits = interval_text(low, high, 3)
    if high < -margin and (compared.metric != PRIMARY or compared.claims[number].name == "more_faithful"):
        return ExitCode.DIFFERENT, f"is shown to be lower: its interval {limits} lies below {-margin or 0:g}."
    if high < -margin:
        why = remark_of(compared, number) or "it is no difference in faithfulness"
        return ExitCode.UNDECIDED, f"cannot be decided: its interval {limits} lies below {-margin or 0:g}, but: {why}."
    return ExitCode.UNDECIDED, f"cannot be decided: its interval {limits} holds {-margin or 0:g}."
