"""What one run must not do to the others: a stop that is remembered, a rate beyond all dates, a fault of ours."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from explaineval.service.auth import User
from explaineval.service.models import RunSettings
from explaineval.service.processes import workers
from explaineval.service.processes.worker import Started
from explaineval.service.processes.workers import Workers
from explaineval.service.runs import RunService
from explaineval.service.settings import Settings
from makers.waiting import wait_for
from servers.service import ENDED, RUN, TOKENS, Service


def test_a_stop_before_a_failed_start_is_not_remembered(tmp_path: Path) -> None:
    """The run that is continued afterwards goes on to its end."""
    ann = User("ann", admin=True)

    async def act() -> tuple[str, str]:
        async with RunService(tmp_path, Settings(embedded=False), {}) as service:
            start = service.workers.starter.start

            async def fail(connection: socket.socket, log: int) -> Started:
                service.workers.starter.start = start  # type: ignore[method-assign]  # as it was
                await service.stop(ann, run)
                raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

            async def end() -> str:
                while (row := await service.get(ann, run)).state not in ENDED:  # noqa: ASYNC110 - as users wait
                    await asyncio.sleep(0.02)
                return row.state

            service.workers.starter.start = fail  # type: ignore[method-assign]  # of this test
            async with service.workers._starting:
                run = (await service.submit(ann, RunSettings.model_validate(RUN))).id
            failed = await end()
            await service.resume(ann, run)
            return failed, await end()

    assert asyncio.run(asyncio.wait_for(act(), 120)) == ("failed", "finished")


def test_a_rate_beyond_all_dates_ends_nothing(service: Service) -> None:
    """The run waits for it, and the service goes on."""
    dear = {"models": [{"model": "openai/m", "endpoint": "dear"}], "rpm": 1e-300, "logprobs": "off"}
    run = service.submit(RUN | dear, TOKENS["bob"])
    wait_for(lambda: service.run(run, TOKENS["bob"])["waits_for"] == "rate")
    waiting = service.run(run, TOKENS["bob"])
    other = service.wait(service.submit(RUN, TOKENS["bob"]), TOKENS["bob"])
    ready = service.ask("GET", "/readyz").status
    service.ask("POST", f"/api/runs/{run}/stop", token=TOKENS["bob"])

    assert (waiting["state"], other["state"], ready) == ("waiting", "finished", 200)
    assert "at 9999-12-31 23:59:59 UTC" in waiting["reason"]


def test_a_fault_keeps_no_run_from_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is logged, and runs are looked for again."""
    worker: Any = object.__new__(Workers)
    worker._wake, worker._starting, worker.closing = asyncio.Event(), asyncio.Lock(), False
    looks = []

    async def tick() -> bool:
        looks.append(worker._wake.is_set())
        if len(looks) == 1:
            raise ZeroDivisionError
        raise asyncio.CancelledError

    async def nothing() -> None:
        pass

    worker.starter, worker._tick = SimpleNamespace(open=nothing), tick
    monkeypatch.setattr(workers, "TICK_SECONDS", 0.0)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(worker.run())

    assert len(looks) == 2
