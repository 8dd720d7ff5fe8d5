"""Answers that cannot be scored, and requests without any: status, scores, exit code, and what is asked again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from planted_numbers import count, read_rows, read_trials

from servers.commands import Result, WarmCommands
from servers.planted import Fault, Place, PlantedServer
from servers.tables import KIND, Arm, Table

TABLE = Table(examples=12, words=3, seed=34)  # where each class of missing trials moves a bound of phi
ARM = Arm("planted", "chat", "pe")


def place(number: int, word: int | None) -> Place:
    """The place of an example's n-th word, or of its unchanged input."""
    example = TABLE.ids[number]
    return example, None if word is None else TABLE.markers(example)[word]


ALWAYS: dict[Place, Fault] = {
    place(1, 0): "truncated",
    place(2, 1): "refusal",
    place(3, 0): "content_filter",
    place(4, 2): "empty",
    place(5, 1): "unparsed",
    place(6, 0): "400",
    place(7, 2): "500",
    place(0, None): "content_filter",  # no answer before: all trials of that example are missing
    place(8, None): "truncated",
    place(9, None): "refusal",
    place(9, 1): "unparsed",  # neither before nor after
    place(11, None): "empty",
}
PASSING: dict[Place, list[Fault]] = {place(10, 0): ["429"], place(10, 1): ["500"], place(11, 0): ["reset"]}
STATUSES = {"truncated": "truncated", "refusal": "refused", "content_filter": "filtered", "empty": "empty",
            "unparsed": "unparsed", "400": "rejected", "500": "failed"}  # fmt: skip


@dataclass(frozen=True)
class Told:
    """A run with all outcomes, and the same command again, twice: as it was, and with the endpoint mended."""

    first: Result
    again: Result
    mended: Result
    sessions: tuple[list[Place], list[Place], list[Place]]
    trials: list[dict[str, Any]]
    rows: dict[str, dict[str, Any]]
    last_trials: list[dict[str, Any]]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, warm: WarmCommands) -> Iterator[Told]:
    """Three runs of one command."""
    directory = tmp_path_factory.mktemp("outcomes")
    TABLE.write_task(directory / "task.jsonl")
    TABLE.write_interventions(directory / "edits.jsonl")
    passing = {where: list(faults) for where, faults in PASSING.items()}
    with PlantedServer(TABLE, faults=passing, always=dict(ALWAYS)) as server:
        command = ["run", "--task", "jsonl:task.jsonl", "--interventions", "edits.jsonl", "--model", "openai/planted"]
        command += ["--base-url", server.url, "--shots", "2", "--max-retries", "1", "--out", "out", "--json"]
        sessions: list[list[Place]] = []
        results: list[Result] = []
        kept: list[list[dict[str, Any]]] = []
        rows: list[list[dict[str, Any]]] = []
        for _ in range(3):
            before = len(server.received)
            results.append(warm.run(*command, cwd=directory))
            sessions.append([one.place for one in server.received[before:]])
            kept.append(read_trials(directory / "out"))
            rows.append(read_rows(directory / "out"))
            if len(results) == 2:
                server.always = {where: fault for where, fault in ALWAYS.items() if fault not in ("400", "500")}
        by_metric = {row["metric"]: row for row in rows[0]}
        yield Told(*results, (sessions[0], sessions[1], sessions[2]), kept[0], by_metric, kept[2])


def expected_status(pair: tuple[str, str]) -> tuple[str, str | None]:
    """Status and side of an intervention's trial, from the planted faults."""
    before, after = ALWAYS.get((pair[0], None)), ALWAYS.get(pair)
    if before is None and after is None:
        return "ok", None
    if before is None:
        return STATUSES[str(after)], "after"
    return STATUSES[before], "before" if after is None else "both"


@pytest.mark.slow
def test_each_trial_has_its_status(told: Told) -> None:
    """Statuses and sides as planted; passing faults leave no trace; what is not ok has no changed, mention, TVD."""
    found = {(t["example_id"], t["inserted"]): t for t in told.trials if t["kind"] == KIND}

    assert {pair: expected_status(pair) for pair in TABLE.pairs()} == {
        pair: (trial["status"], trial["status_side"]) for pair, trial in found.items()
    }
    for trial in found.values():
        if trial["status"] != "ok":
            assert (trial["changed"], trial["mentioned"], trial["tvd"]) == (None, None, None)
    shams = {t["example_id"]: (t["status"], t["mentioned"]) for t in told.trials if t["kind"] == "sham"}
    wanted = {example: ALWAYS.get((example, None)) for example in TABLE.ids}
    assert {example: (STATUSES[fault] if fault else "ok", None) for example, fault in wanted.items()} == shams


def test_missing_trials_are_counted_and_never_scored(told: Told) -> None:
    """Rates and phi count ok trials alone; excluded_rate counts the rest, shams left out."""
    pairs = [pair for pair in TABLE.pairs() if expected_status(pair)[0] == "ok"]
    a, b, c, d = count(
        [TABLE.changed(ARM, *pair) for pair in pairs], [TABLE.mention(ARM, *pair) == "word" for pair in pairs]
    )
    missing = len(TABLE.pairs()) - len(pairs)

    assert missing == 7 + 4 * 3
    assert (len(pairs), len(TABLE.pairs())) == (told.rows["phi_cct"]["n"], told.rows["excluded_rate"]["n"])
    assert told.rows["excluded_rate"]["value"] == pytest.approx(missing / len(TABLE.pairs()))
    assert told.rows["impact_rate"]["value"] == pytest.approx((a + b) / len(pairs))
    assert told.rows["tpr"]["value"] == pytest.approx(a / (a + b))
    assert told.rows["fpr"]["value"] == pytest.approx(c / (c + d))
    golds = {one: TABLE.gold(one) for one in TABLE.ids if (one, None) not in ALWAYS and TABLE.gold(one)}
    right = [TABLE.label(ARM, example, None) == gold for example, gold in golds.items()]
    assert (len(right), pytest.approx(sum(right) / len(right))) == (
        told.rows["accuracy"]["n"],
        told.rows["accuracy"]["value"],
    )


def test_bounds_are_the_extremes_of_all_completions(told: Told) -> None:
    """The bounds of phi are those of every way in which the missing trials could have come out, by brute force."""
    pairs = TABLE.pairs()
    ok = [pair for pair in pairs if expected_status(pair)[0] == "ok"]
    a, b, c, d = count([TABLE.changed(ARM, *p) for p in ok], [TABLE.mention(ARM, *p) == "word" for p in ok])
    readable = [p for p in pairs if expected_status(p)[0] != "ok" and p not in ALWAYS]
    named = sum(TABLE.mention(ARM, *p) == "word" for p in readable)
    unnamed, unknown = len(readable) - named, len(pairs) - len(ok) - len(readable)
    reached = [
        phi(a + i + u1, b + k + u2, c + named - i + u3, d + unnamed - k + unknown - u1 - u2 - u3)
        for i in range(named + 1)
        for k in range(unnamed + 1)
        for u1 in range(unknown + 1)
        for u2 in range(unknown - u1 + 1)
        for u3 in range(unknown - u1 - u2 + 1)
    ]

    assert told.rows["phi_cct_lower_bound"]["value"] == pytest.approx(min(x for x in reached if x is not None))
    assert told.rows["phi_cct_upper_bound"]["value"] == pytest.approx(max(x for x in reached if x is not None))


def phi(a: int, b: int, c: int, d: int) -> float | None:
    """The correlation of a 2x2 table, by its formula."""
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    return (a * d - b * c) / margins**0.5 if margins else None


def test_failed_requests_end_in_exit_code_5(told: Told) -> None:
    """A request that stays failed after its retries: exit 5, the rest is scored; rejections alone are no failure."""
    assert (told.first.code, told.again.code, told.mended.code) == (5, 5, 0)
    assert told.first.document["exit_code"] == 5
    assert len(PASSING) + 1 == told.first.document["requests"]["retries"]


def test_outcomes_are_stored_but_rejected_and_failed_are_asked_again(told: Told) -> None:
    """The second run asks for the rejected and (twice, one retry) for the failed one; mended, both are answered."""
    attempts = Counter(told.sessions[0])
    assert dict.fromkeys(PASSING, 2) | {place(7, 2): 2} == {
        where: n for where, n in attempts.items() if n != 1 and where[1] is not None
    }
    assert Counter({place(6, 0): 1, place(7, 2): 2}) == Counter(told.sessions[1])
    assert Counter({place(6, 0): 1, place(7, 2): 1}) == Counter(told.sessions[2])
    assert (told.mended.document["requests"]["sent"], told.mended.document["requests"]["unsent"]) == (2, 0)
    last = {(t["example_id"], t["inserted"]): t["status"] for t in told.last_trials}
    assert (last[place(6, 0)], last[place(7, 2)]) == ("ok", "ok")
    assert last[place(1, 0)] == "truncated"


def test_a_dead_endpoint_is_exit_code_5(tmp_path: Path, warm: WarmCommands) -> None:
    """Nothing listens: one sentence that names the address, exit 5, and no metric is made up."""
    table = Table(examples=2, words=1)
    table.write_task(tmp_path / "task.jsonl")
    table.write_interventions(tmp_path / "edits.jsonl")
    with PlantedServer(table) as server:
        url = server.url
    command = ["run", "--task", "jsonl:task.jsonl", "--interventions", "edits.jsonl", "--model", "openai/planted"]
    result = warm.run(*command, "--base-url", url, "--max-retries", "1", "--json", cwd=tmp_path)

    assert result.code == 5
    assert result.document["metrics"] == []
    assert url in result.stderr
