"""A warm command line for the tests that run whole commands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from servers.commands import WarmCommands


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmCommands]:
    """Commands without the seconds of litellm's import."""
    with WarmCommands(tmp_path_factory.mktemp("warm")) as commands:
        yield commands
