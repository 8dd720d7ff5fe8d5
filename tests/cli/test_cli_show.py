"""`explaineval show`: from the run directory alone, with answers from the cache where it is there."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from explaineval.cache import open_store, request_key
from explaineval.config import ClientConfig, ModelConfig, RunConfig
from explaineval.prompts import default_directory
from explaineval.records import Completion, Example, Intervention, Message, Request, Trial, record_dict
from explaineval.rundir.directory import PROMPTS, TRIALS, write_inputs, write_lines, write_run
from makers.command_line import Call
from makers.runs import minimal_record

COMMAND = "show"
COLUMNS = 120

QUESTION = Message(role="user", content="?")
ASKED = Request(endpoint="lab", model="openai/smol", style="chat", messages=(QUESTION,), max_tokens=9)
LOST = request_key(ASKED)
CUE = "I think the answer is (B)."


def make_trial(example: str, edit: str | None = "1", **changes: Any) -> Trial:
    """A trial of an example; `edit` None: a sham."""
    values: dict[str, Any] = {
        "endpoint": "lab", "model": "openai/smol", "task": "mine", "order": "pe", "style": "chat", "shots": 0,
        "verbosity": "normal", "sample": 0, "example_id": example, "intervention_id": f"{example}.{edit}",
        "kind": "hand", "field": "note", "inserted": "quick", "text_after": "The quick clerk waits.", "status": "ok",
        "status_side": None, "label_before": "A", "label_after": "A", "gold": "A", "changed": False,
        "mentioned": False, "probs_before": None, "probs_after": None, "label_mass_before": None,
        "label_mass_after": None, "tvd": None, "tvd_reason": "before: logprobs were not asked for",
        "mentioned_before": False, "explanation_before": "He waits.", "explanation": "He is quickish.",
        "key_before": "b" * 64, "key_after": "a" * 64,
    }  # fmt: skip
    if edit is None:
        values |= dict.fromkeys(("intervention_id", "field", "inserted", "text_after", "mentioned", "mentioned_before"))
        values["kind"] = "sham"
    return Trial.model_validate(values | changes)


def make_example(name: str, task: str = "mine") -> Example:
    """An example with one field."""
    return Example(id=name, task=task, fields={"note": "The clerk waits."}, options={"A": "yes", "B": "no"}, gold="A")


def make_run(directory: Path, trials: list[Trial], examples: list[Example], **config: Any) -> Path:
    """A run directory with the prompts that come with the package."""
    directory.mkdir()
    models = [ModelConfig(model="openai/smol", endpoint="lab"), ModelConfig(model="openai/tiny", endpoint="lab")]
    science = RunConfig.model_validate({"tasks": ["jsonl:mine.jsonl"], "models": models, **config})
    client = ClientConfig.model_validate({"cache": str(directory.parent / "answers")})
    write_run(directory, minimal_record(config=science, client=client))
    edits = [
        Intervention(
            id=f"{one.id}.1", task=one.task, example_id=one.id, kind="hand", field="note", offset=4, inserted="quick"
        )
        for one in examples
    ]
    edits += [
        Intervention(id=f"{one.id}.c", task=one.task, example_id=one.id, kind="cue_user", inserted=CUE, target="B")
        for one in examples
    ]
    write_inputs(directory, examples, edits, default_directory())
    write_lines(directory / TRIALS, (one.model_dump_json() for one in trials))
    return directory


LOST_TRIAL = {
    "status": "unparsed", "status_side": "after", "changed": None, "mentioned": None, "label_after": None,
    "explanation": None, "key_after": LOST,
}  # fmt: skip
CUED = {
    "kind": "cue_user", "field": None, "inserted": CUE, "text_after": CUE, "label_after": "B", "changed": True,
    "mentioned": True, "explanation": "As you think so.",
}  # fmt: skip


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """e1: a sham, a plain trial, a cue; e2: an unread answer; e3: never asked; e10 of two tasks and two models."""
    trials = [
        make_trial("e1"), make_trial("e1", "c", **CUED), make_trial("e1", None), make_trial("e2", **LOST_TRIAL),
        make_trial("e10", label_after="B", changed=True), make_trial("e10", model="openai/tiny"),
        make_trial("e10", task="other"),
    ]  # fmt: skip
    examples = [*map(make_example, ("e1", "e2", "e3", "e10")), make_example("e10", "other")]
    return make_run(tmp_path / "run", trials, examples)


def put(directory: Path, text: str) -> None:
    """Store the answer that could not be read."""

    async def store(found: Any) -> None:
        await found.put(ASKED, Completion(text=text, finish_reason="stop"))

    with open_store(directory) as opened:
        asyncio.run(store(opened))


def test_an_example_is_shown(run_dir: Path, call: Call) -> None:
    """The example, the untouched input, and each intervention with its decision."""
    code, out, err = call(run_dir, "--example", "e1")

    assert (code, err) == (0, "")
    assert "e1 of task mine" in out
    assert "Mentions are decided by policy word, the run's own. Cues are decided by their phrases." in out
    assert "asked again 1 time: same answer" in out
    assert "1. hand: 'quick' into note  e1.1" in out
    assert "The [[quick]] clerk waits." in out
    assert "2. cue_user: suggests B no  e1.c" in out
    assert "A → B changed" in out
    assert "mentioned: 'you think' (phrases of the cue user)" in out
    assert "\x1b" not in out


def test_lost_phrases_leave_the_record(run_dir: Path, call: Call) -> None:
    """Without the prompts a cue's decision is that of the run, in the text and in the list."""
    shutil.rmtree(run_dir / PROMPTS)

    assert "mentioned, by the run's own record" in call(run_dir, "--example", "e1")[1]
    assert call(run_dir, "--list", "--mention", "lemma")[1].splitlines()[1].split() == [
        "mine",
        "e1",
        "2",
        "1",
        "1",
        "0",
    ]


def test_the_list_counts(run_dir: Path, call: Call) -> None:
    """One line an example, in file order, shams left out."""
    code, out, _ = call(run_dir, "--list")

    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["task", "example", "trials", "changed", "mentioned", "not", "scored"],
        ["mine", "e1", "2", "1", "1", "0"],
        ["mine", "e2", "1", "0", "0", "1"],
        ["mine", "e3", "0", "0", "0", "0"],
        ["mine", "e10", "2", "1", "0", "0"],
        ["other", "e10", "1", "0", "0", "0"],
    ]


@pytest.mark.parametrize(
    ("filters", "places"),
    [
        (["--only", "changed"], [("mine", "e1"), ("mine", "e10")]),
        (["--only", "disagreeing"], [("mine", "e10")]),
        (["--only", "missing"], [("mine", "e2")]),
        (["--only", "mentioned"], [("mine", "e1")]),
        (["--only", "mentioned", "--mention", "substring", "--task", "other"], [("other", "e10")]),
        (["--only", "changed", "--model", "openai/tiny"], []),
    ],
)
def test_the_list_is_filtered(filters: list[str], places: list[tuple[str, str]], run_dir: Path, call: Call) -> None:
    """Only examples with such a trial are listed, under the policy given."""
    code, out, _ = call(run_dir, "--list", "--json", *filters)
    found = json.loads(out)["examples"]

    assert code == 0
    assert [(one["task"], one["example_id"]) for one in found] == places
    assert all(set(one) == {"task", "example_id", "trials", "changed", "mentioned", "not_scored"} for one in found)
    if not places:
        assert "no example" in call(run_dir, "--list", *filters)[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--example", "e11"], "no example 'e11' (similar ids: e1"),
        (["--example", "zzz"], "no example 'zzz': `explaineval show"),
        (["--example", "e10"], "is in the tasks mine and other: add --task mine."),
        (["--example", "e1", "--task", "nope"], "has no task 'nope': it has mine, other."),
        (["--example", "e1", "--model", "nope"], "has no model 'nope': it has openai/smol, openai/tiny."),
        ([], "give --example ID, or --list"),
        (["--example", "e1", "--list"], "give --example ID, or --list"),
        (["--example", "e2", "--cache", "nowhere"], "There is no cache in"),
    ],
)
def test_an_unknown_name_or_filter_gets_one_sentence(words: list[str], said: str, run_dir: Path, call: Call) -> None:
    """The sentence says what is unknown, what there is, and how to list all of it."""
    code, out, err = call(run_dir, *words)

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_no_run_gets_one_sentence(tmp_path: Path, call: Call) -> None:
    """A directory without a run is bad input, with --json too."""
    code, out, _ = call(tmp_path, "--example", "e1", "--json")

    assert (code, json.loads(out)["error"]["code"]) == (2, 2)


def test_task_and_model_choose(run_dir: Path, call: Call) -> None:
    """--task chooses among tasks with the same id, and --model leaves a model out."""
    both = call(run_dir, "--example", "e10", "--task", "mine")[1]
    one = call(run_dir, "--example", "e10", "--task", "mine", "--model", "openai/tiny")[1]

    assert ("openai/smol at lab" in both, "openai/tiny at lab" in both) == (True, True)
    assert ("openai/smol at lab" in one, "openai/tiny at lab" in one) == (False, True)
    assert "e10 of task other" in call(run_dir, "--example", "e10", "--task", "other")[1]


def test_an_example_without_trials(run_dir: Path, call: Call) -> None:
    """A run that was cut off has examples that were never asked."""
    code, out, _ = call(run_dir, "--example", "e3")

    assert code == 0
    assert "This example has no trials yet" in out


def test_another_policy(run_dir: Path, call: Call) -> None:
    """The policy is named at the top, and beside each decision that differs under it."""
    out = call(run_dir, "--example", "e1", "--mention", "substring")[1]

    assert "Mentions are decided by policy substring; the run's own is word." in out
    assert "mentioned: 'quick' matches 'quick' (policy substring); the run itself: not mentioned" in out
    assert "He is [[quick]]ish." in out


def test_the_variable_sets_the_option(run_dir: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """EXPLAINEVAL_ONLY has the effect of --only."""
    monkeypatch.setenv("EXPLAINEVAL_ONLY", "changed")

    assert "1. hand" not in call(run_dir, "--example", "e1")[1]
    assert "2. cue_user" in call(run_dir, "--example", "e1")[1]


def test_unread_answers_come_from_the_cache(run_dir: Path, call: Call, tmp_path: Path) -> None:
    """They come from the run's own cache or the one named; without a cache the text says where they are."""
    said = call(run_dir, "--example", "e2")[1]
    assert f"is not at {tmp_path / 'answers'}: --cache DIR names it" in " ".join(said.split())

    put(tmp_path / "answers", "A or B [red]")
    put(tmp_path / "other", "B or A")
    before = sorted((path.name, path.read_bytes()) for path in (tmp_path / "answers").glob("*.db"))
    out = call(run_dir, "--example", "e2")[1]
    assert "A or B [red]  (finish reason: stop)" in out
    assert "(unparsed): two different answers: A and B" in " ".join(out.split())
    assert "B or A  (finish" in call(run_dir, "--example", "e2", "--cache", tmp_path / "other")[1]
    assert before == sorted((path.name, path.read_bytes()) for path in (tmp_path / "answers").glob("*.db"))


def test_all_answers(run_dir: Path, call: Call, tmp_path: Path) -> None:
    """--answers shows every stored answer, and names those that the cache lacks."""
    put(tmp_path / "answers", "A or B")
    out = call(run_dir, "--example", "e1", "--answers")[1]

    assert out.count("came back") == 3
    assert f"the cache {tmp_path / 'answers'} holds no answer under its key" in " ".join(out.split())


def test_the_document(run_dir: Path, call: Call, tmp_path: Path) -> None:
    """One document: example, trials with spans, and the completions at hand."""
    put(tmp_path / "answers", "A or B")
    document = json.loads(call(run_dir, "--example", "e2", "--json")[1])

    assert document["example"] == record_dict(make_example("e2"))
    assert (document["mention"], document["mention_of_run"]) == ("word", "word")
    assert document["completions"][LOST]["text"] == "A or B"
    assert [trial["insertion"] for trial in document["trials"]] == [[4, 9]]
    assert document["trials"][0]["decision"] is None
    first = json.loads(call(run_dir, "--example", "e1", "--json", "--only", "changed")[1])["trials"]
    assert [(trial["kind"], trial["target"]) for trial in first] == [("cue_user", "B"), ("sham", None)]
    assert first[0]["decision"]["matched"] == "you think"
    assert first[0]["explanation"][slice(*first[0]["decision"]["span"])] == "you think"


def test_a_torn_last_line_is_left_out(run_dir: Path, call: Call) -> None:
    """A run that is being written can be looked at."""
    with (run_dir / TRIALS).open("a", encoding="utf-8") as handle:
        handle.write('{"endpoint": "lab", "mod')

    assert call(run_dir, "--example", "e1")[0] == 0


@pytest.mark.parametrize(("setting", "marked"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_color_in_a_terminal(setting: dict[str, str], marked: bool, run_dir: Path) -> None:
    """Reverse where there is color, brackets where there is none, at the width of the terminal."""
    master, slave = pty.openpty()
    words = [sys.executable, "-m", "explaineval", "show", str(run_dir), "--example", "e1"]
    done = subprocess.run(words, stdout=slave, env={**os.environ, "COLUMNS": "70", **setting}, check=False, timeout=60)
    os.close(slave)
    out = os.read(master, 1 << 16).decode()
    os.close(master)

    assert done.returncode == 0
    assert ("\x1b[1;7mquick" in out, "[[quick]]" in out) == (marked, not marked)
    assert ("\x1b[" in out) == marked
    assert "─" * 70 in out
    assert "─" * 71 not in out
