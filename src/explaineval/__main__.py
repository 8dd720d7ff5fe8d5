"""Run the command line: the command `explaineval`, and `python -m explaineval`."""

import json
import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130
MESSAGE = "interrupted; run the same command again to continue."


def main() -> None:
    """Run the command line and exit. Ctrl-C ends it in one sentence, also while it starts and while it ends."""
    try:
        signal.signal(signal.SIGINT, _end)
        from explaineval.cli import main as run

        signal.signal(signal.SIGINT, signal.default_int_handler)
        run()
    except KeyboardInterrupt:
        _end()
    finally:
        signal.signal(signal.SIGINT, _end)


def _end(number: int = 0, frame: FrameType | None = None) -> None:  # noqa: ARG001 - signal handlers get both
    """End the process at once: nothing was sent yet, or everything that was is stored or told."""
    if "--json" in sys.argv:
        document = {"error": {"code": INTERRUPTED, "message": MESSAGE}}
        os.write(1, json.dumps(document).encode() + b"\n")
    else:
        os.write(2, f"explaineval: {MESSAGE}\n".encode())
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
