"""What a command loads, prints and connects to: no litellm where nothing is asked, no chatter, no foreign socket."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from servers import commands, guards
from servers.commands import Result
from servers.planted import PlantedServer
from servers.tables import Table

HEAVY = {"litellm", "pandas", "spacy", "httpx", "aiohttp", "openai"}
TABLE = Table(examples=6, words=2, seed=0)


@dataclass(frozen=True)
class Seen:
    """A command, what it loaded, and where it connected to."""

    result: Result
    modules: set[str]
    connections: list[str]


@dataclass(frozen=True)
class Place:
    """A run that is finished, and how to run commands beside it."""

    directory: Path
    server: PlantedServer
    options: list[str]
    first: Seen
    watch: Callable[..., Seen]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One real run that asks, with its table on standard output."""
    directory = tmp_path_factory.mktemp("hygiene")
    TABLE.write_task(directory / "task.jsonl")
    TABLE.write_interventions(directory / "edits.jsonl")

    def watch(*arguments: str | Path) -> Seen:
        report = directory / "report.json"
        report.unlink(missing_ok=True)
        result = commands.run(*arguments, cwd=directory, env={guards.REPORT_TO: str(report)})
        found = json.loads(report.read_text(encoding="utf-8"))
        return Seen(result, {name.partition(".")[0] for name in found["modules"]}, found["connections"])

    with PlantedServer(TABLE) as server:
        options = ["run", "--task", "jsonl:task.jsonl", "--interventions", "edits.jsonl", "--out", "out"]
        options += ["--model", "openai/planted", "--base-url", server.url]
        yield Place(directory, server, options, watch(*options), watch)


@pytest.mark.slow
def test_a_run_connects_to_its_endpoint_and_nowhere_else(place: Place) -> None:
    """litellm would fetch prices, send telemetry: every connection of the process goes to the planted server."""
    assert place.first.result.code == 0
    assert "litellm" in place.first.modules
    assert {f"127.0.0.1:{place.server.port}"} == set(place.first.connections)
    assert not {"pandas", "spacy", "matplotlib"} & place.first.modules


@pytest.mark.slow
def test_a_run_prints_its_table_and_nothing_of_litellm(place: Place) -> None:
    """Standard output holds the table, the counts and the directory; standard error no chatter."""
    printed = place.first.result.stdout + place.first.result.stderr

    assert "phi" in place.first.result.stdout
    assert "Run directory: out" in place.first.result.stdout.splitlines()[-1]
    for chatter in ("Give Feedback", "LiteLLM", "litellm", "INFO", "Traceback", "Warning"):
        assert chatter not in printed


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [(), ("run",), ("demo",), ("score",), ("cache", "stats"), ("interventions", "build"), ("interventions", "show")],
    ids=" ".join,
)
def test_help_loads_nothing_heavy(place: Place, arguments: tuple[str, ...]) -> None:
    """--help of the whole, and of each command, is quick: not even httpx."""
    seen = place.watch(*arguments, "--help")

    assert seen.result.code == 0
    assert "Usage: explaineval" in seen.result.stdout
    heavy = HEAVY if not arguments else HEAVY - {"httpx"}
    assert not heavy & seen.modules
    assert seen.connections == []


@pytest.mark.slow
def test_a_run_served_from_the_cache_loads_no_litellm_and_opens_no_socket(place: Place) -> None:
    """All answers stored: no import of seconds, no connection, the same table."""
    before = len(place.server.received)
    seen = place.watch(*place.options)

    assert seen.result.code == 0
    assert not {"litellm", "pandas", "spacy", "openai", "aiohttp", "matplotlib"} & seen.modules
    assert seen.connections == []
    assert before == len(place.server.received)
    assert place.first.result.stdout.splitlines()[:-3] == seen.result.stdout.splitlines()[:-3]


@pytest.mark.slow
def test_a_run_from_the_cache_alone_loads_nothing_that_sends(place: Place) -> None:
    """With --offline no HTTP client is imported, and with --json no library for tables."""
    seen = place.watch(*place.options, "--offline", "--json")

    assert seen.result.code == 0
    assert not {"httpx", "certifi", "rich", "litellm", "pandas"} & seen.modules
    assert "diskcache" in seen.modules


@pytest.mark.slow
def test_scoring_loads_neither_litellm_nor_pandas(place: Place) -> None:
    """`score` needs the run directory alone."""
    seen = place.watch("score", "out")

    assert seen.result.code == 0
    assert not {"litellm", "pandas", "spacy", "openai", "aiohttp", "matplotlib"} & seen.modules
    assert seen.connections == []


def test_no_test_leaves_this_machine(leaves_loopback: None) -> None:
    """Connections, datagrams and look-ups beyond loopback raise before anything is sent."""
    with socket.socket() as stream, pytest.raises(guards.BeyondLoopbackError):
        stream.connect(("192.0.2.1", 80))
    with pytest.raises(guards.BeyondLoopbackError):
        socket.getaddrinfo("example.com", 80)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams, pytest.raises(guards.BeyondLoopbackError):
        datagrams.sendto(b"x", ("192.0.2.1", 53))
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo("nobody.invalid", 80)

    assert [text.partition(" ")[0] for text in guards.violations] == [
        "socket.connect",
        "socket.getaddrinfo",
        "socket.sendto",
    ]


@pytest.mark.parametrize("code", ["create_connection(('192.0.2.1', 80), 1)", "getaddrinfo('example.com', 80)"])
def test_no_child_process_leaves_this_machine(code: str, leaves_loopback: None) -> None:
    """The switch on PYTHONPATH guards children too; an `except Exception` there cannot swallow the error."""
    swallowing = f"import socket\ntry:\n    socket.{code}\nexcept Exception:\n    print('swallowed')"
    child = subprocess.run([sys.executable, "-c", swallowing], capture_output=True, text=True, check=False)
    notes = Path(os.environ[guards.NOTES_TO]).read_text(encoding="utf-8")

    assert child.returncode == 1
    assert "BeyondLoopbackError" in child.stderr
    assert child.stdout == ""
    assert notes.count("\n") == 1


def test_the_environment_holds_no_settings_and_no_keys() -> None:
    """What the user of this machine exports neither changes a test nor is spent by one."""
    foreign = [name for name in os.environ if name.startswith("EXPLAINEVAL_") or name.endswith("_API_KEY")]

    assert foreign == []
