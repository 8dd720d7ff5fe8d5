"""What is known before the first request: tasks, prompts, interventions, and the hash of it all."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from explaineval.config import ClientConfig, RunConfig, arms_for
from explaineval.datasets import Task, load_tasks, parse_spec
from explaineval.errors import InputError
from explaineval.experiment import directories, facts
from explaineval.experiment.edits import Chosen, choose
from explaineval.prompts import PromptBook, default_directory


@dataclass(frozen=True)
class Prepared:
    """Everything known before the first request."""

    config: RunConfig
    client: ClientConfig
    tasks: tuple[Task, ...]
    prompts: PromptBook
    chosen: Chosen
    science: dict[str, Any]
    name: str


def prepare(config: RunConfig, client: ClientConfig) -> Prepared:
    """Read tasks, prompts and interventions; nothing is asked and nothing written yet. Raises InputError."""
    config.require_params()
    for model in config.models:
        client.endpoint_of(model)
    prompts = PromptBook(config.prompts or default_directory())
    shots = max(arm.shots for model in config.models for arm in arms_for(config, model))
    specs = [parse_spec(text) for text in config.tasks]
    whole = load_tasks(specs, shots=shots, shots_from=config.shots_from, limit=config.limit)
    # words are built against the texts of all levels, so that a level added later changes none of them
    chosen = choose(config.interventions, whole, prompts, prompts.levels(), config.seed)
    tasks = tuple(_with_levels(task, config.arms.verbosity) for task in whole)
    if not chosen.edits:
        raise InputError("there is no intervention for any example: nothing could be measured.")
    for task in tasks:
        if not any((task.name, example.id) in chosen.edits for example in task.examples):
            raise InputError(
                f"task {task.name!r} has no intervention for any of its examples, so nothing could be measured there: "
                "leave the task out, or add interventions for it."
            )
    what = facts.science(config, tasks, prompts, chosen.edits)
    examples, edits = inputs_of(tasks, chosen)
    return Prepared(config, client, tasks, prompts, chosen, what, directories.science_hash(what, examples, edits))


def _with_levels(task: Task, levels: Collection[str]) -> Task:
    """The task with the shots of these verbosity levels alone: what is not asked for is no part of the run."""
    return replace(task, level_shots={level: found for level, found in task.level_shots.items() if level in levels})


def inputs_of(tasks: tuple[Task, ...], chosen: Chosen) -> tuple[list[Any], list[Any]]:
    """All examples, and all their interventions, in the order of the tasks."""
    examples = [example for task in tasks for example in task.examples]
    edits = [one for example in examples for one in chosen.edits.get((example.task, example.id), ())]
    return examples, edits
