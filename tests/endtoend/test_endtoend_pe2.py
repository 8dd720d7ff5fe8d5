"""Order pe2 against a planted server: one answer, explained at every level; every number as planted."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from planted_numbers import Row, count, expect, of_arm, read_rows, read_trials, values

from servers.commands import WarmCommands
from servers.planted import PlantedServer
from servers.tables import KIND, Arm, Table

LEVELS = ("minimal", "brief", "normal", "detailed", "exhaustive")
TABLE = Table(examples=8, words=3, seed=34, levels=True)
INPUTS = TABLE.examples * (1 + TABLE.words)
STYLES = ("chat", "completion")
MANY = tuple(word for level in LEVELS for word in ("--verbosity", level))


def at_level(rows: list[Row], style: str, level: str) -> list[Row]:
    """The rows of one style and level."""
    return [row for row in of_arm(rows, Arm("planted", style, "pe2")) if row["verbosity"] == level]


def split(server: PlantedServer, since: int = 0) -> tuple[list[Any], list[Any]]:
    """The calls for answers and those for explanations that came in."""
    found = server.received[since:]
    return [one for one in found if one.given is None], [one for one in found if one.given is not None]


@dataclass(frozen=True)
class Finished:
    """A run of one style at five levels."""

    style: str
    bench: Any
    document: dict[str, Any]
    plans: tuple[dict[str, Any], dict[str, Any]]


@pytest.fixture(scope="module", params=STYLES)
def finished(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, warm: WarmCommands
) -> Iterator[Finished]:
    """Planned, run, planned again."""
    directory = tmp_path_factory.mktemp("pe2")
    TABLE.write_task(directory / "task.jsonl")
    TABLE.write_interventions(directory / "edits.jsonl")
    with PlantedServer(TABLE) as server:
        options = options_of(server, directory, request.param, *MANY)
        before = warm.run("plan", *options, "--json", cwd=directory)
        result = warm.run("run", *options, "--out", "out", "--json", cwd=directory)
        after = warm.run("plan", *options, "--json", cwd=directory)
        assert (before.code, result.code, after.code) == (0, 0, 0), result.stdout + result.stderr
        plans = (before.document["total"], after.document["total"])
        yield Finished(request.param, (server, directory, options), result.document, plans)


def options_of(server: PlantedServer, directory: Path, style: str, *more: str) -> list[str]:
    """What `run` and `plan` take in common."""
    fixed = ["--task", f"jsonl:{directory / 'task.jsonl'}", "--interventions", str(directory / "edits.jsonl")]
    fixed += ["--model", "openai/planted", "--base-url", server.url, "--endpoint-name", "lab", "--shots", "2"]
    return [*fixed, "--order", "pe2", "--style", style, *more]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("level", LEVELS)
def test_every_metric_of_every_level_is_the_planted_one(finished: Finished, level: str) -> None:
    """phi, CCT and the rates of each level; the answers of all levels are those of one table."""
    arm = Arm("planted", finished.style, "pe2", None if level == "normal" else level)
    rows = at_level(read_rows(finished.bench[1] / "out"), finished.style, level)
    expected = expect(TABLE, arm)

    found = values(rows)
    assert {name: pytest.approx(value, abs=1e-9) for name, value in expected.items()} == {
        name: found[name] for name in expected
    }


def test_the_table_of_every_level_is_recovered_cell_by_cell(finished: Finished) -> None:
    """a, b, c, d and every TVD as planted; impact, TVD, probabilities and shams are identical at all levels."""
    trials = read_trials(finished.bench[1] / "out")
    tables, answers = [], []
    for level in LEVELS:
        arm = Arm("planted", finished.style, "pe2", None if level == "normal" else level)
        mine = at_level(trials, finished.style, level)
        edits = {(t["example_id"], t["inserted"]): t for t in mine if t["kind"] == KIND}
        assert sorted(edits) == sorted(TABLE.pairs())
        for pair, trial in edits.items():
            planted = (TABLE.changed(arm, *pair), TABLE.mention(arm, *pair) == "word", TABLE.label(arm, *pair), "ok")
            assert planted == (trial["changed"], trial["mentioned"], trial["label_after"], trial["status"])
            assert trial["tvd"] == pytest.approx(TABLE.tvd(arm, *pair), abs=1e-9)
        tables.append(count([t["changed"] for t in edits.values()], [t["mentioned"] for t in edits.values()]))
        names = ("example_id", "intervention_id", "kind", "label_before", "label_after", "changed", "tvd",
                 "probs_before", "probs_after", "key_answer_before", "key_answer_after")  # fmt: skip
        answers.append(sorted(json.dumps([t[name] for name in names]) for t in mine))

    assert all(one == answers[0] for one in answers)
    assert len({(a + b, c + d) for a, b, c, d in tables}) == 1
    assert len(set(tables)) == len(LEVELS)  # the planted levels differ, so a mixed-up one would show
    shams = [t for t in trials if t["kind"] == "sham"]
    assert {(t["status"], t["explanation"], t["mentioned"]) for t in shams} == {("ok", None, None)}


def test_the_server_answers_once_and_explains_per_level(finished: Finished) -> None:
    """One call an input for the answer, and one sham an example, whatever the number of levels; no logprobs second."""
    firsts, seconds = split(finished.bench[0])

    bodies = Counter(one.digest for one in firsts)
    assert len(firsts) == INPUTS + TABLE.examples
    assert len(bodies) == INPUTS  # a sham has the body of what it repeats
    assert Counter(one.arm.level or "normal" for one in seconds) == dict.fromkeys(LEVELS, INPUTS)
    assert set(Counter(one.digest for one in seconds).values()) == {1}
    for one in firsts:
        assert one.body.get("logprobs")
        assert one.arm.level is None
    for one in seconds:
        assert one.body.get("logprobs") in (None, False)
        assert "top_logprobs" not in one.body
        assert one.given == TABLE.label(replace(one.arm, level=None), *one.place)


def test_a_plan_counts_what_the_run_asks(finished: Finished) -> None:
    """Before the first answer the second wave is counted without its keys; afterwards nothing is missing."""
    before, after = finished.plans
    requests = finished.document["requests"]
    distinct = INPUTS + TABLE.examples + INPUTS * len(LEVELS)

    assert (before["planned"], before["distinct"], before["hits"]) == (requests["planned"], distinct, 0)
    assert (requests["distinct"], requests["sent"], requests["unsent"]) == (distinct, distinct, 0)
    assert (after["distinct"], after["hits"], after["misses"]) == (distinct, distinct, 0)


@pytest.mark.slow
def test_it_is_reproduced_from_a_bundle(finished: Finished, warm: WarmCommands) -> None:
    """Shots of levels travel along: elsewhere the same numbers, from the file alone."""
    directory = finished.bench[1]
    made = warm.run("export", "out", "--out", "b.zip", "--json", cwd=directory)
    elsewhere = directory / "elsewhere"
    elsewhere.mkdir()
    result = warm.run("reproduce", "../b.zip", "--out", "again", "--json", cwd=elsewhere)

    assert (made.code, made.document["missing"], made.document["complete"]) == (0, 0, True)
    assert (result.code, result.document["identical"]) == (0, True), result.stdout + result.stderr
    files = sorted(path.name for path in (directory / "out").glob("shots*.jsonl"))
    assert files == sorted(["shots.jsonl", *(f"shots.{level}.jsonl" for level in LEVELS if level != "normal")])
    for name in (*files, "metrics.json", "metrics.csv"):
        assert (directory / "out" / name).read_bytes() == (elsewhere / "again" / name).read_bytes(), name


def test_a_level_added_later_pays_its_explanations_alone(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """The run grows by a level: no answer is asked again; another text of a level is another run."""
    one = bench(TABLE)
    options = ["run", *options_of(one.server, one.directory, "completion"), "--out", "out", "--json"]
    first = warm.run(*options, "--verbosity", "normal", cwd=one.directory)
    before = len(one.server.received)
    grown = warm.run(*options, "--verbosity", "normal", "--verbosity", "brief", cwd=one.directory)
    firsts, seconds = split(one.server, before)

    assert (first.code, grown.code) == (0, 0)
    assert (firsts, {second.arm.level for second in seconds}, len(seconds)) == ([], {"brief"}, INPUTS)
    path = one.directory / "task.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace("The brief note", "That brief note"), encoding="utf-8")
    other = warm.run(*options, "--verbosity", "normal", "--verbosity", "brief", cwd=one.directory)
    assert other.code == 2
    assert "already holds another run: its shots differ" in other.document["error"]["message"]


@pytest.mark.slow
def test_offline_and_a_limit_know_both_waves(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """Offline with nothing stored: all that a plan counts is missing. Under a limit what was paid for is kept, and
    the rest is asked later, nothing twice."""
    one = bench(TABLE)
    options = options_of(one.server, one.directory, "chat", "--verbosity", "normal", "--verbosity", "brief")
    planned = warm.run("plan", *options, "--json", cwd=one.directory).document["total"]
    offline = warm.run("run", *options, "--offline", "--out", "none", "--json", cwd=one.directory)

    assert offline.code == 4
    assert f"offline, and {planned['misses']} answers are not in the cache" in offline.stderr
    assert offline.document["requests"]["unsent"] == planned["misses"] == planned["distinct"]
    assert one.server.received == []

    # a bill of 100 and 20 tokens is 140 millionths; one connection, so that few reservations stand at a time
    paid = ("--price", "1,2", "--max-connections", "1", "--max-tokens", "60", "--out", "out", "--json")
    short = warm.run("run", *options, *paid, "--max-usd", "0.006", cwd=one.directory)
    firsts, seconds = split(one.server)
    assert short.code == 3
    assert firsts
    assert seconds
    assert short.document["usd_spent"] == pytest.approx(len(one.server.received) * 140e-6)
    assert short.document["usd_spent"] <= 0.006
    assert short.document["requests"]["sent"] == len(one.server.received)
    rest = warm.run("run", *options, *paid, cwd=one.directory)
    assert rest.code == 0
    assert rest.document["requests"]["hits"] == short.document["requests"]["sent"]
    assert len(one.server.received) == INPUTS * 3 + TABLE.examples
    assert warm.run("run", *options, "--max-tokens", "60", "--offline", "--out", "off", cwd=one.directory).code == 0


@pytest.mark.slow
def test_killed_at_any_moment_nothing_is_asked_twice(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """kill -9 in either wave, three times over: what the store holds is never asked again, and the numbers agree."""
    one = bench(TABLE, latency=0.02)
    options = ["run", *options_of(one.server, one.directory, "chat"), "--verbosity", "normal", "--verbosity", "brief"]
    command = [*options, "--max-connections", "4", "--shams", "0", "--json"]
    lost = 0
    for more in (10, 25, 30):
        before = len(one.server.received)
        child = warm.start(*command, "--out", "out", cwd=one.directory)
        one.server.wait_for(before + more)
        child.send(signal.SIGKILL)
        child.finish()
        time.sleep(0.1)
        lost += 2 * 4  # under way at the endpoint, or come home and not yet on the disk
    last = warm.run(*command, "--out", "out", cwd=one.directory)
    whole = warm.run(*command, "--out", "out2", "--cache", "cache2", cwd=one.directory)

    assert (last.code, whole.code) == (0, 0)
    undisturbed = whole.document["requests"]["sent"]
    assert undisturbed == INPUTS * 3
    twice = len(one.server.received) - 2 * undisturbed
    assert 0 <= twice <= lost
    for name in ("metrics.json", "metrics.csv"):
        assert (one.directory / "out" / name).read_bytes() == (one.directory / "out2" / name).read_bytes()


@pytest.mark.sampled(1)
@pytest.mark.parametrize("style", STYLES)
def test_outcomes_of_either_call(bench: Callable[..., Any], warm: WarmCommands, style: str) -> None:
    """An unreadable answer is never explained; a bad explanation keeps its label; retried, each call is asked again."""
    places = TABLE.pairs()
    kinds = dict(zip(("unparsed", "truncated", "empty", "contradiction", "400"), places[3:], strict=False))
    if style == "chat":
        kinds["refusal"] = places[8]
    one = bench(
        TABLE,
        always={places[0]: "unparsed"},
        explained_always={place: fault for fault, place in kinds.items()},
        faults={places[10]: ["truncated"]},
        explained_faults={places[10]: ["truncated"], places[11]: ["truncated"]},
    )
    options = ["run", *options_of(one.server, one.directory, style), "--shams", "0", "--out", "out"]
    result = warm.run(*options, "--retry", "truncated", cwd=one.directory)
    trials = {(t["example_id"], t["inserted"]): t for t in read_trials(one.directory / "out")}

    assert result.code == 0, result.stderr
    _, seconds = split(one.server)
    unreadable = trials[places[0]]
    assert places[0] not in {second.place for second in seconds}
    assert (unreadable["status"], unreadable["status_side"], unreadable["label_after"]) == ("unparsed", "after", None)
    statuses = {"refusal": "refused", "contradiction": "unparsed", "400": "rejected"}
    arm = Arm("planted", style, "pe2")
    for fault, place in kinds.items():
        trial = trials[place]
        assert (trial["status"], trial["status_side"]) == (statuses.get(fault, fault), "after"), fault
        assert (trial["label_after"], trial["changed"], trial["mentioned"]) == (TABLE.label(arm, *place), None, None)
        assert trial["probs_after"] is not None
    for place in places[10:12]:
        assert (trials[place]["status"], trials[place]["mentioned"]) == (
            "ok", TABLE.mention(arm, *place) == "word",
        )  # fmt: skip
    asked = Counter((received.place, received.given is not None) for received in one.server.received)
    assert [asked[places[10], False], asked[places[10], True], asked[places[11], False], asked[places[11], True]] == [
        2, 2, 1, 2,
    ]  # fmt: skip


def test_completion_without_shots_of_a_level_is_noted(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """No shots of that length: the other levels are run, and run.json names the arm that was not."""
    one = bench(replace(TABLE, levels=False))
    options = ["run", *options_of(one.server, one.directory, "completion"), "--limit", "2", "--out", "out"]
    result = warm.run(*options, "--verbosity", "brief", "--verbosity", "normal", cwd=one.directory)

    assert result.code == 0, result.stderr
    assert "task: completion style was not asked at verbosity brief" in result.stderr
    noted = json.loads((one.directory / "out" / "run.json").read_text())["facts"]["no_level_shots"]
    assert noted == [
        {"endpoint": "lab", "model": "openai/planted", "task": "task", "order": "pe2", "style": "completion",
         "shots": 2, "verbosity": "brief"}
    ]  # fmt: skip
    assert {t["verbosity"] for t in read_trials(one.directory / "out")} == {"normal"}
    assert len(one.server.received) == 2 * (2 * (1 + TABLE.words) + 1)
