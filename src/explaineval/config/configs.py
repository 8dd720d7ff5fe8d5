"""The resolved configuration: `RunConfig` is the science, `ClientConfig` the transport.

Every field of RunConfig can change a number. None of ClientConfig is part of a cache key or a signature.

In cache keys and rows an endpoint stands as its base URL, or as the name that a user gave it on purpose. A name under
`endpoints:` in a configuration file is a name in that file alone. Versions up to 0.2 took it for the identity; what
they stored is found under the conditions of `prove_names` and continued by `adopt_names`.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationInfo, field_validator, model_validator

from explaineval.config.fields import EndpointConfig, ModelConfig, ScienceSettings, TransportSettings
from explaineval.config.params import check_params
from explaineval.config.values import Endpoint, Prices, check_endpoint_name, normalise_url
from explaineval.errors import InputError
from explaineval.records import EMBEDDED_ENDPOINT, SIMULATED_ENDPOINT, Condition, Order, Record, Style

COMPLETION_SHOTS = 8
FEWEST_MENTIONED_FLIPS = 5
"""With fewer examples that have a mentioned change, the interval is too rough to stop by it."""


class RunConfig(ScienceSettings):
    """The science: all of it enters the signature."""

    @field_validator("samples")
    @classmethod
    def _enough_samples(cls, value: int, info: ValidationInfo) -> int:
        return max(value, info.data.get("tvd_samples") or 1)

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        if self.tvd_samples is not None and not self.temperature:
            raise ValueError(
                "tvd_samples: sampling at temperature 0 gives one-hot distributions: add --temperature 1 (or omit, for "
                "the endpoint's own)"
            )
        if self.shard is not None and self.until_half_width is not None:
            raise ValueError(
                "shard and until_half_width: a shard sees only its own examples, so it cannot tell when those of all "
                "shards suffice: leave one of them out"
            )
        names = [(model.endpoint, model.model) for model in self.models]
        if len(set(names)) != len(names):
            raise ValueError("a model stands twice; name each (endpoint, model) once")
        return self

    def require_params(self) -> None:
        """Raise InputError for parameters that may not be sent.

        No validator: a run of an older version that holds others can still be read and scored.
        """
        for model in self.models:
            error = check_params(self.params, model.model)
            if error is not None:
                raise InputError(f"{error}.")


class Arm(Record):
    """One condition under which one model is asked."""

    order: Order
    style: Style
    shots: int
    verbosity: str

    def condition(self, model: ModelConfig, task: str) -> Condition:
        """Return the condition of all numbers of this arm, model and task."""
        return Condition(model.endpoint, model.model, task, None, self.order, self.style, self.shots, self.verbosity)


def arms_for(config: RunConfig, model: ModelConfig) -> Iterator[Arm]:
    """The product of all conditions for one model; its own style or shots replace the run's."""
    styles = (model.style,) if model.style is not None else config.arms.style
    for order, style, verbosity in itertools.product(config.arms.order, styles, config.arms.verbosity):
        if model.shots is not None:
            counts: tuple[int, ...] = (model.shots,)
        else:
            counts = config.arms.shots or ((COMPLETION_SHOTS if style == "completion" else 0),)
        for shots in counts:
            yield Arm(order=order, style=style, shots=shots, verbosity=verbosity)


class ClientConfig(TransportSettings):
    """How the endpoints are reached, and where their answers are kept."""

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


Addresses = Mapping[str, Collection[str]]
"""Names of endpoints → the base URLs that they stood for in earlier runs."""


def identify(values: dict[str, Any], place: str) -> None:
    """Put each endpoint of a configuration under its identity, and let the models name it so.

    That is its `endpoint_name`, else its base URL. An endpoint without a base URL keeps its name.

    Raises:
        InputError: two endpoints have the same identity and differ otherwise, or a name cannot be used.
    """
    endpoints = values.get("endpoints")
    if not isinstance(endpoints, Mapping):
        return
    renamed: dict[str, str] = {}
    identified: dict[str, Any] = {}
    for name, entry in endpoints.items():
        identity, changed = _identified(str(name), entry, place)
        if identity in identified and _shown(identified[identity]) != _shown(changed):
            first = next(other for other, known in renamed.items() if known == identity)
            raise InputError(
                f"{place}: the endpoints {first!r} and {name!r} are the same one ({identity}) with different settings: "
                "leave one out, or give one of them an endpoint_name of its own."
            )
        renamed[str(name)] = identity
        identified.setdefault(identity, changed)
    values["endpoints"] = identified
    values["models"] = [
        {**model, "endpoint": renamed.get(model["endpoint"], model["endpoint"])}
        if isinstance(model, Mapping) and isinstance(model.get("endpoint"), str)
        else model
        for model in values.get("models") or ()
    ]


def _identified(name: str, entry: Any, place: str) -> tuple[str, Any]:
    """Return the identity of one endpoint, and its settings under it."""
    if isinstance(entry, EndpointConfig):
        entry = entry.model_dump() | {
            name: getattr(entry, name) for name in ("older_name", "file_name", "key_from_file", "endpoint_name")
        }
    if not isinstance(entry, Mapping):
        return name, entry
    entry = dict(entry)
    given = entry.pop("endpoint_name", None)
    if given is not None:
        try:
            given = check_endpoint_name(str(given))
        except ValueError as exc:
            raise InputError(f"{place}: the endpoint's name {given!r} cannot be used: {exc}.") from None
    if not isinstance(entry.get("base_url"), str):
        return given or name, entry
    try:
        entry["base_url"] = url = normalise_url(entry["base_url"])
    except InputError:  # told with its place where the entry is read
        return given or name, entry
    if given is None and "://" not in name:
        entry.setdefault("file_name", name)
    return given or url, entry


def _shown(entry: Any) -> Any:
    return {key: value for key, value in entry.items() if key != "file_name"} if isinstance(entry, Mapping) else entry


def file_names(client: ClientConfig) -> dict[str, str]:
    """Return by base URL the names in files under which 0.2 would have stored the answers of an endpoint."""
    return {url: entry.file_name for url, entry in client.endpoints.items() if entry.file_name is not None}


def prove_names(client: ClientConfig, known: Addresses) -> tuple[ClientConfig, tuple[str, ...]]:
    """Let answers under an endpoint's name in 0.2 be used where that name is known to have stood for its address alone.

    Returns also the other names.
    """
    names = file_names(client)
    proven = {url: name for url, name in names.items() if set(known.get(name, ())) == {url}}
    endpoints = {
        url: entry.model_copy(update={"older_name": proven[url]}) if url in proven else entry
        for url, entry in client.endpoints.items()
    }
    return client.model_copy(update={"endpoints": endpoints}), tuple(names[url] for url in names if url not in proven)


def adopt_names(
    config: RunConfig, client: ClientConfig, models: Iterable[ModelConfig], endpoints: Mapping[str, EndpointConfig]
) -> tuple[RunConfig, ClientConfig]:
    """Return the configuration under the names that an earlier run of it has, given its models and endpoints."""
    recorded = {(model.endpoint, model.model) for model in models}
    names = {
        url: name
        for url, name in file_names(client).items()
        if name in endpoints and endpoints[name].base_url == url
        and any((name, model.model) in recorded for model in config.models if model.endpoint == url)
    }  # fmt: skip
    if not names:
        return config, client
    changed = {
        names.get(url, url): entry.model_copy(update={"older_name": None, "file_name": None}) if url in names else entry
        for url, entry in client.endpoints.items()
    }
    renamed = tuple(
        model.model_copy(update={"endpoint": names.get(model.endpoint or "", model.endpoint)})
        for model in config.models
    )
    return config.model_copy(update={"models": renamed}), client.model_copy(update={"endpoints": changed})
