"""`run --batch` that is interrupted or killed at any stage, and what the next run does: each request is billed once."""

from __future__ import annotations

import json
import signal
import time
from copy import deepcopy
from pathlib import Path

import pytest
from batch_runs import DISTINCT, EACH, MOST, TABLE, BatchRuns, Route, answer, counts, read

from explaineval.text import dollars_text
from servers.batch_server import BatchServer, Call, Fault
from servers.commands import WarmCommands

STAGES: dict[str, tuple[Call, int, dict[Call, list[Fault | None]]]] = {
    "before the file is uploaded": ("upload", 1, {}),
    "recorded, not created": ("create", 1, {"create": ["reset"]}),
    "the answer to the creation is lost": ("create", 1, {"create": ["lost"]}),
    "in progress": ("poll", 1, {}),
    "ended, not fetched": ("results", 1, {}),
    "half fetched": ("results", 2, {"results": ["cut"]}),
}
"""At which call the process is killed, the nth of its kind, and what happens to these calls."""
ALIKE = ("before the file is uploaded", "in progress", "ended, not fetched")
"""Where Anthropic's shape has no such step, or does not differ."""


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("stage", "route"),
    [(stage, "openai") for stage in STAGES] + [(stage, "anthropic") for stage in STAGES if stage not in ALIKE],
)
def test_kill_9_at_every_stage(warm: WarmCommands, tmp_path: Path, route: Route, stage: str) -> None:
    """The same command again completes the run; no request is put into a second batch, no answer paid for twice."""
    call, nth, faults = STAGES[stage]
    with BatchRuns(warm, tmp_path, route, BatchServer(answer=answer, faults=deepcopy(faults))) as runs:
        killed = runs.end_at(signal.SIGKILL, call, "--batch", "--out", "out", nth=nth)
        stored = len(runs.stored())
        assert killed.code == -signal.SIGKILL
        assert (1 < stored < DISTINCT) is (stage == "half fetched")

        done = runs.run("--batch", "--out", "out")
        assert (done.code, counts(done)) == (0, (DISTINCT, stored, DISTINCT - stored, 0)), done.stderr
        assert runs.is_billed_once()
        assert len(runs.server.batches) == 1
        assert len(runs.stored()) == DISTINCT
        assert {"fetched", "abandoned"} >= set(runs.journal_states())


@pytest.mark.sampled(1)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_interrupted_while_waiting(warm: WarmCommands, tmp_path: Path, number: signal.Signals) -> None:
    """Exit 130 before the next poll; a plain run leaves the batch's requests alone; --batch fetches them."""
    with BatchRuns(warm, tmp_path, server=BatchServer(answer=answer, polls=None)) as runs:
        child = runs.start("--batch", "--batch-poll", "600", "--price", "0,1000", "--out", "out")
        runs.wait_for("poll")
        child.send(number)
        stopped = child.finish()

        assert runs.server.count("poll") == 1  # the next one would be 600 s later
        assert 130 == stopped.code == stopped.document["exit_code"]
        assert counts(stopped) == (DISTINCT, 0, 1, DISTINCT - 1)
        assert runs.journal_states() == ["submitted"]
        assert "a batch goes on at the provider" in stopped.stderr
        assert stopped.document["usd_spent"] == pytest.approx(runs.dollars((0, 1e-3), (0, 1e-3)))

        plain = runs.run("--out", "out")
        assert (plain.code, counts(plain)) == (5, (DISTINCT, 1, 0, DISTINCT - 1)), plain.stderr
        assert f"{DISTINCT - 1} requests are in a batch that is not fetched yet" in plain.stderr
        assert "with --batch fetches them" in plain.stderr
        assert len(runs.server.plain) == 1

        runs.server.finish()
        done = runs.run("--batch", "--out", "out")
        assert (done.code, counts(done)) == (0, (DISTINCT, 1, DISTINCT - 1, 0)), done.stderr
        assert runs.is_billed_once()


@pytest.mark.slow
def test_what_is_not_in_the_batch_is_asked_beside_it(warm: WarmCommands, tmp_path: Path) -> None:
    """A larger plain run while a batch goes on: it asks what is new, and 5 says that something is outstanding."""
    with BatchRuns(warm, tmp_path, server=BatchServer(answer=answer, polls=None)) as runs:
        runs.end_at(signal.SIGKILL, "poll", "--batch", "--limit", "4")
        beside = runs.run("--out", "out")

        assert (beside.code, counts(beside)) == (5, (DISTINCT, 1, 2 * EACH, 4 * EACH - 1)), beside.stderr
        runs.server.finish()
        done = runs.run("--batch", "--out", "out")
        assert (done.code, counts(done)) == (0, (DISTINCT, 1 + 2 * EACH, 4 * EACH - 1, 0)), done.stderr
        assert set(runs.server.billed.values()) == {1}
        assert len(runs.server.billed) + len(runs.server.plain) == DISTINCT


@pytest.mark.sampled(1)
@pytest.mark.parametrize("more", [(), ("--batch",)], ids=str)
def test_the_settling_request_may_be_in_a_batch(warm: WarmCommands, tmp_path: Path, more: tuple[str, ...]) -> None:
    """A run that begins with what another plan's batch asks: its first request is not bought a second time either."""
    with BatchRuns(warm, tmp_path, server=BatchServer(answer=answer, polls=None)) as runs:
        lines = (tmp_path / "task.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        (tmp_path / "late.jsonl").write_text("".join(lines[3:]), encoding="utf-8")
        edits = (tmp_path / "edits.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        runs.end_at(signal.SIGKILL, "poll", "--batch")
        (tmp_path / "edits.jsonl").write_text("".join(edits[3 * TABLE.words :]), encoding="utf-8")
        if more:
            runs.server.finish()
        found = warm.run(*runs.options(*more, task="late.jsonl"), cwd=tmp_path)
        half = 3 * EACH

        expected = (0, (half, 0, half, 0)) if more else (5, (half, 0, 0, half))
        assert (found.code, counts(found)) == expected, found.stderr
        assert len(runs.server.plain) == 1
        assert len(runs.server.batches) == 1


@pytest.mark.slow
def test_what_was_fetched_before_an_interruption_is_scored(warm: WarmCommands, tmp_path: Path) -> None:
    """Ctrl-C in the second wave: the first wave's answers are counted and paid for in what the run says."""
    with BatchRuns(warm, tmp_path, server=BatchServer(answer=answer)) as runs:
        price = ("--price", "0,1000")

        def stall(call: Call) -> None:
            if call == "create" and len(runs.server.batches) == 2:
                runs.server.polls = None

        runs.server.on_call = stall
        child = runs.start("--batch", "--order", "pe2", *price, "--out", "out")
        runs.wait_for("create", 2)
        time.sleep(0.2)
        child.send(signal.SIGINT)
        stopped = child.finish()
        runs.server.on_call = None
        waves = [len(batch.items) for batch in runs.server.batches.values()]

        assert stopped.code == 130, stopped.stderr
        assert counts(stopped) == (1 + sum(waves), 0, 1 + waves[0], waves[1])
        assert stopped.document["usd_spent"] == pytest.approx(runs.dollars((0, 1e-3), (0, 1e-3)))
        assert runs.server.billed.total() == waves[0]
        assert stopped.document["usd_spent"] > 0

        runs.server.finish()
        done = runs.run("--batch", "--order", "pe2", "--out", "out")
        assert (done.code, counts(done)) == (0, (1 + sum(waves), 1 + waves[0], waves[1], 0)), done.stderr
        assert runs.is_billed_once(1 + sum(waves))


def test_the_limit_counts_what_may_still_be_billed(warm: WarmCommands, tmp_path: Path) -> None:
    """The endpoint stops answering while a batch goes on: its worst case is told, and the next run fetches it."""
    with BatchRuns(warm, tmp_path, server=BatchServer(answer=answer, faults={"poll": ["401"]})) as runs:
        broken = runs.run("--batch", "--price", "0,1000", "--max-usd", "100", "--out", "out")
        worst = (DISTINCT - 1) * MOST / 1000

        assert (broken.code, counts(broken)) == (5, (DISTINCT, 0, 1, DISTINCT - 1)), broken.stderr
        assert f"may cost {dollars_text(worst)} at the most" in broken.stderr
        assert json.loads(read(runs, "out/run.json"))["usd_unbilled_at_most"] == pytest.approx(worst)
        assert runs.journal_states() == ["submitted"]
        done = runs.run("--batch", "--out", "out")
        assert (done.code, counts(done)) == (0, (DISTINCT, 1, DISTINCT - 1, 0)), done.stderr
        assert runs.is_billed_once()
