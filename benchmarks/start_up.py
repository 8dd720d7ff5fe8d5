"""What do commands cost that send nothing? User CPU of `score` and of cached reruns, for several versions.

A store is filled with 2,000 answers by the first source tree. Then each tree runs `score`, `run --offline` and `run`
(which could send, and finds everything stored) as processes of their own, several times in turn; the least user CPU
counts, since whatever else the machine does can only add to it. Beside it stand the seconds that imports take in a
process of their own, and the libraries that were loaded although nothing is sent.

    python benchmarks/start_up.py [--requests 2000] [--rounds 5] [TREE ...]

Then the last tree's `--help`, and its `score` of a small run (60 examples of a simulated model), against Python with
nothing but the libraries that such a program cannot do without: in turn, the median of the differences in user and
system CPU.

A TREE is a checkout (the default is this one). Exits 1 if a command of the last tree loads a library that sends, or
takes more above its rival than 0.15 s (`--help`) or 0.2 s (`score`).
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from cached_reruns import OPTIONS, PER_EXAMPLE

SENDING = ("httpx", "litellm", "openai", "aiohttp")
WATCHED = (*SENDING, "pandas", "scipy.stats", "rich", "jinja2", "diskcache")
FILLER = Path(__file__).with_name("cached_reruns.py").resolve()
COMMANDS = {
    "score": ("score", "out", "--json"),
    "run --offline": ("run", *OPTIONS, "--offline", "--out", "out", "--json"),
    "run": ("run", *OPTIONS, "--out", "out", "--json"),
}


RIVALS = {
    "--help": (("--help",), "import click", 0.15),
    "score": (("score", "small"), "import numpy, scipy.special\nfrom pydantic import BaseModel", 0.2),
    "score --json": (("score", "small", "--json"), "import numpy, scipy.special\nfrom pydantic import BaseModel", 0.2),
}
"""What is compared: a command, the program of its rival, and the seconds that it may take more."""
SMALL = (
    "run",
    "--task",
    "sense",
    "--model",
    "simulated/faithful",
    "--cache",
    "small-cache",
    "--out",
    "small",
    "--json",
)


def run(tree: Path, *command: str, cwd: Path) -> tuple[float, str]:
    """Run Python on a source tree; return its user CPU in seconds and its standard error."""
    used, text = run_whole(tree, *command, cwd=cwd)
    return used.ru_utime, text


def run_whole(tree: Path, *command: str, cwd: Path) -> tuple[resource.struct_rusage, str]:
    """Run Python on a source tree; return what it used and its standard error."""
    env = {**os.environ, "PYTHONPATH": str(tree / "src"), "PYTHONDONTWRITEBYTECODE": ""}
    with (cwd / "stderr").open("wb") as stderr:
        child = subprocess.Popen([sys.executable, *command], cwd=cwd, env=env, stdout=subprocess.DEVNULL, stderr=stderr)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    text = (cwd / "stderr").read_text()
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} ended with exit code {child.returncode}: {text[-2000:]}")
    return used, text


def imports(tree: Path, command: tuple[str, ...], cwd: Path) -> tuple[float, list[str]]:
    """Return the seconds that a command's imports take, and which of the watched libraries are among them."""
    _, report = run(tree, "-X", "importtime", "-m", "explaineval", *command, cwd=cwd)
    rows = [line.removeprefix("import time:").split("|") for line in report.splitlines() if "|" in line]
    own = {name.strip(): int(microseconds) for microseconds, _, name in rows if microseconds.strip().isdigit()}
    return sum(own.values()) / 1e6, [name for name in WATCHED if name in own]


def above_rival(tree: Path, command: tuple[str, ...], rival: str, rounds: int, cwd: Path) -> float:
    """Return the median of what a command takes more than its rival, in seconds of user and system CPU."""
    differences = []
    for _ in range(rounds + 1):
        both = [run_whole(tree, *words, cwd=cwd)[0] for words in (("-m", "explaineval", *command), ("-c", rival))]
        ours, theirs = (used.ru_utime + used.ru_stime for used in both)
        differences.append(ours - theirs)
    return statistics.median(differences[1:])  # the first one writes bytecode


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trees", nargs="*", type=Path, default=[Path(__file__).resolve().parents[1]], metavar="TREE")
    parser.add_argument("--requests", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    trees = [tree.resolve() for tree in given.trees]
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        cwd = Path(folder)
        run(trees[-1], str(FILLER), "fill", str(math.ceil(given.requests / PER_EXAMPLE)), "0", cwd=cwd)
        run(trees[-1], "-m", "explaineval", *COMMANDS["run"], cwd=cwd)
        for name, command in COMMANDS.items():
            least = dict.fromkeys(trees, math.inf)
            for _ in range(given.rounds):
                for tree in trees:
                    least[tree] = min(least[tree], run(tree, "-m", "explaineval", *command, cwd=cwd)[0])
            for tree in trees:
                seconds, loaded = imports(tree, command, cwd)
                needless = [library for library in loaded if library in SENDING]
                print(f"{name:14} {least[tree]:5.2f} s of user CPU, imports {seconds:.2f} s, "
                      f"loads {', '.join(loaded)}  ({tree})", flush=True)  # fmt: skip
            failed = failed or bool(needless)
        run(trees[-1], "-m", "explaineval", *SMALL, cwd=cwd)
        for name, (command, rival, most) in RIVALS.items():
            more = above_rival(trees[-1], command, rival, 2 * given.rounds + 1, cwd)
            print(f"{name:14} {more:5.3f} s above Python with `{'; '.join(rival.splitlines())}` (at most {most} s)")
            failed = failed or more > most
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
