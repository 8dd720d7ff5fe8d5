"""How much does building random words cost beside spaCy's own tagging of the same text? CPU seconds.

A task of 2,500 examples is made up, in sentences of the bundled tasks. Then, each in a process of its own, in turn,
several times: `explaineval interventions build --task jsonl:FILE --kind random_word --per-example 4 --out FILE`, the
whole process, which builds 10,000 interventions; and the rival, a script that reads the same file and sends the fields
of all examples through `nlp.pipe` with the same pipeline and pipes. The least CPU time of each counts.

    python benchmarks/interventions.py [--examples 2500] [--rounds 3]

It needs the extra `interventions` with an English pipeline. Exits 1 where building takes more than 1.5 times the CPU of
tagging, or fewer interventions came out.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

PER_EXAMPLE = 4
MOST = 1.5
TAG = """
import json
import sys
import spacy
from explaineval.datasets.taggers import NOT_NEEDED, PIPELINES
from spacy.util import is_package

nlp = spacy.load(next(name for name in PIPELINES if is_package(name)), exclude=list(NOT_NEEDED))
with open(sys.argv[1], encoding="utf-8") as lines:
    texts = [text for line in lines for text in json.loads(line)["fields"].values()]
print(sum(len(doc) for doc in nlp.pipe(texts)))
"""


def measure(*command: str, cwd: Path) -> float:
    """Run a command of this Python; return its CPU in seconds."""
    child = subprocess.Popen([sys.executable, *command], cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(command)[:200]} ended with exit code {child.returncode}")
    return used.ru_utime + used.ru_stime


def write_task(path: Path, examples: int) -> None:
    """Write a task whose examples have two fields, each of two sentences drawn from the bundled tasks."""
    bundled = Path(__file__).resolve().parents[1] / "src" / "explaineval" / "tasks"
    sentences: list[str] = []
    for name in ("nli", "sense"):
        for line in (bundled / f"{name}.jsonl").read_text("utf-8").splitlines():
            sentences += json.loads(line)["fields"].values()
    draw = random.Random(0)
    with path.open("w", encoding="utf-8") as handle:
        for number in range(examples):
            premise, hypothesis = (" ".join(draw.sample(sentences, 2)) for _ in range(2))
            options = {"A": "entailment", "B": "neutral", "C": "contradiction"}
            fields = {"premise": premise, "hypothesis": hypothesis}
            handle.write(json.dumps({"id": f"x{number:06d}", "fields": fields, "options": options}) + "\n")


def main() -> int:
    """Make the task, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=2_500)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cwd = Path(folder)
        write_task(cwd / "task.jsonl", given.examples)
        build = ("-m", "explaineval", "interventions", "build", "--task", "jsonl:task.jsonl", "--kind", "random_word",
                 "--per-example", str(PER_EXAMPLE), "--out", "edits.jsonl", "--force")  # fmt: skip
        ours, tagging = float("inf"), float("inf")
        for _ in range(given.rounds):
            ours = min(ours, measure(*build, cwd=cwd))
            tagging = min(tagging, measure("-c", TAG, "task.jsonl", cwd=cwd))
        built = len((cwd / "edits.jsonl").read_text("utf-8").splitlines())
    print(f"{built:,} interventions: {ours:.1f} s of CPU; spaCy's tagging of the same text: {tagging:.1f} s")
    print(f"building takes {ours / tagging:.2f} times the CPU of tagging")
    return int(ours > MOST * tagging or built < PER_EXAMPLE * given.examples)


if __name__ == "__main__":
    sys.exit(main())
