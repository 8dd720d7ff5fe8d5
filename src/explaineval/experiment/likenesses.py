"""In what two requests differ, field by field of the canonical form; and how much alike two texts are. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from explaineval.cache import canonical
from explaineval.records import Request

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
        """In one line."""
        name = self.field if self.place is None else f"{self.field}, {self.place}"
        return f"{name}: stored {self.stored}, asked {self.asked}"


def contrast(stored: Request, asked: Request) -> tuple[Contrast, ...]:
    """All differing fields: the cheap ones by name, parameters one by one, of a text the first differing place."""
    old, new = _flat(canonical(stored)), _flat(canonical(asked))
    found = []
    for name in sorted(old.keys() | new.keys(), key=lambda name: (name in TEXTS, name)):
        if name in old and name in new and _spelled(old[name]) == _spelled(new[name]):
            continue
        if name == "messages" and name in old and name in new:
            found.append(_turns(old[name], new[name]))
        elif name == "prompt" and name in old and name in new:
            found.append(_texts(name, old[name], new[name], ""))
        else:
            found.append(Contrast(name, _shown(name, old), _shown(name, new)))
    return tuple(found)


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
