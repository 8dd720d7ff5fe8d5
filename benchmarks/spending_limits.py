"""Does a spending limit hold? Randomised runs against an endpoint that charges for everything it generates.

Each run draws its prices, its limit, one or two models (each perhaps with a limit of its own), up to 64 connections,
lengths of prompts and answers, scripts of several bytes a letter, hidden reasoning, retries, and how often each fault
strikes: 429, 500, 503 and resets before anything is generated; resets, hang-ups, time-outs, cut and broken bodies,
empty choices and 504 after it was, and charged. What the endpoint charged must never exceed a limit; where there was
enough work and single calls are small beside it, the limit must be used: by the tool's own account (an attempt whose
bill never came counts at its worst case), and at the endpoint itself in runs whose bills all came.

    python benchmarks/spending_limits.py [--runs 200] [--workers 8] [--seed 0] [--transport litellm]

Exits 1 unless all limits held and at least 95 % of them were used.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

from billing_server import BillingServer, Settings
from made_up_cases import write_task
from spending_draws import Trial, draw_trial

from explaineval.client.endpoints.capabilities import Capabilities
from explaineval.client.litellm_client import load_litellm
from explaineval.client.spending import CostBound
from explaineval.config import ClientConfig, EndpointConfig, InterventionConfig, ModelConfig, RunConfig
from explaineval.cost import price_given
from explaineval.execution.run import execute
from explaineval.execution.session import ModelSession, Sessions
from explaineval.planning.prepare import Prepared, prepare
from explaineval.planning.units import plan

SMALL = 0.01
"""A call whose worst case is at most this share of the limit is small beside it."""
LEAST_USED = 0.95
ROUNDING = 1e-9
WORDS = 4
TIMEOUT = 3.0

Transport = Literal["litellm", "direct"]


@dataclass
class Found:
    """What came of it, in dollars: `charged` at the endpoint, `counted` by the tool, `unknown` of that without a bill.

    `unbilled` attempts ended without an answer, `unmetered` ones with an answer that came without a count of tokens.
    """

    number: int
    limit: float
    worst: float
    work: float
    counted: float
    unknown: float
    unbilled: int
    unmetered: int
    attempts: int
    short: bool
    code: int
    seconds: float
    own: dict[str, float]
    url: str = ""
    charged: float = 0.0
    over: tuple[str, ...] = ()

    @property
    def is_binding(self) -> bool:
        """Whether there was enough work for the limit, in calls that are small beside it."""
        return self.short and not self.own and self.worst <= SMALL * self.limit

    @property
    def is_billed(self) -> bool:
        """Whether the tool got every bill."""
        return not self.unbilled and not self.unmetered


def run(trial: Trial, server: BillingServer, transport: Transport) -> Found:
    """One run of the tool under a limit, through its whole client over real sockets."""
    room, settings = f"run{trial.number}", trial.settings
    url = server.open(room, settings)
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        task, edits = write_task(directory, trial.examples, WORDS, trial.length, trial.script)
        models = [ModelConfig(model=f"openai/{name}", endpoint=name) for name in settings.prices]
        config = RunConfig(
            tasks=(task,),
            models=tuple(models),
            max_tokens=trial.max_tokens,
            interventions=InterventionConfig(file=edits),
        )
        worst, work = amounts(prepare(config, client_of(trial, url, directory, None, transport)), settings)
        limit = trial.calls * worst if trial.calls is not None else trial.share * work
        own = {model.model: share * limit for model, share in zip(models, trial.own, strict=True) if share is not None}
        models = [model.model_copy(update={"max_usd": own.get(model.model)}) for model in models]
        client = client_of(trial, url, directory, limit, transport)
        prepared = prepare(config.model_copy(update={"models": tuple(models)}), client)
        asked: list[ModelSession] = []

        class Kept(Sessions):
            def __init__(self, *arguments: Any, **named: Any) -> None:
                super().__init__(*arguments, **named)
                asked.extend(self.models)

        started = time.perf_counter()
        with patch("explaineval.execution.run.Sessions", Kept):
            outcome = execute(prepared, directory / "out", lambda _: None)
        seconds = time.perf_counter() - started
    budgeted = [session.budgeted for session in asked if session.budgeted is not None]
    assert len(budgeted) == len(asked)
    return Found(
        number=trial.number,
        limit=limit,
        worst=worst,
        work=work,
        counted=budgeted[0].budget.total.spent,
        unknown=sum(one.unknown for one in budgeted),
        unbilled=sum(one.unbilled for one in budgeted),
        unmetered=sum(session.ledger.unmetered for session in asked),
        attempts=0,
        short=any(one.refused for one in budgeted),
        code=outcome.exit_code,
        seconds=seconds,
        own=own,
    )


def client_of(trial: Trial, url: str, directory: Path, limit: float | None, transport: Transport) -> ClientConfig:
    """How the endpoint is reached: one name for each model, since a price belongs to an endpoint."""
    return ClientConfig(
        endpoints={name: EndpointConfig(base_url=url, price=price) for name, price in trial.settings.prices.items()},
        cache=directory / "cache",
        max_connections=trial.connections,
        max_retries=trial.retries,
        timeout=TIMEOUT,
        max_usd=limit,
        transport=transport,
    )


def amounts(prepared: Prepared, settings: Settings) -> tuple[float, float]:
    """The worst case of the dearest call, and about what the endpoint would charge for one answer to everything."""
    worst = work = 0.0
    able = Capabilities(20, 0.0, "returned")
    for model in prepared.config.models:
        price = settings.prices[model.model.partition("/")[2]]
        gauge = CostBound(price_given(price))
        for unit in plan(prepared, model, lambda _: able):
            for request in (variant.request for variant in unit.asked if variant.request is not None):
                worst = max(worst, gauge.worst(request))
                size = sum(len(turn.content.encode()) for turn in request.messages or ())
                tokens = request.max_tokens * (settings.shortest + settings.longest) / 2
                into = settings.template + size * settings.tokens_per_byte
                work += (into * price[0] + tokens * price[1]) / 1e6
    return worst, work


def audit(found: Found, books: dict[str, Any]) -> Found:
    """Hold the endpoint's books against the limits."""
    found.attempts = books["attempts"]
    found.charged = sum(books["dollars"].values())
    over = []
    for name, charged, limit in (
        ("the whole limit", found.charged, found.limit),
        *((name, books["dollars"].get(name.partition("/")[2], 0.0), limit) for name, limit in found.own.items()),
    ):
        if charged > limit * (1 + ROUNDING):
            over.append(f"run {found.number}: {name} of ${limit:.6f} was exceeded: ${charged:.6f} charged")
    if found.charged > found.counted * (1 + ROUNDING):
        over.append(f"run {found.number}: ${found.charged:.6f} charged, only ${found.counted:.6f} counted")
    found.over = tuple(over)
    return found


_server: BillingServer


def work_on(transport: Transport, number_and_seed: tuple[int, int]) -> Found:
    """One run in a worker, which has the server from the process that it was forked from."""
    os.environ["EXPLAINEVAL_API_KEY"] = "none"
    return run(draw_trial(*number_and_seed), _server, transport)


def report(found: Sequence[Found]) -> bool:
    """Print what it came to; whether the claims hold."""
    over = [line for one in found for line in one.over]
    binding = [one for one in found if one.is_binding]
    billed = [one for one in binding if one.is_billed]
    counted = sorted(one.counted / one.limit for one in binding)
    charged = sorted(one.charged / one.limit for one in billed)
    unknown = sum(one.unbilled + one.unmetered for one in found)
    ended, own = sum(one.code == 3 for one in found), sum(bool(one.own) for one in found)
    codes = sorted({one.code for one in found})
    print(f"{len(found)} runs: {ended} ended at the limit, {own} had limits by model too; exit codes {codes}")
    print(f"{sum(one.attempts for one in found):,} attempts, {unknown:,} of them without a bill")
    print(f"limits kept at the endpoint: {sum(not one.over for one in found)} of {len(found)} runs")
    nearest = sorted(found, key=lambda one: -one.charged / one.limit)[:5]
    print("nearest to the limit, charged / limit: " + ", ".join(f"{one.charged / one.limit:.4f}" for one in nearest))
    for name, shares in (("by the tool's account", counted), ("at the endpoint, all bills known", charged)):
        if shares:
            print(f"used of the limit {name}: {len(shares)} runs, least {shares[0]:.2%}, "
                  f"median {shares[len(shares) // 2]:.2%}, most {shares[-1]:.2%}")  # fmt: skip
    print("least used:")
    print("  run      limit $  one call  counted  charged  unknown  attempts  seconds")
    for one in sorted(binding, key=lambda one: one.counted / one.limit)[:5]:
        shares = [one.worst, one.counted, one.charged, one.unknown]
        print(f"  {one.number:3}  {one.limit:11.6f}  " + "  ".join(f"{share / one.limit:7.2%}" for share in shares)
              + f"  {one.attempts:8,}  {one.seconds:7.1f}")  # fmt: skip
    for line in over:
        print(line)
    return not over and bool(binding) and bool(billed) and min(counted[0], charged[0]) >= LEAST_USED


def main() -> int:
    """Draw, run, audit, print."""
    global _server
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--workers", type=int, default=8, help="runs at the same time: most of one is waiting")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--transport", choices=("litellm", "direct"), default="litellm")
    parser.add_argument("--json", action="store_true", help="print every run instead of the summary")
    asked = parser.parse_args()
    if asked.transport == "litellm":
        load_litellm()  # once, before the workers are forked
    started = time.perf_counter()
    with (
        BillingServer() as _server,
        multiprocessing.get_context("fork").Pool(asked.workers) as pool,
    ):
        found = []
        numbers = [(number, asked.seed) for number in range(asked.runs)]
        for one in pool.imap_unordered(partial(work_on, asked.transport), numbers):
            found.append(one)
            print(f"\r{len(found)}/{asked.runs}", end="", file=sys.stderr, flush=True)
        time.sleep(TIMEOUT)  # what a client gave up on may still be on its way into the books
        found = [audit(one, _server.books(f"run{one.number}")) for one in found]
    print(file=sys.stderr)
    found.sort(key=lambda one: one.number)
    if asked.json:
        print(json.dumps([asdict(one) for one in found], indent=1))
        return int(any(one.over for one in found))
    holds = report(found)
    print(f"{time.perf_counter() - started:.0f} s")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
