"""Readers: the official formats cell by cell, and one sentence for everything that is not one."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from explaineval.datasets import read_task, text_files
from explaineval.errors import InputError
from explaineval.records import Example

ESNLI = ("pairID", "gold_label", "Sentence1", "Sentence2", "Explanation_1", "Explanation_2", "Explanation_3")
ESNLI_ROWS = (
    ("p-1", "entailment", "Two goats climb a wall.", "Animals climb.", "Goats are animals.", "b", "c"),
    ("p-2", "neutral", "A cook stirs a pot.", 'She says "soup".', "A pot, it seems, may hold rice.", "", ""),
    ("p-3", "contradiction", "A boat sinks.", "A boat floats.", "What sinks,\ndoes not float.", "", ""),
    ("p-4", "-", "Rain falls.", "Snow falls.", "", "", ""),
)
ECQA = ("", "q_no", "q_concept", "q_text", "q_op1", "q_op2", "q_op3", "q_op4", "q_op5", "q_ans", "taskA_pos",
        "taskA_neg", "taskB")  # fmt: skip
ECQA_ROWS = (
    ("0", "q-1", "kiln", "Where do pots get hard?", "kiln", "pond", "nest", "attic", "desk", "kiln",
     "A kiln is hot.\nHeat hardens clay.", "A pond is wet.\nA nest is soft.", "A kiln is hot,\nso clay hardens."),
    ("1", "q-2", "owl", "What sleeps by day?", "hen", "owl", "bee", "cow", "ant", "owl", "x", "y", "Owls hunt then."),
    ("2", "q-3", "tie", "Which option stands twice?", "same", "same", "c", "d", "e", "same", "x", "y", "z"),
    ("3", "q-4", "gap", "Which answer is not offered?", "a", "b", "c", "d", "e", "f", "x", "y", ""),
)  # fmt: skip
TASK_ROW: dict[str, Any] = {
    "id": "x1",
    "fields": {"review": "It broke."},
    "options": {"A": "good", "B": "bad"},
    "gold": "B",
    "explanation": "What breaks is bad.",
    "instruction": "Judge the review.",
}
COMVE_SPLITS = {
    "train": ("subtaskA_data_all.csv", "subtaskA_answers_all.csv", "subtaskC_answers_all.csv"),
    "dev": ("subtaskA_dev_data.csv", "subtaskA_gold_answers.csv", "subtaskC_gold_answers.csv"),
    "test": ("subtaskA_test_data.csv", "subtaskA_gold_answers.csv", "subtaskC_gold_answers.csv"),
}


def as_csv(*rows: tuple[str, ...], newline: str = "\r\n") -> bytes:
    """CSV text of rows, quoted where needed."""
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator=newline).writerows(rows)
    return out.getvalue().encode()


def as_jsonl(*rows: object) -> bytes:
    """One JSON document a line."""
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def put(path: Path, content: bytes) -> Path:
    """Write a file and give its path back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def put_comve(directory: Path, split: str = "dev", reasons: bool = True, bom: bytes = b"") -> Path:
    """A ComVE directory of one split with its official file names."""
    data, gold, why = COMVE_SPLITS[split]
    put(
        directory / data,
        bom + as_csv(("id", "sent0", "sent1"), ("7", "He ate, a car.", "He ate a pear."), ("9", "a", "b")),
    )
    put(directory / gold, bom + as_csv(("7", "0"), ("9", "1")))
    if reasons:
        put(
            directory / why,
            bom + as_csv(("7", "Cars are no food.", "Cars are hard.", "No."), ("9", "b is odd.", "x", "y")),
        )
    return directory


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_esnli_rows_become_examples(tmp_path: Path, newline: str, bom: bytes) -> None:
    """Every column lands where the format says, with commas, quotes and line breaks inside cells."""
    path = put(tmp_path / "esnli_dev.csv", bom + as_csv(ESNLI, *ESNLI_ROWS, newline=newline))

    found = read_task("esnli", path, "esnli")

    assert [example.id for example in found] == ["p-1", "p-2", "p-3", "p-4"]
    assert [example.gold for example in found] == ["A", "B", "C", None]
    assert found[0].options == {"A": "entailment", "B": "neutral", "C": "contradiction"}
    assert found[1].fields == {"premise": "A cook stirs a pot.", "hypothesis": 'She says "soup".'}
    assert [example.explanation for example in found] == [
        "Goats are animals.",
        "A pot, it seems, may hold rice.",
        "What sinks,\ndoes not float.",
        None,
    ]


def test_ecqa_reads_the_authors_own_csv(tmp_path: Path) -> None:
    """The unnamed index column is passed over, cells of several lines stay whole, an unclear answer is no gold."""
    path = put(tmp_path / "cqa_data_test.csv", as_csv(ECQA, *ECQA_ROWS))

    found = read_task("ecqa", path, "ecqa")

    assert [example.id for example in found] == ["q-1", "q-2", "q-3", "q-4"]
    assert [example.gold for example in found] == ["A", "B", None, None]
    assert found[0].fields == {"question": "Where do pots get hard?"}
    assert found[0].options == {"A": "kiln", "B": "pond", "C": "nest", "D": "attic", "E": "desk"}
    assert [found[0].explanation, found[3].explanation] == ["A kiln is hot,\nso clay hardens.", None]


def test_ecqa_reads_a_file_without_index_column(tmp_path: Path) -> None:
    """The index column is not needed: columns are found by name."""
    path = put(tmp_path / "q.csv", as_csv(ECQA[1:], *(row[1:] for row in ECQA_ROWS)))

    assert [example.gold for example in read_task("ecqa", path, "ecqa")] == ["A", "B", None, None]


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("split", sorted(COMVE_SPLITS))
def test_comve_reads_any_split(tmp_path: Path, split: str, bom: bytes) -> None:
    """The official names of training, development and test set; gold is the sentence against common sense."""
    found = read_task("comve", put_comve(tmp_path / split, split, bom=bom), "comve")

    expected = Example(
        id="7",
        task="comve",
        fields={"sentence1": "He ate, a car.", "sentence2": "He ate a pear."},
        options={"A": "Sentence 1", "B": "Sentence 2"},
        gold="A",
        explanation="Cars are no food.",
    )
    assert [expected, "B"] == [found[0], found[1].gold]


def test_comve_needs_no_reasons(tmp_path: Path) -> None:
    """Subtask C's file may be absent: then there is no explanation."""
    found = read_task("comve", put_comve(tmp_path / "c", reasons=False), "comve")

    assert [example.explanation for example in found] == [None, None]


def test_comve_keeps_rows_without_gold(tmp_path: Path) -> None:
    """A sentence pair that the gold file lacks is kept, without gold."""
    directory = put_comve(tmp_path / "c")
    put(directory / "subtaskA_gold_answers.csv", as_csv(("9", "1")))

    assert [example.gold for example in read_task("comve", directory, "comve")] == [None, "B"]


def test_comve_refuses_a_mixture_of_splits(tmp_path: Path) -> None:
    """Two splits in one directory cannot be told apart."""
    directory = put_comve(put_comve(tmp_path / "c"), "train")

    with pytest.raises(InputError, match=r"several splits .*_all\.csv"):
        read_task("comve", directory, "comve")


def test_comve_names_the_files_it_looks_for(tmp_path: Path) -> None:
    """A directory without official files: the message lists their names."""
    with pytest.raises(InputError, match=r"none of the official files .*subtaskA_gold_answers\.csv"):
        read_task("comve", tmp_path, "comve")


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_task_jsonl_keeps_everything(tmp_path: Path, bom: bytes) -> None:
    """All keys of a task file, and blank lines passed over."""
    short = {key: TASK_ROW[key] for key in ("fields", "options")} | {"id": "x2"}
    path = put(tmp_path / "mine.jsonl", bom + as_jsonl(TASK_ROW) + b"\n  \n" + as_jsonl(short))

    found = read_task("jsonl", path, "mine")

    assert [Example(task="mine", **TASK_ROW), Example(task="mine", **short)] == found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gold": "C"}, "gold 'C' is not among the options A, B"),
        ({"gold": "bad"}, "gold 'bad' is not among the options"),
        ({"options": {"a": "x", "b": "y"}}, "option letter 'a'"),
        ({"options": {"AB": "x", "C": "y"}}, "option letter 'AB'"),
        ({"options": {"Ä": "x", "B": "y"}}, "option letter 'Ä'"),
        ({"options": {"B": "y"}}, "at least two options"),
        ({"options": {"A": "", "B": ""}}, "the text of option A is blank"),
        ({"options": {"A": "x", "B": " \t"}}, "the text of option B is blank"),
        ({"fields": {}}, "fields is empty"),
        ({"fields": ["text"]}, "fields: "),
        ({"fields": {"review": 3}}, r"fields\.review: "),
        ({"id": ""}, "id: "),
        ({"id": 7}, "id: "),
        ({"label": "A"}, "unknown key label"),
        ({"task": "other"}, "unknown key task"),
    ],
)
def test_task_jsonl_names_the_line_and_the_fault(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    """A wrong second line is told with its number."""
    path = put(tmp_path / "t.jsonl", as_jsonl({**TASK_ROW, "id": "x0"}, {**TASK_ROW, **change}))

    with pytest.raises(InputError, match=rf"t\.jsonl:2: .*{message}"):
        read_task("jsonl", path, "t")


@pytest.mark.parametrize("missing", ["id", "fields", "options"])
def test_task_jsonl_names_a_missing_key(tmp_path: Path, missing: str) -> None:
    """The three keys that an example cannot do without."""
    path = put(tmp_path / "t.jsonl", as_jsonl({key: value for key, value in TASK_ROW.items() if key != missing}))

    with pytest.raises(InputError, match=rf"t\.jsonl:1: {missing}: "):
        read_task("jsonl", path, "t")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"id": "x1",\n', r"t\.jsonl:1: not valid JSON"),
        (b'{"id": ' + b"9" * 5000 + b"}\n", r"t\.jsonl:1: not readable as JSON \(a number"),
        (b"[" * 100_000 + b"\n", r"t\.jsonl:1: not readable as JSON \(nested"),
        (b'["x1"]\n', r"t\.jsonl:1: expected one JSON object a line, found a list"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"\xef\xbb\xbf", "empty"),
    ],
)
def test_task_jsonl_refuses_what_is_no_jsonl(tmp_path: Path, content: bytes, message: str) -> None:
    """Broken JSON, other documents, other encodings and empty files."""
    path = put(tmp_path / "t.jsonl", content)

    with pytest.raises(InputError, match=message):
        read_task("jsonl", path, "t")


@pytest.mark.parametrize(("length", "is_read"), [(99, True), (100, True), (101, False)])
def test_a_line_has_a_greatest_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int, is_read: bool
) -> None:
    """A longer line is refused by its number, without being read to its end."""
    monkeypatch.setattr(text_files, "LONGEST_LINE", 100)
    path = put(tmp_path / "t.txt", b"short\n" + b"x" * length)

    if is_read:
        assert [len(line) for _, line in text_files.read_text_lines(path)] == [6, length]
    else:
        with pytest.raises(InputError, match=r"t\.txt:2: the line is longer than 100 characters"):
            list(text_files.read_text_lines(path))


def test_a_device_is_no_task(tmp_path: Path) -> None:
    """What may never end is not opened: a device, and a pipe that nobody writes to."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (Path("/dev/zero"), pipe):
        with pytest.raises(InputError, match="cannot be read"):
            read_task("jsonl", path, "t")


@pytest.mark.parametrize(
    ("reader", "header", "row"),
    [("esnli", ESNLI[:5], ESNLI_ROWS[0]), ("ecqa", ECQA[1:2] + ECQA[3:10] + ECQA[12:], ECQA_ROWS[0])],
)
def test_a_missing_column_is_named(tmp_path: Path, reader: str, header: tuple[str, ...], row: tuple[str, ...]) -> None:
    """Each column that is read, when it is missing, is told by its name."""
    for column in header:
        names = tuple(name for name in header if name != column)
        path = put(tmp_path / "f.csv", as_csv(names, row[: len(names)]))

        with pytest.raises(InputError, match=rf"f\.csv: column {column} is missing"):
            read_task(reader, path, reader)


def test_a_missing_comve_column_is_named(tmp_path: Path) -> None:
    """ComVE's data file has a header too."""
    directory = put_comve(tmp_path / "c")
    put(directory / "subtaskA_dev_data.csv", as_csv(("id", "sent0", "sentence1"), ("7", "a", "b")))

    with pytest.raises(InputError, match=r"subtaskA_dev_data\.csv: column sent1 is missing"):
        read_task("comve", directory, "comve")


def test_a_row_that_is_cut_short_is_told_with_its_line(tmp_path: Path) -> None:
    """A file that breaks off in the middle of a row is not silently shorter; line breaks in cells are counted."""
    path = put(tmp_path / "f.csv", as_csv(ESNLI, *ESNLI_ROWS[:3], ("p-5", "neutral"), newline="\n"))

    with pytest.raises(InputError, match=r"f\.csv:6: .*fewer cells"):
        read_task("esnli", path, "esnli")


def test_a_quote_that_never_closes_is_bad_input(tmp_path: Path) -> None:
    """A stray quote swallows the rest of the file: past the csv module's limit that is the file's fault, not ours."""
    path = put(tmp_path / "f.csv", as_csv(ESNLI, ESNLI_ROWS[0]) + b'p-9,neutral,"' + b"word " * 250_000)

    with pytest.raises(InputError, match=r"f\.csv"):
        read_task("esnli", path, "esnli")


@pytest.mark.parametrize("reader", ["esnli", "ecqa"])
@pytest.mark.parametrize("rows", [0, 1])
def test_an_empty_csv_is_refused(tmp_path: Path, reader: str, rows: int) -> None:
    """Neither nothing at all nor a header alone is a dataset."""
    header = {"esnli": ESNLI, "ecqa": ECQA}[reader]
    path = put(tmp_path / "f.csv", as_csv(*[header][:rows]))

    with pytest.raises(InputError, match=r"f\.csv.* is empty"):
        read_task(reader, path, reader)


def test_an_id_that_stands_twice_is_told(tmp_path: Path) -> None:
    """Two examples of one id could not be told apart in any file."""
    for reader, name, content in (
        ("esnli", "e.csv", as_csv(ESNLI, ESNLI_ROWS[0], ESNLI_ROWS[1], ESNLI_ROWS[0])),
        ("ecqa", "q.csv", as_csv(ECQA, ECQA_ROWS[1], ECQA_ROWS[1])),
        ("jsonl", "t.jsonl", as_jsonl(TASK_ROW, TASK_ROW)),
    ):
        path = put(tmp_path / name, content)

        with pytest.raises(InputError, match="stands twice"):
            read_task(reader, path, reader)


@pytest.mark.parametrize("reader", ["esnli", "ecqa", "comve", "jsonl"])
def test_a_path_that_leads_nowhere_is_told(tmp_path: Path, reader: str) -> None:
    """A missing path is named."""
    with pytest.raises(InputError, match=r"nowhere.* no such (file|directory)"):
        read_task(reader, tmp_path / "nowhere", reader)


@pytest.mark.parametrize("reader", ["esnli", "ecqa", "jsonl"])
def test_a_directory_is_no_file(tmp_path: Path, reader: str) -> None:
    """A directory where a file is wanted is told as such."""
    with pytest.raises(InputError, match="is a directory"):
        read_task(reader, tmp_path, reader)
