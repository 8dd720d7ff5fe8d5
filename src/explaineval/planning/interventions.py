"""Which interventions a run uses: a file's, a bundled task's ready ones, or random words built on the spot."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from explaineval.config import InterventionConfig
from explaineval.datasets import BUNDLED, Task, read_interventions, read_task, ready_interventions
from explaineval.datasets.taggers import open_tagger
from explaineval.errors import InputError
from explaineval.interventions import BuildContext, Kind, Token, build_null_edit, kind_of
from explaineval.mentions import already_present, mentions_phrase
from explaineval.planning.notes import Note, note
from explaineval.prompts import PromptBook
from explaineval.records import Example, Intervention
from explaineval.scoring.mentioning import phrases_of

Edits = dict[tuple[str, str], list[Intervention]]
"""Interventions by (task, example id)."""

BATCH = 256


@dataclass(frozen=True)
class Chosen:
    """The interventions of a run, and what a reader should know about how they came about."""

    edits: Edits
    notes: tuple[Note, ...]


def choose(
    wanted: InterventionConfig, tasks: Sequence[Task], prompts: PromptBook, levels: Sequence[str], seed: int
) -> Chosen:
    """The interventions for every example of every task.

    Raises InputError for a file that does not fit, or where words are to be built and no tagger is installed.
    """
    if wanted.file is not None:
        chosen = _from_file(wanted.file, tasks)
        for kind in sorted({one.kind for found in chosen.edits.values() for one in found}):
            check_phrases(prompts, kind)
        return chosen
    edits: Edits = {}
    notes: list[Note] = []
    for task in tasks:
        if wanted.kind is None and task.name in BUNDLED:
            found = ready_interventions(task.name, task.examples)
            _collect(edits, _first(found, wanted.per_example))
            continue
        kind = kind_of(wanted.kind or "random_word")
        built = list(
            build(kind, task, prompts, levels, per_example=wanted.per_example, seed=seed, tagger=wanted.tagger)
        )
        _collect(edits, built)
        short = len(task.examples) * wanted.per_example - len(built)
        if short:
            notes.append(short_note(task.name, short))
    return Chosen(edits, tuple(notes))


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
        raise ValueError(f"the kind {kind.name!r} has no builder")
    check_phrases(prompts, kind.name)

    @cache
    def surroundings() -> list[str]:
        return fixed_texts(task, prompts, levels)

    context = BuildContext(
        kind=kind.name,
        per_example=per_example,
        seed=seed,
        field_first=task.shape in ("nli", "sense"),
        prompt_texts=lambda example: [*surroundings(), prompts.instruction(example, task.shape)],
        is_present=already_present,
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
    """The interventions of each example, followed by one null edit at the place of its first; cues give no place."""
    by_example: dict[tuple[str, str], list[Intervention]] = {}
    for one in built:
        by_example.setdefault((one.task, one.example_id), []).append(one)
    for example in examples:
        found = by_example.get((example.task, example.id), [])
        yield from found
        null_edit = build_null_edit(example, found)
        if null_edit is not None:
            yield null_edit


def fixed_texts(task: Task, prompts: PromptBook, levels: Collection[str]) -> list[str]:
    """What stands in a task's prompts beside the example and its instruction: shots, and the texts of the levels."""
    shots = [*task.shots, *(shot for level in levels for shot in task.level_shots.get(level, ()))]
    texts = [t for shot in shots for t in (*shot.fields.values(), *shot.options.values(), shot.explanation or "")]
    return [*dict.fromkeys(texts), *(prompts.level("chat", level) for level in levels)]


def check_phrases(prompts: PromptBook, kind: str) -> None:
    """Raise InputError unless the mentions of a kind can be told: a cue needs its list of phrases."""
    if kind_of(kind).mentioned_by == "phrases":
        mentions_phrase(phrases_of(prompts)(kind), "")


def _tagged(task: Task, tagger: str | None) -> Iterator[tuple[Example, dict[str, list[Token]]]]:
    """Each example with the tokens of its fields."""
    nlp = open_tagger(tagger)
    for start in range(0, len(task.examples), BATCH):
        batch = task.examples[start : start + BATCH]
        names = [(example, name) for example in batch for name in example.fields]
        tagged = nlp.tag_many([example.fields[name] for example, name in names])
        tokens = {(example.id, name): found for (example, name), found in zip(names, tagged, strict=True)}
        for example in batch:
            yield example, {name: tokens[example.id, name] for name in example.fields}


def _from_file(path: Path, tasks: Sequence[Task]) -> Chosen:
    everything = {
        task.name: {example.id: example for example in read_task(task.spec.reader, task.spec.path, task.name)}
        for task in tasks
    }
    evaluated = {(task.name, example.id) for task in tasks for example in task.examples}
    found = read_interventions(path, everything)
    used = [one for one in found if (one.task, one.example_id) in evaluated]
    edits: Edits = {}
    _collect(edits, used)
    skipped = len(found) - len(used)
    told = f"{path.name}: {skipped} lines belong to examples that are cut off by the limit or serve as shots."
    return Chosen(edits, (note("interventions_skipped", told),) if skipped else ())


def short_note(task: str, short: int) -> Note:
    """So many interventions could not be built."""
    told = f"{task}: {short} interventions fewer than asked for, since some texts offer too few places."
    return note("interventions_short", told)


def _first(interventions: Iterable[Intervention], count: int) -> Iterator[Intervention]:
    """The first `count` interventions of every example."""
    seen: dict[str, int] = {}
    for one in interventions:
        seen[one.example_id] = seen.get(one.example_id, 0) + 1
        if seen[one.example_id] <= count:
            yield one


def _collect(edits: Edits, interventions: Iterable[Intervention]) -> None:
    for one in interventions:
        edits.setdefault((one.task, one.example_id), []).append(one)
