"""One model of a run: ask its plan, write its trials, and notice where its answers cannot be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from explaineval.client.endpoints.capabilities import Capabilities
from explaineval.client.stack import open_transport
from explaineval.config import Arm, ModelConfig, RunConfig, arms_for
from explaineval.digests import NumberSet
from explaineval.execution.pool import ask_units
from explaineval.execution.readability import ReadabilityCheck, beginning_with, first_units
from explaineval.execution.session import ModelSession
from explaineval.execution.settle import settle_plan
from explaineval.execution.stopping import Looks
from explaineval.execution.trials import unit_trials
from explaineval.files import LineWriter
from explaineval.planning.order import Examples
from explaineval.planning.prepare import Prepared
from explaineval.planning.replies import Reply
from explaineval.planning.units import PlanSize, Unit, all_examples, plan, plan_size, stored_reply, walk_units
from explaineval.records import EMBEDDED_ENDPOINT, OUTCOMES, Request
from explaineval.rundir.schema import UnreadableArm
from explaineval.scoring.live import LiveCounts

if TYPE_CHECKING:
    from explaineval.client.endpoints.llamacpp import EmbeddedClient


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
        return [self.readability.note(arm).text for arm in self.unreadable_arms if arm.stopped]

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
