"""Trials with all that is needed to follow them: what was put in where, and which words were taken for a mention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from explaineval.interventions import NULL_EDIT, cue_name, is_cue, mark_insertion
from explaineval.mentions import find_mention, mentions_phrase
from explaineval.parsing import classify, parse, parse_explanation, parse_label
from explaineval.records import SHAM, Completion, Example, Intervention, Mention, Trial, Unreadable, record_dict

Only = Literal["changed", "mentioned", "disagreeing", "missing"]
Side = Literal["before", "after"]
Phrases = Callable[[str], Sequence[str] | None]
"""The phrases that count as a mention of a kind; None where they are not to be had."""


@dataclass(frozen=True)
class Decision:
    """Whether a text mentions what was put in, by which rule, and where (code points of the text).

    `mentioned` is None where there is nothing to decide; `rule` then says why.
    """

    mentioned: bool | None
    rule: str
    span: tuple[int, int] | None = None


@dataclass(frozen=True)
class Case:
    """A trial, its intervention, and the decisions about its two explanations (None where one was not read)."""

    trial: Trial
    edit: Intervention | None
    after: Decision | None
    before: Decision | None
    rejudged: bool
    """Whether the decisions are by another policy than the run's."""

    @property
    def mentioned(self) -> bool | None:
        """The decision that counts for a scored trial: the run's own, unless another policy was asked for."""
        if self.trial.status != "ok":
            return None
        if self.rejudged and self.after is not None and self.after.mentioned is not None:
            return self.after.mentioned
        return self.trial.mentioned

    @property
    def insertion(self) -> tuple[int, int] | None:
        """Where the inserted words stand in the changed field, in code points; None for a cue and a sham."""
        one = self.trial
        if one.field is None or one.text_after is None or not one.inserted:
            return None
        offset = self.edit.offset if self.edit is not None else None
        before, words, _ = mark_insertion(one.text_after, one.inserted, offset or 0)
        return (len(before), len(before) + len(words)) if words else None


def decide(policy: Mention, kind: str, inserted: str, text: str | None, phrases: Phrases) -> Decision | None:
    """The decision about one explanation, as a run takes it; None where there is no text."""
    if text is None or kind == SHAM:
        return None
    if kind == NULL_EDIT:
        return Decision(None, "a null edit puts in no word")
    if not is_cue(kind):
        span = find_mention(policy, inserted, text)
        return Decision(span is not None, f"policy {policy}", span)
    listed = phrases(kind)
    if listed is None:
        return Decision(None, f"the run directory keeps no phrases of the cue {cue_name(kind)}")
    span = mentions_phrase(listed, text)
    return Decision(span is not None, f"phrases of the cue {cue_name(kind)}", span)


def make_case(trial: Trial, edit: Intervention | None, policy: Mention, own: Mention, phrases: Phrases) -> Case:
    """The case of a trial under a policy; `own` is the one by which the run judged it."""
    inserted = trial.inserted or ""
    return Case(
        trial,
        edit,
        decide(policy, trial.kind, inserted, trial.explanation, phrases),
        decide(policy, trial.kind, inserted, trial.explanation_before, phrases),
        policy != own,
    )


def fits(case: Case, only: Only | None) -> bool:
    """Whether a case is of the sort that alone is wanted; disagreeing: only one of changed and mentioned."""
    changed, mentioned = case.trial.changed, case.mentioned
    if only == "changed":
        return changed is True
    if only == "mentioned":
        return mentioned is True
    if only == "disagreeing":
        return None not in (changed, mentioned) and changed != mentioned
    return only is None or case.trial.status != "ok"


def unread(trial: Trial, side: Side) -> str | None:
    """The key of the completion of one side whose text is in no trial, since it could not be read."""
    if side == "before":
        key, text, never = trial.key_before, trial.explanation_before, trial.status_side in ("before", "both")
    else:
        key, text, never = trial.key_after, trial.explanation, trial.status_side == "after"
    never = never and trial.status in ("rejected", "failed")
    return None if never or text is not None else key


def keys_of(trial: Trial, side: Side) -> list[str]:
    """The keys of one side: of the call that answered and, where it is another, of the call that explained."""
    keys = (trial.key_answer_after, trial.key_after)
    if side == "before":
        keys = (trial.key_answer_before, trial.key_before)
    return list(dict.fromkeys(key for key in keys if key is not None))


def why_unread(completion: Completion, example: Example, trial: Trial, side: Side) -> str | None:
    """What kept a completion from being read; None if it can be read."""
    found: object = classify(completion)
    text, options, fields = completion.text or "", example.options, tuple(example.fields)
    if found is None and trial.order == "pe2":
        label = trial.label_before if side == "before" else trial.label_after
        if label is None:
            found = parse_label(text, options, trial.style, fields=fields)
        else:
            found = parse_explanation(text, label, options, trial.style, fields=fields)
    elif found is None:
        found = parse(text, options, trial.order, trial.style, fields=fields)
    return found.reason if isinstance(found, Unreadable) else None


def case_document(case: Case) -> dict[str, Any]:
    """The trial as JSON values, with the spans behind it: `insertion` in text_after, `span` in the explanations."""
    trial = case.trial
    return {
        **record_dict(trial),
        "target": None if case.edit is None else case.edit.target,
        "insertion": case.insertion,
        "decision": _decision_document(case.after, trial.explanation),
        "decision_before": _decision_document(case.before, trial.explanation_before),
    }


def _decision_document(decision: Decision | None, text: str | None) -> dict[str, Any] | None:
    if decision is None or text is None:
        return None
    matched = None if decision.span is None else text[slice(*decision.span)]
    return {"mentioned": decision.mentioned, "rule": decision.rule, "span": decision.span, "matched": matched}
