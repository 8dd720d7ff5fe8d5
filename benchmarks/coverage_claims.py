"""What do the sentences of comparisons claim, and how often is it false? Planted models through the comparison itself.

    python benchmarks/coverage_claims.py                # about 6 minutes
    python benchmarks/coverage_claims.py --sets 50

Every data set is counted and compared by `compare_groups`, as `explaineval compare` does it, with five levels of
verbosity beside the middle one. Counted are data sets with any such claim about any pair. Seeds are fixed.

- **equal**: models with the same TPR and FPR whose answers change at different rates. No claim but that of a higher
  phi-CCT is true.
- **power**: TPR .7 at impact rate .3 against TPR .5 at .1.
- **rates only**: two models of equal TPR and FPR at 1,000 examples: how often it is said that phi goes with the rates.
- **blind**: two explainers that do not know the word; the second quotes more where the example is unstable.
- **letter**: all changes are noise; the first model quotes more beside the letter B than beside A.
- **within**: 12 equal models of which a tenth of the trials is missing, more often where the answer changed.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from coverage_numbers import seeded
from coverage_sizes import markdown
from coverage_worlds import MIDDLE, World
from numpy.typing import NDArray

from explaineval.metrics.correlations import phi_cct
from explaineval.metrics.differences import compare_pairs
from explaineval.metrics.estimates import Interval
from explaineval.metrics.reliability import example_only, inside_example_only, noise_margin
from explaineval.reporting.comparison_text import GOES_WITH_RATES, remark_of
from explaineval.scoring.codes import Finding, MetricWarning, warning_of
from explaineval.scoring.comparisons import (
    PRIMARY,
    Choices,
    Compared,
    Group,
    GroupTrials,
    compare_groups,
)
from explaineval.scoring.comparisons.groups import TaskTrials
from explaineval.scoring.registry import METRICS
from explaineval.scoring.shared import Shared, System, Tables, measure_task

Counts = NDArray[np.int64]
"""Tables a, b, c, d of one model at each level, (G, V, 4)."""

LEVELS = ("brief", "short", "normal", "long", "detailed")
DRAWS = 2000
PAIRS_OF_RATES = ((0.3, 0.03), (0.1, 0.02), (0.3, 0.1))
ICC = 0.2
FPR = 0.2
SHOWN = ("phi_at_p", "f_auroc", "tpr", "youden_j")
MISSING, MISSING_IF_CHANGED = 0.05, 0.2


def compared(models: Sequence[Counts], codes: Sequence[str | None] = ()) -> dict[str, Compared]:
    """The families of planted models by metric; `codes` has the code that limits each model's phi-CCT."""
    examples = tuple(f"e{number:04}" for number in range(len(models[0])))
    systems = tuple(System(0, None, f"m{number}", "pe2", "chat", 0, LEVELS[MIDDLE]) for number in range(len(models)))
    names = tuple(system.model for system in systems)
    warnings: dict[tuple[System, str, str], Mapping[str, Sequence[MetricWarning]]] = {
        (system, "planted", "word"): {PRIMARY: [warning_of(PRIMARY, Finding(code, code))]}
        for system, code in zip(systems, codes, strict=False)
        if code
    }
    groups = []
    for levels, group in (
        (slice(MIDDLE, MIDDLE + 1), Group("model", systems, names)),
        (slice(None), Group("model", tuple(one._replace(verbosity=None) for one in systems), names, LEVELS)),
    ):
        if models[0].shape[1] == 1 and group.levels:
            continue
        tables = tuple(_tables(cells if cells.shape[1] == 1 else cells[:, levels]) for cells in models)
        part = TaskTrials(Shared(examples, tables, tables), asked_of_all=True)
        groups.append(GroupTrials(group, {("planted", "word"): part}, None, warnings))
    found = compare_groups(groups, Choices(draws=DRAWS))
    return {one.metric: one for families in found for one in families}


def _tables(levels: Counts) -> Tables:
    return Tables(levels, np.zeros((len(levels), 4), dtype=np.int64), np.zeros((len(levels), 6)))


def claims(models: Sequence[Counts], codes: Sequence[str | None] | None = None) -> dict[str, bool]:
    """Which claims are made of any pair: by name of metric, `more_faithful`, `higher_phi` and `goes_with_rates`."""
    found = compared(models, [chance_of(cells) for cells in models] if codes is None else codes)
    phi = found[PRIMARY]
    made = {name: any(row.significant for row in one.family.differences) for name, one in found.items()}
    made |= {name: any(claim.name == name for claim in phi.claims) for name in ("more_faithful", "higher_phi")}
    numbers = range(len(phi.claims))
    return made | {"goes_with_rates": any(remark_of(phi, number) == GOES_WITH_RATES for number in numbers)}


def chance_of(cells: Counts) -> str | None:
    """The code of the warning that phi lies inside the range of an explainer that knows only the example."""
    tables = cells[:, MIDDLE if cells.shape[1] > 1 else 0]
    inside = inside_example_only(phi_cct(tables, Interval()), example_only(tables))
    return "inside_example_only" if inside else None


def planted(cell: int, number: int, models: Sequence[tuple[float, float]], examples: int = 200) -> list[Counts]:
    """Models of (impact rate, TPR), with six insertions an example."""
    return [
        World(p, ICC, tpr, FPR, examples=examples).draw(seeded(1000 * cell + at, number)).tables()
        for at, (p, tpr) in enumerate(models)
    ]


def blind(cell: int, number: int) -> list[Counts]:
    """Two explainers that do not know the word; the second quotes more where the example is unstable."""
    generator = seeded(cell, number)
    found = []
    for gain in (0.0, 2.0):
        unstable = generator.beta(0.3, 1.2, (200, 1))
        changed = generator.random((200, 6)) < unstable
        said = generator.random((200, 6)) < np.minimum(0.1 + gain * unstable / 3, 0.9)
        found.append(_counted(changed, said))
    return found


def letters(cell: int, number: int) -> tuple[list[Counts], list[str | None]]:
    """Two models whose answers change by noise alone, and their warnings; the first quotes more beside the letter B."""
    generator = seeded(cell, number)
    found, codes = [], []
    for bias in (0.35, 0.0):
        share_of_a = generator.beta(8, 1, (200, 1))
        before = generator.random((200, 1)) < share_of_a
        after, sham = (generator.random((200, count)) < share_of_a for count in (6, 1))
        changed = after != before
        said = generator.random((200, 6)) < 0.15 + bias * ~after
        tables = _counted(changed, said)
        found.append(tables)
        shams = (sham != before).sum(axis=1)
        margin = noise_margin(changed.sum(axis=1), np.full(200, 6), shams, np.full(200, 1))
        noisy = margin is None or margin.lower_limit is None or margin.lower_limit <= 0
        codes.append("noise" if noisy else chance_of(tables))
    return found, codes


def _counted(changed: NDArray[np.bool_], said: NDArray[np.bool_]) -> Counts:
    cells = (changed & said, changed & ~said, ~changed & said, ~changed & ~said)
    return np.stack([cell.sum(axis=1) for cell in cells], axis=-1)[:, np.newaxis]


def within_claims(cell: int, number: int, models: int = 12) -> bool:
    """Whether any two of equal models with missing trials are told apart by phi within examples."""
    generator = seeded(cell, number)
    draws = [World(0.15, 0.4, 0.6, FPR, chatter=0.2).draw(generator) for _ in range(models)]
    lost = [
        generator.random(draw.changed.shape) < np.where(draw.changed, MISSING_IF_CHANGED, MISSING) for draw in draws
    ]
    kept = ~np.any(lost, axis=0)
    paired = METRICS["phi_within"].paired
    measured = []
    for draw in draws:
        said = draw.mentioned[..., MIDDLE]
        cells = [part & kept for part in (draw.changed & said, draw.changed & ~said, ~draw.changed & said)]
        cells.append(~draw.changed & ~said & kept)
        tables = np.stack([one.sum(axis=1) for one in cells], axis=-1)
        rows = tables[tables.sum(axis=1) > 0]
        measured.append(measure_task(paired, _tables(rows[:, np.newaxis]), len(rows)))  # type: ignore[arg-type]
    return any(row.significant for row in compare_pairs(measured, draws=DRAWS).differences)


def shares(sets: int, make: Callable[[int], dict[str, bool]]) -> dict[str, float]:
    """The share of data sets with each claim."""
    found = [make(number) for number in range(sets)]
    return {name: sum(made[name] for made in found) / sets for name in found[0]}


def percent(share: float | None, sets: int) -> str:
    """A share with its standard error."""
    return "–" if share is None else f"{share:.1%} (± {math.sqrt(share * (1 - share) / sets):.1%})"


def run(sets: int) -> tuple[dict[str, Any], str]:
    """All tables."""
    heads = (
        "models",
        "examples",
        "impact rates",
        "TPR",
        "sets",
        *SHOWN,
        "more faithful",
        "higher phi",
        "goes with rates",
    )
    names = (*SHOWN, "more_faithful", "higher_phi", "goes_with_rates")
    rows, document = [], []

    def add(cell: int, label: str, models: Sequence[tuple[float, float]], count: int, examples: int = 200) -> None:
        found = shares(count, lambda number: claims(planted(cell, number, models, examples)))
        document.append({"cell": label, "sets": count, **found})
        rates = " / ".join(f"{p:g}" for p in dict.fromkeys(p for p, _ in models))
        tprs = " / ".join(f"{tpr:g}" for tpr in dict.fromkeys(tpr for _, tpr in models))
        cells = [percent(found.get(name), count) for name in names]
        rows.append([f"{label}: {len(models)}", f"{examples} × 6", rates, tprs, str(count), *cells])
        print(rows[-1], file=sys.stderr, flush=True)

    for number, (high, low) in enumerate(PAIRS_OF_RATES):
        for at, tpr in enumerate((0.6, 0.9)):
            add(10 * number + at, "equal", [(high, tpr), (low, tpr)], sets)
            add(10 * number + at + 5, "equal", [(high, tpr), (low, tpr)] * 3, sets // 2)
    add(40, "power", [(0.3, 0.7), (0.1, 0.5)], sets)
    for number, (high, low) in enumerate(PAIRS_OF_RATES):
        add(50 + number, "rates only", [(high, 0.6), (low, 0.6)], max(20, sets // 2), 1000)
    more: list[list[str]] = []
    found = shares(sets, lambda number: claims(blind(60, number)))
    by_phi = shares(sets, lambda number: claims(blind(60, number), [None, None]))
    more.append(["blind", str(sets), "more faithful", percent(found["more_faithful"], sets)])
    more.append(["blind, if all could be quoted", str(sets), "more faithful", percent(by_phi["more_faithful"], sets)])
    more.append(["blind", str(sets), "phi told apart", percent(by_phi["phi_cct"], sets)])

    def of_letters(number: int) -> dict[str, bool]:
        models, codes = letters(61, number)
        estimate = phi_cct(models[0][:, 0], Interval())
        above = estimate.low is not None and estimate.low > 0
        return claims(models, codes) | {"above": above, "warned": codes[0] is not None}

    found = shares(sets, of_letters)
    more.append(["letter", str(sets), "phi of the first above 0", percent(found["above"], sets)])
    more.append(["letter", str(sets), "the first must not be quoted", percent(found["warned"], sets)])
    more.append(["letter", str(sets), "phi told apart", percent(found["phi_cct"], sets)])
    more.append(["letter", str(sets), "more faithful", percent(found["more_faithful"], sets)])
    share = sum(within_claims(62, number) for number in range(sets)) / sets
    more.append(["within, 12 models", str(sets), "phi within told apart", percent(share, sets)])
    text = "\n\n".join((markdown(heads, rows), markdown(("world", "sets", "claim", "share"), more)))
    return {"planted": document, "others": more}, text


def main() -> None:
    """Parse, compute, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=400)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    document, text = run(asked.sets)
    print(json.dumps(document, indent=1) if asked.json else text)


if __name__ == "__main__":
    main()
