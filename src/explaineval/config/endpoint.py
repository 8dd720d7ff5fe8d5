"""An endpoint: its address, the name that stands for it in cache keys, and the variable that holds its key."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit, urlunsplit

from explaineval.errors import InputError

DEFAULT_PORTS = {"http": 80, "https": 443}

_ESCAPE = re.compile("%([0-9A-Fa-f]{2})")
_HOST = re.compile(r"(?=.{1,253}\.?$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?")
_DIGITS = re.compile(r"[0-9.]+")
_PATH = "/%:@!$&'()*+,;=~"
"""What may stand in a path as it is."""


@dataclass(frozen=True)
class Endpoint:
    """One address of one provider.

    `identity` stands in the cache key and in every row: the name, else the normalised URL, else None for the
    provider's own address. `api_key_env` names an environment variable; the key itself is never held here.
    """

    base_url: str | None = None
    name: str | None = None
    api_key_env: str | None = None

    @property
    def identity(self) -> str | None:
        """Return the name, else the base URL, else None."""
        return self.name or self.base_url

    @property
    def private(self) -> bool:
        """Whether the address is a loopback or private one, whose tokens cost nothing."""
        return self.base_url is not None and is_private(self.base_url)


def normalise_url(text: str) -> str:
    """Return the one spelling of a base URL under which its answers are stored.

    Scheme and host are in lower case. A default port, a trailing slash, dot segments and needless percent-escapes are
    left out.

    Raises:
        InputError: the scheme is another one, the URL holds a user name, password, query or fragment, or its path holds
            `//`, which some servers treat like `/` and others do not.

    >>> normalise_url("HTTP://LocalHost:80/v1/")
    'http://localhost/v1'
    >>> normalise_url("http://localhost/a/../%76%31/./b%2fc")
    'http://localhost/v1/b%2Fc'
    """
    scheme, host, path = _split(text)
    path = _without_dots(_ESCAPE.sub(_needed, quote(path, safe=_PATH)))
    if "//" in path:
        raise InputError(f"the base URL {text!r} has `//` in its path: write it with single slashes.")
    return urlunsplit((scheme, host, path, "", ""))


def older_spelling(text: str) -> str:
    """Return how earlier versions wrote the same base URL into the cache key: with the path as it was given.

    >>> older_spelling("HTTP://LocalHost:80/./v1/")
    'http://localhost/./v1'
    """
    return urlunsplit((*_split(text), "", ""))


def spellings(name: str) -> set[str]:
    """Return the names under which this and earlier versions store the answers of an endpoint's name or URL.

    Raises:
        InputError: it is a URL that cannot be used.

    >>> sorted(spellings("http://localhost/./v1"))
    ['http://localhost/./v1', 'http://localhost/v1']
    """
    if "://" not in name:
        return {name}
    older = older_spelling(name)
    return {older} if "//" in _split(name)[2] else {older, normalise_url(name)}


def _split(text: str) -> tuple[str, str, str]:
    """Return scheme, host with port, and path of a base URL; only the path may have several spellings."""
    try:
        parts = urlsplit(text.strip())
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError as exc:
        raise InputError(f"the base URL {text!r} is not a URL: {exc}.") from None
    if parts.scheme.lower() not in DEFAULT_PORTS or not host:
        raise InputError(f"the base URL {text!r} is not a URL: write it like http://127.0.0.1:8000/v1.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InputError(
            "a base URL may hold no user name, password, query or fragment: it is stored with every answer. "
            "Give the key through the variable that api_key_env names."
        )
    if not _is_host(host):
        raise InputError(f"the base URL {text!r} has no usable host name: write it like http://127.0.0.1:8000/v1.")
    scheme = parts.scheme.lower()
    if ":" in host:
        host = f"[{host}]"
    if port is not None and port != DEFAULT_PORTS[scheme]:
        host = f"{host}:{port}"
    return scheme, host, parts.path.rstrip("/")


def _is_host(host: str) -> bool:
    """Return whether HTTP clients take this for a host: a name, also an international one, or an IP address."""
    try:
        if ":" in host or _DIGITS.fullmatch(host):
            ipaddress.ip_address(host)
        elif not host.isascii() or "xn--" in host:
            import idna

            idna.decode(idna.encode(host))
        else:
            return _HOST.fullmatch(host) is not None
    except (ValueError, UnicodeError):  # idna's error is one of them
        return False
    return True


def _needed(escape: re.Match[str]) -> str:
    """Return a percent-escape in capitals, or the letter itself where it needs no escape."""
    letter = chr(int(escape[1], 16))
    return letter if letter.isascii() and (letter.isalnum() or letter in "-._~") else escape[0].upper()


def _without_dots(path: str) -> str:
    """Return the path without `.` and `..` segments (RFC 3986, 5.2.4) and without a trailing slash."""
    kept: list[str] = []
    for segment in path.split("/")[1:]:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    return "".join(f"/{segment}" for segment in kept).rstrip("/")


def is_private(url: str) -> bool:
    """Return whether the URL's host is a loopback or private address, or `localhost`.

    >>> is_private("http://127.0.0.1:8000/v1"), is_private("https://api.example.org/v1")
    (True, False)
    """
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return False
