"""A run and its answers in one file: everything that computing it again needs, and nothing of the machine it ran on.

A bundle is a zip file of the run directory and a pack of its answers. Its bytes depend on those alone: names are
sorted and no time is kept. Local paths, names of environment variables and settings of the transport are left out.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import IO, Any

from explaineval.cache import Store, export_pack
from explaineval.client import Capabilities
from explaineval.config import Arm, ModelConfig
from explaineval.errors import InputError
from explaineval.experiment import directories
from explaineval.experiment.plans import plan_sizes
from explaineval.experiment.preparations import Prepared
from explaineval.experiment.rebuilds import recorded_capabilities
from explaineval.experiment.walks import walk

PACK = "pack.jsonl.gz"
FILES = (
    *(directories.RUN, directories.EXAMPLES, directories.INTERVENTIONS, directories.SHOTS),
    *(directories.TRIALS, directories.METRICS),
)
"""What a bundle takes from the run directory, beside the prompts and the shots of verbosity levels."""

EPOCH = (1980, 1, 1, 0, 0, 0)
KEPT = (
    *("explaineval", "signature", "created", "python", "packages", "science", "facts", "prices", "complete"),
    *("usd_spent", "usd_saved_by_cache", "usd_from_scratch", "requests"),
)
"""What a bundle keeps of run.json as it is; of the rest it keeps what identifies, without paths."""

KEPT_OF_ENDPOINT = ("endpoint", "model", "probe", "capabilities", "tokens", "price", "requests")


@dataclass(frozen=True)
class Bundled:
    """What went into a bundle: answers, and bytes of the file. `missing` answers of the run's plan are not in it.

    `finished` says that the run came to its end; the bundle is `complete` where in addition no answer is missing.
    """

    answers: int
    missing: int
    bytes: int
    finished: bool
    complete: bool


def write_bundle(directory: Path, prepared: Prepared, store: Store, target: Path) -> Bundled:
    """Write the bundle of a run directory; `prepared` is the run rebuilt from it, `store` holds its answers.

    Raises InputError where the directory lacks a file or the target cannot be written.
    """
    run = directories.read_run(directory)
    lacking = [name for name in (*FILES, *level_files(run)) if not (directory / name).is_file()]
    if lacking:
        raise InputError(f"{directory} lacks {', '.join(lacking)}: give its `run` command again, then export.")
    if target.exists() and not target.is_file():
        raise InputError(f"{target} cannot be written: it is there and no file, so it is not replaced.")
    keys = needed_keys(directory, run, prepared, store)
    draft = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="explaineval-") as name:
            pack = Path(name) / PACK
            packed = export_pack(store, pack, keys=keys)
            _write_zip(draft, directory, run, pack)
        draft.replace(target)
    except OSError as exc:
        raise InputError(f"{target} cannot be written: {exc.strerror or exc}.") from None
    finally:
        draft.unlink(missing_ok=True)
    missing = len(packed.missing) + _never_asked(run, prepared)
    finished = run.get("complete") is True and not _never_asked(run, prepared)
    return Bundled(packed.entries, missing, target.stat().st_size, finished, finished and not missing)


def _never_asked(run: Mapping[str, Any], prepared: Prepared) -> int:
    """The requests of arms of which the run never found out how they are to be asked: their keys cannot be told."""
    recorded, config, edits = recorded_capabilities(run), prepared.config, prepared.chosen.edits
    total = 0
    for model in config.models:
        known = {style for endpoint, name, style in recorded if (endpoint, name) == (model.endpoint, model.model)}
        total += plan_sizes(config, prepared.prompts, prepared.tasks, edits, model, known).distinct
    return total


def level_files(run: Mapping[str, Any]) -> list[str]:
    """The files that keep a run's shots of verbosity levels other than the normal one."""
    tasks = run.get("facts", {}).get("tasks", {}).values()
    levels = {level for task in tasks for level in task.get("level_shots", ())}
    return [directories.shots_file(level) for level in sorted(levels)]


def needed_keys(directory: Path, run: Mapping[str, Any], prepared: Prepared, store: Store) -> set[str]:
    """The keys of every answer that the run's numbers rest on: those of its plan, and those of its trials."""
    recorded = recorded_capabilities(run)

    def able(model: ModelConfig, arm: Arm) -> Capabilities | None:
        return recorded.get((model.endpoint, model.model, arm.style))

    told_by_answers = prepared.config.retry or "pe2" in prepared.config.arms.order
    find = store.get if told_by_answers else None
    keys = {step.key for step in walk(prepared, able, find)}
    for trial in directories.read_trials(directory):
        keys.update(key for key in (trial.key_before, trial.key_after) if key)
    return keys


def shared_run(run: Mapping[str, Any]) -> dict[str, Any]:
    """run.json as it may be shown to anybody: endpoints by name and base URL, files by name without their place."""
    config = dict(run["config"])
    config["tasks"] = [_without_place(str(task)) for task in config.get("tasks", ())]
    for name in ("shots_from", "prompts"):
        if config.get(name) is not None:
            config[name] = _last(config[name])
    edits = dict(config.get("interventions") or {})
    for name in ("file", "tagger"):
        if edits.get(name) is not None:
            edits[name] = _last(edits[name])
    config["interventions"] = edits
    client = run.get("client") or {}
    endpoints = {name: {"base_url": entry.get("base_url")} for name, entry in (client.get("endpoints") or {}).items()}
    told = [{name: entry[name] for name in KEPT_OF_ENDPOINT if name in entry} for entry in run.get("endpoints") or ()]
    kept = {name: run[name] for name in KEPT if name in run}
    return {**kept, "config": config, "client": {"endpoints": endpoints}, "endpoints": told}


def _without_place(task: str) -> str:
    reader, colon, path = task.partition(":")
    return f"{reader}:{_last(path)}" if colon else task


def _last(path: object) -> str:
    return PurePath(str(path)).name or "file"


def _write_zip(target: Path, directory: Path, run: Mapping[str, Any], pack: Path) -> None:
    document = json.dumps(shared_run(run), indent=2, ensure_ascii=False) + "\n"
    members: dict[str, Path | bytes] = {name: directory / name for name in (*FILES, *level_files(run))}
    members |= {f"{directories.PROMPTS}/{name}": path for name, path in _prompts(directory / directories.PROMPTS)}
    members |= {directories.RUN: document.encode("utf-8", "surrogatepass"), PACK: pack}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in sorted(members.items()):
            _add(bundle, name, content)


def _prompts(directory: Path) -> Iterator[tuple[str, Path]]:
    """Every file below the directory by its relative name; hidden ones and Python's leavings are no prompts."""
    for path in sorted(directory.rglob("*")):
        parts = path.relative_to(directory).parts
        if path.is_file() and not any(part.startswith((".", "__")) for part in parts):
            yield "/".join(parts), path


def _add(bundle: zipfile.ZipFile, name: str, content: Path | bytes) -> None:
    info = zipfile.ZipInfo(name, EPOCH)
    info.create_system = 3
    info.external_attr = 0o100644 << 16
    info.compress_type = zipfile.ZIP_STORED if name == PACK else zipfile.ZIP_DEFLATED
    info.file_size = len(content) if isinstance(content, bytes) else content.stat().st_size
    with bundle.open(info, "w") as member:
        if isinstance(content, bytes):
            member.write(content)
            return
        source: IO[bytes]
        with content.open("rb") as source:
            shutil.copyfileobj(source, member, 1 << 20)
