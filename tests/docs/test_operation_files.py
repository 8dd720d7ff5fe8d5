"""The files that operators copy: compose.yaml, examples/serve.yaml and the Dockerfile say what the program takes."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import yaml

from explaineval.cli.serve import serve_command
from explaineval.service.settings import read_settings

ROOT = Path(__file__).parents[2]


def test_the_example_of_settings_is_read() -> None:
    """Its endpoint names its models and its token has a budget; the lines behind # are settings too."""
    text = (ROOT / "examples" / "serve.yaml").read_text(encoding="utf-8")
    settings = read_settings(ROOT / "examples" / "serve.yaml")
    assert settings.endpoints["openai"].models == ("openai/*",)
    assert settings.tokens["team"].max_usd == 100

    uncommented = re.sub(r"(?m)^(  )?# (?=  |tasks:|lab:|operator:)", lambda match: match[1] or "", text)
    assert uncommented != text
    values = yaml.safe_load(uncommented)
    assert values["endpoints"]["lab"]["base_url"].startswith("http://")
    assert set(values["tokens"]) == {"team", "operator"}


def test_compose_starts_the_service_as_the_program_takes_it() -> None:
    """Options that exist, a token that the example of settings names, and a health check that is Python."""
    service = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]["explaineval"]
    command, *options = service["command"]
    known = {name for param in serve_command.params for name in param.opts}
    assert command == "serve"
    assert set(options[::2]) <= known
    settings = read_settings(ROOT / "examples" / "serve.yaml")
    assert settings.tokens["team"].token_env in service["environment"]
    ast.parse(service["healthcheck"]["test"][3])


def test_the_image_is_made_of_locked_requirements() -> None:
    """Both sets of parts exist, with hashes, and the entry point is the program."""
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    for parts in ("image", "run"):
        locked = (ROOT / "requirements" / f"{parts}.txt").read_text(encoding="utf-8")
        names = set(re.findall(r"(?m)^([a-z0-9-]+)==", locked))
        assert {"fastapi", "uvicorn", "litellm", "matplotlib", "spacy"} <= names
        assert ("xllamacpp" in names) == (parts == "image")
        assert "--hash=" in locked
    assert 'ENTRYPOINT ["explaineval"]' in dockerfile
    assert re.search(r"(?m)^ARG PARTS=image$", dockerfile)
