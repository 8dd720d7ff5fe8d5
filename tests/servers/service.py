"""The service in a process of its own, seen from outside: started, asked over HTTP, stopped and killed."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ENDED = ("stopped", "finished", "failed", "interrupted")
READY_SECONDS = 180.0

TOKENS = {"ann": "ann-" + "a" * 20, "bob": "bob-" + "b" * 20, "boss": "boss-" + "c" * 20}
"""Users of `SETTINGS`; boss is an admin."""
ENVIRONMENT = {f"TOKEN_{name.upper()}": text for name, text in TOKENS.items()}
SETTINGS: dict[str, Any] = {
    "tokens": {
        "ann": {"token_env": "TOKEN_ANN", "max_usd": 5},
        "bob": {"token_env": "TOKEN_BOB"},
        "boss": {"token_env": "TOKEN_BOSS", "admin": True},
    },
    "endpoints": {"dear": {"base_url": "http://127.0.0.1:9/v1", "price": [1000, 1000]}},
    "embedded": False,
    "limits": {"request_bytes": 100_000, "file_bytes": 500_000, "file_rows": 2000, "files_per_token": 40},
}
"""Settings of a service with simulated models, and an endpoint at which nothing listens."""
RUN: dict[str, Any] = {"tasks": ["sense"], "models": [{"model": "simulated/faithful"}], "limit": 5}
"""A run that takes a second."""


def free_port() -> int:
    """Return a port at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Reply:
    """An answer: its status, headers with names in lower case, and body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class Service:
    """One data directory, and the process that serves it while there is one."""

    directory: Path
    settings: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.directory / "data"

    def start(self) -> None:
        """Start the process, and wait until it takes runs."""
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "serve.yaml"
        config.write_text(json.dumps(self.settings), encoding="utf-8")
        command = [sys.executable, "-m", "explaineval", "serve", "--config", str(config), "--data", str(self.data)]
        with (self.directory / "serve.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port)], env=os.environ | self.environment, stdout=log, stderr=log
            )
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end:
            try:
                if self.ask("GET", "/readyz").status == 200:
                    return
            except OSError:
                pass
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError(f"the service does not start: {self.log()}")

    def reload(self, settings: dict[str, Any]) -> None:
        """Give the process other settings, and wait until it has taken them on."""
        assert self.process is not None
        before = self.log().count('"reload"')
        self.settings = settings
        (self.directory / "serve.yaml").write_text(json.dumps(settings), encoding="utf-8")
        self.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + READY_SECONDS
        while self.log().count('"reload"') == before:
            assert time.monotonic() < end, self.log()
            time.sleep(0.02)
        assert '"refused"' not in self.log().splitlines()[-1]

    def log(self) -> str:
        """Return what the process printed."""
        return (self.directory / "serve.log").read_text(encoding="utf-8")

    def kill(self) -> None:
        """End the process by SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """End the process by SIGTERM; return its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(READY_SECONDS)
        self.process = None
        return code

    def workers(self) -> dict[str, int]:
        """Return the process id of each run that goes on, by the run's id; they hold the locks of their directories."""
        locked = {}
        inodes = {path.stat().st_ino: path.name for path in (self.data / "runs").iterdir()}
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            columns = line.split()
            if columns[1] == "FLOCK" and int(columns[5].rpartition(":")[2]) in inodes:
                locked[inodes[int(columns[5].rpartition(":")[2])]] = int(columns[4])
        return locked

    def ask(
        self, method: str, path: str, body: Any = None, token: str | None = None, headers: dict[str, str] | None = None
    ) -> Reply:
        """Send one request; a body that is no bytes is sent as JSON."""
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, names, answer.read())
        finally:
            connection.close()

    def submit(self, settings: dict[str, Any], token: str | None = None) -> str:
        """Submit a run; return its id."""
        reply = self.ask("POST", "/api/runs", settings, token)
        assert reply.status == 201, reply.document
        return str(reply.document["id"])

    def run(self, run: str, token: str | None = None) -> dict[str, Any]:
        """Return how a run is."""
        reply = self.ask("GET", f"/api/runs/{run}", token=token)
        assert reply.status == 200, reply.document
        document: dict[str, Any] = reply.document
        return document

    def wait(self, run: str, token: str | None = None, seconds: float = 300.0) -> dict[str, Any]:
        """Return how a run is once it has ended."""
        end = time.monotonic() + seconds
        while (found := self.run(run, token))["state"] not in ENDED:
            assert time.monotonic() < end, (found["state"], found["reason"], self.log())
            time.sleep(0.1)
        return found
