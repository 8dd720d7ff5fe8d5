"""Scoring stands alone, and a command loads no library that it does not use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from makers.runs import make_run, make_sham, make_trial

FOREIGN = ("litellm", "httpx", "diskcache")
ABOVE = ("client", "cache", "planning", "execution")


def command(*arguments: str) -> str:
    """The code of a command that succeeds."""
    call = f"try:\n    main({list(arguments)!r})\nexcept SystemExit as end:\n    assert not end.code"
    return f"from explaineval.cli import main\n{call}"


def loaded_by(code: str) -> set[str]:
    """The modules that are loaded after this code, in a process of its own."""
    text = f"import sys\n{code}\nprint('MODULES', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("MODULES ")[2].split())


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", ["scoring", "scoring.rows", "rundir", "rundir.directory", "reporting.tables"])
def test_scoring_loads_neither_client_nor_cache(name: str) -> None:
    """Nor planning, execution, litellm, httpx or diskcache."""
    found = loaded_by(f"import explaineval.{name}")

    packages = {module.split(".")[1] for module in found if module.startswith("explaineval.")}
    assert packages & set(ABOVE) == set()
    assert {module.partition(".")[0] for module in found} & set(FOREIGN) == set()
    assert f"explaineval.{name}" in found


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without cues."""
    trials = [make_trial(example, 0, changed=example % 2 == 0, mentioned=example < 3) for example in range(6)]
    return make_run(tmp_path_factory.mktemp("imports") / "run", [*trials, *(make_sham(e) for e in range(6))], 6)


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("more", "table"), [((), False), (("--table",), True), (("--json",), False)])
def test_score_loads_rich_only_for_a_table(run_dir: Path, more: tuple[str, ...], table: bool) -> None:
    """And never scipy.stats, the templates' jinja2, or anything that could send a request."""
    found = loaded_by(command("score", str(run_dir), *more))

    assert ("rich" in found) == table
    assert {"scipy.stats", "jinja2", "pandas", "explaineval.client", "explaineval.cache", *FOREIGN} & found == set()


def test_help_loads_neither_numpy_nor_pydantic() -> None:
    """Printing the list of commands computes nothing."""
    found = loaded_by(command("--help"))

    assert {"numpy", "scipy", "pydantic", "rich"} & found == set()
