"""The documents of the API as types, from which its OpenAPI description is made."""

from __future__ import annotations

import json
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, create_model, field_validator

from explaineval.config import InterventionConfig, ModelConfig, Setting
from explaineval.config.fields import MOST, ScienceSettings, TransportSettings, ValueType, rebuilt
from explaineval.config.values import Dollars
from explaineval.records import Mention
from explaineval.service.processes.states import State, Status, WaitsFor
from explaineval.service.table import FileRow, RunRow
from explaineval.service.wording import for_users

FILE_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}(\.jsonl)?$"
"""What an upload may be called."""
LONGEST_PARAMS = 50_000
"""Characters of a run's `params` as JSON."""
RUN_ID = r"^[0-9a-f]{16}$"
FileName = Annotated[str, Field(pattern=FILE_NAME)]
Text = Annotated[str, Field(max_length=500)]
Told = Annotated[str, AfterValidator(for_users)]
"""What another package says, as users of the service read it."""


class Document(BaseModel):
    """A document that the service sends."""

    model_config = ConfigDict(frozen=True)


class Received(BaseModel):
    """A document that the service is sent; it has no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ErrorDetail(Document):
    """What is wrong: a code for programs, and one sentence."""

    code: str
    message: str


class ErrorDocument(Document):
    """The body of every answer that is an error."""

    error: ErrorDetail


class UploadReference(Received):
    """An upload, by its name."""

    file: FileName


def _narrowed(annotation: Any, most: float | None) -> Any:
    """Return an annotation with the bounds of the service: numbers up to `most`, texts of bounded length."""
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        return Union[tuple(_narrowed(part, most) for part in get_args(annotation))]  # noqa: UP007 - of a tuple
    base, *metadata = get_args(annotation) if origin is Annotated else (annotation,)
    if base is str:
        return Annotated[(Text, *metadata)] if metadata else Text
    if base not in (int, float) or most is None:
        return annotation
    if ValueType.of(annotation).bound("ge", "gt") is None:
        metadata.append(annotated_types.Ge(-most))
    return Annotated[(base, *metadata, annotated_types.Le(most))]


def _served(table: type[BaseModel], name: str, *, base: type[Received] = Received, optional: bool = False) -> Any:
    """Return a model with the settings of a table that the service offers. `optional` ones have no default there."""
    fields: dict[str, Any] = {}
    for key, field in table.model_fields.items():
        setting = Setting((key,), field, not optional)
        if setting.served is None:
            continue
        annotation, default = _narrowed(rebuilt(field), setting.served.most), field.get_default()
        if optional and annotation is not bool:
            annotation, default = annotation | None, None
        factory = field.default_factory or (tuple if default == () else None)
        more: dict[str, Any] = {"description": setting.help or None}
        if factory is not None:
            more["default_factory"] = factory
        elif not field.is_required():
            more["default"] = default
        fields[key] = (annotation, Field(**more))
    return create_model(name, __base__=base, **fields)


if TYPE_CHECKING:

    class _Model(Received):
        max_usd: float | None = None

    class _Interventions(Received):
        pass

    class _Run(Received):
        pass

else:
    _Model = _served(ModelConfig, "ModelSettings")
    _Interventions = _served(InterventionConfig, "InterventionSettings")
    _Science = _served(ScienceSettings, "ScienceSettings")
    _Run = _served(TransportSettings, "RunSettings", base=_Science, optional=True)


class ModelSettings(_Model):
    """One model: litellm's spelling of its route, the service's endpoint at which it is asked, what is known of it."""

    model: Annotated[Text, Field(examples=["simulated/faithful"])]
    endpoint: Text | None = None


class InterventionSettings(_Interventions):
    """Which interventions: an upload, or a builder's kind; neither means a bundled task's ready ones."""

    file: FileName | None = None
    kind: Text | None = None


class RunSettings(_Run):
    """The content of a configuration file, as far as it may be said by users of the service.

    A task is a bundled one, one of the service's by its name, or `jsonl:NAME`, an upload.
    """

    # Those that are not named here come from the table in config/fields.py.

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        json_schema_extra={"examples": [{"tasks": ["sense"], "models": [{"model": "simulated/faithful"}], "limit": 3}]},
    )

    tasks: Annotated[list[Text], Field(min_length=1, max_length=50, examples=[["sense"]])]
    models: Annotated[list[ModelSettings], Field(min_length=1, max_length=200)]
    interventions: InterventionSettings = Field(default_factory=InterventionSettings)
    shots_from: UploadReference | Text | None = None
    """An upload, or the name of a bundled task."""
    params: dict[Text, JsonValue] = Field(default_factory=dict)

    @field_validator("params")
    @classmethod
    def _is_short(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if len(json.dumps(value)) > LONGEST_PARAMS:
            raise ValueError(f"they may have {LONGEST_PARAMS:,} characters as JSON")
        return value


class Cases(Document):
    """A sum if it goes well, as it is expected, and at the worst; None where it is not known."""

    low: float | None
    expected: float | None
    worst: float | None


class PlanSums(Document):
    """Requests, tokens and dollars: of one model, or in all. `misses` are the requests that will be sent."""

    planned: int
    distinct: int
    hits: int
    misses: int
    tokens_in: int
    tokens_out: Cases
    usd: Cases
    usd_saved: float | None


class ModelPlan(PlanSums):
    """What one model takes."""

    endpoint: str | None
    model: str


class Warning(Document):
    """A sentence about the run as a whole: a code and a grade for programs, what it is and what to do for people."""

    code: str
    grade: str
    text: Told
    todo: Told


class Plan(Document):
    """What a run would ask and cost."""

    models: list[ModelPlan]
    total: PlanSums
    warnings: list[Warning]


class PhiView(Document):
    """phi-CCT so far of one kind of intervention, the mean over conditions, or why it is undefined."""

    kind: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    n_examples: int
    conditions: int
    undefined: Told | None


class ModelView(Document):
    """How far one model of a run is. Counts are of distinct requests, `outcomes` of trials by status."""

    endpoint: str | None
    model: str
    state: str
    reason: Told | None
    planned: int
    distinct: int
    done: int
    hits: int
    sent: int
    unsent: int
    retries: int
    rate: float | None
    seconds_left: float | None
    usd: float | None
    usd_left: float | None
    max_usd: float | None
    outcomes: dict[str, int]
    phi: list[PhiView] = []


class Progress(Document):
    """How far a run is, as its process last said."""

    state: str
    reason: Told | None
    started: str
    updated: str
    models: list[ModelView]


class UnbilledAttempt(Document):
    """An attempt that was booked at its worst case: the key of its request, its dollars, and when it was booked."""

    key: str | None
    usd: float
    time: str


class Unbilled(Document):
    """Attempts without a bill that count at their worst case: under way in a crash, timed out, reset, cut off.

    The first hundred are listed.
    """

    attempts: int
    usd: float
    listed: list[UnbilledAttempt]


class RunView(Document):
    """One run: its state and why, whose it is, what was planned, what is spent, and how far it is. Times are in UTC."""

    id: str
    state: State
    reason: Told | None
    token: str
    created: str
    started: str | None
    ended: str | None
    settings: dict[str, JsonValue]
    plan: Plan
    usd: float
    """Dollars booked so far; attempts without a bill count at their worst case."""
    kept_usd: float
    """Dollars of the token's budget that are kept for the rest of the run, or have to be free before it starts."""
    unbilled: Unbilled | None
    """What was booked at its worst case, since its bill is not known; None where every attempt had a bill."""
    waits_for: WaitsFor | None
    """For what it waits; `reason` says it in words."""
    place: int | None
    """Its place in the queue, 1 for the run that is started next; None where it does not wait in it."""
    max_usd: float | None
    restarts: int
    exit_code: int | None
    progress: Progress | None

    @classmethod
    def of(cls, row: RunRow, state: Status | None = None, **newer: Any) -> RunView:
        """Return the view of a row of the table, with its state now, and what else is newer than the row."""
        values = vars(row) | {"kept_usd": row.commitment if row.active else 0.0, "place": None}
        if state is not None:
            values |= {"reason": state.reason, "waits_for": state.waits_for, "place": state.position}
        return cls.model_validate(values | newer)


class RunSummary(Document):
    """One run in a list."""

    id: str
    state: State
    reason: Told | None
    waits_for: WaitsFor | None
    token: str
    created: str
    started: str | None
    ended: str | None
    tasks: list[str]
    models: list[str]
    requests: int
    done: int
    usd: float
    max_usd: float | None


class RunList(Document):
    """Runs, the newest first. `next` is the value of `before` for those after them, None where there are no more."""

    runs: list[RunSummary]
    total: int
    next: int | None


class Submitted(Document):
    """A run that was submitted: it waits, and starts when its costs fit what is left of the budget."""

    id: str
    state: State
    plan: Plan


class Continuation(Received):
    """With which limit a run goes on; none keeps the one it has."""

    max_usd: Dollars | None = None


class FileView(Document):
    """An upload: its name, the digest of its content, its rows, and what they are."""

    name: str
    sha256: str
    rows: int
    kind: Literal["task", "interventions"]
    bytes: int
    created: str

    @classmethod
    def of(cls, row: FileRow) -> FileView:
        """Return the view of a row of the table."""
        return cls.model_validate({name: value for name, value in vars(row).items() if name != "token"})


class FileList(Document):
    """All uploads of a token."""

    files: list[FileView]


class ComparisonRequest(Received):
    """Which runs are compared, and how, as the options of `explaineval compare`."""

    runs: Annotated[list[Annotated[str, Field(pattern=RUN_ID)]], Field(min_length=1, max_length=20)]
    by: Literal["model", "arm", "run"] | None = None
    against: Text | None = None
    equivalent: Annotated[float, Field(gt=0, le=2)] | None = None
    impact_rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    primary: Text | None = None
    mention: Mention | None = None
    seed: Annotated[int, Field(ge=-MOST, le=MOST)] = 0


class EndpointView(Document):
    """An endpoint of the service: which models may be asked there, its limits and price, and what probes found."""

    name: str
    models: list[str]
    price: tuple[float, float] | None
    max_connections: int
    rpm: float | None
    tpm: float | None
    probes: list[dict[str, JsonValue]]


class EndpointList(Document):
    """All endpoints, the models that are simulated, the tasks that can be asked about, and what can be inserted there.

    Without `kinds` words can be inserted into bundled tasks alone, and into others as an upload says.
    """

    endpoints: list[EndpointView]
    simulated: list[str]
    tasks: list[str]
    kinds: list[str]


class CacheModel(Document):
    """What the cache holds of one model at one endpoint."""

    endpoint: str | None
    model: str
    entries: int
    tokens: dict[str, int]
    usd: float | None
    unmetered: int


class CacheView(Document):
    """What the cache of all runs holds."""

    entries: int
    refused: int
    bytes: int
    models: list[CacheModel]
    usd: float | None


class Login(Received):
    """A token, given once for a session of a browser."""

    token: Annotated[str, Field(max_length=512)]


class UserView(Document):
    """Who is asking: the name of the token, whether it sees all runs, and its budget in dollars."""

    token: str
    admin: bool
    max_usd: float | None
    spent: float
    reserved: float
    kept: float
    """Dollars that are kept for runs that go on: other runs start where they fit beside them."""
    left: float | None
    csrf: str | None
    """What a browser sends as X-CSRF-Token with each request that changes something; None without a session."""


class Health(Document):
    """Whether the service is alive, or ready to take runs."""

    status: Literal["ok"]
