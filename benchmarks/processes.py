"""Several processes, one cache, the same run: does anything fail, get lost, or get paid for twice?

First one process alone asks everything (an unperturbed prompt, four insertions and a sham for each example), then
several at once with one empty cache between them. The endpoint counts every body. Their claims on the cache must keep
them from asking the same, every one of them must end with all trials, and with the numbers of the one alone.

    python benchmarks/processes.py [--examples 500] [--processes 4] [--connections 32] [--transport litellm]

Exits 1 unless all of this holds. Wall times include the start of Python and, with `--transport litellm`, the import of
litellm.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from billing_server import BillingServer, Call, Settings
from made_up_cases import write_task

from explaineval.cache import open_store

WORDS = 4
SHAMS = 1


@dataclass(frozen=True)
class Ended:
    """One process: exit code, its --json document, its trials and numbers; seconds of wall and of CPU."""

    code: int
    document: dict[str, Any]
    trials: list[str]
    metrics: bytes
    seconds: float
    cpu: float


def run_all(directory: Path, options: list[str], cache: str, names: list[str]) -> list[Ended]:
    """Start one process a name at the same moment on one cache, and wait for all."""
    command = [sys.executable, "-m", "explaineval", *options, "--cache", cache]
    started = time.perf_counter()
    children = {}
    for name in names:
        with (directory / f"{name}.json").open("wb") as stdout:
            child = subprocess.Popen(
                [*command, "--out", name, "--json"], cwd=directory, stdout=stdout, stderr=subprocess.DEVNULL
            )
        children[child.pid] = name
    ended = {}
    while children:
        pid, status, used = os.wait4(-1, 0)
        if pid not in children:  # the endpoint's process
            raise SystemExit("the endpoint has ended")
        name = children.pop(pid)
        out = directory / name
        ended[name] = Ended(
            code=os.waitstatus_to_exitcode(status),
            document=json.loads((directory / f"{name}.json").read_text()),
            trials=sorted((out / "trials.jsonl").read_text().splitlines()) if out.exists() else [],
            metrics=(out / "metrics.json").read_bytes() if (out / "metrics.json").exists() else b"",
            seconds=time.perf_counter() - started,
            cpu=used.ru_utime + used.ru_stime,
        )
    return [ended[name] for name in names]


def paid_twice(calls: list[Call], examples: int) -> int:
    """How many calls were more than one for each key: a sham has the body of the prompt that it repeats."""
    times = Counter(call.prompt for call in calls)
    repeated = sum(count - 1 for count in times.values())
    return repeated - examples * SHAMS


def audit(ended: list[Ended], alone: Ended, keys: int, trials: int, cache: Path) -> list[str]:
    """What is not as it must be."""
    faults = []
    for number, one in enumerate(ended):
        requests = one.document.get("requests", {})
        if one.code or requests.get("distinct") != keys or requests.get("unsent") or requests.get("retries"):
            faults.append(f"process {number} ended with exit code {one.code}: {one.document.get('error') or requests}")
        if len(one.trials) != trials or one.trials != alone.trials:
            strange = len(set(one.trials) - set(alone.trials))
            faults.append(
                f"process {number} has {len(one.trials)} trials, {strange} of them not those of the one alone"
            )
        if one.metrics != alone.metrics:
            faults.append(f"process {number}: metrics.json differs from that of the process alone")
    sent = sum(one.document.get("requests", {}).get("sent", 0) for one in ended)
    if sent != keys:
        faults.append(f"the processes count {sent} requests as sent, there are {keys} keys")
    with open_store(cache) as store:
        rows = sum(1 for _ in store.iterate())
        faults += store.warnings
    if rows != keys:
        faults.append(f"{rows} rows are stored, {keys} were asked for")
    return faults


def show(name: str, ended: list[Ended], calls: list[Call]) -> float:
    """Print a line; returns the seconds until the last process had ended."""
    seconds, cpu = max(one.seconds for one in ended), sum(one.cpu for one in ended)
    asking = max(call.written or 0.0 for call in calls) - min(call.received for call in calls)
    print(f"{name:10} {len(calls):6,} calls  {seconds:6.1f} s ({asking:.1f} s from first call to last answer), "
          f"{cpu:.1f} s of CPU")  # fmt: skip
    return seconds


def main() -> int:
    """Run alone and together, audit, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=500)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--transport", choices=("litellm", "direct"), default="litellm")
    asked = parser.parse_args()
    keys, trials = asked.examples * (1 + WORDS + SHAMS), asked.examples * (WORDS + SHAMS)
    with tempfile.TemporaryDirectory() as folder, BillingServer() as server:
        directory = Path(folder)
        task, edits = write_task(directory, asked.examples, WORDS)
        options = [
            "run",
            "--task",
            task,
            "--interventions",
            str(edits),
            "--model",
            "openai/m",
            "--endpoint-name",
            "lab",
        ]
        options += ["--shams", str(SHAMS), "--max-connections", str(asked.connections)]
        options += ["--transport", asked.transport, "--base-url"]
        found = {}
        for room, names in (("alone", ["one"]), ("together", [f"p{number}" for number in range(asked.processes)])):
            url = server.open(room, Settings(latency=0.3))
            ended = run_all(directory, [*options, url], f"{room}-cache", names)
            found[room] = (ended, server.calls(room))
        alone = found["alone"][0][0]
        faults = []
        for room, (ended, calls) in found.items():
            faults += [f"{room}: {text}" for text in audit(ended, alone, keys, trials, directory / f"{room}-cache")]
            extra = paid_twice(calls, asked.examples)
            if extra:
                faults.append(f"{room}: {extra} calls more than there are keys")
    print(f"{keys:,} requests, {asked.connections} connections a process, by {asked.transport}")
    single = show("alone", *found["alone"])
    several = show(f"{asked.processes} at once", *found["together"])
    print(f"wall time of {asked.processes} at once / alone: {several / single:.2f}")
    for text in faults:
        print(text)
    print("no error, no row lost, nothing paid for twice, the same numbers" if not faults else f"{len(faults)} faults")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
