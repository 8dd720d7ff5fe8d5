"""`explaineval interventions build` and `show`: files, notes, refusals, exit codes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from explaineval.cli.app import main
from explaineval.cli.configuration import resolve_role
from explaineval.datasets.taggers import PIPELINES
from explaineval.prompts import PromptBook, default_directory
from servers.scripted import ScriptedServer

TEXT = "The zq{} dog runs home."
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`explaineval interventions …` in a directory with a task of three examples: exit code and both outputs."""
    monkeypatch.chdir(tmp_path)
    rows = [
        {"id": f"x{n}", "fields": {"note": TEXT.format(n)}, "options": {"A": "yes", "B": "no"}, "gold": "A"}
        for n in range(3)
    ]
    Path("mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["interventions", arguments[0], "--task", "jsonl:mine.jsonl", *arguments[1:]])
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return run


def read(path: str) -> list[dict[str, Any]]:
    """The lines of an interventions file."""
    return [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]


def editor(prompt: str) -> tuple[str, None]:
    """Inserts adjectives before the dog; at the second example always changes the verb too."""
    found = re.search(r"Note: (The (zq\d) dog runs home\.)", prompt)
    assert found is not None
    avoid = prompt.partition("none of")[2]
    word = next((word for word in ("old", "big", "small", "young") if f" {word}" not in avoid), "old")
    text = found[1].replace(" dog", f" [{word}] dog")
    return "Edited: " + (text.replace("runs", "ran") if found[2] == "zq1" else text), None


def judge(prompt: str) -> tuple[str, dict[str, float]]:
    """Finds big dogs natural."""
    yes = 0.9 if '"big"' in prompt else 0.2
    return f"Answer: {'A' if yes > 0.5 else 'B'}", {"A": yes, "B": 0.99 - yes}


def test_cues_come_with_their_controls(command: Command) -> None:
    """Two lines an example: the cue with its letter, never the gold one, and the control; the file can be shown."""
    code, _, err = command("build", "--shots", "0", "--kind", "cue_expert", "--out", "F.jsonl")
    lines = read("F.jsonl")

    assert (code, len(lines)) == (0, 6)
    assert "6 interventions written to F.jsonl." in err
    assert [(line["kind"], line.get("target")) for line in lines] == 3 * [
        ("cue_expert", "B"),
        ("cue_expert_control", None),
    ]
    assert not any(key in line for line in lines for key in ("field", "offset", "edited"))
    code, shown, err = command("show", "F.jsonl")
    assert (code, err) == (0, "")
    assert re.search(r"x0 .* cue_expert → B +A professor of this subject says the answer is \(B\)\.", shown)
    assert re.search(r"x0 .* cue_expert_control +A professor", shown)


def test_an_editor_and_a_judge_work_in_turn(command: Command) -> None:
    """The judge keeps the big ones of the editor's words; the notes say what was refused, kept and paid."""
    with ScriptedServer(script=lambda prompt: (editor if "Insert" in prompt else judge)(prompt)) as server:
        models = ["--editor-model", "openai/e", "--editor-base-url", server.url, "--editor-price", "1,1"]
        models += ["--judge-model", "openai/j", "--judge-base-url", server.url, "--judge-price", "1,1"]
        build = ("build", "--shots", "0", "--per-example", "3", "--null-edits", "--out", "F.jsonl", *models)
        code, _, err = command(*build, "--keep-share", "0.4", "--max-usd", "1")
        asked = len(server.prompts)
        first = Path("F.jsonl").read_bytes()
        again, _, _ = command(*build, "--keep-share", "0.4", "--offline")

        assert (code, again, asked) == (0, 0, len(server.prompts))
    assert first == Path("F.jsonl").read_bytes()
    kinds = [(line["example_id"], line["kind"], line["inserted"]) for line in read("F.jsonl")]
    assert kinds == [
        ("x0", "editor_natural", "big"), ("x0", "null_edit", " "),
        ("x2", "editor_natural", "big"), ("x2", "null_edit", " "),
    ]  # fmt: skip
    assert "editor: 6 words inserted, refused: " in err
    assert re.search(r"\d+ something else was changed", err)
    assert "editor: 3 words fewer than asked for" in err
    assert "judge: 2 of 6 candidates kept by probability; 0 of them were judged not natural." in err
    assert re.search(r"judge: 6 distinct requests: 0 from the cache, 6 sent .* Spent \$0\.000\d", err)


def test_a_budget_that_is_spent_leaves_the_old_file(command: Command) -> None:
    """Exit code 3, one sentence, and the old file unchanged."""
    Path("F.jsonl").write_text("before\n", "utf-8")
    with ScriptedServer(script=editor) as server:
        models = ("--editor-model", "openai/e", "--editor-base-url", server.url, "--editor-price", "1,1")
        code, _, err = command("build", "--shots", "0", "--out", "F.jsonl", *models, "--max-usd", "0.001")

    assert code == 3
    assert "spending limit" in err
    assert Path("F.jsonl").read_text("utf-8") == "before\n"
    code, out, _ = command("build", "--shots", "0", "--json", *models, "--offline")
    assert code == 4
    assert json.loads(out)["error"]["code"] == 4


def test_editor_and_judge_share_one_limit(tmp_path: Path) -> None:
    """The judge's limit is what the editor left of --max-usd; without --max-usd there is none."""
    asked = {"judge_model": "openai/j", "judge_base_url": None, "judge_api_key_env": None, "judge_price": "1,1"}
    given = {**asked, "cache": tmp_path, "offline": False}
    book = PromptBook(default_directory())
    left = [resolve_role("judge", {**given, "max_usd": limit}, book, 0.4).client.max_usd for limit in (1.0, 0.3, None)]

    assert left == [pytest.approx(0.6), 0.0, None]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--kind", "cue_nobody"),
            "unknown kind 'cue_nobody': choose from random_word, random_word_atanasova, editor, random_nonword, ",
        ),
        (("--kind", "editor"), "needs --editor-model"),
        (("--kind", "random_word", "--editor-model", "openai/x"), "--editor-model builds the kind editor"),
        (("--kind", "cue_user", "--compat", "atanasova"), "--compat changes random words"),
        (("--kind", "cue_user", "--judge-model", "openai/x"), "nothing to judge"),
        (("--kind", "cue_user", "--null-edits"), "no place for a space"),
        (("--kind", "cue_user", "--per-example", "3"), "leave out --per-example"),
        (("--editor-model", "gpt"), "names no provider"),
        (("--editor-model", "openai/no-such", "--max-usd", "1"), "give --editor-price IN,OUT"),
        (("--keep-share", "0"), "keep-share"),
    ],
)
def test_options_that_do_not_go_together_exit_2(command: Command, arguments: tuple[str, ...], message: str) -> None:
    """One sentence each, before anything is asked."""
    code, _, err = command("build", "--shots", "0", *arguments)

    assert code == 2
    assert message in err
    assert err.count("\n") == 1 or "no tagger" in err


LINES = [  # line, what is said
    ({"kind": "mine", "inserted": "It is (B)."}, None),
    ({"kind": "cue_user", "inserted": "It is (B).", "target": "B"}, None),
    ({"kind": "cue_user", "inserted": "It is (C).", "target": "C"}, "points to option 'C'"),
    ({"kind": "cue_user_control", "inserted": "Well?", "target": "B"}, "is the control of a cue"),
    ({"kind": "cue_user", "inserted": "x", "field": "note", "offset": 4}, "stands beside the fields"),
    ({"kind": "cue_user", "inserted": "x", "offset": 4}, "has 'offset' but no field"),
    ({"kind": "editor_natural", "inserted": "x"}, "has no field"),
    ({"kind": "null_edit", "inserted": " ", "field": "note", "offset": 4}, "must have one space"),
]


@pytest.mark.parametrize(("line", "message"), LINES)
def test_own_lines_are_checked_and_errors_name_them(
    command: Command, line: dict[str, object], message: str | None
) -> None:
    """An own cue needs no target; a line that does not fit is refused with file and line."""
    good = {"example_id": "x1", "kind": "mine", "field": "note", "offset": 4, "inserted": "old"}
    Path("F.jsonl").write_text(json.dumps(good) + "\n" + json.dumps({"example_id": "x0", **line}) + "\n", "utf-8")
    code, _, err = command("show", "F.jsonl")

    assert code == (0 if message is None else 2)
    assert message is None or (message in err and "F.jsonl:2" in err)


def test_a_word_cut_in_two_is_reported(command: Command) -> None:
    """An offset inside a word gets a warning; one at a word's start does not."""
    base = {"kind": "mine", "field": "note", "inserted": "old"}
    rows = [{"example_id": f"x{n}", "offset": offset, **base} for n, offset in enumerate((6, 4, 8))]
    rows += [{"example_id": "x0", "offset": 6, **base, "inserted": f"old{n}"} for n in range(6)]
    Path("F.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    code, out, err = command("show", "F.jsonl")

    assert code == 0
    assert "The zq[old] 0 dog" in out
    assert err.count("cuts a word in two: offset 6 of 'note'") == 5
    assert "2 more interventions cut a word in two." in err


@pytest.fixture
def tagger() -> None:
    """Skips where spaCy or its pipeline is missing."""
    spacy = pytest.importorskip("spacy", reason="spaCy is not installed (extra `interventions`)")
    if not any(spacy.util.is_package(name) for name in PIPELINES):
        pytest.skip("no English pipeline of spaCy is installed")


@pytest.mark.usefixtures("tagger")
def test_the_original_and_ours_differ_in_kind_and_text(command: Command) -> None:
    """`--compat atanasova` joins tokens by spaces and is a kind of its own; ours leaves the full stop where it is."""
    ours = json.loads(command("build", "--shots", "0", "--json", "--per-example", "2")[1])
    theirs = json.loads(command("build", "--shots", "0", "--json", "--per-example", "2", "--compat", "atanasova")[1])

    assert {line["kind"] for line in ours} == {"random_word"}
    assert {line["kind"] for line in theirs} == {"random_word_atanasova"}
    assert not any("edited" in line for line in ours)
    assert all(line["edited"].endswith(" home .") for line in theirs)


@pytest.mark.usefixtures("tagger")
def test_a_judge_asks_for_twenty_candidates_and_keeps_four(command: Command) -> None:
    """That is the default; the candidates are the random words of a build without a judge."""
    with ScriptedServer(script=judge) as server:
        models = ("--judge-model", "openai/j", "--judge-base-url", server.url)
        kept = json.loads(command("build", "--shots", "0", "--limit", "1", "--json", *models)[1])

    assert (len(server.prompts), len(kept)) == (20, 4)
    plain = json.loads(command("build", "--shots", "0", "--limit", "1", "--json", "--per-example", "20")[1])
    words = [line["inserted"] for line in plain]
    assert [line["kind"] for line in kept] == 4 * ["random_word_natural"]
    assert [words.index(line["inserted"]) for line in kept] == sorted(words.index(line["inserted"]) for line in kept)
