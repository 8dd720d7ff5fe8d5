"""What is known before the first request: tasks, prompts, interventions, and the hash of it all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from explaineval.cache import Store, holds_store, open_store, verdict_name
from explaineval.client.endpoints.routes import check_keys, sent_keys
from explaineval.client.simulated import law_of
from explaineval.client.stack import check_transport
from explaineval.config import ClientConfig, EndpointConfig, ModelConfig, RunConfig, arms_for
from explaineval.config.identity import adopt_names, file_names, prove_names
from explaineval.datasets import Task, load_tasks, parse_specs
from explaineval.errors import InputError
from explaineval.interventions import FEWEST_SHOTS, kind_of
from explaineval.planning import provenance
from explaineval.planning.interventions import Chosen, choose, kinds_in
from explaineval.planning.shards import cut
from explaineval.prompts import PromptBook, default_directory
from explaineval.record_list import RecordChain, select
from explaineval.records import SIMULATED_ENDPOINT, SIMULATED_PREFIX, Example, Intervention
from explaineval.rundir import directory as run_directory
from explaineval.rundir.schema import Science, WholeRun
from explaineval.scoring.codes import Note, note
from explaineval.text import agreeing, counted

LOOPBACK = "http://127.0.0.1"
"""Stands for the address of a simulated model, at which nothing is asked; a loopback address costs nothing."""

SHOWN = 5
"""Strange gold labels that are shown."""


@dataclass(frozen=True)
class Prepared:
    """Everything known before the first request."""

    config: RunConfig
    client: ClientConfig
    tasks: tuple[Task, ...]
    prompts: PromptBook
    chosen: Chosen
    science: Science
    name: str
    whole: WholeRun | None = None
    """The run that a shard is a part of; None for a whole run."""
    positions: tuple[int, ...] = ()
    """Of a shard, the place of each example in the whole run."""


def prepare(config: RunConfig, client: ClientConfig, out: Path | None = None) -> Prepared:
    """Read tasks, prompts and interventions; nothing is asked and nothing written yet. Raises InputError.

    Args:
        config: what is asked of whom.
        client: how endpoints are reached.
        out: the run directory, where one was chosen: what it and those beside it show of endpoints' names counts too.
    """
    config.require_params()
    if config.until_half_width is not None and client.batch:
        raise InputError(
            "--until-half-width looks at the answers after every 50 examples, but --batch sends all requests at once: "
            "leave one of them out."
        )
    models, client = with_simulated(config.models, client)
    config = config.model_copy(update={"models": models})
    client, unproven = _with_proven_names(client, config.models, out)
    for model in config.models:
        client.endpoint_of(model)
    check_transport(client, config.models)
    if not client.offline:
        check_keys(client, config.models)
    prompts = PromptBook(config.prompts or default_directory())
    shots = max(arm.shots for model in config.models for arm in arms_for(config, model))
    if config.shots_from is not None and not shots:
        raise InputError(
            f"--shots-from {config.shots_from} would be ignored, since no shots are asked for: add --shots N (chat "
            "shows none unless told so), or leave it out."
        )
    specs = parse_specs(config.tasks, config.columns)
    whole = load_tasks(specs, shots=shots, shots_from=config.shots_from, limit=config.limit)
    # words are built against the texts of all levels, so that a level added later changes none of them
    chosen = choose(config.interventions, whole, prompts, prompts.levels(), config.seed)
    if not chosen.edits:
        raise InputError("there is no intervention for any example: nothing could be measured.")
    _check_patterns(config, whole, chosen)
    tasks = tuple(_with_levels(_with_interventions(task, chosen), config.arms.verbosity) for task in whole)
    if config.until_half_width is not None:
        tasks = tuple(_in_drawn_order(task, config.seed) for task in tasks)
    notes = (
        *id_notes(whole),
        *_shots_notes(config, whole),
        *chosen.notes,
        *unproven,
        *_left_out(whole, tasks),
        *_gold_notes(tasks),
    )
    chosen = replace(chosen, notes=notes)
    kinds = {kind for _, kind, _ in kinds_in(chosen.edits)}
    science = provenance.science(config.model_copy(update={"shard": None}), tasks, prompts, kinds)
    name = run_directory.science_hash(science, *inputs_of(tasks, chosen))
    if config.shard is None:
        return Prepared(config, client, tasks, prompts, chosen, science, name)
    whole_run = WholeRun(name=name, tasks=provenance.task_facts(tasks, chosen.edits, prompts))
    parts, own, positions = cut(tasks, chosen, config.shard)
    science = provenance.science(config, parts, prompts, kinds)
    name = f"{name}-{config.shard.suffix}"
    return Prepared(config, client, parts, prompts, own, science, name, whole_run, positions)


def _with_proven_names(
    client: ClientConfig, models: Sequence[ModelConfig], out: Path | None
) -> tuple[ClientConfig, tuple[Note, ...]]:
    """Keep the names under which 0.2 stored answers where it is known that they stood for these addresses alone.

    Earlier runs show it, or else the addresses that the cache has beside its answers. Returns a note for each name that
    is not used although the cache has something under it.
    """
    if not file_names(client):
        return client, ()
    known = run_directory.endpoint_addresses(run_directory.RUNS, out)
    proven, dropped = prove_names(client, known)
    if not dropped or not holds_store(client.cache):
        return proven, ()
    with open_store(client.cache, readonly=True) as store:
        stored = [
            name
            for name in dropped
            if any(store.get_verdict(verdict_name(name, model.model)) is not None for model in models)
        ]
        unknown = set(stored) - known.keys()
        if unknown:
            proven, dropped = prove_names(client, known | _addresses_in(store, unknown))
    return proven, tuple(note("older_name_unused", name=repr(name)) for name in stored if name in dropped)


def _addresses_in(store: Store, names: Collection[str]) -> dict[str, set[str]]:
    """Return for the names of endpoints the addresses that gave stored answers under them, as far as they are known."""
    addresses: dict[str, set[str]] = {}
    for _, request, _ in store.iterate():
        name, origin = request.endpoint, store.latest_origin
        if name is not None and name in names and origin.bought and origin.address is not None:
            addresses.setdefault(name, set()).add(origin.address)
    return addresses


def adopt_run(prepared: Prepared, out: Path | None) -> Prepared:
    """Return the run under the endpoint names of version 0.2 where its directory is there under them.

    The directory is `out`, else the one that such a run has by default.
    """
    if not file_names(prepared.client):
        return prepared
    for directory in run_directory.run_directories(run_directory.RUNS) if out is None else [out]:
        try:
            record = run_directory.read_run(directory)
        except InputError:
            continue
        config, client = adopt_names(prepared.config, prepared.client, record.config.models, record.client.endpoints)
        if client is prepared.client:
            continue
        growing = prepared.science.growing.model_copy(
            update={"models": tuple((model.endpoint, model.model, model.style, model.shots) for model in config.models)}
        )
        science = prepared.science.model_copy(update={"growing": growing})
        name = run_directory.science_hash(science, *inputs_of(prepared.tasks, prepared.chosen))
        whole = prepared.whole
        if whole is not None and record.whole is not None and config.shard is not None:
            whole, name = record.whole, f"{record.whole.name}-{config.shard.suffix}"
        if out is not None or directory.name.endswith(f"-{name}"):
            return replace(prepared, config=config, client=client, science=science, name=name, whole=whole)
    return prepared


def _in_drawn_order(task: Task, seed: int) -> Task:
    """Return the task with its examples in an order drawn with the seed, independent of how many there are."""

    def place(example: Example) -> bytes:
        content = json.dumps([seed, "order", example.task, example.id]).encode()
        return hashlib.sha256(content).digest()

    places = [place(example) for example in task.examples]
    return replace(task, examples=select(task.examples, sorted(range(len(places)), key=places.__getitem__)))


def _check_patterns(config: RunConfig, tasks: Sequence[Task], chosen: Chosen) -> None:
    """Raise InputError where a pattern is to be shown and there are too few shots, or shots without its letter."""
    patterns = [
        (task, name, target) for task, name, target in kinds_in(chosen.edits) if kind_of(name).inserts == "shots"
    ]
    if not patterns:
        return
    kind = patterns[0][1]
    for model in config.models:
        for arm in arms_for(config, model):
            if arm.shots < FEWEST_SHOTS:
                raise InputError(
                    f"{kind} is a pattern in the answers of the shots, and {model.model} is shown "
                    f"{'one shot' if arm.shots else 'no shots'} in {arm.style} style: add --shots N, at least "
                    f"{FEWEST_SHOTS}."
                )
    for task in tasks:
        letters = {letter for name, _, letter in patterns if name == task.name and letter}
        for letter in sorted(letters):
            for shot in task.shots:
                if letter not in shot.options:
                    raise InputError(
                        f"task {task.name!r}: the shot {shot.id!r} has no option {letter}, so the shots cannot have a "
                        "pattern of that letter: give shots with all letters by --shots-from FILE."
                    )


def with_simulated(
    configured: Iterable[ModelConfig], client: ClientConfig
) -> tuple[tuple[ModelConfig, ...], ClientConfig]:
    """Return the models, with simulated ones at endpoints that are named for their laws, and where those are.

    Their family, size and tuning are those of the law unless the configuration says otherwise. Raises InputError for
    a simulated model that is not known, or that is given an endpoint, and for an endpoint of another model that is
    named as one of theirs.
    """
    models, endpoints = [], dict(client.endpoints)
    for model in configured:
        if not model.model.startswith(SIMULATED_PREFIX):
            if model.endpoint is not None and model.endpoint.startswith(SIMULATED_ENDPOINT):
                raise InputError(
                    f"{model.model}: an endpoint named {model.endpoint!r} would pass for that of a simulated model; "
                    "give it a name that does not begin with `simulated:`."
                )
            models.append(model)
            continue
        law = law_of(model.model)
        name = law.endpoint
        if model.endpoint not in (None, name):
            raise InputError(
                f"{model.model} is simulated, so no address is asked: leave out --base-url, or its endpoint in "
                "the file."
            )
        endpoints[name] = EndpointConfig(base_url=LOOPBACK)
        known = {"family": law.family, "parameters": law.parameters, "tuned": law.tuned}
        missing = {field: value for field, value in known.items() if getattr(model, field) is None}
        models.append(model.model_copy(update={"endpoint": name, **missing}))
    return tuple(models), client.model_copy(update={"endpoints": endpoints})


def _with_interventions(task: Task, chosen: Chosen) -> Task:
    """The task without the examples that have no intervention: no number of the run would use their answers.

    Raises InputError where none is left.
    """
    kept = [place for place, example in enumerate(task.examples) if (task.name, example.id) in chosen.edits]
    if not kept:
        raise InputError(
            f"task {task.name!r} has no intervention for any of its examples, so nothing could be measured there: "
            "leave the task out, or add interventions for it."
        )
    return replace(task, examples=select(task.examples, kept))


def _left_out(whole: Sequence[Task], tasks: Sequence[Task]) -> Iterator[Note]:
    """How many examples of each task are not asked."""
    for before, after in zip(whole, tasks, strict=True):
        lost = len(before.examples) - len(after.examples)
        if lost:
            yield note(
                "examples_left_out",
                task=before.name,
                lost=f"{lost:,}",
                examples=counted(len(before.examples), "example"),
                have=agreeing(lost, "have"),
            )


def id_notes(tasks: Sequence[Task]) -> Iterator[Note]:
    """Say which tasks have no ids of their own."""
    for task in tasks:
        if task.spec.columns is not None and task.spec.columns.id is None:
            yield note("ids_from_rows", task=task.name)


def _shots_notes(config: RunConfig, tasks: Sequence[Task]) -> Iterator[Note]:
    """Where the shots come from, and which style shows none of those that were named."""
    for task in tasks:
        if task.shots_source != "none":
            yield note("shots_source", task=task.name, source=task.shots_source)
    styles = {arm.style for model in config.models for arm in arms_for(config, model) if not arm.shots}
    if config.shots_from is not None and styles:
        yield note("shots_unused", styles=", ".join(sorted(styles)))


def _gold_notes(tasks: Sequence[Task]) -> Iterator[Note]:
    """How many rows have something as gold label that is none."""
    for task in tasks:
        strange = [task.unknown_gold[example.id] for example in task.examples if example.id in task.unknown_gold]
        if strange:
            named = ", ".join(map(repr, dict.fromkeys(strange[:SHOWN])))
            yield note(
                "gold_unknown",
                task=task.name,
                unknown=f"{len(strange):,}",
                examples=counted(len(task.examples), "example"),
                have=agreeing(len(strange), "have"),
                labels=named,
            )


def _with_levels(task: Task, levels: Collection[str]) -> Task:
    """The task with the shots of these verbosity levels alone: what is not asked for is no part of the run."""
    return replace(task, level_shots={level: shots for level, shots in task.level_shots.items() if level in levels})


def key_notes(config: RunConfig, client: ClientConfig, *, planned: bool = False) -> tuple[Note, ...]:
    """Name what leaves this machine that a user may not expect; nothing where nothing may be sent.

    These are each key that requests of a run carry, by its variable and the address, and the files that a configuration
    file names outside of its own folder.

    Variables that are not set are named only in what is `planned`: a run ends there.
    """
    if client.offline:
        return ()
    named = {*config.tasks, str(config.prompts), str(config.shots_from), str(config.interventions.file)}
    outside = [name for name in client.files_outside if name in named]
    files = [note("files_outside", files=", ".join(outside))]
    keys = (
        note("key_sent", variable=variable, address=address, unset="" if is_set else f" ({variable} is not set)")
        for variable, address in sent_keys(client, config.models)
        if (is_set := bool(os.environ.get(variable))) or planned
    )
    return (*keys, *(files if outside else ()))


def inputs_of(tasks: Sequence[Task], chosen: Chosen) -> tuple[RecordChain[Example], RecordChain[Intervention]]:
    """Return all examples, and all their interventions, in the order of the tasks. Both can be gone through again."""
    examples = RecordChain(lambda: (task.examples for task in tasks))
    return examples, RecordChain(lambda: (chosen.edits.get((example.task, example.id), ()) for example in examples))
