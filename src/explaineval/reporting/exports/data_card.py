"""Describe a run in a data card: what was measured on what, what is missing, and every hash that reproduces it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from explaineval.config import RunConfig
from explaineval.datasets import parse_specs
from explaineval.datasets.downloads import OFFICIAL
from explaineval.datasets.readers import BUNDLED
from explaineval.errors import InputError
from explaineval.files import open_regular
from explaineval.interventions import kind_of
from explaineval.records import SIMULATED_NOTE, SIMULATED_PREFIX
from explaineval.reporting.exports.papers import escape_markdown as escape
from explaineval.reporting.exports.papers import pipe_table
from explaineval.reporting.results import RunResults
from explaineval.rundir.directory import read_interventions, read_trials
from explaineval.scoring.codes import GRADES, MetricWarning, find_origins
from explaineval.scoring.registry import METRICS
from explaineval.text import ORDERS, counted, dollars_text

OURS = "Apache-2.0, with explaineval"
"""The licence of the bundled tasks."""


class TaskSource(NamedTuple):
    """Where a task comes from: its format, its file's name without the directory, and the licence of its texts."""

    format: str
    file: str | None
    licence: str | None


def task_source(config: RunConfig, task: str) -> TaskSource | None:
    """Return where a task comes from; None for what is no task of the run, such as a mean over tasks.

    The licence is that which the authors of a known dataset state, that of this package for its own tasks, and None
    where it is not known.
    """
    try:
        specs = parse_specs(config.tasks, config.columns)
    except InputError:  # a task of another version of explaineval
        return None
    spec = next((spec for spec in specs if spec.name == task), None)
    if spec is None:
        return None
    if spec.path is None and spec.format in BUNDLED:
        return TaskSource(spec.format, None, OURS)
    licence = OFFICIAL[spec.format].licence if spec.format in OFFICIAL else None
    return TaskSource(spec.format, PurePath(spec.path).name if spec.path else None, licence)


UNKNOWN = "unknown"

GENERAL_LIMITS = (
    "The numbers say whether explanations name what was inserted, and nothing of other reasons for an answer.",
    "They hold for these examples, insertions and prompts, and for the versions of the models that answered then.",
    "An endpoint may change a model without changing its name: the versions above are what it said itself.",
)


def data_card(run: RunResults, out: Path) -> str:
    """Return the card of a run as Markdown; `out` is where it will be written, which it does not list.

    What the run directory does not say is "unknown". Raises InputError where a file of the directory cannot be read.
    """
    sections = {
        f"Data card: {escape(run.name)}": _about(run),
        "What was measured": _measured(run),
        "Models": _models(run),
        "Tasks": _tasks(run),
        "Insertions": _insertions(run),
        "Trials and what is missing": _trials(run),
        "Requests and costs": _costs(run),
        "Settings": _settings(run),
        "Limits": _limits(run),
        "Hashes of contents": _hashes(run),
        "Files": _files(run.directory, out),
        "Versions": _versions(run),
        "How to reproduce it": _reproduction(run),
    }
    parts = []
    for level, (title, lines) in enumerate(sections.items()):
        parts += [f"{'#' if level == 0 else '##'} {title}", "", *lines, ""]
    return "\n".join(parts)


def _text(value: object) -> str:
    """Return a value as it stands in the card: escaped, and `unknown` where there is none."""
    return UNKNOWN if value is None or value == "" else escape(str(value))


def _list(values: Sequence[object]) -> str:
    return ", ".join(map(_text, values)) or "none"


def _about(run: RunResults) -> Iterator[str]:
    record = run.record
    state = "finished" if record.complete else "not finished: what follows describes its finished part"
    yield f"A run of explaineval {_text(record.explaineval)}, begun {_text(record.created)}, {state}."
    if any(model.model.startswith(SIMULATED_PREFIX) for model in record.config.models):
        yield "Models whose names begin with simulated/ are simulated, not language models."


def _measured(run: RunResults) -> Iterator[str]:
    config = run.record.config
    yield (
        "Whether explanations are faithful. A text is inserted into an input; the model answers and explains before "
        "and after; what counts is whether the answer changed and whether the explanation mentions the insertion."
    )
    yield ""
    for name in dict.fromkeys(row.metric for row in run.scores.rows):
        metric = METRICS.get(name)
        if metric is not None and metric.cell is not None:
            yield f"- {escape(metric.title)}: {escape(metric.definition.partition('. ')[0].removesuffix('.'))}."
    yield ""
    yield (
        f"{len(run.scores.rows):,} numbers in metrics.json. Models: {len(config.models):,}. Tasks: "
        f"{len(config.tasks):,}. `explaineval explain METRIC` gives the source and the pitfall of each."
    )


def _models(run: RunResults) -> Iterator[str]:
    rows = []
    for model in run.record.config.models:
        usage = run.usage(model.endpoint, model.model)
        endpoint = run.record.client.endpoints.get(model.endpoint or "")
        simulated = model.model.startswith(SIMULATED_PREFIX)
        where = "none: simulated" if simulated else _text(endpoint.base_url) if endpoint else "the provider's default"
        versions = [
            f"{_text(item.model)}, fingerprint {_text(item.fingerprint)}, {counted(item.answers, 'answer')}"
            for item in (usage.snapshots if usage else ())
        ]
        if usage is not None and usage.address is not None and usage.address != model.endpoint:
            where = f"{_text(usage.address)}, called {_text(model.endpoint)}"
        rows.append(
            [
                _text(model.model) + (f" ({SIMULATED_NOTE})" if simulated else ""),
                where,
                "; ".join(versions) or UNKNOWN,
                _text(model.family),
                UNKNOWN if model.parameters is None else f"{round(model.parameters):,}",
                _text(model.tuned),
            ]
        )
    yield from pipe_table(["Model", "Address", "Versions that answered", "Family", "Parameters", "Tuned"], rows)
    for entry in run.record.endpoints:
        for found in find_origins(entry):
            yield ""
            yield _text(found.text)


def _tasks(run: RunResults) -> Iterator[str]:
    rows = []
    for name, facts in run.record.facts.tasks.items():
        source = task_source(run.record.config, name)
        if source is None:
            origin = UNKNOWN
        elif source.file is None:
            origin = "comes with explaineval"
        else:
            origin = f"{_text(source.format)} file {_text(source.file)}"
        licence = _text(source.licence if source else None)
        shots = f"{facts.n_shots}, {_text(facts.shots_source)}" if facts.n_shots else "none"
        rows.append([_text(name), f"{facts.n_examples:,}", origin, licence, shots])
    yield from pipe_table(["Task", "Examples", "Source", "Licence", "Shots"], rows)


def _insertions(run: RunResults) -> Iterator[str]:
    edits = run.record.config.interventions
    counts: Counter[tuple[str, str]] = Counter()
    for edit in read_interventions(run.directory):
        counts[edit.task, edit.kind] += 1
    rows = []
    for (task, kind), count in counts.items():
        facts = run.record.facts.tasks.get(task)
        digest = facts.kinds.get(kind) if facts else None
        rows.append([_text(task), _text(kind), f"{count:,}", _text(digest)])
    yield from pipe_table(["Task", "Kind", "Insertions", "Hash"], rows)
    yield ""
    if edits.file is not None:
        yield f"From the file {_text(edits.file.name)}."
    elif edits.kind is not None:
        yield f"Made by explaineval with seed {run.record.config.seed}, at most {edits.per_example} for each example."
    else:
        yield "They come with the task."


def _trials(run: RunResults) -> Iterator[str]:
    counts: dict[str, Counter[str]] = {model.model: Counter() for model in run.record.config.models}
    for trial in read_trials(run.directory):
        control = kind_of(trial.kind).measures_noise
        counts.setdefault(trial.model, Counter())["controls" if control else trial.status] += 1
    statuses = sorted({status for by_status in counts.values() for status in by_status} - {"ok", "controls"})
    statuses = ["ok", *statuses, "controls"]
    rows = [[_text(model), *(f"{found[status]:,}" for status in statuses)] for model, found in counts.items() if found]
    yield from pipe_table(["Model", *map(_text, statuses)], rows, right=range(1, len(statuses) + 1))
    yield ""
    yield (
        "ok trials are scored; the others have no score and are never counted as one. Controls are trials without an "
        "insertion of interest (the same prompt asked again, a space added)."
    )


def _costs(run: RunResults) -> Iterator[str]:
    totals = run.record.totals
    if totals is None:
        yield f"{UNKNOWN.capitalize()}: the run has not come to its end."
        return
    counts = totals.requests
    yield (
        f"- Requests: {counts.planned:,} planned, {counts.distinct:,} distinct, {counts.hits:,} from the cache, "
        f"{counts.sent:,} sent, {counts.unsent:,} unsent, {counted(counts.retries, 'retry')}."
    )
    for text, usd in (
        ("Spent in this run", totals.usd_spent),
        ("Saved by the cache", totals.usd_saved_by_cache),
        ("All of it from scratch", totals.usd_from_scratch),
    ):
        yield f"- {text}: {UNKNOWN if usd is None else dollars_text(usd)}."
    tokens = [entry.tokens for entry in run.record.endpoints if entry.tokens is not None]
    if tokens:
        sent = (sum(part.sent_in for part in tokens), sum(part.sent_out for part in tokens))
        kept = (sum(part.hit_in for part in tokens), sum(part.hit_out for part in tokens))
        yield f"- Tokens in and out: {sent[0]:,} and {sent[1]:,} sent for, {kept[0]:,} and {kept[1]:,} from the cache."
    yield f"- Prices: {_text(run.record.prices)}."


def _settings(run: RunResults) -> Iterator[str]:
    config = run.record.config
    arms = run.record.facts.arms.values()
    shots = _list(config.arms.shots) if config.arms.shots is not None else "by style"
    yield f"- Orders: {_list([ORDERS.get(order, order) for order in config.arms.order])}."
    yield f"- Styles: {_list(config.arms.style)}. Shots: {shots}. Verbosity: {_list(config.arms.verbosity)}."
    yield f"- Temperature sent: {_list(sorted({arm.temperature for arm in arms}))}. Most tokens: {config.max_tokens:,}."
    yield f"- Log-probabilities asked for: {_list(sorted({arm.logprobs for arm in arms}))}."
    yield f"- Sampling parameters: {_text(config.params) if config.params else 'none'}."
    yield f"- Samples: {config.samples}. Unchanged prompts asked again: {config.shams}. Seed: {config.seed}."
    yield f"- What counts as a mention: {_text(config.mention)}. Intervals: 95 %, {_text(config.interval)}."


def _limits(run: RunResults) -> Iterator[str]:
    warnings: dict[tuple[int, str], list[MetricWarning]] = {}
    for item in run.scores.warnings:
        key = (GRADES.index(item.warning.grade), item.warning.code)
        warnings.setdefault(key, []).append(item.warning)
    rows = []
    for (_, code), own in sorted(warnings.items()):
        rows.append([_text(own[0].grade), _text(code), f"{len(own):,}", _text(own[0].text), _text(own[0].todo)])
    yield from (f"- {text}" for text in GENERAL_LIMITS)
    yield ""
    if rows:
        yield from pipe_table(["Grade", "Code", "Numbers", "For example", "What to do"], rows)
        yield ""
    yield "All warnings: `explaineval notes RUN_DIR`."


def _hashes(run: RunResults) -> Iterator[str]:
    record = run.record
    yield f"- Signature of the run: {_text(record.signature)}"
    yield ""
    rows = []
    for name, facts in record.facts.tasks.items():
        rows.append([f"task {_text(name)}", "examples", _text(facts.examples)])
        rows += [[f"task {_text(name)}", f"insertions {_text(kind)}", digest] for kind, digest in facts.kinds.items()]
        rows.append([f"task {_text(name)}", "shots", _text(facts.shots)])
        rows += [[f"task {_text(name)}", f"shots, {_text(level)}", d] for level, d in facts.level_shots.items()]
    for what, digests in (
        ("prompts", record.science.growing.prompts),
        ("shots", record.science.growing.shots),
    ):
        rows += [[what, _text(name), _text(digest)] for name, digest in digests.items()]
    yield from pipe_table(["Of", "What", "Hash"], rows)
    yield ""
    yield "These are the beginnings of SHA-256 hashes that stand in signatures. Each number has its own signature."


def _files(directory: Path, out: Path) -> Iterator[str]:
    rows = [
        [_text(path.relative_to(directory).as_posix()), f"{path.stat().st_size:,}", _sha256(path)]
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.resolve() != out.resolve()
    ]
    yield from pipe_table(["File", "Bytes", "SHA-256"], rows)


def _sha256(path: Path) -> str:
    total = hashlib.sha256()
    with open_regular(path) as handle:
        while block := handle.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def _versions(run: RunResults) -> Iterator[str]:
    record = run.record
    rows: list[list[Any]] = [["explaineval", _text(record.explaineval)], ["Python", _text(record.python)]]
    rows += [[_text(name), _text(version)] for name, version in record.packages.items()]
    yield from pipe_table(["Package", "Version"], rows)


def _reproduction(run: RunResults) -> Iterator[str]:
    yield f"With explaineval {_text(run.record.explaineval)} and the packages above:"
    yield ""
    yield "- `explaineval score RUN_DIR` computes every number again from the files above; nothing is sent."
    yield "- `explaineval report RUN_DIR` makes the page, which rests on the same files."
    yield "- `explaineval export RUN_DIR --out F.zip` adds the answers; `explaineval reproduce F.zip` compares all."
