"""Every distinct request of a run in the order of its plan, beside its stored answer. Nothing is asked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from dataclasses import dataclass

from explaineval.cache import request_key
from explaineval.client.cached import find_older
from explaineval.client.endpoints.capabilities import Capabilities
from explaineval.config import Arm, ModelConfig
from explaineval.planning.prepare import Prepared
from explaineval.planning.units import Asked, Reply, Unit, ask_again, explanation_request, plan, read
from explaineval.records import Completion, Intervention, Request

Find = Callable[[str], Completion | None]
"""Looks a key up."""


@dataclass(frozen=True)
class Step:
    """One request: whose it is, its key, and its stored answer if it was looked for and found.

    `certain` is False for a second call whose text depends on an answer that is not stored yet: it is one of several.
    """

    unit: Unit
    intervention: Intervention | None
    request: Request
    key: str
    completion: Completion | None
    certain: bool = True


def walk(
    prepared: Prepared, able: Callable[[ModelConfig, Arm], Capabilities | None], find: Find | None
) -> Iterator[Step]:
    """All distinct requests; an arm for which `able` knows no capabilities is passed over.

    What --retry asks once more, and second calls, can only be told from the first answers, so without `find` those
    requests are left out.
    """
    seen: set[int] = set()
    older = prepared.client.older_names
    for model in prepared.config.models:
        for unit in _units(prepared, model, able):
            yield from walk_unit(unit, seen, find, prepared.config.retry, older)


def walk_unit(
    unit: Unit, seen: set[int], find: Find | None, retry: Collection[str], older_names: Mapping[str, str]
) -> Iterator[Step]:
    """The unit's requests that are not `seen` yet, wave after wave."""
    if unit.idle:
        return
    inputs: list[tuple[Asked | None, Request]] = [(None, unit.base)]
    inputs += [(one, one.request) for one in unit.asked if one.request is not None]
    for asked, request in inputs:
        reply = yield from _call(unit, asked, request, seen, find, retry, older_names, None)
        if not unit.twofold or find is None:
            continue
        if reply is None:  # whatever the answer will be, the call is as long with one letter as with another
            guess = unit.explanation_of(asked, next(iter(unit.example.options)), request)
            if _is_new(f"{request_key(guess)} guessed", seen):
                yield Step(unit, asked.intervention if asked else None, guess, request_key(guess), None, certain=False)
            continue
        second = explanation_request(unit, asked, reply)
        if second is not None:
            yield from _call(unit, asked, second, seen, find, retry, older_names, read(unit, reply).label)
    for sham in unit.shams:
        yield from _call(unit, None, sham, seen, find, retry, older_names, None)


def _call(
    unit: Unit,
    asked: Asked | None,
    request: Request,
    seen: set[int],
    find: Find | None,
    retry: Collection[str],
    older_names: Mapping[str, str],
    label: str | None,
) -> Generator[Step, None, Reply | None]:
    """The request, and the one that asks it again; returns the reply that counts, None where it is not stored."""
    key = request_key(request)
    new = _is_new(key, seen)
    if not new and not retry and not unit.twofold:
        return None
    completion = None if find is None else find(key) or find_older(find, request, older_names)
    if new:
        yield Step(unit, asked.intervention if asked else None, request, key, completion)
    if completion is None:
        return None
    reply = Reply(request, completion)
    again = ask_again(unit, reply, retry, label)
    if again is None:
        return reply
    return (yield from _call(unit, asked, again, seen, find, (), older_names, label)) or reply


def _is_new(key: str, seen: set[int]) -> bool:
    short = int(key[:16], 16) ^ (1 if " " in key else 0)
    known = short in seen
    seen.add(short)
    return not known


def _units(
    prepared: Prepared, model: ModelConfig, able: Callable[[ModelConfig, Arm], Capabilities | None]
) -> Iterator[Unit]:
    unknown = Capabilities(None, None, "off")
    config, edits = prepared.config, prepared.chosen.edits
    for unit in plan(config, prepared.prompts, prepared.tasks, edits, model, lambda arm: able(model, arm) or unknown):
        if able(model, unit.arm) is not None:
            yield unit
