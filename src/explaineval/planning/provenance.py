"""Hash what a run is made of: the facts behind its signatures and behind the check of an existing run directory."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from explaineval.client.endpoints.capabilities import Capabilities
from explaineval.config import Arm, ModelConfig, RunConfig, arms_for
from explaineval.datasets import FORMATS, Task
from explaineval.interventions import KINDS, kind_of, plugin_of
from explaineval.mentions import SEARCHES
from explaineval.planning.requests import RequestBuilder
from explaineval.plugins import Registry
from explaineval.prompts import PromptBook
from explaineval.records import Intervention
from explaineval.rundir.schema import ArmFacts, Growing, Science, TaskFacts, UnaskedArm
from explaineval.signature import IF_SET, Digest, digest

Edits = Mapping[tuple[str, str], Sequence[Intervention]]
"""Interventions by (task, example id)."""

NOT_FIXED = (
    "tasks",
    "columns",
    "metrics",
    "models",
    "samples",
    "limit",
    "shard",
    "interventions",
    "shots_from",
    "prompts",
    "arms",
)
"""Fields of RunConfig that may differ between the runs of a directory, or whose contents are compared instead."""


def task_facts(tasks: Sequence[Task], edits: Edits, prompts: PromptBook) -> dict[str, TaskFacts]:
    """Return the facts of each task by its name. The hash of a cue covers its place in the prompt and its phrases."""
    facts = {}
    for task in tasks:
        by_kind: dict[str, Digest] = {}
        for example in task.examples:
            for edit in edits.get((task.name, example.id), ()):
                by_kind.setdefault(edit.kind, Digest()).add(edit)
        facts[task.name] = TaskFacts(
            examples=_made_by(FORMATS.origin(task.spec.format), digest(task.examples)),
            n_examples=len(task.examples),
            n_available=task.n_available,
            shots=digest(task.shots),
            n_shots=len(task.shots),
            shots_source=task.shots_source,
            level_shots={level: digest(shots) for level, shots in sorted(task.level_shots.items())},
            shape=task.shape,
            kinds={kind: _kind_digest(kind, total, prompts) for kind, total in sorted(by_kind.items())},
        )
    return facts


def _kind_digest(kind: str, total: Digest, prompts: PromptBook) -> str:
    cue = kind_of(kind).cue
    if cue is not None:
        total.add({"cue": prompts.cue_digest(cue)})
    return _made_by(KINDS.origin(plugin_of(kind)), str(total))


def _made_by(origin: str | None, digest: str) -> str:
    """Return a hash, with the package and version of the plug-in that its contents come from."""
    return digest if origin is None else f"{digest} ({origin})"


def _plugins(config: RunConfig, tasks: Sequence[Task], kinds: Collection[str]) -> dict[str, str]:
    """Return package and version of each plug-in on which trials depend."""
    used: list[tuple[Registry[Any], str | None]] = [(FORMATS, task.spec.format) for task in tasks]
    used += [*((KINDS, plugin_of(kind)) for kind in sorted(kinds)), (SEARCHES, config.mention)]
    return {registry.recorded(name): origin for registry, name in used if name and (origin := registry.origin(name))}


def science(config: RunConfig, tasks: Sequence[Task], prompts: PromptBook, kinds: Collection[str]) -> Science:
    """Return the scientific configuration with hashes of contents in place of paths.

    `kinds` are those of the run's interventions; a shard has those of the whole run.
    """
    plain = config.model_dump(mode="json")
    fixed = {
        name: value for name, value in plain.items() if name not in NOT_FIXED and not (name in IF_SET and value is None)
    }
    fixed |= {name: plain["arms"][name] for name in ("order", "style", "shots")}
    fixed |= _plugins(config, tasks, kinds)
    fixed["kind"] = plain["interventions"]["kind"]
    if config.shard is not None:
        fixed["shard"] = plain["shard"]
    cues = {cue for kind in kinds if (cue := kind_of(kind).cue) is not None}
    used = {(task.shape, arm.style, arm.order, arm.verbosity) for task, _, arm in _arms(config, tasks)}
    hashes = {
        f"{shape or 'default'} {style} {order} {verbosity}": prompts.digest(
            style=style, order=order, shape=shape, verbosity=verbosity
        )
        for shape, style, order, verbosity in sorted(used, key=str)
    }
    shots = {}
    for task in tasks:
        shots[task.name] = digest(task.shots)
        shots |= {f"{task.name} {level}": digest(own) for level, own in sorted(task.level_shots.items())}
    growing = Growing(
        models=tuple((model.endpoint, model.model, model.style, model.shots) for model in config.models),
        samples=tuple(range(config.samples)),
        verbosity=config.arms.verbosity,
        prompts=hashes | {f"cue {cue}": prompts.cue_digest(cue) for cue in sorted(cues)},
        shots=shots,
    )
    return Science(fixed=fixed, growing=growing)


def arm_facts(
    config: RunConfig,
    tasks: Sequence[Task],
    prompts: PromptBook,
    capabilities: Mapping[tuple[str | None, str, str], Capabilities],
) -> dict[str, ArmFacts]:
    """Return the facts of each arm by its name; `capabilities`, by (endpoint, model, style), say how it was asked.

    An arm whose capabilities are not known is left out, unless it is one that is not asked.
    """
    facts = {}
    for task, model, arm in _arms(config, tasks):
        builder = RequestBuilder(config, prompts, model, arm, task)
        sent = capabilities.get((model.endpoint, model.model, arm.style))
        if sent is None and builder.lacks_level:
            sent = Capabilities(None, None, "off")
        if sent is None:
            continue
        hashed = prompts.digest(style=arm.style, order=arm.order, shape=task.shape, verbosity=arm.verbosity)
        instructions = {example.instruction for example in task.examples if example.instruction}
        facts[arm.condition(model, task.name).arm_name] = ArmFacts(
            shots=digest(builder.shots),
            prompts=with_instructions(hashed[:8], instructions),
            temperature="omitted" if sent.temperature is None else f"{sent.temperature:g}",
            logprobs="none" if sent.logprobs is None else f"top{sent.logprobs}",
        )
    return facts


def with_instructions(hashed: str, instructions: Collection[str]) -> str:
    """Return the hash of an arm's prompts, and that of the examples' own instructions where there are some."""
    return hashed + (f"+{digest([{'instructions': sorted(instructions)}])}" if instructions else "")


def no_level_shots(config: RunConfig, tasks: Sequence[Task], prompts: PromptBook) -> tuple[UnaskedArm, ...]:
    """List the arms whose verbosity only shots can show, and whose task has no shots of that length."""
    return tuple(
        UnaskedArm(endpoint=model.endpoint, model=model.model, task=task.name, **arm.model_dump())
        for task, model, arm in _arms(config, tasks)
        if RequestBuilder(config, prompts, model, arm, task).lacks_level
    )


def run_signature(config: RunConfig, name: str) -> str:
    """Return one line for the run as a whole: its tasks, its models, and the hash of everything."""
    parts = [
        "tasks:" + ",".join(task.partition(":")[0] for task in config.tasks),
        "models:" + ",".join(model.model for model in config.models),
        "mention:" + config.mention,
        "interval:" + config.interval,
        "run:" + name,
    ]
    return "|".join(parts)


def _arms(config: RunConfig, tasks: Sequence[Task]) -> list[tuple[Task, ModelConfig, Arm]]:
    return [(task, model, arm) for task in tasks for model in config.models for arm in arms_for(config, model)]
