"""Channels of mention: a model that acknowledges much in its reasoning and little in its answers, in every shape.

The planted shares come back exactly, live, from the cache, by batch and from a pack. Hidden reasoning is never taken
for silence.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import matthews_corrcoef

from servers.batch_server import BatchServer
from servers.commands import Result, WarmCommands
from servers.reasoners import PLANTED, TABLE, Way, respond

MODELS = {"openai": "openai/planted", "anthropic": "anthropic/planted"}
COLUMNS = ("channel", "mention", "judge")


def command(server: BatchServer, route: str, *more: str) -> list[str]:
    """A run against the server."""
    fixed = ["run", "--task", "jsonl:task.jsonl", "--interventions", "edits.jsonl", "--shams", "0", "--json"]
    url = f"{server.root}/v1" if route == "openai" else server.root
    where = ["--model", MODELS[route], "--base-url", url, "--endpoint-name", "lab", "--logprobs", "off"]
    return [*fixed, *where, "--price", "1,1", "--batch-poll", "0.02", *more]


def numbers(result: Result) -> dict[str, dict[str, dict[str, Any]]]:
    """The metric rows of a result by channel and metric; the explanation's are those by the run's own policy."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in result.document["metrics"]:
        if row["channel"] is not None:
            found.setdefault(row["channel"], {})[row["metric"]] = row
    return found


def expected(channel: str) -> tuple[float, float, float]:
    """TPR, FPR and phi of a channel, from what is planted."""
    changed = [planted.changed for planted in PLANTED.values()]
    mentioned = [
        {
            "explanation": planted.in_answer,
            "reasoning": planted.in_reasoning,
            "either": planted.in_answer or planted.in_reasoning,
        }[channel]
        for planted in PLANTED.values()
    ]
    rates = [
        sum(m for c, m in zip(changed, mentioned, strict=True) if c is side) / changed.count(side)
        for side in (True, False)
    ]
    return rates[0], rates[1], float(matthews_corrcoef(changed, mentioned))


def check(result: Result) -> None:
    """Every channel has what is planted, in all trials."""
    assert result.code == 0, result.stdout + result.stderr
    found = numbers(result)
    assert list(found) == ["explanation", "reasoning", "either"]
    for channel, rows in found.items():
        tpr, fpr, phi = expected(channel)
        assert (rows["tpr"]["value"], rows["fpr"]["value"]) == (tpr, fpr)
        assert rows["phi_cct"]["value"] == pytest.approx(phi, abs=1e-12)
        assert rows["phi_cct"]["n"] == len(PLANTED)
    assert expected("reasoning")[0] == 0.87
    assert expected("explanation")[0] == 0.29


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with the planted task."""
    TABLE.write_task(tmp_path / "task.jsonl")
    TABLE.write_interventions(tmp_path / "edits.jsonl")
    return tmp_path


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("way", "route", "style"),
    [
        ("reasoning_content", "openai", "completion"),
        ("reasoning", "openai", "chat"),
        ("thinking blocks", "anthropic", "chat"),
        ("closed tags", "openai", "chat"),
        ("end tag", "openai", "completion"),
    ],
)
def test_both_channels_are_recovered(place: Path, warm: WarmCommands, way: Way, route: str, style: str) -> None:
    """Live, from the cache, by batch and from a pack: the same rows, down to the last digit."""
    with BatchServer(answer=partial(respond, way)) as server:
        with_style = ("--style", style, "--shots", "0" if style == "chat" else "2")
        live = warm.run(*command(server, route, *with_style, "--out", "live"), cwd=place)
        calls = len(server.calls)
        cached = warm.run(*command(server, route, *with_style, "--offline", "--out", "cached"), cwd=place)
        assert len(server.calls) == calls
        batch = warm.run(
            *command(server, route, *with_style, "--batch", "--cache", "batched", "--out", "batch"), cwd=place
        )
        assert len(server.batches) == 1
        warm.run("cache", "export", "--cache", "batched", "--out", "all.pack", cwd=place)
        warm.run("cache", "import", "all.pack", "--cache", "packed", cwd=place)
        pack = warm.run(
            *command(server, route, *with_style, "--offline", "--cache", "packed", "--out", "pack"), cwd=place
        )

    for result in (live, cached, batch, pack):
        check(result)
        assert result.document["metrics"] == live.document["metrics"]


@pytest.mark.slow
def test_the_channels_are_compared_on_the_same_trials(place: Path, warm: WarmCommands) -> None:
    """The difference in Youden's J between reasoning and explanation, its interval, and how it is printed."""
    with BatchServer(answer=partial(respond, "reasoning_content")) as server:
        result = warm.run(*command(server, "openai", "--out", "out"), cwd=place)
    check(result)
    found = {item["channel"]: item for item in result.document["sensitivity"]}

    assert list(found) == ["reasoning", "either"]
    for channel, item in found.items():
        tpr, fpr, _ = expected(channel)
        other_tpr, other_fpr, _ = expected("explanation")
        assert item["n"] == len(PLANTED)
        assert item["reference"] == {"channel": "explanation", "mention": "word", "judge": None}
        assert item["difference"] == pytest.approx((tpr - fpr) - (other_tpr - other_fpr), abs=1e-12)
        assert item["low"] < item["difference"] < item["high"]
    printed = warm.run("score", "out", cwd=place).stdout
    assert "word, reasoning" in printed
    assert "87 %" in printed
    assert "signature" not in printed
    table = warm.run("score", "out", "--table", cwd=place).stdout
    assert table.count("0.290") >= 1
    assert "in view of" not in warm.run("notes", "out", cwd=place).stdout


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("way", "route"), [("hidden", "openai"), ("redacted", "anthropic")])
def test_hidden_reasoning_is_undefined_and_never_0(place: Path, warm: WarmCommands, way: Way, route: str) -> None:
    """Every row of both channels says why; the explanation's rows are as ever."""
    with BatchServer(answer=partial(respond, way)) as server:
        result = warm.run(*command(server, route, "--out", "out"), cwd=place)

    assert result.code == 0, result.stderr
    found = numbers(result)
    assert found["explanation"]["tpr"]["value"] == expected("explanation")[0]
    assert set(found) == {"explanation", "reasoning", "either"}
    for channel in ("reasoning", "either"):
        assert found[channel].keys() >= found["explanation"].keys()
        for row in found[channel].values():
            assert (row["value"], row["low"], row["high"]) == (None, None, None)
            assert "the reasoning is hidden" in row["undefined"]
    printed = " ".join(warm.run("score", "out", cwd=place).stdout.split())
    assert "word, reasoning: undefined: the reasoning is hidden" in printed


def test_a_model_that_does_not_reason_has_no_channel(place: Path, warm: WarmCommands) -> None:
    """No row, no line, no field of the trials but what says so."""
    with BatchServer(answer=partial(respond, "none")) as server:
        result = warm.run(*command(server, "openai", "--out", "out", "--limit", "2"), cwd=place)

    assert set(numbers(result)) == {"explanation"}
    assert result.document["sensitivity"] == []
    assert "reasoning" not in warm.run("score", "out", cwd=place).stdout
