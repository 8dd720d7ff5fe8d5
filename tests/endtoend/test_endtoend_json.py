"""docs/json.md against what every command really prints with --json, in both directions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest

from explaineval.cli.app import app, main
from explaineval.cli.output import SCHEMA
from explaineval.records import Completion, Request, Trial
from explaineval.scoring.codes import CODES, ORIGINS
from servers import json_page
from servers.commands import Result, WarmCommands
from servers.personas import Persona, PersonaServer
from servers.planted import PlantedServer
from servers.tables import Table

TABLE = Table(examples=8, words=2, seed=1)
LISTS = ("interventions build", "interventions show")
"""Commands that print the lines of a file."""

ELSEWHERE = ("judge", "judge sheet", "judge agree", "demo", "demo --sweep", "compare", "simulate", "validate")
"""Commands that are held against the page by tests of their own."""


def spoil(directory: Path) -> None:
    """Change one number of a run, and the version of a package that it was computed with."""
    rows = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
    rows[0]["n"] += 1
    (directory / "metrics.json").write_text(json.dumps(rows), encoding="utf-8")
    run: dict[str, Any] = json.loads((directory / "run.json").read_text(encoding="utf-8"))
    run["packages"]["numpy"] = "0.0"
    (directory / "run.json").write_text(json.dumps(run), encoding="utf-8")


def judge(directory: Path) -> None:
    """Leave a judge's verdicts on all trials of a run."""
    lines = (directory / "trials.jsonl").read_text("utf-8").splitlines()
    verdicts = [
        {"trial": Trial.model_validate_json(line).id, "judge": "m", "grade": "absent", "key": None} for line in lines
    ]
    (directory / "verdicts.jsonl").write_text("".join(json.dumps(one) + "\n" for one in verdicts), "utf-8")


def think(directory: Path) -> None:
    """Give all trials of a run reasoning that mentions what was inserted."""
    lines = [json.loads(line) for line in (directory / "trials.jsonl").read_text("utf-8").splitlines()]
    thoughtful = [{**line, "reasoning": f"They say {line['inserted']}."} for line in lines]
    (directory / "trials.jsonl").write_text("".join(json.dumps(one) + "\n" for one in thoughtful), "utf-8")


def wait(directory: Path) -> None:
    """Leave a state in which the model waits for its endpoint."""
    progress = json.loads((directory / "progress.json").read_text("utf-8"))
    times = dict.fromkeys(("since", "next_try", "until"), "2026-01-01T00:00:00Z")
    progress["models"][0]["waiting"] = {"endpoint": "lab", "reason": "the connection is refused", "tries": 2, **times}
    (directory / "progress.json").write_text(json.dumps(progress), "utf-8")


@pytest.fixture(scope="module")
def outputs(warm: WarmCommands, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Result]]:
    """Command → what it printed, in success and in failure."""
    place = tmp_path_factory.mktemp("json")
    TABLE.write_task(place / "task.jsonl")
    TABLE.write_interventions(place / "edits.jsonl")
    found: dict[str, list[Result]] = {}

    def call(name: str, *arguments: str | Path, code: int = 0) -> Result:
        result = warm.run(*arguments, "--json", cwd=place)
        assert result.code == code, (arguments, result.stdout, result.stderr)
        found.setdefault(name, []).append(result)
        return result

    with PlantedServer(TABLE) as server:
        common = ["--task", f"jsonl:{place / 'task.jsonl'}", "--interventions", "edits.jsonl"]
        where = ["--model", "openai/planted", "--base-url", server.url, "--endpoint-name", "lab"]
        options = [*common, *where, "--limit", "6"]
        call("run", "run", *options, "--offline", code=4)
        call("plan", "plan", *options, "--price", "1,3")
        call("run", "run", *options, "--out", "out", "--limit", "7", "--verbosity", "brief", "--verbosity", "normal",
             "--price", "1,3")  # fmt: skip
        judge(place / "out")
        call("run", "run", *options, "--out", "out", "--limit", "7", "--verbosity", "brief", "--verbosity", "normal",
             "--price", "1,3")  # fmt: skip
        call("plan", "plan", *options, "--show-prompts", "1", "--half-width", "0.1")
        call("watch", "watch", "out")
        wait(place / "out")
        call("watch", "watch", "out")
        call("score", "score", "out", "--mention", "substring")
        (place / "trials.csv").write_text("changed,mentioned\ntrue,true\ntrue,false\nfalse,false\n", encoding="utf-8")
        call("score", "score", "trials.csv")
        call("notes", "notes", "out")
        call("notes", "notes", "trials.csv")
        call("breakdown", "breakdown", "out")
        call("report", "report", "out", "--plots", "plots")
        call("explain", "explain", "phi_cct")
        call("explain", "explain")
        call("show", "show", "out", "--example", "x000", "--answers")
        call("show --list", "show", "out", "--list")
        call("export", "export", "out", "--out", "out.zip")
        call("export", "export", "out", "--out", "out.csv", "--rows", "trials")
        shard = ("--endpoint-name", "lab", "--shard", "1/1", "--out", "shard")
        call("run", "run", *common, "--model", "openai/planted", "--base-url", server.url, *shard)
        judge(place / "shard")
        call("merge", "merge", "shard", "--out", "merged")
        call("reproduce", "reproduce", "out.zip")
        call("cache stats", "cache", "stats")
        call("cache verify", "cache", "verify", "--reask", "3", "--base-url", server.url, "--endpoint-name", "lab")
        call("cache explain", "cache", "explain", "out")
        call("cache explain", "cache", "explain", "out", "--cache", "cache")
        call("cache export", "cache", "export", "--out", "all.pack")
        call("cache import", "cache", "import", "all.pack", "--cache", "other")
        (place / "bad.pack").write_bytes((place / "all.pack").read_bytes()[:-40])
        call("cache import", "cache", "import", "bad.pack", "--cache", "third", code=2)
        stored = json.loads(found["cache stats"][0].stdout)["entries"]
        call("cache prune", "cache", "prune", "--all", "--yes", str(stored), "--cache", "other")
        url = server.url
    with PersonaServer(Persona()) as persona:
        call("probe", "probe", "--model", "openai/tiny", "--base-url", persona.url)
    call("run", "run", *common, "--model", "openai/planted", "--base-url", url, "--max-retries", "0", code=5)
    call("probe", "probe", "--model", "openai/planted", "--base-url", url, code=5)
    (place / "study.yaml").write_text(
        json.dumps(
            {
                "tasks": [f"jsonl:{place / 'task.jsonl'}"],
                "interventions": {"file": "edits.jsonl"},
                "models": [{"model": "openai/planted", "endpoint": "lab"}],
                "endpoints": {"lab": {"base_url": "http://127.0.0.1:9/v1"}},
                "arms": {"verbosity": ["brief"]},
                "max_tokens": 100,
            }
        ),
        encoding="utf-8",
    )
    call("cache explain", "cache", "explain", "study.yaml")
    spoil(place / "out")
    call("export", "export", "out", "--out", "spoilt.zip")
    call("reproduce", "reproduce", "spoilt.zip", code=6)
    think(place / "out")
    call("show", "show", "out", "--example", "x000")
    call("Every document", "run", *common, code=2)
    return found


COMMANDS = [name for name in json_page.documented() if name not in (json_page.CODES, *ELSEWHERE)]


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_field_is_documented_and_there(command: str, outputs: dict[str, list[Result]]) -> None:
    """No field without its line, no line without its field."""
    results = outputs[command]
    found = {field for result in results for field in json_page.check(command, result.document)}

    if command == json_page.COMMON:
        found = {
            field
            for name, all_of in outputs.items()
            for one in all_of
            for field in json_page.fields_of(name, one.document)
        }
    assert json_page.documented()[command].keys() - found == set()


@pytest.mark.slow
def test_every_document_has_its_schema_and_its_warnings(outputs: dict[str, list[Result]]) -> None:
    """`error` is there just where the exit code is not 0, and codes and grades are the known ones."""
    for results in outputs.values():
        for result in results:
            document = result.document
            assert document["schema"] == SCHEMA
            for one in document["warnings"]:
                known = CODES[one["code"]]
                assert (one["grade"], bool(one["text"]), bool(one["todo"])) == (known.grade, True, True)
                assert (one["row"] is None) == (one["metric"] is None)
                assert one["code"] in ORIGINS or bool(known.title) == (one["row"] is not None)
            assert ("error" in document) == (result.code != 0)
            if result.code:
                assert document["error"]["code"] == result.code
                assert document["error"]["message"]


def test_a_warning_names_rows_that_are_there(outputs: dict[str, list[Result]]) -> None:
    """`row` and `metric` of a warning about a number lead to that number."""
    checked = 0
    for result in (*outputs["run"], *outputs["score"], *outputs["reproduce"]):
        rows = [{name: row[name] for name in ("metric", *WARNED)} for row in result.document["metrics"]]
        for one in result.document["warnings"]:
            if one["row"] is not None:
                assert {**one["row"], "metric": one["metric"]} in rows
                checked += 1
    assert checked > 20


WARNED = ("endpoint", "model", "task", "kind", "order", "style", "shots", "verbosity", "channel", "mention", "judge")


def test_every_command_with_json_is_on_the_page() -> None:
    """Also those whose documents other tests check."""
    found = set[str]()

    def walk(command: click.Command, words: tuple[str, ...]) -> None:
        if any("--json" in one.opts for one in command.params):  # a group can be a command too, as `judge` is
            found.add(" ".join(words))
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                walk(inner, (*words, name))

    walk(app, ())
    sections = json_page.documented().keys() - {json_page.COMMON, json_page.CODES, "show --list", "demo --sweep"}
    assert sections == found - set(LISTS)


class Parrot:
    """Stands in for the embedded server: every answer is the same."""

    threads = 2

    def __init__(self, *_: object, **__: object) -> None:
        pass

    async def complete(self, _: Request) -> Completion:
        """An answer in completion style, order ep."""
        usage = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}
        return Completion(text=" Because it is so.\nAnswer: A", finish_reason="stop", usage=usage)

    async def close(self) -> None:
        """Nothing to stop."""


def test_the_demos_document_is_documented(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`demo` prints what `run` prints, and run.json says how many threads the server had."""
    weights = tmp_path / "tiny.gguf"
    weights.write_bytes(b"GGUF and no weights")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("explaineval.client.endpoints.llamacpp.EmbeddedClient", Parrot)
    with pytest.raises(SystemExit) as caught:
        main(["demo", "--weights", str(weights), "--limit", "2", "--json"])

    out, err = capsys.readouterr()
    assert caught.value.code == 0, err
    document = json.loads(out)
    found = json_page.check("demo", document)
    fields = json_page.documented()["demo"].keys()
    absent = ("sensitivity[", "zero_tests[")  # of several sources; of two examples phi-CCT has no interval
    assert {field for field in fields - found if not field.startswith(absent)} == set()
    assert document["metrics"]
    (record,) = tmp_path.glob("runs/*/run.json")
    assert [one["threads"] for one in json.loads(record.read_text(encoding="utf-8"))["endpoints"]] == [2]
