"""Ctrl-C while the command line still starts: one sentence, exit code 130, no traceback, whatever is being imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

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


def interrupt(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command that gets SIGINT when it begins to import a module."""
    code = INTERRUPT_AT.format(name=name, words=list(words))
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=dict(os.environ), check=False
    )


@pytest.mark.parametrize("name", MODULES)
def test_an_interrupt_during_an_import_is_one_sentence(name: str) -> None:
    """From the first import of the package on."""
    ended = interrupt(name, "run", "--task", "nli", "--model", "openai/x", "--offline")

    assert ended.returncode == 130
    assert ended.stderr.strip() == "explaineval: interrupted; run the same command again to continue."
    assert ended.stdout == ""


@pytest.mark.parametrize("name", MODULES[:4])
def test_with_json_it_is_one_document(name: str) -> None:
    """As every other error."""
    ended = interrupt(name, "run", "--json")

    assert ended.returncode == 130
    assert json.loads(ended.stdout)["error"]["code"] == 130
    assert not ended.stderr.strip()


def test_the_command_begins_where_interrupts_are_caught() -> None:
    """The console script imports nothing before."""
    settings = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))

    assert settings["project"]["scripts"] == {"explaineval": "explaineval.__main__:main"}
