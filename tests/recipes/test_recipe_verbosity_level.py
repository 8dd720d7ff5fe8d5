"""Recipe: to add a verbosity level, add one file to the directory of prompts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from explaineval.prompts import default_directory
from servers.commands import WarmCommands
from servers.scripted import ScriptedServer

REQUEST = "<text> says why in at most five words, as in a telegram."


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmCommands]:
    """Commands without the seconds of litellm's import."""
    with WarmCommands(tmp_path_factory.mktemp("warm")) as commands:
        yield commands


@pytest.fixture
def own_prompts(tmp_path: Path) -> Path:
    """A copy of the bundled prompts with one more file, the level `telegram`."""
    directory = tmp_path / "own-prompts"
    shutil.copytree(default_directory(), directory)
    (directory / "verbosity" / "telegram.txt").write_text(REQUEST + "\n", "utf-8")
    return directory


@pytest.mark.slow
def test_a_new_level_is_one_file(warm: WarmCommands, own_prompts: Path, tmp_path: Path) -> None:
    """The level's text is asked, and the level stands in the table, in metrics.json and in the signatures."""
    with ScriptedServer(script=lambda _: ("Answer: A\nExplanation: It cannot be.", None)) as server:
        done = warm.run(
            "run", "--task", "sense", "--limit", "3", "--model", "openai/planted", "--base-url", server.url,
            "--prompts", own_prompts, "--verbosity", "telegram", "--out", "out", "--cache", "cache", cwd=tmp_path,
        )  # fmt: skip

    assert done.code == 0, done.stdout + done.stderr
    assert "telegram" in done.stdout
    assert any(REQUEST in prompt for prompt in server.prompts)
    rows = [row for row in json.loads((tmp_path / "out" / "metrics.json").read_text("utf-8")) if row["verbosity"]]
    assert {row["verbosity"] for row in rows} == {"telegram"}
    assert all("telegram" in row["signature"] for row in rows)


def test_an_unknown_level_is_refused_with_the_levels_there_are(
    warm: WarmCommands, own_prompts: Path, tmp_path: Path
) -> None:
    """Exit code 2, and one sentence that names the levels of the directory, the new one among them."""
    done = warm.run(
        "run", "--task", "sense", "--limit", "3", "--model", "openai/planted", "--base-url", "http://127.0.0.1:9",
        "--prompts", own_prompts, "--verbosity", "telegraph", "--out", "out", "--cache", "cache", cwd=tmp_path,
    )  # fmt: skip

    assert done.code == 2, done.stdout + done.stderr
    sentence = next(line for line in done.stderr.splitlines() if "telegraph" in line)
    assert "did you mean telegram?" in done.stderr
    for level in ("brief", "detailed", "exhaustive", "minimal", "normal", "telegram"):
        assert level in sentence
