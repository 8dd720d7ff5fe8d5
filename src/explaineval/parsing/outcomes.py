"""Completions that are not to be read: refused, filtered, truncated, empty (the method page, outcomes)."""

from __future__ import annotations

from explaineval.records import Completion, Unreadable

REFUSED = frozenset({"refusal", "refused"})
"""Finish reasons by which a provider says that the model declined to answer."""

FILTERED = frozenset(
    {
        "content_filter", "content_filtered", "content-filter", "contentfilter",  # OpenAI, Azure, Bedrock
        "safety", "image_safety", "recitation", "blocklist", "prohibited_content",  # Gemini
        "spii", "model_armor",
        "guardrail_intervened", "error_toxic", "sensitive", "blocked",  # Bedrock, Cohere, others
    }
)  # fmt: skip
"""Finish reasons by which a provider says that a filter of its own stopped the text."""

TRUNCATED = frozenset(
    {
        "length",
        "max_tokens",
        "max_length",
        "max_output_tokens",
        "model_length",
        "model_context_window_exceeded",
    }
)
"""Finish reasons by which a provider says that the text was cut at a limit of length."""


FAULTS = {
    "oversized": "oversized: the answer was larger than one of that many tokens can be, and was cut",
    "malformed": "malformed: what came has not the form of an answer",
}
"""What stands as the reason where an answer has a fault."""


def classify(completion: Completion) -> Unreadable | None:
    """Why `completion` cannot be scored whatever its text says, or None if its text is to be read.

    A truncated completion is unreadable even where the label could be read: its explanation may break off
    before the mention. Finish reasons are compared without regard to case. The first that holds is
    returned, in the order faulty (unparsed, with the fault as the reason), refused, filtered, truncated, empty: a
    reasoning model that used up its tokens is truncated, not empty.

    >>> classify(Completion(text="Answer: B", finish_reason="length")).status
    'truncated'
    >>> classify(Completion(text="Answer: B", finish_reason="stop")) is None
    True
    """
    finish = (completion.finish_reason or "").strip().casefold()
    if completion.fault is not None:
        return Unreadable(status="unparsed", reason=FAULTS[completion.fault])
    if completion.refusal and completion.refusal.strip():
        return Unreadable(status="refused", reason=f"the model refused: {_clip(completion.refusal)}")
    if finish in REFUSED:
        return Unreadable(status="refused", reason=f"the model refused (finish reason {finish})")
    if finish in FILTERED:
        return Unreadable(status="filtered", reason=f"a filter stopped the text (finish reason {finish})")
    if finish in TRUNCATED:
        return Unreadable(status="truncated", reason=f"{_cut(completion)} (finish reason {finish}); raise --max-tokens")
    if completion.text is None or not completion.text.strip():
        return Unreadable(status="empty", reason="the completion holds no text")
    return None


def _cut(completion: Completion) -> str:
    """What the token limit did to a text, as far as the counts tell."""
    if completion.text and completion.text.strip():
        return "the text was cut at the token limit"
    details = completion.usage.get("completion_tokens_details")
    hidden = details.get("reasoning_tokens") if isinstance(details, dict) else None
    counted = isinstance(hidden, int) and not isinstance(hidden, bool) and hidden > 0
    return f"the token limit was used up before any text{f' by {hidden} tokens of reasoning' if counted else ''}"


def _clip(text: str, limit: int = 120) -> str:
    line = " ".join(text[: 4 * limit].split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
