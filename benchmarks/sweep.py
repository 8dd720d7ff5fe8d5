"""A sweep of 24 planted models: is nothing bought twice, and does `compare` find what was planted?

8 families of 3 sizes, 12 of the models with log-probabilities, are asked by one sweep file over a local endpoint: 2
tasks at 3 verbosity levels. The run is killed twice and continued. In one world the TPR of the models rises with their
size, in the other it does not. The trend must be found in the one and not in the other.

    python benchmarks/sweep.py [--tasks 2] [--examples 10] [--words 5] [--world rising|flat] [--transport litellm]

Exits 1 unless all of this holds. `tests/endtoend/test_endtoend_sweep.py` is a smaller cut of it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from scipy.stats import spearmanr

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
commands = import_module("servers.commands")
sweeps = import_module("servers.sweeps")

LEVELS = ("brief", "normal", "detailed")
LONGEST = 3600.0
LEAST_RANK_CORRELATION = 0.7


def run_world(world: str, size: object, directory: Path, transport: str) -> Iterator[str]:
    """Run and compare a sweep of one world; print its figures and yield what does not hold."""
    started, cpu = time.perf_counter(), os.times().children_user
    with commands.WarmCommands(directory) as warm:
        sweep = sweeps.Sweep(world, size, directory, transport=transport)
        with sweep.server:
            sweep.write()
            last, lost = sweep.run(warm)
            bought = sweep.bought()
            levels = sweeps.read_findings(sweep, sweep.compare(warm)) if last.code == 0 else []
    seconds, cpu = time.perf_counter() - started, os.times().children_user - cpu
    most = 2 * sweeps.CONNECTIONS * len(sweeps.FAMILIES)
    print(
        f"{world}: {size.requests:,} requests, {bought:,} bought; {' and '.join(map(str, lost))} were under way "
        f"at the kills (at most {most}); {seconds:.0f} s, {cpu:.0f} s of CPU"
    )
    if last.code:
        yield f"the last run ended with exit code {last.code}: {last.stderr[-500:]}"
    if bought != size.requests + sum(lost):
        yield f"{bought - size.requests - sum(lost)} answers were bought twice without need"
    if max(lost) > most:
        yield f"{max(lost)} answers were lost at a kill"
    if levels and all(entry["value"] is None for level in levels for entry, _ in level.explained):
        yield "no R² is defined"
    for level in levels:
        rank = spearmanr(level.planted, level.measured).statistic
        trend = "{value:+.3f} [{low:+.3f}, {high:+.3f}]".format_map(level.trend)
        print(f"  {level.level:9} trend {trend} by tenfold size; rank correlation with the planted order {rank:.2f}")
        if level.has_trend != (world == "rising"):
            yield f"{level.level}: a trend is {'' if level.has_trend else 'not '}found"
        if not rank > LEAST_RANK_CORRELATION:
            yield f"{level.level}: the order of the models is not the planted one"
        for entry, planted in level.explained:
            if entry["value"] is None:  # too few trials name a word at a low verbosity
                print(f"            {entry['task']}: R² undefined: {entry['undefined']}")
                continue
            print("  {:9} {task}: R² {value:.2f} [{low:.2f}, {high:.2f}]".format("", **entry), f"planted {planted:.2f}")
            if not entry["low"] <= planted <= entry["high"]:
                yield f"{level.level}, {entry['task']}: the planted R² lies outside its interval"


def main() -> int:
    """Run one world or both; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=2)
    parser.add_argument("--examples", type=int, default=10)
    parser.add_argument("--words", type=int, default=5)
    parser.add_argument("--world", choices=("rising", "flat"))
    parser.add_argument("--transport", choices=("litellm", "direct"), default="litellm")
    given = parser.parse_args()
    commands.LONGEST = LONGEST
    size = sweeps.Size(given.tasks, LEVELS, given.examples, given.words)
    problems = []
    for world in [given.world] if given.world else ["rising", "flat"]:
        with tempfile.TemporaryDirectory() as directory:
            found = run_world(world, size, Path(directory), given.transport)
            problems += [f"{world}: {problem}" for problem in found]
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
