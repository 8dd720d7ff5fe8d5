"""Say in sentences what predictors made of a model's explanations (simulatability)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from explaineval.records import Condition, MetricRow
from explaineval.reporting.condition_text import describe
from explaineval.reporting.summary import Line, wrap
from explaineval.reporting.view import ShownNumber
from explaineval.scoring.metric import PredictionMetric
from explaineval.scoring.predictions import PANEL
from explaineval.scoring.registry import (
    ACCURACY_WITH,
    ACCURACY_WITHOUT,
    GAIN_BALANCED,
    GAIN_DIFFERENCE,
    GAIN_SHUFFLED,
    METRICS,
    NSG,
    NSG_DIFFERENCE,
    NSG_SHUFFLED,
)
from explaineval.scoring.warnings import RowWarning
from explaineval.text import counted, share_text


def prediction_lines(rows: Sequence[MetricRow], warnings: Sequence[RowWarning], width: int) -> Iterator[Line]:
    """Yield a block for each condition and predictor, or panel of predictors; nothing where nobody predicted."""
    predicted = [row for row in rows if isinstance(METRICS[row.metric], PredictionMetric)]
    conditions: dict[Condition, dict[str, MetricRow]] = {}
    for row in predicted:
        conditions.setdefault(row.condition, {})[row.metric] = row
    for condition, numbers in conditions.items():
        yield Line("")
        yield from _block(condition, numbers, rows, [row for row in warnings if row.condition == condition], width)


def _block(
    condition: Condition,
    numbers: Mapping[str, MetricRow],
    rows: Sequence[MetricRow],
    warnings: Sequence[RowWarning],
    width: int,
) -> Iterator[Line]:
    gain = numbers[GAIN_BALANCED]
    by = "all predictors together" if condition.judge == PANEL else f"predicted by {condition.judge}"
    head = (
        f"{describe(condition.without_mention, rows)} · {by} · {counted(gain.n, 'trial')} of "
        f"{counted(gain.n_examples, 'example')}"
    )
    yield from wrap(f"  {head}", width, "    ", "head")
    if gain.value is None:
        yield from wrap(f"  Gain from the explanation, balanced: undefined ({gain.undefined}).", width, "    ")
    else:
        verdict = _verdict(gain, numbers.get(GAIN_DIFFERENCE))
        yield from wrap(f"  Gain from the explanation, balanced: {_number(gain)}{verdict}.", width, "    ")
    if GAIN_SHUFFLED in numbers:
        text = f"With another example's explanation: {_number(numbers[GAIN_SHUFFLED])}"
        if numbers[GAIN_DIFFERENCE].value is not None:
            text += f"; the model's own minus that: {_number(numbers[GAIN_DIFFERENCE])}"
        yield from wrap(f"  {text}.", width, "    ")
    with_it, without = numbers[ACCURACY_WITH], numbers[ACCURACY_WITHOUT]
    if with_it.value is not None and without.value is not None:
        text = (
            f"The next answer was predicted rightly in {share_text(with_it.value)} with the explanation, in "
            f"{share_text(without.value)} without it."
        )
        yield from wrap(f"  {text}", width, "    ")
    yield from wrap(f"  Share of errors that it mends (NSG): {_number(numbers[NSG])}.", width, "    ")
    if NSG_SHUFFLED in numbers:
        text = f"NSG with another example's explanation: {_number(numbers[NSG_SHUFFLED])}"
        if numbers[NSG_DIFFERENCE].value is not None:
            text += f"; the model's own minus that: {_number(numbers[NSG_DIFFERENCE])}"
        yield from wrap(f"  {text}.", width, "    ")
    grave = dict.fromkeys(row.warning.text for row in warnings if row.warning.grade == "do not quote")
    for text in grave:
        yield from wrap(f"  Do not quote: {text}", width, "    ", "warning")


def _verdict(gain: MetricRow, difference: MetricRow | None) -> str:
    """Say what follows from a gain and from its difference to the control, where another example's explanation is read.

    An explanation helps to predict the model only if it helps more than one of another example.
    """
    if gain.low is None or gain.high is None:
        return ""
    tested = difference is not None and difference.value is not None
    own = _side_of_0(difference)
    if gain.low > 0:
        if own > 0:
            return ": it helps to predict the model, more than another example's explanation"
        if own < 0:
            return ": the predictor gains, but less than from another example's explanation"
        if tested:
            return ": the predictor gains, but no more is shown than from another example's explanation"
        return ": the predictor gains; whether from what it says of this example is not known without the control"
    if gain.high < 0:
        if own < 0:
            return ": it misleads, more than another example's explanation"
        if own > 0:
            return ": the predictor loses, but less than with another example's explanation"
        if tested:
            return ": the predictor loses, but no more is shown than with another example's explanation"
        return ": the predictor loses; whether by what it says of this example is not known without the control"
    return ": no gain can be seen" + (", though it helps more than another example's explanation" if own > 0 else "")


def _side_of_0(row: MetricRow | None) -> int:
    """Return 1 where an interval lies above 0, -1 where below, 0 else."""
    if row is None or row.low is None or row.high is None:
        return 0
    return 1 if row.low > 0 else -1 if row.high < 0 else 0


def _number(row: MetricRow) -> str:
    if row.value is None:
        return f"undefined ({row.undefined})"
    return str(ShownNumber(row))
