"""Whole counterfactuals of a file and removed words: asked, scored and shown like insertions."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from explaineval.datasets import load_tasks, parse_specs
from makers.command_line import Call
from servers.scripted import ScriptedServer

EXAMPLES = 40
WORDS = ("velvet", "crimson", "gravel", "marble")
LAW = "mixed: {impact: 0.4, tpr: 0.7, fpr: 0.2, reasoning_tpr: 0.6, reasoning_fpr: 0.1}\n"


def insertions(kind: str) -> list[dict[str, Any]]:
    """Four words for each example, each in front of its first sentence."""
    (task,) = load_tasks(parse_specs(("sense",), {}), shots=0, limit=EXAMPLES)
    edit = {"field": "sentence1", "offset": 0}
    return [
        {"id": f"{kind}-{word}-{example.id}", "example_id": example.id, "kind": kind, "inserted": word, **edit}
        for example in task.examples
        for word in WORDS
    ]


def rows(directory: str, kind: str | None) -> dict[str, Any]:
    """The numbers of a kind, by metric, source of mentions and level."""
    found = json.loads((Path(directory) / "metrics.json").read_text("utf-8"))
    return {
        " ".join(map(str, (row["metric"], row["channel"], row["mention"], row["order"], row["verbosity"]))): (
            row["value"], row["low"], row["high"], row["n"], row["n_examples"], row["undefined"],
        )
        for row in found
        if row["kind"] == kind
    }  # fmt: skip


def ask(call: Call, lines: list[dict[str, Any]], out: str, *more: str) -> str:
    """Run planted models with these interventions."""
    Path("edits.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    Path("law.yaml").write_text(LAW, "utf-8")
    model = ("--model", "simulated/law.yaml#mixed", "--task", "sense", "--limit", str(EXAMPLES))
    code, text, err = call("run", *model, "--interventions", "edits.jsonl", "--out", out, *more)
    assert code == 0, err
    return text


def number_of_requests(text: str) -> int:
    """The number of distinct requests that a run tells."""
    found = re.search(r"([\d,]+) distinct requests", text)
    assert found is not None
    return int(found[1].replace(",", ""))


@pytest.mark.parametrize("order", ["pe", "pe2"])
def test_removals_give_the_numbers_of_the_insertions_that_they_reverse(call: Call, order: str) -> None:
    """Every number of the kind and of the arm, in every channel; and not a single request more."""
    levels = ("--verbosity", "brief", "--verbosity", "normal") if order == "pe2" else ()
    text = ask(call, insertions("handwritten") + insertions("removed_word"), "both", "--order", order, *levels)
    put_in, taken_out = rows("both", "handwritten"), rows("both", "removed_word")

    assert taken_out == put_in
    assert put_in[f"impact_rate None None {order} normal"][0] > 0
    assert put_in[f"tpr explanation word {order} normal"][0] not in (0, 1)
    again = ask(call, insertions("handwritten"), "one", "--order", order, *levels)
    assert rows("one", None) == rows("both", None)
    assert number_of_requests(again) == number_of_requests(text)
    if order == "pe":
        assert "Removing a word changed" in text


def test_the_trials_of_a_removal_name_both_sides(call: Call) -> None:
    """The word stands in the input before; the explanation before is searched for it."""
    ask(call, insertions("removed_word"), "out")
    trials = [json.loads(line) for line in Path("out/trials.jsonl").read_text("utf-8").splitlines()]
    trials = [trial for trial in trials if (trial["kind"], trial["status"]) == ("removed_word", "ok")]

    assert len(trials) > 3 * EXAMPLES
    for trial in trials:
        assert trial["text_before"] == f"{trial['inserted']} {trial['text_after']}"
        assert trial["removed_from"] == "edited"
        assert trial["mentioned"] == (trial["inserted"] in trial["explanation_before"])
        assert trial["inserted"] not in trial["explanation"]


def pairs() -> list[dict[str, Any]]:
    """An exchange in both sentences, a removal of the second word, and phrases that both inputs have."""
    (task,) = load_tasks(parse_specs(("sense",), {}), shots=0, limit=EXAMPLES)
    lines: list[dict[str, Any]] = []
    for example in task.examples:
        first, second = example.fields["sentence1"], example.fields["sentence2"]
        word = max(first.rstrip(".").split(), key=len).strip(",.'")
        both = {"sentence1": f"velvet {first}", "sentence2": f"marble {second}"}
        lines += [
            {"id": f"x-{example.id}", "example_id": example.id, "kind": "exchange", "fields": both,
             "mention": ["velvet", "marble"]},
            {"id": f"r-{example.id}", "example_id": example.id, "kind": "lost",
             "fields": {"sentence1": first.replace(word, ""), "sentence2": second.replace(word, "")},
             "mention": [word]},
            {"id": f"b-{example.id}", "example_id": example.id, "kind": "vain",
             "fields": {"sentence1": f"gravel {first}"}, "mention": [word]},
        ]  # fmt: skip
    return lines


@pytest.fixture
def trials(call: Call) -> dict[str, list[dict[str, Any]]]:
    """Run the pairs; trials by kind."""
    ask(call, pairs(), "out")
    found: dict[str, list[dict[str, Any]]] = {}
    for line in Path("out/trials.jsonl").read_text("utf-8").splitlines():
        trial = json.loads(line)
        found.setdefault(trial["kind"], []).append(trial)
    return found


def test_phrases_are_looked_for_where_they_are_new(trials: dict[str, list[dict[str, Any]]]) -> None:
    """In the explanation of the input that has them; where both have them, the pair is not asked."""
    assert {trial["status"] for trial in trials["exchange"] + trials["lost"]} == {"ok"}
    assert {trial["status"] for trial in trials["vain"]} == {"already_in_prompt"}
    for trial in trials["exchange"]:
        named = any(word in trial["explanation"] for word in ("velvet", "marble"))
        assert (trial["mentioned"], trial["inserted"]) == (named, "velvet / marble")
        assert set(trial["fields_after"]) == {"sentence1", "sentence2"}
    assert 0 < sum(trial["mentioned"] for trial in trials["exchange"]) < EXAMPLES
    for trial in trials["lost"]:
        assert trial["removed_from"] == "original"
        assert trial["mentioned"] == (trial["inserted"].lower() in trial["explanation_before"].lower())
    assert 0 < sum(trial["mentioned"] for trial in trials["lost"]) < EXAMPLES


@pytest.mark.usefixtures("trials")
def test_pairs_are_shown_and_exported(call: Call) -> None:
    """`interventions show`, `show`, page, exports, scores by other policies, plan and bundle cope."""
    _, shown, _ = call("interventions", "show", "edits.jsonl", "--task", "sense", "--limit", "1")
    assert "exchange: sentence1, sentence2" in " ".join(shown.split())
    assert "[velvet]" in shown
    _, shown, _ = call("show", "out", "--example", "sense-001")
    assert "another input, named by 'velvet / marble'" in shown
    assert "taken out of" in shown
    for command in (
        ("score", "out", "--mention", "word", "--mention", "substring"),
        ("report", "out", "--out", "page.html"),
        ("export", "out", "--rows", "trials", "--out", "rows.csv"),
        ("export", "out", "--rows", "trials", "--out", "rows.parquet"),
        ("export", "out", "--out", "bundle.zip"),
        ("reproduce", "bundle.zip"),
        ("notes", "out"),
        ("plan", "--model", "simulated/faithful", "--task", "sense", "--interventions", "edits.jsonl"),
        ("export", "out", "--out", "card.md", "--format", "card"),
        ("cache", "explain", "out"),
        ("show", "out", "--list", "--only", "missing"),
    ):
        code, _, err = call(*command)
        assert code == 0, (command, err)
    assert '"also"' in Path("page.html").read_text("utf-8")


def test_shards_of_pairs_merge_to_the_whole(call: Call) -> None:
    """The trials of two shards are those of one run."""
    ask(call, pairs(), "whole")
    for number in "12":
        ask(call, pairs(), f"part{number}", "--shard", f"{number}/2")
    code, _, err = call("merge", "part1", "part2", "--out", "merged")
    assert code == 0, err
    whole, merged = (
        sorted((Path(name) / "trials.jsonl").read_text("utf-8").splitlines()) for name in ("whole", "merged")
    )
    assert merged == whole


def test_a_judge_reads_the_explanation_whose_input_had_it(call: Call) -> None:
    """Of a removal that is the one before; the input that it is shown has the word."""
    ask(call, insertions("removed_word")[:8], "out")

    def judge(prompt: str) -> tuple[str, None]:
        return ("A", None)

    with ScriptedServer(script=judge) as server:
        code, _, err = call(
            "judge", "out", "--judge-model", "openai/j", "--judge-base-url", server.url, "--transport", "direct"
        )
    assert code == 0, err
    trials = [json.loads(line) for line in Path("out/trials.jsonl").read_text("utf-8").splitlines()]
    said = {trial["explanation_before"] for trial in trials if trial["kind"] == "removed_word"}
    assert said
    assert all(any(text in prompt for prompt in server.prompts) for text in said)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"fields": {}}, "'fields' must be an object with the text of each changed field"),
    ({"fields": {"sentence1": 3}}, "'fields' must be an object"),
    ({"fields": {"nowhere": "x"}}, "names the field 'nowhere'"),
    ({"mention": []}, "'mention' must be a list of phrases"),
    ({"mention": "velvet"}, "'mention' must be a list of phrases"),
    ({"fields": None}, "'fields' must be an object"),
    ({"inserted": "velvet"}, "'inserted' is of an insertion"),
    ({"kind": "random_word"}, "brings a whole input, which the kind 'random_word' does not"),
    ({"kind": "cue_user"}, "brings a whole input"),
]


@pytest.mark.parametrize(("change", "sentence"), BAD)
def test_a_bad_line_gets_one_sentence_with_its_line(call: Call, change: dict[str, Any], sentence: str) -> None:
    """The file, the line, and what is wrong."""
    good = {"example_id": "sense-001", "kind": "mine", "fields": {"sentence1": "velvet"}, "mention": ["velvet"]}
    lines = [good, {**good, "example_id": "sense-002", **change}]
    Path("edits.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    code, _, err = call("interventions", "show", "edits.jsonl", "--task", "sense")

    assert code == 2
    assert "edits.jsonl:2: " in " ".join(err.split())
    assert sentence in " ".join(err.split())


def test_one_kind_is_either_insertions_or_pairs(call: Call) -> None:
    """Both under one name would be counted together."""
    pair = {"example_id": "sense-001", "kind": "mine", "fields": {"sentence1": "velvet"}, "mention": ["velvet"]}
    edit = {"example_id": "sense-002", "kind": "mine", "field": "sentence1", "offset": 0, "inserted": "velvet"}
    Path("edits.jsonl").write_text(json.dumps(pair) + "\n" + json.dumps(edit) + "\n", "utf-8")
    code, _, err = call("interventions", "show", "edits.jsonl", "--task", "sense")

    assert code == 2
    assert "edits.jsonl:2: the kind 'mine' has insertions in some lines and whole inputs in others" in " ".join(
        err.split()
    )
