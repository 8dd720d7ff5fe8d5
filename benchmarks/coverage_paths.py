"""Planted data sets taken the whole way: as completions at the client's face, and over HTTP by `explaineval run`.

What comes out must be what coverage.py gets from the counts of the same draws. In the pipeline every level of verbosity
is asked, so that F-AUROC too comes from trials; over HTTP it is the middle level alone.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from coverage_numbers import INTERVAL, estimates, seeded
from coverage_worlds import EXAMPLES, MIDDLE, SHIFTS, Draw, all_worlds

from explaineval.client.endpoints.capabilities import Capabilities
from explaineval.config import ArmConfig, ClientConfig, InterventionConfig, ModelConfig, RunConfig
from explaineval.execution.model_run import unit_trials
from explaineval.execution.pool import Pool, ask_units
from explaineval.metrics import auroc
from explaineval.planning.prepare import Prepared, prepare
from explaineval.planning.provenance import arm_facts, task_facts
from explaineval.planning.requests import Reply
from explaineval.planning.units import Unit, plan
from explaineval.prompts import default_directory
from explaineval.records import Completion, Estimate, Request, TokenAlternatives, Trial
from explaineval.scoring.counts import KindCounts, count_sources
from explaineval.scoring.mentioning import Source, TextReader
from explaineval.scoring.rows import score_sources

WORDS = ("wooden", "purple", "distant", "hollow", "bitter", "northern")
LEVELS = tuple(f"planted{level}" for level in range(len(SHIFTS)))
ITEM, LEVEL = re.compile(r"\bitem (\d{4})\b"), re.compile(r"\(level (\d)\)")
NEVER = -9999.0
"""The log-probability that servers send for what cannot be."""

CLOSE = 1e-9
SAME = ("phi_cct", "cct", "tpr", "fpr", "youden_j")


@dataclass(frozen=True)
class PlantedModel:
    """One data set as a model: what it says to a prompt, and how sure it is of the two letters."""

    draw: Draw

    def reply(self, prompt: str) -> tuple[str, dict[str, float]]:
        """The text for a prompt, and the log-probabilities at its answer letter."""
        item = int(ITEM.findall(prompt)[-1])
        named = [number for number, word in enumerate(WORDS) if f"The {word} item" in prompt]
        if not named:
            return "Answer: A\nExplanation: The note leaves nothing open.", {" A": 0.0, " B": NEVER}
        level = LEVEL.search(prompt)
        said = self.draw.mentioned[item, named[0], int(level.group(1)) if level else MIDDLE]
        reason = f"What is {WORDS[named[0]]} matters here." if said else "The note leaves nothing open."
        distance = float(self.draw.tvd[item, named[0]])
        letter = "B" if self.draw.changed[item, named[0]] else "A"
        return f"Answer: {letter}\nExplanation: {reason}", {" A": math.log1p(-distance), " B": math.log(distance)}


@dataclass(frozen=True)
class PlantedClient:
    """Answers requests from planted models, by their names."""

    models: Mapping[str, PlantedModel]

    async def complete(self, request: Request) -> Completion:
        """The planted completion."""
        assert request.messages is not None
        text, top = self.models[request.model].reply(request.messages[-1].content)
        token = TokenAlternatives(offset=7, token=text[7:9], top=tuple(top.items()))
        return Completion(text=text, finish_reason="stop", logprobs=(token,), model=request.model)


def write_inputs(directory: Path) -> None:
    """The task, its interventions, and prompts with the planted levels of verbosity."""
    with (directory / "task.jsonl").open("w") as task, (directory / "edits.jsonl").open("w") as edits:
        for item in range(EXAMPLES):
            name = f"x{item:04d}"
            fields = {"note": f"The item {item:04d} was found where it had been left."}
            options = {"A": "it was kept", "B": "it was lost"}
            task.write(json.dumps({"id": name, "fields": fields, "options": options}) + "\n")
            for word in WORDS:
                edit = {"example_id": name, "kind": "planted", "field": "note", "offset": 4, "inserted": word}
                edits.write(json.dumps(edit) + "\n")
    shutil.copytree(default_directory(), directory / "prompts")
    for level, name in enumerate(LEVELS):
        (directory / "prompts" / "verbosity" / f"{name}.txt").write_text(f"<text> says why (level {level}).\n")


def run_pipeline(sets: int) -> tuple[dict[str, Any], str]:
    """Every cell: plan, ask the planted client, read, tally and score; then compare with the counts' numbers."""
    compared, worst = 0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        write_inputs(directory)
        for cell, world in enumerate(all_worlds()):
            for number in range(sets):
                draw = world.draw(seeded(cell, number))
                found, expected = through_pipeline(draw, directory), estimates(draw)
                for name in (*SAME, "f_auroc"):
                    worst = max(worst, difference(found[name], expected[name], f"{world.name}, set {number}: {name}"))
                    compared += 1
            print(f"{cell + 1}/36 {world.name}", file=sys.stderr, flush=True)
    return report(f"{sets} data sets in each of 36 cells, from completions to metric rows", compared, worst)


def through_pipeline(draw: Draw, directory: Path) -> dict[str, Estimate]:
    """A data set's numbers by the way of a run, without the network."""
    model = ModelConfig(model="planted/model")
    config = RunConfig(
        tasks=(f"jsonl:{directory / 'task.jsonl'}",),
        models=(model,),
        arms=ArmConfig(verbosity=LEVELS),
        interventions=InterventionConfig(file=directory / "edits.jsonl"),
        shams=0,
        prompts=directory / "prompts",
    )
    prepared = prepare(config, ClientConfig())
    able = Capabilities(2, 0.0, "returned")
    trials = asyncio.run(ask(prepared, PlantedClient({model.model: PlantedModel(draw)}), able))
    source = Source(config.mention)
    by_source = count_sources(trials, {source: TextReader(config.mention).decider(source)})
    counts = by_source[source]
    facts = {
        "tasks": task_facts(prepared.tasks, prepared.chosen.edits, prepared.prompts),
        "arms": arm_facts(config, prepared.tasks, prepared.prompts, {(None, model.model, "chat"): able}),
    }
    rows = [row for row in score_sources(by_source, config, facts).rows if row.verbosity == LEVELS[MIDDLE]]
    found = {row.metric: _estimate(row.model_dump()) for row in rows if row.metric in SAME}
    by_level = {group.verbosity: KindCounts(group, counts, config).tables for group in counts.kinds}
    tables = np.stack([by_level[level] for level in LEVELS], axis=1)
    return found | {"f_auroc": auroc.f_auroc(tables, INTERVAL)}


async def ask(prepared: Prepared, client: PlantedClient, able: Capabilities) -> list[Trial]:
    """All trials of the run's plan."""
    config, trials = prepared.config, list[Trial]()

    def receive(unit: Unit, replies: list[Reply | None]) -> None:
        trials.extend(unit_trials(unit, replies, config.mention, config.min_label_mass))

    units = plan(prepared, config.models[0], lambda _: able)
    await ask_units(Pool(client, 4, asyncio.Event()), units, (), receive)
    return trials


def run_http(sets: int) -> tuple[dict[str, Any], str]:
    """`explaineval run` against a server that holds one model for each data set; cells far apart come first."""
    worlds = list(all_worlds())
    cells = [(7 * number) % len(worlds) for number in range(sets)]
    draws = {f"set{n}": worlds[cell].draw(seeded(cell, n)) for n, cell in enumerate(cells)}
    with tempfile.TemporaryDirectory() as folder:
        write_inputs(Path(folder))
        document = asyncio.run(serve_and_run({name: PlantedModel(draw) for name, draw in draws.items()}, Path(folder)))
    compared, worst = 0, 0.0
    for name, draw in draws.items():
        rows = {row["metric"]: row for row in document["metrics"] if row["model"] == f"openai/{name}"}
        expected = estimates(draw)
        for metric in SAME:
            worst = max(worst, difference(_estimate(rows[metric]), expected[metric], f"{name}: {metric}"))
            compared += 1
    sent = document["requests"]["sent"]
    return report(f"{sets} data sets by `explaineval run` over HTTP, {sent:,} requests", compared, worst)


async def serve_and_run(models: Mapping[str, PlantedModel], directory: Path) -> dict[str, Any]:
    """Serve the planted models on a free port while the command runs; its JSON document."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                size = re.search(rb"content-length: *(\d+)", head)
                body = await reader.readexactly(int(size.group(1)) if size else 0)
                data = json.dumps(respond(models, json.loads(body)) if body else {"data": []}).encode()
                start = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
                writer.write(start.encode() + data)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", 0)
    options = ["--task", "jsonl:task.jsonl", "--interventions", "edits.jsonl", "--shams", "0", "--endpoint-name", "lab"]
    options += ["--base-url", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", "--out", "run", "--json"]
    for name in models:
        options += ["--model", f"openai/{name}"]
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "explaineval", "run", *options,
        cwd=directory, env=dict(os.environ), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await child.communicate()
    server.close()
    if child.returncode:
        raise SystemExit(f"explaineval run ended with {child.returncode}: {err.decode()[-2000:]}{out.decode()[-500:]}")
    document: dict[str, Any] = json.loads(out)
    return document


def respond(models: Mapping[str, PlantedModel], body: Mapping[str, Any]) -> dict[str, Any]:
    """The server's answer to one chat request."""
    text, top = models[body["model"]].reply(body["messages"][-1]["content"])
    pieces = [(text[:7], {}), (text[7:9], top), (text[9:], {})]
    content = [
        {"token": piece, "logprob": -0.1, "bytes": list(piece.encode())}
        | {"top_logprobs": [{"token": t, "logprob": v, "bytes": list(t.encode())} for t, v in around.items()]}
        for piece, around in pieces
    ]
    message = {"role": "assistant", "content": text}
    return {
        "id": "planted", "object": "chat.completion", "created": 1, "model": body["model"],
        "choices": [{"index": 0, "finish_reason": "stop", "message": message, "logprobs": {"content": content}}],
        "usage": {"prompt_tokens": 90, "completion_tokens": 20, "total_tokens": 110},
    }  # fmt: skip


def difference(found: Estimate, expected: Estimate, where: str) -> float:
    """The largest difference between value and limits; ends the program where it is more than rounding."""
    pairs = ((found.value, expected.value), (found.low, expected.low), (found.high, expected.high))
    worst = 0.0
    for one, other in pairs:
        if (one is None) != (other is None):
            raise SystemExit(f"{where}: {found} by the long way, but {expected} from the counts")
        if one is not None and other is not None:
            worst = max(worst, abs(one - other))
    if worst > CLOSE or (found.n, found.n_examples) != (expected.n, expected.n_examples):
        raise SystemExit(f"{where}: {found} by the long way, but {expected} from the counts")
    return worst


def report(what: str, compared: int, worst: float) -> tuple[dict[str, Any], str]:
    """The outcome as a document and as a sentence."""
    said = f"{what}: {compared} estimates with their limits agree with those of the counts to {worst:.1e}."
    return {"what": what, "compared": compared, "largest_difference": worst}, said


def _estimate(row: Mapping[str, Any]) -> Estimate:
    names: Iterable[str] = ("value", "low", "high", "n", "n_examples", "undefined")
    return Estimate(**{name: row[name] for name in names})
