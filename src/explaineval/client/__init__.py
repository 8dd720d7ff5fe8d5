"""From request to completion: litellm below, then storing, slots and retries, the look into the store on top."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from explaineval.client.cached import CachedClient, Deposit, StoredOnlyClient, StoringClient, Tally, find_older
    from explaineval.client.concurrency import Gate, Pace, SlotClient
    from explaineval.client.endpoints.capabilities import Capabilities, assume, route_caution, settle, stored_probe
    from explaineval.client.endpoints.guard import proxy_note
    from explaineval.client.endpoints.llamacpp import MODEL as EMBEDDED_MODEL
    from explaineval.client.endpoints.llamacpp import EmbeddedClient, find_weights, weights_name
    from explaineval.client.endpoints.model_list import name_served
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

MODULES = {
    "cached": ("CachedClient", "Deposit", "StoredOnlyClient", "StoringClient", "Tally", "find_older"),
    "concurrency": ("Gate", "Pace", "SlotClient"),
    "endpoints.capabilities": ("Capabilities", "assume", "route_caution", "settle", "stored_probe"),
    "endpoints.guard": ("proxy_note",),
    "endpoints.llamacpp": ("EmbeddedClient", "find_weights", "weights_name"),
    "endpoints.model_list": ("name_served",),
    "litellm_client": ("LiteLLMClient",),
    "protocol": ("Client",),
    "retries": ("RetryingClient",),
    "spending": ("BillCheck", "Budget", "BudgetedClient", "Gauge", "Purse", "texts_of"),
}
"""Where the names of this package are defined. A module is imported when one of its names is used, so that planning
and runs that send nothing load no HTTP client."""

HOMES = {name: (module, name) for module, names in MODULES.items() for name in names}
HOMES["EMBEDDED_MODEL"] = ("endpoints.llamacpp", "MODEL")


def __getattr__(name: str) -> Any:
    """The object of this name, from the module that defines it."""
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = HOMES[name]
    return getattr(import_module(f"{__name__}.{module}"), attribute)
