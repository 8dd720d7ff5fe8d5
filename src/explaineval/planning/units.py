"""The plan: every request of a run, known before the first is sent, built lazily one example at a time.

It is walked in one way: each input of a unit has a dialogue, which yields requests and is sent the replies. `walk`
answers from the cache alone and tells what a run would ask; `execution.pool` sends the same requests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from typing import Any, Literal, NamedTuple, TypeVar

from explaineval.cache import request_key
from explaineval.client.cached import find_older
from explaineval.client.endpoints.capabilities import Capabilities
from explaineval.config import Arm, ModelConfig, arms_for
from explaineval.datasets import Task
from explaineval.errors import NotStoredError, RequestUnsentError
from explaineval.interventions import Pattern, apply, changed_fields, kind_of, pattern_of
from explaineval.mentions import already_present
from explaineval.planning.prepare import Prepared
from explaineval.planning.requests import Dialogue, Examples, Reply, ReplyReader, RequestBuilder, in_order
from explaineval.records import Completion, Example, Intervention, Order, Request, Style
from explaineval.scoring.mentioning import phrases_of
from explaineval.spill import NumberSet

T = TypeVar("T")

NO_EDITS: Mapping[str, str] = {}
"""No field is changed."""

COUNTED_EXACTLY = 20_000
"""Looking for an insertion in its prompt takes about 0.1 ms: larger plans are not looked through."""


@dataclass(frozen=True)
class Variant:
    """One input of a unit: the unchanged example, the example with an intervention, or (a sham) unchanged once more.

    `fields`, `cue` and the shots, which `pattern` rearranges, are what the prompt shows, `phrases` what counts as a
    mention of a cue. `request` is the one for the answer; None where the insertion was in the prompt before.
    """

    fields: Mapping[str, str]
    request: Request | None
    intervention: Intervention | None = None
    cue: str | None = None
    pattern: Pattern | None = None
    phrases: Sequence[str] = ()
    is_sham: bool = False
    changed: Mapping[str, str] = field(default_factory=dict)
    """The fields that are other than the example's, with their texts."""
    removed_from: Literal["original", "edited"] | None = None
    """Which input holds what is to be mentioned, where that is the input before."""

    @property
    def field(self) -> str | None:
        """The field that is changed, of several the first one."""
        return None if self.intervention is None else self.intervention.field or next(iter(self.changed), None)

    @property
    def text(self) -> str | None:
        """The text of the edited field, or the cue, or a pattern in words; None without an intervention."""
        if self.pattern is not None:
            return self.pattern.description
        return self.cue if self.field is None else self.fields[self.field]


@dataclass(frozen=True)
class Unit:
    """One example under one arm of one model, one sample: the requests that its trials need."""

    builder: RequestBuilder
    example: Example
    sample: int
    no_logprobs: str | None
    original: Variant
    edited: tuple[Variant, ...]
    shams: tuple[Variant, ...]

    @property
    def model(self) -> ModelConfig:
        """The model that is asked."""
        return self.builder.model

    @property
    def arm(self) -> Arm:
        """How it is asked."""
        return self.builder.arm

    @property
    def task(self) -> Task:
        """The example's task."""
        return self.builder.task

    def reader(self, variant: Variant) -> ReplyReader:
        """Return what reads the replies to the requests about one of its inputs."""
        said = self.builder.said(self.example)
        return ReplyReader(self.example, self.arm, self.no_logprobs, variant.fields, said)

    @cached_property
    def asked(self) -> tuple[Variant, ...]:
        """The inputs that are asked about, the unchanged one first; none where every insertion stood in the prompt."""
        edited = tuple(variant for variant in self.edited if variant.request is not None)
        return (self.original, *edited, *self.shams) if edited else ()

    @property
    def planned(self) -> int:
        """The requests before dedupe."""
        return count_planned(self.builder, self._edits, len(self.shams))

    @property
    def distinct(self) -> int:
        """The requests that are this unit's alone: in order pe2 the first level's units have the answers and shams."""
        return count_distinct(self.builder, self._edits, len(self.shams))

    @property
    def _edits(self) -> int:
        return sum(variant.request is not None for variant in self.edited)

    def dialogue(
        self, variant: Variant, retry: Collection[str] = (), unsent: Callable[[Request], None] = lambda _: None
    ) -> Dialogue[Reply]:
        """Ask about one of `asked`: for an answer, in order pe2 then for its explanation.

        Replies with a status in `retry` are asked for once more. Where the first request is not sent, or the dialogue
        is closed before its reply, `unsent` is told of the explaining call that cannot be made, with a guessed answer.
        """
        explained = self.arm.order == "pe2" and not variant.is_sham
        request, reader = variant.request, self.reader(variant)
        assert request is not None  # noqa: S101 - it is one of `asked`
        try:
            reply = yield from reader.ask(request, retry)
        except (RequestUnsentError, GeneratorExit):
            if explained:  # whatever the answer will be, the call is as long with one letter as with another
                unsent(self._explanation_request(variant, next(iter(self.example.options)), request))
            raise
        label = reader.read_answer(reply).label if explained else None
        if label is None:
            return reply
        second = self._explanation_request(variant, label, reply.request)
        return replace(reply, explanation=(yield from reader.ask(second, retry, label)))

    def _explanation_request(self, variant: Variant, label: str, first: Request) -> Request:
        """The second call; its sample index is the unit's own, however often the answer was asked for."""
        return self.builder.build_explanation(
            self.example, variant.fields, label, first.temperature, self.sample, variant.cue, variant.pattern
        )


def count_planned(builder: RequestBuilder, edits: int, shams: int) -> int:
    """The requests of one example and sample before dedupe: every trial needs an answer before and one after.

    In order pe2 each needs an explanation too, but for the shams. None without an intervention.
    """
    return 2 * (edits * (2 if builder.arm.order == "pe2" else 1) + shams) if edits else 0


def count_distinct(builder: RequestBuilder, edits: int, shams: int) -> int:
    """The requests of one example and sample that are asked for no other unit; none without an intervention."""
    if not edits:
        return 0
    if builder.arm.order != "pe2":
        return 1 + edits + shams
    return (1 + edits) * (2 if builder.is_first_level else 1) + (shams if builder.is_first_level else 0)


class PlanPart(NamedTuple):
    """The part of the plan of one task under one order, style and number of shots, at all levels of verbosity."""

    task: str
    order: Order
    style: Style
    shots: int


def part_of(builder: RequestBuilder) -> PlanPart:
    """Return the part of the plan that a builder's requests belong to."""
    return PlanPart(builder.task.name, builder.arm.order, builder.arm.style, builder.arm.shots)


def all_examples(builder: RequestBuilder) -> range:
    """All examples of a builder's task."""
    return range(len(builder.task.examples))


class PlanSize(NamedTuple):
    """How many requests a plan holds: before dedupe, and distinct."""

    planned: int
    distinct: int


def plan_size(prepared: Prepared, model: ModelConfig, without: Collection[str] = ()) -> PlanSize:
    """The size of one model's plan, some styles left out, without building a request.

    With more than COUNTED_EXACTLY interventions, those whose insertion is in the prompt already are counted too.
    """
    edits = prepared.chosen.edits
    exact = sum(map(len, edits.values())) <= COUNTED_EXACTLY
    counted: dict[str, Counter[int]] = {}  # where they are not looked through, they are the same for all builders
    planned = distinct = 0
    for builder in builders(prepared, model):
        if builder.arm.style in without:
            continue
        name = builder.task.name
        if exact or name not in counted:
            groups = ((example, edits.get((name, example.id), ())) for example in builder.task.examples)
            counted[name] = Counter(count_asked(builder, *group) if exact else len(group[1]) for group in groups)
        for asked, examples in counted[name].items():
            for shams in (prepared.config.shams, *[0] * (prepared.config.samples - 1)):
                distinct += examples * count_distinct(builder, asked, shams)
                planned += examples * count_planned(builder, asked, shams)
    return PlanSize(planned, distinct)


def builders(prepared: Prepared, model: ModelConfig) -> Iterator[RequestBuilder]:
    """One for each task and arm of the model that can be asked for, in the order of the plan.

    None for a task of which a shard has no examples.
    """
    for task in prepared.tasks:
        if not task.examples:
            continue
        for arm in arms_for(prepared.config, model):
            builder = RequestBuilder(prepared.config, prepared.prompts, model, arm, task)
            if not builder.lacks_level:
                yield builder


def count_asked(builder: RequestBuilder, example: Example, interventions: Sequence[Intervention]) -> int:
    """How many interventions of an example insert what does not stand in its prompt already."""
    texts = _prompt_texts(builder, example)
    return sum(not _is_present(example, intervention, *texts) for intervention in interventions)


def _prompt_texts(builder: RequestBuilder, example: Example) -> tuple[str, str]:
    """What stands in an example's prompt: the text around it, and its own."""
    return builder.fixed_text(example), _own_text(example)


def _own_text(example: Example, edits: Mapping[str, str] = NO_EDITS) -> str:
    return "\n".join((*{**example.fields, **edits}.values(), *example.options.values()))


def _is_present(example: Example, intervention: Intervention, fixed: str, own: str) -> bool:
    """Whether what is to be mentioned stands in the prompt without it; a pair's phrases in both of its inputs."""
    if intervention.fields is not None:
        phrases, edited = intervention.mention or (), _own_text(example, intervention.fields)
        if any(_is_in_fixed_text(phrase, fixed) for phrase in phrases):
            return True
        return all(any(_is_in_own_text(phrase, text) for phrase in phrases) for text in (own, edited))
    if intervention.field is None or "already_in_prompt" not in kind_of(intervention.kind).statuses:
        return False
    inserted = intervention.inserted or ""
    return _is_in_fixed_text(inserted, fixed) or _is_in_own_text(inserted, own)


@lru_cache(maxsize=65536)
def _is_in_fixed_text(inserted: str, text: str) -> bool:
    return already_present(inserted, (text,))


@lru_cache(maxsize=4096)  # a small plan is gone through twice: to count it, and to ask
def _is_in_own_text(inserted: str, text: str) -> bool:
    return already_present(inserted, (text,))


def plan(
    prepared: Prepared,
    model: ModelConfig,
    capabilities: Callable[[Arm], Capabilities | None],
    start: float = 0.0,
    examples: Examples = all_examples,
) -> Iterator[Unit]:
    """All units of one model, in a fixed order: that of `in_order`, and the samples of each example in turn.

    `capabilities` says how an arm's requests are sent; an arm of which it is not known is left out. `start` is where
    in that order to begin, as a share of the whole: what lies before comes last. `examples` leaves out some examples.
    """
    for builder, number in in_order(builders(prepared, model), examples, start):
        sent_as = capabilities(builder.arm)
        if sent_as is not None:
            yield from units_of(prepared, builder, sent_as, (number,))


def units_of(
    prepared: Prepared, builder: RequestBuilder, sent_as: Capabilities, numbers: Iterable[int] | None = None
) -> Iterator[Unit]:
    """The units of one task and arm of one model; `numbers` are the indices of the examples, by default of all."""
    for number in range(len(builder.task.examples)) if numbers is None else numbers:
        example = builder.task.examples[number]
        interventions = prepared.chosen.edits.get((builder.task.name, example.id), ())
        texts = _prompt_texts(builder, example)
        for sample in range(prepared.config.samples):
            yield _build_unit(builder, sent_as, example, interventions, sample, texts)


def _build_unit(
    builder: RequestBuilder,
    sent_as: Capabilities,
    example: Example,
    interventions: Sequence[Intervention],
    sample: int,
    texts: tuple[str, str],
) -> Unit:
    phrases = phrases_of(builder.prompts)

    def request(fields: Mapping[str, str], cue: str | None = None, pattern: Pattern | None = None) -> Request:
        return builder.build(example, fields, sent_as.logprobs, sent_as.temperature, sample, cue, pattern)

    def edit(intervention: Intervention) -> Variant:
        cue, pattern, changed = None, pattern_of(intervention), dict[str, str]()
        removed_from: Literal["original", "edited"] | None = None
        if intervention.fields is not None:
            changed = changed_fields(example, intervention.fields)
            if any(_is_in_own_text(phrase, texts[1]) for phrase in intervention.mention or ()):
                removed_from = "original"
        elif intervention.field is None:
            cue = intervention.inserted
        else:
            changed = {intervention.field: apply(example, intervention)}
            removed_from = "edited" if kind_of(intervention.kind).takes_out else None
        fields = {**example.fields, **changed} if changed else example.fields
        asked = None if _is_present(example, intervention, *texts) else request(fields, cue, pattern)
        named = intervention.mention or phrases(intervention.kind)
        return Variant(fields, asked, intervention, cue, pattern, named, changed=changed, removed_from=removed_from)

    first = request(example.fields)
    samples = builder.config.samples
    shams = range(samples, samples + builder.config.shams) if sample == 0 else range(0)
    return Unit(
        builder=builder,
        example=example,
        sample=sample,
        no_logprobs=sent_as.reason,
        original=Variant(example.fields, first),
        edited=tuple(edit(intervention) for intervention in interventions),
        shams=tuple(
            Variant(example.fields, first.model_copy(update={"sample": index}), is_sham=True) for index in shams
        ),
    )


@dataclass(frozen=True)
class Step:
    """One distinct request of a plan: whose it is, its key, and its stored answer if there is one.

    `certain` is False for an explaining call whose text depends on an answer that is not stored: it is one of several.
    """

    unit: Unit
    intervention: Intervention | None
    request: Request
    key: str
    completion: Completion | None
    certain: bool = True


Find = Callable[[str], Completion | None]
"""Looks a key up in a store."""


def find_nothing(_key: str) -> None:
    """Stands for an empty store."""


def walk(
    prepared: Prepared,
    capabilities: Callable[[ModelConfig, Arm], Capabilities | None],
    find: Find = find_nothing,
    examples: Examples = all_examples,
) -> Iterator[Step]:
    """The steps of all models' plans; an arm whose `capabilities` are not known is left out."""
    for model in prepared.config.models:
        units = plan(prepared, model, partial(capabilities, model), examples=examples)
        yield from walk_units(units, prepared, find)


def walk_units(units: Iterable[Unit], prepared: Prepared, find: Find = find_nothing) -> Iterator[Step]:
    """Hold every dialogue of one model's units with stored answers alone, and yield each distinct request.

    What is asked once more, and what explaining calls say, depends on stored answers: without them there are no
    retries, and guesses in place of the explaining calls.
    """
    seen = NumberSet()
    for unit in units:
        for variant in unit.asked:
            unsent: list[Request] = []
            dialogue = unit.dialogue(variant, prepared.config.retry, unsent.append)
            for request, key, completion in answer_from(find, dialogue, prepared.client.older_names):
                if _is_new(key, seen):
                    yield Step(unit, variant.intervention, request, key, completion)
            for request in unsent:
                key = request_key(request)
                if _is_new(key, seen, guess=True):
                    yield Step(unit, variant.intervention, request, key, None, certain=False)


def answer_from(
    find: Find, dialogue: Dialogue[Any], older_names: Mapping[str, str]
) -> Iterator[tuple[Request, str, Completion | None]]:
    """Hold a dialogue with stored answers: each request with its key and its answer, if that is stored."""
    try:
        request = next(dialogue)
        while True:
            key = request_key(request)
            completion = find(key) or find_older(find, request, older_names)
            yield request, key, completion
            if completion is None:
                request = dialogue.throw(NotStoredError("its answer is not stored"))
            else:
                request = dialogue.send(completion)
    except (StopIteration, RequestUnsentError):
        return


def stored_reply(find: Find, dialogue: Dialogue[T], older_names: Mapping[str, str]) -> T | None:
    """Hold a dialogue with stored answers, and return its result; None where one of them is missing."""
    try:
        request = next(dialogue)
        while True:
            completion = find(request_key(request)) or find_older(find, request, older_names)
            if completion is None:
                dialogue.close()
                return None
            request = dialogue.send(completion)
    except StopIteration as end:
        result: T = end.value
        return result


def _is_new(key: str, seen: NumberSet, *, guess: bool = False) -> bool:
    return seen.add(int(key[:16], 16) ^ guess)
