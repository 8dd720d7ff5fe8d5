"""A proxy of the environment that cannot be used is told as such, and nothing counts as paid."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from servers.commands import run as run_command

CLOSED = "http://127.0.0.1:9"
COMMAND = ("run", "--task", "nli", "--limit", "1", "--model", "openai/gpt-4o-mini", "--max-usd", "1")


@contextmanager
def answering(status: str) -> Iterator[str]:
    """A proxy that answers every request by one status; its address with a password."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.recv(1 << 16)
                connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"http://me:word@127.0.0.1:{server.getsockname()[1]}"
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


def run(tmp_path: Path, proxy: str) -> tuple[int, str]:
    """Run the command through a proxy; return how it ended, and what it printed."""
    result = run_command(*COMMAND, cwd=tmp_path, env={"HTTPS_PROXY": proxy, "OPENAI_API_KEY": "sk-" + "x" * 20})
    return result.code, " ".join((result.stdout + result.stderr).split())


@pytest.mark.parametrize(
    ("proxy", "code", "sentence"),
    [
        (CLOSED, 5, f"the proxy {CLOSED} of the environment refuses the connection, so nothing was sent"),
        (
            "ftp://127.0.0.1:9",
            2,
            "the proxy ftp://127.0.0.1:9 of the environment cannot be used",
        ),
        ("http://[bad", 2, "the proxy of the environment is an address that cannot be read"),
    ],
)
def test_an_unusable_proxy_is_told_as_such(tmp_path: Path, proxy: str, code: int, sentence: str) -> None:
    """The sentence names it, says what to do, and nothing is said to have been charged."""
    found, text = run(tmp_path, proxy)

    assert sentence in text
    assert "HTTPS_PROXY" in text
    assert "may have been charged" not in text
    assert found == code


@pytest.mark.parametrize(("status", "code"), [("407 Proxy Authentication Required", 5), ("502 Bad Gateway", 5)])
def test_a_proxy_that_refuses_is_not_taken_for_the_endpoint(tmp_path: Path, status: str, code: int) -> None:
    """Its status is not the endpoint's; its password is not shown."""
    with answering(status) as proxy:
        found, text = run(tmp_path, proxy)

    assert f"of the environment answers with status {status[:3]}, so nothing was sent" in text
    assert "may have been charged" not in text
    assert "word" not in text
    assert found == code
