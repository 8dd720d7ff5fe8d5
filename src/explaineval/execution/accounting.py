"""What run.json and the notes say of a run: versions, endpoints, requests, dollars."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib import metadata
from os.path import commonprefix

from explaineval._version import __version__
from explaineval.cache import request_key
from explaineval.client.endpoints.capabilities import route_warning
from explaineval.client.spending import texts_of
from explaineval.config import RunConfig
from explaineval.execution.model_run import ModelRun
from explaineval.planning import provenance
from explaineval.planning.notes import Note, note
from explaineval.planning.prepare import Prepared
from explaineval.records import Request
from explaineval.rundir.schema import (
    EndpointRecord,
    Facts,
    RecordedCapabilities,
    RequestCounts,
    RunRecord,
    TokenCounts,
    Totals,
)

SHOWN_CHARACTERS = 90


def money_notes(model_runs: list[ModelRun]) -> Iterator[Note]:
    """What is not sure about the money: attempts without a bill."""
    attempts = sum(model_run.budgeted.unbilled for model_run in model_runs if model_run.budgeted is not None)
    most = sum(model_run.budgeted.unknown for model_run in model_runs if model_run.budgeted is not None)
    if attempts and most:
        yield note(
            "bill_unknown",
            f"{attempts} attempts ended without a bill (time-out, reset, cut answer): up to ${most:.4f} more than "
            "stands here may have been charged; a spending limit counts it as spent.",
        )


def limit_fault(model_runs: list[ModelRun], limit: float | None) -> str | None:
    """The sentence for a run that ran out of money: what was kept, what the rest would take. None where it did not."""
    poor = [model_run for model_run in model_runs if model_run.out_of_money]
    if not poor:
        return None
    purse = next(model_run.budgeted.budget.total for model_run in model_runs if model_run.budgeted is not None)
    limits = [f"${limit:g}" if limit is not None else ""]
    limits += [
        f"${model_run.model.max_usd:g} for {model_run.model.model}"
        for model_run in poor
        if model_run.model.max_usd is not None
    ]
    left = [model_run.forecast for model_run in model_runs if model_run.forecast.misses]
    totals = {name: sum(one.usd()[name] or 0.0 for one in left) for name in ("expected", "worst")}
    return (
        f"the spending limit ({', '.join(filter(None, limits))}) is reached: ${purse.spent:.4f} are spent, and the "
        f"numbers are those of what was paid for. The other {sum(one.misses for one in left):,} requests would cost "
        f"about ${totals['expected']:.4f}, ${totals['worst']:.4f} at the most: give the same command with a higher "
        "--max-usd."
    )


def offline_fault(prepared: Prepared, model_runs: list[ModelRun]) -> str | None:
    """The sentence for an offline run that lacks answers: how many, of whom, and what the first of them ask."""
    short = [model_run for model_run in model_runs if model_run.forecast.misses] if prepared.client.offline else []
    if not short:
        return None
    total = sum(model_run.forecast.misses for model_run in short)
    lines = [f"offline, and {total:,} answers are not in the cache; the numbers are those of what is there."]
    for model_run in short:
        guess = " (nothing is stored about its logprobs: they are assumed)" if model_run.assumed else ""
        lines.append(f"  {model_run.model.model}: {model_run.forecast.misses:,} missing{guess}, the first of them:")
        keys = [request_key(one)[:16] for one in model_run.unsent]
        lines += [f"    {key}  {text}" for key, text in zip(keys, excerpts(model_run.unsent), strict=True)]
    lines.append("  `explaineval cache explain` says why they are misses; without --offline they are asked.")
    return "\n".join(lines)


def excerpts(requests: Sequence[Request]) -> list[str]:
    """What tells each of these requests from the others, on a line: the part of its text that not all of them share."""
    texts = [" ".join(texts_of(one)[-1].split()) for one in requests]
    start = len(commonprefix(texts)) if len(set(texts)) > 1 else 0  # noqa: RUF071 - characters are what is wanted
    found = []
    for one, text in zip(requests, texts, strict=True):
        begin = max(0, text.rfind(" ", 0, start) + 1)
        part = text[begin : begin + SHOWN_CHARACTERS]
        part = ("…" if begin else "") + part + ("…" if begin + len(part) < len(text) else "")
        found.append(part + (f" (sample {one.sample})" if one.sample else ""))
    return found


PACKAGES = ("litellm", "diskcache", "httpx", "numpy", "scipy", "pydantic")


def run_record(prepared: Prepared, facts: Facts, prices: str) -> RunRecord:
    """Describe a run as it is known before its first request; `prices` names the list of prices that it uses."""
    return RunRecord(
        explaineval=__version__,
        signature=provenance.run_signature(prepared.config, prepared.name),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        python=platform.python_version(),
        packages={name: metadata.version(name) for name in PACKAGES},
        config=prepared.config,
        client=prepared.client,
        science=prepared.science,
        facts=facts,
        prices=prices,
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
    )


def probe_notes(model_run: ModelRun, config: RunConfig) -> Iterator[Note]:
    """What a probe, or the name of the route, says against the way this model is asked."""
    caution = route_warning(model_run.model.model)
    if caution is not None and config.logprobs != "off":
        yield note("route_loses_logprobs", caution)
    reasons = (model_run.probe or {}).get("reasoning_first") is True
    if reasons and "pe" in config.arms.order and not model_run.ledger.reasoned:  # else the ledger's note says it
        yield note(
            "reasons_first",
            f"the probe found that {model_run.model.model} reasons before it answers: order pe is then not "
            "predict-then-explain.",
        )


def request_counts(runs: Sequence[ModelRun]) -> RequestCounts:
    """Add up the requests of several models."""
    tallies = [run.cached.counts for run in runs]
    hits = sum(tally.hits for tally in tallies)
    sent = sum(tally.sent for tally in tallies)
    unsent = sum(tally.unsent for tally in tallies) + sum(run.progress.unsent for run in runs)
    return RequestCounts(
        planned=sum(run.progress.planned for run in runs),
        distinct=hits + sent + unsent,
        hits=hits,
        sent=sent,
        unsent=unsent,
        retries=sum(run.layers.retrying.retries for run in runs),
    )


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
