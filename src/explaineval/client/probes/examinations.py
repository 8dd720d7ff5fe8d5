"""The course of a probe: few requests, each deciding what the next one has to find out.

Where all is well five are sent: one in chat, the same again, another question with a system message and a seed, and
two text completions. Only what is turned down is asked for again, one wish less at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from explaineval.client.capabilities import LADDERS
from explaineval.client.listings import NOT_FOUND
from explaineval.client.negotiations import Accepted, negotiate
from explaineval.client.probes.findings import Findings, StyleFinding
from explaineval.client.probes.judgements import Judgement, judge_logprobs, reasoning_evidence, written_letter
from explaineval.client.probes.questions import REASONING_TOKENS, Extra, build_question
from explaineval.client.probes.wires import Exchange, WatchedClient
from explaineval.client.protocols import Client
from explaineval.costs import Price, dollars, input_tokens, output_tokens
from explaineval.errors import EndpointError, RequestRejectedError, TransientError
from explaineval.records import Completion, Request, Style

NO_TEXT = "this route has no text completions: litellm sends them as chat turns"
UNREADABLE = "the log-probabilities that come back cannot be read: not every one is a finite number"


@dataclass(frozen=True)
class Reply:
    """One answer, and how it went over the wire."""

    request: Request
    completion: Completion
    exchange: Exchange

    @property
    def judged(self) -> tuple[Completion, Mapping[str, object]]:
        """What log-probabilities are judged by."""
        return self.completion, self.exchange.got


@dataclass
class Examiner:
    """Asks one (endpoint, model) through `client`, which ends in `wire`. `price` makes dollars of the usage."""

    client: Client
    wire: WatchedClient
    endpoint: str | None
    model: str
    price: Price | None = None
    replies: list[Reply] = field(default_factory=list)

    async def examine(self) -> Findings:
        """Everything that can be found out. Never raises for what the endpoint does; InputError passes."""
        found = Findings(self.endpoint, self.model)
        failed: list[Exception] = []
        for style in ("chat", "completion"):
            finding = found.styles[style] = StyleFinding()
            try:
                await self._examine(style, finding, alone=not found.style("chat").works)
            except RequestRejectedError as exc:
                finding.works, finding.why = False, str(exc)
            except (TransientError, EndpointError) as exc:
                absent = NOT_FOUND in str(exc)
                finding.works, finding.why = (False if absent else None), str(exc)
                failed.append(exc)
                if not absent and (isinstance(exc, EndpointError) or not self.wire.reached):
                    break
        found.reachable = self.wire.reached or any("status " in str(exc) for exc in failed)
        if not found.usable:
            found.fault = next((one.why for one in found.styles.values() if one.why), None)
        self._count(found)
        return found

    async def complete(self, request: Request) -> Completion:
        """Ask, and keep the reply: so that `negotiate` can be given this as its client."""
        completion = await self.client.complete(request)
        self.replies.append(Reply(request, completion, self.wire.last))
        return completion

    async def _examine(self, style: Style, finding: StyleFinding, *, alone: bool) -> None:
        """Fill the finding. Raises what the very first question of the style ends in."""
        if style == "completion" and not self.wire.completes_text(self.model):
            finding.works, finding.why = False, NO_TEXT
            return
        accepted, fault = await self._first_accepted(style)
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
            judged = [longer] if isinstance(longer, Reply) else []
        elif alone or style == "chat":
            again = await self._ask(first.request)
            finding.stable = again.completion.text == first.completion.text if isinstance(again, Reply) else None
        wanted: Sequence[Extra] = ("system", "seed") if style == "chat" else ("seed",) if alone else ()
        if wanted or first.completion.logprobs is not None:
            judged += await self._try_extras(finding, first.request, style, wanted)
        if fault is not None:
            finding.logprobs = fault
        elif judged or accepted.logprobs is None:
            finding.logprobs = judge_logprobs(accepted.logprobs, [reply.judged for reply in judged])

    async def _first_accepted(self, style: Style) -> tuple[Accepted, Judgement | None]:
        """The first question with as many wishes as are taken; without logprobs, and why, if it fails with them."""
        temperature = None if self._zero_is_rejected else 0.0
        build = partial(self._build, style)
        try:
            return await negotiate(self, (*LADDERS[style], None), temperature, may_omit=True, build=build), None
        except TransientError as exc:
            attempt = self.wire.last
            if not attempt.answered or "logprobs" not in attempt.sent:
                raise
            accepted = await negotiate(self, (None,), temperature, may_omit=True, build=build)
            if attempt.got.get("choices"):  # a whole answer, which litellm cannot take in
                return accepted, Judgement(False, UNREADABLE)
            return accepted, Judgement(None, f"not told: with logprobs the endpoint fails ({exc})")

    def _build(self, style: Style, logprobs: int | None, temperature: float | None) -> Request:
        return build_question(self.endpoint, self.model, style, 0, logprobs=logprobs, temperature=temperature)

    async def _try_extras(
        self, finding: StyleFinding, like: Request, style: Style, wanted: Sequence[Extra]
    ) -> list[Reply]:
        """The second question with all extras at once; what is turned down together is tried one by one."""

        async def ask(extras: Collection[Extra]) -> Reply | bool | None:
            return await self._ask(
                build_question(
                    self.endpoint, self.model, style, 1,
                    logprobs=like.logprobs, temperature=like.temperature, extras=extras,
                )
            )  # fmt: skip

        together = await ask(wanted)
        taken: dict[Extra, bool | None] = dict.fromkeys(wanted, True if isinstance(together, Reply) else together)
        replies = [together] if isinstance(together, Reply) else []
        if together is False and len(wanted) > 1:
            for extra in wanted:
                one = await ask((extra,))
                taken[extra] = True if isinstance(one, Reply) else one
                replies += [one] if isinstance(one, Reply) else []
        finding.seed = taken.get("seed")
        finding.system_role = taken.get("system")
        if style == "chat" and finding.reasoning is None:
            finding.reasoning = next(filter(None, (reasoning_evidence(*reply.judged) for reply in replies)), None)
        return replies

    async def _ask(self, request: Request) -> Reply | bool | None:
        """The reply; False where the request is rejected, None where it failed: that tells nothing."""
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

    def _count(self, found: Findings) -> None:
        usages = [reply.completion.usage for reply in self.replies]
        found.requests = self.wire.attempts
        found.tokens_in = sum(input_tokens(usage) for usage in usages)
        found.tokens_out = sum(output_tokens(usage) for usage in usages)
        if self.price is not None:
            found.usd = sum(dollars(usage, self.price) for usage in usages)
            found.price = (self.price.input * 1e6, self.price.output * 1e6)
