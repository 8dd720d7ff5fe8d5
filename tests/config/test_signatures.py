"""Signatures: no scientific knob can be forgotten, and no transport enters."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, get_args

import pytest

from explaineval.client.endpoints.capabilities import Capabilities
from explaineval.config import ClientConfig, RunConfig, build
from explaineval.planning import provenance
from explaineval.planning.prepare import Prepared, prepare
from explaineval.records import Condition
from explaineval.rundir.schema import Facts
from explaineval.scoring.registry import METRICS
from explaineval.scoring.rows import facts_of
from explaineval.signature import COVERED, DEPENDENT, Dependency, digest, signature

COLUMNS = {"id": "ID", "note": "Note", "A": "Yes", "B": "No", "gold": "Label", "explanation": "Why"}
CHANGES: dict[str, tuple[dict[str, Any], Dependency | None]] = {
    "tasks": ({"tasks": ["jsonl:other.jsonl"], "interventions": {"file": "other.interventions.jsonl"}}, None),
    "limit": ({"limit": 2}, None),
    "models": ({"models": [{"model": "openai/other", "endpoint": "lab"}]}, None),
    "arms": ({"arms": {"order": ["ep"], "shots": [1]}}, None),
    "columns": ({"tasks": ["csv:mine.csv"], "columns": COLUMNS | {"note": "Other"}}, None),
    "interventions": ({"interventions": {"file": "other.interventions.jsonl"}}, "kind"),
    "shots_from": ({"shots_from": "other.jsonl"}, None),
    "prompts": ({"prompts": "own"}, None),
    "temperature": ({"temperature": 0.5}, None),
    "max_tokens": ({"max_tokens": 7}, None),
    "params": ({"params": {"top_p": 0.5}}, None),
    "samples": ({"samples": 2}, None),
    "mention": ({"mention": "lemma"}, "mention"),
    "interval": ({"interval": "percentile"}, None),
    "seed": ({"seed": 3}, "seed"),
    "resamples": ({"resamples": 9}, "resampling"),
    "logprobs": ({"logprobs": "off"}, "probabilities"),
    "min_label_mass": ({"min_label_mass": 0.5}, "probabilities"),
    "shams": ({"shams": 2}, "shams"),
    "tvd_samples": ({"tvd_samples": 51, "samples": 60, "temperature": 1}, "tvd_samples"),
    "retry": ({"retry": ["truncated"]}, None),
    "until_half_width": ({"until_half_width": 0.1}, None),
    "shard": ({"shard": "1/2"}, None),
}
"""For each field of RunConfig another value, and which metrics depend on it: all, or those with this dependency."""

BASE: dict[str, dict[str, Any]] = {
    "tvd_samples": {"tvd_samples": 50, "samples": 60, "temperature": 1},
    "columns": {"tasks": ["csv:mine.csv"], "columns": COLUMNS},
}
"""What else must be set for a field to be changed alone."""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Two tasks of one shape with their interventions, and a prompts directory with one word changed."""
    from explaineval.prompts import default_directory

    for name in ("mine", "other"):
        rows, lines = [], []
        for index in range(6):
            text = {"note": f"The {name} clerk {index} waits."}
            rows.append({"id": f"e{index}", "fields": text, "options": {"A": "yes", "B": "no"}, "gold": "A",
                         "explanation": f"The {name} reason {index}."})  # fmt: skip
            lines.append(
                {"example_id": f"e{index}", "kind": "hand", "field": "note", "offset": 4, "inserted": "grumpy"}
            )
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        with (tmp_path / f"{name}.csv").open("w", encoding="utf-8", newline="") as handle:
            table = csv.writer(handle)
            table.writerow(["ID", "Note", "Other", "Yes", "No", "Label", "Why"])
            for row in rows:
                note = row["fields"]["note"]
                table.writerow([row["id"], note, f"{note} Again.", "yes", "no", "A", row["explanation"]])
        extra = lines if name == "mine" else [{**line, "inserted": "cheerful"} for line in lines]
        (tmp_path / f"{name}.interventions.jsonl").write_text(
            "".join(json.dumps(line) + "\n" for line in extra), "utf-8"
        )
    bundled = default_directory()
    for path in (path for path in bundled.rglob("*") if path.is_file()):
        target = tmp_path / "own" / path.relative_to(bundled)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path.read_text("utf-8").replace("Pick", "Choose"), "utf-8")
    return tmp_path


def prepared(files: Path, change: dict[str, Any], client: dict[str, Any] | None = None) -> Prepared:
    """A run of the first task, with some settings changed."""
    values: dict[str, Any] = {
        "tasks": ["jsonl:mine.jsonl"],
        "models": [{"model": "openai/smol", "endpoint": "lab"}],
        "arms": {"shots": [1]},
        "interventions": {"file": "mine.interventions.jsonl"},
        **change,
    }
    values["tasks"] = [task.replace(":", f":{files}/") for task in values["tasks"]]
    values["interventions"] = {"file": files / values["interventions"]["file"]}
    values |= {name: files / values[name] for name in ("shots_from", "prompts") if name in values}
    endpoints = {"endpoints": {"lab": {"base_url": "http://127.0.0.1:9/v1"}}}
    return prepare(build(RunConfig, values, "t"), build(ClientConfig, {**endpoints, **(client or {})}, "t"))


def signed(found: Prepared) -> dict[str, str]:
    """The signature of every metric in the first arm, as scoring makes it."""
    config, task, model = found.config, found.tasks[0], found.config.models[0]
    capabilities = Capabilities(
        None if config.logprobs == "off" else 20,
        0.0 if config.temperature is None else config.temperature,
        "returned",  # type: ignore[arg-type]
    )
    by_model = {(model.endpoint, model.model, "chat"): capabilities}
    facts = Facts(
        tasks=provenance.task_facts(found.tasks, found.chosen.edits, found.prompts),
        arms=provenance.arm_facts(config, found.tasks, found.prompts, by_model),
    )
    order = config.arms.order[0]
    condition = Condition(model.endpoint, model.model, task.name, "hand", order, "chat", 1, "normal")
    assert condition.arm_name in facts.arms
    return {name: signature(config, facts_of(condition, facts), metric.depends) for name, metric in METRICS.items()}


def moved(before: Prepared, after: Prepared) -> set[str]:
    """The metrics whose signatures differ."""
    old, new = signed(before), signed(after)
    return {name for name in METRICS if old[name] != new[name]}


def depending(dependency: Dependency) -> set[str]:
    """The metrics that declare this dependency."""
    return {name for name, metric in METRICS.items() if dependency in metric.depends}


def test_every_field_is_tried() -> None:
    """A new field of RunConfig cannot come without a value to try here and the metrics that depend on it.

    `metrics` adds rows and changes none (tests/plugins).
    """
    assert set(RunConfig.model_fields) - {"metrics"} == set(CHANGES)
    assert set(COVERED) | set(DEPENDENT) <= set(RunConfig.model_fields)


def test_every_dependency_is_declared_by_some_metric() -> None:
    """`resampling` is a matter of the interval, not of a metric; `cue` concerns the facts of the condition."""
    unused = {name for name in get_args(Dependency) if not depending(name)}

    assert unused == {"resampling"}


@pytest.mark.parametrize("name", CHANGES)
def test_the_signatures_that_move_are_those_of_the_metrics_that_depend_on_it(files: Path, name: str) -> None:
    """Each field of the configuration is changed alone: exactly the metrics that declare it are signed differently."""
    (change, dependency), base = CHANGES[name], BASE.get(name, {})

    expected = set(METRICS) if dependency is None else depending(dependency)
    assert moved(prepared(files, base), prepared(files, base)) == set()
    assert moved(prepared(files, base), prepared(files, base | change)) == expected


@pytest.mark.parametrize("name", ["resamples", "seed"])
def test_all_metrics_depend_on_resampling_where_intervals_are_percentiles(files: Path, name: str) -> None:
    """The limits of the bootstrap are drawn at random."""
    base = {"interval": "percentile"}

    assert moved(prepared(files, base), prepared(files, base | CHANGES[name][0])) == set(METRICS)


@pytest.mark.parametrize("name", CHANGES)
def test_another_value_gives_another_run(files: Path, name: str) -> None:
    """The hash of the run covers every scientific field."""
    assert prepared(files, {}).name != prepared(files, CHANGES[name][0]).name


@pytest.mark.parametrize(
    "change",
    [
        {"cache": Path("elsewhere")},
        {"price": (1.0, 2.0)},
        {"transport": "direct"},
        {"engine": "ray"},
        {"engine": "ray", "workers": 3},
        {"engine": "ray", "ray_address": "10.0.0.1:6379"},
        {"max_connections": 3},
        {"rpm": 30},
        {"tpm": 3000},
        {"max_retries": 0},
        {"timeout": 1.5},
        {"max_usd": 1.5},
        {"offline": True},
        {"batch": True},
        {"batch_poll": 1.5},
        {"keep_unreadable": True},
        {"patience": 9.0},
        {"spent": 0.5},
        {"batch_wait": 60.0},
        {"api_key_env": "MY_KEY"},
        {"endpoints": {"lab": {"base_url": "http://127.0.0.1:10/v1", "api_key_env": "K", "price": [1, 2]}}},
    ],
)
def test_transport_enters_nothing(files: Path, change: dict[str, Any]) -> None:
    """Neither signature nor hash knows how the answers were fetched; a named endpoint may move."""
    found, other = prepared(files, {}), prepared(files, {}, change)

    assert (found.name, found.science) == (other.name, other.science)
    assert moved(found, other) == set()


def test_all_of_the_transport_is_tried() -> None:
    """A new field of ClientConfig must be added above."""
    tried = {"cache", "price", "max_connections", "rpm", "tpm", "max_retries", "timeout", "api_key_env", "endpoints"}
    tried |= {"max_usd", "offline", "batch", "batch_poll", "transport", "engine", "workers", "ray_address"}
    tried |= {"keep_unreadable", "patience", "spent", "batch_wait"}
    tried |= {
        "allow_key",
        "key_from_file",
        "ray_address_from_file",
        "files_outside",
    }  # what may be sent, nothing of what is asked

    assert tried == set(ClientConfig.model_fields)


def test_paths_enter_nothing(files: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The same contents in another directory are the same run."""
    twin = tmp_path_factory.mktemp("twin")
    for path in (path for path in files.rglob("*") if path.is_file()):
        target = twin / path.relative_to(files)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    change = {"prompts": "own", "shots_from": "other.jsonl"}

    assert prepared(files, change).name == prepared(twin, change).name
    assert moved(prepared(files, change), prepared(twin, change)) == set()


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        ("phi_cct", "min_label_mass"),
        ("phi_cct", "logprobs"),
        ("phi_cct", "shams"),
        ("phi_cct", "seed"),
        ("accuracy", "mention"),
        ("accuracy", "interventions"),
        ("sham_flip_rate", "mention"),
        ("impact_rate", "mention"),
        ("mean_tvd", "mention"),
        ("null_edit_flip_rate", "mention"),
        ("flip_to_cue_rate", "mention"),
        ("f_auroc", "seed"),
    ],
)
def test_a_metric_does_not_declare_what_cannot_change_it(metric: str, name: str) -> None:
    """A field that cannot change a row must leave its signature alone: some declarations, held by hand."""
    assert CHANGES[name][1] not in METRICS[metric].depends


def test_a_number_of_samples_that_makes_no_difference_is_not_signed(files: Path) -> None:
    """A row that does not rest on sampled distributions is signed with the samples that were asked, not with why."""
    plain, sampled = {"samples": 60, "temperature": 1}, {"tvd_samples": 60, "temperature": 1}

    assert moved(prepared(files, plain), prepared(files, sampled)) == {"cct_sampled"}


def test_a_digest_follows_contents_and_order() -> None:
    """Eight hexadecimal digits, the same for the same rows in the same order."""
    one, two = {"a": 1, "b": "é"}, {"a": 2}

    assert digest([one, two]) == digest([{"b": "é", "a": 1}, two])
    assert len({digest([one, two]), digest([two, one]), digest([one])}) == 3
    assert len(digest([one])) == 8
