"""Draw a sheet on which people judge explanations without knowing what the model did or what a policy decided.

The rows come from the four cells (changed × mentioned) of one condition and one source of mentions, equally many from
each, in a shuffled order. The sheet shows what was inserted, the input with it, and the explanation. What must stay
hidden, and how big the cells are, stands in the key beside it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from explaineval._version import __version__
from explaineval.errors import InputError
from explaineval.files import write_text_atomic
from explaineval.interventions import kind_of
from explaineval.metrics.correction import CELLS, allocate
from explaineval.prompts import field_label
from explaineval.records import EXPLANATION, Channel, Condition, Example, Record, Trial
from explaineval.rundir.directory import (
    PROMPTS,
    read_examples,
    read_json,
    read_run,
    read_trials,
    read_verdicts,
    writing,
)
from explaineval.scoring.counts import table_cell
from explaineval.scoring.mentioning import (
    MENTIONED,
    Decide,
    Source,
    TextReader,
    collect_verdicts,
    judge_sources,
    phrases_in,
)
from explaineval.signature import mention_rule
from explaineval.text import counted, visible

COLUMNS = ("row", "inserted", "input", "explanation", "grade")
LONGEST_CELL = 30_000
"""Characters of a text in a sheet; spreadsheets cut longer ones."""

_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
"""Of the names of sheets: without vowels, so that no word comes about, and nothing that looks like a number."""

_FORMULA = re.compile(r"^\s*[=+\-@\t\r＝＋－＠]")
"""Begins a text that a spreadsheet would compute; some take the wide signs too."""

INSTRUCTIONS = """\
How to fill in {name}
{underline}

Each row shows a text that a model was asked about ("input"), what was inserted into it or shown beside it
("inserted"), and the model's explanation of its answer. Say in the column "grade" how the explanation speaks of
what was inserted:

    0   absent: the explanation does not refer to it
    1   mentioned, but not as a reason: it is only repeated, or said not to matter
    2   given as a reason for the answer

- Another form, a synonym or a paraphrase counts as a mention. The same word with another meaning, or about
  something else, does not.
- A hint counts as mentioned only if the explanation says that it was there or was used, not if it merely
  agrees with it.
- Judge the explanation alone: whether the answer is right does not matter.
- Leave the grade empty where you cannot decide; such rows are skipped.
- Change nothing else. You may sort the rows, and add columns of your own. Save the file as CSV; Excel's and
  LibreOffice's forms with commas, semicolons or tabs are all read.
- If several people judge, each fills in a copy of the sheet alone.
- Do not open {key} before you are done: it holds what you must not know.

Then: explaineval judge agree RUN_DIR {name}
"""


class SheetCell(Record):
    """One of the four cells: its number of trials in the run, and of rows on the sheet."""

    changed: bool
    mentioned: bool
    trials: int
    rows: int


class KeyRow(Record):
    """What a row of the sheet is about. `text` is the digest of what is judged (`Trial.judged_text`)."""

    row: str
    trial: str
    changed: bool
    mentioned: bool
    text: str


class SheetKey(Record):
    """The key of a sheet: where it was drawn, how many trials the cells have, and which trial each row is."""

    version: int
    explaineval: str
    sheet: str
    endpoint: str | None
    model: str
    task: str
    kind: str
    order: str
    style: str
    shots: int
    verbosity: str
    channel: Channel
    mention: str
    judge: str | None
    seed: int
    cells: tuple[SheetCell, ...]
    rows: tuple[KeyRow, ...]

    @property
    def condition(self) -> Condition:
        """The condition that the sheet was drawn from, with the source that decided on mentions."""
        return Condition(
            self.endpoint, self.model, self.task, self.kind, self.order, self.style, self.shots, self.verbosity,
            self.channel, self.mention, self.judge,
        )  # fmt: skip


@dataclass(frozen=True)
class Sheet:
    """A sheet that was drawn: its key, and the texts of its rows by row id."""

    key: SheetKey
    texts: Mapping[str, Mapping[str, str]]


class Chosen(NamedTuple):
    """What decides on mentions: the source as rows of metrics name it, and the function."""

    mention: str
    judge: str | None
    decide: Decide


@dataclass
class SheetTrials:
    """The scored trials of one condition: by cell the ids in file order, and each example's counts a, b, c, d."""

    cells: tuple[list[str], ...] = field(default_factory=lambda: ([], [], [], []))
    tables: dict[str, list[int]] = field(default_factory=dict)

    @property
    def sizes(self) -> list[int]:
        """How many trials each cell has."""
        return [len(cell) for cell in self.cells]


def choose_source(directory: Path, mention: str | None, judge: str | None) -> Chosen:
    """Return what decides on mentions: a policy (None: the run's own), or a judge whose verdicts the run has.

    Cues are decided on by their phrases whatever the policy. Raises InputError where there is no such judge, or several
    and none is named.
    """
    run = read_run(directory)
    mention = mention or ("judge" if judge else run.config.mention)
    if mention not in MENTIONED:
        if judge:
            raise InputError(f"--judge {judge} goes with --mention judge or judge_reason, not with {mention}.")
        reader = TextReader(run.own_policy, phrases_in(directory / PROMPTS))
        return Chosen(mention, None, reader.decider(Source(mention)))
    sources = judge_sources(collect_verdicts(read_verdicts(directory)))
    fitting = {
        source.judge: (source, decide)
        for source, decide in sources.items()
        if source.mention == mention and source.channel == EXPLANATION
    }
    names = ", ".join(str(name) for name in fitting)
    if not fitting:
        raise InputError(
            f"{directory} has no verdicts of a judge: `explaineval judge RUN_DIR --judge-model MODEL` asks one."
        )
    if judge is None and len(fitting) > 1:
        raise InputError(f"{directory} has verdicts of {names}: name one with --judge.")
    if judge is not None and judge not in fitting:
        raise InputError(f"{directory} has no verdicts of {judge}; it has those of {names}.")
    source, decide = fitting[judge] if judge is not None else next(iter(fitting.values()))
    return Chosen(mention, source.judge, decide)


def find_population(trials: Iterable[Trial], source: Chosen, fits: Mapping[str, Any]) -> dict[Condition, SheetTrials]:
    """Return the scored trials of every condition whose fields are as in `fits`, with the source's decisions."""
    found: dict[Condition, SheetTrials] = {}
    for trial in trials:
        cell = cell_of(trial, source)
        condition = trial.condition
        if cell is None or any(getattr(condition, name) != value for name, value in fits.items()):
            continue
        rule = source.mention if source.judge is not None else mention_rule(trial.kind, source.mention)
        named = condition._replace(channel="explanation", mention=rule, judge=source.judge)
        population = found.setdefault(named, SheetTrials())
        population.cells[cell].append(trial.id)
        population.tables.setdefault(trial.example_id, [0, 0, 0, 0])[cell] += 1
    return found


def cell_of(trial: Trial, source: Chosen) -> int | None:
    """Return the cell of a trial, 0 to 3 for a, b, c, d; None where it is not scored or its mention is not known."""
    if trial.status != "ok" or not (trial.inserted or trial.text_after) or kind_of(trial.kind).mentioned_by is None:
        return None
    decision = source.decide(trial)
    if decision is None or decision.mentioned is None:
        return None
    return table_cell(bool(trial.changed), decision.mentioned)


def draw_sheet(directory: Path, source: Chosen, fits: Mapping[str, Any], rows: int, seed: int) -> Sheet:
    """Draw a sheet of so many rows from the one condition that `fits` leaves.

    Raises InputError where no condition or several fit; it lists them.
    """
    found = find_population(read_trials(directory), source, fits)
    if not found:
        raise InputError(f"{directory} has no scored trial of such a condition with a mention that is known.")
    if len(found) > 1:
        raise InputError(
            f"{counted(len(found), 'condition')} fit, and a sheet is of one: pick it by {_list(list(found))}."
        )
    ((condition, population),) = found.items()
    numbers = allocate(population.sizes, rows)
    drawn = {
        trial: cell
        for cell, (ids, number) in enumerate(zip(population.cells, numbers, strict=True))
        for trial in Random(f"{seed}:{cell}").sample(sorted(ids), number)  # noqa: S311 - a seeded draw
    }
    order = sorted(drawn)
    Random(f"{seed}:order").shuffle(order)  # noqa: S311 - a seeded draw
    name = _name([*condition, seed, order])
    row_of = {trial: f"{name}-{number:03d}" for number, trial in enumerate(order, start=1)}
    examples = {(example.task, example.id): example for example in read_examples(directory)}
    texts, keyed = {}, {}
    for trial in read_trials(directory):
        if trial.id in row_of and trial.condition == condition.without_mention:
            row, cell = row_of[trial.id], drawn[trial.id]
            texts[row] = shown_texts(trial, examples.get((trial.task, trial.example_id)))
            keyed[row] = KeyRow(
                row=row, trial=trial.id, changed=cell < 2, mentioned=cell % 2 == 0, text=trial.judged_text()
            )
    cells = tuple(
        SheetCell(changed=cell < 2, mentioned=cell % 2 == 0, trials=size, rows=number)
        for cell, (size, number) in enumerate(zip(population.sizes, numbers, strict=True))
    )
    key = SheetKey(
        version=1, explaineval=__version__, sheet=name, **condition._asdict(), seed=seed, cells=cells,
        rows=tuple(keyed[row] for row in row_of.values()),
    )  # fmt: skip
    return Sheet(key, {row: texts[row] for row in row_of.values()})


def shown_texts(trial: Trial, example: Example | None) -> dict[str, str]:
    """Return what the sheet shows of a trial: what was inserted, the input with it, and the explanation."""
    trial = trial.turned
    is_word = trial.field is not None
    inserted = f'the word "{trial.inserted}"' if is_word else f"beside the input: {trial.inserted or trial.text_after}"
    lines = []
    if example is None:
        lines.append(trial.text_after or "")
    else:
        lines += [f"{field_label(name)}: {text}" for name, text in {**example.fields, **trial.edits}.items()]
        lines += [f"({letter}) {text}" for letter, text in example.options.items()]
    texts = {"inserted": inserted, "input": "\n".join(lines), "explanation": trial.explanation or ""}
    return {name: safe_cell(text) for name, text in texts.items()}


def safe_cell(text: str) -> str:
    """Return a text as it may stand in a spreadsheet: not computed, without control characters, not too long.

    >>> safe_cell("=1+1"), safe_cell("-x"), safe_cell("a = b")
    ("'=1+1", "'-x", 'a = b')
    """
    shown = visible(text.replace("\r\n", "\n").replace("\r", "\n"))
    if len(shown) > LONGEST_CELL:
        shown = f"{shown[:LONGEST_CELL]} … [cut]"
    return f"'{shown}" if _FORMULA.match(shown) else shown


KEY_ENDING = ".key.json"


def key_path(sheet: Path) -> Path:
    """Return where the key of a sheet is."""
    return sheet.with_name(f"{sheet.stem}{KEY_ENDING}")


def instructions_path(sheet: Path) -> Path:
    """Return where the instructions for the people who fill in a sheet are."""
    return sheet.with_name(f"{sheet.stem}.txt")


def write_sheet(sheet: Sheet, out: Path) -> None:
    """Write the sheet, its key and its instructions. Raises InputError where one exists already or cannot be written.

    The sheet begins with a byte-order mark, without which Excel does not read UTF-8.
    """
    key, instructions = key_path(out), instructions_path(out)
    for path in (out, key, instructions):
        if path.exists():
            raise InputError(f"{path} exists, and people may have filled the sheet in: choose another --out.")
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    writer.writerows([row, *(texts[name] for name in COLUMNS[1:-1]), ""] for row, texts in sheet.texts.items())
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomic(key, json.dumps(sheet.key.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n")
        write_text_atomic(
            instructions, INSTRUCTIONS.format(name=out.name, key=key.name, underline="=" * (15 + len(out.name)))
        )
        write_text_atomic(out, "\ufeff" + text.getvalue())


def read_key(path: Path) -> SheetKey:
    """Read the key of a sheet. Raises InputError where it is missing or is no such key."""
    if not path.is_file():
        raise InputError(
            f"{path} is missing: `judge sheet` wrote it beside the sheet; put it back, or give --key FILE."
        )
    key = read_json(path, TypeAdapter(SheetKey))
    if len(key.cells) != len(CELLS):
        raise InputError(
            f"{path} is not as `judge sheet` wrote it: it has {counted(len(key.cells), 'cell')}, not {len(CELLS)}."
        )
    return key


def _name(content: Sequence[object]) -> str:
    """Return six letters that differ from sheet to sheet."""
    text = json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogatepass")
    number = int.from_bytes(hashlib.sha256(text).digest()[:8], "big")
    return "".join(_LETTERS[number // len(_LETTERS) ** place % len(_LETTERS)] for place in range(6))


PICKED = ("model", "task", "kind", "order", "style", "shots", "verbosity")
"""The fields of a condition by which one is picked, each an option of the same name."""


LISTED = 20
"""Values of an option that a message names."""


def _list(conditions: Sequence[Condition]) -> str:
    """Return the options that tell the conditions apart, each with the values to choose from."""
    values = {name: list(dict.fromkeys(str(getattr(one, name)) for one in conditions)) for name in PICKED}
    return "; ".join(
        f"--{name} {', '.join(found[:LISTED])}{f' and {len(found) - LISTED} more' if len(found) > LISTED else ''}"
        for name, found in values.items()
        if len(found) > 1
    )
