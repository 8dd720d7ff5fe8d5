"""Sheets on which people judge explanations: drawn, and compared with every policy and judge once they are filled in.

People do not know what the model did or what a policy decided. The rows come from the four cells (changed × mentioned)
of one condition and one source of mentions, equally many from each, in a shuffled order. The sheet shows what was
inserted, the input with it, and the explanation. What must stay hidden, and how big the cells are, stands in the key
beside it. Phi is then corrected by what people say.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from pydantic import TypeAdapter

from explaineval._version import __version__
from explaineval.datasets.text_files import delimiter_of
from explaineval.errors import InputError
from explaineval.files import open_regular, write_text_atomic
from explaineval.interventions import kind_of
from explaineval.metrics.correlations import phi_cct, youden_j
from explaineval.metrics.estimates import Interval
from explaineval.metrics.rates import fpr, tpr
from explaineval.metrics.reliability import CELLS, Corrected, allocate, correct, sampled_kappa
from explaineval.prompts import field_label
from explaineval.records import (
    EXPLANATION,
    POLICIES,
    Channel,
    Condition,
    Estimate,
    Example,
    Grade,
    Record,
    Trial,
)
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
    Graded,
    Source,
    TextReader,
    collect_verdicts,
    grade_of,
    judge_sources,
    phrases_in,
)
from explaineval.scoring.registry import FPR, PHI_CCT, TPR, YOUDEN_J
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


GRADES: tuple[Grade, ...] = get_args(Grade)
"""The grades in their order; on a sheet 0, 1 and 2."""

CountedAs = Literal["mentioned", "reason"]
LOWEST: Mapping[CountedAs, int] = {"mentioned": 1, "reason": 2}
"""From which grade on people count as saying that there is a mention."""

LARGEST = 64 << 20
"""Bytes of the largest sheet that is read."""

_WORDS = {
    **{"0": 0, "1": 1, "2": 2, "absent": 0, "irrelevant": 1, "mentioned": 1, "reason": 2},
    **{f"{number}{point}0": number for number in range(3) for point in ".,"},
}
"""How people may write a grade; spreadsheets may add a decimal place."""


@dataclass(frozen=True)
class FilledSheet:
    """One person's sheet: the grades by row id (None: left empty), and the texts as they stand in the file."""

    path: Path
    name: str
    grades: Mapping[str, int | None]
    texts: Mapping[str, Mapping[str, str]]
    is_unicode: bool

    @property
    def given(self) -> dict[str, int]:
        """The grades that were given."""
        return {row: grade for row, grade in self.grades.items() if grade is not None}


class Kappa(NamedTuple):
    """Agreement of two, over `grades` grades (2: mentioned or not); `of` the rows as drawn, or weighted to the run."""

    first: str
    second: str
    grades: int
    of: Literal["sheet", "run"]
    estimate: Estimate


class CellCount(NamedTuple):
    """What people say of a cell: rows with a grade, and how many of these count as mentioned, as a reason."""

    changed: bool
    mentioned: bool
    trials: int
    rows: int
    called_mentioned: float
    called_reason: float


class Numbers(NamedTuple):
    """The numbers as the source counts them and corrected; `rater` None is all raters together."""

    rater: str | None
    counted: CountedAs
    as_counted: Mapping[str, Estimate]
    corrected: Corrected


@dataclass(frozen=True)
class SheetResults:
    """All that sheets of one key say. `notes` are sentences about the sheets."""

    key: SheetKey
    sheets: Sequence[FilledSheet]
    cells: Sequence[CellCount]
    kappas: Sequence[Kappa]
    numbers: Sequence[Numbers]
    notes: Sequence[str]


def agree(directory: Path, paths: Sequence[Path], key_file: Path | None = None) -> SheetResults:
    """Compare the sheets that people filled in with each other and with every policy and judge of the run.

    Raises InputError for a sheet that cannot be read, is not the key's or is given twice, a key that is not of this
    run, a text that was edited, or a run that changed since the sheet was drawn.
    """
    files = [path.resolve() for path in paths]
    twice = next((path for path in paths if files.count(path.resolve()) > 1), None)
    if twice is not None:
        raise InputError(f"{twice} is given twice: a person would agree with themselves. Give each sheet once.")
    sheets = _name_apart([read_sheet(path) for path in paths])
    key = _find_key(sheets, key_file)
    judge = key.judge
    source = choose_source(directory, None if key.mention == "phrases" else key.mention, judge)
    trials = {trial.id: trial for trial in _trials_of(directory, key)}
    _check_run(directory, key, trials, source)
    examples = {(example.task, example.id): example for example in read_examples(directory)}
    for sheet in sheets:
        _check_sheet(sheet, key, trials, examples)
    if not any(sheet.given for sheet in sheets):
        raise InputError(f"{', '.join(str(path) for path in paths)}: no row has a grade yet; fill in 0, 1 or 2.")
    fits = {name: getattr(key, name) for name in ("endpoint", "model", "task", "kind", "order", "style", "shots")}
    found = find_population(_trials_of(directory, key), source, {**fits, "verbosity": key.verbosity})
    population = found[key.condition]
    notes = []
    drawn_from, now = [cell.trials for cell in key.cells], population.sizes
    if drawn_from != now:
        notes.append(
            f"The sheet was drawn when the condition had {counted(sum(drawn_from), 'trial')}; it has {sum(now):,} now. "
            "The rows speak for all of them only if the new ones are of the same sort."
        )
    return SheetResults(
        key=key,
        sheets=sheets,
        cells=_count_cells(key, sheets, population),
        kappas=list(_kappas(directory, key, sheets, trials, population)),
        numbers=list(_numbers(key, sheets, population)),
        notes=notes,
    )


def read_sheet(path: Path) -> FilledSheet:
    """Read a sheet as a spreadsheet saved it: with commas, semicolons or tabs, in UTF-8, UTF-16 or Windows-1252.

    Raises InputError where it cannot be read, lacks a column, has a row twice, or a grade that is none.
    """
    text, is_unicode = _read_text(path)
    delimiter = delimiter_of(text.partition("\n")[0])
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        rows = [row for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as exc:
        raise InputError(f"{path}: not readable as CSV ({exc}).") from None
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    lacking = [name for name in COLUMNS if name not in header]
    if lacking:
        raise InputError(f"{path}: it lacks the column {lacking[0]}; keep the columns {', '.join(COLUMNS)}.")
    places = {name: header.index(name) for name in COLUMNS}
    grades: dict[str, int | None] = {}
    texts = {}
    for cells in rows[1:]:
        padded = [*cells, *[""] * (len(header) - len(cells))]
        values = {name: padded[place] for name, place in places.items()}
        row = values["row"].strip()
        if row in grades:
            raise InputError(f"{path}: row {row} stands there twice: keep one of the two.")
        grades[row] = _read_grade(path, row, values["grade"])
        texts[row] = {name: values[name] for name in COLUMNS[1:-1]}
    return FilledSheet(path, path.stem, grades, texts, is_unicode)


def _read_text(path: Path) -> tuple[str, bool]:
    """Return a file's text, and whether it is Unicode: in Windows-1252 some characters were lost when it was saved."""
    try:
        with open_regular(path) as handle:
            content = handle.read(LARGEST + 1)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path.") from None
    except OSError as exc:
        raise InputError(f"{path} cannot be read: {exc.strerror}.") from None
    if len(content) > LARGEST:
        raise InputError(f"{path} is larger than {LARGEST >> 20} MiB: it is no sheet of `judge sheet`.")
    if content.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise InputError(f"{path} is a spreadsheet, not CSV: save it as CSV.")
    try:
        return content.decode("utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"), True
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace"), False


def _read_grade(path: Path, row: str, text: str) -> int | None:
    word = text.strip().lower()
    if not word:
        return None
    if word not in _WORDS:
        raise InputError(f"{path}, row {row}: the grade {text.strip()[:40]!r} is none of 0, 1, 2.")
    return _WORDS[word]


def _find_key(sheets: Sequence[FilledSheet], key_file: Path | None) -> SheetKey:
    """Return the key that is given, or lies beside one of the sheets; copies of a sheet have it under another name."""
    if key_file is not None:
        return read_key(key_file)
    beside = [key_path(sheet.path) for sheet in sheets]
    for path in beside:
        if path.is_file():
            return read_key(path)
    names = {row.partition("-")[0] for sheet in sheets for row in sheet.grades}
    for path in sorted(sheets[0].path.parent.glob(f"*{KEY_ENDING}")):
        key = read_key(path)
        if key.sheet in names:
            return key
    return read_key(beside[0])


def _name_apart(sheets: Sequence[FilledSheet]) -> list[FilledSheet]:
    """Return the sheets with names that differ: those of their files, or where these are alike their paths."""
    names = [sheet.name for sheet in sheets]
    return [
        sheet if names.count(sheet.name) == 1 else FilledSheet(
            sheet.path, str(sheet.path), sheet.grades, sheet.texts, sheet.is_unicode
        )
        for sheet in sheets
    ]  # fmt: skip


def _trials_of(directory: Path, key: SheetKey) -> Iterator[Trial]:
    """Yield the trials of the condition that the sheet was drawn from."""
    condition = key.condition.without_mention
    return (trial for trial in read_trials(directory) if trial.condition == condition)


def _check_run(directory: Path, key: SheetKey, trials: Mapping[str, Trial], source: Chosen) -> None:
    """Raise InputError unless every row is a trial of this run with the text and the cell that the key says."""
    gone = [row for row in key.rows if row.trial not in trials]
    if gone:
        raise InputError(
            f"the sheet {key.sheet} is not of {directory}: {len(gone)} of its {counted(len(key.rows), 'row', 'are')} "
            "no trials of it. A sheet corrects only the condition of the run that it was drawn from."
        )
    for row in key.rows:
        trial = trials[row.trial]
        if trial.judged_text() != row.text:
            raise InputError(
                f"the sheet {key.sheet} is not of {directory} as it is now: row {row.row} shows another explanation. "
                "Draw a new sheet."
            )
        if cell_of(trial, source) != _cell(row):
            raise InputError(
                f"since the sheet {key.sheet} was drawn, {key.judge or key.mention} decides otherwise on row "
                f"{row.row}: draw a new sheet."
            )


def _cell(row: KeyRow) -> int:
    return (0 if row.changed else 2) + (0 if row.mentioned else 1)


def _check_sheet(
    sheet: FilledSheet, key: SheetKey, trials: Mapping[str, Trial], examples: Mapping[tuple[str, str], Any]
) -> None:
    """Raise InputError for a row that is not of this sheet, or a text that was edited."""
    known = {row.row: trials[row.trial] for row in key.rows}
    for row, texts in sheet.texts.items():
        trial = known.get(row)
        if trial is None:
            raise InputError(f"{sheet.path}: row {row[:40]!r} is not of the sheet {key.sheet}.")
        shown = shown_texts(trial, examples.get((trial.task, trial.example_id)))
        for name, text in texts.items():
            if _comparable(text, sheet.is_unicode) != _comparable(shown[name], sheet.is_unicode):
                raise InputError(
                    f"{sheet.path}: the {name} of row {row} was edited, so its grade is not about what the model "
                    "wrote; put the text back."
                )


def _comparable(text: str, is_unicode: bool) -> str:
    """Return a text without what spreadsheets change: white space, a first apostrophe, characters they cannot save."""
    if is_unicode:
        return " ".join(text.split()).removeprefix("'").strip()
    return re.sub(r"[^A-Za-z0-9]+", "", text)


def _count_cells(key: SheetKey, sheets: Sequence[FilledSheet], population: SheetTrials) -> list[CellCount]:
    shares = {counted: _shares(sheets, counted) for counted in LOWEST}
    cells = []
    for number, size in enumerate(population.sizes):
        rows = [row.row for row in key.rows if _cell(row) == number and row.row in shares["mentioned"]]
        called = [sum(shares[counted][row] for row in rows) for counted in ("mentioned", "reason")]
        cells.append(CellCount(number < 2, number % 2 == 0, size, len(rows), *called))
    return cells


def _shares(sheets: Iterable[FilledSheet], counted: CountedAs) -> dict[str, float]:
    """Return for each row with a grade the share of its raters who say that there is a mention."""
    grades: dict[str, list[int]] = {}
    for sheet in sheets:
        for row, grade in sheet.given.items():
            grades.setdefault(row, []).append(grade)
    return {row: sum(grade >= LOWEST[counted] for grade in all_) / len(all_) for row, all_ in grades.items()}


def _numbers(key: SheetKey, sheets: Sequence[FilledSheet], population: SheetTrials) -> Iterator[Numbers]:
    """Yield the corrected numbers: of all raters together, and of each alone where there are several."""
    tables = np.array([population.tables[example] for example in sorted(population.tables)], dtype=np.int64)
    plain = {PHI_CCT: phi_cct, TPR: tpr, FPR: fpr, YOUDEN_J: youden_j}
    as_counted = {name: compute(tables, Interval()) for name, compute in plain.items()}
    raters: list[tuple[str | None, Sequence[FilledSheet]]] = [(None, sheets)]
    raters += [(sheet.name, [sheet]) for sheet in sheets] if len(sheets) > 1 else []
    for name, own in raters:
        for lowest in LOWEST:
            shares = _shares(own, lowest)
            called, judged = [0.0] * 4, [0] * 4
            for row in key.rows:
                if row.row in shares:
                    called[_cell(row)] += shares[row.row]
                    judged[_cell(row)] += 1
            yield Numbers(name, lowest, as_counted, correct(tables, called, judged))


def _kappas(
    directory: Path,
    key: SheetKey,
    sheets: Sequence[FilledSheet],
    trials: Mapping[str, Trial],
    population: SheetTrials,
) -> Iterator[Kappa]:
    """Yield kappa of each person with every policy and judge, and of each two persons."""
    rows = {row.row: row for row in key.rows}
    deciders = _graders(directory, key)
    pairs: list[tuple[str, str, Mapping[str, int], Mapping[str, int], int]] = []
    for sheet in sheets:
        for name, (grades, by_trial) in deciders.items():
            other = {row: by_trial(trials[found.trial]) for row, found in rows.items()}
            given = {row: grade for row, grade in other.items() if grade is not None}
            pairs.append((sheet.name, name, sheet.given, given, grades))
    pairs += [(a.name, b.name, a.given, b.given, len(GRADES)) for a, b in itertools.combinations(sheets, 2)]
    for first, second, by_first, by_second, grades in pairs:
        for number in sorted({2, grades}, reverse=True):
            both = [
                (rows[row], _graded(by_first[row], number), _graded(by_second[row], number if grades > 2 else 3))
                for row in sorted(by_first.keys() & by_second.keys())
            ]
            yield Kappa(first, second, number, "sheet", _kappa(both, number, trials, None))
            yield Kappa(first, second, number, "run", _kappa(both, number, trials, population.sizes))


def _graded(grade: int, grades: int) -> int:
    """Return a grade of three, or with two grades whether it is a mention."""
    return grade if grades > 2 else int(grade >= LOWEST["mentioned"])


def _kappa(
    both: Sequence[tuple[KeyRow, int, int]], grades: int, trials: Mapping[str, Trial], sizes: Sequence[int] | None
) -> Estimate:
    """Return kappa over rows, clustered by example; with `sizes` each row stands for its share of its cell's trials."""
    judged = [0] * 4
    for row, _, _ in both:
        judged[_cell(row)] += 1
    tables: dict[str, Any] = {}
    for row, first, second in both:
        table = tables.setdefault(trials[row.trial].example_id, np.zeros((grades, grades)))
        table[first, second] += 1 if sizes is None else sizes[_cell(row)] / judged[_cell(row)]
    stacked = np.array([tables[example].ravel() for example in sorted(tables)]).reshape(-1, grades * grades)
    return sampled_kappa(stacked, len(both), "linear")


def _graders(directory: Path, key: SheetKey) -> dict[str, tuple[int, Any]]:
    """Return what grades a trial: each policy (2 grades), or for a cue its phrases, and each judge (3 grades)."""
    run = read_run(directory)
    reader = TextReader(run.own_policy, phrases_in(directory / PROMPTS))
    policies = list(dict.fromkeys((*POLICIES, run.config.mention)))
    by_phrases = kind_of(key.kind).mentioned_by == "phrases"
    found: dict[str, tuple[int, Any]] = {}
    for policy in policies[:1] if by_phrases else policies:
        found["phrases" if by_phrases else policy] = 2, _by_policy(Chosen(policy, None, reader.decider(Source(policy))))
    for (judge, channel), grades in collect_verdicts(read_verdicts(directory)).items():
        if channel == EXPLANATION:
            found[judge] = len(GRADES), _by_judge(grades)
    return found


def _by_policy(source: Chosen) -> Any:
    """Return a function that grades a trial 1 if the policy finds a mention, else 0."""

    def grade(trial: Trial) -> int | None:
        cell = cell_of(trial, source)
        return None if cell is None else int(cell % 2 == 0)

    return grade


def _by_judge(grades: Mapping[str, Graded]) -> Any:
    """Return a function that gives the place of a judge's grade, 0 to 2; None where it has none."""
    places: dict[str, int] = {grade: place for place, grade in enumerate(GRADES)}

    def grade(trial: Trial) -> int | None:
        return places.get(grade_of(grades, trial))

    return grade
