"""To a base URL no secret of the environment is sent but the key that is meant for it."""

from __future__ import annotations

import asyncio
import base64

import httpx
import pytest

from explaineval.client.endpoints.guard import Attempt, GuardedTransport, Wire, allow
from explaineval.client.endpoints.origins import Origin
from explaineval.errors import InputError
from servers.personas import PersonaServer

OWN, OTHER = "the-key-for-this-url-0001", "the-key-for-another-0002"


async def _send(url: str, headers: dict[str, str], *, moved_by_user: bool, key: str | None) -> None:
    wire = Wire()
    attempt = Attempt("x/y", (Origin.of(url),), wire, moved_by_user=moved_by_user, key=key)
    async with httpx.AsyncClient(transport=GuardedTransport()) as client:
        with allow(attempt):
            await client.get(url, headers=headers)
    await wire.aclose()


@pytest.mark.parametrize(
    ("headers", "path"),
    [
        ({"authorization": f"Bearer {OTHER}"}, "/models"),
        ({"x-api-key": OTHER}, "/models"),
        ({"authorization": "Basic " + base64.b64encode(f"user:{OTHER}".encode()).decode()}, "/models"),
        ({}, f"/models?key={OTHER}"),
    ],
)
def test_another_secret_is_not_sent(headers: dict[str, str], path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In whichever header, encoded or in the address; the variable is named, its value is not."""
    monkeypatch.setenv("SOMEBODYS_API_KEY", OTHER)
    with PersonaServer() as server:
        with pytest.raises(InputError, match="SOMEBODYS_API_KEY") as caught:
            asyncio.run(_send(server.url + path, headers, moved_by_user=True, key=OWN))

        assert OTHER not in str(caught.value)
        assert server.headers == []


def test_the_key_for_the_address_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where other variables hold it, or begin as it does; and a provider's own address gets its own key."""
    monkeypatch.setenv("SAME_API_KEY", OWN)
    monkeypatch.setenv("SIMILAR_API_KEY", OWN[:-4] + "9999")
    with PersonaServer() as server:
        asyncio.run(_send(f"{server.url}/models", {"authorization": f"Bearer {OWN}"}, moved_by_user=True, key=OWN))
        asyncio.run(_send(f"{server.url}/models", {"authorization": f"Bearer {OWN}"}, moved_by_user=False, key=None))

        assert [headers["authorization"] for headers in server.headers] == [f"Bearer {OWN}"] * 2
