"""What do 200 followers of a run cost the run, and does the server's memory grow from run to run?

One run of simulated models is done again and again by the service, each time on a cache that is empty, in turn without
and with followers of its events. The CPU time of the run's own process is compared within each pair. Afterwards the
resident memory of the server is taken after each of many small runs.

    python benchmarks/service_followers.py [--followers 200] [--pairs 5] [--runs 20] [--samples 12]

Exits 1 where the median ratio is 1.05 or more, a follower misses the end, or the memory grows by more than 5 % from the
second run to the last.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import threading
import time
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
Service = import_module("servers.service").Service

TICKS = os.sysconf("SC_CLK_TCK")
MOST_RATIO, MOST_GROWTH = 1.05, 1.05


def cpu_seconds(pid: int) -> float | None:
    """User and system time of a process in seconds; None where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else (int(fields[11]) + int(fields[12])) / TICKS


def resident(pid: int) -> float:
    """Resident memory of a process in MB."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


async def follow(port: int, run: str, count: int) -> list[int]:
    """Follow a run by so many connections; return for each how many events it got, 0 where it missed the end."""

    async def one() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET /api/runs/{run}/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        text = await reader.read()
        while block := await reader.read(1 << 16):
            text += block
        writer.close()
        return text.count(b"event: ") if b"event: end" in text else 0

    return list(await asyncio.gather(*(one() for _ in range(count))))


def measure(service: Any, settings: dict[str, Any], followers: int) -> tuple[float, list[int]]:
    """Do a run with so many followers; return the CPU seconds of its process, and the events that each got."""
    run = service.submit(settings)
    events: list[int] = []
    thread = threading.Thread(target=lambda: events.extend(asyncio.run(follow(service.port, run, followers))))
    thread.start()
    used, pid = 0.0, None
    while service.run(run)["state"] in ("queued", "running"):
        pid = pid or service.workers().get(run)
        used = max(used, (cpu_seconds(pid) or 0.0) if pid else 0.0)
        time.sleep(0.1)
    thread.join(60)
    return used, events


def main() -> int:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--followers", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--samples", type=int, default=12)
    asked = parser.parse_args()
    ratios, missed = [], 0
    with tempfile.TemporaryDirectory() as folder:
        service = Service(Path(folder) / "service", {"embedded": False})
        service.start()
        base = {"tasks": ["sense", "nli", "qa"], "models": [{"model": "simulated/faithful"}], "temperature": 1}
        measure(service, base | {"limit": 5}, 1)
        for pair in range(asked.pairs):
            used = []
            for place, followers in enumerate((0, asked.followers) if pair % 2 else (asked.followers, 0)):
                settings = base | {"samples": asked.samples, "max_tokens": 400 + 2 * pair + place}
                seconds, events = measure(service, settings, followers)
                used.append((followers, seconds))
                missed += sum(not count for count in events) if followers else 0
                if followers and len(events) != followers:
                    missed += followers - len(events)
                told = f", {min(events)} to {max(events)} events each" if events else ""
                print(f"{followers:4} followers: the run's process took {seconds:.2f} s of CPU{told}")
            with_them, without = dict(used)[asked.followers], dict(used)[0]
            ratios.append(with_them / without)
        memory = []
        for number in range(asked.runs):
            measure(service, base | {"limit": 5, "max_tokens": 300 + number}, 3)
            memory.append(resident(service.process.pid))
        service.stop()
    ratio, growth = statistics.median(ratios), memory[-1] / memory[1]
    print(f"ratios: {', '.join(f'{one:.3f}' for one in ratios)}; median {ratio:.3f}")
    print(f"{missed} followers missed the end")
    print(f"the server's memory: {memory[1]:.1f} MB after run 2, {memory[-1]:.1f} MB after run {asked.runs}")
    return int(ratio >= MOST_RATIO or bool(missed) or growth > MOST_GROWTH)


if __name__ == "__main__":
    sys.exit(main())
