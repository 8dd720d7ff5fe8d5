"""Words inserted by an editor model, one by one, each checked: nothing but the word may have changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random

from explaineval.assist.session import Assistant, SessionResult, Survey, Watch, read_choice, run_session
from explaineval.client.endpoints.capabilities import Capabilities
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
from explaineval.parsing import classify, label_probabilities, own_reply
from explaineval.planning.requests import Dialogue, Failure
from explaineval.records import Completion, Example, Intervention, Request

TEMPLATE = "judge.j2"
VERDICTS = {"A": "yes", "B": "no"}

Examples = Mapping[tuple[str, str], Example]
"""Examples by (task, id)."""


@dataclass(frozen=True)
class Filtered:
    """The edits that are kept, under their new kind, and how they were judged.

    `dropped` counts by reason the candidates without a readable verdict, `unnatural` the edits that are kept though the
    judge said no (at least one edit of every example is kept). `graded` says that edits were ranked by probability.
    """

    kept: list[Intervention]
    dropped: Counter[str]
    unnatural: int
    graded: bool
    session: SessionResult[Judged | str]


def filter_natural(
    assistant: Assistant, examples: Examples, candidates: Sequence[Intervention], share: float, watch: Watch
) -> Filtered:
    """Ask the judge about every candidate and keep the top `share` of each example.

    Raises what `run_session` raises.
    """

    def request(judge: Assistant, edit: Intervention, logprobs: int | None, temperature: float | None) -> Request:
        edited = apply(examples[edit.task, edit.example_id], edit)
        return judge.request(TEMPLATE, logprobs, temperature, field=edit.field, inserted=edit.inserted, edited=edited)

    def read(edit: Intervention, _: Request, reply: Completion | Failure) -> Judged | str:
        return read_verdict(edit, reply)

    session = Survey(assistant, candidates, request, read, logprobs=True).ask(watch)
    by_example: dict[tuple[str, str], list[Judged]] = {}
    dropped: Counter[str] = Counter()
    for verdict in session.results:
        if isinstance(verdict, str):
            dropped[verdict] += 1
        else:
            by_example.setdefault((verdict.intervention.task, verdict.intervention.example_id), []).append(verdict)
    kept = [verdict for verdicts in by_example.values() for verdict in keep_natural(verdicts, share)]
    graded = all(verdict.probability is not None for verdicts in by_example.values() for verdict in verdicts)
    unnatural = sum(not verdict.natural for verdict in kept)
    return Filtered([call_natural(verdict.intervention) for verdict in kept], dropped, unnatural, graded, session)


def read_verdict(candidate: Intervention, reply: Completion | Failure) -> Judged | str:
    """Return the judge's verdict on a candidate, or in a word why there is none."""
    label = read_choice(reply, VERDICTS)
    if isinstance(reply, Failure) or isinstance(label, str):
        return str(label)
    probabilities = label_probabilities(reply, label, tuple(VERDICTS))
    probability = None
    if not isinstance(probabilities, str) and probabilities.mass >= LEAST_MASS:
        probability = probabilities.probs["A"]
    return Judged(candidate, label.label == "A", probability)


EDITOR_TEMPLATE = "editor.j2"
KIND = "editor"
TRIES = 3
"""How often the editor is asked for one word before the example gets one fewer."""

Tag = Callable[[str], Sequence[Token]]


@dataclass(frozen=True)
class Edited:
    """The edits in the order of the examples, the number of refused replies by reason, and the session."""

    built: list[Intervention]
    refused: Counter[str]
    session: SessionResult[tuple[list[Intervention], Counter[str]]]


@dataclass(frozen=True)
class Editing:
    """One example to edit; `texts` are all texts of its prompt, whose words are not inserted."""

    example: Example
    texts: Sequence[str]


def edit(
    assistant: Assistant, tasks: Sequence[Editing], per_example: int, seed: int, tag: Tag | None, watch: Watch
) -> Edited:
    """Have up to `per_example` words inserted into each example, all different.

    The field of each is drawn; the prompt lists the words that are not wanted again. With `tag` a word counts only
    where it is tagged as adjective or adverb. Raises what `run_session` raises.
    """

    def start(editing: Editing, capabilities: Capabilities) -> Dialogue[tuple[list[Intervention], Counter[str]]]:
        return _converse(assistant, editing, per_example, seed, tag, capabilities)

    def first_request(_: int | None, temperature: float | None) -> Request:
        return next(start(tasks[0], Capabilities(None, temperature, "off")))

    starts = [partial(start, editing) for editing in tasks]
    session = run_session(assistant, starts, first_request, logprobs=False, watch=watch)
    refused: Counter[str] = Counter()
    for _, reasons in session.results:
        refused += reasons
    return Edited([intervention for built, _ in session.results for intervention in built], refused, session)


def _converse(
    assistant: Assistant, editing: Editing, per_example: int, seed: int, tag: Tag | None, capabilities: Capabilities
) -> Dialogue[tuple[list[Intervention], Counter[str]]]:
    example, built, refused = editing.example, list[Intervention](), Counter[str]()
    random = Random(f"{seed}:{example.task}:{example.id}:editor")  # noqa: S311 - a draw that must repeat
    fields = [name for name, text in example.fields.items() if text.strip()]
    avoid: list[str] = []
    asked: Counter[tuple[str, ...]] = Counter()
    for _ in range(per_example if fields else 0):
        field = random.choice(fields)
        for _ in range(TRIES):
            text, prompt = example.fields[field], (field, *avoid)
            reply = yield assistant.request(
                EDITOR_TEMPLATE,
                None,
                capabilities.temperature,
                asked[prompt],
                field=field,
                text=text,
                avoid=list(avoid),
            )
            asked[prompt] += 1  # the same prompt again is another sample, not the stored answer
            result = _read_edit(example, field, reply, editing.texts, tag)
            if isinstance(result, Intervention):
                built.append(result)
                avoid.append(result.inserted or "")
                break
            if isinstance(result, Refusal):
                refused[result.reason] += 1
                if result.word is not None and result.word.lower() not in avoid:
                    avoid.append(result.word.lower())
            else:
                refused[result] += 1
    return built, refused


def _read_edit(
    example: Example, field: str, reply: Completion | Failure, texts: Sequence[str], tag: Tag | None
) -> Intervention | Refusal | str:
    """Return the edit in a reply, why it is refused, or (a string) why there is none to read."""
    if isinstance(reply, Failure):
        return reply.status
    outcome = classify(reply)
    if outcome is not None:
        return outcome.status
    text = example.fields[field]
    proposal = read_proposal(text, own_reply(reply.text or ""))
    if isinstance(proposal, Refusal):
        return proposal
    if already_present(proposal.word, texts):
        return Refusal("the word is in the prompt already", proposal.word)
    pos = None if tag is None else _pos_of(proposal, tag)
    if tag is not None and pos is None:
        return Refusal("neither adjective nor adverb", proposal.word)
    return Intervention.identified(
        task=example.task,
        example_id=example.id,
        kind=KIND,
        field=field,
        offset=proposal.offset,
        inserted=proposal.word,
        pos=pos,
        edited=None if proposal.edited == splice(text, proposal.offset, proposal.word) else proposal.edited,
    )


def _pos_of(proposal: Proposal, tag: Tag) -> str | None:
    """Return ADJ or ADV, as the inserted word is tagged; a repaired article before it may have moved it by one."""
    for token in tag(proposal.edited):
        if abs(token.offset - proposal.offset) <= 1 and token.text.lower() == proposal.word:
            return token.pos if token.pos in ("ADJ", "ADV") else None
    return None
