"""Notes on a run, printed beside its numbers: how it came about, what it cost, what was left out.

`scoring.codes` has their sentences.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from explaineval.config import arms_for
from explaineval.rundir.schema import RunRecord, UnreadableArm
from explaineval.scoring.codes import Note, note
from explaineval.text import counted, joined, quoted


def cache_notes(warnings: Iterable[str]) -> Iterator[Note]:
    """What a store of answers says of itself."""
    return (note("cache", text=text) for text in warnings)


def unreadable_notes(model: str, arms: Iterable[UnreadableArm], *, name_arms: bool) -> Iterator[Note]:
    """Yield notes on arms of which too much cannot be read, one for all arms that differ in verbosity alone.

    `name_arms`: the model is asked under several.
    """
    groups: dict[tuple[object, ...], list[UnreadableArm]] = {}
    for arm in arms:
        groups.setdefault((arm.order, arm.style, arm.shots, arm.checked, arm.stopped), []).append(arm)
    for group in groups.values():
        first, where = group[0], model
        if name_arms:
            levels = joined([arm.verbosity for arm in group])
            where += f" (order {first.order}, {first.style}, {counted(first.shots, 'shot')}, verbosity {levels})"
        counts = joined([str(arm.unreadable) for arm in group])
        statuses = sum((Counter(arm.statuses) for arm in group), Counter[str]())
        reasons = ", ".join(f"{count} {status}" for status, count in statuses.items())
        example = f", for example {quoted(first.example)}" if first.example else ""
        text = f"{where}: {counts} of the first {counted(first.checked, 'answer')} cannot be read ({reasons}){example}."
        yield note("model_stopped" if first.stopped else "answers_unreadable", unreadable=text, advice=MORE_READABLE)


def record_notes(run: RunRecord) -> Iterator[Note]:
    """The notes on arms of a finished run of which too much cannot be read."""
    models = {(model.endpoint, model.model): model for model in run.config.models}
    for entry in run.endpoints:
        model = models.get((entry.endpoint, entry.model))
        several = model is not None and sum(1 for _ in arms_for(run.config, model)) > 1
        yield from unreadable_notes(entry.model, entry.unreadable, name_arms=several)


MORE_READABLE = (
    "--shots 4 or --style completion may help a model that does not keep the answer's form, --max-tokens one that is "
    "cut off."
)
