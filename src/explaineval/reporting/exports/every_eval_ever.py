"""Write a run as records of Every Eval Ever (https://github.com/evaleval/every_eval_ever), one for each model.

A record follows version 0.3.0 of the project's eval.schema.json. What the run does not know stands there as unknown.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from explaineval.datasets.downloads import OFFICIAL
from explaineval.records import EXPLANATION, SIMULATED_NOTE, SIMULATED_PREFIX, MetricRow
from explaineval.reporting.exports.data_card import task_source
from explaineval.reporting.exports.rows import creating
from explaineval.reporting.results import RunResults
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

SCHEMA_VERSION = "0.3.0"
UNKNOWN = "unknown"
COLLECTION = "explaineval"
"""The first part of the path of records below a data directory."""

INTERVALS = {
    "jackknife": "over examples: jackknife for correlations and areas, Wilson with the design effect for rates",
    "percentile": "percentile bootstrap over examples",
}


LOWER_IS_BETTER: Mapping[str, bool] = {
    name: metric.better == "lower" for name, metric in METRICS.items() if metric.better is not None
}
"""The metrics of a record: those that are better in one direction, which the schema requires to be named. What
describes a model without being better or worse (the impact rate, say) stands in the details of phi-CCT."""

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
    scored = [row for row in own if row.metric in LOWER_IS_BETTER and row.value is not None]
    lacking = {
        _result_id(row): row.undefined or UNKNOWN for row in own if row.metric in LOWER_IS_BETTER and row.value is None
    }
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
            "lower_is_better": LOWER_IS_BETTER[row.metric],
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
