"""A process that has imported litellm and the package once and forks a child for each run of the command line.

The import costs seconds and is the same every time; what runs in the child is `explaineval.cli.app.main` with the
given arguments, environment and directory, as `python -m explaineval` would run it. Orders come as JSON lines on
standard input: {"start": {...}} is answered with the child's id, {"wait": id} with its exit code, and then {"peak": id}
with the most memory that it held, in kB.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from importlib import import_module
from typing import Any

PRELOADED = (
    "litellm", "litellm._service_logger", "litellm.llms.litellm_proxy.chat.transformation", "litellm.proxy._types",
    "litellm.llms.openai.chat.gpt_audio_transformation", "litellm.llms.openai_like.dynamic_config",
    "litellm.llms.vertex_ai.vertex_ai_partner_models.anthropic.transformation",
    "openai.resources", "scipy.special", "explaineval.cli.run", "explaineval.cli.score",
    "explaineval.client.litellm_client", "explaineval.reporting.live", "explaineval.reporting.screen",
)  # fmt: skip
"""What the runs of a test suite would otherwise import each time."""


def main() -> None:
    """Serve orders until standard input ends."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    os.environ["LITELLM_MODE"] = "PRODUCTION"
    for name in PRELOADED:
        import_module(name)
    gc.collect()
    gc.freeze()  # collections in the children would go through all of it, and copy its pages
    peaks: dict[int, int] = {}
    for line in sys.stdin:
        order = json.loads(line)
        if "start" in order:
            answer = start(order["start"])
        elif "wait" in order:
            _, status, used = os.wait4(order["wait"], 0)
            answer, peaks[order["wait"]] = os.waitstatus_to_exitcode(status), used.ru_maxrss
        else:
            answer = peaks.pop(order["peak"])
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def start(order: dict[str, Any]) -> int:
    """Fork a child that becomes one run of the command line; returns its id."""
    child = os.fork()
    if child:
        return child
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    for number, path in enumerate((os.devnull, order["stdout"], order["stderr"])):
        opened = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(opened, number)
        os.close(opened)
    from explaineval.cli.app import main as run

    code = 1
    try:
        run(order["arguments"])
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # what the parent registered for its own end is not the child's to run
    return 0


if __name__ == "__main__":
    main()
