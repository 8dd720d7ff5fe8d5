"""What travels between a run and its workers: nothing is lost or added on the way, and nothing read is believed."""

from __future__ import annotations

import json
import random

import pytest

from explaineval.client.worker import (
    Call,
    Setup,
    decode_call,
    decode_reply,
    encode_call,
    encode_reply,
    join,
    split,
)
from explaineval.config import Endpoint
from explaineval.errors import (
    EndpointError,
    ExplainevalError,
    InputError,
    OversizedError,
    RequestFailedError,
    RequestRejectedError,
    RequestUnsentError,
    TransientError,
)
from explaineval.records import Completion, Message, Request, TokenAlternatives
from explaineval.secrets import SECRETS

REQUESTS = [
    Request(model="openai/m", style="completion", prompt="lines\nand \ud83d halves é", max_tokens=7, sample=3),
    Request(
        endpoint="lab",
        model="openai/m",
        style="chat",
        messages=(Message(role="system", content="s"), Message(role="user", content="u")),
        max_tokens=5,
        temperature=0.0,
        stop=("\n", "x"),
        logprobs=5,
        params={"top_p": 1.0, "extra_body": {"n": 1, "deep": [1.5, None, True, 2**60]}},
    ),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=["completion", "chat"])
def test_a_request_arrives_as_it_was(request_: Request) -> None:
    """Also how its numbers are spelled, which the body on the wire repeats."""
    line = encode_call(12, "module:Class", request_)
    number, call = decode_call(line)

    assert b"\n" not in line
    assert (number, call) == (12, Call(transport="module:Class", request=request_))
    assert repr(call.request) == repr(request_)


def test_a_completion_arrives_as_it_was() -> None:
    """With every digit of its log-probabilities, and with what was repaired in it."""
    draw = random.Random(1)
    letter, values = "A", [-draw.expovariate(1) * 10 ** draw.randint(-12, 3) for _ in range(2000)]
    completion = Completion(
        text="A\n\udc00",
        logprobs=tuple(
            TokenAlternatives(offset=0, token=letter, top=((letter, value), ("B", None))) for value in values
        ),
        usage={"total_tokens": 2**62, "cost": 1e-7},
        fault="malformed",
        reasoning="because",
    )
    number, found = decode_reply(encode_reply(7, completion))

    assert (number, found) == (7, completion)
    assert isinstance(found, Completion)
    assert [row.top[0][1] for row in found.logprobs or ()] == values
    assert found.repaired == ("text",)


@pytest.mark.parametrize(
    "error",
    [
        EndpointError("no such model"),
        InputError("no key"),
        OversizedError("too much"),
        RequestRejectedError("not this one"),
        RequestRejectedError("never sent", sent=False),
        RequestUnsentError("stopping"),
        RequestFailedError("failed"),
        TransientError("later", retry_after=2.5, overload=True),
        TransientError("refused", refused=True),
        TransientError("an error", unbilled=True),
        TransientError("cut"),
        ExplainevalError("a bug"),
    ],
    ids=repr,
)
def test_an_error_arrives_as_it_was(error: ExplainevalError) -> None:
    """Its kind, and whether its attempt can have been charged, decide on retries and money."""
    _, found = decode_reply(encode_reply(1, error))

    assert isinstance(found, ExplainevalError)
    assert (type(found), str(found), vars(found)) == (type(error), str(error), vars(error))


def test_keys_do_not_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker is told the name of the variable; a key in an error's text is masked before it leaves."""
    monkeypatch.setenv("LAB_KEY", "sk-lab-0123456789abcdef")
    monkeypatch.setattr(SECRETS, "_values", SECRETS._values)
    SECRETS.add("sk-lab-0123456789abcdef")
    endpoint = Endpoint("http://127.0.0.1:1/v1", "lab", "LAB_KEY")
    setup = Setup.of({"lab": endpoint}, 3.0).model_dump_json().encode()
    reply = encode_reply(1, EndpointError("the key sk-lab-0123456789abcdef is not accepted"))

    assert Setup.model_validate_json(setup).by_identity() == {"lab": endpoint}
    assert b"LAB_KEY" in setup
    assert b"0123456789abcdef" not in setup + reply


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"{}",
        b'{"completion": {"text": 1}}',
        b'{"completion": {"text": "x", "system": "y"}}',
        b'{"failure": {"error": "KeyboardInterrupt", "message": ""}}',
        b'{"failure": {"error": "transient", "message": "", "retry_after": 1e300}}',
        b'{"failure": {"error": "transient", "message": "", "retry_after": NaN}}',
        b'{"failure": {"error": "failed", "message": "' + b"x" * 3000 + b'"}}',
        b"[" * 100_000,
    ],
    ids=range(10),
)
def test_a_reply_that_cannot_be_read_may_have_been_charged(text: bytes) -> None:
    """It is an attempt without a bill, for the one call that it belongs to."""
    number, found = decode_reply(b"31 " + text)

    assert number == 31
    assert isinstance(found, TransientError)
    assert not found.unbilled


def test_a_line_without_a_number_is_no_reply() -> None:
    """Nobody knows which call it belongs to, so the worker counts as broken."""
    with pytest.raises(ValueError, match="invalid literal"):
        decode_reply(b"x {}")


def test_batches_hold_lines() -> None:
    """A batch of calls is split into the same lines again; an empty one holds none."""
    lines = [encode_call(number, "m:C", request_) for number, request_ in enumerate(REQUESTS)]

    assert list(split(join(lines))) == lines
    assert list(split(b"")) == []
    assert json.loads(lines[1].partition(b" ")[2])["request"]["params"]["top_p"] == 1.0
