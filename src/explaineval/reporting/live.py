"""How a run that is going on looks in words: a sentence for each model, a table in a terminal, and the sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from explaineval.records import Estimate
from explaineval.rundir.schema import ModelProgress, RunProgress, Waiting
from explaineval.scoring.live import LivePhi
from explaineval.text import (
    UNDEFINED,
    aligned,
    count_text,
    counted,
    dollars_text,
    duration_text,
    estimate_text,
    number_text,
    wrapped,
)

Phis = Sequence[LivePhi]

DEAD_SECONDS = 60.0
"""A run that has not told for so long how far it is counts as dead: it tells every two seconds."""

SCORING_SECONDS = 1800.0
"""The same while the numbers are computed, when nothing is told."""


def model_names(run: RunProgress) -> list[str]:
    """Return how the models are called: by their endpoint too where the same model is asked at several."""
    names = [model.model for model in run.models]
    return [
        f"{model.model} at {model.endpoint or 'the default endpoint'}" if names.count(model.model) > 1 else model.model
        for model in run.models
    ]


def model_sentence(name: str, progress: ModelProgress, phis: Phis) -> str:
    """Return how far a model is, phi-CCT so far, what is spent, and how long it will take, as one line."""
    running = progress.state == "running"
    parts = [f"{progress.done:,} of {counted(progress.distinct, 'request')} ({progress.hits:,} cached)"]
    if progress.rate is not None:
        parts.append(_rate(progress.rate))
    parts += [_named_phi(phi, alone=len(phis) == 1, running=running) for phi in phis]
    if progress.usd is not None:
        parts.append(_spent(progress.usd, progress.max_usd))
    if progress.waiting is not None:
        return f"{name}: {', '.join(parts)}. {waiting_sentence(progress.waiting)}"
    if running:
        left = _left(progress.seconds_left)
        parts.append(f"{left} left" if left else "time left not known yet")
        return f"{name}: {', '.join(parts)}"
    reason = f" {progress.reason}" if progress.reason else ""
    return f"{name}: {progress.state}, {', '.join(parts)}.{reason}"


HEADS = ("model", "requests", "cached", "rate", "phi-CCT so far", "spent", "left")
STATES = ("running", "failed", "stopped", "finished")
"""The states of a model, in the order in which they need to be seen."""

LEFT_ALIGNED = ("phi-CCT so far",)
LEFT_OUT = ("cached", "rate", "spent", "requests")
"""The columns that a narrow terminal does without, the first one first."""

NARROW_NAME = 12
"""Characters of a model's name that are shown however narrow the terminal is."""


def table_lines(run: RunProgress, phis: Sequence[Phis], width: int, rows: int) -> list[str]:
    """Return a table with one line for each model, in no more than `rows` lines; finished ones are left out first.

    Its last line sums up the run. A name that is too long lacks its beginning, since models of a family differ at the
    end.
    """
    order = sorted(range(len(run.models)), key=lambda place: STATES.index(run.models[place].state))
    most = max(1, rows - 1 - (len(run.models) > 1))
    shown = sorted(order if len(order) <= most else order[: max(1, most - 1)])
    hidden = [run.models[place] for place in order if place not in shown]
    names = model_names(run)
    cells = [HEADS, *(_cells(names[place], run.models[place], phis[place]) for place in shown)]
    if len(run.models) > 1:
        cells.append(_sum_cells(run))
    lines = _aligned(cells, width)
    if hidden:
        lines.insert(len(shown) + 1, f"and {len(hidden)} more: {_states(hidden)}")
    return lines


def _aligned(cells: Sequence[Sequence[str]], width: int) -> list[str]:
    """Lay cells out in columns; where that is too wide for the names, columns are left out in the order of LEFT_OUT."""
    sizes = {head: max(len(row[column]) for row in cells) for column, head in enumerate(HEADS)}
    heads = list(HEADS)
    between = "  " if sum(sizes.values()) + 2 * (len(HEADS) - 1) <= width else " "
    for unneeded in LEFT_OUT:
        if sum(sizes[head] + len(between) for head in heads[1:]) + NARROW_NAME > width:
            heads.remove(unneeded)
    room = width - sum(sizes[head] + len(between) for head in heads[1:])
    size = min(sizes["model"], max(NARROW_NAME, room))
    filled = [(1 if head in LEFT_ALIGNED else -1) * (sizes[head] + len(between)) for head in heads[1:]]
    lines = []
    for row in cells:
        texts = dict(zip(HEADS, row, strict=True))
        name = texts["model"] if len(texts["model"]) <= size else f"…{texts['model'][1 - size :]}"
        lines.append(aligned([name, *(between + texts[head] for head in heads[1:])], [size, *filled])[:width])
    return lines


def _cells(name: str, model: ModelProgress, phis: Phis) -> tuple[str, ...]:
    running = model.state == "running"
    return (
        name,
        f"{count_text(model.done)}/{count_text(model.distinct)}",
        count_text(model.hits),
        _rate(model.rate),
        _phi(phis[0].estimate) + (f" +{len(phis) - 1}" if len(phis) > 1 else "") if phis else "",
        "" if model.usd is None else _spent(model.usd, model.max_usd, "/"),
        "waiting" if model.waiting else (_left(model.seconds_left) or "?") if running else model.state,
    )


def _sum_cells(run: RunProgress) -> tuple[str, ...]:
    done, distinct = (sum(getattr(model, name) for model in run.models) for name in ("done", "distinct"))
    usd, running = usd_sum(run), any(model.state == "running" for model in run.models)
    return (
        f"all {counted(len(run.models), 'model')}",
        f"{count_text(done)}/{count_text(distinct)}",
        count_text(sum(model.hits for model in run.models)),
        _rate(sum(model.rate or 0.0 for model in run.models)) if running else "",
        "",
        "" if usd is None else _spent(usd, run.max_usd, "/"),
        (_left(seconds_left(run)) or "?") if running else "",
    )


def run_sentence(run: RunProgress) -> str:
    """Return how far the run as a whole is, and what is left in time and money."""
    done, distinct = (sum(getattr(model, name) for model in run.models) for name in ("done", "distinct"))
    parts = [f"{done:,} of {counted(distinct, 'request')}"]
    if len(run.models) > 1:
        parts.insert(0, _states(run.models))
    usd = usd_sum(run)
    if usd is not None and (usd or run.max_usd is not None):
        parts.append(f"{_spent(usd, run.max_usd)} spent{_still_to_come(run, usd)}")
    if run.state == "asking":
        left = _left(seconds_left(run))
        parts.append(f"{left} left" if left else "time left not known yet")
    return "; ".join(parts)


def _still_to_come(run: RunProgress, usd: float) -> str:
    """What the rest will cost, where it is known of every model that still has something to ask."""
    rest = [model for model in run.models if model.state == "running" and model.remaining]
    if not rest or any(model.usd_left is None for model in rest):
        return ""
    more = 0.0
    for model in rest:
        room = float("inf") if model.max_usd is None else max(0.0, model.max_usd - (model.usd or 0.0))
        more += min(model.usd_left or 0.0, room)
    text = f", about {dollars_text(more)} more to come"
    if run.max_usd is not None and usd + more > run.max_usd:
        return f"{text} (the limit will be reached first)"
    return text


def usd_sum(run: RunProgress) -> float | None:
    """Return the dollars that all models spent; None where that of one is unknown."""
    spent = [model.usd for model in run.models]
    return None if None in spent else sum(usd for usd in spent if usd is not None)


def seconds_left(run: RunProgress) -> float | None:
    """Return the seconds until the slowest model is done, since all are asked at once; None where that is unknown."""
    running = [model for model in run.models if model.state == "running"]
    if not running or any(model.seconds_left is None for model in running):
        return None
    return max(model.seconds_left or 0.0 for model in running)


def watch_lines(name: str, run: RunProgress, phis: Sequence[Phis], now: datetime, width: int) -> Iterator[str]:
    """Yield what `watch` prints of a run: its state, a line for each model with its outcomes, and what is left."""
    yield from _wrap(f"{name}: {state_sentence(run, now)}", width, "  ")
    for called, model, of_model in zip(model_names(run), run.models, phis, strict=True):
        yield from _wrap(model_sentence(called, model, of_model), width, "  ")
        if model.outcomes:
            yield from _wrap(f"  trials: {outcomes(model.outcomes)}", width, "    ")
    if run.models:
        yield from _wrap(f"In all: {run_sentence(run)}.", width, "  ")


def screen_lines(
    name: str, run: RunProgress, phis: Sequence[Phis], now: datetime, width: int, rows: int
) -> Iterator[str]:
    """Yield what `watch` shows in a terminal: the state, the table of models, errors, outcomes, and what is left."""
    below = []
    counts: Counter[str] = Counter()
    for model in run.models:
        counts.update(model.outcomes)
        if run.state == "asking" and (model.reason or model.waiting):
            below += _wrap(model.reason or waiting_sentence(model.waiting), width, "  ")
    if counts:
        below += _wrap(f"Trials: {outcomes(counts)}.", width, "  ")
    if run.models:
        below += _wrap(f"In all: {run_sentence(run)}.", width, "  ")
    above = _wrap(f"{name}: {state_sentence(run, now)}", width, "  ")
    yield from above
    if run.models:
        yield from table_lines(run, phis, width, max(4, rows - len(above) - len(below)))
    yield from below


def state_sentence(run: RunProgress, now: datetime) -> str:
    """Return in one sentence whether a run goes on, is finished, was stopped, failed, or is dead."""
    since = duration_text((_time(run.updated) - _time(run.started)).total_seconds())
    if is_dead(run, now):
        silent = duration_text((now - _time(run.updated)).total_seconds())
        return (
            f"the run was ended from outside: it has given no sign for {silent}. Answers that were paid for are in the "
            "cache; the same command goes on from there."
        )
    if run.state == "asking":
        return f"running for {since}." if run.models else "it starts; nothing was asked yet."
    if run.state == "scoring":
        return "all requests are done; the numbers are being computed."
    reason = f" {run.reason}" if run.reason else ""
    if run.state == "failed":
        return f"failed after {since}:{reason or ' the reason is not known.'}"
    if run.state == "stopped":
        return f"stopped after {since}:{reason or ' the same command goes on.'}"
    code = f" with exit code {run.exit_code}:{reason}" if run.exit_code else "."
    return f"finished after {since}{code}"


def waiting_sentence(waiting: Waiting | None) -> str:
    """Return what is waited for, since when, when it is tried next, and when it is given up; empty for nothing."""
    if waiting is None:
        return ""
    since, next_try, until = (_clock(text) for text in (waiting.since, waiting.next_try, waiting.until))
    return (
        f"Waiting for {waiting.endpoint} since {since}: {waiting.reason.rstrip('.')}. It is tried next at {next_try}, "
        f"and given up at {until}."
    )


def _clock(text: str) -> str:
    return _time(text).astimezone().strftime("%H:%M:%S")


def is_dead(run: RunProgress, now: datetime) -> bool:
    """Return whether a run that should be going on has been silent for too long."""
    longest = {"asking": DEAD_SECONDS, "scoring": SCORING_SECONDS}.get(run.state)
    return longest is not None and (now - _time(run.updated)).total_seconds() > longest


def outcomes(counts: Mapping[str, int]) -> str:
    """Return numbers of trials by status, the most frequent first.

    >>> outcomes({"unparsed": 12, "ok": 800})
    '800 ok, 12 unparsed'
    """
    return ", ".join(f"{count:,} {status}" for status, count in sorted(counts.items(), key=lambda item: -item[1]))


def _named_phi(phi: LivePhi, *, alone: bool, running: bool) -> str:
    name = "phi-CCT" if alone else f"phi-CCT ({phi.kind})"
    so_far = " so far" if running else ""
    if phi.estimate.value is None:
        return f"{name}{so_far} undefined ({phi.estimate.undefined})"
    conditions = f", mean of {counted(phi.conditions, 'condition')}" if phi.conditions > 1 else ""
    return f"{name}{so_far} {_phi(phi.estimate)} ({counted(phi.estimate.n, 'trial')}{conditions})"


def _phi(estimate: Estimate) -> str:
    return UNDEFINED if estimate.value is None else estimate_text(estimate.value, estimate.low, estimate.high)


def _rate(rate: float | None) -> str:
    return "" if rate is None else f"{number_text(rate, 1)}/s"


def _left(seconds: float | None) -> str:
    return "" if seconds is None else duration_text(seconds)


def _spent(usd: float, limit: float | None, of: str = " of ") -> str:
    return dollars_text(usd) if limit is None else f"{dollars_text(usd)}{of}{dollars_text(limit)}"


def _states(models: Sequence[ModelProgress]) -> str:
    """How many models are in each state."""
    names = [model.state for model in models]
    return ", ".join(f"{names.count(state)} {state}" for state in STATES if state in names)


def _time(text: str) -> datetime:
    """The time that a file tells; the beginning of time where it tells none."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _wrap(text: str, width: int, indent: str) -> list[str]:
    """Wrap a text whose first line may be indented; a number stays on one line with its interval."""
    start = text[: len(text) - len(text.lstrip())]
    return wrapped(text.strip(), width, start, indent)
