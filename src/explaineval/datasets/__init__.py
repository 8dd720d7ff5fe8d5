"""Files in, examples out: the official formats of e-SNLI, ECQA and ComVE, our JSONL, CSV, and the bundled tasks."""

from __future__ import annotations

from explaineval.datasets.downloads import OFFICIAL, Download, join_ecqa
from explaineval.datasets.readers import BUNDLED, FORMATS, Format, TaskRow, read_task, task_help
from explaineval.datasets.tasks import (
    Task,
    TaskSpec,
    load_tasks,
    parse_spec,
    parse_specs,
    read_interventions,
    ready_interventions,
    shots_of,
)

__all__ = [
    "BUNDLED", "FORMATS", "OFFICIAL", "Download", "Format", "Task", "TaskRow", "TaskSpec", "join_ecqa", "load_tasks",
    "parse_spec", "parse_specs", "read_interventions", "read_task", "ready_interventions", "shots_of", "task_help",
]  # fmt: skip
