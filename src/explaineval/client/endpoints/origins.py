"""The addresses that litellm has built in for each provider, as a dry run of litellm itself showed them.

`origins.json` is made by scripts/build_origins.py. A provider without a built-in address (an account's own resource,
a server of one's own) has a null there and needs a base URL.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

import httpx

from explaineval.config import Endpoint
from explaineval.errors import InputError

DEFAULT_PORTS = {"http": 80, "https": 443}


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
    def of(cls, url: httpx.URL | str) -> Origin:
        """The origin of a URL."""
        parsed = httpx.URL(url)
        port = parsed.port if parsed.port is not None else DEFAULT_PORTS.get(parsed.scheme)
        return cls(parsed.scheme, parsed.host.lower().rstrip("."), port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port in (None, DEFAULT_PORTS.get(self.scheme)) else f":{self.port}"
        return f"{self.scheme}://{host}{port}"


@cache
def built_in() -> dict[str, tuple[Origin, ...]]:
    """By provider prefix; an empty tuple where litellm has no address built in."""
    text = resources.files(__package__).joinpath("origins.json").read_text(encoding="utf-8")
    table: dict[str, list[str]] = json.loads(text)["origins"]
    return {provider: tuple(map(Origin.of, urls)) for provider, urls in table.items()}


def declared_origins(endpoint: Endpoint, model: str) -> tuple[Origin, ...]:
    """Where requests of this model may go. Raises InputError for a provider that has no built-in address."""
    if endpoint.base_url is not None:
        return (Origin.of(endpoint.base_url),)
    provider = model.partition("/")[0]
    found = built_in().get(provider)
    if found:
        return found
    if found is None:
        raise InputError(
            f"{model}: explaineval knows no address of a provider {provider!r}; check what stands before the slash, or "
            "give the address by --base-url."
        )
    raise InputError(
        f"{model}: the provider {provider} has no address that is the same for everybody, or none that can be watched "
        "over; give yours by --base-url."
    )
