"""kill -9, again and again: is anything lost, paid for twice without need, or damaged?

One run of 2,000 requests against an endpoint that counts what it generates is killed at random moments: while it
opens the store, while answers come home, while it scores and writes. After each kill a copy of the cache is read row
by row. A request that was under way at a kill (received by the endpoint, not yet on the disk here) is paid for once
more, and nothing else is; what was stored stays; the numbers are those of a run that nobody disturbed.

    python benchmarks/kills.py [--requests 2000] [--kills 50] [--connections 8] [--seed 0]

Exits 1 unless all of this holds. The command line is forked from a process that has litellm loaded, as in the tests.
"""

from __future__ import annotations

import argparse
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

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
warm = import_module("servers.warm")

WORDS = 4
ROOM = "kills"
AT_THE_END = 0.1
"""The share of the kills that fall into the scoring and writing of a run whose answers are all there."""
AT_THE_START = 0.1
CALM = 30.0


@dataclass
class Bench:
    """A run's files, its options, and where its endpoint is."""

    directory: Path
    server: BillingServer
    options: list[str]

    def start(self, *more: str) -> int:
        """Fork the command line; returns its process id."""
        streams = {"stdout": str(self.directory / "stdout"), "stderr": str(self.directory / "stderr")}
        order = {"arguments": [*self.options, *more], "cwd": str(self.directory), "env": dict(os.environ), **streams}
        return int(warm.start(order))

    def finish(self, *more: str) -> float:
        """Run to the end; returns the seconds that it took."""
        started = time.perf_counter()
        code = os.waitstatus_to_exitcode(os.waitpid(self.start(*more), 0)[1])
        if code:
            raise SystemExit(f"the run ended with exit code {code}: {(self.directory / 'stderr').read_text()}")
        return time.perf_counter() - started

    def calls(self) -> list[Call]:
        """Every call, once none is under way."""
        self.wait(lambda: not self.server.books(ROOM)["under_way"], CALM)
        return self.server.calls(ROOM)

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
        cache, aside = self.directory / "cache", self.directory / "aside"
        if not (cache / "cache.db").exists():
            return set(), ()
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(cache, aside)
        with open_store(aside) as store:
            found = {digest_of((request.messages or ())[-1].content) for _, request, _ in store.iterate()}
            return found, store.warnings


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
    draw = random.Random(seed)
    losses = Losses()
    late = round(kills * AT_THE_END)
    early = set(draw.sample(range(kills - late), round(kills * AT_THE_START)))
    for number in range(kills - late):
        before, _ = bench.stored()
        calls = len(bench.calls())
        share = (requests - len(before)) / (kills - late - number + 1)
        wanted = calls + draw.randint(1, max(1, round(1.9 * share)))
        child = bench.start("--out", "out")
        if number in early:
            losses.kills["at the start"] += 1
            time.sleep(draw.uniform(0, 0.5))
        else:
            losses.kills["while asking"] += 1
            if not bench.wait(lambda wanted=wanted: bench.server.books(ROOM)["attempts"] >= wanted, CALM):  # type: ignore[misc]
                losses.faults.append(f"kill {number}: only {bench.server.books(ROOM)['attempts']} requests came in")
            time.sleep(draw.uniform(0, 0.03))
        if not strike(bench, losses, number, child, calls, before, connections):
            losses.faults.append(f"kill {number}: the run had ended by itself")
        print(f"\r{number + 1}/{kills}", end="", file=sys.stderr, flush=True)
    bench.finish("--out", "out")
    whole = bench.finish("--out", "out")
    number = kills - late
    while number < kills:
        before, calls = bench.stored()[0], len(bench.calls())
        child = bench.start("--out", "out")
        time.sleep(draw.uniform(0, whole))
        struck = strike(bench, losses, number, child, calls, before, connections)
        losses.kills["while nothing is left to ask"] += struck  # else it had ended before
        number += struck
    print(file=sys.stderr)
    bench.finish("--out", "out")
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
    """Hold every body's bills, the whole store, and the numbers of an undisturbed run against what was promised."""
    paid = Counter(call.prompt for call in bench.calls() if call.billed)
    stored, complaints = bench.stored()
    losses.faults += list(complaints)
    if len(paid) != requests or stored != set(paid):
        losses.faults.append(f"{len(paid)} bodies were paid for and {len(stored)} are stored, of {requests}")
    for prompt, times in paid.items():
        if times > 1 + losses.paid_again[prompt]:
            losses.faults.append(f"{prompt} was paid for {times} times, under way at {losses.paid_again[prompt]} kills")
    code = os.waitstatus_to_exitcode(os.waitpid(verify(bench), 0)[1])
    if code:
        losses.faults.append(f"cache verify ended with exit code {code}: {(bench.directory / 'stderr').read_text()}")
    again = len(bench.calls())
    bench.options[bench.options.index("cache")] = "undisturbed-cache"
    bench.finish("--out", "undisturbed")
    if len(bench.calls()) - again != requests:
        losses.faults.append(f"the undisturbed run asked {len(bench.calls()) - again} requests")
    for name in ("metrics.json", "metrics.csv"):
        if (bench.directory / "out" / name).read_bytes() != (bench.directory / "undisturbed" / name).read_bytes():
            losses.faults.append(f"{name} differs from that of the undisturbed run")


def verify(bench: Bench) -> int:
    """Start `cache verify`; returns its process id."""
    told = Bench(bench.directory, bench.server, ["cache", "verify", "--cache", "cache"])
    return told.start()


def main() -> int:
    """Kill, audit, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000, help="a multiple of five")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    os.environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION"}
    for name in warm.PRELOADED:
        import_module(name)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, BillingServer() as server:
        task, edits = write_task(Path(folder), asked.requests // (1 + WORDS), WORDS)
        url = server.open(ROOM, Settings(latency=0.05))
        options = ["run", "--task", task, "--interventions", str(edits), "--model", "openai/m", "--base-url", url]
        options += ["--endpoint-name", "lab", "--shams", "0", "--max-connections", str(asked.connections)]
        bench = Bench(Path(folder), server, [*options, "--cache", "cache"])
        losses = kill_all(bench, asked.requests, asked.kills, asked.connections, asked.seed)
        calls = len(bench.calls())
        audit(bench, losses, asked.requests)
    again, kills = sum(losses.paid_again.values()), dict(losses.kills)
    print(f"{asked.kills} kills {kills} over {asked.requests} requests at {asked.connections} connections")
    print(f"{calls} answers were paid; {again} were under way at a kill, at most {losses.most} at one, and paid again:")
    age = 1000 * max(losses.ages, default=0.0)
    print(
        f"{losses.at_endpoint} still at the endpoint, {len(losses.ages)} sent home up to {age:.0f} ms before the kill"
    )
    print(f"paid for again without need: {calls - asked.requests - again}")
    for text in losses.faults:
        print(text)
    print("no stored answer was lost or damaged, and the numbers are those of an undisturbed run, byte for byte"
          if not losses.faults else f"{len(losses.faults)} faults")  # fmt: skip
    print(f"{time.perf_counter() - started:.0f} s")
    return int(bool(losses.faults) or calls - asked.requests > again)


if __name__ == "__main__":
    sys.exit(main())
