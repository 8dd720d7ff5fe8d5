"""A run rebuilt from its directory alone is that run: the same requests and hashes, or a sentence on what changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from explaineval.archive.bundle import prepared_from, recorded_capabilities
from explaineval.cache import request_key
from explaineval.client.endpoints.capabilities import Capabilities
from explaineval.errors import InputError
from explaineval.planning.prepare import inputs_of
from explaineval.planning.units import walk
from explaineval.prompts import default_directory
from explaineval.rundir.directory import RUN, SHOTS
from explaineval.rundir.schema import NOT_RECORDED
from makers.prepared import CLIENT, keys, write_run
from makers.runs import minimal_record, write_task

ARMS = {"order": ["pe", "ep"], "style": ["chat", "completion"], "shots": [2, 3]}


def test_a_rebuilt_run_asks_the_same_and_is_called_the_same(tmp_path: Path) -> None:
    """Two bundled tasks, several arms: after the directory has moved, every key, hash and name is as before."""
    made, found = write_run(tmp_path / "run", tasks=["nli", "sense"], arms=ARMS, limit=3)
    moved = made.rename(tmp_path / "elsewhere")
    again = prepared_from(moved, CLIENT)

    assert keys(found) == keys(again)
    assert len(keys(found)) == len(set(keys(found))) > 100
    assert found.name == again.name
    assert found.science == again.science
    assert [record.model_dump_json() for part in inputs_of(found.tasks, found.chosen) for record in part] == [
        record.model_dump_json() for part in inputs_of(again.tasks, again.chosen) for record in part
    ]


def test_a_walk_without_retries_gives_each_request_of_the_plan_once(tmp_path: Path) -> None:
    """Per example: 2 samples of 1 unchanged and 2 edited prompts, and 2 shams; sample 1 of the former is no sham."""
    _, found = write_run(tmp_path / "run", tasks=["sense"], limit=2, interventions={"per_example": 2})
    steps = list(walk(found, lambda *_: Capabilities(5, 0.0, "returned")))

    assert len(steps) == 2 * (2 * 3 + 2)
    assert [request_key(step.request) for step in steps] == [step.key for step in steps]
    assert {step.intervention is None for step in steps} == {True, False}


def test_a_request_that_two_arms_share_is_walked_once(tmp_path: Path) -> None:
    """In order pe2 a level is no part of the first calls, so two levels ask for the same answers."""
    arms = {"order": ["pe2"], "style": ["completion"], "shots": [2], "verbosity": ["normal"]}
    _, one = write_run(tmp_path / "one", tasks=["sense"], limit=2, arms=arms)
    _, two = write_run(tmp_path / "two", tasks=["sense"], limit=2, arms={**arms, "verbosity": ["normal", "brief"]})

    assert keys(one) == keys(two)


def test_neither_the_data_nor_the_original_prompts_are_needed(tmp_path: Path) -> None:
    """A task, shots, interventions and prompts of the user's own may be gone."""
    task, edits = write_task(tmp_path, examples=3, per_example=2)
    shot = {"id": "s", "fields": {"note": "It rains."}, "options": {"A": "yes", "B": "no"}, "gold": "A"}
    (tmp_path / "shots.jsonl").write_text(json.dumps({**shot, "explanation": "It does."}) + "\n")
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    for path in default_directory().rglob("*"):
        target = prompts / path.relative_to(default_directory())
        if path.is_dir():
            target.mkdir(exist_ok=True)
        else:
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    (prompts / "tasks" / "default.txt").write_text("Say whether it is so.")
    settings = {"tasks": [f"jsonl:{task}"], "interventions": {"file": edits}, "arms": {"shots": [1]}}
    made, found = write_run(tmp_path / "run", prompts=prompts, shots_from=tmp_path / "shots.jsonl", **settings)
    before = keys(found)
    for path in (task, edits, tmp_path / "shots.jsonl", *(one for one in prompts.rglob("*") if one.is_file())):
        path.unlink()

    assert before == keys(prepared_from(made, CLIENT))


def test_shots_lent_to_two_tasks_are_told_apart_by_number(tmp_path: Path) -> None:
    """Shots of one bundled task carry its name, whoever borrows them: each task gets its own back."""
    rows = [{"id": f"q{number}", "fields": {"question": f"Is it {number}?"}, "options": {"A": "yes", "B": "no"}}
            for number in range(2)]  # fmt: skip
    edits = []
    for name in ("one", "two"):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        edits += [{"task": name, "example_id": row["id"], "kind": "hand", "field": "question", "offset": 6,
                   "inserted": "grumpy"} for row in rows]  # fmt: skip
    (tmp_path / "e.jsonl").write_text("".join(json.dumps(one) + "\n" for one in edits))
    tasks = [f"jsonl:{tmp_path / name}.jsonl" for name in ("one", "two")]
    made, found = write_run(
        tmp_path / "run", tasks=tasks, interventions={"file": tmp_path / "e.jsonl"}, arms={"shots": [3]}
    )
    again = prepared_from(made, CLIENT)

    assert {shot.task for task in again.tasks for shot in task.shots} == {"qa"}
    assert [task.shots for task in found.tasks] == [task.shots for task in again.tasks]


def edit_file(name: str, old: str, new: str) -> Callable[[Path], None]:
    """A change of one file."""

    def change(directory: Path) -> None:
        path = directory / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (edit_file("prompts/tasks/sense.txt", "sentence", "phrase"), "the prompts were changed (sense chat pe normal)"),
        (edit_file("shots.jsonl", '"gold":"A"', '"gold":"B"'), "the shots were changed (sense)"),
        (edit_file("examples.jsonl", '"gold":"', '"gold":"x'), "examples.jsonl was changed (task sense)"),
        (edit_file("interventions.jsonl", '"pos":"', '"pos":"x'), "interventions.jsonl was changed (task sense)"),
        (edit_file("run.json", '"max_tokens": 512', '"max_tokens": 96'), "--max-tokens 512, now 96"),
        (edit_file("run.json", '"samples": 2', '"samples": 1000000000000'), "number of samples"),
        (edit_file("run.json", '"shape": "sense"', '"shape": "../../x"'), "facts.tasks.sense.shape: "),
        (edit_file("interventions.jsonl", '"example_id":"', '"example_id":"x'), "is not among the run's"),
        (lambda directory: (directory / SHOTS).unlink(), "lacks shots.jsonl"),
        (lambda directory: (directory / "examples.jsonl").write_text(""), "lacks the examples of 'sense'"),
    ],
)
def test_what_was_changed_is_named(tmp_path: Path, change: Callable[[Path], None], told: str) -> None:
    """A directory that is no longer what was run gives one sentence that says in what."""
    made, _ = write_run(tmp_path / "run", tasks=["sense"], arms={"shots": [2]}, limit=2)
    prepared_from(made, CLIENT)
    change(made)

    with pytest.raises(InputError) as caught:
        prepared_from(made, CLIENT)
    assert told in str(caught.value)


def test_a_directory_of_an_older_version_without_shots_can_be_rebuilt(tmp_path: Path) -> None:
    """Where no shots were asked for, neither the file nor the newer facts are missed."""
    made, found = write_run(tmp_path / "run", tasks=["nli"], limit=2)
    (made / SHOTS).unlink()
    run = json.loads((made / RUN).read_text())
    for name in ("n_shots", "shape"):
        del run["facts"]["tasks"]["nli"][name]
    del run["science"]["fixed"]["retry"]
    (made / RUN).write_text(json.dumps(run))

    assert keys(found) == keys(prepared_from(made, CLIENT))


def test_recorded_capabilities_of_an_older_version_lack_the_reason() -> None:
    """Each style of each model is found; where no reason was recorded that is told apart from there being none."""
    sent = {"logprobs": 20, "temperature": None, "state": "returned"}
    entry = {"endpoint": None, "model": "a/b", "capabilities": {"chat": sent, "completion": sent | {"found": None}}}

    assert recorded_capabilities(minimal_record(endpoints=[entry])) == {
        (None, "a/b", "chat"): Capabilities(20, None, "returned", NOT_RECORDED),
        (None, "a/b", "completion"): Capabilities(20, None, "returned", None),
    }
