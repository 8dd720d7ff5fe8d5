"""Write a run as records of other evaluation tools: logs of Inspect AI, and records of Every Eval Ever.

Inspect's (https://inspect.aisi.org.uk) unit is one model on one task, so there is one log for each model, task and arm.
A sample is one trial: the input before and after the insertion, and the model's answers to both. Every Eval Ever
(https://github.com/evaleval/every_eval_ever) has one record for each model, which follows version 0.3.0 of the
project's eval.schema.json. What the run does not know stands there as unknown.
"""

from __future__ import annotations

import hashlib
import json
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from explaineval.config.installation import install_extra
from explaineval.datasets.downloads import OFFICIAL
from explaineval.errors import InputError
from explaineval.records import EXPLANATION, SIMULATED_NOTE, SIMULATED_PREFIX, Condition, Example, MetricRow, Trial
from explaineval.reporting.exports.data_card import task_source
from explaineval.reporting.exports.rows import creating, line_starts, read_at
from explaineval.reporting.results import RunResults
from explaineval.rundir.directory import TRIALS, read_examples, read_trials
from explaineval.scoring.registry import (
    ACCURACY,
    FPR,
    IMPACT_RATE,
    MENTION_FLOOR,
    MENTION_RATE,
    METRICS,
    PHI_CCT,
    TPR,
)
from explaineval.scoring.task_means import MEAN
from explaineval.signature import mention_rule

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalSample, EvalScore
    from inspect_ai.model import ChatMessage


CELLS = {
    (True, True): ("a", "the answer changed, and the explanation mentions the insertion"),
    (True, False): ("b", "the answer changed, and the explanation does not mention the insertion"),
    (False, True): ("c", "the answer did not change, and the explanation mentions the insertion"),
    (False, False): ("d", "the answer did not change, and the explanation does not mention the insertion"),
}
"""The cells of the 2×2 table by changed and mentioned, as docs/method.md names them."""

SCORER = "explaineval"


def write_inspect_logs(run: RunResults, directory: Path) -> tuple[tuple[Path, ...], int]:
    """Write one log for each model, task and arm into a directory, which is made; return them and their samples.

    Inspect's writer takes all samples of a log at once, so the trials of one arm are in memory, never those of the
    whole run. Logs of the same run have the same names and replace each other.

    Raises InputError where inspect-ai is missing, or the directory or a log cannot be written.
    """
    try:
        import inspect_ai.log as inspect_log
    except ImportError as error:
        raise InputError(
            f"logs of Inspect need inspect-ai, which is not installed: {install_extra('inspect')}."
        ) from error

    examples = {(example.task, example.id): example for example in read_examples(run.directory)}
    places = {key: number for number, key in enumerate(examples)}

    def place(trial: Trial) -> tuple[int, int, str, str]:
        number = places.get((trial.task, trial.example_id), len(places))
        return number, trial.sample, trial.kind, trial.intervention_id or ""

    files, samples = [], 0
    for arm, offsets in sorted(_trials_by_arm(run.directory).items(), key=lambda item: item[0].arm_name):
        trials = sorted(read_at(run.directory / TRIALS, offsets), key=place)
        log = _log(run, arm, [_sample(trial, examples) for trial in trials])
        path = directory / _file_name(run, arm)
        draft = directory / f".{path.name}.part.eval"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            try:
                inspect_log.write_eval_log(log, str(draft), format="eval")
                draft.replace(path)
            finally:
                with suppress(OSError):
                    draft.unlink(missing_ok=True)
        except OSError as exc:
            raise InputError(f"{path} cannot be written: {exc.strerror or exc}.") from None
        files.append(path)
        samples += len(log.samples or ())
    return tuple(files), samples


def _trials_by_arm(directory: Path) -> dict[Condition, array[int]]:
    """Return where the lines of each arm's trials begin in trials.jsonl, in bytes and in its order."""
    starts: dict[Condition, array[int]] = {}
    for trial, start in zip(read_trials(directory), line_starts(directory / TRIALS), strict=False):
        starts.setdefault(trial.condition.arm, array("Q")).append(start)
    return starts


def _file_name(run: RunResults, arm: Condition) -> str:
    """Return a name as Inspect's own logs have it: the time, the task and an id."""
    moment = re.sub(r"[^0-9T+]", "-", run.record.created) or "undated"
    task = re.sub(r"[^A-Za-z0-9]+", "-", arm.task)[:60]
    return f"{moment}_{task}_{_identifier(run, arm.arm_name)}.eval"


def _identifier(run: RunResults, what: str) -> str:
    """Return an id that is the same whenever the same run is exported."""
    text = f"{run.record.signature}\n{what}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:22]


def _log(run: RunResults, arm: Condition, samples: list[EvalSample]) -> EvalLog:
    from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalResults, EvalSpec, EvalStats
    from inspect_ai.model import GenerateConfig

    record = run.record
    facts = record.facts.tasks.get(arm.task)
    arm_facts = record.facts.arms.get(arm.arm_name)
    usage = run.usage(arm.endpoint, arm.model)
    known = run.model(arm.endpoint, arm.model)
    metadata = {
        "explaineval": record.explaineval,
        "signature": record.signature,
        "simulated": SIMULATED_NOTE if arm.model.startswith(SIMULATED_PREFIX) else None,
        "endpoint": arm.endpoint,
        **{name: getattr(arm, name) for name in ("order", "style", "shots", "verbosity")},
        "mention": record.config.mention,
        "hashes": None if arm_facts is None else arm_facts.model_dump(mode="json"),
        "interventions": None if facts is None else facts.kinds,
        "versions": [] if usage is None else [snapshot.model_dump(mode="json") for snapshot in usage.snapshots],
        "family": None if known is None else known.family,
        "parameters": None if known is None else known.parameters,
    }
    created = _moment(record.created)
    return EvalLog(
        status="success",
        eval=EvalSpec(
            eval_id=_identifier(run, f"eval {arm.arm_name}"),
            run_id=_identifier(run, "run"),
            task_id=_identifier(run, f"task {arm.task}"),
            created=created,
            task=arm.task,
            task_version=0 if facts is None else facts.examples,
            task_attribs={"interventions": {} if facts is None else facts.kinds},
            dataset=EvalDataset(name=arm.task, samples=len(samples), shuffled=False),
            model=arm.model,
            model_generate_config=GenerateConfig(max_tokens=record.config.max_tokens),
            config=EvalConfig(epochs=max([1, *(sample.epoch for sample in samples)])),
            packages={"explaineval": record.explaineval, **record.packages},
            metadata=metadata,
        ),
        results=EvalResults(
            total_samples=len(samples), completed_samples=len(samples), scores=list(_scores(run, arm, samples))
        ),
        stats=EvalStats(started_at=created, completed_at=created),
        samples=samples,
    )


def _moment(created: str) -> str:
    """Return the time of the run as Inspect takes it; its epoch where run.json has none."""
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        moment = datetime.fromtimestamp(0, UTC)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()


def _scores(run: RunResults, arm: Condition, samples: list[EvalSample]) -> Iterator[EvalScore]:
    """Yield the metrics of an arm: one score for each kind of intervention and each way mentions were looked for.

    Undefined numbers, which Inspect has no place for, stand in the metadata with their reasons.
    """
    from inspect_ai.log import EvalMetric, EvalScore

    by_name: dict[str, list[MetricRow]] = {}
    for row in run.scores.rows:
        about = row.condition.arm.without_mention
        if about in (arm, arm._replace(verbosity=None)):
            by_name.setdefault(_score_name(row, run.record.config.mention), []).append(row)
    counts = Counter(sample.metadata["kind"] for sample in samples)
    scored = Counter(sample.metadata["kind"] for sample in samples if sample.scores)
    for name, rows in by_name.items():
        yield EvalScore(
            name=name,
            scorer=SCORER,
            scored_samples=scored[name] or None,
            unscored_samples=counts[name] - scored[name] if counts[name] else None,
            metrics={
                row.metric: EvalMetric(name=row.metric, value=row.value, metadata=_details(row))
                for row in rows
                if row.value is not None
            },
            metadata={"undefined": {row.metric: row.undefined for row in rows if row.value is None}},
        )


def _score_name(row: MetricRow, own: str) -> str:
    """Name what a number is about beside its arm: the kind, and where another than the run's own, the mentions."""
    parts = [row.kind or "all kinds"]
    parts += ["all levels"] if row.verbosity is None else []
    parts += [row.channel] if row.channel not in (None, EXPLANATION) else []
    parts += [row.mention] if row.mention not in (None, mention_rule(row.kind, own)) else []
    parts += [f"judged by {row.judge}"] if row.judge is not None else []
    return ", ".join(parts)


def _details(row: MetricRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in ("low", "high", "n", "n_examples", "signature")}


def _sample(trial: Trial, examples: Mapping[tuple[str, str], Example]) -> EvalSample:
    """Return one trial as a sample. A trial without a score has no scores, and its status in the metadata."""
    from inspect_ai.log import EvalSample
    from inspect_ai.model import ChatMessageUser
    from inspect_ai.scorer import Score

    example = examples.get((trial.task, trial.example_id))
    before = _input(example, trial.example_id, trial.edits_before)
    after = _input(example, trial.example_id, trial.edits)
    if trial.field is None and (cue := trial.text_after or trial.inserted):  # it stands beside the fields
        after += f"\n\n{cue}"
    messages: list[ChatMessage] = [
        ChatMessageUser(id=f"{trial.id}.1", content=before, metadata={"side": "before"}),
        _reply(trial.id, "before", trial.label_before, trial.explanation_before, trial.reasoning_before, trial.model),
        ChatMessageUser(id=f"{trial.id}.3", content=after, metadata={"side": "after"}),
        _reply(trial.id, "after", trial.label_after, trial.explanation, trial.reasoning, trial.model),
    ]
    scores = {}
    if trial.changed is not None:
        scores["changed"] = Score(value=trial.changed, answer=trial.label_after)
    if trial.mentioned is not None:
        scores["mentioned"] = Score(value=trial.mentioned, answer=trial.inserted)
    if trial.changed is not None and trial.mentioned is not None:
        cell, meaning = CELLS[trial.changed, trial.mentioned]
        scores["cell"] = Score(value=cell, explanation=f"Cell {cell} of the 2×2 table: {meaning}.")
    if trial.tvd is not None:
        scores["tvd"] = Score(value=trial.tvd)
    return EvalSample(
        id=_sample_name(trial),
        uuid=trial.id,
        epoch=1,
        input=after,
        choices=None if example is None else [f"{letter}: {text}" for letter, text in example.options.items()],
        target=trial.gold or "",
        messages=messages,
        scores=scores or None,
        metadata={
            name: getattr(trial, name)
            for name in (
                "example_id", "intervention_id", "sample", "kind", "field", "inserted", "status", "status_side",
                "label_before", "label_after", "probs_before", "probs_after", "tvd", "tvd_reason", "mentioned_before",
                "key_before", "key_after",
            )
        },
    )  # fmt: skip


def _sample_name(trial: Trial) -> str:
    """Return a name that sorts by example. Inspect names a member of the log's zip file after it, so it is no path."""
    plain = (re.sub(r"[^A-Za-z0-9-]+", "-", text)[:60] for text in (trial.example_id, trial.kind))
    return "_".join([*plain, trial.id])


def _input(example: Example | None, example_id: str, edited: Mapping[str, str]) -> str:
    """Return an input as its fields and options; the run's prompts say in which words it was asked."""
    if example is None:
        return "\n".join([f"example {example_id}", *(f"{name}: {text}" for name, text in edited.items())])
    lines = [f"{name}: {edited.get(name, text)}" for name, text in example.fields.items()]
    return "\n".join([*lines, "", *(f"{letter}) {text}" for letter, text in example.options.items())])


def _reply(
    trial: str, side: str, label: str | None, explanation: str | None, reasoning: str | None, model: str
) -> ChatMessage:
    """Return an answer as it was read: its label and its explanation, with the reasoning if there was any."""
    from inspect_ai.model import ChatMessageAssistant, Content, ContentReasoning, ContentText

    text = f"Answer: {label}" if label is not None else "No answer could be read."
    if explanation is not None:
        text += f"\n\n{explanation}"
    content: list[Content] = [] if reasoning is None else [ContentReasoning(reasoning=reasoning)]
    content.append(ContentText(text=text))
    number = 2 if side == "before" else 4
    return ChatMessageAssistant(id=f"{trial}.{number}", content=content, model=model, metadata={"side": side})


SCHEMA_VERSION = "0.3.0"
UNKNOWN = "unknown"
COLLECTION = "explaineval"
"""The first part of the path of records below a data directory."""

INTERVALS = {
    "jackknife": "over examples: jackknife for correlations and areas, Wilson with the design effect for rates",
    "percentile": "percentile bootstrap over examples",
}


def is_rated(metric: str) -> bool:
    """Say whether a record has a metric: those that are better in one direction, which the schema requires to be named.

    What describes a model without being better or worse (the impact rate, say) stands in the details of phi-CCT.
    """
    about = METRICS[metric]
    return about.better is not None and None not in (about.scale.low, about.scale.high)


BESIDE = (IMPACT_RATE, MENTION_RATE, TPR, FPR, MENTION_FLOOR)
"""What belongs beside every phi-CCT."""


def write_records(run: RunResults, directory: Path, now: datetime) -> tuple[tuple[Path, ...], int]:
    """Write DIRECTORY/explaineval/DEVELOPER/MODEL/UUID.json for each model; return the files and their results.

    The same run gives the same names, so that a second export replaces the first. `now` is when the records are made.
    Raises InputError where a file cannot be written.
    """
    files, results = [], 0
    for endpoint, model in dict.fromkeys((row.endpoint, row.model) for row in run.scores.rows):
        record = record_of(run, endpoint, model, now)
        digest = hashlib.sha256(record["evaluation_id"].encode("utf-8", "surrogatepass")).digest()
        path = directory / COLLECTION / UNKNOWN / _path_part(model) / f"{UUID(bytes=digest[:16], version=4)}.json"
        with creating(path) as handle:
            text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
            handle.write(text.encode("utf-8", "replace"))
        files.append(path)
        results += len(record["evaluation_results"])
    return tuple(files), results


def _path_part(name: str) -> str:
    """Return a name as one part of a path, on every system."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip(".")[:100] or UNKNOWN
    return plain if plain.lower() != "data" else "_data"


def record_of(run: RunResults, endpoint: str | None, model: str, now: datetime) -> dict[str, Any]:
    """Return the record of one model as a JSON document."""
    record = run.record
    own = [row for row in run.scores.rows if (row.endpoint, row.model) == (endpoint, model)]
    scored = [row for row in own if is_rated(row.metric) and row.value is not None]
    lacking = {_result_id(row): row.undefined or UNKNOWN for row in own if is_rated(row.metric) and row.value is None}
    moment = _epoch(record.created)
    run_name = record.signature.rpartition("|")[2]
    return {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": f"{COLLECTION}/{model}{'@' + endpoint if endpoint else ''}/{moment or run_name}",
        **({"evaluation_timestamp": moment} if moment else {}),
        "retrieved_timestamp": str(now.timestamp()),
        "source_metadata": {
            "source_name": "explaineval",
            "source_type": "evaluation_run",
            "source_organization_name": UNKNOWN,
            "evaluator_relationship": "other",
            "additional_details": _texts({"signature": record.signature, "undefined": lacking or None}),
        },
        "eval_library": {
            "name": "explaineval",
            "version": record.explaineval,
            "additional_details": _texts(record.packages),
        },
        "model_info": _model_info(run, endpoint, model),
        "evaluation_results": [_result(run, row, own) for row in scored],
    }


def _epoch(created: str) -> str | None:
    """Return the time of the run in seconds since 1970, as text; None where run.json has none."""
    try:
        return str(datetime.fromisoformat(created).timestamp())
    except ValueError:
        return None


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Return details as the schema wants them: texts only, JSON for what is none, nothing for None."""
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
        for name, value in values.items()
        if value is not None
    }


def _model_info(run: RunResults, endpoint: str | None, model: str) -> dict[str, Any]:
    known, usage = run.model(endpoint, model), run.usage(endpoint, model)
    simulated = model.startswith(SIMULATED_PREFIX)
    hosted = endpoint is None and not simulated  # at the provider's own address
    details = {
        "deployment_type": "externally_managed" if hosted else UNKNOWN,
        "model_availability": UNKNOWN,
        "simulated": SIMULATED_NOTE if simulated else None,
        "endpoint": endpoint,
        "family": None if known is None else known.family,
        "parameters": None if known is None else known.parameters,
        "tuned": None if known is None else known.tuned,
        "versions": None if usage is None else [item.model_dump(mode="json") for item in usage.snapshots] or None,
    }
    platform = {"inference_platform": model.partition("/")[0]} if hosted else {}
    return {"name": model, "id": model, "developer": UNKNOWN, **platform, "additional_details": _texts(details)}


def _result(run: RunResults, row: MetricRow, own: list[MetricRow]) -> dict[str, Any]:
    config, metric = run.record.config, METRICS[row.metric]
    beside = {}
    if row.metric == PHI_CCT:
        same = row.condition.without_mention
        beside = {other.metric: other for other in own if other.condition.without_mention == same}
    uncertainty: dict[str, Any] = {"num_samples": row.n}
    if row.low is not None and row.high is not None:
        uncertainty["confidence_interval"] = {
            "lower": row.low,
            "upper": row.high,
            "confidence_level": 0.95,
            "method": INTERVALS[config.interval],
        }
    if config.interval == "percentile":
        uncertainty["num_bootstrap_samples"] = config.resamples
    details = {name: beside[name].value for name in BESIDE if name in beside}
    return {
        "evaluation_result_id": _result_id(row),
        "evaluation_name": f"{COLLECTION}.{row.task}",
        "source_data": _source_data(run, row.task),
        "metric_config": {
            "evaluation_description": metric.definition,
            "metric_id": ACCURACY if row.metric == ACCURACY else f"{COLLECTION}.{row.metric}",
            "metric_name": metric.title,
            "lower_is_better": metric.better == "lower",
            "score_type": "continuous",
            "min_score": metric.scale.low,
            "max_score": metric.scale.high,
            "additional_details": _texts({"source": metric.source, "pitfall": metric.pitfall}),
        },
        "score_details": {
            "score": row.value,
            "details": _texts({"n_examples": row.n_examples, "signature": row.signature, **details}),
            "uncertainty": uncertainty,
        },
        "generation_config": _generation(run, row),
    }


def _result_id(row: MetricRow) -> str:
    """Name a result by what it is about and what it measures."""
    parts = (row.task, row.kind, row.order, row.style, row.shots, row.verbosity, row.channel, row.mention, row.judge)
    return "/".join([*("-" if part is None else str(part) for part in parts), row.metric])


def _source_data(run: RunResults, task: str) -> dict[str, Any]:
    facts = run.record.facts.tasks.get(task)
    details: dict[str, Any] = {"examples_hash": None if facts is None else facts.examples}
    if facts is not None:
        details |= {"examples": facts.n_examples, "interventions_hashes": facts.kinds}
    if task == MEAN:
        details["tasks"] = list(run.record.facts.tasks)
    source = task_source(run.record.config, task)
    official = OFFICIAL.get(source.format) if source is not None else None
    if source is not None:
        details |= {"licence": source.licence, "format": source.format}
    if official is None:
        return {"dataset_name": task, "source_type": "other", "additional_details": _texts(details)}
    urls = [file.url for file in official.files]
    return {"dataset_name": task, "source_type": "url", "url": urls, "additional_details": _texts(details)}


def _generation(run: RunResults, row: MetricRow) -> dict[str, Any]:
    config = run.record.config
    arms = list(_arm_facts(run, row))
    sent = {facts.temperature for facts in arms}
    temperature = sent.pop() if len(sent) == 1 else None
    arguments: dict[str, Any] = {"max_tokens": config.max_tokens}
    if temperature is not None and re.fullmatch(r"\d+(\.\d+)?", temperature):
        arguments["temperature"] = float(temperature)
    details = {
        "order": row.order,
        "style": row.style,
        "shots": row.shots,
        "verbosity": row.verbosity,
        "interventions": row.kind,
        "channel": row.channel if row.channel != EXPLANATION else None,
        "mention": row.mention,
        "judge": row.judge,
        "samples": config.samples,
        "params": config.params or None,
        "prompts_hashes": sorted({facts.prompts for facts in arms}),
    }
    return {"generation_args": arguments, "additional_details": _texts(details)}


def _arm_facts(run: RunResults, row: MetricRow) -> Iterator[Any]:
    """Yield what is known of the arms that a number rests on: one, or several where it is over tasks or levels."""
    facts = run.record.facts
    tasks = list(facts.tasks) if row.task == MEAN else [row.task]
    levels = run.record.config.arms.verbosity if row.verbosity is None else [row.verbosity]
    for task in tasks:
        for level in levels:
            name = row.condition.arm.without_mention._replace(task=task, verbosity=level).arm_name
            if name in facts.arms:
                yield facts.arms[name]
