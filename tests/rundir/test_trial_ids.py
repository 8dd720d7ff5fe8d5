"""The id of a trial names it in verdicts, predictions and links."""

from __future__ import annotations

import pytest

from explaineval.records import Trial
from makers.runs import make_trial


def test_the_id_of_a_trial_is_pinned() -> None:
    """Another id would lose the verdicts and links that were made with it."""
    assert Trial.model_validate(make_trial(1, 0)).id == "07b735ae6a7033a6"


@pytest.mark.parametrize(
    "changes",
    [{"endpoint": "elsewhere"}, {"model": "a/b"}, {"task": "qa"}, {"order": "ep"}, {"style": "completion"},
     {"shots": 3}, {"verbosity": "brief"}, {"sample": 1}, {"example_id": "other"}, {"intervention_id": "other"},
     {"kind": "editor"}],
)  # fmt: skip
def test_trials_that_differ_have_different_ids(changes: dict[str, object]) -> None:
    """Everything that tells two trials of a run apart is in the id."""
    trial = make_trial(1, 0)

    assert Trial.model_validate({**trial, **changes}).id != Trial.model_validate(trial).id


def test_the_id_does_not_depend_on_the_answers() -> None:
    """A trial that is read otherwise keeps its verdicts."""
    trial = make_trial(1, 0)

    assert Trial.model_validate({**trial, "explanation": "other"}).id == Trial.model_validate(trial).id
