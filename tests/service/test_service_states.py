"""The states of a run: which ways lead from one to another, in the table as in the state machine."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from explaineval.errors import ExitCode
from explaineval.service.processes.states import ACTIVE, ENDS, NEXT, STATES, State, Status, after_process, before
from explaineval.service.table import RunRow, StateFile


@pytest.fixture
def table(tmp_path: Path) -> StateFile:
    """A table with one run."""
    table = StateFile(tmp_path)
    table.add_run("r", "ann", "now", {}, {}, {}, None, None)
    return table


def test_a_run_changes_its_state_only_as_the_machine_says(table: StateFile) -> None:
    """Of all pairs of states the table takes those that are ways; the others change nothing."""
    taken = set()
    for earlier, later in product(STATES, STATES):
        assert table.update_run("r", state=earlier, reason=None)
        if table.set_state("r", Status(later, "why")):
            taken.add((earlier, later))
            row = table.run("r")
            assert row is not None
            assert (row.state, row.reason, row.ended is None) == (later, "why", later in ACTIVE)
    table.close()

    assert taken == {(earlier, later) for earlier in STATES for later in NEXT[earlier]}
    assert ("finished", "queued") not in taken
    assert ("stopping", "running") not in taken


def test_every_state_but_finished_has_a_way_out() -> None:
    """A run that goes on can end, and one that has ended otherwise than finished can be continued."""
    assert set(before("finished")) == {"running", "waiting", "stopping"}
    assert [state for state in STATES if not NEXT[state]] == ["finished"]
    assert all(NEXT[state] == ("queued",) for state in ENDS)


@pytest.mark.parametrize(
    ("code", "exit_code", "stopping", "state"),
    [
        (0, ExitCode.DONE, False, "finished"),
        (0, ExitCode.DONE, True, "finished"),
        (0, ExitCode.INTERRUPTED, True, "stopped"),
        (0, ExitCode.INTERRUPTED, False, "queued"),
        (0, ExitCode.SPENDING_LIMIT, False, "interrupted"),
        (0, ExitCode.BAD_INPUT, False, "failed"),
        (-9, None, False, "queued"),
        (-9, None, True, "stopped"),
        (None, None, False, "queued"),
    ],
)
def test_what_becomes_of_a_run_is_a_way_from_where_it_was(
    table: StateFile, code: int | None, exit_code: ExitCode | None, stopping: bool, state: State
) -> None:
    """However its process ends: by itself, by a signal, or without a word."""
    row = table.run("r")
    assert row is not None
    said = None if exit_code is None else {"exit_code": int(exit_code), "errors": ["e."]}
    found = after_process(
        row, code, said, stopping=stopping, closing=False, pause=None, restarts=3, limit_reason="no money"
    )
    table.close()

    assert found.state == state
    assert state in NEXT["stopping" if stopping else "running"]


def test_a_process_that_dies_too_often_fails(table: StateFile) -> None:
    """After so many restarts; where it was asked to make room, what was asked for becomes of it instead."""
    row = table.run("r")
    assert row is not None
    dead = RunRow(**vars(row) | {"restarts": 3})
    pause, room = Status("waiting", "later", "rate"), {"exit_code": int(ExitCode.INTERRUPTED), "errors": []}
    table.close()

    def after(said: dict[str, object] | None, asked: Status | None) -> Status:
        return after_process(
            dead, 1, said, stopping=False, closing=False, pause=asked, restarts=3, limit_reason="no money"
        )

    assert after(None, None) == Status(
        "failed", "its process ended with exit code 1 4 times; answers that were paid for are kept."
    )
    assert after(room, pause) is pause
