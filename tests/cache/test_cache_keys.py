"""The cache key: pinned digests, one spelling per request, a new key for any real difference."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explaineval.cache import canonical, hash_canonical, request_from, request_key, verdict_name
from explaineval.cache.keys import is_key
from explaineval.errors import InputError
from explaineval.records import Message, Request

CHAT = Request(
    endpoint="lab",
    model="openai/smol",
    style="chat",
    messages=(Message(role="system", content="Be brief."), Message(role="user", content="Größe?\n“A”")),
    max_tokens=512,
    temperature=0.0,
    logprobs=20,
    params={"top_p": 0.5, "reasoning": {"effort": "low", "n": 2.0}},
)
CHAT_JSON = (
    '{"endpoint":"lab","logprobs":20,"max_tokens":512,'
    '"messages":[{"content":"Be brief.","role":"system"},{"content":"Größe?\\n“A”","role":"user"}],'
    '"model":"openai/smol","params":{"reasoning":{"effort":"low","n":2},"top_p":0.5},"sample":0,"schema":1,'
    '"style":"chat","temperature":0}'
)
CHAT_KEY = "4226be8baf36cec50e5abb649d94297b049502013bdc02f0155729144d94b6b6"

COMPLETION = Request(
    model="text/base", style="completion", prompt="Q: x\nAnswer:", max_tokens=64, stop=("\n\n",), sample=3
)
COMPLETION_JSON = (
    '{"max_tokens":64,"model":"text/base","prompt":"Q: x\\nAnswer:","sample":3,"schema":1,"stop":["\\n\\n"],'
    '"style":"completion"}'
)
COMPLETION_KEY = "1ba606303665fb987e379aa5c4f0f3378b64c4532a58450cc6c02c6e5b6dc03d"

FULL = COMPLETION.model_copy(
    update={
        "endpoint": "http://127.0.0.1:8000/v1",
        "temperature": 0.7,
        "stop": ("\n\n", "###"),
        "logprobs": 5,
        "params": {"top_p": 1.0, "flags": [True, "é", {"b": 2, "a": 0.5}]},
        "sample": 1000,
    }
)
FULL_JSON = (
    '{"endpoint":"http://127.0.0.1:8000/v1","logprobs":5,"max_tokens":64,"model":"text/base",'
    '"params":{"flags":[true,"é",{"a":0.5,"b":2}],"top_p":1},"prompt":"Q: x\\nAnswer:","sample":1000,"schema":1,'
    '"stop":["\\n\\n","###"],"style":"completion","temperature":0.7}'
)
FULL_KEY = "aae399ab41f50fc1c3bdbad682a746529caa46006f0fb626468939bdf9739311"

BARE = Request(model="openai/smol", style="chat", messages=(Message(role="user", content="Hi"),), max_tokens=1)
BARE_JSON = (
    '{"max_tokens":1,"messages":[{"content":"Hi","role":"user"}],"model":"openai/smol","sample":0,"schema":1,'
    '"style":"chat"}'
)
BARE_KEY = "1c6650a96c6cc01b73cdadbb50be383b7ad4111f2ba1867a9f901acf79442eda"

RETRIED = BARE.model_copy(update={"endpoint": "embedded:0123456789ab", "max_tokens": 4, "sample": 1001})
RETRIED_JSON = BARE_JSON.replace('{"max_tokens":1', '{"endpoint":"embedded:0123456789ab","max_tokens":4').replace(
    '"sample":0', '"sample":1001'
)
RETRIED_KEY = "dcef5bc9a0143ec45e95fda3eb50a7fb288ff37d78f0177b8ada7079c5cd4166"

numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values = st.recursive(
    st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Any request of either style."""
    style = draw(st.sampled_from(["chat", "completion"]))
    turns = st.builds(Message, role=st.sampled_from(["system", "user", "assistant"]), content=texts)
    return Request(
        endpoint=draw(st.none() | texts),
        model=draw(texts),
        style=style,
        messages=draw(st.lists(turns, max_size=3).map(tuple)) if style == "chat" else None,
        prompt=draw(texts) if style == "completion" else None,
        max_tokens=draw(st.integers(1, 4096)),
        temperature=draw(st.none() | st.floats(0, 2)),
        stop=draw(st.lists(texts, max_size=2).map(tuple)),
        logprobs=draw(st.none() | st.integers(0, 20)),
        params=draw(st.dictionaries(texts, values, max_size=3)),
        sample=draw(st.integers(0, 2000)),
    )


@pytest.mark.parametrize(
    ("request_", "text", "key"),
    [
        (CHAT, CHAT_JSON, CHAT_KEY),
        (COMPLETION, COMPLETION_JSON, COMPLETION_KEY),
        (FULL, FULL_JSON, FULL_KEY),
        (BARE, BARE_JSON, BARE_KEY),
        (RETRIED, RETRIED_JSON, RETRIED_KEY),
    ],
    ids=["chat", "completion", "everything", "nothing", "asked again"],
)
def test_known_keys_never_change(request_: Request, text: str, key: str) -> None:
    """A key that changes orphans every answer already paid for."""
    spelled = json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    assert text == spelled
    assert key == hashlib.sha256(text.encode()).hexdigest()
    assert key == request_key(request_)


@given(requests())
def test_canonical_form_and_request_are_inverse(request_: Request) -> None:
    """The stored form gives back a request with the same stored form."""
    entries = canonical(request_)

    assert request_ == request_from(entries)
    assert entries == canonical(request_from(entries))


@given(requests())
def test_canonical_form_holds_neither_null_nor_unneeded_fraction(request_: Request) -> None:
    """Every number has one spelling, nothing is null, and what is not used is absent."""

    def walk(value: Any) -> None:
        assert value is not None
        assert not (isinstance(value, float) and (value.is_integer() or not math.isfinite(value)))
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            walk(inner)

    entries = canonical(request_)
    walk(entries)

    assert ("params" in entries, "stop" in entries) == (bool(request_.params), bool(request_.stop))
    assert "sample" in entries


@given(requests(), st.randoms(use_true_random=False))
def test_spelling_does_not_change_the_key(request_: Request, random: Any) -> None:
    """The order of parameters and 2 or 2.0 are the same request."""

    def respell(value: Any) -> Any:
        if isinstance(value, dict):
            names = list(value)
            random.shuffle(names)
            return {name: respell(value[name]) for name in names}
        if isinstance(value, list):
            return [respell(inner) for inner in value]
        return float(value) if type(value) is int else value

    other = request_.model_copy(update={"params": respell(dict(request_.params))})

    assert request_key(request_) == request_key(other)


def test_minus_zero_is_zero() -> None:
    """A temperature of -0.0 buys nothing new."""
    assert request_key(CHAT) == request_key(CHAT.model_copy(update={"temperature": -0.0}))


@pytest.mark.parametrize(
    "change",
    [
        {"endpoint": "lab2"},
        {"endpoint": None},
        {"model": "openai/smol2"},
        {"messages": (*CHAT.messages[:1], Message(role="user", content="Größe?\n“B”"))},
        {"messages": (Message(role="user", content="Be brief."), *CHAT.messages[1:])},
        {"messages": CHAT.messages[::-1]},
        {"style": "completion", "messages": None, "prompt": "x"},
        {"max_tokens": 513},
        {"temperature": None},
        {"temperature": 0.1},
        {"stop": ("\n",)},
        {"logprobs": None},
        {"logprobs": 5},
        {"params": {}},
        {"params": {"top_p": 0.5, "reasoning": {"effort": "low", "n": 3}}},
        {"params": {"top_p": True, "reasoning": {"effort": "low", "n": 2}}},
        {"params": {"top_p": "0.5", "reasoning": {"effort": "low", "n": 2}}},
        {"sample": 1},
    ],
    ids=str,
)
def test_every_field_changes_the_key(change: dict[str, Any]) -> None:
    """Whatever can change the text of an answer is another request."""
    assert request_key(CHAT) != request_key(CHAT.model_copy(update=change))


def test_every_field_of_a_request_is_tried_above() -> None:
    """A field added to Request must enter the key, so this fails until it is thought of."""
    assert set(Request.model_fields) == {
        "endpoint", "model", "style", "messages", "prompt", "max_tokens", "temperature", "stop", "logprobs",
        "params", "sample",
    }  # fmt: skip


def test_true_is_not_one() -> None:
    """In Python True equals 1; on the wire it is another parameter."""
    one, true = (CHAT.model_copy(update={"params": {"echo": value}}) for value in (1, True))

    assert request_key(one) != request_key(true)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"params": {"a": {"b": [1, None]}}}, r"params\.a\.b\[1\] is null"),
        ({"params": {"top_p": math.nan}}, r"params\.top_p is nan"),
        ({"params": {"x": [math.inf]}}, r"params\.x\[0\] is inf"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"messages": None}, "no text"),
        ({"prompt": "x"}, "mixes styles"),
        ({"style": "completion"}, "mixes styles"),
        ({"params": {"x": "a\ud83d"}}, "lone surrogate '.ud83d'"),
        ({"model": "a\udc00"}, "lone surrogate"),
    ],
)
def test_requests_without_a_key_are_refused_by_name(change: dict[str, Any], named: str) -> None:
    """The sentence says which part cannot be sent."""
    with pytest.raises(InputError, match=named):
        request_key(CHAT.model_copy(update=change))


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"schema": True},
        {"endpoint": None},
        {"seed": 1},
        {"max_tokens": "many"},
        {"temperature": 0.0},
        {"temperature": False},
        {"params": {}},
        {"params": {"x": None}},
        {"prompt": "x"},
        {"model": "\ud800"},
    ],
    ids=str,
)
def test_other_forms_are_not_read_as_requests(change: dict[str, Any]) -> None:
    """Only what `canonical` writes is read back: else one request would have two keys."""
    with pytest.raises(InputError):
        request_from(canonical(CHAT) | change)


def test_a_stored_request_needs_its_sample() -> None:
    """The sample is always part of the stored form."""
    entries = canonical(CHAT)
    del entries["sample"]

    with pytest.raises(InputError, match="sample"):
        request_from(entries)


def test_key_of_the_stored_form_is_the_key() -> None:
    """Verifying a row needs no Request."""
    assert hash_canonical(canonical(CHAT)) == CHAT_KEY


@pytest.mark.parametrize(
    ("endpoint", "model", "name"),
    [
        (None, "openai/gpt-4o", "2049e18e0d6da8fc212a73a1282114c8"),
        ("lab", "openai/smol", "1836f652963da12db9b506e20762b26a"),
        ("http://127.0.0.1:8000/v1", "é", "77f9f99f375ee35eca366332fbffbd3d"),
    ],
)
def test_names_of_verdicts_never_change(endpoint: str | None, model: str, name: str) -> None:
    """A name that changes forgets what was found out about an endpoint, and so asks under other keys."""
    assert name == verdict_name(endpoint, model)


def test_the_form_of_a_key() -> None:
    """64 hexadecimal digits in lower case."""
    assert is_key(CHAT_KEY)
    assert not any(map(is_key, (CHAT_KEY[1:], CHAT_KEY.upper(), "g" * 64, CHAT_KEY + "0", "")))


def test_a_copy_that_was_changed_has_a_key_of_its_own() -> None:
    """Keys are remembered by the object, not by what it was copied from."""
    request = Request(model="openai/m", style="completion", prompt="x", max_tokens=5)
    first = request_key(request)

    assert request_key(request.model_copy()) == first
    assert request_key(request.model_copy(update={"sample": 1})) != first
    assert request_key(request) == first
