"""Run directories as they stand before the first request, beside what they were made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from explaineval.client.endpoints.capabilities import Capabilities
from explaineval.config import ClientConfig, RunConfig, build
from explaineval.datasets import shots_of
from explaineval.execution.outcome import run_record
from explaineval.planning import provenance
from explaineval.planning.prepare import Prepared, inputs_of, prepare
from explaineval.planning.units import walk
from explaineval.rundir.directory import write_inputs
from explaineval.rundir.directory import write_run as write_run_document
from explaineval.rundir.schema import Facts

CLIENT = ClientConfig.model_validate({"endpoints": {"lab": {"base_url": "http://127.0.0.1:9/v1"}}})


def write_run(directory: Path, **config: Any) -> tuple[Path, Prepared]:
    """A run directory as it stands before the first request, and what it was made from."""
    values = {"models": [{"model": "openai/smol", "endpoint": "lab"}], "shams": 2, "samples": 2, **config}
    found = prepare(build(RunConfig, values, "test"), CLIENT)
    directory.mkdir()
    examples, edits = inputs_of(found.tasks, found.chosen)
    facts = Facts(tasks=provenance.task_facts(found.tasks, found.chosen.edits, found.prompts))
    write_run_document(directory, run_record(found, facts, "test"))
    write_inputs(directory, examples, edits, found.prompts.directory, *shots_of(found.tasks))
    return directory, found


def keys(prepared: Prepared) -> list[str]:
    """The keys of all requests that are known from the beginning, in order."""
    steps = walk(prepared, lambda *_: Capabilities(5, 0.0, "returned"))
    return [step.key for step in steps if step.certain]
