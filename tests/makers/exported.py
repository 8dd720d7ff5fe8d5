"""A finished run for the exports: trials of every kind, models and texts that attack, and the programs that read it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from explaineval.records import MetricRow
from explaineval.rundir.directory import write_metrics
from explaineval.scoring.rows import score
from makers.runs import make_missing, make_run, make_sham, make_trial

ATTACKS = (
    r"evil/\input{/etc/passwd}\immediate\write18{id}",
    "evil/100% a_b $x$ ^{2} ~ {} & #1 --- `` ''",
    "evil/<script>alert(1)</script>|<img src=x onerror=alert(1)>&amp;",
    "evil/[a](javascript:alert(1)) **b** `c` https://x.org www.x.org ![i](u)",
    "evil/=1+1 né 中文 \N{RIGHT-TO-LEFT OVERRIDE}abc\N{POP DIRECTIONAL FORMATTING} \0 end\nnew\tline\r \x1b[31m",
    "evil/" + "very-long-name/" * 20,
)
"""Names of models that try to be LaTeX, HTML, Markdown, a formula, a terminal's command, or too long."""

FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "\nx", " =1", "'=1", "＝1", '=HYPERLINK("http://x","y")')
"""Texts that a spreadsheet could run, or that look as if they had been made harmless already."""


def attacked_run(directory: Path) -> Path:
    """A run of models with these names, each with all four cells, missing trials and shams; answers hold the formulas.

    It has metrics.json.
    """
    trials = []
    for model in ATTACKS:
        for example in range(12):
            own = {"model": model}
            for number in range(4):
                changed, mentioned = (example + number) % 3 == 0, (example * number) % 4 == 1
                trial = make_trial(example, number, changed=changed, mentioned=mentioned, after=0.1 + 0.05 * example)
                trials.append(trial | own | {"explanation_before": FORMULAS[example % len(FORMULAS)]})
            trials.append(make_missing(example, 4, "after") | own)
            trials.append(make_sham(example, changed=example == 3) | own)
    models = [{"model": model, "endpoint": "lab"} for model in ATTACKS]
    return finished(make_run(directory, trials, 12, models=models))


def finished(directory: Path) -> Path:
    """The run directory, scored."""
    write_metrics(directory, score(directory).rows)
    return directory


def number_of(rows: list[MetricRow], model: str, metric: str) -> MetricRow:
    """The only row of this model and metric about insertions."""
    (row,) = (row for row in rows if (row.model, row.metric, row.kind) == (model, metric, "hand"))
    return row


def require(program: str) -> str:
    """The path of a program. A test that needs it is skipped where it is missing, and fails on CI."""
    path = shutil.which(program)
    if path is None and os.environ.get("CI"):
        pytest.fail(f"{program} is not installed")
    if path is None:
        pytest.skip(f"{program} is not installed")
    return str(path)
