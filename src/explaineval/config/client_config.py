"""The transport: how answers are fetched and kept. Never part of a cache key or a signature."""

from __future__ import annotations

from explaineval.config.endpoint import Endpoint
from explaineval.config.fields import EndpointConfig, ModelConfig, TransportSettings
from explaineval.config.values import Prices
from explaineval.errors import InputError
from explaineval.records import EMBEDDED_ENDPOINT, SIMULATED_ENDPOINT


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
