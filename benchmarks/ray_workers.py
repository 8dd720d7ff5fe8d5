"""Two workers on Ray against one process: throughput through litellm, and what the loss of a worker costs.

The same run three times against an endpoint that counts what it generates: from one process, from workers on Ray
(started on this machine for the run), and from workers of which one is killed (`kill -9`) in mid-run. Throughput is
taken at the endpoint between the 10th and the 90th percent of the answers, so that starting up does not count; the
seconds of the whole run are given beside it. Where workers, endpoint and run share all cores of one machine, they
cannot be faster than those cores allow.

    python benchmarks/ray_workers.py [--requests 2000] [--workers 2] [--connections 64] [--transport litellm]

Exits 1 unless all three runs have the same metrics.json and trials, and no request was paid for twice except the calls
that were under way at the killed worker.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from billing_server import BillingServer, Call, Settings
from made_up_cases import write_task

WORDS = 4
LOST = re.compile(r"its (\d+) calls under way")


@dataclass
class Run:
    """One run: its exit code, seconds, calls at the endpoint, what it printed, and the processor time of workers."""

    out: Path
    seconds: float = 0.0
    calls: list[Call] = field(default_factory=list)
    stderr: str = ""
    worker_seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Answers per second between the 10th and the 90th percent of them."""
        written = sorted(call.written for call in self.calls if call.written is not None)
        first, last = len(written) // 10, len(written) * 9 // 10
        return (last - first) / (written[last] - written[first])

    @property
    def lost(self) -> int:
        """Calls that were under way at workers that were lost."""
        return sum(map(int, LOST.findall(self.stderr)))

    @property
    def paid_again(self) -> int:
        """Answers that were paid for more than once."""
        return len(self.calls) - len(Counter(call.prompt for call in self.calls))

    def trials(self) -> list[str]:
        """The lines of trials.jsonl in an order that does not depend on time."""
        return sorted((self.out / "trials.jsonl").read_text(encoding="utf-8").splitlines())


def worker_processes(parent: int) -> list[int]:
    """The processes of the workers that a run has started, by /proc."""
    parents, workers = {}, []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            status = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        parents[int(entry.name)] = int(status[1])
        if command.startswith(b"ray::RequestSender"):
            workers.append(int(entry.name))

    def descends(pid: int) -> bool:
        return pid == parent or (pid in parents and descends(parents[pid]))

    return sorted(filter(descends, workers))


def processor_seconds(pid: int) -> float:
    """The processor time of a process so far."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def go(folder: Path, name: str, server: BillingServer, options: list[str], latency: float, *, kill: bool) -> Run:
    """Run once; `kill` kills a worker when half of the answers are written."""
    url = server.open(name, Settings(latency=latency, shortest=0.1, longest=0.1))
    run = Run(folder / name)
    command = [sys.executable, "-m", "explaineval", *options, "--base-url", url, "--cache", str(folder / f"{name}-c")]
    started = time.perf_counter()
    with (folder / f"{name}.err").open("w") as errors:
        process = subprocess.Popen([*command, "--out", str(run.out)], stdout=subprocess.DEVNULL, stderr=errors)
        wanted = int(options[options.index("--limit") + 1]) * (1 + WORDS) // 2
        while process.poll() is None:
            time.sleep(0.1)
            workers = worker_processes(process.pid)
            run.worker_seconds = max(run.worker_seconds, sum(map(processor_seconds, workers)))
            if kill and workers and server.books(name)["billed"] >= wanted:
                os.kill(workers[0], signal.SIGKILL)
                kill = False
    run.seconds = time.perf_counter() - started
    run.stderr = (folder / f"{name}.err").read_text()
    if process.returncode or kill:
        raise SystemExit(f"{name} ended with exit code {process.returncode}, killed nothing: {kill}\n{run.stderr}")
    run.calls = server.calls(name)
    return run


def main() -> int:
    """Run three times, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000, help="a multiple of five")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.05, help="mean seconds of an answer")
    parser.add_argument("--transport", default="litellm")
    asked = parser.parse_args()
    os.environ["COLUMNS"] = "1000"  # sentences are searched for
    with tempfile.TemporaryDirectory() as name, BillingServer() as server:
        folder, examples = Path(name), asked.requests // (1 + WORDS)
        task, edits = write_task(folder, examples, WORDS)
        options = [
            "run",
            "--task",
            task,
            "--interventions",
            str(edits),
            "--model",
            "openai/m",
            "--limit",
            str(examples),
        ]
        options += ["--endpoint-name", "lab", "--shams", "0", "--max-connections", str(asked.connections)]
        if asked.transport != "litellm":
            options += ["--transport", asked.transport]
        ray = [*options, "--engine", "ray", "--workers", str(asked.workers)]
        alone = go(folder, "alone", server, options, asked.latency, kill=False)
        workers = go(folder, "workers", server, ray, asked.latency, kill=False)
        killed = go(folder, "killed", server, ray, asked.latency, kill=True)
        same = all(
            (run.out / "metrics.json").read_bytes() == (alone.out / "metrics.json").read_bytes()
            and run.trials() == alone.trials()
            for run in (workers, killed)
        )
    print(f"{asked.requests} requests at {asked.connections} connections, {os.cpu_count()} cores, {asked.transport}")
    print(f"one process:        {alone.rate:6.0f} answers/s, {alone.seconds:5.1f} s in all")
    for run, what in ((workers, f"{asked.workers} workers:"), (killed, "one of them killed:")):
        print(
            f"{what:19} {run.rate:6.0f} answers/s ({run.rate / alone.rate:.2f} of one process), {run.seconds:5.1f} s "
            f"in all; processor time of the workers {run.worker_seconds:.1f} s"
        )
    print(f"under way at the killed worker: {killed.lost}; paid for again: {killed.paid_again}")
    print("metrics.json and trials are the same in all three" if same else "the numbers DIFFER")
    needless = max(alone.paid_again, workers.paid_again, killed.paid_again - killed.lost)
    if needless > 0:
        print(f"{needless} answers were paid for again without need")
    return int(not same or needless > 0)


if __name__ == "__main__":
    sys.exit(main())
