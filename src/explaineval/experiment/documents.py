"""What run.json and the notes say of a run: versions, endpoints, requests, dollars."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from explaineval._version import __version__
from explaineval.client import route_caution
from explaineval.config import RunConfig
from explaineval.experiment import facts
from explaineval.experiment.lanes import Lane
from explaineval.experiment.notes import Note, note
from explaineval.experiment.preparations import Prepared

PACKAGES = ("litellm", "diskcache", "httpx", "numpy", "scipy", "pydantic")


def run_document(prepared: Prepared, known: dict[str, Any], prices: str) -> dict[str, Any]:
    """run.json as it is known before the first request."""
    return {
        "explaineval": __version__,
        "signature": facts.run_signature(prepared.config, prepared.name),
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


def endpoint_document(lane: Lane) -> dict[str, Any]:
    """What run.json says of one model at its endpoint: its probe, what it took, what went wrong, what it was sent."""
    return {
        "endpoint": lane.model.endpoint,
        "model": lane.model.model,
        "probe": lane.probe,
        "capabilities": {
            style: {
                "logprobs": able.logprobs,
                "temperature": able.temperature,
                "state": able.state,
                "found": able.found,
            }
            for style, able in lane.able.items()
        },
        "fault": None if lane.fault is None else str(lane.fault),
        "tokens": lane.ledger.tokens,
        "price": None if lane.ledger.price is None else asdict(lane.ledger.price),
        "requests": request_counts([lane]),
    }


def probe_notes(lane: Lane, config: RunConfig) -> Iterator[Note]:
    """What a probe, or the name of the route, says against the way this model is asked."""
    caution = route_caution(lane.model.model)
    if caution is not None and config.logprobs != "off":
        yield note("route_loses_logprobs", caution)
    reasons = (lane.probe or {}).get("reasoning_first") is True
    if reasons and "pe" in config.arms.order and not lane.ledger.reasoned:  # else the ledger's note says it
        yield note(
            "reasons_first",
            f"the probe found that {lane.model.model} reasons before it answers: order pe is then not "
            "predict-then-explain.",
        )


def request_counts(lanes: list[Lane]) -> dict[str, int]:
    """The counts of the contract: planned before dedupe, distinct = hits + sent + unsent, further attempts apart."""
    tallies = [lane.cached.tally for lane in lanes]
    hits = sum(tally.hits for tally in tallies)
    sent = sum(tally.sent for tally in tallies)
    unsent = sum(tally.unsent for tally in tallies) + sum(lane.progress.unsent for lane in lanes)
    return {
        "planned": sum(lane.progress.planned for lane in lanes),
        "distinct": hits + sent + unsent,
        "hits": hits,
        "sent": sent,
        "unsent": unsent,
        "retries": sum(lane.retrying.retries for lane in lanes),
    }


def summary_of(lanes: list[Lane]) -> dict[str, Any]:
    """The three cost lines (None where a price is unknown) and the request counts."""
    known = all(lane.ledger.known for lane in lanes)
    spent = sum(lane.ledger.spent for lane in lanes)
    saved = sum(lane.ledger.saved for lane in lanes)
    return {
        "usd_spent": spent if known else None,
        "usd_saved_by_cache": saved if known else None,
        "usd_from_scratch": spent + saved if known else None,
        "usd_unbilled_at_most": sum(lane.budgeted.unknown for lane in lanes if lane.budgeted is not None),
        "requests": request_counts(lanes),
    }
