"""The options of a model that builds or judges interventions, and how far it is shown."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

from explaineval.cli.options import option, resolve
from explaineval.cli.printing import echo
from explaineval.cli.watches import EVERY
from explaineval.experiment import Lane
from explaineval.experiment.consultations import Consultant
from explaineval.prompts import PromptBook

F = TypeVar("F", bound=Callable[..., Any])
ASKED = ("model", "base_url", "api_key_env", "price")


def consultant_options(role: str, what: str) -> tuple[Callable[[F], F], ...]:
    """`--ROLE-model` and where it is, what it costs, which variable holds its key."""
    return (
        option(f"--{role}-model", metavar="PROVIDER/MODEL", help=what),
        option(f"--{role}-base-url", metavar="URL", help="Its address, if it is not the provider's own."),
        option(f"--{role}-api-key-env", metavar="VAR", help="Environment variable that holds its key."),
        option(f"--{role}-price", metavar="IN,OUT", help="Its price in dollars per million tokens."),
    )


def consultant(role: str, given: dict[str, Any], prompts: PromptBook, spent: float) -> Consultant:
    """The model that the options name, with what is left of --max-usd after `spent`. Raises InputError."""
    asked = {name: given[f"{role}_{name}"] for name in ASKED}
    left = None if given["max_usd"] is None else max(0.0, given["max_usd"] - spent)
    common = {"cache": given["cache"], "offline": given["offline"], "max_usd": left}
    # resolve wants a task; everything else is read as `run` reads it
    science, transport, _ = resolve(None, {**asked, **common, "model": (asked["model"],), "task": ("none",)})
    return Consultant(role, science.models[0], transport, prompts)


def show_progress(role: str) -> Callable[[list[Lane]], None]:
    """Tell on standard error, now and then, how many requests are done, and that Ctrl-C was heard."""
    last = time.monotonic()
    told = 0

    def show(lanes: list[Lane]) -> None:
        nonlocal last, told
        for message in (message for lane in lanes for message in lane.messages[told:]):
            told += 1
            echo(f"explaineval: {message}", err=True)
        now = time.monotonic()
        if now - last >= EVERY:
            last = now
            hits, sent = (sum(getattr(lane.cached.tally, name) for lane in lanes) for name in ("hits", "sent"))
            echo(f"explaineval: {role}: {hits + sent} requests done, {hits} of them from the cache", err=True)

    return show


def count_reasons(reasons: Counter[str]) -> str:
    """Reasons with their numbers, the most frequent first.

    >>> count_reasons(Counter({"unparsed": 1, "refused": 2}))
    '2 refused, 1 unparsed'
    """
    return ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items(), key=lambda pair: -pair[1]))
