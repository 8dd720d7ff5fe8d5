"""CSV, JSON lines and Parquet: what other programs read is what the run holds."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

from explaineval.errors import InputError
from explaineval.records import Trial
from explaineval.reporting.exports.rows import (
    TABLES,
    TypedColumn,
    TypedRows,
    columns_of,
    write_csv,
    write_json_lines,
    write_parquet,
)
from explaineval.rundir.directory import TRIALS, read_metrics, read_trials
from explaineval.text import harmless
from makers.exported import ATTACKS, FORMULAS, attacked_run, require

NA = {"keep_default_na": False, "na_values": [""]}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of models that attack."""
    return attacked_run(tmp_path_factory.mktemp("tables") / "run")


def restored(text: Any) -> Any:
    """A text of a CSV file without the apostrophe that makes it harmless, as docs/exports.md says."""
    return text[1:] if isinstance(text, str) and text.startswith("'") else text


def test_pandas_reads_the_metrics_with_types_and_na(run: Path, tmp_path: Path) -> None:
    """Every number to the last digit; undefined ones are NaN and have their reason."""
    rows = read_metrics(run)
    assert write_csv(TABLES["metrics"](run), tmp_path / "m.csv") == len(rows)
    frame = pd.read_csv(tmp_path / "m.csv", **NA)

    assert frame["value"].dtype == frame["low"].dtype == "float64"
    assert frame["n"].dtype == frame["shots"].dtype == "int64"
    values = [math.nan if row.value is None else row.value for row in rows]
    assert frame["value"].tolist() == pytest.approx(values, rel=1e-15, nan_ok=True)
    assert frame.loc[frame["value"].isna(), "undefined"].notna().all()
    assert [restored(name) for name in frame["model"]] == [row.model.replace("\0", "␀") for row in rows]
    assert {row.undefined for row in rows if row.value is None} - {None}


def test_pandas_reads_every_text_of_the_trials(run: Path, tmp_path: Path) -> None:
    """Booleans with NA are nullable booleans, and no text is lost but for NUL."""
    trials = list(read_trials(run))
    assert write_csv(TABLES["trials"](run), tmp_path / "t.csv") == len(trials)
    frame = pd.read_csv(tmp_path / "t.csv", dtype={"changed": "boolean", "mentioned": "boolean"}, **NA)
    trials = _in_order_of(frame, trials)

    for name in ("changed", "mentioned"):
        assert [None if value is pd.NA else value for value in frame[name]] == [getattr(t, name) for t in trials]
    for name in ("explanation_before", "model", "inserted"):
        found = [None if pd.isna(value) else restored(value) for value in frame[name]]
        assert found == [None if (text := getattr(t, name)) is None else text.replace("\0", "␀") for t in trials]
    assert json.loads(frame["probs_after"][0]) == trials[0].probs_after


def _in_order_of(frame: pd.DataFrame, trials: list[Trial]) -> list[Trial]:
    """The trials in the order of the table's rows, each of which is one of them."""
    by_name = {trial.id: trial for trial in trials}
    assert sorted(frame["trial"]) == sorted(by_name)
    return [by_name[name] for name in frame["trial"]]


def test_no_cell_of_text_begins_like_a_formula_and_no_number_is_touched(run: Path, tmp_path: Path) -> None:
    """Neither does any that begins so after blanks; negative numbers stay numbers."""
    write_csv(TABLES["trials"](run), tmp_path / "t.csv")
    write_csv(TABLES["metrics"](run), tmp_path / "m.csv")
    frame = pd.read_csv(tmp_path / "t.csv", dtype=str, **NA)

    texts = {text for name in frame.columns for text in frame[name].dropna()}
    assert [text for text in texts if text.lstrip().startswith(("=", "+", "-", "@", "＝", "\t", "\r"))] == []
    assert {harmless(text) for text in FORMULAS} <= texts
    assert {restored(harmless(text)) for text in FORMULAS} == set(FORMULAS)
    low = pd.read_csv(tmp_path / "m.csv", **NA)["low"]
    assert (low < 0).any()


R = """
options(warn = 2)
m <- read.csv("m.csv", na.strings = "", encoding = "UTF-8")
t <- read.csv("t.csv", na.strings = "", encoding = "UTF-8")
stopifnot(is.numeric(m$value), is.numeric(m$low), is.integer(m$n), is.character(m$undefined))
stopifnot(is.logical(t$changed), is.logical(t$mentioned), is.numeric(t$tvd), is.character(t$explanation))
stopifnot(all(!is.na(m$undefined[is.na(m$value)])))
cat(nrow(m), sum(is.na(m$value)), nrow(t), sum(is.na(t$changed)), sum(t$changed, na.rm = TRUE), "\\n")
cat(sprintf("%.17g", m$value[!is.na(m$value)]), sep = "\\n")
"""


def test_r_reads_the_csv_with_types_and_na(run: Path, tmp_path: Path) -> None:
    """As read.csv does by itself, without any warning."""
    program = require("Rscript")
    for name in ("metrics", "trials"):
        write_csv(TABLES[name](run), tmp_path / f"{name[0]}.csv")
    (tmp_path / "read.R").write_text(R, encoding="utf-8")
    done = subprocess.run([program, "--vanilla", "read.R"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    counts, *values = done.stdout.splitlines()
    rows, trials = read_metrics(run), list(read_trials(run))

    changed = [trial.changed for trial in trials]
    undefined = sum(row.value is None for row in rows)
    assert list(map(int, counts.split())) == [
        len(rows),
        undefined,
        len(trials),
        changed.count(None),
        changed.count(True),
    ]
    assert list(map(float, values)) == pytest.approx([row.value for row in rows if row.value is not None], rel=1e-15)


def test_parquet_has_the_types_and_values_of_the_trials(run: Path, tmp_path: Path) -> None:
    """Every field of every trial, as trials.jsonl has it; pandas gives booleans that can be NA."""
    trials = list(read_trials(run))
    assert write_parquet(TABLES["trials"](run), tmp_path / "t.parquet") == len(trials)
    frame = pd.read_parquet(tmp_path / "t.parquet", dtype_backend="numpy_nullable")
    trials = _in_order_of(frame, trials)

    assert frame["changed"].dtype == frame["mentioned"].dtype == "boolean"
    assert str(frame["tvd"].dtype) == "Float64"
    assert str(frame["shots"].dtype) == "Int64"
    assert list(frame.columns) == ["trial", *Trial.model_fields]
    for name in Trial.model_fields:
        found = [
            dict(v) if isinstance(v, list) else v for v in frame[name].astype(object).where(frame[name].notna(), None)
        ]
        assert found == [getattr(trial, name) for trial in trials], name


def test_duckdb_reads_the_parquet(run: Path, tmp_path: Path) -> None:
    """Its own types, and the 2×2 table of one model counted by SQL."""
    write_parquet(TABLES["trials"](run), tmp_path / "t.parquet")
    write_parquet(TABLES["metrics"](run), tmp_path / "m.parquet")
    with duckdb.connect() as database:
        trials = database.read_parquet(str(tmp_path / "t.parquet"))
        trials.create_view("trials")
        database.read_parquet(str(tmp_path / "m.parquet")).create_view("metrics")
        kinds = dict(zip(trials.columns, map(str, trials.types), strict=True))
        sql = "SELECT avg(changed::int) FROM trials WHERE model = ? AND kind = 'hand' AND changed IS NOT NULL"
        rate = database.execute(sql, [ATTACKS[0]]).fetchone()
        sql = "SELECT value FROM metrics WHERE model = ? AND kind = 'hand' AND metric = 'impact_rate'"
        stored = database.execute(sql, [ATTACKS[0]]).fetchone()

    assert (kinds["changed"], kinds["tvd"], kinds["shots"]) == ("BOOLEAN", "DOUBLE", "BIGINT")
    assert (kinds["model"], kinds["probs_after"]) == ("VARCHAR", "MAP(VARCHAR, DOUBLE)")
    assert rate == pytest.approx(stored)
    assert rate is not None
    assert rate[0] > 0


def test_json_lines_hold_the_lines_of_the_run(run: Path, tmp_path: Path) -> None:
    """Each trial as trials.jsonl has it, with its name, and null where its line leaves a field out."""
    write_json_lines(TABLES["trials"](run), tmp_path / "t.jsonl")
    lines = (run / TRIALS).read_text(encoding="utf-8").splitlines()
    own = [json.loads(line) | dict.fromkeys(Trial.ADDED) for line in lines]
    found = [json.loads(line) for line in (tmp_path / "t.jsonl").read_bytes().decode("utf-8").splitlines()]

    names = [line.pop("trial") for line in found]
    assert sorted(map(json.dumps, found)) == sorted(map(json.dumps, own))
    assert len(set(names)) == len(own)


def test_the_comparison_is_a_typed_table(run: Path, tmp_path: Path) -> None:
    """Also columns that are None in every row have their types."""
    count = write_parquet(TABLES["comparison"](run), tmp_path / "c.parquet")
    frame = pd.read_parquet(tmp_path / "c.parquet", dtype_backend="numpy_nullable")

    assert count == len(frame) > 0
    assert frame["equivalent"].isna().all()
    assert str(frame["equivalent"].dtype) == str(frame["primary"].dtype) == "boolean"
    assert {str(frame[name].dtype) for name in ("difference", "low_adjusted", "p_adjusted")} == {"Float64"}


def test_rows_are_written_in_groups_of_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By their number and by their text, and no more rows than one group are read ahead."""
    import pyarrow.parquet as pq

    monkeypatch.setattr("explaineval.reporting.exports.rows.ROW_GROUP", 4)
    monkeypatch.setattr("explaineval.reporting.exports.rows.GROUP_CHARACTERS", 100)
    rows = [[str(number)] for number in range(10)] + [["x" * 200], ["y" * 200], ["z"]]
    write_parquet(TypedRows((TypedColumn("text", "text"),), iter(rows)), tmp_path / "t.parquet")
    file = pq.ParquetFile(tmp_path / "t.parquet")

    assert [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)] == [4, 4, 3, 1, 1]
    assert file.read().column("text").to_pylist() == [text for (text,) in rows]


def test_the_types_of_columns_follow_the_fields() -> None:
    """A new field of a trial gets its type by itself."""
    kinds = {column.name: column.type for column in columns_of(Trial)}

    assert kinds["changed"] == kinds["mentioned_before"] == "boolean"
    assert kinds["tvd"] == kinds["label_mass_after"] == "number"
    assert kinds["shots"] == kinds["sample"] == "integer"
    assert kinds["probs_before"] == "probabilities"
    assert kinds["status"] == kinds["order"] == kinds["endpoint"] == "text"


def test_a_run_of_one_arm_has_nothing_to_compare(tmp_path: Path) -> None:
    """One sentence, and no file."""
    from makers.exported import finished
    from makers.runs import make_run, make_trial

    single = finished(make_run(tmp_path / "run", [make_trial(number, 0) for number in range(3)], 3))
    with pytest.raises(InputError, match="has nothing to compare"):
        write_csv(TABLES["comparison"](single), tmp_path / "c.csv")
