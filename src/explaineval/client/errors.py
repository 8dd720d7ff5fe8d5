"""Translate foreign exceptions into ours, by status code and chain of causes, not by class.

litellm wraps what happens in classes that mislead: a 401 may be a BadRequestError, a reset or a refused connection a
500, a client time-out a 408, broken JSON a 500.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from explaineval.errors import EndpointError, ExplainevalError, RequestRejectedError, TransientError
from explaineval.secrets import SECRETS

FATAL = {401, 402, 403, 404}
OVERLOAD = {429, 503, 529}
GAVE_UP = {408, 499, 504, 522, 524}
"""Statuses of a gateway that stopped waiting: the answer may still have been made, and charged."""
OUT_OF_SERVICE = OVERLOAD | GAVE_UP | {502, 521, 523}
"""Statuses of an endpoint that is out of service for a while, or of the gateway before it."""
REJECTED = {400, 405, 409, 413, 415, 422}
MAX_WAIT = 300.0

TIMED_OUT = {"APITimeoutError", "Timeout", "ReadTimeout", "ConnectTimeout"}
NO_HOST = {"gaierror", "ClientConnectorDNSError"}
BROKEN = {
    "APIConnectionError",
    "ConnectError",
    "ReadError",
    "ClientPayloadError",
    "ClientOSError",
    "RemoteProtocolError",
}
Advice = Callable[[int], str | None]
"""What to tell the user about a status at one endpoint; None where nothing more is known."""

NO_CREDIT = re.compile(r"insufficient_quota|exceeded your current quota|credit balance is too low", re.IGNORECASE)
NO_KEY = re.compile(r"Missing credentials|api_key client option must be set|Missing \w+ API key", re.IGNORECASE)
BAD_KEY = re.compile(r"API_KEY_INVALID|API key not valid", re.IGNORECASE)
HTML = re.compile(r"<!doctype html|<html[\s>]|<body[\s>]", re.IGNORECASE)
RESPONSES_ONLY = re.compile(r"\bv1/responses\b|\bresponses api\b", re.IGNORECASE)
"""How servers say that they offer a model only by OpenAI's newer Responses API."""
FLAGGED = re.compile(r"\bmoderation\b|\bflagged\b", re.IGNORECASE)
REQUESTED_WAITS = (
    re.compile(r"retry in (\d+(?:\.\d+)?) ?s\b", re.IGNORECASE),
    re.compile(r"retryDelay\W+(\d+(?:\.\d+)?)s\b"),
)
"""How Gemini writes in the body of a 429 what others put into Retry-After."""

ASKED_BY_US = re.compile(r"logprobs|temperature|max_tokens|max_completion_tokens|'stop'")

NO_ANSWER = ("Error converting to valid response block", "Unable to get json response")
"""What litellm says, with a status of its own making, when a body with status 200 cannot be read."""


def classify(exc: BaseException, *, where: str, advice: Advice | None = None) -> ExplainevalError:
    """What to raise instead of a foreign exception. `where` names endpoint and model.

    `advice` says more about a status than FATAL_HINTS where more is known; about 401 also where no key was found.
    """

    def hint(status: int) -> str:
        return (advice(status) if advice is not None else None) or FATAL_HINTS[status]

    answered = wire_status(exc)
    text = message_of(exc)
    broken = None if answered else _without_status(exc, where, text, hint)
    if broken is not None:
        return broken
    whole = str(exc)
    if "LLM Provider NOT provided" in whole:
        return EndpointError(f"{where}: litellm knows no provider of that name; check what stands before the slash.")
    if NO_CREDIT.search(whole) and not _is_quota_per_minute(exc, whole):
        return EndpointError(f"{where}: the account's quota is used up ({text}); add credit, then run again.")
    status = 401 if BAD_KEY.search(whole) else answered or status_of(exc)
    if status in (400, 404, 405) and RESPONSES_ONLY.search(whole):
        return EndpointError(
            f"{where}: the endpoint offers this model by its Responses API only (status {status}: {text}); ask it as "
            "openai/responses/NAME by --transport litellm, which needs the optional dependency mcp of litellm for that."
        )
    if status in FATAL and not (status == 403 and FLAGGED.search(whole)):
        return EndpointError(f"{where}: {hint(status)} (status {status}: {text}).")
    if not answered and any(type(link).__name__ == "UnsupportedParamsError" for link in chain(exc)):
        text = text.partition(". To drop these")[0]
        if not ASKED_BY_US.search(text):
            text += "; where the endpoint takes it all the same, give it inside extra_body"
        return RequestRejectedError(f"{where}: the route does not take a parameter: {text}", sent=False)
    if status in REJECTED or status == 403:
        return RequestRejectedError(f"{where}: rejected with status {status}: {text}")
    shown = f"status {status}: " if answered or status not in (None, 500) else ""  # 500 is litellm's for "no idea"
    return TransientError(
        f"{where}: {shown}{text}",
        retry_after=retry_after(exc),
        overload=status in OVERLOAD,
        unbilled=answered is not None and answered not in GAVE_UP,
        unavailable=answered in OUT_OF_SERVICE,
    )


NO_KEY_HINT = "no key was given; set the provider's key variable, or name yours by --api-key-env"

FATAL_HINTS = {
    401: "the key is not accepted; check the variable that holds it",
    402: "payment is required; check the account's balance",
    403: "access is denied; check what the key may use",
    404: "unknown model or address; check the model's name and the base URL",
}


def _without_status(exc: BaseException, where: str, text: str, hint: Callable[[int], str]) -> ExplainevalError | None:
    """The error where no error status came over the wire, as far as the chain of causes tells; else None."""
    links = list(chain(exc))
    names = {type(link).__name__ for link in links if not _is_wrapper(link)}
    if isinstance(exc, TimeoutError) or names & TIMED_OUT:
        return TransientError(f"{where}: no answer within the time-out", unavailable=True)
    if any(isinstance(link, ConnectionRefusedError) for link in links):
        return TransientError(f"{where}: the connection is refused", refused=True)
    if names & NO_HOST:
        return EndpointError(f"{where}: the host name cannot be resolved; check the base URL.", unavailable=True)
    if names & BROKEN or any(isinstance(link, ConnectionError) for link in links):
        return TransientError(f"{where}: the connection broke", unavailable=True)
    if NO_KEY.search(str(exc)):
        missing = hint(401)
        return EndpointError(f"{where}: {NO_KEY_HINT if missing == FATAL_HINTS[401] else missing}.")
    if "unexpected keyword argument" in text:
        return RequestRejectedError(f"{where}: a parameter is not accepted: {text}")
    if any(getattr(link, "status_code", None) == 200 for link in links) or any(
        phrase in str(exc) for phrase in NO_ANSWER
    ):
        return TransientError(f"{where}: the endpoint answered 200 with what is no answer: {text}")
    if any(isinstance(link, KeyError) and link.args == ("usageMetadata",) for link in links):
        return RequestRejectedError(
            f"{where}: the provider's filter blocks this prompt"
        )  # litellm fails on its absence
    return None


def _is_quota_per_minute(exc: BaseException, whole: str) -> bool:
    """Whether a used-up quota is one by the minute: the provider says when to try again, and that is soon."""
    wait = _requested_wait(exc)
    return wait is not None and wait <= MAX_WAIT and "insufficient_quota" not in whole and "PerDay" not in whole


def _is_wrapper(link: BaseException) -> bool:
    """Whether this is litellm's APIConnectionError, which wraps whatever went wrong, its own bugs included."""
    return type(link).__name__ == "APIConnectionError" and type(link).__module__.startswith("litellm")


def chain(exc: BaseException) -> Iterator[BaseException]:
    """The exception and everything it was raised from."""
    seen: set[int] = set()
    link: BaseException | None = exc
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def status_of(exc: BaseException) -> int | None:
    """The HTTP status, if any link of the chain knows one."""
    for link in chain(exc):
        status = getattr(link, "status_code", None)
        if isinstance(status, int):
            return status
    return None


def wire_status(exc: BaseException) -> int | None:
    """The error status that came over the wire, if one did; litellm's own exceptions translate it, or make one up."""
    for link in chain(exc):
        status = getattr(getattr(link, "response", None), "status_code", None)
        if isinstance(status, int) and status >= 400 and not type(link).__module__.startswith("litellm"):
            return status
    return None


def retry_after(exc: BaseException) -> float | None:
    """Seconds to wait by Retry-After, retry-after-ms or Gemini's words, at most MAX_WAIT, or None."""
    wait = _requested_wait(exc)
    return None if wait is None else min(wait, MAX_WAIT)


def _requested_wait(exc: BaseException) -> float | None:
    for link in chain(exc):
        headers = getattr(link, "litellm_response_headers", None) or getattr(
            getattr(link, "response", None), "headers", None
        )
        for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
            try:
                seconds = float(headers.get(name)) * unit if headers and headers.get(name) else None
            except ValueError:  # an HTTP date: the exponential wait serves as well
                seconds = None
            if seconds is not None and seconds >= 0:
                return seconds
    for words in REQUESTED_WAITS:
        match = words.search(str(exc))
        if match:
            return float(match.group(1))
    return None


def message_of(exc: BaseException) -> str:
    """The innermost readable message as one short line, without secrets and without litellm's prefixes."""
    whole = str(exc).partition("Traceback (most recent call last)")[0]
    if HTML.search(whole):
        return _web_page(whole)
    text = " ".join(whole.split())
    text = re.sub(r"^(litellm\.\w+: )+", "", text)
    text = re.sub(r"^(\w+(Error|Exception): )+(\w+Exception - )?", "", text)
    text = re.sub(r"^\w+Exception - ", "", text)
    text = re.sub(r"\.? Handle with `litellm\.\w+`\.?$", "", text)
    quoted = re.search(r"""['"]message['"]: (['"])((?:\\.|(?!\1).)+)\1""", text)
    if quoted:
        text = quoted.group(2)
    text = re.sub(r"\b(sk|pk|key|xai|gsk)[-_][A-Za-z0-9_\-]{8,}|(?<=Bearer )\S+", "***", text)
    return SECRETS.mask(text)[:240].rstrip(". ")


def _web_page(text: str) -> str:
    title = re.search(r"<title[^>]*>(.{0,400}?)</title>", text, re.IGNORECASE | re.DOTALL)
    named = " ".join(title[1].split())[:80] if title else ""
    return SECRETS.mask(
        f"it sent an HTML page{f' ({named})' if named else ''}, as to a browser, and no JSON; check the base URL"
    )
