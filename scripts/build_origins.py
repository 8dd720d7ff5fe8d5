"""Write src/explaineval/client/endpoints/origins.json: where the installed litellm sends each provider's requests.

A dry run: for every provider that litellm knows, and several of its models, a request in each style goes through
litellm as a run sends it, in an environment without any setting, over a wire that notes the address and answers from
memory. Nothing leaves the machine. A provider whose requests go nowhere without an address of the user's own, or
around the guard, gets an empty list. Run it after each update of litellm and read the difference:

    python scripts/build_origins.py
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from explaineval.client.endpoints.guard import Attempt, Wire, allow
from explaineval.client.endpoints.routes import Origin
from explaineval.client.litellm_client import LiteLLMClient, load_litellm
from explaineval.config import Endpoint
from explaineval.records import Message, Request

TARGET = Path(__file__).parents[1] / "src/explaineval/client/endpoints/origins.json"
KEPT = ("PATH", "HOME", "LANG", "PYTHONPATH", "TMPDIR", "VIRTUAL_ENV")
MODELS = 12
"""Models of each provider's price list that are tried: some models have an address of their own."""
SECONDS = 10.0
OPENAI = "https://api.openai.com"
AT_OPENAI = ("openai", "text-completion-openai", "custom_openai")
"""Providers whose own address is OpenAI's; for others it is what its library falls back to."""
ACCOUNTS = ("watsonx_text",)
"""Providers of which the dry run sees the common address for tokens, but whose models are at the account's own."""
KEY = "sk-dry-run-0123456789"

ANSWER: dict[str, Any] = {
    "id": "dry-run", "object": "chat.completion", "created": 0, "model": "m", "status": "succeeded", "output": ["A"],
    "choices": [{"index": 0, "finish_reason": "stop", "text": "A", "message": {"role": "assistant", "content": "A"}}],
    "content": [{"type": "text", "text": "A"}], "stop_reason": "end_turn", "type": "message", "role": "assistant",
    "candidates": [{"content": {"parts": [{"text": "A"}], "role": "model"}, "finishReason": "STOP"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2, "input_tokens": 1, "output_tokens": 1},
    "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2},
    "access_token": KEY, "token": KEY, "expires_in": 3600, "expires_at": 4_000_000_000, "token_type": "bearer",
}  # fmt: skip
"""Something of what each provider answers, so that a route with several calls goes on to the next."""


@dataclass(eq=False)
class RecordingAttempt(Attempt):
    """Lets every request pass, and notes where it goes. A connection beside the guard is refused all the same."""

    seen: dict[str, None] = field(default_factory=dict)
    posted: bool = False

    def check(self, url: httpx.URL, method: str = "POST") -> None:  # noqa: ARG002 - as the guard asks
        """Note the origin."""
        self.seen[str(Origin.of(str(url)))] = None


class RecordingWire(Wire):
    """Answers from memory."""

    async def send(self, request: httpx.Request, attempt: Attempt) -> httpx.Response:
        """Note the address, and answer."""
        return self.send_sync(request, attempt)

    def send_sync(self, request: httpx.Request, attempt: Attempt) -> httpx.Response:
        """The same for a synchronous client."""
        attempt.check(request.url)
        if isinstance(attempt, RecordingAttempt):
            attempt.posted = attempt.posted or request.method == "POST"
        return httpx.Response(200, json=ANSWER, request=request)


async def find_origins() -> dict[str, list[str]]:
    """By provider: the origins to which litellm sends its requests by itself."""
    litellm = load_litellm()
    client, wire = LiteLLMClient({None: Endpoint()}, timeout=SECONDS), RecordingWire()
    await client._ready()
    table = {}
    for provider in sorted(str(getattr(one, "value", one)) for one in litellm.provider_list):
        listed = sorted(litellm.models_by_provider.get(provider, ()))
        step = max(1, len(listed) // MODELS)
        models = ["model", *(name.removeprefix(f"{provider}/") for name in listed[::step])]
        seen: dict[str, None] = {}
        usable = provider not in ACCOUNTS
        posted = False
        for model in models:
            for request in _requests(f"{provider}/{model}"):
                for limited in (True, False):  # a route that takes no token limit has an address all the same
                    attempt = RecordingAttempt(request.model, (), wire)
                    arguments = client._arguments(request, Endpoint(), KEY)
                    if not limited:
                        del arguments["max_tokens"]
                    send = litellm.acompletion if request.style == "chat" else litellm.atext_completion
                    try:
                        with allow(attempt):
                            async with asyncio.timeout(SECONDS):
                                await send(**arguments)
                    except Exception as exc:
                        sys.stderr.write(f"{request.model} {request.style}: {' '.join(str(exc).split())[:160]}\n")
                    seen |= attempt.seen
                    posted = posted or attempt.posted
                    usable = usable and attempt.error is None
                    if attempt.seen:
                        break
        if provider not in AT_OPENAI and list(seen) == [OPENAI]:
            usable = False
        table[provider] = sorted(seen) if usable and posted else []
        sys.stderr.write(f"{provider}: {', '.join(table[provider]) or '-'}\n")
    await client.close()
    return table


def _requests(model: str) -> tuple[Request, ...]:
    hello = (Message(role="user", content="Hello."),)
    return (
        Request(model=model, style="chat", messages=hello, max_tokens=16),
        Request(model=model, style="completion", prompt="Hello.", max_tokens=16),
    )


def main() -> None:
    """Run litellm dry in a clean environment and write the table."""
    if os.environ.get("BUILD_ORIGINS") != "1":
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        os.execve(sys.executable, [sys.executable, __file__], {**kept, "BUILD_ORIGINS": "1"})  # noqa: S606
    from importlib.metadata import version

    table = asyncio.run(find_origins())
    document = {"litellm": version("litellm"), "origins": table}
    TARGET.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    empty = [name for name, urls in table.items() if not urls]
    sys.stdout.write(f"{TARGET}: {len(table)} providers, {len(empty)} without an address: {', '.join(empty)}\n")


if __name__ == "__main__":
    main()
