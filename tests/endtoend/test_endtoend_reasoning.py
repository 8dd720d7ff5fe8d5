"""Reasoning from the wire to `show`: stored with the answer, carried into the trials, served again from the cache."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from servers.commands import WarmCommands
from servers.scripted import ScriptedServer
from servers.tables import Table

TABLE = Table(examples=3, words=2, seed=9)
SAID = "Answer: A\nExplanation: It follows."
NAMES = ("reasoning_before", "reasoning", "reasoning_explanation_before", "reasoning_explanation")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a task and its interventions."""
    TABLE.write_task(tmp_path / "task.jsonl")
    TABLE.write_interventions(tmp_path / "edits.jsonl")
    return tmp_path


def options(url: str, *more: str) -> list[str]:
    """`run` against the server."""
    fixed = ["run", "--task", "jsonl:task.jsonl", "--interventions", "edits.jsonl", "--shots", "0", "--json"]
    return [*fixed, "--model", "openai/m", "--base-url", url, "--endpoint-name", "lab", "--out", "out", *more]


def trials_of(place: Path, out: str = "out") -> list[dict[str, Any]]:
    """The lines of trials.jsonl."""
    return [json.loads(line) for line in (place / out / "trials.jsonl").read_text("utf-8").splitlines()]


def think(prompt: str) -> dict[str, Any]:
    """Reasoning that says what was asked."""
    return {"reasoning_content": f"They ask: {prompt}"}


def test_reasoning_is_stored_shown_and_served_again(place: Path, warm: WarmCommands) -> None:
    """Each trial has the reasoning of its own two calls; a second run sends nothing and says the same."""
    with ScriptedServer(script=lambda _: (SAID, None), beside=think) as server:
        first = warm.run(*options(server.url), cwd=place)
        trials, sent = trials_of(place), len(server.prompts)
        again = warm.run(*options(server.url, "--out", "again"), cwd=place)

        assert (first.code, again.code, len(server.prompts)) == (0, 0, sent), first.stdout + first.stderr
    assert sorted(map(json.dumps, trials)) == sorted(map(json.dumps, trials_of(place, "again")))
    for trial in trials:
        before, after, *second = (trial[name] for name in NAMES)
        assert second == [None, None]
        assert before.startswith("They ask: ")
        if trial["kind"] != "sham":
            assert trial["text_after"] in after
            assert trial["text_after"] not in before
    name = trials[0]["example_id"]
    text = warm.run("show", "out", "--example", name, cwd=place)
    document = warm.run("show", "out", "--example", name, "--json", cwd=place).document
    assert re.search(r"\breasoning +They ask: ", text.stdout)
    assert [one["reasoning"] for one in document["trials"]] == [
        one["reasoning"] for one in trials if one["example_id"] == name
    ]


@pytest.mark.slow
def test_packs_carry_reasoning_to_another_place(place: Path, warm: WarmCommands) -> None:
    """Exported, imported elsewhere, run offline: the same trials."""
    with ScriptedServer(script=lambda _: (SAID, None), beside=think) as server:
        assert warm.run(*options(server.url), cwd=place).code == 0
        assert warm.run("cache", "export", "--out", "all.pack", cwd=place).code == 0
        assert warm.run("cache", "import", "all.pack", "--cache", "other", cwd=place).code == 0
        done = warm.run(*options(server.url, "--offline", "--cache", "other", "--out", "far"), cwd=place)

    assert done.code == 0, done.stderr
    assert sorted(map(json.dumps, trials_of(place))) == sorted(map(json.dumps, trials_of(place, "far")))


def test_two_calls_have_two_reasonings(place: Path, warm: WarmCommands) -> None:
    """In order pe2 the answering call's and the explaining call's; a sham has only the former."""
    with ScriptedServer(script=lambda _: (SAID, None), beside=think) as server:
        done = warm.run(*options(server.url, "--order", "pe2"), cwd=place)

    assert done.code == 0, done.stdout + done.stderr
    trials = trials_of(place)
    for trial in trials:
        before, after, second_before, second = (trial[name] for name in NAMES)
        assert before.startswith("They ask: ")
        assert after.startswith("They ask: ")
        if trial["kind"] == "sham":
            assert (second_before, second) == (None, None)
        else:
            assert trial["text_after"] in after
            assert second.startswith("They ask: ")
            assert second_before.startswith("They ask: ")
            assert (second != after, second_before != before) == (True, True)
    text = warm.run("show", "out", "--example", trials[0]["example_id"], cwd=place).stdout
    assert text.count("reasoning (2)") == 1 + TABLE.words


@pytest.mark.sampled(1)
@pytest.mark.parametrize("style", ["chat", "completion"])
def test_tags_in_the_text_are_reasoning_of_the_trial(place: Path, warm: WarmCommands, style: str) -> None:
    """Whoever takes the block out of the text, the trial has it, and the explanation does not."""
    said = "<think>They may be right.</think>\n" + (SAID if style == "chat" else SAID.partition(":")[2])
    with ScriptedServer(script=lambda _: (said, None)) as server:
        done = warm.run(*options(server.url, "--style", style), cwd=place)

    assert done.code == 0, done.stdout + done.stderr
    found = {(one["status"], one["reasoning_before"], one["reasoning"], one["explanation"]) for one in trials_of(place)}
    assert found == {("ok", "They may be right.", "They may be right.", "It follows.")}


def test_reasoning_of_an_answer_that_was_cut_is_kept(place: Path, warm: WarmCommands) -> None:
    """A block that never closed: no answer, but what was paid for is in the trial."""
    with ScriptedServer(script=lambda _: ("<think>They may be", None)) as server:
        done = warm.run(*options(server.url), cwd=place)

    assert done.code in (0, 5), done.stderr
    assert {(one["label_after"], one["reasoning"]) for one in trials_of(place)} == {(None, "They may be")}


@pytest.mark.slow
def test_trials_of_an_earlier_version_are_read(place: Path, warm: WarmCommands) -> None:
    """`score` and `show` of a run whose trials know nothing of reasoning."""
    with ScriptedServer(script=lambda _: (SAID, None)) as server:
        assert warm.run(*options(server.url), cwd=place).code == 0
    metrics = (place / "out" / "metrics.json").read_bytes()
    trials = trials_of(place)
    assert {tuple(one[name] for name in NAMES) for one in trials} == {(None,) * 4}
    without = [{name: value for name, value in one.items() if name not in NAMES} for one in trials]
    (place / "out" / "trials.jsonl").write_text("".join(json.dumps(one) + "\n" for one in without), "utf-8")

    scored = warm.run("score", "out", cwd=place)
    shown = warm.run("show", "out", "--example", trials[0]["example_id"], cwd=place)
    assert (scored.code, shown.code) == (0, 0), scored.stderr + shown.stderr
    assert metrics == (place / "out" / "metrics.json").read_bytes()
    assert "reasoning" not in shown.stdout
