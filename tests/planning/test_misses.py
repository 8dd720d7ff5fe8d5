"""Why a request misses: which stored one is nearest, and in what they differ."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explaineval.cache import open_store
from explaineval.client.endpoints.capabilities import Capabilities
from explaineval.config import ClientConfig, RunConfig, build
from explaineval.planning.cache_diff import common_ends, contrast, explain_misses
from explaineval.planning.prepare import Prepared, prepare
from explaineval.planning.units import walk
from explaineval.records import Completion, Message, Request

ANSWER = Completion(text="Answer: A\nExplanation: So.", finish_reason="stop")
CHAT = Request(
    endpoint="lab",
    model="openai/smol",
    style="chat",
    messages=(Message(role="system", content="Be brief."), Message(role="user", content="Is the dog small?")),
    max_tokens=512,
    temperature=0.0,
    logprobs=20,
    params={"top_p": 0.9, "flag": True},
)


def prepared(**config: Any) -> Prepared:
    """A small run of a bundled task."""
    values = {"tasks": ["sense"], "models": [{"model": "openai/smol", "endpoint": "lab"}], "limit": 3, **config}
    client = ClientConfig.model_validate({"endpoints": {"lab": {"base_url": "http://127.0.0.1:9/v1"}}})
    return prepare(build(RunConfig, values, "test"), client)


def fill(directory: Path, run: Prepared) -> int:
    """A store with an answer to every request of a run; how many there are."""

    async def put() -> int:
        with open_store(directory) as store:
            steps = list(walk(run, lambda *_: Capabilities(20, 0.0, "returned")))
            for step in steps:
                await store.put(step.request, ANSWER)
            return len(steps)

    return asyncio.run(put())


@given(st.text("ab", max_size=12), st.text("ab", max_size=12))
def test_common_ends_are_the_longest(one: str, other: str) -> None:
    """The common beginning as os.path counts it, and no longer end fits beside it."""
    start, end = common_ends(one, other)
    shorter = min(len(one), len(other))

    assert one[:start] == other[:start]
    assert start == shorter or one[start] != other[start]
    assert one[len(one) - end :] == other[len(other) - end :]
    assert start + end == shorter or one[len(one) - end - 1] != other[len(other) - end - 1]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"max_tokens": 256}, "max_tokens: stored 512, asked 256"),
        ({"endpoint": "other"}, 'endpoint: stored "lab", asked "other"'),
        ({"endpoint": None}, 'endpoint: stored "lab", asked absent'),
        ({"model": "openai/large"}, "model: stored openai/smol, asked openai/large"),
        ({"temperature": 0.5}, "temperature: stored 0, asked 0.5"),
        ({"temperature": None}, "temperature: stored 0, asked absent"),
        ({"logprobs": None}, "logprobs: stored 20, asked absent"),
        ({"stop": ("\n",)}, 'stop: stored absent, asked ["\\n"]'),
        ({"sample": 1}, "sample: stored 0, asked 1"),
        ({"params": {"top_p": 0.9, "flag": 1}}, "params.flag: stored true, asked 1"),
        ({"params": {"flag": True}}, "params.top_p: stored 0.9, asked absent"),
        (
            {"messages": (CHAT.messages[0], Message(role="user", content="Is the old dog small?"))},  # type: ignore[index]
            'messages, turn 2 of 2 (user), character 8: stored "Is the dog small?", asked "Is the old dog small?"',
        ),
        (
            {"messages": CHAT.messages[1:]},  # type: ignore[index]
            "messages, the role of turn 1 (stored 2 turns, asked 1): stored system, asked user",
        ),
        (
            {"messages": CHAT.messages[:1]},  # type: ignore[index]
            "messages, the number of turns: stored 2, asked 1",
        ),
    ],
)
def test_each_kind_of_change_is_named_exactly(change: dict[str, Any], told: str) -> None:
    """One field differs, and that one alone is told, in its own words."""
    assert [told] == [one.text for one in contrast(CHAT, CHAT.model_copy(update=change))]


def test_equal_requests_have_no_contrast() -> None:
    """Also where a number is spelled otherwise."""
    assert contrast(CHAT, CHAT.model_copy(update={"temperature": 0})) == ()


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"max_tokens": 96}, ["max_tokens: stored 512, asked 96"]),
        ({"params": {"top_p": 0.5}}, ["params.top_p: stored absent, asked 0.5"]),
        (
            {"temperature": 0.7, "max_tokens": 64},
            ["max_tokens: stored 512, asked 64", "temperature: stored 0, asked 0.7"],
        ),
        ({"logprobs": "off"}, ["logprobs: stored 20, asked absent"]),
    ],
)
def test_misses_that_differ_in_one_way_are_counted_together(
    tmp_path: Path, config: dict[str, Any], told: list[str]
) -> None:
    """All requests are misses for one reason, which is found for those shown and confirmed for all."""
    total = fill(tmp_path, prepared())
    with open_store(tmp_path, readonly=True) as store:
        found = explain_misses(prepared(**config), store, 2)

    assert (0, total, total) == (found.hits, found.misses, found.alike)
    assert [told, told] == [[one.text for one in miss.contrasts] for miss in found.shown]
    assert told == [one.text for one in found.common]
    assert not any(miss.foreign for miss in found.shown)


def test_the_same_text_under_other_settings_is_nearer_than_another_text(tmp_path: Path) -> None:
    """Half a run was asked with new settings: the misses are explained by the old ones, not by strangers' texts."""
    fill(tmp_path, prepared(limit=3))
    fill(tmp_path, prepared(limit=2, max_tokens=96, params={"top_p": 0.5}))
    with open_store(tmp_path, readonly=True) as store:
        found = explain_misses(prepared(limit=3, max_tokens=96, params={"top_p": 0.5}), store, 100)

    assert found.hits == 2 * found.misses
    told = {one.text for miss in found.shown for one in miss.contrasts}
    assert {"max_tokens: stored 512, asked 96", "params.top_p: stored absent, asked 0.5"} == told


def test_a_text_that_was_never_asked_is_said_to_be_another(tmp_path: Path) -> None:
    """A further example: nearest is some other example, which is told; its further samples are no such case."""
    fill(tmp_path, prepared(limit=1))
    with open_store(tmp_path, readonly=True) as store:
        found = explain_misses(prepared(limit=2), store, 1)
        resampled = explain_misses(prepared(limit=1, shams=2), store, 5)

    assert [miss.foreign for miss in found.shown] == [True]
    assert [one.field for one in found.shown[0].contrasts] == ["messages"]
    assert found.common == ()
    assert [[one.text for one in miss.contrasts] for miss in resampled.shown] == [["sample: stored 1, asked 2"]]


def test_a_further_insertion_is_nearly_a_stored_text(tmp_path: Path) -> None:
    """One more word for each example: nearest is a text of that very example, and no stranger's."""
    fill(tmp_path, prepared(interventions={"per_example": 2}))
    with open_store(tmp_path, readonly=True) as store:
        found = explain_misses(prepared(interventions={"per_example": 3}), store, 10)

    assert found.misses == 3
    assert [miss.foreign for miss in found.shown] == [False] * 3
    for miss in found.shown:
        assert miss.step.intervention is not None
        assert miss.step.intervention.inserted in miss.contrasts[0].asked


def test_an_edited_instruction_is_shown_where_it_differs(tmp_path: Path) -> None:
    """The nearest request is the one of the same example; the excerpt shows both wordings."""
    run = prepared()
    fill(tmp_path / "cache", run)
    changed = run.prompts.text("tasks/sense.txt")
    run.prompts._texts["tasks/sense.txt"] = changed.replace("sentence", "phrase", 1)
    with open_store(tmp_path / "cache", readonly=True) as store:
        found = explain_misses(run, store, 50)

    assert found.shown
    for miss in found.shown:
        assert [one.field for one in miss.contrasts] == ["messages"]
        assert "sentence" in miss.contrasts[0].stored
        assert "phrase" in miss.contrasts[0].asked
        assert miss.nearest is not None
        assert miss.nearest.sample == miss.step.request.sample


def test_nothing_missing_and_an_empty_store_are_said(tmp_path: Path) -> None:
    """No miss: nothing is shown. No answer at all: nothing is near. Without a verdict, it is assumed."""
    total = fill(tmp_path / "full", prepared())
    with open_store(tmp_path / "empty"):
        pass
    with open_store(tmp_path / "full", readonly=True) as store:
        full = explain_misses(prepared(), store, 5)
    with open_store(tmp_path / "empty", readonly=True) as store:
        empty = explain_misses(prepared(), store, 2)

    assert (total, 0, ()) == (full.hits, full.misses, full.shown)
    assert full.assumed
    assert (0, total) == (empty.hits, empty.misses)
    assert [miss.nearest for miss in empty.shown] == [None, None]
