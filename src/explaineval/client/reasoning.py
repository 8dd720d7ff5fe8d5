"""Tell what an endpoint returned of a model's reasoning: its text, a summary, or nothing.

A text beside the answer, or thinking tags at the head of it, may be the whole reasoning or a summary. Which of them it
is follows from what the endpoint says and from how many tokens it counts.
"""

from __future__ import annotations

from typing import NamedTuple

from explaineval.cost import output_tokens, reasoning_tokens, reasons_first
from explaineval.parsing import leading_reasoning
from explaineval.records import Completion, ReasoningReturned

LEAST_BYTES_PER_TOKEN = 1.5
"""Text has more bytes for each token in every language and tokeniser in use; a summary of the tokens counted has fewer.

English has about 4.5, Chinese about 4, code and numbers 2 to 3. So a summary of up to a third of the length is
recognised.
"""

FEWEST_TOKENS = 64
"""So many tokens that no text accounts for are reasoning; fewer may be marks of turns, or rounding."""


class Reasoning(NamedTuple):
    """The reasoning that came with an answer: its text, and what it is; both None where nothing is known of it."""

    text: str | None
    returned: ReasoningReturned | None


UNKNOWN = Reasoning(None, None)


def reasoning_of(completion: Completion) -> Reasoning:
    """Return what came of the reasoning: in a field of its own, else at the head of the text.

    `summary`: the endpoint says so or hides a part of it, or the text is far shorter than its tokens. `hidden`: tokens
    are counted but there is no text, or the endpoint says that it keeps it back. `absent`: no text, and no tokens that
    the answer does not account for. Not known: no text, and the endpoint counts no tokens at all.
    """
    text, usage = completion.text or "", completion.usage
    if not isinstance(usage.get("prompt_tokens"), (int, float)):  # without the input's part a total tells nothing
        usage = {name: value for name, value in usage.items() if name != "total_tokens"}
    inside = None if completion.reasoning else leading_reasoning(text)
    found = completion.reasoning or inside
    if completion.fault is not None:
        return UNKNOWN if found is None else Reasoning(found, "text")
    spoken = _bytes(text) + _bytes(completion.refusal or "") - _bytes(inside or "")
    unspoken = max(reasoning_tokens(usage), output_tokens(usage) - int(spoken / LEAST_BYTES_PER_TOKEN))
    if found is not None:
        is_short = unspoken >= FEWEST_TOKENS and _bytes(found) < LEAST_BYTES_PER_TOKEN * unspoken
        return Reasoning(found, "summary" if is_short or completion.reasoning_marked is not None else "text")
    if completion.reasoning_marked is not None or reasons_first(usage):
        return Reasoning(None, "hidden")
    if not text.strip() and completion.finish_reason == "length" and output_tokens(usage):
        return Reasoning(None, "hidden")  # the limit was used up without a word
    if unspoken >= FEWEST_TOKENS and text.strip():
        return Reasoning(None, "hidden")
    return Reasoning(None, "absent") if output_tokens(usage) else UNKNOWN


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
