"""`explaineval simulate` with planted predictors on a real socket: gains by hand, money, cache, resume, batches."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from explaineval.rundir.directory import read_examples, read_trials
from makers.command_line import Call, make_call
from servers.batch_server import BatchServer
from servers.scripted import ScriptedServer

Reader = Callable[[str, str, str | None, str], str]
"""From the model's first answer, its true next one, the explanation (if any) and the first question to a letter."""

QUESTIONS = re.compile(r"<question>\n(.*?)\n</question>", re.DOTALL)
EXPLANATION = re.compile(r"<explanation>\n(.*?)\n</explanation>", re.DOTALL)


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the command line in this process, in an empty directory with a run of one simulated model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    run = make_call(capsys)
    code, _, err = run("run", "--task", "sense", "--limit", "21", "--model", "simulated/example-only", "--out", "run")
    assert code == 0, err
    return run


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """The predictor's endpoint."""
    with ScriptedServer() as running:
        yield running


def plant(server: ScriptedServer, reader: Reader, directory: str = "run") -> None:
    """Let the endpoint answer as a reader does that knows the model's next answer by the text of the changed field."""
    known = {str(trial.text_after): str(trial.label_after) for trial in read_trials(Path(directory)) if trial.field}

    def script(prompt: str) -> tuple[str | None, dict[str, float] | None]:
        first, second = QUESTIONS.findall(prompt)
        answer = re.search(r"It answered: (\w)", prompt)
        assert answer is not None
        explanation = EXPLANATION.search(prompt)
        truth = next(label for text, label in known.items() if text in second)
        letter = reader(answer[1], truth, None if explanation is None else explanation[1], first)
        return f"Answer: {letter}", None

    server.script = script


def other(letter: str) -> str:
    """The other of two letters."""
    return "B" if letter == "A" else "A"


def simulate(call: Call, server: ScriptedServer, *more: str, directory: str = "run") -> tuple[int, dict[str, Any]]:
    """Run the command; the exit code and its document."""
    named = ("--predictor-model", "openai/reader", "--predictor-base-url", server.url)
    code, out, _ = call("simulate", directory, *named, "--json", *more)
    return code, json.loads(out)


def numbers(document: dict[str, Any], judge: str = "openai/reader") -> dict[str, dict[str, Any]]:
    """The rows of one predictor by metric."""
    return {row["metric"]: row for row in document["metrics"] if row["judge"] == judge}


def test_a_reader_that_is_right_only_with_an_explanation_gains_everything(call: Call, server: ScriptedServer) -> None:
    """It is right with another example's explanation too, so the control gains as much and the difference is 0."""
    plant(server, lambda _before, truth, explanation, _first: truth if explanation else other(truth))

    code, document = simulate(call, server)

    rows = numbers(document)
    assert code == 0
    assert [rows[name]["value"] for name in ("simulation_gain_balanced", "nsg", "nsg_shuffled")] == [1, 1, 1]
    assert rows["nsg_difference"]["value"] == 0
    assert rows["simulation_gain_balanced_shuffled"]["value"] == 1
    assert rows["simulation_gain_balanced_difference"]["value"] == 0
    assert (rows["simulation_accuracy_with"]["value"], rows["simulation_accuracy_without"]["value"]) == (1, 0)
    trials = [trial for trial in read_trials(Path("run")) if trial.status == "ok" and trial.kind != "sham"]
    assert rows["nsg"]["n"] == len(trials)


@pytest.mark.slow
def test_a_reader_of_this_examples_explanation_alone_has_a_control_of_nothing(
    call: Call, server: ScriptedServer
) -> None:
    """With any other explanation it predicts as without one, so it gains nothing from another example's."""
    call(
        "run", "--task", "sense", "--limit", "60", "--model", "simulated/verbose", "--per-example", "4", "--out", "big"
    )
    trials = [trial for trial in read_trials(Path("big")) if trial.kind != "sham"]
    own = {str(trial.explanation_before) for trial in trials}
    assert len(own) == 60  # no two examples are explained in the same words
    shown = {trial.example_id: str(trial.explanation_before) for trial in trials}
    texts = {example.id: next(iter(example.fields.values())) for example in read_examples(Path("big"))}

    def reader(before: str, truth: str, explanation: str | None, first: str) -> str:
        example = next(name for name, text in texts.items() if text in first)
        return truth if explanation == shown[example] else before

    plant(server, reader, "big")

    _, document = simulate(call, server, directory="big")

    rows = numbers(document)
    assert sum(bool(trial.changed) for trial in trials) > 20
    assert rows["simulation_gain_balanced"]["value"] == 0.5  # every changed answer, no unchanged one
    assert [rows[name]["value"] for name in ("nsg", "nsg_shuffled", "nsg_difference")] == [1, 0, 1]
    gains = ("simulation_gain_balanced_shuffled", "simulation_gain_balanced_difference")
    assert [rows[name]["value"] for name in gains] == [0, 0.5]


@pytest.mark.slow
@pytest.mark.parametrize("letter", ["same", "A"])
def test_a_reader_that_does_not_read_gains_nothing(call: Call, server: ScriptedServer, letter: str) -> None:
    """Always the model's first answer, or blindly A: both accuracies are equal and the gain is exactly 0."""
    plant(server, lambda before, _truth, _explanation, _first: before if letter == "same" else "A")

    _, document = simulate(call, server)

    rows = numbers(document)
    assert rows["simulation_gain_balanced"]["value"] == 0
    assert rows["simulation_accuracy_with"]["value"] == rows["simulation_accuracy_without"]["value"]


@pytest.mark.slow
def test_a_reader_that_is_right_without_the_explanation_has_no_normalised_gain(
    call: Call, server: ScriptedServer
) -> None:
    """The reason is in the row; the balanced gain is 0."""
    plant(server, lambda _before, truth, _explanation, _first: truth)

    _, document = simulate(call, server)

    rows = numbers(document)
    assert rows["nsg"]["value"] is None
    assert "no example has a wrong prediction without the explanation" in rows["nsg"]["undefined"]
    assert rows["simulation_gain_balanced"]["value"] == 0


@pytest.mark.slow
def test_a_reader_that_errs_at_a_known_rate_is_measured_by_hand(call: Call, server: ScriptedServer) -> None:
    """It is wrong with the explanation for every third example, without it for two of three."""

    def reader(_before: str, truth: str, explanation: str | None, first: str) -> str:
        number = len(first) % 3
        wrong = number == 0 if explanation else number < 2
        return other(truth) if wrong else truth

    plant(server, reader)

    _, document = simulate(call, server, "--no-shuffled")

    rows = numbers(document)
    prompts = {prompt for prompt in server.prompts if "<explanation>" not in prompt}
    lengths = {QUESTIONS.findall(prompt)[1]: len(QUESTIONS.findall(prompt)[0]) % 3 for prompt in prompts}
    numbers_of = list(lengths.values())
    with_errors = sum(number == 0 for number in numbers_of) / len(numbers_of)
    without_errors = sum(number < 2 for number in numbers_of) / len(numbers_of)
    assert rows["simulation_accuracy_with"]["value"] == pytest.approx(1 - with_errors)
    assert rows["simulation_accuracy_without"]["value"] == pytest.approx(1 - without_errors)
    assert "nsg_shuffled" not in rows


def test_a_second_time_everything_comes_from_the_cache_and_score_needs_none(call: Call, server: ScriptedServer) -> None:
    """Offline too; `score` reads predictions.jsonl, and metrics.json has the same rows."""
    plant(server, lambda before, _truth, _explanation, _first: before)
    _, first = simulate(call, server)
    sent = len(server.prompts)

    _, second = simulate(call, server, "--offline")

    assert len(server.prompts) == sent
    assert second["metrics"] == first["metrics"]
    scored = json.loads(call("score", "run", "--json")[1])["metrics"]
    assert [row for row in scored if row["judge"]] == first["metrics"]
    assert set(first) == set(json.loads(call("score", "run", "--json")[1]))  # as docs/json.md says
    assert json.loads(Path("run/metrics.json").read_text("utf-8")) == scored
    code, _, err = call("run", "--task", "sense", "--limit", "21", "--model", "simulated/example-only", "--out", "run")
    assert code == 0, err
    assert json.loads(Path("run/metrics.json").read_text("utf-8")) == scored


@pytest.mark.slow
def test_a_bundle_holds_the_predictions_and_is_reproduced_with_them(call: Call, server: ScriptedServer) -> None:
    """Every number is the same to the last digit, those of the predictor among them."""
    plant(server, lambda before, _truth, _explanation, _first: before)
    simulate(call, server)

    assert call("export", "run", "--out", "run.zip")[0] == 0
    code, out, _ = call("reproduce", "run.zip", "--out", "again", "--json")

    assert code == 0, out
    assert (Path("again/metrics.json").read_bytes()) == Path("run/metrics.json").read_bytes()


@pytest.mark.slow
def test_two_predictors_stand_side_by_side_and_as_a_panel(call: Call, server: ScriptedServer) -> None:
    """The panel adds gains and errors of both over the trials that both predicted."""
    plant(server, lambda _before, truth, explanation, _first: truth if explanation else other(truth))
    simulate(call, server)
    plant(server, lambda before, _truth, _explanation, _first: before)
    common = ("--predictor-base-url", server.url, "--json")

    _, out, _ = call("simulate", "run", "--predictor-model", "openai/other", *common)

    document = json.loads(out)
    assert {row["judge"] for row in document["metrics"]} == {"openai/reader", "openai/other", "panel"}
    panel, same = numbers(document, "panel"), numbers(document, "openai/other")
    n = same["nsg"]["n"]
    errors = n + round(n * (1 - same["simulation_accuracy_without"]["value"]))
    assert panel["nsg"]["value"] == pytest.approx(n / errors)
    assert panel["simulation_gain_balanced"]["value"] == pytest.approx(0.5)


@pytest.mark.slow
def test_predictions_that_cannot_be_read_are_left_out_and_said(call: Call, server: ScriptedServer) -> None:
    """A reader that says nothing about every second question."""
    plant(server, lambda before, _truth, _explanation, first: before if len(first) % 2 else "perhaps")

    code, document = simulate(call, server)

    assert code == 0
    row = numbers(document)["simulation_accuracy_without"]
    trials = sum(trial.status == "ok" and trial.kind != "sham" for trial in read_trials(Path("run")))
    assert 0 < row["n"] < trials
    texts = [warning["text"] for warning in document["warnings"] if warning["code"] == "predictions_unread"]
    assert any(f"leaves out {trials - row['n']} of {trials} trials" in text for text in texts)


@pytest.mark.slow
def test_a_prediction_made_from_another_explanation_does_not_count(call: Call, server: ScriptedServer) -> None:
    """As after a run from another cache: its trials are left out until the predictor is asked again."""
    plant(server, lambda before, _truth, _explanation, _first: before)
    simulate(call, server)
    path, changed, lines = Path("run/trials.jsonl"), 0, []
    trials = list(read_trials(Path("run")))
    for trial in trials:
        is_first = trial.example_id == trials[0].example_id
        changed += is_first and trial.status == "ok" and trial.kind != "sham"
        new = {"explanation_before": f"{trial.explanation_before} Indeed."} if is_first else {}
        lines.append(trial.model_copy(update=new).model_dump_json() + "\n")
    path.write_text("".join(lines), "utf-8")

    document = json.loads(call("score", "run", "--json")[1])
    _, again = simulate(call, server)

    scored = sum(trial.status == "ok" and trial.kind != "sham" for trial in trials)
    assert changed > 0
    assert numbers(document)["simulation_accuracy_with"]["n"] == scored - changed
    texts = [warning["text"] for warning in document["warnings"] if warning["code"] == "predictions_unread"]
    assert any(f"leaves out {changed} of {scored} trials" in text for text in texts)
    assert numbers(again)["simulation_accuracy_with"]["n"] == scored


def test_a_predictor_that_cannot_be_read_has_no_numbers_and_the_reason(call: Call, server: ScriptedServer) -> None:
    """Every row is undefined; none is 0."""
    plant(server, lambda _before, _truth, _explanation, _first: "perhaps")

    _, document = simulate(call, server, "--limit", "2")

    rows = numbers(document)
    assert {row["undefined"] for row in rows.values()} == {"no trial has predictions that could be read"}
    assert {row["value"] for row in rows.values()} == {None}


@pytest.mark.slow
def test_the_plan_says_what_would_be_asked_and_sends_nothing(call: Call, server: ScriptedServer) -> None:
    """After asking, all of it is in the cache."""
    plant(server, lambda before, _truth, _explanation, _first: before)
    _, plan = simulate(call, server, "--plan", "--predictor-price", "1,2")
    assert server.prompts == []

    simulate(call, server)

    distinct = plan["total"]["distinct"]
    assert distinct == plan["total"]["misses"]
    assert len(set(server.prompts)) == distinct
    _, after = simulate(call, server, "--plan")
    assert (after["total"]["hits"], after["total"]["misses"]) == (distinct, 0)
    assert plan["total"]["usd"]["worst"] > plan["total"]["usd"]["expected"] > 0


@pytest.mark.slow
def test_a_spending_limit_stops_it_and_the_same_command_with_a_higher_one_goes_on(
    call: Call, server: ScriptedServer
) -> None:
    """Nothing that was paid for is asked again."""
    plant(server, lambda before, _truth, _explanation, _first: before)
    price = ("--predictor-price", "100,100")
    code, _ = simulate(call, server, *price, "--max-usd", "2")
    assert code == 3
    paid = list(server.prompts)
    assert not (Path("run") / "predictions.jsonl").exists()

    code, _ = simulate(call, server, *price)

    assert code == 0
    assert 0 < len(paid) < len(server.prompts)
    assert len(set(server.prompts)) == len(server.prompts)


@pytest.mark.slow
def test_the_limit_takes_the_first_examples(call: Call, server: ScriptedServer) -> None:
    """Three requests for each of their scored trials at the most."""
    plant(server, lambda before, _truth, _explanation, _first: before)

    _, document = simulate(call, server, "--limit", "5")

    assert numbers(document)["simulation_accuracy_with"]["n_examples"] == 5


@pytest.mark.slow
def test_predictions_go_through_a_batch(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent one by one but the question by which the endpoint is found out."""
    monkeypatch.setenv("READER_KEY", "sk-a-key-of-the-test")
    with BatchServer() as provider:
        code, out, err = call(
            "simulate", "run", "--predictor-model", "openai/reader", "--predictor-base-url", f"{provider.root}/v1",
            "--predictor-api-key-env", "READER_KEY", "--batch", "--batch-poll", "0.01", "--limit", "4", "--json",
        )  # fmt: skip

    assert code == 0, out + err
    document = json.loads(out)
    assert provider.batches
    rows = numbers(document)
    assert rows["simulation_accuracy_with"]["n"] > 0
    assert rows["simulation_gain_balanced"]["value"] in (0, None)


def test_a_run_without_scored_trials_is_refused(
    tmp_path: Path, call: Call, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence, exit code 2, nothing sent."""
    call("run", "--task", "sense", "--limit", "2", "--model", "simulated/faithful", "--shams", "1", "--out", "none")
    lines = (tmp_path / "none" / "trials.jsonl").read_text("utf-8").splitlines()
    shams = [line for line in lines if json.loads(line)["kind"] == "sham"]
    (tmp_path / "none" / "trials.jsonl").write_text("\n".join(shams) + "\n", "utf-8")
    record = tmp_path / "none" / "run.json"
    record.write_text(json.dumps(json.loads(record.read_text("utf-8")) | {"trials": len(shams)}), "utf-8")

    code, _, err = call("simulate", "none", "--predictor-model", "openai/x", "--predictor-base-url", server.url)

    assert code == 2
    assert "nothing to predict" in err
    assert server.prompts == []


def test_a_predictor_must_be_named_and_must_be_a_language_model(call: Call) -> None:
    """One sentence each."""
    assert call("simulate", "run")[::2] == (
        2,
        "explaineval: no predictor given: add --predictor-model PROVIDER/MODEL.\n",
    )
    code, _, err = call("simulate", "run", "--predictor-model", "simulated/faithful")
    assert (code, "cannot be the predictor" in err) == (2, True)


@pytest.mark.slow
def test_panels_of_different_predictors_have_no_mean_over_tasks(call: Call, server: ScriptedServer) -> None:
    """One that predicted a single task would be in the panel of that task alone."""
    tasks = ("--task", "sense", "--task", "qa", "--limit", "3")
    call("run", *tasks, "--model", "simulated/faithful", "--shams", "0", "--out", "two")
    plant(server, lambda before, _truth, _explanation, _first: before, "two")
    simulate(call, server, "--no-shuffled", directory="two")
    simulate(call, server, "--no-shuffled", "--predictor-model", "openai/other", directory="two")
    both = json.loads(Path("two/metrics.json").read_text("utf-8"))
    lines = (Path("two") / "predictions.jsonl").read_text("utf-8").splitlines()
    sense = {trial.id for trial in read_trials(Path("two")) if trial.task == "sense"}
    kept = [line for line in lines if "openai/other" not in line or json.loads(line)["trial"] in sense]
    (Path("two") / "predictions.jsonl").write_text("\n".join(kept) + "\n", "utf-8")

    one = json.loads(call("score", "two", "--json")[1])["metrics"]

    assert ("mean", "panel") in {(row["task"], row["judge"]) for row in both}
    assert {row["judge"] for row in one if row["task"] == "mean" and row["judge"]} == {"openai/reader"}
