"""Does the order of requests use a server's prompt cache? Prompt tokens read anew, in the plan's order and arm by arm.

The requests of small plans are sent to a real server twice: in the order in which `run` sends them, and in that of
earlier versions, which asked about all examples under one arm before the next arm. By default the server is the
embedded model (llama.cpp), with as many slots as `demo` gives it. Answers are one token long, since only reading is
measured; the package is handed a made-up answer instead. The server says of each prompt how many of its tokens it had
in its cache (`usage.prompt_tokens_details.cached_tokens`; vLLM does with `--enable-prompt-tokens-details`). Each pass
has a number of its own at the beginning of its prompts, so that it cannot use what another has left in the cache.

    python benchmarks/prefix_order.py [--base-url URL --model NAME] [--examples 12] [--per-example 4] [--connections 4]

What a large server saves depends on its cache: as long as all prompts of a plan fit, any order finds them there. Give
vLLM a small one to see what happens when they do not, such as `--block-size 32 --num-gpu-blocks-override 128` on a CPU.
Exits 1 where the plan's order reads more than the other (by more than 2 %), or, without shots at three levels of
verbosity, more than nine tenths.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from explaineval.cache import request_key
from explaineval.client.concurrency import ConcurrencyLimit, LimitedClient
from explaineval.client.endpoints.capabilities import Capabilities
from explaineval.client.endpoints.llamacpp import EMBEDDED_MODEL, EmbeddedServer, find_weights
from explaineval.config import ClientConfig, RunConfig, build
from explaineval.execution.model_run import count_beginnings
from explaineval.execution.pool import Pool, ask_units
from explaineval.planning.prepare import Prepared, prepare
from explaineval.planning.units import Unit, builders, plan, units_of
from explaineval.records import Completion, Request

LEVELS = ["brief", "normal", "detailed"]
PLANS: dict[str, dict[str, Any]] = {
    "pe, no shots, 3 levels": {"order": ["pe"], "verbosity": LEVELS},
    "pe2, no shots, 3 levels": {"order": ["pe2"], "verbosity": LEVELS},
    "pe, 4 shots, 3 levels": {"order": ["pe"], "verbosity": LEVELS, "shots": [4]},
    "pe and pe2, completion, 4 shots": {"order": ["pe", "pe2"], "style": ["completion"], "shots": [4]},
}
MOST_WITHOUT_SHOTS, TOLERANCE = 0.9, 1.02
ABLE = Capabilities(None, 0.0, "off")
ANSWER = Completion(text="Answer: A\nExplanation: It is so.", finish_reason="stop")
Order = Callable[[Prepared], Iterator[Unit]]


@dataclass
class MeasuringClient:
    """Sends each prompt once, and counts its tokens and those that the server found in its cache."""

    http: httpx.AsyncClient
    model: str
    number: int
    tokens: int = 0
    cached: int = 0
    sent: int = 0

    async def complete(self, request: Request) -> Completion:
        """Send a request; its answer is made up."""
        body: dict[str, Any] = {"model": self.model, "max_tokens": 1, "temperature": 0}
        mark = f"({self.number}) "
        if request.prompt is not None:
            path, body["prompt"] = "completions", mark + request.prompt
        else:
            turns = [message.model_dump() for message in request.messages or ()]
            turns[0]["content"] = mark + turns[0]["content"]
            path, body["messages"] = "chat/completions", turns
        response = await self.http.post(path, json=body)
        if response.status_code != 200:
            raise SystemExit(f"the server answered {response.status_code}: {response.text[:500]}")
        usage = response.json()["usage"]
        details = usage.get("prompt_tokens_details")
        if details is None or details.get("cached_tokens") is None:
            raise SystemExit("the server does not say how many tokens of a prompt it had in its cache.")
        self.tokens += usage["prompt_tokens"]
        self.cached += details["cached_tokens"]
        self.sent += 1
        return ANSWER


@dataclass
class OnceClient:
    """Asks for each distinct request once, as the cache does."""

    inner: LimitedClient

    def __post_init__(self) -> None:
        self._answers: dict[str, asyncio.Task[Completion]] = {}

    async def complete(self, request: Request) -> Completion:
        """Return the answer to the request."""
        key = request_key(request)
        if key not in self._answers:
            self._answers[key] = asyncio.create_task(self.inner.complete(request))
        return await asyncio.shield(self._answers[key])


def planned(prepared: Prepared) -> Iterator[Unit]:
    """The order of `run`."""
    return plan(prepared, prepared.config.models[0], lambda _: ABLE)


def by_arms(prepared: Prepared) -> Iterator[Unit]:
    """Arm by arm, each over all examples."""
    for builder in builders(prepared, prepared.config.models[0]):
        yield from units_of(prepared, builder, ABLE)


async def measure(
    prepared: Prepared, order: Order, url: str, model: str, connections: int, number: int
) -> MeasuringClient:
    """Send a plan in an order."""
    stopping = asyncio.Event()
    async with httpx.AsyncClient(base_url=url, timeout=600, trust_env=False) as http:
        client = MeasuringClient(http, model, number)
        limited = LimitedClient(client, ConcurrencyLimit(connections, stopping), stopping)
        pool = Pool(OnceClient(limited), connections, stopping)
        await ask_units(pool, order(prepared), (), lambda *_: None)
    return client


def compare(name: str, prepared: Prepared, url: str, model: str, connections: int, numbers: Iterator[int]) -> bool:
    """Measure both orders of a plan, print what was found, and return whether it is as claimed."""
    found = {}
    for order in (by_arms, planned):
        found[order] = asyncio.run(measure(prepared, order, url, model, connections, next(numbers)))
    before, after = found[by_arms], found[planned]
    read_before, read_after = before.tokens - before.cached, after.tokens - after.cached
    print(f"{name}: {after.sent:,} requests, {after.tokens:,} prompt tokens")
    print(f"  read arm by arm {read_before:,} ({read_before / before.tokens:.0%})")
    share = f"{read_after / after.tokens:.0%}), {read_after / read_before:.2f} times as many"
    print(f"  read in the plan's order {read_after:,} ({share}", flush=True)
    arms = PLANS[name]
    most = TOLERANCE if arms.get("shots") or arms.get("style") else MOST_WITHOUT_SHOTS
    return before.sent == after.sent and read_after <= most * read_before


def main() -> int:
    """Measure all plans."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", help="an OpenAI-compatible server, such as http://127.0.0.1:8000/v1")
    parser.add_argument("--model", default=EMBEDDED_MODEL.partition("/")[2], help="the model's name at that server")
    parser.add_argument("--task", default="sense")
    parser.add_argument("--examples", type=int, default=12)
    parser.add_argument("--per-example", type=int, default=4, help="interventions for each example")
    parser.add_argument("--connections", type=int, default=4, help="requests at once")
    parser.add_argument("--plan", action="append", choices=PLANS, help="one of the plans; by default all")
    given = parser.parse_args()
    numbers, passed = itertools.count(1000), True
    for name in given.plan or PLANS:
        values = {
            "tasks": [given.task],
            "models": [{"model": f"openai/{given.model}", "endpoint": "measured"}],
            "limit": given.examples,
            "interventions": {"kind": "random_word", "per_example": given.per_example},
            "arms": PLANS[name],
        }
        config = build(RunConfig, values, "the benchmark")
        endpoints = {"endpoints": {"measured": {"base_url": given.base_url or "http://127.0.0.1:9/v1"}}}
        prepared = prepare(config, ClientConfig.model_validate(endpoints))
        if given.base_url is not None:
            passed &= compare(name, prepared, given.base_url, given.model, given.connections, numbers)
            continue
        server = EmbeddedServer(find_weights(None), given.connections * count_beginnings(config, config.models[0]))
        try:
            passed &= compare(name, prepared, server.url, given.model, given.connections, numbers)
        finally:
            server.stop()
    print("The plan's order reads less, or as much." if passed else "NOT AS CLAIMED: see above.")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
