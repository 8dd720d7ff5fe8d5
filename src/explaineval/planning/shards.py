"""Cut a run down to one shard: a part of its examples, which one machine asks. `archive.merge` puts shards together.

Everything else is that of the whole run: shots, interventions and the limit are chosen before the cut, so that the
trials of all shards are the trials of one run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from explaineval.config import Shard
from explaineval.datasets import Task
from explaineval.planning.interventions import Chosen, EditGroups
from explaineval.record_list import select
from explaineval.scoring.codes import note
from explaineval.text import counted


def cut(tasks: Sequence[Task], chosen: Chosen, shard: Shard) -> tuple[tuple[Task, ...], Chosen, tuple[int, ...]]:
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
    return tuple(parts), Chosen(edits, (about, *chosen.notes)), tuple(positions)
