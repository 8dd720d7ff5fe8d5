"""The command line in a child process: started afresh, or forked from a process that has litellm loaded."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

LONGEST = 180.0
"""Seconds after which a child is killed, so that a hanging one fails its test instead of hanging the suite."""


@dataclass(frozen=True)
class Result:
    """How a command ended; `peak` is the most memory that it held, in kB, where that was measured."""

    code: int
    stdout: str
    stderr: str
    peak: int = 0

    @property
    def document(self) -> dict[str, Any]:
        """Standard output as one JSON document."""
        found = json.loads(self.stdout)
        assert isinstance(found, dict)
        return found


def run(*arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None, setup: str = "") -> Result:
    """Run `python -m explaineval …` in a process of its own, which executes the Python code `setup` first."""
    start = ["-c", f"{setup}\nfrom explaineval.cli.app import main\nmain()"] if setup else ["-m", "explaineval"]
    done = subprocess.run(
        [sys.executable, *start, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=LONGEST,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


@dataclass
class Child:
    """A command under way."""

    pid: int
    _outputs: tuple[Path, Path]
    _wait: Callable[[int], int]
    _peak: Callable[[int], int]

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def has_printed(self, text: str) -> bool:
        """Whether it has printed this on standard error so far."""
        return self._outputs[1].exists() and text in self._outputs[1].read_text(encoding="utf-8")

    def wait_for_line(self, text: str) -> None:
        """Return once it has printed this on standard error."""
        end = time.monotonic() + LONGEST
        while not self.has_printed(text):
            if time.monotonic() > end:
                raise TimeoutError(f"it never said {text!r}")
            time.sleep(0.01)

    def finish(self) -> Result:
        """Wait for its end."""
        timer = threading.Timer(LONGEST, os.kill, (self.pid, signal.SIGKILL))
        timer.start()
        try:
            code = self._wait(self.pid)
        finally:
            timer.cancel()
        return Result(code, *(path.read_text(encoding="utf-8") for path in self._outputs), self._peak(self.pid))


@dataclass
class WarmCommands:
    """Commands without the seconds that litellm's import takes. Use as a context manager."""

    directory: Path
    _count: int = field(default=0, init=False)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).with_name("warm.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()

    def start(self, *arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> Child:
        """Begin a command."""
        self._count += 1
        outputs = (self.directory / f"{self._count}.stdout", self.directory / f"{self._count}.stderr")
        order = {
            "arguments": [str(one) for one in arguments],
            "cwd": str(cwd),
            "env": {**os.environ, **(env or {})},
            "stdout": str(outputs[0]),
            "stderr": str(outputs[1]),
        }
        child = self._ask({"start": order})
        return Child(child, outputs, lambda pid: self._ask({"wait": pid}), lambda pid: self._ask({"peak": pid}))

    def run(self, *arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> Result:
        """A command from beginning to end."""
        return self.start(*arguments, cwd=cwd, env=env).finish()

    def _ask(self, order: dict[str, Any]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())
