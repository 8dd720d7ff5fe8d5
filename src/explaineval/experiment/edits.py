"""Which interventions a run uses: a file's, a bundled task's ready ones, or random words built on the spot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from explaineval.config import InterventionConfig
from explaineval.datasets import BUNDLED, Task, read_interventions, read_task, ready_interventions
from explaineval.interventions import build_random_words
from explaineval.mentions import already_present
from explaineval.prompts import PromptBook
from explaineval.records import Example, Intervention
from explaineval.taggers import open_tagger

Edits = dict[tuple[str, str], list[Intervention]]
"""Interventions by (task, example id)."""

BATCH = 256


@dataclass(frozen=True)
class Chosen:
    """The interventions of a run, and what a reader should know about how they came about."""

    edits: Edits
    notes: tuple[str, ...]


def choose(
    wanted: InterventionConfig, tasks: Sequence[Task], prompts: PromptBook, levels: Iterable[str], seed: int
) -> Chosen:
    """The interventions for every example of every task.

    Raises InputError for a file that does not fit, or where words are to be built and no tagger is installed.
    """
    if wanted.file is not None:
        return _from_file(wanted.file, tasks)
    edits: Edits = {}
    notes: list[str] = []
    for task in tasks:
        if wanted.kind is None and task.name in BUNDLED:
            found = ready_interventions(task.name, task.examples)
            _collect(edits, _first(found, wanted.per_example))
            continue
        built = list(random_words(task, prompts, tuple(levels), wanted.per_example, seed, wanted.tagger))
        _collect(edits, built)
        short = len(task.examples) * wanted.per_example - len(built)
        if short:
            notes.append(
                f"{task.name}: {short} interventions fewer than asked for, since some texts offer too few places."
            )
    return Chosen(edits, tuple(notes))


def random_words(
    task: Task,
    prompts: PromptBook,
    levels: Sequence[str],
    per_example: int,
    seed: int,
    tagger: str | None,
    done: Callable[[int], None] | None = None,
) -> Iterator[Intervention]:
    """Random-word interventions for the task's examples, in their order; `done` is told how many are finished."""
    nlp = open_tagger(tagger)
    fixed = [shot_text for shot in task.shots for shot_text in _texts(shot)]
    fixed += [prompts.level("chat", level) for level in levels]
    coin = task.shape in ("nli", "sense")
    for start in range(0, len(task.examples), BATCH):
        batch = task.examples[start : start + BATCH]
        names = [(example, name) for example in batch for name in example.fields]
        tagged = nlp.tag_many([example.fields[name] for example, name in names])
        tokens = {(example.id, name): found for (example, name), found in zip(names, tagged, strict=True)}
        for example in batch:
            yield from build_random_words(
                example,
                {name: tokens[example.id, name] for name in example.fields},
                per_example=per_example,
                seed=seed,
                fields=tuple(example.fields),
                coin=coin,
                forbidden_texts=(*fixed, prompts.instruction(example, task.shape)),
                is_present=already_present,
            )
        if done is not None:
            done(start + len(batch))


def _texts(example: Example) -> list[str]:
    return [*example.fields.values(), *example.options.values(), example.explanation or ""]


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
    notes = (f"{path.name}: {skipped} lines belong to examples that are cut off by the limit or serve as shots.",)
    return Chosen(edits, notes if skipped else ())


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
