"""Runs that are asked to stop while their process is being started."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from pathlib import Path

from explaineval.service.auth import User
from explaineval.service.models import RunSettings
from explaineval.service.processes.worker import Started
from explaineval.service.runs import RunService
from explaineval.service.settings import Settings
from servers.service import ENDED, RUN


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
