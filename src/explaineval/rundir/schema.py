"""The types of run.json, the file that says what a run was: `RunRecord` and its parts.

Fields that came with later versions have defaults, and unknown fields are ignored, so that run directories of other
versions can be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    Strict,
    computed_field,
    model_serializer,
    model_validator,
)

from explaineval.config import ClientConfig, RunConfig
from explaineval.cost import Price
from explaineval.interventions import KINDS
from explaineval.mentions import SEARCHES
from explaineval.plugins import GROUPS
from explaineval.records import Condition, Mention, Order, Status, Style

LogprobsState = Literal["returned", "ignored", "rejected", "unusable", "off"]
"""What came of asking an endpoint for log-probabilities."""

Count = Annotated[int, Field(ge=0, strict=True)]
Amount = Annotated[float, Field(ge=-1e15, le=1e15)]
"""A finite number that can be shown."""

NOT_RECORDED = ""
"""Stands for `RecordedCapabilities.found` in a run.json of a version that did not record it."""


class RecordPart(BaseModel):
    """A frozen part of run.json that ignores unknown fields."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Growing(RecordPart):
    """The part of the science that a later run in the same directory may add to.

    `models` are (endpoint, model, style, number of shots), `samples` sample indices; `prompts` and `shots` are hashes,
    by a text that names what they are used for.
    """

    models: tuple[tuple[str | None, str, str | None, int | None], ...] = ()
    samples: tuple[int, ...] = ()
    verbosity: tuple[str, ...] = ()
    prompts: dict[str, str] = {}
    shots: dict[str, str] = {}


class Science(RecordPart):
    """The scientific configuration, with hashes of contents in place of paths.

    `fixed` are fields of RunConfig that must be the same in every run of a directory.
    """

    fixed: dict[str, JsonValue] = {}
    growing: Growing = Growing()


class TaskFacts(RecordPart):
    """What signatures and the check of a run directory need of one task.

    `examples`, `shots`, `level_shots` (by verbosity level) and `kinds` (by kind of intervention) are hashes of
    contents, `shape` is the name of the instructions that its prompts use. `n_examples` are asked, `n_available` there
    are before a limit; 0 where the version that made the run did not count them.
    """

    examples: str
    n_examples: Count = 0
    n_available: Count = 0
    shots: str = ""
    n_shots: Count = 0
    shots_source: str = "none"
    level_shots: dict[str, str] = {}
    shape: Annotated[str, Field(pattern=r"^[A-Za-z0-9]+$")] | None = None
    kinds: dict[str, str]

    def available(self, limit: int | None) -> int | None:
        """Return how many examples the task has, of which a run asked at most `limit`; None if that is not known."""
        return self.n_available or (self.n_examples if limit is None else 0) or None


class ArmFacts(RecordPart):
    """What signatures need of one arm: hashes of its shots and prompts, the temperature and logprobs that are sent."""

    shots: str
    prompts: str
    temperature: str
    logprobs: str


class UnaskedArm(RecordPart):
    """An arm of one model and task that is not asked, since there are no shots of the length of its verbosity."""

    endpoint: str | None
    model: str
    task: str
    order: Order
    style: Style
    shots: int
    verbosity: str

    @property
    def condition(self) -> Condition:
        """The arm as its metric rows name it."""
        return Condition(self.endpoint, self.model, self.task, None, self.order, self.style, self.shots, self.verbosity)


class Facts(RecordPart):
    """What was found out about the run's inputs: facts of tasks by name, of arms by `Condition.arm_name`."""

    tasks: dict[str, TaskFacts]
    no_level_shots: tuple[UnaskedArm, ...] = ()
    arms: dict[str, ArmFacts] = {}

    @model_validator(mode="after")
    def _are_known_tasks(self) -> Facts:
        for arm in self.no_level_shots:
            if arm.task not in self.tasks:
                raise ValueError(f"no_level_shots names {arm.task!r}, which is not among tasks")
        return self


class RecordedCapabilities(RecordPart):
    """How requests of one style were sent: top alternatives asked for, temperature, and why logprobs are as they are.

    `found` is a sentence on why logprobs are unusable, None where they are usable.
    """

    logprobs: Annotated[int, Strict()] | None
    temperature: Annotated[float, Strict()] | None
    state: LogprobsState
    found: str | None = NOT_RECORDED


class RequestCounts(RecordPart):
    """How many requests a run took: `planned` before dedupe, `distinct` = hits + sent + unsent, `retries` apart."""

    planned: Count
    distinct: Count
    hits: Count
    sent: Count
    unsent: Count
    retries: Count


class TokenCounts(RecordPart):
    """Tokens in and out of the answers that were sent for, and of those that came from the cache."""

    sent_in: Count
    sent_out: Count
    hit_in: Count
    hit_out: Count


class Snapshot(RecordPart):
    """A version of a model that an endpoint says it served (name and fingerprint), and its number of answers."""

    model: str | None
    fingerprint: str | None
    answers: Count


class UnreadableArm(RecordPart):
    """An arm of a model of which too many of the first requests brought nothing that can be read.

    `unreadable` of the first `checked` requests in the order of the plan; `statuses` counts them, `example` is the
    beginning of one. `stopped` says that the model was therefore asked no further.
    """

    order: Order
    style: Style
    shots: Count
    verbosity: str
    checked: Count
    unreadable: Count
    statuses: dict[Status, Count]
    example: str
    stopped: bool


class AnswerSource(RecordPart):
    """Where some of a run's answers came from, and how many they are.

    `address` is the base URL that answered (None for a provider's own address), `pack` the file that they were imported
    from on the day `imported`. `known` is false where an earlier version stored them without noting it.
    """

    known: bool = True
    address: str | None = None
    pack: str | None = None
    imported: str | None = None
    answers: Count


class EndpointRecord(RecordPart):
    """What happened with one model at its endpoint.

    `probe` is the document of its last probe, `capabilities` are by style, `fault` says why it could not be used.
    `threads` is the number of threads of the embedded model's server, where that answered anything. `snapshots` are
    the versions of the model that the endpoint says it served, the most frequent first. `unreadable` are the arms of
    which too much cannot be read.
    """

    endpoint: str | None
    model: str
    probe: dict[str, JsonValue] | None = None
    capabilities: dict[str, RecordedCapabilities] = {}
    fault: str | None = None
    tokens: TokenCounts | None = None
    price: Price | None = None
    requests: RequestCounts | None = None
    threads: int | None = None
    snapshots: tuple[Snapshot, ...] = ()
    unreadable: tuple[UnreadableArm, ...] = ()
    address: str | None = None
    """The base URL of the endpoint in this run; in a run of the service the operator's name of it."""
    sources: tuple[AnswerSource, ...] = ()
    """Where its answers came from, the most frequent first; empty in runs of versions that did not note it."""


class Stop(RecordPart):
    """How far one task was asked under one order, style and number of shots, where a run stops when it is precise.

    `examples` of the `available` ones were to be asked; `precise` says that this sufficed.
    """

    task: str
    order: Order
    style: Style
    shots: Count
    examples: Count
    available: Count
    precise: bool


class WholeRun(RecordPart):
    """The run that a shard is a part of: its hash (`science_hash`) and the facts of its tasks by name."""

    name: str
    tasks: dict[str, TaskFacts]


class Totals(RecordPart):
    """What a run cost in dollars (None where that is unknown), and its requests.

    `usd_unbilled_at_most` bounds what attempts without a bill may have cost. `cost_unknown` says why the dollars are
    None; it is for messages and not stored.
    """

    usd_spent: float | None
    usd_saved_by_cache: float | None
    usd_from_scratch: float | None
    usd_unbilled_at_most: float | None = None
    requests: RequestCounts
    cost_unknown: str | None = Field(default=None, exclude=True)


class Spending(RecordPart):
    """What was spent in a run directory for one purpose, over all commands so far, as its ledger says.

    `usd_unbilled_at_most` is the part of it that attempts without a bill can have cost at the most; `unknown` says why
    there may be more.
    """

    purpose: str
    usd: Amount
    usd_unbilled_at_most: Amount = 0.0
    unknown: str | None = None


class RunRecord(RecordPart):
    """The contents of run.json. A run that is not finished has no `totals`, whose fields stand at the file's top level.

    `explaineval` is the version that made the run, `prices` names the list of prices that it used.
    """

    explaineval: str
    signature: str
    created: str
    python: str
    packages: dict[str, str]
    config: RunConfig
    client: ClientConfig
    science: Science
    facts: Facts
    prices: str
    complete: bool = False
    trials: Count | None = None
    """The lines of trials.jsonl; None where the version that made the run did not count them, or it did not end."""
    endpoints: tuple[EndpointRecord, ...] = ()
    stops: tuple[Stop, ...] = ()
    """Where a run by --until-half-width stopped; empty for others."""
    whole: WholeRun | None = None
    """What a shard is a part of; None for a whole run."""
    totals: Totals | None = None
    spending: tuple[Spending, ...] = ()
    """What was spent in the directory until the run ended; later commands book in its ledger."""

    @property
    def own_policy(self) -> Mention | None:
        """The policy by which its trials' own fields were decided; None where that is a plug-in of another version."""
        policy = self.config.mention
        SEARCHES.find(policy)
        return policy if self.science.fixed.get(SEARCHES.recorded(policy)) == SEARCHES.origin(policy) else None

    @model_validator(mode="before")
    @classmethod
    def _has_plugins(cls, values: Any) -> Any:
        science = values.get("science") if isinstance(values, Mapping) else None
        fixed = science.get("fixed") if isinstance(science, Mapping) else None
        for name, package in fixed.items() if isinstance(fixed, Mapping) else ():
            for registry in (KINDS, SEARCHES):
                own = name.removeprefix(registry.recorded(""))
                if own != name and registry.find(own) is None:
                    what = f"{GROUPS[registry.group]} {own} of the plug-in {package}"
                    raise ValueError(f"the run needs the {what}, which cannot be loaded here: install it")
        return values

    @model_validator(mode="before")
    @classmethod
    def _gather_totals(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or "requests" not in values:
            return values
        return {**values, "totals": {name: values[name] for name in Totals.model_fields if name in values}}

    @model_serializer(mode="wrap")
    def _spread_totals(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document: dict[str, Any] = serialise(self)
        if not self.config.metrics:  # earlier versions refuse a key that they do not know
            del document["config"]["metrics"]
        return document | (document.pop("totals", None) or {})


Reads = Literal["nothing", "explanation", "shuffled"]
"""What a predictor reads beside the question and its answer: no explanation, its own one, or another example's."""


class Prediction(RecordPart):
    """One line of predictions.jsonl: what a predictor says that the model answers after an intervention.

    `trial` is the trial's id, `label` the predicted letter; where it is None, `status` says why there is none. `asked`
    names the predictor's prompt: eight hexadecimal digits of a hash. `source` is the example whose explanation a
    shuffled one is. `key` is the cache key of the reply, `text` the digest of what was shown of the trial
    (`Trial.predicted_text`).
    """

    trial: str
    predictor: str
    endpoint: str | None
    reads: Reads
    label: str | None
    status: Status | None
    asked: str
    source: str | None = None
    key: str
    text: str | None = None


ModelState = Literal["running", "finished", "stopped", "failed"]
RunState = Literal["asking", "scoring", "finished", "stopped", "failed"]


class Waiting(RecordPart):
    """What a model waits for: its endpoint answered before, and does not any more. Times are in UTC.

    `reason` says how the latest attempt failed, `tries` counts the attempts since `since`. At `until` it is given up.
    """

    endpoint: str
    reason: str
    since: str
    next_try: str
    until: str
    tries: Count


class ModelProgress(RecordPart):
    """How far one model of a run is. Requests are distinct ones; `distinct` = done + unsent + those still to come.

    `planned` counts requests before dedupe, `outcomes` trials by status. `rate` is requests sent per second lately,
    `seconds_left` and `usd_left` are what the rest will take at that rate and at the price of the answers so far.
    `usd` is what counts as spent under a limit; None where the price is not known. `reason` is the sentence that says
    why a model stopped or failed, `waiting` what one that runs is waiting for. `started` and `updated` are times in
    UTC; `updated` is when the model ended, if it did.
    """

    endpoint: str | None
    model: str
    state: ModelState = "running"
    reason: str | None = None
    planned: Count
    distinct: Count
    hits: Count
    sent: Count
    unsent: Count
    retries: Count
    rate: Amount | None = None
    seconds_left: Amount | None = None
    usd: Amount | None = None
    usd_left: Amount | None = None
    max_usd: float | None = None
    outcomes: dict[str, Count] = {}
    waiting: Waiting | None = None
    started: str
    updated: str

    @computed_field  # type: ignore[prop-decorator]
    @property
    def done(self) -> int:
        """Requests that are answered, from the cache or by the endpoint, or that failed after all retries."""
        return self.hits + self.sent

    @property
    def remaining(self) -> int:
        """Requests still to come."""
        return max(0, self.distinct - self.done - self.unsent)


class RunProgress(RecordPart):
    """The contents of progress.json: how far a run is. It is for looking at; no number of the run depends on it.

    `max_usd` is the limit of the run as a whole. `exit_code` is known at the end.
    """

    state: RunState
    reason: str | None = None
    exit_code: int | None = None
    started: str
    updated: str
    max_usd: float | None = None
    models: tuple[ModelProgress, ...] = ()
