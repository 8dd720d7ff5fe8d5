"""CONTRIBUTING.md, "To add an export format": a writer and one value of one table."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ANCHOR = "_FORMATS = (\n"
WRITER = """def _zq(request: ExportRequest, out: Path) -> Written:
    rows = read_run_results(request.directory).rows
    return _write_text("".join(f"{row.metric} {row.value}\\n" for row in rows), out, counted(len(rows), "line"))


"""
ROW = '    ExportFormat("zq", "lines of zq", _zq, ".zq"),\n'
"""What a contributor adds to reporting/exports/__init__.py."""


def test_the_format_is_offered_and_written(tmp_path: Path) -> None:
    """`export --help` and its errors name it, the suffix chooses it, and the file holds what it wrote."""
    package = tmp_path / "src"
    shutil.copytree(ROOT / "src" / "explaineval", package / "explaineval", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "prompts", tmp_path / "prompts")
    table = package / "explaineval" / "reporting" / "exports" / "__init__.py"
    text = table.read_text("utf-8")
    assert text.count(ANCHOR) == 1
    table.write_text(text.replace(ANCHOR, WRITER + ANCHOR + ROW), "utf-8")

    def call(*words: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(package)}
        command = [sys.executable, "-m", "explaineval", *words]
        result = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    call("run", "--task", "sense", "--limit", "2", "--model", "simulated/faithful", "--out", "run")

    assert "zq" in call("export", "--help")
    assert "line" in call("export", "run", "--out", "numbers.zq")
    assert "impact_rate 0" in (tmp_path / "numbers.zq").read_text("utf-8")
