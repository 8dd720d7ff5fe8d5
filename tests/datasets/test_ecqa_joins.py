"""The join that makes ECQA's CSV from CommonsenseQA and the authors' annotations."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from explaineval.datasets import join_ecqa, read_task
from explaineval.errors import InputError


def asked(key: str, answer: str = "B") -> str:
    """One question in CommonsenseQA's format."""
    choices = [{"label": letter, "text": f"{key} choice {letter}"} for letter in "CABED"]
    question = {"question_concept": "moss", "choices": choices, "stem": f'Where, {key}, does "moss" grow?'}
    return json.dumps({"answerKey": answer, "id": key, "question": question})


def told(key: str) -> str:
    """One annotation in ECQA's format."""
    return json.dumps(
        {"id": key, "positives": ["p1", "p2, p"], "negatives": ["n1", "n2"], "explanation": f"Why {key}.\nSo."}
    )


def test_the_join_has_the_official_columns() -> None:
    """The header has an unnamed index first; properties stand one a line in one cell."""
    text = join_ecqa([asked("k1")], [told("k1")], ["k1\n"])

    header, row = list(csv.reader(io.StringIO(text)))
    columns = "q_no q_concept q_text q_op1 q_op2 q_op3 q_op4 q_op5 q_ans taskA_pos taskA_neg taskB"
    assert ["", *columns.split()] == header
    assert ["0", "k1", "moss", 'Where, k1, does "moss" grow?', *(f"k1 choice {x}" for x in "ABCDE"), "k1 choice B",
            "p1\np2, p", "n1\nn2", "Why k1.\nSo."] == row  # fmt: skip


def test_the_join_follows_the_ids_and_leaves_out_what_has_no_annotation(tmp_path: Path) -> None:
    """The order is that of the ids; the reader reads what the join wrote."""
    text = join_ecqa(
        [asked("k1", "A"), asked("k2"), asked("k3", "E")], [told("k3"), told("k1")], ["k3", "k2", "", "k1"]
    )
    (tmp_path / "q.csv").write_text(text, encoding="utf-8")

    found = read_task("ecqa", tmp_path / "q.csv", "ecqa")

    assert [(example.id, example.gold) for example in found] == [("k3", "E"), ("k1", "A")]
    assert found[0].explanation == "Why k3.\nSo."


@pytest.mark.parametrize(
    ("question", "note"),
    [
        ("not JSON", told("k1")),
        (json.dumps({"id": "k1"}), told("k1")),
        (asked("k1", "F"), told("k1")),
        (asked("k1"), json.dumps({"id": "k1", "explanation": "e"})),
        (asked("other"), told("k1")),
    ],
)
def test_a_changed_format_is_bad_input(question: str, note: str) -> None:
    """Whatever the official files no longer hold, the user is told that the format has changed."""
    with pytest.raises(InputError, match="could not be joined"):
        join_ecqa([question], [note], ["k1"])
