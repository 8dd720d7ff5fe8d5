"""The exit code of a run that ended for several reasons."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest

from explaineval.client.cached import CacheCounts
from explaineval.errors import ExitCode
from explaineval.execution import outcome

CAUSES = (130, 3, 5, 4)
"""From the worst to the mildest, as far as a run that began can end so (1 and 2 end it at once)."""


@pytest.mark.parametrize(
    "present", [set(causes) for n in range(5) for causes in itertools.combinations(CAUSES, n)], ids=str
)
def test_of_several_causes_the_worst_is_the_exit_code(monkeypatch: pytest.MonkeyPatch, present: set[int]) -> None:
    """Every combination of interrupted, no money, unusable endpoint and missing answers; each has its sentence."""
    monkeypatch.setattr(outcome, "_limit_error", lambda *_: "money" if 3 in present else None)
    monkeypatch.setattr(outcome, "_offline_error", lambda *_: "missing" if 4 in present else None)
    session = SimpleNamespace(
        client=SimpleNamespace(offline=4 in present),
        error="endpoint" if 5 in present else None,
        failed=0,
        not_sent=1,
        out_of_money=3 in present,
        counts=CacheCounts(),
        writer=SimpleNamespace(message=None, unstored=0),
        budgeted=None,
    )
    model_run = SimpleNamespace(session=session, unreadable=None, stops=[])
    prepared = SimpleNamespace(client=SimpleNamespace(max_usd=None))
    code, errors = outcome.run_ending(prepared, [model_run], None, interrupted=130 in present)  # type: ignore[arg-type, list-item]

    assert code == next((cause for cause in CAUSES if cause in present), 0)
    assert len(errors) == len(present)


def test_the_exit_codes_are_numbers_that_scripts_rely_on() -> None:
    """From the worst to the mildest: what each is, and that the worse of two neighbours is returned."""
    order = [
        "INTERRUPTED",
        "INTERNAL_ERROR",
        "BAD_INPUT",
        "DIFFERENT",
        "SPENDING_LIMIT",
        "ENDPOINT",
        "NOT_STORED",
        "UNDECIDED",
        "DONE",
    ]
    codes = [ExitCode[name] for name in order]

    assert codes == [130, 1, 2, 6, 3, 5, 4, 7, 0]
    assert set(codes) == set(ExitCode)
    assert [ExitCode.worst(pair) for pair in itertools.pairwise(codes)] == codes[:-1]
    assert [ExitCode.worst(reversed(pair)) for pair in itertools.pairwise(codes)] == codes[:-1]
