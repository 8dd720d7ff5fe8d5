"""What version 0.2 left in the middle is continued by this one, and nothing is bought again.

`record_open.py` made the files with the code of that version: open batches, a stopped run, and the data folder of a
service with a stopped run and one that went on when the service was killed.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from record_open import BATCHED, STOPPED, answer, command_of, settings_of

from explaineval.cache import open_store
from servers.batch_lines import Batch
from servers.batch_server import BatchServer
from servers.commands import WarmCommands
from servers.scripted import ScriptedServer
from servers.service import ENVIRONMENT, TOKENS, Service

DATA = Path(__file__).parent / "data" / "0.2-open.tar.xz"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recorded files, read only by the tests."""
    directory = tmp_path_factory.mktemp("recorded")
    with tarfile.open(DATA) as archive:
        archive.extractall(directory, filter="data")
    return directory


@pytest.fixture
def work(recorded: Path, tmp_path: Path) -> Path:
    """A copy of the recorded files for one test."""
    return shutil.copytree(recorded, tmp_path / "work")


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmCommands]:
    """Commands without the seconds of litellm's import."""
    with WarmCommands(tmp_path_factory.mktemp("warm")) as commands:
        yield commands


def stored_keys(cache: Path) -> set[str]:
    """The keys of the answers in a cache."""
    with open_store(cache, readonly=True) as store:
        return {key for key, _, _ in store.iterate()}


@pytest.mark.sampled(1)
@pytest.mark.parametrize("state", BATCHED)
def test_an_open_batch_is_fetched(state: str, work: Path, warm: WarmCommands) -> None:
    """Whether the process was stopped while it waited, or killed while it submitted: no second batch, nothing plain."""
    model = BATCHED[state]
    entries = [json.loads(path.read_text("utf-8")) for path in (work / "cache/batches").glob("*.json")]
    assert [entry["state"] for entry in entries if entry["model"] == model] == [state]
    with BatchServer(polls=0) as server:
        for kept in json.loads((work / "batches.json").read_text("utf-8")):
            server.add(
                Batch(**kept | {"items": [tuple(item) for item in kept["items"]], "answers": b"", "failures": b""})
            )

        command = command_of(model, f"{server.root}/v1", "--batch", "--batch-poll", "0.02", "--json")
        done = warm.run(*command, cwd=work)

    requests = done.document["requests"]
    assert (done.code, requests["unsent"]) == (0, 0), done.stdout + done.stderr
    assert (requests["hits"], requests["sent"]) == (1, requests["distinct"] - 1)
    assert (server.count("upload"), server.count("create"), server.count("plain")) == (0, 0, 0)
    assert set(server.billed.values()) == {1}


def test_a_stopped_run_goes_on(work: Path, warm: WarmCommands) -> None:
    """It asks what is missing, once, and its record is complete."""
    before = stored_keys(work / "cache")
    with ScriptedServer(script=answer) as server:
        done = warm.run(*command_of(STOPPED, server.url, "--json"), cwd=work)

    requests = done.document["requests"]
    assert done.code == 0, done.stdout + done.stderr
    assert (requests["hits"], requests["sent"]) == (8, requests["distinct"] - 8)
    assert len(server.prompts) == len(stored_keys(work / "cache") - before) == requests["sent"]
    assert json.loads((work / "runs/stopped/run.json").read_text("utf-8"))["complete"]


@pytest.mark.slow
def test_a_service_goes_on(work: Path) -> None:
    """The run that went on continues by itself, the stopped one when told to; a missing answer is bought once."""
    stopped, went_on = json.loads((work / "runs.json").read_text("utf-8"))
    token, cache = TOKENS["ann"], work / "service/data/cache"
    before = stored_keys(cache)
    with ScriptedServer(script=answer) as server:
        service = Service(work / "service", settings_of(server.url), ENVIRONMENT)
        service.start()
        try:
            state = service.run(stopped, token)["state"]
            by_itself = service.wait(went_on, token)
            continued = service.ask("POST", f"/api/runs/{stopped}/continue", token=token)
            finished = service.wait(stopped, token)
            spent = service.ask("GET", "/api/session", token=token).document["spent"]
            in_cache = service.ask("GET", "/api/cache", token=token).document["usd"]
        finally:
            assert service.stop() == 0

    assert (state, continued.status) == ("stopped", 200)
    assert (by_itself["state"], finished["state"]) == ("finished", "finished"), (by_itself, finished)
    assert len(server.prompts) == len(stored_keys(cache) - before) > 0
    assert spent >= in_cache > 0
