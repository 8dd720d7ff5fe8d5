"""Is the service there for one token while clients of another try to take it away from everybody?

Four attacks in turn, each from this machine's loopback: heads of requests of which half is sent, followers of one
token, bodies that never end, and runs of one token that ask an endpoint which allows one request in hours. While each
goes on, another token asks for the service's health, lists its runs, submits a run of a few requests and waits for its
end. At the end the log is weighed.

    python benchmarks/service_attacks.py [--heads 1100] [--followers 1010] [--bodies 1100] [--runs 4]

Exits 1 where something took longer than 3 seconds or failed, or the log has 1 MB or a line that is no JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
Service = import_module("servers.service").Service

MOST_SECONDS, MOST_BYTES = 3.0, 1_000_000
GREEDY, OTHER = "greedy-" + "g" * 20, "other-" + "o" * 20
SETTINGS = {
    "tokens": {"greedy": {"token_env": "TOKEN_GREEDY"}, "other": {"token_env": "TOKEN_OTHER"}},
    "endpoints": {"slow": {"base_url": "http://127.0.0.1:9/v1", "rpm": 0.001}},
    "embedded": False,
}
TINY = {"tasks": ["sense"], "models": [{"model": "simulated/faithful"}], "limit": 1, "shams": 0}
"""A run of about six requests."""
HEAD = "GET /api/runs HTTP/1.1\r\nHost: localhost\r\nX-Begun: "
BODY = "POST /api/runs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"


@asynccontextmanager
async def connections(port: int, text: str, count: int) -> AsyncIterator[None]:
    """Send a text over so many connections as long as the block goes on; those that the server ends come again."""

    async def hold() -> None:
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(text.encode())
                while await reader.read(1 << 16):
                    pass
                writer.close()
            except OSError:
                pass
            await asyncio.sleep(random.uniform(3, 7))

    tasks = [asyncio.create_task(hold()) for _ in range(count)]
    await asyncio.sleep(2)
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def greedy_runs(service: Any, count: int) -> AsyncIterator[None]:
    """Let so many runs go on that hardly move."""
    settings = TINY | {"models": [{"model": "openai/m", "endpoint": "slow"}]}
    runs = [await asyncio.to_thread(service.submit, settings | {"seed": seed}, GREEDY) for seed in range(count)]
    await asyncio.sleep(2)
    yield
    for run in runs:
        await asyncio.to_thread(service.ask, "POST", f"/api/runs/{run}/stop", None, GREEDY)


def check(service: Any, seed: int) -> dict[str, float | str]:
    """Do what a user of another token does; return the seconds of each step, or what went wrong."""
    found: dict[str, float | str] = {}
    runs: list[str] = []

    def submit() -> int:
        reply = service.ask("POST", "/api/runs", TINY | {"seed": seed}, OTHER)
        runs.append(reply.document.get("id", ""))
        return int(reply.status)

    def end() -> int:
        return 200 if service.wait(runs[0], OTHER, 60)["state"] == "finished" else 500

    steps: dict[str, Callable[[], int]] = {
        "health": lambda: service.ask("GET", "/healthz").status,
        "readiness": lambda: service.ask("GET", "/readyz").status,
        "list": lambda: service.ask("GET", "/api/runs", None, OTHER).status,
        "submission": submit,
        "run": end,
    }
    for name, step in steps.items():
        start = time.monotonic()
        try:
            status = step()
        except (OSError, AssertionError, IndexError, ValueError) as exc:
            found[name] = f"{type(exc).__name__} after {time.monotonic() - start:.1f} s"
            continue
        found[name] = time.monotonic() - start if status in (200, 201) else f"status {status}"
    return found


async def measure(asked: argparse.Namespace, service: Any) -> dict[str, dict[str, float | str]]:
    """Attack, and return what the other token saw during each attack."""
    long = await asyncio.to_thread(
        service.submit, TINY | {"models": [{"model": "openai/m", "endpoint": "slow"}], "seed": 99}, GREEDY
    )
    follow = f"GET /api/runs/{long}/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {GREEDY}\r\n\r\n"
    attacks: dict[str, AbstractAsyncContextManager[None]] = {
        f"{asked.heads} half-sent heads": connections(service.port, HEAD, asked.heads),
        f"{asked.followers} followers of one token": connections(service.port, follow, asked.followers),
        f"{asked.bodies} half-sent bodies": connections(service.port, BODY, asked.bodies),
        f"{asked.runs} greedy runs": greedy_runs(service, asked.runs),
    }
    await asyncio.to_thread(check, service, 999)  # the process that starts runs needs seconds once
    found = {"nothing": await asyncio.to_thread(check, service, 1000)}
    for number, (name, attack) in enumerate(attacks.items()):
        async with attack:
            found[name] = await asyncio.to_thread(check, service, 1001 + number)
    await asyncio.to_thread(service.ask, "POST", f"/api/runs/{long}/stop", None, GREEDY)
    return found


def main() -> int:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", type=int, default=1100)
    parser.add_argument("--followers", type=int, default=1010)
    parser.add_argument("--bodies", type=int, default=1100)
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--files", type=int, help="files that the server may have open")
    asked = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with tempfile.TemporaryDirectory() as folder:
        service = Service(Path(folder) / "s", SETTINGS, {"TOKEN_GREEDY": GREEDY, "TOKEN_OTHER": OTHER})
        service.start()
        if asked.files:
            resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, (asked.files, hard))
        found = asyncio.run(measure(asked, service))
        service.stop()
        log = service.log()
    bad = 0
    for name, steps in found.items():
        shown = [f"{step} {took if isinstance(took, str) else f'{took:.2f} s'}" for step, took in steps.items()]
        print(f"{name}: {', '.join(shown)}")
        bad += sum(isinstance(took, str) or took > MOST_SECONDS for took in steps.values())
    foreign = sum(not is_object(line) for line in log.splitlines())
    print(f"the log has {len(log):,} bytes and {foreign} lines that are no JSON objects")
    return int(bool(bad) or bool(foreign) or len(log) >= MOST_BYTES)


def is_object(line: str) -> bool:
    """Return whether a line is a JSON object."""
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


if __name__ == "__main__":
    sys.exit(main())
