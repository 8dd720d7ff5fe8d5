"""Record anew all that users see: `PYTHONPATH=tests:tests/pinned python -m goldens [DIR]`, about a minute of one core.

The golden files in `goldens/` are written anew; `git diff` then shows what a change does to screens, pages, documents,
exports, figures and sentences. With DIR they are written there instead.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from golden_runs import RUNS, record_run, write_texts
from golden_sentences import record_errors, record_help
from golden_service import record_service

GOLDENS = Path(__file__).parent / "goldens"
PARTS: Mapping[str, Callable[[Path], dict[str, str]]] = {
    **{name: partial(record_run, name) for name in RUNS},
    "help": record_help,
    "errors": record_errors,
    "service": record_service,
}
"""What is recorded, by the directory in `goldens/`: a function of an empty working directory."""


def main(directory: Path) -> None:
    """Write the golden files."""
    for name, record in PARTS.items():
        with tempfile.TemporaryDirectory() as work:
            texts = record(Path(work))
        write_texts(directory / name, {file.removeprefix(f"{name}/"): text for file, text in texts.items()})


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else GOLDENS)
