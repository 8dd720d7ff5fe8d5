"""Order pe2 in one process: which calls are made, what each outcome does to a trial, and what a run keeps of levels."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from explaineval.archive.bundle import level_files, prepared_from
from explaineval.cache import request_key
from explaineval.client.endpoints.capabilities import Capabilities
from explaineval.config import ClientConfig, RunConfig, build
from explaineval.errors import InputError, RequestFailedError, RequestUnsentError
from explaineval.execution.model_run import unit_trials
from explaineval.execution.pool import Pool, ask_units
from explaineval.interventions import SHAM
from explaineval.planning import provenance
from explaineval.planning.prepare import Prepared, prepare
from explaineval.planning.requests import LONGER, RETRY_SAMPLES, Reply
from explaineval.planning.units import Unit, plan, walk
from explaineval.prompts import default_directory
from explaineval.records import Completion, Request, Trial
from explaineval.rundir.directory import read_run
from makers.prepared import CLIENT, keys, write_run

LEVELS = ["minimal", "brief", "normal", "detailed", "exhaustive"]
ABLE = Capabilities(None, 0.0, "off")
ANSWER = Completion(text="Answer: A", finish_reason="stop")
EXPLANATION = Completion(text="Explanation: It is so.", finish_reason="stop")
BAD = {
    "unparsed": Completion(text="Explanation:", finish_reason="stop"),
    "truncated": Completion(text="Explanation: It is", finish_reason="length"),
    "refused": Completion(text=None, refusal="No.", finish_reason="stop"),
    "empty": Completion(text="", finish_reason="stop"),
}
CONTRADICTIONS = {
    name: Completion(text=text, finish_reason="stop")
    for name, text in {
        "contradiction": "Answer: B\nExplanation: It is so.",
        "statement": "Explanation: Since nothing is said of it, the correct answer is actually B.",
        "retraction": "Explanation: I made a mistake. It is not so.",
    }.items()
}
UNREADABLE = Completion(text="Who knows?", finish_reason="stop")


def is_second(request: Request) -> bool:
    """Whether the request asks to explain an answer that it gives."""
    if request.prompt is not None:
        return request.prompt.endswith("\nExplanation:")
    return (request.messages or ())[-1].content.startswith("Now explain")


@dataclass
class Scripted:
    """A client that keeps what it is asked and answers each key once, as a cache would."""

    reply: Callable[[Request], Completion] = lambda request: EXPLANATION if is_second(request) else ANSWER
    asked: list[Request] = field(default_factory=list)
    known: dict[str, Completion] = field(default_factory=dict)

    async def complete(self, request: Request) -> Completion:
        key = request_key(request)
        if key not in self.known:
            self.asked.append(request)
            self.known[key] = self.reply(request)
        return self.known[key]

    @property
    def firsts(self) -> list[Request]:
        """The calls for answers."""
        return [one for one in self.asked if not is_second(one)]

    @property
    def seconds(self) -> list[Request]:
        """The calls for explanations."""
        return [one for one in self.asked if is_second(one)]


def prepared(**changes: Any) -> Prepared:
    """Two bundled examples with two words each."""
    values = {"tasks": ["sense"], "models": [{"model": "a/b"}], "limit": 2, "interventions": {"per_example": 2}}
    arms = {"order": ["pe2"], **changes.pop("arms", {})}
    return prepare(build(RunConfig, {**values, "arms": arms, **changes}, "t"), ClientConfig())


def run(client: Scripted, found: Prepared, unsent: list[Request] | None = None) -> tuple[list[Trial], Pool]:
    """The trials of a run, and the pool that asked."""
    trials: list[Trial] = []

    def receive(unit: Unit, replies: Sequence[Reply | None]) -> None:
        trials.extend(unit_trials(unit, replies, "word", 0.9))

    units = plan(found, found.config.models[0], lambda _: ABLE)
    pool = Pool(client, 2, asyncio.Event())
    asyncio.run(ask_units(pool, units, found.config.retry, receive, ([] if unsent is None else unsent).append))
    return trials, pool


@pytest.mark.parametrize("style", ["chat", "completion"])
def test_the_answer_is_asked_once_and_explained_per_level(style: str) -> None:
    """Per example 3 inputs and a sham are answered once, whatever the number of levels; each level explains 3."""
    client = Scripted()
    trials, _ = run(client, prepared(arms={"style": [style], "verbosity": LEVELS}))

    assert (len(client.firsts), len(client.seconds)) == (2 * 4, 2 * 3 * 5)
    assert len(trials) == 2 * 3 * 5
    by_level = {
        level: [(t.example_id, t.intervention_id, t.label_before, t.label_after, t.changed, t.key_answer_before,
                 t.key_answer_after) for t in trials if t.verbosity == level]
        for level in LEVELS
    }  # fmt: skip
    assert all(rows == by_level["normal"] for rows in by_level.values())
    assert {t.status for t in trials} == {"ok"}
    edits = [t for t in trials if t.kind != SHAM]
    assert {request_key(one) for one in client.seconds} == {t.key_before for t in edits} | {t.key_after for t in edits}
    assert {one.logprobs for one in client.seconds} == {None}


def test_an_own_template_cannot_bring_a_level_into_the_first_call(tmp_path: Path) -> None:
    """Even one that shows explained shots and the level asks every answer once: the shots are the normal ones."""
    prompts = tmp_path / "prompts"
    shutil.copytree(default_directory(), prompts)
    for style, line in (("completion", "{{ shots[0].explained }}"), ("chat", "{{ verbosity }}")):
        path = prompts / style / "pe2.j2"
        path.write_text(f"{line}\n{path.read_text(encoding='utf-8')}", encoding="utf-8")
    client = Scripted()
    arms = {"style": ["completion", "chat"], "shots": [2], "verbosity": LEVELS}
    run(client, prepared(arms=arms, prompts=prompts))

    assert len(client.firsts) == 2 * 2 * 4
    assert len(client.seconds) == 2 * 2 * 3 * 5


def test_shams_ask_no_explanation_and_do_not_hang_on_one() -> None:
    """A sham compares answers: the explanation of the untouched input may be unreadable, the sham counts."""
    client = Scripted(lambda one: BAD["unparsed"] if is_second(one) else ANSWER)
    trials, _ = run(client, prepared(shams=3))

    assert {one.sample for one in client.seconds} == {0}
    assert {one.sample for one in client.firsts} == {0, 1, 2, 3}
    shams = [t for t in trials if t.kind == SHAM]
    assert [(t.status, t.changed, t.explanation) for t in shams] == [("ok", False, None)] * 6
    assert all(t.key_before == t.key_answer_before and t.explanation_before is None for t in shams)
    assert {t.status for t in trials if t.kind != SHAM} == {"unparsed"}


def test_an_unreadable_answer_has_no_second_call() -> None:
    """What was not answered cannot be explained."""
    client = Scripted(lambda _: UNREADABLE)
    trials, _ = run(client, prepared(arms={"verbosity": LEVELS}))

    assert client.seconds == []
    assert {(t.status, t.status_side, t.label_before, t.changed) for t in trials} == {("unparsed", "both", None, None)}


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("status", [*BAD, "failed", *CONTRADICTIONS])
def test_an_explanation_that_cannot_be_read_keeps_the_label(status: str, side: str) -> None:
    """After the insertion: the side is named, both labels stand, nothing is scored. Before it: the trial counts."""
    found = prepared(shams=0)
    untouched = {tuple(example.fields.values()) for example in found.tasks[0].examples}

    def reply(request: Request) -> Completion:
        if not is_second(request):
            return ANSWER
        shown = (request.messages or ())[0].content
        if any(all(text in shown for text in texts) for texts in untouched) != (side == "before"):
            return EXPLANATION
        if status == "failed":
            raise RequestFailedError("down")
        return (BAD | CONTRADICTIONS)[status]

    trials, _ = run(Scripted(reply), found)

    wanted = "unparsed" if status in CONTRADICTIONS else status
    ends = {(t.status, t.status_side, t.label_before, t.label_after, t.changed, t.mentioned) for t in trials}
    if side == "before":  # its explanation is no part of the score, so only the mention floor lacks it
        assert ends == {("ok", None, "A", "A", False, False)}
        assert {(t.explanation_before, t.explanation, t.mentioned_before) for t in trials} == {
            (None, "It is so.", None)
        }
    else:
        assert ends == {(wanted, "after", "A", "A", None, None)}
        assert {(t.explanation_before, t.explanation) for t in trials} == {("It is so.", None)}
    assert all(t.key_before and t.key_after and t.key_answer_before and t.key_answer_after for t in trials)


@pytest.mark.parametrize("status", ["truncated", "unparsed"])
def test_either_call_is_asked_once_more(status: str) -> None:
    """Each bad answer is retried under a new index, and after a retried first call the second one can be too."""
    bad = {"truncated": BAD["truncated"], "unparsed": UNREADABLE}

    def reply(request: Request) -> Completion:
        if request.sample >= RETRY_SAMPLES:
            return EXPLANATION if is_second(request) else ANSWER
        if is_second(request):
            return BAD[status]
        return bad[status]

    client = Scripted(reply)
    trials, pool = run(client, prepared(retry=[status]))

    assert {t.status for t in trials} == {"ok"}
    for calls in (client.firsts, client.seconds):
        again = [one for one in calls if one.sample >= RETRY_SAMPLES]
        assert len(calls) == 2 * len(again)
        assert {one.max_tokens for one in again} == {512 * (LONGER if status == "truncated" else 1)}
    assert {one.sample for one in client.seconds} == {0, RETRY_SAMPLES}
    assert pool.progress.planned == 2 * 2 * (2 * 2 + 1) + len(client.asked) // 2


def test_samples_are_explained_under_their_own_index() -> None:
    """Sample k of an answer is explained by sample k of the second call."""
    client = Scripted()
    run(client, prepared(samples=3, shams=0))

    assert sorted(one.sample for one in client.firsts) == sorted(one.sample for one in client.seconds)
    assert {one.sample for one in client.seconds} == {0, 1, 2}


def test_what_follows_an_unsent_answer_is_unsent_too() -> None:
    """Nothing may be sent: the second calls are counted and told as a plan would count them."""

    def refuse(request: Request) -> Completion:
        raise RequestUnsentError("offline")

    unsent: list[Request] = []
    trials, pool = run(Scripted(refuse), prepared(arms={"verbosity": ["normal", "brief"]}), unsent)

    assert trials == []
    assert pool.progress.unsent == 2 * 3 * 2 == len({request_key(one) for one in unsent})
    assert all(is_second(one) for one in unsent)


def test_a_dialogue_that_is_given_up_tells_the_call_that_it_would_have_made() -> None:
    """Closed before the first reply, as when a run is cancelled: one explaining call, and none for a sham."""
    found = prepared()
    unit = next(plan(found, found.config.models[0], lambda _: ABLE))
    for variant in unit.asked:
        unsent: list[Request] = []
        dialogue = unit.dialogue(variant, unsent=unsent.append)
        next(dialogue)
        dialogue.close()

        assert [is_second(request) for request in unsent] == ([] if variant.is_sham else [True])


@pytest.mark.parametrize("style", ["chat", "completion"])
def test_the_sizes_of_all_units_are_what_is_asked(style: str) -> None:
    """What a stopped run counts as unsent: the first level's units hold the answers, the others explain them."""
    found = prepared(arms={"style": [style], "verbosity": LEVELS}, samples=2)
    client = Scripted()
    run(client, found)
    units = plan(found, found.config.models[0], lambda _: ABLE)

    assert sum(unit.distinct for unit in units) == len(client.asked)


def test_a_walk_knows_second_calls_from_the_first() -> None:
    """With an empty store each is one guess, of the right length; with all answers stored they are the very calls."""
    found = prepared(arms={"verbosity": ["normal", "brief"]})
    guessed = list(walk(found, lambda *_: ABLE))
    client = Scripted()
    run(client, found)
    known = list(walk(found, lambda *_: ABLE, client.known.get))

    assert len(guessed) == len(known) == len(client.asked)
    assert [step.certain for step in guessed] == [not is_second(step.request) for step in guessed]
    assert all(step.certain and step.completion is not None for step in known)
    assert {step.key for step in known} == client.known.keys()
    assert sorted(len(str(step.request)) for step in guessed) == sorted(len(str(step.request)) for step in known)


def write_task(path: Path, levels: Sequence[str]) -> str:
    """A task with three rows to evaluate and two shots, told at these levels; returns its spec."""
    rows = [
        {"id": f"e{n}", "fields": {"note": f"The clerk {n} waits."}, "options": {"A": "yes", "B": "no"}, "gold": "A"}
        | ({"explanation": "So it is.", "explanations": {one: f"{one} {n}" for one in levels}} if n > 2 else {})
        for n in range(5)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    lines = [{"task": path.stem, "example_id": f"e{n}", "kind": "hand", "field": "note", "offset": 4, "inserted": "odd"}
             for n in range(3)]  # fmt: skip
    (path.parent / "edits.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    return f"jsonl:{path}"


@pytest.mark.parametrize("order", ["pe", "pe2"])
def test_a_level_without_shots_is_not_asked_and_noted(tmp_path: Path, order: str) -> None:
    """Completion style shows a level by shots of that length: without them no unit, and run.json says for which arm."""
    task = write_task(tmp_path / "t.jsonl", ["brief"])
    found = prepared(
        tasks=[task], limit=None, interventions={"file": tmp_path / "edits.jsonl"},
        arms={"order": [order], "style": ["chat", "completion"], "shots": [2], "verbosity": ["exhaustive", "brief"]},
    )  # fmt: skip
    units = list(plan(found, found.config.models[0], lambda _: ABLE))

    assert {(unit.arm.style, unit.arm.verbosity) for unit in units} == {
        ("chat", "exhaustive"), ("chat", "brief"), ("completion", "brief"),
    }  # fmt: skip
    noted = provenance.no_level_shots(found.config, found.tasks, found.prompts)
    assert [arm.model_dump() for arm in noted] == [
        {"endpoint": None, "model": "a/b", "task": "t", "order": order, "style": "completion", "shots": 2,
         "verbosity": "exhaustive"}
    ]  # fmt: skip
    if order == "pe2":
        leading = {(unit.arm.style, unit.arm.verbosity) for unit in units if unit.builder.is_first_level}
        assert leading == {("chat", "exhaustive"), ("completion", "brief")}


def test_the_normal_level_alone_knows_nothing_of_the_others(tmp_path: Path) -> None:
    """With and without texts at other levels, a run at the normal one is the same run under the same hash."""
    names = []
    for number, levels in enumerate(([], ["brief", "detailed"])):
        directory = tmp_path / str(number)
        directory.mkdir()
        task = write_task(directory / "t.jsonl", levels)
        found = prepared(
            tasks=[task], limit=None, interventions={"file": directory / "edits.jsonl"}, arms={"shots": [2]}
        )
        names.append((found.name, found.science.model_dump_json(), found.tasks[0].level_shots))

    assert names[0] == names[1]


def test_another_text_of_a_level_is_another_run(tmp_path: Path) -> None:
    """The hash of a run covers the shots of its levels, and the arm's signature those it shows."""
    arms = {"style": ["completion"], "shots": [2], "verbosity": ["normal", "brief"]}
    task = write_task(tmp_path / "t.jsonl", ["brief"])

    def make() -> tuple[str, list[str]]:
        found = prepared(tasks=[task], limit=None, interventions={"file": tmp_path / "edits.jsonl"}, arms=arms)
        able = {(None, "a/b", "completion"): ABLE}
        told = provenance.arm_facts(found.config, found.tasks, found.prompts, able)
        return found.name, [one.shots for one in told.values()]

    before = make()
    path = tmp_path / "t.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace("brief 4", "shorter 4"), encoding="utf-8")
    after = make()

    assert before[0] != after[0]
    assert before[1][0] == after[1][0]
    assert len({before[1][0], before[1][1], after[1][1]}) == 3


LEVEL_ARMS = {"order": ["pe", "pe2"], "style": ["completion"], "shots": [2], "verbosity": ["normal", "brief"]}


def test_a_run_with_levels_is_rebuilt_from_its_directory(tmp_path: Path) -> None:
    """Shots of each level stand in a file of their own, task after task; one task may lack a level."""
    task = write_task(tmp_path / "t.jsonl", [])
    rows = [json.loads(line) for line in (tmp_path / "edits.jsonl").read_text(encoding="utf-8").splitlines()]
    rows.append({"task": "sense", "example_id": "sense-001", "kind": "hand", "field": "sentence1", "offset": 0,
                 "inserted": "Zounds"})  # fmt: skip
    (tmp_path / "edits.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    made, found = write_run(
        tmp_path / "run", tasks=[task, "sense"], interventions={"file": tmp_path / "edits.jsonl"}, arms=LEVEL_ARMS
    )
    (tmp_path / "t.jsonl").unlink()
    again = prepared_from(made, CLIENT)

    assert level_files(read_run(made)) == ["shots.brief.jsonl"]
    assert [sorted(one.level_shots) for one in again.tasks] == [[], ["brief"]]
    assert [one.level_shots for one in again.tasks] == [one.level_shots for one in found.tasks]
    assert (keys(found), found.name) == (keys(again), again.name)


def change_shots(old: str, new: str) -> Callable[[Path], None]:
    """A change of the level's shots."""

    def change(directory: Path) -> None:
        path = directory / "shots.brief.jsonl"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return change


def rename_level(directory: Path) -> None:
    """run.json that points out of the directory."""
    text = (directory / "run.json").read_text(encoding="utf-8")
    (directory / "run.json").write_text(text.replace('"brief":', '"../../brief":'), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (change_shots('"gold":"A"', '"gold":"B"'), "the shots were changed (sense brief)"),
        (change_shots('"explanation":"', '"explanation":"No. '), "the shots were changed (sense brief)"),
        (lambda directory: (directory / "shots.brief.jsonl").unlink(), "lacks shots.brief.jsonl"),
        (rename_level, "'../../brief' is no name"),
    ],
)
def test_changed_shots_of_a_level_are_named(tmp_path: Path, change: Callable[[Path], None], told: str) -> None:
    """What is no longer what was run gives one sentence."""
    made, _ = write_run(tmp_path / "run", tasks=["sense"], limit=2, arms=LEVEL_ARMS)
    prepared_from(made, CLIENT)
    change(made)

    with pytest.raises(InputError) as caught:
        prepared_from(made, CLIENT)
    assert told in str(caught.value)
