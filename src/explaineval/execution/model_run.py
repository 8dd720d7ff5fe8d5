"""One model of a run: ask its plan, turn replies into trials, and notice where its answers cannot be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from explaineval.cache import Store, request_key
from explaineval.client.endpoints.capabilities import Build, Capabilities, assume_capabilities
from explaineval.client.stack import open_transport
from explaineval.config import Arm, ModelConfig, RunConfig, arms_for
from explaineval.errors import EndpointError, InputError
from explaineval.execution.pool import ask_units
from explaineval.execution.session import ModelSession
from explaineval.execution.stopping import Looks, ReadabilityCheck, beginning_with, first_units
from explaineval.files import LineWriter
from explaineval.interventions import SHAM, kind_of
from explaineval.parsing import tvd_of
from explaineval.planning.prepare import Prepared
from explaineval.planning.requests import Examples, Reading, Reply, RequestBuilder
from explaineval.planning.units import (
    PlanSize,
    Unit,
    Variant,
    all_examples,
    builders,
    count_asked,
    plan,
    plan_size,
    stored_reply,
    walk_units,
)
from explaineval.records import (
    EMBEDDED_ENDPOINT,
    OUTCOMES,
    SIMULATED_PREFIX,
    Example,
    Intervention,
    Mention,
    Request,
    Side,
    Status,
    Trial,
)
from explaineval.rundir.schema import UnreadableArm
from explaineval.scoring.live import LiveCounts
from explaineval.scoring.mentioning import is_mentioned
from explaineval.spill import NumberSet

if TYPE_CHECKING:
    from explaineval.client.endpoints.llamacpp import EmbeddedClient


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


class ModelRun:
    """One model of a run: its session, its trials so far, and what is left of its plan.

    Args:
        prepared: the run.
        session: asks the model.
        lines: where trials are written.
        start: at which share of the plan asking begins.
        looks: says which examples are asked next, where the run stops once its numbers are precise; else None.
        server: serves the model in a child process; None for an endpoint that is reached by URL.
    """

    def __init__(
        self,
        prepared: Prepared,
        session: ModelSession,
        lines: LineWriter,
        start: float = 0.0,
        looks: Looks | None = None,
        server: EmbeddedClient | None = None,
    ) -> None:
        self.prepared, self.session, self.model = prepared, session, session.model
        self.threads = None if server is None else server.threads
        """Of the embedded model's server; None for other endpoints."""
        self.readability = ReadabilityCheck(self.model.model, session.client.keep_unreadable, session.messages.append)
        """Notices arms whose answers cannot be read."""
        self.live = LiveCounts()
        """The trials so far."""
        self.size = plan_size(prepared, self.model)
        """The requests of the whole plan."""
        self.written = 0
        """Lines of trials.jsonl that are the model's."""
        self.labels = 0
        """Sides of trials whose answer could be read."""
        self.ended = False
        """Whether nothing more is asked of the model."""
        self._lines, self._start, self._looks = lines, start, looks
        self._first: list[Unit] = []
        """The units whose answers are looked at to see whether they can be read."""
        if looks is not None:
            looks.join(self)

    async def ask(self) -> None:
        """Ask the plan, beginning at its share of it, and write the trials; with looks, until these say so."""
        session = self.session
        try:
            if not await settle_plan(session, self.prepared):
                return
            self._first = first_units(self.prepared, self.model, self._sent_as)
            self.readability.begin(self._first)
            if session.batches is not None:
                from explaineval.execution.batches import submit

                await submit(session, session.batches, self._lacking)
            if self._looks is None:
                await self._ask_about()
            else:
                await self._ask_by_looks(self._looks)
            await session.set_error()
        finally:
            if self._looks is not None:
                self._looks.leave(self)
            if not session.progress.complete:  # what the run never came to is part of its plan too
                session.progress.count_rest(self.size)
            self.ended = True

    async def _ask_by_looks(self, looks: Looks) -> None:
        """Ask about the examples of one look after the other, until nothing is left to ask."""
        session, progress = self.session, self.session.progress
        while looks.has_more(self):
            await self._ask_about(looks.next_examples)
            if not progress.complete:  # interrupted: the rest of the plan is counted as not sent
                return
            if session.not_sent > self.withheld or session.billing_error or session.layers.limited.down:
                break  # on less than all answers nothing is decided
            await looks.look(self)
        # more than what was begun was not to be asked
        self.size = PlanSize(progress.planned - progress.retried, progress.distinct)

    async def _ask_about(self, examples: Examples = all_examples) -> None:
        missing, retry = self.session.estimate.add_missing, self.prepared.config.retry
        await ask_units(self.session.pool, self._units(examples), retry, self._receive, missing, self._is_wanted)

    def _units(self, examples: Examples = all_examples) -> Iterator[Unit]:
        planned = plan(self.prepared, self.model, self._sent_as, self._start, examples)
        return beginning_with(self._first, planned) if self._start else planned

    def _lacking(self) -> Iterator[tuple[str, Request]]:
        """Yield the key and the request of everything that is wanted and not stored yet."""
        get, config = self.session.store.get, self.prepared.config
        older = self.prepared.client.older_names
        for unit in self._first:
            replies = [stored_reply(get, unit.dialogue(variant, config.retry), older) for variant in unit.asked]
            if None not in replies:
                self.readability.add(unit, replies)
        for step in walk_units(filter(self._is_wanted, self._units()), self.prepared, get):
            if step.completion is None and step.certain:
                yield step.key, step.request

    def _receive(self, unit: Unit, replies: list[Reply | None]) -> None:
        """Write and count the trials of a unit whose replies are there."""
        config = self.prepared.config
        self.readability.add(unit, replies)
        for trial in unit_trials(unit, replies, config.mention, config.min_label_mass):
            self._lines.write(trial.model_dump_json())
            self.written += 1
            self.live.add(trial)
            self.labels += (trial.label_before is not None) + (trial.label_after is not None)

    def _sent_as(self, arm: Arm) -> Capabilities:
        return self.session.capabilities[arm.style]

    def _is_wanted(self, unit: Unit) -> bool:
        return not self.readability.is_stopped(unit.arm)

    def release(self) -> None:
        """Give back the memory that only asking needs: which requests were seen, and the tables of phi-CCT so far."""
        self.session.counts.seen = NumberSet()
        self.live.tables.clear()

    @property
    def statuses(self) -> Counter[str]:
        """Trials by their status."""
        return self.live.statuses

    @property
    def withheld(self) -> int:
        """The requests that were not sent since the model's answers cannot be read there."""
        return self.session.counts.withheld + self.session.progress.withheld

    @property
    def unreadable_arms(self) -> tuple[UnreadableArm, ...]:
        """The arms of which too much cannot be read; they were stopped only where something was left out."""
        found = self.readability.findings
        return found if self.withheld else tuple(arm.model_copy(update={"stopped": False}) for arm in found)

    @property
    def stops(self) -> list[str]:
        """The sentences on arms that were asked no further, since the answers cannot be read."""
        return [note.text for note in self.readability.notes(arm for arm in self.unreadable_arms if arm.stopped)]

    @property
    def unreadable(self) -> str | None:
        """The sentence for a model of which there are answers, but not one that could be read; else None."""
        if self.labels or not any(self.statuses[name] for name in OUTCOMES if name != "failed"):
            return None
        reasons = ", ".join(f"{count} {name}" for name, count in self.statuses.most_common() if name in OUTCOMES)
        return (
            f"{self.model.model}: not one answer could be read (trials: {reasons}), so none of its numbers is defined. "
            "Look at an answer with `explaineval show RUN_DIR --example ID --answers`; --shots 4 or --style completion "
            "may help a model that does not keep the answer's form, --max-tokens one that is cut off."
        )


def embedded_transports(prepared: Prepared, weights: Path | None) -> dict[str | None, EmbeddedClient]:
    """What asks the model with these weights, which a child process serves, by its endpoint `embedded:…`."""
    config, client = prepared.config, prepared.client
    if weights is None or client.offline:
        return {}
    from explaineval.client.endpoints.llamacpp import EmbeddedClient

    return {
        model.endpoint: EmbeddedClient(
            model.endpoint,
            weights,
            slots=client.connections_of(model) * count_beginnings(config, model),
            connect=partial(open_transport, client.transport, timeout=client.timeout),
        )
        for model in config.models
        if model.endpoint is not None and model.endpoint.startswith(EMBEDDED_ENDPOINT)
    }


def count_beginnings(config: RunConfig, model: ModelConfig) -> int:
    """How many beginnings the prompts of a model have, apart from their inputs: one for each arm, and one more for each
    style and number of shots in which the answer is asked for once, for all levels of verbosity (order pe2).
    """
    arms = set(arms_for(config, model))
    return len(arms) + len({(arm.style, arm.shots) for arm in arms if arm.order == "pe2"})


NOT_ASKED = Reading("already_in_prompt", "")


def unit_trials(unit: Unit, replies: Sequence[Reply | None], policy: Mention, least_mass: float) -> list[Trial]:
    """All trials of a unit for which both sides have a result; one whose request was not sent makes none.

    Args:
        unit: the requests.
        replies: one for each of `unit.asked`, None where it was not sent.
        policy: what counts as a mention of an inserted word.
        least_mass: the probability that option letters need to have together for a TVD, 0 to 1.
    """
    if not unit.asked:
        return [_trial(unit, variant, NOT_ASKED, NOT_ASKED, policy, least_mass) for variant in unit.edited]
    first, *others = replies
    if first is None:
        return []
    rest = iter(others)
    original = unit.reader(unit.original)
    before = original.read(first)
    answered = before if first.explanation is None else original.read(replace(first, explanation=None))
    trials = []
    for variant in unit.edited:
        if variant.request is None:
            trials.append(_trial(unit, variant, before, NOT_ASKED, policy, least_mass))
        elif (reply := next(rest)) is not None:
            trials.append(_trial(unit, variant, before, unit.reader(variant).read(reply), policy, least_mass))
    # whether an answer is steady does not depend on how it was explained, so shams compare the answers alone
    for variant, reply in zip(unit.shams, rest, strict=True):
        if reply is not None:
            trials.append(_trial(unit, variant, answered, unit.reader(variant).read(reply), policy, least_mass))
    return trials


def _trial(unit: Unit, variant: Variant, before: Reading, after: Reading, policy: Mention, least_mass: float) -> Trial:
    intervention, removed_from = variant.intervention, variant.removed_from
    text, original = variant.text, unit.example.fields.get(variant.field or "")
    texts = (original if removed_from == "original" else None, text)
    if removed_from == "edited":
        before, after, texts = after, before, (text, original)
    seen, unseen = (before, after) if removed_from else (after, before)
    status, side = _status(before, after, intervention) if not removed_from else _status_of_removal(seen, unseen)
    ok = status == "ok"
    tvd, reason = None, None
    if ok:
        tvd, reason = tvd_of(
            (before.probs, before.mass, before.no_probabilities),
            (after.probs, after.mass, after.no_probabilities),
            least_mass,
        )
    return Trial(
        endpoint=unit.model.endpoint,
        model=unit.model.model,
        task=unit.task.name,
        order=unit.arm.order,
        style=unit.arm.style,
        shots=unit.arm.shots,
        verbosity=unit.arm.verbosity,
        sample=unit.sample,
        example_id=unit.example.id,
        intervention_id=intervention.id if intervention else None,
        kind=SHAM if intervention is None else intervention.kind,
        field=variant.field,
        inserted=_inserted(intervention),
        text_after=texts[1],
        status=status,
        status_side=side,
        label_before=before.label,
        label_after=after.label,
        gold=unit.example.gold,
        changed=before.label != after.label if ok else None,
        mentioned=_mentioned(variant, seen, policy) if ok else None,
        probs_before=before.probs,
        probs_after=after.probs,
        label_mass_before=before.mass,
        label_mass_after=after.mass,
        tvd=tvd,
        tvd_reason=reason,
        mentioned_before=None if NOT_ASKED in (before, after) else _mentioned(variant, unseen, policy),
        explanation_before=before.explanation,
        explanation=after.explanation,
        key_before=before.key or None,
        key_after=after.key or None,
        key_answer_before=before.key_answer,
        key_answer_after=after.key_answer,
        reasoning_before=before.reasoning.text,
        reasoning=after.reasoning.text,
        reasoning_returned_before=before.reasoning.returned,
        reasoning_returned=after.reasoning.returned,
        mentioned_reasoning=_mentioned_reasoning(variant, seen, policy) if ok else None,
        reasoning_explanation_before=before.reasoning_explanation,
        reasoning_explanation=after.reasoning_explanation,
        phrases=intervention.mention if intervention else None,
        fields_after=dict(variant.changed) if len(variant.changed) > 1 else None,
        text_before=texts[0],
        removed_from=removed_from,
    )


def _inserted(intervention: Intervention | None) -> str | None:
    """What was inserted, or a pair's phrases as one text."""
    if intervention is None or intervention.mention is None:
        return None if intervention is None else intervention.inserted
    return " / ".join(intervention.mention)


def _mentioned(variant: Variant, reading: Reading, policy: Mention) -> bool | None:
    """Whether a side's explanation mentions what was inserted; None for a sham and without an explanation."""
    intervention = variant.intervention
    if intervention is None or reading.explanation is None:
        return None
    return is_mentioned(policy, intervention.kind, intervention.inserted or "", reading.explanation, variant.phrases)


def _mentioned_reasoning(variant: Variant, reading: Reading, policy: Mention) -> bool | None:
    """Whether a side's reasoning mentions what was inserted; None for a sham and where the reasoning is not known."""
    intervention, reasoning = variant.intervention, reading.reasoning
    if intervention is None:
        return None
    if reasoning.text is None:
        return False if reasoning.returned == "absent" and kind_of(intervention.kind).mentioned_by else None
    return is_mentioned(policy, intervention.kind, intervention.inserted or "", reasoning.text, variant.phrases)


def _status_of_removal(seen: Reading, unseen: Reading) -> tuple[Status, Side | None]:
    """The same where something is removed: as if it were inserted, with the sides exchanged."""
    status, side = _status(unseen, seen, None)
    return status, {"before": "after", "after": "before"}.get(str(side), side)  # type: ignore[return-value]


def _status(before: Reading, after: Reading, intervention: Intervention | None) -> tuple[Status, Side | None]:
    """A trial's status, and the side that it is about where it is not "ok"."""
    if NOT_ASKED in (before, after):
        return NOT_ASKED.status, None
    if intervention is not None and before.label is not None and before.label == intervention.target:
        return "cue_is_own_answer", None  # a cue that suggests what is answered without it cannot move the answer
    # the explanation of the untouched input is no part of a score; where it was asked for apart, it may be missing
    answered = before.status == "ok" or (before.key_answer is not None and before.label is not None)
    if answered and after.status == "ok":
        return "ok", None
    if answered:
        return after.status, "after"
    return before.status, "before" if after.status == "ok" else "both"
