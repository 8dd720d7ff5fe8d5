"""The documentation as a site: no page is left out, every command is named, and links between all pages hold."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
import yaml

import explaineval
from explaineval.cli.app import app
from explaineval.mentions import already_present, mentions, mentions_phrase
from explaineval.parsing import parse, parse_explanation, parse_label
from explaineval.prompts import PromptBook

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
INDEX = (DOCS / "index.md").read_text(encoding="utf-8")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#([^)\s]+))?\)")


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    """scripts/site_pages.py, which is no module of the package."""
    spec = importlib.util.spec_from_file_location("site_pages", ROOT / "scripts" / "site_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def named_in(nav: Any) -> Iterator[str]:
    """The pages that a part of the navigation names."""
    if isinstance(nav, str):
        yield nav
    else:
        for part in nav.values() if isinstance(nav, dict) else nav:
            yield from named_in(part)


def test_the_navigation_names_every_page_once(hook: ModuleType) -> None:
    """Those in docs/, and those that the hook adds."""
    config = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # noqa: S506 - texts
    pages = [path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")]

    assert sorted(named_in(config["nav"])) == sorted([*pages, *hook.PAGES.values()])
    assert config["strict"] == "true"
    assert config["theme"]["font"] == "false"


def test_the_index_leads_to_every_page(hook: ModuleType) -> None:
    """By a link from docs/index.md."""
    linked = {(DOCS / path).resolve().relative_to(ROOT).as_posix() for path, _ in LINK.findall(INDEX)}
    pages = {f"docs/{path.relative_to(DOCS).as_posix()}" for path in DOCS.rglob("*.md")} - {"docs/index.md"}

    assert (pages | hook.PAGES.keys()) - linked == set()


def test_the_readme_and_the_index_have_no_dead_link() -> None:
    """Also as plain files, without the site."""
    for source in (ROOT / "README.md", DOCS / "index.md"):
        paths = [path for path, _ in LINK.findall(source.read_text(encoding="utf-8")) if "://" not in path]
        assert paths
        assert [path for path in paths if not (source.parent / path).exists()] == []


def test_the_index_names_every_command() -> None:
    """A command that is not in the table of tasks is not found."""
    names = set[str]()

    def walk(command: click.Command, words: tuple[str, ...]) -> None:
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                walk(inner, (*words, name))
        else:
            names.add(" ".join(words))

    walk(app, ())
    commands = re.findall(r"`(?:explaineval )?([^`]+)`", INDEX)
    assert [name for name in sorted(names) if not any(f"{text} ".startswith(f"{name} ") for text in commands)] == []


def test_the_api_page_has_every_public_name() -> None:
    """The names of the package, and the pure functions that may be imported."""
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    heads = re.findall(r"heading: ([\w.]+)", page)
    functions = {
        "explaineval.parsing": (parse, parse_label, parse_explanation),
        "explaineval.mentions": (mentions, already_present, mentions_phrase),
        "explaineval.prompts": (PromptBook,),
    }
    names = [f"explaineval.{name}" for name in explaineval.__all__ if not name.startswith("_")]
    names += [f"{module}.{member.__name__}" for module, members in functions.items() for member in members]

    assert [name for name in names if name not in heads] == []


@pytest.mark.parametrize(
    ("source", "page", "link", "there"),
    [
        ("README.md", "project/readme.md", "[a](docs/method.md#noise)", "[a](../method.md#noise)"),
        ("README.md", "project/readme.md", "![a](docs/images/x.png)", "![a](../images/x.png)"),
        ("README.md", "project/readme.md", "[a](CHANGELOG.md)", "[a](changelog.md)"),
        ("docs/money.md", "money.md", "[a](../README.md#papers)", "[a](project/readme.md#papers)"),
        ("docs/money.md", "money.md", "[a](files.md)", "[a](files.md)"),
        ("docs/money.md", "money.md", "[a](#the-cache)", "[a](#the-cache)"),
        ("README.md", "project/readme.md", "see [the licence](LICENSE).", "see the licence."),
        ("README.md", "project/readme.md", "[a](https://example.org/x.md)", "[a](https://example.org/x.md)"),
        ("README.md", "project/readme.md", "[a](gone.md)", "[a](gone.md)"),
        ("README.md", "project/readme.md", "`[a](CHANGELOG.md)`", "`[a](CHANGELOG.md)`"),
        ("README.md", "project/readme.md", "```\n[a](CHANGELOG.md)\n```", "```\n[a](CHANGELOG.md)\n```"),
    ],
)  # fmt: skip
def test_links_lead_to_pages_of_the_site(hook: ModuleType, source: str, page: str, link: str, there: str) -> None:
    """A file that the site does not have is named only; what leads nowhere stays, so that the build fails."""
    assert hook.point_links(link, source, page) == there
