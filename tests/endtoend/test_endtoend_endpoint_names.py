"""Endpoint names and where answers came from: one server is one endpoint, and what came from elsewhere is said."""

from __future__ import annotations

import gzip
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from servers.commands import Result, WarmCommands
from servers.scripted import ScriptedServer

SMALL = ("--task", "sense", "--limit", "3")


def answer(prompt: str) -> tuple[str, None]:
    """A plain answer that depends on the length of the prompt."""
    return f"Answer: {'AB'[len(prompt) % 2]}\nExplanation: It follows from what is written.", None


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A server."""
    with ScriptedServer(script=answer) as started:
        yield started


def study(directory: Path, url: str, file_name: str = "lab", **endpoint: Any) -> Path:
    """A configuration file with one endpoint."""
    path = directory / f"{file_name}.yaml"
    content = {
        "tasks": ["sense"],
        "limit": 3,
        "endpoints": {file_name: {"base_url": url, **endpoint}},
        "models": [{"model": "openai/planted", "endpoint": file_name}],
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def run(warm: WarmCommands, directory: Path, *arguments: str | Path, code: int = 0) -> dict[str, Any]:
    """The document of `run`, which ended with this code."""
    done = warm.run("run", *arguments, "--json", cwd=directory)
    assert done.code == code, done.stdout + done.stderr
    return done.document


def codes(document: dict[str, Any]) -> dict[str, str]:
    """The notes and warnings of a document by their codes."""
    return {warning["code"]: warning["text"] for warning in document["warnings"]}


@pytest.mark.sampled(1)
@pytest.mark.parametrize("url", ["{}", "{}/", "{}/./", "{}/../v1"])
def test_one_server_is_bought_once(url: str, server: ScriptedServer, tmp_path: Path, warm: WarmCommands) -> None:
    """By --base-url and under two names in files, however the URL is written."""
    bought = run(warm, tmp_path, *SMALL, "--model", "openai/planted", "--base-url", server.url, "--out", "one")

    for number, name in enumerate(("lab", "other")):
        found = run(warm, tmp_path, study(tmp_path, url.format(server.url), name), "--out", f"again{number}")

        assert found["requests"]["sent"] == 0
        assert found["requests"]["hits"] == bought["requests"]["sent"]
        assert {row["endpoint"] for row in found["metrics"]} == {server.url}
        assert not codes(found).keys() & {"addresses_mixed", "answers_imported", "origin_unknown"}


def test_a_moved_server_is_another_one(server: ScriptedServer, tmp_path: Path, warm: WarmCommands) -> None:
    """The file's name at another address finds nothing; nothing of the first server is served for the second."""
    run(warm, tmp_path, study(tmp_path, server.url), "--out", "one")
    with ScriptedServer(script=answer) as other:
        moved = run(warm, tmp_path, study(tmp_path, other.url), "--out", "two")

    assert moved["requests"]["hits"] == 0
    assert moved["requests"]["sent"] > 0


@pytest.mark.sampled(1)
@pytest.mark.parametrize("by_option", [False, True])
def test_an_endpoint_name_moves_with_its_server_and_the_run_says_so(
    by_option: bool, server: ScriptedServer, tmp_path: Path, warm: WarmCommands
) -> None:
    """Answers of another address are used under the name; run, record, notes, card and page name both addresses."""
    named: dict[str, Any] = {} if by_option else {"endpoint_name": "box"}
    option = ("--endpoint-name", "box") if by_option else ()
    first = run(warm, tmp_path, study(tmp_path, server.url, **named), *option, "--out", "one")
    assert "addresses_mixed" not in codes(first)

    with ScriptedServer(script=answer) as other:
        path = study(tmp_path, other.url, **named)
        moved = run(warm, tmp_path, path, *option, "--limit", "5", "--out", "two")

    counts = moved["requests"]
    assert counts["hits"] == first["requests"]["sent"]
    assert counts["sent"] > 0
    text = codes(moved)["addresses_mixed"]
    assert f"{counts['hits']} from {server.url}" in text
    assert f"in this run it is {other.url}" in text
    assert {row["endpoint"] for row in moved["metrics"]} == {"box"}
    entry = json.loads((tmp_path / "two/run.json").read_text("utf-8"))["endpoints"][0]
    assert {source["address"]: source["answers"] for source in entry["sources"]} == {
        server.url: counts["hits"], other.url: counts["sent"],
    }  # fmt: skip
    check(warm.run("report", "two", "--out", "page.html", cwd=tmp_path))
    for shown in (
        check(warm.run("notes", "two", cwd=tmp_path)).stdout,
        check(warm.run("export", "two", "--out", "card.txt", "--format", "card", cwd=tmp_path)).stdout
        + (tmp_path / "card.txt").read_text("utf-8"),
        (tmp_path / "page.html").read_text("utf-8"),
    ):
        assert server.url[7:-3] in shown
        assert other.url[7:-3] in shown


def test_two_endpoints_that_are_one_are_named(server: ScriptedServer, tmp_path: Path, warm: WarmCommands) -> None:
    """With different settings they contradict each other."""
    path = study(tmp_path, server.url)
    content = json.loads(path.read_text("utf-8"))
    content["endpoints"]["twin"] = {"base_url": f"{server.url}/", "rpm": 5}
    path.write_text(json.dumps(content), "utf-8")

    done = warm.run("plan", path, cwd=tmp_path)

    assert done.code == 2
    assert "'lab' and 'twin' are the same one" in done.stderr


@pytest.mark.slow
def test_answers_of_a_pack_show(server: ScriptedServer, tmp_path: Path, warm: WarmCommands) -> None:
    """Invented answers: run, record, notes, card and page say how many, from which pack and since when."""
    options = (*SMALL, "--model", "openai/planted", "--base-url", server.url)
    bought = run(warm, tmp_path, *options, "--cache", "theirs", "--out", "their-run")
    check(warm.run("cache", "export", "--cache", "theirs", "--out", "theirs.gz", cwd=tmp_path))
    with gzip.open(tmp_path / "theirs.gz", "rt", encoding="utf-8") as handle:
        lines = [json.loads(line) for line in handle]
    for line in lines[:6]:
        if "text" in line["completion"]:
            line["completion"]["text"] = "Answer: A\nExplanation: Invented."
    with gzip.open(tmp_path / "invented.gz", "wt", encoding="utf-8") as handle:
        handle.writelines(json.dumps(line) + "\n" for line in lines[:6])
    check(warm.run("cache", "import", "invented.gz", "--cache", "mine", cwd=tmp_path))

    found = run(warm, tmp_path, *options, "--cache", "mine", "--out", "my-run")

    assert found["requests"]["hits"] == 6
    text = codes(found)["answers_imported"]
    assert f"6 of {bought['requests']['sent']} answers came from packs" in text
    assert "invented.gz (6, imported 2" in text
    check(warm.run("report", "my-run", "--out", "page.html", cwd=tmp_path))
    check(warm.run("export", "my-run", "--out", "card.md", "--format", "card", cwd=tmp_path))
    assert "invented.gz" in check(warm.run("notes", "my-run", cwd=tmp_path)).stdout
    for name in ("page.html", "card.md", "my-run/run.json"):
        assert "invented.gz" in (tmp_path / name).read_text("utf-8")
    before = len(server.bodies)
    again = warm.run("cache", "verify", "--cache", "mine", "--reask", "100", "--imported", "--json", cwd=tmp_path)
    assert again.document["reask"]["asked"] == len(server.bodies) - before == 6
    assert again.code == 6


def test_origins_stay_out_of_packs(server: ScriptedServer, tmp_path: Path, warm: WarmCommands) -> None:
    """A pack holds no address beside what its keys hold, and is the same whatever cache it comes from."""
    options = (*SMALL, "--model", "openai/planted", "--base-url", server.url, "--endpoint-name", "box")
    run(warm, tmp_path, *options, "--out", "one")
    check(warm.run("cache", "export", "--cache", "cache", "--out", "a.gz", cwd=tmp_path))
    check(warm.run("cache", "import", "a.gz", "--cache", "copy", cwd=tmp_path))
    check(warm.run("cache", "export", "--cache", "copy", "--out", "b.gz", cwd=tmp_path))

    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert b"127.0.0.1" not in gzip.decompress((tmp_path / "a.gz").read_bytes())


def check(done: Result) -> Result:
    """The result, which is no error."""
    assert done.code == 0, done.stdout + done.stderr
    return done


def as_of_0_2(directory: Path, url: str, warm: WarmCommands, out: str) -> None:
    """Leave what 0.2 did for the endpoint `lab` of a file: answers and a run directory under that name."""
    run(warm, directory, study(directory, url, endpoint_name="lab"), "--out", out)


@pytest.mark.slow
def test_a_plan_adopts_an_old_out(server: ScriptedServer, tmp_path: Path, warm: WarmCommands) -> None:
    """It finds every answer, as `run` with this --out does, wherever the directory is; so does a run beside it."""
    as_of_0_2(tmp_path, server.url, warm, "elsewhere/one")
    path = study(tmp_path, server.url)

    for out in ("elsewhere/one", "elsewhere/two"):
        planned = check(warm.run("plan", path, "--out", out, "--json", cwd=tmp_path)).document["total"]
        found = run(warm, tmp_path, path, "--out", out)

        assert (planned["misses"], found["requests"]["sent"]) == (0, 0)
        assert planned["hits"] == found["requests"]["hits"] > 0


@pytest.mark.sampled(1)
@pytest.mark.parametrize("moved", [False, True])
def test_a_cache_alone_shows_what_a_name_stood_for(
    moved: bool, server: ScriptedServer, tmp_path: Path, warm: WarmCommands
) -> None:
    """By the addresses beside its answers: they are used for that address if they all came from it."""
    as_of_0_2(tmp_path, server.url, warm, "gone/one")
    if moved:
        with ScriptedServer(script=answer) as other:
            run(warm, tmp_path, study(tmp_path, other.url, endpoint_name="lab"), "--limit", "4", "--out", "gone/two")
    shutil.rmtree(tmp_path / "gone")

    planned = check(warm.run("plan", study(tmp_path, server.url), "--json", cwd=tmp_path)).document

    assert (planned["total"]["hits"] == 0) is moved
    assert ("older_name_unused" in codes(planned)) is moved
    if not moved:
        assert planned["total"]["misses"] == 0


@pytest.mark.slow
def test_packs_and_bundles_carry_addresses_where_that_is_asked_for(
    server: ScriptedServer, tmp_path: Path, warm: WarmCommands
) -> None:
    """Imported, they are told beside the pack's name; a strange address is refused with its line."""
    options = (*SMALL, "--model", "openai/planted", "--base-url", server.url, "--endpoint-name", "box")
    sent = run(warm, tmp_path, *options, "--out", "one")["requests"]["sent"]
    check(warm.run("cache", "export", "--cache", "cache", "--out", "a.gz", "--addresses", cwd=tmp_path))
    check(warm.run("export", "one", "--out", "one.zip", "--addresses", cwd=tmp_path))
    with gzip.open(tmp_path / "a.gz", "rt", encoding="utf-8") as handle:
        lines = [json.loads(line) for line in handle]
    with zipfile.ZipFile(tmp_path / "one.zip") as bundle:
        bundled = gzip.decompress(bundle.read("pack.jsonl.gz")).decode().splitlines()

    assert [line["address"] for line in lines if "address" in line] == [server.url] * sent
    assert sum(json.loads(line).get("address") == server.url for line in bundled) == sent
    assert check(warm.run("reproduce", "one.zip", cwd=tmp_path)).code == 0
    check(warm.run("cache", "import", "a.gz", "--cache", "copy", cwd=tmp_path))
    check(warm.run("cache", "export", "--cache", "copy", "--out", "b.gz", "--addresses", cwd=tmp_path))
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    lines[0]["address"] = 5
    with gzip.open(tmp_path / "c.gz", "wt", encoding="utf-8") as handle:
        handle.writelines(json.dumps(line) + "\n" for line in lines)
    refused = warm.run("cache", "import", "c.gz", "--cache", "third", cwd=tmp_path)
    assert refused.code == 2
    assert "c.gz:1: its address is no text" in refused.stderr
