"""Find out how a model's endpoint takes requests, by sending some of the plan's own before all others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from explaineval.cache import Store, request_key
from explaineval.client.endpoints.capabilities import Build, assume_capabilities
from explaineval.errors import EndpointError, InputError
from explaineval.execution.session import ModelSession
from explaineval.planning.prepare import Prepared
from explaineval.planning.requests import RequestBuilder
from explaineval.planning.units import builders, count_asked
from explaineval.records import SIMULATED_PREFIX, Example, Request

MAX_EXAMPLES = 3
"""Examples that are tried before an endpoint that rejects them counts as unusable."""


async def settle_plan(session: ModelSession, prepared: Prepared) -> bool:
    """Find out how each style of the plan is sent; False where the endpoint is unusable, as the model's `error` says.

    It is found out by the first request of the plan; without batches, by the first that no other process is asking just
    now.
    """
    try:
        for builder in builders(prepared, session.model):
            if builder.arm.style not in session.capabilities:
                if session.batches is None:
                    examples = _examples(prepared, builder, _is_free(session, builder))
                else:  # waiting for another process's answer is better than one more request outside a batch
                    examples = _examples(prepared, builder)
                builds = [_build(builder, example) for example in examples]
                await session.settle(prepared.config, builder.arm.style, builds)
    except EndpointError as exc:
        session.progress.unsent -= _count_sent(session, prepared)
        await session.set_error(exc)
        return False
    return True


def check_verdicts(prepared: Prepared, store: Store) -> None:
    """Raise InputError where the cache does not say how a model takes requests: shards could then ask differently.

    A simulated model answers alike everywhere, so nothing needs to be stored of it.
    """
    for model in prepared.config.models:
        if model.model.startswith(SIMULATED_PREFIX):
            continue
        for style in dict.fromkeys(builder.arm.style for builder in builders(prepared, model)):
            _, known = assume_capabilities(store, prepared.config, model, style)
            if not known:
                raise InputError(
                    f"--shard: the cache at {prepared.client.cache} does not say how {model.model} takes requests in "
                    f"{style} style, and shards that each find out could ask differently: run `explaineval probe` for "
                    "the model once, write a pack by `explaineval cache export`, and read it on every machine by "
                    "`explaineval cache import`."
                )


def _build(builder: RequestBuilder, example: Example) -> Build:
    return lambda logprobs, temperature: builder.build(example, example.fields, logprobs, temperature)


def _examples(
    prepared: Prepared, builder: RequestBuilder, is_free: Callable[[Example], bool] = lambda _: True
) -> Sequence[Example]:
    """The examples with which it is found out: the first of the plan that are free, where any are."""
    edits = prepared.chosen.edits

    def asked() -> Iterator[Example]:
        for example in builder.task.examples:
            if count_asked(builder, example, edits.get((example.task, example.id), ())):
                yield example

    free = list(islice(filter(is_free, asked()), MAX_EXAMPLES))
    # where nothing of this arm is asked, some example has to do: its trials need to say how the arm was asked
    return free or list(islice(asked(), MAX_EXAMPLES)) or builder.task.examples[:1]


def _assumed_request(session: ModelSession, builder: RequestBuilder) -> Callable[[Example], Request]:
    """The request for an example as it would be sent by what is stored about the endpoint."""
    assumed, _ = assume_capabilities(session.store, builder.config, session.model, builder.arm.style)
    return lambda example: builder.build(example, example.fields, assumed.logprobs, assumed.temperature)


def _is_free(session: ModelSession, builder: RequestBuilder) -> Callable[[Example], bool]:
    """Tells of an example whether no other process is asking about it just now."""
    request = _assumed_request(session, builder)
    return lambda example: not session.cached.is_asked_elsewhere(request(example))


def _count_sent(session: ModelSession, prepared: Prepared) -> int:
    """How many requests of the plan were sent before the endpoint turned out to be unusable."""
    keys: set[str] = set()
    for builder in builders(prepared, session.model):
        request = _assumed_request(session, builder)
        keys.update(request_key(request(example)) for example in _examples(prepared, builder))
    return sum(int(key[:16], 16) in session.cached.counts.seen for key in keys)
