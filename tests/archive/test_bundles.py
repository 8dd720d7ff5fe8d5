"""Bundles: what is shared of run.json, and files made by others that are unpacked without trust."""

from __future__ import annotations

import io
import json
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explaineval.archive.bundle import FILES, PACK, SMALL, shared_run, unpack_bundle
from explaineval.archive.reproduce import Discrepancy, differences
from explaineval.errors import InputError
from explaineval.records import MetricRow
from makers.runs import minimal_record

GOOD = dict.fromkeys((*FILES, PACK, "prompts/chat/pe.j2"), b"[]")
GOOD["run.json"] = minimal_record().model_dump_json().encode()

Change = Callable[[zipfile.ZipFile], None]


def make_zip(path: Path, change: Change = lambda _: None, without: str = "") -> Path:
    """A bundle in form, with one change."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in GOOD.items():
            if name != without:
                bundle.writestr(name, content)
        change(bundle)
    return path


def metric_row(**changes: Any) -> MetricRow:
    """A metric row of a number of an arm."""
    values = {
        "endpoint": None, "model": "a/b", "task": "t", "kind": None, "order": "pe", "style": "chat", "shots": 0,
        "verbosity": "normal", "channel": None, "mention": None, "judge": None, "metric": "phi_cct", "value": 0.5,
        "low": None, "high": None, "n": 4, "n_examples": 2, "undefined": None, "signature": "s|explaineval:1",
    }  # fmt: skip
    return MetricRow.model_validate(values | changes)


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


@pytest.mark.parametrize("name", ["run.json", "metrics.json"])
@pytest.mark.parametrize("text", ["[" * 100_000, "[1]", "{", "\ufeff{}", "null", '{"facts": []}'])
def test_a_document_of_another_form_is_refused(tmp_path: Path, name: str, text: str) -> None:
    """Also one that is nested beyond reason; the message names the file and not the place where it was unpacked."""
    source = make_zip(tmp_path / "a.zip", add(name, text.encode()), without=name)
    into = tmp_path / "into"
    into.mkdir()

    with pytest.raises(InputError, match=f"was not used: its {name}") as error:
        unpack_bundle(source, into)
    assert str(into) not in str(error.value)


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
        "models": [{"model": "a/b"}],
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
    entry = {"endpoint": None, "model": "a/b", "fault": "/home/me cannot be read"}
    run = minimal_record(config=config, client=client, endpoints=[entry], complete=True, stray="/home")
    shared = shared_run(run)

    text = json.dumps(shared)
    assert [word for word in ("home", "LAB_KEY", "OTHER_KEY", "stray") if word in text] == []
    assert shared["complete"] is True
    assert shared["client"] == {"endpoints": {"lab": {"base_url": "http://10.0.0.1/v1"}}}
    changed = {
        "tasks": ["nli", "jsonl:mine.jsonl"],
        "prompts": "prompts",
        "shots_from": "shots.jsonl",
        "interventions": {"file": "e.jsonl", "tagger": "tagger", "kind": None, "per_example": 4},
    }
    assert shared["config"] == run.config.model_dump(mode="json", exclude={"metrics"}) | changed


def test_differences_are_named_by_row_and_entry() -> None:
    """Rows that one side lacks are told too."""
    row = metric_row()
    other = metric_row(metric="cct")

    assert list(differences([row, other], [row, other])) == []
    assert list(differences([row], [metric_row(n=5)])) == [Discrepancy("a/b t pe chat 0 normal phi_cct", "n", 4, 5)]
    assert list(differences([row, other], [row])) == [
        Discrepancy("a/b t pe chat 0 normal cct", "row", "present", "absent")
    ]
    assert [difference.row for difference in differences([row, row], [row])] == [
        "a/b t pe chat 0 normal phi_cct (row 2)"
    ]


def test_columns_that_the_bundle_lacks_are_not_compared() -> None:
    """A version that did not have a column yet says nothing about it; one that left it empty does."""
    older = MetricRow.model_validate(metric_row().model_dump(exclude={"judge"}))
    now = metric_row(judge="a/c")

    assert list(differences([older], [now])) == []
    assert [difference.name for difference in differences([metric_row()], [now])] == ["judge"]


def test_signatures_that_differ_in_the_version_alone_are_told_apart() -> None:
    """Nothing else may differ in them, and no other column is meant."""
    rows = [metric_row(signature=f"task:{task}|explaineval:{version}") for task, version in ("a1", "a2", "b2")]

    def is_version(before: MetricRow, now: MetricRow) -> list[bool]:
        return [difference.is_version for difference in differences([before], [now])]

    assert is_version(rows[0], rows[1]) == [True]
    assert is_version(rows[0], rows[2]) == [False]
    assert is_version(metric_row(), metric_row(value=0.25)) == [False]
