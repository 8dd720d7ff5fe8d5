"""run.json is read as a type: what does not fit gives one sentence with the file and the field."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from explaineval.errors import InputError
from explaineval.rundir.directory import METRICS, RUN, TRIALS, read_metrics, read_run, read_trials, write_run
from explaineval.rundir.schema import RequestCounts, RunRecord, Totals
from makers.runs import make_trial, minimal_record

COUNTS = RequestCounts(planned=8, distinct=6, hits=1, sent=4, unsent=1, retries=2)
TOTALS = Totals(
    usd_spent=0.5, usd_saved_by_cache=None, usd_from_scratch=None, usd_unbilled_at_most=0.0, requests=COUNTS
)
TASK = {"examples": "e", "kinds": {"hand": "k"}}


def change(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change of one field, given by its names with dots between them; `...` removes it."""

    def apply(document: dict[str, Any]) -> None:
        *parents, name = path.split(".")
        for parent in parents:
            document = document[parent]
        if value is ...:
            del document[name]
        else:
            document[name] = value

    return apply


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    """With and without totals, which stand at the top level of the file and are absent before the end of a run."""
    facts = {"tasks": {"mine": TASK}}
    for record in (minimal_record(), minimal_record(facts=facts, totals=TOTALS, complete=True)):
        write_run(tmp_path, record)
        document = json.loads((tmp_path / RUN).read_text())

        assert read_run(tmp_path) == record
        assert ("requests" in document) == (record.totals is not None)
        assert "totals" not in document


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (change("facts", []), "facts: "),
        (change("facts", ...), "facts: it is missing"),
        (change("facts.tasks", "text"), "facts.tasks: "),
        (change("facts.tasks.mine", 3), "facts.tasks.mine: "),
        (change("facts.tasks.mine.kinds", ["hand"]), "facts.tasks.mine.kinds: "),
        (change("facts.tasks.mine.n_shots", -1), "facts.tasks.mine.n_shots: "),
        (change("facts.tasks.mine.n_shots", "2"), "facts.tasks.mine.n_shots: "),
        (change("facts.tasks.mine.shape", "../x"), "facts.tasks.mine.shape: "),
        (change("facts.no_level_shots", [{"task": "mine"}]), "facts.no_level_shots.0.endpoint: it is missing"),
        (change("config", None), "config: "),
        (change("config.seed", "many"), "config.seed: "),
        (change("config.colour", "red"), "config.colour: "),
        (change("client", ...), "client: it is missing"),
        (change("science.growing", 5), "science.growing: "),
        (change("endpoints", {}), "endpoints: "),
        (change("endpoints", [{"endpoint": None}]), "endpoints.0.model: it is missing"),
        (change("requests", {"planned": 1}), "requests.distinct: it is missing"),
        (change("usd_spent", "much"), "usd_spent: "),
    ],
)
def test_a_field_that_was_changed_by_hand_is_named(
    tmp_path: Path, edit: Callable[[dict[str, Any]], None], message: str
) -> None:
    """Bad input (exit code 2) in one line, whichever part it is."""
    document = minimal_record(facts={"tasks": {"mine": TASK}}, totals=TOTALS).model_dump(mode="json")
    edit(document)
    (tmp_path / RUN).write_text(json.dumps(document))

    with pytest.raises(InputError) as error:
        read_run(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / RUN}: {message}")
    assert error.value.exit_code == 2
    assert "\n" not in str(error.value)


def test_an_arm_without_shots_names_a_known_task() -> None:
    """Otherwise scoring would look for facts that are not there."""
    arm = {
        "endpoint": None, "model": "a/b", "task": "other", "order": "pe", "style": "chat", "shots": 0,
        "verbosity": "brief",
    }  # fmt: skip
    with pytest.raises(ValueError, match="'other', which is not among tasks"):
        minimal_record(facts={"tasks": {"mine": TASK}, "no_level_shots": [arm]})


def test_unknown_fields_of_a_later_version_are_ignored() -> None:
    """They are not kept either."""
    record = minimal_record(later={"a": 1})

    assert record == minimal_record()
    assert "later" not in RunRecord.model_validate(record.model_dump()).model_dump()


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, "\ufeff{}", '{"a": NaN', "é".encode("latin-1")])
def test_a_file_that_is_no_json_is_told(tmp_path: Path, content: str | bytes) -> None:
    """One sentence with the file's name."""
    (tmp_path / RUN).write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(InputError, match=r"run\.json cannot be read: "):
        read_run(tmp_path)


@pytest.mark.parametrize("read", [read_run, read_metrics, lambda directory: list(read_trials(directory))])
def test_an_endless_file_is_not_read(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    """A device in a file's place is refused before a byte of it is read."""
    for name in (RUN, METRICS, TRIALS):
        (tmp_path / name).symlink_to("/dev/zero")

    with pytest.raises(InputError, match="cannot be read: it is not a regular file"):
        read(tmp_path)


def test_a_metric_row_and_a_trial_that_were_changed_are_told_with_their_place(tmp_path: Path) -> None:
    """The number of the row or line, and the field."""
    (tmp_path / METRICS).write_text(json.dumps([{"model": 3}]))
    trial = make_trial(0, 0)
    (tmp_path / TRIALS).write_text(json.dumps(trial) + "\n" + json.dumps(trial | {"status": "fine"}) + "\n")

    with pytest.raises(InputError, match=r"metrics\.json: 0\.endpoint: it is missing"):
        read_metrics(tmp_path)
    with pytest.raises(InputError, match=r"trials\.jsonl:2: status: "):
        list(read_trials(tmp_path))
