"""`explaineval export`: which format is written, from run directories and bundles, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from explaineval.cli.app import app
from explaineval.reporting.exports import BUNDLE, FORMATS
from explaineval.rundir.directory import read_metrics
from makers.command_line import Call
from makers.exported import ATTACKS, attacked_run

COMMAND = "export"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of models that attack."""
    return attacked_run(tmp_path_factory.mktemp("command") / "run")


@pytest.mark.parametrize(
    ("out", "options"),
    [
        ("F.csv", []), ("F.parquet", []), ("F.jsonl", []), ("F.tex", []), ("F.md", ["--format", "markdown"]),
        ("F.md", ["--format", "card"]), ("F.txt", ["--format", "csv"]), ("deep/down/F.csv", ["--rows", "trials"]),
    ],
)  # fmt: skip
def test_a_format_is_chosen_by_name_or_suffix(run: Path, call: Call, out: str, options: list[str]) -> None:
    """One line says what was written; nothing that a terminal obeys is in it."""
    code, text, err = call(run, "--out", out, *options)

    assert (code, err) == (0, "")
    assert text.startswith(f"{out}: ")
    assert Path(out).stat().st_size > 1000
    assert "\x1b" not in text


def test_the_json_document_names_the_files(run: Path, call: Call) -> None:
    """Format, table, files and bytes."""
    _, text, _ = call(run, "--out", "F.csv", "--rows", "trials", "--json")
    document = json.loads(text)

    assert (document["format"], document["rows"], document["files"]) == ("csv", "trials", ["F.csv"])
    assert document["bytes"] == Path("F.csv").stat().st_size
    assert document["warnings"] == []


def test_formats_that_write_a_directory_name_every_file(run: Path, call: Call) -> None:
    """One record for each model."""
    _, text, _ = call(run, "--out", "records", "--format", "every-eval-ever", "--json")
    document = json.loads(text)

    assert document["rows"] is None
    assert sorted(document["files"]) == sorted(map(str, Path("records").rglob("*.json")))
    assert len(document["files"]) == len(ATTACKS)


def test_a_bundle_is_exported_like_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    """The same bytes, and the bundle itself is what an unknown suffix still gives."""
    ask = [
        "run",
        "--task",
        "sense",
        "--limit",
        "6",
        "--model",
        "simulated/faithful",
        "--cache",
        "cache",
        "--out",
        "sim",
    ]
    with pytest.raises(SystemExit):
        app.main([*ask, "--model", "simulated/random"], standalone_mode=True)
    assert call("sim", "--out", "evidence.zip", "--cache", "cache")[0] == 0
    assert call("sim", "--out", "same.tar.gz", "--cache", "cache", "--format", "bundle")[0] == 0
    assert Path("evidence.zip").read_bytes() == Path("same.tar.gz").read_bytes()
    for name in ("F.csv", "F.tex"):
        assert call("sim", "--out", f"run-{name}")[0] == 0
        assert call("evidence.zip", "--out", f"bundle-{name}")[0] == 0
        assert Path(f"run-{name}").read_bytes() == Path(f"bundle-{name}").read_bytes()


REFUSED = {
    "suffix of two formats": (["--out", "F.md"], "--format markdown or card"),
    "table of a format without rows": (["--out", "F.tex", "--rows", "trials"], "only formats of rows have a table"),
    "table of a bundle": (["--out", "F.zip", "--rows", "trials"], "only formats of rows have a table"),
    "a directory in the way": (["--out", "taken.csv"], "cannot be written"),
    "a file in the way of a directory": (["--out", "file", "--format", "inspect"], "cannot be written"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_in_one_sentence(run: Path, call: Call, name: str) -> None:
    """Exit code 2, and what to do."""
    Path("taken.csv").mkdir()
    Path("file").write_text("", encoding="utf-8")
    words, sentence = REFUSED[name]
    code, out, err = call(run, *words)

    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("module", "words", "extra"),
    [
        ("pyarrow", ["--out", "F.parquet"], "pip install '.[report]'"),
        ("inspect_ai", ["--out", "logs", "--format", "inspect"], "pip install '.[inspect]'"),
    ],
)
def test_a_missing_extra_is_named(
    run: Path, call: Call, monkeypatch: pytest.MonkeyPatch, module: str, words: list[str], extra: str
) -> None:
    """One sentence, and nothing is written."""
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    code, _, err = call(run, *words)

    assert code == 2
    assert extra in err
    assert not Path(words[1]).exists()


def test_a_directory_without_a_run_is_refused(call: Call) -> None:
    """By every format, with the name of what is missing."""
    Path("empty").mkdir()
    for name in FORMATS:
        code, _, err = call("empty", "--out", "F.out", "--format", name)
        assert code == 2, name
        assert "empty holds no run: it has no run.json" in err or "it has no metrics.json" in err, name
    assert not Path("F.out").exists()


def test_the_help_lists_every_format(call: Call) -> None:
    """With what it writes."""
    text = call("--help")[1]

    assert [name for name in (BUNDLE, *FORMATS) if f"\n  {name} " not in text] == []


def test_every_number_of_the_metrics_is_in_the_csv_file(run: Path, call: Call) -> None:
    """As metrics.json has it."""
    call(run, "--out", "F.csv")
    lines = Path("F.csv").read_text(encoding="utf-8").splitlines()

    assert all(any(f",{row.value!r}," in line for line in lines) for row in read_metrics(run) if row.value is not None)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("run.json", ["--format", "jsonl"]), ("trials.jsonl", ["--rows", "trials"]), ("metrics.csv", []),
        ("verdicts.jsonl", []), ("prompts/simulate.j2", ["--format", "card"]), ("run.json", ["--format", "bundle"]),
    ],
)  # fmt: skip
def test_no_file_of_a_run_is_replaced(tmp_path: Path, call: Call, name: str, options: list[str]) -> None:
    """One sentence, exit code 2, and the run is what it was; also through a link from elsewhere."""
    run = attacked_run(tmp_path / "mine")
    (tmp_path / "link").symlink_to(run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

    for out in (run / name, tmp_path / "link" / name):
        code, text, err = call(run, "--out", out, *options)

        assert (code, text) == (2, "")
        assert err == (
            f"explaineval: --out {out} is a file of the run in {run}, which it would replace: name another.\n"
        )
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_bundle_does_not_replace_what_it_is_read_from(tmp_path: Path, call: Call) -> None:
    """A bundle is no place for its own rows."""
    bundle = tmp_path / "F.zip"
    bundle.write_bytes(b"a bundle")

    code, _, err = call(bundle, "--out", "F.zip", "--format", "csv")

    assert (code, err) == (2, "explaineval: --out F.zip is what is read, which it would replace: name another file.\n")
    assert bundle.read_bytes() == b"a bundle"


@pytest.mark.parametrize("options", [(), ("--format", "csv"), ("--format", "bundle")])
def test_no_file_promises_what_it_does_not_hold(call: Call, options: tuple[str, ...]) -> None:
    """A spreadsheet's ending is refused with the ending that fits; nothing is written."""
    code, out, err = call("sim", "--out", "F.xlsx", *options)

    assert (code, out) == (2, "")
    assert "is no .xlsx file: end the name in ." in err
    assert not Path("F.xlsx").exists()
