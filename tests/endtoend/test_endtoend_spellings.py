"""One address, one key: however a base URL is spelled, no answer is bought again."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from explaineval.cache import open_store
from servers.commands import WarmCommands
from servers.tables import Table

TABLE = Table(examples=3, words=2, seed=0)
SPELLINGS = (
    "http://{host}/v1",
    "HTTP://{host}/v1/",
    "http://{host}/./v1",
    "http://{host}/x/../%76%31",
    "http://{host}/v1/.",
)


def test_spellings_of_one_address_share_their_answers(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """Dot segments and needless percent-escapes are no other address."""
    made = bench(TABLE)
    host = made.server.url.removeprefix("http://").partition("/")[0]
    counts = []
    for number, spelling in enumerate(SPELLINGS):
        options = made.options("--out", f"run{number}", "--json")
        at = options.index("--base-url")
        options[at : at + 2] = ["--base-url", spelling.format(host=host)]
        at = options.index("--endpoint-name")
        del options[at : at + 2]
        result = warm.run(*options, cwd=made.directory)
        assert result.code == 0, result.stderr
        counts.append(result.document["requests"]["sent"])

    assert counts[0] > 0
    assert counts[1:] == [0] * (len(SPELLINGS) - 1)


def _keep_under(endpoint: str, cache: Path) -> None:
    """Keep the answers of a cache under another endpoint alone, as an earlier version kept them."""
    with open_store(cache) as store:
        found = [(request.model_copy(update={"endpoint": endpoint}), reply) for _, request, reply in store.iterate()]
    shutil.rmtree(cache)

    async def put() -> None:
        for request, reply in found:
            await store.put(request, reply)

    with open_store(cache) as store:
        asyncio.run(put())


@pytest.mark.sampled(1)
@pytest.mark.parametrize("offline", [False, True])
def test_an_answer_under_an_older_spelling_is_taken_over(
    offline: bool, bench: Callable[..., Any], warm: WarmCommands
) -> None:
    """What earlier versions kept under the URL as it was typed is found before anything is bought, then kept anew."""
    made = bench(TABLE)
    older = made.server.url.replace("/v1", "/./v1")
    options = made.options("--json")
    at = options.index("--endpoint-name")
    typed = [*options[:at], *options[at + 2 :]]
    bought = warm.run(*typed, "--out", "older", cwd=made.directory)
    assert bought.code == 0, bought.stderr
    _keep_under(older, made.directory / "cache")
    typed[typed.index("--base-url") + 1] = older
    plan = warm.run("plan", *typed[1:], cwd=made.directory)
    again = warm.run(*typed, "--out", "again", *(["--offline"] if offline else []), cwd=made.directory)

    assert plan.document["total"]["misses"] == 0
    assert again.code == 0, again.stderr
    assert again.document["requests"]["sent"] == 0
    assert again.document["requests"]["hits"] == bought.document["requests"]["sent"] > 0
    if not offline:
        clean = [*typed, "--out", "clean", "--offline"]
        clean[clean.index("--base-url") + 1] = made.server.url
        assert warm.run(*clean, cwd=made.directory).code == 0
        trial = json.loads((made.directory / "clean" / "trials.jsonl").read_text().splitlines()[0])
        assert trial["endpoint"] == made.server.url


def test_double_slashes_are_refused(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """Some servers take them for one, others do not."""
    made = bench(TABLE)
    options = made.options()
    options[options.index("--base-url") + 1] = made.server.url.replace("/v1", "//v1")
    result = warm.run(*options, cwd=made.directory)

    assert result.code == 2
    assert "has `//` in its path: write it with single slashes" in result.stderr
