"""Keys: sent where they belong, and nowhere else; never written, never shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from servers.commands import Result, WarmCommands
from servers.tables import Table

KEY = "planted-4f9d-secret-17c3-value"
FOREIGN = "sk-proj-somebody-elses-9a8b7c6d5e"
TABLE = Table(examples=3, words=2, seed=0)


def leaks(directory: Path, result: Result, secret: str) -> list[str]:
    """Where the secret stands: files below the directory by name, and the outputs."""
    wanted = secret.encode()
    found = [str(path) for path in directory.rglob("*") if path.is_file() and wanted in path.read_bytes()]
    return found + [name for name in ("stdout", "stderr") if secret in getattr(result, name)]


def test_a_key_is_sent_and_never_written(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """The variable that --api-key-env names reaches the endpoint; no file and no output holds its value."""
    one = bench(TABLE, accepted_key=KEY)
    env = {"LAB_KEY": KEY, "OPENAI_API_KEY": FOREIGN}
    result = warm.run(*one.options("--out", "out", "--api-key-env", "LAB_KEY"), cwd=one.directory, env=env)

    assert result.code == 0
    assert {f"Bearer {KEY}"} == {received.authorization for received in one.server.received}
    assert leaks(one.directory, result, KEY) == []
    assert "LAB_KEY" in (one.directory / "out" / "run.json").read_text()


@pytest.mark.parametrize("more", [(), ("--json",)], ids=["text", "json"])
def test_a_key_echoed_by_the_endpoint_is_blanked_out(
    bench: Callable[..., Any], warm: WarmCommands, more: tuple[str, ...]
) -> None:
    """A 401 whose message repeats the key: exit 5, one sentence without it, nothing of it in any file."""
    one = bench(TABLE, accepted_key="another")
    env = {"LAB_KEY": KEY}
    result = warm.run(*one.options("--out", "out", "--api-key-env", "LAB_KEY", *more), cwd=one.directory, env=env)

    assert result.code == 5
    assert [f"Bearer {KEY}"] == [received.authorization for received in one.server.received]
    assert "401" in result.stderr
    assert "key is not accepted" in result.stderr
    assert leaks(one.directory, result, KEY) == []


def test_a_providers_own_key_never_goes_to_another_address(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """With --base-url and no variable named, OPENAI_API_KEY stays at home, in both styles."""
    one = bench(TABLE)
    env = {"OPENAI_API_KEY": FOREIGN, "OPENAI_ORGANIZATION": "org-of-another"}
    results = [
        warm.run(*one.options("--out", style, "--style", style), cwd=one.directory, env=env)
        for style in ("chat", "completion")
    ]

    assert [result.code for result in results] == [0, 0]
    assert {"chat", "completion"} == {received.arm.style for received in one.server.received}
    assert not any(FOREIGN in str(received.authorization) for received in one.server.received)
    assert [place for result in results for place in leaks(one.directory, result, FOREIGN)] == []


def test_the_default_variable_is_the_tools_own(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """EXPLAINEVAL_API_KEY is what --base-url sends unless another variable is named."""
    one = bench(TABLE, accepted_key=KEY)
    env = {"EXPLAINEVAL_API_KEY": KEY, "OPENAI_API_KEY": FOREIGN}
    result = warm.run(*one.options("--out", "out"), cwd=one.directory, env=env)

    assert result.code == 0
    assert {f"Bearer {KEY}"} == {received.authorization for received in one.server.received}
    assert leaks(one.directory, result, KEY) == []


def test_a_named_variable_without_a_key_is_bad_input(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """An unset --api-key-env: exit 2, the variable is named, nothing is sent."""
    one = bench(TABLE)
    result = warm.run(*one.options("--out", "out", "--api-key-env", "LAB_KEY"), cwd=one.directory)

    assert result.code == 2
    assert "LAB_KEY" in result.stderr
    assert one.server.received == []
