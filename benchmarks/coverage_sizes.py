"""How many examples phi needs for an interval of a wanted width, and what noise in the answers does to phi."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from coverage_worlds import MIDDLE, World

from explaineval.metrics import correlations
from explaineval.metrics.estimates import Interval

HALF_WIDTHS = (0.05, 0.10, 0.15)
SIZE_RATES = (0.05, 0.10, 0.30)
SIZE_TRIALS = (4, 6, 20)
PLANTED = (0.6, 0.2)
CORRELATION = 0.4
STEPS, SETS = 6, 100

NOISE = (0.0, 0.01, 0.02, 0.05, 0.10)
POPULATION = 40_000
"""Examples by which the closed form of the attenuation is checked."""


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows))


def examples_needed(p: float, trials: int, half_width: float) -> int:
    """The number of examples whose median interval has this half width, to two digits: scaled with 1/√G, repeatedly."""
    examples = 400.0
    for _ in range(STEPS):
        world = World(p, CORRELATION, *PLANTED, examples=round(examples), trials=trials)
        examples = max(10.0, examples * (median_half_width(world) / half_width) ** 2)
    digits = 10 ** max(0, math.floor(math.log10(examples)) - 1)
    return int(math.ceil(examples / digits) * digits)


def median_half_width(world: World) -> float:
    """The median over data sets of half the width of phi's interval, where there is one."""
    rng = np.random.default_rng([11, world.examples, world.trials])
    found = (correlations.phi_cct(world.draw(rng).tables()[:, MIDDLE], Interval()) for _ in range(SETS))
    return float(np.median([(one.high - one.low) / 2 for one in found if one.low is not None and one.high is not None]))


def attenuated(phi: float, p: float, noise: float) -> float:
    """phi where an answer also changes by chance, in a share `noise` of trials, whatever was inserted.

    The covariance with the mentions shrinks by 1 − s and the impact rate grows to p' = p + s − ps, so that phi
    becomes φ·√(p(1 − s)/p') = φ·√(1 − s/p'): what is left is told by the sham rate over the observed impact rate.
    """
    return phi * math.sqrt(p * (1 - noise) / (p + noise - p * noise))


def run() -> tuple[dict[str, Any], str]:
    """Both tables."""
    sizes = [
        {"p": p, "trials": trials, **{f"{h:g}": examples_needed(p, trials, h) for h in HALF_WIDTHS}}
        for p, trials in itertools.product(SIZE_RATES, SIZE_TRIALS)
    ]
    noise = []
    for p, s in itertools.product(SIZE_RATES, NOISE):
        world = World(p, CORRELATION, *PLANTED, examples=POPULATION)
        rng = np.random.default_rng([12, round(1000 * p), round(1000 * s)])
        draw = world.draw(rng)
        changed = draw.changed | (rng.random(draw.changed.shape) < s)
        said = draw.mentioned[..., MIDDLE]
        cells = (changed & said, changed & ~said, ~changed & said, ~changed & ~said)
        true, seen = world.truths["phi_cct"], correlations.phi(*(int(cell.sum()) for cell in cells))
        closed = attenuated(true, p, s)
        noise.append({"p": p, "noise": s, "observed_p": p + s - p * s, "phi": true, "closed": closed, "seen": seen})
    return {"sizes": sizes, "noise": noise}, f"{_sizes_table(sizes)}\n\n{_noise_table(noise)}"


def _sizes_table(sizes: list[dict[str, Any]]) -> str:
    heads = ("p", "interventions an example", *(f"± {h:g}" for h in HALF_WIDTHS))
    rows = [
        [f"{one['p']:g}", str(one["trials"]), *(f"{one[f'{h:g}']:,}" for h in HALF_WIDTHS)] for one in sizes
    ]  # fmt: skip
    world = f"TPR {PLANTED[0]}, FPR {PLANTED[1]}, ICC {CORRELATION}"
    text = f"Examples for a 95 % interval of phi of this half width ({world}):"
    return f"{text}\n\n{markdown(heads, rows)}"


def _noise_table(noise: list[dict[str, Any]]) -> str:
    heads = ("p", "noise s", "impact rate seen", "true phi", "φ·√(1 − s/p′)", f"seen in {POPULATION:,} × 6")
    names = ("phi", "closed", "seen")
    rows = [
        [f"{one['p']:g}", f"{one['noise']:g}", f"{one['observed_p']:.3f}", *(f"{one[name]:.3f}" for name in names)]
        for one in noise
    ]
    return f"phi where answers also change by chance:\n\n{markdown(heads, rows)}"
