"""What a run is made of, as hashes: the facts that signatures and the check of an existing directory rest on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from explaineval.client.endpoints.capabilities import Capabilities
from explaineval.config import Arm, ModelConfig, RunConfig, arms_for
from explaineval.datasets import Task
from explaineval.interventions import kind_of
from explaineval.planning.interventions import Edits
from explaineval.planning.requests import RequestBuilder
from explaineval.prompts import PromptBook
from explaineval.records import Condition, Intervention
from explaineval.signature import digest

GROWING = ("tasks", "models", "samples", "limit", "interventions", "shots_from", "prompts", "arms")
"""Fields of RunConfig whose content is compared elsewhere: by examples, interventions, and `science` itself."""


def task_facts(tasks: Sequence[Task], edits: Edits, prompts: PromptBook) -> dict[str, Any]:
    """Per task: its shape, its shots and where they come from, the hashes of examples, shots, interventions by kind.

    To the hash of a cue belong its place in the prompt and its phrases.
    """
    facts: dict[str, Any] = {}
    for task in tasks:
        kinds: dict[str, list[Any]] = {}
        for example in task.examples:
            for one in edits.get((task.name, example.id), ()):
                kinds.setdefault(one.kind, []).append(one)
        facts[task.name] = {
            "examples": digest(task.examples),
            "n_examples": len(task.examples),
            "shots": digest(task.shots),
            "n_shots": len(task.shots),
            "shots_source": task.shots_source,
            "level_shots": {level: digest(found) for level, found in sorted(task.level_shots.items())},
            "shape": task.shape,
            "kinds": {kind: _kind_digest(kind, found, prompts) for kind, found in sorted(kinds.items())},
        }
    return facts


def _kind_digest(kind: str, found: Sequence[Intervention], prompts: PromptBook) -> str:
    cue = kind_of(kind).cue
    return digest(found if cue is None else [*found, {"cue": prompts.cue_digest(cue)}])


def science(config: RunConfig, tasks: Sequence[Task], prompts: PromptBook, edits: Edits) -> dict[str, Any]:
    """The scientific configuration with contents in place of paths, in a part that is fixed and one that may grow."""
    plain = config.model_dump(mode="json")
    fixed = {name: value for name, value in plain.items() if name not in GROWING}
    fixed |= {name: plain["arms"][name] for name in ("order", "style", "shots")}
    fixed["kind"] = plain["interventions"]["kind"]
    cues = {cue for found in edits.values() for one in found if (cue := kind_of(one.kind).cue) is not None}
    used = {(task.shape, arm.style, arm.order, arm.verbosity) for task, _, arm in _arms(config, tasks)}
    return {
        "fixed": fixed,
        "growing": {
            "models": [_model_identity(model) for model in config.models],
            "samples": list(range(config.samples)),
            "verbosity": list(config.arms.verbosity),
            "prompts": {
                f"{shape or 'default'} {style} {order} {verbosity}": prompts.digest(
                    style=style, order=order, shape=shape, verbosity=verbosity
                )
                for shape, style, order, verbosity in sorted(used, key=str)
            }
            | {f"cue {cue}": prompts.cue_digest(cue) for cue in sorted(cues)},
            "shots": {
                name: digest(found)
                for task in tasks
                for name, found in (
                    (task.name, task.shots),
                    *((f"{task.name} {level}", shots) for level, shots in sorted(task.level_shots.items())),
                )
            },
        },
    }


def arm_facts(
    config: RunConfig,
    tasks: Sequence[Task],
    prompts: PromptBook,
    able: Mapping[tuple[str | None, str, str], Capabilities],
) -> dict[str, dict[str, str]]:
    """Per model, task and arm: the hash of its prompts, and what is sent as temperature and for logprobs."""
    facts = {}
    for task, model, arm in _arms(config, tasks):
        builder = RequestBuilder(config, prompts, model, arm, task)
        found = able.get((model.endpoint, model.model, arm.style))
        if found is None and builder.lacks_level:
            found = Capabilities(None, None, "off")
        if found is None:
            continue
        digest_ = prompts.digest(style=arm.style, order=arm.order, shape=task.shape, verbosity=arm.verbosity)
        own = sorted({example.instruction for example in task.examples if example.instruction})
        condition = Condition(
            model.endpoint, model.model, task.name, None, arm.order, arm.style, arm.shots, arm.verbosity
        )
        facts[condition.arm_name] = {
            "shots": digest(builder.shots),
            "prompts": digest_[:8] + (f"+{digest([{'instructions': own}])}" if own else ""),
            "temperature": "omitted" if found.temperature is None else f"{found.temperature:g}",
            "logprobs": "none" if found.logprobs is None else f"top{found.logprobs}",
        }
    return facts


def no_level_shots(config: RunConfig, tasks: Sequence[Task], prompts: PromptBook) -> list[dict[str, Any]]:
    """The arms that are not asked, since their verbosity is shown by shots and there are none of that length.

    Each is a condition without its kind, as its metric rows name it.
    """
    return [
        {"endpoint": model.endpoint, "model": model.model, "task": task.name, **arm.model_dump()}
        for task, model, arm in _arms(config, tasks)
        if RequestBuilder(config, prompts, model, arm, task).lacks_level
    ]


def run_signature(config: RunConfig, name: str) -> str:
    """One line for the run as a whole: what was asked of whom, and the hash of everything."""
    parts = [
        "tasks:" + ",".join(re.sub(r":.*", "", task) for task in config.tasks),
        "models:" + ",".join(model.model for model in config.models),
        "mention:" + config.mention,
        "interval:" + config.interval,
        "run:" + name,
    ]
    return "|".join(parts)


def _arms(config: RunConfig, tasks: Sequence[Task]) -> list[tuple[Task, ModelConfig, Arm]]:
    return [(task, model, arm) for task in tasks for model in config.models for arm in arms_for(config, model)]


def _model_identity(model: ModelConfig) -> list[Any]:
    return [model.endpoint, model.model, model.style, model.shots]
