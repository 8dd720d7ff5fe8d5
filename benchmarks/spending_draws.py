"""What the randomised runs of spending_limits.py are drawn to be."""

from __future__ import annotations

import random
from dataclasses import dataclass

from billing_server import BILLED, UNBILLED, UNCOUNTED, Settings

FAULTS = tuple(name for name in (*UNBILLED, *BILLED, UNCOUNTED) if name != "400")
ANSWERED = ("429", "500", "503")
"""Faults by which the endpoint says that nothing was generated; after others only it knows whether it charged."""
SLOW = ("time-out", "late-time-out")


@dataclass(frozen=True)
class Trial:
    """What one run is drawn to be. Limits in dollars: of the whole, and of each model (None: none of its own)."""

    number: int
    examples: int
    length: int
    script: str
    max_tokens: int
    connections: int
    retries: int
    share: float
    calls: float | None
    own: tuple[float | None, ...]
    settings: Settings


def draw_trial(number: int, seed: int) -> Trial:
    """The parameters of one run."""
    draw = random.Random(f"{seed}:{number}")
    models = 2 if draw.random() < 0.25 else 1
    names = [f"m{index}" for index in range(models)]
    prices = {name: (log_uniform(draw, 0.02, 20), log_uniform(draw, 0.05, 80)) for name in names}
    kinds = draw.choices(((), ANSWERED, FAULTS), (30, 25, 45))[0]
    faults = {
        name: draw.uniform(0, 0.01 if name in SLOW else 0.06)
        for name in draw.sample(kinds, min(len(kinds), draw.randint(1, 6)))
    }
    tight = draw.random() < 0.5  # bills near their worst cases
    longest = draw.uniform(0.8, 1.0) if tight else draw.uniform(0.05, 1.0)
    settings = Settings(
        seed=draw.randrange(2**32),
        prices=prices,
        tokens_per_byte=draw.uniform(0.8, 1.0) if tight else draw.uniform(0.2, 1.0),
        template=draw.randint(0, 208),
        shortest=draw.uniform(0.7, 0.8) if tight else draw.uniform(0, longest),
        longest=longest,
        hidden=draw.choice((0.0, 0.0, draw.random())),
        latency=log_uniform(draw, 0.005, 0.1),
        faults=faults,
        rejects_logprobs=draw.random() < 0.2,
    )
    return Trial(
        number=number,
        examples=round(log_uniform(draw, 60, 240) / models),
        length=round(log_uniform(draw, 5, 120)),
        script=draw.choice(("", "", "é", "語", "ﷺ")),
        max_tokens=round(log_uniform(draw, 16, 1024)),
        connections=round(log_uniform(draw, 1, 64)),
        retries=draw.choice((0, 1, 2, 4, 6)),
        share=log_uniform(draw, 0.2, 1.3),
        calls=draw.uniform(0.2, 20) if draw.random() < 0.1 else None,
        own=tuple(draw.uniform(0.1, 0.9) if models == 2 and draw.random() < 0.7 else None for _ in names),
        settings=settings,
    )


def log_uniform(draw: random.Random, low: float, high: float) -> float:
    """Each order of magnitude as likely as the others."""
    return float(low * (high / low) ** draw.random())
