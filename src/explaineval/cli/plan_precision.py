"""`explaineval plan --half-width`: how many examples an interval of phi-CCT needs, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from explaineval.cli.options import PATH, NumberRange, option, options
from explaineval.cli.output import SCREEN_WIDTH, columns
from explaineval.errors import InputError
from explaineval.planning.precision import Precision, Rates, expected_precision, piloted_precision
from explaineval.planning.prepare import Prepared
from explaineval.text import FEWEST_FOR_PERCENT, counted, hits_text, number_text, significant_text, wrapped

PRECISION = options(
    option(
        "--half-width",
        type=NumberRange(min=0, max=1, min_open=True, max_open=True),
        metavar="W",
        group="What to ask",
        help="Say how many examples bring the interval of phi-CCT to ± W in half of such runs and in nine of ten, at "
        "the rates of --expect or --pilot.",
    ),
    option(
        "--expect",
        metavar="NAME=X,...",
        group="What to ask",
        help="Rates that are expected: p (answers that change), tpr, fpr, icc (how far the changes of an example go "
        "together, 0 to 1).  [default: p=0.1,tpr=0.6,fpr=0.2,icc=0.4]",
    ),
    option("--pilot", type=PATH, metavar="RUN_DIR", group="What to ask", help="Take the rates from a first small run."),
)


def rates_source(half_width: float | None, expect: str | None, pilot: Path | None) -> Rates | Path:
    """Return the rates that the options give, or the run directory that has them. Raises InputError."""
    if half_width is None and (expect is not None or pilot is not None):
        raise InputError(f"{'--expect' if pilot is None else '--pilot'} goes with --half-width W: add it.")
    if expect is not None and pilot is not None:
        raise InputError("--expect and --pilot both give the rates: leave one of them out.")
    return read_rates(expect or "") if pilot is None else pilot


def precision_of(prepared: Prepared, half_width: float, source: Rates | Path) -> list[Precision]:
    """Return how many examples each task and kind of a plan takes. Raises InputError."""
    if isinstance(source, Path):
        return piloted_precision(prepared, half_width, source)
    return expected_precision(prepared, half_width, source)


def read_rates(text: str) -> Rates:
    """Return the rates of `p=0.1,tpr=0.6`, those that are not named as by default. Raises InputError."""
    values: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        if name not in Rates._fields or not equals:
            raise InputError(f"--expect {part!r}: write NAME=X with a NAME of {', '.join(Rates._fields)}.")
        try:
            values[name] = float(value)
        except ValueError:
            values[name] = -1.0
        if not 0 <= values[name] <= 1:
            raise InputError(f"--expect {part!r}: give a number from 0 to 1.")
    return Rates(**values)


def precision_lines(found: Sequence[Precision], source: Rates | Path) -> Iterator[str]:
    """Yield the sentences: first what is wanted, then a paragraph for each task and kind, or condition of the pilot."""
    if not found:
        return
    width = columns(SCREEN_WIDTH)
    yield ""
    basis = f"as in {source}" if isinstance(source, Path) else "as expected"
    yield f"phi-CCT ± {found[0].half_width:g}, {basis}:"
    for one in found:
        yield from wrapped(_sentence(one), width, "  ", "    ")


def _sentence(one: Precision) -> str:
    from explaineval.reporting.view import describe

    name = f"{one.task} with {one.kind}" if one.condition is None else describe(one.condition, ())
    if one.examples is None or one.rates is None or one.phi is None:
        return f"{name}: unknown, since {one.undefined}."
    sure = (
        "the pilot is too small to say what nine of ten need"
        if one.examples_nine_in_ten is None
        else f"{_rounded(one.examples_nine_in_ten):,} in nine of ten"
    )
    changed, unchanged = one.outcomes or (FEWEST_FOR_PERCENT, FEWEST_FOR_PERCENT)  # expected rates count no trials

    def rate(value: float, trials: int) -> str:
        return hits_text(value, trials) or significant_text(value, 2)

    have = (
        ""
        if one.available_half_width is None
        else f", which give about ± {significant_text(one.available_half_width, 2)}"
    )
    in_task = f"the task has {one.in_task:,}" if one.in_task > one.available else "the task has no more"
    if one.in_task < one.examples:
        in_task += ", too few"
    return (
        f"{name}: {counted(_rounded(one.examples), 'example')} with {significant_text(one.trials)} "
        "interventions each reach "
        "it in half of "
        f"such runs, {sure}. This plan has {one.available:,}{have}; {in_task}. phi-CCT {number_text(one.phi)} "
        f"at an impact rate of {rate(one.rates.p, changed + unchanged)}, TPR {rate(one.rates.tpr, changed)}, FPR "
        f"{rate(one.rates.fpr, unchanged)}, changes of an example correlated by {significant_text(one.rates.icc, 2)}."
    )


def _rounded(number: int) -> int:
    """Return the number rounded up to three digits: fewer would be another number of runs in ten."""
    digits: int = 10 ** max(0, len(str(number)) - 3)
    return -(-number // digits) * digits
