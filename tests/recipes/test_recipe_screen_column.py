"""CONTRIBUTING.md, "To add a column of the first screen": one value of one table."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ANCHOR = '    ScreenColumn(FPR, "named", "if not", 8),\n'
ROW = '    ScreenColumn(MENTION_RATE, "zq", "named", 9),\n'
"""What a contributor adds to `COLUMNS` in reporting/screen.py, beside the import of the metric's name."""

MODELS = ("faithful", "random", "silent", "verbose", "drifting", "no-logprobs", "honest-reasoning")


def test_the_column_is_on_the_first_screen(tmp_path: Path) -> None:
    """With both lines of its heading and a number in each of the rows, in the table of many conditions."""
    package = tmp_path / "src"
    shutil.copytree(ROOT / "src" / "explaineval", package / "explaineval", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "prompts", tmp_path / "prompts")
    screen = package / "explaineval" / "reporting" / "screen.py"
    text = screen.read_text("utf-8")
    assert text.count(ANCHOR) == text.count("    IMPACT_RATE,\n") == 1
    text = text.replace(ANCHOR, ANCHOR + ROW).replace("    IMPACT_RATE,\n", "    IMPACT_RATE,\n    MENTION_RATE,\n")
    screen.write_text(text, "utf-8")
    models = [word for name in MODELS for word in ("--model", f"simulated/{name}")]
    command = [sys.executable, "-m", "explaineval", "run", "--task", "sense", "--limit", "4", *models, "--out", "run"]
    environment = {**os.environ, "PYTHONPATH": str(package), "COLUMNS": "140"}

    result = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )

    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    first = next(number for number, line in enumerate(lines) if line.endswith(" zq"))
    assert lines[first + 1].endswith("  named")
    rows = [line for line in lines[first + 2 : first + 2 + 2 * len(MODELS)] if "%" in line]
    assert len(rows) == len(MODELS)
    assert all(row.rstrip("†").endswith("%") for row in rows)
