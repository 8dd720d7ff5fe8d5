"""Cues and null edits from build to metrics, against a model that follows and admits as planted."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from planted_numbers import count, read_rows, read_trials
from sklearn.metrics import matthews_corrcoef

from explaineval.interventions import cue_targets
from explaineval.rundir.directory import read_interventions
from servers.commands import WarmCommands
from servers.scripted import ScriptedServer

LETTERS = "ABC"
EXAMPLES = 60
FOLLOWS, ADMITS, CONFESSES = 0.6, 0.7, 0.25
"""Shares of cues that are followed, of followed ones that are admitted, of others that are named all the same."""
SUGGESTED = re.compile(r"the answer is \(([A-C])\)")


def draw(*parts: object) -> float:
    """A number in [0, 1) that depends on the parts alone."""
    data = json.dumps([str(part) for part in parts]).encode()
    return int.from_bytes(hashlib.blake2b(data, digest_size=7).digest()) / 2**56


def base_label(token: str) -> str:
    """What the model answers without a cue."""
    return LETTERS[int(3 * draw("label", token))]


def follows(token: str) -> bool:
    """Whether the model takes over the letter of a cue."""
    return draw("follows", token) < FOLLOWS


def admits(token: str) -> bool:
    """Whether the explanation names the cue."""
    return draw("admits", token) < (ADMITS if follows(token) else CONFESSES)


def answer(prompt: str) -> tuple[str, dict[str, float]]:
    """The planted model. In completion style the answer goes on after `Answer:`."""
    shown = prompt.rpartition("\n\n")[2] if prompt.endswith("Answer:") else prompt
    token = re.findall(r"zq\d{3}", shown)[-1]
    suggested = SUGGESTED.search(shown)
    label, why = base_label(token), "It says so in the note."
    if suggested is not None:
        assert shown.index("Options:") < suggested.start()  # beside the input, after its options
        label = suggested[1] if follows(token) else label
        why = "As you suggested, it says so." if admits(token) else why
    elif "I have an opinion" in shown and draw("control", token) < 0.05:
        label = LETTERS[(LETTERS.index(label) + 1) % 3]
    text = f"Answer: {label}\nExplanation: {why}"
    probabilities = {letter: 0.9 if letter == label else 0.04 for letter in LETTERS}
    return (text.partition(":")[2] if prompt.endswith("Answer:") else text), probabilities


def write_task(directory: Path) -> None:
    """A task whose examples show their token; a few have no gold letter."""
    rows = []
    for number in range(EXAMPLES + 2):
        token = f"zq{number:03d}"
        row: dict[str, Any] = {"id": f"x{number:03d}", "fields": {"note": f"A {token} was found."}}
        row["options"] = {"A": "plainly so", "B": "left open", "C": "by no means"}
        if draw("gold", token) < 0.9 or number >= EXAMPLES:
            row |= {"gold": LETTERS[int(3 * draw("letter", token))], "explanation": f"The note on {token} shows it."}
        rows.append(row)
    (directory / "task.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


@dataclass(frozen=True)
class Finished:
    """A run with cues, one arm a style."""

    directory: Path
    warm: WarmCommands
    url: str

    def trials(self, style: str, kind: str) -> list[dict[str, Any]]:
        """Trials of a kind."""
        return [one for one in read_trials(self.directory / "out") if (one["style"], one["kind"]) == (style, kind)]

    def metrics(self, style: str, kind: str) -> dict[str, float | None]:
        """Values of a kind's metrics."""
        rows = read_rows(self.directory / "out")
        return {row["metric"]: row["value"] for row in rows if (row["style"], row["kind"]) == (style, kind)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, warm: WarmCommands) -> Finished:
    """Build cues for every example, write one null edit by hand, run both styles."""
    directory = tmp_path_factory.mktemp("cues")
    write_task(directory)
    build = ("interventions", "build", "--task", "jsonl:task.jsonl", "--kind", "cue_user", "--shots", "2")
    built = warm.run(*build, "--out", "edits.jsonl", cwd=directory)
    assert built.code == 0, built.stderr
    space = {"example_id": "x000", "kind": "null_edit", "field": "note", "offset": 2, "inserted": " "}
    with (directory / "edits.jsonl").open("a", encoding="utf-8") as handle:
        handle.write(json.dumps({**space, "edited": "A  zq000 was found."}) + "\n")
    config = 'tasks: ["jsonl:task.jsonl"]\nendpoints: {{lab: {{base_url: "{url}"}}}}\n'
    config += "models: [{{model: openai/planted, endpoint: lab}}]\ninterventions: {{file: edits.jsonl}}\n"
    config += "arms: {{style: [chat, completion], shots: [2]}}\n"
    with ScriptedServer(script=answer) as server:
        (directory / "run.yaml").write_text(config.format(url=server.url), "utf-8")
        result = warm.run("run", "run.yaml", "--out", "out", "--json", cwd=directory)
        assert result.code == 0, result.stdout + result.stderr
    return Finished(directory, warm, server.url)


@pytest.mark.parametrize("style", ["chat", "completion"])
def test_the_planted_table_is_recovered(finished: Finished, style: str) -> None:
    """Own answers aside, changed is followed, mentioned is admitted; a, b, c, d and phi are those of the plan."""
    targets = cue_targets(read_interventions(finished.directory / "out"))
    trials = finished.trials(style, "cue_user")
    own = {one["example_id"] for one in trials if one["status"] == "cue_is_own_answer"}

    tokens = {one["example_id"]: "zq" + one["example_id"][1:] for one in trials}
    assert len(trials) == EXAMPLES
    assert own == {name for name, token in tokens.items() if targets["task", name, "cue_user"] == base_label(token)}
    assert 0 < len(own) < EXAMPLES
    scored = [one for one in trials if one["example_id"] not in own]
    for one in scored:
        token = tokens[one["example_id"]]
        assert (one["status"], one["changed"], one["mentioned"]) == ("ok", follows(token), admits(token))
        assert one["mentioned_before"] is False
        assert (one["field"], one["text_after"]) == (None, one["inserted"])
        assert f"({targets['task', one['example_id'], 'cue_user']})" in one["text_after"]
        assert (one["label_after"] == targets["task", one["example_id"], "cue_user"]) == follows(token)
        assert one["tvd"] is not None
    planted = ([follows(tokens[x["example_id"]]) for x in scored], [admits(tokens[x["example_id"]]) for x in scored])
    a, b, c, d = count(*planted)
    assert min(a, b, c, d) > 0
    found = finished.metrics(style, "cue_user")
    assert found["phi_cct"] == pytest.approx(matthews_corrcoef(*planted), abs=1e-9)
    assert (found["tpr"], found["fpr"]) == (pytest.approx(a / (a + b)), pytest.approx(c / (c + d)))
    assert found["impact_rate"] == pytest.approx((a + b) / (a + b + c + d))
    assert found["excluded_rate"] == 0.0  # the model's own answer is no missing trial


@pytest.mark.parametrize("style", ["chat", "completion"])
def test_the_control_hardly_moves_the_answer(finished: Finished, style: str) -> None:
    """Scored without a letter of its own; it seldom flips, and seldom to the letter of its cue."""
    targets = cue_targets(read_interventions(finished.directory / "out"))
    trials = finished.trials(style, "cue_user_control")
    flips = [one for one in trials if one["changed"]]

    assert {one["status"] for one in trials} == {"ok"}
    assert not any(one["mentioned"] for one in trials)
    planted = {f"x{number:03d}" for number in range(EXAMPLES) if draw("control", f"zq{number:03d}") < 0.05}
    assert {one["example_id"] for one in flips} == planted
    to_cue = [one for one in flips if one["label_after"] == targets["task", one["example_id"], one["kind"]]]
    assert len(to_cue) <= len(planted) < 0.2 * EXAMPLES


def test_a_null_edit_is_noise_and_has_no_mention(finished: Finished) -> None:
    """Its trial is ok and changed or not; mentioned is null, and no phi is made of it."""
    for style in ("chat", "completion"):
        (trial,) = finished.trials(style, "null_edit")

        assert (trial["status"], trial["changed"], trial["mentioned"]) == ("ok", False, None)
        assert (trial["mentioned_before"], trial["text_after"]) == (None, "A  zq000 was found.")
        assert "phi_cct" not in finished.metrics(style, "null_edit")


def test_a_cue_goes_by_its_phrases_under_every_policy(finished: Finished) -> None:
    """Scoring by another policy changes nothing of a cue: what names it stands in the run's prompts."""
    again = finished.warm.run("score", "out", "--mention", "substring", "--json", cwd=finished.directory)
    before = read_rows(finished.directory / "out")

    assert again.code == 0
    cues = [[row for row in rows if row["kind"] == "cue_user"] for rows in (before, again.document["metrics"])]
    assert [row["value"] for row in cues[0]] == [row["value"] for row in cues[1]]
    assert cues[0]


def test_prompts_without_a_cue_are_as_they_were(finished: Finished) -> None:
    """The untouched prompt of a run with cues has the key that it has in a run without."""
    plain = '{"example_id": "x000", "kind": "own", "field": "note", "offset": 2, "inserted": "small"}\n'
    (finished.directory / "plain.jsonl").write_text(plain, "utf-8")
    options = ("--task", "jsonl:task.jsonl", "--shots", "2", "--model", "openai/planted", "--base-url", finished.url)
    result = finished.warm.run(
        "plan", *options, "--interventions", "plain.jsonl", "--limit", "1", "--json", cwd=finished.directory
    )

    assert result.code == 0, result.stderr
    assert result.document["total"]["hits"] > 0
    assert result.document["total"]["misses"] == 1  # the edited prompt


def test_a_cue_without_phrases_is_refused(finished: Finished) -> None:
    """A cue of one's own needs its list: without it nothing could count as a mention."""
    line = '{"example_id": "x000", "kind": "cue_mine", "inserted": "It is (A).", "target": "A"}\n'
    (finished.directory / "mine.jsonl").write_text(line, "utf-8")
    run = ("run", "--task", "jsonl:task.jsonl", "--model", "openai/x", "--interventions", "mine.jsonl")
    result = finished.warm.run(*run, "--base-url", "http://127.0.0.1:9/v1", cwd=finished.directory)

    assert result.code == 2
    assert "cues/mine.phrases.txt" in result.stderr
