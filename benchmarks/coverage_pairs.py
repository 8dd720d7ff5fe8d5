"""Do comparisons hold what they promise? Paired intervals, and false claims in families of equal models.

    python benchmarks/coverage_pairs.py                 # about 10 minutes
    python benchmarks/coverage_pairs.py --sets 200 --families 100
    python benchmarks/coverage_claims.py                # about 6 minutes: what sentences claim

Pairs: two models with planted TPR and FPR answer the same insertions; an example that is unstable for one is unstable
for the other. Counted: how often the 95 % interval of the difference holds the true difference, and how often two equal
models are told apart. Families: 12 equal models at the default settings; counted: families with any false claim among
the 66 pairs, with max-t (the default) and against a reference. Seeds are fixed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from typing import Any

import numpy as np
from coverage_numbers import seeded
from coverage_sizes import markdown
from coverage_worlds import World
from numpy.typing import NDArray

from explaineval.metrics.correlations import phi_values
from explaineval.metrics.differences import Measured, compare_pairs, compare_with_reference, measure

FAMILY = 12
SIZES = ((200, 4), (200, 6), (60, 4))
IMPACT_RATES = (0.05, 0.1, 0.3)
CORRELATIONS = (0.0, 0.4)
PAIRS = (((0.6, 0.2), (0.6, 0.2)), ((0.6, 0.2), (0.4, 0.2)), ((0.8, 0.3), (0.5, 0.1)))
"""TPR and FPR of the first and of the second model."""

DRAWS = 4000


def draw_together(
    world: World, rates: tuple[tuple[float, float], ...], rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Tables (G, 4) of several models whose answers change at the same rate in each example."""
    impact = np.full((world.examples, 1), world.p)
    if world.icc:
        strength = (1 - world.icc) / world.icc
        impact = rng.beta(world.p * strength, (1 - world.p) * strength, (world.examples, 1))
    tables = []
    for tpr, fpr in rates:
        changed = rng.random((world.examples, world.trials)) < impact
        said = rng.random(changed.shape) < np.where(changed, tpr, fpr)
        cells = (changed & said, changed & ~said, ~changed & said, ~changed & ~said)
        tables.append(np.stack([cell.sum(axis=1) for cell in cells], axis=1))
    return tables


def measured(tables: NDArray[np.int64]) -> Measured:
    """phi of one model on the shared trials."""
    return measure(tables.astype(float), phi_values, int((tables[:, 0] > 0).sum()), "a mentioned change", 0)


def pair_cell(cell: int, p: float, icc: float, size: tuple[int, int], pair: Any, sets: int) -> dict[str, Any]:
    """Coverage of the paired interval in one cell, and how often the difference is called significant."""
    worlds = [World(p, icc, tpr, fpr, examples=size[0], trials=size[1]) for tpr, fpr in pair]
    truth = worlds[0].truths["phi_cct"] - worlds[1].truths["phi_cct"]
    hits, claims, defined = 0, 0, 0
    for number in range(sets):
        systems = [measured(tables) for tables in draw_together(worlds[0], pair, seeded(cell, number))]
        row = compare_pairs(systems).differences[0]
        if row.low is None or row.high is None:
            continue
        defined += 1
        hits += row.low <= truth <= row.high
        claims += row.significant
    return {
        "p": p, "icc": icc, "examples": size[0], "trials": size[1], "pair": pair, "truth": truth, "sets": sets,
        "defined": defined / sets, "coverage": hits / defined if defined else None,
        "claims": claims / defined if defined else None,
    }  # fmt: skip


def family_cell(cell: int, p: float, icc: float, size: tuple[int, int], families: int) -> dict[str, Any]:
    """The share of families of equal models with any false claim."""
    world = World(p, icc, 0.6, 0.2, examples=size[0], trials=size[1])
    false = dict.fromkeys(("max-t", "reference"), 0)
    for number in range(families):
        systems = [measured(tables) for tables in draw_together(world, ((0.6, 0.2),) * FAMILY, seeded(cell, number))]
        pairs = compare_pairs(systems, seed=number, draws=DRAWS)
        false["max-t"] += any(row.significant for row in pairs.differences)
        false["reference"] += any(row.significant for row in compare_with_reference(systems, 0).differences)
    return {
        "p": p, "icc": icc, "examples": size[0], "trials": size[1], "families": families,
        **{name: count / families for name, count in false.items()},
    }  # fmt: skip


def run(sets: int, families: int) -> tuple[dict[str, Any], str]:
    """Both tables."""
    cells = list(itertools.product(IMPACT_RATES, CORRELATIONS, SIZES))
    pairs, sets_of_models = [], []
    for number, (p, icc, size) in enumerate(cells):
        pairs += [pair_cell(100 * number + at, p, icc, size, pair, sets) for at, pair in enumerate(PAIRS)]
        sets_of_models.append(family_cell(100 * number + 50, p, icc, size, families))
        print(f"{number + 1}/{len(cells)}", file=sys.stderr, flush=True)
    heads = ("p", "ICC", "examples × insertions", "TPR, FPR of each", "true difference", "coverage", "told apart")
    rows = [
        [
            f"{cell['p']:g}", f"{cell['icc']:g}", f"{cell['examples']} × {cell['trials']}",
            " and ".join(f"{tpr:g}, {fpr:g}" for tpr, fpr in cell["pair"]), f"{cell['truth']:+.3f}",
            "–" if cell["coverage"] is None else f"{cell['coverage']:.1%}",
            "–" if cell["claims"] is None else f"{cell['claims']:.1%}",
        ]
        for cell in pairs
    ]  # fmt: skip
    family_rows = [
        [
            f"{cell['p']:g}", f"{cell['icc']:g}", f"{cell['examples']} × {cell['trials']}", str(cell["families"]),
            f"{cell['max-t']:.1%}", f"{cell['reference']:.1%}",
        ]
        for cell in sets_of_models
    ]  # fmt: skip
    text = "\n\n".join(
        (
            f"Paired intervals of a difference in phi-CCT, {sets} data sets a cell:",
            markdown(heads, rows),
            f"Families of {FAMILY} equal models: share with any false claim among 66 pairs, or against a reference:",
            markdown(("p", "ICC", "examples × insertions", "families", "all pairs", "reference"), family_rows),
        )
    )
    return {"pairs": pairs, "families": sets_of_models}, text


def main() -> None:
    """Parse, compute, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=2000)
    parser.add_argument("--families", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    document, text = run(asked.sets, asked.families)
    print(json.dumps(document, indent=1) if asked.json else text)


if __name__ == "__main__":
    main()
