"""The settings that users of the service submit: those of the configuration file, with the same defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from explaineval.config import ClientConfig, ModelConfig, RunConfig
from explaineval.errors import InputError
from explaineval.service.models import ModelSettings, RunSettings
from explaineval.service.settings import Settings
from explaineval.service.submissions import Embedded, read_submission

OPERATORS = {"columns", "metrics", "prompts"}
"""Settings of the science that users of the service cannot give."""
OFFERED = {"keep_unreadable", "max_connections", "max_retries", "max_usd", "rpm", "timeout", "tpm"}
"""Settings of the transport that users may give."""
LEFT_OUT = {
    "endpoints", "api_key_env", "cache", "price", "offline", "batch", "batch_poll", "transport", "engine",
    "ray_address", "ray_address_from_file", "workers", "patience", "allow_key", "key_from_file", "files_outside",
    "spent", "batch_wait",
}  # fmt: skip
"""Settings of the transport that are the operator's, or make no sense on a service."""
MINIMAL: dict[str, Any] = {"tasks": ["sense"], "models": [{"model": "simulated/faithful"}]}


def no_upload(name: str) -> Path:
    """Stand for the uploads of a user who has none."""
    raise AssertionError(name)


def read(changes: dict[str, Any], embedded: Embedded | None = None, **allowed: Any) -> Any:
    """Return the submission of some settings."""
    settings = RunSettings.model_validate(MINIMAL | changes)
    return read_submission(settings, Settings.model_validate(allowed), embedded, no_upload)


def test_every_setting_of_the_file_is_there_or_left_out_on_purpose() -> None:
    """A new setting has to be decided on."""
    names = set(RunSettings.model_fields)

    assert names == set(RunConfig.model_fields) - {"shard"} - OPERATORS | OFFERED
    assert set(ClientConfig.model_fields) == OFFERED | LEFT_OUT
    assert set(ModelSettings.model_fields) == set(ModelConfig.model_fields)


def test_the_defaults_are_those_of_the_file() -> None:
    """What is not given comes to the same configuration."""
    assert read({}).science == RunConfig(**MINIMAL)
    assert read({}).client == ClientConfig()


def test_limits_of_a_user_only_lower_those_of_the_operator() -> None:
    """Connections and rates are kept apart; the other settings of the transport are taken as they are."""
    submission = read({"max_connections": 5, "rpm": 10, "timeout": 7, "max_retries": 2, "max_usd": 3})

    assert submission.job["lowered"] == {"max_connections": 5, "rpm": 10}
    assert submission.client == ClientConfig(timeout=7, max_retries=2, max_usd=3)


def test_the_model_on_this_machine_has_a_name_of_its_own() -> None:
    """It is asked at the endpoint that stands for its weights."""
    embedded = Embedded("openai/small", "embedded:0123", Path("w.gguf"))
    submission = read({"models": [{"model": "openai/small", "endpoint": "embedded"}]}, embedded)

    assert submission.science.models[0].endpoint == "embedded:0123"
    assert (submission.job["weights"], submission.job["endpoints"]) == (True, ["embedded:0123"])


def test_tasks_of_the_operator_keep_their_columns() -> None:
    """Two tables with different columns cannot be asked in one run."""
    tasks = {
        name: {"task": f"csv:/data/{name}.csv", "columns": {"id": "n", "gold": name, "text": "t"}} for name in "xyz"
    }
    tasks["y"]["columns"] = tasks["x"]["columns"]
    both = read({"tasks": ["x", "y"]}, tasks=tasks).science

    assert both.tasks == ("csv:/data/x.csv", "csv:/data/y.csv")
    assert both.columns == {"id": "n", "gold": "x", "text": "t"}
    with pytest.raises(InputError, match="x and z are tables with different columns"):
        read({"tasks": ["x", "z"]}, tasks=tasks)
