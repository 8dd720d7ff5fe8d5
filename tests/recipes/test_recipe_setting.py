"""CONTRIBUTING.md, "To add a setting": one field of the table, and every place where settings are given has it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ANCHOR = "    limit: Annotated["
ROW = """    rounds: Annotated[
        Annotated[int, Field(ge=2)] | None,
        Offered("Rounds of zq questions.", "What to ask"),
        Served(most=77, label="Rounds of questions"),
    ] = None
"""
"""What a contributor adds to `ScienceSettings` in config/fields.py."""

LOOK = """
import json
from pydantic import ValidationError
from explaineval.config import RunConfig
from explaineval.cli.configuration import resolve
from explaineval.api import _configure
from explaineval.service.models import RunSettings
from explaineval.service.submissions import AMOUNTS, Form, field_of, in_words

base = {"tasks": ["sense"], "models": [{"model": "simulated/faithful"}]}
form = Form({"tasks": ["sense"], "endpoint": ["simulated"], "model": ["faithful"], "rounds": ["9"]}).settings()
def refused(value):
    try:
        RunSettings.model_validate({**base, "rounds": value})
    except ValidationError as exc:
        return exc.errors()[0]["type"]
print(json.dumps({
    "keyword": _configure(base, {"rounds": 7})[0].rounds,
    "api": RunSettings.model_json_schema()["properties"]["rounds"],
    "refused": [refused(1), refused(77), refused(78)],
    "form": RunSettings.model_validate(form).rounds,
    "copied": Form.of(form).first("rounds"),
    "fields": {setting.name: setting.served.label for setting in AMOUNTS},
    "error": [in_words("rounds: this must be 2 or more."), field_of("rounds: this must be 2 or more.")],
}))
"""
RUN = ("--task", "sense", "--model", "simulated/faithful", "--limit", "2")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with one more row in its table of settings."""
    place = tmp_path_factory.mktemp("setting") / "src"
    copy = place / "explaineval"
    shutil.copytree(ROOT / "src" / "explaineval", copy, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "prompts", place.parent / "prompts")
    table = copy / "config" / "fields.py"
    text = table.read_text("utf-8")
    assert text.count(ANCHOR) == 1
    table.write_text(text.replace(ANCHOR, ROW + ANCHOR), "utf-8")
    return place


def python(package: Path, *words: str, variables: dict[str, str] | None = None) -> str:
    """What a Python process prints that imports the copy."""
    environment = {**os.environ, "PYTHONPATH": str(package), **(variables or {})}
    result = subprocess.run(
        [sys.executable, *words], cwd=package, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_setting_is_an_option_with_its_help_and_bound(package: Path) -> None:
    """It stands below the heading that its row names, between the settings that are beside it in the table."""
    text = python(package, "-m", "explaineval", "run", "--help")
    section = text.partition("What to ask:")[2].partition("Whom:")[0]

    assert "--rounds N" in section
    assert "Rounds of zq questions." in section
    assert "[x>=2]" in section.partition("--rounds")[2].partition("--limit")[0]


@pytest.mark.sampled(1)
@pytest.mark.parametrize("source", ["option", "variable", "file"])
def test_the_setting_enters_run_and_signature(package: Path, source: str) -> None:
    """Given in any of three ways it is in run.json, and in the signature of every number, since it is scientific."""
    (package / "run.yaml").write_text("rounds: 5\n", "utf-8")
    words = {"option": ["--rounds", "5"], "variable": [], "file": ["run.yaml"]}[source]
    variables = {"EXPLAINEVAL_ROUNDS": "5"} if source == "variable" else {}

    python(package, "-m", "explaineval", "run", *words, *RUN, "--out", source, variables=variables)

    rows = json.loads((package / source / "metrics.json").read_text("utf-8"))
    assert json.loads((package / source / "run.json").read_text("utf-8"))["config"]["rounds"] == 5
    assert {"|rounds:5|" in row["signature"] for row in rows} == {True}


def test_the_setting_is_a_keyword_and_in_the_service(package: Path) -> None:
    """Python takes it; the API has its bounds and help; the form has its label, reads it and shows its errors."""
    found = json.loads(python(package, "-c", LOOK))

    assert found["keyword"] == 7
    assert found["api"]["description"] == "Rounds of zq questions."
    assert found["api"]["anyOf"][0] == {"type": "integer", "minimum": 2, "maximum": 77}
    assert found["refused"] == ["greater_than_equal", None, "less_than_equal"]
    assert (found["form"], found["copied"]) == (9, "9")
    assert found["fields"]["rounds"] == "Rounds of questions"
    assert found["error"] == ["Rounds of questions: this must be 2 or more.", "rounds"]
