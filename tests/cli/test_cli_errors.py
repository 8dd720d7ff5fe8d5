"""Whatever is wrong: one sentence, the right exit code, and no traceback."""

from __future__ import annotations

import json
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from explaineval.cli.app import main
from explaineval.prompts import default_directory
from makers.runs import minimal_record

ESNLI_HEADER = "pairID,gold_label,Sentence1,Sentence2,Explanation_1,Explanation_2,Explanation_3\n"
ROW = {"id": "e0", "fields": {"note": "The clerk waits."}, "options": {"A": "yes", "B": "no"}, "gold": "A"}
EDIT = {"example_id": "e0", "kind": "hand", "field": "note", "offset": 4, "inserted": "grumpy"}
MODEL = ("--model", "openai/smol")
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a sound task and many unsound things, made the working directory."""
    monkeypatch.chdir(tmp_path)
    files = {
        "mine.jsonl": json.dumps(ROW) + "\n",
        "edits.jsonl": json.dumps(EDIT) + "\n",
        "foreign.jsonl": json.dumps(EDIT | {"task": "other"}) + "\n",
        "stranger.jsonl": json.dumps(EDIT | {"example_id": "e9"}) + "\n",
        "beyond.jsonl": json.dumps(EDIT | {"offset": 17}) + "\n",
        "nowhere.jsonl": json.dumps(EDIT | {"field": "nota"}) + "\n",
        "empty.jsonl": "",
        "gold.jsonl": json.dumps(ROW | {"gold": "C"}) + "\n",
        "surrogate.jsonl": json.dumps(ROW | {"fields": {"note": "The \ud83d clerk waits."}}) + "\n",
        "a.jsonl": json.dumps(ROW | {"id": "a0", "fields": {"note": "Bakers sleep."}, "explanation": "So."}) + "\n",
        "twice.jsonl": (json.dumps(ROW) + "\n") * 2,
        "broken.jsonl": "{\n",
        "empty.csv": "",
        "column.csv": ESNLI_HEADER.replace("Sentence2", "Sentence3") + "1,neutral,a,b,c,d,e\n",
        "bad.yaml": "tasks: [nli\nmodels: [}\n",
        "unknown.yaml": "tasks: [nli]\nmodels:\n  - {model: openai/smol}\ncolour: red\n",
        "list.yaml": "- nli\n",
        "plain": "a regular file",
        "full/notes.txt": "something else",
        "other/run.json": minimal_record(science={"fixed": {"max_tokens": 1}}).model_dump_json(),
        "other/examples.jsonl": "",
        "other/interventions.jsonl": "",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the command line in this process: exit code, standard output, standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main(list(arguments))
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return run


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A loopback port that nobody listens on, and that nobody else is given meanwhile."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@dataclass(frozen=True)
class Case:
    """Arguments and what the sentence must say."""

    arguments: tuple[str, ...]
    says: str


def run_with(*arguments: str) -> tuple[str, ...]:
    """A sound run but for what is given; nothing listens at its address."""
    sound = ("run", "--task", "jsonl:mine.jsonl", "--interventions", "edits.jsonl", *MODEL)
    return (*sound, "--base-url", "http://127.0.0.1:9/v1", *arguments)


def run_task(task: str) -> tuple[str, ...]:
    """A run of this task."""
    return ("run", "--task", task, *MODEL, "--base-url", "http://127.0.0.1:9/v1")


CASES = {
    "unknown task": Case(run_task("snli"), "unknown task 'snli'"),
    "task without path": Case(run_task("esnli"), "needs a path"),
    "missing file": Case(run_task("esnli:gone.csv"), "gone.csv: no such file"),
    "missing directory": Case(run_task("comve:gone"), "gone: no such directory"),
    "missing column": Case(run_task("esnli:column.csv"), "column Sentence2 is missing"),
    "empty csv": Case(run_task("esnli:empty.csv"), "empty.csv is empty"),
    "empty jsonl": Case(run_task("jsonl:empty.jsonl"), "empty.jsonl is empty"),
    "gold not in options": Case(run_task("jsonl:gold.jsonl"), "gold 'C' is not among the options A, B"),
    "duplicate id": Case(run_task("jsonl:twice.jsonl"), "'e0' stands twice"),
    "broken json": Case(run_task("jsonl:broken.jsonl"), "broken.jsonl:1: not valid JSON"),
    "no task": Case(("run", *MODEL), "no tasks given: add --task"),
    "no model": Case(("run", "--task", "nli"), "no models given: add --model"),
    "model without provider": Case(("run", "--task", "nli", "--model", "gpt-4o"), "names no provider"),
    "model twice": Case(("run", "--task", "nli", *MODEL, *MODEL), "a model stands twice"),
    "bad yaml": Case(("run", "bad.yaml"), "bad.yaml:2: bad YAML"),
    "unknown yaml key": Case(("run", "unknown.yaml"), "unknown.yaml:4: unknown key 'colour'"),
    "yaml list": Case(("run", "list.yaml"), "expected a mapping"),
    "missing yaml": Case(("run", "gone.yaml"), "gone.yaml: no such configuration file"),
    "yaml is a directory": Case(("run", "full"), "full cannot be read"),
    "interventions missing": Case(run_with("--interventions", "gone.jsonl"), "gone.jsonl: no such file"),
    "interventions for another task": Case(
        run_with("--interventions", "foreign.jsonl"), "task 'other', which is not loaded"
    ),
    "interventions for no example": Case(run_with("--interventions", "stranger.jsonl"), "'e9'"),
    "interventions beyond the text": Case(run_with("--interventions", "beyond.jsonl"), "offset 17"),
    "interventions in no field": Case(run_with("--interventions", "nowhere.jsonl"), "the field 'nota'"),
    "interventions empty": Case(run_with("--interventions", "empty.jsonl"), "empty.jsonl is empty"),
    "file and kind": Case(run_with("--kind", "random_word"), "not both"),
    "unknown kind": Case(("run", "--task", "nli", *MODEL, "--kind", "cue"), "unknown kind 'cue'"),
    "no connections": Case(run_with("--max-connections", "0"), "--max-connections"),
    "no time": Case(run_with("--timeout", "0"), "--timeout"),
    "negative limit": Case(run_with("--limit", "-1"), "--limit"),
    "seed word": Case(run_with("--seed", "x"), "--seed"),
    "too much mass": Case(run_with("--min-label-mass", "1.5"), "--min-label-mass"),
    "param not json": Case(run_with("--param", "top_p=high"), "--param top_p: 'high' is not JSON"),
    "param without value": Case(run_with("--param", "top_p"), "write KEY=JSON"),
    "param of thousands of digits": Case(run_with("--param", f"top_p={'9' * 5000}"), "--param top_p:"),
    "param nested without end": Case(
        run_with("--param", f"extra_body={'[' * 99999}"), "--param extra_body is not JSON"
    ),
    "param of ours": Case(run_with("--param", "max_tokens=3"), "--param max_tokens is not allowed"),
    "temperature word": Case(run_with("--temperature", "warm"), "--temperature 'warm'"),
    "temperature nan": Case(run_with("--temperature", "nan"), "temperature"),
    "temperature negative": Case(run_with("--temperature", "-1"), "temperature"),
    "price of one number": Case(run_with("--price", "3"), "--price '3'"),
    "price negative": Case(run_with("--price", "1,-3"), "--price '1,-3'"),
    "bad url": Case(run_with("--base-url", "host:80"), "base URL"),
    "name without url": Case(("run", "--task", "nli", *MODEL, "--endpoint-name", "x"), "--endpoint-name"),
    "prompts missing": Case(run_with("--prompts", "gone"), "gone: no such directory of prompts"),
    "level missing": Case(run_with("--verbosity", "gone"), "verbosity/gone.txt"),
    "shots missing": Case(run_with("--shots", "2", "--shots-from", "gone.jsonl"), "gone.jsonl: no such file"),
    "too few shots": Case(run_with("--shots", "2"), "--shots-from FILE, or --shots 0"),
    "half a character": Case(
        (*run_task("jsonl:surrogate.jsonl"), "--interventions", "edits.jsonl"), "surrogate.jsonl:1"
    ),
    "nothing but shots": Case(
        (
            *run_task("jsonl:a.jsonl"),
            "--task",
            "jsonl:mine.jsonl",
            "--interventions",
            "edits.jsonl",
            "--shots",
            "1",
            "--shots-from",
            "a.jsonl",
        ),
        "example",
    ),
    "unknown option": Case(run_with("--colour", "red"), "--colour"),
    "unknown command": Case(("rum",), "rum"),
    "unknown choice": Case(run_with("--order", "pe3"), "--order"),
    "out below a file": Case(run_with("--out", "plain/run"), "plain/run cannot be written"),
    "out is a file": Case(run_with("--out", "plain"), "plain cannot be written"),
    "out holds other files": Case(run_with("--out", "full"), "holds files that are no run"),
    "out holds another run": Case(run_with("--out", "other"), "already holds another run"),
    "cache below a file": Case(run_with("--cache", "plain/cache"), "plain/cache"),
    "cache is a file": Case(run_with("--cache", "plain"), "plain"),
    "key not set": Case(run_with("--api-key-env", "NO_SUCH_KEY"), "NO_SUCH_KEY"),
    "score of nothing": Case(("score", "gone"), "gone holds no run"),
    "score of a file": Case(("score", "plain"), "plain"),
    "score mention": Case(("score", "other", "--mention", "letter"), "--mention"),
    "stats of nothing": Case(("cache", "stats", "--cache", "gone"), "gone"),
    "show without file": Case(("interventions", "show", "--task", "jsonl:mine.jsonl"), "no ready interventions"),
    "build below a file": Case(
        ("interventions", "build", "--task", "sense", "--limit", "1", "--out", "plain/F.jsonl"), "plain/F.jsonl"
    ),
    "fetch unknown": Case(("data", "fetch", "snli"), "snli"),
    "demo weights": Case(("demo", "--weights", "gone.gguf"), "gone.gguf: no such file"),
    "demo no gguf": Case(("demo", "--weights", "plain"), "plain is not a GGUF file"),
}
TAKES_JSON = {name for name, case in CASES.items() if case.arguments[0] not in ("data", "rum")}


def check_sentence(message: str, says: str) -> None:
    """One line that says what is wrong, not how Python felt about it."""
    assert says in message
    assert "\n" not in message.strip()
    assert not any(word in message for word in ("Traceback", "an error in explaineval itself", "Error(", "pydantic"))


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_sentence(place: Path, call: Call, name: str) -> None:
    """Exit code 2, one line on standard error, nothing on standard output."""
    case = CASES[name]

    code, out, err = call(*case.arguments)

    assert (code, out) == (2, "")
    assert err.startswith("explaineval: ")
    check_sentence(err.removeprefix("explaineval: "), case.says)


@pytest.mark.parametrize("name", sorted(TAKES_JSON))
def test_bad_input_is_one_document(place: Path, call: Call, name: str) -> None:
    """With --json: one document on standard output and nothing else anywhere."""
    case = CASES[name]

    code, out, err = call(*case.arguments, "--json")

    document = json.loads(out)
    assert (code, err) == (2, "")
    assert {"schema", "warnings", "error"} == set(document)
    assert {key: value for key, value in document["error"].items() if key != "message"} == {"code": 2}
    check_sentence(document["error"]["message"], case.says)


def test_the_json_variable_makes_a_document_too(place: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """EXPLAINEVAL_JSON is as good as --json."""
    for value in ("1", "true", "t", "yes", "y", "on", "ON"):
        monkeypatch.setenv("EXPLAINEVAL_JSON", value)

        assert {"schema", "warnings", "error"} == set(json.loads(call("run", *MODEL)[1]))


def test_an_option_that_is_wrong_in_the_environment_is_told(
    place: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable is checked like the option it stands for, and the sentence leads to it."""
    monkeypatch.setenv("EXPLAINEVAL_MAX_CONNECTIONS", "many")

    code, _, err = call(*run_with())

    assert code == 2
    assert "EXPLAINEVAL_MAX_CONNECTIONS" in err or "--max-connections" in err


@pytest.mark.parametrize("broken", [None, True, 3, "text", []])
def test_a_run_json_that_is_none_is_told(place: Path, call: Call, broken: Any) -> None:
    """A run.json of another shape is bad input for every command that reads it."""
    (place / "other" / "run.json").write_text(json.dumps(broken), "utf-8")

    code, _, err = call("score", "other")

    assert code == 2
    check_sentence(err, "run.json")


def test_a_foreign_object_as_run_json_is_told(place: Path, call: Call) -> None:
    """A run.json that is an object but no run's."""
    code, _, err = call("score", "other")

    assert code == 2
    check_sentence(err, "other")


@pytest.mark.parametrize("hostile", ["{{ 9 ** 9 ** 9 }}", "{% for a in range(99999) %}{% endfor %}"])
def test_a_template_that_would_run_for_ever_is_bad_input(place: Path, call: Call, hostile: str) -> None:
    """Exit code 2 and one sentence with the file and the line, and nothing is written."""
    shutil.copytree(default_directory(), place / "own")
    (place / "own" / "input.j2").write_text("\n" + hostile, "utf-8")
    before = sorted(path.name for path in place.iterdir())

    code, out, err = call(*run_with("--prompts", "own"))

    assert (code, out) == (2, "")
    check_sentence(err, "own/input.j2, line 2: ")
    assert before == sorted(path.name for path in place.iterdir())


def test_a_fault_of_ours_is_one_sentence_too(place: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 1, what it was, and how to see where."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr("explaineval.cli.run.prepare", fail)

    code, out, err = call(*run_with())

    assert (code, out) == (1, "")
    assert "ZeroDivisionError: by nought" in err
    assert "EXPLAINEVAL_TRACEBACK=1" in err
    assert "Traceback (most" not in err


def test_nothing_is_written_for_bad_input(place: Path, call: Call) -> None:
    """Neither run directory nor cache appears where the input cannot be used."""
    before = sorted(path.name for path in place.iterdir())
    for name in ("unknown task", "gold not in options", "interventions beyond the text", "prompts missing", "bad url"):
        call(*CASES[name].arguments)

    assert before == sorted(path.name for path in place.iterdir())


@pytest.fixture(scope="module")
def loaded_litellm() -> None:
    """litellm's import costs seconds of a loaded machine, which are not what is measured."""
    from explaineval.client.litellm_client import load_litellm

    load_litellm()


@pytest.mark.filterwarnings("ignore")  # of litellm's own lazy imports, which would count as failed attempts
@pytest.mark.usefixtures("loaded_litellm")
@pytest.mark.parametrize("document", [False, True])
def test_a_refused_connection_ends_soon(place: Path, call: Call, closed_port: int, document: bool) -> None:
    """Exit code 5 within ten seconds; the sentence names the address; --json is still one document."""
    started = time.monotonic()
    arguments = [*run_with("--base-url", f"http://127.0.0.1:{closed_port}/v1"), *(["--json"] if document else [])]

    code, out, err = call(*arguments)

    assert code == 5
    assert time.monotonic() - started < 10, err
    assert f"127.0.0.1:{closed_port}" in err
    check_sentence(next(line for line in err.splitlines() if "refused" in line), "refused")
    if document:
        found = json.loads(out)
        assert (found["exit_code"], found["metrics"]) == (5, [])
