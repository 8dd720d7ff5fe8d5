"""Foreign exceptions, sorted by status and cause chain, never by their class alone."""

from __future__ import annotations

import socket
from typing import Any

import httpx
import pytest

from explaineval.client.errors import MAX_WAIT, chain, classify, message_of, retry_after, status_of
from explaineval.errors import EndpointError, ExplainevalError, RequestRejectedError, TransientError
from explaineval.secrets import SECRETS

SECRET = "hunter2-abc"  # noqa: S105 - an invented one, to be blanked out


class ForeignError(Exception):
    """A stranger's exception, whose class says nothing."""

    def __init__(self, message: str = "something", *, status: int | None = None, headers: Any = None) -> None:
        super().__init__(message)
        if status is not None:
            self.status_code = status
        if headers is not None:
            self.litellm_response_headers = headers


def named(name: str, message: str = "x", *, status: int | None = None) -> Exception:
    """An exception of a class with this name."""
    found: Exception = type(name, (ForeignError,), {})(message, status=status)
    return found


def caused(outer: Exception, *causes: BaseException) -> Exception:
    """`outer`, raised from the first cause, that from the next, and so on."""
    link: BaseException = outer
    for cause in causes:
        link.__cause__ = cause
        link = cause
    return outer


def sorted_out(exc: BaseException) -> ExplainevalError:
    """What is raised in its place."""
    return classify(exc, where="a/b at lab")


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_or_model_stops_the_run(status: int) -> None:
    """No retry can mend it, whatever the class is called."""
    found = sorted_out(named("BadRequestError", "no such thing", status=status))

    assert EndpointError is type(found)
    assert f"status {status}: no such thing" in str(found)
    assert str(found).startswith("a/b at lab: ")


@pytest.mark.parametrize("status", [400, 405, 409, 413, 415, 422])
def test_a_request_may_be_rejected(status: int) -> None:
    """This request alone, never asked again."""
    assert RequestRejectedError is type(sorted_out(named("InternalServerError", status=status)))


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 520, 529, None])
def test_the_rest_is_worth_another_attempt(status: int | None) -> None:
    """Rate limits, servers in trouble, and what nobody has heard of."""
    assert TransientError is type(sorted_out(ForeignError(status=status)))


def test_an_account_without_credit_stops_the_run() -> None:
    """A 429 that waiting cannot mend."""
    for text in ("insufficient_quota: buy", "You exceeded your current quota, please check your plan"):
        found = sorted_out(ForeignError(text, status=429))

        assert EndpointError is type(found)
        assert "add credit" in str(found)


def test_a_missing_key_is_told() -> None:
    """The provider's client complains before anything is sent."""
    found = sorted_out(ForeignError("The api_key client option must be set", status=500))

    assert EndpointError is type(found)
    assert "--api-key-env" in str(found)


@pytest.mark.parametrize("name", ["APITimeoutError", "Timeout", "ReadTimeout", "ConnectTimeout"])
def test_a_time_out_is_known_by_its_chain(name: str) -> None:
    """Whatever status the wrapper invents."""
    found = sorted_out(caused(named("APIError", status=408), named(name)))

    assert TransientError is type(found)
    assert "no answer within the time-out" in str(found)


def test_our_own_time_out_is_one_too() -> None:
    """The outer time-out, which has no status."""
    assert "no answer within the time-out" in str(sorted_out(TimeoutError()))


def test_a_refused_connection_is_known_by_its_chain() -> None:
    """Wrapped twice, with a status that never came over the wire."""
    wrapped = caused(
        named("InternalServerError", status=500), named("APIConnectionError"), ConnectionRefusedError(111, "no")
    )

    found = sorted_out(wrapped)

    assert isinstance(found, TransientError)
    assert found.refused
    assert not getattr(sorted_out(named("APIConnectionError", status=500)), "refused", None)


@pytest.mark.parametrize("cause", [socket.gaierror(-2, "Name or service not known"), named("ClientConnectorDNSError")])
def test_an_unknown_host_stops_the_run(cause: Exception) -> None:
    """A misspelt address is no passing trouble."""
    found = sorted_out(caused(named("InternalServerError", status=500), cause))

    assert EndpointError is type(found)
    assert "host name" in str(found)


@pytest.mark.parametrize(
    "name", ["APIConnectionError", "ConnectError", "ReadError", "ClientPayloadError", "ClientOSError"]
)
def test_a_broken_connection_is_worth_another_attempt(name: str) -> None:
    """Resets and half-closed bodies arrive as status 500."""
    found = sorted_out(caused(named("InternalServerError", status=500), named(name)))

    assert TransientError is type(found)
    assert "the connection broke" in str(found)


def test_the_context_counts_as_a_cause() -> None:
    """An exception raised while another was handled."""
    outer = ForeignError(status=500)
    outer.__context__ = ConnectionRefusedError()

    assert getattr(sorted_out(outer), "refused", False)


def test_a_parameter_that_is_not_accepted_is_told() -> None:
    """A mistake in --param is not asked again."""
    found = sorted_out(ForeignError("create() got an unexpected keyword argument 'topp'", status=500))

    assert RequestRejectedError is type(found)
    assert "topp" in str(found)


def test_a_chain_that_bites_its_tail_ends() -> None:
    """Causes in a circle are walked once."""
    one, two = ForeignError(), ForeignError()
    one.__cause__, two.__cause__ = two, one

    assert [one, two] == list(chain(one))


def test_the_status_of_the_outermost_link_counts() -> None:
    """The first link that knows one, and only whole numbers."""
    odd = ForeignError()
    odd.status_code = "404"

    assert status_of(caused(odd, ForeignError(status=503), ForeignError(status=400))) == 503
    assert status_of(ForeignError()) is None


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "86400"}, MAX_WAIT),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"retry-after-ms": "soon", "retry-after": "3"}, 3.0),
        ({"content-type": "text/html"}, None),
        ({}, None),
    ],
)
def test_the_wait_that_is_asked_for(headers: dict[str, str], expected: float | None) -> None:
    """Seconds or milliseconds, never more than the cap, never a date; in litellm's headers or the response's."""
    response = ForeignError(status=429)
    response.response = httpx.Response(429, headers={name.title(): value for name, value in headers.items()})

    assert expected == retry_after(ForeignError(headers=headers))
    assert expected == retry_after(caused(ForeignError(), ForeignError(headers=httpx.Headers(headers))))
    assert expected == retry_after(response)
    assert expected == getattr(sorted_out(response), "retry_after", "lost")


def test_secrets_are_blanked() -> None:
    """The key itself, and whatever looks like one, is in no message."""
    text = f"Incorrect API key provided: {SECRET}; sent Bearer abcdefgh12345678 and sk-proj-ABCDEFGH12345678"

    SECRETS.add(SECRET)
    for status in (400, 401, 429, None):
        found = str(sorted_out(ForeignError(text, status=status)))

        assert not any(part in found for part in (SECRET, "abcdefgh12345678", "ABCDEFGH12345678"))


def test_blanking_leaves_the_words_around_a_secret() -> None:
    """The commonest message of all stays readable."""
    SECRETS.add(SECRET)
    found = str(sorted_out(ForeignError(f"Incorrect API key provided: {SECRET}", status=401)))

    assert "Incorrect API key provided: ***" in found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("litellm.BadRequestError: OpenAIException - too long", "too long"),
        (
            "litellm.InternalServerError: InternalServerError: OpenAIException - Error code: 500 - "
            "{'error': {'message': 'it broke', 'type': 'x'}}",
            "it broke",
        ),
        ("Error code: 400 - {'error': {'message': \"can't do\", 'code': 1}}", "can't do"),
        ("two\nlines\t here.", "two lines here"),
        ("x" * 500, "x" * 240),
    ],
)
def test_messages_are_short_and_plain(text: str, expected: str) -> None:
    """One line without the wrapper's prefixes."""
    assert expected == message_of(ForeignError(text))
