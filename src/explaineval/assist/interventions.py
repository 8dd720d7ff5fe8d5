"""Words inserted by an editor model, one by one, each checked: nothing but the word may have changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random

from explaineval.assist.session import Assistant, SessionResult, run_session
from explaineval.client.endpoints.capabilities import Capabilities
from explaineval.execution.model_run import Watch
from explaineval.interventions import (
    LEAST_MASS,
    Judged,
    Proposal,
    Refusal,
    Token,
    apply,
    call_natural,
    keep_natural,
    read_proposal,
    splice,
)
from explaineval.mentions import already_present
from explaineval.parsing import classify, label_probabilities, own_reply, parse_label
from explaineval.planning.replies import Dialogue, Failure
from explaineval.records import Completion, Example, Intervention, Request, Unreadable

TEMPLATE = "judge.j2"
VERDICTS = {"A": "yes", "B": "no"}

Examples = Mapping[tuple[str, str], Example]
"""Examples by (task, id)."""


@dataclass(frozen=True)
class Filtered:
    """What was kept, under its new kind; how many candidates had no readable verdict, by reason; what it took.

    `unnatural` counts those that were kept though the judge said no: at least one stays of every example.
    """

    kept: list[Intervention]
    dropped: Counter[str]
    unnatural: int
    graded: bool
    session: SessionResult[Judged | str]


def filter_natural(
    who: Assistant, examples: Examples, candidates: Sequence[Intervention], share: float, watch: Watch
) -> Filtered:
    """Ask about every candidate and keep the top `share` of each example. Raises what `run_session` raises."""

    def request(one: Intervention, logprobs: int | None, temperature: float | None) -> Request:
        edited = apply(examples[one.task, one.example_id], one)
        return who.request(TEMPLATE, logprobs, temperature, field=one.field, inserted=one.inserted, edited=edited)

    def judge(one: Intervention, able: Capabilities) -> Dialogue[Judged | str]:
        reply = yield request(one, able.logprobs, able.temperature)
        return read_verdict(one, reply)

    starts = [partial(judge, one) for one in candidates]
    session = run_session(who, starts, partial(request, candidates[0]), logprobs=True, watch=watch)
    judged: dict[tuple[str, str], list[Judged]] = {}
    dropped: Counter[str] = Counter()
    for verdict in session.results:
        if isinstance(verdict, str):
            dropped[verdict] += 1
        else:
            judged.setdefault((verdict.intervention.task, verdict.intervention.example_id), []).append(verdict)
    kept = [one for found in judged.values() for one in keep_natural(found, share)]
    graded = all(one.probability is not None for found in judged.values() for one in found)
    unnatural = sum(not one.natural for one in kept)
    return Filtered([call_natural(one.intervention) for one in kept], dropped, unnatural, graded, session)


def read_verdict(candidate: Intervention, reply: Completion | Failure) -> Judged | str:
    """The judge's verdict on a candidate, or in a word why there is none."""
    if isinstance(reply, Failure):
        return reply.status
    outcome = classify(reply)
    if outcome is not None:
        return outcome.status
    label = parse_label(reply.text or "", VERDICTS, "chat")
    if isinstance(label, Unreadable):
        return label.status
    found = label_probabilities(reply, label, tuple(VERDICTS))
    usable = not isinstance(found, str) and found.mass >= LEAST_MASS
    probability = found.probs["A"] if usable and not isinstance(found, str) else None
    return Judged(candidate, label.label == "A", probability)


EDITOR_TEMPLATE = "editor.j2"
KIND = "editor"
TRIES = 3
"""How often the editor is asked for one word before the example gets one fewer."""

Tag = Callable[[str], Sequence[Token]]


@dataclass(frozen=True)
class Edited:
    """The edits in the order of the examples; the replies that were refused, by reason; what it took."""

    built: list[Intervention]
    refused: Counter[str]
    session: SessionResult[tuple[list[Intervention], Counter[str]]]


@dataclass(frozen=True)
class Editing:
    """One example to edit: `texts` are all that its prompt shows, so that no word is inserted that is there before."""

    example: Example
    texts: Sequence[str]


def edit(
    who: Assistant, wanted: Sequence[Editing], per_example: int, seed: int, tag: Tag | None, watch: Watch
) -> Edited:
    """Have up to `per_example` words inserted into each example, all different.

    The field of each is drawn; a word is asked for by naming those that it must not be. With `tag` a word counts only
    where it is tagged as adjective or adverb. Raises what `run_session` raises.
    """

    def hold(one: Editing, able: Capabilities) -> Dialogue[tuple[list[Intervention], Counter[str]]]:
        return _converse(who, one, per_example, seed, tag, able)

    def first(_: int | None, temperature: float | None) -> Request:
        return next(hold(wanted[0], Capabilities(None, temperature, "off")))

    starts = [partial(hold, one) for one in wanted]
    session = run_session(who, starts, first, logprobs=False, watch=watch)
    refused: Counter[str] = Counter()
    for _, reasons in session.results:
        refused += reasons
    return Edited([one for built, _ in session.results for one in built], refused, session)


def _converse(
    who: Assistant, one: Editing, per_example: int, seed: int, tag: Tag | None, able: Capabilities
) -> Dialogue[tuple[list[Intervention], Counter[str]]]:
    example, built, refused = one.example, list[Intervention](), Counter[str]()
    random = Random(f"{seed}:{example.task}:{example.id}:editor")  # noqa: S311 - a draw that must repeat
    fields = [name for name, text in example.fields.items() if text.strip()]
    avoid: list[str] = []
    asked: Counter[tuple[str, ...]] = Counter()
    for _ in range(per_example if fields else 0):
        field = random.choice(fields)
        for _ in range(TRIES):
            text, prompt = example.fields[field], (field, *avoid)
            reply = yield who.request(
                EDITOR_TEMPLATE, None, able.temperature, asked[prompt], field=field, text=text, avoid=list(avoid)
            )
            asked[prompt] += 1  # the same words again are another sample, not the stored answer
            found = _read_edit(text, reply, one.texts, tag)
            if isinstance(found, _Found):
                built.append(_intervention(example, field, found))
                avoid.append(found.proposal.word)
                break
            if isinstance(found, Refusal):
                refused[found.reason] += 1
                if found.word is not None and found.word.lower() not in avoid:
                    avoid.append(found.word.lower())
            else:
                refused[found] += 1
    return built, refused


@dataclass(frozen=True)
class _Found:
    """A proposal that holds, with the word's part of speech where a tagger told it."""

    proposal: Proposal
    pos: str | None


def _read_edit(text: str, reply: Completion | Failure, texts: Sequence[str], tag: Tag | None) -> _Found | Refusal | str:
    """The edit in a reply, why it is refused, or (a string) why there is none to read."""
    if isinstance(reply, Failure):
        return reply.status
    outcome = classify(reply)
    if outcome is not None:
        return outcome.status
    found = read_proposal(text, own_reply(reply.text or ""))
    if isinstance(found, Refusal):
        return found
    if already_present(found.word, texts):
        return Refusal("the word is in the prompt already", found.word)
    pos = None if tag is None else _pos_of(found, tag)
    if tag is not None and pos is None:
        return Refusal("neither adjective nor adverb", found.word)
    return _Found(found, pos)


def _pos_of(found: Proposal, tag: Tag) -> str | None:
    """ADJ or ADV, as the tagger says of the inserted word; an article repaired before it may have moved it by one."""
    for token in tag(found.edited):
        if abs(token.offset - found.offset) <= 1 and token.text.lower() == found.word:
            return token.pos if token.pos in ("ADJ", "ADV") else None
    return None


def _intervention(example: Example, field: str, found: _Found) -> Intervention:
    one = found.proposal
    edited = None if one.edited == splice(example.fields[field], one.offset, one.word) else one.edited
    return Intervention.identified(
        task=example.task,
        example_id=example.id,
        kind=KIND,
        field=field,
        offset=one.offset,
        inserted=one.word,
        pos=found.pos,
        edited=edited,
    )
