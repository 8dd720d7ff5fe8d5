"""Rebuild a run from its directory alone: the same requests, without data files, tagger or original prompts.

Whatever was read from elsewhere (tasks, interventions, shots, prompts) is kept in the directory as it was used, and the
hashes in run.json tell whether it is still the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from explaineval.client.endpoints.capabilities import Capabilities
from explaineval.config import ClientConfig, RunConfig
from explaineval.datasets import Task, TaskSpec, parse_specs
from explaineval.datasets.readers import shape_of
from explaineval.errors import InputError
from explaineval.interventions.edit import check
from explaineval.planning import provenance
from explaineval.planning.prepare import ChosenEdits, EditGroups, Prepared, inputs_of, kinds_in
from explaineval.planning.provenance import Edits
from explaineval.planning.requests import Examples, RequestBuilder
from explaineval.planning.units import PlanPart, part_of
from explaineval.prompts import PromptBook
from explaineval.records import Example
from explaineval.rundir import directory as run_directory
from explaineval.rundir.schema import RunRecord, Science, TaskFacts


def prepared_from(directory: Path, client: ClientConfig) -> Prepared:
    """Rebuild everything known before the first request from a run directory; `client` says how to reach endpoints.

    The requests, the science and the signatures are those of the run. Raises InputError where a file is missing or
    no longer what the run used, naming it.
    """
    run = run_directory.read_run(directory)
    config = config_of(run, directory)
    for model in config.models:
        client.endpoint_of(model)
    tasks = _read_tasks(run, config, directory)
    edits = _read_edits(tasks, directory)
    prompts = PromptBook(directory / run_directory.PROMPTS)
    whole = run.whole
    kinds = {kind for _, kind, _ in kinds_in(edits)}
    if whole is not None:
        kinds = {kind for facts in whole.tasks.values() for kind in facts.kinds}
    science = provenance.science(config, tasks, prompts, kinds)
    change = _changed_science(run.science, science)
    change = change or _changed_inputs(run.facts.tasks, provenance.task_facts(tasks, edits, prompts))
    if change:
        raise InputError(
            f"{directory} is no longer what was run: {change}. Put the original back, or run again into another "
            "directory (answers in the cache cost nothing)."
        )
    examples, interventions = inputs_of(tasks, ChosenEdits(edits, ()))
    name = run_directory.science_hash(science, examples, interventions)
    if whole is not None and config.shard is not None:
        name = f"{whole.name}-{config.shard.suffix}"
    return Prepared(config, client, tasks, prompts, ChosenEdits(edits, ()), science, name, whole)


def config_of(run: RunRecord, directory: Path) -> RunConfig:
    """Return the run's configuration with the directory's own files in place of the original ones."""
    if len(run.science.growing.samples) != run.config.samples:
        raise InputError(f"{directory}: run.json was changed: its number of samples contradicts itself.")
    edits = run.config.interventions
    if edits.file is not None:
        edits = edits.model_copy(update={"file": directory / run_directory.INTERVENTIONS})
    changes = {"prompts": directory / run_directory.PROMPTS, "shots_from": None, "interventions": edits}
    return run.config.model_copy(update=changes)


def client_of(run: RunRecord, cache: Path | None) -> ClientConfig:
    """Return how the run's endpoints are reached; `cache` replaces the cache that run.json names."""
    return run.client if cache is None else run.client.model_copy(update={"cache": cache})


def asked_examples(run: RunRecord) -> Examples:
    """Return which examples a run asks each part of its plan about: all, or those until it was precise enough."""
    counts = {PlanPart(stop.task, stop.order, stop.style, stop.shots): stop.examples for stop in run.stops}

    def examples(builder: RequestBuilder) -> range:
        available = len(builder.task.examples)
        return range(min(available, counts.get(part_of(builder), available)))

    return examples


def recorded_capabilities(run: RunRecord) -> dict[tuple[str | None, str, str], Capabilities]:
    """Return how the run's requests were sent, by (endpoint, model, style): empty for a run that sent none."""
    return {
        (entry.endpoint, entry.model, style): Capabilities(sent.logprobs, sent.temperature, sent.state, sent.found)
        for entry in run.endpoints
        for style, sent in entry.capabilities.items()
    }


def _read_tasks(run: RunRecord, config: RunConfig, directory: Path) -> tuple[Task, ...]:
    specs = parse_specs(config.tasks, config.columns)
    unknown = next((spec.name for spec in specs if spec.name not in run.facts.tasks), None)
    if unknown is not None:
        raise InputError(f"{directory}: run.json was changed: its facts lack the task {unknown!r}.")
    by_task: dict[str, list[Example]] = {spec.name: [] for spec in specs}
    path = directory / run_directory.EXAMPLES
    for example in run_directory.read_examples(directory):
        if example.task not in by_task:
            raise InputError(f"{path} was changed: {example.task!r} is no task of this run.")
        by_task[example.task].append(example)
    lacking = next((name for name, examples in by_task.items() if not examples), None)
    if lacking is not None and config.shard is None:
        raise InputError(f"{path} was changed: it lacks the examples of {lacking!r}.")
    shots = _read_shots(run.facts.tasks, specs, directory)
    levels = _read_level_shots(run.facts.tasks, specs, directory)
    tasks = []
    for spec in specs:
        facts, examples = run.facts.tasks[spec.name], tuple(by_task[spec.name])
        shape = facts.shape if "shape" in facts.model_fields_set else shape_of(examples[0])
        own = Task(spec, shape, examples, next(shots), facts.shots_source, levels[spec.name])
        tasks.append(replace(own, n_available=facts.n_available))
    return tuple(tasks)


def _read_shots(
    facts: Mapping[str, TaskFacts], specs: Sequence[TaskSpec], directory: Path
) -> Iterator[tuple[Example, ...]]:
    """Yield the shots of task after task, which stand in one file."""
    kept = run_directory.read_shots(directory)
    if kept is None and any(facts[spec.name].shots_source != "none" for spec in specs):
        raise InputError(
            f"{directory} lacks {run_directory.SHOTS}: an older version made it. Give its `run` command again, which "
            "adds the file and takes the answers from the cache."
        )
    yield from _split(kept or [], facts, specs)


def _read_level_shots(
    facts: Mapping[str, TaskFacts], specs: Sequence[TaskSpec], directory: Path
) -> dict[str, dict[str, tuple[Example, ...]]]:
    """Return by task the shots of each verbosity level that it has."""
    by_task: dict[str, dict[str, tuple[Example, ...]]] = {spec.name: {} for spec in specs}
    for level in sorted({level for spec in specs for level in facts[spec.name].level_shots}):
        kept = run_directory.read_shots(directory, level)
        if kept is None:
            raise InputError(f"{directory} lacks {run_directory.shots_file(level)}: give its `run` command again.")
        owners = [spec for spec in specs if level in facts[spec.name].level_shots]
        for spec, shots in zip(owners, _split(kept, facts, owners), strict=True):
            by_task[spec.name][level] = shots
    return by_task


def _split(
    shots: Sequence[Example], facts: Mapping[str, TaskFacts], specs: Sequence[TaskSpec]
) -> Iterator[tuple[Example, ...]]:
    """Split shots that stand task after task by the number that each task has."""
    start = 0
    for spec in specs:
        end = start + facts[spec.name].n_shots
        yield tuple(shots[start:end])
        start = end


def _read_edits(tasks: Sequence[Task], directory: Path) -> Edits:
    """Read the interventions in file order, each checked against its example."""
    edits = EditGroups()
    examples = {(task.name, example.id): example for task in tasks for example in task.examples}
    for edit in run_directory.read_interventions(directory):
        example = examples.get((edit.task, edit.example_id))
        if example is None:
            raise InputError(
                f"{directory / run_directory.INTERVENTIONS} was changed: example {edit.example_id!r} of {edit.task!r} "
                "is not among the run's."
            )
        check(example, edit)
        edits.append(edit)
    return edits


def _changed_science(before: Science, now: Science) -> str | None:
    """Say what differs; None where nothing does. Fields of later versions had their default before."""
    change = run_directory.difference(before, now)
    if change is not None and not change.startswith("its "):
        return f"in run.json {change}"
    for name, values in now.growing:
        recorded = getattr(before.growing, name)
        if recorded == values:
            continue
        if isinstance(values, dict):
            keys = sorted(key for key in recorded.keys() | values.keys() if recorded.get(key) != values.get(key))
            return f"the {name} were changed ({', '.join(keys[:5])}{', …' if len(keys) > 5 else ''})"
        return f"in run.json {name} was {list(recorded)!r}, now {list(values)!r}"
    return None


def _changed_inputs(before: Mapping[str, TaskFacts], now: Mapping[str, TaskFacts]) -> str | None:
    for task, facts in now.items():
        if before[task].examples != facts.examples:
            return f"{run_directory.EXAMPLES} was changed (task {task})"
        if before[task].kinds != facts.kinds:
            return f"{run_directory.INTERVENTIONS} was changed (task {task})"
    return None
