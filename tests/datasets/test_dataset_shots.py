"""Tasks ready to run: specs, and shots that never depend on a limit and are never evaluated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from explaineval.datasets import BUNDLED, Task, load_tasks, parse_spec, read_task
from explaineval.errors import InputError

FIELDS = {"nli": ("premise", "hypothesis"), "qa": ("question",), "sense": ("sentence1", "sentence2")}


def put_task(path: Path, count: int, *, told: int | None = None, names: tuple[str, ...] = ("text",)) -> Path:
    """A task file of `count` examples, of which the first `told` have an explanation (all, by default)."""
    rows = []
    for index in range(count):
        row = {
            "id": f"e{index}",
            "fields": {name: f"{name} {index} of {path.stem}" for name in names},
            "options": {"A": "yes", "B": "no"},
            "gold": "AB"[index % 2],
        }
        if told is None or index < told:
            row["explanation"] = f"Because of {index}."
        rows.append(row)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def load(path: Path, **settings_: object) -> Task:
    """One JSONL task, loaded."""
    return load_tasks([parse_spec(f"jsonl:{path}")], **settings_)[0]  # type: ignore[arg-type]


def test_specs_name_the_task() -> None:
    """The reader's name is the task's, a JSONL file lends its own."""
    found = [parse_spec(text) for text in ("sense", "esnli:a/b.csv", "comve:dir", "jsonl:x/my.task.jsonl")]

    assert [spec.name for spec in found] == ["sense", "esnli", "comve", "my.task"]
    assert [None, Path("a/b.csv"), Path("dir"), Path("x/my.task.jsonl")] == [spec.path for spec in found]


def test_a_spec_may_hold_colons_in_its_path() -> None:
    """Only the first colon parts name and path."""
    assert Path("a:b/c:d.csv") == parse_spec("esnli:a:b/c:d.csv").path


def test_a_relative_spec_is_relative_to_its_base(tmp_path: Path) -> None:
    """A base moves relative paths and leaves absolute ones."""
    assert tmp_path / "a.csv" == parse_spec("esnli:a.csv", tmp_path).path
    assert Path("/x/a.csv") == parse_spec("esnli:/x/a.csv", tmp_path).path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("snli", "unknown task 'snli': choose from nli, qa, sense, esnli, ecqa, comve, jsonl"),
        ("", "unknown task ''"),
        ("nli:some.csv", "bundled and takes no path"),
        ("esnli", "needs a path"),
        ("comve:", "needs a path"),
    ],
)
def test_a_spec_that_means_nothing_is_refused(text: str, message: str) -> None:
    """Unknown names, paths where none belong, and none where one does."""
    with pytest.raises(InputError, match=message):
        parse_spec(text)


def test_two_tasks_of_one_name_are_refused(tmp_path: Path) -> None:
    """Their rows could not be told apart."""
    (tmp_path / "a").mkdir()
    specs = [parse_spec(f"jsonl:{put_task(tmp_path / name, 3)}") for name in ("t.jsonl", "a/t.jsonl")]

    with pytest.raises(InputError, match="two tasks are called 't'"):
        load_tasks(specs, shots=0)


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_shots_are_reserved_from_the_end(name: str) -> None:
    """The last examples of a bundled task serve as shots and are not evaluated."""
    rows = read_task(name, None, name)

    task = load_tasks([parse_spec(name)], shots=8)[0]

    assert (tuple(rows[:-8]), tuple(rows[-8:])) == (task.examples, task.shots)
    assert f"the last 8 of {name}" == task.shots_source
    assert name == task.shape


def test_rows_without_explanation_are_no_shots(tmp_path: Path) -> None:
    """Shots are the last rows that have both gold and explanation; the others are evaluated."""
    task = load(put_task(tmp_path / "t.jsonl", 6, told=3), shots=2)

    assert [shot.id for shot in task.shots] == ["e1", "e2"]
    assert [example.id for example in task.examples] == ["e0", "e3", "e4", "e5"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    count=st.integers(2, 12),
    shots=st.integers(0, 6),
    limit=st.none() | st.integers(1, 14),
    source=st.sampled_from(["end", "file", "bundled"]),
)
def test_shots_never_depend_on_the_limit_and_are_never_evaluated(
    tmp_path: Path, count: int, shots: int, limit: int | None, source: str
) -> None:
    """With and without a limit the shots are the same, and no example's text is among them."""
    names = ("question",) if source == "bundled" else ("text",)
    path = put_task(tmp_path / "t.jsonl", count, told=0 if source == "bundled" else None, names=names)
    given_file = None
    if source == "file":
        given_file = tmp_path / "shots.jsonl"
        given_file.write_text("".join(path.read_text("utf-8").splitlines(keepends=True)[: count - 1]), "utf-8")
    enough = {"end": shots < count, "file": shots <= count - 1, "bundled": True}[source]
    if shots and not enough:
        with pytest.raises(InputError, match="too few rows"):
            load(path, shots=shots, shots_from=given_file, limit=limit)
        return
    whole = load(path, shots=shots, shots_from=given_file)

    cut = load(path, shots=shots, shots_from=given_file, limit=limit)

    assert whole.shots == cut.shots
    assert shots == len(cut.shots)
    assert whole.examples[:limit] == cut.examples
    assert not {str(shot.fields) for shot in cut.shots} & {str(example.fields) for example in whole.examples}


def test_shots_from_a_file_win(tmp_path: Path) -> None:
    """The first rows of the file given, even where the task has explanations; its twins are not evaluated."""
    path = put_task(tmp_path / "t.jsonl", 5)
    shots_from = tmp_path / "s.jsonl"
    shots_from.write_text("\n".join(path.read_text("utf-8").splitlines()[1:4]), "utf-8")

    task = load(path, shots=2, shots_from=shots_from)

    assert [shot.id for shot in task.shots] == ["e1", "e2"]
    assert [example.id for example in task.examples] == ["e0", "e3", "e4"]
    assert task.shots_source == "the first 2 of s.jsonl"


def test_shots_from_a_file_must_fit(tmp_path: Path) -> None:
    """Shots with other fields than the task's would be another task."""
    other = put_task(tmp_path / "s.jsonl", 3, names=("premise",))

    with pytest.raises(InputError, match=r"s\.jsonl: shot 'e0' has the fields premise, but the task has text"):
        load(put_task(tmp_path / "t.jsonl", 5), shots=2, shots_from=other)


@pytest.mark.parametrize("shape", BUNDLED)
def test_a_task_without_explanations_borrows_the_bundled_shots_of_its_shape(tmp_path: Path, shape: str) -> None:
    """Same fields, same shots as the bundled task; which ones is said, and every example is evaluated."""
    path = put_task(tmp_path / "t.jsonl", 5, told=0, names=FIELDS[shape])

    task = load(path, shots=8)

    assert tuple(read_task(shape, None, shape)[-8:]) == task.shots
    assert len(task.examples) == 5
    assert f"the bundled task {shape}" in task.shots_source


def test_where_no_shots_are_to_be_had_the_way_out_is_told(tmp_path: Path) -> None:
    """Fields of one's own, no explanations and no file: the message says what to give."""
    with pytest.raises(InputError, match="--shots-from FILE, or --shots 0"):
        load(put_task(tmp_path / "t.jsonl", 5, told=1), shots=2)


def test_no_shots_are_reserved_where_none_are_asked_for(tmp_path: Path) -> None:
    """Zero shots leave every row to be evaluated."""
    task = load(put_task(tmp_path / "t.jsonl", 5), shots=0)

    assert (len(task.examples), task.shots, task.shots_source) == (5, (), "none")
