"""What is known before the first request: tasks, prompts, interventions, and the hash of it all.

A shard is a part of a run's examples, which one machine asks; `archive.merge` puts shards together. Shots,
interventions and the limit are chosen before the cut, so that the trials of all shards are the trials of one run.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from explaineval.cache import Store, holds_store, open_store, verdict_name
from explaineval.client.endpoints.routes import check_keys, sent_keys
from explaineval.client.simulated import law_of
from explaineval.client.stack import check_transport
from explaineval.config import ClientConfig, EndpointConfig, InterventionConfig, ModelConfig, RunConfig, Shard, arms_for
from explaineval.config.configs import adopt_names, file_names, prove_names
from explaineval.datasets import BUNDLED, Task, load_tasks, parse_specs, read_interventions, ready_interventions
from explaineval.datasets.taggers import open_tagger
from explaineval.errors import InputError
from explaineval.interventions import FEWEST_SHOTS, BuildContext, Kind, Token, build_null_edit, kind_of
from explaineval.mentions import SEARCHES, already_present, mentions_phrase
from explaineval.planning import provenance
from explaineval.planning.provenance import Edits
from explaineval.prompts import PromptBook, default_directory
from explaineval.records import SIMULATED_ENDPOINT, SIMULATED_PREFIX, Example, Intervention
from explaineval.rundir import directory as run_directory
from explaineval.rundir.schema import Science, WholeRun
from explaineval.scoring.codes import Note, note
from explaineval.scoring.registry import METRICS
from explaineval.spill import RecordChain, RecordGroups, RecordsByKey, select
from explaineval.text import agreeing, counted

BATCH = 256
"""Examples that are tagged at once."""


@dataclass(frozen=True)
class ChosenEdits:
    """The interventions of a run, and notes for the user on how they were chosen."""

    edits: Edits
    notes: tuple[Note, ...]


def choose(
    config: InterventionConfig, tasks: Sequence[Task], prompts: PromptBook, levels: Sequence[str], seed: int
) -> ChosenEdits:
    """Return the interventions for every example of every task.

    Raises InputError for a file that does not fit, or where words are to be built and no tagger is installed.
    """
    if config.file is not None:
        chosen = _from_file(config.file, tasks)
        for name in sorted({kind for _, kind, _ in kinds_in(chosen.edits)}):
            check_phrases(prompts, name)
        return chosen
    kind, per_example = kind_of(config.kind or "random_word"), config.per_example
    edits = EditGroups(per_example)
    notes: list[Note] = []
    for task in tasks:
        if config.kind is None and task.name in BUNDLED:
            _collect(edits, ready_interventions(task.name, task.examples))
            continue
        drawn = build(kind, task, prompts, levels, per_example=per_example, seed=seed, tagger=config.tagger)
        missing = len(task.examples) * per_example - _collect(edits, drawn)
        if missing:
            notes.append(short_note(task.name, missing))
    return ChosenEdits(edits, tuple(notes))


def build(
    kind: Kind,
    task: Task,
    prompts: PromptBook,
    levels: Sequence[str],
    *,
    per_example: int,
    seed: int,
    tagger: str | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Iterator[Intervention]:
    """Build the interventions of a kind that has a builder, for the task's examples in their order.

    `levels` are the verbosity levels whose texts no word may be in. `on_progress` is called with the number of
    examples that are done. Raises InputError where no tagger is installed though the kind needs one, and where the
    prompts lack a cue's texts or phrases, or show the wrong letter in them.
    """
    if kind.builder is None:
        raise InputError(f"nothing here builds the kind {kind.name!r}: give its interventions as a file.")
    check_phrases(prompts, kind.name)

    @cache
    def surroundings() -> list[str]:
        return fixed_texts(task, prompts, levels)

    @cache  # the same words are drawn for many examples, and these texts are the same for all of them
    def is_in_surroundings(word: str) -> bool:
        return already_present(word, surroundings())

    context = BuildContext(
        kind=kind.name,
        per_example=per_example,
        seed=seed,
        field_first=task.shape in ("nli", "sense"),
        prompt_texts=lambda example: [prompts.instruction(example, task.shape)],
        is_present=lambda word, texts: is_in_surroundings(word) or already_present(word, texts),
        cue_text=cache(partial(_cue_text, prompts, kind)),
    )
    untagged = ((example, dict[str, list[Token]]()) for example in task.examples)
    for number, (example, tokens) in enumerate(_tagged(task, tagger) if kind.needs_tokens else untagged, start=1):
        yield from kind.builder(example, replace(context, tokens=tokens))
        if on_progress is not None:
            on_progress(number)


def _cue_text(prompts: PromptBook, kind: Kind, letter: str | None) -> str:
    """Return what a cue says when it suggests the letter, and with None what its control says."""
    if letter is None:
        return prompts.fill(f"cues/{kind.cue}_control.txt")
    name = f"cues/{kind.cue}.txt"
    text = prompts.fill(name, letter=letter)
    if not re.search(rf"(?<!\w){re.escape(letter)}(?!\w)", text):
        raise InputError(f"{prompts.directory}/{name} does not show its letter: write {{{{ letter }}}}.")
    return text


def with_null_edits(examples: Iterable[Example], built: Iterable[Intervention]) -> Iterator[Intervention]:
    """Yield the interventions of each example, then a null edit at the place of its first edit, if it has an edit."""
    by_example = EditGroups()
    _collect(by_example, built)
    for example in examples:
        edits = by_example.get((example.task, example.id), [])
        yield from edits
        null_edit = build_null_edit(example, edits)
        if null_edit is not None:
            yield null_edit


def fixed_texts(task: Task, prompts: PromptBook, levels: Collection[str]) -> list[str]:
    """Return the texts in a task's prompts beside the example and its instruction: shots, and texts of the levels."""
    shots = [*task.shots, *(shot for level in levels for shot in task.level_shots.get(level, ()))]
    texts = [text for shot in shots for text in (*shot.fields.values(), *shot.options.values(), shot.explanation or "")]
    return [*dict.fromkeys(texts), *(prompts.level("chat", level) for level in levels)]


def check_phrases(prompts: PromptBook, kind: str) -> None:
    """Raise InputError where phrases recognise a mention of this kind and the prompts have no good list of them.

    That is no list at all, a phrase without a word, or one that is found in a text that must not count as a mention.
    """
    cue = kind_of(kind).cue
    if kind_of(kind).mentioned_by != "phrases" or cue is None:
        return
    phrases = prompts.phrases(cue)
    mentions_phrase(phrases, "")
    for text in prompts.negatives(cue):
        for phrase in phrases:
            if mentions_phrase([phrase], text) is not None:
                file = f"{prompts.directory}/cues/{cue}.phrases.txt"
                raise InputError(
                    f"{file} has the phrase {phrase!r}, which is found in a text of {cue}.negative.txt that must not "
                    f"count as a mention: {text!r}. Change one of the two."
                )


def _tagged(task: Task, tagger: str | None) -> Iterator[tuple[Example, dict[str, list[Token]]]]:
    """Yield each example with the tokens of its fields."""
    pipeline = open_tagger(tagger)
    for start in range(0, len(task.examples), BATCH):
        batch = task.examples[start : start + BATCH]
        tagged = pipeline.tag_many(text for example in batch for text in example.fields.values())
        for example in batch:
            yield example, {name: next(tagged) for name in example.fields}


def _from_file(path: Path, tasks: Sequence[Task]) -> ChosenEdits:
    everything = {task.name: RecordsByKey(task.everything or task.spec.read(), _id_of) for task in tasks}
    evaluated = {task.name: RecordsByKey(task.examples, _id_of) for task in tasks}
    edits, skipped = EditGroups(), 0
    for line in read_interventions(path, everything):
        if line.example_id in evaluated[line.task]:
            edits.append(line)
        else:
            skipped += 1
    if not skipped:
        return ChosenEdits(edits, ())
    skipped_lines = counted(skipped, "line", "belong")
    return ChosenEdits(edits, (note("interventions_skipped", file=path.name, lines=skipped_lines),))


def _id_of(example: Example) -> str:
    return example.id


def short_note(task: str, missing: int) -> Note:
    """Say how many interventions could not be built."""
    return note("interventions_short", task=task, missing=counted(missing, "intervention"))


class EditGroups(RecordGroups[Intervention]):
    """Interventions by (task, example id), of each example at most the first `per_example`."""

    def __init__(self, per_example: int | None = None) -> None:
        super().__init__(Intervention, lambda edit: (edit.task, edit.example_id), per_example)
        self.kinds: dict[tuple[str, str, str | None], None] = {}
        """Task, kind and target of the interventions, each combination once."""

    def append(self, record: Intervention) -> None:
        """Add an intervention to those of its example."""
        super().append(record)
        self.kinds.setdefault((record.task, record.kind, record.target))


def kinds_in(edits: Edits) -> Collection[tuple[str, str, str | None]]:
    """Return task, kind and target of the interventions, each combination once, in the order of their first ones."""
    if isinstance(edits, EditGroups):
        return edits.kinds
    return dict.fromkeys((edit.task, edit.kind, edit.target) for group in edits.values() for edit in group)


def _collect(edits: EditGroups, interventions: Iterable[Intervention]) -> int:
    """Add the interventions; return how many there were."""
    count = 0
    for intervention in interventions:
        count += 1
        edits.append(intervention)
    return count


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
    chosen: ChosenEdits
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
    if out is not None:
        run_directory.check_is_no_file_name(out)
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
    SEARCHES.require(config.mention)
    for metric in config.metrics:
        METRICS.require(metric)
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


def _check_patterns(config: RunConfig, tasks: Sequence[Task], chosen: ChosenEdits) -> None:
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


def _with_interventions(task: Task, chosen: ChosenEdits) -> Task:
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


def inputs_of(tasks: Sequence[Task], chosen: ChosenEdits) -> tuple[RecordChain[Example], RecordChain[Intervention]]:
    """Return all examples, and all their interventions, in the order of the tasks. Both can be gone through again."""
    examples = RecordChain(lambda: (task.examples for task in tasks))
    return examples, RecordChain(lambda: (chosen.edits.get((example.task, example.id), ()) for example in examples))


def cut(
    tasks: Sequence[Task], chosen: ChosenEdits, shard: Shard
) -> tuple[tuple[Task, ...], ChosenEdits, tuple[int, ...]]:
    """Return the tasks and interventions of one shard, and the place of each of its examples in the whole run.

    Places count from 0 over the examples of all tasks, task after task. A shard may have no examples.
    """
    parts: list[Task] = []
    positions: list[int] = []
    start = 0
    for task in tasks:
        held = [number for number, example in enumerate(task.examples) if shard.holds(example.id)]
        positions += [start + number for number in held]
        start += len(task.examples)
        parts.append(replace(task, examples=select(task.examples, held)))
    edits = EditGroups()
    for task in parts:
        for example in task.examples:
            for edit in chosen.edits.get((task.name, example.id), ()):
                edits.append(edit)
    about = note("shard", shard=shard, own=f"{len(positions):,}", examples=counted(start, "example"))
    return tuple(parts), ChosenEdits(edits, (about, *chosen.notes)), tuple(positions)
