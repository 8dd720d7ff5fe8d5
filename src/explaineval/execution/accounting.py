"""Describe what a run did and cost: its entries in run.json, and the notes and errors that are printed."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from importlib import metadata

from explaineval._version import __version__
from explaineval.cache import AnswerOrigin, Store
from explaineval.client.endpoints.capabilities import route_warning
from explaineval.config import ClientConfig, ModelConfig, RunConfig
from explaineval.cost import dollars, is_metered
from explaineval.execution.model_run import ModelRun
from explaineval.execution.session import ModelSession
from explaineval.planning import provenance
from explaineval.planning.prepare import Prepared
from explaineval.planning.prices import Prices
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
    session = run.session
    return EndpointRecord(
        endpoint=session.model.endpoint,
        model=session.model.model,
        probe=session.probe,
        capabilities={
            style: RecordedCapabilities(
                logprobs=sent.logprobs, temperature=sent.temperature, state=sent.state, found=sent.found
            )
            for style, sent in session.capabilities.items()
        },
        fault=None if session.error is None else str(session.error),
        tokens=TokenCounts(**session.ledger.tokens),
        price=session.ledger.price,
        requests=request_counts([session]),
        threads=run.threads if session.counts.sent else None,
        snapshots=session.ledger.snapshots,
        unreadable=run.unreadable_arms,
        address=_shown_address(session, session.address),
        sources=_sources(session),
    )


def _sources(session: ModelSession) -> tuple[AnswerSource, ...]:
    """Return where the answers of a model came from, the most frequent source first."""
    counts: Counter[AnswerOrigin] = Counter()
    for origin, count in session.cached.origins.items():
        counts[origin._replace(address=_shown_address(session, origin.address))] += count
    if session.counts.sent:
        counts[AnswerOrigin(known=True, address=_shown_address(session, session.address))] += session.counts.sent
    return tuple(AnswerSource(**origin._asdict(), answers=count) for origin, count in counts.most_common())


def _shown_address(session: ModelSession, address: str | None) -> str | None:
    """Return an address as the run tells it: where that is the operator's matter, only whether it is today's."""
    if not session.hides_address or address is None:
        return address
    return session.model.endpoint if address == session.address else ANOTHER_ADDRESS


def request_counts(sessions: Sequence[ModelSession]) -> RequestCounts:
    """Add up the requests of several models."""
    counts = [session.counts for session in sessions]
    hits = sum(count.hits for count in counts)
    sent = sum(count.sent for count in counts)
    unsent = sum(count.unsent for count in counts) + sum(session.progress.unsent for session in sessions)
    return RequestCounts(
        planned=sum(session.progress.planned for session in sessions),
        distinct=hits + sent + unsent,
        hits=hits,
        sent=sent,
        unsent=unsent,
        retries=sum(session.layers.retrying.retries for session in sessions),
    )


def has_limit(client: ClientConfig, models: Iterable[ModelConfig]) -> bool:
    """Return whether something may limit what is spent on these models."""
    limits = [client.max_usd, *(model.max_usd for model in models)]
    return not client.offline and any(limit is not None for limit in limits)


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


def totals_of(sessions: Sequence[ModelSession]) -> Totals:
    """Add up the dollars and requests of several models; dollars are None where the cost of one is unknown."""
    known = all(session.ledger.known for session in sessions)
    unpriced = any(session.ledger.price is None for session in sessions)
    spent = sum(session.ledger.spent for session in sessions)
    saved = sum(session.ledger.saved for session in sessions)
    return Totals(
        usd_spent=spent if known else None,
        usd_saved_by_cache=saved if known else None,
        usd_from_scratch=spent + saved if known else None,
        usd_unbilled_at_most=sum(session.budgeted.unknown for session in sessions if session.budgeted is not None),
        requests=request_counts(sessions),
        cost_unknown=None if known else NO_PRICE if unpriced else NO_COUNT,
    )


def bill_notes(sessions: Sequence[ModelSession]) -> Iterator[Note]:
    """Yield a note where attempts without a bill may have been charged."""
    attempts = sum(session.budgeted.unbilled for session in sessions if session.budgeted is not None)
    most = sum(session.budgeted.unknown for session in sessions if session.budgeted is not None)
    if attempts and most:
        yield note("bill_unknown", attempts=counted(attempts, "attempt"), dollars=dollars_text(most))


def outage_notes(sessions: Sequence[ModelSession]) -> Iterator[Note]:
    """Yield a note for each endpoint that was waited for and answered again."""
    for endpoint in dict.fromkeys(session.layers.limited.availability for session in sessions):
        if endpoint.outages:
            times = "once" if endpoint.outages == 1 else f"{endpoint.outages} times"
            waited = duration_text(endpoint.waited)
            yield note("endpoint_waited_for", place=endpoint.place, times=times, duration=waited)


def probe_notes(session: ModelSession, config: RunConfig) -> Iterator[Note]:
    """Yield notes on what a probe, or the name of the route, says against the way this model is asked."""
    caution = route_warning(session.model.model)
    if caution is not None and config.logprobs != "off":
        yield note("route_loses_logprobs", text=caution)
    reasons = (session.probe or {}).get("reasoning_first") is True
    if reasons and "pe" in config.arms.order and not session.ledger.reasoned:  # else the ledger's note says it
        yield note("reasons_first", "probed", model=session.model.model)
