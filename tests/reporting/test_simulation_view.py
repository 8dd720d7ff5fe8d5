"""The sentence on a predictor's gain looks at the control: what another example's explanation brings."""

from __future__ import annotations

import pytest

from explaineval.records import MetricRow
from explaineval.reporting.screen import gain_meaning
from explaineval.reporting.view import ShownNumber


def row(metric: str, value: float | None, low: float | None = None, high: float | None = None) -> MetricRow:
    """A row of one predictor."""
    fields = dict.fromkeys(MetricRow.model_fields)
    named = {"model": "openai/smol", "task": "mine", "order": "pe", "style": "chat", "shots": 0, "n": 90}
    rest = {"n_examples": 30, "signature": "s", "judge": "openai/reader"}
    limits = {"metric": metric, "value": value, "low": low, "high": high}
    return MetricRow.model_validate(fields | named | rest | limits)


GAINS, LOSES, NOTHING = (0.3, 0.2, 0.4), (-0.3, -0.4, -0.2), (0.05, -0.05, 0.15)


@pytest.mark.parametrize(
    ("gain", "difference", "said"),
    [
        (GAINS, GAINS, "it helps to predict the model, more than another example's explanation"),
        (GAINS, NOTHING, "the predictor gains, but no more is shown than from another example's explanation"),
        (GAINS, (0.0, None, None), "the predictor gains, but no more is shown than from another"),
        (GAINS, LOSES, "the predictor gains, but less than from another example's explanation"),
        (GAINS, None, "not known without the control"),
        (LOSES, LOSES, "it misleads, more than another example's explanation"),
        (LOSES, NOTHING, "the predictor loses, but no more is shown than with another"),
        (LOSES, GAINS, "the predictor loses, but less than with another example's explanation"),
        (NOTHING, NOTHING, "no gain can be seen"),
        (NOTHING, GAINS, "no gain can be seen, though it helps more than another example's explanation"),
    ],
)
def test_help_is_said_only_beyond_the_control(
    gain: tuple[float, ...], difference: tuple[float | None, ...] | None, said: str
) -> None:
    """It helps where the gain and its difference to the control are above 0."""
    control = None if difference is None else ShownNumber(row("simulation_gain_balanced_difference", *difference))

    assert said in gain_meaning(ShownNumber(row("simulation_gain_balanced", *gain)), control)
