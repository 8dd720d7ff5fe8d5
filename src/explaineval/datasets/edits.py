"""Interventions from files: the user's own JSONL, and the ready ones of the bundled tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path

from explaineval.datasets.rows import read_jsonl
from explaineval.errors import InputError
from explaineval.interventions import intervention_from
from explaineval.records import Example, Intervention


def read_interventions(path: Path, tasks: Mapping[str, Mapping[str, Example]]) -> list[Intervention]:
    """All interventions of a JSONL file, checked against the tasks' examples (all rows of each file, unlimited).

    Raises InputError for a line that fits no loaded example, an offset beyond the text, an id that stands twice.
    """
    found = list(_checked(read_jsonl(path), tasks))
    if not found:
        raise InputError(f"{path} is empty: it holds no intervention.")
    return found


def ready_interventions(task: str, examples: Sequence[Example]) -> list[Intervention]:
    """The ready interventions of a bundled task, for those of its examples that are given."""
    with resources.as_file(resources.files("explaineval") / "tasks" / f"{task}.interventions.jsonl") as path:
        wanted = {example.id: example for example in examples}
        lines = ((place, value) for place, value in read_jsonl(path) if value.get("example_id") in wanted)
        return list(_checked(lines, {task: wanted}))


def _checked(
    lines: Iterator[tuple[str, dict[str, object]]], tasks: Mapping[str, Mapping[str, Example]]
) -> Iterator[Intervention]:
    seen: set[tuple[str, str]] = set()
    for place, value in lines:
        intervention = intervention_from(value, where=place, tasks=tasks)
        key = (intervention.task, intervention.id)
        if key in seen:
            raise InputError(f"{place}: the intervention id {intervention.id!r} stands twice for this task.")
        seen.add(key)
        yield intervention
