"""The service asked everything that its OpenAPI description allows, and much that it does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from servers.service import TOKENS, Service

UNFIT = "positive_data_acceptance"
"""A check that every value which fits the description is taken; but a task's name must also be one of the service's."""


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(("--phases", "coverage", "--include-path-regex", "^/api/files$|^/api/budget"), id="smoke"),
        pytest.param(("--phases", "coverage,fuzzing,stateful"), id="whole", marks=pytest.mark.slow),
    ],
)
def test_every_answer_is_described_and_none_is_a_fault(service: Service, tmp_path: Path, part: tuple[str, ...]) -> None:
    """By schemathesis: single operations with fitting and unfitting values, and chains of operations on one run."""
    done = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{service.port}/openapi.json",
            "--header", f"Authorization: Bearer {TOKENS['boss']}", "--exclude-checks", UNFIT, "--max-examples", "3",
            *part, "--seed", "1", "--no-color", "--generation-database", "none",
            "--request-timeout", "30",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-1000:]
    assert " 0 covered" not in done.stdout
