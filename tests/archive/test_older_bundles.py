"""What version 0.1.0 left behind is read, scored and reproduced.

`data/bundle-0.1.0.zip` was exported by version 0.1.0 from a run against the planted server with 5 examples and 2 words,
one sham and 2 shots. Example x003 has no intervention, and the word inserted into x004 stands there already; that
version asked about both all the same, this one does not.
"""

from __future__ import annotations

import asyncio
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from explaineval._version import __version__
from explaineval.archive.bundle import unpack_bundle
from explaineval.archive.reproduce import Reproduction, reproduce
from explaineval.cache import import_pack, open_store
from explaineval.rundir.directory import read_examples, read_metrics, read_run, read_trials
from explaineval.scoring.rows import score

BUNDLE = Path(__file__).parent / "data" / "bundle-0.1.0.zip"
UNASKED = {"x003", "x004"}


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """The bundle's run directory."""
    directory = tmp_path / "unpacked"
    directory.mkdir()
    unpack_bundle(BUNDLE, directory)
    return directory


def reproduce_changed(directory: Path, name: str, old: str, new: str) -> Reproduction:
    """Reproduce the bundle with one text in one of its files replaced."""
    with zipfile.ZipFile(BUNDLE) as source, zipfile.ZipFile(directory / "changed.zip", "w") as target:
        for member in source.namelist():
            content = source.read(member)
            if member == name:
                assert content.count(old.encode()) == 1
                content = content.replace(old.encode(), new.encode())
            target.writestr(member, content)
    workshop = directory / "workshop"
    workshop.mkdir()
    return reproduce(directory / "changed.zip", workshop, None)


def test_the_run_directory_is_read(unpacked: Path) -> None:
    """run.json, examples and trials become the types of this version; the version says who wrote them."""
    run = read_run(unpacked)

    assert (run.explaineval, run.complete) == ("0.1.0", True)
    assert run.totals is not None
    assert run.totals.requests.sent == len({key for trial in read_trials(unpacked)
                                            for key in (trial.key_before, trial.key_after) if key})  # fmt: skip
    assert {example.id for example in read_examples(unpacked)} > UNASKED


def test_its_trials_give_the_same_numbers(unpacked: Path) -> None:
    """Every value, interval and count is as it was, to the last digit; only metrics that came later are added."""
    columns = {"kind", "metric", "value", "low", "high", "n", "n_examples", "undefined"}
    bundled = read_metrics(unpacked)
    now = score(unpacked).rows

    later = {row.metric for row in now} - {row.metric for row in bundled}
    assert later == {"odds_ratio_within", "g_mean2", "g_mean2_control", "phi_cct_over_texts", "sham_mean_tvd"}
    assert [row.model_dump(include=columns) for row in bundled] == [
        row.model_dump(include=columns) for row in now if row.metric not in later
    ]


def test_its_answers_are_imported(unpacked: Path, tmp_path: Path) -> None:
    """Each answer of the pack is stored under the key that the trials name."""
    keys = {key for trial in read_trials(unpacked) for key in (trial.key_before, trial.key_after) if key}
    with open_store(tmp_path / "cache") as store:
        imported = asyncio.run(import_pack(store, unpacked / "pack.jsonl.gz"))

        assert (imported.added, imported.refused) == (len(keys), ())
        assert all(store.get(key) is not None for key in keys)


def test_it_is_reproduced_and_what_is_no_longer_asked_is_extra(tmp_path: Path) -> None:
    """Nothing differs but the version in the signatures; the recomputed run itself lacks the extra trials."""
    result = reproduce(BUNDLE, tmp_path, tmp_path / "again")

    assert (result.only_version, result.same_trials, result.missing, result.refused) == (True, True, 0, ())
    assert result.versions[0] == ("explaineval", "0.1.0", __version__)
    assert result.extra_trials == 3
    asked = [trial for trial in read_trials(tmp_path / "again") if trial.key_before]
    assert UNASKED & {trial.example_id for trial in asked} == set()


def test_a_changed_number_of_an_extra_trial_is_found(tmp_path: Path) -> None:
    """The numbers are computed again from the extra trials too."""
    with zipfile.ZipFile(BUNDLE) as bundle:
        lines = bundle.read("trials.jsonl").decode().splitlines()
    trial: dict[str, Any] = next(line for line in map(json.loads, lines) if line["example_id"] == "x003")
    label = trial["label_before"]
    old = next(line for line in lines if json.loads(line) == trial)
    new = old.replace(f'"label_before":"{label}"', f'"label_before":"{"B" if label == "A" else "A"}"')
    result = reproduce_changed(tmp_path, "trials.jsonl", old, new)

    assert "accuracy" in {difference.row.split()[-1] for difference in result.differences if difference.name == "value"}


def test_this_version_has_no_extra_trials(tmp_path: Path) -> None:
    """In a bundle that says it is of this version the same trials are not what its answers give."""
    result = reproduce_changed(tmp_path, "run.json", '"explaineval": "0.1.0"', f'"explaineval": "{__version__}"')

    assert (result.extra_trials, result.same_trials, result.only_version) == (0, False, False)
