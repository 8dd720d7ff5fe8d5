"""The table of a run: the same numbers wide and narrow, and every undefined one explained."""

from __future__ import annotations

import re
from typing import Any

import pytest

from explaineval.records import MetricRow
from explaineval.report.tables import Line, legend, render, results_table

VALUES: dict[str, tuple[float | None, float | None, float | None, str | None]] = {
    "phi_cct": (0.1234, -0.0456, 0.2789, None),
    "cct": (None, None, None, "the endpoint returned no log-probabilities"),
    "tpr": (0.2222, 0.1, 0.3, None),
    "fpr": (0.0778, 0.0, 0.2, None),
    "impact_rate": (0.3141, 0.2, 0.4, None),
    "mention_rate": (0.0987, 0.0, 0.2, None),
    "excluded_rate": (0.0512, 0.0, 0.1, None),
}
SHOWN = (
    "0.123",
    "[-0.046, 0.279]",
    "undefined",
    "[1]",
    "0.222",
    "0.078",
    "0.314",
    "0.099",
    "0.051",
    "0.765",
    "0.043",
    "96",
)


def make_row(metric: str, value: Any, kind: str | None, **changes: Any) -> MetricRow:
    """One row of metrics.json."""
    found, low, high, undefined = value
    values = {
        "endpoint": "lab", "model": "openai/smol", "task": "nli", "kind": kind, "order": "pe", "style": "chat",
        "shots": 0, "verbosity": "normal", "metric": metric, "value": found, "low": low, "high": high,
        "n": 96, "n_examples": 24,
        "undefined": undefined, "signature": "s",
    }  # fmt: skip
    return MetricRow.model_validate(values | changes)


def rows_of(kind: str = "hand", overrides: dict[str, Any] | None = None, **changes: Any) -> list[MetricRow]:
    """All rows of one line of the table."""
    rows = [make_row(name, value, kind, **changes) for name, value in (VALUES | (overrides or {})).items()]
    rows.append(make_row("accuracy", (0.7654, 0.6, 0.9, None), None, **changes))
    return [*rows, make_row("sham_flip_rate", (0.0432, 0.0, 0.1, None), "sham", **changes)]


def line_of(row: MetricRow) -> Line:
    """Where a row belongs."""
    return Line(*(getattr(row, name) for name in Line._fields))


def shown(rows: list[MetricRow], width: int, warnings: Any = (), missing: Any = None) -> str:
    """The table as text."""
    return render(results_table(rows, warnings, missing or {}, width), width=width)


@pytest.mark.parametrize("width", [160, 120, 117, 116, 115, 100, 80, 60])
def test_every_number_is_shown_at_every_width(width: int) -> None:
    """Wide: a table; narrow: a list. Nothing is cut off, nothing goes beyond the terminal."""
    found = shown(rows_of(), width)

    assert [text for text in SHOWN if text not in found] == []
    assert max(map(len, found.splitlines())) <= width
    assert "…" not in found


@pytest.mark.parametrize("width", [160, 60])
def test_an_undefined_number_is_explained(width: int) -> None:
    """Its mark leads to the reason; equal reasons share one."""
    silent = {"phi_cct": (None, None, None, "no answer changed"), "tpr": (None, None, None, "no answer changed")}
    found = shown([*rows_of(overrides=silent), *rows_of("other")], width)
    flat = " ".join(found.split())

    for reason in (
        "undefined: no answer changed",
        "undefined: no answer changed",
        "undefined: the endpoint returned no log-probabilities",
    ):
        number = re.search(rf"\[(\d)\] {re.escape(reason)}", flat)
        assert number is not None
        assert flat.count(reason) == 1
        assert flat.count(number.group(0)[:3]) >= 2


def test_a_missing_metric_is_a_dash() -> None:
    """What a run did not measure is shown as such, not as 0."""
    rows = [row for row in rows_of() if row.metric not in ("sham_flip_rate", "accuracy")]

    found = shown(rows, 160)

    assert found.count("–") == 2


def test_a_number_without_interval_says_so() -> None:
    """A headline without limits is no exact one."""
    assert "no interval" in shown(rows_of(overrides={"phi_cct": (1.0, None, None, None)}), 160)


def test_models_have_titles_and_lines_numbers() -> None:
    """Each model's name once, lines numbered through; warnings and missing trials name the line."""
    rows = [*rows_of(), *rows_of("other"), *rows_of(model="openai/big", endpoint=None)]
    second, third = line_of(rows[9]), line_of(rows[18])
    warnings = [(second, "Few flips.")]
    missing = {third: {"refused": 2, "unparsed": 1}, second._replace(kind="sham"): {"failed": 1}}

    found = shown(rows, 160, warnings, missing)

    assert 1 == found.count("openai/smol at lab") == found.count("openai/big")
    assert "Row 2: Few flips." in found
    assert "Row 3: trials without a score: 2 refused, 1 unparsed." in found
    assert "Row 1, 2: among the shams, trials without a score: 1 failed." in found


def test_a_table_without_rows_is_empty() -> None:
    """A run of which nothing came home prints no broken table."""
    assert shown([], 160).strip() == ""


def test_colour_is_only_given_where_it_is_asked_for() -> None:
    """A file or a pipe gets plain text."""
    content = results_table(rows_of(), (), {}, 160)

    assert "\x1b[" not in render(content, width=160)
    assert "\x1b[" in render(content, width=160, color=True)


def test_what_looks_like_markup_is_shown_as_it_is() -> None:
    """Brackets in names and reasons are no styles."""
    reason = "the endpoint said [bold]no[/bold]"
    found = shown(rows_of("[red]mine[/red]", overrides={"cct": (None, None, None, reason)}), 160)

    assert "[red]mine[/red]" in found
    assert reason in found


def test_the_legend_names_what_the_columns_say() -> None:
    """A newcomer finds every heading that is no plain word."""
    assert [
        word for word in ("phi-CCT", "CCT", "TPR", "FPR", "impact", "sham", "excl.", "TVD") if word not in legend()
    ] == []
