"""Bundles: what is shared of run.json, and files made by others that are unpacked without trust."""

from __future__ import annotations

import io
import json
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explaineval.archive.bundle import FILES, PACK, SMALL, shared_run, unpack_bundle
from explaineval.archive.reproduce import differences
from explaineval.errors import InputError

GOOD = {name: b"{}" if name == "run.json" else b"[]" for name in (*FILES, PACK, "prompts/chat/pe.j2")}

Change = Callable[[zipfile.ZipFile], None]


def make_zip(path: Path, change: Change = lambda _: None, without: str = "") -> Path:
    """A bundle in form, with one change."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in GOOD.items():
            if name != without:
                bundle.writestr(name, content)
        change(bundle)
    return path


def add(name: str, content: bytes = b"x", mode: int = stat.S_IFREG | 0o644) -> Change:
    """One more entry."""

    def change(bundle: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        info.compress_type = zipfile.ZIP_DEFLATED
        bundle.writestr(info, content)

    return change


def test_a_sound_bundle_is_unpacked_as_it_is(tmp_path: Path) -> None:
    """Every entry becomes a file of the same bytes."""
    into = tmp_path / "into"
    into.mkdir()
    unpack_bundle(make_zip(tmp_path / "a.zip", add("prompts/tasks/mine.v2.txt", b"hello")), into)

    found = {str(path.relative_to(into)): path.read_bytes() for path in into.rglob("*") if path.is_file()}
    assert found == {**GOOD, "prompts/tasks/mine.v2.txt": b"hello"}


@pytest.mark.parametrize(
    "change",
    [
        add("../evil.txt"),
        add("prompts/../../evil.txt"),
        add("/evil.txt"),
        add("prompts//evil.txt"),
        add("prompts/./evil.txt"),
        add("prompts\\..\\evil.txt"),
        add("C:evil.txt"),
        add("prompts/.hidden"),
        add("prompts/a\n"),
        add("prompts/sub/", mode=stat.S_IFDIR | 0o755),
        add("other.txt"),
        add("prompts/link.txt", b"/etc/passwd", stat.S_IFLNK | 0o777),
        add("prompts/pipe.txt", b"", stat.S_IFIFO | 0o644),
        add("prompts/huge.txt", bytes(SMALL + 1)),
        lambda bundle: [add(f"prompts/{number}.txt")(bundle) for number in range(1001)] and None,
    ],
    ids=[
        "up", "up again", "absolute", "empty part", "dot", "backslash", "drive", "hidden", "line break", "directory",
        "stranger", "symbolic link", "pipe", "swelling", "too many",
    ],
)  # fmt: skip
def test_a_hostile_bundle_leaves_nothing_behind(tmp_path: Path, change: Change) -> None:
    """One sentence, and not one file: neither in the directory nor beside it."""
    into = tmp_path / "deep" / "into"
    into.mkdir(parents=True)
    source = make_zip(tmp_path / "a.zip", change)

    with pytest.raises(InputError, match=r"was not used: "):
        unpack_bundle(source, into)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [source]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_entry_that_stands_twice_is_refused(tmp_path: Path) -> None:
    """The second could replace the first after it was looked at."""
    source = make_zip(tmp_path / "a.zip", add("run.json", b'{"other": 1}'))

    with pytest.raises(InputError, match="one of them twice"):
        unpack_bundle(source, tmp_path / "into")


@pytest.mark.parametrize("name", [*FILES, PACK])
def test_a_bundle_that_lacks_a_file_says_which(tmp_path: Path, name: str) -> None:
    """Nothing is guessed in its place."""
    source = make_zip(tmp_path / "a.zip", without=name)

    with pytest.raises(InputError, match=f"it lacks {name}"):
        unpack_bundle(source, tmp_path / "into")


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "{", "\ufeff{}", "null"])
def test_a_run_document_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    """Also one that is nested beyond reason."""
    source = make_zip(tmp_path / "a.zip", add("run.json", text.encode()), without="run.json")
    into = tmp_path / "into"
    into.mkdir()

    with pytest.raises(InputError, match=r"its run\.json"):
        unpack_bundle(source, into)


@pytest.mark.parametrize("name", ["/dev/zero", "../../secret", "chat/../../x"])
def test_a_template_that_reaches_beyond_the_bundle_is_refused(tmp_path: Path, name: str) -> None:
    """Before anything reads what it names; one that includes its neighbour is fine."""
    (tmp_path / "into").mkdir()
    (tmp_path / "good").mkdir()
    source = make_zip(tmp_path / "a.zip", add("prompts/chat/ep.j2", f"{{% include '{name}' %}}".encode()))

    with pytest.raises(InputError, match=r"its prompts/chat/ep\.j2 reaches for"):
        unpack_bundle(source, tmp_path / "into")
    unpack_bundle(make_zip(tmp_path / "b.zip", add("prompts/a.j2", b"{% include 'chat/pe.j2' %}")), tmp_path / "good")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "no such file"),
        ("empty", "is no bundle"),
        (".", "cannot be unpacked: it is not a regular file"),
        ("/dev/zero", "cannot be unpacked: it is not a regular file"),
    ],
)
def test_what_is_no_bundle_is_refused(tmp_path: Path, name: str, message: str) -> None:
    """A missing file, an empty one, a directory and an endless device get one sentence each."""
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(InputError, match=message):
        unpack_bundle(tmp_path / name, tmp_path / "into")


@given(st.data())
def test_a_damaged_bundle_is_refused_or_whole(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Bytes flipped or cut off anywhere: a sentence, or (in bytes that nobody reads) the very same files."""
    directory = tmp_path_factory.mktemp("damaged")
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in GOOD.items():
            bundle.writestr(name, content)
    raw = bytearray(memory.getvalue())
    if data.draw(st.booleans()):
        del raw[data.draw(st.integers(0, len(raw) - 1)) :]
    else:
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (directory / "a.zip").write_bytes(raw)
    into = directory / "into"
    into.mkdir()
    try:
        unpack_bundle(directory / "a.zip", into)
    except InputError:
        return
    found = {str(path.relative_to(into)): path.read_bytes() for path in into.rglob("*") if path.is_file()}

    assert set(GOOD.values()) == set(found.values())


def test_what_is_shared_of_a_run_names_no_place_and_no_variable() -> None:
    """Paths become names; of the transport only names and addresses of endpoints stay."""
    config = {
        "tasks": ["nli", "jsonl:/home/me/mine.jsonl"],
        "prompts": "/home/me/prompts",
        "shots_from": "/home/me/shots.jsonl",
        "interventions": {"file": "/home/me/e.jsonl", "tagger": "/home/me/tagger", "kind": None},
        "seed": 3,
    }
    client = {
        "endpoints": {"lab": {"base_url": "http://10.0.0.1/v1", "api_key_env": "LAB_KEY", "price": [1, 2]}},
        "api_key_env": "OTHER_KEY",
        "cache": "/home/me/cache",
    }
    run = {"config": config, "client": client, "endpoints": [{"model": "a/b", "fault": "/home/me"}], "stray": "/home"}
    shared = shared_run({**run, "complete": True})

    assert shared == {
        "complete": True,
        "config": {
            "tasks": ["nli", "jsonl:mine.jsonl"],
            "prompts": "prompts",
            "shots_from": "shots.jsonl",
            "interventions": {"file": "e.jsonl", "tagger": "tagger", "kind": None},
            "seed": 3,
        },
        "client": {"endpoints": {"lab": {"base_url": "http://10.0.0.1/v1"}}},
        "endpoints": [{"model": "a/b"}],
    }


def test_differences_are_named_by_row_and_entry() -> None:
    """Values are compared as they are spelled; rows on one side only are told too."""
    row = {"model": "a/b", "task": "t", "kind": None, "metric": "phi_cct", "value": 0.5, "n": 4}
    other = {**row, "metric": "cct"}

    assert differences([row, other], [row, other]) == []
    assert [(one.row, one.name, one.bundled, one.recomputed) for one in differences([row], [{**row, "n": 4.0}])] == [
        ("a/b t phi_cct", "n", 4, 4.0)
    ]
    assert [(one.row, one.name, one.recomputed) for one in differences([row, other], [row])] == [
        ("a/b t cct", "row", "absent")
    ]
    assert [one.row for one in differences([row, row], [row])] == ["a/b t phi_cct (row 2)"]
    assert differences([json.loads("null")], [{}]) != []
