"""The embedded model's server: what its child process is started with."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from explaineval.client.endpoints import llamacpp
from explaineval.errors import EndpointError


def test_the_server_is_started_with_two_threads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As many on every machine, idle or busy; they sleep while they wait for each other."""
    started: list[tuple[list[str], dict[str, str]]] = []

    def start(command: list[str], *, env: dict[str, str], **_: Any) -> subprocess.Popen[bytes]:
        started.append((command, env))
        raise EndpointError("enough seen")

    monkeypatch.setattr(llamacpp.util, "find_spec", lambda name: name)
    monkeypatch.setattr(llamacpp.subprocess, "Popen", start)
    monkeypatch.setattr(llamacpp.os, "getloadavg", lambda: (64.0,) * 3)
    monkeypatch.setattr(llamacpp.os, "cpu_count", lambda: 1)

    with pytest.raises(EndpointError, match="enough seen"):
        llamacpp.EmbeddedServer(tmp_path / "weights.gguf", slots=3)

    ((command, environment),) = started
    assert command[-3:] == [str(tmp_path / "weights.gguf"), "3", "2"]
    assert environment["OMP_WAIT_POLICY"] == "PASSIVE"
