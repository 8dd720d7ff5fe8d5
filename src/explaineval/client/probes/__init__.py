"""What an endpoint really does, found out by a few cheap requests; nothing is believed from a table."""

from __future__ import annotations

import asyncio

from explaineval.client.budgets import BillCheck, Budget, BudgetedClient, Gauge, Purse
from explaineval.client.listings import name_served
from explaineval.client.probes.examinations import Examiner
from explaineval.client.probes.findings import Findings, StyleFinding
from explaineval.client.probes.wires import WatchedClient
from explaineval.client.protocols import Client
from explaineval.client.retries import RetryingClient
from explaineval.config import Endpoint
from explaineval.costs import Price
from explaineval.errors import BudgetReachedError, EndpointError, RequestUnsentError

__all__ = ["Findings", "StyleFinding", "probe_endpoint", "route_caution"]

OLLAMA_ROUTES = ("ollama", "ollama_chat")


async def probe_endpoint(
    endpoint: Endpoint,
    model: str,
    price: Price | None,
    *,
    seconds: float,
    max_retries: int,
    max_usd: float | None = None,
) -> Findings:
    """Probe one model, each attempt within so many seconds, all of them for so many dollars.

    Raises InputError for a key variable that is not set, BudgetReachedError where the money does not suffice, and it or
    EndpointError for a bill higher than its request can cost; every other trouble is a finding.
    """
    wire = WatchedClient({endpoint.identity: endpoint}, timeout=seconds)
    paid: Client = wire
    bills = BillCheck(endpoint.identity)
    budget = Budget(Purse(max_usd))
    if price is not None:
        paid = BudgetedClient(wire, Gauge(price), budget, Purse(None), bills=bills)
    try:
        client = RetryingClient(paid, max_retries, asyncio.Event())
        found = await Examiner(client, wire, endpoint.identity, model, price).examine()
    except BudgetReachedError:
        raise BudgetReachedError(
            f"--max-usd {max_usd:g} leaves no room for the probe's next question: nothing was kept."
        ) from None
    except RequestUnsentError:
        if bills.fault is None:
            raise
    finally:
        await wire.close()
    if bills.fault is not None:
        if budget.total.overdrawn:
            raise BudgetReachedError(str(bills.fault))
        raise bills.fault
    if found.fault is not None:
        found.fault = str(await name_served(EndpointError(found.fault), endpoint))
    return found


def route_caution(model: str) -> str | None:
    """What to say of a route that loses log-probabilities though the endpoint has them.

    >>> route_caution("openai/llama3.2") is None
    True
    """
    route, _, name = model.partition("/")
    if route not in OLLAMA_ROUTES:
        return None
    return (
        f"the route {route}/ loses log-probabilities, so there is no CCT: ask the same server as "
        f"--model openai/{name} --base-url http://HOST:11434/v1."
    )
