"""A process that asks every provider that litellm knows, without a base URL, and tells what became of it.

Nothing really leaves: what the guard lets through is answered here. So whatever a capture server gets came past the
guard. Prints one JSON document: by provider and style the origins that were let through, and the error.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import httpx

from explaineval.client.endpoints.guard import Attempt, Wire
from explaineval.client.endpoints.routes import Origin
from explaineval.client.litellm_client import LiteLLMClient, load_litellm
from explaineval.config import Endpoint
from explaineval.errors import ExplainevalError
from explaineval.records import Message, Request
from servers import replies

NAME = re.compile(r"""["']([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)["']""")
ADDRESS = re.compile(r"BASE|URL|URI|HOST|ENDPOINT|PROXY|DOMAIN|SERVER|GATEWAY|ADDRESS")
SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy")
SWITCHES = ("USE_LITELLM_PROXY", "AIOHTTP_TRUST_ENV", "LITELLM_RUST")
NUMBER = re.compile(r"""(?:int|float)\(\s*os\.(?:getenv|environ\.get)\(\s*["']([A-Z0-9_]+)["']""")
"""A variable that is read as a number at import: litellm would not even start."""
OF_TESTS = re.compile(r"SSL_|CERT|TEST_|PYTHON|COST_MAP|LOG|TIKTOKEN|CACHE")


def variables_of_litellm(key: str, url: str | None) -> dict[str, str]:
    """Every variable in litellm's source that could hold a key or, with a URL, an address, set to these."""
    from importlib.util import find_spec

    spec = find_spec("litellm")
    assert spec is not None
    assert spec.origin is not None
    found = {} if url is None else dict.fromkeys(PROXIES, url)
    names, numbers = set(), set()
    for path in Path(spec.origin).parent.rglob("*"):
        if path.suffix in (".py", ".json") and "proxy/" not in str(path):
            text = path.read_text(encoding="utf-8", errors="replace")
            names |= set(NAME.findall(text))
            numbers |= set(NUMBER.findall(text))
    for name in sorted(names - numbers):
        if OF_TESTS.search(name) or name in SWITCHES:
            continue
        if SECRET.search(name):
            found[name] = key
        elif url is not None and ADDRESS.search(name):
            found[name] = f"{url}/v1"
    return found


class AnsweringWire(Wire):
    """Answers what the guard lets through."""

    def __init__(self) -> None:
        super().__init__()
        self.passed: list[str] = []

    async def send(self, request: httpx.Request, attempt: Attempt) -> httpx.Response:
        """Check as the real wire does, then answer from memory."""
        return self.send_sync(request, attempt)

    def send_sync(self, request: httpx.Request, attempt: Attempt) -> httpx.Response:
        """The same for a synchronous client."""
        attempt.check(request.url)
        self.passed.append(str(Origin.of(str(request.url))))
        return httpx.Response(200, json=replies.body("chat", "m", "Answer: A", "stop", None), request=request)


async def ask_all() -> dict[str, Any]:
    """One request in each style to each provider."""
    litellm = load_litellm()
    client = LiteLLMClient({None: Endpoint()}, timeout=20)
    told = {}
    for provider in sorted(str(getattr(one, "value", one)) for one in litellm.provider_list):
        for style in ("chat", "completion"):
            what: dict[str, Any] = {"prompt": "Hello."}
            if style == "chat":
                what = {"messages": (Message(role="user", content="Hello."),)}
            request = Request(model=f"{provider}/model", style=style, max_tokens=16, **what)  # type: ignore[arg-type]
            client.wire = wire = AnsweringWire()
            error = kind = None
            try:
                await client.complete(request)
            except ExplainevalError as exc:
                error, kind = str(exc), type(exc).__name__
            told[f"{provider} {style}"] = {"passed": wire.passed, "error": error, "kind": kind}
    await client.close()
    return told


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.stdout.write(json.dumps(asyncio.run(ask_all())))
