"""The naturalness filter with a model as judge: each candidate is shown to it, the most natural ones are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from explaineval.client import Capabilities
from explaineval.experiment.consultations import Consultant, Consulted, Dialogue, Watch, consult
from explaineval.experiment.readings import Failure
from explaineval.interventions import LEAST_MASS, Judged, apply, call_natural, keep_natural
from explaineval.parsing import classify, label_probabilities, parse_label
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
    consulted: Consulted[Judged | str]


def filter_natural(
    who: Consultant, examples: Examples, candidates: Sequence[Intervention], share: float, watch: Watch
) -> Filtered:
    """Ask about every candidate and keep the top `share` of each example. Raises what `consult` raises."""

    def request(one: Intervention, logprobs: int | None, temperature: float | None) -> Request:
        edited = apply(examples[one.task, one.example_id], one)
        return who.request(TEMPLATE, logprobs, temperature, field=one.field, inserted=one.inserted, edited=edited)

    def judge(one: Intervention, able: Capabilities) -> Dialogue[Judged | str]:
        reply = yield request(one, able.logprobs, able.temperature)
        return read_verdict(one, reply)

    openings = [partial(judge, one) for one in candidates]
    consulted = consult(who, openings, partial(request, candidates[0]), logprobs=True, watch=watch)
    judged: dict[tuple[str, str], list[Judged]] = {}
    dropped: Counter[str] = Counter()
    for verdict in consulted.results:
        if isinstance(verdict, str):
            dropped[verdict] += 1
        else:
            judged.setdefault((verdict.intervention.task, verdict.intervention.example_id), []).append(verdict)
    kept = [one for found in judged.values() for one in keep_natural(found, share)]
    graded = all(one.probability is not None for found in judged.values() for one in found)
    unnatural = sum(not one.natural for one in kept)
    return Filtered([call_natural(one.intervention) for one in kept], dropped, unnatural, graded, consulted)


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
