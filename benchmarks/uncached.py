"""What does it cost to ask a server a few thousand distinct requests, all new? CPU-seconds of whole client processes.

One task, its prompts with log-probabilities (20 alternatives), 64 connections, one fast made-up server in a process of
its own, whose CPU is not counted. The clients, one after the other in every round:

- `loop`: a bare loop over `litellm.acompletion` with the same parameters and the same settings of litellm; it stores
  nothing and reads nothing;
- `litellm`: `explaineval run` through litellm, to the printed numbers;
- `direct`: the same with `--transport direct`;
- `inspect`: Inspect AI on the same prompts, with its cache, so that it keeps its answers too;
- `cached`: the run through litellm again, all from the cache;
- `inspect-cached`: Inspect AI again, all from its cache.

    python benchmarks/uncached.py [--requests 2000] [--rounds 3] [--rival-python rivals/bin/python]

CPU is that of the whole process, imports included, divided by the requests that the server counted. Ratios are taken
within a round, since other work on the machine changes both sides. Exits 1 where the median of a ratio falls short.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fast_server import FastServer
from made_up_cases import write_task

WORDS = 4
PER_EXAMPLE = 1 + WORDS
NOTE = 60
"""Words of a note: with it a prompt has about 1 kB."""
CONNECTIONS = 64
MAX_TOKENS, ALTERNATIVES, TIMEOUT = 512, 20, 120
PROMPTS = "prompts.jsonl"
SELF = str(Path(__file__).resolve())


@dataclass(frozen=True)
class Used:
    """What a client used: seconds of wall and of CPU, peak memory in bytes, and how many requests it got answers to."""

    seconds: float
    cpu: float
    peak: int
    requests: int

    @property
    def each(self) -> float:
        """Milliseconds of CPU a request."""
        return 1000 * self.cpu / self.requests


def measure(command: list[str], directory: Path, **environment: str) -> Used:
    """Run a client to its end; `requests` is left 0."""
    started = time.perf_counter()
    with (directory / "stdout").open("wb") as stdout, (directory / "stderr").open("wb") as stderr:
        child = subprocess.Popen(
            command, cwd=directory, stdout=stdout, stderr=stderr, env={**os.environ, **environment}
        )
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        said = (directory / "stderr").read_text()[-2000:]
        raise SystemExit(f"{' '.join(command)} ended with exit code {child.returncode}: {said}")
    return Used(time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, 0)


def explaineval(url: str, *more: str) -> list[str]:
    """The command line of a run of the task."""
    command = [
        sys.executable,
        "-m",
        "explaineval",
        "run",
        "--task",
        "jsonl:task.jsonl",
        "--interventions",
        "edits.jsonl",
    ]
    command += ["--model", "openai/m", "--base-url", url, "--shams", "0", "--max-connections", str(CONNECTIONS)]
    return [*command, "--max-tokens", str(MAX_TOKENS), "--timeout", str(TIMEOUT), "--json", *more]


def write_prompts() -> None:
    """Write the prompts that a run of the task in the working directory asks, as messages in JSONL."""
    from explaineval.client.endpoints.capabilities import Capabilities
    from explaineval.config import ClientConfig, InterventionConfig, ModelConfig, RunConfig
    from explaineval.planning.prepare import prepare
    from explaineval.planning.units import walk

    config = RunConfig(
        tasks=("jsonl:task.jsonl",), models=(ModelConfig(model="openai/m"),), shams=0, temperature=0.0,
        interventions=InterventionConfig(file=Path("edits.jsonl")),
    )  # fmt: skip
    steps = walk(prepare(config, ClientConfig()), lambda *_: Capabilities(ALTERNATIVES, 0.0, "returned"))
    with Path(PROMPTS).open("w", encoding="utf-8") as lines:
        for step in steps:
            lines.write(json.dumps([turn.model_dump() for turn in step.request.messages or ()]) + "\n")


def read_prompts() -> list[list[dict[str, str]]]:
    """The messages of each request."""
    with Path(PROMPTS).open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


async def ask_loop(url: str) -> None:
    """The bare loop: 64 workers over `litellm.acompletion`, with the settings of litellm that explaineval makes."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    os.environ["LITELLM_MODE"] = "PRODUCTION"
    import litellm

    litellm.suppress_debug_info = True
    rest = iter(read_prompts())

    async def worker() -> None:
        for messages in rest:
            answer = await litellm.acompletion(
                model="openai/m", api_base=url, api_key="none", messages=messages, max_tokens=MAX_TOKENS, temperature=0,
                logprobs=True, top_logprobs=ALTERNATIVES, num_retries=0, max_retries=0, timeout=TIMEOUT,
            )  # fmt: skip
            assert answer.choices[0].message.content.startswith("Answer:")

    await asyncio.gather(*(worker() for _ in range(CONNECTIONS)))


def ask_inspect(url: str) -> None:
    """Inspect AI: one sample a prompt, generated without a scorer, with its cache; nothing is shown."""
    from inspect_ai import Task, eval
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ChatMessageSystem, ChatMessageUser, GenerateConfig, get_model
    from inspect_ai.solver import generate

    kinds: dict[str, Callable[..., Any]] = {"system": ChatMessageSystem, "user": ChatMessageUser}
    samples = [
        Sample(input=[kinds[turn["role"]](content=turn["content"]) for turn in messages]) for messages in read_prompts()
    ]
    config = GenerateConfig(
        max_tokens=MAX_TOKENS, temperature=0, logprobs=True, top_logprobs=ALTERNATIVES, max_connections=CONNECTIONS,
        max_retries=0, timeout=TIMEOUT,
    )  # fmt: skip
    model = get_model("openai-api/local/m", base_url=url, api_key="none", config=config)
    (log,) = eval(
        Task(dataset=samples, solver=generate(cache=True)), model=model, max_samples=CONNECTIONS, display="none",
        log_dir="logs", score=False,
    )  # fmt: skip
    assert log.status == "success", log.error
    assert log.samples is not None
    assert len(log.samples) == len(samples)
    assert all(sample.output.choices[0].logprobs is not None for sample in log.samples)


CLIENTS = ("loop", "litellm", "direct", "inspect", "cached", "inspect-cached")
GOALS = (
    ("litellm", "loop", 1 / 1.15),
    ("litellm", "inspect", 3.0),
    ("direct", "inspect", 12.0),
    ("cached", "inspect-cached", 25.0),
)
"""A client, its rival, and how many times the client's CPU a request the rival's must be at least."""


class Round:
    """Runs every client once, in a directory of its own."""

    def __init__(self, directory: Path, server: FastServer, rival: str) -> None:
        self.directory, self.server, self.rival = directory, server, rival
        environment = {"INSPECT_CACHE_DIR": str(directory / "inspect-cache"), "PYTHONWARNINGS": "ignore"}
        url = server.url
        ours = explaineval(url, "--cache", "cache", "--out", "out")
        direct = [*explaineval(url, "--cache", "direct-cache", "--out", "direct-out"), "--transport", "direct"]
        theirs = [rival, SELF, "inspect", url]
        self.commands: dict[str, tuple[list[str], dict[str, str]]] = {
            "loop": ([sys.executable, SELF, "loop", url], {}),
            "litellm": (ours, {}),
            "direct": (direct, {}),
            "inspect": (theirs, environment),
            "cached": (ours, {}),
            "inspect-cached": (theirs, environment),
        }

    def run(self, name: str, requests: int) -> Used:
        """What a client used for so many requests, all of which must be answered by the server, or none of them."""
        before = self.server.counts()["answered"]
        if name == "cached":
            shutil.rmtree(self.directory / "out", ignore_errors=True)
        used = measure(self.commands[name][0], self.directory, **self.commands[name][1])
        asked = self.server.counts()["answered"] - before
        if name.endswith("cached"):
            if asked:
                raise SystemExit(f"{name}: {asked} requests were not answered from the cache")
            asked = requests
        if asked < requests:
            raise SystemExit(f"{name}: only {asked} of {requests} requests were sent")
        return Used(used.seconds, used.cpu, used.peak, asked)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=14, help="tokens of an explanation")
    parser.add_argument("--latency", type=float, default=0.02, help="seconds from a request to its answer")
    parser.add_argument("--rival-python", default=sys.executable, help="the Python that has rivals.txt installed")
    parser.add_argument("--only", default=",".join(CLIENTS), help="clients to run, separated by commas")
    asked = parser.parse_args()
    names = asked.only.split(",")
    requests = asked.requests // PER_EXAMPLE * PER_EXAMPLE
    rounds: dict[str, list[Used]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder, FastServer(asked.tokens, asked.latency) as server:
        for number in range(asked.rounds):
            directory = Path(folder) / str(number)
            directory.mkdir()
            write_task(directory, requests // PER_EXAMPLE, WORDS, NOTE)
            measure([sys.executable, SELF, "prompts"], directory)
            clients = Round(directory, server, asked.rival_python)
            for name in names:
                used = clients.run(name, requests)
                rounds[name].append(used)
                print(f"  {name:15} {used.requests:6,} requests: {used.cpu:6.2f} s of CPU, {used.each:6.3f} ms each, "
                      f"{used.seconds:6.1f} s, peak {used.peak / 2**20:,.0f} MB", flush=True)  # fmt: skip
    return report(rounds)


def report(rounds: dict[str, list[Used]]) -> int:
    """Print medians and ratios; 1 where one falls short."""
    short = 0
    for name, found in rounds.items():
        print(f"{name:15} {statistics.median(used.each for used in found):6.3f} ms of CPU a request (median)")
    for name, rival, goal in GOALS:
        if name in rounds and rival in rounds:
            ratios = [theirs.each / ours.each for ours, theirs in zip(rounds[name], rounds[rival], strict=True)]
            ratio = statistics.median(ratios)
            short += ratio < goal
            said = f"{rival} / {name}: {ratio:.2f} (goal: {goal:.2f}; {min(ratios):.2f} to {max(ratios):.2f})"
            if goal < 1:
                said = f"{name} / {rival}: {1 / ratio:.3f} (goal: at most {1 / goal:.2f})"
            print(f"{said}{' FALLS SHORT' if ratio < goal else ''}")
    return int(short > 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["prompts"]:
        write_prompts()
    elif sys.argv[1:2] == ["loop"]:
        asyncio.run(ask_loop(sys.argv[2]))
    elif sys.argv[1:2] == ["inspect"]:
        ask_inspect(sys.argv[2])
    else:
        sys.exit(main())
