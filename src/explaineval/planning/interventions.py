"""Choose a run's interventions (those of a file, a bundled task's ready ones, or random words), and build them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from explaineval.config import InterventionConfig
from explaineval.datasets import BUNDLED, Task, read_interventions, ready_interventions
from explaineval.datasets.taggers import open_tagger
from explaineval.errors import InputError
from explaineval.interventions import BuildContext, Kind, Token, build_null_edit, kind_of
from explaineval.mentions import already_present, mentions_phrase
from explaineval.prompts import PromptBook
from explaineval.record_list import RecordGroups, RecordsByKey
from explaineval.records import Example, Intervention
from explaineval.scoring.codes import Note, note
from explaineval.text import counted

Edits = Mapping[tuple[str, str], Sequence[Intervention]]
"""Interventions by (task, example id)."""

BATCH = 256
"""Examples that are tagged at once."""


@dataclass(frozen=True)
class Chosen:
    """The interventions of a run, and notes for the user on how they were chosen."""

    edits: Edits
    notes: tuple[Note, ...]


def choose(
    config: InterventionConfig, tasks: Sequence[Task], prompts: PromptBook, levels: Sequence[str], seed: int
) -> Chosen:
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


def _from_file(path: Path, tasks: Sequence[Task]) -> Chosen:
    everything = {task.name: RecordsByKey(task.everything or task.spec.read(), _id_of) for task in tasks}
    evaluated = {task.name: RecordsByKey(task.examples, _id_of) for task in tasks}
    edits, skipped = EditGroups(), 0
    for line in read_interventions(path, everything):
        if line.example_id in evaluated[line.task]:
            edits.append(line)
        else:
            skipped += 1
    if not skipped:
        return Chosen(edits, ())
    skipped_lines = counted(skipped, "line", "belong")
    return Chosen(edits, (note("interventions_skipped", file=path.name, lines=skipped_lines),))


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
