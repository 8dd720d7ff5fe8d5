"""What the tests of batches share: requests, and batches run against a server in this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from explaineval.cache import Store, open_store, request_key
from explaineval.client.batches.client import BatchClient
from explaineval.client.batches.journal import BatchJournal
from explaineval.client.batches.machine import BatchOutcome, BatchSession, run_batches
from explaineval.config import Endpoint
from explaineval.records import Message, Request
from servers.batch_server import BatchServer

POLL = 0.02
Route = Literal["openai", "azure", "anthropic"]
MODELS = {"openai": "openai/planted", "azure": "azure/deployed", "anthropic": "anthropic/claude-3-5-haiku-latest"}


def chat(number: int, route: Route = "openai", **changes: Any) -> Request:
    """A chat request about town `number`."""
    turns = (Message(role="system", content="Be brief."), Message(role="user", content=f"Rain in town {number:04d}?"))
    given = {"logprobs": None if route == "anthropic" else 5, "temperature": 0.0, **changes}
    return Request(endpoint="lab", model=MODELS[route], style="chat", messages=turns, max_tokens=32, **given)


def text(number: int) -> Request:
    """A text completion about town `number`."""
    return Request(
        endpoint="lab", model=MODELS["openai"], style="completion", prompt=f"Rain in town {number:04d}?\n",
        max_tokens=32, temperature=0.0, logprobs=5, stop=("\n\n",),
    )  # fmt: skip


@dataclass
class BatchBench:
    """Runs batches against `server` with the cache in `directory`; `said` collects their messages."""

    server: BatchServer
    directory: Path
    route: Route = "openai"
    said: list[str] = field(default_factory=list)
    model: str | None = None
    key_env: str | None = None
    own_address: bool = False

    @property
    def name(self) -> str:
        """The model that is asked."""
        return self.model or MODELS[self.route]

    @property
    def journal(self) -> Path:
        """The directory of the journal."""
        return self.directory / "batches"

    @property
    def endpoint(self) -> Endpoint:
        """The server, as the route wants its address."""
        if self.own_address:
            return Endpoint()
        return Endpoint(f"{self.server.root}/v1" if self.route == "openai" else self.server.root, "lab", self.key_env)

    def provider(self) -> BatchClient:
        """Return a new client of the model's batches."""
        return BatchClient(self.endpoint, self.name, timeout=5)

    def open_journal(self) -> BatchJournal:
        """Return the journal of this model."""
        return BatchJournal(self.journal, self.name.partition("/")[0], self.endpoint.identity, self.name)

    def session(self, store: Store, stopping: asyncio.Event, **options: Any) -> BatchSession:
        """Return a session with a new provider."""
        journal = self.open_journal()
        return BatchSession(self.provider(), store, journal, stopping, POLL, self.said.append, **options)

    def requests(self, count: int) -> list[Request]:
        """Requests about different towns."""
        return [chat(number, self.route) for number in range(count)]

    def run(
        self,
        requests: Iterable[Request],
        *,
        during: Callable[[asyncio.Task[BatchOutcome], asyncio.Event, asyncio.AbstractEventLoop], None] | None = None,
        **options: Any,
    ) -> BatchOutcome:
        """Run batches from beginning to end. `during` gets the task and its stop event before it begins."""
        misses = [(request_key(request), request) for request in requests]

        async def run(store: Store) -> BatchOutcome:
            session = self.session(store, asyncio.Event(), **options)
            task = asyncio.ensure_future(run_batches(session, misses))
            if during is not None:
                during(task, session.stopping, asyncio.get_running_loop())
            try:
                return await task
            finally:
                await session.provider.close()

        with open_store(self.directory) as store:
            return asyncio.run(run(store))

    def stored(self) -> dict[str, str | None]:
        """The texts in the store by their keys."""
        with open_store(self.directory) as store:
            return {key: completion.text for key, _, completion in store.iterate()}

    def states(self) -> list[str]:
        """Return the states of all journal entries."""
        return sorted(json.loads(path.read_text())["state"] for path in self.journal.glob("*.json"))
