"""Simulated models in all commands that take a model: named as simulated, or refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from explaineval.client.simulated import law_of
from makers.command_line import Call

COLUMNS = 200

FAITHFUL = "simulated/faithful"
SMALL = ("--task", "sense", "--limit", "6")


def ask(call: Call, *more: str, model: str = FAITHFUL, out: str = "out") -> dict[str, object]:
    """Run a small task, and return the counts of requests; the run succeeds."""
    code, text, err = call("run", *SMALL, "--model", model, "--out", out, "--json", *more)
    assert code == 0, err
    document = json.loads(text)
    assert document["usd_spent"] == 0.0
    counts: dict[str, object] = document["requests"]
    return counts


def test_a_run_says_everywhere_that_its_model_is_simulated(call: Call) -> None:
    """First screen, wide table, example, comparison, plan and cache: each shows a name that begins with simulated."""
    _, screen, _ = call("run", *SMALL, "--model", FAITHFUL, "--model", "simulated/random", "--out", "out")
    endpoint = law_of(FAITHFUL).endpoint

    assert f"{FAITHFUL} · simulated, not a language model · sense" in screen
    assert f"{FAITHFUL} at {endpoint}" in call("score", "out", "--table")[1]
    assert f"{FAITHFUL} at {endpoint}" in call("show", "out", "--example", "sense-001")[1]
    assert "  simulated/faithful " in call("compare", "out")[1]
    assert f"{FAITHFUL} at {endpoint}\n" in call("plan", *SMALL, "--model", FAITHFUL)[1]
    assert f"{endpoint}    {FAITHFUL}" in call("cache", "stats")[1]
    rows = json.loads(Path("out/metrics.json").read_text(encoding="utf-8"))
    assert all(row["endpoint"].startswith("simulated:") and row["model"].startswith("simulated/") for row in rows)


def test_a_plan_is_exactly_what_the_run_asks_and_costs_nothing(call: Call) -> None:
    """Before and after the run, also where a price is given for all models."""
    _, text, _ = call("plan", *SMALL, "--model", FAITHFUL, "--price", "1,2", "--max-usd", "0.01", "--json")
    assert "probe" not in text
    before = json.loads(text)["total"]
    asked = ask(call)
    after = json.loads(call("plan", *SMALL, "--model", FAITHFUL, "--json")[1])["total"]

    assert before["usd"] == {"low": 0.0, "expected": 0.0, "worst": 0.0}
    assert (before["distinct"], before["misses"]) == (asked["distinct"], asked["sent"])
    assert (after["hits"], after["misses"]) == (asked["distinct"], 0)


def test_a_second_run_and_an_offline_run_take_every_answer_from_the_cache(call: Call) -> None:
    """A spending limit, a price and more attempts change nothing: a simulated model is free."""
    first = ask(call)
    again = ask(call, "--price", "1000,1000", "--max-usd", "0")
    offline = ask(call, "--offline", out="offline")

    assert first["sent"] == again["hits"] == offline["hits"] != 0
    assert again["sent"] == offline["sent"] == 0
    assert Path("out/metrics.json").read_bytes() == Path("offline/metrics.json").read_bytes()


def test_a_spending_limit_of_nothing_stops_no_simulated_model(call: Call) -> None:
    """Also where a price is given for all models."""
    asked = ask(call, "--price", "1000,1000", "--max-usd", "0")

    assert asked["sent"] == asked["distinct"]


def test_probe_works_and_keeps_what_it_found(call: Call) -> None:
    """All its questions are answered; a model whose law has no log-probabilities is said to give none."""
    code, screen, _ = call("probe", "--model", FAITHFUL)
    _, silent, _ = call("probe", "--model", "simulated/no-logprobs", "--json")
    found = json.loads(silent)

    assert code == 0
    assert screen.startswith(f"{FAITHFUL} (simulated, not a language model) at {law_of(FAITHFUL).endpoint}")
    assert "a simulated model" in screen
    assert (found["chat"], found["completion"], found["logprobs"], found["usd"]) == (True, True, False, 0.0)
    assert ask(call, model="simulated/no-logprobs")["sent"] != 0
    undefined = [
        row["undefined"]
        for row in json.loads(Path("out/metrics.json").read_text(encoding="utf-8"))
        if row["metric"] == "cct"
    ]
    assert undefined == ["the endpoint returned no log-probabilities (found by probe)"]


def test_the_answers_of_a_run_are_exported_and_reproduced_without_the_law(call: Call, tmp_path: Path) -> None:
    """The bundle holds the answers, so the file of laws is not needed."""
    laws = tmp_path / "laws.yaml"
    laws.write_text("mine: {tpr: 0.8, fpr: 0.1}\n", encoding="utf-8")
    ask(call, model="simulated/laws.yaml#mine")
    assert call("export", "out", "--out", "bundle.zip")[0] == 0
    laws.unlink()
    code, text, err = call("reproduce", "bundle.zip")

    assert code == 0, err
    assert "identical to the last digit" in text
    assert "0 have none" in call("cache", "explain", "out")[1]


def test_an_edited_law_is_another_endpoint_and_mixes_with_nothing(call: Call, tmp_path: Path) -> None:
    """All is asked again, into another run directory; the old law's answers are still there."""
    laws = tmp_path / "laws.yaml"
    laws.write_text("mine: {tpr: 0.8, fpr: 0.1}\n", encoding="utf-8")
    first = ask(call, model="simulated/laws.yaml#mine")
    laws.write_text("mine: {tpr: 0.2, fpr: 0.1}\n", encoding="utf-8")
    refused, _, err = call("run", *SMALL, "--model", "simulated/laws.yaml#mine", "--out", "out")
    second = ask(call, model="simulated/laws.yaml#mine", out="second")
    laws.write_text("mine: {fpr: 0.1, tpr: 0.80}\n", encoding="utf-8")
    third = ask(call, model="simulated/laws.yaml#mine", out="third")

    assert (refused, err.count("\n")) == (2, 1)
    assert "out already holds another run" in err
    assert (second["hits"], second["sent"]) == (0, first["sent"])
    assert (third["hits"], third["sent"]) == (first["sent"], 0)


def test_a_file_of_laws_that_was_moved_says_the_same(call: Call, tmp_path: Path) -> None:
    """Draws depend on a law's name, not on where its file lies; the models of both files are kept apart."""
    for name in ("laws.yaml", "moved.yaml"):
        (tmp_path / name).write_text("mine: {tpr: 0.8, fpr: 0.1}\n", encoding="utf-8")
    ask(call, model="simulated/laws.yaml#mine")
    moved = ask(call, model="simulated/moved.yaml#mine", out="moved")
    values = [
        [row["value"] for row in json.loads(Path(directory, "metrics.json").read_text(encoding="utf-8"))]
        for directory in ("out", "moved")
    ]

    assert moved["hits"] == 0
    assert values[0] == values[1]


REFUSED = [
    (("run", *SMALL, "--model", FAITHFUL, "--batch"), "simulated/faithful cannot be asked by batches"),
    (("plan", *SMALL, "--model", FAITHFUL, "--batch"), "simulated/faithful cannot be asked by batches"),
    (
        ("run", *SMALL, "--model", FAITHFUL, "--base-url", "http://127.0.0.1:9/v1"),
        "simulated/faithful is simulated, so no address is asked: leave out --base-url",
    ),
    (("probe", "--model", FAITHFUL, "--base-url", "http://127.0.0.1:9/v1"), "leave out --base-url"),
    (("run", *SMALL, "--model", "simulated/fathful"), "'fathful'; did you mean faithful?"),
    (("probe", "--model", "simulated/fathful"), "'fathful'; did you mean faithful?"),
    (("run", *SMALL, "--model", "simulated/none.yaml#mine"), "none.yaml: no such file of laws; check the path."),
    (("run", *SMALL, "--model", "simulated/none.yaml"), "write simulated/none.yaml#NAME."),
    (("run", *SMALL, "--model", "simulated/"), "names no provider"),
    (
        ("interventions", "build", *SMALL, "--kind", "editor", "--editor-model", FAITHFUL),
        "it answers multiple-choice questions only, so it cannot be the editor.",
    ),
    (("interventions", "build", *SMALL, "--judge-model", FAITHFUL), "so it cannot be the judge."),
    (
        ("run", *SMALL, "--model", "openai/x", "--base-url", "http://127.0.0.1:9", "--endpoint-name", "simulated:x"),
        "an endpoint named 'simulated:x' would pass for that of a simulated model",
    ),
]


@pytest.mark.parametrize(("arguments", "sentence"), REFUSED)
def test_what_a_simulated_model_cannot_do_is_refused_in_one_sentence(
    call: Call, arguments: tuple[str, ...], sentence: str
) -> None:
    """Exit 2, one line on standard error, and nothing is written."""
    code, out, err = call(*arguments)

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert sentence in err
    assert not list(Path().iterdir())


HOSTILE = {
    "too large": ("a: " + "x" * (1 << 20), "larger than 1 MiB"),
    "too deep": ("[" * 100_000, "nested too deep"),
    "holds itself": ("a: &a [*a]", "an anchor holds itself"),
    "grows by anchors": (
        "a0: &a0 [1, 1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40)),
        "holds more than 100,000 values",
    ),
    "a number as name": ("1: {tpr: 0.5}", "laws.yaml:1: the key '1' is not read as a text"),
    "a name of control characters": ('"a\\e[31m": {tpr: 0.5}', "cannot name a law"),
    "a name twice": ("mine: {tpr: 0.5}\nmine: {tpr: 0.6}", "laws.yaml:2: the key 'mine' stands twice"),
    "no number": ("other: {}\nmine: {tpr: .nan}", "laws.yaml:2: mine.tpr: Input should be"),
    "yes for a rate": ("mine:\n  tpr: yes", "laws.yaml:2: mine.tpr: write a number"),
    "endless parameters": ("mine: {parameters: .inf}", "mine.parameters: Input should be a finite number"),
    "an object": ("mine: !!python/object/apply:os.getcwd []", "bad YAML"),
    "no law": ("mine: 3", "laws.yaml:1: mine: Input should be a valid dictionary"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_of_laws_is_refused_in_one_sentence(call: Call, tmp_path: Path, name: str) -> None:
    """Bounded, with the file's name and, where there is one, the line."""
    text, sentence = HOSTILE[name]
    (tmp_path / "laws.yaml").write_text(text, encoding="utf-8")
    code, out, err = call("run", *SMALL, "--model", "simulated/laws.yaml#mine")

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert sentence in err
    assert len(err) < 400
