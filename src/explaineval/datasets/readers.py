"""One reader a format: e-SNLI (Camburu et al. 2018), ECQA (Aggarwal et al. 2021), ComVE (Wang et al. 2020), JSONL.

Every reader returns Examples in file order. A row without a usable gold label is kept with `gold` None.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from explaineval.errors import InputError
from explaineval.records import Example

Row = TypeVar("Row")

csv.field_size_limit(1 << 20)


def read_text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines of a UTF-8 file (a byte-order mark is dropped).

    Raises InputError where the file is missing, unreadable or not UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            yield from enumerate(handle, start=1)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path.") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a directory, but this task is read from a file.") from None
    except UnicodeDecodeError as exc:
        raise InputError(f"{path} is not UTF-8 text (byte {exc.start}): convert it first.") from None
    except OSError as exc:
        raise InputError(f"{path} cannot be read: {exc.strerror}.") from None


def read_csv(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """(place, row) of a CSV file with a header that has at least `columns`.

    Raises InputError for an empty file, a missing column (named) or a row that is cut short.
    """
    reader = csv.DictReader(_checked_lines(path))
    if reader.fieldnames is None:
        raise InputError(f"{path} is empty: expected a CSV file with the columns {', '.join(columns)}.")
    missing = [name for name in columns if name not in reader.fieldnames]
    if missing:
        other = _other_delimiter(reader.fieldnames, columns)
        if other is not None:
            raise InputError(
                f"{path}: its cells are parted by {other}, not by commas: save it as CSV with commas, as the official "
                "files are."
            )
        raise InputError(
            f"{path}: column {', '.join(missing)} is missing; the header has {', '.join(reader.fieldnames)}."
        )
    for row in _rows(reader, path):
        place = f"{path}:{reader.line_num}"
        if any(row[name] is None for name in columns):
            raise InputError(f"{place}: the row has fewer cells than the header; the file may be cut off.")
        yield place, {name: row[name] for name in columns}


def _other_delimiter(header: Sequence[str], columns: Sequence[str]) -> str | None:
    """What parts the cells of a header that is one cell when it is split at commas, in words."""
    whole = ",".join(header)
    for sign, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        cells = {cell.strip().strip('"') for cell in whole.split(sign)}
        if len(cells) > len(header) and cells & set(columns):
            return name
    return None


def read_plain_csv(path: Path, cells: int) -> Iterator[tuple[str, list[str]]]:
    """(place, cells) of a CSV file without header whose rows have at least `cells` cells."""
    reader = csv.reader(_checked_lines(path))
    for row in _rows(reader, path):
        if not row:
            continue
        if len(row) < cells:
            raise InputError(f"{path}:{reader.line_num}: expected at least {cells} cells, found {len(row)}.")
        yield f"{path}:{reader.line_num}", row


def _checked_lines(path: Path) -> Iterator[str]:
    for number, line in read_text_lines(path):
        if "\0" in line:
            raise InputError(f"{path}:{number}: the line holds a NUL character; this is no CSV file.")
        yield line


def _rows(reader: Iterator[Row], path: Path) -> Iterator[Row]:
    """The reader's rows, csv's own complaints as ours."""
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as exc:
            raise InputError(f"{path}: not readable as CSV ({exc}); look for a quote that is never closed.") from None
        yield row


def read_jsonl(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, object) of a JSONL file; blank lines are passed over."""
    for number, line in read_text_lines(path):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            value = json.loads(line)
        except json.JSONDecodeError as exc:
            raise InputError(f"{place}: not valid JSON ({exc.msg} at column {exc.colno}).") from None
        except RecursionError:
            raise InputError(f"{place}: not readable as JSON (nested too deep).") from None
        except ValueError:
            raise InputError(f"{place}: not readable as JSON (a number of thousands of digits).") from None
        if not isinstance(value, dict):
            raise InputError(f"{place}: expected one JSON object a line, found {type(value).__name__}.")
        yield place, value


BUNDLED = ("nli", "qa", "sense")
LEVELS = "explanations"
NORMAL = "normal"
"""The verbosity of the explanations that a dataset comes with."""

NLI_OPTIONS = {"A": "entailment", "B": "neutral", "C": "contradiction"}
SENSE_OPTIONS = {"A": "Sentence 1", "B": "Sentence 2"}
ECQA_OPTIONS = {letter: f"q_op{i}" for i, letter in enumerate("ABCDE", start=1)}

SHAPES = {
    frozenset({"premise", "hypothesis"}): "nli",
    frozenset({"question"}): "qa",
    frozenset({"sentence1", "sentence2"}): "sense",
}
"""The bundled task whose examples have just these fields: it lends its shots."""

COMVE_DATA = ("subtaskA_data_all.csv", "subtaskA_dev_data.csv", "subtaskA_test_data.csv")
COMVE_GOLD = ("subtaskA_answers_all.csv", "subtaskA_gold_answers.csv")
COMVE_REASONS = ("subtaskC_answers_all.csv", "subtaskC_gold_answers.csv")


def read_esnli(path: Path, task: str, unknown: dict[str, str] | None = None) -> list[Example]:
    """e-SNLI's official CSV: pairID, gold_label, Sentence1, Sentence2, Explanation_1.

    `unknown` takes up, by example id, what stands as gold label and is none; so do the readers below.
    """
    letters = {text: letter for letter, text in NLI_OPTIONS.items()}
    columns = ("pairID", "gold_label", "Sentence1", "Sentence2", "Explanation_1")
    return [
        _example(
            place,
            id=row["pairID"],
            task=task,
            fields={"premise": row["Sentence1"], "hypothesis": row["Sentence2"]},
            options=NLI_OPTIONS,
            gold=_gold(letters, row["gold_label"].strip(), row["pairID"], unknown),
            explanation=row["Explanation_1"].strip() or None,
        )
        for place, row in read_csv(path, columns)
    ]


def read_ecqa(path: Path, task: str, unknown: dict[str, str] | None = None) -> list[Example]:
    """ECQA's official CSV (cqa_data_*.csv): q_no, q_text, q_op1 to q_op5, q_ans, taskB."""
    columns = ("q_no", "q_text", *ECQA_OPTIONS.values(), "q_ans", "taskB")
    examples = []
    for place, row in read_csv(path, columns):
        options = {letter: row[column] for letter, column in ECQA_OPTIONS.items()}
        texts = Counter(options.values())
        letters = {text: letter for letter, text in options.items() if texts[text] == 1}
        examples.append(
            _example(
                place,
                id=row["q_no"],
                task=task,
                fields={"question": row["q_text"]},
                options=options,
                gold=_gold(letters, row["q_ans"], row["q_no"], unknown),
                explanation=row["taskB"].strip() or None,
            )
        )
    return examples


def read_comve(directory: Path, task: str, unknown: dict[str, str] | None = None) -> list[Example]:
    """ComVE (SemEval-2020 task 4): subtask A's data and gold answers, the first reason of subtask C.

    The gold file marks the sentence that is against common sense: 0 is the first one.
    """
    if directory.is_file():
        raise InputError(
            f"{directory} is a file; comve is read from the directory of its files: comve:{directory.parent}."
        )
    if not directory.is_dir():
        raise InputError(f"{directory}: no such directory; comve is read from the directory of its official files.")
    gold = {row[0]: row[1].strip() for _, row in read_plain_csv(_one_of(directory, COMVE_GOLD), 2)}
    reasons_path = _find(directory, COMVE_REASONS)
    reasons = {row[0]: row[1].strip() for _, row in read_plain_csv(reasons_path, 2)} if reasons_path else {}
    return [
        _example(
            place,
            id=row["id"],
            task=task,
            fields={"sentence1": row["sent0"], "sentence2": row["sent1"]},
            options=SENSE_OPTIONS,
            gold=_gold({"0": "A", "1": "B"}, gold.get(row["id"], ""), row["id"], unknown),
            explanation=reasons.get(row["id"]) or None,
        )
        for place, row in read_csv(_one_of(directory, COMVE_DATA), ("id", "sent0", "sent1"))
    ]


def read_task_jsonl(
    path: Path,
    task: str,
    unknown: dict[str, str] | None = None,  # noqa: ARG001 - all readers are called alike
) -> list[Example]:
    """The task JSONL of the method page: id, fields, options, and optional gold, explanation, instruction.

    `explanations`, the same explanation by verbosity level, is for shots and read by `read_levels`. A gold label that
    is no option is refused, so nothing is ever `unknown`.
    """
    examples = []
    for place, value in read_jsonl(path):
        strange = set(value) - {"id", "fields", "options", "gold", "explanation", "instruction", LEVELS}
        if strange:
            raise InputError(f"{place}: unknown key {', '.join(sorted(strange))}.")
        value.pop(LEVELS, None)
        example = _example(place, task=task, **value)
        _check_letters(example, place)
        examples.append(example)
    return examples


def read_levels(path: Path) -> dict[str, dict[str, str]]:
    """By id, the explanations of a task JSONL at other verbosity levels: level → text; rows without are left out."""
    found = {}
    for place, value in read_jsonl(path):
        levels = value.get(LEVELS)
        if levels is None:
            continue
        if not isinstance(levels, dict) or not all(isinstance(text, str) and text.strip() for text in levels.values()):
            raise InputError(f"{place}: {LEVELS} must map verbosity levels to texts that are not blank.")
        if NORMAL in levels:
            raise InputError(
                f"{place}: the explanation at level {NORMAL} is `explanation` itself: take it out of {LEVELS}."
            )
        found[str(value.get("id"))] = {str(level): text.strip() for level, text in levels.items()}
    return found


def bundled_path(task: str) -> Path:
    """The file of a task that comes with the package."""
    return Path(str(resources.files("explaineval") / "tasks" / f"{task}.jsonl"))


def read_bundled(task: str) -> list[Example]:
    """A task that comes with the package: nli, qa or sense."""
    return read_task_jsonl(bundled_path(task), task)


def shape_of(example: Example) -> str | None:
    """The bundled task of the same fields and options: it lends its instruction."""
    shape = SHAPES.get(frozenset(example.fields))
    fits = {
        "nli": example.options == NLI_OPTIONS,
        "qa": True,
        "sense": tuple(example.options) == tuple(SENSE_OPTIONS),
    }
    return shape if shape is not None and fits[shape] else None


def read_task(reader: str, path: Path | None, task: str, unknown: dict[str, str] | None = None) -> list[Example]:
    """All examples of one task in file order; `unknown` takes up by id what stands as gold label and is none.

    Raises InputError for an unknown reader, a missing path, an empty file or an id that stands twice.
    """
    if path is None:
        if reader not in BUNDLED:
            raise InputError(f"task {reader!r} needs a path: {reader}:PATH.")
        examples = read_bundled(reader)
    else:
        examples = READERS[reader](path, task, unknown)
    if not examples:
        raise InputError(f"{path} is empty: it holds no example of task {task!r}.")
    seen: set[str] = set()
    for example in examples:
        if example.id in seen:
            raise InputError(f"{path}: the id {example.id!r} stands twice; ids must be unique within a task.")
        seen.add(example.id)
    return examples


READERS: dict[str, Callable[[Path, str, dict[str, str] | None], list[Example]]] = {
    "esnli": read_esnli,
    "ecqa": read_ecqa,
    "comve": read_comve,
    "jsonl": read_task_jsonl,
}


def _gold(letters: Mapping[str, str], text: str, example: str, unknown: dict[str, str] | None) -> str | None:
    """The letter of a gold label; None for a blank one, and for one that is none, which `unknown` takes up."""
    letter = letters.get(text)
    if letter is None and text.strip() and unknown is not None:
        unknown[example] = text
    return letter


def _example(place: str, **values: Any) -> Example:
    try:
        example = Example(**values)
        example.model_dump_json()
    except PydanticSerializationError:
        raise InputError(f"{place}: a text holds half of a surrogate pair, which is no character: mend it.") from None
    except ValidationError as exc:
        first = exc.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{place}: {name}: {first['msg']}.") from None
    return example


def _check_letters(example: Example, place: str) -> None:
    if not example.fields:
        raise InputError(f"{place}: fields is empty; an example needs at least one text field.")
    if len(example.options) < 2:
        raise InputError(f"{place}: an example needs at least two options.")
    for letter in example.options:
        if len(letter) != 1 or not ("A" <= letter <= "Z"):
            raise InputError(f"{place}: option letter {letter!r} is not a single capital letter from A to Z.")
    if example.gold is not None and example.gold not in example.options:
        raise InputError(f"{place}: gold {example.gold!r} is not among the options {', '.join(example.options)}.")


def _one_of(directory: Path, names: tuple[str, ...]) -> Path:
    found = _find(directory, names)
    if found is None:
        raise InputError(f"{directory} has none of the official files {', '.join(names)}.")
    return found


def _find(directory: Path, names: tuple[str, ...]) -> Path | None:
    found = [directory / name for name in names if (directory / name).is_file()]
    if len(found) > 1:
        raise InputError(
            f"{directory} holds several splits ({', '.join(p.name for p in found)}): keep one a directory."
        )
    return found[0] if found else None
