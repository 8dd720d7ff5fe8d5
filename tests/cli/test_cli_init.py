"""`explaineval init`: a commented configuration file that can be run as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from explaineval.config import SETTINGS, read_config
from makers.command_line import Call

COMMENTED = re.compile(r"^# (\w+):", re.MULTILINE)


def test_the_written_file_is_planned_as_it_is(call: Call, tmp_path: Path) -> None:
    """Two simulated models, 50 examples, nothing to pay."""
    assert call("init")[0] == 0

    code, output, errors = call("plan", "study.yaml")

    assert code == 0, errors
    assert "simulated/faithful" in output
    assert read_config(tmp_path / "study.yaml")["limit"] == 50


def test_models_tasks_and_an_address_stand_in_the_file(call: Call, tmp_path: Path) -> None:
    """The models are asked at the address, under the endpoint's name."""
    _, output, _ = call(
        "init", "my study.yaml", "--model", "openai/a", "--model", "openai/b", "--task", "qa",
        "--base-url", "http://127.0.0.1:9/v1",
    )  # fmt: skip
    config = read_config(tmp_path / "my study.yaml")

    assert "explaineval plan 'my study.yaml'" in output
    assert config["tasks"] == ["qa"]
    assert [(model["model"], model["endpoint"]) for model in config["models"]] == [
        ("openai/a", "lab"),
        ("openai/b", "lab"),
    ]
    assert call("plan", "my study.yaml")[0] == 0


def test_every_setting_of_a_file_is_in_it_and_can_be_switched_on(call: Call, tmp_path: Path) -> None:
    """Without the # each line is read, alone, and has its default."""
    call("init")
    text = (tmp_path / "study.yaml").read_text(encoding="utf-8")
    before = read_config(tmp_path / "study.yaml")
    named = {setting.path[0] for setting in SETTINGS.values() if setting.in_file}

    assert named - set(COMMENTED.findall(text)) - before.keys() == set()
    for name in set(COMMENTED.findall(text)) & named - {"interventions", "endpoints"}:
        (tmp_path / "one.yaml").write_text(text.replace(f"\n# {name}: ", f"\n{name}: "), encoding="utf-8")

        code, _, errors = call("plan", "one.yaml")

        assert code == 0, (name, errors)
        assert name in read_config(tmp_path / "one.yaml")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("taken.yaml",), "taken.yaml is there already"),
        (("new.yaml", "--model", "gpt-4o"), "names no provider"),
        (("new.yaml", "--base-url", "ftp://nowhere"), "base_url"),
        (("no/such/new.yaml",), "cannot be written"),
    ],
)
def test_what_cannot_be_written_is_told(call: Call, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    """With exit code 2 and one sentence; a file that is there stays as it is."""
    (tmp_path / "taken.yaml").write_text("mine", encoding="utf-8")

    code, _, errors = call("init", *arguments)

    assert code == 2
    assert words in errors
    assert (tmp_path / "taken.yaml").read_text(encoding="utf-8") == "mine"
    assert not (tmp_path / "new.yaml").exists()
