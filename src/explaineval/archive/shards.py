"""Read the run directories of shards, and check that they are all the shards of one run. Nothing is written here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from explaineval.config import Shard
from explaineval.errors import InputError
from explaineval.rundir import directory as run_directory
from explaineval.rundir.schema import RecordedCapabilities, RunRecord, Science, Totals, WholeRun
from explaineval.text import counted

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
