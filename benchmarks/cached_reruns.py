"""What does it cost to do a run again whose answers are all in the cache, and how does that grow with the run?

A store is filled with answers of about 2 kB (prompt, explanation, 20 alternatives at the answer letter), as a run would
have left them: through the store's own writer, no endpoint is asked. Then the command line does the whole run again in
a process of its own, `run --offline`: plan, look-ups, reading, trials, scoring, tables; for the smaller sizes `score`
and `plan` too. Three sizes, each ten times the one before: a straight line is fitted to the logarithms of requests and
CPU-seconds (without what the smallest run needs for its start), and its slope is the exponent: 1 is linear.
The rival, in the same session on the same machine: a bare loop over `litellm.acompletion` with litellm's own disk cache
for as many of the smallest run's prompts, answered once by a made-up endpoint and then served from that cache.

    python benchmarks/cached_reruns.py [--sizes 10000,100000,1000000] [--rival 5000]

Exits 1 where the exponent is above 1.05, the largest run's peak memory is 400 MB or more, a rerun is incomplete, or the
rival needs less CPU a request. To fill a store takes about as long as to run it: a million requests take about 10
minutes each on an idle machine, and 1.5 GB of disk.
This process loads the standard library alone, since a child's peak memory begins with that of its parent.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import Any

from billing_server import BillingServer, Settings
from made_up_cases import PLACE, answer_to, write_task

WORDS, SHAMS = 4, 1
PER_EXAMPLE = 1 + WORDS + SHAMS
NOTE = 60
"""Words of a note: with it a prompt has about 1 kB."""
WAITERS = 64
MODEL, ENDPOINT = "openai/m0", "http://127.0.0.1:9/v1"
HIGHEST_EXPONENT, MOST_MEMORY = 1.05, 400 * 2**20
ALL_COMMANDS = 200_000
"""Requests up to which `score` and `plan` are measured too."""
PROMPTS = "prompts.jsonl"
PROXY_ONLY = "litellm.llms.anthropic.pass_through.messages.response_cache"


@dataclass(frozen=True)
class Used:
    """What a process used: seconds of wall and of CPU, peak memory in bytes; and its standard output."""

    seconds: float
    cpu: float
    peak: int
    said: str


def measure(*command: str, cwd: Path) -> Used:
    """Run a command of this Python to its end."""
    started = time.perf_counter()
    with (cwd / "stdout").open("wb") as stdout, (cwd / "stderr").open("wb") as stderr:
        child = subprocess.Popen([sys.executable, *command], cwd=cwd, stdout=stdout, stderr=stderr)
    _, status, used = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - started
    child.returncode = os.waitstatus_to_exitcode(status)
    said = (cwd / "stdout").read_text()
    if child.returncode:
        raise SystemExit(
            f"{' '.join(command)} ended with exit code {child.returncode}: {(cwd / 'stderr').read_text()[-2000:]}"
        )
    return Used(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, said)


OPTIONS = (
    "--task", "jsonl:task.jsonl", "--interventions", "edits.jsonl", "--base-url", ENDPOINT, "--model", MODEL,
    "--shams", str(SHAMS), "--price", "1,2",
)  # fmt: skip
"""What `run` and `plan` are given."""


async def fill(examples: int, rival: int) -> str:
    """Write the task, and what a run of it would have stored, into the working directory; returns prompts as JSONL."""
    from explaineval.cache import open_store
    from explaineval.client.endpoints.capabilities import Capabilities
    from explaineval.config import ClientConfig, EndpointConfig, InterventionConfig, ModelConfig, RunConfig
    from explaineval.planning.prepare import prepare
    from explaineval.planning.units import walk
    from explaineval.records import Completion

    task, edits = write_task(Path(), examples, WORDS, NOTE)
    asked = (ModelConfig(model=MODEL, endpoint=ENDPOINT),)
    config = RunConfig(
        tasks=(task,), models=asked, shams=SHAMS, interventions=InterventionConfig(file=edits), temperature=0.0
    )
    client = ClientConfig(endpoints={ENDPOINT: EndpointConfig(base_url=ENDPOINT)})
    able = Capabilities(20, 0.0, "returned")
    steps = walk(prepare(config, client), lambda *_: able)
    prompts: list[str] = []
    with open_store(Path("cache")) as store:

        async def work() -> None:
            for step in steps:
                turns = step.request.messages or ()
                if len(prompts) < rival:
                    prompts.append(json.dumps([turn.model_dump() for turn in turns]) + "\n")
                await store.put(step.request, Completion.model_validate(made_up(turns[-1].content)))

        await asyncio.gather(*(work() for _ in range(WAITERS)))
    return "".join(prompts)


def made_up(prompt: str) -> dict[str, Any]:
    """The completion of a prompt, with 20 alternatives at its letter. No two prompts have the same explanation."""
    letter, text = answer_to(prompt)
    word, case = PLACE.findall(prompt)[-1]
    text += f", as the note of case {case} says of what is {word or 'plain'}"
    share = 0.5 + len(prompt) % 100 / 250
    top = [(f" {letter}", math.log(share))]
    others = zip("ABC".replace(letter, ""), (0.6, 0.3), strict=True)
    top += [(f" {other}", math.log((1 - share) * part)) for other, part in others]
    top += [(f" word{number}", -6.123456 - number) for number in range(17)]
    usage = {"prompt_tokens": 260, "completion_tokens": 40, "total_tokens": 300}
    answer = {"text": text, "finish_reason": "stop", "usage": usage, "model": "m", "created": 1_700_000_000}
    return answer | {"logprobs": [{"offset": 7, "token": f" {letter}", "top": top}]}


async def ask_rival(url: str, prompts: list[list[dict[str, str]]]) -> None:
    """The private script: litellm with its disk cache, 64 calls at once; prints the CPU that its import took.

    A hit of litellm 1.106 imports its proxy, to look up one class that plays no part here. Where what the proxy
    needs is not installed, an empty class stands in for that one: else every hit would fail. It saves the rival time.
    """
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    if util.find_spec("fastapi") is None or util.find_spec("orjson") is None:
        stand_in = ModuleType(PROXY_ONLY)
        stand_in.__dict__["CachedAnthropicMessagesStreamIterator"] = type("Nothing", (), {})
        sys.modules[PROXY_ONLY] = stand_in
    import litellm
    from litellm.caching.caching import Cache

    print(time.process_time())
    litellm.suppress_debug_info = True
    litellm.cache = Cache(type="disk", disk_cache_dir="litellm-cache")
    gate = asyncio.Semaphore(WAITERS)

    async def one(messages: list[dict[str, str]]) -> None:
        async with gate:
            found = await litellm.acompletion(
                model=MODEL, api_base=url, api_key="none", messages=messages, max_tokens=512, temperature=0,
                logprobs=True, top_logprobs=20, num_retries=0, max_retries=0, timeout=60, caching=True,
            )  # fmt: skip
            assert found.choices[0].message.content.startswith("Answer:")

    await asyncio.gather(*(one(messages) for messages in prompts))


@dataclass(frozen=True)
class Rerun:
    """One size: examples, requests, what `run` used, and what is wrong."""

    examples: int
    requests: int
    run: Used
    faults: list[str]


def rerun(directory: Path, examples: int, rival: int = 0) -> Rerun:
    """Fill a store and measure; leave as many prompts as the rival is to be asked."""
    directory.mkdir()
    filled = measure(str(Path(__file__).resolve()), "fill", str(examples), str(rival), cwd=directory)
    size = sum(path.stat().st_size for path in (directory / "cache").glob("cache.db*"))
    total = examples * PER_EXAMPLE
    print(f"{total:,} answers on {examples:,} examples, {size / total:,.0f} bytes each on disk; "
          f"filled in {filled.seconds:,.0f} s, {filled.cpu:,.0f} s of CPU")  # fmt: skip
    explaineval = ("-m", "explaineval")
    run = measure(*explaineval, "run", *OPTIONS, "--offline", "--out", "out", "--json", cwd=directory)
    show("run --offline", run, total)
    hits = [json.loads(run.said)["requests"]["hits"]]
    if total <= ALL_COMMANDS:
        show("score", measure(*explaineval, "score", "out", "--json", cwd=directory), total)
        planned = measure(*explaineval, "plan", *OPTIONS, "--json", cwd=directory)
        show("plan", planned, total)
        hits.append(json.loads(planned.said)["total"]["hits"])
    with (directory / "out" / "trials.jsonl").open() as lines:
        trials = sum(1 for _ in lines)
    if set(hits) != {total} or trials != examples * (WORDS + SHAMS):
        return Rerun(examples, total, run, [f"of {total} answers {hits} were found, {trials} trials were written"])
    return Rerun(examples, total, run, [])


def exponent(reruns: list[Rerun], start: float) -> float:
    """The slope of log CPU-seconds, without those of the start, over log requests, by least squares."""
    x = [math.log(one.requests) for one in reruns]
    y = [math.log(one.run.cpu - start) for one in reruns]
    middle = sum(x) / len(x)
    spread = sum((value - middle) ** 2 for value in x)
    return sum((value - middle) * other for value, other in zip(x, y, strict=True)) / spread


def show(name: str, used: Used, requests: int) -> None:
    """A line on a process."""
    print(f"  {name:14} {used.seconds:6.1f} s, {used.cpu:6.1f} s of CPU, {requests / used.seconds:8,.0f} requests/s, "
          f"{1000 * used.cpu / requests:.3f} ms of CPU each, peak {used.peak / 2**20:,.0f} MB", flush=True)  # fmt: skip


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,100000,1000000", help="requests, increasing")
    parser.add_argument("--rival", type=int, default=5_000, help="at most as many as the smallest size")
    asked = parser.parse_args()
    sizes = [math.ceil(int(size) / PER_EXAMPLE) for size in asked.sizes.split(",")]
    if len(sizes) < 2 or sizes != sorted(set(sizes)):
        parser.error("--sizes takes at least two sizes, the smallest first")
    with tempfile.TemporaryDirectory() as folder:
        start = rerun(Path(folder) / "start", 1).run.cpu
        reruns = [
            rerun(Path(folder) / str(examples), examples, 0 if number else asked.rival)
            for number, examples in enumerate(sizes)
        ]
        faults = [fault for one in reruns for fault in one.faults]
        with BillingServer() as server:
            rival = (str(Path(__file__).resolve()), "rival", server.open("rival", Settings(latency=0.01)))
            measure(*rival, cwd=Path(folder) / str(sizes[0]))
            calls = server.books("rival")["attempts"]
            theirs = measure(*rival, cwd=Path(folder) / str(sizes[0]))
            if server.books("rival")["attempts"] != calls:
                faults.append("litellm's cache did not serve everything")
    print(f"litellm's disk cache, {asked.rival:,} of the same requests")
    show("bare loop", theirs, asked.rival)
    loop = 1000 * (theirs.cpu - float(theirs.said.split()[0])) / asked.rival
    last = reruns[-1]
    ours = 1000 * last.run.cpu / last.requests
    print(f"  without litellm's import {loop:.3f} ms of CPU a request")
    print(f"CPU a request, rival / ours: {1000 * theirs.cpu / asked.rival / ours:.1f} with imports, "
          f"{loop / ours:.1f} where the rival's import is left out")  # fmt: skip
    slope = exponent(reruns, start)
    more = (last.run.peak - reruns[0].run.peak) / (last.examples - reruns[0].examples)
    print(
        f"CPU grows as requests to the power of {slope:.3f} (at most {HIGHEST_EXPONENT}); the start takes {start:.1f} s"
    )
    print(f"peak memory of {last.requests:,} requests: {last.run.peak / 2**20:,.0f} MB (below {MOST_MEMORY >> 20}); "
          f"{more:,.0f} bytes with each further example, its {WORDS} interventions {PER_EXAMPLE} requests")  # fmt: skip
    if slope > HIGHEST_EXPONENT:
        faults.append("the time of a rerun grows faster than its requests")
    if last.run.peak >= MOST_MEMORY:
        faults.append("memory grows with the run")
    if loop <= ours:
        faults.append("the rival needs less CPU")
    for text in faults:
        print(text)
    return int(bool(faults))


if __name__ == "__main__":
    if sys.argv[1:2] == ["fill"]:
        Path(PROMPTS).write_text(asyncio.run(fill(*map(int, sys.argv[2:4]))))
    elif sys.argv[1:2] == ["rival"]:
        asyncio.run(ask_rival(sys.argv[2], [json.loads(line) for line in Path(PROMPTS).read_text().splitlines()]))
    else:
        sys.exit(main())
