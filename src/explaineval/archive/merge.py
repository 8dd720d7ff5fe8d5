"""Merge the run directories of all shards of a run into that of the whole run: the same files, the same numbers.

Nothing is asked, and no cache is read. The lines of the shards' files are copied byte for byte: examples and
interventions in the order of the whole run, trials by model, task, arm, example and sample, whatever was completed
first.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from explaineval.archive.line_index import LineIndex
from explaineval.archive.merged_record import Instructions, merge_records
from explaineval.archive.shards import ShardRun, read_shards, whole_science
from explaineval.config import RunConfig, arms_for
from explaineval.errors import InputError
from explaineval.files import copy_tree
from explaineval.records import Verdict
from explaineval.rundir import directory as run_directory
from explaineval.rundir.ledger import read_ledger, write_sums
from explaineval.rundir.schema import Prediction, RecordPart, RunRecord
from explaineval.scoring.codes import Note, note
from explaineval.scoring.rows import Scores, score
from explaineval.text import agreeing, counted


@dataclass(frozen=True)
class Merged:
    """A merged run: its run.json, its numbers, and notes on what its shards lack."""

    record: RunRecord
    scores: Scores
    notes: tuple[Note, ...]


class _ExamplePlace(RecordPart):
    """What merging needs of a line of examples.jsonl."""

    task: str
    id: str
    instruction: str | None = None


class _InterventionPlace(RecordPart):
    """What merging needs of a line of interventions.jsonl."""

    task: str
    example_id: str


class _TrialPlace(RecordPart):
    """What merging needs of a line of trials.jsonl."""

    endpoint: str | None
    model: str
    task: str
    order: str
    style: str
    shots: int
    verbosity: str
    sample: int
    example_id: str


def merge_runs(directories: Sequence[Path], out: Path, *, unfinished: bool = False) -> Merged:
    """Write the run directory of the whole run of which `directories` are all the shards.

    `unfinished` allows shards that did not come to their end; the whole then did not either. Raises InputError where
    the shards do not belong together (`read_shards`), a file of theirs was changed, or `out` cannot be written or is
    not empty.
    """
    _check_empty(out)
    shards = read_shards(directories, unfinished=unfinished)
    draft = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        draft.mkdir(parents=True)
        merged = _write(shards, draft)
        if out.exists():
            out.rmdir()
        draft.rename(out)
    except InputError as exc:
        raise InputError(str(exc).replace(str(draft), str(out))) from exc
    except OSError as exc:
        name = str(exc.filename or out).replace(str(draft), str(out))
        raise InputError(
            f"{name} cannot be read or written ({exc.strerror or exc}): check its permissions and the room there, "
            "or name another --out; the shards stay as they are."
        ) from exc
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return merged


def _check_empty(out: Path) -> None:
    """Raise InputError unless the directory is new or empty, and not named as a file is."""
    run_directory.check_is_no_file_name(out)
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(f"--out {out} is there already and not empty: name a new directory.")
    except OSError as exc:
        raise InputError(f"--out {out} cannot be read: {exc.strerror or exc}.") from None


def _write(shards: Sequence[ShardRun], out: Path) -> Merged:
    first = shards[0]
    config = first.record.config.model_copy(update={"shard": None})
    _copy_shots_and_prompts(first, out)
    instructions, trials = _merge_lines(shards, config, out)
    inputs = run_directory.stream_examples(out), run_directory.stream_interventions(out)
    if run_directory.science_hash(whole_science(first.record), *inputs) != first.whole.name:
        raise InputError(
            "the examples or interventions of the shards are not those of the whole run that their run.json name, so "
            "a file in a shard's directory was changed: run that shard again (answers in its cache cost nothing)."
        )
    record = merge_records(shards, config, instructions, trials)
    ledger = write_sums(out, [read_ledger(one.directory) for one in shards])
    run_directory.write_run(out, record.model_copy(update={"spending": ledger.spending()}))
    notes = [*_unfinished_notes(shards), *_merge_judgements(shards, out)]
    scores = score(out)
    run_directory.write_metrics(out, scores.rows)
    return Merged(record, scores, tuple(notes))


def _copy_shots_and_prompts(first: ShardRun, out: Path) -> None:
    """Copy what is the same in every shard."""
    levels = {level for facts in first.whole.tasks.values() for level in facts.level_shots}
    for name in (run_directory.SHOTS, *map(run_directory.shots_file, sorted(levels))):
        shutil.copyfile(first.directory / name, out / name)
    copy_tree(first.directory / run_directory.PROMPTS, out / run_directory.PROMPTS)


def _merge_lines(shards: Sequence[ShardRun], config: RunConfig, out: Path) -> tuple[Instructions, int]:
    """Merge examples, interventions and trials; return the examples' instructions and the number of trials."""
    total = sum(facts.n_examples for facts in shards[0].whole.tasks.values())
    conditions = _number_conditions(shards[0], config)
    instructions: Instructions = {}
    examples, interventions, trials = (
        LineIndex([one.directory / name for one in shards])
        for name in (run_directory.EXAMPLES, run_directory.INTERVENTIONS, run_directory.TRIALS)
    )
    for file, one in enumerate(shards):
        places = _index_examples(examples, file, one, instructions)
        path = one.directory / run_directory.INTERVENTIONS
        for edit, start, length in run_directory.located_records(path, _InterventionPlace):
            interventions.add(file, _place(places, path, edit.task, edit.example_id), start, length)
        _index_trials(trials, file, one, places, conditions, total, config.samples)
    if len(examples) != total or any(key != number for number, key in enumerate(examples.sorted_keys())):
        raise InputError(
            f"the shards have {counted(len(examples), 'example')} at other places than the {total:,} of the "
            "whole run, so "
            f"{run_directory.POSITIONS} or {run_directory.EXAMPLES} of a shard was changed: run that shard again "
            "(answers in its cache cost nothing)."
        )
    for index, name in (
        (examples, run_directory.EXAMPLES),
        (interventions, run_directory.INTERVENTIONS),
        (trials, run_directory.TRIALS),
    ):
        _write_lines(out / name, index.lines())
    return instructions, len(trials)


def _write_lines(path: Path, lines: Iterable[bytes]) -> None:
    with path.open("wb") as handle:
        handle.writelines(lines)


def _index_examples(
    index: LineIndex, file: int, one: ShardRun, instructions: Instructions
) -> dict[tuple[str, str], int]:
    """Index the examples of one shard; return the place of each in the whole run by its task and id."""
    path = one.directory / run_directory.EXAMPLES
    places: dict[tuple[str, str], int] = {}
    positions = run_directory.read_positions(one.directory)
    for example, start, length in run_directory.located_records(path, _ExamplePlace):
        position = next(positions, None)
        if position is None or not one.shard.holds(example.id):
            raise InputError(
                f"{path} was changed: example {example.id!r} is no example of {one}. Run the shard again (answers in "
                "its cache cost nothing)."
            )
        places[example.task, example.id] = position
        index.add(file, position, start, length)
        if example.instruction:
            instructions.setdefault(example.task, set()).add(example.instruction)
    return places


def _place(places: Mapping[tuple[str, str], int], path: Path, task: str, example_id: str) -> int:
    position = places.get((task, example_id))
    if position is None:
        raise InputError(
            f"{path} was changed: example {example_id!r} of task {task!r} is not among those of the shard. Run the "
            "shard again (answers in its cache cost nothing)."
        )
    return position


Arms = Mapping[tuple[str | None, str, str, str, str, int, str], int]
"""The number of each model, task and arm in the order of the plan."""


def _number_conditions(first: ShardRun, config: RunConfig) -> Arms:
    conditions = [
        (model.endpoint, model.model, task, arm.order, arm.style, arm.shots, arm.verbosity)
        for model in config.models
        for task in first.whole.tasks
        for arm in arms_for(config, model)
    ]
    return {condition: number for number, condition in enumerate(conditions)}


def _index_trials(
    index: LineIndex,
    file: int,
    one: ShardRun,
    places: Mapping[tuple[str, str], int],
    conditions: Arms,
    total: int,
    samples: int,
) -> None:
    """Index the trials of one shard. Those of one example, arm and sample stand in their own order already."""
    path = one.directory / run_directory.TRIALS
    count = len(index)
    for trial, start, length in run_directory.located_records(path, _TrialPlace):
        arm = conditions.get(
            (trial.endpoint, trial.model, trial.task, trial.order, trial.style, trial.shots, trial.verbosity)
        )
        if arm is None or not 0 <= trial.sample < samples:
            raise InputError(f"{path} was changed: a trial of {trial.model} on {trial.task} is not one of the run.")
        position = _place(places, path, trial.task, trial.example_id)
        index.add(file, (arm * total + position) * samples + trial.sample, start, length)
    count = len(index) - count
    if count != one.record.trials:
        raise InputError(
            f"{path} holds {count:,} of the {counted(one.record.trials or 0, 'trial')} of the shard: give its "
            "run command "
            "again, which writes it anew."
        )


def _unfinished_notes(shards: Sequence[ShardRun]) -> Iterator[Note]:
    for one in shards:
        if not one.record.complete:
            yield note("run_unfinished", "shard", shard=one)


def _merge_judgements(shards: Sequence[ShardRun], out: Path) -> Iterator[Note]:
    """Merge verdicts and predictions where shards have some, each judge's together; note which shards lack them."""
    kinds: tuple[tuple[str, type[Verdict | Prediction], str], ...] = (
        (run_directory.VERDICTS, Verdict, "verdicts of the judge"),
        (run_directory.PREDICTIONS, Prediction, "predictions of"),
    )
    for name, kind, what in kinds:
        index = LineIndex([one.directory / name for one in shards])
        numbers: dict[tuple[str, ...], int] = {}
        having: dict[tuple[str, ...], list[ShardRun]] = {}
        for file, one in enumerate(shards):
            path = one.directory / name
            if not path.exists():
                continue
            for record, start, length in run_directory.located_records(path, kind):
                author = _author(record)
                index.add(file, numbers.setdefault(author, len(numbers)), start, length)
                holders = having.setdefault(author, [])
                if not holders or holders[-1] is not one:
                    holders.append(one)
        if numbers:
            _write_lines(out / name, index.lines())
        for author, holders in having.items():
            lacking = [one for one in shards if one not in holders and one.record.trials]
            if lacking:
                yield note(
                    "judgements_partial",
                    shards=", ".join(map(str, lacking)),
                    have=agreeing(len(lacking), "have"),
                    what=what,
                    author=" ".join(author),
                )


def _author(record: Verdict | Prediction) -> tuple[str, ...]:
    """Return who made a verdict (and of which channel) or a prediction."""
    if isinstance(record, Verdict):
        return record.judge, f"({record.channel})"
    return (record.predictor, *([f"at {record.endpoint}"] if record.endpoint else []))
