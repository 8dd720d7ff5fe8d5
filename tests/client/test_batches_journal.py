"""The journal of batches on the disk: what it keeps, what it refuses, and who may use it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from explaineval.cache import request_key
from explaineval.client.batches.journal import BatchJournal, JournalEntry, PendingKeys
from explaineval.client.batches.providers import path_segment
from explaineval.errors import EndpointError, InputError, StoreError
from explaineval.records import Request
from servers.batch_bench import BatchBench, chat, text
from servers.batch_server import BatchServer, Call

ABOUT = ("openai", "lab", "openai/planted")
REQUESTS = [chat(1), text(2), chat(3, params={"extra_body": {"user": "Zoë\u2028\n"}})]


def plan(journal: BatchJournal, tag: str = "a", requests: list[Request] = REQUESTS) -> JournalEntry:
    """A planned batch."""
    return journal.plan(tag, [(request_key(request), request) for request in requests], 1_700_000_000.0)


def test_requests_come_back_as_they_were(tmp_path: Path) -> None:
    """Requests are read by their keys in any order; a key of no request gives None."""
    journal = BatchJournal(tmp_path / "batches", *ABOUT)
    with journal.requests(plan(journal)) as read:
        assert [read.get(request_key(request)) for request in reversed(REQUESTS)] == REQUESTS[::-1]
        assert list(read) == [request_key(request) for request in REQUESTS]
        assert read.get("0" * 64) is None


def test_an_entry_is_updated_and_closed(tmp_path: Path) -> None:
    """Once fetched, its requests are deleted and its batch is still known. No other model has this entry."""
    journal, other = BatchJournal(tmp_path, *ABOUT), BatchJournal(tmp_path, "openai", "lab", "openai/other")
    entry = journal.update(plan(journal), "submitting", uploaded="file_1")
    moved = journal.update(entry, "submitted", batch="batch_1")

    assert journal.open_entries() == [moved]
    assert (moved.uploaded, moved.batch, moved.count) == ("file_1", "batch_1", 3)
    assert other.open_entries() == []
    assert set(PendingKeys(BatchJournal(tmp_path, *ABOUT))) == {request_key(request) for request in REQUESTS}

    journal.update(moved, "fetched")

    assert journal.open_entries() == []
    assert other.batch_ids() == {"batch_1"}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert set(PendingKeys(BatchJournal(tmp_path, *ABOUT))) == set()


@pytest.mark.parametrize("content", ["", "{", "{}", '{"format": 2}'])
def test_a_damaged_entry_is_an_error(tmp_path: Path, content: str) -> None:
    """The entry records a batch that may be paid for, so nothing is submitted beside it."""
    journal = BatchJournal(tmp_path, *ABOUT)
    plan(journal)
    (tmp_path / "a.json").write_text(content, encoding="utf-8")

    with pytest.raises(InputError, match=r"a\.json cannot be read"):
        journal.open_entries()


def test_damaged_requests_are_an_error(tmp_path: Path) -> None:
    """A missing file, a torn line, or a request under another's key: one sentence with the file's name."""
    journal = BatchJournal(tmp_path, *ABOUT)
    entry, path = plan(journal), tmp_path / "a.requests.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(InputError, match=r"a\.requests\.jsonl cannot be read"):
        journal.requests(entry)

    first, *rest = whole.splitlines(keepends=True)
    swapped = json.loads(first) | {"key": "0" * 64}
    path.write_bytes(json.dumps(swapped).encode() + b"\n" + b"".join(rest))
    with journal.requests(entry) as found, pytest.raises(InputError, match="another's key"):
        found.get("0" * 64)

    path.unlink()
    journal.update(entry, "submitted", batch="b")
    with pytest.raises(InputError, match="restore it"):
        set(PendingKeys(BatchJournal(tmp_path, *ABOUT)))


def test_one_process_at_a_time_holds_the_lock(tmp_path: Path) -> None:
    """There is one lock for each model; when it is released, the next one gets it."""
    journal, other = BatchJournal(tmp_path, *ABOUT), BatchJournal(tmp_path, "openai", "lab", "openai/other")
    with journal.lock() as first, journal.lock() as second, other.lock() as third:
        assert (first, second, third) == (True, False, True)
    with BatchJournal(tmp_path, *ABOUT).lock() as again:
        assert again


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    """The error says what to do about the cache, before anything is submitted."""
    (tmp_path / "batches").write_text("a file", encoding="utf-8")

    with pytest.raises(StoreError, match="make the cache writable"):
        plan(BatchJournal(tmp_path / "batches", *ABOUT))


@pytest.mark.parametrize("identifier", ["", "..", "a/b", "a?b", "a#b", "ä", None, 3, "x" * 301])
def test_identifiers_that_could_lead_elsewhere(identifier: object) -> None:
    """The provider's id of a batch becomes one segment of a path, or is refused."""
    assert path_segment("batch_abc-1.2") == "batch_abc-1.2"
    with pytest.raises(EndpointError, match="no identifier"):
        path_segment(identifier)


def test_the_entry_is_on_the_disk_before_each_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The requests are recorded before the upload, and the creation is recorded before it is sent."""
    monkeypatch.setenv("EXPLAINEVAL_API_KEY", "sk-of-the-test")
    requests = [chat(number) for number in range(3)]
    seen: dict[str, tuple[list[str], set[str]]] = {}

    def look(call: Call) -> None:
        kept = (path.read_text() for path in bench.journal.glob("*.requests.jsonl"))
        found = {json.loads(line)["key"] for text in kept for line in text.splitlines()}
        seen.setdefault(call, (bench.states(), found))

    with BatchServer(on_call=look) as server:
        bench = BatchBench(server, tmp_path)
        bench.run(requests)
    keys = {request_key(request) for request in requests}

    assert seen["upload"] == (["planned"], keys)
    assert seen["create"] == (["submitting"], keys)
    assert seen["poll"] == (["submitted"], keys)
    assert all(headers["authorization"] == "Bearer sk-of-the-test" for _, _, headers in server.calls)
    assert not any(b"sk-of-the-test" in path.read_bytes() for path in bench.directory.rglob("*") if path.is_file())


def test_pending_keys_follow_the_disk(tmp_path: Path) -> None:
    """What another process submits or fetches is known at the next look, however soon it comes after the last one."""
    directory = tmp_path / "batches"
    pending, other = PendingKeys(BatchJournal(directory, *ABOUT)), BatchJournal(directory, *ABOUT)
    key = request_key(REQUESTS[0])

    assert key not in pending  # there is no directory yet
    for number in range(20):
        entry = plan(other, f"a{number}", REQUESTS[:1])
        assert key not in pending
        entry = other.update(entry, "submitting")
        assert key in pending
        entry = other.update(entry, "submitted", batch=f"batch_{number}")
        assert key in pending
        other.update(entry, "fetched" if number % 2 else "abandoned")
        assert key not in pending


def test_pending_keys_do_not_read_what_has_not_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that has not changed for a while is not read again until it changes."""
    other = BatchJournal(tmp_path, *ABOUT)
    entry = other.update(plan(other), "submitting")
    os.utime(tmp_path, (1, 1))
    pending, key = PendingKeys(BatchJournal(tmp_path, *ABOUT)), request_key(REQUESTS[0])
    assert key in pending
    with monkeypatch.context() as patch:
        patch.setattr(BatchJournal, "open_entries", None)
        assert key in pending
    other.update(entry, "abandoned")

    assert key not in pending
