"""A spending limit counts all that was spent in a run directory: over commands, kills, judges and predictors."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from test_endtoend_outages import until

from explaineval.rundir.ledger import read_ledger
from explaineval.text import dollars_text
from servers.commands import Result, WarmCommands
from servers.outages import FailingServer

EACH = 10 * 1000 / 1e6
"""Dollars of an answer: ten tokens out, at --price 0,1000."""
WORST = 512 * 1000 / 1e6
PRICE = ("--price", "0,1000")


def options(server: FailingServer, *more: str) -> list[str]:
    address = ("--base-url", server.url, "--transport", "direct", "--max-connections", "4")
    return ["run", "--task", "nli", "--limit", "8", "--model", "openai/m", *address, "--out", "run", *more]


def billed(server: FailingServer) -> float:
    """What the endpoint charged, whoever got the answer."""
    return server.answered * EACH


def run(warm: WarmCommands, directory: Path, server: FailingServer, *more: str) -> Result:
    return warm.run(*options(server, *more), cwd=directory)


def wait_for_answers(server: FailingServer, count: int) -> None:
    """Return once the endpoint has given so many answers."""
    until(lambda: server.answered >= count)


def test_the_same_command_with_the_same_limit_spends_nothing_more(tmp_path: Path, warm: WarmCommands) -> None:
    """Exit 3 again, and nothing sent; with a higher limit it goes on, and counts what was spent before."""
    limit = 10 * EACH + WORST
    with FailingServer() as server:
        first = run(warm, tmp_path, server, *PRICE, "--max-usd", str(limit))
        sent = server.answered
        again = run(warm, tmp_path, server, *PRICE, "--max-usd", str(limit), "--json")
        same = server.answered
        more = run(warm, tmp_path, server, *PRICE, "--max-usd", str(limit + 5 * EACH), "--json")
        after = server.answered
        notes = warm.run("notes", "run", cwd=tmp_path)
        record = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))

    assert first.code == again.code == more.code == 3, first.stderr
    assert sent == same == 11
    assert after == 16
    assert "of it before this command" in again.document["error"]["message"]
    assert record["spending"][0]["usd"] == pytest.approx(16 * EACH)
    assert f"{dollars_text(16 * EACH)} by run" in notes.stdout


def test_a_killed_run_loses_no_spending(tmp_path: Path, warm: WarmCommands) -> None:
    """Killed with answers under way, which are charged and never seen: they count, and the limit holds over all."""
    limit = 10 * EACH + 16 * WORST
    with FailingServer(0.3) as server:
        for kill in range(3):
            before = server.answered
            child = warm.start(*options(server, *PRICE, "--max-usd", str(limit)), cwd=tmp_path)
            wait_for_answers(server, before + kill + 1)
            child.send(signal.SIGKILL)
            child.finish()
            under_way = read_ledger(tmp_path / "run").spent("run")
            until(lambda: server.under_way == 0)  # it finishes what the killed one has asked, and charges it

            assert billed(server) <= under_way + 1e-9
        last = run(warm, tmp_path, server, *PRICE, "--max-usd", str(limit))
        until(lambda: server.under_way == 0)

        assert billed(server) <= read_ledger(tmp_path / "run").spent("run") + 1e-9 <= limit + 2e-9
        assert last.code in (0, 3)


@pytest.mark.slow
def test_judge_and_simulate_count_what_they_have_spent_themselves(tmp_path: Path, warm: WarmCommands) -> None:
    """Each its own: what run has spent takes nothing from a judge's limit."""
    with FailingServer() as server:
        assert run(warm, tmp_path, server, *PRICE).code == 0
        for role, command in (("judge", "judge"), ("predictor", "simulate")):
            asked = [command, "run", f"--{role}-model", "openai/j", f"--{role}-base-url", server.url]
            asked += [f"--{role}-price", "0,1000", "--transport", "direct", "--max-usd", str(3 * EACH + WORST)]
            before = server.answered
            first = warm.run(*asked, cwd=tmp_path)
            sent = server.answered
            again = warm.run(*asked, cwd=tmp_path)

            assert first.code == again.code == 3, first.stderr
            assert server.answered == sent == before + 4
            ledger = read_ledger(tmp_path / "run")
            assert ledger.spent("judge" if role == "judge" else "simulate") == pytest.approx(4 * EACH)
        assert "in this run directory" in again.stderr


def test_spending_without_a_price_has_to_be_stated_before_a_limit_holds(tmp_path: Path, warm: WarmCommands) -> None:
    """Exit 2 and nothing sent; with --spent the rest of the limit is what is left."""
    with FailingServer() as server:
        assert run(warm, tmp_path, server, "--limit", "4").code == 0  # a loopback address costs nothing
        record = tmp_path / "run" / "run.json"
        (tmp_path / "run" / "ledger.jsonl").unlink()  # as an earlier version left it
        document = json.loads(record.read_text(encoding="utf-8"))
        for endpoint in document["endpoints"]:
            endpoint["price"] = None
        record.write_text(json.dumps(document), encoding="utf-8")
        sent = server.answered
        refused = run(warm, tmp_path, server, *PRICE, "--max-usd", "2")
        same = server.answered
        stated = run(warm, tmp_path, server, *PRICE, "--max-usd", "2", "--spent", "1.9", "--json")

    assert refused.code == 2
    assert "--spent X" in refused.stderr
    assert sent == same == server.answered
    assert stated.code == 3


def test_a_loopback_address_costs_nothing_without_a_price(tmp_path: Path, warm: WarmCommands) -> None:
    """Under any limit; --price always wins."""
    with FailingServer() as server:
        free = run(warm, tmp_path, server, "--max-usd", "0")
        assert (free.code, server.answered > 0) == (0, True)
        priced = warm.run(*options(server, *PRICE, "--max-usd", "0", "--out", "other", "--cache", "c2"), cwd=tmp_path)

    assert priced.code == 3
