"""docs/cues.md: its files make a cue, its commands build and run it, and its table is that of the bundled cues."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from explaineval.prompts import PromptBook, default_directory
from servers.commands import run

PAGE = (Path(__file__).parents[2] / "docs" / "cues.md").read_text(encoding="utf-8")
TEXTS = re.compile(r"`(forum\w*(?:\.\w+)?\.txt)`[^`]*(?:`[^`]+`[^`]*)*?\n\n```text\n(.*?)```", re.DOTALL)
COMMANDS = re.compile(r"^explaineval (.*--prompts my-prompts.*)$", re.MULTILINE)


def test_the_example_of_the_page_is_a_cue(tmp_path: Path) -> None:
    """Its four files and two commands, as they stand there."""
    shutil.copytree(default_directory(), tmp_path / "my-prompts")
    texts = dict(TEXTS.findall(PAGE))
    for name, text in texts.items():
        (tmp_path / "my-prompts" / "cues" / name).write_text(text, encoding="utf-8")
    build, measure = (run(*command.split(), cwd=tmp_path) for command in COMMANDS.findall(PAGE))

    assert sorted(texts) == ["forum.negative.txt", "forum.phrases.txt", "forum.txt", "forum_control.txt"]
    assert (build.code, measure.code) == (0, 0), build.stderr + measure.stderr
    lines = [json.loads(line) for line in (tmp_path / "forum.jsonl").read_text("utf-8").splitlines()]
    assert [line["kind"] for line in lines] == ["cue_forum", "cue_forum_control"] * 20
    for cue in lines[::2]:
        assert cue["inserted"] == f"The most popular reply in a forum on this question was ({cue['target']})."
    rows = json.loads(next((tmp_path / "runs").glob("*/metrics.json")).read_text("utf-8"))
    assert {row["kind"] for row in rows if row["metric"] == "flip_to_cue_rate"} == {"cue_forum", "cue_forum_control"}


def test_the_table_lists_the_bundled_cues() -> None:
    """All of them, each once."""
    listed = re.findall(r"^\| `cue_(\w+)` ", PAGE, re.MULTILINE)

    assert sorted(listed) == sorted((*PromptBook(default_directory()).cue_names(), "pattern"))
