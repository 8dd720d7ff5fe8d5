"""Merge the run directories of all shards of a run into that of the whole run: the same files, the same numbers.

Nothing is asked, and no cache is read. The lines of the shards' files are copied byte for byte: examples and
interventions in the order of the whole run, trials by model, task, arm, example and sample, whatever was completed
first.
"""

from __future__ import annotations

import os
import shutil
from array import array
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from explaineval.config import ClientConfig, RunConfig, Shard, arms_for
from explaineval.errors import InputError
from explaineval.files import copy_tree
from explaineval.planning import provenance
from explaineval.records import Condition, Verdict
from explaineval.rundir import directory as run_directory
from explaineval.rundir.ledger import read_ledger, write_sums
from explaineval.rundir.schema import (
    AnswerSource,
    ArmFacts,
    EndpointRecord,
    Facts,
    Prediction,
    RecordedCapabilities,
    RecordPart,
    RequestCounts,
    RunRecord,
    Science,
    Snapshot,
    TokenCounts,
    Totals,
    WholeRun,
)
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

    @property
    def arm(self) -> Condition:
        """The model, task and arm that the trial belongs to."""
        return Condition(self.endpoint, self.model, self.task, None, self.order, self.style, self.shots, self.verbosity)


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
    arms = [
        arm.condition(model, task)
        for model in config.models
        for task in shards[0].whole.tasks
        for arm in arms_for(config, model)
    ]
    numbers = {condition: number for number, condition in enumerate(arms)}  # in the order of the plan
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
        _index_trials(trials, file, one, places, numbers, total, config.samples)
    if len(examples) != total or any(key != number for number, key in enumerate(examples.sorted_keys())):
        raise InputError(
            f"the shards have {counted(len(examples), 'example')} at other places than the {total:,} of the whole "
            f"run, so {run_directory.POSITIONS} or {run_directory.EXAMPLES} of a shard was changed: run that shard "
            "again (answers in its cache cost nothing)."
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


def _index_trials(
    index: LineIndex,
    file: int,
    one: ShardRun,
    places: Mapping[tuple[str, str], int],
    arms: Mapping[Condition, int],
    total: int,
    samples: int,
) -> None:
    """Index the trials of one shard. Those of one example, arm and sample stand in their own order already."""
    path = one.directory / run_directory.TRIALS
    count = len(index)
    for trial, start, length in run_directory.located_records(path, _TrialPlace):
        arm = arms.get(trial.arm)
        if arm is None or not 0 <= trial.sample < samples:
            raise InputError(f"{path} was changed: a trial of {trial.model} on {trial.task} is not one of the run.")
        position = _place(places, path, trial.task, trial.example_id)
        index.add(file, (arm * total + position) * samples + trial.sample, start, length)
    count = len(index) - count
    if count != one.record.trials:
        raise InputError(
            f"{path} holds {count:,} of the {counted(one.record.trials or 0, 'trial')} of the shard: give its run "
            "command again, which writes it anew."
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


NAMED = 10
"""Missing shards that are named one by one."""


@dataclass(frozen=True)
class ShardRun:
    """The run of one shard: its directory, its run.json, and what stands there of the shard."""

    directory: Path
    record: RunRecord
    shard: Shard
    whole: WholeRun
    totals: Totals

    def __str__(self) -> str:
        return f"shard {self.shard} ({self.directory})"

    @property
    def n_examples(self) -> int:
        """How many examples the shard has; an empty one asked nothing."""
        return sum(facts.n_examples for facts in self.record.facts.tasks.values())


def read_shards(directories: Sequence[Path], *, unfinished: bool = False) -> list[ShardRun]:
    """Read the shards of one run, in the order of their numbers.

    Raises InputError, which names the shards, where one is missing, stands twice, is of another run or was asked in
    another way than the others, was cut off, or (unless `unfinished`) did not come to its end.
    """
    found = [_read(directory) for directory in directories]
    first = found[0]
    for other in found[1:]:
        if other.shard.count != first.shard.count:
            raise InputError(f"{first} and {other} are parts of different divisions: give all shards of one run.")
    by_number: dict[int, ShardRun] = {}
    for one in found:
        twin = by_number.setdefault(one.shard.number, one)
        if twin is not one:
            raise InputError(
                f"shard {one.shard} stands twice, in {twin.directory} and {one.directory}: give each shard once."
            )
    for other in found[1:]:
        reason = _difference(first, other)
        if reason is not None:
            raise InputError(f"{other} is no part of the run that {first} is a part of: {reason}.")
    missing = [number for number in range(1, first.shard.count + 1) if number not in by_number]
    if missing:
        raise InputError(f"{_list_missing(missing, first.shard.count)}: give the run directories of all shards.")
    shards = [by_number[number] for number in sorted(by_number)]
    for one in shards:
        if not one.record.complete and not unfinished:
            raise InputError(
                f"{one} is not finished: {_why_unfinished(one)}. Give its run command again, or merge what is there "
                "with --unfinished."
            )
    _check_capabilities(shards)
    return shards


def _read(directory: Path) -> ShardRun:
    """Read run.json of one shard."""
    record = run_directory.read_run(directory)
    shard, whole, totals = record.config.shard, record.whole, record.totals
    if shard is None or whole is None:
        raise InputError(f"{directory} is no shard but a whole run: shards are made by `explaineval run --shard I/N`.")
    if totals is None:
        raise InputError(
            f"shard {shard} ({directory}) was cut off before it ended, or is still being asked: give its run command "
            "again, or wait for its end."
        )
    return ShardRun(directory, record, shard, whole, totals)


def _list_missing(missing: Sequence[int], count: int) -> str:
    names = [f"{number}/{count}" for number in missing[:NAMED]]
    if len(missing) > NAMED:
        names.append(f"{len(missing) - NAMED:,} more")
    if len(names) == 1:
        return f"shard {names[0]} is missing"
    return f"shards {', '.join(names[:-1])} and {names[-1]} are missing"


def _difference(first: ShardRun, other: ShardRun) -> str | None:
    """Say in which way two shards are not of one run; None where they are."""
    versions = first.record.explaineval, other.record.explaineval
    if versions[0] != versions[1]:
        return f"it was made by explaineval {versions[1]}, not {versions[0]}"
    if first.whole == other.whole and whole_science(first.record) == whole_science(other.record):
        return None
    before, now = whole_science(first.record), whole_science(other.record)
    reason = run_directory.difference(before, now) or run_directory.difference(now, before)
    return reason or next(_task_differences(first.whole, other.whole), "the hashes of the whole run differ")


def _task_differences(first: WholeRun, other: WholeRun) -> Iterator[str]:
    """Yield what differs between the tasks of two whole runs."""
    if list(first.tasks) != list(other.tasks):
        yield f"its tasks are {', '.join(other.tasks)}, not {', '.join(first.tasks)}"
        return
    for name, before in first.tasks.items():
        now = other.tasks[name]
        if before.n_examples != now.n_examples:
            yield (
                f"its whole run has {counted(now.n_examples, 'example')} of task {name}, not "
                f"{before.n_examples:,} (--limit?)"
            )
        elif before.examples != now.examples:
            yield f"the examples of task {name} are others, so its file is another"
        elif before.kinds != now.kinds:
            kinds = sorted(
                kind for kind in {*before.kinds, *now.kinds} if before.kinds.get(kind) != now.kinds.get(kind)
            )
            yield (
                f"the interventions of kind {', '.join(kinds)} on task {name} are others (another file, or another "
                "tagger: build them once with `explaineval interventions build` and give all shards that file)"
            )
        elif before != now:
            yield f"the shots of task {name} are others"


def _why_unfinished(one: ShardRun) -> str:
    """Say what keeps a shard from being finished."""
    faults = [entry.fault for entry in one.record.endpoints if entry.fault is not None]
    unsent = one.totals.requests.unsent
    if faults:
        return faults[0].rstrip(".")
    return (
        f"{counted(unsent, 'request', 'were')} not sent"
        if unsent
        else "it was interrupted, or requests failed after all retries"
    )


def _check_capabilities(shards: Sequence[ShardRun]) -> None:
    """Raise InputError where two shards asked a model in different ways."""
    seen: dict[tuple[str | None, str, str], tuple[ShardRun, RecordedCapabilities]] = {}
    for one in shards:
        if not one.n_examples:
            continue
        for entry in one.record.endpoints:
            for style, sent in entry.capabilities.items():
                first, before = seen.setdefault((entry.endpoint, entry.model, style), (one, sent))
                if before != sent:
                    raise InputError(
                        f"{first} and {one} asked {entry.model} in different ways in {style} style "
                        f"({_describe(before)}; {_describe(sent)}): run `explaineval probe` once, bring its verdict to "
                        "the cache of each shard by `explaineval cache export` and `import`, and run the shards again."
                    )


def _describe(sent: RecordedCapabilities) -> str:
    logprobs = "no logprobs" if sent.logprobs is None else f"top {sent.logprobs} logprobs, {sent.state}"
    return f"{logprobs}, {'no temperature' if sent.temperature is None else f'temperature {sent.temperature:g}'}"


def whole_science(record: RunRecord) -> Science:
    """Return the science of the whole run that a shard is a part of."""
    fixed = {name: value for name, value in record.science.fixed.items() if name != "shard"}
    return record.science.model_copy(update={"fixed": fixed})


T = TypeVar("T")
Counts = TypeVar("Counts", TokenCounts, RequestCounts)
AnswerPart = TypeVar("AnswerPart", Snapshot, AnswerSource)

Instructions = dict[str, set[str]]
"""The instructions of a run's examples by task."""


def merge_records(shards: Sequence[ShardRun], config: RunConfig, instructions: Instructions, trials: int) -> RunRecord:
    """Return run.json of the whole run, as far as it can be known from those of its shards.

    Args:
        shards: all shards of the run, in the order of their numbers.
        config: the configuration of the whole run.
        instructions: those of all its examples by task.
        trials: the number of its trials.
    """
    first = shards[0]
    whole = first.whole
    return RunRecord(
        explaineval=first.record.explaineval,
        signature=provenance.run_signature(config, whole.name),
        created=min(one.record.created for one in shards),
        python=_joined(one.record.python for one in shards),
        packages={name: _joined(one.record.packages.get(name, "") for one in shards) for name in first.record.packages},
        config=config,
        client=_merge_clients([one.record.client for one in shards]),
        science=whole_science(first.record),
        facts=Facts(
            tasks=whole.tasks,
            no_level_shots=first.record.facts.no_level_shots,
            arms=dict(_merge_arms(shards, config, instructions)),
        ),
        prices=_joined(one.record.prices for one in shards),
        complete=all(one.record.complete for one in shards),
        trials=trials,
        endpoints=tuple(_merge_endpoints(shards)),
        totals=_add_totals([one.totals for one in shards]),
    )


def _merge_arms(
    shards: Sequence[ShardRun], config: RunConfig, instructions: Mapping[str, set[str]]
) -> Iterator[tuple[str, ArmFacts]]:
    """Yield the facts of the arms by name; the hash of prompts covers the instructions of all examples."""
    asking = [one for one in shards if one.n_examples]
    for task in shards[0].whole.tasks:
        for model in config.models:
            for arm in arms_for(config, model):
                name = arm.condition(model, task).arm_name
                found = next((facts for one in asking if (facts := one.record.facts.arms.get(name)) is not None), None)
                if found is not None:
                    plain = found.prompts.partition("+")[0]
                    prompts = provenance.with_instructions(plain, instructions.get(task, ()))
                    yield name, found.model_copy(update={"prompts": prompts})


def _merge_clients(clients: Sequence[ClientConfig]) -> ClientConfig:
    """Return the first shard's client; the spending limit, which holds for each shard, is that of all together."""
    limits = [client.max_usd for client in clients]
    total = sum(limit for limit in limits if limit is not None)
    return clients[0].model_copy(update={"max_usd": None if None in limits else total})


def _merge_endpoints(shards: Sequence[ShardRun]) -> Iterator[EndpointRecord]:
    """Yield for each model what happened at its endpoint in all shards."""
    for model in shards[0].record.config.models:
        entries = [
            (one, entry)
            for one in shards
            for entry in one.record.endpoints
            if (entry.endpoint, entry.model) == (model.endpoint, model.model)
        ]
        asking = [entry for one, entry in entries if one.n_examples]
        yield EndpointRecord(
            endpoint=model.endpoint,
            model=model.model,
            probe=next((entry.probe for entry in asking if entry.probe is not None), None),
            capabilities={style: sent for entry in reversed(asking) for style, sent in entry.capabilities.items()},
            fault=next((entry.fault for entry in asking if entry.fault is not None), None),
            tokens=_add_counts(TokenCounts, (entry.tokens for entry in asking)),
            price=_common(entry.price for entry in asking),
            requests=_add_counts(RequestCounts, (entry.requests for entry in asking)),
            threads=_common(entry.threads for entry in asking if entry.threads is not None),
            snapshots=_add_answers(part for entry in asking for part in entry.snapshots),
            address=_common(entry.address for entry in asking),
            sources=_add_answers(part for entry in asking for part in entry.sources),
        )


def _common(values: Iterable[T]) -> T | None:
    """Return the value that all are, None where they differ or there are none."""
    known = list(values)
    return known[0] if known and all(value == known[0] for value in known) else None


def _joined(values: Iterable[str]) -> str:
    """Return the different values, separated by commas."""
    return ", ".join(dict.fromkeys(values))


def _add_counts(kind: type[Counts], counts: Iterable[Counts | None]) -> Counts:
    """Add up what shards counted, field by field; some may have counted nothing."""
    known = [count for count in counts if count is not None]
    return kind(**{name: sum(getattr(count, name) for count in known) for name in kind.model_fields})


def _add_answers(parts: Iterable[AnswerPart]) -> tuple[AnswerPart, ...]:
    """Add up the answers of each source, or of each version of a model, the most frequent first."""
    answers: Counter[AnswerPart] = Counter()
    for part in parts:
        answers[part.model_copy(update={"answers": 0})] += part.answers
    return tuple(part.model_copy(update={"answers": count}) for part, count in answers.most_common())


def _add_totals(totals: Sequence[Totals]) -> Totals:
    """Add up dollars and requests; dollars are None where those of one shard are unknown."""

    def add(name: str) -> float | None:
        values = [getattr(one, name) for one in totals]
        return None if None in values else sum(values)

    dollars = {name: add(name) for name in Totals.model_fields if name.startswith("usd_")}
    unknown = None if dollars["usd_spent"] is not None else "that of a shard is not known"
    return Totals(
        **dollars, requests=_add_counts(RequestCounts, (one.requests for one in totals)), cost_unknown=unknown
    )


MOST_OPEN = 200
"""Files that are open at once: there may be more shards than a process may open files."""


class LineIndex:
    """Where each line of some files stands, and its key: an integer by which the lines are ordered."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._keys = array("q")
        self._files = array("i")
        self._starts = array("q")
        self._lengths = array("i")
        self._open: OrderedDict[int, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, file: int, key: int, start: int, length: int) -> None:
        """Add the line of `length` bytes at byte `start` of the file with this index."""
        self._keys.append(key)
        self._files.append(file)
        self._starts.append(start)
        self._lengths.append(length)

    def sorted_keys(self) -> npt.NDArray[np.int64]:
        """Return all keys in ascending order."""
        return np.sort(np.array(self._keys, dtype=np.int64))

    def lines(self) -> Iterator[bytes]:
        """Yield the lines in the order of their keys; lines with one key stay in the order in which they were added.

        Raises OSError where a file cannot be read, or became shorter meanwhile.
        """
        order = np.argsort(np.array(self._keys, dtype=np.int64), kind="stable")
        try:
            for number in order:
                file, length = self._files[number], self._lengths[number]
                line = os.pread(self._descriptor(file), length, self._starts[number])
                if len(line) != length:
                    raise OSError(None, "it was changed while it was read", str(self._paths[file]))
                yield line
        finally:
            for descriptor in self._open.values():
                os.close(descriptor)
            self._open.clear()

    def _descriptor(self, file: int) -> int:
        """Return a file's descriptor; of those that were not used for the longest time one is closed for it."""
        if file in self._open:
            self._open.move_to_end(file)
        else:
            if len(self._open) >= MOST_OPEN:
                os.close(self._open.popitem(last=False)[1])
            self._open[file] = os.open(self._paths[file], os.O_RDONLY | os.O_CLOEXEC)
        return self._open[file]
