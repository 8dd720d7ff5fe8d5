"""The command line, run in the process of the test."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from explaineval.cli.app import main

Call = Callable[..., tuple[int, str, str]]
"""Takes the words of a command, gives the exit code, the standard output and the standard error."""


def make_call(capsys: pytest.CaptureFixture[str], *first: str) -> Call:
    """Return a function that runs the command line; the words in `first` stand before those that it is given."""

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([*first, *map(str, words)])
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return run
