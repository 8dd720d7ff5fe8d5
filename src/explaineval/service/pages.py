"""Make the pages of the service: templates, what they say in words and drawings, and a policy for their content."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from explaineval import text
from explaineval._version import __version__
from explaineval.config import SETTINGS
from explaineval.records import EXPLANATION, SIMULATED_NOTE, MetricRow
from explaineval.scoring.codes import GRADES
from explaineval.scoring.registry import FPR, IMPACT_RATE, PHI_AT_P, PHI_CCT, TPR, text_of
from explaineval.scoring.task_means import MEAN, task_text
from explaineval.service.auth import User
from explaineval.service.models import ModelView, PhiView, Plan, RunView
from explaineval.service.processes.states import ACTIVE
from explaineval.service.submissions import LABELS
from explaineval.service.wording import for_users, sentence
from explaineval.text import agreeing, counted, dollars_text, visible

BASE: ContextVar[str] = ContextVar("base_path", default="")
"""The path below which the service is asked, while a request is answered: nothing, or `/` and names."""
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
STATIC: Mapping[str, tuple[str, str, str]] = {
    "tokens.css": ("explaineval.reporting.page", "tokens.css", "text/css"),
    "site.css": ("explaineval.service", "static/site.css", "text/css"),
    "run.js": ("explaineval.service", "static/run.js", "text/javascript"),
    "form.js": ("explaineval.service", "static/form.js", "text/javascript"),
    "upload.js": ("explaineval.service", "static/upload.js", "text/javascript"),
}
"""Files of pages: the package, the path in it, and the type. The colours are those of the report."""
WIDTH, HEIGHT, MARGIN = 180, 20, 6
"""Of the drawing of an interval, in pixels."""

ORDERS = {
    "pe": "answer, then explanation, in one reply",
    "pe2": "answer, then explanation asked for in a second call",
    "ep": "explanation first, then the answer",
}
STYLES = {"chat": "chat, for instruction-tuned models", "completion": "completion, few-shot text for pretrained models"}


class IntervalDrawing(NamedTuple):
    """Places of an interval between −1 and 1 in its drawing, in pixels: its ends, its value, and zero."""

    low: float
    high: float
    value: float
    zero: float


class ConditionNumbers(NamedTuple):
    """What was found in one condition: phi-CCT, and the rates beside it by name, None where they are undefined."""

    model: str
    arm: str
    phi: PhiView
    rates: Mapping[str, float | None]


def headline(rows: Iterable[MetricRow]) -> list[ConditionNumbers]:
    """Return what the page of a run shows of its metrics: by each condition phi-CCT as explanations have it."""
    rates = {"TPR": TPR, "FPR": FPR, "Impact rate": IMPACT_RATE}
    by_condition: dict[tuple[object, ...], dict[str, MetricRow]] = {}
    for row in rows:
        if row.metric in (PHI_CCT, *rates.values()) and row.judge is None and row.channel in (None, EXPLANATION):
            key = (row.endpoint, row.model, row.task, row.kind, row.order, row.style, row.shots, row.verbosity)
            by_condition.setdefault(key, {})[row.metric] = row
    numbers = []
    for metrics in by_condition.values():
        if PHI_CCT in metrics:
            row = metrics.pop(PHI_CCT)
            phi = PhiView.model_validate(row.model_dump() | {"kind": row.kind or "", "conditions": 1})
            task = "mean over tasks" if row.task == MEAN else row.task
            parts = [task, row.kind, row.order, row.style, counted(row.shots, "shot"), row.verbosity]
            arm = ", ".join(str(part) for part in parts if part is not None)
            values = {name: metrics[rate].value if rate in metrics else None for name, rate in rates.items()}
            numbers.append(ConditionNumbers(row.model, arm, phi, values))
    return numbers


def is_told(row: Mapping[str, Any]) -> bool:
    """Return whether the page of a comparison shows this row: those that lead, and what phi-CCT is made of."""
    return bool(row["leading"]) or row["metric"] in (PHI_CCT, PHI_AT_P, TPR, FPR, IMPACT_RATE)


def limits(warnings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what limits differences in sentences, the gravest first; what it is about where not all are about one."""
    about = {(warning["row"]["task"], warning["row"]["kind"]) for warning in warnings}
    texts = []
    for warning in sorted(warnings, key=lambda warning: GRADES.index(warning["grade"])):
        where = "" if len(about) == 1 else f"on {task_text(warning['row']['task'])}, {warning['row']['kind']}: "
        start = "Do not quote" if warning["grade"] == GRADES[0] else "Mind"
        texts.append(f"{start}: {where}{for_users(warning['text'])} {for_users(warning['todo'])}")
    return list(dict.fromkeys(texts))


def interval(phi: PhiView) -> IntervalDrawing | None:
    """Return where phi-CCT and its interval are drawn; None where it has no value."""
    if phi.value is None:
        return None
    low = phi.value if phi.low is None else phi.low
    high = phi.value if phi.high is None else phi.high
    return IntervalDrawing(_place(low), _place(high), _place(phi.value), _place(0.0))


def _place(value: float) -> float:
    return round(MARGIN + (min(1.0, max(-1.0, value)) + 1) / 2 * (WIDTH - 2 * MARGIN), 1)


def simulated_note(models: Sequence[str]) -> str:
    """Return what must stand beside the names of models of which some are simulated; nothing where none is.

    >>> simulated_note(["simulated/faithful"]), simulated_note(["openai/m"])
    ('simulated, not a language model', '')
    >>> simulated_note(["simulated/faithful", "simulated/random"]), simulated_note(["simulated/faithful", "openai/m"])
    ('simulated, not language models', 'simulated/ stands for simulated, not language models')
    """
    count = sum(model.startswith("simulated/") for model in models)
    if count == 0:
        return ""
    if count < len(models):
        return "simulated/ stands for simulated, not language models"
    return SIMULATED_NOTE if count == 1 else "simulated, not language models"


def by_rank(ranks: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the models of a comparison, the best first, and those without a rank last.

    >>> [row["model"] for row in by_rank([{"model": "b", "low": None}, {"model": "a", "low": 1, "high": 2}])]
    ['a', 'b']
    """
    return sorted(ranks, key=lambda row: (row["low"] is None, row["low"] or 0, row.get("high") or 0))


def moment(time: str | None) -> str:
    """Return a time in UTC without what nobody reads.

    >>> moment("2026-11-25T22:23:19.399+00:00"), moment(None)
    ('2026-11-25 22:23 UTC', '–')
    """
    return "–" if time is None else datetime.fromisoformat(time).strftime("%Y-%m-%d %H:%M UTC")


def percent_done(done: int, of: int) -> int:
    """Return how many percent are done, never 100 before the last.

    >>> percent_done(999, 1000), percent_done(0, 0), percent_done(5, 5)
    (99, 0, 100)
    """
    return 100 * min(done, of) // of if of else 0


def left(run: RunView) -> float | None:
    """Return the seconds that a run needs as it goes now: those of its slowest model; None where nobody knows."""
    if run.progress is None:
        return None
    seconds = [model.seconds_left for model in run.progress.models if model.state == "running"]
    running = [value for value in seconds if value is not None]
    return max(running) if running and len(running) == len(seconds) else None


def rate(run: RunView) -> float | None:
    """Return the requests that a run sends each second; None where nothing is measured yet."""
    rates = [model.rate for model in run.progress.models if model.rate is not None] if run.progress else []
    return sum(rates) if rates else None


def price_line(plan: Plan | None) -> str:
    """Return in a line what a run costs; where there is no plan, that something is wrong."""
    if plan is None:
        return "Something is wrong."
    total = plan.total
    requests = f"{total.misses:,} request{'' if total.misses == 1 else 's'} to send"
    return f"{dollars_text(total.usd.expected)} expected, {dollars_text(total.usd.worst)} at the worst; {requests}"


def failures(model: ModelView) -> list[tuple[str, int]]:
    """Return the statuses of trials that have no score, with their counts."""
    return [(status, count) for status, count in model.outcomes.items() if status != "ok" and count]


def status_line(run: RunView) -> str:
    """Return in a sentence how a run is, and in another for what it waits; for those who do not see the page."""
    line = f"The run is {run.state}."
    if run.progress is not None and run.state != "queued":
        done = sum(model.done for model in run.progress.models)
        total = sum(model.distinct for model in run.progress.models)
        line = f"The run is {run.state}: {done:,} of {counted(total, 'request')} {agreeing(done, 'are')} done."
    return f"{line} {sentence(run.reason)}" if run.reason and run.state in ACTIVE else line


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("explaineval.service"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    helpers = (
        text.number_text, text.share_text, text.p_value_text, text.dollars_text, text.duration_text, text.bytes_text,
        text.interval_text, text.counted, moment, percent_done, interval, failures, rate, left, status_line,
        simulated_note, by_rank, for_users, sentence, task_text, text_of, limits, is_told,
    )  # fmt: skip
    environment.globals.update({helper.__name__: helper for helper in helpers})
    environment.globals.update(
        base=BASE.get, ACTIVE=ACTIVE, ORDERS=ORDERS, STYLES=STYLES, LABELS=LABELS, SETTINGS=SETTINGS, WIDTH=WIDTH,
        HEIGHT=HEIGHT, version=__version__,
    )  # fmt: skip
    return environment


def page(template: str, user: User | None, code: int = 200, **values: Any) -> HTMLResponse:
    """Return a page, with this status. One for a user needs `navigation`, the links at its top, and its `address`."""
    content = _environment().get_template(template).render(user=user, **values)
    return HTMLResponse(content, code, {"content-security-policy": POLICY})


@cache
def static_file(name: str) -> tuple[bytes, str] | None:
    """Return a file of pages and its type; None where there is none of this name."""
    if name not in STATIC:
        return None
    package, path, kind = STATIC[name]
    return files(package).joinpath(path).read_bytes(), f"{kind}; charset=utf-8"
