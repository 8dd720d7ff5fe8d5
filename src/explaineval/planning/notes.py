"""Notes on a run, printed beside its numbers: how it came about, what it cost, what was left out.

A note has the fields of a warning about a number (`scoring.checks`), but is about no row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from explaineval.config import arms_for
from explaineval.records import Record
from explaineval.rundir.schema import RunRecord, UnreadableArm
from explaineval.scoring.checks import CODES, Code, Grade
from explaineval.text import counted, quoted


class Note(Record):
    """One note: `code` and `grade` for programs, `text` and `todo` for people."""

    code: str
    grade: Grade
    text: str
    todo: str


NOTHING = "Nothing."

NOTES: Mapping[str, Code] = {
    "directory_in_use": Code("for the record", NOTHING),
    "option_repeated": Code("mind", "Give the option once."),
    "scored_otherwise": Code("for the record", NOTHING),
    "stopped_early": Code("for the record", NOTHING),
    "not_precise": Code("mind", "Give more examples, or a larger --until-half-width."),
    "costs_at_most": Code("for the record", NOTHING),
    "examples_left_out": Code("mind", "Add interventions for these examples, or say that they are left out."),
    "interventions_short": Code("for the record", NOTHING),
    "interventions_skipped": Code("mind", "Raise --limit if these examples are wanted."),
    "ids_from_rows": Code("mind", "Give a column with ids: --columns id=COLUMN."),
    "gold_unknown": Code("mind", "Mend the labels in the task's file, or say that accuracy leaves these rows out."),
    "shard": Code("for the record", NOTHING),
    "shots_source": Code("for the record", NOTHING),
    "shots_unused": Code("mind", "Give --shots N."),
    "judgements_partial": Code("mind", "Judge, or simulate, the merged run."),
    "predictor_unread": Code("mind", "Look at predictions.jsonl, and give the number of trials with the value."),
    "level_not_asked": Code("mind", "Give every shot an explanation of that length."),
    "answers_unreadable": Code("mind", "Look at an answer: `explaineval show RUN_DIR --example ID --answers`."),
    "model_stopped": Code("do not quote", "Change how the model is asked, or go on with --keep-unreadable."),
    "answers_cut_off": Code("mind", "Raise --max-tokens, or give --retry truncated."),
    "reasons_first": Code("mind", "Read order pe as explaining an answer that followed hidden reasoning."),
    "answers_imported": CODES["answers_imported"],
    "origin_unknown": CODES["origin_unknown"],
    "addresses_mixed": CODES["addresses_mixed"],
    "older_name_unused": Code("mind", "Give the endpoint that name: `endpoint_name: NAME`, or --endpoint-name NAME."),
    "versions_mixed": CODES["snapshots_mixed"],
    "route_loses_logprobs": Code("mind", "Ask the same server by the route openai/ with --base-url."),
    "capabilities_assumed": Code("mind", "Run `explaineval probe`."),
    "key_sent": Code("for the record", NOTHING),
    "files_outside": Code("for the record", NOTHING),
    "proxy_used": Code("for the record", NOTHING),
    "tokens_uncounted": Code("mind", "Look at the provider's bill."),
    "bill_unknown": Code("mind", "Look at the provider's bill."),
    "price_unknown": Code("mind", "Give --price IN,OUT."),
    "endpoint_waited_for": Code("for the record", NOTHING),
    "answers_shared": Code("for the record", NOTHING),
    "cache": Code("mind", "Run `explaineval cache verify`."),
    "endpoint_unusable": Code("do not quote", "Mend what the text says, then give the same command again."),
    "requests_failed": Code("mind", "Give the same command again."),
    "requests_unsent": Code("mind", "Give the same command again."),
    "answers_faulty": Code("mind", "Look at one of them: `explaineval show RUN_DIR --example ID --answers`."),
    "answers_repaired": Code("for the record", NOTHING),
    "line_refused": Code("mind", "Ask for a pack that is whole."),
    "pack_empty": Code("mind", "Look at the filters."),
    "space_kept": Code("for the record", NOTHING),
    "sheet_short": Code("for the record", NOTHING),
    "sheet_outgrown": Code("mind", "Draw a new sheet, or say that the rows come from a part of the trials."),
    "rows_ungraded": Code("for the record", NOTHING),
    "run_unfinished": Code("do not quote", "Give the run command again, then export."),
    "answers_missing": Code("do not quote", "Name the cache that has them (--cache DIR), or run again."),
    "no_figures": Code("for the record", "Install the extra `report`, by the command in the note."),
}  # fmt: skip
"""Every code that a note can have."""


def note(code: str, text: str) -> Note:
    """The note of this code."""
    found = NOTES[code]
    return Note(code=code, grade=found.grade, text=text, todo=found.todo)


def cache_notes(warnings: Iterable[str]) -> Iterator[Note]:
    """What a store of answers says of itself."""
    return (note("cache", text) for text in warnings)


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
    if not found.stopped:
        return note("answers_unreadable", f"{text} {MORE_READABLE}")
    return note(
        "model_stopped",
        f"{text} Nothing more is sent there; what was paid for is kept and scored. {MORE_READABLE} To go on "
        "nevertheless give the same command with --keep-unreadable.",
    )


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
