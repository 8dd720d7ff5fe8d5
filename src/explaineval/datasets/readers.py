"""The task formats: e-SNLI (Camburu et al. 2018), ECQA (Aggarwal et al. 2021), ComVE (Wang et al. 2020), JSONL, CSV.

`FORMATS` is the table of them, to which plug-ins add. A reader yields the rows of a file in their order; a row without
a usable gold label is kept with `gold` None.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from explaineval.config import Columns
from explaineval.config.values import COLUMNS_EXAMPLE
from explaineval.datasets.text_files import read_csv, read_header, read_jsonl, read_plain_csv
from explaineval.errors import InputError
from explaineval.plugins import Registry
from explaineval.records import Example
from explaineval.spill import Digests, RecordList

BUNDLED = ("nli", "qa", "sense")
"""The tasks that come with the package."""
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
"""By the names of an example's fields, the bundled task that has the same ones and whose shots are used."""

SHAPE_OPTIONS = {"nli": NLI_OPTIONS, "sense": SENSE_OPTIONS}
"""The options of the bundled tasks whose options are the same for every example."""

COMVE_DATA = ("subtaskA_data_all.csv", "subtaskA_dev_data.csv", "subtaskA_test_data.csv")
COMVE_GOLD = ("subtaskA_answers_all.csv", "subtaskA_gold_answers.csv")
COMVE_REASONS = ("subtaskC_answers_all.csv", "subtaskC_gold_answers.csv")


class TaskRow(NamedTuple):
    """An example, and what the file gives as its gold label where that names no option."""

    example: Example
    unknown_gold: str | None = None


@dataclass(frozen=True, slots=True)
class Format:
    """A task format: `--task NAME:PATH` reads the path with `read`, which gets it and the name of the task.

    A reader with `takes_columns` also gets what the file's columns hold (--columns), or None where that is not given.

    `path` is what stands for the path in help texts: FILE, FILE.csv or DIR. `suffixes` are the endings of files that
    are likely in this format. `read_levels` reads explanations at other verbosity levels, where the format has them.
    `named_after_file` says that a task is called as its file, not as its format.
    """

    name: str
    read: Callable[..., Iterable[TaskRow]]
    path: str = "FILE"
    suffixes: tuple[str, ...] = ()
    read_levels: Callable[[Path], dict[str, dict[str, str]]] | None = None
    named_after_file: bool = False
    takes_columns: bool = False


def read_esnli(path: Path, task: str) -> Iterator[TaskRow]:
    """Read e-SNLI's official CSV: pairID, gold_label, Sentence1, Sentence2, Explanation_1."""
    letters = {text: letter for letter, text in NLI_OPTIONS.items()}
    columns = ("pairID", "gold_label", "Sentence1", "Sentence2", "Explanation_1")
    for place, row in read_csv(path, columns, ("pairID", "Sentence1", "Sentence2")):
        yield _row(
            place,
            letters,
            row["gold_label"].strip(),
            id=row["pairID"],
            task=task,
            fields={"premise": row["Sentence1"], "hypothesis": row["Sentence2"]},
            options=NLI_OPTIONS,
            explanation=row["Explanation_1"].strip() or None,
        )


def read_ecqa(path: Path, task: str) -> Iterator[TaskRow]:
    """Read ECQA's official CSV (cqa_data_*.csv): q_no, q_text, q_op1 to q_op5, q_ans, taskB."""
    shown = ("q_text", *ECQA_OPTIONS.values())
    for place, row in read_csv(path, ("q_no", *shown, "q_ans", "taskB"), ("q_no", *shown)):
        options = {letter: row[column] for letter, column in ECQA_OPTIONS.items()}
        texts = Counter(options.values())
        yield _row(
            place,
            {text: letter for letter, text in options.items() if texts[text] == 1},
            row["q_ans"],
            id=row["q_no"],
            task=task,
            fields={"question": row["q_text"]},
            options=options,
            explanation=row["taskB"].strip() or None,
        )


def read_comve(directory: Path, task: str) -> Iterator[TaskRow]:
    """Read ComVE (SemEval-2020 task 4): subtask A's data and gold answers, the first reason of subtask C.

    The gold file marks the sentence that is against common sense: 0 is the first one.
    """
    if directory.is_file():
        raise InputError(
            f"{directory} is a file; comve is read from the directory of its files: comve:{directory.parent}."
        )
    if not directory.is_dir():
        raise InputError(f"{directory}: no such directory; comve is read from the directory of its official files.")
    gold_path, data_path = (_find_official(directory, names) for names in (COMVE_GOLD, COMVE_DATA))
    gold = {row[0]: row[1].strip() for _, row in read_plain_csv(gold_path, 2)}
    reasons: dict[str, str] = {}
    if any((directory / name).is_file() for name in COMVE_REASONS):
        reasons_path = _find_official(directory, COMVE_REASONS)
        reasons = {row[0]: row[1].strip() for _, row in read_plain_csv(reasons_path, 2)}
    for place, row in read_csv(data_path, ("id", "sent0", "sent1"), ("id", "sent0", "sent1")):
        yield _row(
            place,
            {"0": "A", "1": "B"},
            gold.get(row["id"], ""),
            id=row["id"],
            task=task,
            fields={"sentence1": row["sent0"], "sentence2": row["sent1"]},
            options=SENSE_OPTIONS,
            explanation=reasons.get(row["id"]) or None,
        )


def read_task_jsonl(path: Path, task: str) -> Iterator[TaskRow]:
    """Read the task JSONL of the method page: id, fields, options, and optional gold, explanation, instruction.

    `explanations`, the same explanation by verbosity level, is for shots and read by `read_levels`. A gold label that
    is no option is refused.
    """
    for place, value in read_jsonl(path):
        unknown = set(value) - {"id", "fields", "options", "gold", "explanation", "instruction", LEVELS}
        if unknown:
            raise InputError(f"{place}: unknown key {', '.join(sorted(unknown))}.")
        value.pop(LEVELS, None)
        example = _example(place, task=task, **value)
        _check_options(example, place)
        yield TaskRow(example)


def read_levels(path: Path) -> dict[str, dict[str, str]]:
    """Return by id the explanations of a task JSONL at other verbosity levels (level → text), where a row has some."""
    by_id = {}
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
        by_id[str(value.get("id"))] = {str(level): text.strip() for level, text in levels.items()}
    return by_id


def read_own_csv(path: Path, task: str, columns: Columns | None) -> Iterator[TaskRow]:
    """Read a CSV file of one's own, whose columns hold what `columns` says.

    The gold label is an option's letter or text, in capitals or not. Raises InputError where the columns are not
    given, or the options neither have columns nor go with the names of the fields.
    """
    header = read_header(path)  # a file that is missing is told before what is missing in --columns
    if columns is None:
        raise InputError(
            f"{path}: say which column holds what, for example --columns {COLUMNS_EXAMPLE}; the header has "
            f"{', '.join(header) or 'nothing'}."
        )
    fixed = SHAPE_OPTIONS.get(SHAPES.get(frozenset(columns.fields), ""))
    if fixed is None and not columns.options:
        raise InputError(
            f"{path}: which options there are is not known for the fields {', '.join(columns.fields)}: give the text "
            "of each option a column, for example A=COLUMN,B=COLUMN."
        )
    for number, (place, row) in enumerate(read_csv(path, columns.used, columns.required), start=1):
        options = {letter: row[column] for letter, column in columns.options.items()} or dict(fixed or {})
        gold = "" if columns.gold is None else row[columns.gold].strip()
        letter = _letter_of(gold, options)
        example = _example(
            place,
            id=str(number) if columns.id is None else row[columns.id].strip(),
            task=task,
            fields={name: row[column] for name, column in columns.fields.items()},
            options=options,
            gold=letter,
            explanation=(None if columns.explanation is None else row[columns.explanation].strip()) or None,
        )
        _check_options(example, place)
        yield TaskRow(example, gold if gold and letter is None else None)


def _letter_of(gold: str, options: Mapping[str, str]) -> str | None:
    """Return the letter of the one option whose letter or text is the gold label; None for none or several."""
    label = gold.casefold()
    fitting = [letter for letter, text in options.items() if label in (letter.casefold(), text.strip().casefold())]
    return fitting[0] if len(fitting) == 1 else None


_FORMATS = (
    Format("esnli", read_esnli, "FILE.csv", (".csv",)),
    Format("ecqa", read_ecqa, "FILE.csv", (".csv",)),
    Format("comve", read_comve, "DIR"),
    Format("jsonl", read_task_jsonl, "FILE", (".jsonl", ".json", ".ndjson"), read_levels, named_after_file=True),
    Format("csv", read_own_csv, "FILE.csv", (".csv",), named_after_file=True, takes_columns=True),
)
FORMATS = Registry("tasks", Format, ((known.name, known) for known in _FORMATS), taken=BUNDLED)
"""All task formats by name."""


def format_of(name: str) -> Format | None:
    """Return the format of this name; None for a bundled task and for an unknown name."""
    return None if name in BUNDLED else FORMATS.find(name)


def task_help() -> str:
    """Return what `--task` takes, for help texts: the bundled tasks, and each format with its path."""
    return f"{', '.join(BUNDLED)} (bundled), {', '.join(f'{known.name}:{known.path}' for known in FORMATS.values())}."


def added_formats() -> list[str]:
    """Return what `--task` takes of formats that plug-ins add."""
    return [f"{name}:{FORMATS[name].path}" for name in FORMATS.added()]


def bundled_path(task: str) -> Path:
    """Return the file of a task that comes with the package."""
    return Path(str(resources.files("explaineval") / "tasks" / f"{task}.jsonl"))


def shape_of(example: Example) -> str | None:
    """Return the bundled task with the same fields and options, whose instruction is used; None where there is none."""
    shape = SHAPES.get(frozenset(example.fields))
    fits = {
        "nli": example.options == NLI_OPTIONS,
        "qa": True,
        "sense": tuple(example.options) == tuple(SENSE_OPTIONS),
    }
    return shape if shape is not None and fits[shape] else None


def read_task(
    name: str,
    path: Path | None,
    task: str,
    unknown_gold: dict[str, str] | None = None,
    columns: Columns | None = None,
) -> RecordList[Example]:
    """Return all examples of one task in file order; `name` is that of a format, or of a bundled task without a path.

    `columns` are for a format that takes them. What stands as gold label and names no option is put into `unknown_gold`
    by example id. Raises InputError for an unknown name, a missing path, an empty file or an id that stands twice.
    """
    known = format_of("jsonl" if path is None else name)
    if known is None or (path is None and name not in BUNDLED):
        raise InputError(f"task {name!r} needs a path: {name}:PATH.")
    examples, ids = RecordList(Example), Digests()

    def check_ids() -> None:
        place = ids.first_repeated()
        if place is not None:
            name = examples[place].id
            raise InputError(f"{path}: the id {name!r} stands twice; ids must be unique within a task.")

    further = (columns,) if known.takes_columns else ()
    try:
        for example, unknown in known.read(path or bundled_path(name), task, *further):
            if FORMATS.origin(name):
                _check_options(example, f"{path}: example {example.id!r}")
            examples.append(example)
            ids.add(example.id.encode())
            if unknown is not None and unknown_gold is not None:
                unknown_gold[example.id] = unknown
    except InputError:
        check_ids()  # of two errors, the first one in the file is told
        raise
    check_ids()
    if not examples:
        raise InputError(f"{path} is empty: it holds no example of task {task!r}.")
    return examples


def _row(place: str, letters: Mapping[str, str], gold: str, **values: Any) -> TaskRow:
    """Make a row whose gold letter is found in `letters` by the text of the label."""
    letter = letters.get(gold)
    return TaskRow(_example(place, gold=letter, **values), gold if letter is None and gold.strip() else None)


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


def _check_options(example: Example, place: str) -> None:
    if not example.fields:
        raise InputError(f"{place}: fields is empty; an example needs at least one text field.")
    if len(example.options) < 2:
        raise InputError(f"{place}: an example needs at least two options.")
    for letter, text in example.options.items():
        if len(letter) != 1 or not ("A" <= letter <= "Z"):
            raise InputError(f"{place}: option letter {letter!r} is not a single capital letter from A to Z.")
        if not text.strip():
            raise InputError(f"{place}: the text of option {letter} is blank; write what the option says.")
    if example.gold is not None and example.gold not in example.options:
        raise InputError(f"{place}: gold {example.gold!r} is not among the options {', '.join(example.options)}.")


def _find_official(directory: Path, names: tuple[str, ...]) -> Path:
    """Return the one file in the directory that has one of these names."""
    paths = [directory / name for name in names if (directory / name).is_file()]
    if not paths:
        raise InputError(f"{directory} has none of the official files {', '.join(names)}.")
    if len(paths) > 1:
        raise InputError(
            f"{directory} holds several splits ({', '.join(path.name for path in paths)}): keep one a directory."
        )
    return paths[0]
