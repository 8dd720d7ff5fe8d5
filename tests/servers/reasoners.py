"""A planted model that reasons: what its reasoning acknowledges and what its answer acknowledges are both known.

Of 120 insertions 100 change the answer. Where they do, 87 reasonings and 29 answers name the inserted word; where they
do not, 4 reasonings and 1 answer do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from servers import replies, shapes
from servers.planted import MARKER, TOKEN
from servers.shapes import Shape
from servers.tables import LETTERS, Table

Way = Literal[
    "reasoning_content", "reasoning", "thinking blocks", "closed tags", "end tag", "hidden", "redacted", "none",
]  # fmt: skip
"""How the reasoning comes: in one of two fields, as Anthropic's blocks, in tags at the head of the text (closed, or
with the opening tag in the prompt as some templates have it); or not: counted only, or redacted, or there was none."""

FILLER = "The note speaks of a thing that was found, and the claim of one that was lost. "
TABLE = Table(examples=10, words=12, seed=1)


@dataclass(frozen=True)
class Planted:
    """What is planted for one insertion."""

    changed: bool
    in_reasoning: bool
    in_answer: bool


def plant() -> dict[tuple[str, str], Planted]:
    """What is planted for each (example, word): shares that are exact, spread over the examples."""
    found = {}
    ranks = {True: 0, False: 0}
    for number, pair in enumerate(TABLE.pairs()):
        changed = number % 6 > 0
        rank = ranks[changed]
        ranks[changed] += 1
        if changed:
            found[pair] = Planted(changed, rank * 37 % 100 < 87, rank * 53 % 100 < 29)
        else:
            found[pair] = Planted(changed, rank % 5 == 0, rank == 7)
    return found


PLANTED = plant()


def respond(way: Way, shape: Shape, body: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a body, with the reasoning in this way."""
    turns = body["messages"] if shape != "text" else [{"content": body["prompt"]}]
    content = turns[-1]["content"]
    prompt = content if isinstance(content, str) else "".join(part["text"] for part in content)
    shown = prompt.rpartition("\n\n")[2] if shape == "text" else prompt
    example, words = f"x{TOKEN.findall(shown)[-1]}", MARKER.findall(shown)
    word = words[-1] if words else None
    planted = PLANTED[example, word] if word else Planted(changed=False, in_reasoning=False, in_answer=False)
    label = LETTERS[(int(example[1:]) + planted.changed) % 3]
    reason = "It follows from such a note" + (f", in view of {word}." if planted.in_answer else ".")
    text = replies.compose("pe", "completion" if shape == "text" else "chat", label, reason)
    thought = FILLER * 4 + (f"It says {word}, which settles it." if planted.in_reasoning else "That settles it.")
    if way == "closed tags":
        text = f"<think>\n{thought}\n</think>\n\n{text}"
    elif way == "end tag":
        text = f"{thought}\n</think>\n\n{text}"
    found = shapes.answer(shape, str(body["model"]), text, "stop", None)
    tokens = len(thought) // 4
    if way == "none":
        return found
    if shape == "anthropic":
        blocks = {"type": "thinking", "thinking": thought, "signature": "c2ln"}
        if way == "redacted":
            blocks = {"type": "redacted_thinking", "data": "b3BhcXVl"}
        found["content"].insert(0, blocks)
        found["usage"]["output_tokens"] += tokens
        return found
    choice = found["choices"][0]
    holder = choice["message"] if shape == "chat" else choice
    if way in ("reasoning_content", "reasoning"):
        holder[way] = thought
    usage = found["usage"]
    usage |= {"completion_tokens": 20 + tokens, "total_tokens": 120 + tokens}
    if way in ("reasoning_content", "hidden"):
        usage["completion_tokens_details"] = {"reasoning_tokens": tokens}
    return found
