"""The border where foreign exceptions become ours, by status code and cause chain, not by class.

litellm wraps what happens in classes that mislead: a 401 may be a BadRequestError, a reset or a refused
connection a 500, a client time-out a 408, broken JSON a 500.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from explaineval.errors import EndpointError, ExplainevalError, RequestRejectedError, TransientError

FATAL = {401, 402, 403, 404}
REJECTED = {400, 405, 409, 413, 415, 422}
MAX_WAIT = 300.0


def classify(exc: BaseException, *, where: str, secrets: tuple[str, ...] = ()) -> ExplainevalError:
    """What to raise instead of a foreign exception. `where` names endpoint and model; `secrets` are blanked out."""
    status = status_of(exc)
    text = message_of(exc, secrets)
    names = {type(link).__name__ for link in chain(exc)}
    if isinstance(exc, TimeoutError) or names & {"APITimeoutError", "Timeout", "ReadTimeout", "ConnectTimeout"}:
        return TransientError(f"{where}: no answer within the time-out")
    if any(isinstance(link, ConnectionRefusedError) for link in chain(exc)):
        return TransientError(f"{where}: the connection is refused", refused=True)
    if names & {"gaierror", "ClientConnectorDNSError"}:
        return EndpointError(f"{where}: the host name cannot be resolved; check the base URL.")
    if names & {"APIConnectionError", "ConnectError", "ReadError", "ClientPayloadError", "ClientOSError"}:
        return TransientError(f"{where}: the connection broke")
    if "insufficient_quota" in text or "exceeded your current quota" in text:
        return EndpointError(f"{where}: the account's quota is used up ({text}); add credit, then run again.")
    if "Missing credentials" in text or "api_key client option must be set" in text:
        return EndpointError(
            f"{where}: no key was given; set the provider's key variable, or name yours by --api-key-env."
        )
    if "unexpected keyword argument" in text:
        return RequestRejectedError(f"{where}: a parameter is not accepted: {text}")
    if status in FATAL:
        return EndpointError(f"{where}: {FATAL_HINTS[status]} (status {status}: {text}).")
    if status in REJECTED:
        return RequestRejectedError(f"{where}: rejected with status {status}: {text}")
    shown = f"status {status}: " if status else ""
    return TransientError(f"{where}: {shown}{text}", retry_after=retry_after(exc))


FATAL_HINTS = {
    401: "the key is not accepted; check the variable that holds it",
    402: "payment is required; check the account's balance",
    403: "access is denied; check what the key may use",
    404: "unknown model or address; check the model's name and the base URL",
}


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


def retry_after(exc: BaseException) -> float | None:
    """Seconds that the endpoint asks us to wait (Retry-After in seconds, or retry-after-ms)."""
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
                return min(seconds, MAX_WAIT)
    return None


def message_of(exc: BaseException, secrets: tuple[str, ...] = ()) -> str:
    """The innermost readable message on one line, short, without secrets or litellm's prefixes."""
    text = " ".join(str(exc).split())
    text = re.sub(r"^(litellm\.\w+: )+", "", text)
    text = re.sub(r"^(\w+(Error|Exception): )+(\w+Exception - )?", "", text)
    text = re.sub(r"^\w+Exception - ", "", text)
    found = re.search(r"'message': (['\"])(.*?)\1", text)
    if found:
        text = found.group(2)
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    text = re.sub(r"\b(sk|pk|key|xai|gsk)[-_][A-Za-z0-9_\-]{8,}|(?<=Bearer )\S+", "***", text)
    return text[:240].rstrip(". ")
