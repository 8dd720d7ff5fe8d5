"""Bring systems, tasks and kinds into the order of the configuration, whichever answers came first."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from explaineval.config import RunConfig
from explaineval.rundir.schema import Facts
from explaineval.scoring.shared import System, Trials

WIDEST = 12
"""Columns to which numbers are filled up, so that they are sorted by value."""


def in_order_of(runs: Sequence[tuple[RunConfig, Facts]], trials: Trials) -> Trials:
    """Return the same trials with systems, tasks and kinds in the order of the runs' configurations.

    Systems are ordered by run, model, order, style, shots and verbosity, tasks and kinds as in the first run that has
    them. What a configuration does not name comes last, by name.
    """
    keys = [_key_of_systems(config) for config, _ in runs]

    def of_system(system: System) -> Any:
        return system.run, keys[system.run](system)

    tasks = _place_in([task for _, facts in runs for task in facts.tasks])
    kinds = _place_in([kind for _, facts in runs for task in facts.tasks.values() for kind in task.kinds])
    return Trials(
        scored={
            (task, kind): {system: outcomes[system] for system in sorted(outcomes, key=of_system)}
            for (task, kind), outcomes in sorted(
                trials.scored.items(), key=lambda item: (tasks(item[0][0]), kinds(item[0][1]))
            )
        },
        shams=dict(sorted(trials.shams.items(), key=lambda item: tasks(item[0]))),
        systems=dict.fromkeys(sorted(trials.systems, key=of_system)),
    )


def _key_of_systems(config: RunConfig) -> Callable[[System], Any]:
    """Return the sort key of the systems of one run."""
    models = _place_in([(model.endpoint, model.model) for model in config.models])
    arms = config.arms
    parts = [_place_in(values or ()) for values in (arms.order, arms.style, arms.shots, arms.verbosity)]

    def key(system: System) -> Any:
        values = (system.order, system.style, system.shots, system.verbosity or "")
        return models(system[1:3]), *(place(value) for place, value in zip(parts, values, strict=True))

    return key


def _place_in(values: Sequence[Hashable]) -> Callable[[Any], tuple[int, str]]:
    """Return the sort key of values: their place in the list, for others the end, by their text."""
    places = {value: number for number, value in enumerate(dict.fromkeys(values))}
    return lambda value: (places[value], "") if value in places else (len(places), str(value).rjust(WIDEST))
