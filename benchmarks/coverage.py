"""Do the 95 % intervals hold what they promise? Planted worlds, the package's own numbers, counted coverage.

    python benchmarks/coverage.py                        # 52 cells × 2,000 data sets of 200 × 6 or × 4, about 8 minutes
    python benchmarks/coverage.py --through pipeline     # 2 data sets a cell from completions to metric rows
    python benchmarks/coverage.py --through http         # 20 data sets by `explaineval run` against a local server
    python benchmarks/coverage.py --levels               # F-AUROC where the order of the levels is not sure
    python benchmarks/coverage.py --sizes                # how many examples an interval needs; what noise does to phi

`--sets N` sets the number of data sets, `--chatter R` lets mentions be correlated within examples, `--json` prints one
document instead of tables. Seeds are fixed: a data set is the same in all modes and runs.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import warnings
from collections.abc import Callable
from typing import Any

import coverage_levels
import coverage_paths
import coverage_sizes
import numpy as np
from coverage_numbers import estimates, seeded
from coverage_worlds import MIDDLE, World, all_worlds, unmentioned_worlds
from numpy.typing import NDArray

NAMES = ("phi_cct", "cct", "cct_graded", "tpr", "fpr", "youden_j", "g_mean2", "g_mean2_control", "f_auroc")
FEW, ENOUGH = 5, 20
"""Examples with a mentioned flip: from FEW on intervals must hold, from ENOUGH on they must not be too wide either."""

LEAST, MOST = 0.93, 0.97
SHOWN_FROM = 100
"""Data sets of a kind from which on their coverage is shown: a standard error of 2.2 % at the most."""

DEFAULT_SETS = {"tables": 2000, "pipeline": 2, "http": 20}


def measure(world: World, cell: int, sets: int) -> dict[str, Any]:
    """Coverage and width of each number's interval in one cell, over all data sets and over those with A ≥ 5, ≥ 20."""
    carriers = np.zeros(sets, dtype=np.int64)
    hits, widths = (np.full((sets, len(NAMES)), np.nan) for _ in range(2))
    for number in range(sets):
        draw = world.draw(seeded(cell, number))
        carriers[number] = (draw.changed & draw.mentioned[..., MIDDLE]).any(axis=1).sum()
        for column, (name, found) in enumerate(estimates(draw).items()):
            if found.low is not None and found.high is not None:
                hits[number, column] = found.low <= world.truths[name] <= found.high
                widths[number, column] = found.high - found.low
    few, enough = carriers >= FEW, carriers >= ENOUGH
    return {
        "name": world.name, "p": world.p, "icc": world.icc, "tpr": world.tpr, "fpr": world.fpr,
        "trials": world.trials, "chatter": world.chatter, "sets": sets,
        "mean_carriers": float(carriers.mean()), "sets_5": int(few.sum()), "sets_20": int(enough.sum()),
        "metrics": {
            name: {
                "truth": world.truths[name],
                "coverage": _mean(hits[:, column]),
                "coverage_5": _mean(hits[few, column]),
                "coverage_20": _mean(hits[enough, column]),
                "with_interval": float(np.isfinite(hits[:, column]).mean()),
                "with_interval_5": float(np.isfinite(hits[few, column]).mean()) if few.any() else None,
                "width": _mean(widths[:, column]),
            }
            for column, name in enumerate(NAMES)
        },
    }  # fmt: skip


def _mean(values: NDArray[np.float64]) -> float | None:
    """The mean of what there is."""
    there = values[np.isfinite(values)]
    return float(there.mean()) if len(there) else None


def verdicts(cells: list[dict[str, Any]]) -> list[str]:
    """Every coverage that is not as required, beyond what the number of data sets leaves to chance."""
    found = []
    for cell in cells:
        for name, one in cell["metrics"].items():
            where = f"{name} at {cell['name']}"
            for key, least, most in (("5", LEAST, 1.0), ("20", LEAST, MOST)):
                coverage, sets = one[f"coverage_{key}"], cell[f"sets_{key}"]
                if coverage is None or sets < SHOWN_FROM or least <= coverage <= most:
                    continue
                error = math.sqrt(coverage * (1 - coverage) / sets)
                far = min(abs(coverage - least), abs(coverage - most)) > 2 * error
                rare = ", a rare kind of data set here" if sets < cell["sets"] / 2 else ""
                found.append(
                    f"{where}: {coverage:.1%} of the {sets} data sets with A ≥ {key}{rare}"
                    + ("" if far else " (within two standard errors of the limit)")
                )
    return found


def tables_of(cells: list[dict[str, Any]]) -> str:
    """Two Markdown tables: coverage where A ≥ 5 / A ≥ 20; coverage of all, share with an interval, mean width."""
    numbers = ("phi", "CCT", "CCT graded", "TPR", "FPR", "J", "g²", "g² control", "F-AUROC")
    sizes = len({cell["trials"] for cell in cells}) > 1
    heads = ("p", "ICC", *(["×"] if sizes else []), "TPR, FPR", "mean A", "A ≥ 5", "A ≥ 20", *numbers)
    first, second = [], []
    for cell in cells:
        sets, found = cell["sets"], cell["metrics"].values()
        start = [f"{cell['p']:g}", f"{cell['icc']:g}", *([str(cell["trials"])] if sizes else [])]
        start.append(f"{cell['tpr']:g}, {cell['fpr']:g}")
        start += [f"{cell['mean_carriers']:.1f}", f"{cell['sets_5'] / sets:.0%}", f"{cell['sets_20'] / sets:.0%}"]
        first.append([*start, *(f"{_shown(one, cell, '5')} / {_shown(one, cell, '20')}" for one in found)])
        second.append([*start, *map(_all_sets, found)])
    return "\n\n".join(
        (
            "Coverage in % where A ≥ 5 / where A ≥ 20 (A: examples with a mentioned flip):",
            coverage_sizes.markdown(heads, first),
            "Coverage in % over all data sets with an interval, their share, mean width of the interval:",
            coverage_sizes.markdown(heads, second),
        )
    )


def _shown(one: dict[str, Any], cell: dict[str, Any], key: str) -> str:
    coverage = one[f"coverage_{key}"]
    return "–" if coverage is None or cell[f"sets_{key}"] < SHOWN_FROM else f"{100 * coverage:.1f}"


def _all_sets(one: dict[str, Any]) -> str:
    if one["coverage"] is None:
        return "–"
    return f"{100 * one['coverage']:.1f}, {one['with_interval']:.0%}, {one['width']:.3f}"


def run_tables(sets: int, chatter: float) -> tuple[list[dict[str, Any]], str]:
    """The main computation."""
    cells, worlds = [], [*all_worlds(chatter), *unmentioned_worlds(chatter)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for cell, world in enumerate(worlds):
            cells.append(measure(world, cell, sets))
            print(f"{cell + 1}/{len(worlds)} {world.name}", file=sys.stderr, flush=True)
    found = verdicts(cells)
    lines = "\n".join(f"- {line}" for line in found) or "- nothing"
    said = f"Not within at least 93 % (A ≥ 5) and 93 to 97 % (A ≥ 20):\n\n{lines}"
    main = sum(1 for _ in all_worlds())
    few = "Where answers change rarely and few of the changed ones go unmentioned (× is the interventions an example):"
    return cells, f"{tables_of(cells[:main])}\n\n{few}\n\n{tables_of(cells[main:])}\n\n{said}"


def main() -> None:
    """Parse, compute, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--through", choices=tuple(DEFAULT_SETS), default="tables")
    parser.add_argument("--sets", type=int, help="data sets a cell (http: in all)")
    parser.add_argument("--chatter", type=float, default=0.0, help="intra-class correlation of readiness to mention")
    parser.add_argument("--levels", action="store_true")
    parser.add_argument("--sizes", action="store_true")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    sets = asked.sets or DEFAULT_SETS[asked.through]
    result: tuple[Any, str]
    planted: Callable[[int], tuple[Any, str]]
    if asked.sizes:
        result = coverage_sizes.run()
    elif asked.levels:
        result = coverage_levels.run(asked.sets or 1000)
    elif asked.through == "tables":
        result = run_tables(sets, asked.chatter)
    else:
        planted = coverage_paths.run_pipeline if asked.through == "pipeline" else coverage_paths.run_http
        result = planted(sets)
    print(json.dumps(result[0], indent=1) if asked.json else result[1])


if __name__ == "__main__":
    main()
