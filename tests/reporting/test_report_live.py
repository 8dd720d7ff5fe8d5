"""How a run that goes on is shown: sentences, the table in a terminal, and the state of the run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from explaineval.records import Estimate
from explaineval.reporting.live import (
    DEAD_SECONDS,
    model_sentence,
    run_sentence,
    screen_lines,
    state_sentence,
    table_lines,
    watch_lines,
)
from explaineval.rundir.schema import ModelProgress, RunProgress
from explaineval.scoring.live import LivePhi

START = datetime(2026, 11, 25, 12, tzinfo=UTC)
PHI = LivePhi("random_word", Estimate(value=0.132, low=-0.141, high=0.377, n=800, n_examples=200), 1)
NO_PHI = LivePhi("random_word", Estimate(value=None, n=12, n_examples=3, undefined="no answer changed"), 1)


def make_model(name: str = "openai/gpt-4o-mini", **changes: Any) -> ModelProgress:
    """A model of which an eighth is done."""
    values = {
        "endpoint": None, "model": name, "planned": 12_000, "distinct": 9_600, "hits": 312, "sent": 888, "unsent": 0,
        "retries": 3, "rate": 4.1, "seconds_left": 2049.0, "usd": 0.12, "usd_left": 1.135, "max_usd": None,
        "outcomes": {"ok": 800, "unparsed": 12}, "started": START.isoformat(), "updated": START.isoformat(),
    }  # fmt: skip
    return ModelProgress.model_validate(values | changes)


def make_run(*models: ModelProgress, seconds: float = 300, **changes: Any) -> RunProgress:
    """A run that was last heard of so many seconds after its start."""
    models = models or (make_model(),)
    updated = (START + timedelta(seconds=seconds)).isoformat()
    values = {"state": "asking", "started": START.isoformat(), "updated": updated, "max_usd": 2.0}
    return RunProgress.model_validate(values | {"models": models} | changes)


def test_a_model_in_one_line() -> None:
    """Done, cached, rate, phi with its interval, dollars, time left."""
    assert model_sentence("openai/gpt-4o-mini", make_model(), [PHI]) == (
        "openai/gpt-4o-mini: 1,200 of 9,600 requests (312 cached), 4.1/s, phi-CCT so far 0.13 [-0.14, 0.38] "
        "(800 trials), $0.12, 34 min left"
    )


@pytest.mark.parametrize(
    ("changes", "phis", "part"),
    [
        ({}, [NO_PHI], "phi-CCT so far undefined (no answer changed)"),
        ({}, [PHI, LivePhi("cue_user", PHI.estimate, 4)], "phi-CCT (cue_user) so far 0.13 [-0.14, 0.38] (800 trials, "
         "mean of 4 conditions)"),
        ({"usd": None}, [], "(312 cached), 4.1/s, 34 min left"),
        ({"max_usd": 0.5}, [], "$0.12 of $0.50"),
        ({"usd": 0.0123}, [], "$0.0123,"),
        ({"rate": None, "seconds_left": None}, [], "(312 cached), $0.12, time left not known yet"),
        ({"state": "failed", "rate": None, "reason": "lab: the key is refused."}, [],
         "gpt-4o-mini: failed, 1,200 of 9,600 requests (312 cached), $0.12. lab: the key is refused."),
        ({"state": "finished", "rate": None}, [PHI], "finished, 1,200 of 9,600 requests (312 cached), phi-CCT 0.13"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_not_said(changes: dict[str, Any], phis: list[LivePhi], part: str) -> None:
    """No price, no rate, no phi: the sentence does without; several kinds are named."""
    assert part in model_sentence("openai/gpt-4o-mini", make_model(**changes), phis)


def test_the_sum_says_what_is_left_in_time_and_money() -> None:
    """The slowest model decides the time; the expected dollars are added up and held against the limit."""
    run = make_run(make_model(), make_model("b", seconds_left=7200), make_model("c", state="finished", usd_left=9.0))

    assert run_sentence(run) == (
        "2 running, 1 finished; 3,600 of 28,800 requests; $0.36 of $2.00 spent, about $2.27 more to come (the limit "
        "will be reached first); 2 h left"
    )


def test_a_models_own_limit_bounds_what_it_will_still_cost() -> None:
    """A dollar is expected, twenty cents are left of the model's own limit."""
    run = make_run(make_model(usd=0.3, usd_left=1.0, max_usd=0.5), max_usd=None)

    assert "$0.30 spent, about $0.20 more to come;" in run_sentence(run)


def test_one_model_at_two_endpoints_is_called_by_both() -> None:
    """Where the name alone would not do, the endpoint stands beside it, in sentences and in the table."""
    run = make_run(make_model(endpoint="lab"), make_model(endpoint=None))

    text = "\n".join([*watch_lines("x", run, [[], []], START, 200), *table_lines(run, [[], []], 200, 20)])

    assert text.count("openai/gpt-4o-mini at lab") == 2
    assert text.count("openai/gpt-4o-mini at the default endpoint") == 2


@pytest.mark.parametrize("width", [40, 50, 60, 70])
def test_a_narrow_terminal_keeps_phi_and_the_time(width: int) -> None:
    """Other columns give way; what is left is whole."""
    lines = table_lines(make_run(make_model(), make_model("b")), [[PHI], []], width, 20)

    assert max(map(len, lines)) <= width
    assert "0.13 [-0.14, 0.38]" in lines[1]
    assert lines[1].endswith("34 min")


def test_unknown_prices_and_rates_are_not_added_up() -> None:
    """One model without a price: no sum of dollars; one without a rate: no time."""
    run = make_run(make_model(), make_model("b", usd=None, usd_left=None, seconds_left=None))

    assert run_sentence(run) == "2 running; 2,400 of 19,200 requests; time left not known yet"


def test_a_single_model_is_one_line_under_the_heads() -> None:
    """No sum where there is nothing to add up."""
    head, row = table_lines(make_run(make_model()), [[PHI]], 100, 23)

    assert head.split() == ["model", "requests", "cached", "rate", "phi-CCT", "so", "far", "spent", "left"]
    assert row == "openai/gpt-4o-mini  1,200/9,600     312  4.1/s  0.13 [-0.14, 0.38]  $0.12  34 min"


@pytest.mark.parametrize("width", [80, 100, 160])
def test_24_models_fit_a_terminal(width: int) -> None:
    """No more lines than there are rows, none wider than the terminal, the ends of names kept, the running first."""
    models = [
        make_model(
            f"openai/meta-llama/Llama-3.1-{number}B-Instruct",
            state="finished" if number < 8 else "failed" if number == 8 else "running",
            rate=4.1 if number > 8 else None,
        )
        for number in range(24)
    ]

    lines = table_lines(make_run(*models), [[PHI]] * 24, width, 20)

    assert len(lines) == 20
    assert max(map(len, lines)) <= width
    assert all(any(f"{number}B-Instruct" in line for line in lines) for number in range(9, 24))
    assert any("8B-Instruct" in line and line.endswith("failed") for line in lines)
    assert lines[-2] == "and 7 more: 7 finished"
    assert lines[-1].startswith("all 24 mode" if width == 80 else "all 24 models")


def test_a_watched_run_at_80_columns() -> None:
    """The state, each model with its outcomes, the sum; a number stays on one line with its interval."""
    lines = list(watch_lines("runs/x", make_run(make_model()), [[PHI]], START + timedelta(seconds=301), 80))

    assert lines == [
        "runs/x: running for 5 min.",
        "openai/gpt-4o-mini: 1,200 of 9,600 requests (312 cached), 4.1/s, phi-CCT so far",
        "  0.13 [-0.14, 0.38] (800 trials), $0.12, 34 min left",
        "  trials: 800 ok, 12 unparsed",
        "In all: 1,200 of 9,600 requests; $0.12 of $2.00 spent, about $1.14 more to come;",
        "  34 min left.",
    ]


def test_a_watched_sweep_fits_the_terminal() -> None:
    """24 models in 24 rows: the state, as much of the table as fits, the error of one that failed, all outcomes."""
    models = [make_model(f"openai/m{number}", state="running" if number else "failed") for number in range(24)]
    models[0] = models[0].model_copy(update={"reason": "openai/m0 at lab: the key is refused."})

    lines = list(screen_lines("runs/x", make_run(*models), [[PHI]] * 24, START + timedelta(seconds=301), 80, 23))

    assert len(lines) <= 23
    assert max(map(len, lines)) <= 80
    assert lines[0] == "runs/x: running for 5 min."
    assert "openai/m0 at lab: the key is refused." in lines
    assert "Trials: 19,200 ok, 288 unparsed." in lines


@pytest.mark.parametrize(
    ("changes", "after", "sentence"),
    [
        ({}, 301, "running for 5 min."),
        ({}, 300 + DEAD_SECONDS + 60, "the run was ended from outside: it has given no sign for 2 min. Answers that "
         "were paid for are in the cache; the same command goes on from there."),
        ({"models": ()}, 301, "it starts; nothing was asked yet."),
        ({"state": "scoring"}, 900, "all requests are done; the numbers are being computed."),
        ({"state": "finished", "exit_code": 0}, 10**6, "finished after 5 min."),
        ({"state": "finished", "exit_code": 5, "reason": "lab is down."}, 10**6,
         "finished after 5 min with exit code 5: lab is down."),
        ({"state": "stopped", "exit_code": 130, "reason": "interrupted: go on."}, 10**6,
         "stopped after 5 min: interrupted: go on."),
        ({"state": "failed", "reason": "the disk is full."}, 10**6, "failed after 5 min: the disk is full."),
    ],
)  # fmt: skip
def test_every_state_is_one_sentence(changes: dict[str, Any], after: float, sentence: str) -> None:
    """Going on, dead, computing, finished, stopped, failed; only what should go on can be dead."""
    assert state_sentence(make_run(**changes), START + timedelta(seconds=after)) == sentence
