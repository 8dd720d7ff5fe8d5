"""Show one example with all its trials as text for a terminal or a pipe: every decision and the rule behind it.

Texts that models and users wrote are shown as they are: markup in them is not interpreted, and control characters do
nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from explaineval.interventions import kind_of, mark_insertion
from explaineval.mentions import find_mention, mentions_phrase
from explaineval.parsing import classify, parse, parse_explanation, parse_label
from explaineval.records import (
    Completion,
    Example,
    Intervention,
    Mention,
    ReasoningReturned,
    Status,
    Trial,
    Unreadable,
    record_dict,
)
from explaineval.text import NONE, ORDERS, counted, flat, number_text, quoted, visible

Only = Literal["changed", "mentioned", "disagreeing", "missing"]
Side = Literal["before", "after"]
Phrases = Callable[[str], Sequence[str] | None]
"""The phrases that count as a mention of a kind; None where the run directory has none."""


@dataclass(frozen=True)
class MentionCheck:
    """Whether a text mentions the insertion, by which rule, and where (code points of the text).

    `mentioned` is None where there is nothing to decide; `rule` then says why.
    """

    mentioned: bool | None
    rule: str
    span: tuple[int, int] | None = None


@dataclass(frozen=True)
class Case:
    """A trial, its intervention, and the decisions about its two explanations and the reasoning with the insertion.

    A decision is None where there is no text. Where something is removed, the input before is the one with it.
    """

    trial: Trial
    edit: Intervention | None
    after: MentionCheck | None
    before: MentionCheck | None
    rejudged: bool
    """Whether the decisions are by another policy than the run's."""
    reasoning: MentionCheck | None = None

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
        """The span of the inserted words in the changed field, in code points; None for a cue and a sham.

        Where something is removed, that is the field of the input before.
        """
        trial = self.trial.turned
        if trial.field is None or trial.text_after is None or not trial.inserted:
            return None
        offset = self.edit.offset if self.edit is not None else None
        for phrase in trial.phrases or (trial.inserted,):
            before, words, _ = mark_insertion(trial.text_after, phrase, offset or 0)
            if words:
                return len(before), len(before) + len(words)
        return None


def decide(
    policy: Mention, kind: str, inserted: str | Sequence[str], text: str | None, phrases: Phrases
) -> MentionCheck | None:
    """Decide about one explanation as a run does; None where there is no text. Of several texts one is enough."""
    value = kind_of(kind)
    if text is None or value.inserts == "nothing":
        return None
    if value.mentioned_by is None:
        return MentionCheck(None, value.no_mention)
    if value.mentioned_by == "policy":
        texts = [inserted] if isinstance(inserted, str) else inserted
        span = min(filter(None, (find_mention(policy, one, text) for one in texts)), default=None)
        return MentionCheck(span is not None, f"policy {policy}", span)
    listed = phrases(kind)
    if listed is None:
        return MentionCheck(None, f"the run directory keeps no phrases of the cue {value.cue}")
    span = mentions_phrase(listed, text)
    return MentionCheck(span is not None, f"phrases of the cue {value.cue}", span)


def make_case(trial: Trial, edit: Intervention | None, policy: Mention, own: Mention, phrases: Phrases) -> Case:
    """Return the case of a trial under a policy; `own` is the policy of the run itself."""
    inserted, turned = trial.phrases or trial.inserted or "", trial.turned
    return Case(
        trial,
        edit,
        decide(policy, trial.kind, inserted, turned.explanation, phrases),
        decide(policy, trial.kind, inserted, turned.explanation_before, phrases),
        policy != own,
        decide(policy, trial.kind, inserted, turned.reasoning, phrases),
    )


def fits(case: Case, only: Only | None) -> bool:
    """Return whether a case passes the filter; disagreeing: either changed or mentioned, but not both."""
    changed, mentioned = case.trial.changed, case.mentioned
    if only == "changed":
        return changed is True
    if only == "mentioned":
        return mentioned is True
    if only == "disagreeing":
        return None not in (changed, mentioned) and changed != mentioned
    return only is None or case.trial.status != "ok"


def unread(trial: Trial, side: Side) -> str | None:
    """Return the key of the completion of one side that could not be read, so that the trial lacks its text."""
    if side == "before":
        key, text, is_missing = trial.key_before, trial.explanation_before, trial.status_side in ("before", "both")
    else:
        key, text, is_missing = trial.key_after, trial.explanation, trial.status_side == "after"
    never_answered = is_missing and trial.status in ("rejected", "failed")
    return None if never_answered or text is not None else key


def keys_of(trial: Trial, side: Side) -> list[str]:
    """Return the keys of one side: of the call that answered and, where it is another, of the one that explained."""
    keys = (trial.key_answer_after, trial.key_after)
    if side == "before":
        keys = (trial.key_answer_before, trial.key_before)
    return list(dict.fromkeys(key for key in keys if key is not None))


def why_unread(
    completion: Completion, example: Example, trial: Trial, side: Side, said: Sequence[str] = ()
) -> str | None:
    """Return why a completion cannot be read; None if it can. `said` is what the prompt said beside the input."""
    answer: object = classify(completion)
    text, options, fields = completion.text or "", example.options, example.fields
    fields = {**fields, **(trial.edits if side == "after" else trial.edits_before)}
    if answer is None and trial.order == "pe2":
        label = trial.label_before if side == "before" else trial.label_after
        if label is None:
            answer = parse_label(text, options, trial.style, fields=fields, said=said)
        else:
            answer = parse_explanation(text, label, options, trial.style, fields=fields, said=said)
    elif answer is None:
        answer = parse(text, options, trial.order, trial.style, fields=fields, said=said)
    return answer.reason if isinstance(answer, Unreadable) else None


def case_document(case: Case) -> dict[str, Any]:
    """Return the trial as JSON values, with spans: `insertion` in text_after, `span` in the explanations."""
    trial = case.trial
    return {
        **record_dict(trial),
        "target": None if case.edit is None else case.edit.target,
        "insertion": case.insertion,
        "decision": _decision_document(case.after, trial.turned.explanation),
        "decision_before": _decision_document(case.before, trial.turned.explanation_before),
        "decision_reasoning": _decision_document(case.reasoning, trial.turned.reasoning),
    }


def _decision_document(decision: MentionCheck | None, text: str | None) -> dict[str, Any] | None:
    if decision is None or text is None:
        return None
    matched = None if decision.span is None else text[slice(*decision.span)]
    return {"mentioned": decision.mentioned, "rule": decision.rule, "span": decision.span, "matched": matched}


KEY_DIGITS = 12
LABEL = 10
"""Width of the column of names, the same in all blocks so that they are aligned."""
MOST_REASONING = 600
"""Characters of a reasoning that are shown unless all of it is asked for."""
STATUSES: dict[Status, str] = {
    "ok": "it was read",
    "refused": "the model declined to answer",
    "filtered": "a content filter stopped the answer",
    "truncated": "the answer was cut off at the limit of tokens",
    "empty": "the answer was blank",
    "unparsed": "the answer could not be read as one letter with an explanation",
    "rejected": "the endpoint rejected the request itself, for example as too long",
    "failed": "no answer came in spite of all retries",
    "cue_is_own_answer": "the cue suggests what the model answers without it, so it cannot move the answer",
    "already_in_prompt": "the prompt contains the inserted text already, so a mention would prove nothing: not asked",
}
Rows = list[tuple[str, Text]]


@dataclass(frozen=True)
class ViewOptions:
    """What to show and how.

    `color` allows colour. `completions` holds the stored completions by key; `elsewhere` says where the text of an
    unread answer is when it is not among them. `answers` shows every completion, not only those that could not be read,
    and reasoning in full. `said` gives what the prompt of a trial said beside the input.
    """

    color: bool = False
    answers: bool = False
    completions: Mapping[str, Completion] = field(default_factory=dict)
    elsewhere: str = ""
    said: Callable[[Example, Trial], Sequence[str]] = lambda _example, _trial: ()

    def mark(self, text: str, span: tuple[int, int] | None) -> Text:
        """Return the text with a span (code points) highlighted: in reverse, or in double brackets without colour."""
        if span is None:
            return Text(visible(text))
        inside = visible(text[slice(*span)])
        marked = (inside, "bold reverse") if self.color else f"[[{inside}]]"
        return Text.assemble(visible(text[: span[0]]), marked, visible(text[span[1] :]))


def example_view(example: Example) -> RenderableType:
    """Return the view of the example itself: fields, options, gold answer, human explanation."""
    rows: Rows = [(name, Text(visible(text))) for name, text in example.fields.items()]
    rows.append(("options", Text("\n".join(_option(example, letter) for letter in example.options))))
    rows.append(("gold", Text("unknown" if example.gold is None else _option(example, example.gold))))
    if example.explanation is not None:
        rows.append(("human", Text(visible(example.explanation))))
    if example.instruction is not None:
        rows.append(("asked", Text(visible(example.instruction))))
    title = Text.assemble((flat(example.id), "bold"), " of task ", (flat(example.task), "bold"))
    return Group(title, _grid(rows))


def arm_view(
    example: Example, cases: Sequence[Case], shams: Sequence[Trial], options: ViewOptions, only: Only | None = None
) -> RenderableType:
    """Return the view of one model in one arm: the original input, then a block for each case that passes `only`.

    There must be a case or a sham. Cases keep their number whichever are shown.
    """
    shown = [(index, case) for index, case in enumerate(cases, start=1) if fits(case, only)]
    trials = [case.trial for case in cases] + list(shams)
    first = trials[0]
    model = f"{first.model} at {first.endpoint}" if first.endpoint else first.model
    order = f"order {first.order} ({ORDERS[first.order]})"
    arm = f"{first.style}, {order}, {counted(first.shots, 'shot')}, {flat(first.verbosity)}, sample {first.sample}"
    counts = [
        f"{sum(case.trial.changed is True for case in cases)} changed",
        f"{sum(case.mentioned is True for case in cases)} mentioned",
        f"{sum(case.trial.status != 'ok' for case in cases)} not scored",
    ]
    summary = f"{_count(len(cases), 'intervention')}: {', '.join(counts)}"
    summary += "" if only is None else f"; shown: {len(shown)} (--only {only})"
    parts: list[RenderableType] = [Text(), Rule(style="dim"), Text(flat(model), "bold"), Text(arm), Text(summary)]
    parts += [Text(), Text("Original input", "bold"), _grid(_original_rows(example, trials, shams, options))]
    for index, case in shown:
        name = flat(case.trial.intervention_id or "")
        parts += [Text(), Text.assemble(f"{index}. ", _headline(example, case), (f"  {name}", "dim"))]
        parts.append(_grid(_case_rows(example, case, options)))
    return Group(*parts)


def _original_rows(example: Example, trials: Sequence[Trial], shams: Sequence[Trial], options: ViewOptions) -> Rows:
    trials = [trial.from_original for trial in trials]
    first = trials[0]
    rows: Rows = []
    if first.label_before is not None:
        label = _option(example, first.label_before) + _gold_note(example, first.label_before)
        rows.append(("answer", Text(label)))
    status = next((trial.status for trial in trials if trial.status_side in ("before", "both")), None)
    if status is not None or first.label_before is None:
        text = STATUSES[status] if status is not None else "the answer could not be read"
        rows.append(("no answer", Text(text + _reason(example, first, "before", options))))
    rows += _texts(first, "before", options)
    rows += _reasoning_rows(first, "before", options)
    if first.explanation_before is not None or first.label_before is not None:
        explanation = first.explanation_before
        text = visible(explanation) if explanation is not None else "nothing that could be read"
        rows.append(("explains", Text(text)))
    if shams:
        rows.append(("noise", Text(_sham_line(example, shams))))
    rows.append(("key", Text.assemble((_keys(first, "before"), "dim"))))
    return rows


def _sham_line(example: Example, shams: Sequence[Trial]) -> str:
    outcomes: Counter[str] = Counter()
    for sham in shams:
        if sham.status != "ok":
            outcomes[f"no answer{' to compare with' if sham.status_side == 'before' else ''} ({sham.status})"] += 1
        else:
            outcomes[f"changed to {_option(example, sham.label_after or '')}" if sham.changed else "same answer"] += 1
    texts = [text if len(outcomes) == 1 else f"{count} × {text}" for text, count in outcomes.items()]
    return f"asked again {_count(len(shams), 'time')}: {', '.join(texts)}"


def _headline(example: Example, case: Case) -> Text:
    trial, target = case.trial, case.edit.target if case.edit else None
    kind = Text.assemble((f"{flat(trial.kind)}: ", "bold"))
    if kind_of(trial.kind).inserts == "space":
        return kind.append(f"one more space in {flat(trial.field or '')}")
    if trial.removed_from is not None:
        return kind.append(f"{quoted(trial.inserted or '')} taken out of {flat(trial.field or '')}")
    if trial.phrases is not None:
        return kind.append(f"another input, named by {quoted(trial.inserted or '')}")
    if trial.field is not None:
        return kind.append(f"{quoted(trial.inserted or '')} into {flat(trial.field)}")
    return kind.append("suggests no letter" if target is None else f"suggests {_option(example, target)}")


def _case_rows(example: Example, case: Case, options: ViewOptions) -> Rows:
    trial = case.trial
    after = trial.text_after if trial.text_after is not None else trial.inserted or ""
    removes, turned = trial.removed_from is not None, trial.turned
    rows: Rows = [("cue" if trial.field is None else "input", options.mark(after, None if removes else case.insertion))]
    if removes:
        rows.insert(0, ("before", options.mark(trial.text_before or "", case.insertion)))
    rows += [(flat(name), Text(visible(text))) for name, text in (trial.fields_after or {}).items() if text != after]
    if trial.label_before is not None or trial.label_after is not None:
        rows.append(("answer", _answer_text(example, trial)))
    if trial.status != "ok":
        rows.append(("no score", Text(_why_no_score(example, trial.from_original, options), style="yellow")))
    if trial.from_original.key_after is not None:
        rows += _texts(trial.from_original, "after", options)
    rows += _probability_rows(trial)
    rows += _reasoning_rows(turned, "after", options, case.reasoning)
    if turned.explanation is not None and case.after is not None:
        rows.append(("said before" if removes else "explains", options.mark(turned.explanation, case.after.span)))
        rows.append(("mention", _mention_text(case, case.after)))
    if trial.key_after is not None:
        rows.append(("key", Text.assemble((_keys(trial, "after"), "dim"))))
    return rows


def _why_no_score(example: Example, trial: Trial, options: ViewOptions) -> str:
    """Say what is missing for a score; what came back without the insertion stands with the original input."""
    reason = _reason(example, trial, "after", options)
    if trial.status_side == "before":
        return f"there is no answer without the insertion to compare with ({trial.status}, see above)"
    if trial.status_side == "both":
        return f"there is no answer without the insertion ({trial.status}, see above), and none with it{reason}"
    side = "with the insertion " if trial.status_side else ""
    return f"{side}{STATUSES[trial.status]} ({trial.status}){reason}"


def _answer_text(example: Example, trial: Trial) -> Text:
    before, after = trial.label_before or "none", trial.label_after or "none"
    changed = trial.label_before != trial.label_after
    if trial.label_before is None or trial.label_after is None:
        return Text(f"{visible(before)} → {visible(after)}")
    text = Text(f"{visible(before)} → {visible(after)} changed" if changed else f"{visible(before)} = {visible(after)}")
    text.stylize("bold red" if changed else "bold")
    words = example.options.get(after, "")
    return text.append(f"  {visible(words)}{_gold_note(example, after)}")


def _probability_rows(trial: Trial) -> Rows:
    before, after = trial.probs_before or {}, trial.probs_after or {}
    rows: Rows = []
    if trial.status == "ok":
        value = (
            number_text(trial.tvd, 3) if trial.tvd is not None else f"none ({flat(trial.tvd_reason or 'not recorded')})"
        )
        rows.append(("TVD", Text(value)))
    moves = [
        f"{visible(letter)} {_share(before.get(letter))} → {_share(after.get(letter))}" for letter in before | after
    ]
    if moves:
        mass = f"(on letters: {_share(trial.label_mass_before)} → {_share(trial.label_mass_after)})"
        rows.append(("p(letter)", Text("   ".join([*moves, mass]))))
    return rows


RETURNED: Mapping[ReasoningReturned, str] = {
    "summary": "(a summary or a part of it) ",
    "hidden": "hidden: its tokens are counted, but there is no text",
}
"""What is said of reasoning that did not come whole."""


def _reasoning_rows(trial: Trial, side: Side, options: ViewOptions, decision: MentionCheck | None = None) -> Rows:
    """Return the reasoning of the call that answered and, where it is another, of the one that explained.

    Below the first stands whether it mentions the insertion, where that is decided.
    """
    answering, explaining, returned = trial.reasoning, trial.reasoning_explanation, trial.reasoning_returned
    if side == "before":
        answering, explaining = trial.reasoning_before, trial.reasoning_explanation_before
        returned = trial.reasoning_returned_before
    note = RETURNED.get(returned, "") if returned is not None else ""
    rows: Rows = []
    if answering is not None:
        shown = _beginning(answering, options)
        span = None if decision is None or decision.span is None or decision.span[1] > len(shown) else decision.span
        rows.append(("reasoning", Text.assemble((note, "yellow"), options.mark(shown, span))))
        if decision is not None and decision.mentioned is not None:
            text = Text.assemble((_verdict(decision.mentioned), "bold green" if decision.mentioned else ""))
            text.append(f" in the reasoning{_matching(decision, trial, answering)}")
            rows.append(("", text.append(f" ({decision.rule})", style="dim")))
    elif note:
        rows.append(("reasoning", Text(note, "yellow")))
    if explaining is not None:
        rows.append(("reasoning (2)", Text(visible(_beginning(explaining, options)))))
    return rows


def _beginning(text: str, options: ViewOptions) -> str:
    """Return the text, or its beginning where it is long and not all of it is asked for."""
    if options.answers or len(text) <= MOST_REASONING:
        return text
    return f"{text[:MOST_REASONING].rstrip()} … ({counted(len(text), 'character')}; --answers shows all)"


def _mention_text(case: Case, decision: MentionCheck) -> Text:
    trial = case.trial.turned
    recorded = trial.mentioned if trial.status == "ok" else None
    if decision.mentioned is None:
        text = Text("nothing to decide" if recorded is None else _verdict(recorded) + ", by the run's own record")
        return text.append(f" ({decision.rule})", style="dim")
    text = Text.assemble((_verdict(decision.mentioned), "bold green" if decision.mentioned else ""))
    text.append(_matching(decision, trial, trial.explanation or ""))
    text.append(f" ({decision.rule})", style="dim")
    if recorded is not None and recorded != decision.mentioned:
        if case.rejudged:
            text.append(f"; the run itself: {_verdict(recorded)}", style="yellow")
        else:
            text.append(f"; but the run recorded: {_verdict(recorded)}, and that counts", style="yellow")
    if trial.status != "ok":
        text.append("; not scored", style="yellow")
    if case.before is not None and case.before.mentioned:
        match = _matching(case.before, trial, trial.explanation_before or "")
        text.append(f"; without the insertion mentioned too{match}", style="yellow")
    elif case.before is not None:
        text.append("; not without the insertion" if decision.mentioned else "; nor without the insertion")
    return text


def _verdict(mentioned: bool) -> str:
    return "mentioned" if mentioned else "not mentioned"


def _matching(decision: MentionCheck, trial: Trial, text: str) -> str:
    """Return which part of the text counts as a mention of what; empty where none does."""
    if decision.span is None:
        return ""
    matched = quoted(text[slice(*decision.span)])
    return f": {matched}" if trial.field is None else f": {matched} matches {quoted(trial.inserted or '')}"


def _texts(trial: Trial, side: Side, options: ViewOptions) -> Rows:
    """Return the completions of one side as they came: all if asked for, else the one that could not be read."""
    unread_key = unread(trial, side)
    keys = keys_of(trial, side) if options.answers else [unread_key] if unread_key is not None else []
    rows: Rows = []
    for key in keys:
        completion = options.completions.get(key)
        if completion is None:
            rows.append(("came back", Text(options.elsewhere or "no answer is stored for its key")))
            continue
        text = completion.text or completion.refusal or ""
        end = f"  (finish reason: {visible(completion.finish_reason)})" if completion.finish_reason else ""
        rows.append(("came back", Text.assemble(visible(text) or "nothing", (end, "dim"))))
    return rows


def _reason(example: Example, trial: Trial, side: Side, options: ViewOptions) -> str:
    key = unread(trial, side)
    completion = options.completions.get(key) if key is not None else None
    reason = None if completion is None else why_unread(completion, example, trial, side, options.said(example, trial))
    return "" if reason is None else f": {visible(reason)}"


def _keys(trial: Trial, side: Side) -> str:
    keys = [key[:KEY_DIGITS] for key in keys_of(trial, side)]
    return f"{keys[0]} (answer), {keys[1]} (explanation)" if len(keys) == 2 else "".join(keys) or "none: not asked"


def _option(example: Example, letter: str) -> str:
    return flat(f"{letter} {example.options.get(letter, '')}".strip())


def _gold_note(example: Example, letter: str) -> str:
    return "" if example.gold is None else " (gold)" if letter == example.gold else " (not gold)"


def _share(value: float | None) -> str:
    return NONE if value is None else number_text(value, 3)


def _count(total: int, noun: str) -> str:
    return f"{total} {noun}" + ("" if total == 1 else "s")


def _grid(rows: Rows) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    table.add_column(style="dim", min_width=LABEL, max_width=LABEL + 4, overflow="fold")
    table.add_column(ratio=1, overflow="fold")
    for name, text in rows:
        table.add_row(Text(flat(name)), text)
    return Padding(table, (0, 0, 0, 3))
