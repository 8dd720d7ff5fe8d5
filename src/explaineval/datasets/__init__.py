"""Files in, examples out: the official formats of e-SNLI, ECQA and ComVE, our JSONL, and the bundled tasks."""

from __future__ import annotations

from explaineval.datasets.downloads import OFFICIAL, Download, join_ecqa
from explaineval.datasets.readers import BUNDLED, read_task
from explaineval.datasets.tasks import (
    Task,
    TaskSpec,
    load_tasks,
    parse_spec,
    read_interventions,
    ready_interventions,
    shots_of,
)

__all__ = [
    "BUNDLED", "OFFICIAL", "Download", "Task", "TaskSpec", "join_ecqa", "load_tasks", "parse_spec",
    "read_interventions", "read_task", "ready_interventions", "shots_of",
]  # fmt: skip
