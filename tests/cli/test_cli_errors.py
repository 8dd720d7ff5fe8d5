"""Whatever is wrong: one sentence, the right exit code, and no traceback."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from explaineval.cli import app
from explaineval.prompts import default_directory
from makers.command_line import Call
from makers.runs import minimal_record

ESNLI_HEADER = "pairID,gold_label,Sentence1,Sentence2,Explanation_1,Explanation_2,Explanation_3\n"
ROW = {"id": "e0", "fields": {"note": "The clerk waits."}, "options": {"A": "yes", "B": "no"}, "gold": "A"}
EDIT = {"example_id": "e0", "kind": "hand", "field": "note", "offset": 4, "inserted": "grumpy"}
MODEL = ("--model", "openai/smol")


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
        "served/service.sqlite": "",
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
def closed_port() -> Iterator[int]:
    """A loopback port that nobody listens on, and that nobody else is given meanwhile."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def run_with(*arguments: str) -> tuple[str, ...]:
    """A sound run but for what is given; nothing listens at its address."""
    sound = ("run", "--task", "jsonl:mine.jsonl", "--interventions", "edits.jsonl", *MODEL)
    return (*sound, "--base-url", "http://127.0.0.1:9/v1", *arguments)


def run_task(task: str) -> tuple[str, ...]:
    """A run of this task."""
    return ("run", "--task", task, *MODEL, "--base-url", "http://127.0.0.1:9/v1")


CASES: dict[str, tuple[str, ...]] = {
    "unknown task": run_task("snli"),
    "task without path": run_task("esnli"),
    "missing file": run_task("esnli:gone.csv"),
    "missing directory": run_task("comve:gone"),
    "missing column": run_task("esnli:column.csv"),
    "empty csv": run_task("esnli:empty.csv"),
    "empty jsonl": run_task("jsonl:empty.jsonl"),
    "gold not in options": run_task("jsonl:gold.jsonl"),
    "duplicate id": run_task("jsonl:twice.jsonl"),
    "broken json": run_task("jsonl:broken.jsonl"),
    "no task": ("run", *MODEL),
    "no judge": ("judge", "other"),
    "judge of no run": ("judge", "full", "--judge-model", "openai/j"),
    "sheet without a name": ("judge", "sheet", "other"),
    "sheet of no rows": ("judge", "sheet", "other", "--n", "0", "--out", "s.csv"),
    "judge of a policy": ("judge", "sheet", "other", "--mention", "word", "--judge", "openai/j", "--out", "s.csv"),
    "verdicts of nobody": ("judge", "sheet", "other", "--mention", "judge", "--out", "s.csv"),
    "agreement without a sheet": ("judge", "agree", "other"),
    "sheet missing": ("judge", "agree", "other", "gone.csv"),
    "sheet that is none": ("judge", "agree", "other", "column.csv"),
    "no model": ("run", "--task", "nli"),
    "model without provider": ("run", "--task", "nli", "--model", "gpt-4o"),
    "model twice": ("run", "--task", "nli", *MODEL, *MODEL),
    "bad yaml": ("run", "bad.yaml"),
    "unknown yaml key": ("run", "unknown.yaml"),
    "yaml list": ("run", "list.yaml"),
    "missing yaml": ("run", "gone.yaml"),
    "yaml is a directory": ("run", "full"),
    "interventions missing": run_with("--interventions", "gone.jsonl"),
    "interventions for another task": run_with("--interventions", "foreign.jsonl"),
    "interventions for no example": run_with("--interventions", "stranger.jsonl"),
    "interventions beyond the text": run_with("--interventions", "beyond.jsonl"),
    "interventions in no field": run_with("--interventions", "nowhere.jsonl"),
    "interventions empty": run_with("--interventions", "empty.jsonl"),
    "file and kind": run_with("--kind", "random_word"),
    "unknown kind": ("run", "--task", "nli", *MODEL, "--kind", "cue"),
    "no connections": run_with("--max-connections", "0"),
    "no time": run_with("--timeout", "0"),
    "engine that is none": run_with("--engine", "dask"),
    "no workers": run_with("--engine", "ray", "--workers", "0"),
    "workers without an engine": run_with("--workers", "2"),
    "address of no cluster": run_with("--engine", "ray", "--ray-address", "http://10.0.0.1:6379"),
    "batches by workers": run_with("--engine", "ray", "--batch"),
    "negative limit": run_with("--limit", "-1"),
    "seed word": run_with("--seed", "x"),
    "half width of one": run_with("--until-half-width", "1"),
    "looks and batches": run_with("--until-half-width", "0.1", "--batch"),
    "looks and shards": run_with("--until-half-width", "0.1", "--shard", "1/2"),
    "shard beyond the last": run_with("--shard", "3/2"),
    "shard of words": run_with("--shard", "half"),
    "shard without a verdict": run_with("--shard", "1/2"),
    "direct without an address": ("run", "--task", "nli", *MODEL, "--transport", "direct"),
    "direct to another provider": ("run", "--task", "nli", "--model", "anthropic/m", "--transport", "direct"),
    "direct on another route": run_with("--model", "lm_studio/m", "--transport", "direct"),
    "direct to a reasoning model": run_with("--model", "openai/o3", "--transport", "direct"),
    "unknown transport": run_with("--transport", "http"),
    "merge of a whole run": ("merge", "other", "--out", "merged"),
    "merge without a name": ("merge", "other"),
    "rates without half width": ("plan", "--task", "nli", *MODEL, "--expect", "p=0.1"),
    "rates and pilot": ("plan", "--task", "nli", *MODEL, "--half-width", "0.1", "--expect", "p=0.1", "--pilot", "gone"),
    "rate of no name": ("plan", "--task", "nli", *MODEL, "--half-width", "0.1", "--expect", "q=0.1"),
    "rate above one": ("plan", "--task", "nli", *MODEL, "--half-width", "0.1", "--expect", "tpr=60"),
    "rates without phi": ("plan", "--task", "nli", *MODEL, "--half-width", "0.1", "--expect", "p=0"),
    "pilot that is no run": ("plan", "--task", "nli", *MODEL, "--half-width", "0.1", "--pilot", "full"),
    "too much mass": run_with("--min-label-mass", "1.5"),
    "param not json": run_with("--param", "top_p=high"),
    "param without value": run_with("--param", "top_p"),
    "param of thousands of digits": run_with("--param", f"top_p={'9' * 5000}"),
    "param nested without end": run_with("--param", f"extra_body={'[' * 99999}"),
    "param of ours": run_with("--param", "max_tokens=3"),
    "temperature word": run_with("--temperature", "warm"),
    "temperature nan": run_with("--temperature", "nan"),
    "temperature negative": run_with("--temperature", "-1"),
    "price of one number": run_with("--price", "3"),
    "price negative": run_with("--price", "1,-3"),
    "bad url": run_with("--base-url", "host:80"),
    "name without url": ("run", "--task", "nli", *MODEL, "--endpoint-name", "x"),
    "prompts missing": run_with("--prompts", "gone"),
    "level missing": run_with("--verbosity", "gone"),
    "shots missing": run_with("--shots", "2", "--shots-from", "gone.jsonl"),
    "too few shots": run_with("--shots", "2"),
    "half a character": (*run_task("jsonl:surrogate.jsonl"), "--interventions", "edits.jsonl"),
    "nothing but shots": (
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
    "unknown option": run_with("--colour", "red"),
    "unknown command": ("rum",),
    "unknown choice": run_with("--order", "pe3"),
    "out below a file": run_with("--out", "plain/run"),
    "out is a file": run_with("--out", "plain"),
    "out named as a file": run_with("--out", "results.xlsx"),
    "plan for a file": ("plan", *run_with("--out", "results.csv")[1:]),
    "demo into a file": ("demo", "--out", "demo.html"),
    "merge into a file": ("merge", "other", "--out", "whole.json"),
    "reproduction in a file": ("reproduce", "gone.zip", "--out", "again.PDF"),
    "backup in a file": ("serve", "backup", "--data", "served", "--out", "copy.zip"),
    "logs in a file": ("export", "other", "--format", "inspect", "--out", "logs.json"),
    "figures in a file": ("report", "other", "--plots", "figures.pdf"),
    "out holds other files": run_with("--out", "full"),
    "out holds another run": run_with("--out", "other"),
    "cache below a file": run_with("--cache", "plain/cache"),
    "cache is a file": run_with("--cache", "plain"),
    "key not set": run_with("--api-key-env", "NO_SUCH_KEY"),
    "score of nothing": ("score", "gone"),
    "score of a file": ("score", "plain"),
    "score mention": ("score", "other", "--mention", "letter"),
    "stats of nothing": ("cache", "stats", "--cache", "gone"),
    "show without file": ("interventions", "show", "--task", "jsonl:mine.jsonl"),
    "build below a file": ("interventions", "build", "--task", "sense", "--limit", "1", "--out", "plain/F.jsonl"),
    "fetch unknown": ("data", "fetch", "snli"),
    "report of nothing": ("report", "gone"),
    "report of two": ("report", "other", "full"),
    "report of a bundle": ("report", "sent.zip"),
    "report twice": ("report", "other", "other", "--out", "new.html"),
    "report into a directory": ("report", "other", "--out", "plain/new.html"),
    "export suffix": ("export", "other", "--out", "F.md"),
    "export table": ("export", "other", "--out", "F.tex", "--rows", "trials"),
    "demo weights": ("demo", "--weights", "gone.gguf"),
    "demo no gguf": ("demo", "--weights", "plain"),
}
"""Arguments that are bad input, by what is wrong with them. error_sentences.json has the sentence of each."""

SENTENCES: dict[str, str] = json.loads(Path(__file__).with_name("error_sentences.json").read_text("utf-8"))
TAKES_JSON = {name for name, arguments in CASES.items() if arguments[0] not in ("data", "rum", "serve")}


def sentence_of(name: str, place: Path) -> str:
    """Return the recorded sentence of a case, with the paths of this machine."""
    return SENTENCES[name].replace("PLACE", str(place)).replace("PROMPTS", str(default_directory()))


def check_sentence(message: str, says: str = "") -> None:
    """Fail unless the message is one line without Python's own words, and contains `says`."""
    assert says in message
    assert "\n" not in message.strip()
    assert not any(word in message for word in ("Traceback", "an error in explaineval itself", "Error(", "pydantic"))


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_sentence(place: Path, call: Call, name: str) -> None:
    """Exit code 2, the recorded sentence on standard error, nothing on standard output. A new wording is a decision."""
    code, out, err = call(*CASES[name])

    assert (code, out) == (2, "")
    assert err == f"explaineval: {sentence_of(name, place)}\n"
    check_sentence(err)


def test_every_recorded_sentence_has_a_case() -> None:
    """error_sentences.json holds no sentence that nothing checks."""
    assert set(SENTENCES) == set(CASES)


@pytest.mark.sampled(40)
@pytest.mark.parametrize("name", sorted(TAKES_JSON))
def test_bad_input_is_one_document(place: Path, call: Call, name: str) -> None:
    """With --json: one document on standard output, with the same sentence, and nothing on standard error."""
    code, out, err = call(*CASES[name], "--json")

    document = json.loads(out)
    assert (code, err) == (2, "")
    assert {"schema", "warnings", "error"} == set(document)
    assert document["error"] == {"code": 2, "message": sentence_of(name, place)}


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


@pytest.mark.parametrize("broken", [None, True, 3, "text", [], {}, {"science": {"fixed": {}}}])
def test_a_run_json_that_is_none_is_told(place: Path, call: Call, broken: Any) -> None:
    """A run.json of another shape, or without what a run has, is bad input for every command that reads it."""
    (place / "other" / "run.json").write_text(json.dumps(broken), "utf-8")

    code, _, err = call("score", "other")

    assert code == 2
    check_sentence(err, "run.json")


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
        call(*CASES[name])

    assert before == sorted(path.name for path in place.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ("--limit", "9" * 5000),
        ("--task", "jsonl:/" + "a" * 6000),
        ("--task", "a" * 6000),
        ("--interventions", "/" + "a" * 6000),
    ],
    ids=lambda arguments: f"{arguments[0]} {arguments[1][:8]}",
)
@pytest.mark.usefixtures("place")
def test_a_long_value_is_not_repeated_as_a_whole(call: Call, arguments: tuple[str, ...]) -> None:
    """The sentence shows both ends of it and says how long it is."""
    code, out, err = call("plan", "--task", "jsonl:mine.jsonl", *MODEL, *arguments)

    assert (code, out) == (2, "")
    assert len(err) < 600
    assert "characters)" in err


@pytest.mark.filterwarnings("ignore")  # of litellm's own lazy imports, which would count as failed attempts
@pytest.mark.parametrize("document", [False, True])
def test_a_refused_connection_ends_soon(place: Path, call: Call, closed_port: int, document: bool) -> None:
    """Exit code 5 after two retries of the first request; the sentence names the address; --json is one document."""
    arguments = [*run_with("--base-url", f"http://127.0.0.1:{closed_port}/v1"), *(["--json"] if document else [])]

    code, out, err = call(*arguments)

    assert code == 5
    assert f"127.0.0.1:{closed_port}" in err
    check_sentence(next(line for line in err.splitlines() if "refused" in line), "refused")
    if document:
        report = json.loads(out)
        assert (report["exit_code"], report["metrics"]) == (5, [])
        assert (report["requests"]["sent"], report["requests"]["retries"]) == (0, 2)
    else:
        assert "0 sent" in out
        assert "2 retries" in out


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't start new thread")])
def test_missing_memory_is_one_sentence(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is no fault of the program, and the sentence says what to do."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(app.app, "main", fail)
    with pytest.raises(SystemExit) as caught:
        app.main(["plan"])

    assert caught.value.code == 1
    assert capsys.readouterr().err == (
        "explaineval: there is not enough memory for this (see `ulimit -v`, or the container's limit): give it more "
        "(answers already paid for are kept).\n"
    )
