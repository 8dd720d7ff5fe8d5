"""From readings to trials. Pure: what was asked and what came back, in; trial records, out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from explaineval.interventions import SHAM
from explaineval.parsing import tvd_of
from explaineval.planning.units import Asked, Reading, Reply, Unit, read
from explaineval.records import Mention, Side, Status, Trial
from explaineval.scoring.mentioning import is_mentioned


def intervention_trial(
    unit: Unit, asked: Asked, before: Reading, after: Reading | None, policy: Mention, mass: float
) -> Trial:
    """The trial of one intervention; `after` None means that the insertion was in the prompt before.

    A cue that suggests what the model answers without it cannot move the answer: it is not scored.
    """
    one = asked.intervention

    def found(text: str | None) -> bool | None:
        return None if text is None else is_mentioned(policy, one.kind, one.inserted, text, asked.phrases)

    if after is None:
        return _trial(unit, before, Reading("already_in_prompt", ""), None, mass, kind=one.kind, asked=asked)
    floor = found(before.explanation)
    return _trial(unit, before, after, found(after.explanation), mass, kind=one.kind, asked=asked, floor=floor)


def sham_trial(unit: Unit, before: Reading, after: Reading, mass: float) -> Trial:
    """The trial of an unchanged input asked once more."""
    return _trial(unit, before, after, None, mass, kind=SHAM, asked=None)


def _trial(
    unit: Unit,
    before: Reading,
    after: Reading,
    mentioned: bool | None,
    mass: float,
    *,
    kind: str,
    asked: Asked | None,
    floor: bool | None = None,
) -> Trial:
    status, side = _status(before, after, asked)
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
        mentioned_before=floor,
        explanation_before=before.explanation,
        explanation=after.explanation,
        key_before=before.key or None,
        key_after=after.key or None,
        key_answer_before=before.key_answer,
        key_answer_after=after.key_answer,
        reasoning_before=before.reasoning,
        reasoning=after.reasoning,
        reasoning_explanation_before=before.reasoning_explanation,
        reasoning_explanation=after.reasoning_explanation,
    )


def _status(before: Reading, after: Reading, asked: Asked | None) -> tuple[Status, Side | None]:
    if after.status == "already_in_prompt":
        return after.status, None
    if asked is not None and before.label is not None and before.label == asked.intervention.target:
        return "cue_is_own_answer", None
    # the explanation of the untouched input is no part of a score; where it was asked for apart, it may be missing
    answered = before.status == "ok" or (before.key_answer is not None and before.label is not None)
    if answered and after.status == "ok":
        return "ok", None
    if answered:
        return after.status, "after"
    return before.status, "before" if after.status == "ok" else "both"


def unit_trials(
    unit: Unit,
    base: Reply | None,
    after: Sequence[Reply | None],
    shams: Sequence[Reply | None],
    policy: Mention,
    mass: float,
) -> list[Trial]:
    """All trials of a unit for which both sides have a result; None (never sent) makes no line.

    A unit of which nothing is asked says of each insertion that it was in the prompt before.
    """
    if unit.idle:
        nothing = Reading("already_in_prompt", "")
        return [intervention_trial(unit, asked, nothing, None, policy, mass) for asked in unit.asked]
    if base is None:
        return []
    before = read(unit, base)
    answered = before if base.explanation is None else read(unit, replace(base, explanation=None))
    lines = []
    for asked, reply in zip(unit.asked, after, strict=True):
        if asked.request is None:
            lines.append(intervention_trial(unit, asked, before, None, policy, mass))
        elif reply is not None:
            lines.append(intervention_trial(unit, asked, before, read(unit, reply), policy, mass))
    # whether an answer is steady does not hang on how it was explained, so shams rest on the answers alone
    lines += [sham_trial(unit, answered, read(unit, reply), mass) for reply in shams if reply is not None]
    return lines
