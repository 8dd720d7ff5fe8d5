"""Simulate breakdowns of planted worlds: coverage of the parts' intervals, effects found, and false claims.

Each world has examples whose tendency to change and to be explained differs, and six insertions each that have a part
of speech, a field, a position, a distance, a frequency, an answer before and after, and a base probability. One of
them may decide on impact or on mentions; none of the others does. All tests of a run are adjusted together, as
`explaineval breakdown` does.

    python benchmarks/coverage_breakdown.py [--runs 400] [--examples 300]
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from explaineval.metrics.correlations import phi_at_p_values, phi_by_letter, phi_values
from explaineval.metrics.differences import holm_adjusted
from explaineval.metrics.estimates import Interval
from explaineval.scoring.breakdown import SHOWN, Breakdown, compare_parts, find_letters
from explaineval.scoring.registry import FPR, IMPACT_RATE, MENTION_RATE, PHI_AT_P, PHI_CCT, TPR

Floats = NDArray[np.float64]
Draw = dict[str, NDArray[np.int64]]

PER_EXAMPLE = 6
LETTERS = 3
PARTS = {"pos": 2, "field": 2, "position": 3, "distance": 3, "frequency": 3, "base_probability": 3}
FLIPS_TO = "flips to a letter"
STRATA = "phi among explanations of the same answer"


def logit(rate: Floats | float) -> Floats:
    """The log odds."""
    return np.log(np.asarray(rate) / (1 - np.asarray(rate)))


class World:
    """What decides on changes and on mentions. Each function maps the attributes of trials to probabilities."""

    def __init__(
        self,
        impact: Callable[[Draw], Floats],
        named: Callable[[Draw, NDArray[np.bool_]], Floats],
        towards: tuple[float, ...] = (1.0, 1.0, 1.0),
        true: frozenset[tuple[str, str]] = frozenset(),
    ) -> None:
        self.impact, self.named, self.towards, self.true = impact, named, np.array(towards), true

    def draw(self, generator: np.random.Generator, examples: int) -> Draw:
        """Draw the attributes, changes and mentions of all trials, one array (trials,) each."""
        size = examples * PER_EXAMPLE
        of = np.repeat(np.arange(examples), PER_EXAMPLE)
        found: Draw = {name: generator.integers(0, parts, size) for name, parts in PARTS.items()}
        found["base_probability"] = generator.integers(0, 3, examples)[of]
        found["example"], found["before"] = of, generator.integers(0, LETTERS, examples)[of]
        shifts = generator.normal(0, 0.5, (2, examples))[:, of]
        changed = generator.random(size) < expit(logit(self.impact(found)) + shifts[0])
        weights = np.where(np.arange(LETTERS) == found["before"][:, np.newaxis], 0.0, self.towards)
        chosen = (weights.cumsum(axis=1) / weights.sum(axis=1, keepdims=True) < generator.random((size, 1))).sum(axis=1)
        found["answer"] = np.where(changed, chosen, found["before"])
        named = generator.random(size) < expit(logit(self.named(found, changed)) + shifts[1])
        found["cell"] = 2 * (1 - changed.astype(np.int64)) + (1 - named.astype(np.int64))
        return found


def expit(values: Floats) -> Floats:
    """The probability with these log odds."""
    return 1 / (1 + np.exp(-values))


def constant(rate: float) -> Callable[[Draw], Floats]:
    """The same probability everywhere."""
    return lambda found: np.full(len(found["example"]), rate)


def by(name: str, *of_parts: float) -> Callable[[Draw], Floats]:
    """A probability for each part."""
    return lambda found: np.array(of_parts)[found[name]]


def rates(tpr: Callable[[Draw], Floats], fpr: Callable[[Draw], Floats]) -> Callable[[Draw, NDArray[np.bool_]], Floats]:
    """Mentions by TPR where the answer changed, and by FPR where not."""
    return lambda found, changed: np.where(changed, tpr(found), fpr(found))


SAME = rates(constant(0.6), constant(0.15))
QUOTING = by("answer", 0.6, 0.25, 0.25)
WORLDS: Mapping[str, World] = {
    "nothing differs": World(constant(0.15), SAME),
    "nothing differs, few changes": World(constant(0.06), SAME),
    "impact differs by position": World(by("position", 0.05, 0.15, 0.3), SAME),
    "any insertion changes the answer": World(constant(0.6), rates(constant(0.3), constant(0.3))),
    "noise, and A's explanations quote more": World(constant(0.15), rates(QUOTING, QUOTING),
        true=frozenset({("answer", metric) for metric in (TPR, FPR)})),
    "noise towards A, and A's explanations quote more": World(constant(0.15), rates(QUOTING, QUOTING), (4.0, 1.0, 1.0),
        true=frozenset({("answer", metric) for metric in (TPR, FPR)} | {("answer", FLIPS_TO)})),
    "TPR differs by part of speech": World(constant(0.15), rates(by("pos", 0.75, 0.4), constant(0.15)),
        true=frozenset({("pos", TPR), ("pos", PHI_AT_P)})),
    "FPR differs by part of speech": World(constant(0.15), rates(constant(0.6), by("pos", 0.08, 0.25)),
        true=frozenset({("pos", FPR), ("pos", PHI_AT_P)})),
    "TPR and impact differ by position": World(by("position", 0.1, 0.15, 0.25),
        rates(by("position", 0.8, 0.6, 0.35), constant(0.15)),
        true=frozenset({("position", TPR), ("position", PHI_AT_P)})),
    "changed answers go to A": World(constant(0.15), SAME, (3.0, 1.0, 1.0), true=frozenset({("answer", FLIPS_TO)})),
}  # fmt: skip


def tables_of(found: Draw, name: str, parts: int, examples: int) -> NDArray[np.int64]:
    """Count the trials of each part and example, (parts, examples, 4)."""
    flat = 4 * (examples * found[name] + found["example"]) + found["cell"]
    return np.bincount(flat, minlength=4 * parts * examples).reshape(parts, examples, 4).astype(np.int64)


def truths(world: World) -> dict[tuple[str, int, str], float]:
    """The numbers of each part in a very large run."""
    examples = 300_000
    found = world.draw(np.random.default_rng(99), examples)
    true: dict[tuple[str, int, str], float] = {}
    for name, parts in (*PARTS.items(), ("answer", LETTERS)):
        flat = np.bincount(4 * found[name] + found["cell"], minlength=4 * parts).reshape(parts, 4).astype(np.float64)
        rate = flat[:, :2].sum() / flat.sum()
        for part, (a, b, c, d) in enumerate(flat):
            true[name, part, PHI_CCT] = float(phi_values(flat[part : part + 1])[0])
            true[name, part, PHI_AT_P] = float(phi_at_p_values(rate)(flat[part : part + 1])[0])
            true[name, part, TPR], true[name, part, FPR] = a / (a + b), c / (c + d)
            true[name, part, IMPACT_RATE], true[name, part, MENTION_RATE] = (
                (a + b) / (a + b + c + d),
                (a + c) / flat[part].sum(),
            )
    return true


def one_run(world: World, examples: int, generator: np.random.Generator) -> tuple[dict[str, Breakdown], Draw]:
    """Break down one run, without adjustment."""
    found = world.draw(generator, examples)
    divided = {}
    for name, parts in (*PARTS.items(), ("answer", LETTERS)):
        names = [str(part) for part in range(parts)]
        divided[name] = compare_parts(names, tables_of(found, name, parts, examples), Interval())
    return divided, found


def flips_p(found: Draw, examples: int) -> float:
    """The p-value of changed answers that go to one letter too often."""
    flat = LETTERS * found["example"]
    base = np.bincount(flat + found["before"], minlength=LETTERS * examples).reshape(examples, LETTERS)
    changed = found["cell"] < 2
    flips = np.bincount((flat + found["answer"])[changed], minlength=LETTERS * examples).reshape(examples, LETTERS)
    ps = [one.difference.p for one in find_letters(list("ABC"), base, flips) if one.difference.p is not None]
    return min(1.0, min(ps) * len(ps)) if ps else 1.0


def simulate(name: str, world: World, runs: int, examples: int) -> None:
    """Print the figures of one world."""
    true, generator = truths(world), np.random.default_rng(1)
    covered, with_limits, claims, found_in, any_false, strata = Counter(), Counter(), Counter(), Counter(), 0, 0
    for _ in range(runs):
        divided, found = one_run(world, examples, generator)
        tests = [
            (by_name, test.metric, test.p)
            for by_name, one in divided.items()
            for test in one.tests
            if test.p is not None
        ]
        tests.append(("answer", FLIPS_TO, flips_p(found, examples)))
        claimed = {
            (by_name, metric)
            for (by_name, metric, _), p in zip(tests, holm_adjusted([p for *_, p in tests]), strict=True)
            if p < 0.05
        }
        any_false += bool(claimed - world.true)
        found_in.update(claimed & world.true)
        claims.update(claimed - world.true)
        for by_name, one in divided.items():
            for number, part in enumerate(one.parts):
                for metric, estimate in part.numbers.items():
                    if estimate.low is not None and estimate.high is not None:
                        with_limits[metric] += 1
                        covered[metric] += estimate.low <= true[by_name, number, metric] <= estimate.high
        phi = phi_by_letter(np.moveaxis(tables_of(found, "answer", LETTERS, examples), 0, 1))
        strata += phi.low is not None and phi.high is not None and not phi.low <= 0 <= phi.high
    print(f"\n{name} ({runs} runs of {examples} × {PER_EXAMPLE})")
    print(
        "  coverage: "
        + ", ".join(f"{metric} {covered[metric] / with_limits[metric]:.3f}" for metric in (*SHOWN, PHI_AT_P))
    )
    print(f"  runs with a false claim: {any_false / runs:.3f}" + (f" {dict(claims)}" if claims else ""))
    for effect in sorted(world.true):
        print(f"  found {' '.join(effect)}: {found_in[effect] / runs:.3f}")
    print(f"  {STRATA} told from 0: {strata / runs:.3f}", flush=True)


def main() -> None:
    """Simulate all worlds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--examples", type=int, default=300)
    parser.add_argument("--world", default="")
    given = parser.parse_args()
    for name, world in WORLDS.items():
        if given.world in name:
            simulate(name, world, given.runs, given.examples)


if __name__ == "__main__":
    main()
