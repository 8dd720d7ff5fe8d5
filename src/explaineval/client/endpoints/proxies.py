"""The proxy that the environment names for encrypted connections, and what is said where it cannot be used."""

from __future__ import annotations

import ssl
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from explaineval.client.errors import chain
from explaineval.config.endpoint import is_private
from explaineval.errors import EndpointError, ExplainevalError, InputError, TransientError

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
