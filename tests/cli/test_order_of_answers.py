"""Nothing that is printed or written depends on which answer came first, and swapping two models only turns signs."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from test_cli_compare import draw, models_of

from explaineval.reporting.comparison_document import document_of
from explaineval.reporting.comparison_view import lines_of
from explaineval.reporting.exports.rows import TABLES
from explaineval.reporting.page.whole import page_of
from explaineval.reporting.results import read_results
from explaineval.scoring.comparisons import compare_runs
from explaineval.scoring.rows import score
from makers.runs import make_run, make_sham

EXAMPLES = 40
NAMES = ("openai/b", "openai/a", "openai/c")


def trials_of_all(levels: tuple[str, ...] = ("normal", "brief")) -> list[dict[str, Any]]:
    """Three models at two levels in order pe2, with shams; the first level's answers are those of the others."""
    trials = []
    for seed, (model, tpr, impact) in enumerate(zip(NAMES, (0.8, 0.5, 0.9), (0.35, 0.2, 0.05), strict=True)):
        for level in levels:
            values = {"model": model, "order": "pe2", "verbosity": level, "examples": EXAMPLES}
            trials += draw(seed, tpr=tpr, impact=impact, **values)
            trials += [make_sham(one, changed=one == 3) | {"model": model, "order": "pe2", "verbosity": level}
                       for one in range(EXAMPLES)]  # fmt: skip
    return trials


def make(place: Path, names: tuple[str, ...], trials: list[dict[str, Any]]) -> Path:
    """A run whose configuration names the models in this order."""
    arms = {"order": ["pe2"], "verbosity": ["normal", "brief"]}
    return make_run(place / "run", trials, EXAMPLES, models=models_of(*names), arms=arms)


def test_the_order_of_lines_changes_no_byte(tmp_path: Path) -> None:
    """metrics.json, the screen and document of a comparison, the page, and every export of numbers."""
    trials = trials_of_all()
    shuffled = trials.copy()
    random.Random(1).shuffle(shuffled)
    first, second = (make(tmp_path / name, NAMES, of) for name, of in (("one", trials), ("other", shuffled)))

    for name, output in OUTPUTS.items():
        assert (name, output(first)) == (name, output(second))


OUTPUTS: dict[str, Callable[[Path], Any]] = {
    "scores": lambda run: score(run),
    "document": lambda run: json.dumps(document_of(compare_runs([run]))),
    "screen": lambda run: list(lines_of(compare_runs([run]), 100)),
    "table": lambda run: [list(row) for row in TABLES["comparison"](run).rows],
    "page": lambda run: page_of(read_results([run])).html,
}


def test_swapping_two_models_turns_signs_and_nothing_else(tmp_path: Path) -> None:
    """a and b are exchanged, differences and limits negated; every other field is the same to the last digit."""
    trials = trials_of_all()
    swapped = (NAMES[1], NAMES[0], NAMES[2])
    first, second = (
        document_of(compare_runs([make(tmp_path / name, names, trials)], equivalent=0.2))
        for name, names in (("one", NAMES), ("other", swapped))
    )
    rows = {_key(row, row["a"], row["b"]): row for row in second["rows"]}

    turned = 0
    for row in first["rows"]:
        key = _key(row, row["a"], row["b"])
        if key in rows:
            assert _comparable(row) == _comparable(rows[key])
            continue
        other = rows[_key(row, row["b"], row["a"])]
        assert _comparable(row) == _comparable(_turned(other))
        turned += 1
    assert turned == len(first["rows"]) / 3  # of the three pairs one


def _key(row: dict[str, Any], a: str, b: str) -> tuple[Any, ...]:
    return row["metric"], row["task"], row["kind"], row["order"], row["verbosity"], a, b


def _comparable(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row without what says in which order things were named."""
    return {name: value for name, value in row.items() if name not in ("signature", "undefined", "note")}


def _turned(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row with a and b exchanged."""
    found = dict(row)
    for name in ("", "value_", "lost_", "unrestricted_"):
        found[f"{name}a"], found[f"{name}b"] = row[f"{name}b"], row[f"{name}a"]
    if row["difference"] is not None:
        found["difference"] = -row["difference"]
    for name in ("", "_adjusted", "_equivalent"):
        low, high = row[f"low{name}"], row[f"high{name}"]
        found[f"low{name}"], found[f"high{name}"] = (None if one is None else -one for one in (high, low))
    return found


def test_the_gate_goes_by_the_configuration(tmp_path: Path) -> None:
    """The same answers in another order give the same pairs, in the order of the configuration."""
    trials = trials_of_all()
    found = compare_runs([make(tmp_path / "one", NAMES, trials[::-1])])

    assert found[0].group.names == NAMES
    assert [result.group.fixed["verbosity"] for result in found] == ["normal", "brief", None]
