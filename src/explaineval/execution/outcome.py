"""Why asking ended: for a run, for each of its models, and for a model that is asked beside a run.

It is decided here alone: the exit code, the sentences that say why it is not 0, and the notes beside the numbers.
"""

from __future__ import annotations

import platform
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from enum import Enum, auto
from importlib import metadata
from os.path import commonprefix
from pathlib import Path

from explaineval._version import __version__
from explaineval.cache import AnswerOrigin, Store, holds_store, request_key
from explaineval.client.endpoints.capabilities import route_warning
from explaineval.client.spending import texts_of
from explaineval.config import ClientConfig, ModelConfig, RunConfig
from explaineval.cost import dollars, is_metered
from explaineval.errors import BudgetReachedError, EndpointError, ExitCode, NotStoredError, StoreError
from explaineval.execution.model_run import ModelRun
from explaineval.execution.session import ModelSession
from explaineval.planning import provenance
from explaineval.planning.cost import Prices
from explaineval.planning.prepare import Prepared
from explaineval.records import Request
from explaineval.rundir.ledger import Account, Reserved
from explaineval.rundir.schema import (
    AnswerSource,
    EndpointRecord,
    Facts,
    ModelState,
    RecordedCapabilities,
    RequestCounts,
    RunRecord,
    TokenCounts,
    Totals,
)
from explaineval.scoring.codes import ANOTHER_ADDRESS, Note, find_origins, note, note_of
from explaineval.text import agreeing, counted, dollars_text, duration_text

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


class Reason(Enum):
    """Why not everything that was to be asked of a model was answered."""

    NOT_WRITTEN = auto()
    """An answer could not be stored."""
    OVERDRAWN = auto()
    """A bill that no reservation could cover took more than the spending limit allows."""
    ENDPOINT = auto()
    """The endpoint cannot be used any more."""
    LIMIT = auto()
    """The spending limit turned a request away."""
    OFFLINE = auto()
    """The answer is not in the cache, and nothing may be sent."""
    IN_BATCH = auto()
    """A batch is not fetched yet."""
    UNSENT = auto()
    """A request was not sent, for one of the reasons above or since asking was interrupted."""
    FAILED = auto()
    """A request failed after all retries."""


def reasons_of(session: ModelSession) -> tuple[Reason, ...]:
    """Return every reason that holds, in the order of the enumeration; none where everything was answered."""
    holds = {
        Reason.NOT_WRITTEN: session.writer.message is not None,
        Reason.OVERDRAWN: session.budgeted is not None and session.budgeted.overdrawn,
        Reason.ENDPOINT: session.error is not None,
        Reason.LIMIT: session.out_of_money,
        Reason.OFFLINE: session.client.offline and session.not_sent > 0,
        Reason.IN_BATCH: session.counts.in_batches > 0,
        Reason.UNSENT: session.not_sent > 0,
        Reason.FAILED: session.failed > 0,
    }
    return tuple(reason for reason, present in holds.items() if present)


def model_state(model_run: ModelRun) -> tuple[ModelState, str | None]:
    """Return whether a model still runs or how it ended, and the sentence that says why it did not come to its end."""
    if not model_run.ended:
        return "running", None
    session = model_run.session
    reasons, unsent = reasons_of(session), session.not_sent
    if Reason.ENDPOINT in reasons:
        return "failed", str(session.error)
    if model_run.stops:
        return "stopped", " ".join(model_run.stops)
    if model_run.unreadable is not None:
        return "failed", model_run.unreadable
    sentences = {
        Reason.LIMIT: f"the spending limit is reached: {counted(unsent, 'request', 'were')} not sent.",
        Reason.OFFLINE: f"offline: {counted(unsent, 'answer', 'are')} not in the cache.",
        Reason.IN_BATCH: f"{counted(unsent, 'request', 'are')} in a batch that is not fetched yet.",
        Reason.UNSENT: f"{counted(unsent, 'request', 'were')} not sent; the same command asks them.",
    }
    for reason, sentence in sentences.items():
        if reason in reasons:
            return "stopped", sentence
    return "finished", f"{counted(session.failed, 'request')} failed after all retries." if session.failed else None


def unfinished_error(role: str, session: ModelSession, missing: int) -> Exception:
    """Return what kept a model that is asked beside a run from its end, as an error; `missing` of its tasks are left.

    `role` says what the model is asked as, such as judge.
    """
    reasons, budgeted = reasons_of(session), session.budgeted
    rest = f"{missing} of the {role}'s tasks are not done, so nothing was written; every answer paid for is kept"
    if Reason.NOT_WRITTEN in reasons:
        return StoreError(f"{session.writer.message} {rest[0].upper()}{rest[1:]}.")
    if session.billing_error is not None:
        kind = BudgetReachedError if Reason.OVERDRAWN in reasons else EndpointError
        return kind(f"{str(session.billing_error).rstrip('.')}; {rest}.")
    if Reason.LIMIT in reasons and budgeted is not None:
        total, limit = budgeted.budget.total, session.client.max_usd or 0.0
        what = (
            f"{dollars_text(limit)} for {role} in this run directory"
            if total.earlier
            else f"{dollars_text(limit)} left for the {role}"
        )
        earlier = f" ({dollars_text(total.earlier)} of it before)" if total.earlier else ""
        return BudgetReachedError(
            f"the spending limit ({what}) is reached: {dollars_text(total.earlier + total.spent)} are spent{earlier}, "
            f"and {rest}. Give the same command with a higher --max-usd."
        )
    if Reason.ENDPOINT in reasons:
        cause = str(session.error).rstrip(".").replace("--api-key-env", f"--{role}-api-key-env")
        return EndpointError(f"{cause}; {rest}.")
    if session.client.batch and not session.client.offline:
        return NotStoredError(f"{rest}. What is in a batch is fetched by the same command when the batch is done.")
    return NotStoredError(f"offline: {rest}. Without --offline they are asked.")


def is_complete(sessions: Sequence[ModelSession]) -> bool:
    """Return whether everything was sent and answered, and every endpoint can be used."""
    left = {Reason.UNSENT, Reason.ENDPOINT, Reason.FAILED}
    return all(left.isdisjoint(reasons_of(session)) for session in sessions)


def run_ending(
    prepared: Prepared,
    model_runs: Sequence[ModelRun],
    directory: Path | None,
    *,
    interrupted: bool,
    unreadable_fails: bool = True,
) -> tuple[ExitCode, tuple[str, ...]]:
    """The exit code, and the sentences that say why it is not 0.

    `directory` is the run directory, None where it is not kept. `unreadable_fails` says whether a model whose answers
    cannot be read is an error.
    """
    sessions = [model_run.session for model_run in model_runs]
    errors = list(dict.fromkeys(str(session.error) for session in sessions if session.error is not None))
    failed, unsent = (sum(counts) for counts in zip(*((one.failed, one.not_sent) for one in sessions), strict=True))
    if failed and not errors:
        errors.append(f"{counted(failed, 'request')} failed after all retries; the same command asks them again.")
    if unreadable_fails:
        for model_run in model_runs:
            errors += unreadable_sentences(model_run)
    codes = [ExitCode.ENDPOINT] if errors or failed else []

    def add(code: ExitCode, sentence: str | None) -> None:
        if sentence is not None:
            codes.append(code)
            errors.append(sentence)

    add(ExitCode.SPENDING_LIMIT, _limit_error(sessions, prepared.client.max_usd))
    add(ExitCode.NOT_STORED, _offline_error(prepared, sessions, directory))
    if any(Reason.OVERDRAWN in reasons_of(session) for session in sessions):
        codes.append(ExitCode.SPENDING_LIMIT)  # the error of the endpoint that sent the bill says so
    waiting = sum(session.counts.in_batches for session in sessions)
    if waiting:
        add(
            ExitCode.ENDPOINT,
            f"{counted(waiting, 'request', 'are')} in a batch that is not fetched yet, and were not asked again; the "
            "same command with --batch fetches them.",
        )
    writer = sessions[0].writer
    if unsent or writer.unstored:
        add(ExitCode.BAD_INPUT, writer.message)
    if interrupted:
        given_up = sum(session.counts.given_up for session in sessions)
        more = (
            f", {counted(given_up, 'answer')} under way {agreeing(given_up, 'were')} not waited for (and may be "
            "charged)"
            if given_up
            else ""
        )
        add(
            ExitCode.INTERRUPTED,
            f"interrupted: {counted(unsent, 'request', 'were')} not sent{more}, and the numbers are those of the "
            "finished part; give the same command again to go on.",
        )
    return ExitCode.worst(codes), tuple(errors)


def unreadable_sentences(model_run: ModelRun) -> list[str]:
    """Why a model's answers cannot be used: it was stopped, or not one could be read."""
    if model_run.stops or model_run.session.error is not None:
        return model_run.stops
    return [] if model_run.unreadable is None else [model_run.unreadable]


def unreadable_notes(model_runs: Sequence[ModelRun], *, fails: bool) -> Iterator[Note]:
    """What is to be told of answers that cannot be read, beside the errors; `fails`: whether they are among these."""
    for model_run in model_runs:
        if not fails:
            yield from (note("model_stopped", "told", text=sentence) for sentence in unreadable_sentences(model_run))
        yield from model_run.readability.notes(arm for arm in model_run.unreadable_arms if not arm.stopped)


def run_notes(prepared: Prepared, model_runs: Sequence[ModelRun], state: str) -> tuple[Note, ...]:
    """What is to be told beside the numbers; `state` says what was in the run directory before."""
    config = prepared.config
    notes = [note("directory_in_use", state=state)] if state != "new" else []
    for model_run in model_runs:
        notes += model_run.session.ledger.notes(model_run.model.model, config.max_tokens, config.arms.order)
        notes += probe_notes(model_run.session, config)
    notes += [note_of(found) for model_run in model_runs for found in find_origins(endpoint_record(model_run))]
    sessions = [model_run.session for model_run in model_runs]
    notes += bill_notes(sessions)
    notes += outage_notes(sessions)
    shared = sum(session.counts.shared for session in sessions)
    if shared:
        notes.append(note("answers_shared", answers=counted(shared, "answer")))
    lacking = provenance.no_level_shots(config, prepared.tasks, prepared.prompts)
    for task, level in dict.fromkeys((arm.task, arm.verbosity) for arm in lacking):
        notes.append(note("level_not_asked", task=task, level=level))
    return (*notes, *prepared.chosen.notes)


SHOWN_CHARACTERS = 90
"""Characters of a missing request's text that are shown."""


def _limit_error(sessions: Sequence[ModelSession], limit: float | None) -> str | None:
    """Say that a spending limit was reached, what was spent and what the rest would cost; None where it was not.

    `limit` is that of the run as a whole, in dollars.
    """
    stopped = [session for session in sessions if session.out_of_money]
    if not stopped:
        return None
    total = next(session.budgeted.budget.total for session in sessions if session.budgeted is not None)
    spent = total.earlier + total.spent
    earlier = (
        f" in this run directory ({dollars_text(total.earlier)} of it before this command)" if total.earlier else ""
    )
    limits = [] if limit is None else [dollars_text(limit)]
    limits += [
        f"{dollars_text(session.model.max_usd)} for {session.model.model}"
        for session in stopped
        if session.model.max_usd is not None
    ]
    costs = [session.estimate.usd() for session in sessions if session.estimate.missing]
    expected, worst = (sum(cost[name] or 0.0 for cost in costs) for name in ("expected", "worst"))
    return (
        f"the spending limit ({', '.join(limits)}) is reached: {dollars_text(spent)} are spent{earlier}, and the "
        "numbers are those of what was paid for. The other "
        f"{counted(sum(session.estimate.missing for session in sessions), 'request')} would cost about "
        f"{dollars_text(expected)}, {dollars_text(worst)} at the most: give the same command with a higher --max-usd."
    )


def _offline_error(prepared: Prepared, sessions: Sequence[ModelSession], directory: Path | None) -> str | None:
    """Say how many answers an offline run lacks, of which models, and what the first of them ask; None where none.

    `directory` is the run directory, None where it is not kept, since the cache holds no answer of the run.
    """
    incomplete = [session for session in sessions if session.estimate.missing] if prepared.client.offline else []
    if not incomplete:
        return None
    total = sum(session.estimate.missing for session in incomplete)
    lines = [
        f"offline, and {counted(total, 'answer', 'are')} not in the cache; the numbers are those of what is there."
    ]
    for session in incomplete:
        guess = " (nothing is stored about its logprobs: they are assumed)" if session.assumed else ""
        lines.append(f"  {session.model.model}: {session.estimate.missing:,} missing{guess}, the first of them:")
        keys = [request_key(request)[:16] for request in session.unsent]
        lines += [f"    {key}  {text}" for key, text in zip(keys, _excerpts(session.unsent), strict=True)]
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
