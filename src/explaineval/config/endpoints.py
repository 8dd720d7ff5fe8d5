"""Where a model is reached: an address, the name that stands for it in the cache key, the variable with its key."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from explaineval.errors import InputError

DEFAULT_PORTS = {"http": 80, "https": 443}


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
        """The name, else the base URL, else None."""
        return self.name or self.base_url

    @property
    def private(self) -> bool:
        """Whether the address is a loopback or private one, whose tokens cost nothing."""
        return self.base_url is not None and is_private(self.base_url)


def normalise_url(text: str) -> str:
    """One spelling a base URL: lower-case scheme and host, no default port, no trailing slash.

    Raises InputError for another scheme, or a user name, password, query or fragment in the URL.

    >>> normalise_url("HTTP://LocalHost:80/v1/")
    'http://localhost/v1'
    """
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
    scheme = parts.scheme.lower()
    if ":" in host:
        host = f"[{host}]"
    if port is not None and port != DEFAULT_PORTS[scheme]:
        host = f"{host}:{port}"
    return urlunsplit((scheme, host, parts.path.rstrip("/"), "", ""))


def is_private(url: str) -> bool:
    """Whether the URL's host is a loopback or private address, or `localhost`.

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
