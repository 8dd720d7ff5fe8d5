"""Record what version 0.2 leaves on a disk where it was stopped in the middle, for the tests of upgrades.

It is run with the code and the test servers of that version (commit f867444), in an empty directory:
`PYTHONPATH=CHECKOUT/src:CHECKOUT/tests python THIS_FILE EMPTYDIR TARGET.tar.xz`. The servers' ports do not matter:
every endpoint has a name.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from makers.waiting import wait_for
from servers.batch_server import BatchServer
from servers.scripted import ScriptedServer
from servers.service import ENVIRONMENT, TOKENS, Service

SMALL = ("--task", "sense", "--limit", "4", "--max-tokens", "60", "--endpoint-name", "box", "--cache", "cache")
BATCHED = {"submitted": "openai/batched", "submitting": "openai/killed"}
"""By the state of the journal the models whose batches were open."""
STOPPED = "openai/stopped"
LIMITS = {"restarts": 3}
SUBMITTED: dict[str, Any] = {
    "tasks": ["sense"], "limit": 4, "max_tokens": 60, "models": [{"model": "openai/served", "endpoint": "lab"}]
}  # fmt: skip


def command_of(model: str, url: str, *more: str) -> tuple[str, ...]:
    """Return the command of a run."""
    return ("run", *SMALL, "--model", model, "--base-url", url, "--out", f"runs/{model.partition('/')[2]}", *more)


def settings_of(url: str) -> dict[str, Any]:
    """Return the settings of the service."""
    return {
        "tokens": {"ann": {"token_env": "TOKEN_ANN", "max_usd": 5}, "boss": {"token_env": "TOKEN_BOSS", "admin": True}},
        "endpoints": {"lab": {"base_url": url, "price": [0.1, 0.4], "max_connections": 1}},
        "embedded": False,
    }


def answer(prompt: str) -> tuple[str, None]:
    """An answer that depends on the length of the prompt."""
    return f"Answer: {'AB'[len(prompt) % 2]}\nExplanation: It follows from what is written.", None


def slow(prompt: str) -> tuple[str, None]:
    """The answer, a moment later."""
    time.sleep(0.2)
    return answer(prompt)


def end_when(condition: Callable[[], bool], number: signal.Signals, work: Path, *command: str) -> None:
    """Run a command, and end it by a signal once a condition holds."""
    with subprocess.Popen([sys.executable, "-m", "explaineval", *command], cwd=work) as child:
        wait_for(condition)
        child.send_signal(number)
        if child.wait(60) == 0:
            raise SystemExit(f"{command} came to its end")


def record(work: Path) -> None:
    """Leave open batches, a stopped run, and a service with a stopped run and one that goes on."""
    with BatchServer(polls=None) as batches:
        batched = ("--batch", "--batch-poll", "600")
        command = command_of(BATCHED["submitted"], f"{batches.root}/v1", *batched)
        end_when(lambda: batches.count("poll") > 0, signal.SIGINT, work, *command)
        hold = [True]

        def wait(call: str) -> None:
            if call == "create" and len(batches.batches) > 1:
                wait_for(lambda: not hold[0])

        batches.on_call = wait
        command = command_of(BATCHED["submitting"], f"{batches.root}/v1", *batched)
        end_when(lambda: len(batches.batches) == 2, signal.SIGKILL, work, *command)
        hold.clear()
        hold.append(False)
        kept = [vars(batch) | {"answers": "", "failures": ""} for batch in batches.batches.values()]
    (work / "batches.json").write_text(json.dumps(kept), encoding="utf-8")
    with ScriptedServer(script=slow) as server:
        command = command_of(STOPPED, server.url, "--max-connections", "1")
        end_when(lambda: len(server.prompts) >= 8, signal.SIGINT, work, *command)
        service = Service(work / "service", settings_of(server.url), ENVIRONMENT)
        service.start()
        runs = []
        for change in ({}, {"samples": 2, "temperature": 1}):
            before = len(server.prompts)
            runs.append(service.submit(SUBMITTED | change, TOKENS["ann"]))
            wait_for(lambda before=before: len(server.prompts) >= before + 6)
            if not change:
                service.ask("POST", f"/api/runs/{runs[0]}/stop", token=TOKENS["ann"])
                service.wait(runs[0], TOKENS["ann"])
        service.kill()
        time.sleep(5)  # the process of the run notices
    (work / "service" / "serve.log").unlink()
    (work / "runs.json").write_text(json.dumps(runs), encoding="utf-8")


def main(work: Path, target: Path) -> None:
    """Record into `work`, and pack it."""
    record(work)
    with tarfile.open(target, "w:xz", preset=9) as archive:
        for path in sorted(work.rglob("*")):
            if path.is_file() and not path.name.endswith(("-shm", ".lock")):
                entry = archive.gettarinfo(path, str(path.relative_to(work)))
                entry.uid = entry.gid = 0
                entry.uname = entry.gname = ""
                with path.open("rb") as handle:
                    archive.addfile(entry, handle)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
