"""Explain why requests of a run have no stored answer, by the stored requests nearest to them and what differs.

Nearest is the stored request with the fewest differing fields, where another text counts like one field if little of
it differs and like several if it is another text altogether; then the one with the most similar text; then the one with
the nearest sample index. One pass over the store serves all misses that are shown.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from explaineval.cache import Store, canonical, request_key
from explaineval.client.endpoints.capabilities import Capabilities, assume_capabilities
from explaineval.config import Arm, ModelConfig, arms_for
from explaineval.planning.prepare import Prepared
from explaineval.planning.requests import Examples
from explaineval.planning.units import Step, all_examples, walk
from explaineval.records import Completion, Request

TEXTS = ("messages", "prompt")
EXCERPT = 40
"""Characters shown on either side of where two texts part."""

ABSENT = "absent"


@dataclass(frozen=True)
class Contrast:
    """One field that differs. `place` says where in a text; stored and asked are JSON, or excerpts of a text."""

    field: str
    stored: str
    asked: str
    place: str | None = None

    @property
    def text(self) -> str:
        """The difference on one line."""
        name = self.field if self.place is None else f"{self.field}, {self.place}"
        return f"{name}: stored {self.stored}, asked {self.asked}"


def contrast(stored: Request, asked: Request) -> tuple[Contrast, ...]:
    """All differing fields: parameters one by one, of a text the first differing place."""
    old, new = _flat(canonical(stored)), _flat(canonical(asked))
    contrasts = []
    for name in sorted(old.keys() | new.keys(), key=lambda name: (name in TEXTS, name)):
        if name in old and name in new and _spelled(old[name]) == _spelled(new[name]):
            continue
        if name == "messages" and name in old and name in new:
            contrasts.append(_turns(old[name], new[name]))
        elif name == "prompt" and name in old and name in new:
            contrasts.append(_texts(name, old[name], new[name], ""))
        else:
            contrasts.append(Contrast(name, _shown(name, old), _shown(name, new)))
    return tuple(contrasts)


def flat_text(request: Request) -> str:
    """All of a request's text as one string, turns and their roles kept apart."""
    if request.prompt is not None:
        return request.prompt
    return "\x1e".join(f"{turn.role}\x1f{turn.content}" for turn in request.messages or ())


def common_ends(one: str, other: str) -> tuple[int, int]:
    """Lengths of what two strings have in common at the beginning, and at the end of what is left.

    >>> common_ends("a small dog", "a big dog")
    (2, 4)
    """
    longest = min(len(one), len(other))
    start = _longest(longest, lambda n: one[:n] == other[:n])
    end = _longest(longest - start, lambda n: one[len(one) - n :] == other[len(other) - n :])
    return start, end


def _longest(most: int, fits: Any) -> int:
    """The greatest n up to `most` that fits, where all smaller ones fit too."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low


def _turns(old: list[dict[str, str]], new: list[dict[str, str]]) -> Contrast:
    total = f"of {len(new)}" if len(old) == len(new) else f"(stored {len(old)} turns, asked {len(new)})"
    for number, (was, now) in enumerate(zip(old, new, strict=False), start=1):
        if was["role"] != now["role"]:
            return Contrast("messages", was["role"], now["role"], f"the role of turn {number} {total}")
        if was["content"] != now["content"]:
            return _texts("messages", was["content"], now["content"], f"turn {number} {total} ({now['role']}), ")
    return Contrast("messages", str(len(old)), str(len(new)), "the number of turns")


def _texts(field: str, old: str, new: str, turn: str) -> Contrast:
    start, end = common_ends(old, new)
    return Contrast(field, _excerpt(old, start, end), _excerpt(new, start, end), f"{turn}character {start + 1}")


def _excerpt(text: str, start: int, end: int) -> str:
    """What differs, with a little before it and the word it ends in, quoted; long ones are cut."""
    first = max(0, start - EXCERPT // 2)
    last = min(max(len(text) - end, start + 1) + EXCERPT // 2, start + EXCERPT)
    cut = text[first:last]
    return f"{'…' if first else ''}{json.dumps(cut, ensure_ascii=False)}{'…' if last < len(text) else ''}"


def _flat(entries: Mapping[str, Any]) -> dict[str, Any]:
    """The canonical form with every parameter under a name of its own."""
    plain = {name: value for name, value in entries.items() if name != "params"}
    return plain | {f"params.{name}": value for name, value in entries.get("params", {}).items()}


def _shown(name: str, entries: Mapping[str, Any]) -> str:
    if name not in entries:
        return ABSENT
    text = entries[name] if name == "model" else json.dumps(entries[name], ensure_ascii=False)
    return text if len(text) <= 2 * EXCERPT else text[: 2 * EXCERPT - 1] + "…"


def _spelled(value: Any) -> str:
    """As it stands in the key: 1 and true are equal in Python, but not on the wire."""
    return json.dumps(value, sort_keys=True)


CLOSE = 60
"""Characters that two texts may differ in, from the first differing one to the last, to be nearly the same."""

FOREIGN = 3
"""How many differing fields another text altogether counts for."""

CHEAP = ("endpoint", "model", "style", "max_tokens", "temperature", "stop", "logprobs", "sample")


@dataclass(frozen=True)
class Miss:
    """A request without answer: the nearest stored one, its key, and what differs; none where the store is empty."""

    step: Step
    nearest: Request | None = None
    key: str | None = None
    contrasts: tuple[Contrast, ...] = ()
    foreign: bool = False
    """Whether the nearest one's text is another text altogether: this one was never asked in any form."""


@dataclass(frozen=True)
class MissReport:
    """The requests of a run against a store. `assumed`: some endpoint's capabilities are not known yet.

    `common` are the contrasts that all shown misses have in common, if these are all their contrasts, and `alike`
    how many of all misses a stored request differs from in just that way (None where that was not looked for).
    """

    hits: int
    misses: int
    assumed: bool
    shown: tuple[Miss, ...]
    common: tuple[Contrast, ...] = ()
    alike: int | None = None


def explain_misses(prepared: Prepared, store: Store, limit: int, examples: Examples = all_examples) -> MissReport:
    """Count the hits and misses of a run's plan, and explain the first `limit` misses. Nothing is asked.

    `examples` says which of them the run asks about. Raises StoreError where the store cannot be read.
    """
    capabilities, assumed = _capabilities(prepared, store)
    hits = misses = 0
    first: list[Step] = []
    for step in walk(prepared, capabilities, store.get, examples):
        if step.completion is not None:
            hits += 1
            continue
        misses += 1
        if len(first) < limit:
            first.append(step)
    shown = tuple(_nearest(first, store.iterate()))
    common = shown[0].contrasts if shown else ()
    if not common or any(miss.contrasts != common for miss in shown) or any(item.place for item in common):
        return MissReport(hits, misses, assumed, shown)
    alike = _count_alike(walk(prepared, capabilities, store.get, examples), shown[0], store)
    return MissReport(hits, misses, assumed, shown, common, alike)


def _capabilities(prepared: Prepared, store: Store) -> tuple[Callable[[ModelConfig, Arm], Capabilities], bool]:
    """How each arm would be sent; whether any of it is assumed for want of a verdict."""
    known: dict[tuple[str | None, str, str], tuple[Capabilities, bool]] = {}

    def capabilities(model: ModelConfig, arm: Arm) -> Capabilities:
        name = (model.endpoint, model.model, arm.style)
        if name not in known:
            known[name] = assume_capabilities(store, prepared.config, model, arm.style)
        return known[name][0]

    for model in prepared.config.models:
        for arm in arms_for(prepared.config, model):
            capabilities(model, arm)
    return capabilities, not all(settled for _, settled in known.values())


@dataclass
class _Search:
    """The nearest stored request so far to one that is missing."""

    asked: Request
    text: str = ""
    best: tuple[int, int, int, str] | None = None
    stored: Request | None = None
    counts: dict[tuple[Any, ...], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.text = flat_text(self.asked)

    def consider(self, key: str, stored: Request, cheap: tuple[Any, ...], text: str) -> None:
        """Take one stored request into account; its cheap fields first, its text only where it could still win."""
        count = self.counts.get(cheap)
        if count is None:
            count = self.counts[cheap] = _count_cheap(cheap, _cheap(self.asked))
        if self.best is not None and count > self.best[0]:
            return
        if text == self.text:
            unlike = 0
        else:
            if self.best is not None and count + 1 > self.best[0]:
                return
            unlike = max(len(text), len(self.text)) - sum(common_ends(text, self.text))
            count += 1 if unlike <= CLOSE else FOREIGN
        rank = (count, unlike, abs(stored.sample - self.asked.sample), key)
        if self.best is None or rank < self.best:
            self.best, self.stored = rank, stored


def _nearest(steps: list[Step], rows: Iterable[tuple[str, Request, Completion]]) -> Iterator[Miss]:
    searches = [_Search(step.request) for step in steps]
    if searches:
        for key, stored, _ in rows:
            cheap, text = _cheap(stored), flat_text(stored)
            for search in searches:
                search.consider(key, stored, cheap, text)
    for step, search in zip(steps, searches, strict=True):
        if search.best is None or search.stored is None:
            yield Miss(step)
        else:
            yield Miss(
                step, search.stored, search.best[3], contrast(search.stored, step.request), search.best[1] > CLOSE
            )


def _cheap(request: Request) -> tuple[Any, ...]:
    params = json.dumps(dict(request.params), sort_keys=True) if request.params else ""
    return (*(getattr(request, name) for name in CHEAP), params)


def _count_cheap(one: tuple[Any, ...], other: tuple[Any, ...]) -> int:
    old: dict[str, Any] = json.loads(one[-1] or "{}")
    new: dict[str, Any] = json.loads(other[-1] or "{}")
    names = [name for name in old.keys() | new.keys() if old.get(name) != new.get(name)]
    return len(names) + sum(1 for was, now in zip(one[:-1], other[:-1], strict=True) if was != now)


def _count_alike(steps: Iterator[Step], example: Miss, store: Store) -> int:
    """How many misses have a stored counterpart that differs from them as `example` does from its nearest one."""
    stored, asked = example.nearest, example.step.request
    changes = {
        name: getattr(stored, name) for name in (*CHEAP, "params") if getattr(stored, name) != getattr(asked, name)
    }
    wanted = [(name, getattr(asked, name)) for name in changes]

    def is_alike(step: Step) -> bool:
        if step.completion is not None or any(getattr(step.request, name) != value for name, value in wanted):
            return False
        return store.get(request_key(step.request.model_copy(update=changes))) is not None

    return sum(is_alike(step) for step in steps)
