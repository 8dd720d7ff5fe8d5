"""A run in one file is computed again elsewhere, to the last digit, or what differs is named."""

from __future__ import annotations

import gzip
import json
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from servers import guards
from servers.commands import WarmCommands, run
from servers.planted import Behaviour
from servers.tables import Table

TABLE = Table(examples=6, words=3, seed=24, shaky=True)
KEY = "planted-4f9d-secret-17c3-value"
SAME = ("examples.jsonl", "interventions.jsonl", "shots.jsonl", "metrics.json", "metrics.csv")


@pytest.fixture
def finished(bench: Callable[..., Any], warm: WarmCommands) -> Any:
    """A bench whose run is finished and bundled, its server stopped listening to nobody: `out`, `cache`, `b.zip`."""
    one = bench(TABLE)
    env = {"LAB_KEY": KEY}
    more = ("--api-key-env", "LAB_KEY", "--verbosity", "normal", "--samples", "2")
    assert warm.run(*one.options("--out", "out", *more), cwd=one.directory, env=env).code == 0
    made = warm.run("export", "out", "--out", "b.zip", cwd=one.directory)
    assert (made.code, made.stderr) == (0, "")
    return one


def rewrite(source: Path, target: Path, **changes: Callable[[bytes], bytes]) -> Path:
    """A copy of a bundle with some of its entries changed; `run_json` stands for run.json."""
    by_name = {name.replace("__", "/").replace("_", "."): change for name, change in changes.items()}
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        assert set(by_name) <= set(old.namelist())
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, by_name[name](content) if name in by_name else content)
    return target


def replace(old: str, new: str) -> Callable[[bytes], bytes]:
    """A change of text that must occur."""

    def change(content: bytes) -> bytes:
        assert old.encode() in content
        return content.replace(old.encode(), new.encode(), 1)

    return change


def test_a_run_is_reproduced_elsewhere_without_server_key_or_litellm(finished: Any, tmp_path: Path) -> None:
    """Another directory, nothing but the file: the same bytes, no connection, no import of litellm."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    bundle = (finished.directory / "b.zip").rename(elsewhere / "b.zip")
    asked = len(finished.server.received)
    report = elsewhere / "report.json"
    result = run("reproduce", bundle, "--out", "again", cwd=elsewhere, env={guards.REPORT_TO: str(report)})

    assert (result.code, result.stderr) == (0, "")
    metrics = json.loads((finished.directory / "out" / "metrics.json").read_text())
    assert f"{len(metrics)} metrics identical to the last digit" in result.stdout
    for name in SAME:
        assert (finished.directory / "out" / name).read_bytes() == (elsewhere / "again" / name).read_bytes(), name
    told = json.loads(report.read_text())
    assert told["connections"] == []
    assert not any(name.partition(".")[0] in ("litellm", "pandas", "spacy") for name in told["modules"])
    assert asked == len(finished.server.received)
    lines = [sorted((where / "trials.jsonl").read_text().splitlines()) for where in
             (finished.directory / "out", elsewhere / "again")]  # fmt: skip
    assert lines[0] == lines[1]


@pytest.mark.slow
def test_a_bundle_is_the_same_file_each_time_and_holds_nothing_of_the_machine(
    finished: Any, warm: WarmCommands
) -> None:
    """No key, no variable's name, no directory of this machine, no time: exported again, the same bytes."""
    again = warm.run("export", "out", "--out", "again/c.zip", "--json", cwd=finished.directory)

    document = again.document
    assert (document["missing"], document["complete"]) == (0, True)
    content = (finished.directory / "b.zip").read_bytes()
    assert content == (finished.directory / "again" / "c.zip").read_bytes()
    assert document["bytes"] == len(content)
    with zipfile.ZipFile(finished.directory / "b.zip") as bundle:
        texts = {name: bundle.read(name) for name in bundle.namelist()}
    texts["pack"] = gzip.decompress(texts.pop("pack.jsonl.gz"))
    assert document["answers"] == sum(b'"sample"' in line for line in texts["pack"].splitlines())
    for stranger in (KEY, "LAB_KEY", str(finished.directory), os.environ.get("HOME", "/root/") + "/"):
        assert [name for name, text in texts.items() if stranger.encode() in text] == []
    assert json.loads(texts["run.json"])["client"] == {"endpoints": {"lab": {"base_url": finished.server.url}}}


@pytest.mark.slow
def test_a_bundle_of_a_version_without_some_fields_is_reproduced(finished: Any, warm: WarmCommands) -> None:
    """Fields that trials got later are left aside; what the bundle does say is still compared."""

    def forget(content: bytes) -> bytes:
        trials = [json.loads(line) for line in content.splitlines()]
        without = [{name: value for name, value in one.items() if "reasoning" not in name} for one in trials]
        assert without != trials
        return b"".join(json.dumps(one, separators=(",", ":")).encode() + b"\n" for one in without)

    def forget_and_change(content: bytes) -> bytes:
        return replace("It follows", "It folows")(forget(content))

    source = finished.directory / "b.zip"
    codes = []
    for change in (forget, forget_and_change):
        bundle = rewrite(source, finished.directory / "t.zip", trials_jsonl=change)
        codes.append(warm.run("reproduce", bundle, cwd=finished.directory).code)
    assert codes == [0, 6]


@pytest.mark.slow
def test_what_was_tampered_with_is_named(finished: Any, warm: WarmCommands) -> None:
    """A number, an answer, a trial, a version, a missing answer: exit 6, each in its own words."""
    source, directory = finished.directory / "b.zip", finished.directory
    rows = json.loads((directory / "out" / "metrics.json").read_text())
    phi = next(row for row in rows if row["metric"] == "phi_cct")

    def reproduce(**changes: Callable[[bytes], bytes]) -> tuple[dict[str, Any], str]:
        bundle = rewrite(source, directory / "t.zip", **changes)
        plain = warm.run("reproduce", bundle, cwd=directory)
        result = warm.run("reproduce", bundle, "--json", cwd=directory)
        assert (plain.code, result.code, result.document["exit_code"]) == (6, 6, 6)
        assert result.document["identical"] is False
        return result.document, plain.stdout

    def change_phi(content: bytes) -> bytes:
        changed = json.loads(content)
        next(row for row in changed if row["metric"] == "phi_cct")["value"] += 1e-12
        return (json.dumps(changed, indent=2, ensure_ascii=False) + "\n").encode()

    document, text = reproduce(metrics_json=change_phi)
    assert [("value", phi["value"] + 1e-12, phi["value"])] == [
        (one["name"], one["bundled"], one["recomputed"]) for one in document["differences"]
    ]
    assert "1 of" in text
    assert f"phi_cct: value {phi['value'] + 1e-12} in the bundle, {phi['value']} computed" in text

    trial = json.loads((directory / "out" / "trials.jsonl").read_text().partition("\n")[0])

    def change_answer(content: bytes) -> bytes:
        lines = gzip.decompress(content).decode().splitlines()
        at = next(number for number, line in enumerate(lines) if trial["key_before"] in line)
        entry = json.loads(lines[at])
        entry["completion"]["text"] = "I cannot say."
        lines[at] = json.dumps(entry, separators=(",", ":"), ensure_ascii=False)
        return gzip.compress(("\n".join(lines) + "\n").encode())

    document, text = reproduce(pack_jsonl_gz=change_answer)
    assert "excluded_rate" in {one["row"].split()[-1] for one in document["differences"]}
    assert "metrics differ:" in text

    def drop_answer(content: bytes) -> bytes:
        lines = gzip.decompress(content).splitlines(keepends=True)
        return gzip.compress(b"".join(line for line in lines if trial["key_after"].encode() not in line))

    document, text = reproduce(pack_jsonl_gz=drop_answer)
    assert document["missing"] == 1
    assert "1 answer is missing from the bundle" in text

    document, text = reproduce(trials_jsonl=replace("It follows", "It folows"))
    assert (document["differences"], document["trials_identical"]) == ([], False)
    assert "trials.jsonl is not what the answers give" in text

    def age(content: bytes) -> bytes:
        rows = json.loads(content.replace(b"|explaineval:", b"|explaineval:0.0.0-"))
        later = ("channel", "mention", "judge")
        return json.dumps([{name: row[name] for name in row if name not in later} for row in rows]).encode()

    document, text = reproduce(metrics_json=age, run_json=replace('"explaineval": "', '"explaineval": "0.0.0-'))
    assert document["only_version_differs"] is True
    assert "are equal in every digit; only their signatures differ, in the version of explaineval (0.0.0-" in text
    assert [one["package"] for one in document["versions"]] == ["explaineval"]

    document, text = reproduce(
        metrics_json=lambda content: content + b"\n", run_json=replace('"numpy": "', '"numpy": "9')
    )
    assert document["differences"] == []
    assert "written or ordered differently" in text
    assert "Different versions: numpy 9" in text


def test_a_bundle_whose_inputs_contradict_it_is_bad_input(finished: Any, warm: WarmCommands) -> None:
    """Edited prompts are not computed with: exit 2, the file's own name, no temporary directory."""
    change = replace("Answer", "answer")
    bundle = rewrite(finished.directory / "b.zip", finished.directory / "t.zip", prompts__chat__pe_j2=change)
    result = warm.run("reproduce", bundle, cwd=finished.directory)

    assert result.code == 2
    assert f"{bundle} is no longer what was run: the prompts were changed" in result.stderr
    assert "Traceback" not in result.stderr

    before = (finished.directory / "out" / "run.json").read_bytes()
    refused = warm.run("reproduce", "b.zip", "--out", "out", cwd=finished.directory)
    assert refused.code == 2
    assert "out is not empty" in refused.stderr
    assert before == (finished.directory / "out" / "run.json").read_bytes()


@pytest.mark.parametrize(
    ("name", "mode"), [("../evil", 0o100644), ("/evil", 0o100644), ("prompts/link", stat.S_IFLNK | 0o777)]
)
def test_a_hostile_file_is_one_sentence(tmp_path: Path, warm: WarmCommands, name: str, mode: int) -> None:
    """Exit 2, nothing written."""
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as bundle:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        bundle.writestr(info, b"/etc/passwd")
    result = warm.run("reproduce", "b.zip", "--json", cwd=tmp_path)

    assert result.code == 2
    assert "was not used" in result.document["error"]["message"]
    assert [tmp_path / "b.zip"] == [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_retried_answers_and_what_an_endpoint_refuses_come_along(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """Truncated answers asked again, no logprobs, no temperature of 0: the bundle still gives the very same numbers."""
    places = [(example, None) for example in TABLE.ids[:2]] + TABLE.pairs()[4:6]
    behaviours = {"plain": Behaviour(logprobs="rejected", rejects_zero=True), "ignoring": Behaviour(logprobs="ignored")}
    one = bench(TABLE, behaviours=behaviours, faults={place: ["truncated"] for place in places})
    options = one.options("--out", "out", "--retry", "truncated", "--style", "chat", models=("plain", "ignoring"))
    assert warm.run(*options, cwd=one.directory).code == 0
    exported = warm.run("export", "out", "--out", "b.zip", "--json", cwd=one.directory)
    result = warm.run("reproduce", "b.zip", "--json", cwd=one.directory)

    assert (exported.document["missing"], result.code) == (0, 0)
    assert result.document["metrics"] == json.loads((one.directory / "out" / "metrics.json").read_text())
    with zipfile.ZipFile(one.directory / "b.zip") as bundle:
        entries = [json.loads(line) for line in gzip.decompress(bundle.read("pack.jsonl.gz")).splitlines()]
    samples = [entry["request"].get("sample", 0) for entry in entries]
    assert sum(sample >= 1000 for sample in samples) > 0
    assert exported.document["answers"] == sum("sample" in entry["request"] for entry in entries)


@pytest.mark.slow
def test_a_run_with_a_failed_request_says_what_is_missing(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """The bundle is made all the same; reproducing it tells the count and exits 6."""
    place = TABLE.pairs()[0]
    one = bench(TABLE, always={place: "400"})
    assert warm.run(*one.options("--out", "out"), cwd=one.directory).code == 0
    exported = warm.run("export", "out", "--out", "b.zip", cwd=one.directory)
    result = warm.run("reproduce", "b.zip", cwd=one.directory)

    assert exported.code == 0
    assert "1 request of this run has no stored answer" in exported.stderr
    assert result.code == 6
    assert "1 answer is missing" in result.stdout


@pytest.mark.slow
def test_explain_names_what_a_run_would_ask_anew(finished: Any, warm: WarmCommands) -> None:
    """A run directory misses nothing; a configuration with another limit of tokens misses all, for that one reason."""
    directory = finished.directory
    same = warm.run("cache", "explain", "out", "--json", cwd=directory)
    task = f"jsonl:{directory / 'task.jsonl'}"
    config = {
        "tasks": [task], "models": [{"model": "openai/planted", "endpoint": "lab"}], "samples": 2, "max_tokens": 96,
        "endpoints": {"lab": {"base_url": finished.server.url, "endpoint_name": "lab"}}, "arms": {"shots": [2]},
        "interventions": {"file": str(directory / "edits.jsonl")},
    }  # fmt: skip
    (directory / "c.yaml").write_text(json.dumps(config))
    asked = len(finished.server.received)
    changed = warm.run("cache", "explain", "c.yaml", "--limit", "2", cwd=directory)

    assert (same.code, same.document["misses"], same.document["shown"]) == (0, 0, [])
    assert same.document["hits"] == TABLE.examples * (2 * (1 + TABLE.words) + 1)
    assert (changed.code, changed.stderr) == (0, "")
    assert changed.stdout.count("   max_tokens: stored 512, asked 96\n") == 2
    total = same.document["hits"]
    assert f"All {total} misses differ from a stored request in the same way: max_tokens: stored 512" in changed.stdout
    assert asked == len(finished.server.received)
