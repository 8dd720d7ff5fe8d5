"""Notes on a run, printed beside its numbers: how it came about, what it cost, what was left out.

`scoring.codes` has their sentences.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from explaineval.config import arms_for
from explaineval.rundir.schema import RunRecord, UnreadableArm
from explaineval.scoring.codes import Note, note
from explaineval.text import counted, quoted


def cache_notes(warnings: Iterable[str]) -> Iterator[Note]:
    """What a store of answers says of itself."""
    return (note("cache", text=text) for text in warnings)


def unreadable_note(model: str, found: UnreadableArm, *, name_arm: bool) -> Note:
    """The note on an arm of which too much cannot be read; `name_arm`: the model is asked under several."""
    where = model
    if name_arm:
        where += f" (order {found.order}, {found.style}, {counted(found.shots, 'shot')}, verbosity {found.verbosity})"
    statuses = ", ".join(f"{count} {status}" for status, count in found.statuses.items())
    example = f", for example {quoted(found.example)}" if found.example else ""
    text = (
        f"{where}: {found.unreadable} of the first {counted(found.checked, 'answer')} cannot be read "
        f"({statuses}){example}."
    )
    return note("model_stopped" if found.stopped else "answers_unreadable", unreadable=text, advice=MORE_READABLE)


def record_notes(run: RunRecord) -> Iterator[Note]:
    """The notes on arms of a finished run of which too much cannot be read."""
    models = {(model.endpoint, model.model): model for model in run.config.models}
    for entry in run.endpoints:
        model = models.get((entry.endpoint, entry.model))
        several = model is not None and sum(1 for _ in arms_for(run.config, model)) > 1
        yield from (unreadable_note(entry.model, found, name_arm=several) for found in entry.unreadable)


MORE_READABLE = (
    "--shots 4 or --style completion may help a model that does not keep the answer's form, --max-tokens one that is "
    "cut off."
)
