"""To a base URL no secret of the environment is sent but the key that is meant for it."""

from __future__ import annotations

import asyncio
import base64

import httpx
import pytest

from explaineval.client.endpoints.guard import Attempt, GuardedTransport, Wire, allow
from explaineval.client.endpoints.routes import Origin
from explaineval.errors import InputError
from servers.personas import PersonaServer

OWN, OTHER = "the-key-for-this-url-0001", "the-key-for-another-0002"


async def _send(
    url: str, headers: dict[str, str], *, moved_by_user: bool, key: str | None, body: bytes | None = None
) -> None:
    wire = Wire()
    attempt = Attempt("x/y", (Origin.of(url),), wire, moved_by_user=moved_by_user, key=key)
    async with httpx.AsyncClient(transport=GuardedTransport()) as client:
        with allow(attempt):
            await client.request("GET" if body is None else "POST", url, headers=headers, content=body)
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


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer token-of-a-sign-in-file"},
        {"authorization": "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/20260101/eu/bedrock/aws4_request, Signature=0f"},
        {"authorization": f"Bearer {OWN}", "x-amz-security-token": "a-token-of-a-session"},
        {"authorization": f"Bearer {OWN}", "cookie": "session=1"},
        {"x-goog-api-key": "found-somewhere"},
    ],
)
def test_a_credential_that_a_route_found_in_a_file_is_not_sent(headers: dict[str, str]) -> None:
    """It stands in no variable, so nothing but the key for the address may stand where keys do."""
    with PersonaServer() as server:
        with pytest.raises(InputError, match="found by itself") as caught:
            asyncio.run(_send(f"{server.url}/models", headers, moved_by_user=True, key=OWN))

        assert not any(value in str(caught.value) for value in headers.values())
        assert server.headers == []


@pytest.mark.parametrize(
    "headers",
    [
        {"x-api-key": OWN},
        {"authorization": "Basic " + base64.b64encode(f"user:{OWN}".encode()).decode()},
        {"x-snowflake-authorization-token-type": "KEYPAIR_JWT"},
    ],
)
def test_the_key_in_any_header_is_sent(headers: dict[str, str]) -> None:
    """Routes write it in several ways."""
    with PersonaServer() as server:
        asyncio.run(_send(f"{server.url}/models", headers, moved_by_user=True, key=OWN))

        assert headers.items() <= server.headers[0].items()


def test_the_name_of_an_account_goes_to_its_provider_alone() -> None:
    """OpenAI's client sends it wherever it sends to."""
    with PersonaServer() as server:
        account = {"openai-organization": "org-mine", "openai-project": "proj-mine"}
        asyncio.run(_send(f"{server.url}/models", account, moved_by_user=True, key=OWN))

        assert not account.keys() & server.headers[0].keys()


def test_a_secret_in_the_text_of_a_request_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger's data or prompts may have picked it up from a file of this machine."""
    monkeypatch.setenv("SOMEBODYS_API_KEY", OTHER)
    body = b'{"messages": [{"content": "SOMEBODYS_API_KEY=' + OTHER.encode() + b'"}]}'
    with PersonaServer() as server:
        with pytest.raises(InputError, match="SOMEBODYS_API_KEY") as caught:
            asyncio.run(_send(f"{server.url}/chat", {}, moved_by_user=True, key=OWN, body=body))

        assert OTHER not in str(caught.value)
        assert server.headers == []
