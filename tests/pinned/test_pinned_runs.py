"""What must not move: prompts, cache keys, trials and numbers of recorded runs, to the last bit.

The runs are served offline from packs in `data/`: an answer is found only if its prompt and its cache key are what
they were. Results are compared field by field, so that later versions may add fields, rows and columns.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pinned_model
import pytest
from pinned_runs import ARMS, DATA, DEMO, planted_config, read, rows_of, trials_of

from explaineval.scoring.mentioning import UNREADABLE
from servers.commands import WarmCommands
from servers.scripted import ScriptedServer

IDENTITY = ("endpoint", "model", "task", "kind", "order", "style", "shots", "verbosity", "metric")
VALUES = ("value", "low", "high", "n", "n_examples", "undefined", "signature")


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Commands without the seconds of litellm's import."""
    with WarmCommands(tmp_path_factory.mktemp("warm")) as commands:
        yield commands


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, warm: WarmCommands) -> Path:
    """A directory with the recorded interventions and a cache filled from the packs."""
    directory = tmp_path_factory.mktemp("pinned")
    shutil.copy(DATA / "interventions.jsonl", directory)
    packs = (DATA / "demo.pack.gz", DATA / "planted.pack.gz")
    done = warm.run("cache", "import", *packs, "--cache", "cache", cwd=directory)
    assert done.code == 0, done.stderr
    return directory


def compare(recorded: list[dict[str, Any]], found: list[dict[str, Any]], identity: tuple[str, ...]) -> None:
    """Hold every recorded entry against the one found for the same thing; entries and fields may have been added."""

    def name(entry: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(entry[field] for field in identity)

    by_name = {name(entry): entry for entry in found}
    for entry in recorded:
        assert {field: entry[field] for field in entry} == {field: by_name[name(entry)][field] for field in entry}


def compare_trials(recorded: list[dict[str, Any]], found: list[dict[str, Any]]) -> None:
    """Every recorded trial is there with the same content, and there are no others."""
    identity = (*IDENTITY[:8], "example_id", "intervention_id", "sample", "key_after")
    assert len(recorded) == len(found)
    compare(recorded, found, identity)


def compare_rows(recorded: list[dict[str, Any]], found: list[dict[str, Any]]) -> None:
    """Every recorded number is there with the same digits and signature.

    Rows of a later version that rest on another channel, mention policy or judge are beside the recorded ones.
    """
    default = [row for row in found if row.get("channel") in (None, "explanation")]
    compare([{name: row[name] for name in (*IDENTITY, *VALUES)} for row in recorded], default, IDENTITY)


def test_the_demo_is_what_it_was(work: Path, warm: WarmCommands) -> None:
    """Four examples of the embedded model, from the pack alone."""
    recorded = read("demo")
    (work / "demo.yaml").write_text(DEMO, "utf-8")

    done = warm.run("run", "demo.yaml", "--offline", "--cache", "cache", "--out", "demo", "--json", cwd=work)

    assert done.code == 0, done.stdout + done.stderr
    compare_trials(recorded["trials"], trials_of(work / "demo"))
    compare_rows(recorded["rows"], rows_of(done.document))


@pytest.fixture(scope="module", params=ARMS)
def finished(request: pytest.FixtureRequest, work: Path, warm: WarmCommands) -> tuple[str, dict[str, Any]]:
    """One arm of the planted run, served from the pack."""
    arm = str(request.param)
    (work / f"{arm}.yaml").write_text(planted_config(arm, "http://127.0.0.1:9/v1"), "utf-8")
    done = warm.run("run", f"{arm}.yaml", "--offline", "--cache", "cache", "--out", arm, "--json", cwd=work)
    assert done.code == 0, done.stdout + done.stderr
    return arm, done.document


@pytest.mark.sampled(2)
def test_planted_trials_and_numbers_are_what_they_were(finished: tuple[str, dict[str, Any]], work: Path) -> None:
    """Words, cues, controls and null edits of two tasks at three verbosity levels."""
    arm, document = finished
    recorded = read(arm)

    compare_trials(recorded["trials"], trials_of(work / arm))
    compare_rows(recorded["rows"], rows_of(document))


@pytest.mark.sampled(2)
def test_scoring_again_says_the_same(finished: tuple[str, dict[str, Any]], work: Path, warm: WarmCommands) -> None:
    """`score` needs the run directory alone."""
    arm, _ = finished

    done = warm.run("score", arm, "--json", cwd=work)

    assert done.code == 0, done.stderr
    compare_rows(read(arm)["rows"], rows_of(done.document))


@pytest.mark.sampled(2)
def test_a_judge_decides_as_it_did(finished: tuple[str, dict[str, Any]], work: Path, warm: WarmCommands) -> None:
    """The judge's prompt may be worded anew; its verdicts, planted by the explanation, lead to the same numbers."""
    arm, _ = finished
    with ScriptedServer(script=pinned_model.judge) as server:
        done = warm.run("judge", arm, "--judge-model", "openai/judge", "--judge-base-url", server.url,
                        "--cache", f"judged-{arm}", "--json", cwd=work)  # fmt: skip

    assert done.code == 0, done.stdout + done.stderr
    # the recording has the grade "reason" too, may not name the rule, and may give a general
    # reason where no verdict could be read
    recorded = [row for row in read(arm)["judged"] if row["mention"] == "judge"]
    found = [row for row in rows_of(done.document) if row["mention"] == "judge"]
    plain = [
        [row | {"signature": re.sub(r"\|(mention:judge|judge:\*)(?=\|)", "", row["signature"])} for row in rows]
        for rows in (recorded, found)
    ]
    reasons = {tuple(row[name] for name in IDENTITY): row["undefined"] for row in plain[0]}
    for row in plain[1]:
        if UNREADABLE in (row["undefined"] or ""):
            row["undefined"] = reasons.get(tuple(row[name] for name in IDENTITY))
    compare_rows(*plain)
