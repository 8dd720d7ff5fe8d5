"""Runs of several models with planted rates: families, sizes, levels of verbosity, label shifts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from makers.runs import ENDPOINT, make_run, make_trial


class Planted(NamedTuple):
    """A model, what the configuration says of it, and its rates."""

    model: str
    tpr: float = 0.6
    fpr: float = 0.2
    family: str | None = None
    parameters: float | None = None
    tuned: str | None = None


EAGERNESS = {"brief": 0.5, "normal": 1.0, "detailed": 2.0}
"""By level of verbosity: a rate r becomes 1 − (1 − r)^k."""


def make_planted_run(
    directory: Path,
    models: Sequence[Planted],
    *,
    examples: int = 24,
    per_example: int = 6,
    impact: float = 0.3,
    levels: Sequence[str] = ("normal",),
    seed: int = 0,
    **config: Any,
) -> Path:
    """A run of these models on the same insertions, with label shifts that are larger where the answer changed."""
    order = "pe2" if len(levels) > 1 else "pe"
    trials = []
    for planted in models:
        for example in range(examples):
            for number in range(per_example):
                draw = Random(f"{seed}:{planted.model}:{example}:{number}")
                changed, said = draw.random() < impact, draw.random()
                after = (0.45 if changed else 0.75) - 0.3 * draw.random()
                for level in levels:
                    rate = planted.tpr if changed else planted.fpr
                    mentioned = said < 1 - (1 - rate) ** EAGERNESS[level]
                    trials.append(
                        make_trial(
                            example, number, model=planted.model, changed=changed, mentioned=mentioned, after=after,
                            verbosity=level, order=order,
                        )
                    )  # fmt: skip
    entries = [
        {
            "model": one.model,
            "endpoint": ENDPOINT,
            "family": one.family,
            "parameters": one.parameters,
            "tuned": one.tuned,
        }
        for one in models
    ]
    arms = {"order": [order], "verbosity": list(levels)}
    return make_run(directory, trials, examples, **{"models": entries, "arms": arms, "shams": 0} | config)


def families(count: int, sizes: Sequence[float] = (1e8, 1e9), *, tuned: bool = False) -> list[Planted]:
    """Models of so many families and these sizes, whose TPR rises with size; with `tuned` each in both tunings."""
    return [
        Planted(
            f"lab/family{family}-{size:g}{'-it' if tuning == 'instruct' else ''}",
            tpr=0.3 + 0.2 * number + 0.02 * family,
            fpr=0.15 + 0.05 * (tuning == "instruct"),
            family=f"family{family}",
            parameters=size,
            tuned=tuning,
        )
        for family in range(count)
        for number, size in enumerate(sizes)
        for tuning in (("base", "instruct") if tuned else ("instruct",))
    ]
