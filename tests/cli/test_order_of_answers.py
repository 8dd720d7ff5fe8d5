"""Nothing that is printed or written depends on which answer came first, and swapping two models only turns signs."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from inspect_ai.log import read_eval_log
from test_cli_compare import draw, models_of

from explaineval.cli.compare import gate_findings
from explaineval.errors import ExitCode
from explaineval.metrics.differences import SAME
from explaineval.reporting.comparison_text import headlines_of, sentence_of
from explaineval.reporting.comparison_view import document_of, lines_of
from explaineval.reporting.exports import FORMATS, ExportRequest
from explaineval.reporting.exports.records import write_inspect_logs
from explaineval.reporting.exports.rows import TABLES
from explaineval.reporting.page import page_of
from explaineval.reporting.results import read_results
from explaineval.reporting.screen import StyledLine, notes_lines, summary
from explaineval.rundir.directory import METRICS, METRICS_CSV, TRIALS
from explaineval.scoring.comparisons import PRIMARY, compare_runs
from explaineval.scoring.rows import score
from explaineval.scoring.task_means import MEAN
from makers.exported import finished
from makers.runs import make_run, make_sham, write_task, write_trials

EXAMPLES = 40
NOW = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = ("openai/b", "openai/a", "openai/c")


def trials_of_all(levels: tuple[str, ...] = ("normal", "brief")) -> list[dict[str, Any]]:
    """Three models at two levels in order pe2, with shams; the first level's answers are those of the others."""
    trials = []
    for seed, (model, tpr, impact) in enumerate(zip(NAMES, (0.8, 0.5, 0.9), (0.35, 0.2, 0.05), strict=True)):
        for level in levels:
            values = {"model": model, "order": "pe2", "verbosity": level, "examples": EXAMPLES}
            trials += draw(seed, tpr=tpr, impact=impact, **values)
            trials += [make_sham(one, changed=one == 3) | {"model": model, "order": "pe2", "verbosity": level}
                       for one in range(EXAMPLES)]  # fmt: skip
    return trials


def make(place: Path, names: tuple[str, ...], trials: list[dict[str, Any]]) -> Path:
    """A run whose configuration names the models in this order."""
    arms = {"order": ["pe2"], "verbosity": ["normal", "brief"]}
    return make_run(place / "run", trials, EXAMPLES, models=models_of(*names), arms=arms)


@pytest.mark.slow
def test_the_order_of_lines_changes_no_byte(tmp_path: Path) -> None:
    """metrics.json, the screens of run, notes and compare, the page, and every export."""
    trials = trials_of_all()
    shuffled = random.Random(1).sample(trials, len(trials))
    run = make(tmp_path, NAMES, trials)
    first = {name: output(finished(run)) for name, output in OUTPUTS.items()}
    write_trials(run, shuffled)
    second = {name: output(finished(run)) for name, output in OUTPUTS.items()}

    assert (run / TRIALS).read_text(encoding="utf-8").splitlines() != [json.dumps(one) for one in trials]
    for name, found in first.items():
        assert (name, found) == (name, second[name])


def _exported(format_name: str, table: str = "metrics") -> Callable[[Path], Any]:
    """Return what writes a run in a format and gives the files' bytes by name, without the hash of trials.jsonl."""

    def write(run: Path) -> dict[str, bytes]:
        out = run.parent / f"exported-{format_name}-{table}"
        files = FORMATS[format_name].write(ExportRequest(run, table, NOW), out).files
        digest = hashlib.sha256((run / TRIALS).read_bytes()).hexdigest().encode()
        return {path.name: path.read_bytes().replace(digest, b"hash of trials.jsonl") for path in files}

    return write


def _inspect_logs(run: Path) -> list[str]:
    """Return what Inspect's own reader finds in the logs of a run; their archives hold the time of writing too."""
    files, _ = write_inspect_logs(read_results([run]).runs[0], run.parent / "inspect")
    return [read_eval_log(str(path)).model_dump_json(exclude={"location"}) for path in files]


OUTPUTS: dict[str, Callable[[Path], Any]] = {
    "scores": lambda run: score(run),
    "run's screen": lambda run: summary(score(run), "run", 100, headlines_of(compare_runs([run]))),
    "notes": lambda run: list(notes_lines(score(run), "run", 100)),
    "metrics.json": lambda run: [(run / name).read_bytes() for name in (METRICS, METRICS_CSV)],
    **{f"csv of {table}": _exported("csv", table) for table in TABLES},
    **{name: _exported(name) for name in ("latex", "markdown", "card", "every-eval-ever")},
    "inspect": _inspect_logs,
    "document": lambda run: json.dumps(document_of(compare_runs([run]))),
    "screen": lambda run: list(lines_of(compare_runs([run]), 100)),
    "table": lambda run: [list(row) for row in TABLES["comparison"](run).rows],
    "page": lambda run: page_of(read_results([run])).html,
}


def test_swapping_two_models_turns_signs_and_nothing_else(tmp_path: Path) -> None:
    """a and b are exchanged, differences and limits negated; every other field is the same to the last digit."""
    trials = trials_of_all()
    swapped = (NAMES[1], NAMES[0], NAMES[2])
    first, second = (
        document_of(compare_runs([make(tmp_path / name, names, trials)], equivalent=0.2))
        for name, names in (("one", NAMES), ("other", swapped))
    )
    rows = {_key(row, row["a"], row["b"]): row for row in second["rows"]}

    turned = 0
    for row in first["rows"]:
        key = _key(row, row["a"], row["b"])
        if key in rows:
            assert _comparable(row) == _comparable(rows[key])
            continue
        other = rows[_key(row, row["b"], row["a"])]
        assert _comparable(row) == _comparable(_turned(other))
        turned += 1
    assert turned == len(first["rows"]) / 3  # of the three pairs one


def _key(row: dict[str, Any], a: str, b: str) -> tuple[Any, ...]:
    return row["metric"], row["task"], row["kind"], row["order"], row["verbosity"], a, b


def _comparable(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row without what says in which order things were named."""
    return {name: value for name, value in row.items() if name not in ("signature", "undefined", "note")}


def _turned(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row with a and b exchanged."""
    found = dict(row)
    for name in ("", "value_", "lost_", "unrestricted_"):
        found[f"{name}a"], found[f"{name}b"] = row[f"{name}b"], row[f"{name}a"]
    if row["difference"] is not None:
        found["difference"] = -row["difference"]
    for name in ("", "_adjusted", "_equivalent"):
        low, high = row[f"low{name}"], row[f"high{name}"]
        found[f"low{name}"], found[f"high{name}"] = (None if one is None else -one for one in (high, low))
    return found


def test_swapping_two_models_changes_no_number_of_either(tmp_path: Path) -> None:
    """Warnings, metrics, the screen's blocks, ranks and the set near the best are the same, in another order."""
    trials = trials_of_all()
    first, second = (
        make(tmp_path / name, names, trials) for name, names in (("one", NAMES), ("other", (*NAMES[1::-1], NAMES[2])))
    )
    scores = [score(run) for run in (first, second)]
    screens = [{block.strip() for block in _text(summary(one, "run", 100)).split("\n\n")} for one in scores]
    documents = [document_of(compare_runs([run])) for run in (first, second)]

    assert {row.model_dump_json() for row in scores[0].rows} == {row.model_dump_json() for row in scores[1].rows}
    assert {str(row) for row in scores[0].warnings} == {str(row) for row in scores[1].warnings}
    assert _without_names(notes_lines(scores[0], "run", 100)) == _without_names(notes_lines(scores[1], "run", 100))
    assert _without_names([StyledLine(text) for text in screens[0]]) == _without_names(
        [StyledLine(text) for text in screens[1]]
    )
    for one, other in zip(documents[0]["groups"], documents[1]["groups"], strict=True):
        for mine, others in zip(one["families"], other["families"], strict=True):
            assert sorted(mine["ranks"], key=str) == sorted(others["ranks"], key=str)
            assert sorted(mine["not_separated_from_best"]) == sorted(others["not_separated_from_best"])
            assert mine["best_selected"] == others["best_selected"]


def _text(lines: Iterable[StyledLine]) -> str:
    return "\n".join(line.text for line in lines)


def _without_names(lines: Iterable[StyledLine]) -> Counter[str]:
    """Return the words of lines and how often each occurs: where models are listed their order may differ."""
    return Counter(word.strip(".,;:") for word in _text(lines).split())


def test_two_models_with_the_same_answers_hold_the_same_ranks(tmp_path: Path) -> None:
    """A tie stays one, whoever is named first: the same ranks, no difference, and a gate that is passed."""
    own = [one for one in trials_of_all(("normal",)) if one["model"] == NAMES[0]]
    other = [one for one in trials_of_all(("normal",)) if one["model"] == NAMES[2]]
    trials = [*own, *(one | {"model": NAMES[1]} for one in own), *other]
    for number, names in enumerate((NAMES, (NAMES[1], NAMES[2], NAMES[0]))):
        (result,) = compare_runs([_single(tmp_path / str(number), names, trials)])
        phi = result.family(PRIMARY, result.leading[0])
        assert phi is not None
        ranks = dict(zip(names, phi.family.ranks, strict=True))
        against = compare_runs([tmp_path / str(number) / "run"], against=NAMES[0])
        codes = {text.partition(":")[0]: code for code, text in gate_findings(against, PRIMARY, 0.0)}

        assert ranks[NAMES[0]] == ranks[NAMES[1]]
        tie = next(row for row in phi.family.differences if {names[row.first], names[row.second]} == set(NAMES[:2]))
        assert (tie.value, tie.note) == (0.0, SAME)
        assert not any(NAMES[1] in text for text in codes)


def _single(place: Path, names: Sequence[str], trials: list[dict[str, Any]]) -> Path:
    """A run at one level of verbosity."""
    arms = {"order": ["pe2"], "verbosity": ["normal"]}
    return make_run(place / "run", trials, EXAMPLES, models=models_of(*names), arms=arms)


@pytest.mark.parametrize(
    ("new", "margin", "code"),
    [
        ({"seed": 0, "tpr": 0.8}, 0.0, ExitCode.DONE),
        ({"seed": 7, "tpr": 0.45}, 0.0, ExitCode.DIFFERENT),
        ({"seed": 5, "tpr": 0.8}, 0.01, ExitCode.UNDECIDED),
        ({"seed": 5, "tpr": 0.8}, 0.9, ExitCode.DONE),
    ],
)
def test_the_gate_goes_by_the_answers_alone(new: dict[str, Any], margin: float, code: ExitCode, tmp_path: Path) -> None:
    """Each outcome is the same whichever line came first and whichever model is named first; a swap turns the rest."""
    first, second = ([*draw(seed, tpr=tpr, impact=0.35, examples=EXAMPLES, model=model)]
                     for seed, tpr, model in ((0, 0.8, NAMES[0]), (new["seed"], new["tpr"], NAMES[1])))  # fmt: skip
    shams = [make_sham(one) | {"model": model} for model in NAMES[:2] for one in range(EXAMPLES)]
    trials = [*first, *second, *shams]
    found = []
    for number, (names, lines) in enumerate((
        (NAMES[:2], trials), (NAMES[:2], random.Random(2).sample(trials, len(trials))), (NAMES[1::-1], trials)
    )):  # fmt: skip
        run = make_run(tmp_path / str(number) / "run", lines, EXAMPLES, models=models_of(*names))
        results = compare_runs([run], against=NAMES[0])
        found.append(list(gate_findings(results, PRIMARY, margin)))

    assert [ExitCode.worst(one for one, _ in findings) for findings in found] == [code] * 3
    assert found[0] == found[1] == found[2]


def test_the_tasks_of_a_mean_are_told_in_the_direction_of_their_difference(tmp_path: Path) -> None:
    """A difference of two models and those on each task have one direction, whichever model is named first."""
    for number, names in enumerate((NAMES[:2], NAMES[1::-1])):
        trials = []
        for task, rates in (("mine", (0.95, 0.3)), ("other", (0.1, 0.9))):
            for seed, (model, tpr) in enumerate(zip(NAMES[:2], rates, strict=True)):
                drawn = draw(seed, tpr=tpr, fpr=0.4, impact=0.35, examples=EXAMPLES, model=model, task=task)
                trials += [*drawn, *(make_sham(one) | {"model": model, "task": task} for one in range(EXAMPLES))]
        run = _two_tasks(tmp_path / str(number), names, trials)
        (result,) = compare_runs([run])
        (compared,) = result.leading
        text = sentence_of(compared)
        told = re.search(r"differs by ([+-]\S+).*mine ([+-]\S+), other ([+-]\S+);", text)

        assert compared.task == MEAN
        assert "Cannot tell" in text
        assert told is not None
        shown = [float(one) for one in told.groups()]
        assert shown[0] == pytest.approx((shown[1] + shown[2]) / 2, abs=0.011)


def _two_tasks(place: Path, names: Sequence[str], trials: list[dict[str, Any]]) -> Path:
    """A run of the tasks `mine` and `other`, whose examples have the same ids."""
    place.mkdir(parents=True)
    task, edits = write_task(place, EXAMPLES)
    other = place / "other.jsonl"
    shutil.copyfile(task, other)
    lines = [json.loads(line) for line in edits.read_text(encoding="utf-8").splitlines()]
    both = place / "both.jsonl"
    both.write_text("".join(json.dumps(one | {"task": name}) + "\n" for name in ("mine", "other") for one in lines))
    values = {"tasks": [f"jsonl:{task}", f"jsonl:{other}"], "interventions": {"file": both}}
    return make_run(place / "run", trials, EXAMPLES, models=models_of(*names), **values)


def test_the_gate_goes_by_the_configuration(tmp_path: Path) -> None:
    """The same answers in another order give the same pairs, in the order of the configuration."""
    trials = trials_of_all()
    found = compare_runs([make(tmp_path / "one", NAMES, trials[::-1])])

    assert found[0].group.names == NAMES
    assert [result.group.fixed["verbosity"] for result in found] == ["normal", "brief", None]
