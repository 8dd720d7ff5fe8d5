"""The run directory: what a run was, what it asked, what came back, what it says. Everything `score` needs.

Files are written whole to a neighbour and moved into place, so that a crash never leaves half of one; only
trials.jsonl grows line by line, and its readers ignore a torn last line.
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
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from explaineval.config import ModelConfig, RunConfig
from explaineval.errors import InputError, InUseError
from explaineval.files import open_text_atomic, read_lines
from explaineval.records import Example, Intervention, MetricRow, Trial
from explaineval.secrets import SECRETS

R = TypeVar("R", bound=BaseModel)

RUN, EXAMPLES, INTERVENTIONS, SHOTS = "run.json", "examples.jsonl", "interventions.jsonl", "shots.jsonl"
TRIALS, METRICS, METRICS_CSV, PROMPTS = "trials.jsonl", "metrics.json", "metrics.csv", "prompts"


def science_hash(science: Mapping[str, Any], examples: Sequence[Example], interventions: Sequence[Intervention]) -> str:
    """Ten hex digits over the whole scientific configuration with contents, never paths."""
    total = hashlib.sha256(json.dumps(science, sort_keys=True, ensure_ascii=False).encode())
    for record in (*examples, *interventions):
        total.update(record.model_dump_json().encode("utf-8", "surrogatepass"))
    return total.hexdigest()[:10]


def default_directory(base: Path, today: date, name: str) -> Path:
    """The directory of this very science if there is one, else a new `<date>-<hash>`."""
    for found in sorted(base.glob(f"*-{name}")):
        if (found / RUN).is_file():
            return found
    return base / f"{today.isoformat()}-{name}"


def prepare(
    directory: Path,
    science: Mapping[str, Any],
    examples: Sequence[Example],
    interventions: Sequence[Intervention],
) -> str:
    """Make the directory, or find that it can be continued or grown: "new", "continued" or "grown".

    Raises InputError where it holds another run, or cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / f".write-test-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as exc:
        raise InputError(f"the output directory {directory} cannot be written: {exc.strerror or exc}.") from None
    if not (directory / RUN).exists():
        if any(directory.iterdir()):
            raise InputError(f"{directory} holds files that are no run: choose an empty or new directory with --out.")
        return "new"
    old = read_run(directory).get("science", {})
    reason = difference(old, science)
    for name, records in ((EXAMPLES, examples), (INTERVENTIONS, interventions)):
        new_lines = {record.model_dump_json().encode() for record in records}
        gone = sum(line.rstrip(b"\n") not in new_lines for line in _lines(directory / name))
        if gone and reason is None:
            reason = f"{gone} lines of its {name} are not part of this one"
    if reason is not None:
        raise InputError(f"{directory} already holds another run ({reason}): choose another --out.")
    return "continued" if old == science else "grown"


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """What keeps `new` from being `old` or an addition to it, in a few words."""
    fixed_old, fixed_new = old.get("fixed", {}), new["fixed"]
    defaults = RunConfig(tasks=("none",), models=(ModelConfig(model="no/model"),)).model_dump(mode="json")
    for name, now in fixed_new.items():
        was = fixed_old.get(name, defaults.get(name))  # a field that came with a later version had its default before
        if was != now:
            return f"{name} was {was!r}, now {now!r}"
    for name, value in old.get("growing", {}).items():
        now = new["growing"].get(name)
        if isinstance(value, dict):
            if any(key not in now or now[key] != inner for key, inner in value.items()):
                return f"its {name} differ"
        elif any(item not in now for item in value):
            return f"its {name} {value!r} are not all part of {now!r}"
    return None


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
    files: list[tuple[str, Iterable[BaseModel]]]
    files = [(EXAMPLES, examples), (INTERVENTIONS, interventions)]
    files.append((SHOTS, shots))
    files += [(shots_file(level), level_shots[level]) for level in sorted(level_shots)]
    for name, records in files:
        write_lines(directory / name, (record.model_dump_json() for record in records))
    target = directory / PROMPTS
    if target.resolve() != prompts.resolve():
        with writing(target):
            if target.exists():
                shutil.rmtree(target)
            try:
                shutil.copytree(prompts, target)
            except shutil.Error as exc:  # its own kind of OSError: a list of files, each with its reason
                raise OSError(None, str(exc.args[0][0][-1]), str(target)) from exc


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """The directory, made where it is missing, for this process alone as long as it is inside.

    Raises InputError where it cannot be made, InUseError where another process is writing it.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        handle = os.open(directory, os.O_RDONLY)
    except OSError as exc:
        raise InputError(f"the output directory {directory} cannot be written: {exc.strerror or exc}.") from None
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
    """While inside, an error of the disk becomes an InputError that names the file.

    What was paid for is in the cache, so that the same command goes on once there is room.
    """
    try:
        yield
    except OSError as exc:
        raise InputError(
            f"{exc.filename or path} cannot be written ({exc.strerror or exc}): answers that were paid for are kept in "
            "the cache; make room, or choose another --out, and give the same command again."
        ) from exc


def write_json(path: Path, value: Any) -> None:
    """Write one JSON document, indented, without secrets."""
    with replacing(path) as handle:
        json.dump(SECRETS.mask_value(value), handle, indent=2, ensure_ascii=False)
        handle.write("\n")


def write_metrics(directory: Path, rows: Sequence[MetricRow]) -> None:
    """metrics.json and metrics.csv: the same rows in the same order, without time or spend."""
    plain = [row.model_dump(mode="json") for row in rows]
    write_json(directory / METRICS, plain)
    with replacing(directory / METRICS_CSV) as handle:
        writer = csv.DictWriter(handle, list(MetricRow.model_fields), lineterminator="\n")
        writer.writeheader()
        writer.writerows(plain)


def read_run(directory: Path) -> dict[str, Any]:
    """run.json. Raises InputError where the directory holds no run."""
    try:
        value = json.loads((directory / RUN).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{directory} holds no run: it has no {RUN}.") from None
    except RecursionError:
        raise InputError(f"{directory / RUN} cannot be read: it is nested too deep.") from None
    except (OSError, ValueError) as exc:
        raise InputError(f"{directory / RUN} cannot be read: {exc}.") from None
    if not isinstance(value, dict):
        raise InputError(f"{directory / RUN} is not a JSON object.")
    return value


def read_trials(directory: Path) -> Iterator[Trial]:
    """The trials in file order, one at a time; a torn last line is ignored."""
    yield from _records(directory / TRIALS, Trial)


def read_examples(directory: Path) -> list[Example]:
    """The examples of the run in file order."""
    return list(_records(directory / EXAMPLES, Example))


def read_interventions(directory: Path) -> list[Intervention]:
    """The interventions of the run in file order."""
    return list(_records(directory / INTERVENTIONS, Intervention))


def shots_file(level: str) -> str:
    """The file that keeps the shots of a verbosity level. Raises InputError for a level that is no plain name."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", level):
        raise InputError(f"verbosity {level!r} is no name: use letters, digits, - and _ only.")
    return f"{SHOTS.removesuffix('.jsonl')}.{level}.jsonl"


def read_shots(directory: Path, level: str | None = None) -> list[Example] | None:
    """The reserved shots of all tasks (of a verbosity level: of the tasks that have them), task after task.

    None where the directory lacks the file: it comes from before shots were kept.
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
            first = exc.errors()[0]
            raise InputError(f"{path}:{number}: {'.'.join(map(str, first['loc']))} {first['msg']}.") from None


def _lines(path: Path) -> Iterator[bytes]:
    try:
        yield from read_lines(path)
    except FileNotFoundError:
        raise InputError(f"{path} is missing: the run directory is not whole; run the same command again.") from None
    except OSError as exc:
        raise InputError(f"{path} cannot be read: {exc.strerror or exc}.") from None
