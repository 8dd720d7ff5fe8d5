"""Notes on a run, printed beside its numbers: how it came about, what it cost, what was left out.

A note has the fields of a warning about a number (`scoring.checks`), but is about no row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from explaineval.records import Record
from explaineval.scoring.checks import CODES, Code, Grade


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
    "answers_cut_off": Code("mind", "Raise --max-tokens, or give --retry truncated."),
    "reasons_first": Code("mind", "Read order pe as explaining an answer that followed hidden reasoning."),
    "versions_mixed": CODES["snapshots_mixed"],
    "route_loses_logprobs": Code("mind", "Ask the same server by the route openai/ with --base-url."),
    "capabilities_assumed": Code("mind", "Run `explaineval probe`."),
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
    "no_figures": Code("for the record", "Install the extra: pip install 'explaineval[report]'."),
}  # fmt: skip
"""Every code that a note can have."""


def note(code: str, text: str) -> Note:
    """The note of this code."""
    found = NOTES[code]
    return Note(code=code, grade=found.grade, text=text, todo=found.todo)


def cache_notes(warnings: Iterable[str]) -> Iterator[Note]:
    """What a store of answers says of itself."""
    return (note("cache", text) for text in warnings)
