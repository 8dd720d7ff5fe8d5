"""The nouns: frozen, closed to unknown keys, without I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

Style = Literal["chat", "completion"]
Order = Literal["pe", "pe2", "ep"]
Status = Literal[
    "ok", "refused", "filtered", "truncated", "empty", "unparsed", "rejected", "failed",
    "cue_is_own_answer", "already_in_prompt",
]  # fmt: skip
Mention = Literal["word", "lemma", "substring"]
Side = Literal["before", "after", "both"]

OUTCOMES: tuple[Status, ...] = ("refused", "filtered", "truncated", "empty", "unparsed", "rejected", "failed")
"""Statuses of trials that are missing: kept with their reason, counted, never scored."""

NOT_MISSING: tuple[Status, ...] = ("cue_is_own_answer", "already_in_prompt")
"""Statuses of trials that are neither scored nor missing."""

SHAM = "sham"
"""The kind of a trial whose input was not touched: it measures noise."""


class Record(BaseModel):
    """A frozen noun that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Example(Record):
    """One item of a task: named text fields, lettered options, perhaps a gold letter and a human explanation."""

    id: str = Field(min_length=1)
    task: str
    fields: dict[str, str]
    options: dict[str, str]
    gold: str | None = None
    explanation: str | None = None
    instruction: str | None = None


class Intervention(Record):
    """An edit of one example: `inserted` goes into `field` at `offset` (code points of the original text).

    `edited` is the whole field after the edit where the edit is more than the splice. A cue has neither
    field nor offset; its letter is `target`.
    """

    id: str
    task: str
    example_id: str
    kind: str
    field: str | None = None
    offset: int | None = None
    inserted: str = Field(min_length=1)
    pos: str | None = None
    edited: str | None = None
    target: str | None = None


class Message(Record):
    """One chat turn."""

    role: Literal["system", "user", "assistant"]
    content: str


class Request(Record):
    """Everything that can change the text of a completion, and nothing else.

    `endpoint` is a name or a normalised base URL, None for the provider's default address; `logprobs` is the
    number of top alternatives asked for; `temperature` None means that none is sent.
    """

    endpoint: str | None = None
    model: str
    style: Style
    messages: tuple[Message, ...] | None = None
    prompt: str | None = None
    max_tokens: int
    temperature: float | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    params: Mapping[str, JsonValue] = Field(default_factory=dict)
    sample: int = 0


class TokenAlternatives(Record):
    """Top-k alternatives at one token. `offset` counts code points of the completion's text.

    `top` holds (token, natural-log probability) pairs; None stands for minus infinity.
    """

    offset: int
    token: str
    top: tuple[tuple[str, float | None], ...]


class Completion(Record):
    """What came back, reduced to what can be scored or billed.

    `logprobs` is None where the endpoint returned none, else the alternatives at every token that, stripped, is
    a single letter. `usage` is the endpoint's own count, raw.
    """

    text: str | None
    finish_reason: str | None = None
    refusal: str | None = None
    logprobs: tuple[TokenAlternatives, ...] | None = None
    usage: dict[str, JsonValue] = Field(default_factory=dict)
    model: str | None = None
    fingerprint: str | None = None
    created: int | None = None


class Answer(Record):
    """A completion that could be read. `label_offset` is where in the text the letter (or option text) stands."""

    label: str
    explanation: str
    label_offset: int


class Unreadable(Record):
    """A completion that could not be read as an answer, and why."""

    status: Literal["refused", "filtered", "truncated", "empty", "unparsed"]
    reason: str


class LabelProbabilities(Record):
    """p(label) over the option letters, renormalised; `mass` is their total before renormalisation."""

    probs: dict[str, float]
    mass: float


class Trial(Record):
    """One line of trials.jsonl: an input before and after one intervention (design: files, Trial)."""

    endpoint: str | None
    model: str
    task: str
    order: Order
    style: Style
    shots: int
    verbosity: str
    sample: int
    example_id: str
    intervention_id: str | None
    kind: str
    field: str | None
    inserted: str | None
    text_after: str | None
    status: Status
    status_side: Side | None
    label_before: str | None
    label_after: str | None
    gold: str | None
    changed: bool | None
    mentioned: bool | None
    probs_before: dict[str, float] | None
    probs_after: dict[str, float] | None
    label_mass_before: float | None
    label_mass_after: float | None
    tvd: float | None
    tvd_reason: str | None
    mentioned_before: bool | None
    explanation_before: str | None
    explanation: str | None
    key_before: str | None
    key_after: str | None
    key_answer_before: str | None = None
    """The keys of the calls that asked for the answers, where the explanations were asked for in calls of their own."""
    key_answer_after: str | None = None


class Estimate(Record):
    """A number with its interval, or the reason why there is none.

    `value` None: undefined, and `undefined` says why. `low`/`high` None with a value: no interval, `note` says why.
    `n` counts trials, `n_examples` the examples (clusters) they come from.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int
    n_examples: int
    undefined: str | None = None
    note: str | None = None


class MetricRow(Record):
    """One line of metrics.json. A field that does not apply is None."""

    endpoint: str | None
    model: str | None
    task: str | None
    kind: str | None
    order: str | None
    style: str | None
    shots: int | None
    verbosity: str | None
    metric: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    n_examples: int
    undefined: str | None
    signature: str


def record_dict(record: Record) -> dict[str, Any]:
    """The record as plain JSON values, keys in the order of its declaration."""
    return record.model_dump(mode="json")
