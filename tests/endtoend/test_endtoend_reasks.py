"""`cache verify --reask`: stored requests asked again, compared, paid for within a limit; the stored answers stay."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from batch_runs import DISTINCT, MOST, BatchRuns, answer, usage_of

from explaineval.cache import open_store
from explaineval.execution.recheck import letter_of
from explaineval.records import Completion, Request
from explaineval.rundir.ledger import read_ledger
from explaineval.text import dollars_text
from servers.batch_bench import chat, text
from servers.commands import Result, WarmCommands
from servers.shapes import Shape

Stored = list[tuple[str, Request, Completion]]
COUNTS = ("asked", "same_text", "lettered", "same_letter", "failed", "unsent", "over_limit")


@pytest.fixture
def one(warm: WarmCommands, tmp_path: Path) -> Iterator[BatchRuns]:
    """A complete run's cache, and the server that gave its answers."""
    with BatchRuns(warm, tmp_path) as found:
        assert found.run().code == 0
        found.server.plain.clear()
        yield found


def contents(one: BatchRuns) -> Stored:
    """Everything stored, in the order of the keys."""
    with open_store(one.directory / "cache", readonly=True) as store:
        return list(store.iterate())


@pytest.fixture
def before(one: BatchRuns) -> Stored:
    """What was stored by the run."""
    return contents(one)


def verify(one: BatchRuns, *more: str) -> Result:
    """`cache verify` of that cache."""
    return one.warm.run("cache", "verify", "--json", *more, cwd=one.directory)


def at(one: BatchRuns) -> tuple[str, ...]:
    """Where the stored endpoint is."""
    return ("--endpoint-name", "lab", "--base-url", one.url)


def test_an_unchanged_endpoint_agrees(one: BatchRuns, before: Stored) -> None:
    """Exit 0, everything the same; the first N keys are asked, once each, as they were asked before."""
    found = verify(one, "--reask", "5", *at(one))
    asked = [request for _, request, _ in before[:5]]

    assert found.code == 0, found.stderr
    assert [found.document["reask"][name] for name in COUNTS] == [5, 5, 5, 5, 0, 0, 0]
    assert sorted(body["messages"][-1]["content"] for body in one.server.plain) == sorted(
        request.messages[-1].content for request in asked if request.messages
    )
    assert contents(one) == before


def change(shape: Shape, body: Mapping[str, Any]) -> dict[str, Any]:
    """Another explanation everywhere, and another letter instead of A."""
    found = answer(shape, body)
    message = found["choices"][0]["message"]
    message["content"] = message["content"].replace("Answer: A", "Answer: B") + " So it is."
    return found


@pytest.mark.slow
def test_an_endpoint_that_changed_is_told(one: BatchRuns, before: Stored) -> None:
    """Exit 6 with the counts of equal texts and equal letters; the stored answers stay as they are."""
    one.server.answer = change
    found = verify(one, "--reask", str(DISTINCT + 10), *at(one))
    was_a = sum("Answer: A" in str(completion.text) for _, _, completion in before)

    assert found.code == 6, found.stderr
    assert 0 < was_a < DISTINCT
    assert [found.document["reask"][name] for name in COUNTS] == [DISTINCT, 0, DISTINCT, DISTINCT - was_a, 0, 0, 0]
    assert contents(one) == before
    told = one.warm.run("cache", "verify", "--reask", "2", *at(one), cwd=one.directory)
    assert "the same text: 0 of 2" in told.stdout


@pytest.mark.slow
def test_another_model_behind_the_name_is_counted(one: BatchRuns) -> None:
    """The same texts under another name of the model: no difference, but said."""
    one.server.answer = lambda shape, body: {**answer(shape, body), "model": "planted-2"}
    found = verify(one, "--reask", "4", *at(one))

    assert (found.code, found.document["reask"]["same_text"], found.document["reask"]["other_model"]) == (0, 4, 4)


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("faults", "more", "failed"), [(["400", None, None], (), 1), (["500"] * 3, ("--max-retries", "0"), 3)]
)
def test_requests_that_fail(one: BatchRuns, faults: list[Any], more: tuple[str, ...], failed: int) -> None:
    """Exit 5 with the first reason, the others are compared all the same."""
    one.server.faults["plain"] = faults
    found = verify(one, "--reask", "3", *at(one), *more, "--max-connections", "1")

    assert found.code == 5, found.stderr
    assert [found.document["reask"][name] for name in COUNTS[:5]] == [3 - failed] * 4 + [failed]
    assert f"{failed} request{'s' * (failed > 1)} got no answer" in found.stderr


def test_a_wrong_key_stops_it(one: BatchRuns) -> None:
    """Exit 5, not 3: what was not sent any more was not kept back by a limit."""
    one.server.faults["plain"] = ["401"]
    found = verify(one, "--reask", "6", *at(one), "--max-connections", "1")

    assert found.code == 5, found.stderr
    assert [found.document["reask"][name] for name in COUNTS] == [0, 0, 0, 0, 1, 5, 0]
    assert len(one.server.calls) == DISTINCT + 1


def test_the_spending_limit_holds(one: BatchRuns) -> None:
    """What fits is asked and compared, the rest is unsent (exit 3); the server's bill is what is told."""
    limit = 5 * MOST / 1000
    found = verify(one, "--reask", str(DISTINCT), *at(one), "--price", "0,1000", "--max-usd", str(limit))
    again = found.document["reask"]
    paid = sum(usage_of(body)[1] for body in one.server.plain) / 1000

    assert found.code == 3, found.stderr
    assert limit - MOST / 1000 < paid <= limit
    assert again["usd"] == pytest.approx(paid)
    assert (again["asked"], again["same_text"]) == (len(one.server.plain),) * 2
    assert again["unsent"] == again["over_limit"] == DISTINCT - again["asked"] > 0
    assert f"{again['unsent']} of them because of the spending limit" in found.stderr
    nothing = verify(one, "--reask", "3", *at(one), "--price", "0,1000", "--max-usd", "0")
    assert (nothing.code, nothing.document["reask"]["asked"]) == (3, 0)


def test_what_is_refused_or_not_wanted_sends_nothing(one: BatchRuns) -> None:
    """Without --reask; a named endpoint without its URL; a model that is not stored."""
    plain = verify(one)
    nameless = verify(one, "--reask", "2")
    unknown = verify(one, "--reask", "2", *at(one), "--model", "openai/other")

    assert (plain.code, plain.document["reask"]) == (0, None)
    assert nameless.code == unknown.code == 2
    assert "give --endpoint-name lab with a --base-url" in nameless.document["error"]["message"]
    assert "openai/other" in unknown.document["error"]["message"]
    assert one.server.plain == []


@pytest.mark.slow
def test_only_the_models_named_are_asked(one: BatchRuns) -> None:
    """--model picks out of a cache of two."""
    command = ["openai/second" if part == one.model else part for part in one.options("--limit", "2")]
    assert one.warm.run(*command, cwd=one.directory).code == 0
    one.server.plain.clear()
    found = verify(one, "--reask", "50", *at(one), "--model", "openai/second")

    assert (found.code, found.document["reask"]["asked"]) == (0, len(one.server.plain))
    assert {body["model"] for body in one.server.plain} == {"second"}


def test_interrupted(one: BatchRuns, before: Stored) -> None:
    """Ctrl-C: exit 130, what was not asked is unsent and no limit is blamed."""
    command = ("cache", "verify", "--json", "--reask", str(DISTINCT), *at(one), "--max-connections", "1", "--rpm", "60")
    child = one.warm.start(*command, cwd=one.directory)
    one.wait_for("plain", DISTINCT + 1)
    child.send(signal.SIGINT)
    found = child.finish()
    again = found.document["reask"]

    assert found.code == 130, found.stderr
    assert again["asked"] + again["unsent"] == DISTINCT
    assert (again["failed"], again["over_limit"], again["interrupted"]) == (0, 0, True)
    assert contents(one) == before


@pytest.mark.parametrize(
    ("said", "letter"),
    [
        ("Answer: B\nExplanation: A man.", "B"),
        ("Explanation: A man.\n**Answer:** (c)", "C"),
        ("answer - a", "A"),
        ("Answer: Certainly", None),
        ("The answer is unclear.", None),
        (None, None),
    ],
)
def test_the_letter_of_a_chat_answer(said: str | None, letter: str | None) -> None:
    """By the line that names the answer, in either order."""
    assert letter == letter_of(chat(0), Completion(text=said, finish_reason="stop"))


@pytest.mark.parametrize(("said", "letter"), [(" B\nExplanation: A", "B"), (" (C)", "C"), (" Because", None)])
def test_the_letter_of_a_continued_answer(said: str, letter: str | None) -> None:
    """Where the prompt ends in "Answer:" the letter comes first."""
    request = text(0).model_copy(update={"prompt": "Rain?\nAnswer:"})

    assert letter == letter_of(request, Completion(text=said, finish_reason="stop"))


@pytest.mark.slow
def test_what_asking_a_run_again_costs_is_booked_in_its_ledger(warm: WarmCommands, tmp_path: Path) -> None:
    """Only its answers are asked; a limit counts what asking again spent there before, and nothing of `run` itself."""
    with BatchRuns(warm, tmp_path) as one:
        assert one.run("--price", "0,1000", "--out", "out").code == 0
        assert one.run("--price", "0,1000", "--out", "other", "--order", "ep").code == 0
        bought = len(one.server.plain)
        options = ("--run", "out", "--price", "0,1000", *at(one))
        first = verify(one, "--reask", "4", *options)
        limit = ("--max-usd", str(first.document["reask"]["usd"]))
        asked = len(one.server.plain)
        again = verify(one, "--reask", "4", *options, *limit)
        everything = verify(one, "--reask", "1000", *options)
        notes = warm.run("notes", "out", cwd=tmp_path)
    ledger = read_ledger(tmp_path / "out")

    assert (first.code, asked - bought) == (0, 4)
    assert (again.code, again.document["reask"]["asked"]) == (3, 0)
    assert everything.document["reask"]["asked"] == DISTINCT
    spent = first.document["reask"]["usd"] + everything.document["reask"]["usd"]
    assert ledger.spent("reask") == pytest.approx(spent)
    assert f"{dollars_text(spent)} by asking answers again" in " ".join(notes.stdout.split())
