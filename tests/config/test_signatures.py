"""Signatures: no scientific knob can be forgotten, and no transport enters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from explaineval.client.endpoints.capabilities import Capabilities
from explaineval.config import ClientConfig, RunConfig, build
from explaineval.planning import provenance
from explaineval.planning.prepare import Prepared, prepare
from explaineval.signature import WITHIN, digest, signature

FACTS = {
    "task": "t@1",
    "model": "m",
    "endpoint": "e",
    "prompts": "p",
    "temperature": "0",
    "logprobs": "top5",
    "kind": "k@2",
}
PHI_FIELDS = {"tasks", "limit", "models", "arms", "shots_from", "interventions", "prompts", "temperature", "samples",
              "max_tokens", "params", "interval", "mention", "seed", "retry"}  # fmt: skip

CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "tasks": ({"tasks": ["jsonl:other.jsonl"]}, "phi_cct"),
    "limit": ({"limit": 2}, "phi_cct"),
    "models": ({"models": [{"model": "openai/other", "endpoint": "lab"}]}, "phi_cct"),
    "arms": ({"arms": {"order": ["ep"], "shots": [1]}}, "phi_cct"),
    "interventions": ({"interventions": {"file": "other.interventions.jsonl"}}, "phi_cct"),
    "shots_from": ({"shots_from": "other.jsonl"}, "phi_cct"),
    "prompts": ({"prompts": "own"}, "phi_cct"),
    "temperature": ({"temperature": 0.5}, "phi_cct"),
    "max_tokens": ({"max_tokens": 7}, "phi_cct"),
    "params": ({"params": {"top_p": 0.5}}, "phi_cct"),
    "samples": ({"samples": 2}, "phi_cct"),
    "mention": ({"mention": "lemma"}, "phi_cct"),
    "interval": ({"interval": "percentile"}, "phi_cct"),
    "seed": ({"seed": 3}, "phi_cct_random"),
    "resamples": ({"resamples": 9}, "phi_cct"),
    "logprobs": ({"logprobs": "off"}, "cct"),
    "min_label_mass": ({"min_label_mass": 0.5}, "cct"),
    "shams": ({"shams": 2}, "sham_flip_rate"),
    "tvd_samples": ({"tvd_samples": 51, "samples": 60, "temperature": 1}, "cct_sampled"),
    "retry": ({"retry": ["truncated"]}, "phi_cct"),
}
"""For each scientific field another value, and a metric whose signature must show it."""


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
    values["tasks"] = [task.replace("jsonl:", f"jsonl:{files}/") for task in values["tasks"]]
    values["interventions"] = {"file": files / values["interventions"]["file"]}
    values |= {name: files / values[name] for name in ("shots_from", "prompts") if name in values}
    endpoints = {"endpoints": {"lab": {"base_url": "http://127.0.0.1:9/v1"}}}
    return prepare(build(RunConfig, values, "t"), build(ClientConfig, {**endpoints, **(client or {})}, "t"))


def signed(found: Prepared, metric: str) -> str:
    """The signature of a metric of the first arm, as scoring puts it together."""
    config, task = found.config, found.tasks[0]
    able = Capabilities(
        None if config.logprobs == "off" else 20,
        0.0 if config.temperature is None else config.temperature,
        "returned",  # type: ignore[arg-type]
    )
    model = config.models[0]
    arms = provenance.arm_facts(config, found.tasks, found.prompts, {(model.endpoint, model.model, "chat"): able})
    from explaineval.records import Condition
    from explaineval.scoring.rows import facts_of

    order = config.arms.order[0]
    known = {"tasks": provenance.task_facts(found.tasks, found.chosen.edits, found.prompts), "arms": arms}
    condition = Condition(model.endpoint, model.model, task.name, "hand", order, "chat", 1, "normal")
    assert condition.arm_name in arms
    return signature(config, facts_of(condition, known), metric)


def change_of(name: str, files: Path) -> dict[str, Any]:
    """The other value of a field; another task needs its own interventions to go with it."""
    change = CHANGES[name][0]
    return {**change, "interventions": {"file": "other.interventions.jsonl"}} if name == "tasks" else change


def test_every_field_has_its_place() -> None:
    """A field of RunConfig stands under its own name in a signature, or WITHIN says which part covers it."""
    config = RunConfig.model_validate({"tasks": ["nli"], "models": [{"model": "a/b"}]})
    parts = {part.split(":")[0] for part in signature(config, FACTS, "phi_cct").split("|")}

    assert set(RunConfig.model_fields) - set(WITHIN) <= parts
    assert set(WITHIN) <= set(RunConfig.model_fields)


def test_every_field_is_tried() -> None:
    """A new field of RunConfig cannot come without a value to try here."""
    assert set(RunConfig.model_fields) == set(CHANGES)


@pytest.mark.parametrize("name", CHANGES)
def test_another_value_gives_another_signature(files: Path, name: str) -> None:
    """Two configurations that differ in one field sign the row that depends on it differently."""
    metric = CHANGES[name][1]
    needed = {"resamples": {"interval": "percentile"},
              "tvd_samples": {"tvd_samples": 50, "samples": 60, "temperature": 1}}  # fmt: skip
    base = needed.get(name, {})

    before = signed(prepared(files, base), metric)

    assert before == signed(prepared(files, base), metric)
    assert before != signed(prepared(files, base | change_of(name, files)), metric)


@pytest.mark.parametrize("name", CHANGES)
def test_another_value_gives_another_run(files: Path, name: str) -> None:
    """The hash of the run covers every scientific field."""
    assert prepared(files, {}).name != prepared(files, change_of(name, files)).name


@pytest.mark.parametrize(
    "change",
    [
        {"cache": Path("elsewhere")},
        {"price": (1.0, 2.0)},
        {"max_connections": 3},
        {"rpm": 30},
        {"tpm": 3000},
        {"max_retries": 0},
        {"timeout": 1.5},
        {"max_usd": 1.5},
        {"offline": True},
        {"batch": True},
        {"batch_poll": 1.5},
        {"api_key_env": "MY_KEY"},
        {"endpoints": {"lab": {"base_url": "http://127.0.0.1:10/v1", "api_key_env": "K", "price": [1, 2]}}},
    ],
)
def test_transport_enters_nothing(files: Path, change: dict[str, Any]) -> None:
    """Neither signature nor hash knows how the answers were fetched; a named endpoint may move."""
    found, other = prepared(files, {}), prepared(files, {}, change)

    assert (found.name, found.science) == (other.name, other.science)
    assert signed(found, "cct") == signed(other, "cct")


def test_all_of_the_transport_is_tried() -> None:
    """A new field of ClientConfig must be added above."""
    tried = {"cache", "price", "max_connections", "rpm", "tpm", "max_retries", "timeout", "api_key_env", "endpoints"}
    tried |= {"max_usd", "offline", "batch", "batch_poll"}

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
    assert signed(prepared(files, change), "phi_cct") == signed(prepared(twin, change), "phi_cct")


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        ("phi_cct", "min_label_mass"),
        ("phi_cct", "logprobs"),
        ("phi_cct", "shams"),
        ("phi_cct", "resamples"),
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
def test_a_row_is_signed_with_what_it_depends_on_and_no_more(files: Path, metric: str, name: str) -> None:
    """A field that cannot change a row leaves its signature alone."""
    assert signed(prepared(files, {}), metric) == signed(prepared(files, change_of(name, files)), metric)


def test_a_number_of_samples_that_makes_no_difference_is_not_signed(files: Path) -> None:
    """A row that does not rest on sampled distributions is signed with the samples that were asked, not with why."""
    plain, sampled = {"samples": 60, "temperature": 1}, {"tvd_samples": 60, "temperature": 1}

    assert signed(prepared(files, plain), "phi_cct") == signed(prepared(files, sampled), "phi_cct")


def test_a_digest_follows_contents_and_order() -> None:
    """Eight hexadecimal digits, the same for the same rows in the same order."""
    one, two = {"a": 1, "b": "é"}, {"a": 2}

    assert digest([one, two]) == digest([{"b": "é", "a": 1}, two])
    assert len({digest([one, two]), digest([two, one]), digest([one])}) == 3
    assert len(digest([one])) == 8
