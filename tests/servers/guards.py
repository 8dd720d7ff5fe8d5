"""No test can reach beyond loopback: an audit hook stops such a connection before it is made, and notes it.

`install` guards this process; a child process guards itself through the `sitecustomize` that `write_switch` makes,
found by PYTHONPATH. At its end such a child can also tell which modules it loaded and where it connected to
(`REPORT_TO`). Standard library only, since it runs before everything else.
"""

from __future__ import annotations

import atexit
import ipaddress
import json
import os
import shutil
import socket
import sys
from pathlib import Path

NOTES_TO = "TEST_GUARD_NOTES_TO"
REPORT_TO = "TEST_GUARD_REPORT_TO"

violations: list[str] = []
connections: list[str] = []
_installed: list[bool] = []


class BeyondLoopbackError(BaseException):
    """A test tried to leave this machine. No `except Exception` of the code under test can swallow it."""


def install() -> None:
    """Guard this process from now on; doing it twice changes nothing."""
    if _installed:
        return
    _installed.append(True)
    sys.addaudithook(_watch)
    if os.environ.get(REPORT_TO):
        atexit.register(_report)


def write_switch(directory: Path) -> str:
    """Make `directory` hold a sitecustomize that guards a child process; returns the PYTHONPATH that finds it."""
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copy(__file__, directory / "guards.py")
    (directory / "sitecustomize.py").write_text("import guards\n\nguards.install()\n", encoding="utf-8")
    return str(directory)


def is_loopback(host: object) -> bool:
    """Whether a host name or address stays on this machine (an empty one does)."""
    text = host.decode() if isinstance(host, bytes) else str(host or "")
    if text in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(text.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        if not isinstance(address, tuple):  # a Unix socket's path, or none at all
            return
        if event == "socket.connect":
            connections.append(f"{address[0]}:{address[1]}")
        _refuse_beyond(address[0], event)
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        host = arguments[0]
        name = host.decode() if isinstance(host, bytes) else str(host or "")
        if name.endswith(".invalid"):  # no resolver knows these, so none needs to be asked
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        _refuse_beyond(host, event)


def _refuse_beyond(host: object, event: str) -> None:
    if is_loopback(host):
        return
    text = f"{event} to {host!r}"
    violations.append(text)
    if os.environ.get(NOTES_TO):
        with Path(os.environ[NOTES_TO]).open("a", encoding="utf-8") as notes:
            notes.write(text + "\n")
    raise BeyondLoopbackError(f"a test tried to leave this machine: {text}")


def _report() -> None:
    found = {"modules": sorted(sys.modules), "connections": connections}
    Path(os.environ[REPORT_TO]).write_text(json.dumps(found), encoding="utf-8")
