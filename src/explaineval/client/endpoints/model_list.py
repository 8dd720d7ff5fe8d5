"""Ask an OpenAI-compatible address for its list of models, to name them where a model is not found."""

from __future__ import annotations

import asyncio

import httpx

from explaineval.client.endpoints.api_keys import NO_KEY, key_of
from explaineval.client.endpoints.guard import Attempt, GuardedTransport, Wire, allow
from explaineval.client.endpoints.origins import declared_origins
from explaineval.config import Endpoint
from explaineval.errors import EndpointError, OversizedError
from explaineval.secrets import SECRETS

SECONDS = 5.0
MOST_NAMES = 10
LONGEST_NAME = 100
NOT_FOUND = "status 404"


async def served_models(endpoint: Endpoint) -> list[str] | None:
    """Return the names in GET {base_url}/models; None without a base URL or without a readable list.

    The key is sent as `key_of` allows.

    Raises:
        InputError: the named key variable is not set.
    """
    if endpoint.base_url is None:
        return None
    key = key_of(endpoint, "")
    headers = {"Authorization": f"Bearer {key}"} if key is not None and key != NO_KEY else {}
    wire = Wire()
    attempt = Attempt(endpoint.base_url, declared_origins(endpoint, ""), wire, moved_by_user=True, key=key)
    client = httpx.AsyncClient(transport=GuardedTransport(), trust_env=False)
    try:
        with allow(attempt):
            async with asyncio.timeout(SECONDS):
                response = await client.get(f"{endpoint.base_url}/models", headers=headers)
        data = response.json().get("data") if response.status_code == httpx.codes.OK else None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, AttributeError, TimeoutError, EndpointError, OversizedError):
        return None
    finally:
        await client.aclose()
        await wire.aclose()
    if not isinstance(data, list):
        return None
    names = [entry.get("id") for entry in data if isinstance(entry, dict)]
    return [_shown(name) for name in names if isinstance(name, str)]


async def name_served_models(error: EndpointError, endpoint: Endpoint) -> EndpointError:
    """Return the error, with the models that the endpoint serves added where the model or address was not found."""
    if NOT_FOUND not in str(error):
        return error
    names = await served_models(endpoint)
    if names is None:
        return error
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    served = ", ".join(names[:MOST_NAMES]) + more if names else "no model"
    return EndpointError(f"{str(error).rstrip('.')}; the endpoint serves: {served}.")


def _shown(name: str) -> str:
    """Return a name that an endpoint sent in a form that is safe in one line of a message."""
    return SECRETS.mask("".join(letter if letter.isprintable() else " " for letter in name))[:LONGEST_NAME]
