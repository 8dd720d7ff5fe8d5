"""Read, write, lock and continue a run directory: what a run was, what it asked, what came back, and its metrics.

Every file is replaced as a whole, so that a crash never leaves half of one; only trials.jsonl grows line by line, and
its readers ignore a torn last line. What is read is parsed into a type at once; a file that does not fit is an
InputError that names the file and the field.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import hashlib
import io
import json
import os
import re
import shlex
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date
from itertools import chain, islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import BaseModel, JsonValue, TypeAdapter, ValidationError

from explaineval.config import RunConfig
from explaineval.errors import InputError, InUseError
from explaineval.files import copy_tree, open_regular, open_text_atomic, read_lines, why_unwritable
from explaineval.plugins import RECORDED
from explaineval.records import Example, Intervention, MetricRow, Trial, Verdict
from explaineval.rundir.schema import Prediction, RunProgress, RunRecord, Science
from explaineval.secrets import SECRETS
from explaineval.spill import Digests, json_lines
from explaineval.text import counted, harmless

T = TypeVar("T")
R = TypeVar("R", bound=BaseModel)

RUN, EXAMPLES, INTERVENTIONS, SHOTS = "run.json", "examples.jsonl", "interventions.jsonl", "shots.jsonl"
TRIALS, METRICS, METRICS_CSV, PROMPTS = "trials.jsonl", "metrics.json", "metrics.csv", "prompts"
VERDICTS = "verdicts.jsonl"
"""What judges say of the trials' explanations; absent where none was asked."""
PREDICTIONS = "predictions.jsonl"
"""What predictors said of the trials (`explaineval simulate`)."""
POSITIONS = "positions.jsonl"
"""Of a shard, the place of each line of examples.jsonl in the whole run, counted from 0."""
LEDGER = "ledger.jsonl"
"""What was spent in the directory (`rundir.ledger`)."""
PROGRESS = "progress.json"
"""How far a run is. It is rewritten while the run goes on; bundles, numbers and hashes leave it out."""

RUNS = Path("runs")
"""Where runs are written by default."""
MOST_RUNS = 1000
"""Run directories that are looked through for the addresses of endpoints."""
OWN_FILES = frozenset(
    {
        RUN,
        EXAMPLES,
        INTERVENTIONS,
        SHOTS,
        TRIALS,
        METRICS,
        METRICS_CSV,
        VERDICTS,
        PREDICTIONS,
        POSITIONS,
        PROGRESS,
        LEDGER,
    }
)
"""The files that make up a run."""

LARGEST_JSON = 64 << 20
"""Bytes of the largest run.json or metrics.json that is read."""


def science_hash(science: Science, examples: Iterable[Example], interventions: Iterable[Intervention]) -> str:
    """Hash the scientific configuration with all contents, and no paths, to ten hexadecimal digits."""
    document = science.model_dump(mode="json")
    total = hashlib.sha256(json.dumps(document, sort_keys=True, ensure_ascii=False).encode())
    for line in chain(json_lines(examples), json_lines(interventions)):
        total.update(line)
    return total.hexdigest()[:10]


def check_output(target: Path, *sources: Path) -> None:
    """Raise InputError where writing `target` would replace a file of a run, or a source that it is made from."""
    actual = target.resolve()
    for directory in actual.parents:
        inside = actual.relative_to(directory).parts
        if (inside[0] == PROMPTS or (len(inside) == 1 and inside[0] in OWN_FILES)) and (directory / RUN).is_file():
            raise InputError(
                f"--out {target} is a file of the run in {directory}, which it would replace: name another."
            )
    if any(actual == source.resolve() for source in sources if source.is_file()):
        raise InputError(f"--out {target} is what is read, which it would replace: name another file.")


OFFICE_ENDINGS = frozenset({".doc", ".docx", ".odt", ".ods", ".pdf", ".png", ".pptx", ".xls", ".xlsx"})
"""Endings of files that nothing here writes; figures are written into a directory."""
ENDINGS = OFFICE_ENDINGS | {
    ".csv", ".gz", ".htm", ".html", ".json", ".jsonl", ".md", ".parquet", ".svg", ".tex", ".tsv", ".txt", ".yaml",
    ".yml", ".zip",
}  # fmt: skip
"""Endings of file names that promise a format."""


def check_ending(target: Path, what: str, *endings: str, chosen: bool = False) -> None:
    """Raise InputError where a file that will hold `what` has the ending of another format than `endings`.

    `chosen` says that the user named the format: then only endings that no format here has are refused.
    """
    ending = target.suffix.lower()
    if ending in (OFFICE_ENDINGS if chosen else ENDINGS) and ending not in endings:
        raise InputError(
            f"--out {target}: this writes {what}, which is no {ending} file: end the name in {endings[0]}."
        )


def check_is_no_file_name(directory: Path, option: str = "--out") -> None:
    """Raise InputError where a new directory would have the name of a file, which the user expects instead."""
    ending = directory.suffix.lower()
    if ending in ENDINGS and not directory.is_dir():
        raise InputError(f"{option} {directory} names a file, but a directory is written: leave {ending} out.")


def default_directory(base: Path, today: date, name: str) -> Path:
    """Return the directory below `base` that holds a run of this science hash, else a new `<date>-<hash>`."""
    for directory in sorted(base.glob(f"*-{name}")):
        if (directory / RUN).is_file():
            return directory
    return base / f"{today.isoformat()}-{name}"


def run_directories(base: Path) -> Iterator[Path]:
    """Yield the run directories below a directory, shards in a folder of their own included, the newest names first."""
    found = (path.parent for pattern in (f"*/{RUN}", f"*/*/{RUN}") for path in base.glob(pattern))
    yield from islice(sorted(found, reverse=True), MOST_RUNS)


def endpoint_addresses(base: Path, out: Path | None = None) -> dict[str, set[str]]:
    """Return for the names of endpoints the base URLs that they stood for in earlier runs.

    These are the runs below `base`, the one in the directory `out`, and those beside it.
    """
    beside = (
        () if out is None else islice(sorted(path.parent for path in out.absolute().parent.glob(f"*/{RUN}")), MOST_RUNS)
    )
    addresses: dict[str, set[str]] = {}
    for directory in chain(run_directories(base), beside):
        try:
            endpoints = read_run(directory).client.endpoints
        except InputError:
            continue  # of another program, or cut off
        for name, entry in endpoints.items():
            if entry.base_url is not None:
                addresses.setdefault(name, set()).add(entry.base_url)
    return addresses


def prepare(
    directory: Path,
    science: Science,
    examples: Iterable[Example],
    interventions: Iterable[Intervention],
) -> str:
    """Make the directory, or check that the run in it is this one or a part of it.

    Returns "new", "continued" (the same run) or "grown" (a part). Raises InputError where it holds another run, or
    cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / f".write-test-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as exc:
        cause = why_unwritable(directory) or exc.strerror or str(exc)
        raise InputError(f"the output directory {directory} cannot be written: {cause}.") from None
    if not (directory / RUN).exists():
        if any(directory.iterdir()):
            raise InputError(f"{directory} holds files that are no run: choose an empty or new directory with --out.")
        return "new"
    old = read_run(directory).science
    reason = difference(old, science)
    for name, records in ((EXAMPLES, examples), (INTERVENTIONS, interventions)):
        new_lines = Digests(json_lines(records))
        gone = new_lines.count_missing(Digests(line.rstrip(b"\n") for line in _lines(directory / name)))
        if gone and reason is None:
            noun = name.removesuffix("s.jsonl")
            reason = f"{gone:,} of its {noun}s {'is' if gone == 1 else 'are'} not in this run"
    if reason is not None:
        remedy = "choose another --out"
        changed = [name for name in SCORED if old.fixed.get(name) != science.fixed.get(name)]
        if changed and difference(old, _with(science, old, SCORED)) is None:
            again = " ".join(f"--{name.replace('_', '-')} {science.fixed[name]}" for name in changed)
            place = shlex.quote(str(directory))
            remedy += f", or compute it from the answers that are there: explaineval score {place} {again}"
        raise InputError(f"{directory} already holds another run: {reason}; {remedy}.")
    return "continued" if old == science else "grown"


def difference(old: Science, new: Science) -> str | None:
    """Say in a few words why `new` is neither `old` nor an addition to it; None where it is."""
    defaults = RunConfig.model_construct(tasks=(), models=()).model_dump(mode="json")
    known = dict.fromkeys((*new.fixed, *(name for name in old.fixed if name in defaults)))
    for name in known:
        # earlier versions did what is now a new field's default, and some fields are left out where they have it
        before, now = (science.fixed.get(name, defaults.get(name)) for science in (old, new))
        if before != now and name.startswith(RECORDED):
            if before is None:
                continue  # tasks and kinds may be added
            return f"it was made with the {name} of {before}, now {now}"
        if before != now:
            option = {"params": "--param"}.get(name, f"--{name.replace('_', '-')}")
            return f"it was asked with {option} {_setting(before)}, now {_setting(now)}"
    for name, values in old.growing:
        now = getattr(new.growing, name)
        if isinstance(values, dict):
            if not values.items() <= now.items():
                return f"its {name} differ"
            continue
        gone = [value for value in values if value not in now]
        if gone:
            return f"its {_growing(name, gone)} not asked now, and may not be left out"
    return None


SCORED = ("mention", "min_label_mass", "resamples")
"""Settings by which `score` can compute another run's numbers from the same answers."""


def _growing(name: str, values: Sequence[Any]) -> str:
    """Name parts of a run that may only be added to: models, samples or levels of verbosity."""
    if name == "models":
        texts = [f"{model} at {endpoint}" if endpoint else model for endpoint, model, *_ in values]
    else:
        texts = [str(value) for value in values]
    noun = {"models": "model", "samples": "sample", "verbosity": "verbosity level"}.get(name, name)
    return f"{noun} {texts[0]} is" if len(texts) == 1 else f"{noun}s {', '.join(texts)} are"


def _with(science: Science, other: Science, names: Collection[str]) -> Science:
    """Return a scientific configuration with some settings of another one."""
    taken = {name: other.fixed[name] for name in names if name in other.fixed}
    return science.model_copy(update={"fixed": science.fixed | taken})


def _setting(value: JsonValue) -> str:
    """Return a setting as an option takes it.

    >>> _setting(None), _setting(["pe", "ep"]), _setting(0.9)
    ('(none)', 'pe,ep', '0.9')
    """
    if value in (None, [], {}):
        return "(none)"
    if isinstance(value, list):
        return ",".join(map(_setting, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def write_inputs(
    directory: Path,
    examples: Iterable[Example],
    interventions: Iterable[Intervention],
    prompts: Path,
    shots: Sequence[Example] = (),
    level_shots: Mapping[str, Sequence[Example]] = MappingProxyType({}),
) -> None:
    """Write what the run asks about: examples, interventions, the shots of all tasks and a copy of the prompts.

    `shots` stand task after task, as do those of each verbosity level in `level_shots`, which get a file of their own.
    """
    files: dict[str, Iterable[BaseModel]] = {EXAMPLES: examples, INTERVENTIONS: interventions, SHOTS: shots}
    files |= {shots_file(level): own for level, own in sorted(level_shots.items())}
    for name, records in files.items():
        write_lines(directory / name, (line.decode() for line in json_lines(records)))
    target = directory / PROMPTS
    if target.resolve() != prompts.resolve():
        with writing(target):
            if target.exists():
                shutil.rmtree(target)
            copy_tree(prompts, target)


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Make the directory if it is missing, and lock it for this process until the block ends.

    Raises InputError where it cannot be made, InUseError where another process has locked it.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        handle = os.open(directory, os.O_RDONLY)
    except OSError as exc:
        reason = why_unwritable(directory) or exc.strerror or str(exc)
        raise InputError(f"the output directory {directory} cannot be written: {reason}.") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUseError(
                f"another run is writing {directory}: wait for its end, or choose another --out."
            ) from None
        yield
    finally:
        os.close(handle)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a text file as a whole, line by line. Raises InputError where it cannot be written."""
    with replacing(path) as handle:
        for line in lines:
            handle.write(line + "\n")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[io.TextIOWrapper]:
    """Open a text file that replaces `path` when it is whole. Raises InputError where it cannot be written."""
    with writing(path), open_text_atomic(path) as handle:
        yield handle


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError inside the block into an InputError that names the file.

    Answers that were paid for are in the cache, so the same command continues once there is room.
    """
    try:
        yield
    except OSError as exc:
        raise InputError(
            f"{exc.filename or path} cannot be written ({exc.strerror or exc}): answers that were paid for are kept in "
            "the cache; make room, or choose another --out, and give the same command again."
        ) from exc


def write_run(directory: Path, run: RunRecord) -> None:
    """Write run.json. Raises InputError where it cannot be written."""
    _write_json(directory / RUN, run.model_dump(mode="json"))


def _write_json(path: Path, value: Any) -> None:
    """Write one JSON document, indented, without secrets."""
    with replacing(path) as handle:
        json.dump(SECRETS.mask_value(value), handle, indent=2, ensure_ascii=False)
        handle.write("\n")


def write_progress(directory: Path, progress: RunProgress) -> None:
    """Write progress.json. Raises InputError where it cannot be written."""
    _write_json(directory / PROGRESS, progress.model_dump(mode="json"))


def read_progress(directory: Path) -> RunProgress | None:
    """Read progress.json; None where there is none, as in run directories of earlier versions.

    Raises InputError where it was changed by hand.
    """
    path = directory / PROGRESS
    return read_json(path, TypeAdapter(RunProgress)) if path.exists() else None


def write_metrics(directory: Path, rows: Sequence[MetricRow]) -> None:
    """Write metrics.json and metrics.csv: the same rows in the same order, without time or spend.

    In metrics.csv a text that a spreadsheet could run, such as the name of a task, gets an apostrophe before it.
    """
    plain = [row.model_dump(mode="json") for row in rows]
    _write_json(directory / METRICS, plain)
    with replacing(directory / METRICS_CSV) as handle:
        writer = csv.DictWriter(handle, list(MetricRow.model_fields), lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {name: harmless(value) if isinstance(value, str) else value for name, value in row.items()} for row in plain
        )


def read_run(directory: Path) -> RunRecord:
    """Read run.json. Raises InputError where the directory holds no run, or a run.json that was changed by hand."""
    return read_json(directory / RUN, TypeAdapter(RunRecord))


def read_metrics(directory: Path) -> list[MetricRow]:
    """Read metrics.json. Raises InputError where it is missing or its rows are not metric rows."""
    return read_json(directory / METRICS, TypeAdapter(list[MetricRow]))


def read_json(path: Path, kind: TypeAdapter[T]) -> T:
    """Read one JSON document of at most LARGEST_JSON bytes as the given type."""
    try:
        with open_regular(path) as handle:
            content = handle.read(LARGEST_JSON + 1)
        if len(content) > LARGEST_JSON:
            raise InputError(f"{path} cannot be read: it is larger than {LARGEST_JSON >> 20} MiB.")
        return kind.validate_python(json.loads(content.decode("utf-8")))
    except FileNotFoundError:
        if not path.parent.exists():
            raise InputError(f"{path.parent}: no such file or directory; check the path.") from None
        raise InputError(f"{path.parent} holds no run: it has no {path.name}.") from None
    except NotADirectoryError:
        raise InputError(f"{path.parent} is a file: give a run directory.") from None
    except ValidationError as exc:
        raise InputError(f"{path}: {_first_error(exc)}.") from None
    except RecursionError:
        raise InputError(f"{path} cannot be read: it is nested too deep.") from None
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else exc
        raise InputError(f"{path} cannot be read: {reason}.") from None


def _first_error(exc: ValidationError) -> str:
    """Name the first field that is wrong, and say what is wrong with it."""
    first = exc.errors()[0]
    name = ".".join(str(part) for part in first["loc"] if part != "totals")  # which is no field of the file
    message = "it is missing" if first["type"] == "missing" else first["msg"].removeprefix("Value error, ")
    return f"{name}: {message}" if name else message


def write_positions(directory: Path, positions: Iterable[int]) -> None:
    """Write positions.jsonl of a shard. Raises InputError where it cannot be written."""
    write_lines(directory / POSITIONS, map(str, positions))


def read_positions(directory: Path) -> Iterator[int]:
    """Yield the places of a shard's examples in the whole run. Raises InputError where the file is damaged."""
    path = directory / POSITIONS
    for number, line in enumerate(_lines(path), start=1):
        if not re.fullmatch(rb"[0-9]{1,15}\n", line):
            raise InputError(f"{path}:{number}: it is no whole number.")
        yield int(line)


def read_trials(directory: Path) -> Iterator[Trial]:
    """Yield the trials in file order; a torn last line is ignored."""
    yield from _records(directory / TRIALS, Trial)


def read_verdicts(directory: Path) -> Iterator[Verdict]:
    """Yield the verdicts of judges in file order; none where no judge was asked."""
    path = directory / VERDICTS
    if path.exists():
        yield from _records(path, Verdict)


def read_predictions(directory: Path) -> list[Prediction]:
    """Read what predictors said of the trials, in file order; nothing where no predictor was asked.

    Raises InputError where the file is damaged.
    """
    path = directory / PREDICTIONS
    return list(_records(path, Prediction)) if path.exists() else []


def write_predictions(directory: Path, predictions: Iterable[Prediction]) -> None:
    """Write predictions.jsonl as a whole. Raises InputError where it cannot be written."""
    write_lines(directory / PREDICTIONS, (prediction.model_dump_json() for prediction in predictions))


def replace_verdicts(directory: Path, verdicts: Sequence[Verdict]) -> None:
    """Write the verdicts of one judge in one channel in place of its earlier ones; those of others stay, before them.

    The file is replaced as a whole. Raises InputError where it cannot be written, InUseError where another process is
    writing the directory.
    """
    own = {(verdict.judge, verdict.channel) for verdict in verdicts}
    with locked(directory):
        others = [one for one in read_verdicts(directory) if (one.judge, one.channel) not in own]
        lines = (one.model_dump_json() for one in (*others, *verdicts))
        write_lines(directory / VERDICTS, lines)


def count_trials_read(directory: Path, run: RunRecord, trials: Iterable[Trial]) -> Iterator[Trial]:
    """Yield the trials of a run, and raise InputError at the end where there are fewer than the run wrote."""
    count = 0
    for trial in trials:
        count += 1
        yield trial
    if run.trials is not None and count < run.trials:
        raise InputError(
            f"{directory / TRIALS} holds {count:,} of the {counted(run.trials, 'trial')} of the run, so it was cut "
            "off: give the same run command again, which writes it anew."
        )


def stream_examples(directory: Path) -> Iterator[Example]:
    """Yield the examples of the run in file order."""
    yield from _records(directory / EXAMPLES, Example)


def stream_interventions(directory: Path) -> Iterator[Intervention]:
    """Yield the interventions of the run in file order."""
    yield from _records(directory / INTERVENTIONS, Intervention)


def read_examples(directory: Path) -> list[Example]:
    """Read the examples of the run in file order."""
    return list(_records(directory / EXAMPLES, Example))


def read_interventions(directory: Path) -> list[Intervention]:
    """Read the interventions of the run in file order."""
    return list(_records(directory / INTERVENTIONS, Intervention))


def shots_file(level: str) -> str:
    """Return the name of the file with a verbosity level's shots. Raises InputError where the level is no name."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", level):
        raise InputError(f"verbosity {level!r} is no name: use letters, digits, - and _ only.")
    return f"{SHOTS.removesuffix('.jsonl')}.{level}.jsonl"


def read_shots(directory: Path, level: str | None = None) -> list[Example] | None:
    """Read the reserved shots of all tasks, task after task; with a `level`, those of the tasks that have such shots.

    Returns None where the directory lacks the file, as those of the earliest versions do.
    """
    path = directory / (SHOTS if level is None else shots_file(level))
    return list(_records(path, Example)) if path.exists() else None


def _records(path: Path, kind: type[R]) -> Iterator[R]:
    number = 0
    for number, line in enumerate(_lines(path), start=1):
        try:
            yield kind.model_validate_json(line)
        except ValidationError as exc:
            if not line.endswith(b"\n"):
                return
            raise InputError(f"{path}:{number}: {_first_error(exc)}.") from None


def located_records(path: Path, kind: type[R]) -> Iterator[tuple[R, int, int]]:
    """Yield each record of a file with the byte at which its line begins, and the line's length in bytes.

    A torn last line is ignored. Raises InputError where the file is missing or damaged.
    """
    start = 0
    for number, line in enumerate(_lines(path), start=1):
        if not line.endswith(b"\n"):
            return
        try:
            record = kind.model_validate_json(line)
        except ValidationError as exc:
            raise InputError(f"{path}:{number}: {_first_error(exc)}.") from None
        yield record, start, len(line)
        start += len(line)


def _lines(path: Path) -> Iterator[bytes]:
    try:
        yield from read_lines(path)
    except FileNotFoundError:
        raise InputError(f"{path} is missing: the run directory is not whole; run the same command again.") from None
    except OSError as exc:
        raise InputError(f"{path} cannot be read: {exc.strerror or exc}.") from None
