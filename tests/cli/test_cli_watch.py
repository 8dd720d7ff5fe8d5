"""`explaineval watch`: a run that goes on, one that ended in each way, and what is read while it is being written."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from explaineval.cli.app import main
from explaineval.cli.watch import TrialReader
from explaineval.errors import InputError
from explaineval.metrics.estimates import Interval
from explaineval.rundir.directory import PROGRESS, TRIALS, write_progress, write_run
from explaineval.rundir.schema import RunProgress
from explaineval.scoring.live import LiveCounts
from makers.runs import ENDPOINT, MODEL, make_trial, minimal_record

Watch = Callable[..., tuple[int, str, str]]

LINES = [
    json.dumps(make_trial(example, 0, changed=example % 2 == 0, mentioned=example % 4 == 0)) for example in range(12)
]


@pytest.fixture
def watch(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Run `watch` in the test's directory: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(["watch", "out", *arguments])
        out, err = capsys.readouterr()
        assert isinstance(caught.value.code, int)
        return caught.value.code, out, err

    return call


def make_progress(**changes: Any) -> RunProgress:
    """A run of one model of which 20 of 60 requests are done; it was heard of just now."""
    now = datetime.now(UTC)
    started, updated = (now - timedelta(seconds=90)).isoformat(), now.isoformat()
    model = {
        "endpoint": ENDPOINT, "model": MODEL, "planned": 80, "distinct": 60, "hits": 5, "sent": 15, "unsent": 0,
        "retries": 1, "rate": 2.0, "seconds_left": 20.0, "usd": 0.5, "usd_left": 1.0, "outcomes": {"ok": 12},
        "started": started, "updated": updated,
    }  # fmt: skip
    values = {"state": "asking", "started": started, "updated": updated, "models": [model], "max_usd": 3.0}
    return RunProgress.model_validate(values | changes)


def make_run(directory: Path, **changes: Any) -> Path:
    """A run directory with a run.json, twelve trials and a progress.json."""
    directory.mkdir()
    write_run(directory, minimal_record())
    (directory / TRIALS).write_text("\n".join(LINES) + "\n", encoding="utf-8")
    write_progress(directory, make_progress(**changes))
    return directory


def test_a_run_that_goes_on(tmp_path: Path, watch: Watch) -> None:
    """Its state, the model with phi so far, rate, spend and time, the outcomes, and what is left."""
    make_run(tmp_path / "out")

    code, out, err = watch("--once")

    text = " ".join(out.split())
    assert (code, err) == (0, "")
    assert text == (
        "out: running for 90 s. "
        "openai/smol: 20 of 60 requests (5 cached), 2.0/s, phi-CCT so far 0.58 [-0.51, 0.95] (12 trials), $0.50, 20 s "
        "left trials: 12 ok "
        "In all: 20 of 60 requests; $0.50 of $3.00 spent, about $1.00 more to come; 20 s left."
    )


def test_one_document(tmp_path: Path, watch: Watch) -> None:
    """The contents of progress.json with phi, the sentence about the state, and whether the run is dead."""
    run = make_run(tmp_path / "out")

    code, out, _ = watch("--json")

    document = json.loads(out)
    stored = json.loads((run / PROGRESS).read_text(encoding="utf-8"))
    (phi,) = document["models"][0].pop("phi_cct")
    assert (code, document["dead"], document["sentence"]) == (0, False, "running for 90 s.")
    assert stored.items() <= document.items()
    assert (phi["kind"], phi["n"], phi["n_examples"]) == ("hand", 12, 12)
    assert phi["value"] == pytest.approx(3**-0.5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"state": "finished", "exit_code": 0}, "finished after 90 s."),
        ({"state": "finished", "exit_code": 3, "reason": "the spending limit is reached."},
         "finished after 90 s with exit code 3: the spending limit is reached."),
        ({"state": "stopped", "exit_code": 130, "reason": "interrupted."}, "stopped after 90 s: interrupted."),
        ({"state": "failed", "reason": "the disk is full."}, "failed after 90 s: the disk is full."),
        ({"updated": "2026-01-01T00:00:00+00:00"}, "the run was ended from outside"),
        ({"updated": "yesterday"}, "the run was ended from outside"),
    ],
)  # fmt: skip
def test_how_a_run_ended_is_one_sentence(changes: dict[str, Any], words: str, tmp_path: Path, watch: Watch) -> None:
    """Finished, with an exit code, stopped, failed, dead: exit code 0, since looking worked."""
    make_run(tmp_path / "out", **changes)

    code, out, err = watch()

    assert (code, err) == (0, "")
    assert " ".join(out.split()).startswith(f"out: {words}")


def test_a_run_of_an_earlier_version_is_said_in_one_sentence(tmp_path: Path, watch: Watch) -> None:
    """There is no progress.json: what to do instead is named."""
    (make_run(tmp_path / "out") / PROGRESS).unlink()

    code, out, err = watch()

    assert (code, out) == (2, "")
    assert err == (
        "explaineval: out has no progress.json, so nothing is known of how it went: an earlier version made it, or it "
        "came out of a bundle. Its numbers: explaineval score out\n"
    )


def spoil_model(run: Path, **values: Any) -> None:
    """Write values that no run has into the progress of the first model."""
    document = json.loads((run / PROGRESS).read_text(encoding="utf-8"))
    document["models"][0] |= values
    (run / PROGRESS).write_text(json.dumps(document), encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda run: (run / "run.json").unlink(), "out holds no run: it has no run.json."),
        (lambda run: (run / PROGRESS).write_text("{", encoding="utf-8"), "progress.json cannot be read"),
        (lambda run: spoil_model(run, rate=math.nan), "progress.json: models.0.rate: Input should be less than"),
        (lambda run: spoil_model(run, usd=1e308), "progress.json: models.0.usd: Input should be less than"),
        (lambda run: (run / PROGRESS).write_text("{}", encoding="utf-8"), "progress.json: state: it is missing."),
        (lambda run: (run / TRIALS).write_text("{}\n", encoding="utf-8"), "trials.jsonl holds a line that is no trial"),
    ],
)  # fmt: skip
def test_a_damaged_directory_is_one_sentence(
    spoil: Callable[[Path], object], words: str, tmp_path: Path, watch: Watch
) -> None:
    """Exit code 2, with the name of the file."""
    spoil(make_run(tmp_path / "out"))

    code, out, err = watch()

    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1


class Terminal:
    """A command whose standard output and error are a terminal of 80 columns and 24 rows."""

    def __init__(self, *words: str, cwd: Path) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        environment = {
            name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "explaineval", *words],
            cwd=cwd, stdout=slave, stderr=slave, env={**environment, "TERM": "xterm"},
        )  # fmt: skip
        os.close(slave)
        self.shown = ""

    def read_until(self, text: str) -> None:
        """Read what is shown until this is."""
        while text not in self.shown:
            self.shown += self._read()

    def finish(self) -> int:
        """Read the rest; the exit code."""
        with contextlib.suppress(OSError):  # the terminal's other side is closed
            while piece := self._read():
                self.shown += piece
        os.close(self.master)
        return self.process.wait(60)

    def _read(self) -> str:
        assert select.select([self.master], [], [], 60)[0], self.shown
        return os.read(self.master, 1 << 16).decode()


def test_in_a_terminal_it_goes_on_until_the_run_ends(tmp_path: Path) -> None:
    """The table is renewed, and the last one says how the run ended."""
    run = make_run(tmp_path / "out")
    terminal = Terminal("watch", "out", cwd=tmp_path)
    terminal.read_until("In all: 20 of 60 requests")
    write_progress(run, make_progress(state="finished", exit_code=0))

    assert terminal.finish() == 0
    assert "out: running for 90 s." in terminal.shown
    assert "model        requests  cached   rate  phi-CCT so far      spent  left" in terminal.shown
    assert "openai/smol     20/60       5  2.0/s  0.58 [-0.51, 0.95]  $0.50  20 s" in terminal.shown
    assert "Trials: 12 ok." in terminal.shown
    assert "out: finished after 90 s." in terminal.shown


def test_who_leaves_the_view_leaves_the_run_alone(tmp_path: Path) -> None:
    """Ctrl-C ends the view with one sentence and exit code 130, and changes nothing."""
    run = make_run(tmp_path / "out")
    before = (run / PROGRESS).read_bytes()
    terminal = Terminal("watch", "out", cwd=tmp_path)
    terminal.read_until("In all: 20 of 60 requests")
    terminal.process.send_signal(signal.SIGINT)

    assert terminal.finish() == 130
    assert "explaineval: no longer watched; the run goes on." in terminal.shown
    assert "Traceback" not in terminal.shown
    assert before == (run / PROGRESS).read_bytes()


def test_a_run_that_left_no_directory_is_said_in_one_sentence(tmp_path: Path) -> None:
    """A directory that goes while it is watched is that of a run without one answer."""
    run = make_run(tmp_path / "out")
    terminal = Terminal("watch", "out", cwd=tmp_path)
    terminal.read_until("In all: 20 of 60 requests")
    shutil.rmtree(run)

    assert terminal.finish() == 2
    assert "out is gone: the run ended without one answer" in " ".join(terminal.shown.split())


def test_the_table_of_a_run_in_a_terminal(tmp_path: Path) -> None:
    """A line for each model and one for all, none wider than the terminal, and none left beside the results."""
    words = ["run", "--task", "sense", "--limit", "6", "--model", "simulated/faithful", "--model", "simulated/random"]
    terminal = Terminal(*words, "--out", "out", cwd=tmp_path)

    assert terminal.finish() == 0
    assert "phi-CCT so far" in terminal.shown
    assert "all 2 models" in terminal.shown
    assert "\x1b[2K" in terminal.shown.partition("Run directory")[0].rpartition("all 2 models")[2]


def counts_of(reader: TrialReader) -> LiveCounts:
    """The counts of the only model."""
    reader.read()
    return reader.counts.get((ENDPOINT, MODEL), LiveCounts())


def test_trials_are_read_as_they_come_and_a_torn_line_when_it_is_whole(tmp_path: Path) -> None:
    """Cut anywhere, the file gives the whole lines so far; read on, it gives the numbers of the whole file."""
    text = ("\n".join(LINES) + "\n").encode()
    path = tmp_path / TRIALS
    reader = TrialReader(path)
    assert counts_of(reader).statuses.total() == 0

    for end in range(0, len(text), 997):
        path.write_bytes(text[:end])
        assert counts_of(reader).statuses.total() == text[:end].count(b"\n")
    path.write_bytes(text)

    assert counts_of(reader).phis(Interval()) == counts_of(TrialReader(path)).phis(Interval())
    assert counts_of(reader).statuses.total() == 12


def test_only_what_is_new_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second look parses the added trial alone."""
    path = tmp_path / TRIALS
    path.write_text("\n".join(LINES[:11]) + "\n", encoding="utf-8")
    reader = TrialReader(path)
    reader.read()
    parsed: list[bytes] = []
    add = TrialReader._add
    monkeypatch.setattr(TrialReader, "_add", lambda self, block: (parsed.append(block), add(self, block))[1])
    with path.open("a", encoding="utf-8") as handle:
        handle.write(LINES[11] + "\n")
    reader.read()

    assert parsed == [f"{LINES[11]}\n".encode()]
    assert counts_of(reader).statuses.total() == 12


def test_a_run_that_is_continued_is_counted_anew(tmp_path: Path) -> None:
    """A continued run writes its trials again from the start, so nothing is counted twice."""
    path = tmp_path / TRIALS
    path.write_text("\n".join(LINES) + "\n", encoding="utf-8")
    reader = TrialReader(path)
    reader.read()
    path.write_text("\n".join(LINES[:3]) + "\n", encoding="utf-8")
    assert counts_of(reader).statuses.total() == 3

    padded = json.dumps(json.loads(LINES[0]) | {"explanation": "Because of the rain."})
    path.write_text("\n".join([padded, *LINES]) + "\n", encoding="utf-8")  # longer than what was read of the other

    assert counts_of(reader).statuses.total() == 13


def test_an_endless_line_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be a trial is not gathered in memory without end."""
    monkeypatch.setattr("explaineval.cli.watch.LONGEST_LINE", 1000)
    path = tmp_path / TRIALS
    path.write_bytes(b"x" * 2000)

    with pytest.raises(InputError, match=r"trials\.jsonl cannot be read: a line is longer than 1,000 bytes"):
        TrialReader(path).read()
