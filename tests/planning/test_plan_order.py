"""The order of the plan: what begins alike is asked close together, so that a server's prompt cache is used."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from explaineval.client.endpoints.capabilities import Capabilities
from explaineval.config import ClientConfig, RunConfig, build
from explaineval.execution.pool import Pool, ask_units
from explaineval.execution.run import execute
from explaineval.planning import units as planning
from explaineval.planning.prepare import Prepared, prepare
from explaineval.planning.requests import RequestBuilder, prompt_text
from explaineval.planning.units import Unit, builders, plan, units_of, walk_units
from explaineval.prompts import default_directory
from explaineval.records import Completion, Request

ABLE = Capabilities(None, 0.0, "off")
LEVELS = ["brief", "normal", "detailed"]
ARMS: dict[str, dict[str, Any]] = {
    "levels, no shots": {"verbosity": LEVELS},
    "two calls at three levels": {"order": ["pe2"], "verbosity": LEVELS},
    "all orders": {"order": ["pe", "pe2", "ep"], "verbosity": LEVELS},
    "with and without shots": {"order": ["pe", "ep"], "verbosity": LEVELS, "shots": [0, 2]},
    "completion with shots": {"order": ["pe", "pe2"], "style": ["completion"], "verbosity": LEVELS, "shots": [2]},
}
MEMORY = 10
"""How many prompts the server of these tests keeps: fewer than one example has under three arms."""


def prepared(arms: dict[str, Any], **changes: Any) -> Prepared:
    """Six bundled examples with three words each."""
    values = {"tasks": ["sense"], "models": [{"model": "a/b"}], "limit": 6, "interventions": {"per_example": 3}}
    return prepare(build(RunConfig, {**values, "arms": arms, **changes}, "t"), ClientConfig())


def new_order(found: Prepared) -> Iterator[Unit]:
    """The plan."""
    return plan(found, found.config.models[0], lambda _: ABLE)


def old_order(found: Prepared) -> Iterator[Unit]:
    """The same units arm by arm, each over all examples, in the order in which the configuration lists the arms."""
    for builder in builders(found, found.config.models[0]):
        yield from units_of(found, builder, ABLE)


class RememberingServer:
    """Answers, and remembers the last prompts; it reads of a prompt what comes after the longest known beginning."""

    def __init__(self) -> None:
        self.known: list[str] = []
        self.read = self.sent = 0

    async def complete(self, request: Request) -> Completion:
        """Read the prompt, and answer."""
        self.take(request)
        await asyncio.sleep(0)
        return Completion(text="Answer: A\nExplanation: It is so.", finish_reason="stop")

    def take(self, request: Request) -> None:
        """Count the characters that must be read, and forget the prompt that was used longest ago."""
        text = prompt_text(request)
        best = max(self.known, key=lambda other: known_length(text, other), default="")
        self.read += len(text) - known_length(text, best)
        self.sent += len(text)
        others = [other for other in self.known if other not in (text, best)]
        self.known = [*others, best, text][-MEMORY:]


def known_length(text: str, other: str) -> int:
    """How many characters two texts have in common at the beginning, found by halving."""
    low, high = 0, min(len(text), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if text[:middle] == other[:middle] else (low, middle - 1)
    return low


def characters_read(found: Prepared, units: Iterator[Unit]) -> int:
    """How many characters the server reads for these units, each distinct request sent once."""
    server = RememberingServer()
    for step in walk_units(units, found):
        server.take(step.request)
    return server.read


def switches(values: Sequence[object]) -> int:
    """How often neighbours differ."""
    return sum(a != b for a, b in pairwise(values))


@pytest.mark.parametrize("arms", ARMS.values(), ids=ARMS)
def test_every_unit_comes_once_with_its_inputs_together(arms: dict[str, Any]) -> None:
    """The units are those of all arms, and an original stands next to its interventions."""
    found = prepared(arms, samples=2)

    def names(units: Iterator[Unit]) -> list[str]:
        return sorted(f"{unit.arm} {unit.example.id} {unit.sample}" for unit in units)

    assert names(new_order(found)) == names(old_order(found))
    inputs = [(step.unit.arm, step.unit.example.id, step.unit.sample) for step in walk_units(new_order(found), found)]
    assert switches(inputs) == len(set(inputs)) - 1


def test_without_shots_all_arms_ask_about_one_example_before_the_next() -> None:
    """Their prompts begin with the example: it changes as seldom as it can."""
    found = prepared(ARMS["all orders"])
    examples = [unit.example.id for unit in new_order(found)]

    assert (len(examples), switches(examples)) == (6 * 9, 6 - 1)
    assert switches([unit.example.id for unit in old_order(found)]) == 6 * 9 - 1


def test_with_shots_an_arm_is_asked_to_the_end_before_the_next() -> None:
    """Their prompts begin with the arm's shots: what stands before the example changes as seldom as it can."""
    found = prepared({"order": ["pe", "ep"], "verbosity": LEVELS, "shots": [2, 1]})

    def beginning(unit: Unit) -> str:
        text = prompt_text(unit.original.request or pytest.fail("it is asked"))
        return text[: text.rindex(unit.example.fields["sentence1"])]

    beginnings = [beginning(unit) for unit in new_order(found)]
    assert switches(beginnings) == len(set(beginnings)) - 1 == 2 * 3 * 2 - 1


def test_arms_with_the_same_shots_are_asked_together() -> None:
    """In completion style pe shows what the explaining call of pe2 shows: example by example, level after level."""
    found = prepared(ARMS["completion with shots"])
    pairs = [(unit.arm.verbosity, unit.example.id) for unit in new_order(found)]

    assert switches(pairs) == 3 * 6 - 1
    assert switches([level for level, _ in pairs]) == 3 - 1


def test_the_users_own_prompts_decide(tmp_path: Path) -> None:
    """A template that begins with the level has a beginning for each level, also without shots."""
    prompts = tmp_path / "prompts"
    shutil.copytree(default_directory(), prompts)
    path = prompts / "chat" / "pe.j2"
    path.write_text("{{ verbosity }}\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    levels = [unit.arm.verbosity for unit in new_order(prepared(ARMS["levels, no shots"], prompts=prompts))]

    assert switches(levels) == 3 - 1


@pytest.mark.parametrize("arms", ARMS.values(), ids=ARMS)
def test_a_server_that_remembers_few_prompts_reads_less(arms: dict[str, Any]) -> None:
    """Never more than arm by arm; without shots at several levels, less than two thirds."""
    found = prepared(arms)
    new, old = characters_read(found, new_order(found)), characters_read(found, old_order(found))

    if arms.get("style") == ["completion"]:
        assert new <= old
    elif arms.get("shots"):
        assert new < old
    else:
        assert new < 2 / 3 * old


def test_it_reads_less_with_several_requests_at_once() -> None:
    """The pool sends in about the order of the plan."""
    found = prepared(ARMS["levels, no shots"])
    servers = {}
    for order in (new_order, old_order):
        server = servers[order] = RememberingServer()
        pool = Pool(server, 2, asyncio.Event())
        asyncio.run(ask_units(pool, order(found), (), lambda *_: None))

    new, old = servers[new_order], servers[old_order]
    assert new.sent == old.sent
    assert new.read < old.read


@pytest.mark.slow
def test_the_numbers_do_not_depend_on_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same lines of trials.jsonl in another order, and the same metrics.json, byte for byte."""

    def listed(all_builders: Iterator[RequestBuilder], examples: Any, _start: float) -> Iterator[Any]:
        return ((builder, number) for builder in all_builders for number in examples(builder))

    values = {"tasks": ["sense"], "models": [{"model": "simulated/drifting"}], "limit": 8, "samples": 2}
    arms = ARMS["with and without shots"]
    trials, metrics = {}, {}
    for name in ("new", "old"):
        found = prepare(build(RunConfig, {**values, "arms": arms}, "t"), ClientConfig(cache=tmp_path / name / "cache"))
        run = tmp_path / name / "run"
        execute(found, run, lambda *_: None)
        trials[name] = (run / "trials.jsonl").read_text("utf-8").splitlines()
        metrics[name] = (run / "metrics.json").read_bytes()
        monkeypatch.setattr(planning, "in_order", listed)

    assert trials["new"] != trials["old"]
    assert sorted(trials["new"]) == sorted(trials["old"])
    assert metrics["new"] == metrics["old"]
    assert json.loads(metrics["new"])
