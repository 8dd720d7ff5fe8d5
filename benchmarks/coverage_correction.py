"""Does phi corrected by a sheet that people judged cover the truth where `word` errs in ways that depend on impact?

    python benchmarks/coverage_correction.py               # 2,000 data sets and sheets a cell, about 3 minutes
    python benchmarks/coverage_correction.py --sets 200
    python benchmarks/coverage_correction.py --sets 200 --wrong 0.03

Planted: an explanation mentions the insertion at TPR where the answer changed, at FPR where it did not. `word` misses a
share of these mentions (synonyms), one where the answer changed and another where it did not, and sees 2 % that are not
there. Sheets of 100 and 200 rows are drawn equally from the four cells, and people judge them rightly, but for a share
`--wrong` of the rows. Counted: how often the interval holds the planted value, for phi, TPR, FPR and J, corrected, and
for phi as `word` counts it. `--json` prints one document. Seeds are fixed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from typing import Any

import numpy as np
from coverage_numbers import INTERVAL, seeded
from coverage_sizes import markdown
from coverage_worlds import MIDDLE, World
from numpy.typing import NDArray

from explaineval.metrics.correlations import phi_cct
from explaineval.metrics.reliability import allocate, correct

SHEETS = (100, 200)
IMPACT_RATES = (0.05, 0.10, 0.30)
CORRELATIONS = (0.0, 0.4)
RATES = ((0.6, 0.2), (0.2, 0.04), (0.9, 0.5))
MISSES = ((0.5, 0.1), (0.1, 0.5), (0.3, 0.3))
"""Shares of mentions that `word` misses, where the answer changed and where it did not."""

SEEN_WRONGLY = 0.02
NAMES = ("phi", "tpr", "fpr", "youden_j")
FIRST_CELL = 5000
LEAST, MOST = 0.93, 0.97


def draw(world: World, misses: tuple[float, float], rng: np.random.Generator) -> tuple[Any, Any]:
    """Tables (G, 4) as `word` decides, and how many trials of each cell truly mention the insertion, (4,)."""
    data = world.draw(rng)
    changed, said = data.changed, data.mentioned[..., MIDDLE]
    missed = rng.random(changed.shape) < np.where(changed, *misses)
    seen = np.where(said, ~missed, rng.random(changed.shape) < SEEN_WRONGLY)
    cells = (changed & seen, changed & ~seen, ~changed & seen, ~changed & ~seen)
    return np.stack([cell.sum(axis=1) for cell in cells], axis=1), np.array([(cell & said).sum() for cell in cells])


def people(
    sizes: NDArray[np.int64], true: NDArray[np.int64], rows: int, rng: np.random.Generator, wrong: float = 0.0
) -> tuple[Any, Any]:
    """A sheet of so many rows: how many of each cell are called mentioned, and how many were judged."""
    judged = allocate(sizes.tolist(), rows)
    called = [rng.hypergeometric(true[cell], sizes[cell] - true[cell], judged[cell]) for cell in range(4)]
    if wrong:
        of = zip(called, judged, strict=True)
        called = [rng.binomial(said, 1 - wrong) + rng.binomial(all_ - said, wrong) for said, all_ in of]
    return called, judged


def measure(
    cell: int, world: World, misses: tuple[float, float], rows: int, sets: int, wrong: float = 0.0
) -> dict[str, Any]:
    """Coverage of every number in one cell, its share with an interval, mean width, and the bias of phi."""
    truths = {name: world.truths["phi_cct" if name == "phi" else name] for name in NAMES}
    hits, widths = (np.full((sets, len(NAMES)), np.nan) for _ in range(2))
    as_counted, values = np.full(sets, np.nan), np.full(sets, np.nan)
    for number in range(sets):
        rng = seeded(FIRST_CELL + cell, number)
        tables, true = draw(world, misses, rng)
        called, judged = people(tables.sum(axis=0), true, rows, rng, wrong)
        found = correct(tables, called, judged)
        values[number] = math.nan if found.phi.value is None else found.phi.value
        for column, name in enumerate(NAMES):
            one = getattr(found, name)
            if one.low is not None and one.high is not None:
                hits[number, column] = one.low <= truths[name] <= one.high
                widths[number, column] = one.high - one.low
        plain = phi_cct(tables, INTERVAL)
        if plain.low is not None and plain.high is not None:
            as_counted[number] = plain.low <= truths["phi"] <= plain.high
    return {
        "p": world.p, "icc": world.icc, "rates": f"TPR {world.tpr:g}, FPR {world.fpr:g}", "misses": misses,
        "rows": rows, "sets": sets, "truth": truths["phi"], "bias": float(np.nanmean(values) - truths["phi"]),
        "as_counted": float(np.nanmean(as_counted)),
        **{
            name: {
                "coverage": float(np.nanmean(hits[:, column])),
                "with_interval": float(np.isfinite(hits[:, column]).mean()),
                "width": float(np.nanmean(widths[:, column])),
            }
            for column, name in enumerate(NAMES)
        },
    }  # fmt: skip


def table_of(cells: list[dict[str, Any]]) -> str:
    """A Markdown table: coverage in % and mean width of phi; coverage of TPR, FPR and J; of phi as counted."""
    heads = (
        "p",
        "ICC",
        "planted",
        "missed",
        "rows",
        "phi",
        "bias",
        "phi corrected, width",
        "TPR",
        "FPR",
        "J",
        "as counted",
    )
    rows = []
    for cell in cells:
        phi = cell["phi"]
        rare = "" if phi["with_interval"] > 0.995 else f" ({phi['with_interval']:.0%} have one)"
        rows.append([
            f"{cell['p']:g}", f"{cell['icc']:g}", cell["rates"],
            "{:.0%}, {:.0%}".format(*cell["misses"]), str(cell["rows"]), f"{cell['truth']:.2f}", f"{cell['bias']:+.3f}",
            f"{100 * phi['coverage']:.1f}{rare}, {phi['width']:.2f}",
            *(f"{100 * cell[name]['coverage']:.1f}" for name in NAMES[1:]), f"{100 * cell['as_counted']:.1f}",
        ])  # fmt: skip
    return markdown(heads, rows)


def outside(cells: list[dict[str, Any]]) -> list[str]:
    """Name every coverage outside 93 to 97 % by more than two standard errors."""
    found = []
    for cell, name in itertools.product(cells, NAMES):
        coverage = cell[name]["coverage"]
        error = math.sqrt(max(coverage * (1 - coverage), 1e-9) / (cell["sets"] * cell[name]["with_interval"]))
        if coverage < LEAST - 2 * error or coverage > MOST + 2 * error:
            where = f"p {cell['p']:g}, ICC {cell['icc']:g}, {cell['rates']}, {cell['rows']} rows"
            missed = "{:.0%} and {:.0%} missed".format(*cell["misses"])
            found.append(f"{name} at {where}, {missed}: {coverage:.1%}")
    return found


def main() -> None:
    """Parse, compute, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=2000, help="data sets a cell")
    parser.add_argument("--wrong", type=float, default=0.0, help="share of the grades that are wrong at random")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    product = list(itertools.product(IMPACT_RATES, CORRELATIONS, RATES, MISSES, SHEETS))
    cells = []
    for number, (p, icc, (tpr, fpr), misses, rows) in enumerate(product):
        cells.append(measure(number, World(p, icc, tpr, fpr), misses, rows, asked.sets, asked.wrong))
        print(f"{number + 1}/{len(product)}", file=sys.stderr, flush=True)
    if asked.json:
        print(json.dumps(cells, indent=1))
        return
    lines = "\n".join(f"- {line}" for line in outside(cells)) or "- nothing"
    print(f"{table_of(cells)}\n\nNot within 93 to 97 %:\n\n{lines}")


if __name__ == "__main__":
    main()
