"""The locked requirements: all that the extras need, each with hashes, and no index host."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXTRAS = {
    "run": ("report", "serve"),
    "image": ("local", "interventions", "report", "serve"),
    "demo": ("local", "report"),
    "dev": ("local", "interventions", "report", "inspect", "serve", "ray"),
}
"""By file, the extras that `scripts/lock` puts into it."""
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pins(name: str) -> dict[str, str]:
    """Return version by package, each of which has a hash."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip()]
    assert all("--hash=sha256:" in line for line in lines)
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))


@pytest.mark.parametrize("name", EXTRAS)
def test_a_lock_has_what_its_extras_need(name: str) -> None:
    """Each direct requirement is there; where the project pins one, in that version."""
    wanted = [
        *PROJECT["dependencies"],
        *(one for extra in EXTRAS[name] for one in PROJECT["optional-dependencies"][extra]),
    ]
    locked = pins(name)
    for requirement in wanted:
        match = re.match(r"([\w.-]+)(?:\[.*?\])?(?:==(\S+))?", requirement)
        assert match is not None
        package, version = match[1].lower().replace("_", "-"), match[2]
        assert locked.get(package) == (version or locked.get(package, "missing")), requirement


def test_the_files_are_those_of_the_script_and_agree() -> None:
    """No file names a host, and the smaller image has the versions of the larger one."""
    files = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "requirements").glob("*.txt")}
    run, image = pins("run"), pins("image")

    assert files.keys() == EXTRAS.keys()
    assert not [name for name, text in files.items() if "://" in text or "--index" in text or "--find-links" in text]
    assert {name: version for name, version in run.items() if image.get(name) != version} == {}
