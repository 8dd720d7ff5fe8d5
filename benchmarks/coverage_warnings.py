"""How often warnings are given (noise, few texts, explanations that follow the answer), and whether plans are kept.

    python benchmarks/coverage_warnings.py            # all four tables, about two minutes
    python benchmarks/coverage_warnings.py noise      # or one of: noise, texts, answers, plan

Planted tables are judged by the functions that warn in runs. Seeds are fixed; `--json` prints one document.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from coverage_sizes import markdown
from numpy.typing import NDArray
from scipy.special import expit
from scipy.special import logit as log_odds

from explaineval.metrics.correlations import phi_by_letter, phi_cct, phi_over_texts
from explaineval.metrics.estimates import Interval
from explaineval.metrics.precision import (
    HALF,
    NINE_IN_TEN,
    examples_for,
    is_precise,
    pilot,
    piloted_population,
    population,
)
from explaineval.metrics.reliability import noise_margin
from explaineval.scoring.metric import find_noise

Bools = NDArray[np.bool_]
Table = tuple[list[dict[str, Any]], str]


def tables_of(changed: Bools, mentioned: Bools, chosen: Bools | bool = True) -> NDArray[np.int64]:
    """Per-example counts a, b, c, d of the chosen among trials (G, K)."""
    cells = (changed & mentioned, changed & ~mentioned, ~changed & mentioned, ~changed & ~mentioned)
    return np.stack([(cell & chosen).sum(axis=1) for cell in cells], axis=1)


def stability(rng: np.random.Generator, rate: float, icc: float, examples: int) -> NDArray[np.float64]:
    """The rate at which each example's answer changes, (G, 1): beta with this mean and intra-class correlation."""
    if not icc:
        return np.full((examples, 1), rate)
    strength = (1 - icc) / icc
    return rng.beta(rate * strength, (1 - rate) * strength, (examples, 1))


def noise(sets: int) -> Table:
    """Answers that change by noise alone, and answers that only the insertion changes."""
    rows = []
    sizes = ((72, 5, 1), (100, 4, 1), (100, 4, 3), (400, 4, 1))
    rates = (0.02, 0.05, 0.07, 0.1, 0.3)
    for cell, ((examples, trials, shams), rate, icc) in enumerate(itertools.product(sizes, rates, (0.0, 0.4))):
        for is_noise in (True, False):
            rng, found = np.random.default_rng([31, cell, is_noise]), Counter[str]()
            for _ in range(sets):
                own = stability(rng, rate, icc, examples)
                flips = (rng.random((examples, trials)) < own).sum(axis=1)
                again = (rng.random((examples, shams)) < (own if is_noise else 0.0)).sum(axis=1)
                size = np.full(examples, trials), np.full(examples, shams)
                warned = find_noise(noise_margin(flips, size[0], again, size[1]))
                found["more than noise" if warned is None else warned[0]] += 1
            rows.append(
                {"examples": examples, "trials": trials, "shams": shams, "rate": rate, "icc": icc, "is_noise": is_noise}
                | {name: found[name] / sets for name in ("more than noise", "noise_not_excluded", "noise")}
            )
    heads = ("examples × insertions, shams", "p", "ICC", "changes", "no warning", "mind", "do not quote")
    lines = [
        [f"{one['examples']} × {one['trials']}, {one['shams']}", f"{one['rate']:g}", f"{one['icc']:g}",
         "all noise" if one["is_noise"] else "no noise",
         *(f"{one[name]:.1%}" for name in ("more than noise", "noise_not_excluded", "noise"))]
        for one in rows
    ]  # fmt: skip
    return rows, f"What is said of noise ({sets} data sets a line):\n\n{markdown(heads, lines)}"


SPREAD = 0.8
"""Standard deviation, on the logit scale, of how readily words are mentioned and change answers."""

TRUTH_WORDS = 200_000


def texts(sets: int) -> Table:
    """Coverage over words: pools of words that differ in how readily they are mentioned and change answers."""
    rows = []
    for cell, (pool, rate) in enumerate(itertools.product((20, 100, 1000), (0.1, 0.3))):
        base = log_odds([rate, 0.6, 0.2])

        def shares(rng: np.random.Generator, words: int, base: NDArray[np.float64] = base) -> NDArray[np.float64]:
            own: NDArray[np.float64] = expit(base[:, np.newaxis] + rng.normal(0, SPREAD, (3, words)))
            return own

        p, tpr, fpr = shares(np.random.default_rng(32), TRUTH_WORDS)
        cells = (p * tpr, p * (1 - tpr), (1 - p) * fpr, (1 - p) * (1 - fpr))
        truth = phi_of(*(float(one.mean()) for one in cells))
        rng, hits, wider, examples, trials = np.random.default_rng([33, cell]), np.zeros(2), 0, 200, 4
        defined = 0
        for _ in range(sets):
            p, tpr, fpr = shares(rng, pool)
            words = np.stack([rng.choice(pool, trials, replace=False) for _ in range(examples)])
            changed = rng.random(words.shape) < p[words]
            mentioned = rng.random(words.shape) < np.where(changed, tpr[words], fpr[words])
            numbers = np.where(changed, np.where(mentioned, 0, 1), np.where(mentioned, 2, 3))
            by_text = np.bincount(4 * words.ravel() + numbers.ravel(), minlength=4 * pool).reshape(-1, 4)
            single = np.eye(4, dtype=np.int64)[numbers.ravel()]
            plain = phi_cct(tables_of(changed, mentioned), Interval())
            both = phi_over_texts(tables_of(changed, mentioned), by_text, single)
            if None in (plain.low, both.low):
                continue
            defined += 1
            limits = [(cast(float, one.low), cast(float, one.high)) for one in (plain, both)]
            hits += [low <= truth <= high for low, high in limits]
            wider += limits[1][1] - limits[1][0] > 1.2 * (limits[0][1] - limits[0][0])
        rows.append(
            {"pool": pool, "p": rate, "truth": truth, "sets": defined, "examples_only": hits[0] / defined}
            | {"with_texts": hits[1] / defined, "wider": wider / defined}
        )
    heads = ("words", "p", "phi", "covered over examples alone", "over examples and texts", "wider by a fifth")
    lines = [
        [str(one["pool"]), f"{one['p']:g}", f"{one['truth']:.2f}",
         *(f"{one[name]:.1%}" for name in ("examples_only", "with_texts", "wider"))]
        for one in rows
    ]  # fmt: skip
    return rows, (
        f"Coverage over other words and examples, 200 × 4, {sets} data sets a line. Words differ in how readily they "
        f"change an answer and are mentioned (standard deviation {SPREAD} on the logit scale):\n\n"
        f"{markdown(heads, lines)}"
    )


def phi_of(a: float, b: float, c: float, d: float) -> float:
    """phi of shares."""
    return (a * d - b * c) / math.sqrt((a + b) * (c + d) * (a + c) * (b + d))


def answers(sets: int) -> Table:
    """Mentions that follow the answer given and nothing else, answers that change by noise; and honest explainers."""
    rows = []
    worlds: list[tuple[str, Callable[[Bools, NDArray[np.int64]], NDArray[np.float64]]]] = [
        ("B .6, else .1", lambda _, after: np.where(after == 1, 0.6, 0.1)),
        ("B .4, else .2", lambda _, after: np.where(after == 1, 0.4, 0.2)),
        ("change .6, else .2", lambda changed, _: np.where(changed, 0.6, 0.2)),
        ("change .4, else .2", lambda changed, _: np.where(changed, 0.4, 0.2)),
    ]
    shares = (0.5, 0.8, 0.95)
    for cell, ((name, law), share, rate, options) in enumerate(itertools.product(worlds, shares, (0.05, 0.2), (2, 3))):
        rng, found, examples, trials = np.random.default_rng([34, cell]), Counter[str](), 200, 4
        for _ in range(sets):
            before = np.where(rng.random((examples, 1)) < share, 0, rng.integers(1, options, (examples, 1)))
            changed = rng.random((examples, trials)) < rate
            after = np.where(changed, (before + rng.integers(1, options, changed.shape)) % options, before)
            mentioned = rng.random(changed.shape) < law(changed, after)
            by_answer = np.stack([tables_of(changed, mentioned, after == one) for one in range(options)], axis=1)
            plain = phi_cct(tables_of(changed, mentioned), Interval())
            if plain.low is None or plain.low <= 0:
                continue
            found["above"] += 1
            within = phi_by_letter(by_answer)
            is_warned = within.low is None or within.low <= 0 <= cast(float, within.high)
            found["warned"] += is_warned
        rows.append(
            {"law": name, "share": share, "p": rate, "options": options, "above": found["above"] / sets}
            | {"unwarned": (found["above"] - found["warned"]) / sets}
        )
    heads = ("named at", "answer A before", "p", "options", "above 0", "above 0 without warning")
    lines = [
        [one["law"], f"{one['share']:g}", f"{one['p']:g}", str(one["options"]),
         *(f"{one[name]:.1%}" for name in ("above", "unwarned"))]
        for one in rows
    ]  # fmt: skip
    return rows, (
        "Explanations that name the insertion by the answer that they give, whether or not it changed (first "
        f"half), and by the change (second half); 200 × 4, {sets} data sets a line:\n\n{markdown(heads, lines)}"
    )


PILOTS, RUNS_OF_PILOT = 40, 25
"""Pilots of one size, and runs of each one's plan."""


def planned(sets: int) -> Table:
    """How many runs reach the half width that `plan` promises to half and to nine in ten: by known rates and pilots."""
    rows = []
    worlds = ((0.1, 0.6, 0.2, 0.4, 6), (0.3, 0.6, 0.2, 0.4, 4), (0.05, 0.8, 0.3, 0.2, 6), (0.1, 0.9, 0.5, 0.0, 4))
    for cell, (world, wanted) in enumerate(itertools.product(worlds, (0.1, 0.15))):
        known = population(*world)
        rng = np.random.default_rng([35, cell])
        sizes = [examples_for(known, wanted, share, 100) for share in (HALF, NINE_IN_TEN)]
        one = {"world": world, "wanted": wanted, "half": sizes[0], "nine": sizes[1]}
        for name, size in zip(("reached_half", "reached_nine"), sizes, strict=True):
            one[name] = np.mean([is_precise(run_of(world, size or 2, rng), wanted, Interval()) for _ in range(sets)])
        for examples in (60, 150):
            reached = []
            for number in range(PILOTS):
                first = run_of(world, examples, rng)
                try:
                    start = pilot(first).examples_needed(wanted)
                except ValueError:
                    continue
                size = start and examples_for(piloted_population(first, number), wanted, NINE_IN_TEN, start)
                if size:
                    drawn = (run_of(world, size, rng) for _ in range(RUNS_OF_PILOT))
                    reached.append(np.mean([is_precise(tables, wanted, Interval()) for tables in drawn]))
            one[f"pilot_{examples}"], one[f"told_{examples}"] = float(np.mean(reached)), len(reached) / PILOTS
        rows.append(one)
    heads = ("p, TPR, FPR, ICC, ×", "±", "half", "reached", "nine in ten", "reached", "pilot of 60", "pilot of 150")
    lines = [
        [", ".join(f"{x:g}" for x in one["world"]), f"{one['wanted']:g}",
         str(one["half"]), f"{one['reached_half']:.0%}", str(one["nine"]), f"{one['reached_nine']:.0%}",
         *(f"{one[f'pilot_{size}']:.0%} (told by {one[f'told_{size}']:.0%})" for size in (60, 150))]
        for one in rows
    ]  # fmt: skip
    return rows, (
        f"Runs that reach the half width which `plan --half-width` promises to half and to nine in ten of them: by the "
        f"true rates ({sets} runs), and nine in ten by {PILOTS} pilots with {RUNS_OF_PILOT} runs each:\n\n"
        f"{markdown(heads, lines)}"
    )


def run_of(world: tuple[float, float, float, float, int], examples: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """One run's tables."""
    p, tpr, fpr, icc, trials = world
    changed = rng.random((examples, trials)) < stability(rng, p, icc, examples)
    return tables_of(changed, rng.random(changed.shape) < np.where(changed, tpr, fpr))


TABLES: dict[str, tuple[Callable[[int], Table], int]] = {
    "noise": (noise, 500), "texts": (texts, 500), "answers": (answers, 500), "plan": (planned, 200),
}  # fmt: skip


def main() -> None:
    """Parse, compute, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", help="which tables; all without")
    parser.add_argument("--sets", type=int, help="data sets a line")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found = {}
    for name in asked.tables or TABLES:
        make, sets = TABLES[name]
        found[name] = make(asked.sets or sets)
    print(json.dumps({name: rows for name, (rows, _) in found.items()}, indent=1) if asked.json
          else "\n\n".join(text for _, text in found.values()))  # fmt: skip


if __name__ == "__main__":
    main()
