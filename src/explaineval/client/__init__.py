"""From request to completion: litellm below, then storing, slots and retries, the look into the store on top."""

from __future__ import annotations

from explaineval.client.cached import CachedClient, Deposit, StoredOnlyClient, StoringClient, Tally, find_older
from explaineval.client.concurrency import Gate, Pace, SlotClient
from explaineval.client.endpoints.capabilities import Capabilities, assume, settle, stored_probe
from explaineval.client.endpoints.guard import proxy_note
from explaineval.client.endpoints.llamacpp import MODEL as EMBEDDED_MODEL
from explaineval.client.endpoints.llamacpp import EmbeddedClient, find_weights, weights_name
from explaineval.client.endpoints.model_list import name_served
from explaineval.client.endpoints.probe import route_caution
from explaineval.client.litellm_client import LiteLLMClient
from explaineval.client.protocol import Client
from explaineval.client.retries import RetryingClient
from explaineval.client.spending import BillCheck, Budget, BudgetedClient, Gauge, Purse, texts_of

__all__ = [
    "EMBEDDED_MODEL", "BillCheck", "Budget", "BudgetedClient", "CachedClient", "Capabilities", "Client", "Deposit",
    "EmbeddedClient", "Gate", "Gauge", "LiteLLMClient", "Pace", "Purse", "RetryingClient", "SlotClient",
    "StoredOnlyClient", "StoringClient", "Tally", "assume", "find_older", "find_weights", "name_served", "proxy_note",
    "route_caution", "settle", "stored_probe", "texts_of", "weights_name",
]  # fmt: skip
