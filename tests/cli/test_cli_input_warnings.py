"""Input that would be ignored or lost is reported or refused: edited files, unknown labels, unused shots."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click
import pytest

from explaineval.cli.probe import probe
from explaineval.cost import reasons_first
from explaineval.datasets.taggers import how_to_install
from makers.command_line import Call

INSTALL_PAGE = Path(__file__).parents[2] / "docs" / "install.md"
HEADER = "pairID,gold_label,Sentence1,Sentence2,Explanation_1,Explanation_2,Explanation_3\n"
GOLDS = ("neutral", "entailment", "Neutral?", "-", "", "contradiction")


@pytest.fixture
def esnli(tmp_path: Path) -> Path:
    """An e-SNLI file with two gold labels that are none, and its interventions."""
    rows = [f"p{number},{gold},A man walks.,A man moves.,Walking is moving.,x,y\n" for number, gold in enumerate(GOLDS)]
    (tmp_path / "data.csv").write_text(HEADER + "".join(rows), encoding="utf-8")
    edit = {"kind": "hand", "field": "premise", "offset": 2, "inserted": "grumpy"}
    lines = [json.dumps({"example_id": f"p{number}", **edit}) + "\n" for number in range(len(GOLDS))]
    (tmp_path / "edits.jsonl").write_text("".join(lines), encoding="utf-8")
    return tmp_path


PLAN = ("plan", "--task", "esnli:data.csv", "--interventions", "edits.jsonl", "--model", "openai/x")
LOCAL = ("--base-url", "http://127.0.0.1:9/v1")


def test_unknown_gold_labels_are_counted(esnli: Path, call: Call) -> None:
    """A note says how many there are and what they are; blank ones are allowed."""
    code, out, err = call(*PLAN, *LOCAL, "--json")

    assert code == 0
    told = "esnli: 2 of 6 examples have a gold label that names no option, or several ('Neutral?', '-')"
    assert told in err
    warnings = [one for one in json.loads(out)["warnings"] if one["code"] == "gold_unknown"]
    assert [(one["grade"], one["row"], one["metric"]) for one in warnings] == [("mind", None, None)]
    assert warnings[0]["text"].startswith(told)


@pytest.mark.parametrize(
    ("golds", "unknown"), [(["a", "b"], 0), (["a", "c"], 1), (["", "b"], 0), (["A", "x"], 2)], ids=str
)
def test_gold_labels_of_ecqa_and_comve_are_counted_too(
    tmp_path: Path, call: Call, golds: list[str], unknown: int
) -> None:
    """The note is the same for every format."""
    lines = ["q_no,q_text,q_op1,q_op2,q_op3,q_op4,q_op5,q_ans,taskB"]
    lines += [f"q{number},What is it?,a,b,d,e,f,{gold},So." for number, gold in enumerate(golds)]
    (tmp_path / "ecqa.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    place = tmp_path / "comve"
    place.mkdir()
    (place / "subtaskA_data_all.csv").write_text("id,sent0,sent1\n0,He ate.,He flew.\n1,A b.,C d.\n", encoding="utf-8")
    digits = {"a": "0", "b": "1", "": ""}
    (place / "subtaskA_answers_all.csv").write_text(
        "".join(f"{number},{digits.get(gold, gold)}\n" for number, gold in enumerate(golds)), encoding="utf-8"
    )
    edits = [{"task": "ecqa", "example_id": f"q{number}", "field": "question"} for number in range(2)]
    edits += [{"task": "comve", "example_id": f"{number}", "field": "sentence1"} for number in range(2)]
    common = {"kind": "hand", "offset": 0, "inserted": "grumpy"}
    (tmp_path / "edits.jsonl").write_text("".join(json.dumps({**one, **common}) + "\n" for one in edits), "utf-8")
    tasks = ("--task", "ecqa:ecqa.csv", "--task", "comve:comve")
    code, _, err = call("plan", *tasks, "--interventions", "edits.jsonl", "--model", "openai/x", *LOCAL)

    assert code == 0
    for task in ("ecqa", "comve"):
        assert (
            f"{task}: {unknown} of 2 examples {'has' if unknown == 1 else 'have'} a gold label that names no option"
            in err
        ) is (unknown > 0)


@pytest.mark.parametrize("more", [(), ("--shots", "0")])
def test_shots_from_without_shots_is_refused(esnli: Path, call: Call, more: tuple[str, ...]) -> None:
    """In chat no shots are shown unless --shots says how many, so the file would be ignored: exit 2."""
    code, _, err = call(*PLAN, *LOCAL, "--shots-from", "nli", *more)

    assert code == 2
    assert re.search(r"--shots-from nli would be ignored.*add --shots N", err)
    assert call(*PLAN, *LOCAL, "--shots-from", "nli", "--shots", "2")[0] == 0


def test_shots_from_that_serve_one_style_alone_are_told(esnli: Path, call: Call) -> None:
    """The note says so: completion style shows 8 of them, chat none."""
    code, _, err = call(*PLAN, *LOCAL, "--shots-from", "nli", "--style", "completion", "--style", "chat")

    assert code == 0
    assert "chat style shows no shots of --shots-from" in err


BUILD = ("interventions", "build", "--task", "nli", "--limit", "2", "--kind", "cue_user", "--out", "F.jsonl")


def test_a_file_that_was_edited_is_not_overwritten(tmp_path: Path, call: Call) -> None:
    """A changed, an added, a removed line: exit 2, and the file stays as it is; --force replaces it."""
    assert call(*BUILD)[0] == 0
    path = tmp_path / "F.jsonl"
    built = path.read_text(encoding="utf-8")
    assert call(*BUILD)[0] == 0
    lines = built.splitlines(keepends=True)
    for edited in (built.replace("I think", "I believe", 1), built + lines[0], "".join(lines[1:]), "notes\n"):
        assert edited != built
        path.write_text(edited, encoding="utf-8")
        code, _, err = call(*BUILD)
        assert code == 2
        assert "F.jsonl exists and differs" in err
        assert "--force" in err
        assert path.read_text(encoding="utf-8") == edited
    assert call(*BUILD, "--force")[0] == 0
    assert path.read_text(encoding="utf-8") == built


def test_a_device_takes_the_lines(tmp_path: Path, call: Call) -> None:
    """A device, which cannot be replaced, is written to."""
    code, _, err = call(*BUILD[:-1], "/dev/null")

    assert (code, Path("/dev/null").is_file()) == (0, False)
    assert "interventions written to /dev/null" in err


@pytest.mark.parametrize("surplus", range(1, 17))
def test_a_few_tokens_around_the_answer_are_no_reasoning(surplus: int) -> None:
    """A total that exceeds the sum by a few tokens of turn markers is no sign of reasoning."""
    assert not reasons_first({"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14 + surplus})


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 90},
        {"prompt_tokens": 9, "completion_tokens": 50, "completion_tokens_details": {"reasoning_tokens": 1}},
    ],
)
def test_reasoning_that_is_counted_is_reasoning(usage: dict[str, object]) -> None:
    """Reasoning is recognised by its own count, or by far more output than the answer has."""
    assert reasons_first(usage)


def test_probe_takes_one_model_and_says_so() -> None:
    """The help does not call --model repeatable."""
    # click keeps the options of help that it made for the first context: those of the other tests
    help_text = probe.get_help(click.Context(probe, info_name="probe", help_option_names=["-h", "--help"]))

    assert "epeatable" not in help_text


def test_a_page_names_what_building_words_needs() -> None:
    """docs/install.md has the commands that the error sentence names."""
    text = " ".join(INSTALL_PAGE.read_text(encoding="utf-8").split())

    commands = re.findall(r"`((?:pip|python) [^`]+)`", how_to_install())
    assert len(commands) == 3
    for command in commands:
        assert f"`{command.replace(f'{INSTALL_PAGE.parents[1]}/', '')}`" in text
