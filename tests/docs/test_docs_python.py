"""docs/python.md: its code is run from top to bottom, and prints what the page says."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import explaineval
from explaineval.scoring.external import COLUMNS

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
README = PAGE.parents[1] / "README.md"
SETTINGS = PAGE.with_name("running.md")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> list[tuple[str, str]]:
    """Language and content of each block of the page."""
    return BLOCK.findall(PAGE.read_text(encoding="utf-8"))


def execute(code: str, names: dict[str, Any], line: int) -> None:
    """Run a block as a notebook does: `await` may stand outside of functions, and then an event loop runs."""
    compiled = compile(code, f"{PAGE.name} block {line}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if compiled.co_flags & inspect.CO_COROUTINE:

        async def cell() -> None:
            await eval(compiled, names)  # noqa: S307 - the code of the page

        asyncio.run(cell())
    else:
        exec(compiled, names)  # noqa: S102 - the code of the page


def test_the_code_runs_and_prints_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one session in an empty directory, from top to bottom; a block `text` is what the block above it prints."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    printed, checked = "", 0
    for number, (language, content) in enumerate(blocks()):
        if language == "python":
            capsys.readouterr()
            execute(content, names, number)
            printed = capsys.readouterr().out
        elif language == "text":
            assert [line.rstrip() for line in printed.splitlines()] == content.splitlines()
            checked += 1
    assert checked == 3
    assert Path("runs/first/metrics.csv").is_file()


def test_the_page_names_every_function_and_every_column() -> None:
    """A new function or column without a line on the page is not documented."""
    text = PAGE.read_text(encoding="utf-8")

    functions = [name for name in explaineval.__all__ if name.islower() and not name.startswith("_")]
    assert [name for name in (*functions, *COLUMNS) if f"`{name}`" not in text] == []


def test_the_readme_leads_to_the_page_and_the_page_to_the_settings() -> None:
    """By links whose headings exist."""
    assert "(docs/python.md)" in README.read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", SETTINGS.read_text(encoding="utf-8"), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    linked = re.findall(rf"{SETTINGS.name}#([\w-]+)", PAGE.read_text(encoding="utf-8"))
    assert linked
    assert set(linked) <= anchors
