"""Control sequences in foreign texts never reach a terminal, wherever they come from."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from explaineval.text import HARMFUL, escaped, visible
from servers.commands import Result, WarmCommands
from servers.key_echo import EchoingServer, Mode

SOURCE = Path(__file__).parents[2] / "src" / "explaineval"
EVIL = "\x1b[2J\x1b]0;own\x07\x9b31m\x7f\b\u202egnp\u2066\u200b\u2028\ud83dend"
"""Clears the screen, names the window, colours, deletes, turns the text, hides, breaks the line, is no character."""
PLANTED = EVIL.replace("\ud83d", "")
"""The same without the half of a pair, which no file in UTF-8 can hold."""


def harmful(result: Result) -> set[str]:
    """Signs in the outputs that a terminal would obey; our own line breaks and tabs are none."""
    return {found.group() for found in HARMFUL.finditer(result.stdout + result.stderr)}


@pytest.mark.parametrize(
    "text", [EVIL, "a\r\nb", "x\x00y", "\u061c\u200e\u200f", "pay\u200dpal", "\ufeffa", "\U000e0041"]
)
def test_signs_that_act_or_hide_are_shown(text: str) -> None:
    """No such character is left, and each is shown by a sign of its own."""
    assert HARMFUL.search(visible(text)) is None
    assert json.loads(escaped(json.dumps(text, ensure_ascii=False))) == text
    assert HARMFUL.search(escaped(json.dumps(text, ensure_ascii=False))) is None


@pytest.mark.parametrize(
    "text", ["naïve 你好 φ = 0.3", "👩‍👩‍👧 and 🏳️‍🌈", "می‌خواهم", "क्‍ष", "two\nlines\tand a tab", "a\u00a0b", "e\u0301"]
)
def test_texts_of_all_languages_stay_as_they_are(text: str) -> None:
    """Joiners that a script or an emoji needs are kept."""
    assert visible(text) == text


def test_nothing_else_prints() -> None:
    """Only one module calls click.echo; nothing calls print or writes to a standard stream."""
    found = []
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            printing = called in {"print", "click.echo", "click.secho", "click.prompt", "click.confirm", "rich.print"}
            if printing or re.fullmatch(r"sys\.std(out|err)(\.buffer)?\.write(lines)?", called):
                found.append(f"{path.relative_to(SOURCE)}: {called}")

    assert sorted(set(found)) == ["cli/output.py: click.echo", "client/endpoints/llamacpp.py: sys.stdout.write"]


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmCommands]:
    """Commands without the seconds of litellm's import."""
    with WarmCommands(tmp_path_factory.mktemp("warm")) as commands:
        yield commands


def write_task(directory: Path) -> None:
    """A task whose texts, names and options are hostile, with interventions of the same kind."""
    rows, edits = [], []
    for number in range(2):
        name = f"e{number}{PLANTED}"
        fields = {"note": f"The clerk {number} waits {PLANTED}."}
        options = {"A": f"yes{PLANTED}", "B": "no"}
        rows.append({"id": name, "fields": fields, "options": options, "gold": "A", "explanation": f"So {PLANTED}."})
        edit = {"example_id": name, "kind": "hand", "field": "note", "offset": 4, "inserted": f"grumpy{PLANTED}"}
        edits.append({"id": f"i{number}{PLANTED}", **edit})
    for file, found in (("task.jsonl", rows), ("edits.jsonl", edits)):
        (directory / file).write_text("".join(json.dumps(one) + "\n" for one in found), encoding="utf-8")


def run(server: EchoingServer) -> list[str]:
    """`run` against the server, with a hostile model and endpoint name."""
    fixed = ["run", "--task", "jsonl:task.jsonl", "--interventions", "edits.jsonl", "--shots", "0"]
    fixed += ["--model", f"openai/m{PLANTED}", "--base-url", server.url, "--endpoint-name", f"lab{PLANTED}"]
    return [*fixed, "--max-retries", "0", "--shams", "1"]


@pytest.mark.sampled(1)
@pytest.mark.parametrize("more", [(), ("--json",)], ids=["text", "json"])
def test_hostile_answers_files_and_names_are_printed_harmlessly(
    tmp_path: Path, warm: WarmCommands, more: tuple[str, ...]
) -> None:
    """This holds for every command that shows answers or files, from the first run to the bundle."""
    write_task(tmp_path)
    name = f"e0{PLANTED}"
    with EchoingServer(plant=lambda _: PLANTED) as server:
        commands = [
            [*run(server), "--out", "out"],
            ["plan", *run(server)[1:]],
            ["probe", "--model", f"openai/m{PLANTED}", "--base-url", server.url],
            ["score", "out"],
            ["show", "out"],
            ["show", "out", "--example", name],
            ["interventions", "show", "edits.jsonl", "--task", "jsonl:task.jsonl"],
            ["cache", "stats"],
            ["cache", "verify"],
            ["cache", "explain", "out"],
            ["cache", "export", "--out", "pack.gz"],
            ["cache", "import", "pack.gz", "--cache", "other"],
            ["cache", "prune", "--model", f"openai/m{PLANTED}", "--yes", "99"],
            ["export", "out", "--out", "bundle.tar.gz"],
            ["reproduce", "bundle.tar.gz"],
        ]
        results = [warm.run(*command, *more, cwd=tmp_path) for command in commands]

    assert {command[0] + command[1]: harmful(one) for command, one in zip(commands, results, strict=True)} == {
        command[0] + command[1]: set() for command in commands
    }
    assert [one.code for one in results[:2]] == [0, 0]
    assert any("gnp" in one.stdout + one.stderr for one in results)
    for one in results if more else ():
        json.loads(one.stdout)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("mode", ["400", "401", "404", "429", "500", "200-error", "html"])
def test_hostile_errors_are_printed_harmlessly(tmp_path: Path, warm: WarmCommands, mode: Mode) -> None:
    """This holds for error texts, titles of HTML pages and names of served models."""
    write_task(tmp_path)
    with EchoingServer(plant=lambda _: PLANTED, mode=mode) as server:
        results = [
            warm.run(*run(server), "--out", "out", cwd=tmp_path),
            warm.run("probe", "--model", "openai/m", "--base-url", server.url, "--max-retries", "0", cwd=tmp_path),
        ]

    assert [one.code for one in results] == [5, 5]
    assert [harmful(one) for one in results] == [set(), set()]


WRONG = {
    "option": ("run", f"--{PLANTED}"),
    "command": (f"x{PLANTED}",),
    "task": ("run", "--task", f"x{PLANTED}", "--model", "openai/m"),
    "task file": ("run", "--task", f"jsonl:{PLANTED}.jsonl", "--model", "openai/m"),
    "csv": ("run", "--task", "esnli:bad.csv", "--model", "openai/m"),
    "model": ("run", "--task", "qa", "--model", PLANTED),
    "base url": ("run", "--task", "qa", "--model", "openai/m", "--base-url", f"ftp://{PLANTED}"),
    "parameter": ("run", "--task", "qa", "--model", "openai/m", "--param", f"{PLANTED}=1"),
    "extra body": ("run", "--task", "qa", "--model", "openai/m", "--param", 'extra_body={"a\\u001b": null}'),
    "level": ("run", "--task", "qa", "--model", "openai/m", "--verbosity", PLANTED),
    "variable": ("run", "--task", "qa", "--model", "openai/m", "--api-key-env", PLANTED),
    "configuration": ("run", "bad.yaml"),
    "values of the configuration": ("run", "odd.yaml"),
    "jsonl": ("run", "--task", "jsonl:bad.jsonl", "--model", "openai/m"),
    "run directory": ("score", PLANTED),
    "run.json": ("score", "broken"),
    "example": ("show", "broken", "--example", PLANTED),
    "pack": ("cache", "import", "bad.gz"),
    "bundle": ("reproduce", "bad.gz"),
    "dataset": ("data", "fetch", PLANTED),
}  # fmt: skip


@pytest.mark.parametrize("more", [(), ("--json",)], ids=["text", "json"])
def test_mistakes_with_hostile_words_are_reported_harmlessly(
    tmp_path: Path, warm: WarmCommands, more: tuple[str, ...]
) -> None:
    """This holds for arguments and file contents that a message repeats."""
    (tmp_path / "bad.csv").write_text(f"pairID,{PLANTED}\n1,2\n", encoding="utf-8")
    (tmp_path / "bad.yaml").write_text(json.dumps({f"x{PLANTED}": 1}), encoding="utf-8")
    odd = {"tasks": ["qa"], "models": [{"model": "openai/m", "endpoint": PLANTED}], "arms": {"order": [PLANTED]}}
    (tmp_path / "odd.yaml").write_text(json.dumps(odd), encoding="utf-8")
    (tmp_path / "bad.jsonl").write_text(json.dumps({"id": "1", PLANTED: 1}), encoding="utf-8")
    (tmp_path / "bad.gz").write_bytes(PLANTED.encode())
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text(json.dumps({PLANTED: PLANTED}), encoding="utf-8")
    results = {name: warm.run(*command, *more, cwd=tmp_path) for name, command in WRONG.items()}

    assert {name: harmful(one) for name, one in results.items()} == {name: set() for name in WRONG}
    assert {name: one.code for name, one in results.items()} == dict.fromkeys(WRONG, 2)
