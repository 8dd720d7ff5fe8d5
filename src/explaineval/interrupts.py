"""Ctrl-C while the command line starts and ends: one sentence, or one JSON document, and the exit code 130.

Whatever this imports is imported before the first handler stands: as little as possible.
"""

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

INTERRUPTED = 130
MESSAGE = "interrupted; run the same command again to continue."
TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})
"""What switches an option on by its variable."""


def end_at_interrupts() -> None:
    """Let Ctrl-C end the process at once."""
    signal.signal(signal.SIGINT, end)


def raise_at_interrupts() -> None:
    """Let Ctrl-C raise KeyboardInterrupt, as Python and asyncio expect it, if it ends the process at once so far."""
    if signal.getsignal(signal.SIGINT) is end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def wants_json(words: Sequence[str]) -> bool:
    """Return whether a command line or the environment asks for one JSON document."""
    return "--json" in words or os.environ.get("EXPLAINEVAL_JSON", "").lower() in TRUE


def end(number: int = 0, frame: FrameType | None = None) -> None:  # noqa: ARG001 - signal handlers get both
    """End the process at once: nothing was sent yet, or everything that was is stored or told."""
    if wants_json(sys.argv):
        error = f'{{"code": {INTERRUPTED}, "message": "{MESSAGE}"}}'  # json is slow to import
        os.write(1, f'{{"schema": 2, "warnings": [], "error": {error}}}\n'.encode())
    else:
        os.write(2, f"explaineval: {MESSAGE}\n".encode())
    os._exit(INTERRUPTED)
