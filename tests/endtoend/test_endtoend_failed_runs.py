"""Runs that fail: their counts agree with the plan, they say why, and leave nothing where nothing was stored."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from planted_numbers import read_trials

from servers.commands import WarmCommands
from servers.tables import Table

TABLE = Table(examples=8, words=2, seed=1)
EACH = 1 + TABLE.words + 1
KEY = {"LAB_KEY": "planted-4f9d-secret-17c3-value"}


def agree(document: dict[str, Any], planned: dict[str, Any]) -> dict[str, int]:
    """The counts of a run, after a check against each other and against those of its plan."""
    found: dict[str, int] = document["requests"]
    assert found["distinct"] == found["hits"] + found["sent"] + found["unsent"]
    assert (found["planned"], found["distinct"]) == (planned["planned"], planned["distinct"])
    return found


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A loopback port that nobody listens on."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.mark.sampled(1)
@pytest.mark.parametrize("order", ["pe", "pe2"])
@pytest.mark.parametrize("out", [(), ("--out", "deep/down/out")], ids=["default", "out"])
def test_a_key_that_is_refused_leaves_true_counts_and_no_directory(
    bench: Callable[..., Any], warm: WarmCommands, order: str, out: tuple[str, ...]
) -> None:
    """One request was sent, all others not; the document says why; no run directory and none above it is left."""
    one = bench(TABLE, accepted_key="another")
    options = one.options("--api-key-env", "LAB_KEY", "--order", order, *out, "--json")
    before = sorted(path.name for path in one.directory.iterdir())
    planned = warm.run("plan", *options[1:], cwd=one.directory).document["total"]
    done = warm.run(*options, cwd=one.directory, env=KEY)
    document = done.document

    assert (done.code, len(one.server.received)) == (5, 1)
    found = agree(document, planned)
    assert (found["sent"], found["hits"], found["unsent"]) == (1, 0, planned["distinct"] - 1)
    assert (document["exit_code"], document["error"]["code"], document["run_dir"]) == (5, 5, None)
    assert "401" in document["error"]["message"]
    assert {*before, "cache"} == {path.name for path in one.directory.iterdir()}


@pytest.mark.parametrize("transport", ["litellm", "direct"])
def test_nothing_is_sent_where_connections_are_refused(
    tmp_path: Path, warm: WarmCommands, closed_port: int, transport: str
) -> None:
    """The attempts are retries; no request counts as sent."""
    where = ("--base-url", f"http://127.0.0.1:{closed_port}/v1", "--transport", transport)
    done = warm.run("run", "--task", "nli", "--limit", "2", "--model", "openai/m", *where, "--json", cwd=tmp_path)

    found = done.document["requests"]
    assert done.code == 5
    assert (found["sent"], found["unsent"], found["retries"]) == (0, found["distinct"], 2)


@pytest.mark.slow
def test_a_directory_that_was_there_stays(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """An empty directory that the user made stays empty; one that holds a run keeps it."""
    one = bench(TABLE, accepted_key="another")
    (one.directory / "mine").mkdir()
    options = one.options("--api-key-env", "LAB_KEY", "--out", "mine")
    failed = warm.run(*options, cwd=one.directory, env=KEY)

    assert (failed.code, list((one.directory / "mine").iterdir())) == (5, [])
    assert "Run directory" not in failed.stdout
    one.server.accepted_key = KEY["LAB_KEY"]
    assert warm.run(*options, "--limit", "3", cwd=one.directory, env=KEY).code == 0
    one.server.accepted_key = "another"
    assert warm.run(*options, cwd=one.directory, env=KEY).code == 5
    assert (one.directory / "mine" / "run.json").is_file()


def test_a_key_that_is_refused_in_mid_run_leaves_true_counts(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """What is stored is scored, the rest is unsent; the run is not complete, and neither is its bundle."""
    one = bench(TABLE, accepted_key=KEY["LAB_KEY"])
    options = one.options("--api-key-env", "LAB_KEY", "--out", "out", "--json")
    assert warm.run(*options, "--limit", "3", cwd=one.directory, env=KEY).code == 0
    planned = warm.run("plan", *options[1:], cwd=one.directory).document["total"]
    before = len(one.server.received)
    one.server.accepted_key = "another"
    done = warm.run(*options, "--max-connections", "1", cwd=one.directory, env=KEY)
    found = agree(done.document, planned)

    assert (done.code, done.document["error"]["code"]) == (5, 5)
    assert (found["hits"], found["sent"]) == (3 * EACH, len(one.server.received) - before)
    assert found["sent"] >= 1
    assert json.loads((one.directory / "out" / "run.json").read_text(encoding="utf-8"))["complete"] is False
    check_bundle(one.directory, warm)


def check_bundle(directory: Path, warm: WarmCommands) -> int:
    """What `export` says is missing is what `reproduce` finds missing; both in numbers and in words."""
    exported = warm.run("export", "out", "--out", "out.zip", "--json", cwd=directory)
    reproduced = warm.run("reproduce", "out.zip", "--json", cwd=directory)
    missing = int(exported.document["missing"])

    assert exported.document["complete"] is (missing == 0)
    assert (reproduced.code, reproduced.document["missing"]) == (6 if missing else 0, missing)
    assert (f"{missing:,} requests of this run have no stored answer" in exported.stderr) is (missing > 0)
    assert ("answers_missing" in [one["code"] for one in exported.document["warnings"]]) is (missing > 0)
    return missing


@pytest.mark.slow
def test_export_counts_what_a_model_that_was_never_reached_lacks(
    bench: Callable[..., Any], warm: WarmCommands, closed_port: int
) -> None:
    """One of two models is dead from the start: all of its plan is missing, as `reproduce` finds."""
    one = bench(TABLE)
    study = {
        "tasks": ["jsonl:task.jsonl"],
        "interventions": {"file": "edits.jsonl"},
        "endpoints": {
            "lab": {"base_url": one.server.url},
            "dead": {"base_url": f"http://127.0.0.1:{closed_port}/v1"},
        },
        "models": [{"model": "openai/planted", "endpoint": "lab"}, {"model": "openai/planted", "endpoint": "dead"}],
    }
    (one.directory / "study.yaml").write_text(json.dumps(study), encoding="utf-8")
    options = ("study.yaml", "--max-retries", "0", "--out", "out", "--json")
    planned = warm.run("plan", *options, cwd=one.directory).document["total"]
    done = warm.run("run", *options, cwd=one.directory)

    assert done.code == 5
    assert agree(done.document, planned)["sent"] == len(one.server.received)
    assert check_bundle(one.directory, warm) == 8 * EACH


@pytest.mark.slow
def test_a_finished_run_is_complete(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """The counterpart: nothing is missing, and `complete` says so."""
    one = bench(TABLE)
    assert warm.run(*one.options("--out", "out"), cwd=one.directory).code == 0

    assert check_bundle(one.directory, warm) == 0


@pytest.mark.slow
@pytest.mark.parametrize("order", ["pe", "pe2"])
def test_counts_are_true_after_a_second_interrupt(bench: Callable[..., Any], warm: WarmCommands, order: str) -> None:
    """Given up at once: what the server saw is sent, all else is unsent, and the sum is the plan."""
    one = bench(Table(examples=30, words=3, seed=3), latency=0.2)
    options = one.options("--order", order, "--max-connections", "3", "--out", "out", "--json")
    planned = warm.run("plan", *options[1:], cwd=one.directory).document["total"]
    child = warm.start(*options, cwd=one.directory)
    one.server.wait_for(8)
    one.server.latency = 30.0
    one.server.wait_for(len(one.server.received) + 1)
    child.send(signal.SIGINT)
    child.send(signal.SIGINT)
    stopped = child.finish()
    found = agree(stopped.document, planned)

    assert (stopped.code, stopped.document["error"]["code"]) == (130, 130)
    assert found["sent"] == len(one.server.received)
    assert json.loads((one.directory / "out" / "run.json").read_text(encoding="utf-8"))["complete"] is False


def test_offline_without_any_answer_leaves_no_directory(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """Exit 4 with all of the plan unsent; nothing is written anywhere."""
    one = bench(TABLE)
    before = sorted(path.name for path in one.directory.iterdir())
    options = one.options("--json")
    planned = warm.run("plan", *options[1:], cwd=one.directory).document["total"]
    done = warm.run(*options, "--offline", cwd=one.directory)

    assert (done.code, done.document["error"]["code"], done.document["run_dir"]) == (4, 4, None)
    assert agree(done.document, planned)["unsent"] == planned["distinct"]
    assert before == sorted(path.name for path in one.directory.iterdir())


@pytest.mark.sampled(1)
@pytest.mark.parametrize("fault", ["unparsed", "refusal", "truncated", "empty", "content_filter"])
def test_a_run_of_which_no_answer_can_be_read_is_exit_code_5(
    bench: Callable[..., Any], warm: WarmCommands, fault: str
) -> None:
    """It says so, with the reasons, also when all of it comes from the cache; nothing is asked again."""
    one = bench(Table(examples=3, words=2, seed=1))
    places = [(example, None) for example in one.server.table.ids] + one.server.table.pairs()
    one.server.always.update(dict.fromkeys(places, fault))
    options = one.options("--out", "out", "--json")
    first = warm.run(*options, cwd=one.directory)
    asked = len(one.server.received)
    again = warm.run(*options, cwd=one.directory)

    for result in (first, again):
        assert (result.code, result.document["error"]["code"]) == (5, 5)
        assert "openai/planted: not one answer could be read" in result.document["error"]["message"]
        assert "not one answer could be read" in result.stderr
        defined = {row["metric"] for row in result.document["metrics"] if row["value"] is not None}
        assert defined == {"excluded_rate", "phi_cct_lower_bound", "phi_cct_upper_bound"}  # which count what is missing
    assert (asked, len(one.server.received)) == (3 * (1 + 2 + 1), asked)
    assert len(read_trials(one.directory / "out")) == 3 * (2 + 1)


def test_one_answer_that_can_be_read_is_enough(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """Then outcomes are outcomes: exit 0."""
    one = bench(Table(examples=3, words=2, seed=1))
    places = [(example, None) for example in one.server.table.ids] + one.server.table.pairs()
    one.server.always.update(dict.fromkeys(places[1:], "unparsed"))

    assert warm.run(*one.options("--out", "out"), cwd=one.directory).code == 0


def test_requests_that_stay_failed_are_told_in_the_document(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """Exit 5, with a sentence."""
    one = bench(TABLE)
    one.server.always[TABLE.pairs()[3]] = "500"
    done = warm.run(*one.options("--max-retries", "1", "--out", "out", "--json"), cwd=one.directory)

    assert (done.code, done.document["error"]["code"]) == (5, 5)
    assert "1 request failed after all retries" in done.document["error"]["message"]
