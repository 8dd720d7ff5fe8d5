"""Where the tasks of a run come from, as far as its configuration tells."""

from __future__ import annotations

from pathlib import PurePath
from typing import NamedTuple

from explaineval.config import RunConfig
from explaineval.datasets import parse_specs
from explaineval.datasets.downloads import OFFICIAL
from explaineval.datasets.readers import BUNDLED
from explaineval.errors import InputError

OURS = "Apache-2.0, with explaineval"
"""The licence of the bundled tasks."""


class TaskSource(NamedTuple):
    """Where a task comes from: its format, its file's name without the directory, and the licence of its texts."""

    format: str
    file: str | None
    licence: str | None


def task_source(config: RunConfig, task: str) -> TaskSource | None:
    """Return where a task comes from; None for what is no task of the run, such as a mean over tasks.

    The licence is that which the authors of a known dataset state, that of this package for its own tasks, and None
    where it is not known.
    """
    try:
        specs = parse_specs(config.tasks, config.columns)
    except InputError:  # a task of another version of explaineval
        return None
    spec = next((spec for spec in specs if spec.name == task), None)
    if spec is None:
        return None
    if spec.path is None and spec.format in BUNDLED:
        return TaskSource(spec.format, None, OURS)
    licence = OFFICIAL[spec.format].licence if spec.format in OFFICIAL else None
    return TaskSource(spec.format, PurePath(spec.path).name if spec.path else None, licence)
