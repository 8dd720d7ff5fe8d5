"""`explaineval cache …`: output, files and exit codes."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from explaineval.cache import locks, open_store, prune, request_key, verdict_name
from explaineval.cache.database import Database
from explaineval.cli.app import CACHE
from explaineval.records import Completion, Message, Request, Trial
from explaineval.rundir.directory import write_run
from makers.command_line import Call, make_call
from makers.runs import minimal_record

LISTED = "openai/gpt-4o"


def ask(number: int, model: str = LISTED, endpoint: str | None = None, **other: Any) -> Request:
    """Distinct requests by number."""
    turns = (Message(role="user", content=f"Question {number}"),)
    return Request(endpoint=endpoint, model=model, style="chat", messages=turns, max_tokens=9, **other)


def reply(number: int, **usage: Any) -> Completion:
    """An answer with a count of tokens."""
    counts = {"prompt_tokens": 1000, "completion_tokens": number, "total_tokens": 1000 + number}
    return Completion(text=f"answer {number}", usage={**counts, **usage})


def put(directory: Path, pairs: list[tuple[Request, Completion]]) -> None:
    """Store answers, and a verdict on the first one's endpoint."""
    request = pairs[0][0]

    async def put_all(store: Any) -> None:
        await asyncio.gather(*(store.put(*pair) for pair in pairs))
        await store.put_verdict(verdict_name(request.endpoint, request.model), {"probe": {}})

    with open_store(directory) as store:
        asyncio.run(put_all(store))


def count(directory: Path) -> int:
    """Answers in a store."""
    with open_store(directory, readonly=True) as store:
        return store.stats().entries


def spoil(directory: Path, request: Request) -> None:
    """Damage the row of a request."""
    connection = sqlite3.connect(directory / "cache.db")
    with connection:
        connection.execute("UPDATE Cache SET value = x'00' WHERE key = ?", (request_key(request),))
    connection.close()


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run the command line in this process: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    run_cache = make_call(capsys, "cache")

    def run(*arguments: str, typed: str | None = None) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(typed or ""))
        return run_cache(*arguments)

    return run


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache with answers of a listed model, of a private address, of embedded weights."""
    directory = tmp_path / "cache"
    put(
        directory,
        [(ask(n), reply(n)) for n in range(5)]
        + [(ask(n, "openai/smol", "http://127.0.0.1:8000/v1"), reply(n)) for n in range(3)]
        + [(ask(n, "local/smol", "embedded:abc"), reply(n)) for n in range(2)],
    )
    return directory


def test_help_of_the_group_loads_no_command(call: Call) -> None:
    """Every command with its one line, from the table alone."""
    code, out, _ = call("--help")

    assert code == 0
    assert [name for names in CACHE.values() for name in names if f"  {name} " not in out] == []


def test_stats_sum_dollars(call: Call, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens cost the list's price, those read from the provider's cache theirs; private addresses cost nothing."""
    entry = {"input_cost_per_token": 1e-3, "output_cost_per_token": 1e-2, "cache_read_input_token_cost": 1e-4}
    listed = type("Listed", (), {"prices": {LISTED: entry}, "version": "planted:1"})
    monkeypatch.setattr("explaineval.cli.cache.read_price_list", lambda: listed)
    put(cache, [(ask(5), reply(0, prompt_tokens_details={"cached_tokens": 600}))])
    code, out, err = call("stats", "--json")
    document = json.loads(out)
    usd = {one["model"]: one["usd"] for one in document["models"]}

    assert (code, err) == (0, "")
    assert usd == {
        LISTED: pytest.approx(5 * 1.0 + (0 + 1 + 2 + 3 + 4) * 0.01 + 0.4 + 0.06),
        "openai/smol": 0.0,
        "local/smol": 0.0,
    }
    assert document["usd"] == pytest.approx(usd[LISTED])
    assert document["prices"] == "planted:1"
    assert document.keys() >= {"directory", "entries", "refused", "bytes", "models"}
    assert document["models"][0].keys() >= {"endpoint", "model", "entries", "tokens"}


def test_an_unknown_price_is_not_zero(call: Call, cache: Path) -> None:
    """It is null in JSON and `unknown` in text, with a note on --price; a price given holds for all."""
    put(cache, [(ask(0, "openai/nobody-knows", "lab"), reply(1))])
    document = json.loads(call("stats", "--json")[1])
    _, text, err = call("stats")
    given = json.loads(call("stats", "--json", "--price", "1,2")[1])

    assert document["usd"] is None
    assert [one["usd"] for one in document["models"] if one["model"] == "openai/nobody-knows"] == [None]
    assert "unknown" in text
    assert "--price IN,OUT" in err
    assert given["usd"] == pytest.approx(11 * 1000 * 1e-6 + (10 + 3 + 1 + 1) * 2e-6)
    assert given["prices"] == "given:1,2"
    assert call("stats", "--price", "1;2")[0] == 2


def test_stats_show_names_as_they_are(call: Call, tmp_path: Path) -> None:
    """Brackets in a name are printed, not taken for markup."""
    put(tmp_path / "cache", [(ask(0, "openai/[/red]x", "[bold]lab"), reply(1))])
    code, out, _ = call("stats")

    assert code == 0
    assert "openai/[/red]x" in out
    assert "[bold]lab" in out


def test_verify_finds_a_sound_cache_sound(call: Call, cache: Path) -> None:
    """Exit code 0 and the counts."""
    code, out, err = call("verify")
    document = json.loads(call("verify", "--json")[1])

    assert (code, err) == (0, "")
    assert "10 readable" in out
    assert (document["rows"], document["sound"], document["verdicts"], document["whole"]) == (11, 10, 1, True)
    assert (document["integrity"], document["faults"]) == (None, [])


def test_verify_finds_a_damaged_row(call: Call, cache: Path) -> None:
    """Exit code 6, the row by its key, and what to do; nothing is changed."""
    spoil(cache, ask(2))
    before = (cache / "cache.db").read_bytes()
    code, out, err = call("verify")

    assert code == 6
    assert request_key(ask(2)) in out
    assert "prune --damaged" in err
    assert json.loads(call("verify", "--json")[1])["faulty"] == 1
    assert before == (cache / "cache.db").read_bytes()


@pytest.mark.parametrize("how", ["cut", "empty", "pages", "start", "marker"])
def test_verify_finds_a_damaged_database(call: Call, cache: Path, how: str) -> None:
    """Cut, empty, with overwritten pages or start, with a torn marker: exit code 6, one sentence, no write."""
    path = cache / "cache.db"
    data = path.read_bytes()
    damaged = {
        "cut": data[: len(data) // 2],
        "empty": b"",
        "pages": data[: len(data) // 2] + b"\xa5" * (len(data) - len(data) // 2),
        "start": b"\xa5" * 100 + data[100:],
        "marker": data,
    }[how]
    path.write_bytes(damaged)
    if how == "marker":
        (cache / "store.json").write_text("")
    code, out, err = call("verify")
    document = json.loads(call("verify", "--json")[1])

    assert code == 6
    assert "NOT everything is sound" in out
    assert isinstance(document["integrity"], str)
    assert "Traceback" not in out + err
    assert damaged == path.read_bytes()
    assert "refusing" in call("import", "nothing.gz")[2] or how in ("empty", "marker")


def test_verify_of_nothing_is_bad_input(call: Call) -> None:
    """A wrong path gets exit code 2, and nothing is made there."""
    code, _, err = call("verify", "--cache", "gone")

    assert code == 2
    assert "There is no cache in" in err
    assert not Path("gone").exists()


def test_export_and_import_give_everything_back(call: Call, cache: Path) -> None:
    """All answers reach a new cache; again, nothing is added; a different stored answer counts as conflicting."""
    code, out, err = call("export", "--out", "p.gz")
    assert (code, err) == (0, "")
    assert "10 answers, 1 document on endpoints" in out
    first = call("import", "p.gz", "--cache", "new")
    second = json.loads(call("import", "p.gz", "--cache", "new", "--json")[1])
    put(Path("third"), [(ask(0), reply(77))])
    third = json.loads(call("import", "p.gz", "p.gz", "--cache", "third", "--json")[1])

    assert first[0] == 0
    assert "10 answers added" in first[1]
    assert second["files"] == [
        {"file": "p.gz", "added": 0, "present": 10, "conflicting": 0, "refused": [], "verdicts": 0}
    ]
    assert [(one["added"], one["present"], one["conflicting"]) for one in third["files"]] == [(9, 0, 1), (0, 9, 1)]
    with open_store(Path("third"), readonly=True) as store:
        assert store.get(request_key(ask(0))) == reply(77)


def test_export_filters_by_model_and_endpoint(call: Call, cache: Path) -> None:
    """Names are as `stats` prints them; `default` is the provider's own address; a URL may be spelled differently."""

    def exported(*arguments: str) -> int:
        return int(json.loads(call("export", "--out", "p.gz", "--json", *arguments)[1])["entries"])

    assert exported("--model", LISTED) == 5
    assert exported("--model", LISTED, "--model", "local/smol") == 7
    assert exported("--endpoint", "default") == 5
    assert exported("--endpoint", "HTTP://127.0.0.1:8000/v1/") == 3
    assert exported("--endpoint", "embedded:abc", "--model", LISTED) == 0
    assert "the pack is empty" in call("export", "--out", "p.gz", "--model", "none")[2]


def make_run(directory: Path, trials: list[dict[str, Any]], retry: list[str]) -> None:
    """A run directory with what `export --run` reads."""
    directory.mkdir()
    blank = dict.fromkeys(Trial.model_fields)
    fixed = {"model": LISTED, "task": "t", "order": "pe", "style": "chat", "shots": 0, "verbosity": "normal"}
    fixed |= {"sample": 0, "example_id": "e", "kind": "k"}
    lines = [json.dumps({**blank, **fixed, "status": "ok", **trial}) for trial in trials]
    (directory / "trials.jsonl").write_text("\n".join(lines) + "\n")
    config = {"tasks": ["t"], "models": [{"model": LISTED}], "retry": retry}
    write_run(directory, minimal_record(config=config))


def test_export_of_a_run_takes_its_answers_and_names_what_is_missing(call: Call, cache: Path) -> None:
    """Answers asked again are included; requests that were rejected or failed are not reported as missing."""
    key = [request_key(ask(number)) for number in range(9)]
    again = ask(3).model_copy(update={"sample": 1000, "max_tokens": 36})
    put(cache, [(again, reply(3))])
    make_run(
        Path("run"),
        [
            {"key_before": key[0], "key_after": key[1]},
            {"key_before": key[0], "key_after": request_key(again)},
            {"key_before": key[0], "key_after": key[7]},
            {"key_before": key[0], "key_after": key[8], "status": "failed", "status_side": "after"},
            {"key_before": key[0], "key_after": "", "status": "already_in_prompt", "status_side": "after"},
        ],
        ["truncated"],
    )
    code, out, err = call("export", "--out", "p.gz", "--run", "run", "--json")
    document = json.loads(out)
    packed = {json.loads(line)["key"] for line in gzip.decompress(Path("p.gz").read_bytes()).splitlines()}

    assert code == 0
    assert (document["entries"], document["verdicts"], document["missing"]) == (4, 1, [key[7]])
    assert {key[0], key[1], key[3], request_key(again)} < packed
    assert "1 answer of the run is not in the cache" in err
    assert key[7] in err
    assert call("export", "--out", "q.gz", "--run", "nowhere")[0] == 2


def test_a_damaged_cache_is_saved_through_a_pack(call: Call, cache: Path) -> None:
    """Verify finds it, a run refuses it, export saves what can be read, import gives it back."""
    put(cache, [(ask(n), Completion(text=str(n) * 3000)) for n in range(100, 140)])
    path = cache / "cache.db"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4 // 4096 * 4096])
    assert call("verify")[0] == 6
    assert "refusing to write to a damaged store" in call("import", "p.gz")[2]
    code, _, err = call("export", "--out", "saved.gz")
    saved = call("import", "saved.gz", "--cache", "new")

    assert code == 0
    assert "is cut" in err
    assert saved[0] == 0
    assert call("verify", "--cache", "new")[0] == 0
    assert 10 <= count(Path("new")) < 50
    assert call("export", "--out", "saved.gz")[0] == 2  # a pack is not replaced by what damage has left


def test_import_takes_what_is_good(call: Call, cache: Path) -> None:
    """Bad lines and files are named with exit code 2, and everything else is imported."""
    call("export", "--out", "p.gz", "--model", LISTED)
    call("export", "--out", "q.gz", "--model", "openai/smol")
    lines = gzip.decompress(Path("p.gz").read_bytes()).splitlines()
    lines[1] = lines[1].replace(b"Question", b"Quest")
    Path("bad.gz").write_bytes(gzip.compress(b"\n".join(lines) + b"\n"))
    Path("plain").write_text("text")
    code, out, err = call("import", "gone.gz", "bad.gz", "plain", "q.gz", "--cache", "new", "--json")
    files = {one["file"]: one for one in json.loads(out)["files"]}

    assert code == 2
    assert files["bad.gz"]["added"] == 4
    assert files["q.gz"]["added"] == 3
    assert "bad.gz:2: its request is not the one that its key stands for" in err
    assert "gone.gz cannot be read: No such file" in err
    assert "plain is not a pack" in err
    assert count(Path("new")) == 7


def test_import_into_a_network_file_system_is_refused(call: Call, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence says what to do; a store there can still be exported."""
    monkeypatch.setattr(locks, "find_network_type", lambda *_: "nfs4")
    code, out, err = call("export", "--out", "p.gz", "--cache", "cache")

    assert (code, "10 answers" in out) == (0, True)
    assert "network file system (nfs4)" in err
    code, _, err = call("import", "p.gz", "--cache", "far")
    assert code == 2
    assert "choose a local directory" in err


def test_prune_needs_a_filter(call: Call, cache: Path) -> None:
    """Without a filter, or with contradicting ones, nothing is deleted."""
    assert call("prune", "--yes", "10")[0] == 2
    assert "--damaged or --all" in call("prune")[2]
    assert call("prune", "--all", "--model", LISTED, "--yes", "5")[0] == 2
    assert count(cache) == 10


@pytest.mark.parametrize("typed", ["", "\n", "y\n", "yes\n", "4\n", "10\n", "5.0\n"])
def test_prune_deletes_nothing_without_its_number(call: Call, cache: Path, typed: str) -> None:
    """Anything but the number of answers: exit code 2 and a sentence."""
    code, _, err = call("prune", "--model", LISTED, typed=typed)

    assert code == 2
    assert "nothing was deleted" in err
    assert count(cache) == 10


@pytest.mark.parametrize("number", ["0", "4", "6", "10"])
def test_prune_refuses_another_number(call: Call, cache: Path, number: str) -> None:
    """`--yes` must give the exact number of rows."""
    code, out, _ = call("prune", "--model", LISTED, "--yes", number, "--json")

    assert code == 2
    assert f"--yes {number} is not the number of rows to be deleted, 5" in json.loads(out)["error"]["message"]
    assert count(cache) == 10


@pytest.mark.parametrize("how", ["typed", "option"])
def test_prune_deletes_what_was_confirmed(call: Call, cache: Path, how: str) -> None:
    """Number, model and cost are shown first; then these rows are deleted and no others."""
    given = {"typed": (("prune", "--model", LISTED), "5\n"), "option": (("prune", "--model", LISTED, "--yes", "5"), "")}
    arguments, typed = given[how]
    code, out, err = call(*arguments, "--price", "1,2", typed=typed)

    assert code == 0
    assert f"to be deleted from cache: 5 answers that cost ${5000e-6 + 10 * 2e-6:.4f}" in err
    assert LISTED in err
    assert "5 rows deleted" in out
    assert count(cache) == 5
    assert call("verify")[0] == 0


def test_prune_of_damaged_rows_makes_a_cache_sound(call: Call, cache: Path) -> None:
    """Sound answers stay."""
    spoil(cache, ask(1))
    assert call("verify")[0] == 6
    document = json.loads(call("prune", "--damaged", "--yes", "1", "--json")[1])

    assert (document["deleted"], document["answers"], document["damaged"]) == (1, 0, 1)
    assert call("verify")[0] == 0
    assert count(cache) == 9


def test_prune_of_nothing_asks_nothing(call: Call, cache: Path) -> None:
    """A filter that fits no answer deletes nothing and asks nothing."""
    code, out, _ = call("prune", "--model", "none")

    assert code == 0
    assert "0 rows deleted" in out


def test_prune_touches_no_damaged_database(call: Call, cache: Path) -> None:
    """Pages that are damaged are not written to; the sentence says how to save the rest."""
    data = (cache / "cache.db").read_bytes()
    (cache / "cache.db").write_bytes(data[: len(data) // 2] + b"\xa5" * (len(data) - len(data) // 2))
    before = (cache / "cache.db").read_bytes()
    code, _, err = call("prune", "--all", "--yes", "10")

    assert code == 2
    assert "cache export" in err
    assert before == (cache / "cache.db").read_bytes()


def test_prune_leaves_the_space_while_a_run_uses_the_cache(
    call: Call, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answers are deleted, and the run continues."""
    monkeypatch.setattr("explaineval.cache.store.BUSY_TIMEOUT", 0.1)
    with open_store(cache) as store:
        assert store.get(request_key(ask(0))) is not None
        code, out, err = call("prune", "--model", LISTED, "--yes", "5")
        asyncio.run(store.put(ask(50), reply(1)))

        assert (code, "5 rows deleted" in out) == (0, True)
        assert "another process uses the cache" in err
        assert store.stats().entries == 6


def test_a_full_disk_loses_nothing(call: Call, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With SQLite's limit on pages as a full disk there is one sentence; with room the rest is imported."""
    put(Path("big"), [(ask(n), Completion(text=str(n) * 9)) for n in range(200, 1500)])
    call("export", "--out", "p.gz", "--cache", "big")
    prepare = Database.prepare_writes

    def prepare_full(self: Database) -> None:
        prepare(self)
        self._sql("PRAGMA max_page_count = 40")

    with monkeypatch.context() as patch:
        patch.setattr(Database, "prepare_writes", prepare_full)
        code, _, err = call("import", "p.gz")

    assert code == 2
    assert "the disk is full; make room and run again" in err
    assert call("verify")[0] == 0
    assert count(cache) >= 10
    assert call("import", "p.gz")[0] == 0
    assert count(cache) == 1310


def test_a_lock_that_stays_is_named(call: Call, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If another process locks the cache after the confirmation, there is one sentence and nothing is lost."""
    monkeypatch.setattr("explaineval.cache.database.LOCK_TIMEOUT", 0.1)
    other = sqlite3.connect(cache / "cache.db", isolation_level=None)

    async def prune_locked(*arguments: Any) -> int:
        other.execute("BEGIN IMMEDIATE")
        return await prune(*arguments)

    monkeypatch.setattr("explaineval.cli.cache.prune", prune_locked)
    code, _, err = call("prune", "--all", "--yes", "10")
    other.execute("ROLLBACK")
    other.close()

    assert code == 2
    assert "kept it locked for 0.1 s" in err
    assert count(cache) == 10
