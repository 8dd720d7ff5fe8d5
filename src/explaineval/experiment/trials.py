"""From completions to trials. Pure: what was asked and what came back, in; trial records, out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from explaineval.cache import request_key
from explaineval.experiment.plans import Asked, Unit
from explaineval.mentions import mentions
from explaineval.parsing import classify, label_probabilities, parse, total_variation
from explaineval.records import (
    SHAM,
    Answer,
    Completion,
    LabelProbabilities,
    Mention,
    Request,
    Side,
    Status,
    Trial,
    Unreadable,
)


@dataclass(frozen=True)
class Failure:
    """A request without completion that still makes a trial line: rejected, or failed after all retries."""

    status: Status
    reason: str


@dataclass(frozen=True)
class Reply:
    """What came back for one request of a unit; the request is another one where the first answer was asked again."""

    request: Request
    result: Completion | Failure


@dataclass(frozen=True)
class Reading:
    """One side of a trial as read: a status, and what could be read where it is ok."""

    status: Status
    key: str
    answer: Answer | None = None
    probabilities: LabelProbabilities | None = None
    no_probabilities: str | None = None

    @property
    def label(self) -> str | None:
        """The option letter, if read."""
        return self.answer.label if self.answer else None

    @property
    def explanation(self) -> str | None:
        """The explanation, if read."""
        return self.answer.explanation if self.answer else None

    @property
    def probs(self) -> dict[str, float] | None:
        """p(label), if the endpoint gave it."""
        return self.probabilities.probs if self.probabilities else None

    @property
    def mass(self) -> float | None:
        """Probability on option letters before renormalisation."""
        return self.probabilities.mass if self.probabilities else None


RETRY_SAMPLES = 1000
"""Sample indices from here on are answers asked again because the first could not be scored."""

LONGER = 4
"""How many times the limit of tokens a truncated answer gets when it is asked again."""


def ask_again(unit: Unit, reply: Reply, retry: Collection[str]) -> Request | None:
    """The request that asks once more for an answer with one of these statuses; None where it is not wanted."""
    if not retry or isinstance(reply.result, Failure):
        return None
    status = read(unit, reply).status
    if status not in retry or reply.request.sample >= RETRY_SAMPLES:
        return None
    limit = reply.request.max_tokens * (LONGER if status == "truncated" else 1)
    return reply.request.model_copy(update={"sample": RETRY_SAMPLES + reply.request.sample, "max_tokens": limit})


def read(unit: Unit, reply: Reply) -> Reading:
    """Read one completion as an answer of this unit's example."""
    request, result = reply.request, reply.result
    key = request_key(request)
    if isinstance(result, Failure):
        return Reading(result.status, key)
    outcome = classify(result)
    if outcome is not None:
        return Reading(outcome.status, key)
    answer = parse(
        result.text or "", unit.example.options, unit.arm.order, unit.arm.style, fields=tuple(unit.example.fields)
    )
    if isinstance(answer, Unreadable):
        return Reading(answer.status, key)
    if request.logprobs is None:
        return Reading("ok", key, answer, None, unit.no_logprobs or "logprobs were not asked for")
    found = label_probabilities(result, answer, tuple(unit.example.options))
    if isinstance(found, str):
        return Reading("ok", key, answer, None, found)
    return Reading("ok", key, answer, found, None)


def intervention_trial(
    unit: Unit, asked: Asked, before: Reading, after: Reading | None, policy: Mention, mass: float
) -> Trial:
    """The trial of one intervention; `after` None means that the insertion was in the prompt before."""
    one = asked.intervention
    if after is None:
        return _trial(unit, before, Reading("already_in_prompt", ""), None, mass, kind=one.kind, asked=asked)
    mentioned = None if after.explanation is None else mentions(policy, one.inserted, after.explanation)
    trial = _trial(unit, before, after, mentioned, mass, kind=one.kind, asked=asked)
    if before.explanation is None:
        return trial
    return trial.model_copy(update={"mentioned_before": mentions(policy, one.inserted, before.explanation)})


def sham_trial(unit: Unit, before: Reading, after: Reading, mass: float) -> Trial:
    """The trial of an unchanged input asked once more."""
    return _trial(unit, before, after, None, mass, kind=SHAM, asked=None)


def tvd_of(
    before: tuple[dict[str, float] | None, float | None, str | None],
    after: tuple[dict[str, float] | None, float | None, str | None],
    least: float,
) -> tuple[float | None, str | None]:
    """(TVD, None), or (None, the reason why there is none). A side is (probs, label mass, why not)."""
    for name, (probs, mass, why) in (("before", before), ("after", after)):
        if probs is None or mass is None:
            return None, f"{name}: {why or 'no label probabilities'}"
        if mass < least:
            return None, f"{name}: less than {least:g} of the probability is on option letters"
    assert before[0] is not None  # noqa: S101 - narrowed above, for the type checker
    assert after[0] is not None  # noqa: S101
    return total_variation(before[0], after[0]), None


def _trial(
    unit: Unit, before: Reading, after: Reading, mentioned: bool | None, mass: float, *, kind: str, asked: Asked | None
) -> Trial:
    status, side = _status(before, after)
    ok = status == "ok"
    tvd, reason = (None, None)
    if ok:
        tvd, reason = tvd_of(
            (before.probs, before.mass, before.no_probabilities),
            (after.probs, after.mass, after.no_probabilities),
            mass,
        )
    return Trial(
        endpoint=unit.model.endpoint,
        model=unit.model.model,
        task=unit.task.name,
        order=unit.arm.order,
        style=unit.arm.style,
        shots=unit.arm.shots,
        verbosity=unit.arm.verbosity,
        sample=unit.sample,
        example_id=unit.example.id,
        intervention_id=asked.intervention.id if asked else None,
        kind=kind,
        field=asked.intervention.field if asked else None,
        inserted=asked.intervention.inserted if asked else None,
        text_after=asked.text_after if asked else None,
        status=status,
        status_side=side,
        label_before=before.label,
        label_after=after.label,
        gold=unit.example.gold,
        changed=before.label != after.label if ok else None,
        mentioned=mentioned if ok else None,
        probs_before=before.probs,
        probs_after=after.probs,
        label_mass_before=before.mass,
        label_mass_after=after.mass,
        tvd=tvd,
        tvd_reason=reason,
        mentioned_before=None,
        explanation_before=before.explanation,
        explanation=after.explanation,
        key_before=before.key,
        key_after=after.key or None,
    )


def _status(before: Reading, after: Reading) -> tuple[Status, Side | None]:
    if after.status == "already_in_prompt":
        return after.status, None
    if before.status == "ok" == after.status:
        return "ok", None
    if before.status == "ok":
        return after.status, "after"
    return before.status, "before" if after.status == "ok" else "both"


def unit_trials(
    unit: Unit,
    base: Reply,
    after: Sequence[Reply | None],
    shams: Sequence[Reply | None],
    policy: Mention,
    mass: float,
) -> list[Trial]:
    """All trials of a unit for which both sides have a result; None (never sent) makes no line."""
    before = read(unit, base)
    lines = []
    for asked, reply in zip(unit.asked, after, strict=True):
        if asked.request is None:
            lines.append(intervention_trial(unit, asked, before, None, policy, mass))
        elif reply is not None:
            lines.append(intervention_trial(unit, asked, before, read(unit, reply), policy, mass))
    lines += [sham_trial(unit, before, read(unit, reply), mass) for reply in shams if reply is not None]
    return lines
