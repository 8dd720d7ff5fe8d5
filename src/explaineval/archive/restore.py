"""A run built again from its directory alone: the same requests, without data files, tagger or original prompts.

What was read from elsewhere (tasks, interventions, shots, prompts) stands in the directory as it was used, and the
hashes in run.json say whether it still does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from explaineval.client.endpoints.capabilities import Capabilities
from explaineval.config import ClientConfig, RunConfig, build
from explaineval.datasets import Task, TaskSpec, parse_spec
from explaineval.datasets.readers import shape_of
from explaineval.errors import InputError
from explaineval.interventions.edit import check
from explaineval.planning import provenance
from explaineval.planning.interventions import Chosen, Edits
from explaineval.planning.prepare import Prepared, inputs_of
from explaineval.prompts import PromptBook
from explaineval.records import Example
from explaineval.rundir import directory as run_directory

Recorded = Mapping[tuple[str | None, str, str], Capabilities]
"""How a run's requests were sent, by (endpoint, model, style)."""


UNTOLD = ""
"""Stands for the probe's sentence where run.json is from a version that did not keep it."""


def prepared_from(directory: Path, client: ClientConfig) -> Prepared:
    """Everything known before the first request, from the run directory alone; `client` says how to reach whom.

    The requests, the science and the signatures are those of the run. Raises InputError where a file is missing or
    no longer what the run used, naming it.
    """
    run = run_directory.read_run(directory)
    config = config_of(run, directory)
    for model in config.models:
        client.endpoint_of(model)
    tasks = _tasks(run, config, directory)
    edits = _edits(tasks, directory)
    prompts = PromptBook(directory / run_directory.PROMPTS)
    science = provenance.science(config, tasks, prompts, edits)
    recorded = run.get("science")
    gone = _changed_science(recorded if isinstance(recorded, dict) else {}, science)
    gone = gone or _changed_inputs(_facts(run), provenance.task_facts(tasks, edits, prompts))
    if gone:
        raise InputError(
            f"{directory} is no longer what was run: {gone}. Put the original back, or run again into another "
            "directory (answers in the cache cost nothing)."
        )
    examples, interventions = inputs_of(tasks, Chosen(edits, ()))
    name = run_directory.science_hash(science, examples, interventions)
    return Prepared(config, client, tasks, prompts, Chosen(edits, ()), science, name)


def config_of(run: Mapping[str, Any], directory: Path) -> RunConfig:
    """The run's configuration, its paths led into the directory."""
    values = run.get("config")
    if not isinstance(values, dict):
        raise InputError(f"{directory}: run.json holds no configuration: it is no run of explaineval.")
    values = dict(values, prompts=directory / run_directory.PROMPTS, shots_from=None)
    edits = values.get("interventions")
    if isinstance(edits, dict) and edits.get("file") is not None:
        values["interventions"] = {**edits, "file": directory / run_directory.INTERVENTIONS}
    config = build(RunConfig, values, str(directory / run_directory.RUN))
    samples = _part(_part(run, "science"), "growing").get("samples")
    if not isinstance(samples, list) or len(samples) != config.samples:
        raise InputError(f"{directory}: run.json was changed: its number of samples contradicts itself.")
    return config


def client_of(run: Mapping[str, Any], cache: Path | None) -> ClientConfig:
    """How the run's endpoints are reached, as run.json says; `cache` replaces the cache named there."""
    values = run.get("client")
    client = build(ClientConfig, values if isinstance(values, dict) else {}, run_directory.RUN)
    return client if cache is None else client.model_copy(update={"cache": cache})


def recorded_capabilities(run: Mapping[str, Any]) -> dict[tuple[str | None, str, str], Capabilities]:
    """How the run's requests were sent: empty for a run that never got so far."""
    found = {}
    for entry in run.get("endpoints") or ():
        if not isinstance(entry, dict):
            continue
        for style, able in _part(entry, "capabilities").items():
            try:
                one = Capabilities(able["logprobs"], able["temperature"], able["state"], able.get("found", UNTOLD))
            except (KeyError, TypeError, AttributeError):
                continue
            if _numeric(one.logprobs) and _numeric(one.temperature):
                found[entry.get("endpoint"), str(entry.get("model")), style] = one
    return found


def _numeric(value: object) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _tasks(run: Mapping[str, Any], config: RunConfig, directory: Path) -> tuple[Task, ...]:
    specs = [parse_spec(text) for text in config.tasks]
    known = _facts(run)
    by_task: dict[str, list[Example]] = {spec.name: [] for spec in specs}
    for example in run_directory.read_examples(directory):
        if example.task not in by_task:
            raise InputError(
                f"{directory / run_directory.EXAMPLES} was changed: {example.task!r} is no task of this run."
            )
        by_task[example.task].append(example)
    shots = _shots(known, specs, directory)
    levels = _level_shots(known, specs, directory)
    return tuple(
        _task(spec, known, by_task[spec.name], next(shots), levels.get(spec.name, {}), directory) for spec in specs
    )


def _task(
    spec: TaskSpec,
    known: Mapping[str, Any],
    examples: Sequence[Example],
    shots: tuple[Example, ...],
    levels: Mapping[str, tuple[Example, ...]],
    directory: Path,
) -> Task:
    if not examples:
        raise InputError(f"{directory / run_directory.EXAMPLES} was changed: it lacks the examples of {spec.name!r}.")
    told = _part(known, spec.name)
    shape = told["shape"] if "shape" in told else shape_of(examples[0])
    if not (shape is None or (isinstance(shape, str) and shape.isalnum())):
        raise InputError(f"{directory}: run.json was changed: the shape {shape!r} of {spec.name!r} is no name.")
    return Task(spec, shape, tuple(examples), shots, str(told.get("shots_source", "none")), levels)


def _shots(known: Mapping[str, Any], specs: Sequence[TaskSpec], directory: Path) -> Iterator[tuple[Example, ...]]:
    """The shots of task after task, cut from the one file by their recorded numbers."""
    kept = run_directory.read_shots(directory)
    if kept is None and any(_part(known, spec.name).get("shots_source", "none") != "none" for spec in specs):
        raise InputError(
            f"{directory} lacks {run_directory.SHOTS}: an older version made it. Give its `run` command again, which "
            "adds the file and takes the answers from the cache."
        )
    yield from _cut(kept or [], known, specs)


def _level_shots(
    known: Mapping[str, Any], specs: Sequence[TaskSpec], directory: Path
) -> dict[str, dict[str, tuple[Example, ...]]]:
    """By task, the shots of each verbosity level that it has."""
    found: dict[str, dict[str, tuple[Example, ...]]] = {spec.name: {} for spec in specs}
    levels = {spec.name: _part(_part(known, spec.name), "level_shots") for spec in specs}
    for level in sorted({level for own in levels.values() for level in own}):
        kept = run_directory.read_shots(directory, level)
        if kept is None:
            raise InputError(f"{directory} lacks {run_directory.shots_file(level)}: give its `run` command again.")
        owners = [spec for spec in specs if level in levels[spec.name]]
        for spec, shots in zip(owners, _cut(kept, known, owners), strict=True):
            found[spec.name][level] = shots
    return found


def _cut(kept: Sequence[Example], known: Mapping[str, Any], specs: Sequence[TaskSpec]) -> Iterator[tuple[Example, ...]]:
    at = 0
    for spec in specs:
        count = _part(known, spec.name).get("n_shots", 0)
        end = at + count if isinstance(count, int) and count > 0 else at
        yield tuple(kept[at:end])
        at = end


def _edits(tasks: Sequence[Task], directory: Path) -> Edits:
    """The interventions in file order, each checked against its example."""
    edits: Edits = {}
    examples = {(task.name, example.id): example for task in tasks for example in task.examples}
    for one in run_directory.read_interventions(directory):
        example = examples.get((one.task, one.example_id))
        if example is None:
            raise InputError(
                f"{directory / run_directory.INTERVENTIONS} was changed: example {one.example_id!r} of {one.task!r} is "
                "not among the run's."
            )
        check(example, one)
        edits.setdefault((one.task, one.example_id), []).append(one)
    return edits


def _changed_science(was: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """What differs, in words; None where the two are one. Fields of later versions had their default before."""
    now = json.loads(json.dumps(now))
    found = run_directory.difference(was, now)
    if found is not None and not found.startswith("its "):
        return f"in run.json {found}"
    for name, value in now["growing"].items():
        old = _part(was, "growing").get(name)
        if old == value:
            continue
        if isinstance(value, dict) and isinstance(old, dict):
            which = sorted(key for key in old.keys() | value.keys() if old.get(key) != value.get(key))
            return f"the {name} were changed ({', '.join(which[:5])}{', …' if len(which) > 5 else ''})"
        return f"in run.json {name} was {old!r}, now {value!r}"
    return None


def _changed_inputs(was: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    for task, told in now.items():
        for name, file in (("examples", run_directory.EXAMPLES), ("kinds", run_directory.INTERVENTIONS)):
            if _part(was, task).get(name) != told[name]:
                return f"{file} was changed (task {task})"
    return None


def _facts(run: Mapping[str, Any]) -> Mapping[str, Any]:
    return _part(_part(run, "facts"), "tasks")


def _part(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name)
    return found if isinstance(found, dict) else {}
