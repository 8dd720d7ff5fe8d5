"""Turn the replies to a unit's requests into trials. Nothing is read or written here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from explaineval.interventions import SHAM, kind_of
from explaineval.parsing import tvd_of
from explaineval.planning.requests import Reading, Reply
from explaineval.planning.units import Unit, Variant
from explaineval.records import Intervention, Mention, Side, Status, Trial
from explaineval.scoring.mentioning import is_mentioned

NOT_ASKED = Reading("already_in_prompt", "")


def unit_trials(unit: Unit, replies: Sequence[Reply | None], policy: Mention, least_mass: float) -> list[Trial]:
    """All trials of a unit for which both sides have a result; one whose request was not sent makes none.

    Args:
        unit: the requests.
        replies: one for each of `unit.asked`, None where it was not sent.
        policy: what counts as a mention of an inserted word.
        least_mass: the probability that option letters need to have together for a TVD, 0 to 1.
    """
    if not unit.asked:
        return [_trial(unit, variant, NOT_ASKED, NOT_ASKED, policy, least_mass) for variant in unit.edited]
    first, *others = replies
    if first is None:
        return []
    rest = iter(others)
    original = unit.reader(unit.original)
    before = original.read(first)
    answered = before if first.explanation is None else original.read(replace(first, explanation=None))
    trials = []
    for variant in unit.edited:
        if variant.request is None:
            trials.append(_trial(unit, variant, before, NOT_ASKED, policy, least_mass))
        elif (reply := next(rest)) is not None:
            trials.append(_trial(unit, variant, before, unit.reader(variant).read(reply), policy, least_mass))
    # whether an answer is steady does not depend on how it was explained, so shams compare the answers alone
    for variant, reply in zip(unit.shams, rest, strict=True):
        if reply is not None:
            trials.append(_trial(unit, variant, answered, unit.reader(variant).read(reply), policy, least_mass))
    return trials


def _trial(unit: Unit, variant: Variant, before: Reading, after: Reading, policy: Mention, least_mass: float) -> Trial:
    intervention, removed_from = variant.intervention, variant.removed_from
    text, original = variant.text, unit.example.fields.get(variant.field or "")
    texts = (original if removed_from == "original" else None, text)
    if removed_from == "edited":
        before, after, texts = after, before, (text, original)
    seen, unseen = (before, after) if removed_from else (after, before)
    status, side = _status(before, after, intervention) if not removed_from else _status_of_removal(seen, unseen)
    ok = status == "ok"
    tvd, reason = None, None
    if ok:
        tvd, reason = tvd_of(
            (before.probs, before.mass, before.no_probabilities),
            (after.probs, after.mass, after.no_probabilities),
            least_mass,
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
        intervention_id=intervention.id if intervention else None,
        kind=SHAM if intervention is None else intervention.kind,
        field=variant.field,
        inserted=_inserted(intervention),
        text_after=texts[1],
        status=status,
        status_side=side,
        label_before=before.label,
        label_after=after.label,
        gold=unit.example.gold,
        changed=before.label != after.label if ok else None,
        mentioned=_mentioned(variant, seen, policy) if ok else None,
        probs_before=before.probs,
        probs_after=after.probs,
        label_mass_before=before.mass,
        label_mass_after=after.mass,
        tvd=tvd,
        tvd_reason=reason,
        mentioned_before=None if NOT_ASKED in (before, after) else _mentioned(variant, unseen, policy),
        explanation_before=before.explanation,
        explanation=after.explanation,
        key_before=before.key or None,
        key_after=after.key or None,
        key_answer_before=before.key_answer,
        key_answer_after=after.key_answer,
        reasoning_before=before.reasoning.text,
        reasoning=after.reasoning.text,
        reasoning_returned_before=before.reasoning.returned,
        reasoning_returned=after.reasoning.returned,
        mentioned_reasoning=_mentioned_reasoning(variant, seen, policy) if ok else None,
        reasoning_explanation_before=before.reasoning_explanation,
        reasoning_explanation=after.reasoning_explanation,
        phrases=intervention.mention if intervention else None,
        fields_after=dict(variant.changed) if len(variant.changed) > 1 else None,
        text_before=texts[0],
        removed_from=removed_from,
    )


def _inserted(intervention: Intervention | None) -> str | None:
    """What was inserted, or a pair's phrases as one text."""
    if intervention is None or intervention.mention is None:
        return None if intervention is None else intervention.inserted
    return " / ".join(intervention.mention)


def _mentioned(variant: Variant, reading: Reading, policy: Mention) -> bool | None:
    """Whether a side's explanation mentions what was inserted; None for a sham and without an explanation."""
    intervention = variant.intervention
    if intervention is None or reading.explanation is None:
        return None
    return is_mentioned(policy, intervention.kind, intervention.inserted or "", reading.explanation, variant.phrases)


def _mentioned_reasoning(variant: Variant, reading: Reading, policy: Mention) -> bool | None:
    """Whether a side's reasoning mentions what was inserted; None for a sham and where the reasoning is not known."""
    intervention, reasoning = variant.intervention, reading.reasoning
    if intervention is None:
        return None
    if reasoning.text is None:
        return False if reasoning.returned == "absent" and kind_of(intervention.kind).mentioned_by else None
    return is_mentioned(policy, intervention.kind, intervention.inserted or "", reasoning.text, variant.phrases)


def _status_of_removal(seen: Reading, unseen: Reading) -> tuple[Status, Side | None]:
    """The same where something is removed: as if it were inserted, with the sides exchanged."""
    status, side = _status(unseen, seen, None)
    return status, {"before": "after", "after": "before"}.get(str(side), side)  # type: ignore[return-value]


def _status(before: Reading, after: Reading, intervention: Intervention | None) -> tuple[Status, Side | None]:
    """A trial's status, and the side that it is about where it is not "ok"."""
    if NOT_ASKED in (before, after):
        return NOT_ASKED.status, None
    if intervention is not None and before.label is not None and before.label == intervention.target:
        return "cue_is_own_answer", None  # a cue that suggests what is answered without it cannot move the answer
    # the explanation of the untouched input is no part of a score; where it was asked for apart, it may be missing
    answered = before.status == "ok" or (before.key_answer is not None and before.label is not None)
    if answered and after.status == "ok":
        return "ok", None
    if answered:
        return after.status, "after"
    return before.status, "before" if after.status == "ok" else "both"
