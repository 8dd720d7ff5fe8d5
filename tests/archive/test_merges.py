"""Shards of a run merged: the same files and numbers, byte for byte, as one run of the whole; and what is refused."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import explaineval
from explaineval import Result
from explaineval.archive.bundle import prepared_from
from explaineval.archive.merge import merge_runs
from explaineval.config import ClientConfig
from explaineval.datasets import load_tasks, parse_specs
from explaineval.datasets.readers import bundled_path
from explaineval.errors import InputError
from explaineval.interventions import kind_of
from explaineval.planning.prepare import build
from explaineval.prompts import PromptBook, default_directory
from explaineval.records import Trial
from explaineval.rundir.directory import read_run, read_trials

SAME = ("metrics.json", "metrics.csv", "examples.jsonl", "interventions.jsonl", "shots.jsonl", "shots.brief.jsonl")
Settings = dict[str, Any]


def ask(out: Path, cache: Path, settings: Settings, **changes: Any) -> Result:
    """Run in this process, without the network."""
    found = explaineval.run(settings | {"cache": cache} | changes, out=out, progress=False)
    assert isinstance(found, Result)
    return found


def ask_shards(place: Path, settings: Settings, count: int) -> list[Path]:
    """Run all shards, each with a cache of its own, as machines that know nothing of each other."""
    shards = []
    for number in range(1, count + 1):
        out = place / f"shard{number}"
        result = ask(out, place / f"cache{number}", settings, shard=f"{number}/{count}")
        assert (result.exit_code, result.directory) == (0, out)
        shards.append(out)
    return shards


def instructed_task(path: Path) -> Path:
    """A task whose examples have instructions of their own, and ids that are no plain letters."""
    with path.open("w", encoding="utf-8") as handle:
        for number in range(7):
            row = {"id": f"ü {number}", "fields": {"note": f"The old clerk waits {number} hours."}, "gold": "A",
                   "options": {"A": "yes", "B": "no"}, "instruction": f"Say whether clerk {number % 3} waits.",
                   "explanation": "He stands there."}  # fmt: skip
            handle.write(json.dumps(row) + "\n")
    return path


def ready_words(task: str) -> list[dict[str, Any]]:
    """The ready interventions of a bundled task."""
    path = bundled_path(task).with_name(f"{task}.interventions.jsonl")
    return [json.loads(line) | {"task": task} for line in path.read_text("utf-8").splitlines()]


def write_edits(path: Path, edits: list[dict[str, Any]]) -> Path:
    """Write a file of interventions."""
    path.write_text("".join(json.dumps(edit) + "\n" for edit in edits), encoding="utf-8")
    return path


def many_arms(place: Path) -> Settings:
    """Several models, tasks and arms, an answer explained at two levels, samples, and shams."""
    own = [{"task": "own", "example_id": f"ü {number}", "kind": "hand", "field": "note", "offset": 4,
            "inserted": "grumpy"} for number in range(7)]  # fmt: skip
    edits = [*own, *ready_words("nli")[::2], *ready_words("sense")[::2]]
    return {
        "tasks": ["sense", "nli", f"jsonl:{instructed_task(place / 'own.jsonl')}"],
        "models": ["simulated/honest-reasoning", "simulated/no-logprobs"],
        "arms": {"order": ["pe", "pe2"], "verbosity": ["normal", "brief"], "shots": [1]},
        "limit": 3, "shams": 2, "samples": 2, "interventions": {"file": write_edits(place / "edits.jsonl", edits)},
    }  # fmt: skip


def cues_and_words(place: Path) -> Settings:
    """Cues with their controls, and words, in a file that leaves examples out; percentile intervals."""
    (task,) = load_tasks(parse_specs(["sense"], {}), shots=0, limit=9)
    prompts = PromptBook(default_directory())
    cues = [
        cue.model_dump(mode="json")
        for kind in ("cue_user", "cue_expert")
        for cue in build(kind_of(kind), task, prompts, prompts.levels(), per_example=1, seed=0)
    ]
    words = [word for word in ready_words("sense") if word["example_id"] in {cue["example_id"] for cue in cues[:6]}]
    return {
        "tasks": ["sense"], "models": ["simulated/random", "simulated/verbose"], "limit": 12,
        "interventions": {"file": write_edits(place / "edits.jsonl", [*words, *cues[:-4]])},
        "interval": "percentile", "resamples": 50,
    }  # fmt: skip


@pytest.fixture(scope="module", params=[many_arms, cues_and_words], ids=lambda make: make.__name__)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Settings]:
    """A run of the whole, and its settings."""
    place = tmp_path_factory.mktemp("whole")
    settings = request.param(place)
    assert ask(place / "run", place / "cache", settings).exit_code == 0
    return place / "run", settings


def sort_key(settings: Settings) -> Callable[[Trial], tuple[Any, ...]]:
    """The order of the whole run's plan, written down by hand: model, task, arm, example in file order, sample."""
    tasks = [task.partition(":")[0].replace("jsonl", "own") for task in settings["tasks"]]
    models = settings["models"]
    arms = [("pe", "normal"), ("pe", "brief"), ("pe2", "normal"), ("pe2", "brief")]

    def key(trial: Trial) -> tuple[Any, ...]:
        arm = arms.index((trial.order, trial.verbosity))
        return models.index(trial.model), tasks.index(trial.task), arm, trial.example_id, trial.sample

    return key


@pytest.mark.sampled(2)
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_merged_shards_are_the_whole_run(whole: tuple[Path, Settings], tmp_path: Path, count: int) -> None:
    """Metrics, inputs, trials in the order of the plan, and run.json apart from time and cache."""
    run, settings = whole
    shards = ask_shards(tmp_path, settings, count)
    merged = tmp_path / "merged"
    merge_runs([*reversed(shards)], merged)

    for name in SAME:
        assert (run / name).exists() == (merged / name).exists()
        if (run / name).exists():
            assert (run / name).read_bytes() == (merged / name).read_bytes()
    lines = (merged / "trials.jsonl").read_bytes().splitlines()
    assert sorted(lines) == sorted((run / "trials.jsonl").read_bytes().splitlines())
    trials = list(read_trials(merged))
    assert trials == sorted(trials, key=sort_key(settings))
    before, after = (json.loads((one / "run.json").read_text("utf-8")) for one in (run, merged))
    for document in (before, after):
        assert document.pop("created")
        assert document["client"].pop("cache")
    assert before == after
    assert not (merged / "positions.jsonl").exists()


def test_an_empty_shard_is_a_finished_run(tmp_path: Path) -> None:
    """It has a directory, exit code 0, and no trials; one of three examples' seven shards is empty for certain."""
    settings = {"tasks": ["sense"], "models": ["simulated/random"], "limit": 3}
    shards = ask_shards(tmp_path, settings, 7)
    counts = [sum(facts.n_examples for facts in read_run(one).facts.tasks.values()) for one in shards]

    assert sum(counts) == 3
    for one, count in zip(shards, counts, strict=True):
        assert len(list(read_trials(one))) == 5 * count
        assert read_run(one).complete
    assert len(merge_runs(shards, tmp_path / "merged").scores.rows) > 0


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards of a small run in their directories, with their caches."""
    place = tmp_path_factory.mktemp("small")
    ask_shards(place, SMALL, 3)
    return place


SMALL: Settings = {"tasks": ["sense"], "models": ["simulated/random"], "limit": 12}


@pytest.fixture
def shards(small: Path, tmp_path: Path) -> Iterator[list[Path]]:
    """A copy of them, to be spoilt."""
    copies = [tmp_path / f"shard{number}" for number in (1, 2, 3)]
    for copy in copies:
        shutil.copytree(small / copy.name, copy)
    yield copies
    assert not list(tmp_path.glob(".*.part"))


def refusal(shards: list[Path], out: Path) -> str:
    """The sentence with which a merge is refused; nothing is left where it would have been written."""
    with pytest.raises(InputError) as caught:
        merge_runs(shards, out)
    assert not out.exists()
    return str(caught.value)


def edit_run(directory: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change run.json."""
    document = json.loads((directory / "run.json").read_text("utf-8"))
    change(document)
    (directory / "run.json").write_text(json.dumps(document), encoding="utf-8")


def test_a_missing_shard_is_named(shards: list[Path], tmp_path: Path) -> None:
    """By its number; several together."""
    out = tmp_path / "merged"

    assert refusal(shards[:2], out) == "shard 3/3 is missing: give the run directories of all shards."
    assert refusal(shards[1:2], out) == "shards 1/3 and 3/3 are missing: give the run directories of all shards."


def test_a_shard_that_stands_twice_is_named(shards: list[Path], tmp_path: Path) -> None:
    """With both directories."""
    text = refusal([*shards, shards[1]], tmp_path / "merged")

    assert text == f"shard 2/3 stands twice, in {shards[1]} and {shards[1]}: give each shard once."


def test_shards_of_different_divisions_are_named(shards: list[Path], tmp_path: Path) -> None:
    """1/3 and 1/2 overlap."""
    ask(tmp_path / "half", tmp_path / "cache", SMALL, shard="1/2")
    text = refusal([*shards, tmp_path / "half"], tmp_path / "merged")

    assert text.startswith(f"shard 1/3 ({shards[0]}) and shard 1/2 ({tmp_path / 'half'}) are parts of different")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"seed": 1}, "it was asked with --seed 0, now 1"),
        ({"max_tokens": 9}, "--max-tokens 512, now 9"),
        ({"models": ["simulated/faithful"]}, "its model simulated/"),
        ({"limit": 13}, "its whole run has 13 examples of task sense, not 12 (--limit?)"),
        ({"tasks": ["nli"]}, "its prompts differ"),
        ({"interventions": {"per_example": 2}}, "the interventions of kind handwritten on task sense are others"),
        ({"arms": {"shots": [1]}}, "--shots (none), now 1"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_shard_of_another_run_is_named(
    shards: list[Path], tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    """With what differs."""
    other = tmp_path / "other"
    ask(other, tmp_path / "cache", SMALL | changes, shard="2/3")
    text = refusal([shards[0], other, shards[2]], tmp_path / "merged")

    assert text.startswith(f"shard 2/3 ({other}) is no part of the run that shard 1/3 ({shards[0]}) is a part of: ")
    assert reason in text


def test_shards_of_different_versions_are_refused(shards: list[Path], tmp_path: Path) -> None:
    """They may read answers differently."""
    edit_run(shards[2], lambda run: run.update(explaineval="0.0.1"))

    assert ": it was made by explaineval 0.0.1, not " in refusal(shards, tmp_path / "merged")


def test_a_whole_run_is_no_shard(shards: list[Path], tmp_path: Path) -> None:
    """Nor is a merged one."""
    merge_runs(shards, tmp_path / "first")
    text = refusal([tmp_path / "first", *shards], tmp_path / "merged")

    assert text.startswith(f"{tmp_path / 'first'} is no shard but a whole run")


def test_an_unfinished_shard_is_merged_only_where_it_is_said(shards: list[Path], tmp_path: Path) -> None:
    """It is named; merged all the same, the whole is unfinished too."""

    def stop(run: dict[str, Any]) -> None:
        run["complete"] = False
        run["requests"]["unsent"] = 4

    edit_run(shards[1], stop)
    text = refusal(shards, tmp_path / "merged")
    merged = merge_runs(shards, tmp_path / "merged", unfinished=True)

    assert text.startswith(f"shard 2/3 ({shards[1]}) is not finished: 4 requests were not sent.")
    assert not merged.record.complete
    assert [note.code for note in merged.notes] == ["run_unfinished"]
    assert not read_run(tmp_path / "merged").complete


def test_a_shard_that_was_cut_off_is_never_merged(shards: list[Path], tmp_path: Path) -> None:
    """It has no totals, and nothing is known of how it asked."""
    edit_run(shards[1], lambda run: [run.pop(name) for name in ("requests", "usd_spent")])
    with pytest.raises(InputError, match=r"shard 2/3 .* was cut off before it ended"):
        merge_runs(shards, tmp_path / "merged", unfinished=True)


def test_shards_that_asked_differently_are_named(shards: list[Path], tmp_path: Path) -> None:
    """One with log-probabilities and one without would make one number of two kinds of answers."""

    def lose_logprobs(run: dict[str, Any]) -> None:
        run["endpoints"][0]["capabilities"]["chat"] |= {"logprobs": None, "state": "rejected"}

    edit_run(shards[2], lose_logprobs)
    text = refusal(shards, tmp_path / "merged")

    assert text.startswith(f"shard 1/3 ({shards[0]}) and shard 3/3 ({shards[2]}) asked simulated/random in different")
    assert "(top 20 logprobs, returned, temperature 0; no logprobs, temperature 0)" in text


def spoil(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    """Change the lines of a file."""
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join(change(lines)), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("trials.jsonl", lambda lines: lines[:-1], "holds 34 of the 35 trials of the shard"),
        ("trials.jsonl", lambda lines: [*lines[:-1], lines[-1][:9]], "holds 34 of the 35 trials of the shard"),
        ("trials.jsonl", lambda lines: ["{}\n", *lines], "trials.jsonl:1: endpoint: it is missing"),
        ("trials.jsonl", lambda lines: [line.replace("pe", "ep", 1) for line in lines], "trials.jsonl"),
        ("examples.jsonl", lambda lines: lines[1:], "was changed"),
        ("examples.jsonl", lambda lines: [lines[0].replace("sense-", "other-"), *lines[1:]], "was changed"),
        ("examples.jsonl", lambda lines: [line.replace("a", "b") for line in lines], "examples.jsonl"),
        ("interventions.jsonl", lambda lines: lines[1:], "a file in a shard's directory was changed"),
        ("positions.jsonl", lambda lines: [*lines[:-1], "99\n"], "at other places than the 12 of the whole run"),
        ("positions.jsonl", lambda lines: ["x\n", *lines[1:]], "positions.jsonl:1: it is no whole number"),
        ("positions.jsonl", lambda lines: lines[:-1], "was changed"),
    ],
)
def test_a_changed_file_is_named(
    shards: list[Path], tmp_path: Path, name: str, change: Callable[[list[str]], list[str]], reason: str
) -> None:
    """A shard whose files do not fit together is refused."""
    spoil(max(shards, key=lambda one: (one / name).stat().st_size) / name, change)

    assert reason in refusal(shards, tmp_path / "merged")


@pytest.mark.parametrize("name", ["trials.jsonl", "examples.jsonl", "positions.jsonl", "shots.jsonl", "run.json"])
def test_a_missing_file_is_one_sentence(shards: list[Path], tmp_path: Path, name: str) -> None:
    """It names the file."""
    (shards[0] / name).unlink()

    assert name in refusal(shards, tmp_path / "merged")


def test_the_output_must_be_new_or_empty(shards: list[Path], tmp_path: Path) -> None:
    """Nothing is replaced; an empty directory is taken."""
    full, empty = tmp_path / "full", tmp_path / "empty"
    full.mkdir()
    empty.mkdir()
    (full / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="is there already and not empty"):
        merge_runs(shards, full)
    merge_runs(shards, empty)

    assert [path.name for path in full.iterdir()] == ["notes.txt"]
    assert (empty / "run.json").exists()


def test_an_output_that_cannot_be_written_is_one_sentence(shards: list[Path], tmp_path: Path) -> None:
    """It names what was asked for, not the draft beside it."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        merge_runs(shards, tmp_path / "file" / "merged")

    assert str(caught.value).startswith(f"{tmp_path / 'file' / 'merged'} cannot be read or written (")


def test_another_shard_does_not_continue_a_shards_directory(shards: list[Path], tmp_path: Path) -> None:
    """Nor does the whole run."""
    for changes in ({"shard": "2/3"}, {"shard": "1/2"}, {}):
        with pytest.raises(
            InputError,
            match=r"already holds another run: it was asked with --shard 1/3, now (\(none\)|./.); choose another",
        ):
            ask(shards[0], tmp_path / "cache", SMALL, **changes)


def test_the_merged_run_goes_on_from_the_shards_caches(shards: list[Path], small: Path, tmp_path: Path) -> None:
    """`run` of the whole continues its directory, from imported packs alone: nothing is sent, nothing changes."""
    from explaineval.cache import export_pack, import_pack, open_store

    merged = tmp_path / "merged"
    merge_runs(shards, merged)
    metrics = (merged / "metrics.json").read_bytes()
    with open_store(tmp_path / "cache") as store:
        for number in (1, 2, 3):
            with open_store(small / f"cache{number}", readonly=True) as source:
                export_pack(source, tmp_path / f"{number}.jsonl.gz")
            asyncio.run(import_pack(store, tmp_path / f"{number}.jsonl.gz"))
    result = ask(merged, tmp_path / "cache", SMALL)

    assert (result.exit_code, result.directory) == (0, merged)
    assert result.totals["requests"]["sent"] == 0
    assert result.totals["requests"]["hits"] == result.totals["requests"]["distinct"] > 0
    assert (merged / "metrics.json").read_bytes() == metrics


def test_dollars_and_requests_are_added_up(shards: list[Path], tmp_path: Path) -> None:
    """Those of the shards; unknown where one is."""
    for number, one in enumerate(shards, start=1):

        def pay(run: dict[str, Any], number: int = number) -> None:
            run["usd_spent"] = 0.25 * number
            run["requests"]["retries"] = number
            run["client"]["max_usd"] = 2.0

        edit_run(one, pay)
    counts = [read_run(one).totals for one in shards]
    merged = merge_runs(shards, tmp_path / "merged").record

    assert merged.totals is not None
    assert (merged.totals.usd_spent, merged.totals.requests.retries, merged.client.max_usd) == (1.5, 6, 6.0)
    assert merged.totals.requests.sent == sum(one.requests.sent for one in counts if one is not None)
    edit_run(shards[1], lambda run: run.update(usd_spent=None))
    unknown = merge_runs(shards, tmp_path / "again").record.totals
    assert unknown is not None
    assert (unknown.usd_spent, unknown.cost_unknown) == (None, "that of a shard is not known")


def test_verdicts_and_predictions_are_merged(shards: list[Path], tmp_path: Path) -> None:
    """Each judge's together, shard after shard; shards that lack them are told."""
    for one in shards:
        ids = [trial.id for trial in read_trials(one)]
        rows = [
            {"trial": name, "judge": judge, "grade": "absent"} for judge in ("openai/b", "openai/a") for name in ids
        ]
        (one / "verdicts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    fields = {"endpoint": None, "reads": "nothing", "label": "A", "status": None, "asked": "0" * 8, "key": "0" * 64}
    row = {"trial": next(read_trials(shards[0])).id, "predictor": "openai/p", **fields}
    (shards[0] / "predictions.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    merged = merge_runs(shards, tmp_path / "merged")
    verdicts = [json.loads(line) for line in (tmp_path / "merged" / "verdicts.jsonl").read_text("utf-8").splitlines()]

    assert [one["judge"] for one in verdicts] == ["openai/b"] * 60 + ["openai/a"] * 60
    assert {one["trial"] for one in verdicts} == {trial.id for trial in read_trials(tmp_path / "merged")}
    assert (tmp_path / "merged" / "predictions.jsonl").read_text("utf-8") == json.dumps(row) + "\n"
    assert [note.code for note in merged.notes] == ["judgements_partial"]
    assert f"shard 2/3 ({shards[1]}), shard 3/3 ({shards[2]}) have no predictions of openai/p" in merged.notes[0].text
    assert {row.judge for row in merged.scores.rows} >= {"openai/a", "openai/b"}


@pytest.mark.slow
def test_a_shard_can_be_rebuilt_from_its_directory(tmp_path: Path) -> None:
    """As `export` does, also where it lacks a kind of intervention that the whole run has."""
    for shard in ask_shards(tmp_path, cues_and_words(tmp_path), 7):
        run = read_run(shard)
        rebuilt = prepared_from(shard, ClientConfig.model_validate(run.client.model_dump()))

        assert rebuilt.science == run.science
        assert f"run:{rebuilt.name}" in run.signature


def test_the_python_api_returns_the_numbers(shards: list[Path], tmp_path: Path) -> None:
    """As `score` does for the merged run."""
    frame = explaineval.merge(*shards, out=tmp_path / "merged")

    assert frame.equals(explaineval.score(tmp_path / "merged"))
    with pytest.raises(InputError, match="no run directory given"):
        explaineval.merge(out=tmp_path / "none")
