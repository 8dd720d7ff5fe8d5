"""From request to completion: litellm below, then storing, slots and retries, the look into the store on top."""

from __future__ import annotations

from explaineval.client.budgets import BillCheck, Budget, BudgetedClient, Gauge, Purse, texts_of
from explaineval.client.cached import CachedClient, StoredOnlyClient, Tally, find_older
from explaineval.client.capabilities import Capabilities, assume, settle, stored_probe
from explaineval.client.endpoints.guard import proxy_note
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
    "EMBEDDED_MODEL", "BillCheck", "Budget", "BudgetedClient", "CachedClient", "Capabilities", "Client",
    "EmbeddedClient", "Gate", "Gauge", "LiteLLMClient", "Pace", "Purse", "RetryingClient", "SlotClient",
    "StoredOnlyClient", "StoringClient", "Tally", "assume", "find_older", "find_weights", "name_served", "proxy_note",
    "route_caution", "settle", "stored_probe", "texts_of", "weights_name",
]  # fmt: skip
