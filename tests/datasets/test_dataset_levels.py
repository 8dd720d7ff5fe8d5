"""Explanations by verbosity level: how they are read, when they make shots, and the bundled ones as data."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from explaineval.datasets import BUNDLED, Task, load_tasks, parse_spec, read_task, ready_interventions
from explaineval.datasets.readers import bundled_path, read_levels
from explaineval.errors import InputError
from explaineval.mentions import already_present
from explaineval.parsing import parse_explanation
from explaineval.prompts import PromptBook, default_directory
from explaineval.records import Example

LEVELS = ("minimal", "brief", "detailed", "exhaustive")
WORDS = {"minimal": (1, 5), "brief": (6, 10), "normal": (10, 25), "detailed": (70, 120), "exhaustive": (150, 220)}


def row(number: int, levels: Any = None, **changes: Any) -> dict[str, Any]:
    """One invented row; `levels` are its explanations at other levels."""
    plain = {
        "id": f"e{number}",
        "fields": {"note": f"It is note {number}."},
        "options": {"A": "yes", "B": "no"},
        "gold": "AB"[number % 2],
        "explanation": f"Note {number} says so.",
    }
    return plain | ({} if levels is None else {"explanations": levels}) | changes


def put(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A task JSONL."""
    path.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    return path


def load(path: Path, shots: int, **more: Any) -> Task:
    """The task of a file."""
    return load_tasks([parse_spec(f"jsonl:{path}")], shots=shots, **more)[0]


def texts(shots: tuple[Example, ...] | None) -> list[str | None] | None:
    """What shots explain."""
    return None if shots is None else [shot.explanation for shot in shots]


def test_levels_are_read_by_id(tmp_path: Path) -> None:
    """Each row's texts by level, stripped; rows without any are left out."""
    path = put(tmp_path / "t.jsonl", [row(0), row(1, {"brief": " Short. ", "curt": "No."}), row(2, {"brief": "So."})])

    assert read_levels(path) == {"e1": {"brief": "Short.", "curt": "No."}, "e2": {"brief": "So."}}


@pytest.mark.parametrize("levels", ["Short.", ["Short."], {"brief": ""}, {"brief": " "}, {"brief": 3}, {"brief": None}])
def test_levels_of_another_form_are_named_with_their_line(tmp_path: Path, levels: Any) -> None:
    """What is no mapping of levels to texts is bad input: file, line, and what it should be."""
    path = put(tmp_path / "t.jsonl", [row(0), row(1, levels), row(2)])

    with pytest.raises(InputError, match=r"t\.jsonl:2: explanations must map verbosity levels to texts"):
        load(path, shots=2)


def test_the_normal_level_is_the_explanation_itself(tmp_path: Path) -> None:
    """A second text for the same level would leave open which one is meant."""
    path = put(tmp_path / "t.jsonl", [row(0), row(1), row(2, {"normal": "Well."})])

    with pytest.raises(InputError, match=r"t\.jsonl:3: the explanation at level normal is `explanation` itself"):
        load(path, shots=2)


def test_shots_have_the_same_questions_and_labels_at_all_levels(tmp_path: Path) -> None:
    """Only the explanation is another; the examples know nothing of levels."""
    rows = [row(number, {"brief": f"B{number}.", "detailed": f"D{number}."}) for number in range(5)]
    task = load(put(tmp_path / "t.jsonl", rows), shots=3)

    assert sorted(task.level_shots) == ["brief", "detailed"]
    assert texts(task.shots_at("normal")) == ["Note 2 says so.", "Note 3 says so.", "Note 4 says so."]
    assert texts(task.shots_at("brief")) == ["B2.", "B3.", "B4."]
    for level in ("brief", "detailed"):
        same = [shot.model_copy(update={"explanation": None}) for shot in task.shots_at(level) or ()]
        assert same == [shot.model_copy(update={"explanation": None}) for shot in task.shots]
    assert [example.id for example in task.examples] == ["e0", "e1"]


def test_a_level_that_one_shot_lacks_is_not_offered(tmp_path: Path) -> None:
    """Shots of two lengths would show no level; a row that is no shot may lack it."""
    rows = [row(0), row(1, {"brief": "B."}), row(2, {"brief": "B.", "detailed": "D."}), row(3, {"detailed": "D."})]
    path = put(tmp_path / "t.jsonl", rows)

    assert load(path, shots=2).shots_at("brief") is None
    assert texts(load(path, shots=2).shots_at("detailed")) == ["D.", "D."]
    assert load(path, shots=3).level_shots == {}
    assert load(path, shots=0).level_shots == {}


def test_shots_from_a_file_bring_their_levels(tmp_path: Path) -> None:
    """The levels are those of the file that the shots come from, not those of the task."""
    path = put(tmp_path / "t.jsonl", [row(number, {"curt": "No."}) for number in range(4)])
    own = put(tmp_path / "s.jsonl", [row(number, {"brief": f"S{number}."}) for number in range(7, 10)])

    task = load(path, shots=2, shots_from=own)

    assert (sorted(task.level_shots), texts(task.shots_at("brief"))) == (["brief"], ["S7.", "S8."])


def test_shots_from_a_bundled_task_by_its_name(tmp_path: Path) -> None:
    """`--shots-from nli`: the last rows of the bundled task with all their levels; a file of that name wins."""
    fields = {"premise": "It rains.", "hypothesis": "It is wet."}
    options = {"A": "entailment", "B": "neutral", "C": "contradiction"}
    path = put(tmp_path / "t.jsonl", [row(number, fields=fields, options=options) for number in range(9)])

    task = load(path, shots=8, shots_from=Path("nli"))

    assert task.shots == tuple(one.model_copy(update={"task": "t"}) for one in read_task("nli", None, "nli")[-8:])
    assert (task.shots_source, sorted(task.level_shots), len(task.examples)) == (
        "the bundled task nli", sorted(LEVELS), 9,
    )  # fmt: skip


def test_bundled_shots_that_are_lent_bring_their_levels(tmp_path: Path) -> None:
    """A dataset without explanations borrows shots of its shape, at every level."""
    lines = ["q_no,q_text,q_op1,q_op2,q_op3,q_op4,q_op5,q_ans,taskB"]
    lines += [f"q{number},Who is {number}?,a,b,c,d,e,a," for number in range(3)]
    (tmp_path / "e.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")

    task = load_tasks([parse_spec(f"ecqa:{tmp_path / 'e.csv'}")], shots=8)[0]

    assert sorted(task.level_shots) == sorted(LEVELS)


@pytest.mark.parametrize("name", BUNDLED)
def test_every_bundled_shot_is_told_at_every_level(name: str) -> None:
    """Eight shots, four lengths beside the normal one, each within its bounds, words rising in every row."""
    task = load_tasks([parse_spec(name)], shots=8)[0]
    found = {level: task.shots_at(level) or () for level in WORDS}
    counts = {level: [len((shot.explanation or "").split()) for shot in shots] for level, shots in found.items()}

    assert {level: len(numbers) for level, numbers in counts.items()} == dict.fromkeys(WORDS, 8)
    for level, (least, most) in WORDS.items():
        assert [number for number in counts[level] if not least <= number <= most] == [], level
    for rising in zip(*counts.values(), strict=True):
        assert list(rising) == sorted(set(rising))
    for shot in found["detailed"]:
        assert 5 <= len(re.findall(r"[.?!](?=\s|$)", shot.explanation or "")) <= 8, shot.id


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_level_texts_are_read_as_they_stand(name: str) -> None:
    """On one line, without the answer's form in them: the parser takes each for an explanation of its own label."""
    gold = {example.id: example for example in read_task(name, None, name)}
    found = read_levels(bundled_path(name))

    assert len(found) == 8
    for id_, levels in found.items():
        example = gold[id_]
        for text in levels.values():
            assert text == " ".join(text.split())
            for style in ("chat", "completion"):
                parsed = parse_explanation(
                    text, str(example.gold), example.options, style, fields=tuple(example.fields)
                )  # type: ignore[arg-type]
                assert parsed == text
    everything = [text for levels in found.values() for text in levels.values()]
    sentences = [one for text in everything for one in re.split(r"(?<=[.?!]) ", text) if len(one.split()) > 4]
    assert len(sentences) == len(set(sentences))  # nothing is said twice over


@pytest.mark.parametrize("name", BUNDLED)
def test_no_inserted_word_stands_in_a_text_of_a_level(name: str) -> None:
    """Neither in the shots of any level nor in the second call's own words: no ready insertion is lost by a level."""
    examples = read_task(name, None, name)
    book = PromptBook(default_directory())
    shown = [text for levels in read_levels(bundled_path(name)).values() for text in levels.values()]
    for level in book.levels():
        turns = book.render_explanation(
            examples[0], dict.fromkeys(examples[0].fields, ""), "A",
            style="chat", shape=name, shots=(), verbosity=level,
        )  # fmt: skip
        shown.append(turns if isinstance(turns, str) else turns[-1].content)
    inserted = {one.inserted for one in ready_interventions(name, examples)}

    assert {word for word in inserted if already_present(word, ["\n".join(shown)])} == set()
