"""Read answers in OpenAI's protocol as litellm passes them on, so that an answer is stored alike by both transports.

litellm renames finish reasons, completes the counts of tokens and takes thinking tags off the head of a chat message.
Where it cannot read an answer, the body itself is read. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from explaineval.client.endpoints.bodies import MOST_BYTES
from explaineval.client.responses import read_document
from explaineval.records import Completion, Style

FINISH_REASONS: Mapping[str, str] = {
    **dict.fromkeys(("length", "max_tokens", "MAX_TOKENS", "compaction"), "length"),
    **dict.fromkeys(("tool_calls", "tool_use"), "tool_calls"),
    "function_call": "function_call",
    **dict.fromkeys(("content_filter", "content_filtered", "refusal", "sensitive"), "content_filter"),
    **dict.fromkeys(("guardrail_intervened", "ERROR_TOXIC", "SAFETY", "RECITATION", "LANGUAGE"), "content_filter"),
    **dict.fromkeys(("OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "ESCALATION"), "content_filter"),
    **dict.fromkeys(("NO_IMAGE", "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT"), "content_filter"),
    **dict.fromkeys(("IMAGE_RECITATION", "IMAGE_OTHER"), "content_filter"),
}
"""What litellm makes of the finish reasons of providers; of every other it makes "stop"."""

COUNTS = ("completion_tokens", "prompt_tokens", "total_tokens")
DETAILS = ("completion_tokens_details", "prompt_tokens_details")
THINKING = re.compile(r"<(?:think|thinking|budget:thinking)>(.*?)</(?:think|thinking|budget:thinking)>(.*)", re.DOTALL)


class ErrorObjectError(Exception):
    """A body with status 200 that holds an error; `status_code` is the code in it, where it has one."""

    def __init__(self, message: str, status_code: object) -> None:
        super().__init__(message)
        self.status_code = status_code


def read_answer(document: Mapping[str, Any], style: Style, most: int = MOST_BYTES) -> Completion:
    """Return the completion in a parsed response body, of at most `most` bytes of text.

    Raises:
        ErrorObjectError: a chat body holds an error instead of an answer.
        TransientError: the body holds no answer at all.
    """
    if style == "chat":
        _check_error(document.get("error"))
    choices = document.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], Mapping):
        first = _chat_choice(choices[0]) if style == "chat" else _text_choice(choices[0])
        document = {**document, "choices": [first], "usage": _usage(document.get("usage"))}
    return read_document(document, style, most)


def _check_error(error: object) -> None:
    """Raise ErrorObjectError for an error that says something; some servers send an empty one with every answer."""
    if isinstance(error, Mapping):
        message, code = error.get("message"), error.get("code")
        if message or code is not None:
            raise ErrorObjectError(str(message or "Error in response object"), code if "code" in error else 422)
    elif error:
        raise ErrorObjectError(f"Error in response object: {error}"[:200], 422)


def _text_choice(choice: Mapping[str, Any]) -> Mapping[str, Any]:
    reason = choice.get("finish_reason")
    if not isinstance(reason, str | int | float):
        return choice
    return {**choice, "finish_reason": FINISH_REASONS.get(str(reason), "stop") if reason else None}


def _chat_choice(choice: Mapping[str, Any]) -> Mapping[str, Any]:
    message = choice.get("message")
    if not isinstance(message, Mapping):
        return choice
    reason = choice.get("finish_reason")
    reason = choice.get("finish_details") or "stop" if reason is None else reason
    if not isinstance(reason, str | int | float):
        return choice
    name = FINISH_REASONS.get(str(reason), "stop")
    if reason == "stop" and _calls_tools(message.get("tool_calls")):
        name = "tool_calls"
    fields = {"native_finish_reason": choice.get("native_finish_reason") if name == reason else reason}
    return {**choice, "finish_reason": name, "provider_specific_fields": fields, "message": _message(message)}


def _calls_tools(calls: object) -> bool:
    return isinstance(calls, list) and bool(calls) and all(isinstance(call, Mapping) for call in calls)


def _message(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a chat message with the thinking at the head of its text as reasoning, unless it has some already."""
    text = message.get("content")
    if not isinstance(text, str) or "reasoning_content" in message or "reasoning" in message:
        return message
    found = THINKING.match(text)
    return message if found is None else {**message, "reasoning_content": found[1], "content": found[2]}


def _usage(usage: object) -> object:
    """Return the counts of tokens with all three sums, and with what providers count under names of their own."""
    if not usage:
        return dict.fromkeys(COUNTS, 0)
    if not isinstance(usage, Mapping):
        return usage
    sums = {name: usage.get(name) or 0 for name in COUNTS}
    if not all(isinstance(count, int) for count in sums.values()):
        return usage
    sums = {name: int(count) for name, count in sums.items()}  # a truth value is one, too
    if len(usage) == len(COUNTS) and all(name in usage for name in COUNTS):
        return sums
    details = {name: dict(usage[name]) for name in DETAILS if isinstance(usage.get(name), Mapping) and usage[name]}
    rest = {name: value for name, value in usage.items() if name not in COUNTS and name not in DETAILS}
    reasoning = rest.pop("reasoning_tokens", None)
    if isinstance(reasoning, int) and reasoning:
        of_output = details.setdefault(DETAILS[0], {})
        if of_output.get("reasoning_tokens") is None:
            of_output["reasoning_tokens"] = reasoning
        if of_output.get("text_tokens") is None:
            others = (of_output.get("image_tokens") or 0) + (of_output.get("audio_tokens") or 0)
            of_output["text_tokens"] = max(0, sums["completion_tokens"] - reasoning - others)
    for name, own in (("cached_tokens", "prompt_cache_hit_tokens"), ("cached_tokens", "cache_read_input_tokens")):
        if isinstance(rest.get(own), int):
            details.setdefault(DETAILS[1], {})[name] = rest[own]
    if isinstance(rest.get("cache_creation_input_tokens"), int):
        written = rest["cache_creation_input_tokens"]
        details.setdefault(DETAILS[1], {}).update(cache_write_tokens=written, cache_creation_tokens=written)
    return {**sums, **details, **rest}
