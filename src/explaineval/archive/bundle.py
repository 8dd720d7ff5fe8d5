"""Put a run and its answers into one file, unpack it, and rebuild a run from its directory alone.

A bundle is a zip file of the run directory and a pack of its answers. Its bytes depend on those alone: names are
sorted and no time is kept. Local paths, names of environment variables and settings of the transport are left out.

A rebuilt run has the same requests, without data files, tagger or original prompts: whatever was read from elsewhere
(tasks, interventions, shots, prompts) is kept in the directory as it was used, and the hashes in run.json tell whether
it is still the same.
"""

from __future__ import annotations

import json
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import IO, Any

from jinja2 import FileSystemLoader, TemplateNotFound, TemplateSyntaxError

from explaineval.cache import Store, export_pack
from explaineval.client.endpoints.capabilities import Capabilities
from explaineval.config import Arm, ClientConfig, ModelConfig, RunConfig
from explaineval.datasets import Task, TaskSpec, parse_specs
from explaineval.datasets.readers import shape_of
from explaineval.errors import InputError
from explaineval.files import open_atomic, open_regular
from explaineval.interventions.edit import check
from explaineval.planning import provenance
from explaineval.planning.prepare import ChosenEdits, EditGroups, Prepared, inputs_of, kinds_in
from explaineval.planning.provenance import Edits
from explaineval.planning.requests import Examples, RequestBuilder
from explaineval.planning.units import PlanPart, find_nothing, part_of, plan_size, walk
from explaineval.prompts import PromptBook
from explaineval.records import Example
from explaineval.rundir import directory as run_directory
from explaineval.rundir.schema import RunRecord, Science, TaskFacts
from explaineval.sandbox import RestrictedEnvironment, describe, shorten
from explaineval.text import bytes_text

PACK = "pack.jsonl.gz"
FILES = (
    *(run_directory.RUN, run_directory.EXAMPLES, run_directory.INTERVENTIONS, run_directory.SHOTS),
    *(run_directory.TRIALS, run_directory.METRICS),
)
"""What a bundle takes from the run directory, beside the prompts and the shots of verbosity levels."""

OPTIONAL = (run_directory.VERDICTS, run_directory.PREDICTIONS)
"""What it takes where the run directory has it."""

EPOCH = (1980, 1, 1, 0, 0, 0)
LEFT_OUT = ("config", "client", "endpoints", "usd_unbilled_at_most")
"""Fields of run.json that a bundle leaves out, or holds in part."""

SMALL = 64 << 20
"""Bytes up to which a file may be packed to any ratio."""

TIGHTEST = 100
"""The highest ratio of a larger file's size to its packed size: text is never packed better, a zip bomb is."""

LARGEST_PROMPT = 1 << 20
"""Bytes of one file of the prompts."""

MOST_BYTES = 16 << 30
MOST_FILES = 1000

_LEVEL_SHOTS = re.compile(r"shots\.[A-Za-z0-9_-]+\.jsonl")
_PROMPT = re.compile(rf"{run_directory.PROMPTS}/(?:\w[\w.-]*/){{0,4}}\w[\w.-]*")


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


def write_bundle(
    directory: Path, prepared: Prepared, store: Store, target: Path, *, addresses: bool = False
) -> Bundled:
    """Write the bundle of a run directory; `prepared` is the run rebuilt from it, `store` holds its answers.

    `addresses` adds to each answer the base URL that gave it.

    Raises InputError where the directory lacks a file or the target cannot be written.
    """
    run = run_directory.read_run(directory)
    lacking = [name for name in (*FILES, *level_files(run)) if not (directory / name).is_file()]
    if lacking:
        raise InputError(f"{directory} lacks {', '.join(lacking)}: give its `run` command again, then export.")
    keys = needed_keys(directory, run, prepared, store)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="explaineval-") as name:
            pack = Path(name) / PACK
            packed = export_pack(store, pack, keys=keys, addresses=addresses)
            with open_atomic(target) as handle:
                _write_zip(handle, directory, run, pack)
    except OSError as exc:
        raise InputError(f"{target} cannot be written: {exc.strerror or exc}.") from None
    never_asked = _count_never_asked(run, prepared)
    missing = len(packed.missing) + never_asked
    finished = run.complete and not never_asked
    return Bundled(packed.entries, missing, target.stat().st_size, finished, finished and not missing)


def _count_never_asked(run: RunRecord, prepared: Prepared) -> int:
    """Count the requests of arms for which the run never found out how to ask, so that their keys are not known."""
    recorded = recorded_capabilities(run)
    total = 0
    for model in prepared.config.models:
        known = {style for endpoint, name, style in recorded if (endpoint, name) == (model.endpoint, model.model)}
        total += plan_size(prepared, model, known).distinct
    return total


def level_files(run: RunRecord) -> list[str]:
    """List the files that hold a run's shots of verbosity levels other than the normal one."""
    levels = {level for task in run.facts.tasks.values() for level in task.level_shots}
    return [run_directory.shots_file(level) for level in sorted(levels)]


def needed_keys(directory: Path, run: RunRecord, prepared: Prepared, store: Store) -> set[str]:
    """Collect the keys of every answer that the run's numbers rest on: those of its plan, and those of its trials."""
    recorded = recorded_capabilities(run)

    def capabilities(model: ModelConfig, arm: Arm) -> Capabilities | None:
        return recorded.get((model.endpoint, model.model, arm.style))

    needs_answers = prepared.config.retry or "pe2" in prepared.config.arms.order
    find = store.get if needs_answers else find_nothing
    keys = {step.key for step in walk(prepared, capabilities, find, asked_examples(run))}
    for trial in run_directory.read_trials(directory):
        keys.update(key for key in (trial.key_before, trial.key_after) if key)
    return keys


def shared_run(run: RunRecord) -> dict[str, Any]:
    """Return run.json as anybody may see it: endpoints by name and base URL, files by name without their directory."""
    document = run.model_dump(mode="json")
    shared = {name: value for name, value in document.items() if name not in LEFT_OUT}
    config = document["config"]
    config["tasks"] = [_without_directory(task) for task in config["tasks"]]
    edits = config["interventions"]
    for part, name in ((config, "shots_from"), (config, "prompts"), (edits, "file"), (edits, "tagger")):
        if part[name] is not None:
            part[name] = _file_name(part[name])
    endpoints = {name: {"base_url": endpoint.base_url} for name, endpoint in run.client.endpoints.items()}
    entries = [entry.model_dump(mode="json", exclude={"fault"}) for entry in run.endpoints]
    return {**shared, "config": config, "client": {"endpoints": endpoints}, "endpoints": entries}


def _without_directory(task: str) -> str:
    reader, colon, path = task.partition(":")
    return f"{reader}:{_file_name(path)}" if colon else task


def _file_name(path: str) -> str:
    return PurePath(path).name or "file"


def _write_zip(target: IO[bytes], directory: Path, run: RunRecord, pack: Path) -> None:
    document = json.dumps(shared_run(run), indent=2, ensure_ascii=False) + "\n"
    members: dict[str, Path | bytes] = {name: directory / name for name in (*FILES, *level_files(run))}
    members |= {name: directory / name for name in OPTIONAL if (directory / name).is_file()}
    members |= {f"{run_directory.PROMPTS}/{name}": path for name, path in _prompts(directory / run_directory.PROMPTS)}
    members |= {run_directory.RUN: document.encode("utf-8", "surrogatepass"), PACK: pack}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in sorted(members.items()):
            _add(bundle, name, content)


def _prompts(directory: Path) -> Iterator[tuple[str, Path]]:
    """Yield the relative names and paths of all files below the directory, without hidden files and Python's caches."""
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


def unpack_bundle(source: Path, into: Path) -> None:
    """Unpack a bundle into an empty directory: the run directory it was made of, and its pack of answers.

    Raises InputError for a file that is no bundle, is damaged, or holds anything that a bundle does not; then
    nothing of it was used.
    """
    try:
        with open_regular(source) as handle, zipfile.ZipFile(handle) as bundle:
            members = bundle.infolist()
            _check_members(members, source)
            for info in members:
                target = into / info.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with bundle.open(info) as packed, target.open("xb") as plain:
                    shutil.copyfileobj(packed, plain, 1 << 20)
    except FileNotFoundError:
        raise InputError(f"{source}: no such file; check the path.") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeError, ValueError) as exc:
        raise InputError(f"{source} is no bundle of `explaineval export`, or it is damaged: {exc}.") from None
    except OSError as exc:
        raise InputError(f"{source} cannot be unpacked: {exc.strerror or exc}.") from None
    _check_documents(into, source)
    _check_templates(into / run_directory.PROMPTS, source)


def unpacked(path: Path, workshop: Path) -> Path:
    """Return a run directory as it is; of a bundle, F.zip, the directory F that it is unpacked to inside `workshop`.

    The workshop is made. It belongs to the caller, who removes it. Raises InputError as `unpack_bundle` does.
    """
    if path.is_dir() or path.suffix != ".zip":
        return path
    directory = workshop / path.stem
    directory.mkdir(parents=True)
    unpack_bundle(path, directory)
    return directory


def _check_members(members: list[zipfile.ZipInfo], source: Path) -> None:
    """Check all entries before the first is unpacked."""
    names = [info.filename for info in members]
    lacking = sorted({*FILES, PACK} - set(names))
    if len(members) > MOST_FILES or len(set(names)) != len(names):
        raise _refusal(source, "it has too many entries, or one of them twice")
    for info in members:
        known = info.filename in (*FILES, *OPTIONAL, PACK) or _LEVEL_SHOTS.fullmatch(info.filename)
        if not known and not _PROMPT.fullmatch(info.filename):
            raise _refusal(source, f"its entry {info.filename[:80]!r} does not belong there")
        if info.orig_filename != info.filename or info.flag_bits & 0x1:
            raise _refusal(source, f"its entry {info.filename!r} is encrypted or has two names")
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
            raise _refusal(source, f"its entry {info.filename!r} is a link or otherwise not a regular file")
        if info.filename.startswith(f"{run_directory.PROMPTS}/") and info.file_size > LARGEST_PROMPT:
            raise _refusal(source, f"its entry {info.filename!r} is larger than {LARGEST_PROMPT >> 20} MiB")
        if info.file_size > SMALL and info.file_size > TIGHTEST * info.compress_size:
            raise _refusal(source, f"its entry {info.filename!r} would take {bytes_text(info.file_size)}")
    if sum(info.file_size for info in members) > MOST_BYTES:
        raise _refusal(source, f"it would take more than {MOST_BYTES >> 30} GiB")
    if lacking:
        raise _refusal(source, f"it lacks {', '.join(lacking)}")


def _check_documents(directory: Path, source: Path) -> None:
    """Check that the two JSON documents have the form that the rest of the program expects."""
    try:
        run_directory.read_run(directory)
        run_directory.read_metrics(directory)
    except InputError as exc:
        raise _refusal(source, str(exc).replace(f"{directory}/", "its ").removesuffix(".")) from None


def _check_templates(prompts: Path, source: Path) -> None:
    """Check that templates hold only what prompts need, and name only files of the bundle. They are parsed, not run."""
    environment = RestrictedEnvironment(FileSystemLoader(prompts), str)
    for path in sorted(prompts.rglob("*.j2")):
        name = path.relative_to(prompts).as_posix()
        try:
            environment.check(name)
        except TemplateNotFound as exc:
            raise _refusal(
                source, f"its {run_directory.PROMPTS}/{name} reaches for {shorten(repr(exc.name))}"
            ) from None
        except TemplateSyntaxError as exc:
            raise _refusal(source, f"its {run_directory.PROMPTS}/{describe(exc, name)[:-1]}") from None
        except UnicodeDecodeError:
            raise _refusal(source, f"its {run_directory.PROMPTS}/{name} is not UTF-8 text") from None


def _refusal(source: Path, reason: str) -> InputError:
    return InputError(f"{source} was not used: {reason}. It is not as `explaineval export` wrote it.")


def prepared_from(directory: Path, client: ClientConfig) -> Prepared:
    """Rebuild everything known before the first request from a run directory; `client` says how to reach endpoints.

    The requests, the science and the signatures are those of the run. Raises InputError where a file is missing or
    no longer what the run used, naming it.
    """
    run = run_directory.read_run(directory)
    config = config_of(run, directory)
    for model in config.models:
        client.endpoint_of(model)
    tasks = _read_tasks(run, config, directory)
    edits = _read_edits(tasks, directory)
    prompts = PromptBook(directory / run_directory.PROMPTS)
    whole = run.whole
    kinds = {kind for _, kind, _ in kinds_in(edits)}
    if whole is not None:
        kinds = {kind for facts in whole.tasks.values() for kind in facts.kinds}
    science = provenance.science(config, tasks, prompts, kinds)
    change = _changed_science(run.science, science)
    change = change or _changed_inputs(run.facts.tasks, provenance.task_facts(tasks, edits, prompts))
    if change:
        raise InputError(
            f"{directory} is no longer what was run: {change}. Put the original back, or run again into another "
            "directory (answers in the cache cost nothing)."
        )
    examples, interventions = inputs_of(tasks, ChosenEdits(edits, ()))
    name = run_directory.science_hash(science, examples, interventions)
    if whole is not None and config.shard is not None:
        name = f"{whole.name}-{config.shard.suffix}"
    return Prepared(config, client, tasks, prompts, ChosenEdits(edits, ()), science, name, whole)


def config_of(run: RunRecord, directory: Path) -> RunConfig:
    """Return the run's configuration with the directory's own files in place of the original ones."""
    if len(run.science.growing.samples) != run.config.samples:
        raise InputError(f"{directory}: run.json was changed: its number of samples contradicts itself.")
    edits = run.config.interventions
    if edits.file is not None:
        edits = edits.model_copy(update={"file": directory / run_directory.INTERVENTIONS})
    changes = {"prompts": directory / run_directory.PROMPTS, "shots_from": None, "interventions": edits}
    return run.config.model_copy(update=changes)


def client_of(run: RunRecord, cache: Path | None) -> ClientConfig:
    """Return how the run's endpoints are reached; `cache` replaces the cache that run.json names."""
    return run.client if cache is None else run.client.model_copy(update={"cache": cache})


def asked_examples(run: RunRecord) -> Examples:
    """Return which examples a run asks each part of its plan about: all, or those until it was precise enough."""
    counts = {PlanPart(stop.task, stop.order, stop.style, stop.shots): stop.examples for stop in run.stops}

    def examples(builder: RequestBuilder) -> range:
        available = len(builder.task.examples)
        return range(min(available, counts.get(part_of(builder), available)))

    return examples


def recorded_capabilities(run: RunRecord) -> dict[tuple[str | None, str, str], Capabilities]:
    """Return how the run's requests were sent, by (endpoint, model, style): empty for a run that sent none."""
    return {
        (entry.endpoint, entry.model, style): Capabilities(sent.logprobs, sent.temperature, sent.state, sent.found)
        for entry in run.endpoints
        for style, sent in entry.capabilities.items()
    }


def _read_tasks(run: RunRecord, config: RunConfig, directory: Path) -> tuple[Task, ...]:
    specs = parse_specs(config.tasks, config.columns)
    unknown = next((spec.name for spec in specs if spec.name not in run.facts.tasks), None)
    if unknown is not None:
        raise InputError(f"{directory}: run.json was changed: its facts lack the task {unknown!r}.")
    by_task: dict[str, list[Example]] = {spec.name: [] for spec in specs}
    path = directory / run_directory.EXAMPLES
    for example in run_directory.read_examples(directory):
        if example.task not in by_task:
            raise InputError(f"{path} was changed: {example.task!r} is no task of this run.")
        by_task[example.task].append(example)
    lacking = next((name for name, examples in by_task.items() if not examples), None)
    if lacking is not None and config.shard is None:
        raise InputError(f"{path} was changed: it lacks the examples of {lacking!r}.")
    shots = _read_shots(run.facts.tasks, specs, directory)
    levels = _read_level_shots(run.facts.tasks, specs, directory)
    tasks = []
    for spec in specs:
        facts, examples = run.facts.tasks[spec.name], tuple(by_task[spec.name])
        shape = facts.shape if "shape" in facts.model_fields_set else shape_of(examples[0])
        own = Task(spec, shape, examples, next(shots), facts.shots_source, levels[spec.name])
        tasks.append(replace(own, n_available=facts.n_available))
    return tuple(tasks)


def _read_shots(
    facts: Mapping[str, TaskFacts], specs: Sequence[TaskSpec], directory: Path
) -> Iterator[tuple[Example, ...]]:
    """Yield the shots of task after task, which stand in one file."""
    kept = run_directory.read_shots(directory)
    if kept is None and any(facts[spec.name].shots_source != "none" for spec in specs):
        raise InputError(
            f"{directory} lacks {run_directory.SHOTS}: an older version made it. Give its `run` command again, which "
            "adds the file and takes the answers from the cache."
        )
    yield from _split(kept or [], facts, specs)


def _read_level_shots(
    facts: Mapping[str, TaskFacts], specs: Sequence[TaskSpec], directory: Path
) -> dict[str, dict[str, tuple[Example, ...]]]:
    """Return by task the shots of each verbosity level that it has."""
    by_task: dict[str, dict[str, tuple[Example, ...]]] = {spec.name: {} for spec in specs}
    for level in sorted({level for spec in specs for level in facts[spec.name].level_shots}):
        kept = run_directory.read_shots(directory, level)
        if kept is None:
            raise InputError(f"{directory} lacks {run_directory.shots_file(level)}: give its `run` command again.")
        owners = [spec for spec in specs if level in facts[spec.name].level_shots]
        for spec, shots in zip(owners, _split(kept, facts, owners), strict=True):
            by_task[spec.name][level] = shots
    return by_task


def _split(
    shots: Sequence[Example], facts: Mapping[str, TaskFacts], specs: Sequence[TaskSpec]
) -> Iterator[tuple[Example, ...]]:
    """Split shots that stand task after task by the number that each task has."""
    start = 0
    for spec in specs:
        end = start + facts[spec.name].n_shots
        yield tuple(shots[start:end])
        start = end


def _read_edits(tasks: Sequence[Task], directory: Path) -> Edits:
    """Read the interventions in file order, each checked against its example."""
    edits = EditGroups()
    examples = {(task.name, example.id): example for task in tasks for example in task.examples}
    for edit in run_directory.read_interventions(directory):
        example = examples.get((edit.task, edit.example_id))
        if example is None:
            raise InputError(
                f"{directory / run_directory.INTERVENTIONS} was changed: example {edit.example_id!r} of {edit.task!r} "
                "is not among the run's."
            )
        check(example, edit)
        edits.append(edit)
    return edits


def _changed_science(before: Science, now: Science) -> str | None:
    """Say what differs; None where nothing does. Fields of later versions had their default before."""
    change = run_directory.difference(before, now)
    if change is not None and not change.startswith("its "):
        return f"in run.json {change}"
    for name, values in now.growing:
        recorded = getattr(before.growing, name)
        if recorded == values:
            continue
        if isinstance(values, dict):
            keys = sorted(key for key in recorded.keys() | values.keys() if recorded.get(key) != values.get(key))
            return f"the {name} were changed ({', '.join(keys[:5])}{', …' if len(keys) > 5 else ''})"
        return f"in run.json {name} was {list(recorded)!r}, now {list(values)!r}"
    return None


def _changed_inputs(before: Mapping[str, TaskFacts], now: Mapping[str, TaskFacts]) -> str | None:
    for task, facts in now.items():
        if before[task].examples != facts.examples:
            return f"{run_directory.EXAMPLES} was changed (task {task})"
        if before[task].kinds != facts.kinds:
            return f"{run_directory.INTERVENTIONS} was changed (task {task})"
    return None
