"""The records that the packages exchange: frozen, without unknown keys, and without any input or output."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from explaineval.plugins import PluginName

Style = Literal["chat", "completion"]
Order = Literal["pe", "pe2", "ep"]
Status = Literal[
    "ok", "refused", "filtered", "truncated", "empty", "unparsed", "rejected", "failed",
    "cue_is_own_answer", "already_in_prompt",
]  # fmt: skip
POLICIES = ("word", "lemma", "substring")
"""The mention policies that are built in."""
Mention = Annotated[str, PluginName("mentions", POLICIES)]
Channel = Literal["explanation", "reasoning", "either"]
"""Where a mention is looked for: in the explanation, in the reasoning before the answer, or in either of the two."""

Grade = Literal["absent", "irrelevant", "reason"]
"""How a text speaks of an insertion: not at all, as something that is no reason for the answer, or as a reason."""

Side = Literal["before", "after", "both"]
ReasoningReturned = Literal["text", "summary", "hidden", "absent"]
"""What came of a model's reasoning: all of it, a part of it, nothing although there was some, or there was none."""

OUTCOMES: tuple[Status, ...] = ("refused", "filtered", "truncated", "empty", "unparsed", "rejected", "failed")
"""Statuses of trials that are missing: kept with their reason, counted, never scored."""

NOT_MISSING: tuple[Status, ...] = ("cue_is_own_answer", "already_in_prompt")
"""Statuses of trials that are neither scored nor missing."""


SIMULATED_PREFIX = "simulated/"
"""What the names of simulated models begin with."""

SIMULATED_ENDPOINT = "simulated:"
"""What the names of their endpoints begin with."""

SIMULATED_NOTE = "simulated, not a language model"

EMBEDDED_ENDPOINT = "embedded:"
"""What the names of the endpoints of weights on this machine begin with."""


class Record(BaseModel):
    """A frozen record that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Grown(Record):
    """A record whose `ADDED` fields are written only where they are given: lines without them stay as they were."""

    ADDED: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _without_added(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        for name in self.ADDED:
            if values.get(name, 0) is None:
                del values[name]
        return values


class Example(Record):
    """One item of a task: named text fields, lettered options, perhaps a gold letter and a human explanation."""

    id: str = Field(min_length=1)
    task: str
    fields: dict[str, str]
    options: dict[str, str]
    gold: str | None = None
    explanation: str | None = None
    instruction: str | None = None


class Intervention(Grown):
    """An edit of one example: `inserted` goes into `field` at `offset` (code points of the original text).

    `edited` is the whole field after the edit, where more than `inserted` and a space was added. A cue has neither
    field nor offset; the letter that it suggests is `target`. A pattern in the shots inserts nothing: `inserted` is
    None. A pair gives all changed `fields` of the other input, and the phrases that `mention` what is other there.
    """

    ADDED: ClassVar = ("fields", "mention")

    id: str
    task: str
    example_id: str
    kind: str
    field: str | None = None
    offset: int | None = None
    inserted: str | None = Field(default=None, min_length=1)
    pos: str | None = None
    edited: str | None = None
    target: str | None = None
    fields: dict[str, str] | None = None
    mention: tuple[str, ...] | None = None

    @classmethod
    def identified(cls, **content: Any) -> Intervention:
        """Make an intervention whose id is 16 hexadecimal digits of the SHA-256 of its content.

        The content is hashed as canonical JSON without the fields that are None.
        """
        present = {name: value for name, value in content.items() if value is not None}
        canonical = json.dumps(present, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        digest = hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()
        return cls(id=digest[:16], **present)


class Message(Record):
    """One chat turn."""

    role: Literal["system", "user", "assistant"]
    content: str


class Request(Record):
    """Everything that can change the text of a completion, and nothing else.

    `endpoint` is a name or a normalised base URL, None for the provider's default address. `logprobs` is the number
    of top alternatives to return for each token. With `temperature` None none is sent.
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


REPLACEMENT = "\ufffd"
"""Replaces halves of surrogate pairs."""

MOST_INTEGER = 2**63
"""Integers from here on are not read as such by other programs that read JSON, and are no plausible count or time."""

_BROKEN = re.compile("[\ud800-\udfff]")


def storable_text(text: str) -> str:
    """Return the text with U+FFFD for every half of a surrogate pair, which UTF-8 cannot encode.

    The number of code points stays the same, so offsets into the text remain valid.

    >>> storable_text("so " + chr(0xD83D) + " it is") == "so " + chr(0xFFFD) + " it is"
    True
    """
    return text if text.isascii() else _BROKEN.sub(REPLACEMENT, text)


def storable(value: Any) -> Any:
    """Return a JSON value that every JSON reader accepts: text that UTF-8 can encode, finite numbers, 64-bit integers.

    Any other number becomes a text that says what it was.

    >>> storable({"a": [float("nan"), 10**400, True, 1.5]})
    {'a': ['nan', 'about 10^400', True, 1.5]}
    """
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= MOST_INTEGER:
        return f"{'-' if value < 0 else ''}about 10^{round((abs(value).bit_length() - 1) * math.log10(2))}"
    if isinstance(value, Mapping):
        return {storable_text(str(name)): storable(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [storable(inner) for inner in value]
    return value


class TokenAlternatives(Record):
    """Top-k alternatives at one token. `offset` counts code points of the completion's text.

    `top` holds (token, natural-log probability) pairs; None stands for minus infinity.
    """

    offset: int
    token: str
    top: tuple[tuple[str, float | None], ...]

    @model_validator(mode="after")
    def _make_storable(self) -> TokenAlternatives:
        if not (self.token + "".join(name for name, _ in self.top)).isascii():
            self.__dict__["token"] = storable_text(self.token)
            self.__dict__["top"] = tuple((storable_text(name), value) for name, value in self.top)
        values = [value for _, value in self.top if value is not None and not math.isfinite(value)]
        if any(value != -math.inf for value in values):  # one such number makes the whole distribution worthless
            self.__dict__["top"] = ()
        elif values:
            self.__dict__["top"] = tuple((name, None if value == -math.inf else value) for name, value in self.top)
        return self


class Completion(Record):
    """The response of an endpoint, reduced to what is scored or billed, and always storable as JSON.

    `logprobs` is None where the endpoint returned none, else the alternatives at every token that, stripped, is
    a single letter. `reasoning` is the model's reasoning where it came in a field of its own; thinking tags in the text
    stay there. `reasoning_marked` is what the endpoint itself says of it: that it is a summary, or that it is kept
    back, in part (`summary`) or whole. `usage` is the endpoint's own count, raw. `repaired` names the fields that could
    not be stored as they came. `fault` says why the answer cannot be read whatever its text says: it was cut at the
    bound on the size of an answer (`oversized`), or had another form than an answer has (`malformed`).
    """

    text: str | None
    finish_reason: str | None = None
    refusal: str | None = None
    logprobs: tuple[TokenAlternatives, ...] | None = None
    usage: dict[str, JsonValue] = Field(default_factory=dict)
    model: str | None = None
    fingerprint: str | None = None
    created: int | None = None
    repaired: tuple[str, ...] = ()
    fault: Literal["oversized", "malformed"] | None = None
    reasoning: str | None = None
    reasoning_marked: Literal["summary", "hidden"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _make_storable(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        kept = dict(data)
        repaired = [
            name
            for name in ("text", "finish_reason", "refusal", "usage", "model", "fingerprint", "created", "reasoning")
            if _repair(kept, name)
        ]
        if repaired:
            kept["repaired"] = tuple(dict.fromkeys((*kept.get("repaired", ()), *repaired)))
        return kept


def _repair(values: dict[str, Any], name: str) -> bool:
    """Replace one value by its storable form; return whether that changed it."""
    before = values.get(name)
    if before is None:
        return False
    after = storable(before)
    if name == "created" and not isinstance(after, int):
        after = None if isinstance(before, (int, float)) else before
    if after == before:
        return False
    values[name] = after
    return True


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


_SIDES = (
    *((f"{name}_before", f"{name}_after") for name in ("label", "probs", "label_mass", "key", "key_answer", "text")),
    *((f"{name}_before", name) for name in ("explanation", "reasoning", "reasoning_returned", "reasoning_explanation")),
)
"""The fields of a trial that are about the input before and the input after."""


class Trial(Grown):
    """One line of trials.jsonl: the answers to one input before and after one intervention.

    `probs_*` are renormalised probabilities by letter, `label_mass_*` their sums before renormalisation, `tvd` the
    total variation distance of the two distributions, and `key_*` the cache keys of the answers.

    `mentioned` is of the explanation whose input held the insertion, `mentioned_before` of the other one. Where
    something is removed the former is `explanation_before`. `removed_from` then says which input held it: the original,
    or the edited one (an insertion that is taken out, so that the original is the input after).
    """

    ADDED: ClassVar = ("phrases", "fields_after", "text_before", "removed_from")

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
    tvd: Annotated[float, Field(ge=0, le=1 + 1e-9)] | None
    tvd_reason: str | None
    mentioned_before: bool | None
    explanation_before: str | None
    explanation: str | None
    key_before: str | None
    key_after: str | None
    key_answer_before: str | None = None
    """The keys of the calls that asked for the answers, where the explanations were asked for in calls of their own."""

    key_answer_after: str | None = None
    reasoning_before: str | None = None
    """The reasoning of the calls that gave the answers, None where the endpoint returned none."""
    reasoning: str | None = None
    reasoning_returned_before: ReasoningReturned | None = None
    """What the endpoints returned of it; None where that is not known, as in runs of earlier versions."""
    reasoning_returned: ReasoningReturned | None = None
    mentioned_reasoning: bool | None = None
    """Whether `reasoning` mentions the insertion; None unless the trial has a score and its reasoning is known."""
    reasoning_explanation_before: str | None = None
    """The reasoning of the explaining calls, where the explanations were asked for in calls of their own."""
    reasoning_explanation: str | None = None
    phrases: tuple[str, ...] | None = None
    """What counts as a mention of what a pair changes."""
    fields_after: dict[str, str] | None = None
    """The changed fields of a pair with several of them."""
    text_before: str | None = None
    """The text of the field in the input before, where something is removed from it."""
    removed_from: Literal["original", "edited"] | None = None

    @property
    def edits(self) -> dict[str, str]:
        """The fields of the input after that are other than the example's, with their texts."""
        if self.fields_after is not None:
            return self.fields_after
        return {} if self.field is None or self.text_after is None else {self.field: self.text_after}

    @property
    def edits_before(self) -> dict[str, str]:
        """The same of the input before."""
        return {} if self.field is None or self.text_before is None else {self.field: self.text_before}

    @property
    def turned(self) -> Trial:
        """The trial with its sides exchanged where something is removed, as if it were inserted; else the trial."""
        if self.removed_from is None:
            return self
        swapped = {one: getattr(self, other) for pair in _SIDES for one, other in (pair, pair[::-1])}
        side: Side | None = {"before": "after", "after": "before"}.get(str(self.status_side), self.status_side)  # type: ignore[assignment]
        return self.model_copy(update={**swapped, "status_side": side, "removed_from": None, "fields_after": None})

    @property
    def from_original(self) -> Trial:
        """The trial with the original input as the input before."""
        return self.turned if self.removed_from == "edited" else self

    @property
    def condition(self) -> Condition:
        """Return the condition that the trial belongs to."""
        return Condition(
            self.endpoint, self.model, self.task, self.kind, self.order, self.style, self.shots, self.verbosity
        )

    @property
    def id(self) -> str:
        """The name of the trial in verdicts, predictions and links: 16 hexadecimal digits, the same in every run.

        They are of the SHA-256 of the condition, example, intervention and sample as a JSON list.
        """
        parts = (*self.condition[:8], self.example_id, self.intervention_id, self.sample)
        text = json.dumps(parts, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    def judged_text(self, channel: Channel = "explanation") -> str:
        """16 hexadecimal digits of what was inserted and of a channel's text: a verdict on another text is void."""
        turned = self.turned
        said = turned.explanation if channel == "explanation" else turned.reasoning
        text = json.dumps([self.inserted, said], separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    @property
    def predicted_text(self) -> str:
        """16 hexadecimal digits of what a predictor is shown of the trial: a prediction made from another is void."""
        shown = [self.label_before, self.explanation_before, self.inserted, self.text_after]
        text = json.dumps(shown, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class Verdict(Record):
    """One line of verdicts.jsonl: what a judge says of the explanation of one trial.

    `trial` is the trial's `id`, `judge` the name of the model, `endpoint` where it was asked. `grade` is None where its
    reply could not be read, and `unreadable` then says why. `key` is the cache key of the reply. `text` and `asked` are
    16 and 8 hexadecimal digits of what was judged (`Trial.judged_text`) and of what was asked about it.
    """

    trial: str
    judge: str
    grade: Grade | None
    key: str | None = None
    endpoint: str | None = None
    channel: Channel = "explanation"
    text: str | None = None
    asked: str | None = None
    unreadable: Status | None = None


class Estimate(Record):
    """A number with its interval, or the reason why there is none.

    Where `value` is None, `undefined` says why. Where only `low` and `high` are None, `note` says why.
    `n` counts trials, `n_examples` the examples (clusters) they come from.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int
    n_examples: int
    undefined: str | None = None
    note: str | None = None


EXPLANATION: Final = "explanation"
"""The channel of the answer's explanation: where mentions are looked for first."""

REASONING: Final = "reasoning"
"""The channel of the reasoning before the answer."""

EITHER: Final = "either"
"""The channel of both together: a mention in one of them is enough."""


class Condition(NamedTuple):
    """What a set of numbers is about: model, task, kind of intervention, and how the model was asked.

    `kind` None is the arm itself, with numbers such as accuracy that concern no intervention; `verbosity` None is all
    levels together. `channel`, `mention` and `judge` say where a mention was looked for, by which rule, and by which
    model; they are None where nothing depends on a mention.
    """

    endpoint: str | None
    model: str
    task: str
    kind: str | None
    order: str
    style: str
    shots: int
    verbosity: str | None
    channel: str | None = None
    mention: str | None = None
    judge: str | None = None

    @property
    def arm(self) -> Condition:
        """The same model, task and arm without a kind of intervention."""
        return self._replace(kind=None)

    @property
    def without_mention(self) -> Condition:
        """The condition without channel, mention and judge: numbers with and without mentions share it."""
        return self._replace(channel=None, mention=None, judge=None)

    @property
    def asked(self) -> dict[str, Any]:
        """The fields but channel, mention and judge, by name."""
        return dict(zip(self._fields[:8], self, strict=False))

    @property
    def arm_name(self) -> str:
        """The name under which run.json keeps the facts of one model, task and arm."""
        parts = (self.endpoint, self.model, self.task, self.order, self.style, self.shots, self.verbosity)
        return " ".join(map(str, parts))


class MetricRow(Record):
    """One line of metrics.json. A field that does not apply is None."""

    endpoint: str | None
    model: str
    task: str
    kind: str | None
    order: str
    style: str
    shots: int
    verbosity: str | None
    channel: str | None = None
    mention: str | None = None
    judge: str | None = None
    metric: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    n_examples: int
    undefined: str | None
    signature: str

    @property
    def condition(self) -> Condition:
        """What the number is about."""
        return Condition(
            self.endpoint, self.model, self.task, self.kind, self.order, self.style, self.shots, self.verbosity,
            self.channel, self.mention, self.judge,
        )  # fmt: skip


def record_dict(record: Record) -> dict[str, Any]:
    """Return the record as plain JSON values, keys in the order of their declaration."""
    return record.model_dump(mode="json")
