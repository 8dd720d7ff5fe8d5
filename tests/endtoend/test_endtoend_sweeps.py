"""A sweep while it runs: endpoints busy at once, one that refuses the key, and what `watch` says on the way."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from planted_numbers import read_rows, read_trials

from makers.waiting import wait_for
from servers import replies
from servers.commands import Result, WarmCommands
from servers.faults import FaultServer
from servers.planted import PlantedServer, recognise
from servers.shapes import Shape
from servers.tables import Arm, Table

TABLE = Table(examples=10, words=3, seed=4)
REQUESTS = 10 * (1 + 3 + 1)
"""The input, three insertions and a sham of each example."""
KEY = "sk-watched-0123456789abcdef0123456789"


def play(name: str) -> Any:
    """The planted answers of one model."""

    def answer(shape: Shape, prompt: str) -> str:
        order, (example, word) = recognise({"messages": [{"content": prompt}]}, "chat")
        arm = Arm(name, "chat", "pe")
        return replies.compose(order, "chat", TABLE.label(arm, example, word), TABLE.explanation(arm, example, word))

    return answer


@dataclass(frozen=True)
class Sweep:
    """What a sweep of three models left and said, what was watched on the way, and when its endpoints were asked."""

    directory: Path
    result: Result
    on_the_way: Result
    one: list[float]
    two: list[float]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory, warm: WarmCommands) -> Iterator[Sweep]:
    """The first model's endpoint refuses the key; the others answer slowly, one request at a time."""
    directory = tmp_path_factory.mktemp("sweep")
    TABLE.write_task(directory / "task.jsonl")
    TABLE.write_interventions(directory / "edits.jsonl")
    with (
        PlantedServer(TABLE, accepted_key="another") as locked,
        FaultServer(play("one"), latency=0.05) as one,
        FaultServer(play("two"), latency=0.05) as two,
    ):
        config = f"""
tasks: ["jsonl:task.jsonl"]
endpoints:
  locked: {{base_url: "{locked.url}", api_key_env: EXPLAINEVAL_LAB_KEY}}
  first: {{base_url: "{one.root}/v1", max_connections: 1}}
  second: {{base_url: "{two.root}/v1", max_connections: 1}}
models:
  - {{model: openai/locked, endpoint: locked}}
  - {{model: openai/one, endpoint: first}}
  - {{model: openai/two, endpoint: second, max_usd: 5}}
interventions: {{file: edits.jsonl}}
max_usd: 9
"""
        (directory / "sweep.yaml").write_text(config, encoding="utf-8")
        child = warm.start("run", "sweep.yaml", "--out", "out", cwd=directory, env={"EXPLAINEVAL_LAB_KEY": KEY})
        child.wait_for_line("go on.")
        wait_for(lambda: (directory / "out" / "progress.json").exists() and len(one.received) > REQUESTS // 4)
        on_the_way = warm.run("watch", "out", "--json", cwd=directory)
        result = child.finish()
        yield Sweep(directory, result, on_the_way, [one.at for one in one.received], [one.at for one in two.received])


def test_all_endpoints_are_busy_at_once(sweep: Sweep) -> None:
    """By the servers' clocks the requests of both are mixed: each half of the run has its share of either."""
    assert (len(sweep.one), len(sweep.two)) == (REQUESTS, REQUESTS)
    times = sorted([(at, "one") for at in sweep.one] + [(at, "two") for at in sweep.two])
    half = [name for _, name in times[:REQUESTS]]

    assert min(half.count("one"), half.count("two")) >= REQUESTS // 4


def test_the_others_finish_and_are_scored(sweep: Sweep) -> None:
    """Exit code 5; the failure is told at once and at the end; both others have all trials and their numbers."""
    said = [line for line in sweep.result.stderr.splitlines() if "openai/locked at " in line]

    assert sweep.result.code == 5, sweep.result.stderr
    assert len(said) == 2
    assert said[0].endswith((" The other 2 models go on.", " The other model goes on."))
    trials = read_trials(sweep.directory / "out")
    assert dict.fromkeys(("openai/one", "openai/two"), 40) == {
        name: sum(trial["model"] == name and trial["status"] == "ok" for trial in trials)
        for name in ("openai/one", "openai/two")
    }
    assert {"openai/one", "openai/two"} == {row["model"] for row in read_rows(sweep.directory / "out")}


def test_watch_shows_the_sweep_on_its_way(sweep: Sweep) -> None:
    """The failed model with its sentence, the others running, with what is done, the limits and the time left."""
    document = sweep.on_the_way.document
    locked, one, two = document["models"]

    assert sweep.on_the_way.code == 0
    assert (document["state"], document["dead"], document["max_usd"]) == ("asking", False, 9.0)
    assert document["sentence"].startswith("running for ")
    assert (locked["state"], locked["done"], locked["unsent"]) == ("failed", 1, REQUESTS - 1)
    assert "openai/locked" in locked["reason"]
    for model, limit in ((one, None), (two, 5.0)):
        assert (model["state"], model["distinct"], model["max_usd"], model["usd"]) == ("running", REQUESTS, limit, 0.0)
        assert 0 <= model["done"] < REQUESTS


def test_watch_says_how_it_ended(sweep: Sweep, warm: WarmCommands) -> None:
    """Afterwards: the exit code with its reason, each model's end, and phi-CCT as it was scored."""
    result = warm.run("watch", "out", cwd=sweep.directory, env={"COLUMNS": "1000"})
    document = warm.run("watch", "out", "--json", cwd=sweep.directory).document
    lines = result.stdout.splitlines()
    scored = {row["model"]: row for row in read_rows(sweep.directory / "out") if row["metric"] == "phi_cct"}

    assert result.code == 0
    assert lines[0].startswith("out: finished after ")
    assert "with exit code 5: openai/locked" in lines[0]
    assert lines[1].startswith(f"openai/locked: failed, 1 of {REQUESTS} requests (0 cached)")
    assert lines[2].startswith(f"openai/one: finished, {REQUESTS} of {REQUESTS} requests (0 cached), phi-CCT ")
    done = 2 * REQUESTS + 1
    assert lines[-1] == f"In all: 1 failed, 2 finished; {done} of {3 * REQUESTS} requests; $0 of $9.00 spent."
    for model in document["models"][1:]:
        (phi,) = model["phi_cct"]
        row = scored[model["model"]]
        assert [row[name] for name in ("value", "low", "high", "n", "n_examples")] == [
            phi[name] for name in ("value", "low", "high", "n", "n_examples")
        ]


def test_progress_holds_no_secret_and_is_no_part_of_the_run(sweep: Sweep, warm: WarmCommands) -> None:
    """Without progress.json, or with another one, score and export give the same bytes."""
    progress = sweep.directory / "out" / "progress.json"
    assert KEY not in progress.read_text(encoding="utf-8")
    outputs = []
    for name in ("with.zip", "changed.zip", "without.zip"):
        if name == "changed.zip":
            progress.write_text("{}", encoding="utf-8")
        if name == "without.zip":
            progress.unlink()
        scored = warm.run("score", "out", "--json", cwd=sweep.directory)
        exported = warm.run("export", "out", "--out", name, cwd=sweep.directory)
        assert (scored.code, exported.code) == (0, 0)
        outputs.append((scored.stdout, (sweep.directory / name).read_bytes()))

    assert outputs[0] == outputs[1] == outputs[2]


@pytest.mark.slow
def test_the_sweep_file_of_the_page_runs(warm: WarmCommands, tmp_path: Path) -> None:
    """docs/sweeps.md: every model on every task in every arm, watched afterwards."""
    page = Path(__file__).parents[2] / "docs" / "sweeps.md"
    (block,) = re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    (tmp_path / "sweep.yaml").write_text(block, encoding="utf-8")

    result = warm.run("run", "sweep.yaml", "--out", "out", cwd=tmp_path)
    document = warm.run("watch", "out", "--json", cwd=tmp_path).document

    assert result.code == 0, result.stderr
    assert [model["model"] for model in document["models"]] == [
        "simulated/faithful",
        "simulated/verbose",
        "simulated/random",
    ]
    assert {(phi["conditions"], phi["n_examples"]) for model in document["models"] for phi in model["phi_cct"]} == {
        (4, 40)
    }


@pytest.mark.slow
def test_killed_and_continued_runs_are_told_apart(warm: WarmCommands, tmp_path: Path) -> None:
    """kill -9 leaves the last progress, which counts as dead after a while; the same command begins it anew."""
    TABLE.write_task(tmp_path / "task.jsonl")
    TABLE.write_interventions(tmp_path / "edits.jsonl")
    with FaultServer(play("one"), latency=0.02) as server:
        command = ["run", "--task", "jsonl:task.jsonl", "--interventions", "edits.jsonl", "--model", "openai/one",
                   "--base-url", f"{server.root}/v1", "--max-connections", "1", "--out", "out"]  # fmt: skip
        child = warm.start(*command, cwd=tmp_path)
        wait_for(lambda: len(server.received) >= 10)
        child.send(signal.SIGKILL)
        child.finish()
        killed = json.loads((tmp_path / "out" / "progress.json").read_text(encoding="utf-8"))
        old = killed | {"updated": "2026-01-01T00:00:00+00:00"}
        (tmp_path / "out" / "progress.json").write_text(json.dumps(old), encoding="utf-8")
        dead = warm.run("watch", "out", cwd=tmp_path)
        again = warm.run(*command, cwd=tmp_path)
    watched = warm.run("watch", "out", "--json", cwd=tmp_path)

    assert killed["state"] == "asking"
    assert "the run was ended from outside" in " ".join(dead.stdout.split())
    assert again.code == 0
    (model,) = watched.document["models"]
    assert (watched.document["state"], watched.document["exit_code"]) == ("finished", 0)
    assert (model["hits"] + model["sent"], model["unsent"]) == (REQUESTS, 0)
    assert model["hits"] > 0
