"""Run the command line: the command `explaineval`, and `python -m explaineval`."""

import os

from explaineval.interrupts import INTERRUPTED, end, end_at_interrupts


def main() -> None:
    """Run the command line and exit. Ctrl-C ends it in one sentence, also while it starts and while it ends."""
    try:
        end_at_interrupts()
        from explaineval.cli import main as run

        run()
    except KeyboardInterrupt:
        end()
    except SystemExit as exc:
        if exc.code != INTERRUPTED:
            raise
        os._exit(INTERRUPTED)  # after an interrupt within `exec` (in a dataclass) Python would end by SIGINT instead
    finally:
        end_at_interrupts()


if __name__ == "__main__":
    main()
