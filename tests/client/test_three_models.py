"""Models beside each other, one dead and one crawling; and providers whose shape knows no log-probabilities."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import matthews_corrcoef

from servers import replies
from servers.commands import Result, WarmCommands
from servers.faults import Attempt, FaultServer, dead_port
from servers.planted import recognise
from servers.shapes import Shape
from servers.tables import KIND, Arm, Table

TABLE = Table(examples=4, words=2, seed=2)
REQUESTS = 4 * (1 + 2 + 1)
"""The input, two insertions and a sham of each example."""
CRAWL = 0.5
ARM = Arm("planted", "chat", "pe")


def play(table: Table, shape: Shape, prompt: str) -> str:
    """The planted answer to a prompt, whatever the shape it came in."""
    order, (example, word) = recognise({"messages": [{"content": prompt}]}, "chat")
    return replies.compose(order, "chat", table.label(ARM, example, word), table.explanation(ARM, example, word))


def planted_phi(table: Table) -> float:
    """Matthews' correlation of the planted changes and mentions."""
    changed = [table.changed(ARM, *pair) for pair in table.pairs()]
    return float(matthews_corrcoef(changed, [table.mention(ARM, *pair) == "word" for pair in table.pairs()]))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@dataclass(frozen=True)
class Told:
    """What the run told, and what the two living servers saw."""

    result: Result
    trials: list[dict[str, Any]]
    rows: list[dict[str, Any]]
    crawling: list[Attempt]
    fast: list[Attempt]
    dead: str


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, warm: WarmCommands) -> Iterator[Told]:
    """One run of three models from a configuration file, the dead one named first."""
    directory = tmp_path_factory.mktemp("three")
    TABLE.write_task(directory / "task.jsonl")
    TABLE.write_interventions(directory / "edits.jsonl")

    def answer(shape: Shape, prompt: str) -> str:
        return play(TABLE, shape, prompt)

    with FaultServer(answer, latency=CRAWL) as crawling, FaultServer(answer) as fast, dead_port() as port:
        config = f"""
tasks: ["jsonl:task.jsonl"]
endpoints:
  gone: {{base_url: "http://127.0.0.1:{port}/v1"}}
  slow: {{base_url: "{crawling.root}/v1", max_connections: 1}}
  quick: {{base_url: "{fast.root}/v1"}}
models:
  - {{model: openai/gone, endpoint: gone}}
  - {{model: openai/slow, endpoint: slow}}
  - {{model: openai/quick, endpoint: quick}}
arms: {{shots: [2]}}
interventions: {{file: edits.jsonl}}
max_retries: 1
"""
        (directory / "run.yaml").write_text(config, encoding="utf-8")
        result = warm.run("run", "run.yaml", "--out", "out", cwd=directory)
        rows = json.loads((directory / "out" / "metrics.json").read_text(encoding="utf-8"))
        trials = read_lines(directory / "out" / "trials.jsonl")
        yield Told(result, trials, rows, crawling.received, fast.received, f"http://127.0.0.1:{port}/v1")


@pytest.mark.slow
def test_a_fast_model_waits_for_nobody(told: Told) -> None:
    """By the servers' clocks its last request comes before the crawling one is half through."""
    assert (len(told.fast), len(told.crawling)) == (REQUESTS, REQUESTS)
    assert max(one.at for one in told.fast) < sorted(one.at for one in told.crawling)[REQUESTS // 2]


def test_one_connection_is_one_request_at_a_time(told: Told) -> None:
    """The crawling endpoint's own limit holds beside the others' freedom."""
    times = sorted(one.at for one in told.crawling)

    assert min(later - one for one, later in pairwise(times)) >= CRAWL


@pytest.mark.parametrize("name", ["slow", "quick"])
def test_the_living_are_complete(told: Told, name: str) -> None:
    """All trials of both, with their sham, and phi as planted."""
    trials = [trial for trial in told.trials if trial["model"] == f"openai/{name}"]
    phi = next(row for row in told.rows if (row["model"], row["metric"]) == (f"openai/{name}", "phi_cct"))

    assert {(*pair, "ok") for pair in TABLE.pairs()} == {
        (trial["example_id"], trial["inserted"], trial["status"]) for trial in trials if trial["kind"] == KIND
    }
    assert [trial["status"] for trial in trials if trial["kind"] == "sham"] == ["ok"] * len(TABLE.ids)
    assert pytest.approx(planted_phi(TABLE)) == phi["value"]


def test_the_dead_one_is_told_in_one_sentence(told: Told) -> None:
    """Exit code 5; one sentence, at once and at the end, names it; the table and the metrics hold the living alone."""
    naming = [line for line in told.result.stderr.splitlines() if told.dead in line or "openai/gone" in line]

    assert told.result.code == 5, told.result.stderr
    assert len(naming) == 2
    assert naming[0].startswith(naming[1])
    assert naming[0].endswith((" The other 2 models go on.", " The other model goes on."))
    assert "refused" in naming[1]
    assert {"openai/slow", "openai/quick"} == {row["model"] for row in told.rows}
    assert all(name in told.result.stdout for name in ("openai/slow", "openai/quick"))


@pytest.mark.parametrize(("model", "path"), [("anthropic/claude-m", ""), ("gemini/gemini-m", "/v1beta")])
def test_a_provider_without_logprobs(model: str, path: str, tmp_path: Path, warm: WarmCommands) -> None:
    """By litellm's own route: phi-CCT as planted, no CCT, and the reason is the route's, not the data's."""
    table = Table(examples=8, words=3, seed=2)
    table.write_task(tmp_path / "task.jsonl")
    table.write_interventions(tmp_path / "edits.jsonl")
    with FaultServer(lambda shape, prompt: play(table, shape, prompt)) as server:
        options = ["run", "--task", "jsonl:task.jsonl", "--interventions", "edits.jsonl", "--out", "out", "--json"]
        result = warm.run(*options, "--model", model, "--base-url", server.root + path, "--shots", "2", cwd=tmp_path)

        shapes = {one.shape for one in server.received}
    rows = {row["metric"]: row for row in result.document["metrics"]}
    assert (0, {model.partition("/")[0]}) == (result.code, shapes)
    assert pytest.approx(planted_phi(table)) == rows["phi_cct"]["value"]
    assert rows["cct"]["value"] is None
    assert "litellm's route" in rows["cct"]["undefined"]
    assert "logprobs" in rows["cct"]["undefined"] or "log-probabilities" in rows["cct"]["undefined"]
