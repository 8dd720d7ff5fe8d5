"""Where requests may go: scheme, host and port of a base URL, or a provider's own addresses.

Nothing that sends is imported here, so that a run from the cache alone can say which key would go where.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from urllib.parse import urlsplit

from explaineval.config import Endpoint
from explaineval.config.endpoint import DEFAULT_PORTS
from explaineval.errors import InputError


@dataclass(frozen=True)
class Origin:
    """Scheme, host and port of an address.

    >>> str(Origin.of("HTTPS://api.Example.org:443/v1?x=1"))
    'https://api.example.org'
    """

    scheme: str
    host: str
    port: int | None

    @classmethod
    def of(cls, url: str) -> Origin:
        """Return the origin of a URL. A name with other letters than ASCII gets its ASCII form, which is looked up."""
        parsed = urlsplit(url)
        host = (parsed.hostname or "").rstrip(".")
        if not host.isascii():
            import httpx

            host = httpx.URL(url).raw_host.decode("ascii").rstrip(".")
        port = parsed.port if parsed.port is not None else DEFAULT_PORTS.get(parsed.scheme)
        return cls(parsed.scheme, host, port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port in (None, DEFAULT_PORTS.get(self.scheme)) else f":{self.port}"
        return f"{self.scheme}://{host}{port}"


@cache
def built_in() -> dict[str, tuple[Origin, ...]]:
    """Return the addresses that litellm has built in, by provider; an empty tuple where it has none.

    `origins.json` is made by scripts/build_origins.py, from a dry run of litellm. A provider without a built-in address
    (an account's own resource, a server of one's own) has an empty list there and needs a base URL.
    """
    text = resources.files(__package__).joinpath("origins.json").read_text(encoding="utf-8")
    table: dict[str, list[str]] = json.loads(text)["origins"]
    return {provider: tuple(map(Origin.of, urls)) for provider, urls in table.items()}


def declared_origins(endpoint: Endpoint, model: str) -> tuple[Origin, ...]:
    """Return where requests to this model may go.

    Raises:
        InputError: the provider has no built-in address, and no base URL is given.
    """
    if endpoint.base_url is not None:
        return (Origin.of(endpoint.base_url),)
    provider = model.partition("/")[0]
    origins = built_in().get(provider)
    if origins:
        return origins
    if origins is None:
        raise InputError(
            f"{model}: explaineval knows no address of a provider {provider!r}; check what stands before the slash, or "
            "give the address by --base-url."
        )
    raise InputError(
        f"{model}: the provider {provider} has no address that is the same for everybody, or none that can be watched "
        "over; give yours by --base-url."
    )
