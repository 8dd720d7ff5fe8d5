"""Ctrl-C while the command line still starts: one sentence, exit code 130, no traceback, whatever is being imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pydantic_core import SchemaError

from explaineval.cli import app
from explaineval.interrupts import MESSAGE

SOURCE = Path(__file__).parents[2] / "src"
INTERRUPT_AT = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
        return None

sys.meta_path.insert(0, Interrupt())
from explaineval.__main__ import main
sys.argv = ["explaineval", *{words!r}]
main()
"""
MODULES = ["explaineval.cli", "click", "explaineval.secrets", "explaineval.cli.run", "pydantic", "explaineval.prompts"]


IN_EXEC = """
import sys
import explaineval.cli
from explaineval.__main__ import main

def interrupted_command():
    try:
        exec("raise KeyboardInterrupt")
    except KeyboardInterrupt:
        print("told", flush=True)
        sys.exit(130)

explaineval.cli.main = interrupted_command
main()
"""


def interrupt(name: str, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command that gets SIGINT when it begins to import a module."""
    code = INTERRUPT_AT.format(name=name, words=list(words))
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **env},
        check=False,
    )


@pytest.mark.parametrize("name", MODULES)
def test_an_interrupt_during_an_import_is_one_sentence(name: str) -> None:
    """From the first import of the package on."""
    ended = interrupt(name, "run", "--task", "nli", "--model", "openai/x", "--offline")

    assert ended.returncode == 130
    assert ended.stderr.strip() == "explaineval: interrupted; run the same command again to continue."
    assert ended.stdout == ""


@pytest.mark.parametrize("name", MODULES[:4])
@pytest.mark.parametrize(("words", "env"), [(["run", "--json"], {}), (["run"], {"EXPLAINEVAL_JSON": "yes"})])
def test_with_json_it_is_one_document(name: str, words: list[str], env: dict[str, str]) -> None:
    """As every other error, by the option and by its variable."""
    ended = interrupt(name, *words, **env)

    assert ended.returncode == 130
    assert json.loads(ended.stdout) == {"schema": 2, "warnings": [], "error": {"code": 130, "message": MESSAGE}}
    assert not ended.stderr.strip()


def test_an_interrupt_in_generated_code_ends_with_130(tmp_path: Path) -> None:
    """After one within `exec`, such as in a dataclass, `python -m` ends by SIGINT, even where it is caught."""
    (tmp_path / "interrupted.py").write_text(IN_EXEC, encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-m", "interrupted"], capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False
    )

    assert (ended.returncode, ended.stdout) == (130, "told\n")


def test_an_interrupt_that_became_an_error_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """pydantic-core raises an error of its own where a model is being built."""

    def build(*_: object, **__: object) -> None:
        raise SchemaError("Error building a validator:\n  KeyboardInterrupt: ")

    monkeypatch.setattr(app.app, "main", build)
    with pytest.raises(SystemExit) as ended:
        app.main(["plan"])

    assert ended.value.code == 130
    assert capsys.readouterr().err.strip() == f"explaineval: {MESSAGE}"


def test_little_is_imported_before_interrupts_are_caught() -> None:
    """What is slow to import would leave a moment in which Ctrl-C prints a traceback."""
    code = "import sys, explaineval.interrupts; print({'json', 're', 'typing', 'click'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(SOURCE)}, check=True
    )

    assert done.stdout == "set()\n"


def test_the_command_begins_where_interrupts_are_caught() -> None:
    """The console script imports nothing before."""
    settings = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))

    assert settings["project"]["scripts"] == {"explaineval": "explaineval.__main__:main"}
