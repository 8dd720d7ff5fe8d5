"""Simulate how often the intervals of simulatability gains cover the truth: `python benchmarks/coverage_simulation.py`.

Each world has a rate of changed answers and the accuracies of a reader with and without the explanation, where the
answer changed and where it did not. Its predictions share an effect within examples and within trials. The truth is
the value over 40,000 examples of the world. Takes about a minute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from explaineval.metrics.estimates import Interval
from explaineval.metrics.simulatability import nsg, simulation_gain_balanced
from explaineval.records import Estimate

SETS = 1000
LARGE = 40_000


class World(NamedTuple):
    """Examples, trials of each, the rate of changed answers, and accuracies (changed, unchanged)."""

    examples: int
    trials: int
    changed: float
    without: tuple[float, float]
    explained: tuple[float, float]
    spread: float
    """Standard deviation of the effects of examples, on the logit scale."""


WORLDS = (
    *(World(200, 6, 0.05, (0.2, 0.95), (0.5, 0.93), spread) for spread in (0.0, 1.0)),
    *(World(200, 4, 0.2, (0.3, 0.9), (0.6, 0.85), spread) for spread in (0.0, 1.0)),
    *(World(100, 4, 0.1, (0.3, 0.9), (0.3, 0.9), spread) for spread in (0.0, 1.0)),
    *(World(60, 4, 0.15, (0.3, 0.9), (0.7, 0.9), spread) for spread in (0.0, 1.0)),
)


def draw(world: World, examples: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Draw the counts (examples, 6) of a set."""
    shape = (examples, world.trials)

    def happens(rate: NDArray[np.float64] | float, effect: NDArray[np.float64]) -> NDArray[np.bool_]:
        logit = np.log(rate / (1 - np.asarray(rate))) + effect
        return generator.random(shape) < 1 / (1 + np.exp(-logit))

    changed = happens(world.changed, generator.normal(0, world.spread, (examples, 1)))
    effect = generator.normal(0, world.spread, (examples, 1)) + generator.normal(0, 0.5, shape)
    right = [happens(np.where(changed, *rates), effect) for rates in (world.explained, world.without)]
    columns = [group & hits for group in (changed, ~changed) for hits in (np.ones(shape, bool), *right)]
    return np.stack([column.sum(axis=1) for column in columns], axis=1)


def lines(generator: np.random.Generator) -> Iterator[str]:
    """Yield the table, line by line."""
    yield "| examples × trials | changed | right without / with, changed | unchanged | spread | balanced gain | NSG |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    metrics: tuple[Callable[[NDArray[np.int64], Interval], Estimate], ...] = (simulation_gain_balanced, nsg)
    for world in WORLDS:
        large = draw(world, LARGE, generator)
        truths = [metric(large, Interval()).value for metric in metrics]
        covered, defined = [0, 0], [0, 0]
        for _ in range(SETS):
            counts = draw(world, world.examples, generator)
            for number, (metric, truth) in enumerate(zip(metrics, truths, strict=True)):
                estimate = metric(counts, Interval())
                if estimate.low is not None and estimate.high is not None and truth is not None:
                    defined[number] += 1
                    covered[number] += estimate.low <= truth <= estimate.high
        shares = [f"{hits / max(1, sets):.3f}" for hits, sets in zip(covered, defined, strict=True)]
        pairs = [f"{without} / {explained}" for without, explained in zip(world.without, world.explained, strict=True)]
        size = f"{world.examples} × {world.trials}"
        yield f"| {' | '.join([size, str(world.changed), *pairs, f'{world.spread:g}', *shares])} |"


if __name__ == "__main__":
    for line in lines(np.random.default_rng(20260101)):
        print(line, flush=True)
