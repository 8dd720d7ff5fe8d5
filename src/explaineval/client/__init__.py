"""From request to completion: litellm below, then slots, then retries, then the store."""

from __future__ import annotations

from explaineval.client.cached import CachedClient, Tally
from explaineval.client.capabilities import Capabilities, settle
from explaineval.client.litellms import LiteLLMClient
from explaineval.client.llamacpp import MODEL as EMBEDDED_MODEL
from explaineval.client.llamacpp import EmbeddedClient, find_weights, weights_name
from explaineval.client.protocols import Client
from explaineval.client.retries import RetryingClient
from explaineval.client.slots import SlotClient

__all__ = [
    "EMBEDDED_MODEL", "CachedClient", "Capabilities", "Client", "EmbeddedClient", "LiteLLMClient", "RetryingClient",
    "SlotClient", "Tally", "find_weights", "settle", "weights_name",
]  # fmt: skip
