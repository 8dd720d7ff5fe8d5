"""Does phi's interval still hold 95 % where a run stops as soon as it is narrow enough, and what does that save?

    python benchmarks/stopping.py                # 58 cells × 2,000 data sets, about ten minutes
    python benchmarks/stopping.py --sets 50      # a quick look

The worlds are those of coverage.py, and six in which explanations mention nearly everything. A data set is asked in
looks of 50 examples, up to 1,000, and stops by the rule of `run --until-half-width 0.1`, the package's own function.
`plan --half-width 0.1` gives a fixed number of examples: with the true rates of the cell, which nobody knows
beforehand, or for safety that of the cell that needs the most. Seeds are fixed.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from dataclasses import replace
from typing import Any

import coverage_sizes
import numpy as np
from coverage_worlds import MIDDLE, World, all_worlds, unmentioned_worlds

from explaineval.metrics.correlations import phi_cct
from explaineval.metrics.estimates import Interval
from explaineval.metrics.precision import expect, is_precise

HALF_WIDTH, LOOK, MOST = 0.1, 50, 1000
INTERVAL = Interval()
VERBOSE = [World(p, 0.4, tpr, fpr) for p in (0.05, 0.1, 0.3) for tpr, fpr in ((0.97, 0.9), (0.98, 0.98))]


def stop(world: World, rng: np.random.Generator) -> tuple[int, float | None, bool | None]:
    """Return where one data set stops: examples, phi, and whether its interval holds the truth (None: no interval)."""
    tables = world.draw(rng).tables()[:, MIDDLE]
    asked = next((n for n in range(LOOK, MOST, LOOK) if is_precise(tables[:n], HALF_WIDTH, INTERVAL)), MOST)
    found = phi_cct(tables[:asked], INTERVAL)
    if found.low is None or found.high is None:
        return asked, found.value, None
    return asked, found.value, found.low <= world.truths["phi_cct"] <= found.high


def measure(world: World, cell: int, sets: int) -> dict[str, Any]:
    """One cell over all data sets."""
    world = replace(world, examples=MOST)
    found = [stop(world, np.random.default_rng([2026, cell, number])) for number in range(sets)]
    asked = np.array([one[0] for one in found])
    held = [one[2] for one in found if one[2] is not None]
    values = [one[1] for one in found if one[1] is not None]
    fixed = expect(world.p, world.tpr, world.fpr, world.icc, world.trials).examples_needed(HALF_WIDTH)
    return {
        "p": world.p, "icc": world.icc, "trials": world.trials, "tpr": world.tpr, "fpr": world.fpr, "sets": sets,
        "coverage": float(np.mean(held)), "bias": float(np.mean(values)) - world.truths["phi_cct"],
        "asked": float(asked.mean()), "at_most": int(np.quantile(asked, 0.95)),
        "to_the_end": float((asked == MOST).mean()), "fixed": fixed,
    }  # fmt: skip


def table(cells: list[dict[str, Any]], safe: int) -> str:
    """A Markdown table; `safe` is the number of examples that suffices in all cells."""
    heads = (
        "p", "ICC", "×", "TPR, FPR", "coverage", "bias of phi", "mean examples", "95 % stop by", "plan with true rates",
        f"saved of {safe}",
    )  # fmt: skip
    rows = [
        [
            f"{cell['p']:g}", f"{cell['icc']:g}", str(cell["trials"]), f"{cell['tpr']:g}, {cell['fpr']:g}",
            f"{cell['coverage']:.1%}", f"{cell['bias']:+.3f}", f"{cell['asked']:.0f}", str(cell["at_most"]),
            str(cell["fixed"]), f"{1 - cell['asked'] / safe:.0%}",
        ]
        for cell in cells
    ]  # fmt: skip
    return coverage_sizes.markdown(heads, rows)


def run(sets: int) -> tuple[list[dict[str, Any]], str]:
    """All cells, and what stands in benchmarks/coverage.md."""
    worlds, cells = [*all_worlds(), *unmentioned_worlds(), *VERBOSE], []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for cell, world in enumerate(worlds):
            cells.append(measure(world, cell, sets))
            print(f"{cell + 1}/{len(worlds)} {world.name}", file=sys.stderr, flush=True)
    safe = max(cell["fixed"] for cell in cells)
    worst, saved = min(cell["coverage"] for cell in cells), np.mean([1 - cell["asked"] / safe for cell in cells])
    most, more = max(abs(cell["bias"]) for cell in cells), np.mean([cell["asked"] - cell["fixed"] for cell in cells])
    said = (
        f"Lowest coverage {worst:.1%}, largest bias {most:.3f}. A plan of {safe} examples suffices in every cell; of "
        f"these {saved:.0%} are saved on average. Against a plan with the true rates {more:.0f} more are asked, since "
        f"a run stops only every {LOOK} examples."
    )
    return cells, f"{table(cells, safe)}\n\n{said}"


def main() -> None:
    """Parse, compute, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=2000)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    cells, text = run(asked.sets)
    print(json.dumps(cells, indent=1) if asked.json else text)


if __name__ == "__main__":
    main()
