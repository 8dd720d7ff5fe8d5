"""Run directories made by hand, whose numbers are known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from explaineval.client.endpoints.capabilities import Capabilities
from explaineval.config import ClientConfig, RunConfig
from explaineval.execution.outcome import run_record
from explaineval.planning import provenance
from explaineval.planning.prepare import prepare
from explaineval.records import MetricRow, Trial, record_dict
from explaineval.rundir.directory import TRIALS, write_inputs, write_run
from explaineval.rundir.schema import Facts, RunRecord

MODEL, ENDPOINT = "openai/smol", "lab"
KEPT = {"A": 0.75, "B": 0.25}


def make_trial(example: int, number: int, **changes: Any) -> dict[str, Any]:
    """One trial as it stands in trials.jsonl: the answer stays, the word "grumpy" is not mentioned.

    `changed` and `mentioned` set the labels and the explanation too; `after` is p(A) after the edit.
    """
    changed, mentioned = bool(changes.pop("changed", False)), bool(changes.pop("mentioned", False))
    after = changes.pop("after", 0.75)
    why = "Because the grumpy clerk is thére." if mentioned else "Because the clerk is thére."
    values = {
        "endpoint": ENDPOINT, "model": MODEL, "task": "mine", "order": "pe", "style": "chat", "shots": 0,
        "verbosity": "normal", "sample": 0, "example_id": f"e{example}", "intervention_id": f"e{example}.{number}",
        "kind": "hand", "field": "note", "inserted": "grumpy", "text_after": "The grumpy clerk waits.", "status": "ok",
        "status_side": None, "label_before": "A", "label_after": "B" if changed else "A", "gold": "A",
        "changed": changed, "mentioned": mentioned, "probs_before": KEPT, "probs_after": {"A": after, "B": 1 - after},
        "label_mass_before": 1.0, "label_mass_after": 1.0, "tvd": abs(0.75 - after), "tvd_reason": None,
        "mentioned_before": False, "explanation_before": "Because.", "explanation": why,
        "key_before": "0" * 64, "key_after": "1" * 64,
    }  # fmt: skip
    return record_dict(Trial.model_validate(values | changes))


def make_sham(example: int, *, changed: bool = False) -> dict[str, Any]:
    """The unchanged input of one example, asked again."""
    plain = {"kind": "sham", "intervention_id": None, "field": None, "inserted": None, "text_after": None}
    return make_trial(example, 0, changed=changed) | plain | {"mentioned": None, "mentioned_before": None}


def make_missing(example: int, number: int, side: str, **changes: Any) -> dict[str, Any]:
    """A trial without a score: unreadable on the side `before`, `after` or `both`."""
    values = make_trial(example, number, **changes)
    values |= {"status": "unparsed", "status_side": side, "changed": None, "mentioned": None, "tvd": None}
    for one in ("before", "after") if side == "both" else (side,):
        values |= {f"label_{one}": None, f"probs_{one}": None, f"label_mass_{one}": None}
        values |= {"explanation_before" if one == "before" else "explanation": None}
        values |= {"mentioned_before": None} if one == "before" else {}
    return values


def write_task(directory: Path, examples: int, per_example: int = 6) -> tuple[Path, Path]:
    """A task file and its interventions."""
    rows, lines = [], []
    for index in range(examples):
        fields = {"note": f"The clerk {index} waits."}
        rows.append({"id": f"e{index}", "fields": fields, "options": {"A": "yes", "B": "no"}, "gold": "A"})
        edit = {"example_id": f"e{index}", "kind": "hand", "field": "note", "offset": 4, "inserted": "grumpy"}
        lines += [{"id": f"e{index}.{number}", **edit} for number in range(per_example)]
    task, edits = directory / "mine.jsonl", directory / "edits.jsonl"
    for path, found in ((task, rows), (edits, lines)):
        path.write_text("".join(json.dumps(one) + "\n" for one in found), encoding="utf-8")
    return task, edits


def make_run(directory: Path, trials: Sequence[dict[str, Any]], examples: int, **config: Any) -> Path:
    """A run directory with these trials, as `run` leaves it before it scores."""
    directory.mkdir(parents=True, exist_ok=True)
    task, edits = write_task(directory.parent, examples)
    values = {"tasks": [f"jsonl:{task}"], "models": [{"model": MODEL, "endpoint": ENDPOINT}]}
    science = RunConfig.model_validate(values | {"interventions": {"file": edits}} | config)
    client = ClientConfig.model_validate({"endpoints": {ENDPOINT: {"base_url": "http://127.0.0.1:9/v1"}}})
    found = prepare(science, client)
    able = {
        (model.endpoint, model.model, style): Capabilities(20, 0.0, "returned")
        for model in science.models
        for style in ("chat", "completion")
    }
    facts = Facts(
        tasks=provenance.task_facts(found.tasks, found.chosen.edits, found.prompts),
        arms=provenance.arm_facts(science, found.tasks, found.prompts, able),
    )
    write_run(directory, run_record(found, facts, "test"))
    all_edits = [one for ones in found.chosen.edits.values() for one in ones]
    write_inputs(directory, found.tasks[0].examples, all_edits, found.prompts.directory)
    write_trials(directory, trials)
    return directory


def minimal_record(**changes: Any) -> RunRecord:
    """A run.json that holds no more than it must; `changes` are fields of it."""
    config = {"tasks": ["mine"], "models": [{"model": MODEL, "endpoint": ENDPOINT}]}
    values = {
        "explaineval": "0.0.0", "signature": "s", "created": "", "python": "", "packages": {}, "config": config,
        "client": {}, "science": {}, "facts": {"tasks": {}}, "prices": "",
    }  # fmt: skip
    return RunRecord.model_validate(values | changes)


def write_trials(directory: Path, trials: Sequence[dict[str, Any]]) -> None:
    """Trials in the order given."""
    text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in trials)
    (directory / TRIALS).write_text(text, encoding="utf-8")


def by_metric(rows: Sequence[MetricRow], kind: str | None = "hand") -> dict[str, MetricRow]:
    """The rows of one kind, by metric; those of the arm itself too."""
    return {row.metric: row for row in rows if row.kind in (kind, None, "sham")}
