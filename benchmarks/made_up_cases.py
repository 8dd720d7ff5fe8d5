"""Made-up cases to ask about, and what a made-up model says to each: it depends on the prompt alone."""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
from pathlib import Path
from typing import Any

WORDS = ("wooden", "purple", "distant", "hollow", "bitter", "northern", "silent", "golden")
TALE = "it was said at the gate that nobody had seen who brought them before the rain came over that wall"
FILLER = tuple(TALE.split())
PLACE = re.compile(r"The (?:(\w+) )?case (\d{6}) ")


def draw_from(*parts: object) -> float:
    """A number in [0, 1) that depends on the parts alone."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=6).digest(), "big") / 2**48


def answer_to(prompt: str) -> tuple[str, str]:
    """Letter and text: every third insertion or so moves the answer, and half of those are mentioned.

    A prompt about no case (a probe's) gets an answer too.
    """
    word, case = next(reversed(PLACE.findall(prompt)), ("", ""))
    moved = bool(word) and draw_from("moved", case, word) < 0.3
    letter = "ABC"[(int(3 * draw_from("label", case)) + moved) % 3]
    said = bool(word) and draw_from("said", case, word) < (0.5 if moved else 0.2)
    reason = f"What is {word} matters in such a case." if said else "The note leaves nothing open about it."
    return letter, f"Answer: {letter}\nExplanation: {reason} {TALE}"


def logprobs_of(letter: str, text: str) -> list[dict[str, Any]]:
    """Alternatives at the answer letter; the rest of the text is two tokens that have none."""
    share = 0.5 + 0.49 * draw_from("sure", text)
    rest = [other for other in "ABC" if other != letter]
    top = [(f" {letter}", share), (f" {rest[0]}", (1 - share) * 0.6), (f" {rest[1]}", (1 - share) * 0.3)]
    shown = [{"token": token, "logprob": math.log(value)} for token, value in top]
    pieces = (("Answer:", []), (f" {letter}", shown), (text[9:], []))
    return [
        {"token": token, "logprob": -0.1, "bytes": list(token.encode()), "top_logprobs": tops} for token, tops in pieces
    ]


def write_task(directory: Path, examples: int, words: int, length: int = 12, script: str = "") -> tuple[str, Path]:
    """Write a task and its insertions; `length` words a note, each with `script` at its end. What to give `--task`."""
    draw = random.Random(examples)
    with (directory / "task.jsonl").open("w") as task, (directory / "edits.jsonl").open("w") as edits:
        for number in range(examples):
            tale = " ".join(
                word + script for word in draw.choices(FILLER, k=draw.randint(length - length // 5, length))
            )
            fields = {"note": f"The case {number:06d} was opened, and {tale}.", "claim": "Somebody lost the thing."}
            row = {"id": f"x{number:06d}", "fields": fields, "options": {"A": "plainly so", "B": "open", "C": "no"}}
            row["gold"] = "ABC"[draw.randrange(3)]
            task.write(json.dumps(row) + "\n")
            for word in WORDS[:words]:
                edit = {"example_id": row["id"], "kind": "made_up", "field": "note", "offset": 4, "inserted": word}
                edits.write(json.dumps(edit) + "\n")
    return f"jsonl:{directory / 'task.jsonl'}", directory / "edits.jsonl"
