"""Read what came back: a response is checked and reduced to a Completion.

Two shapes of logprobs are read: chat's `content[]` (llama.cpp uses it for text completions too) and the older
text-completion lists `tokens` / `top_logprobs`. What an endpoint returned of a model's reasoning is its text, a summary
or nothing; which of them follows from what the endpoint says and from how many tokens it counts. Pure.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from explaineval.client.endpoints.bodies import MOST_BYTES
from explaineval.cost import output_tokens, reasoning_tokens, reasons_first
from explaineval.errors import TransientError
from explaineval.parsing import leading_reasoning
from explaineval.parsing.completions import FILTERED, REFUSED, TRUNCATED
from explaineval.records import (
    MOST_INTEGER,
    Completion,
    ReasoningReturned,
    Style,
    TokenAlternatives,
    storable,
    storable_text,
)

Alternatives = list[tuple[str, float | None]]

BROKEN_OFF = frozenset({"error", "network_error"})
"""Finish reasons of a gateway, with status 200, for a provider behind it that failed before the text was finished."""

MOST_LABEL = 300
"""Characters of a model's name, a fingerprint, a finish reason."""
MOST_REFUSAL = 20_000
MOST_MALFORMED = 20_000
"""Bytes that are kept of something that stands where the answer should be."""
MOST_USAGE = 20_000
"""Bytes of the endpoint's counts."""
PLAIN_NAME = re.compile(r"[A-Za-z0-9_]{1,100}")
LONGEST_ESCAPE = 6
"""Bytes of one character of a text in JSON, at the most: a control character becomes `\\u001f`."""
MOST_DIGITS = 400
"""Of an integer; Python itself reads 4,300 at the most."""


def read_json(data: bytes | str) -> Any:
    """Read a JSON document as endpoints write it: also with NaN, infinities, and integers of any length.

    An integer of more than MOST_DIGITS digits becomes a text with its order of magnitude.

    Raises:
        ValueError: not JSON. RecursionError: nested too deep.
    """
    return json.loads(data, parse_int=_read_integer)


def read_response(raw: Mapping[str, Any], style: Style, most: int = MOST_BYTES) -> Completion:
    """Return the completion in a response body, in a form that can be stored.

    Where the answer has a wrong form (an object instead of the text, a number instead of the message), the completion
    has the fault `malformed`, since asking again would cost again. A text of more than `most` bytes is cut there, with
    the fault `oversized`.

    Raises:
        TransientError: the body holds no answer at all: an error object, no choices, no usable choice.
    """
    if raw.get("error"):
        raise TransientError(f"the endpoint answered 200 with an error object: {_short(raw['error'])}")
    choices = raw.get("choices")
    if not choices:
        raise TransientError("the endpoint answered 200 without any choice")
    choice = choices[0] if isinstance(choices, (list, tuple)) else None
    if not isinstance(choice, Mapping):
        return _malformed(raw, choices, most)
    finish = _finish_reason(choice)
    if isinstance(finish, str) and finish.casefold() in BROKEN_OFF:
        raise TransientError("the endpoint answered 200, but its provider failed before the text was finished")
    refusal: Any = None
    holder = choice
    if style == "chat":
        message = choice.get("message")
        if message is None:
            raise TransientError("the endpoint answered 200 with a choice that holds no message")
        if not isinstance(message, Mapping):
            return _malformed(raw, choice, most)
        content, thoughts = _split_content(message.get("content"))
        holder = {**message, "thinking_blocks": thoughts} if thoughts else message
        text = _joined(content)
        refusal = message.get("refusal") or _mapping(message.get("provider_specific_fields")).get("refusal")
    else:
        text = _joined(choice.get("text"))
    if text is not None and not isinstance(text, str):
        return _malformed(raw, text, most)
    if refusal is not None and not isinstance(refusal, str):
        return _malformed(raw, refusal, most)
    if text is None and finish is None and refusal is None:
        raise TransientError("the endpoint answered 200 with an empty choice")
    repaired: list[str] = []
    if refusal and len(refusal) > MOST_REFUSAL:
        refusal = refusal[:MOST_REFUSAL]
        repaired.append("refusal")
    cut = text is not None and LONGEST_ESCAPE * len(text) + 2 > most and len(encode_text(text)) > most
    if cut:
        text = cut_text(text or "", most)
    reasoning, marked = (None, None) if cut else _read_reasoning(holder, text, most, repaired)
    return Completion(
        text=text,
        finish_reason=_label(finish, "finish_reason", repaired),
        refusal=refusal or None,
        logprobs=None if text is None or cut else read_logprobs(text, choice.get("logprobs")),
        **_side_fields(raw, repaired),
        repaired=tuple(dict.fromkeys(repaired)),
        fault="oversized" if cut else None,
        reasoning=reasoning,
        reasoning_marked=marked,
    )


def read_body(body: bytes | None, style: Style, most: int = MOST_BYTES) -> Completion | None:
    """Return the completion in a body with status 200 that litellm could not read; None where it holds no answer.

    A malformed answer is kept with its fault: it was paid for, and asking again would cost again.
    """
    if body is None:
        return None
    try:
        raw = read_json(body)
    except RecursionError:
        return Completion(text=None, fault="malformed")
    except ValueError:
        return None
    try:
        return read_document(raw, style, most) if isinstance(raw, Mapping) else None
    except TransientError:
        return None


def read_document(raw: Mapping[str, Any], style: Style, most: int = MOST_BYTES) -> Completion:
    """Do the same as `read_response`, and keep a body in Anthropic's shape, where none belongs, as malformed."""
    if raw.get("content") and not raw.get("choices") and not raw.get("error"):
        return _malformed(raw, raw["content"], most)
    return read_response(raw, style, most)


def add_reasoning(completion: Completion, body: bytes | None, most: int = MOST_BYTES) -> Completion:
    """Return the completion with the reasoning in the body that litellm read it from (OpenAI's chat or Anthropic's).

    litellm makes text completions of such bodies for providers that have no other, and leaves the reasoning out.
    """
    if body is None or completion.reasoning is not None or completion.fault is not None:
        return completion
    if b"reasoning" not in body and b"thinking" not in body:
        return completion
    try:
        raw = _mapping(read_json(body))
    except (ValueError, RecursionError):
        return completion
    choices = raw.get("choices")
    choice = _mapping(choices[0]) if isinstance(choices, list) and choices else {}
    holder = _mapping(choice.get("message")) or {"thinking_blocks": raw.get("content")}
    repaired = list(completion.repaired)
    reasoning, marked = _read_reasoning(holder, completion.text, most, repaired)
    if reasoning is None and marked is None and len(repaired) == len(completion.repaired):
        return completion
    changes = {"reasoning": reasoning, "reasoning_marked": marked, "repaired": tuple(dict.fromkeys(repaired))}
    return Completion.model_validate({**completion.model_dump(), **changes})


def encode_text(text: str) -> bytes:
    """Return a text as it is stored: JSON in UTF-8."""
    return json.dumps(storable_text(text), ensure_ascii=False).encode("utf-8")


def cut_text(text: str, most: int) -> str:
    """Return the beginning of a text that needs no more than `most` bytes when it is stored."""
    data = encode_text(text)
    if len(data) <= most:
        return text
    kept = data[1 : max(1, most - 1)].decode("utf-8", "ignore")
    escape = kept.rfind("\\", max(0, len(kept) - 6))
    for end in (len(kept), escape, escape - 1):  # it may have been cut inside an escape
        try:
            return str(json.loads(f'"{kept[: max(0, end)]}"'))
        except ValueError:
            continue
    return ""


def _malformed(raw: Mapping[str, Any], value: object, most: int) -> Completion:
    """Return a completion that keeps what is in the place of the answer as JSON text, for a person to look at."""
    repaired: list[str] = []
    try:
        text = json.dumps(_plain(storable(value)), ensure_ascii=False)
    except RecursionError:
        text = ""
    return Completion(
        text=cut_text(text, min(MOST_MALFORMED, most)),
        **_side_fields(raw, repaired),
        repaired=tuple(dict.fromkeys(("text", *repaired))),
        fault="malformed",
    )


def _side_fields(raw: Mapping[str, Any], repaired: list[str]) -> dict[str, Any]:
    """Return all fields but the answer. One of a wrong type is left out and named in `repaired`."""
    created = raw.get("created")
    if isinstance(created, float) and created.is_integer():
        created = int(created)
    if created is not None and (isinstance(created, bool) or not isinstance(created, int)):
        created = None
        repaired.append("created")
    return {
        "usage": _usage(raw.get("usage"), repaired),
        "model": _label(raw.get("model"), "model", repaired),
        "fingerprint": _label(raw.get("system_fingerprint"), "fingerprint", repaired),
        "created": created,
    }


def _usage(counts: object, repaired: list[str]) -> dict[str, Any]:
    """Return the endpoint's counts of tokens as they came, without nulls, up to MOST_USAGE bytes."""
    if not counts:
        return {}
    usage: dict[str, Any] = {}
    size = 0
    for name, value in counts.items() if isinstance(counts, Mapping) else ():
        if value is None:
            continue
        if type(value) is int and abs(value) < MOST_INTEGER and isinstance(name, str) and PLAIN_NAME.fullmatch(name):
            size += len(name) + 2 + len(str(value))  # nearly every count is such a one
            if size <= MOST_USAGE:
                usage[name] = value
                continue
        try:
            kept = _plain(storable(_without_nulls(value)))
            size += len(json.dumps(str(name))) + len(json.dumps(kept))
        except RecursionError:
            size = MOST_USAGE + 1
        if size > MOST_USAGE:
            repaired.append("usage")
            break
        if kept != value and not isinstance(value, (Mapping, list, tuple)):
            repaired.append("usage")
        usage[str(name)] = kept
    if not isinstance(counts, Mapping):
        repaired.append("usage")
    return usage


def _label(value: object, name: str, repaired: list[str]) -> str | None:
    """Return a name that an endpoint gave, cut to MOST_LABEL characters."""
    if value is None:
        return None
    if not isinstance(value, str):
        repaired.append(name)
        return None
    if len(value) > MOST_LABEL:
        repaired.append(name)
    return value[:MOST_LABEL]


def _split_content(content: object) -> tuple[object, list[object]]:
    """Return a content without its thinking parts, and these: Mistral sends both in one list."""
    if not isinstance(content, list):
        return content, []
    thoughts = [part for part in content if _mapping(part).get("type") == "thinking"]
    return ([part for part in content if part not in thoughts] or None if thoughts else content), thoughts


def _joined(content: object) -> object:
    """Return the text of a content that is a list of text parts, as some servers send it; any other as it is."""
    if not isinstance(content, list) or not content:
        return content
    parts = [part.get("text") for part in content if isinstance(part, Mapping) and part.get("type") in (None, "text")]
    if len(parts) == len(content) and all(isinstance(part, str) for part in parts):
        return "".join(str(part) for part in parts)
    return content


def _read_reasoning(
    holder: Mapping[str, Any], text: str | None, most: int, repaired: list[str]
) -> tuple[str | None, Literal["summary", "hidden"] | None]:
    """Return the reasoning beside a text, in a chat message or in a text completion's choice, and how it is marked.

    It may have as many bytes as the text leaves of `most`. `repaired` names it where it was cut or is no text.
    """
    unread = is_kept_back = False
    for source in (holder, _mapping(holder.get("provider_specific_fields"))):
        blocks, details = source.get("thinking_blocks"), source.get("reasoning_details")
        is_kept_back = is_kept_back or _is_kept_back(blocks) or _is_kept_back(details)
        texts = [
            _paragraphs(blocks, "thinking"),  # before litellm joins them without a space
            *(_joined(source.get(name)) for name in ("reasoning_content", "reasoning")),
            _paragraphs(details, "text", "summary"),
        ]
        for reasoning in texts:
            if isinstance(reasoning, str) and reasoning.strip():
                kept = cut_text(reasoning, most - len(encode_text(text or "")))
                if kept != reasoning:
                    repaired.append("reasoning")
                is_part = is_kept_back or "reasoning.summary" in _types(details)
                return kept or None, "summary" if is_part else None
            unread = unread or bool(reasoning and not isinstance(reasoning, str))
    if unread:
        repaired.append("reasoning")
    return None, "hidden" if is_kept_back else None


def _types(blocks: object) -> list[object]:
    return [_mapping(block).get("type") for block in (blocks if isinstance(blocks, list) else ())]


def _is_kept_back(blocks: object) -> bool:
    """Whether one of these thinking blocks or reasoning details holds no text that can be read."""
    if any(kind in ("redacted_thinking", "reasoning.encrypted") for kind in _types(blocks)):
        return True
    mappings = map(_mapping, blocks if isinstance(blocks, list) else ())
    return any(block.get("type") == "thinking" and not block.get("thinking") for block in mappings)


def _paragraphs(blocks: object, *names: str) -> str:
    """Return the texts under these names in a list of blocks, each as a paragraph."""
    mappings = map(_mapping, blocks if isinstance(blocks, list) else ())
    texts = (_joined(block.get(name)) for block in mappings for name in names)
    return "\n\n".join(text for text in texts if isinstance(text, str) and text.strip())


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _plain(value: Any) -> Any:
    """Return the value where it is JSON, else its text."""
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


def _read_integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= MOST_DIGITS else f"about 10^{len(digits.lstrip('-')) - 1}"


def _finish_reason(choice: Mapping[str, Any]) -> Any:
    """Return why the text ended. litellm makes reasons that it does not know "stop", but keeps the provider's own."""
    finish = choice.get("finish_reason")
    own = str(_mapping(choice.get("provider_specific_fields")).get("native_finish_reason") or "").strip().casefold()
    if own in BROKEN_OFF:
        return own
    for reasons, word in ((TRUNCATED, "length"), (FILTERED, "content_filter"), (REFUSED, "refusal")):
        if own in reasons:
            return word
    return finish


def read_logprobs(text: str, logprobs: object) -> tuple[TokenAlternatives, ...] | None:
    """Return the alternatives at every token of `text` that, stripped, is one letter; None where none were returned.

    Anything that does not have the form of logprobs is ignored.
    """
    if not isinstance(logprobs, Mapping) or not logprobs:
        return None
    tokens = list(_tokens(logprobs))
    if not tokens:
        return None
    spelled = b"".join(piece for piece, _, _ in tokens)
    wanted = text.encode("utf-8", "surrogatepass")
    start = spelled.rfind(wanted)
    if start < 0:  # a server may strip the text but not its tokens
        start = spelled.rfind(wanted.strip()) - (len(wanted) - len(wanted.lstrip()))
        if spelled.rfind(wanted.strip()) < 0:
            return ()
    kept = []
    at = -start
    for piece, token, top in tokens:
        letter = token.strip()
        blank = token[: len(token) - len(token.lstrip())].encode("utf-8", "surrogatepass")
        if len(letter) == 1 and letter.isalpha() and 0 <= at + len(blank) < len(wanted):  # the letter itself is in it
            offset = _characters(wanted[:at]) if at >= 0 else -_characters(piece[:-at])
            kept.append(TokenAlternatives(offset=offset, token=token, top=tuple(top)))
        at += len(piece)
    return tuple(kept)


def _tokens(logprobs: Mapping[str, Any]) -> Iterator[tuple[bytes, str, Alternatives]]:
    content = logprobs.get("content")
    if content:
        for entry in map(_mapping, content if isinstance(content, list) else ()):
            token = _text(entry.get("token"))
            tops = entry.get("top_logprobs")
            tops = map(_mapping, tops if isinstance(tops, list) else ())
            top = [(_text(item.get("token")), _finite(item.get("logprob"))) for item in tops]
            yield _bytes(entry.get("bytes")) or token.encode("utf-8", "surrogatepass"), token, top
        return
    tokens, tops = logprobs.get("tokens"), logprobs.get("top_logprobs")
    if not isinstance(tokens, list) or not isinstance(tops, list):
        return
    for token, alternatives in zip(map(_text, tokens), map(_mapping, tops), strict=False):
        top = [(str(name), _finite(value)) for name, value in alternatives.items()]
        yield token.encode("utf-8", "surrogatepass"), token, top


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _bytes(value: object) -> bytes:
    """The bytes of a token; empty where they are none."""
    if not isinstance(value, list) or not all(isinstance(byte, int) and 0 <= byte < 256 for byte in value):
        return b""
    return bytes(value)


def _characters(raw: bytes) -> int:
    """Code points of UTF-8 bytes that may end inside one."""
    return len(raw.decode("utf-8", "surrogatepass" if _is_whole(raw) else "ignore"))


def _is_whole(raw: bytes) -> bool:
    try:
        raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def _finite(value: object) -> float | None:
    """A log-probability as it came; minus infinity, and what is no number, becomes None."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(value) if math.isfinite(value) else None
        except OverflowError:  # an integer beyond what a float can hold
            return None
    return None


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return value


def _short(value: object) -> str:
    text = value.get("message", value) if isinstance(value, Mapping) else value
    return " ".join(str(text).split())[:200]


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
    spoken = _byte_count(text) + _byte_count(completion.refusal or "") - _byte_count(inside or "")
    unspoken = max(reasoning_tokens(usage), output_tokens(usage) - int(spoken / LEAST_BYTES_PER_TOKEN))
    if found is not None:
        is_short = unspoken >= FEWEST_TOKENS and _byte_count(found) < LEAST_BYTES_PER_TOKEN * unspoken
        return Reasoning(found, "summary" if is_short or completion.reasoning_marked is not None else "text")
    if completion.reasoning_marked is not None or reasons_first(usage):
        return Reasoning(None, "hidden")
    if not text.strip() and completion.finish_reason == "length" and output_tokens(usage):
        return Reasoning(None, "hidden")  # the limit was used up without a word
    if unspoken >= FEWEST_TOKENS and text.strip():
        return Reasoning(None, "hidden")
    return Reasoning(None, "absent") if output_tokens(usage) else UNKNOWN


def _byte_count(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
