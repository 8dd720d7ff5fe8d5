"""Packs: the same bytes for the same answers, checked line by line, and nothing that is there is replaced."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explaineval.cache import (
    Imported,
    Store,
    canonical,
    export_pack,
    import_pack,
    open_store,
    packs,
    request_key,
    verdict_name,
)
from explaineval.cache.integrity import scan
from explaineval.errors import InputError, StoreError
from explaineval.records import Completion, Request

Make = Callable[..., Any]


def fill(store: Store, pairs: list[tuple[Request, Completion]]) -> None:
    """Put all at the same time."""

    async def put_all() -> None:
        await asyncio.gather(*(store.put(*pair) for pair in pairs))

    asyncio.run(put_all())


def lay(directory: Path, *sources: Path) -> list[Imported]:
    """Import packs into the store of a directory, one after the other."""
    with open_store(directory) as store:
        return [asyncio.run(import_pack(store, source)) for source in sources]


def rows(directory: Path) -> list[tuple[Any, ...]]:
    """Every column of every row, as it stands in the database."""
    connection = sqlite3.connect(directory / "cache.db")
    found = connection.execute("SELECT * FROM Cache ORDER BY rowid").fetchall()
    connection.close()
    return found


def verdicts(store: Store) -> list[tuple[Any, Any]]:
    """All verdicts of a store, by key."""
    rows = [row for row in scan(store.reader) if row.key is not None and row.key.startswith("verdict:")]
    return sorted((row.key, row.value["verdict"]) for row in rows)


def content(directory: Path) -> tuple[list[Any], list[Any]]:
    """All answers and verdicts of a store."""
    with open_store(directory, readonly=True) as store:
        return list(store.iterate()), verdicts(store)


def entry(request: Request, completion: Any) -> dict[str, Any]:
    """A line of a pack, made without the code under test."""
    text = json.dumps(canonical(request), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return {"key": hashlib.sha256(text.encode()).hexdigest(), "request": json.loads(text), "completion": completion}


def write(path: Path, *lines: object) -> Path:
    """A pack as another program writes it."""
    with gzip.open(path, "wt", encoding="utf-8") as handle:
        for line in lines:
            handle.write((line if isinstance(line, str) else json.dumps(line)) + "\n")
    return path


@pytest.fixture
def pairs(make_request: Make, make_completion: Make) -> list[tuple[Request, Completion]]:
    """Forty answers of two models."""
    one = [(make_request(n), make_completion(n)) for n in range(30)]
    return one + [(make_request(n, endpoint=None, model="openai/other"), make_completion(n)) for n in range(10)]


@pytest.fixture
def source(store: Store, pairs: list[tuple[Request, Completion]]) -> Store:
    """A store with answers, two verdicts on their endpoints and one on another."""
    fill(store, pairs)
    for endpoint, model in (("lab", "openai/smol"), (None, "openai/other"), ("elsewhere", "openai/smol")):
        asyncio.run(store.put_verdict(verdict_name(endpoint, model), {"of": model, "at": endpoint}))
    return store


@pytest.fixture
def pack(source: Store, tmp_path: Path) -> Path:
    """All of it as a pack."""
    export_pack(source, tmp_path / "pack.jsonl.gz")
    return tmp_path / "pack.jsonl.gz"


def test_lines_are_key_request_and_completion(pack: Path, pairs: list[tuple[Request, Completion]]) -> None:
    """gzip and json are enough to read a pack; each key is the SHA-256 of its line's request; answers come first."""
    lines = [json.loads(line) for line in gzip.decompress(pack.read_bytes()).splitlines()]
    hashed = [
        hashlib.sha256(
            json.dumps(line["request"], sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        ).hexdigest()
        for line in lines
    ]

    assert {("key", "request", "completion")} == {tuple(line) for line in lines}
    assert [line["key"] for line in lines] == hashed
    assert hashed[:40] == sorted(request_key(request) for request, _ in pairs)
    assert [line["request"].keys() for line in lines[40:]] == [{"schema", "verdict"}] * 3
    assert hashed[40:] == sorted(hashed[40:])
    assert {line["completion"]["at"] for line in lines[40:]} == {"lab", None, "elsewhere"}
    first = next(line for line in lines if line["key"] == request_key(pairs[3][0]))
    assert first["completion"]["text"] == pairs[3][1].text


def test_what_is_exported_comes_back(pack: Path, source: Store, tmp_path: Path) -> None:
    """All answers and all verdicts, also one on an endpoint that was probed and never asked."""
    found = lay(tmp_path / "other", pack)

    assert found == [Imported(added=40, present=0, conflicting=0, refused=(), verdicts=3)]
    assert content(tmp_path / "other") == (list(source.iterate()), verdicts(source))


def test_some_answers_take_only_the_verdicts_on_their_endpoints(source: Store, tmp_path: Path) -> None:
    """What is known about other endpoints stays at home."""
    found = export_pack(source, tmp_path / "some.gz", wanted=lambda request: request.endpoint == "lab")

    assert (found.entries, found.verdicts) == (30, 1)
    lay(tmp_path / "other", tmp_path / "some.gz")
    assert [verdict[1]["at"] for verdict in content(tmp_path / "other")[1]] == ["lab"]


def test_reasoning_goes_along(store: Store, tmp_path: Path, make_request: Make, make_completion: Make) -> None:
    """Into the pack and out of it; a line of an answer without reasoning does not name it."""
    reasoned = make_completion(1).model_copy(update={"reasoning": "It rains."})
    fill(store, [(make_request(1), reasoned), (make_request(2), make_completion(2))])
    export_pack(store, tmp_path / "some.pack")
    lay(tmp_path / "other", tmp_path / "some.pack")

    lines = [json.loads(line) for line in gzip.decompress((tmp_path / "some.pack").read_bytes()).splitlines()]
    assert {"It rains.", None} == {line["completion"].get("reasoning") for line in lines}
    assert sum("reasoning" in line["completion"] for line in lines) == 1
    assert content(tmp_path / "other")[0] == list(store.iterate())


def test_the_same_answers_make_the_same_bytes(
    pack: Path, pairs: list[tuple[Request, Completion]], tmp_path: Path
) -> None:
    """From another store, filled in another order, with names in another order, at another time."""
    turned = [
        (request, completion.model_copy(update={"usage": dict(reversed(completion.usage.items()))}))
        for request, completion in reversed(pairs)
    ]
    with open_store(tmp_path / "other") as store:
        fill(store, turned)
        for endpoint, model in (("elsewhere", "openai/smol"), (None, "openai/other"), ("lab", "openai/smol")):
            asyncio.run(store.put_verdict(verdict_name(endpoint, model), {"at": endpoint, "of": model}))
        export_pack(store, tmp_path / "again.gz")

    assert pack.read_bytes() == (tmp_path / "again.gz").read_bytes()
    assert pack.read_bytes()[:10] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # no time, no file name


def test_the_same_pack_twice_changes_nothing(pack: Path, tmp_path: Path) -> None:
    """Not one byte of a row, also not when it was stored."""
    lay(tmp_path / "other", pack)
    before = rows(tmp_path / "other")
    found = lay(tmp_path / "other", pack)

    assert found == [Imported(added=0, present=40, conflicting=0, refused=(), verdicts=0)]
    assert before == rows(tmp_path / "other")


def test_the_first_answer_stands(pack: Path, pairs: list[tuple[Request, Completion]], tmp_path: Path) -> None:
    """Numbers rest on what is there: another completion in the pack is counted, and so is a verdict left."""
    with open_store(tmp_path / "other") as store:
        fill(store, [(pairs[0][0], Completion(text="mine")), pairs[1]])
        asyncio.run(store.put_verdict(verdict_name("lab", "openai/smol"), {"mine": True}))
    found = lay(tmp_path / "other", pack)

    assert found == [Imported(added=38, present=1, conflicting=1, refused=(), verdicts=2)]
    with open_store(tmp_path / "other", readonly=True) as store:
        assert store.get(request_key(pairs[0][0])) == Completion(text="mine")
        assert store.get_verdict(verdict_name("lab", "openai/smol")) == {"mine": True}


def test_a_key_that_stands_twice_in_a_pack_is_stored_once(make_request: Make, tmp_path: Path) -> None:
    """The second line meets the first one on its way to the disk."""
    lines = [entry(make_request(), {"text": text}) for text in ("one", "one", "two")]

    assert lay(tmp_path / "c", write(tmp_path / "p.gz", *lines)) == [Imported(1, 1, 1, (), 0)]
    assert [answer[2].text for answer in content(tmp_path / "c")[0]] == ["one"]


def test_packs_of_several_machines_merge(make_request: Make, make_completion: Make, tmp_path: Path) -> None:
    """Each half in a pack of its own; in either order the whole comes out."""
    halves = []
    for number, part in enumerate((range(12), range(8, 20))):
        with open_store(tmp_path / f"machine{number}") as store:
            fill(store, [(make_request(n), make_completion(n)) for n in part])
            export_pack(store, tmp_path / f"{number}.gz")
        halves.append(tmp_path / f"{number}.gz")
    added = [
        [one.added for one in lay(tmp_path / name, *order)] for name, order in (("ab", halves), ("ba", halves[::-1]))
    ]

    assert added == [[12, 8], [12, 8]]
    assert content(tmp_path / "ab") == content(tmp_path / "ba")
    assert len(content(tmp_path / "ab")[0]) == 20


def test_keys_and_wanted_choose(source: Store, pairs: list[tuple[Request, Completion]], tmp_path: Path) -> None:
    """Keys that are not there are named; only the verdicts on what goes in come along."""
    keys = {request_key(request) for request, _ in pairs[25:35]} | {"f" * 64, "no key"}
    found = export_pack(source, tmp_path / "a.gz", keys=keys)
    fewer = export_pack(source, tmp_path / "b.gz", keys=keys, wanted=lambda request: request.endpoint == "lab")
    none = export_pack(source, tmp_path / "c.gz", wanted=lambda request: request.model == "none")

    assert (found.entries, found.verdicts, found.missing) == (10, 2, ("f" * 64, "no key"))
    assert (fewer.entries, fewer.verdicts, fewer.missing) == (5, 1, ("f" * 64, "no key"))
    assert (none.entries, none.verdicts, none.missing) == (0, 0, ())
    assert found.bytes == (tmp_path / "a.gz").stat().st_size
    assert gzip.decompress((tmp_path / "c.gz").read_bytes()) == b""
    assert lay(tmp_path / "other", tmp_path / "b.gz", tmp_path / "c.gz")[0].added == 5


def bad_lines(make_request: Make) -> Iterator[tuple[object, str]]:
    """Lines that are to be refused, and what is said of each."""
    good = entry(make_request(1), {"text": "x"})
    yield {**good, "key": entry(make_request(2), {})["key"]}, "not the one that its key stands for"
    yield {**good, "request": good["request"] | {"max_tokens": 10}}, "not the one that its key stands for"
    yield {**good, "key": good["key"].upper()}, "not the one that its key stands for"
    yield {**good, "key": 7}, "its key is no text"
    yield {**good, "completion": {"texts": "x"}}, "completion cannot be read"
    yield {**good, "completion": None}, "completion cannot be read"
    yield {**good, "request": [1]}, "not the one that its key stands for"
    yield {"key": good["key"], "request": good["request"]}, "does not hold a key, a request and a completion"
    yield {**good, "more": 1}, "does not hold a key, a request and a completion"
    yield "[" * 100_000, "not JSON"
    yield '{"key":', "not JSON"
    yield json.dumps(good).replace('"x"', "NaN"), "not JSON"
    odd = {"schema": 1, "model": "m", "style": "completion", "prompt": "p", "max_tokens": 1, "sample": 0, "seed": 3}
    text = json.dumps(odd, sort_keys=True, separators=(",", ":"))
    yield {**good, "request": odd, "key": hashlib.sha256(text.encode()).hexdigest()}, "request cannot be read"
    yield {**good, "request": {"schema": 1, "verdict": "v"}}, "not the one that its key stands for"
    key = hashlib.sha256(b'{"schema":1,"verdict":"v"}').hexdigest()
    yield {"key": key, "request": {"schema": 1, "verdict": "v"}, "completion": []}, "no document on an endpoint"
    yield {"key": "0" * 64, "request": {"schema": 1, "verdict": "\ud800"}, "completion": {}}, "has no key"


def test_bad_lines_are_named_and_the_others_imported(make_request: Make, tmp_path: Path) -> None:
    """Each refused line has its number and its reason; a good line after each of them is there."""
    bad = list(bad_lines(make_request))
    lines: list[object] = []
    for number, (line, _) in enumerate(bad):
        lines += [line, entry(make_request(100 + number), {"text": str(number)})]
    (found,) = lay(tmp_path / "c", write(tmp_path / "p.gz", *lines, ""))

    assert (found.added, found.present, found.conflicting, found.verdicts) == (len(bad), 0, 0, 0)
    assert len(found.refused) == len(bad)
    for number, (sentence, (_, reason)) in enumerate(zip(found.refused, bad, strict=True)):
        assert sentence.startswith(f"{tmp_path / 'p.gz'}:{2 * number + 1}: ")
        assert reason in sentence


def test_sentences_are_bounded(tmp_path: Path, make_request: Make) -> None:
    """A file of nonsense does not fill the memory, and its one good line is imported."""
    lines = ["nonsense"] * (packs.MAX_SENTENCES + 7)
    (found,) = lay(tmp_path / "c", write(tmp_path / "p.gz", *lines, entry(make_request(), {"text": "x"})))

    assert len(found.refused) == packs.MAX_SENTENCES + 1
    assert found.refused[-1].endswith("7 more lines were refused.")
    assert found.added == 1


def test_a_bomb_is_refused_by_its_length(tmp_path: Path, make_request: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that is too long is never held, wherever it stands, and the lines around it are imported."""
    monkeypatch.setattr(packs, "MAX_LINE", 2000)
    good = [entry(make_request(n), {"text": "x"}) for n in range(3)]
    bombs = [json.dumps(entry(make_request(n), {"text": "y" * size})) for n, size in ((7, 2000), (8, 5_000_000))]
    (found,) = lay(tmp_path / "c", write(tmp_path / "p.gz", good[0], bombs[0], good[1], bombs[1], good[2]))

    assert found.added == 3
    assert [sentence.split("p.gz")[1] for sentence in found.refused] == [
        f":{number}: it is longer than 2,000 bytes." for number in (2, 4)
    ]


def test_a_row_that_cannot_be_read_is_given_back(pack: Path, source: Store, plant: Make, pairs: Any) -> None:
    """What a store has lost, a pack restores."""
    key = request_key(pairs[0][0])
    plant("UPDATE Cache SET value = x'00' WHERE key = ?", key)
    plant("UPDATE Cache SET value = x'00' WHERE key = ?", f"verdict:{verdict_name('lab', 'openai/smol')}")
    found = asyncio.run(import_pack(source, pack))

    assert (found.added, found.present, found.verdicts) == (1, 39, 1)
    assert source.get(key) == pairs[0][1]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("foreign", [False, True])
def test_a_cut_pack_gives_what_it_holds(
    pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, foreign: bool
) -> None:
    """Whole lines before the cut are imported; it is said that the rest is lost."""
    text = gzip.decompress(pack.read_bytes())
    whole = gzip.compress(text) if foreign else pack.read_bytes()
    cut = tmp_path / "cut.gz"
    cut.write_bytes(whole[: int(len(whole) * share)])
    (found,) = lay(tmp_path / "c", cut)
    answers, verdicts = content(tmp_path / "c")

    assert "cut short" in found.refused[-1]
    assert len(answers) == found.added
    assert len(verdicts) == found.verdicts
    assert (found.added > 0) == (share > 0.1)
    expected = [json.loads(line)["key"] for line in text.splitlines()[: found.added]]
    assert expected == sorted(key for key, _, _ in answers)


def test_no_damaged_byte_changes_an_answer(source: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever byte is changed: what is imported is what was exported, most of it is, and something is said."""
    monkeypatch.setattr(packs, "MEMBER", 2000)
    pack = tmp_path / "parts.gz"
    export_pack(source, pack)
    truth = {key: completion for key, _, completion in source.iterate()}
    whole = pack.read_bytes()
    for number in range(0, len(whole), max(1, len(whole) // 20)):
        damaged = tmp_path / "damaged.gz"
        damaged.write_bytes(whole[:number] + bytes([whole[number] ^ 0x10]) + whole[number + 1 :])
        if number < 3:
            continue  # then it is no gzip file
        with open_store(tmp_path / f"c{number}") as store:
            found = asyncio.run(import_pack(store, damaged))
            answers = {key: completion for key, _, completion in store.iterate()}

        assert answers.items() <= truth.items()
        assert answers == truth or found.refused
        assert len(answers) >= len(truth) - 8


def test_changed_text_under_a_wrong_checksum_is_not_used(pack: Path, tmp_path: Path) -> None:
    """In a foreign pack of one part one changed letter of an answer condemns all: nobody knows where it stands."""
    text = gzip.decompress(pack.read_bytes())
    sound, changed = (gzip.compress(one, mtime=0) for one in (text, text.replace(b"because of 3 ", b"because of 4 ")))
    (tmp_path / "bad.gz").write_bytes(changed[:-8] + sound[-8:])
    (found,) = lay(tmp_path / "c", tmp_path / "bad.gz")

    assert found.added == 0
    assert "are damaged, none of their lines was used" in found.refused[0]


@pytest.mark.parametrize("text", [b"", b"plain text\n", b'{"key": 1}\n', b"\x80\x04pickle"])
def test_what_is_no_pack_is_refused(tmp_path: Path, text: bytes) -> None:
    """With the name of the file."""
    (tmp_path / "x").write_bytes(text)

    with pytest.raises(InputError, match="x is not a pack"):
        lay(tmp_path / "c", tmp_path / "x")
    with pytest.raises(InputError, match="gone cannot be read: No such file"):
        lay(tmp_path / "c", tmp_path / "gone")


def test_a_draft_is_never_left_behind(
    source: Store, pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk leaves the former pack as it was."""
    before = pack.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(packs.MemberWriter, "close", fail)
    with pytest.raises(InputError, match="cannot be written: No space left"):
        export_pack(source, pack)

    assert before == pack.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "pack.jsonl.gz"]


def test_a_damaged_store_does_not_replace_a_pack(source: Store, pack: Path, plant: Make, pairs: Any) -> None:
    """The older pack may hold what the store has lost; under another name the rest is saved."""
    plant("UPDATE Cache SET value = x'00' WHERE key = ?", request_key(pairs[0][0]))
    before = pack.read_bytes()

    with pytest.raises(InputError, match="left as it is, because the store is damaged"):
        export_pack(source, pack)
    assert before == pack.read_bytes()
    found = export_pack(source, pack.with_name("rest.gz"))
    assert (found.entries, found.refused) == (39, 1)


def test_a_store_that_cannot_be_written_is_an_error(source: Store, make_request: Make, tmp_path: Path) -> None:
    """Not a refused line."""
    new = write(tmp_path / "new.gz", entry(make_request(99), {"text": "x"}))
    with open_store(source.directory, readonly=True) as reading:
        work = import_pack(reading, new)
        with pytest.raises(StoreError, match="reading only"):
            asyncio.run(work)


def test_broken_characters_of_an_answer_travel(store: Store, make_request: Make, tmp_path: Path) -> None:
    """Half of a surrogate pair is no UTF-8, but it was paid for."""
    fill(store, [(make_request(), Completion(text="ü \ud83d"))])
    export_pack(store, tmp_path / "p.gz")
    lay(tmp_path / "other", tmp_path / "p.gz")

    assert [(one[2].text, one[2].repaired) for one in content(tmp_path / "other")[0]] == [("ü \ufffd", ("text",))]


def test_a_pack_of_an_earlier_version_is_read(make_request: Make, tmp_path: Path) -> None:
    """Packs may hold broken characters and counts of 400 digits: their answers are laid in, repaired and marked."""
    entries = canonical(make_request())
    completion = {"text": "Answer: A \ud83d", "usage": {"prompt_tokens": 10**400}, "model": "m\ude00"}
    line = {"key": request_key(make_request()), "request": entries, "completion": completion}
    (tmp_path / "p.gz").write_bytes(gzip.compress(json.dumps(line).encode()))
    lay(tmp_path / "other", tmp_path / "p.gz")
    [(_, _, found)] = content(tmp_path / "other")[0]

    assert (found.text, found.model, found.usage) == ("Answer: A \ufffd", "m\ufffd", {"prompt_tokens": "about 10^400"})
    assert set(found.repaired) == {"text", "usage", "model"}


@given(st.lists(st.binary(max_size=40).map(lambda data: data.replace(b"\n", b"")), max_size=30), st.integers(1, 60))
def test_lines_survive_any_size_of_parts(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], size: int
) -> None:
    """Written in parts of any size, read back by gzip and by us."""
    path = tmp_path_factory.mktemp("parts") / "x.gz"
    with pytest.MonkeyPatch.context() as patch, path.open("w+b") as handle:
        patch.setattr(packs, "MEMBER", size)
        writer = packs.MemberWriter(handle)
        for line in lines:
            writer.write(line)
        writer.close()
        found = list(packs.read_lines(handle, 100))

    assert gzip.decompress(path.read_bytes()) == b"".join(line + b"\n" for line in lines)
    assert [packs.PackLine(number, line) for number, line in enumerate(lines, start=1)] == found


def test_lines_may_cross_the_parts_of_foreign_files(tmp_path: Path) -> None:
    """As block-wise compressors write them, with zeros at the end, and without a last line break."""
    text = b"first line\nsecond line\nthird"
    path = tmp_path / "x.gz"
    path.write_bytes(b"".join(gzip.compress(text[n : n + 7]) for n in range(0, len(text), 7)) + bytes(512))
    with path.open("rb") as handle:
        found = [line.data for line in packs.read_lines(handle, 100)]

    assert found == text.split(b"\n")


def test_what_is_no_file_is_not_replaced(source: Store, tmp_path: Path) -> None:
    """A pipe or a device in a file's place, /dev/full among them, stays what it is."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    with pytest.raises(InputError, match="not a regular file, so it is not replaced"):
        export_pack(source, pipe)

    assert pipe.is_fifo()


def test_a_pack_that_unpacks_without_measure_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte of it would keep a machine busy for minutes."""
    monkeypatch.setattr("explaineval.cache.packs.SMALL", 1 << 20)
    bomb = tmp_path / "bomb.gz"
    bomb.write_bytes(gzip.compress(b"\n" * (8 << 20)))
    [imported] = lay(tmp_path / "cache", bomb)

    assert imported.added == 0
    assert ["packed more than 100 times" in text for text in imported.refused] == [True]


def test_blank_lines_without_an_end_are_not_read(pack: Path, tmp_path: Path) -> None:
    """What comes before them is stored; a few of them are passed over."""
    few, many = tmp_path / "few.gz", tmp_path / "many.gz"
    few.write_bytes(gzip.compress(b"\n" * 900) + pack.read_bytes())
    many.write_bytes(pack.read_bytes() + gzip.compress(b"\n" * 2_000))

    assert lay(tmp_path / "one", few) == lay(tmp_path / "two", pack)
    with pytest.raises(InputError, match="lines are blank"):
        lay(tmp_path / "three", many)
    assert content(tmp_path / "three") == content(tmp_path / "one")


def test_a_pipe_is_no_pack(tmp_path: Path) -> None:
    """It is not waited for."""
    os.mkfifo(tmp_path / "pipe.gz")
    with pytest.raises(InputError, match="not a regular file"):
        lay(tmp_path / "cache", tmp_path / "pipe.gz")
