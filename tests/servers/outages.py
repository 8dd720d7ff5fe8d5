"""An OpenAI-shaped endpoint that can go out of service and come back, while the test says so."""

from __future__ import annotations

import asyncio
import threading
from typing import Literal

from servers.loopback import RESET, Asked, LoopbackServer, Reply

Manner = Literal["refused", "reset", "503", "500"]


class FailingServer(LoopbackServer):
    """Answers every prompt with letter A. Use as a context manager.

    `go_down` takes it out of service in one manner, after `answers` more answers; `come_back` ends that. `answered` and
    `failed` count requests, `under_way` those that are being answered; while connections are refused none is counted.
    """

    def __init__(self, latency: float = 0.0) -> None:
        self.latency = latency
        self.answered = self.failed = self.under_way = 0
        self.reached_down = threading.Event()
        self._manner: Manner | None = None
        self._left = 0

    def go_down(self, manner: Manner, answers: int = 0) -> None:
        """Fail in this manner after so many more answers."""
        self._manner, self._left = manner, answers

    def come_back(self) -> None:
        """Answer again."""
        self._manner = None
        if not self.is_open:
            self.do(self.open())

    async def respond(self, asked: Asked) -> Reply:  # noqa: ARG002 - whatever is asked
        """Answer, or fail."""
        self.under_way += 1
        try:
            await asyncio.sleep(self.latency)
        finally:
            self.under_way -= 1
        if self._manner is None or self._left > 0:
            self._left -= 1
            self.answered += 1
            return Reply(200, ANSWER)
        self.failed += 1
        self.reached_down.set()
        if self._manner == "refused":
            await self.close()
        if self._manner in ("refused", "reset"):
            return RESET
        return Reply(int(str(self._manner)), {"error": {"message": "not now"}})


ANSWER = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "Answer: A\nExplanation: because it says so."},
        }
    ],
    "usage": {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30},
}
