"""Guard all HTTP clients: requests go to the declared origin alone, no redirect is followed, bodies are bounded.

An `Attempt` says what one request may do. While it is current, whatever HTTP client a library opens is checked against
it: `watch_clients` replaces what the transports of httpx and of litellm send with, and an audit hook refuses every
connection that was opened without them, before a byte leaves. Nothing here imports litellm.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import ssl
import sys
import threading
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import certifi
import httpx

from explaineval.client.endpoints.bodies import (
    MOST_OF_ERROR,
    Body,
    Bounds,
    EncodingError,
    Inflater,
    OverBoundsError,
    UnderWay,
    check_answer,
)
from explaineval.client.endpoints.routes import Origin, built_in, declared_origins
from explaineval.client.errors import chain
from explaineval.config import Endpoint
from explaineval.config.values import DEFAULT_PORTS, is_private
from explaineval.errors import EndpointError, ExplainevalError, InputError, OversizedError, TransientError
from explaineval.secrets import SECRETS, find_secret, holds_key

ADVICE = "correct HTTPS_PROXY (or ALL_PROXY), unset it, or name the host in NO_PROXY"
UNREADABLE = "(an unreadable address)"
REFUSALS = (401, 403, 405, 407)
"""Statuses of a proxy that it will give again."""


def proxy_for(url: httpx.URL | str) -> str | None:
    """Return the environment's proxy for this address; None for http, and for a loopback or private address."""
    parsed = httpx.URL(url)
    if parsed.scheme != "https" or is_private(str(url)):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get("https") or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(parsed.host):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def proxy_name(proxy: str) -> str:
    """Return a proxy's address without user name and password.

    >>> proxy_name("http://me:secret@proxy.example:3128/"), proxy_name("http://[bad")
    ('http://proxy.example:3128', '(an unreadable address)')
    """
    try:
        url = httpx.URL(proxy)
    except httpx.InvalidURL:
        return UNREADABLE
    if not url.host or "%" in url.host:
        return UNREADABLE
    return f"{url.scheme}://{url.netloc.decode('ascii').rpartition('@')[2]}"


def proxied(transport: Callable[..., Any], proxy: str, context: ssl.SSLContext) -> Any:
    """Return a transport that sends through a proxy. Raises InputError where there can be none."""
    name = proxy_name(proxy)
    if name == UNREADABLE:
        raise InputError(f"the proxy of the environment has {name[1:-1]}, so nothing was sent; {ADVICE}.")
    try:
        return transport(verify=context, proxy=proxy)
    except ImportError:
        reason = "this needs the package socksio"
    except (ValueError, httpx.InvalidURL) as exc:
        scheme = name.partition(":")[0]
        known = scheme in ("http", "https", "socks5", "socks5h")
        reason = str(exc) if known else f"{scheme} is no kind of proxy; use http, https or socks5"
    raise InputError(f"the proxy {name} of the environment cannot be used ({reason}), so nothing was sent; {ADVICE}.")


@contextmanager
def naming_proxy(url: httpx.URL, where: str, keep: Callable[[ExplainevalError], ExplainevalError]) -> Iterator[None]:
    """Turn what a proxy does wrong into an error that names it. The endpoint was sent nothing, so nothing is charged.

    `keep` is given the error, and returns the one to be raised.
    """
    try:
        yield
    except InputError as exc:
        raise keep(exc) from exc
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as exc:
        proxy = proxy_for(url)
        if proxy is None or any(isinstance(link, ssl.SSLError) for link in chain(exc)):
            raise
        raise keep(_error(exc, where, proxy_name(proxy))) from exc


def _error(exc: Exception, where: str, name: str) -> ExplainevalError:
    said = f"{where}: the proxy {name} of the environment"
    if isinstance(exc, httpx.ProxyError):
        status = str(exc).split()[0] if str(exc)[:3].isdecimal() else ""
        answer = f"answers with status {status}" if status else "does not take the connection"
        if status and int(status) in REFUSALS:
            return EndpointError(f"{said} {answer}, so nothing was sent; {ADVICE}.")
        return TransientError(f"{said} {answer}, so nothing was sent", unbilled=True)
    if isinstance(exc, httpx.ConnectTimeout):
        return TransientError(f"{said} does not answer, so nothing was sent", unbilled=True)
    if any(isinstance(link, ConnectionRefusedError) for link in chain(exc)):
        return TransientError(f"{said} refuses the connection, so nothing was sent; {ADVICE}", refused=True)
    if any(type(link).__name__ == "gaierror" for link in chain(exc)):
        return EndpointError(f"{said} has a host name that cannot be resolved, so nothing was sent; {ADVICE}.")
    return TransientError(f"{said} cannot be reached, so nothing was sent", unbilled=True)


LOOK_AGAIN = 0.02
"""Seconds between two looks for room among the bytes under way."""
MOST_NAMES = 3
"""Environment variables that are named where several hold the same address."""
CREDENTIAL = re.compile(r"^(proxy-)?authorization$|^cookie$|(key|token|secret|credential|password)s?$", re.IGNORECASE)
"""Names of headers that say who asks."""
ACCOUNT = ("openai-organization", "openai-project")
"""Headers with a name of the user's account, which OpenAI's client fills from the environment wherever it sends to."""
LONGEST_TARGET = 200
"""Characters of a redirect's target that are shown."""
NO_RETRY = ("x-should-retry", "false")
"""Keeps OpenAI's client from asking again by itself, which litellm does not for every provider."""
OUR_HEADERS = ("content-encoding", "content-length", "transfer-encoding", NO_RETRY[0])

UNDER_WAY = UnderWay()
"""Shared by all connections of this process."""

_current: ContextVar[Attempt | None] = ContextVar("attempt", default=None)
_inside: ContextVar[bool] = ContextVar("inside_guard", default=False)
_hooked: list[bool] = []
"""Holds an item once the audit hook is installed, which cannot be removed again."""


@dataclass(eq=False)
class Attempt:
    """One attempt at a request: the origins to which it may go, over which wire, and how large its answer may be.

    `error` is what the guard raised first; whatever a library makes of the exception, this is the reason. After a
    refused answer nothing more is sent.
    """

    where: str
    origins: tuple[Origin, ...]
    wire: Wire
    bounds: Bounds = field(default_factory=Bounds)
    moved_by_user: bool = False
    """Whether a base URL was given, so that its origin is the declared one."""
    key: str | None = None
    """The key that is meant to be sent. To a base URL no other secret of the environment is."""
    streams: bool = False
    """Whether the caller reads answers piece by piece, so that their whole length is not bounded here."""
    lean: bool = True
    """Whether what is never used of an answer is removed before a library reads it."""
    keeps_document: bool = False
    """Whether the caller reads answers as the guard parsed them, so that they are not parsed again."""
    on_first_send: Callable[[], None] | None = None
    """Called just before the first request is sent."""
    sent: int = 0
    body: bytes | None = None
    """The body of the latest successful response, kept because litellm may fail to read an answer that was paid for."""
    document: Any = None
    """The JSON document in that body, without what is never used of it, where the caller reads it from here."""
    failed: dict[tuple[str, httpx.URL], Exception] = field(default_factory=dict)
    """The errors of requests that got no response, by method and URL; sent again, such a request raises its error."""
    error: ExplainevalError | None = None
    closed: bool = False

    def check(self, url: httpx.URL, method: str = "POST") -> None:
        """Check a request before it is sent, and count it.

        Raises:
            InputError: the address is not of a declared origin. Other errors: this attempt may send nothing more.
        """
        self._check_open()
        if (method, url) in self.failed:  # it may have been charged; whether to ask again is decided above litellm
            raise self.failed[method, url]
        origin = Origin.of(str(url))
        if origin not in self.origins:
            raise self.refuse(InputError(self._elsewhere(origin)))
        if not self.sent and self.on_first_send is not None:
            self.on_first_send()
        self.sent += 1

    def check_secrets(self, request: httpx.Request) -> None:
        """Refuse a request to a base URL that holds another secret than the key meant for it.

        Libraries look for keys, tokens and credentials by themselves, under names and in files that only they know. A
        secret of the environment is refused also in the body, where a prompt may hold what a file of it was.

        Raises:
            InputError: it holds one.
        """
        if not self.moved_by_user:
            return
        origin, key = Origin.of(str(request.url)), self.key or ""
        if origin not in built_in()["openai"]:
            for name in ACCOUNT:
                request.headers.pop(name, None)
        headers = "\n".join((str(request.url), *request.headers.values()))
        variable = find_secret(headers, os.environ, key)
        if variable is not None:
            raise self.refuse(
                InputError(
                    f"{self.where}: the route would send the value of {variable} to {origin}, which is not "
                    "the key for this base URL; nothing was sent. Unset it, or use another route, for example openai/."
                )
            )
        for name, value in request.headers.items():
            if CREDENTIAL.search(name) and not holds_key(value, key):
                raise self.refuse(
                    InputError(
                        f"{self.where}: the route would send a credential that it found by itself (header {name}) to "
                        f"{origin}, which is not the key for this base URL; nothing was sent. Use another route, for "
                        "example openai/."
                    )
                )
        variable = find_secret(_body_of(request), os.environ, key)
        if variable is not None:
            raise self.refuse(
                InputError(
                    f"{self.where}: the text of a request holds the value of {variable}; it was not sent to {origin}. "
                    "Look at the prompts and the data: something in them holds this machine's secrets."
                )
            )

    def check_answer(self, content: bytes) -> tuple[bytes, int]:
        """Return the body of an answer as it may be parsed, and about how much memory that takes, in bytes.

        Raises:
            OversizedError: it goes beyond the bounds.
        """
        self.body = content
        try:
            checked = check_answer(content, self.bounds, lean=self.lean)
        except OverBoundsError as exc:
            error = self.oversized(str(exc))
        else:
            if self.keeps_document:
                self.document = checked.document
            return checked.content, checked.memory
        del content  # or the traceback would hold it
        raise error

    def oversized(self, what: str) -> ExplainevalError:
        """Return the error of an answer that goes beyond its bounds."""
        return self.refuse(OversizedError(f"{self.where}: the answer holds {what}"))

    def check_connection(self, address: object) -> None:
        """Refuse a connection that was opened without a guarded transport.

        Raises:
            PermissionError: always. Code that opens sockets expects an OSError, and cleans up after it.
        """
        host = f"{address[0]}:{address[1]}" if isinstance(address, tuple) else str(address)
        error = InputError(
            f"{self.where}: litellm's route opens a connection of its own (to {host}), which explaineval cannot watch "
            "over: it was refused, and nothing was sent there. Use another route to this model, for example openai/ "
            "with --base-url."
        )
        self.refuse(error)
        raise PermissionError(errno.EPERM, str(error))

    def refuse(self, error: ExplainevalError) -> ExplainevalError:
        """Keep the first error of this attempt, and return it."""
        self.error = self.error or error
        return self.error

    def close(self) -> None:
        """End the attempt: from now on nothing is sent or kept in memory for it."""
        self.closed = True
        UNDER_WAY.release(id(self))

    def _check_open(self) -> None:
        if self.closed:
            raise TransientError(f"{self.where}: the attempt is over")
        if isinstance(self.error, EndpointError | OversizedError):  # what was answered must not be asked again
            raise self.error

    def _elsewhere(self, origin: Origin) -> str:
        declared = " or ".join(map(str, self.origins))
        if self.moved_by_user:
            return (
                f"{self.where}: litellm's route would send this to {origin} instead of the base URL's {declared}; "
                "nothing was sent. Use another route, for example openai/."
            )
        names = _variables_with(origin, self.origins)
        more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        because = f"{', '.join(names[:MOST_NAMES])}{more} points there" if names else "some setting points there"
        return (
            f"{self.where}: litellm would send this to {origin}, not to the provider's own {declared}: {because}. "
            f"Nothing was sent; unset {names[0] if names else 'it'}, or give that address by --base-url."
        )

    def redirected(self, response: httpx.Response, url: httpx.URL) -> ExplainevalError:
        """Return the error of a response that is a redirect."""
        location = response.headers.get("location", "")
        try:
            target = url.join(location).copy_with(userinfo=b"", query=None, fragment=None) if location else None
        except httpx.InvalidURL:
            target = None
        shown = _plain(str(target))[:LONGEST_TARGET] if target is not None else "no readable address"
        return self.refuse(
            EndpointError(
                f"{self.where}: the endpoint answers with a redirect (status {response.status_code}) to {shown}; it "
                "was not followed. If that is the right address, give it by --base-url."
            )
        )


def current() -> Attempt | None:
    """Return the attempt that this code runs for; None outside of `allow`."""
    return _current.get()


@contextmanager
def allow(attempt: Attempt) -> Iterator[Attempt]:
    """Make requests sent inside the block, also by tasks that are started there, part of this attempt."""
    token = _current.set(attempt)
    try:
        yield attempt
    finally:
        _current.reset(token)
        attempt.close()


class Wire:
    """The transports that really send, one for each proxy and one for none. Each client has its own, and closes it.

    `direct` opens the transport that sends without a proxy.
    """

    def __init__(self, direct: Callable[[ssl.SSLContext], httpx.AsyncBaseTransport] | None = None) -> None:
        self._direct = direct or (lambda context: httpx.AsyncHTTPTransport(verify=context))
        self._async: dict[str | None, httpx.AsyncBaseTransport] = {}
        self._sync: dict[str | None, httpx.BaseTransport] = {}
        self._lock = threading.Lock()

    async def send(self, request: httpx.Request, attempt: Attempt) -> httpx.Response:
        """Send a request and read its whole response, within what the attempt allows."""
        with _sending(request, attempt):
            with naming_proxy(request.url, attempt.where, attempt.refuse):
                response = await self._transport(request.url).handle_async_request(request)
            streamed = False
            try:
                reading = _BodyReader(attempt, response, request)
                streamed = attempt.streams and response.is_success
                if streamed:
                    return reading.streamed()
                assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - an asynchronous transport
                async for chunk in response.stream:
                    await reading.wait_for_room(reading.take(chunk))
                    if reading.full:
                        break
                await reading.wait_for_room(reading.finish())
            finally:
                if not streamed:
                    await response.aclose()
        return reading.response()

    def send_sync(self, request: httpx.Request, attempt: Attempt) -> httpx.Response:
        """Do the same as `send` for a synchronous client, in whatever thread it runs."""
        with _sending(request, attempt):
            with naming_proxy(request.url, attempt.where, attempt.refuse):
                response = self._sync_transport(request.url).handle_request(request)
            try:
                reading = _BodyReader(attempt, response, request)
                assert isinstance(response.stream, httpx.SyncByteStream)  # noqa: S101 - a synchronous transport
                for chunk in response.stream:
                    reading.block_for_room(reading.take(chunk))
                    if reading.full:
                        break
                reading.block_for_room(reading.finish())
            finally:
                response.close()
        return reading.response()

    async def aclose(self) -> None:
        """Close all connections."""
        transports, self._async = list(self._async.values()), {}
        for transport in transports:
            await transport.aclose()
        with self._lock:
            others, self._sync = list(self._sync.values()), {}
        for other in others:
            other.close()

    def _transport(self, url: httpx.URL) -> httpx.AsyncBaseTransport:
        proxy = proxy_for(url)
        if proxy not in self._async:
            if proxy is None:
                self._async[None] = self._direct(_tls())
            else:
                self._async[proxy] = proxied(httpx.AsyncHTTPTransport, proxy, _tls())
        return self._async[proxy]

    def _sync_transport(self, url: httpx.URL) -> httpx.BaseTransport:
        proxy = proxy_for(url)
        with self._lock:
            if proxy not in self._sync:
                self._sync[proxy] = (
                    httpx.HTTPTransport(verify=_tls()) if proxy is None else proxied(httpx.HTTPTransport, proxy, _tls())
                )
            return self._sync[proxy]


@contextmanager
def _sending(request: httpx.Request, attempt: Attempt) -> Iterator[None]:
    """Check a request before it is sent inside the block, where no further check is made, and keep its error."""
    attempt.check(request.url, request.method)
    attempt.check_secrets(request)
    request.headers["accept-encoding"] = "gzip"
    token = _inside.set(True)
    try:
        yield
    except Exception as exc:
        attempt.failed[request.method, request.url] = exc
        raise
    finally:
        _inside.reset(token)


class GuardedTransport(httpx.AsyncBaseTransport):
    """The transport of explaineval's own clients: it sends for the current attempt, and nothing without one."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send by the current attempt's wire."""
        attempt = _current.get()
        if attempt is None:
            raise RuntimeError("a request was sent outside of `allow`, so that no origin is declared for it")
        return await attempt.wire.send(request, attempt)


class _BodyReader:
    """Reads one response piece by piece."""

    def __init__(self, attempt: Attempt, response: httpx.Response, request: httpx.Request) -> None:
        self._attempt, self._response, self._request = attempt, response, request
        self._answer = response.is_success
        if 300 <= response.status_code < 400:
            raise attempt.redirected(response, request.url)
        most = attempt.bounds.most_bytes if self._answer else MOST_OF_ERROR
        self.full = False
        self._content = b""
        try:
            self._body = Body(response.headers.get("content-encoding", ""), most)
        except EncodingError as exc:
            raise httpx.DecodingError(str(exc), request=request) from exc

    def take(self, chunk: bytes) -> int:
        """Add a chunk, and return by how many bytes the body grew.

        Where it becomes too large, the body of an error response is cut there (`full`).

        Raises:
            OversizedError: the body of an answer is too large.
        """
        if self._attempt.closed:
            raise TransientError(f"{self._attempt.where}: the attempt is over")
        try:
            return self._body.take(chunk)
        except OverBoundsError as exc:
            what = str(exc)
        except EncodingError as exc:
            raise httpx.DecodingError(str(exc), request=self._request) from exc
        if self._answer:
            self._body.clear()  # the traceback holds the body
            raise self._attempt.oversized(what)
        self.full = True
        return 0

    async def wait_for_room(self, amount: int) -> None:
        """Wait until memory may hold so many bytes more of all responses."""
        while not self._hold(amount):  # noqa: ASYNC110 - threads without a loop hold bytes too
            await asyncio.sleep(LOOK_AGAIN)

    def block_for_room(self, amount: int) -> None:
        """Do the same as `wait_for_room` in a thread."""
        while not self._hold(amount):
            time.sleep(LOOK_AGAIN)

    def _hold(self, amount: int) -> bool:
        if self._attempt.closed:
            raise TransientError(f"{self._attempt.where}: the attempt is over")
        return not amount or UNDER_WAY.try_hold(id(self._attempt), amount)

    def finish(self) -> int:
        """Check the whole body, and return how many bytes of memory it will take when it is parsed."""
        if not self._answer:
            self._content = self._body.clear()
            return 0
        self._content, memory = self._attempt.check_answer(self._body.clear())
        return memory

    def response(self) -> httpx.Response:
        """Return the response for the library that sent the request: decompressed, and within its bounds."""
        return httpx.Response(
            self._response.status_code, headers=self._headers(), content=self._content, request=self._request
        )

    def streamed(self) -> httpx.Response:
        """Return the response unread; its stream yields decompressed pieces, each of them small."""
        stream = _Pieces(self._response, self._request)
        return httpx.Response(self._response.status_code, headers=self._headers(), stream=stream, request=self._request)

    def _headers(self) -> list[tuple[str, str]]:
        pairs = self._response.headers.multi_items()
        return [NO_RETRY, *((name, value) for name, value in pairs if name.lower() not in OUR_HEADERS)]


class _Pieces(httpx.AsyncByteStream):
    """A body that is decompressed while it is received."""

    def __init__(self, response: httpx.Response, request: httpx.Request) -> None:
        self._response, self._request = response, request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        assert isinstance(self._response.stream, httpx.AsyncByteStream)  # noqa: S101 - an asynchronous transport
        try:
            inflater = Inflater(self._response.headers.get("content-encoding", ""))
            async for chunk in self._response.stream:
                for piece in inflater.pieces(chunk):
                    yield piece
        except EncodingError as exc:
            raise httpx.DecodingError(str(exc), request=self._request) from exc

    async def aclose(self) -> None:
        await self._response.aclose()


def watch_clients(*transports: type[httpx.AsyncBaseTransport] | type[httpx.BaseTransport]) -> None:
    """Make these classes of transports send through the guard, and refuse connections that are opened without it.

    Without a current attempt nothing changes. Watching a class twice has no effect.
    """
    for transport in transports:
        for name, guarded in (("handle_async_request", _guarded_async), ("handle_request", _guarded)):
            plain = transport.__dict__.get(name)
            if plain is not None and not hasattr(plain, "unguarded"):
                replacement = guarded(plain)
                replacement.unguarded = plain
                setattr(transport, name, replacement)
    if not _hooked:
        _hooked.append(True)
        sys.addaudithook(_refuse_connections)


def _guarded_async(plain: Callable[..., Any]) -> Any:
    async def handle_async_request(self: httpx.AsyncBaseTransport, request: httpx.Request) -> httpx.Response:
        attempt = _current.get()
        if attempt is None or _inside.get():
            response: httpx.Response = await plain(self, request)
            return response
        return await attempt.wire.send(request, attempt)

    return handle_async_request


def _guarded(plain: Callable[..., Any]) -> Any:
    def handle_request(self: httpx.BaseTransport, request: httpx.Request) -> httpx.Response:
        attempt = _current.get()
        if attempt is None or _inside.get():
            response: httpx.Response = plain(self, request)
            return response
        return attempt.wire.send_sync(request, attempt)

    return handle_request


def _refuse_connections(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in ("socket.connect", "socket.getaddrinfo") or _inside.get():
        return
    attempt = _current.get()
    if attempt is not None:
        attempt.check_connection(arguments[1] if event == "socket.connect" else arguments[:2])


def proxy_note(endpoint: Endpoint, model: str) -> str | None:
    """Return a sentence that names the proxy through which an endpoint is reached; None without one."""
    try:
        origins = declared_origins(endpoint, model)
    except InputError:  # raised again where the model is asked
        return None
    reached = {str(origin): proxy for origin in origins if (proxy := proxy_for(str(origin))) is not None}
    if not reached:
        return None
    through = " and ".join(dict.fromkeys(map(proxy_name, reached.values())))
    return f"{', '.join(reached)} is reached through the proxy {through}, which the environment names."


@cache
def _tls() -> ssl.SSLContext:
    """Return the TLS settings: servers are verified by this machine's certificates (SSL_CERT_FILE) and certifi's."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def _variables_with(origin: Origin, declared: Sequence[Origin]) -> list[str]:
    """Return the environment variables whose values name this origin's host, or else a part of it."""
    host = re.compile(rf"(?<![\w.-]){re.escape(origin.host)}(?![\w-]|\.\w)", re.IGNORECASE)
    names = [name for name, value in sorted(os.environ.items()) if host.search(value)]
    if origin.port not in DEFAULT_PORTS.values():
        names = [name for name in names if f":{origin.port}" in os.environ[name]] or names
    if names:
        return names
    usual = [own.host for own in declared]
    parts = {part for part in origin.host.split(".") if len(part) > 3 and not any(part in own for own in usual)}
    return [name for name, value in sorted(os.environ.items()) if value.lower() in parts]


def _body_of(request: httpx.Request) -> str:
    """Return the body of a request; nothing of one that is read piece by piece, such as an upload."""
    try:
        return request.content.decode("latin-1")
    except httpx.RequestNotRead:
        return ""


def _plain(text: str) -> str:
    """Return the text as one printable line without secrets."""
    text = SECRETS.mask(text)
    return "".join(letter if letter.isprintable() else " " for letter in text)
