"""Words inserted by an editor model, one by one, each checked: nothing but the word may have changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

from explaineval.client import Capabilities
from explaineval.experiment.consultations import Consultant, Consulted, Dialogue, Watch, consult
from explaineval.experiment.readings import Failure
from explaineval.interventions import Proposal, Refusal, Token, intervention_id, read_proposal, splice
from explaineval.mentions import already_present
from explaineval.parsing import classify, own_reply
from explaineval.records import Completion, Example, Intervention, Request

TEMPLATE = "editor.j2"
KIND = "editor"
TRIES = 3
"""How often the editor is asked for one word before the example gets one fewer."""

Tag = Callable[[str], Sequence[Token]]


@dataclass(frozen=True)
class Edited:
    """The edits in the order of the examples; the replies that were refused, by reason; what it took."""

    built: list[Intervention]
    refused: Counter[str]
    consulted: Consulted[tuple[list[Intervention], Counter[str]]]


@dataclass(frozen=True)
class Editing:
    """One example to edit: `texts` are all that its prompt shows, so that no word is inserted that is there before."""

    example: Example
    texts: Sequence[str]


def edit(
    who: Consultant, wanted: Sequence[Editing], per_example: int, seed: int, tag: Tag | None, watch: Watch
) -> Edited:
    """Have up to `per_example` words inserted into each example, all different.

    The field of each is drawn; a word is asked for by naming those that it must not be. With `tag` a word counts only
    where it is tagged as adjective or adverb. Raises what `consult` raises.
    """

    def hold(one: Editing, able: Capabilities) -> Dialogue[tuple[list[Intervention], Counter[str]]]:
        return _converse(who, one, per_example, seed, tag, able)

    def first(_: int | None, temperature: float | None) -> Request:
        return next(hold(wanted[0], Capabilities(None, temperature, "off")))

    openings = [partial(hold, one) for one in wanted]
    consulted = consult(who, openings, first, logprobs=False, watch=watch)
    refused: Counter[str] = Counter()
    for _, reasons in consulted.results:
        refused += reasons
    return Edited([one for built, _ in consulted.results for one in built], refused, consulted)


def _converse(
    who: Consultant, one: Editing, per_example: int, seed: int, tag: Tag | None, able: Capabilities
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
                TEMPLATE, None, able.temperature, asked[prompt], field=field, text=text, avoid=list(avoid)
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
    content: dict[str, Any] = {
        "task": example.task, "example_id": example.id, "kind": KIND, "field": field, "offset": one.offset,
        "inserted": one.word, "pos": found.pos, "edited": edited,
    }  # fmt: skip
    present = {name: value for name, value in content.items() if value is not None}
    return Intervention.model_validate({"id": intervention_id(**present), **present})
