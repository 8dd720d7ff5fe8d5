"""kill -9, again and again: is anything lost, paid for twice without need, or damaged?

One run of 2,000 requests against an endpoint that counts what it generates is killed at random moments: while it
opens the store, while answers arrive, while it scores and writes. After each kill a copy of the cache is read row
by row. A request that was under way at a kill (received by the endpoint, not yet on the disk here) is paid for once
more, and nothing else is; what was stored stays; the numbers are those of a run that nobody disturbed.

With --shards N the run is divided among N caches that know nothing of each other (`run --shard I/N`). Each shard is
killed and continued like a run, and the merged directory must have the numbers of the undisturbed run.

    python benchmarks/kills.py [--requests 2000] [--kills 50] [--connections 8] [--shards 1] [--transport litellm]

Exits 1 unless all of this holds. The command line is forked from a process that has its libraries loaded, as in the
tests.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from billing_server import BillingServer, Call, Settings, digest_of
from made_up_cases import write_task

from explaineval.cache import open_store
from explaineval.config import Shard

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
warm = import_module("servers.warm")

WORDS = 4
MODEL = "openai/m"
UNDISTURBED = "undisturbed"
WARM = {
    "litellm": warm.PRELOADED,
    "direct": (*(name for name in warm.PRELOADED if name not in ("litellm", "openai.resources")),
               "explaineval.client.direct"),
}  # fmt: skip
"""What is imported before the first run, by transport."""
AT_THE_END = 0.1
"""The share of the kills that fall into the scoring and writing of a run whose answers are all there."""
AT_THE_START = 0.1
CALM = 30.0


@dataclass
class Bench:
    """A run with a cache, a run directory and a room at the endpoint of its own, all named after it."""

    directory: Path
    server: BillingServer
    name: str
    options: list[str]
    brought: frozenset[str] = frozenset()
    """What its cache held before it."""

    def __post_init__(self) -> None:
        self.url = self.server.open(self.name, Settings(latency=0.05))

    @property
    def cache(self) -> str:
        """The cache directory, below `directory`."""
        return f"{self.name}-cache"

    def start(self) -> int:
        """Start the run; returns its process id."""
        return self.fork("run", *self.options, "--base-url", self.url, "--cache", self.cache, "--out", self.name)

    def finish(self) -> float:
        """Run to the end; returns the seconds that it took."""
        started = time.perf_counter()
        self.wait_for(self.start())
        return time.perf_counter() - started

    def fork(self, *arguments: str) -> int:
        """Fork the command line; returns its process id."""
        streams = {"stdout": str(self.directory / "stdout"), "stderr": str(self.directory / "stderr")}
        order = {"arguments": arguments, "cwd": str(self.directory), "env": dict(os.environ), **streams}
        return int(warm.start(order))

    def wait_for(self, child: int) -> None:
        """Wait until a process ends, which must end well."""
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code:
            raise SystemExit(f"{self.name} ended with exit code {code}: {(self.directory / 'stderr').read_text()}")

    def attempts(self) -> int:
        """How many requests have come in."""
        return int(self.server.books(self.name)["attempts"])

    def calls(self) -> list[Call]:
        """Every call, once none is under way."""
        self.wait(lambda: not self.server.books(self.name)["under_way"], CALM)
        return self.server.calls(self.name)

    def wait(self, until: Callable[[], bool], longest: float) -> bool:
        """Whether it came true."""
        end = time.monotonic() + longest
        while not until():
            if time.monotonic() > end:
                return False
            time.sleep(0.002)
        return True

    def stored(self) -> tuple[set[str], tuple[str, ...]]:
        """What a copy of the cache holds answers to, and what reading all of it complained of."""
        cache, aside = self.directory / self.cache, self.directory / "aside"
        if not (cache / "cache.db").exists():
            return set(), ()
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(cache, aside)
        with open_store(aside) as store:
            found = {digest_of((request.messages or ())[-1].content) for _, request, _ in store.iterate()}
            return found - self.brought, store.warnings


@dataclass
class Losses:
    """What the kills did. `paid_again` counts by prompt; ages are seconds from an answer's sending to the kill."""

    paid_again: Counter[str] = field(default_factory=Counter)
    most: int = 0
    at_endpoint: int = 0
    ages: list[float] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def add(self, number: int, killed: float, session: list[Call], before: set[str], after: set[str]) -> None:
        """Enter one kill: what was asked since the start, what was stored before that and after the kill."""
        asked = {call.prompt for call in session}
        if before & asked:
            self.faults.append(f"kill {number}: {len(before & asked)} stored answers were asked for again")
        if before - after:
            self.faults.append(f"kill {number}: {len(before - after)} stored answers were lost")
        if len(asked) != len(session):
            self.faults.append(f"kill {number}: {len(session) - len(asked)} requests were sent twice in one session")
        lost = [call for call in session if call.prompt not in after]
        self.most = max(self.most, len(lost))
        self.paid_again.update(call.prompt for call in lost)
        for call in lost:
            if call.written is None or call.written > killed:
                self.at_endpoint += 1
            else:
                self.ages.append(killed - call.written)


def kill_all(bench: Bench, requests: int, kills: int, connections: int, seed: int) -> Losses:
    """Kill one run so many times at random moments; it is begun again each time with the same command."""
    draw = random.Random(f"{seed}:{bench.name}")
    losses = Losses()
    late = round(kills * AT_THE_END)
    early = set(draw.sample(range(kills - late), round(kills * AT_THE_START)))
    for number in range(kills - late):
        before, _ = bench.stored()
        calls = len(bench.calls())
        share = (requests - len(before)) / (kills - late - number + 1)
        wanted = calls + draw.randint(1, max(1, round(1.9 * share)))
        child = bench.start()
        if number in early:
            losses.kills["at the start"] += 1
            time.sleep(draw.uniform(0, 0.5))
        else:
            losses.kills["while asking"] += 1
            if not bench.wait(lambda wanted=wanted: bench.attempts() >= wanted, CALM):  # type: ignore[misc]
                losses.faults.append(f"kill {number}: only {bench.attempts()} requests came in")
            time.sleep(draw.uniform(0, 0.03))
        if not strike(bench, losses, number, child, calls, before, connections):
            losses.faults.append(f"kill {number}: the run had ended by itself")
        print(f"\r{number + 1}/{kills}", end="", file=sys.stderr, flush=True)
    bench.finish()
    whole = bench.finish()
    number = kills - late
    while number < kills:
        before, calls = bench.stored()[0], len(bench.calls())
        child = bench.start()
        time.sleep(draw.uniform(0, whole))
        struck = strike(bench, losses, number, child, calls, before, connections)
        losses.kills["while nothing is left to ask"] += struck  # else it had ended before
        number += struck
    print(file=sys.stderr)
    bench.finish()
    return losses


def strike(
    bench: Bench, losses: Losses, number: int, child: int, calls: int, before: set[str], connections: int
) -> bool:
    """Kill the child and look at what it left; False where it had ended by itself."""
    killed = time.monotonic()
    os.kill(child, signal.SIGKILL)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != -signal.SIGKILL:
        return False
    session = bench.calls()[calls:]
    after, complaints = bench.stored()
    losses.faults += [f"kill {number}: {text}" for text in complaints]
    lost = sum(losses.paid_again.values())
    losses.add(number, killed, session, before, after)
    if sum(losses.paid_again.values()) - lost > connections:
        losses.faults.append(f"kill {number}: more was lost than {connections} connections can have under way")
    return True


def audit(bench: Bench, losses: Losses, requests: int) -> None:
    """Hold every body's bills and the whole store against what was promised."""
    paid = Counter(call.prompt for call in bench.calls() if call.billed)
    stored, complaints = bench.stored()
    losses.faults += list(complaints)
    if len(paid) != requests or stored != set(paid):
        losses.faults.append(f"{len(paid)} bodies were paid for and {len(stored)} are stored, of {requests}")
    for prompt, times in paid.items():
        if times > 1 + losses.paid_again[prompt]:
            losses.faults.append(f"{prompt} was paid for {times} times, under way at {losses.paid_again[prompt]} kills")
    bench.wait_for(bench.fork("cache", "verify", "--cache", bench.cache))


def differences(undisturbed: Bench, out: str, requests: int) -> list[str]:
    """Run the whole undisturbed, and return what differs from it in the directory `out`."""
    undisturbed.finish()
    asked = len(undisturbed.calls())
    faults = [f"the undisturbed run asked {asked} requests"] if asked != requests else []
    whole = undisturbed.directory / undisturbed.name
    return faults + [
        f"{name} differs from that of the undisturbed run"
        for name in ("metrics.json", "metrics.csv")
        if (undisturbed.directory / out / name).read_bytes() != (whole / name).read_bytes()
    ]


def divide(directory: Path, server: BillingServer, options: list[str], count: int) -> list[Bench]:
    """Return the shards of a run, each with a cache that holds what one probe found out of the endpoint."""
    probe = Bench(directory, server, "probe", [])
    wanted = ["--model", MODEL, "--endpoint-name", "lab", "--base-url", probe.url, "--cache", probe.cache]
    probe.wait_for(probe.fork("probe", *wanted))
    probe.wait_for(probe.fork("cache", "export", "--cache", probe.cache, "--out", "probe.jsonl.gz"))
    shards = []
    for number in range(1, count + 1):
        shard = Bench(directory, server, f"shard-{number}", [*options, "--shard", f"{number}/{count}"])
        shard.wait_for(shard.fork("cache", "import", "probe.jsonl.gz", "--cache", shard.cache))
        shard.brought = frozenset(shard.stored()[0])
        shards.append(shard)
    return shards


def sizes(task: Path, count: int) -> list[int]:
    """Return how many requests each shard has."""
    ids = [json.loads(line)["id"] for line in task.read_text(encoding="utf-8").splitlines()]
    held = [Shard(number, count) for number in range(1, count + 1)]
    return [(1 + WORDS) * sum(shard.holds(identifier) for identifier in ids) for shard in held]


def main() -> int:
    """Kill, audit, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000, help="a multiple of five")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--shards", type=int, default=1, help="parts that the run is divided into")
    parser.add_argument("--transport", choices=list(WARM), default="litellm")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    os.environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION"}
    for name in WARM[asked.transport]:
        import_module(name)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, BillingServer() as server:
        directory = Path(folder)
        task, edits = write_task(directory, asked.requests // (1 + WORDS), WORDS)
        options = ["--task", task, "--interventions", str(edits), "--model", MODEL, "--endpoint-name", "lab"]
        options += ["--transport", asked.transport, "--shams", "0", "--max-connections", str(asked.connections)]
        parts = [Bench(directory, server, "run", options)]
        if asked.shards > 1:
            parts = divide(directory, server, options, asked.shards)
        found = []
        faults = []
        for part, requests in zip(parts, sizes(directory / "task.jsonl", asked.shards), strict=True):
            losses = kill_all(part, requests, asked.kills // asked.shards, asked.connections, asked.seed)
            audit(part, losses, requests)
            found.append(losses)
            faults += [f"{part.name}: {text}" for text in losses.faults]
        calls = sum(len(part.calls()) for part in parts)
        out = parts[0].name
        if asked.shards > 1:
            out = "merged"
            parts[0].wait_for(parts[0].fork("merge", *(part.name for part in parts), "--out", out))
        faults += differences(Bench(directory, server, UNDISTURBED, options), out, asked.requests)
    kinds = dict(sum((losses.kills for losses in found), Counter()))
    again = sum(sum(losses.paid_again.values()) for losses in found)
    ages = [age for losses in found for age in losses.ages]
    where = f"{asked.connections} connections by {asked.transport}, shards: {asked.shards}"
    print(f"{sum(kinds.values())} kills {kinds} over {asked.requests} requests at {where}")
    most = max(losses.most for losses in found)
    print(f"{calls} answers were paid; {again} were under way at a kill, at most {most} at one, and paid again:")
    print(
        f"{sum(losses.at_endpoint for losses in found)} still at the endpoint, {len(ages)} sent home up to "
        f"{1000 * max(ages, default=0.0):.0f} ms before the kill"
    )
    print(f"paid for again without need: {calls - asked.requests - again}")
    for text in faults:
        print(text)
    print("no stored answer was lost or damaged, and the numbers are those of an undisturbed run, byte for byte"
          if not faults else f"{len(faults)} faults")  # fmt: skip
    print(f"{time.perf_counter() - started:.0f} s")
    return int(bool(faults) or calls - asked.requests > again)


if __name__ == "__main__":
    sys.exit(main())
