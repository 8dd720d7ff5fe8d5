"""Records of Every Eval Ever against their schema, and the data card against the files that it describes."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema
import pytest
from markdown_it import MarkdownIt

from explaineval.config import RunConfig
from explaineval.datasets import parse_specs
from explaineval.datasets.downloads import OFFICIAL
from explaineval.reporting.exports.data_card import OURS, data_card, task_source
from explaineval.reporting.exports.records import SCHEMA_VERSION, is_rated, record_of, write_records
from explaineval.reporting.results import read_results
from explaineval.rundir.directory import read_metrics, read_run
from explaineval.scoring.registry import METRICS
from makers.exported import ATTACKS, attacked_run, finished, require
from makers.reports import MODELS, varied_run
from makers.runs import make_run, make_trial

NOW = datetime(2026, 3, 1, tzinfo=UTC)

TEXT: dict[str, Any] = {"type": "string"}
NUMBER: dict[str, Any] = {"type": "number"}
TEXTS: dict[str, Any] = {"type": "object", "additionalProperties": TEXT}


def shape(needed: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    """A JSON object with these fields and no others."""
    fields = needed | (optional or {})
    return {"type": "object", "required": list(needed), "properties": fields, "additionalProperties": False}


def one_of(*values: str) -> dict[str, Any]:
    """One of these texts."""
    return {"enum": list(values)}


DEPLOYMENT = {
    "deployment_type": one_of("self_deployed", "externally_managed", "unknown"),
    "model_availability": one_of("open_weights", "closed_weights", "unknown"),
}
RESULT = shape(
    {
        "evaluation_name": TEXT,
        "source_data": {
            "oneOf": [
                shape(
                    {"dataset_name": TEXT, "source_type": one_of("url"), "url": {"type": "array", "minItems": 1}},
                    {"additional_details": TEXTS},
                ),
                shape({"dataset_name": TEXT, "source_type": one_of("other")}, {"additional_details": TEXTS}),
            ]
        },
        "metric_config": shape(
            {
                "lower_is_better": {"type": "boolean"}, "score_type": one_of("continuous"), "min_score": NUMBER,
                "max_score": NUMBER,
            },
            {
                "evaluation_description": TEXT, "metric_id": TEXT, "metric_name": TEXT, "metric_kind": TEXT,
                "metric_unit": TEXT, "additional_details": TEXTS,
            },
        ),
        "score_details": shape(
            {"score": NUMBER},
            {
                "details": TEXTS,
                "uncertainty": shape(
                    {},
                    {
                        "confidence_interval": shape(
                            {"lower": NUMBER, "upper": NUMBER},
                            {"confidence_level": {"type": "number", "minimum": 0, "maximum": 1}, "method": TEXT},
                        ),
                        "num_samples": {"type": "integer"},
                        "num_bootstrap_samples": {"type": "integer"},
                    },
                ),
            },
        ),
    },
    {
        "evaluation_result_id": TEXT,
        "evaluation_timestamp": TEXT,
        "generation_config": shape(
            {},
            {
                "generation_args": shape(
                    {}, {"temperature": {"type": ["null", "number"]}, "max_tokens": {"type": "integer", "minimum": 1}}
                ),
                "additional_details": TEXTS,
            },
        ),
    },
)  # fmt: skip
RECORD = shape(
    {
        "schema_version": one_of("0.3.0"),
        "evaluation_id": TEXT,
        "retrieved_timestamp": TEXT,
        "source_metadata": shape(
            {
                "source_type": one_of("documentation", "evaluation_run"),
                "source_organization_name": TEXT,
                "evaluator_relationship": one_of("first_party", "third_party", "collaborative", "other"),
            },
            {"source_name": TEXT, "additional_details": TEXTS},
        ),
        "model_info": shape(
            {
                "name": TEXT,
                "id": TEXT,
                "additional_details": {
                    "type": "object",
                    "required": list(DEPLOYMENT),
                    "properties": DEPLOYMENT,
                    "additionalProperties": TEXT,
                },
            },
            {"developer": TEXT, "inference_platform": TEXT},
        ),
        "eval_library": shape({"name": TEXT, "version": TEXT}, {"additional_details": TEXTS}),
        "evaluation_results": {"type": "array", "items": RESULT},
    },
    {"evaluation_timestamp": TEXT},
)
"""What version 0.3.0 of eval.schema.json asks of the fields that we write, in our words; it allows more than these."""


def schemas() -> list[dict[str, Any]]:
    """Our statement of the schema, and the project's own file where its package (Python 3.12) is installed."""
    found = importlib.util.find_spec("every_eval_ever")
    if found is None or found.submodule_search_locations is None:
        return [RECORD]
    path = Path(found.submodule_search_locations[0]) / "schemas" / "eval.schema.json"
    return [RECORD, json.loads(path.read_text(encoding="utf-8"))]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two models at two levels, with words and cues."""
    return finished(varied_run(tmp_path_factory.mktemp("varied") / "run"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of models that attack."""
    return attacked_run(tmp_path_factory.mktemp("hostile") / "run")


def records(run: Path, out: Path) -> dict[Path, dict[str, Any]]:
    """The records of a run, by file."""
    files, _ = write_records(read_results([run]).runs[0], out, NOW)
    return {path: json.loads(path.read_text(encoding="utf-8")) for path in files}


def test_records_follow_the_schema(run: Path, hostile: Path, tmp_path: Path) -> None:
    """Whatever models are called; one record for each."""
    for source, names in ((run, MODELS), (hostile, ATTACKS)):
        found = records(source, tmp_path / source.parent.name)
        assert sorted(record["model_info"]["name"] for record in found.values()) == sorted(names)
        for record in found.values():
            assert record["schema_version"] == SCHEMA_VERSION
            for schema in schemas():
                jsonschema.validate(record, schema)


def test_every_score_is_that_of_the_metrics(run: Path, tmp_path: Path) -> None:
    """With its interval, inside its scale; what is undefined is said apart, and nothing else is left out."""
    rows = read_metrics(run)
    for record in records(run, tmp_path).values():
        own = {
            "/".join([*("-" if part is None else str(part) for part in (
                row.task, row.kind, row.order, row.style, row.shots, row.verbosity, row.channel, row.mention, row.judge,
            )), row.metric]): row
            for row in rows if row.model == record["model_info"]["id"] and is_rated(row.metric)
        }  # fmt: skip
        undefined = json.loads(record["source_metadata"]["additional_details"].get("undefined", "{}"))
        found = {result["evaluation_result_id"]: result for result in record["evaluation_results"]}
        assert set(found) | set(undefined) == set(own)
        assert {name: own[name].undefined for name in undefined} == undefined
        for name, result in found.items():
            row, config, details = own[name], result["metric_config"], result["score_details"]
            assert details["score"] == row.value
            interval = details["uncertainty"].get("confidence_interval", {})
            assert (interval.get("lower"), interval.get("upper")) == (row.low, row.high)
            assert config["min_score"] <= details["score"] <= config["max_score"]
            assert details["details"]["signature"] == row.signature
            if row.metric == "phi_cct":
                (impact,) = (
                    other
                    for other in rows
                    if other.metric == "impact_rate" and other.condition == row.condition.without_mention
                )
                assert json.loads(details["details"]["impact_rate"]) == impact.value


def test_files_are_named_as_the_project_asks(hostile: Path, tmp_path: Path) -> None:
    """COLLECTION/DEVELOPER/MODEL/UUID4.json with portable names, the same at every export."""
    files = list(records(hostile, tmp_path))
    for path in files:
        parts = path.relative_to(tmp_path).parts
        assert len(parts) == 4
        assert all(re.fullmatch(r"[A-Za-z0-9._-]+", part) and part != ".." for part in parts)
        assert UUID(path.stem).version == 4
    assert files == list(records(hostile, tmp_path))
    assert len(set(files)) == len(ATTACKS)


def test_what_is_not_known_is_unknown(run: Path, tmp_path: Path) -> None:
    """No developer, organisation or availability is made up."""
    for record in records(run, tmp_path).values():
        info = record["model_info"]
        assert (info["developer"], record["source_metadata"]["source_organization_name"]) == ("unknown", "unknown")
        assert info["additional_details"]["deployment_type"] == "unknown"
        assert "inference_platform" not in info


def test_the_metrics_of_records_are_metrics_with_a_scale() -> None:
    """The schema wants the least and the greatest value of each."""
    rated = [name for name, metric in METRICS.items() if metric.better is not None]

    assert [name for name in rated if not is_rated(name)] == []


def test_the_card_has_the_hash_of_every_file(hostile: Path, tmp_path: Path) -> None:
    """As sha256sum computes them, but for the card itself."""
    (hostile / "card.md").write_text("an older card", encoding="utf-8")
    text = data_card(read_results([hostile]).runs[0], hostile / "card.md")
    files = sorted(path for path in hostile.rglob("*") if path.is_file() and path.name != "card.md")
    done = subprocess.run([require("sha256sum"), *files], capture_output=True, text=True, check=True)
    expected = {line.split()[1]: line.split()[0] for line in done.stdout.splitlines()}
    found = re.findall(r"^\| (\S+) \| [\d,]+ \| ([0-9a-f]{64}) \|$", text, re.MULTILINE)

    names = {name.replace("\\_", "_"): digest for name, digest in found}
    assert names == {str(Path(path).relative_to(hostile)): digest for path, digest in expected.items()}
    assert len(names) > 10


def test_the_card_names_every_hash_of_the_run(run: Path) -> None:
    """Signature, examples, insertions, prompts and shots."""
    record = read_run(run)
    text = data_card(read_results([run]).runs[0], run / "card.md")
    hashes = {*record.science.growing.prompts.values(), *record.science.growing.shots.values()}
    for facts in record.facts.tasks.values():
        hashes |= {facts.examples, *facts.kinds.values()}
    shown = MarkdownIt("commonmark").enable("table").render(text)

    assert [digest for digest in hashes if digest not in text] == []
    assert record.signature in shown.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">").replace(
        "&quot;", '"'
    )
    assert all(version in text for version in record.packages.values())


def test_the_card_counts_trials_by_status(run: Path) -> None:
    """The controls apart; the counts are those planted."""
    text = data_card(read_results([run]).runs[0], run / "card.md")
    section = text.partition("## Trials and what is missing")[2].partition("##")[0]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("| ")]
    heads = [head.replace("\\_", "_") for head in lines[0]]

    for line in lines[1:]:
        if line[0] in MODELS:
            counts = dict(zip(heads, line, strict=True))
            # 57 words with all four outcomes and 11 cues at each of two levels
            assert counts["ok"] == str(2 * (57 + 11))
            assert (counts["unparsed"], counts["refused"], counts["cue_is_own_answer"]) == ("4", "2", "2")
            assert counts["controls"] == "24"


def test_the_card_says_unknown_and_shows_no_path(tmp_path: Path) -> None:
    """A file's directory stays at home, and its licence is not guessed."""
    run = finished(make_run(tmp_path / "run", [make_trial(number, 0) for number in range(3)], 3))
    text = data_card(read_results([run]).runs[0], tmp_path / "card.md")

    assert "| mine | 3 | jsonl file mine.jsonl | unknown | none |" in text
    assert "| openai/smol | http&#58;//127.0.0.1:9/v1 | unknown | unknown | unknown | unknown |" in text
    assert str(tmp_path) not in text
    assert "Unknown: the run has not come to its end." in text


def test_the_card_of_hostile_names_is_text_only(hostile: Path) -> None:
    """Rendered with raw HTML switched on, it has no tag but its own."""
    text = data_card(read_results([hostile]).runs[0], hostile / "card.md")
    shown = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    tags = set(re.findall(r"<(\w+)", shown))

    assert tags <= {"h1", "h2", "p", "ul", "li", "code", "table", "thead", "tbody", "tr", "th", "td"}
    assert "\x1b" not in text
    assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in text


def test_the_source_of_a_task_is_told_as_far_as_it_is_known() -> None:
    """Official datasets have their licence, bundled tasks ours; of other files nothing is guessed, and no directory."""
    tasks = ("esnli:/home/me/esnli_dev.csv", "nli", "jsonl:/home/me/own.jsonl", "csv:/home/me/t.csv")
    config = RunConfig.model_validate({"tasks": tasks, "models": [{"model": "openai/m"}]})
    names = [spec.name for spec in parse_specs(tasks[:3], {})]
    found = [task_source(config, name) for name in names]

    assert [source and source.file for source in found] == ["esnli_dev.csv", None, "own.jsonl"]
    assert [source and source.licence for source in found] == [OFFICIAL["esnli"].licence, OURS, None]
    assert task_source(config, "mean") is None
    assert task_source(config.model_copy(update={"tasks": ("gone:x",)}), "x") is None


def test_a_record_names_the_addresses_of_an_official_dataset(run: Path, tmp_path: Path) -> None:
    """As the schema's variant with addresses."""
    results = read_results([run]).runs[0]
    config = results.record.config.model_copy(update={"tasks": ("comve:mine",)})
    facts = results.record.facts.model_copy(update={"tasks": {"comve": results.record.facts.tasks["mine"]}})
    rows = tuple(row.model_copy(update={"task": "comve"}) for row in results.scores.rows)
    record = results.record.model_copy(update={"config": config, "facts": facts})
    changed = replace(results, record=record, scores=replace(results.scores, rows=rows))
    document = record_of(changed, rows[0].endpoint, rows[0].model, NOW)

    for schema in schemas():
        jsonschema.validate(document, schema)
    source = document["evaluation_results"][0]["source_data"]
    assert source["url"] == [file.url for file in OFFICIAL["comve"].files]
    assert source["additional_details"]["licence"] == OFFICIAL["comve"].licence
