"""CONTRIBUTING.md names files that exist, and every recipe its test."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
MADE_UP = ("NAME", "PACKAGE")
"""What stands in a path for a name of the reader's own."""


def test_every_path_exists() -> None:
    """Each path is below the package, or below the root of the repository."""
    paths = [path for path in re.findall(r"`([a-z_.]+/[\w./]*)`", TEXT) if not any(name in path for name in MADE_UP)]
    roots = (ROOT, ROOT / "src" / "explaineval")

    assert len(paths) > 15
    assert [path for path in paths if not any((root / path).exists() for root in roots)] == []


def test_every_recipe_has_its_test() -> None:
    """The eleven recipes name eleven tests, and no test of a recipe is left out."""
    named = re.findall(r"\*\*To add [^*]+\*\*[^:]*: \d places?, followed by `tests/recipes/(\w+\.py)`", TEXT)

    assert len(named) == 11
    assert set(named) == {path.name for path in Path(__file__).parent.glob("test_recipe_*.py")}
