"""The report page of 100,000 trials: how long does it take, how large is it, and how soon can it be used?

Twelve simulated models at two verbosity levels are run on made-up notes, then `explaineval report` makes the page, and
Chromium opens it. Needs the extra `report`, playwright, and Chromium.

    python benchmarks/report_page.py [--trials 100000] [--keep DIR]

`--keep` keeps the run in a directory and uses the one that is there. Exits 1 unless the page is made in less than 30 s
of CPU and 500 MB, is smaller than 5 MB, and can be used after less than 2 s.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from made_up_cases import WORDS, write_task
from playwright.sync_api import sync_playwright

FAMILIES, SIZES = ("ash", "birch"), ("0.1b", "1b", "10b")
MODELS = [f"simulated/{family}-{size}{tuned}" for family in FAMILIES for size in SIZES for tuned in ("", "-instruct")]
LEVELS = ("brief", "normal")
NOTE_WORDS = 40
MOST_SECONDS, MOST_MEGABYTES, MOST_PAGE, MOST_WAIT = 30.0, 500, 5.0, 2.0


def make_run(directory: Path, trials: int) -> None:
    """Run the simulated models on as many notes as give that many trials."""
    directory.mkdir(parents=True, exist_ok=True)
    examples = -(-trials // (len(MODELS) * len(LEVELS) * len(WORDS)))
    write_task(directory, examples, len(WORDS), NOTE_WORDS)
    words = ["--task", "jsonl:task.jsonl", "--interventions", "edits.jsonl", "--shots", "0", "--order", "pe2"]
    words += [part for model in MODELS for part in ("--model", model)]
    words += [part for level in LEVELS for part in ("--verbosity", level)]
    command = [sys.executable, "-m", "explaineval", "run", *words, "--out", "run", "--cache", "cache"]
    subprocess.run(command, cwd=directory, check=True, stdout=subprocess.DEVNULL)


def make_page(directory: Path) -> tuple[float, float, float]:
    """Make the page of the run; seconds, seconds of CPU, and the most memory in MB."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "explaineval", "report", "run", "--out", "report.html"]
    child = subprocess.Popen(command, cwd=directory, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"`explaineval report` ended with exit code {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000


def open_page(path: Path) -> tuple[float, float, float]:
    """Open the page five times: median seconds until it can be used, until a trial is open, until a search is done."""
    waits = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for _ in range(5):
            page = browser.new_page()
            page.goto(path.as_uri(), wait_until="load")
            ready = page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
            opened = page.evaluate(_WAIT, ["document.querySelector('#trials-list a').click()", ".trials-side"])
            find = "const q = document.querySelector('#trials-filters [name=q]'); q.value = 'rain northern';"
            find += "q.form.requestSubmit()"
            searched = page.evaluate(_WAIT, [find, "#trials-count"])
            waits.append((ready / 1000, opened / 1000, searched / 1000))
            page.close()
        browser.close()
    ready, opened, searched = (statistics.median(times) for times in zip(*waits, strict=True))
    return ready, opened, searched


_WAIT = """([act, there]) => new Promise((resolve) => {
  const start = performance.now();
  Function(act)();
  const look = () => document.querySelector(there) ? resolve(performance.now() - start) : setTimeout(look, 1);
  requestAnimationFrame(() => setTimeout(look));
})"""
"""Milliseconds from an act until an element is there and drawn."""


def main() -> int:
    """Make the run and its page, open it, and print the figures; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = given.keep or Path(name)
        if not (directory / "run" / "metrics.json").is_file():
            make_run(directory, given.trials)
        lines = sum(1 for _ in (directory / "run" / "trials.jsonl").open("rb"))
        size = (directory / "run" / "trials.jsonl").stat().st_size / 1e6
        seconds, cpu, memory = make_page(directory)
        page = directory / "report.html"
        megabytes = page.stat().st_size / 1e6
        start = page.read_text(encoding="utf-8").split('id="trials-data">', 1)[1]
        shown = len(json.JSONDecoder().raw_decode(start)[0]["trials"])
        ready, opened, searched = open_page(page)
    print(f"run: {lines:,} lines of trials.jsonl, {size:.0f} MB; {len(MODELS)} models at {len(LEVELS)} levels")
    print(f"explaineval report: {seconds:.1f} s, {cpu:.1f} s of CPU, at most {memory:.0f} MB")
    print(f"page: {megabytes:.1f} MB with {shown:,} trials")
    print(
        f"Chromium: can be used after {ready:.2f} s; a trial opens in {opened:.2f} s, a search takes {searched:.2f} s"
    )
    kept = cpu < MOST_SECONDS and memory < MOST_MEGABYTES and megabytes < MOST_PAGE and ready < MOST_WAIT
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
