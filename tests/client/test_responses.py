"""Response bodies: what is no answer is a fault, and every kept token points at its letter."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from explaineval.cache.keys import MAX_BYTES, make_row, pack, read_completion, unpack
from explaineval.client.responses import cut_text, encode_text, read_body, read_logprobs, read_response
from explaineval.errors import TransientError
from explaineval.records import Completion, TokenAlternatives

TOP = {"A": -0.25, " A": -2.0, "B": -math.inf}
KEPT_TOP = (("A", -0.25), (" A", -2.0), ("B", None))


def lists(tokens: Sequence[str]) -> dict[str, Any]:
    """Logprobs in the older shape of text completions."""
    return {"tokens": list(tokens), "token_logprobs": [-0.25] * len(tokens), "top_logprobs": [TOP] * len(tokens)}


def content(tokens: Sequence[str], *, spelled: bool = True) -> dict[str, Any]:
    """Logprobs in the shape of chat, with or without bytes."""
    top = [{"token": name, "logprob": value, "bytes": list(name.encode())} for name, value in TOP.items()]
    return {
        "content": [
            {"token": t, "logprob": -0.25, "bytes": list(t.encode("utf-8", "surrogatepass")) if spelled else None,
             "top_logprobs": top}
            for t in tokens
        ]
    }  # fmt: skip


SHAPES = [lists, content, lambda tokens: content(tokens, spelled=False)]


def chat(**choice: Any) -> dict[str, Any]:
    """A chat body with one choice."""
    return {"choices": [{"index": 0, "finish_reason": "stop", **choice}], "model": "m-1", "created": 12, "usage": None}


def kept(offset: int, text: str, top: tuple[tuple[str, float | None], ...] = KEPT_TOP) -> TokenAlternatives:
    """A token as it is kept."""
    return TokenAlternatives.model_validate({"offset": offset, "token": text, "top": top})


def spots(found: Sequence[TokenAlternatives] | None) -> list[tuple[int, str]]:
    """Offsets and tokens."""
    return [(one.offset, one.token) for one in found or ()]


@pytest.mark.parametrize("shape", SHAPES)
def test_both_shapes_are_read(shape: Any) -> None:
    """Only tokens that, stripped, are one letter are kept, with all their alternatives; minus infinity is None."""
    found = read_logprobs(
        "Answer: A\nExplanation: I think 7", shape(["Answer", ":", " A", "\nExp", "lanation: ", "I", " think", " 7"])
    )

    assert (
        kept(7, " A"),
        kept(23, "I"),
    ) == found


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("text", "tokens", "expected"),
    [
        ("é😀 B", ["é", "😀", " B"], [(0, "é"), (2, " B")]),
        ("日本語A", ["日本", "語", "A"], [(2, "語"), (3, "A")]),
        ("A\nok", [" A", "\n", "ok"], [(-1, " A")]),
        ("A", ["\n", "\n", "A", "\n"], [(0, "A")]),
        (" B\nwhy", [" B", "\n", "why", "\n\n", "C"], [(0, " B")]),
        (" B", [" B", "\n\n"], [(0, " B")]),
        ("B", ["hm", " A", "</think>", "\n\n", "B"], [(0, "B")]),
        ("Answer: B", ["Answer", ": ", "B", "<eos>"], [(8, "B")]),
        ("ß A", ["ß", " A"], [(0, "ß"), (1, " A")]),
        ("yes", ["A"], []),
        ("", ["A"], []),
    ],
)
def test_offsets(shape: Any, text: str, tokens: list[str], expected: list[tuple[int, str]]) -> None:
    """Several bytes a character, stripped texts, tokens of the stop sequence, thoughts before the text."""
    assert expected == spots(read_logprobs(text, shape(tokens)))


def test_tokens_that_part_a_character_are_put_together() -> None:
    """One emoji over two tokens: the bytes tell where the next letter stands."""
    raw = "😀".encode()
    entries = [
        {"token": "\\xf0\\x9f", "bytes": list(raw[:2]), "top_logprobs": []},
        {"token": "\\x98\\x80", "bytes": list(raw[2:]), "top_logprobs": []},
        {"token": " C", "bytes": list(b" C"), "top_logprobs": [{"token": " C", "logprob": -0.5}]},
    ]

    assert (kept(1, " C", ((" C", -0.5),)),) == read_logprobs("😀 C", {"content": entries})


PIECES = st.lists(
    st.sampled_from(
        ["A", " B", "C ", "\nD", "\u3000E", "é", "😀", " the", "Answer", ":", "\n\n", " ", "ab", "7", " ñ"]
    ),
    min_size=1,
    max_size=8,
)


@given(pieces=PIECES, beyond=PIECES | st.just([]), shape=st.sampled_from(SHAPES), strip=st.booleans())
@example(pieces=["\u3000E"], beyond=[], shape=lists, strip=True)
@example(pieces=["\u00a0B", " ok"], beyond=[], shape=lists, strip=True)
def test_a_kept_token_points_at_its_letter(pieces: list[str], beyond: list[str], shape: Any, strip: bool) -> None:
    """At the offset of a kept token, past its white space, the text has that very letter."""
    text = "".join(pieces)
    text = text.strip() if strip else text

    for one in read_logprobs(text, shape([*pieces, *beyond])) or ():
        at = one.offset + len(one.token) - len(one.token.lstrip())

        assert 0 <= at < len(text)
        assert one.token.strip() == text[at]


@given(pieces=PIECES, shape=st.sampled_from(SHAPES))
def test_no_letter_token_is_lost(pieces: list[str], shape: Any) -> None:
    """Where tokens and text agree, every single letter is kept, at its own place."""
    expected, at = [], 0
    for piece in pieces:
        if len(piece.strip()) == 1 and piece.strip().isalpha():
            expected.append((at, piece))
        at += len(piece)

    assert expected == spots(read_logprobs("".join(pieces), shape(pieces)))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_broken_character_before_the_letter_moves_nothing(shape: Any) -> None:
    """A lone surrogate is one code point of the text, like any other."""
    assert spots(read_logprobs("\ud83d A", shape(["\ud83d", " A"]))) == [(1, " A")]


@pytest.mark.parametrize("logprobs", [None, {}, {"content": None}, {"content": []}, {"tokens": [], "top_logprobs": []}])
def test_no_logprobs_are_none(logprobs: Any) -> None:
    """Where the endpoint gave none, nothing is made up."""
    assert read_logprobs("Answer: A", logprobs) is None


@pytest.mark.parametrize("value", [-math.inf, math.inf, math.nan, None, "x", True])
def test_what_is_no_log_probability_is_none(value: Any) -> None:
    """Minus infinity, and whatever else is no finite number."""
    entry = {"token": "A", "bytes": None, "top_logprobs": [{"token": "A", "logprob": value}]}

    found = read_logprobs("A", {"content": [entry]})

    assert found is not None
    assert found[0].top == (("A", None),)


def test_a_token_without_alternatives_is_kept() -> None:
    """A null entry among the alternatives, as for the first token of an echoed prompt."""
    found = read_logprobs("A B", {"tokens": ["A", " B"], "top_logprobs": [None, TOP]})

    assert [one.top for one in found or ()] == [(), KEPT_TOP]


def test_a_chat_answer_is_reduced() -> None:
    """Text, finish reason, model, usage without nulls, and what a bill or a check needs."""
    raw = chat(message={"role": "assistant", "content": "Answer: A"}, logprobs=content(["Answer", ": ", "A"]))
    raw |= {
        "usage": {"prompt_tokens": 3, "details": {"cached": None, "seen": 1}, "extra": None},
        "system_fingerprint": "f",
    }

    found = read_response(raw, "chat")

    assert (found.text, found.finish_reason, found.refusal) == ("Answer: A", "stop", None)
    assert (found.model, found.fingerprint, found.created) == ("m-1", "f", 12)
    assert found.usage == {"prompt_tokens": 3, "details": {"seen": 1}}
    assert spots(found.logprobs) == [(8, "A")]


@pytest.mark.parametrize("extra", [{"refusal": "I won't."}, {"provider_specific_fields": {"refusal": "I won't."}}])
def test_a_refusal_is_found(extra: dict[str, Any]) -> None:
    """In the message itself or where litellm puts it."""
    found = read_response(chat(message={"content": None, **extra}), "chat")

    assert (found.text, found.refusal, found.logprobs) == (None, "I won't.", None)


@pytest.mark.parametrize("finish", ["content_filter", "length", "stop"])
def test_null_content_is_an_outcome(finish: str) -> None:
    """No text but a finish reason: that is an answer of a kind, stored and counted."""
    found = read_response(chat(message={"content": None}, finish_reason=finish), "chat")

    assert (None, finish) == (found.text, found.finish_reason)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_text_completion_is_read(shape: Any) -> None:
    """The text and its logprobs, in either shape."""
    raw = {
        "choices": [
            {
                "text": " B\nExplanation: so",
                "finish_reason": "stop",
                "logprobs": shape([" B", "\n", "Explanation", ": so"]),
            }
        ]
    }

    found = read_response(raw, "completion")

    assert (found.text, spots(found.logprobs)) == (" B\nExplanation: so", [(0, " B")])


@pytest.mark.parametrize(
    ("raw", "style", "message"),
    [
        ({"error": {"message": "out of  memory", "code": 1}}, "chat", "error object: out of memory"),
        ({"error": "busy", "choices": [{"text": "A"}]}, "completion", "error object: busy"),
        ({"choices": []}, "chat", "without any choice"),
        ({"choices": None}, "completion", "without any choice"),
        ({}, "chat", "without any choice"),
        (chat(message=None), "chat", "holds no message"),
        (chat(message={"content": None}, finish_reason=None), "chat", "empty choice"),
        ({"choices": [{"text": None, "finish_reason": None}]}, "completion", "empty choice"),
    ],
)
def test_a_body_without_answer_is_a_fault(raw: dict[str, Any], style: Any, message: str) -> None:
    """Status 200 and yet nothing to read: worth another attempt, never stored."""
    with pytest.raises(TransientError, match=message):
        read_response(raw, style)


def half(text: str) -> str:
    """The text with half of a surrogate pair for every question mark."""
    return text.replace("?", "\ud83d")


TEXTS = st.text(st.sampled_from("AB ?\x00\u00e9\U0001f600:\n")).map(half)
NUMBERS = st.integers() | st.floats() | st.sampled_from([10**400, -(10**400), 2**63, True, False])
RUBBISH = st.recursive(
    st.none() | NUMBERS | TEXTS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3)
)
"""Any JSON value as Python reads it: also with broken characters, endless digits, and numbers that are none."""

SAYS = st.fixed_dictionaries({}, optional={"content": RUBBISH, "refusal": RUBBISH, "provider_specific_fields": RUBBISH})
CHOICES = st.fixed_dictionaries(
    {},
    optional={
        "message": SAYS | RUBBISH, "text": RUBBISH, "finish_reason": st.just("stop") | RUBBISH,
        "provider_specific_fields": RUBBISH,
        "logprobs": st.dictionaries(st.sampled_from(["content", "tokens", "top_logprobs"]), RUBBISH) | RUBBISH,
    },
)  # fmt: skip
BODIES = st.fixed_dictionaries(
    {"choices": st.lists(CHOICES, min_size=1, max_size=2) | RUBBISH},
    optional=dict.fromkeys(("usage", "model", "system_fingerprint", "created", "error", "content"), RUBBISH),
)


@given(raw=BODIES, style=st.sampled_from(["chat", "completion"]))
def test_whatever_comes_can_be_stored(raw: dict[str, Any], style: Any) -> None:
    """Any body is a fault or a completion; which the store gives back as it was, and which can be written."""
    try:
        found = read_response(raw, style)
    except TransientError:
        return

    assert found == read_completion(unpack(pack(make_row({}, found))))
    assert found == Completion.model_validate_json(found.model_dump_json())


@pytest.mark.parametrize(
    ("text", "repaired"), [("Answer: A", ()), ("Answer: A \ud83d", ("text",)), ("Answer: \ude00\ud83d", ("text",))]
)
def test_broken_characters_are_replaced_and_marked(text: str, repaired: tuple[str, ...]) -> None:
    """Half of a surrogate pair becomes U+FFFD, a code point for a code point, and the field is named."""
    found = read_response(chat(message={"content": text}), "chat")

    assert found.repaired == repaired
    assert found.text is not None
    assert len(found.text) == len(text)
    assert found.text == text.replace("\ud83d", "\ufffd").replace("\ude00", "\ufffd")


def test_a_text_in_parts_is_joined() -> None:
    """Some servers send the text as a list of parts."""
    parts = [{"type": "text", "text": "Answer: A\n"}, {"type": "text", "text": "Explanation: So."}]

    assert read_response(chat(message={"content": parts}), "chat").text == "Answer: A\nExplanation: So."


@pytest.mark.parametrize("content", [5, True, {"text": "A"}, [1], [{"type": "image"}], [{"type": "text", "text": 3}]])
def test_what_is_no_text_is_kept_as_malformed(content: Any) -> None:
    """It was paid for: it is kept as JSON with its fault, so that nobody asks again."""
    found = read_response(chat(message={"content": content}), "chat")

    assert found.fault == "malformed"
    assert found.text == json.dumps(content)


@pytest.mark.parametrize("letter", ["x", "\u00e9", "\x00", "\U0001f600", '"'])
@pytest.mark.parametrize("most", [10, 11, 12, 13, 14, 15, 16, 100])
def test_a_cut_text_fits_and_is_the_beginning(letter: str, most: int) -> None:
    """Cut at the bound whatever a character takes, and never inside one."""
    text = letter * 1000
    found = cut_text(text, most)

    assert text.startswith(found)
    assert len(encode_text(found)) <= most
    assert len(encode_text(found + letter)) > most - 12


@pytest.mark.parametrize("letter", ["x", "\x00", "\U0001f600"])
def test_a_text_beyond_the_bound_is_cut_and_marked(letter: str) -> None:
    """The bound is 10 MB at the most; what is cut fits into the store."""
    found = read_response(chat(message={"content": letter * 20_000_000}), "chat")

    assert found.fault == "oversized"
    assert found.text is not None
    assert 9_999_000 < len(encode_text(found.text)) <= 10_000_000
    assert len(unpack(pack(make_row({}, found)))["completion"]["text"]) == len(found.text)
    assert len(encode_text(found.text)) < MAX_BYTES


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (b'{"choices": [{"message": {"content": "A"}, "finish_reason": "stop"}], "usage": {"x": NaN}}', "A"),
        (b'{"choices": [{"message": {"content": "A"}, "finish_reason": "stop"}], "n": ' + b"9" * 5000 + b"}", "A"),
        (b'{"choices": {"0": "A"}}', '{"0": "A"}'),
        (b'{"content": 7, "usage": {"input_tokens": 3}}', "7"),
        (b"[" * 100_000, None),
    ],
)  # fmt: skip
def test_a_body_that_the_route_cannot_read_is_read_all_the_same(body: bytes, kept: str | None) -> None:
    """What litellm stumbles over is kept: as an answer where it is one, else as malformed."""
    found = read_body(body, "chat")

    assert found is not None
    assert found.text == kept
    assert found.fault == (None if kept == "A" else "malformed")


@pytest.mark.parametrize(
    "body",
    [None, b"", b"<html>", b'{"choices": [', b"5", b'"A"', b"[]", b"null", b"{}", b'{"choices": []}',
     b'{"error": {"message": "no"}}', b'{"error": "no", "content": "x"}', b"\xff\xfe"],
)  # fmt: skip
def test_a_body_without_answer_stays_a_fault(body: bytes | None) -> None:
    """HTML, broken JSON, an error, no choices: nothing that could be kept."""
    assert read_body(body, "chat") is None
