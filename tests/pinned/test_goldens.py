"""All that users see is what was recorded: screens, documents, exports, pages, figures and digests of files.

A sentence that is changed on purpose is recorded anew as `goldens.py` says, and the difference is read.
"""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest
from golden_runs import read_texts
from goldens import GOLDENS, PARTS

MOST_LINES = 40
"""Lines of differences that a failure shows."""


@pytest.mark.sampled(2)
@pytest.mark.parametrize("part", PARTS)
def test_what_users_see_is_what_was_recorded(part: str, tmp_path: Path) -> None:
    """File by file; a failure shows the lines that differ."""
    recorded = {f"{part}/{name}": text for name, text in read_texts(GOLDENS / part).items()}
    found = PARTS[part](tmp_path)

    lines = [
        line
        for name in sorted(recorded.keys() | found.keys())
        if recorded.get(name) != found.get(name)
        for line in difflib.unified_diff(
            recorded.get(name, "").splitlines(),
            found.get(name, "").splitlines(),
            f"{name} as recorded",
            f"{name} now",
            n=0,
            lineterm="",
        )
    ]
    if lines:
        pytest.fail(
            "\n".join([*lines[:MOST_LINES], f"{len(lines)} lines; goldens.py says how to record"]), pytrace=False
        )
