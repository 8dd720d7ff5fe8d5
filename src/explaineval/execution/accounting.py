"""What run.json and the notes say of a run: versions, endpoints, requests, dollars."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from os.path import commonprefix
from typing import Any

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


def run_document(prepared: Prepared, known: dict[str, Any], prices: str) -> dict[str, Any]:
    """run.json as it is known before the first request."""
    return {
        "explaineval": __version__,
        "signature": provenance.run_signature(prepared.config, prepared.name),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "config": prepared.config.model_dump(mode="json"),
        "client": prepared.client.model_dump(mode="json"),
        "science": prepared.science,
        "facts": known,
        "prices": prices,
        "complete": False,
        "endpoints": [],
    }


def endpoint_document(model_run: ModelRun) -> dict[str, Any]:
    """What run.json says of one model at its endpoint: its probe, what it took, what went wrong, what it was sent."""
    return {
        "endpoint": model_run.model.endpoint,
        "model": model_run.model.model,
        "probe": model_run.probe,
        "capabilities": {
            style: {
                "logprobs": able.logprobs,
                "temperature": able.temperature,
                "state": able.state,
                "found": able.found,
            }
            for style, able in model_run.able.items()
        },
        "fault": None if model_run.fault is None else str(model_run.fault),
        "tokens": model_run.ledger.tokens,
        "price": None if model_run.ledger.price is None else asdict(model_run.ledger.price),
        "requests": request_counts([model_run]),
    }


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


def request_counts(model_runs: list[ModelRun]) -> dict[str, int]:
    """The counts of the contract: planned before dedupe, distinct = hits + sent + unsent, further attempts apart."""
    tallies = [model_run.cached.counts for model_run in model_runs]
    hits = sum(tally.hits for tally in tallies)
    sent = sum(tally.sent for tally in tallies)
    unsent = sum(tally.unsent for tally in tallies) + sum(model_run.progress.unsent for model_run in model_runs)
    return {
        "planned": sum(model_run.progress.planned for model_run in model_runs),
        "distinct": hits + sent + unsent,
        "hits": hits,
        "sent": sent,
        "unsent": unsent,
        "retries": sum(model_run.retrying.retries for model_run in model_runs),
    }


def summary_of(model_runs: list[ModelRun]) -> dict[str, Any]:
    """The three cost lines (None where a price is unknown) and the request counts."""
    known = all(model_run.ledger.known for model_run in model_runs)
    spent = sum(model_run.ledger.spent for model_run in model_runs)
    saved = sum(model_run.ledger.saved for model_run in model_runs)
    return {
        "usd_spent": spent if known else None,
        "usd_saved_by_cache": saved if known else None,
        "usd_from_scratch": spent + saved if known else None,
        "usd_unbilled_at_most": sum(
            model_run.budgeted.unknown for model_run in model_runs if model_run.budgeted is not None
        ),
        "requests": request_counts(model_runs),
    }
