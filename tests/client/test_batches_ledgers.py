"""The ledgers on the disk: what they keep, what they refuse, who may use them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from explaineval.cache import request_key
from explaineval.client.batches import pending_keys
from explaineval.client.batches.journal import Ledger, PendingKeys, Shelf
from explaineval.client.batches.protocol import segment
from explaineval.errors import EndpointError, InputError, StoreError
from explaineval.records import Request
from servers.batch_bench import BatchBench, chat, text
from servers.batch_server import BatchServer, Call

ABOUT = ("openai", "lab", "openai/planted")
REQUESTS = [chat(1), text(2), chat(3, params={"extra_body": {"user": "Zoë\u2028\n"}})]


def plan(shelf: Shelf, tag: str = "a", requests: list[Request] = REQUESTS) -> Ledger:
    """A planned batch."""
    return shelf.plan(tag, [(request_key(one), one) for one in requests], 1_700_000_000.0, 1, 1)


def test_requests_come_back_as_they_were(tmp_path: Path) -> None:
    """By their keys, in any order, and nothing for a key of no request."""
    shelf = Shelf(tmp_path / "batches", *ABOUT)
    with shelf.requests(plan(shelf)) as found:
        assert [found.get(request_key(one)) for one in reversed(REQUESTS)] == REQUESTS[::-1]
        assert list(found) == [request_key(one) for one in REQUESTS]
        assert found.get("0" * 64) is None


def test_a_ledger_moves_on_and_is_closed(tmp_path: Path) -> None:
    """Open until it is fetched, then its requests are gone and its batch is still known; other models see neither."""
    shelf, other = Shelf(tmp_path, *ABOUT), Shelf(tmp_path, "openai", "lab", "openai/other")
    ledger = shelf.move(plan(shelf), "submitting", uploaded="file_1")
    moved = shelf.move(ledger, "submitted", batch="batch_1")

    assert shelf.open_ledgers() == [moved]
    assert (moved.uploaded, moved.batch, moved.count) == ("file_1", "batch_1", 3)
    assert other.open_ledgers() == []
    assert pending_keys(tmp_path, *ABOUT) == {request_key(one) for one in REQUESTS}

    shelf.move(moved, "fetched")

    assert shelf.open_ledgers() == []
    assert other.batches() == {"batch_1"}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert pending_keys(tmp_path, *ABOUT) == set()


@pytest.mark.parametrize("content", ["", "{", "{}", '{"format": 2}'])
def test_a_damaged_page_is_not_passed_over(tmp_path: Path, content: str) -> None:
    """It tells of a batch that may be paid for, so nothing is submitted beside it."""
    shelf = Shelf(tmp_path, *ABOUT)
    plan(shelf)
    (tmp_path / "a.json").write_text(content, encoding="utf-8")

    with pytest.raises(InputError, match=r"a\.json cannot be read"):
        shelf.open_ledgers()


def test_damaged_requests_are_not_passed_over(tmp_path: Path) -> None:
    """A missing file, a torn line, or a request under another's key: one sentence with the file's name."""
    shelf = Shelf(tmp_path, *ABOUT)
    ledger, path = plan(shelf), tmp_path / "a.requests.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(InputError, match=r"a\.requests\.jsonl cannot be read"):
        shelf.requests(ledger)

    first, *rest = whole.splitlines(keepends=True)
    swapped = json.loads(first) | {"key": "0" * 64}
    path.write_bytes(json.dumps(swapped).encode() + b"\n" + b"".join(rest))
    with shelf.requests(ledger) as found, pytest.raises(InputError, match="another's key"):
        found.get("0" * 64)

    path.unlink()
    shelf.move(ledger, "submitted", batch="b")
    with pytest.raises(InputError, match="restore it"):
        pending_keys(tmp_path, *ABOUT)


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    """The lock is one of each model; letting go lets the next one in."""
    shelf, other = Shelf(tmp_path, *ABOUT), Shelf(tmp_path, "openai", "lab", "openai/other")
    with shelf.hold() as first, shelf.hold() as second, other.hold() as third:
        assert (first, second, third) == (True, False, True)
    with Shelf(tmp_path, *ABOUT).hold() as again:
        assert again


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    """A sentence about the cache, before anything is submitted."""
    (tmp_path / "batches").write_text("a file", encoding="utf-8")

    with pytest.raises(StoreError, match="make the cache writable"):
        plan(Shelf(tmp_path / "batches", *ABOUT))


@pytest.mark.parametrize("identifier", ["", "..", "a/b", "a?b", "a#b", "ä", None, 3, "x" * 301])
def test_identifiers_that_could_lead_elsewhere(identifier: object) -> None:
    """What a provider calls a batch becomes part of a path, and nothing but a part."""
    assert segment("batch_abc-1.2") == "batch_abc-1.2"
    with pytest.raises(EndpointError, match="no identifier"):
        segment(identifier)


def test_the_ledger_is_on_the_disk_before_each_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the upload comes in the requests are recorded, when the creation comes in, that it is about to happen."""
    monkeypatch.setenv("EXPLAINEVAL_API_KEY", "sk-of-the-test")
    requests = [chat(number) for number in range(3)]
    seen: dict[str, tuple[list[str], set[str]]] = {}

    def look(call: Call) -> None:
        kept = (path.read_text() for path in bench.ledgers.glob("*.requests.jsonl"))
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
    """What another process submits or fetches is known at the next look, however soon after the last one."""
    directory = tmp_path / "batches"
    mine, other = PendingKeys(Shelf(directory, *ABOUT)), Shelf(directory, *ABOUT)
    key = request_key(REQUESTS[0])

    assert key not in mine  # there is no directory yet
    for number in range(20):
        ledger = plan(other, f"a{number}", REQUESTS[:1])
        assert key not in mine
        ledger = other.move(ledger, "submitting")
        assert key in mine
        ledger = other.move(ledger, "submitted", batch=f"batch_{number}")
        assert key in mine
        other.move(ledger, "fetched" if number % 2 else "abandoned")
        assert key not in mine


def test_pending_keys_do_not_read_what_has_not_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the directory has been quiet for a while a look costs no reading, until it changes."""
    other = Shelf(tmp_path, *ABOUT)
    ledger = other.move(plan(other), "submitting")
    os.utime(tmp_path, (1, 1))
    mine, key = PendingKeys(Shelf(tmp_path, *ABOUT)), request_key(REQUESTS[0])
    assert key in mine
    with monkeypatch.context() as patch:
        patch.setattr(Shelf, "open_ledgers", None)
        assert key in mine
    other.move(ledger, "abandoned")

    assert key not in mine
