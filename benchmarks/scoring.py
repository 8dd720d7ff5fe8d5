"""Is scoring as fast as a plain script with pandas, and its bootstrap faster than scipy's? CPU and peak memory.

A run directory of 1,000,000 trials (100,000 examples with nine words and one sham each) is made up: a small run with a
simulated model gives run.json, and trials.jsonl is written anew at full size, with known rates, explanations of about
25 words and label probabilities. Then, each in a process of its own, in turn, several times:

- `explaineval score RUN_DIR --json`, the whole process: all metrics with intervals and warnings.
- The rival: `pandas.read_json(trials.jsonl, lines=True)`, then by groupby the 2×2 tables of each example and of each
  condition, phi, the mention and impact rates, accuracy, the sham rate, and CCT as a correlation. It computes no
  interval, checks no line and keeps nothing bounded: what a user would write in ten lines. The same is done with
  pandas' other reader (`engine="pyarrow"`, which needs pyarrow), for information.

The least CPU time of each counts, since whatever else the machine does can only add to it.

The second part is phi's percentile interval with 2,000 resamples over the same examples. The rival is
`scipy.stats.bootstrap(..., vectorized=True, method="percentile")` on the four columns of the tables, paired, with the
same statistic, at 1/100 of the examples, its time multiplied by 100: it draws indices, so its time is linear.

    python benchmarks/scoring.py [--examples 100000] [--rounds 3] [--keep DIR]

Exits 1 where scoring takes more CPU than the rival or 400 MB at its peak, the bootstrap is less than 100 times faster
than scipy's, or the rival's phi is not the one in our rows.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WORDS = 9
PER_EXAMPLE = WORDS + 1
MOST_MEMORY = 400
"""Megabytes."""
LEAST_FASTER = 100
RESAMPLES = 2000
IMPACT, TPR, FPR = 0.2, 0.55, 0.2
FILLER = (
    "because", "the", "first", "sentence", "says", "what", "second", "one", "leaves", "open", "and", "nobody", "who",
    "reads", "both", "of", "them", "would", "expect", "anything", "else", "from", "is", "told", "about", "it", "here",
)  # fmt: skip
INSERTED = ("wooden", "purple", "distant", "hollow", "bitter", "northern", "silent", "golden", "quickly", "rarely")

RIVAL = """
import sys
import pandas as pd

engine = dict(engine="pyarrow") if sys.argv[2:] == ["pyarrow"] else {}
trials = pd.read_json(sys.argv[1], lines=True, **engine)
condition = ["model", "task", "kind", "order", "style", "shots", "verbosity"]
scored = trials[(trials.status == "ok") & (trials.kind != "sham")].copy()
scored["changed"] = scored.changed.astype(bool)
scored["mentioned"] = scored.mentioned.astype(bool)
scored["a"] = scored.changed & scored.mentioned
scored["b"] = scored.changed & ~scored.mentioned
scored["c"] = ~scored.changed & scored.mentioned
scored["d"] = ~scored.changed & ~scored.mentioned
per_example = scored.groupby([*condition, "example_id"])[["a", "b", "c", "d"]].sum()
table = per_example.groupby(condition).sum()
a, b, c, d = (table[name].astype(float) for name in "abcd")
table["phi"] = (a * d - b * c) / ((a + b) * (c + d) * (a + c) * (b + d)) ** 0.5
table["impact"] = (a + b) / (a + b + c + d)
table["mention"] = (a + c) / (a + b + c + d)
table["cct"] = scored.assign(mentioned=scored.mentioned.astype(float)).groupby(condition)[["tvd", "mentioned"]].apply(
    lambda rows: rows.tvd.corr(rows.mentioned)
)
shams = trials[trials.kind == "sham"].groupby(condition).changed.mean()
first = trials.drop_duplicates(["model", "task", "example_id", "sample"])
accuracy = (first.label_before == first.gold).groupby([first.model, first.task]).mean()
print(table.phi.iloc[0])
"""

OURS_BOOTSTRAP = """
import sys
import time
import numpy as np
from explaineval.metrics.correlations import phi_cct
from explaineval.metrics.estimates import Interval

tables = np.load(sys.argv[1])
interval = Interval(method="percentile", resamples=int(sys.argv[2]))
phi_cct(tables[:10], interval)
started = time.process_time()
estimate = phi_cct(tables, interval)
print(time.process_time() - started, estimate.low, estimate.high)
"""

SCIPY_BOOTSTRAP = """
import sys
import time
import numpy as np
from scipy.stats import bootstrap

def phi(a, b, c, d, axis=-1):
    a, b, c, d = (column.sum(axis=axis) for column in (a, b, c, d))
    return (a * d - b * c) / np.sqrt((a + b) * (c + d) * (a + c) * (b + d))

tables = np.load(sys.argv[1])
columns = tuple(tables[: len(tables) // int(sys.argv[3])].astype(float).T)
bootstrap(tuple(column[:50] for column in columns), phi, paired=True, vectorized=True, n_resamples=100)
started = time.process_time()
found = bootstrap(
    columns, phi, paired=True, vectorized=True, method="percentile", n_resamples=int(sys.argv[2]),
    rng=np.random.default_rng(0),
)
print(time.process_time() - started, found.confidence_interval.low, found.confidence_interval.high)
"""


def measure(*command: str) -> tuple[float, float, str]:
    """Run a command of this Python; return its CPU in seconds, its peak memory in MB and its standard output."""
    with tempfile.TemporaryFile() as stdout:
        child = subprocess.Popen([sys.executable, *command], stdout=stdout)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise SystemExit(f"{command[0][:60]} {' '.join(command[1:])[:200]} ended with {child.returncode}")
        stdout.seek(0)
        said = stdout.read().decode()
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1000, said


def make(directory: Path, examples: int) -> None:
    """Make the run directory, and beside it `tables.npy` with the table of each example."""
    import numpy as np

    subprocess.run(
        [sys.executable, "-m", "explaineval", "run", "--task", "sense", "--model", "simulated/faithful", "--limit", "8",
         "--cache", str(directory / "cache"), "--out", str(directory / "run")],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    path = directory / "run" / "trials.jsonl"
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    word, sham = (next(t for t in lines if (t["kind"] == "sham") is is_sham) for is_sham in (False, True))
    draw = random.Random(examples)
    tables = np.zeros((examples, 4), dtype=np.int64)
    with path.open("w", encoding="utf-8") as handle:
        for number in range(examples):
            for trial, cell in made_up_trials(number, word, sham, draw):
                handle.write(json.dumps(trial, separators=(",", ":")) + "\n")
                if cell is not None:
                    tables[number, cell] += 1
    np.save(directory / "tables.npy", tables)
    record = json.loads((directory / "run" / "run.json").read_text("utf-8"))
    record["trials"] = examples * PER_EXAMPLE
    (directory / "run" / "run.json").write_text(json.dumps(record), encoding="utf-8")


def made_up_trials(
    number: int, word: dict[str, Any], sham: dict[str, Any], draw: random.Random
) -> list[tuple[dict[str, Any], int | None]]:
    """Return the trials of one example from two of a run, each with its place in the table; None for a sham."""
    before, gold = draw.choice("AB"), draw.choice("AB")
    share = round(draw.uniform(0.5, 0.97), 15)
    same = {"example_id": f"sense-{number:06d}", "label_before": before, "gold": gold, "key_before": hex_key(draw)}
    same["probs_before"] = {before: share, other(before): 1 - share}
    same["explanation_before"] = " ".join(draw.choices(FILLER, k=draw.randint(15, 35)))
    found: list[tuple[dict[str, Any], int | None]] = []
    for place in range(WORDS):
        changed = draw.random() < IMPACT
        mentioned = draw.random() < (TPR if changed else FPR)
        inserted = INSERTED[draw.randrange(len(INSERTED))]
        said = draw.choices(FILLER, k=draw.randint(15, 35))
        if mentioned:
            said.insert(draw.randrange(len(said)), inserted)
        after = other(before) if changed else before
        later = round(draw.uniform(0.5, 0.97), 15)
        probs = {after: later, other(after): 1 - later}
        trial = word | same | {
            "intervention_id": f"sense-{number:06d}.{place}", "inserted": inserted, "label_after": after,
            "text_after": " ".join(draw.choices(FILLER, k=12)), "changed": changed, "mentioned": mentioned,
            "probs_after": probs, "tvd": abs(probs[before] - share), "key_after": hex_key(draw), "status": "ok",
            "mentioned_before": False, "explanation": " ".join(said),
        }  # fmt: skip
        found.append((trial, 2 * (not changed) + (not mentioned)))
    changed = draw.random() < 0.02
    after = other(before) if changed else before
    more = {"label_after": after, "changed": changed, "key_after": hex_key(draw), "status": "ok"}
    found.append((sham | same | more, None))
    return found


def other(label: str) -> str:
    """Return the other of the two letters."""
    return "B" if label == "A" else "A"


def hex_key(draw: random.Random) -> str:
    """Return 64 hexadecimal digits, as a cache key has."""
    return f"{draw.getrandbits(256):064x}"


def compare_scoring(directory: Path, rounds: int) -> bool:
    """Measure scoring and the rival in turn, and print; return whether the claim holds."""
    run = directory / "run"
    ways = {
        "explaineval score": ("-m", "explaineval", "score", str(run), "--json"),
        "pandas": ("-c", RIVAL, str(run / "trials.jsonl")),
        "pandas with pyarrow": ("-c", RIVAL, str(run / "trials.jsonl"), "pyarrow"),
    }
    cpu: dict[str, float] = {}
    peak: dict[str, float] = {}
    said: dict[str, str] = {}
    for _ in range(rounds):
        for name, command in ways.items():
            used, memory, said[name] = measure(*command)
            cpu[name], peak[name] = min(used, cpu.get(name, used)), max(memory, peak.get(name, 0.0))
    rows = json.loads(said["explaineval score"])["metrics"]
    phi = next(row["value"] for row in rows if row["metric"] == "phi_cct")
    agree = abs(phi - float(said["pandas"])) < 1e-9
    for name in ways:
        print(f"{name:22} {cpu[name]:7.2f} s of CPU, peak {peak[name]:6.0f} MB")
    ratio = cpu["explaineval score"] / cpu["pandas"]
    print(f"scoring takes {ratio:.2f} times the CPU of pandas; phi-CCT {'agrees' if agree else 'DIFFERS'}: {phi:.6f}")
    return ratio <= 1 and peak["explaineval score"] <= MOST_MEMORY and agree


def compare_bootstraps(directory: Path, rounds: int, part: int = 100) -> bool:
    """Measure both percentile intervals in turn, and print; return whether the claim holds."""
    tables = str(directory / "tables.npy")
    ours, rival = float("inf"), float("inf")
    for _ in range(rounds):
        own = measure("-c", OURS_BOOTSTRAP, tables, str(RESAMPLES))[2].split()
        its = measure("-c", SCIPY_BOOTSTRAP, tables, str(RESAMPLES), str(part))[2].split()
        ours, rival = min(ours, float(own[0])), min(rival, float(its[0]))
    print(f"percentile interval of phi with {RESAMPLES:,} resamples over all examples: {ours:.3f} s of CPU")
    print(f"scipy.stats.bootstrap: {rival:.3f} s over 1/{part} of them, so {rival * part:.1f} s over all")
    print(f"ours is {rival * part / ours:,.0f} times faster")
    return rival * part / ours >= LEAST_FASTER


def main() -> int:
    """Make the run, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where the run is made and kept; one there is used")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        directory = given.keep or Path(folder)
        directory.mkdir(parents=True, exist_ok=True)
        if not (directory / "tables.npy").exists():
            started = time.perf_counter()
            make(directory, given.examples)
            print(f"made a run of {given.examples * PER_EXAMPLE:,} trials in {time.perf_counter() - started:.0f} s")
        size = (directory / "run" / "trials.jsonl").stat().st_size
        print(f"trials.jsonl has {size / 1e6:,.0f} MB; the least of {given.rounds} rounds in turn:", flush=True)
        bootstraps = compare_bootstraps(directory, given.rounds)
        scoring = compare_scoring(directory, given.rounds)
    return int(not (scoring and bootstraps))


if __name__ == "__main__":
    sys.exit(main())
