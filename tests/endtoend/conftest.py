"""A warm command line, and a small planted task in the test's own directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from servers.commands import WarmCommands
from servers.planted import PlantedServer
from servers.tables import Table


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmCommands]:
    """Commands without the seconds of litellm's import."""
    with WarmCommands(tmp_path_factory.mktemp("warm")) as commands:
        yield commands


@dataclass(frozen=True)
class Bench:
    """A planted server with its task in a directory, and the options that every run of it shares."""

    server: PlantedServer
    directory: Path

    def options(
        self, *more: str | Path, models: tuple[str, ...] = ("planted",), transport: str = "direct"
    ) -> list[str]:
        """`run …` against the server, with what a test adds.

        Both transports send and read the same (tests/client/test_direct.py); the direct one takes a third of the time.
        """
        fixed = ["run", "--task", f"jsonl:{self.directory / 'task.jsonl'}", "--base-url", self.server.url]
        fixed += ["--interventions", str(self.directory / "edits.jsonl"), "--endpoint-name", "lab", "--shots", "2"]
        fixed += ["--transport", transport]
        for model in models:
            fixed += ["--model", f"openai/{model}"]
        return [*fixed, *map(str, more)]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Make a bench: a table and the server's settings in, a running server and its files out."""
    running: list[PlantedServer] = []

    def make(table: Table, **settings: object) -> Bench:
        table.write_task(tmp_path / "task.jsonl")
        table.write_interventions(tmp_path / "edits.jsonl")
        server = PlantedServer(table, **settings)  # type: ignore[arg-type]
        running.append(server.__enter__())
        return Bench(server, tmp_path)

    yield make
    for server in running:
        server.__exit__(None, None, None)
