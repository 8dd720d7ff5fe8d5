"""A planted truth: for every example and inserted word, what a made-up model answers, and how sure it is.

Everything is decided by a hash of (arm, example, word), so the numbers of a run are known without the package
under test. Each example carries a token, and each inserted word is a marker, that occur nowhere else.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

LETTERS = ("A", "B", "C")
MASS, LOW_MASS = 0.97, 0.6
SHOTS = 2
KIND = "planted_word"
EAGERNESS = {"minimal": 0.3, "brief": 0.6, "detailed": 1.2, "exhaustive": 1.5}
"""By verbosity level, how often an inserted word is named, as a multiple of how often the normal one names it."""


@dataclass(frozen=True)
class Arm:
    """Who is asked and how: each arm has a truth of its own, so that mixing them up shows."""

    model: str
    style: str
    order: str
    level: str | None = field(default=None, repr=False)
    """The verbosity of the explanation, None for the normal one; no part of the name, so it decides no answer."""


@dataclass(frozen=True)
class Table:
    """`examples` evaluated examples with `words` insertions each; the last SHOTS rows of the file are the shots.

    `shaky` lets every fifth example or so answer differently when the same prompt comes a second time.
    """

    examples: int = 12
    words: int = 4
    seed: int = 0
    shaky: bool = False
    low_mass: bool = True
    levels: bool = False
    """Whether the task file has its shots explained at every verbosity level."""

    @cached_property
    def ids(self) -> list[str]:
        """The evaluated examples in file order."""
        return [f"x{number:03d}" for number in range(self.examples)]

    def token(self, example: str) -> str:
        """The word by which a prompt shows which example it is about."""
        return "zq" + example[1:]

    def markers(self, example: str) -> list[str]:
        """The words inserted into an example, each unique in the file and no part of another."""
        return [f"mork{_spell(int(example[1:]))}{_spell(number)}q" for number in range(self.words)]

    def pairs(self) -> list[tuple[str, str]]:
        """All (example, word) in file order."""
        return [(example, word) for example in self.ids for word in self.markers(example)]

    def gold(self, example: str) -> str | None:
        """The gold letter; a few examples have none."""
        return None if self._draw("no gold", example) < 0.15 else LETTERS[int(3 * self._draw("gold", example))]

    def is_shaky(self, arm: Arm, example: str) -> bool:
        """Whether the second answer to the same prompt has another letter."""
        return self.shaky and self._draw("shaky", arm, example) < 0.25

    def changed(self, arm: Arm, example: str, word: str) -> bool:
        """Whether the inserted word changes the answer: for some examples more often than for others."""
        return self._draw("changed", arm, example, word) < (0.65 if self._draw("unstable", example) < 0.5 else 0.25)

    def mention(self, arm: Arm, example: str, word: str) -> str:
        """How the explanation names the inserted word: as a "word", as "part" of a longer one, or not ("none")."""
        draw = self._draw("mention", arm, example, word, *([arm.level] if arm.level else []))
        if draw < (0.6 if self.changed(arm, example, word) else 0.25) * EAGERNESS.get(arm.level or "", 1):
            return "word"
        return "part" if draw > 0.85 else "none"

    def label(self, arm: Arm, example: str, word: str | None, visit: int = 1) -> str:
        """The letter of the answer; `visit` counts how often this prompt was answered, from 1."""
        base = int(3 * self._draw("label", arm, example))
        if word is None:
            return LETTERS[(base + (visit % 2 == 0 and self.is_shaky(arm, example))) % 3]
        move = 1 + int(2 * self._draw("move", arm, example, word)) if self.changed(arm, example, word) else 0
        return LETTERS[(base + move) % 3]

    def distribution(self, arm: Arm, example: str, word: str | None, visit: int = 1) -> dict[str, float]:
        """Probability of each letter; together MASS, or LOW_MASS where the rest goes to other tokens."""
        label = self.label(arm, example, word, visit)
        share = 0.5 + 0.45 * self._draw("share", arm, example, word)
        first, second = (letter for letter in LETTERS if letter != label)
        rest = 0.25 + 0.5 * self._draw("rest", arm, example, word)
        mass = LOW_MASS if self.is_low(arm, example, word) else MASS
        shares = {label: share, first: (1 - share) * rest, second: (1 - share) * (1 - rest)}
        return {letter: mass * shares[letter] for letter in LETTERS}

    def is_low(self, arm: Arm, example: str, word: str | None) -> bool:
        """Whether too little probability is on letters for a TVD; never before the insertion."""
        return self.low_mass and word is not None and self._draw("low", arm, example, word) < 0.12

    def tvd(self, arm: Arm, example: str, word: str) -> float | None:
        """Total variation distance of the renormalised planted distributions; None where there is none."""
        if self.is_low(arm, example, word):
            return None
        before, after = self.distribution(arm, example, None), self.distribution(arm, example, word)
        return sum(abs(before[letter] - after[letter]) for letter in LETTERS) / MASS / 2

    def floor_word(self, arm: Arm, example: str) -> str | None:
        """The word that the explanation names even though it was never inserted."""
        return self.markers(example)[0] if self._draw("floor", arm, example) < 0.3 else None

    def explanation(self, arm: Arm, example: str, word: str | None) -> str:
        """What the made-up model says; holds a lone letter ("a"), so that its token is no sign of the answer."""
        named = self.floor_word(arm, example)
        if word is not None:
            named = {"word": word.capitalize(), "part": f"pre{word}ish", "none": None}[self.mention(arm, example, word)]
        return "It follows from such a remark" + (f", in view of {named} as it stands." if named else ".")

    def write_task(self, path: Path) -> Path:
        """Write the task JSONL: examples, then the shots."""
        rows = []
        for number in range(self.examples + SHOTS):
            example = f"x{number:03d}"
            row: dict[str, Any] = {
                "id": example,
                "fields": {"note": f"One {self.token(example)} was found.", "claim": "Somebody lost the thing."},
                "options": {"A": "plainly so", "B": "left open", "C": "by no means"},
            }
            gold = self.gold(example)
            if number >= self.examples:
                row |= {"gold": LETTERS[number % 3], "explanation": f"The note about {self.token(example)} shows it."}
                if self.levels:
                    row["explanations"] = {
                        level: f"The {level} note about {self.token(example)} shows it." for level in EAGERNESS
                    }
            elif gold is not None:
                row["gold"] = gold
            rows.append(row)
        return _write_lines(path, rows)

    def write_interventions(self, path: Path) -> Path:
        """Write the interventions JSONL; every other line spells out the edited text."""
        rows = []
        for number, (example, word) in enumerate(self.pairs()):
            text, offset = f"One {self.token(example)} was found.", len(f"One {self.token(example)} ")
            row = {"example_id": example, "kind": KIND, "field": "note", "offset": offset, "inserted": word}
            if number % 2:
                row["edited"] = f"{text[:offset]}{word} {text[offset:]}"
            rows.append(row)
        return _write_lines(path, rows)

    def _draw(self, *parts: object) -> float:
        """A number in [0, 1) that depends on nothing but the seed and the parts."""
        data = json.dumps([self.seed, *map(str, parts)]).encode()
        return int.from_bytes(hashlib.blake2b(data, digest_size=7).digest(), "big") / 2**56


def _spell(number: int) -> str:
    return chr(ord("a") + number // 20 % 20) + chr(ord("a") + number % 20)


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
