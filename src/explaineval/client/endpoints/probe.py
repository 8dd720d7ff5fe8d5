"""Probe an endpoint with a few requests, each of which depends on the answers before it.

Where nothing is rejected five are sent: one in chat, the same again, another question with a system message and a seed,
and two text completions. A rejected request is sent again with one parameter less.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import Any, Literal

import httpx

from explaineval.client.direct import DirectClient, open_pool
from explaineval.client.endpoints.capabilities import (
    TOP_LOGPROBS,
    Accepted,
    Findings,
    LogprobsFinding,
    StyleFinding,
    judge_logprobs,
    negotiate,
    reasoning_evidence,
    reasoning_returned,
    written_letter,
)
from explaineval.client.endpoints.guard import Attempt, GuardedTransport, Wire, allow
from explaineval.client.endpoints.routes import NO_KEY, ROUTES, declared_origins, key_of
from explaineval.client.litellm_client import Clock, LiteLLMClient, load_litellm
from explaineval.client.protocol import Client, Transport
from explaineval.client.responses import read_json
from explaineval.client.stack import ClientStack, check_transport, open_transport, transport_name
from explaineval.config import ClientConfig, Endpoint, ModelConfig
from explaineval.cost import Price, dollars, input_tokens, output_tokens
from explaineval.errors import (
    BudgetReachedError,
    EndpointError,
    OversizedError,
    RequestRejectedError,
    RequestUnsentError,
    TransientError,
)
from explaineval.records import Completion, Message, Request, Style
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


Extra = Literal["system", "seed"]

MAX_TOKENS = 16
REASONING_TOKENS = 1024
"""The limit of the one request that lets a reasoning model come to its answer."""

SYSTEM = "You answer briefly and keep to the format."
FORMAT = "Reply with exactly two lines:\nAnswer: <letter>\nExplanation: <one short sentence>"
QUESTIONS = (
    "Which of these is the nicest place to read?\nA: a garden\nB: a library\nC: a train\nD: a kitchen\n",
    "Which of these weighs the most?\nA: a wet towel\nB: a full kettle\nC: a winter coat\nD: a thick book\n",
)
"""Two different questions, so that log-probabilities can be compared."""

SHOTS = (
    "Which of these can fly?\nA: a stone\nB: a lamp\nC: a swallow\nD: a chair\n"
    "Answer: C\nExplanation: A swallow is a bird, and the others are things without wings.\n\n"
    "Which of these is cold?\nA: snow\nB: soup\nC: fire\nD: sand\n"
    "Answer: A\nExplanation: Snow is frozen water, so it is cold.\n\n"
)
STOPS = ("\n\n",)


def build_question(
    endpoint: str | None,
    model: str,
    style: Style,
    number: int,
    *,
    logprobs: int | None,
    temperature: float | None,
    extras: Collection[Extra] = (),
    max_tokens: int = MAX_TOKENS,
) -> Request:
    """Return question `number` (0 or 1) as a request; `extras` adds a system message, or a seed."""
    chat = style == "chat"
    turns = [Message(role="system", content=SYSTEM)] if "system" in extras else []
    turns.append(Message(role="user", content=QUESTIONS[number] + FORMAT))
    return Request(
        endpoint=endpoint,
        model=model,
        style=style,
        messages=tuple(turns) if chat else None,
        prompt=None if chat else f"{SHOTS}{QUESTIONS[number]}Answer:",
        max_tokens=max_tokens,
        temperature=temperature,
        stop=() if chat else STOPS,
        logprobs=logprobs,
        params={"seed": 1} if "seed" in extras else {},
    )


LIMITS = ("max_completion_tokens", "max_tokens")
NEVER_SENT = "does not support parameters"
"""What litellm says of a parameter that it refuses before it sends anything."""

TEXT_ROUTES = frozenset({"openai", "azure", "azure_text", "text-completion-openai", "text-completion-codestral"})


@dataclass
class Exchange:
    """One attempt as it went over the wire."""

    seen: bool = False
    answered: bool = False
    path: str = ""
    sent: Mapping[str, Any] = field(default_factory=dict)
    got: Mapping[str, Any] = field(default_factory=dict)

    @property
    def limit_name(self) -> str | None:
        """Return the name under which the limit of tokens was sent."""
        return next((name for name in LIMITS if name in self.sent), None)


class WatchedClient(LiteLLMClient):
    """The litellm transport, watched: `attempts` counts what was sent, `last` is the latest exchange.

    `reached` says whether anything came back.
    """

    lean = False
    """The findings are about whole answers."""

    def __init__(self, endpoints: dict[str | None, Endpoint], *, timeout: float) -> None:
        super().__init__(endpoints, timeout=timeout)
        self.attempts = 0
        self.reached = False
        self.last = Exchange()

    def completes_text(self, model: str) -> bool:
        """Return whether this route has text completions; on others litellm sends them as chat messages."""
        route = model.partition("/")[0]
        return route in TEXT_ROUTES or route in load_litellm().openai_text_completion_compatible_providers

    async def _ready(self) -> ModuleType:
        litellm = await super()._ready()
        if self._session is not None:
            hooks = self._session.event_hooks
            self._session.event_hooks = {
                "request": [*hooks["request"], self._note_request],
                "response": [*hooks["response"], self._note_response],
            }
        return litellm

    async def _send(self, request: Request, endpoint: Endpoint, key: str | None, clock: Clock) -> Completion:
        self.last = Exchange(sent=self._arguments(request, endpoint, None))
        self.attempts += 1
        try:
            completion = await super()._send(request, endpoint, key, clock)
        except RequestRejectedError as exc:
            if NEVER_SENT in str(exc):
                self.attempts -= 1
            else:
                self.reached = True
            raise
        self.reached = True
        return completion

    async def _note_request(self, request: httpx.Request) -> None:
        self.last.seen = True
        self.last.path = request.url.path
        self.last.sent = _object(request.content)

    async def _note_response(self, response: httpx.Response) -> None:
        self.reached = self.last.answered = True
        self.last.got = _object(await response.aread())


class WatchedDirectClient(DirectClient):
    """The direct transport, watched in the same way."""

    def __init__(self, endpoints: Mapping[str | None, Endpoint], *, timeout: float) -> None:
        super().__init__(endpoints, timeout=timeout)
        self.wire = WatchedWire(self)
        self.attempts = 0
        self.reached = False
        self.last = Exchange()

    def completes_text(self, model: str) -> bool:
        """Return whether this route has text completions."""
        return "completion" in ROUTES[model.partition("/")[0]]


class WatchedWire(Wire):
    """A wire that notes what goes out and what comes back, for the client that it belongs to."""

    def __init__(self, client: WatchedDirectClient) -> None:
        super().__init__(open_pool)
        self._client = client

    async def send(self, request: httpx.Request, attempt: Attempt) -> httpx.Response:
        """Send a request and read its whole response."""
        self._client.last = last = Exchange(seen=True, path=request.url.path, sent=_object(request.content))
        self._client.attempts += 1
        response = await super().send(request, attempt)
        self._client.reached = last.answered = True
        last.got = _object(response.content)
        return response


class CountedTransport:
    """A transport for one provider, its attempts counted; what goes over its wire is not seen."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.attempts = 0
        self.reached = False
        self.last = Exchange()

    def completes_text(self, model: str) -> bool:  # noqa: ARG002
        """Whether there are text completions; one that lacks them rejects the request."""
        return True

    async def complete(self, request: Request) -> Completion:
        """Make one attempt."""
        self.attempts += 1
        completion = await self._transport.complete(request)
        self.reached = True
        return completion

    async def close(self) -> None:
        """Close the transport."""
        await self._transport.close()


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        document = read_json(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


Watched = WatchedClient | WatchedDirectClient | CountedTransport
WATCHED: Mapping[str, type[WatchedClient] | type[WatchedDirectClient]] = {
    "litellm": WatchedClient,
    "direct": WatchedDirectClient,
}
"""The transports of which a probe sees what they send and receive, by their names in `stack.TRANSPORTS`."""

NO_TEXT = "this route has no text completions: litellm sends them as chat turns"
UNREADABLE = "the log-probabilities that come back cannot be read: not every one is a finite number"


@dataclass(frozen=True)
class ProbeAnswer:
    """One answer, with the exchange that brought it."""

    request: Request
    completion: Completion
    exchange: Exchange

    @property
    def judged(self) -> tuple[Completion, Mapping[str, object]]:
        """Return the completion and the raw body, by which log-probabilities are judged."""
        return self.completion, self.exchange.got


@dataclass
class Examiner:
    """Asks one (endpoint, model) through `client`, whose transport is `wire`, and counts the cost at `price`."""

    client: Client
    wire: Watched
    endpoint: str | None
    model: str
    price: Price | None = None
    replies: list[ProbeAnswer] = field(default_factory=list)

    async def examine(self) -> Findings:
        """Return all findings. Whatever the endpoint does is a finding; only InputError is raised."""
        findings = Findings(self.endpoint, self.model)
        failed: list[Exception] = []
        for style in ("chat", "completion"):
            finding = findings.styles[style] = StyleFinding()
            try:
                await self._examine(style, finding, alone=not findings.style("chat").works)
            except RequestRejectedError as exc:
                finding.works, finding.why = False, str(exc)
            except (TransientError, EndpointError) as exc:
                absent = NOT_FOUND in str(exc)
                finding.works, finding.why = (False if absent else None), str(exc)
                failed.append(exc)
                if not absent and (isinstance(exc, EndpointError) or not self.wire.reached):
                    break
        findings.reachable = self.wire.reached or any("status " in str(exc) for exc in failed)
        if not findings.usable:
            findings.error = next((finding.why for finding in findings.styles.values() if finding.why), None)
        self._count(findings)
        return findings

    async def complete(self, request: Request) -> Completion:
        """Send a request and keep the reply. With this method `negotiate` takes the examiner as its client."""
        completion = await self.client.complete(request)
        self.replies.append(ProbeAnswer(request, completion, self.wire.last))
        return completion

    async def _examine(self, style: Style, finding: StyleFinding, *, alone: bool) -> None:
        """Fill in the finding of one style. Raises the error of its first question."""
        if style == "completion" and not self.wire.completes_text(self.model):
            finding.works, finding.why = False, NO_TEXT
            return
        accepted, verdict = await self._first_accepted(style)
        first = next(reply for reply in reversed(self.replies) if reply.completion is accepted.completion)
        if style == "completion" and first.exchange.seen and first.exchange.path.endswith("/chat/completions"):
            finding.works, finding.why = False, NO_TEXT
            return
        finding.works, finding.asked = True, accepted.logprobs
        finding.temperature_zero = accepted.temperature is not None
        finding.limit_name = first.exchange.limit_name
        finding.returned_model = first.completion.model
        finding.fingerprint = first.completion.fingerprint
        judged = [first]
        if style == "chat":
            finding.reasoning = reasoning_evidence(*first.judged)
        if finding.reasoning is not None and written_letter(first.completion.text) is None:
            longer = await self._ask(first.request.model_copy(update={"max_tokens": REASONING_TOKENS}))
            judged = [longer] if isinstance(longer, ProbeAnswer) else []
        elif alone or style == "chat":
            again = await self._ask(first.request)
            finding.stable = again.completion.text == first.completion.text if isinstance(again, ProbeAnswer) else None
        own = [reply.judged for reply in self.replies if reply.request.style == style]
        finding.returned, finding.reasoning_field = reasoning_returned(own)
        wanted: Sequence[Extra] = ("system", "seed") if style == "chat" else ("seed",) if alone else ()
        if wanted or first.completion.logprobs is not None:
            judged += await self._try_extras(finding, first.request, style, wanted)
        if verdict is not None:
            finding.logprobs = verdict
        elif judged or accepted.logprobs is None:
            finding.logprobs = judge_logprobs(accepted.logprobs, [reply.judged for reply in judged])

    async def _first_accepted(self, style: Style) -> tuple[Accepted, LogprobsFinding | None]:
        """Ask the first question with as many parameters as are accepted.

        Where it fails because of logprobs it is asked without them, and the judgement on them is returned too.
        """
        temperature = None if self._zero_is_rejected else 0.0
        build = partial(self._build, style)
        try:
            return await negotiate(self, (*TOP_LOGPROBS[style], None), temperature, may_omit=True, build=build), None
        except TransientError as exc:
            attempt = self.wire.last
            if not attempt.answered or "logprobs" not in attempt.sent:
                raise
            accepted = await negotiate(self, (None,), temperature, may_omit=True, build=build)
            if attempt.got.get("choices"):  # a whole answer, which litellm cannot read
                return accepted, LogprobsFinding(False, UNREADABLE)
            return accepted, LogprobsFinding(None, f"not told: with logprobs the endpoint fails ({exc})")

    def _build(self, style: Style, logprobs: int | None, temperature: float | None) -> Request:
        return build_question(self.endpoint, self.model, style, 0, logprobs=logprobs, temperature=temperature)

    async def _try_extras(
        self, finding: StyleFinding, like: Request, style: Style, wanted: Sequence[Extra]
    ) -> list[ProbeAnswer]:
        """Ask the second question with all extras at once; where that is rejected, with one after the other."""

        async def ask(extras: Collection[Extra]) -> ProbeAnswer | bool | None:
            return await self._ask(
                build_question(
                    self.endpoint, self.model, style, 1,
                    logprobs=like.logprobs, temperature=like.temperature, extras=extras,
                )
            )  # fmt: skip

        together = await ask(wanted)
        taken: dict[Extra, bool | None] = dict.fromkeys(wanted, True if isinstance(together, ProbeAnswer) else together)
        replies = [together] if isinstance(together, ProbeAnswer) else []
        if together is False and len(wanted) > 1:
            for extra in wanted:
                reply = await ask((extra,))
                taken[extra] = True if isinstance(reply, ProbeAnswer) else reply
                replies += [reply] if isinstance(reply, ProbeAnswer) else []
        finding.seed = taken.get("seed")
        finding.system_role = taken.get("system")
        if style == "chat" and finding.reasoning is None:
            finding.reasoning = next(filter(None, (reasoning_evidence(*reply.judged) for reply in replies)), None)
        return replies

    async def _ask(self, request: Request) -> ProbeAnswer | bool | None:
        """Return the reply; False where the request is rejected, None where it failed, which shows nothing."""
        try:
            await self.complete(request)
        except RequestRejectedError:
            return False
        except (TransientError, EndpointError):
            return None
        return self.replies[-1]

    @property
    def _zero_is_rejected(self) -> bool:
        return bool(self.replies) and all(reply.request.temperature is None for reply in self.replies)

    def _count(self, findings: Findings) -> None:
        usages = [reply.completion.usage for reply in self.replies]
        findings.requests = self.wire.attempts
        findings.tokens_in = sum(input_tokens(usage) for usage in usages)
        findings.tokens_out = sum(output_tokens(usage) for usage in usages)
        if self.price is not None:
            findings.usd = sum(dollars(usage, self.price) for usage in usages)
            findings.price = (self.price.input * 1e6, self.price.output * 1e6)


async def probe_endpoint(model: ModelConfig, client: ClientConfig, price: Price | None) -> Findings:
    """Probe one model at its endpoint, within the spending limit of `client`.

    Every failure is a finding, with these exceptions.

    Raises:
        InputError: a key variable is not set.
        BudgetReachedError: the spending limit leaves no room.
        BudgetReachedError, EndpointError: a bill was higher than its request can cost.
    """
    endpoint = client.endpoint_of(model)
    check_transport(client, (model,))
    name, endpoints = transport_name(model.model, client.transport), {endpoint.identity: endpoint}
    wire: Watched
    if name in WATCHED:
        wire = WATCHED[name](endpoints, timeout=client.timeout)
    else:
        wire = CountedTransport(open_transport(name, endpoints, client.timeout))
    async with ClientStack(client, (model,), asyncio.Event(), transports={model.endpoint: wire}) as stack:
        layers = stack.sequential(model, price, wire)
        try:
            findings = await Examiner(layers, wire, endpoint.identity, model.model, price).examine()
        except BudgetReachedError:
            raise BudgetReachedError(
                f"--max-usd {client.max_usd:g} leaves no room for the probe's next question: nothing was kept."
            ) from None
        except RequestUnsentError:
            if stack.billing_error is None:
                raise
    if stack.billing_error is not None:
        if stack.budget.total.overdrawn:
            raise BudgetReachedError(str(stack.billing_error))
        raise stack.billing_error
    if findings.error is not None:
        findings.error = str(await name_served_models(EndpointError(findings.error), endpoint))
    return findings
