"""The exit code of a run that ended for several reasons."""

from __future__ import annotations

import itertools
from collections import Counter
from types import SimpleNamespace

import pytest

from explaineval.client.cached import RequestCounts
from explaineval.errors import ExitCode
from explaineval.execution import verdict

CAUSES = (130, 3, 5, 4)
"""From the worst to the mildest, as far as a run that began can end so (1 and 2 end it at once)."""


@pytest.mark.parametrize(
    "present", [set(causes) for n in range(5) for causes in itertools.combinations(CAUSES, n)], ids=str
)
def test_of_several_causes_the_worst_is_the_exit_code(monkeypatch: pytest.MonkeyPatch, present: set[int]) -> None:
    """Every combination of interrupted, no money, unusable endpoint and missing answers; each has its sentence."""
    monkeypatch.setattr(verdict, "limit_error", lambda *_: "money" if 3 in present else None)
    monkeypatch.setattr(verdict, "offline_error", lambda *_: "missing" if 4 in present else None)
    model_run = SimpleNamespace(
        error="endpoint" if 5 in present else None,
        progress=SimpleNamespace(outcomes=Counter()),
        cached=SimpleNamespace(counts=RequestCounts()),
        unreadable=None,
        stops=[],
        account=None,
        writer=SimpleNamespace(message=None, unstored=0),
        budgeted=None,
    )
    prepared = SimpleNamespace(client=SimpleNamespace(max_usd=None))
    code, errors = verdict.judge_run(prepared, [model_run], None, 130 in present, 1)  # type: ignore[arg-type, list-item]

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
