"""For every provider that litellm knows: without a base URL a request goes to its built-in address or nowhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from explaineval.client.endpoints.routes import built_in
from servers import every_provider
from servers.floods import FloodServer

KEY = "sk-hostile-0123456789abcdef"
PLAIN = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "TEST_GUARD_NOTES_TO")
SWITCHED = {
    "plain": {},
    "proxy": {"USE_LITELLM_PROXY": "True"},
    "trust": {"AIOHTTP_TRUST_ENV": "True", "LITELLM_RUST": "1"},
}


def ask_all(variables: dict[str, str]) -> dict[str, Any]:
    """What became of a request in each style to each provider, in a process with these variables."""
    kept = {name: os.environ[name] for name in PLAIN if name in os.environ}
    tests = str(Path(every_provider.__file__).parents[1])
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, (tests, kept.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, every_provider.__file__],
        env={**variables, **kept},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def test_every_provider_with_an_address_is_reached_in_a_clean_environment() -> None:
    """Nothing that worked is refused: what has a built-in address gets the request there."""
    found = ask_all(every_provider.variables_of_litellm(KEY, None))

    reached = {name.partition(" ")[0] for name, one in found.items() if one["passed"]}
    assert len(reached) > 80
    for name, one in found.items():
        provider = name.partition(" ")[0]
        origins = set(map(str, built_in().get(provider, ())))
        assert set(one["passed"]) <= origins, name
        assert one["passed"] or one["error"], name


@pytest.mark.slow
@pytest.mark.parametrize("switched", SWITCHED)
def test_no_variable_moves_a_request(switched: str) -> None:
    """With every variable that litellm reads pointing elsewhere: the built-in address, or one sentence and no byte."""
    with FloodServer() as thief:
        variables = every_provider.variables_of_litellm(KEY, f"http://127.0.0.1:{thief.port}")
        assert len(variables) > 200
        found = ask_all({**variables, **SWITCHED[switched]})

        assert (thief.connections, thief.everything) == (0, b"")
    named = 0
    for name, one in found.items():
        assert set(one["passed"]) <= set(map(str, built_in()[name.partition(" ")[0]])), name
        if not one["passed"]:
            assert one["error"], name
            assert "\n" not in one["error"], name
            assert KEY not in one["error"], name
            named += " points there" in one["error"]
    assert named > 40


@pytest.mark.slow
def test_the_table_is_that_of_the_installed_litellm() -> None:
    """Every provider of the version it was made from is in it; another version's new ones need a base URL."""
    document = json.loads(resources.files("explaineval.client.endpoints").joinpath("origins.json").read_text("utf-8"))

    if version("litellm") != document["litellm"]:
        pytest.skip("made from another version of litellm")
    found = ask_all({"AWS_EC2_METADATA_DISABLED": "true"})
    assert {name.partition(" ")[0] for name in found} == set(document["origins"])


def test_the_table_holds_origins_alone() -> None:
    """A scheme, a host and a port each, written one way."""
    document = json.loads(resources.files("explaineval.client.endpoints").joinpath("origins.json").read_text("utf-8"))

    for provider, urls in document["origins"].items():
        assert urls == [str(origin) for origin in built_in()[provider]]
        assert all(url.startswith(("https://", "http://localhost:", "http://127.0.0.1:")) for url in urls)
