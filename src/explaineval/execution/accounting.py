"""Describe what a run did and cost: its entries in run.json, and the notes and errors that are printed."""

from __future__ import annotations

import platform
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib import metadata
from os.path import commonprefix
from pathlib import Path

from explaineval._version import __version__
from explaineval.cache import AnswerOrigin, Store, holds_store, request_key
from explaineval.client.endpoints.capabilities import route_warning
from explaineval.client.spending import texts_of
from explaineval.config import RunConfig
from explaineval.cost import dollars, is_metered
from explaineval.execution.model_run import ModelRun
from explaineval.planning import provenance
from explaineval.planning.prepare import Prepared
from explaineval.planning.prices import Prices
from explaineval.records import Request
from explaineval.rundir.ledger import Account, Reserved
from explaineval.rundir.schema import (
    AnswerSource,
    EndpointRecord,
    Facts,
    RecordedCapabilities,
    RequestCounts,
    RunRecord,
    TokenCounts,
    Totals,
)
from explaineval.scoring.codes import ANOTHER_ADDRESS, Note, note
from explaineval.text import counted, dollars_text, duration_text

PACKAGES = ("litellm", "diskcache", "httpx", "numpy", "scipy", "pydantic")


def run_record(prepared: Prepared, facts: Facts, prices: str, *, hide_addresses: bool = False) -> RunRecord:
    """Describe a run as it is known before its first request.

    Args:
        prepared: the run.
        facts: what was found in its inputs.
        prices: names the list of prices that it uses.
        hide_addresses: leave out where endpoints are and how they are given their keys, which the operator knows.
    """
    client, hidden = prepared.client, {"base_url": None, "api_key_env": None}
    if hide_addresses:
        endpoints = {name: entry.model_copy(update=hidden) for name, entry in client.endpoints.items()}
        client = client.model_copy(update={"endpoints": endpoints})
    return RunRecord(
        explaineval=__version__,
        signature=provenance.run_signature(prepared.config, prepared.name),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        python=platform.python_version(),
        packages={name: metadata.version(name) for name in PACKAGES},
        config=prepared.config,
        client=client,
        science=prepared.science,
        facts=facts,
        prices=prices,
        whole=prepared.whole,
    )


def endpoint_record(run: ModelRun) -> EndpointRecord:
    """Describe one model at its endpoint: its probe, how it was asked, what went wrong, what it was sent."""
    return EndpointRecord(
        endpoint=run.model.endpoint,
        model=run.model.model,
        probe=run.probe,
        capabilities={
            style: RecordedCapabilities(
                logprobs=sent.logprobs, temperature=sent.temperature, state=sent.state, found=sent.found
            )
            for style, sent in run.capabilities.items()
        },
        fault=None if run.error is None else str(run.error),
        tokens=TokenCounts(**run.ledger.tokens),
        price=run.ledger.price,
        requests=request_counts([run]),
        threads=run.threads if run.cached.counts.sent else None,
        snapshots=run.ledger.snapshots,
        unreadable=run.unreadable_arms,
        address=_shown_address(run, run.address),
        sources=_sources(run),
    )


def _sources(run: ModelRun) -> tuple[AnswerSource, ...]:
    """Return where the answers of a model came from, the most frequent source first."""
    counts: Counter[AnswerOrigin] = Counter()
    for origin, count in run.cached.origins.items():
        counts[origin._replace(address=_shown_address(run, origin.address))] += count
    if run.cached.counts.sent:
        counts[AnswerOrigin(known=True, address=_shown_address(run, run.address))] += run.cached.counts.sent
    return tuple(AnswerSource(**origin._asdict(), answers=count) for origin, count in counts.most_common())


def _shown_address(run: ModelRun, address: str | None) -> str | None:
    """Return an address as the run tells it: where that is the operator's matter, only whether it is today's."""
    if not run.hides_address or address is None:
        return address
    return run.model.endpoint if address == run.address else ANOTHER_ADDRESS


def request_counts(runs: Sequence[ModelRun]) -> RequestCounts:
    """Add up the requests of several models."""
    counts = [run.cached.counts for run in runs]
    hits = sum(count.hits for count in counts)
    sent = sum(count.sent for count in counts)
    unsent = sum(count.unsent for count in counts) + sum(run.progress.unsent for run in runs)
    return RequestCounts(
        planned=sum(run.progress.planned for run in runs),
        distinct=hits + sent + unsent,
        hits=hits,
        sent=sent,
        unsent=unsent,
        retries=sum(run.layers.retrying.retries for run in runs),
    )


def has_limit(prepared: Prepared) -> bool:
    """Return whether something may limit what a run spends."""
    limits = [prepared.client.max_usd, *(model.max_usd for model in prepared.config.models)]
    return not prepared.client.offline and any(limit is not None for limit in limits)


def settle_open(account: Account, store: Store, prices: Prices) -> None:
    """Settle attempts that an earlier process left under way: at their cost where the answer is stored by now.

    An answer that is asked again is not stored: what is there is the first one, which was paid for before.
    """

    def cost_of(row: Reserved) -> float | None:
        if row.purpose == "reask":
            return None
        of_kind = prices.of_run if row.batch else prices.singly
        completion, price = store.get(row.key), of_kind.get((row.endpoint, row.model))
        if completion is None or price is None or not is_metered(completion.usage):
            return None
        return dollars(completion.usage, price)

    account.ledger.settle_open(cost_of)


NO_PRICE = "no price is known for a model; give --price IN,OUT"
NO_COUNT = "answers came without a count of tokens"


def totals_of(runs: Sequence[ModelRun]) -> Totals:
    """Add up the dollars and requests of several models; dollars are None where the cost of one is unknown."""
    known = all(run.ledger.known for run in runs)
    unpriced = any(run.ledger.price is None for run in runs)
    spent = sum(run.ledger.spent for run in runs)
    saved = sum(run.ledger.saved for run in runs)
    return Totals(
        usd_spent=spent if known else None,
        usd_saved_by_cache=saved if known else None,
        usd_from_scratch=spent + saved if known else None,
        usd_unbilled_at_most=sum(run.budgeted.unknown for run in runs if run.budgeted is not None),
        requests=request_counts(runs),
        cost_unknown=None if known else NO_PRICE if unpriced else NO_COUNT,
    )


SHOWN_CHARACTERS = 90
"""Characters of a missing request's text that are shown."""


def bill_notes(runs: Sequence[ModelRun]) -> Iterator[Note]:
    """Yield a note where attempts without a bill may have been charged."""
    attempts = sum(run.budgeted.unbilled for run in runs if run.budgeted is not None)
    most = sum(run.budgeted.unknown for run in runs if run.budgeted is not None)
    if attempts and most:
        yield note("bill_unknown", attempts=counted(attempts, "attempt"), dollars=dollars_text(most))


def outage_notes(runs: Sequence[ModelRun]) -> Iterator[Note]:
    """Yield a note for each endpoint that was waited for and answered again."""
    for endpoint in dict.fromkeys(run.layers.limited.availability for run in runs):
        if endpoint.outages:
            times = "once" if endpoint.outages == 1 else f"{endpoint.outages} times"
            waited = duration_text(endpoint.waited)
            yield note("endpoint_waited_for", place=endpoint.place, times=times, duration=waited)


def probe_notes(run: ModelRun, config: RunConfig) -> Iterator[Note]:
    """Yield notes on what a probe, or the name of the route, says against the way this model is asked."""
    caution = route_warning(run.model.model)
    if caution is not None and config.logprobs != "off":
        yield note("route_loses_logprobs", text=caution)
    reasons = (run.probe or {}).get("reasoning_first") is True
    if reasons and "pe" in config.arms.order and not run.ledger.reasoned:  # else the ledger's note says it
        yield note("reasons_first", "probed", model=run.model.model)


def limit_error(runs: Sequence[ModelRun], limit: float | None) -> str | None:
    """Say that a spending limit was reached, what was spent and what the rest would cost; None where it was not.

    `limit` is that of the run as a whole, in dollars.
    """
    stopped = [run for run in runs if run.out_of_money]
    if not stopped:
        return None
    total = next(run.budgeted.budget.total for run in runs if run.budgeted is not None)
    spent = total.earlier + total.spent
    earlier = (
        f" in this run directory ({dollars_text(total.earlier)} of it before this command)" if total.earlier else ""
    )
    limits = [] if limit is None else [dollars_text(limit)]
    limits += [
        f"{dollars_text(run.model.max_usd)} for {run.model.model}" for run in stopped if run.model.max_usd is not None
    ]
    costs = [run.estimate.usd() for run in runs if run.estimate.missing]
    expected, worst = (sum(cost[name] or 0.0 for cost in costs) for name in ("expected", "worst"))
    return (
        f"the spending limit ({', '.join(limits)}) is reached: {dollars_text(spent)} are spent{earlier}, and "
        "the numbers "
        "are those of what was paid for. The other "
        f"{counted(sum(run.estimate.missing for run in runs), 'request')} would cost "
        f"about {dollars_text(expected)}, {dollars_text(worst)} at the most: give the same command with a "
        "higher --max-usd."
    )


def offline_error(prepared: Prepared, runs: Sequence[ModelRun], directory: Path | None) -> str | None:
    """Say how many answers an offline run lacks, of which models, and what the first of them ask; None where none.

    `directory` is the run directory, None where it is not kept, since the cache holds no answer of the run.
    """
    incomplete = [run for run in runs if run.estimate.missing] if prepared.client.offline else []
    if not incomplete:
        return None
    total = sum(run.estimate.missing for run in incomplete)
    lines = [
        f"offline, and {counted(total, 'answer', 'are')} not in the cache; the numbers are those of what is there."
    ]
    for run in incomplete:
        guess = " (nothing is stored about its logprobs: they are assumed)" if run.assumed else ""
        lines.append(f"  {run.model.model}: {run.estimate.missing:,} missing{guess}, the first of them:")
        keys = [request_key(request)[:16] for request in run.unsent]
        lines += [f"    {key}  {text}" for key, text in zip(keys, _excerpts(run.unsent), strict=True)]
    if directory is None and not holds_store(prepared.client.cache):
        lines.append(
            f"  There is no cache in {prepared.client.cache}: check --cache. Without --offline they are asked."
        )
    elif directory is None:
        look = f"explaineval cache stats --cache {shlex.quote(str(prepared.client.cache))}"
        lines.append(f"  Without --offline they are asked. The cache has no answer of this run; what it has: {look}")
    else:
        look = f"explaineval cache explain {shlex.quote(str(directory))}"
        lines.append(f"  Without --offline they are asked. Why they are misses: {look}")
    return "\n".join(lines)


def _excerpts(requests: Sequence[Request]) -> list[str]:
    """Return a line for each request with the part of its text that not all of them share."""
    texts = [" ".join(texts_of(request)[-1].split()) for request in requests]
    start = len(commonprefix(texts)) if len(set(texts)) > 1 else 0  # noqa: RUF071 - characters are what is wanted
    lines = []
    for request, text in zip(requests, texts, strict=True):
        begin = max(0, text.rfind(" ", 0, start) + 1)
        part = text[begin : begin + SHOWN_CHARACTERS]
        line = ("…" if begin else "") + part + ("…" if begin + len(part) < len(text) else "")
        lines.append(line + (f" (sample {request.sample})" if request.sample else ""))
    return lines
