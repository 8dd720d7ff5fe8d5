"""The transport: how answers are fetched and kept. Never part of a cache key or a signature."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator

from explaineval.config.endpoint import Endpoint, normalise_url
from explaineval.config.run_config import ModelConfig, PositiveInt
from explaineval.errors import InputError
from explaineval.records import EMBEDDED_ENDPOINT, SIMULATED_ENDPOINT, Record

Positive = Annotated[float, Field(gt=0)]
Dollars = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Prices = tuple[Dollars, Dollars]
"""Dollars per million input tokens and per million output tokens."""
TransportName = Literal["litellm", "direct"]
"""What sends the requests to a model: litellm, or explaineval itself."""

Engine = Literal["local", "ray"]
"""Where requests are sent from: this process, or workers on Ray."""


VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
PASTED = re.compile(r"(?=.*[a-z])(?=.*[A-Z])(?=.*[0-9]).{20,}|[0-9a-f]{24,}")
"""What looks like a key that was given in the place of the name of its variable: long, mixed or hexadecimal."""


def _name_of_variable(value: str) -> str:
    """Return the name; refuse what looks like a key, since it is stored in run.json and repeated in messages."""
    if not VARIABLE.fullmatch(value) or PASTED.fullmatch(value):
        raise ValueError("this is the name of the environment variable that holds the key, not the key itself")
    return value


def _ray_address(value: str) -> str:
    if value != "auto" and not HOST_AND_PORT.fullmatch(value):
        raise ValueError("write the address of a Ray cluster as HOST:PORT, or `auto` on one of its machines")
    return value


def _allowed_key(value: str) -> str:
    if not ALLOWED.fullmatch(value):
        raise ValueError(f"{value!r}: write VAR@HOST or VAR@HOST:PORT, for example EXPLAINEVAL_LAB_KEY@127.0.0.1:8000")
    return value


def check_endpoint_name(value: str) -> str:
    """Return the name that stands for an endpoint in cache keys. Raises ValueError where it cannot."""
    if "://" in value:
        raise ValueError("an endpoint's name is no URL: leave it out, and the base URL stands for itself")
    if not value.strip() or len(value) > LONGEST_NAME:
        raise ValueError(f"an endpoint's name has 1 to {LONGEST_NAME} characters, and not only spaces")
    return value


LONGEST_NAME = 200
ALLOWED = re.compile(
    r"(?P<variable>[A-Za-z_][A-Za-z0-9_]*)@(?P<host>[\w.-]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>[0-9]{1,5}))?"
)
HOST_AND_PORT = re.compile(r"([\w.-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")
RayAddress = Annotated[str, AfterValidator(_ray_address)]
KeyVariable = Annotated[str, AfterValidator(_name_of_variable)]
EndpointName = Annotated[str, AfterValidator(check_endpoint_name)]
AllowedKey = Annotated[str, AfterValidator(_allowed_key)]
"""A variable whose key may go to a host, although only a file says so; without a port, to every port there."""


DURATION = re.compile(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*(s|m|h|d)?\s*", re.ASCII)
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
LONGEST_DURATION = 30 * UNITS["d"]


def read_duration(value: object) -> float:
    """Return seconds, given as a number or as text with a unit: 90, "90s", "5m", "1.5h", "2d".

    Raises ValueError for anything else, and for more than 30 days.

    >>> read_duration("5m"), read_duration(0), read_duration("1.5h")
    (300.0, 0.0, 5400.0)
    """
    seconds = None
    if isinstance(value, str) and (match := DURATION.fullmatch(value)):
        seconds = float(match[1]) * UNITS[match[2] or "s"]
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(min(value, 2 * LONGEST_DURATION))
    if seconds is None or not 0 <= seconds <= LONGEST_DURATION:
        raise ValueError("write a duration of at most 30 days, in seconds or with a unit: 90, 90s, 5m or 2h")
    return seconds


Duration = Annotated[float, BeforeValidator(read_duration)]


class EndpointConfig(Record):
    """A named endpoint: its address, the variable that holds its key, its price and its limit."""

    base_url: str | None = None
    endpoint_name: EndpointName | None = Field(default=None, exclude=True)
    """What stands for the address in cache keys and rows, for a server that moves (`identity.identify`)."""
    api_key_env: KeyVariable | None = None
    price: Prices | None = None
    max_connections: PositiveInt | None = None
    rpm: Positive | None = None
    tpm: Positive | None = None
    older_name: str | None = Field(default=None, exclude=True)
    """Under which name earlier versions kept answers of this endpoint, where it is another one."""
    file_name: str | None = Field(default=None, exclude=True)
    """What a configuration file calls the endpoint, which was its name in cache keys up to 0.2."""
    key_from_file: bool = Field(default=False, exclude=True)
    """Whether a configuration file chose `api_key_env`, and no user."""

    @field_validator("base_url")
    @classmethod
    def _one_spelling(cls, value: str | None) -> str | None:
        try:
            return None if value is None else normalise_url(value)
        except InputError as exc:
            raise ValueError(str(exc).rstrip(".")) from None


class ClientConfig(Record):
    """How the endpoints are reached, and where their answers are kept.

    The key of an entry in `endpoints` is its identity in cache keys: its URL, or the name that it was given.
    """

    endpoints: dict[str, EndpointConfig] = Field(default_factory=dict)
    api_key_env: KeyVariable | None = None
    key_from_file: bool = Field(default=False, exclude=True)
    """Whether a configuration file chose `api_key_env`, and no user."""
    allow_key: tuple[AllowedKey, ...] = Field(default=(), exclude=True)
    files_outside: tuple[str, ...] = Field(default=(), exclude=True)
    """Tasks and files that a configuration file names outside of its folder."""
    transport: TransportName = "litellm"
    cache: Path = Path("cache")
    price: Prices | None = None
    max_connections: PositiveInt = 32
    rpm: Positive | None = None
    tpm: Positive | None = None
    max_retries: Annotated[int, Field(ge=0)] = 6
    timeout: Annotated[float, Field(gt=0)] = 120.0
    patience: Duration = 300.0
    """For how many seconds an endpoint is waited for that has answered in the run and does not any more."""
    max_usd: Dollars | None = None
    spent: Dollars | None = Field(default=None, exclude=True)
    """Dollars that were spent before, where the run directory does not know it."""
    offline: bool = False
    batch: bool = False
    batch_poll: Positive = 30.0
    keep_unreadable: bool = False
    """Ask on where nine in ten of a model's first answers cannot be read."""
    batch_wait: Duration = 26 * 3600.0
    """For how many seconds one command waits for its batches."""
    engine: Engine = "local"
    ray_address: RayAddress | None = None
    ray_address_from_file: bool = Field(default=False, exclude=True)
    """Whether a configuration file chose `ray_address`, and no user."""
    workers: PositiveInt | None = None

    def endpoint_of(self, model: ModelConfig) -> Endpoint:
        """Return where this model is reached. Raises InputError for an endpoint that is not defined."""
        if model.endpoint is None:
            return Endpoint(api_key_env=self.api_key_env)
        entry = self.endpoints.get(model.endpoint)
        if entry is None:
            raise InputError(f"model {model.model} names the endpoint {model.endpoint!r}, which is not defined.")
        return Endpoint(entry.base_url, model.endpoint, entry.api_key_env)

    def is_key_from_file(self, model: ModelConfig) -> bool:
        """Return whether a configuration file chose the variable that holds this model's key."""
        return self.key_from_file if model.endpoint is None else self._entry(model).key_from_file

    def price_of(self, model: ModelConfig) -> Prices | None:
        """Return the price that was given for this model, if any."""
        price = self._entry(model).price
        return self.price if price is None else price

    def pace_of(self, model: ModelConfig) -> tuple[float | None, float | None]:
        """Return how many requests and tokens per minute this model's endpoint may be sent; None is no limit."""
        entry = self._entry(model)
        return entry.rpm or self.rpm, entry.tpm or self.tpm

    @property
    def addresses(self) -> dict[str, str]:
        """Return by name where each endpoint is reached; those of embedded and simulated models are reached nowhere."""
        return {
            name: entry.base_url
            for name, entry in self.endpoints.items()
            if entry.base_url is not None and not name.startswith((EMBEDDED_ENDPOINT, SIMULATED_ENDPOINT))
        }

    @property
    def older_names(self) -> dict[str, str]:
        """Return by name how earlier versions called an endpoint whose name has changed."""
        return {name: entry.older_name for name, entry in self.endpoints.items() if entry.older_name is not None}

    def connections_of(self, model: ModelConfig) -> int:
        """Return how many requests may be under way at this model's endpoint at once."""
        return self._entry(model).max_connections or self.max_connections

    def _entry(self, model: ModelConfig) -> EndpointConfig:
        """Return the entry of the model's endpoint, an empty one where it has none."""
        entry = None if model.endpoint is None else self.endpoints.get(model.endpoint)
        return EndpointConfig() if entry is None else entry
