"""docs/architecture.md names the modules that a request passes."""

from __future__ import annotations

import re
from pathlib import Path

import explaineval

ROOT = Path(explaineval.__file__).parent
PAGE = ROOT.parents[1] / "docs" / "architecture.md"


def test_a_request_passes_at_most_twelve_modules_and_none_twice() -> None:
    """Each numbered line of the section begins with a module that exists."""
    section = PAGE.read_text(encoding="utf-8").partition("## One request's way")[2].partition("\n## ")[0]
    modules = re.findall(r"^\d+\. `([a-z_/]+)`", section, re.MULTILINE)

    assert 0 < len(modules) == len(set(modules)) <= 12
    assert [module for module in modules if not (ROOT / f"{module}.py").is_file()] == []
    assert len(re.findall(r"^\d+\. ", section, re.MULTILINE)) == len(modules)
