"""A hook of mkdocs: Markdown files outside of docs/ become pages of the site too, and links between all of them hold.

A link to another file of the repository, which the site does not have, becomes its text alone. Whatever else a link
cannot reach is a warning of mkdocs, and warnings are errors.
"""

from __future__ import annotations

import os.path
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]

PAGES = {
    "README.md": "project/readme.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "examples/README.md": "project/examples.md",
    "prompts/README.md": "project/prompts.md",
    "benchmarks/README.md": "project/benchmarks.md",
    "benchmarks/coverage.md": "project/coverage-tables.md",
}
"""Files of the repository, and the pages that they become."""

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_CODE = re.compile(r"(^```.*?^```$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files that are not in docs/."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Point the links of a page at pages of the site."""
    sources = {name: source for source, name in PAGES.items()}
    here = page.file.src_uri
    return point_links(markdown, sources.get(here, f"docs/{here}"), here)


def point_links(markdown: str, source: str, page: str) -> str:
    """Return the Markdown of a file of the repository with its links as they must be on its page of the site.

    Args:
        markdown: the text of the file.
        source: its path in the repository.
        page: the path of its page in the site.
    """

    def point(match: re.Match[str]) -> str:
        mark, text, target = match.groups()
        path, hash_mark, anchor = target.partition("#")
        if not path or "://" in target or target.startswith("mailto:"):
            return match[0]
        named = os.path.normpath(os.path.join(os.path.dirname(source), path))  # noqa: PTH118, PTH120 - a path as text
        aim = PAGES.get(named) or (named.removeprefix("docs/") if named.startswith("docs/") else None)
        if aim is None:
            return text if (ROOT / named).exists() else match[0]
        there = os.path.relpath(aim, os.path.dirname(page) or ".")  # noqa: PTH120 - a path as text
        return f"{mark}[{text}]({there}{hash_mark}{anchor})"

    parts = _CODE.split(markdown)
    return "".join(part if part.startswith("`") else _LINK.sub(point, part) for part in parts)
