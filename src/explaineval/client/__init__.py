"""From request to completion: litellm below, then storing, slots and retries, the look into the store on top."""

from __future__ import annotations

from explaineval.client.cached import CachedClient, Tally
from explaineval.client.capabilities import Capabilities, settle, stored_probe
from explaineval.client.gates import Gate
from explaineval.client.limits import Pace
from explaineval.client.listings import name_served
from explaineval.client.litellms import LiteLLMClient
from explaineval.client.llamacpp import MODEL as EMBEDDED_MODEL
from explaineval.client.llamacpp import EmbeddedClient, find_weights, weights_name
from explaineval.client.probes import route_caution
from explaineval.client.protocols import Client
from explaineval.client.retries import RetryingClient
from explaineval.client.slots import SlotClient
from explaineval.client.storing import StoringClient

__all__ = [
    "EMBEDDED_MODEL", "CachedClient", "Capabilities", "Client", "EmbeddedClient", "Gate",
    "LiteLLMClient",
    "Pace", "RetryingClient",
    "SlotClient",
    "StoringClient", "Tally", "find_weights", "name_served", "route_caution", "settle", "stored_probe", "weights_name",
]  # fmt: skip
