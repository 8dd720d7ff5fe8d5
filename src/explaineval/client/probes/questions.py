"""What a probe asks: short questions in the answer format of a run, with room for doubt about the letter. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from explaineval.records import Message, Request, Style

Extra = Literal["system", "seed"]

MAX_TOKENS = 16
REASONING_TOKENS = 1024
"""The limit of the one request that lets a reasoning model come to its answer."""

SYSTEM = "You answer briefly and keep to the format."
FORMAT = "Reply with exactly two lines:\nAnswer: <letter>\nExplanation: <one short sentence>"
ASKED = (
    "Which of these is the nicest place to read?\nA: a garden\nB: a library\nC: a train\nD: a kitchen\n",
    "Which of these weighs the most?\nA: a wet towel\nB: a full kettle\nC: a winter coat\nD: a thick book\n",
)
"""Two different questions, so that log-probabilities can be compared."""

SHOTS = (
    "Which of these can fly?\nA: a stone\nB: a lamp\nC: a swallow\nD: a chair\n"
    "Answer: C\nExplanation: A swallow is a bird, and the others are things without wings.\n\n"
    "Which of these is cold?\nA: snow\nB: soup\nC: fire\nD: sand\n"
    "Answer: A\nExplanation: Snow is frozen water, so it is cold.\n\n"
)
STOPS = ("\n\n",)


def build_question(
    endpoint: str | None,
    model: str,
    style: Style,
    number: int,
    *,
    logprobs: int | None,
    temperature: float | None,
    extras: Collection[Extra] = (),
    max_tokens: int = MAX_TOKENS,
) -> Request:
    """Question `number` (0 or 1) as a request; `extras` adds a system message, or a seed."""
    chat = style == "chat"
    turns = [Message(role="system", content=SYSTEM)] if "system" in extras else []
    turns.append(Message(role="user", content=ASKED[number] + FORMAT))
    return Request(
        endpoint=endpoint,
        model=model,
        style=style,
        messages=tuple(turns) if chat else None,
        prompt=None if chat else f"{SHOTS}{ASKED[number]}Answer:",
        max_tokens=max_tokens,
        temperature=temperature,
        stop=() if chat else STOPS,
        logprobs=logprobs,
        params={"seed": 1} if "seed" in extras else {},
    )
