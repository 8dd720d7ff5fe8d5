"""What an endpoint returned of a model's reasoning, told by fields, tags, marks and counts of tokens."""

from __future__ import annotations

from typing import Any

import pytest

from explaineval.client.responses import Reasoning, read_response, reasoning_of
from explaineval.records import Completion

SAID = "Answer: A\nExplanation: It rains."
THOUGHT = "The note says that it rains, so the street is wet, and so it is A. " * 5
TOKENS = len(THOUGHT) // 4


WHOLE, HIDDEN, ABSENT = Reasoning(THOUGHT.strip(), "text"), Reasoning(None, "hidden"), Reasoning(None, "absent")
SHORT = "It weighed the weather."
IN_TOTAL = {"prompt_tokens": 40, "completion_tokens": 12, "total_tokens": 152}
REFUSAL = "I would rather not say. " * 20


def counted(reasoning: int | None, out: int = 12) -> dict[str, Any]:
    """Usage with this many tokens of reasoning, counted apart (None: not counted apart) and in the total."""
    usage: dict[str, Any] = {"prompt_tokens": 40, "completion_tokens": out + (reasoning or 0)}
    return usage if reasoning is None else {**usage, "completion_tokens_details": {"reasoning_tokens": reasoning}}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"text": SAID, "reasoning": THOUGHT, "usage": counted(TOKENS)}, Reasoning(THOUGHT, "text")),
        ({"text": SAID, "reasoning": THOUGHT, "usage": {}}, Reasoning(THOUGHT, "text")),
        ({"text": f"<think>{THOUGHT}</think>{SAID}", "usage": counted(None, 12 + TOKENS)}, WHOLE),
        ({"text": f"<thinking>{THOUGHT}</thinking>{SAID}", "usage": {}}, WHOLE),
        ({"text": f"{THOUGHT}</think>{SAID}", "usage": counted(None, 12 + TOKENS)}, WHOLE),
        ({"text": f"<think>{THOUGHT}", "finish_reason": "length", "usage": counted(None, TOKENS)}, WHOLE),
        ({"text": SAID, "reasoning": "雨" * 90, "usage": counted(80)}, Reasoning("雨" * 90, "text")),
        ({"text": SAID, "reasoning": "So A.", "usage": counted(5)}, Reasoning("So A.", "text")),
        ({"text": SAID, "reasoning": SHORT, "usage": counted(700)}, Reasoning(SHORT, "summary")),
        # Anthropic counts its thinking among the output alone, and litellm estimates it from the text that came
        ({"text": SAID, "reasoning": THOUGHT, "usage": counted(None, 900)}, Reasoning(THOUGHT, "summary")),
        ({"text": SAID, "reasoning": THOUGHT, "reasoning_marked": "summary"}, Reasoning(THOUGHT, "summary")),
        ({"text": SAID, "usage": counted(64)}, HIDDEN),
        ({"text": SAID, "usage": counted(1)}, HIDDEN),
        ({"text": SAID, "usage": IN_TOTAL}, HIDDEN),
        ({"text": SAID, "usage": counted(None, 500)}, HIDDEN),
        ({"text": SAID, "usage": counted(None), "reasoning_marked": "hidden"}, HIDDEN),
        ({"text": None, "finish_reason": "length", "usage": counted(None, 16)}, HIDDEN),
        ({"text": SAID, "usage": counted(0)}, ABSENT),
        ({"text": SAID, "usage": counted(None)}, ABSENT),
        ({"text": f"<think>\n\n</think>\n{SAID}", "usage": counted(None, 18)}, ABSENT),
        ({"text": None, "refusal": REFUSAL, "usage": counted(None, 110)}, ABSENT),
        ({"text": SAID}, Reasoning(None, None)),
        ({"text": "x" * 90, "fault": "oversized", "usage": counted(None, 4000)}, Reasoning(None, None)),
    ],
)  # fmt: skip
def test_what_came_is_told_by_text_and_tokens(fields: dict[str, Any], expected: Reasoning) -> None:
    """Text, a summary, hidden reasoning, none, or that nothing is known."""
    assert reasoning_of(Completion.model_validate(fields)) == expected


@pytest.mark.parametrize(
    ("message", "text", "marked"),
    [
        ({"thinking_blocks": [{"type": "thinking", "thinking": "So A.", "signature": "s"}]}, "So A.", None),
        ({"thinking_blocks": [{"type": "redacted_thinking", "data": "x"}]}, None, "hidden"),
        ({"thinking_blocks": [{"type": "thinking", "thinking": "", "signature": "s"}]}, None, "hidden"),
        ({"thinking_blocks": [{"thinking": "So A."}, {"type": "redacted_thinking", "data": "x"}]}, "So A.", "summary"),
        ({"reasoning_details": [{"type": "reasoning.text", "text": "So A."}]}, "So A.", None),
        ({"reasoning_details": [{"type": "reasoning.summary", "summary": "So A."}]}, "So A.", "summary"),
        ({"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]}, None, "hidden"),
        ({"reasoning_content": "So A."}, "So A.", None),
        ({}, None, None),
    ],
)  # fmt: skip
def test_what_the_endpoint_says_itself_is_kept(message: dict[str, Any], text: str | None, marked: str | None) -> None:
    """Blocks and details that are redacted, encrypted or summaries say so."""
    body = {"choices": [{"message": {"content": SAID, **message}, "finish_reason": "stop"}]}
    found = read_response(body, "chat")

    assert (found.text, found.reasoning, found.reasoning_marked) == (SAID, text, marked)
