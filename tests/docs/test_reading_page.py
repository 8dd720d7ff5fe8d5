"""docs/reading.md explains every number that a report can show."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from explaineval.scoring.registry import COMPARED_ONLY, METRICS

PAGE = (Path(__file__).parents[2] / "docs" / "reading.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [*METRICS, *COMPARED_ONLY])
def test_every_number_is_explained(name: str) -> None:
    """Under its name in files and commands."""
    assert f"`{name}`" in PAGE


def test_no_number_is_explained_that_there_is_not() -> None:
    """A name in backticks that looks like a metric is one."""
    ends = r"(?:_rate|_floor|_bound|_j|_mean2|_control|_cct|_auroc|_at_p|_within|_gain_balanced)"
    named = set(re.findall(rf"`([a-z0-9_]+{ends})`", PAGE))

    assert named <= {*METRICS, *COMPARED_ONLY}
