"""Does the test of tuned against pretrained models hold what it promises: false dominance, power, bias?

    python benchmarks/coverage_frontiers.py               # about 3 minutes
    python benchmarks/coverage_frontiers.py --sets 50

Two models answer the same insertions and explain them at four levels of verbosity; what is named at one level is named
at the more verbose ones too. Planted: equal frontiers (the same levels, and other levels on the same curve), a frontier
.15 higher everywhere, one that is equal at one level and .15 higher at the others (the worst case of an
intersection-union test), and frontiers that cross. Examples change their answers at rates of their own (ICC 0.4), the
same for both models. Counted: how often each claim is made, and the mean of the gaps minus the planted ones. Several
pairs together are adjusted by Holm's procedure: the last rows have six. Seeds are fixed.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from coverage_numbers import seeded
from coverage_sizes import markdown
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from explaineval.metrics.frontiers import dominances, frontier_at, gaps_of

Points = tuple[tuple[float, float], ...]
"""FPR and TPR of each level."""

ICC = 0.4
LEVELS = ("minimal", "brief", "normal", "detailed")
FPRS = (0.02, 0.06, 0.15, 0.3)
SIZES = ((200, 6, 0.3), (1000, 6, 0.1), (1000, 6, 0.3))
SIZES_BETWEEN = ((300, 6, 0.3), (400, 6, 0.3), (500, 6, 0.3), (600, 6, 0.3))
"""Where a frontier .15 higher everywhere is found in four of five data sets lies among these."""

FIRST_CELL = 9000
FAMILY = 6


def curve(fprs: Any, delta: float = 1.0) -> NDArray[np.float64]:
    """The TPR of a model whose mentions have this much to do with influence, at FPRs."""
    found: NDArray[np.float64] = ndtr(ndtri(np.asarray(fprs)) + delta)
    return found


def points(fprs: Any, higher: Any = 0.0) -> Points:
    """The levels of a model at these FPRs, by so much above the curve."""
    return tuple(zip(map(float, fprs), map(float, curve(fprs) + higher), strict=True))


class Plan(NamedTuple):
    """Two models' levels: the tuned model's and the pretrained one's."""

    name: str
    tuned: Points
    pretrained: Points


PLANS = (
    Plan("equal, same levels", points(FPRS), points(FPRS)),
    Plan("equal, other levels", points((0.01, 0.04, 0.10, 0.22)), points(FPRS)),
    Plan(".15 higher everywhere", points(FPRS, 0.15), points(FPRS)),
    Plan(".15 higher but at one level", points(FPRS, np.array([0.15, 0.15, 0.0, 0.15])), points(FPRS)),
    Plan("crossing by .15", points(FPRS, np.array([-0.1, -0.15, 0.15, 0.15])), points(FPRS)),
)


def draw(
    models: tuple[Points, ...], examples: int, trials: int, p: float, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Tables (G, V, 4) of models whose answers change at the same rate in each example."""
    strength = (1 - ICC) / ICC
    rate = rng.beta(p * strength, (1 - p) * strength, (examples, 1))
    tables = []
    for model in models:
        changed = rng.random((examples, trials)) < rate
        fprs, tprs = np.array(model).T
        said = rng.random((examples, trials))[..., np.newaxis] < np.where(changed[..., np.newaxis], tprs, fprs)
        flips = changed[..., np.newaxis]
        cells = (flips & said, flips & ~said, ~flips & said, ~flips & ~said)
        tables.append(np.stack([cell.sum(axis=1) for cell in cells], axis=-1))
    return tables


def truth(plan: Plan) -> NDArray[np.float64]:
    """The planted gap at each level of the pretrained model."""
    (fpr, tpr), (x, y) = (np.array(model).T[:, np.newaxis] for model in (plan.tuned, plan.pretrained))
    gaps: NDArray[np.float64] = (frontier_at(fpr, tpr, x) - y)[0]
    return gaps


def cell(number: int, plan: Plan, size: tuple[int, int, float], sets: int, pairs: int = 1) -> dict[str, Any]:
    """How often each claim is made of the first pair, and (of several) of any pair."""
    claims: Counter[str] = Counter()
    planted, bias = truth(plan), []
    any_dominance = 0
    for one in range(sets):
        rng = seeded(FIRST_CELL + number, one)
        gaps = []
        for _ in range(pairs):
            tuned, pretrained = draw((plan.tuned, plan.pretrained), *size, rng)
            gaps.append(gaps_of(tuned, pretrained, LEVELS))
        found = dominances(gaps)
        claims[str(found[0].claim)] += 1
        any_dominance += any(pair.claim in ("first_dominates", "second_dominates") for pair in found)
        bias += [gap.value - at for gap, at in zip(gaps[0], planted, strict=True) if gap.value is not None]
    return {
        "plan": plan.name, "examples": size[0], "trials": size[1], "p": size[2], "pairs": pairs, "sets": sets,
        "bias": float(np.mean(bias)), "any_dominance": any_dominance / sets,
        **{name: claims[name] / sets for name in
           ("first_dominates", "second_dominates", "trade_off", "neither_shown", "None")},
    }  # fmt: skip


def table_of(cells: list[dict[str, Any]]) -> str:
    """A Markdown table, shares in %."""
    heads = (
        "planted",
        "examples",
        "p",
        "pairs",
        "tuned dominates",
        "pretrained dominates",
        "trade-off",
        "any dominance",
        "bias",
    )
    rows = [
        [
            one["plan"], f"{one['examples']:,} × {one['trials']}", f"{one['p']:g}", str(one["pairs"]),
            *(f"{100 * one[name]:.1f}" for name in
              ("first_dominates", "second_dominates", "trade_off", "any_dominance")),
            f"{one['bias']:+.3f}",
        ]
        for one in cells
    ]  # fmt: skip
    return markdown(heads, rows)


def main() -> None:
    """Parse, compute, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=400, help="data sets a cell")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    cells = [
        cell(10 * at + number, plan, size, asked.sets)
        for at, size in enumerate(SIZES)
        for number, plan in enumerate(PLANS)
    ]
    higher = next(plan for plan in PLANS if plan.name == ".15 higher everywhere")
    cells += [cell(200 + at, higher, size, asked.sets) for at, size in enumerate(SIZES_BETWEEN)]
    cells += [
        cell(100 + number, plan, SIZES[1], max(1, asked.sets // 4), FAMILY)
        for number, plan in enumerate(PLANS)
        if plan.name.startswith(("equal", ".15 higher e"))
    ]
    print(json.dumps(cells, indent=1) if asked.json else table_of(cells))


if __name__ == "__main__":
    main()
