"""Record anew all that users see: `PYTHONPATH=tests:tests/pinned python -m goldens [DIR]`, about a minute of one core.

The golden files in `goldens/` are written anew; `git diff` then shows what a change does to screens, pages, documents,
exports, figures and sentences. With DIR they are written there instead.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from golden_runs import record_runs, write_texts

GOLDENS = Path(__file__).parent / "goldens"


def record(work: Path) -> dict[str, str]:
    """Return all texts by the file's name; `work` is an empty directory."""
    return record_runs(work / "runs")


def main(directory: Path) -> None:
    """Write the golden files."""
    with tempfile.TemporaryDirectory() as work:
        write_texts(directory, record(Path(work)))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else GOLDENS)
