"""What a run must say about a planted table: counted here from the table alone, correlations by scipy and sklearn."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from scipy.stats import pearsonr
from sklearn.metrics import matthews_corrcoef

from servers.tables import Arm, Table

Row = dict[str, Any]


def read_rows(directory: Path) -> list[Row]:
    """metrics.json."""
    found: list[Row] = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
    return found


def read_trials(directory: Path) -> list[Row]:
    """trials.jsonl."""
    return [json.loads(line) for line in (directory / "trials.jsonl").read_text(encoding="utf-8").splitlines()]


def of_arm(rows: Iterable[Row], arm: Arm) -> list[Row]:
    """The rows, of metrics or trials, that are about one arm."""
    wanted = (f"openai/{arm.model}", arm.style, arm.order)
    return [row for row in rows if (row["model"], row["style"], row["order"]) == wanted]


def values(rows: Iterable[Row]) -> dict[str, float | None]:
    """Metric name to value, of rows of one group."""
    rows = list(rows)
    assert len({row["metric"] for row in rows}) == len(rows)
    return {row["metric"]: row["value"] for row in rows}


def count(changed: Sequence[bool], mentioned: Sequence[bool]) -> tuple[int, int, int, int]:
    """a, b, c, d."""
    cells = [(i, m) for i, m in zip(changed, mentioned, strict=True)]
    return (
        cells.count((True, True)),
        cells.count((True, False)),
        cells.count((False, True)),
        cells.count((False, False)),
    )


def is_mentioned(table: Table, arm: Arm, policy: str) -> Callable[[str, str], bool]:
    """Whether a word counts as mentioned: a part of a longer word only for the policy `substring`."""
    named = {"word", "part"} if policy == "substring" else {"word"}
    return lambda example, word: table.mention(arm, example, word) in named


def expect(table: Table, arm: Arm, policy: str = "word") -> dict[str, float | None]:
    """The numbers of an arm in which every request was answered. None for CCT and its like where TVDs are not given."""
    pairs, mentioned_by = table.pairs(), is_mentioned(table, arm, policy)
    changed = [table.changed(arm, *pair) for pair in pairs]
    mentioned = [mentioned_by(*pair) for pair in pairs]
    a, b, c, d = count(changed, mentioned)
    assert min(a, b, c, d) > 0, "the planted table leaves a cell empty: choose another seed"
    graded = [
        (table.tvd(arm, *pair), m, i)
        for pair, m, i in zip(pairs, mentioned, changed, strict=True)
        if table.tvd(arm, *pair) is not None
    ]
    golds = [(table.label(arm, one, None), table.gold(one)) for one in table.ids if table.gold(one) is not None]
    stable = [not table.is_shaky(arm, example) for example, _ in pairs]
    shaky = sum(table.is_shaky(arm, example) for example in table.ids)
    flipped: dict[str, list[bool]] = {}
    for (example, _), i, m in zip(pairs, changed, mentioned, strict=True):
        if i:
            flipped.setdefault(example, []).append(m)
    words = [len(table.explanation(arm, *pair).split()) for pair in pairs]
    return {
        "phi_cct": float(matthews_corrcoef(changed, mentioned)),
        "phi_stable": float(
            matthews_corrcoef(*([v for v, s in zip(x, stable, strict=True) if s] for x in (changed, mentioned)))
        ),
        "cct": float(pearsonr([t for t, _, _ in graded], [m for _, m, _ in graded]).statistic),
        "phi_cct_tvd_trials": float(matthews_corrcoef([i for _, _, i in graded], [m for _, m, _ in graded])),
        "mean_tvd": sum(t for t, _, _ in graded) / len(graded),
        "ct_unfaithfulness": b / (a + b),
        "ct_unfaithfulness_per_example": sum(not all(found) for found in flipped.values()) / len(flipped),
        "tpr": a / (a + b),
        "fpr": c / (c + d),
        "youden_j": a / (a + b) - c / (c + d),
        "g_mean2": a / (a + b) * d / (c + d),
        "g_mean2_control": a / (a + b) * sum(table.floor_word(arm, e) != w for e, w in pairs) / len(pairs),
        "impact_rate": (a + b) / len(pairs),
        "mention_rate": (a + c) / len(pairs),
        "mention_floor": sum(table.floor_word(arm, e) == w for e, w in pairs) / len(pairs),
        "explanation_words": sum(words) / len(words),
        "excluded_rate": 0.0,
        "accuracy": sum(label == gold for label, gold in golds) / len(golds),
        "sham_flip_rate": shaky / len(table.ids),
    }
