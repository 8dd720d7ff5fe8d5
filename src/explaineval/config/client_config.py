"""The transport: how answers are fetched and kept. Never part of a cache key or a signature."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, field_validator

from explaineval.config.endpoint import Endpoint, normalise_url
from explaineval.config.run_config import ModelConfig, PositiveInt
from explaineval.errors import InputError
from explaineval.records import Record

Positive = Annotated[float, Field(gt=0)]
Dollars = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Prices = tuple[Dollars, Dollars]
"""Dollars per million input tokens and per million output tokens."""


VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
PASTED = re.compile(r"(?=.*[a-z])(?=.*[A-Z])(?=.*[0-9]).{20,}|[0-9a-f]{24,}")
"""What looks like a key that was given in the place of the name of its variable: long, mixed or hexadecimal."""


def _name_of_variable(value: str) -> str:
    """The name as given; it is stored in run.json and repeated in messages, so a key may not pass for one."""
    if not VARIABLE.fullmatch(value) or PASTED.fullmatch(value):
        raise ValueError("this is the name of the environment variable that holds the key, not the key itself")
    return value


KeyVariable = Annotated[str, AfterValidator(_name_of_variable)]


class EndpointConfig(Record):
    """A named endpoint: its address, the variable that holds its key, its price and its limit."""

    base_url: str | None = None
    api_key_env: KeyVariable | None = None
    price: Prices | None = None
    max_connections: PositiveInt | None = None
    rpm: Positive | None = None
    tpm: Positive | None = None
    older_name: str | None = Field(default=None, exclude=True)
    """Under which name earlier versions kept answers of this endpoint, where it is another one."""

    @field_validator("base_url")
    @classmethod
    def _one_spelling(cls, value: str | None) -> str | None:
        try:
            return None if value is None else normalise_url(value)
        except InputError as exc:
            raise ValueError(str(exc).rstrip(".")) from None


class ClientConfig(Record):
    """How the endpoints are reached, and where their answers are kept.

    The key of an entry in `endpoints` stands for its URL in the cache key; an unnamed one is its own URL.
    """

    endpoints: dict[str, EndpointConfig] = Field(default_factory=dict)
    api_key_env: KeyVariable | None = None
    cache: Path = Path("cache")
    price: Prices | None = None
    max_connections: PositiveInt = 32
    rpm: Positive | None = None
    tpm: Positive | None = None
    max_retries: Annotated[int, Field(ge=0)] = 6
    timeout: Annotated[float, Field(gt=0)] = 120.0
    max_usd: Dollars | None = None
    offline: bool = False
    batch: bool = False
    batch_poll: Positive = 30.0

    def endpoint_of(self, model: ModelConfig) -> Endpoint:
        """Where this model is reached. Raises InputError for an endpoint that is not defined."""
        if model.endpoint is None:
            return Endpoint(api_key_env=self.api_key_env)
        entry = self.endpoints.get(model.endpoint)
        if entry is None:
            raise InputError(f"model {model.model} names the endpoint {model.endpoint!r}, which is not defined.")
        return Endpoint(entry.base_url, model.endpoint, entry.api_key_env)

    def price_of(self, model: ModelConfig) -> Prices | None:
        """The price the user gave for this model, if any."""
        entry = self.endpoints.get(model.endpoint) if model.endpoint is not None else None
        return entry.price if entry is not None and entry.price is not None else self.price

    def pace_of(self, model: ModelConfig) -> tuple[float | None, float | None]:
        """Requests and tokens per minute that this model's endpoint may be sent; None is no limit."""
        entry = self.endpoints.get(model.endpoint) if model.endpoint is not None else None
        rpm, tpm = (entry.rpm, entry.tpm) if entry is not None else (None, None)
        return rpm or self.rpm, tpm or self.tpm

    @property
    def older_names(self) -> dict[str, str]:
        """By name: how earlier versions called an endpoint that is called otherwise now."""
        return {name: entry.older_name for name, entry in self.endpoints.items() if entry.older_name is not None}

    def connections_of(self, model: ModelConfig) -> int:
        """How many requests may be under way at this model's endpoint at once."""
        entry = self.endpoints.get(model.endpoint) if model.endpoint is not None else None
        return (entry.max_connections if entry is not None else None) or self.max_connections
