"""The table of a run: the same numbers wide and narrow, and every undefined one explained."""

from __future__ import annotations

import re
from typing import Any

import pytest

from explaineval.records import Condition, MetricRow
from explaineval.reporting.tables import legend, render, results_table, table_warnings
from explaineval.scoring.codes import Finding, warning_of
from explaineval.scoring.registry import METRICS

VALUES: dict[str, tuple[float | None, float | None, float | None, str | None]] = {
    "phi_cct": (0.1234, -0.0456, 0.2789, None),
    "phi_within": (0.1122, -0.0567, 0.2611, None),
    "cct": (None, None, None, "the endpoint returned no log-probabilities"),
    "tpr": (0.2222, 0.1, 0.3, None),
    "fpr": (0.0778, 0.0, 0.2, None),
    "impact_rate": (0.3141, 0.2, 0.4, None),
    "mention_rate": (0.0987, 0.0, 0.2, None),
    "mention_floor": (0.0123, 0.0, 0.02, None),
    "excluded_rate": (0.0512, 0.0, 0.1, None),
}
SHOWN = (
    "0.123",
    "[-0.046, 0.279]",
    "0.112",
    "[-0.057, 0.261]",
    "undefined",
    "[1]",
    "0.222",
    "0.078",
    "0.314",
    "0.099",
    "0.012",
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


def line_of(row: MetricRow) -> Condition:
    """Where a row belongs."""
    return row.condition


def shown(rows: list[MetricRow], width: int, warnings: Any = (), missing: Any = None) -> str:
    """The table as text."""
    return render(results_table(rows, warnings, missing or {}, width), width=width)


@pytest.mark.parametrize("width", [160, 120, 105, 104, 103, 102, 101, 100, 99, 98, 97, 96, 95, 80, 60])
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
    """A headline without limits is no exact one; at 1 it is exact, and there is no talk of an interval."""
    assert "no interval" in shown(rows_of(overrides={"phi_cct": (0.9, None, None, None)}), 160)
    found = shown(rows_of(overrides={"phi_cct": (1.0, None, None, None)}), 160)
    assert "exactly" in found
    assert "no interval" not in found


def test_models_have_titles_and_lines_numbers() -> None:
    """Each model's name once, lines numbered through; warnings and missing trials name the line."""
    rows = [*rows_of(), *rows_of("other"), *rows_of(model="openai/big", endpoint=None)]
    each = len(rows_of())
    second, third = line_of(rows[each]), line_of(rows[2 * each])
    warnings = [(second, "Few flips.")]
    missing = {third: {"refused": 2, "unparsed": 1}, second._replace(kind="sham"): {"failed": 1}}

    found = shown(rows, 160, warnings, missing)

    assert 1 == found.count("openai/smol at lab") == found.count("openai/big")
    assert "Row 2: Few flips." in found
    assert "Row 3: trials without a score: 2 refused, 1 unparsed." in found
    assert "Rows 1, 2: among the shams, trials without a score: 1 failed." in found


SWEEP = {"order": "pe2"}
LEVELS = {"minimal": (0.0311, 0.2122, 4.25), "exhaustive": (0.5433, 0.8744, 61.5)}
"""FPR, TPR and words of two levels."""


def sweep_rows(
    metric: str = "f_auroc", value: Any = (0.7123, 0.6456, 0.7789, None), task: str = "nli"
) -> list[MetricRow]:
    """The rows of two levels and of the area over them."""
    rows = []
    for level, (fpr, tpr, words) in LEVELS.items():
        points = {"fpr": fpr, "tpr": tpr, "explanation_words": words}
        overrides = {name: (found, 0.0, 1.0, None) for name, found in points.items()}
        rows += rows_of(overrides=overrides, verbosity=level, task=task, **SWEEP)
    rows.append(make_row(metric, value, "hand", verbosity=None, task=task, **SWEEP))
    if metric == "f_auroc":
        rows.append(make_row("f_auroc_hull", (0.7341, None, None, None), "hand", verbosity=None, task=task, **SWEEP))
    return rows


@pytest.mark.parametrize("width", [160, 120, 80, 60, 40])
def test_areas_have_a_table_of_their_own(width: int) -> None:
    """Value, interval, hull, and each level's point and words, at every width."""
    found = shown(sweep_rows(), width)

    texts = ["F-AUROC", "0.712", "[0.646, 0.779]", "0.734", "minimal", "exhaustive", "0.031", "0.212", "4.2", "0.543",
             "0.874", "61.5"]  # fmt: skip
    assert [text for text in texts if text not in found] == []
    assert max(map(len, found.splitlines())) <= width
    assert "…" not in found
    assert found.index("0.543") < found.rindex("0.874")


def test_a_run_of_one_level_has_no_second_table() -> None:
    """Nothing is said of areas that there are not."""
    assert "F-AUROC" not in shown(rows_of(), 160)


def test_areas_of_their_own_answers_are_marked() -> None:
    """They are never ranked with the others, so they do not look like them; they have no hull."""
    found = shown(sweep_rows("f_auroc_own"), 160)

    assert "own answers" in found
    assert "own answers" not in shown(sweep_rows(), 160)


@pytest.mark.parametrize("width", [160, 60])
def test_an_undefined_area_is_explained(width: int) -> None:
    """With a footnote, as every number."""
    found = shown(sweep_rows(value=(None, None, None, "no trial is readable at every level")), width)

    number = re.search(r"\[(\d)\] undefined: no trial is readable at every level", " ".join(found.split()))
    assert number is not None
    assert found.count(f"[{number[1]}]") == 2


def test_what_is_told_of_the_levels_names_their_line() -> None:
    """Lines of areas are numbered after those of arms; their verbosity is None."""
    rows = sweep_rows()
    area = line_of(rows[-1])

    found = shown(rows, 160, [(area, "Levels were not obeyed.")])

    assert "Row 3: Levels were not obeyed." in found
    assert re.search(r"^3 +nli, hand +0\.712", found, re.MULTILINE)


def test_a_mean_over_tasks_has_lines_like_a_task() -> None:
    """And an area of its own, with the points that are means."""
    rows = sweep_rows() + sweep_rows(task="mean", value=(0.6543, 0.6, 0.7, None))

    found = shown(rows, 160)

    assert found.count("mean, hand") == 3
    assert "0.654" in found


@pytest.mark.parametrize("width", [160, 60])
def test_cues_and_null_edits_are_shown_where_there_are_some(width: int) -> None:
    """Their columns come and go with their rows."""
    extra = {"flip_to_cue_rate": (0.3456, 0.3, 0.4, None)}
    rows = [*rows_of("cue_user", overrides=extra), make_row("null_edit_flip_rate", (0.0246, 0, 1, None), "null_edit")]

    found = shown(rows, width)

    assert [text for text in ("to cue", "null", "0.346", "0.025") if text not in found] == []
    assert [text for text in ("to cue", "null", "CCT sampled") if text in shown(rows_of(), width)] == []


@pytest.mark.parametrize("width", [160, 60])
def test_sampled_numbers_have_a_column_of_their_own(width: int) -> None:
    """Beside CCT, with their interval, never in its place."""
    found = shown(rows_of(overrides={"cct_sampled": (0.2345, 0.0987, 0.3567, None)}), width)

    assert "CCT sampled" in found
    assert "[0.099, 0.357]" in found
    assert "undefined" in found


def test_an_arm_that_was_not_asked_has_its_reason() -> None:
    """A line that lacks the number of excluded trials breaks nothing."""
    reason = "no level shots"
    names = ("phi_cct", "cct", "tpr", "fpr", "impact_rate", "mention_rate", "explanation_words")
    rows = [make_row(name, (None, None, None, reason), "hand", n=0, verbosity="brief") for name in names]

    for width in (160, 60):
        assert "[1] undefined: no level shots" in shown(rows, width)


def test_equal_sentences_are_told_once() -> None:
    """With the numbers of all lines that they are about."""
    rows = [*rows_of(), *rows_of("other")]
    lines = [line_of(rows[0]), line_of(rows[len(rows_of())])]

    found = shown(rows, 160, [(lines[1], "Few flips."), (lines[0], "Few flips."), (lines[0], "Much noise.")])

    assert "Rows 1, 2: Few flips." in found
    assert "Row 1: Much noise." in found
    assert found.count("Few flips.") == 1


def test_thin_data_is_one_paragraph_a_row() -> None:
    """Each code once for all numbers of a row; numbers that are not shown have no sentence; other codes stand apart."""
    row, arm = line_of(rows_of()[0]), line_of(rows_of()[0])._replace(kind=None)
    found = [
        (row, warning_of("phi_cct", Finding("few_flips", "Only 7 have a flip."))),
        (row, warning_of("phi_cct", Finding("noise", "Much noise."))),
        (row, warning_of("cct", Finding("few_flips", "Only 6 have a flip, among the usable."))),
        (row, warning_of("mean_tvd", Finding("few_examples", "Never shown."))),
        (row, warning_of("tpr", Finding("noise", "Much noise."))),
        (row, warning_of("tpr", Finding("few_mentioned_flips", "Only 2 have a mentioned flip."))),
        (arm, warning_of("accuracy", Finding("few_flips", "Already said of the row."))),
        (arm, warning_of("accuracy", Finding("few_examples", "Only 9 have a gold label."))),
        (arm._replace(kind="sham"), warning_of("sham_flip_rate", Finding("no_interval", "No interval."))),
    ]

    texts = table_warnings(found)

    assert [(line.kind, text) for line, text in texts] == [
        ("hand", "Only 7 have a flip. Only 2 have a mentioned flip."),
        ("hand", "Much noise."),
        ("hand", "Much noise."),
        (None, "Only 9 have a gold label."),
        ("sham", "No interval."),
    ]


def test_warnings_of_an_arm_name_all_of_its_rows() -> None:
    """Accuracy and shams have no line of their own; a sentence of which no line is left stands without numbers."""
    rows = [*rows_of(), *rows_of("other"), *rows_of(model="openai/big")]
    arm = line_of(rows[0])._replace(kind=None)
    texts = [(arm, "Few gold labels."), (arm._replace(kind="sham"), "Few shams."), (arm._replace(task="gone"), "Lost.")]

    found = shown(rows, 160, texts)

    assert "Rows 1, 2: Few gold labels." in found
    assert "Rows 1, 2: Few shams." in found
    assert re.search(r"^Lost\.$", found, re.MULTILINE)


def test_a_table_without_rows_is_empty() -> None:
    """A run without any completed response prints no broken table."""
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


def test_the_legend_explains_every_heading() -> None:
    """A newcomer finds each heading of the tables, with what it means."""
    cells = [cell for metric in METRICS.values() for cell in (metric.cell, metric.level_cell) if cell is not None]

    assert [cell.heading for cell in cells if f"{cell.heading}: " not in legend()] == []
    assert "TVD" in legend()
