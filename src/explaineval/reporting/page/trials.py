"""Write the trials that the report page shows as JSON that is safe inside an HTML page.

It holds each name and each text once, texts in pieces of which every second one is marked (the inserted words, or what
counts as a mention of them). Which trials it holds is decided in `draw`.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from bisect import insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, NamedTuple

from markupsafe import Markup

from explaineval.errors import InputError
from explaineval.interventions import kind_of
from explaineval.mentions import find_mentions
from explaineval.records import SIMULATED_NOTE, SIMULATED_PREFIX, Condition, Example, Intervention, Status, Trial
from explaineval.reporting.example_view import STATUSES, Case, MentionCheck, make_case
from explaineval.reporting.results import ComparedRuns, RunResults
from explaineval.rundir.directory import PROMPTS, TRIALS, read_examples, read_interventions, read_trials
from explaineval.scoring.counts import table_cell
from explaineval.scoring.mentioning import phrases_in
from explaineval.scoring.rows import condition_order
from explaineval.text import ORDERS, counted, flat, visible

MOST_HELD = 100_000_000
"""About how many bytes of trials are held in memory while they are chosen."""

TRIAL_BYTES = 4_000
"""About how many bytes a trial takes in memory beside its long texts."""


class Drawn(NamedTuple):
    """A trial in the order in which trials are taken: its place in its stratum, then the order of the draw."""

    rank: int
    order: str
    run: int
    id: str
    cell: str
    trial: Trial


@dataclass
class Stratum:
    """The trials of one condition in one cell: how many there are, and those held so far in the order of the draw."""

    total: int = 0
    held: list[tuple[str, Trial]] = field(default_factory=list)


@dataclass
class Draw:
    """The trials drawn from one run, by condition and cell. At most `most` of each are held, in about `limit` bytes."""

    run: int
    limit: int
    strata: dict[tuple[Condition, str], Stratum] = field(default_factory=dict)
    most: int = 1 << 20
    size: int = 0

    def add(self, trial: Trial) -> None:
        """Count a trial, and hold it if it is among the first of its stratum; those that measure noise are left out."""
        if kind_of(trial.kind).measures_noise:
            return
        stratum = self.strata.setdefault((trial.condition, _cell_of(trial)), Stratum())
        stratum.total += 1
        order = _order_of(trial)
        if len(stratum.held) >= self.most and order >= stratum.held[-1][0]:
            return
        insort(stratum.held, (order, trial), key=itemgetter(0))
        self.size += _bytes_of(trial)
        self._cut(stratum)
        while self.size > self.limit and self.most > 1:
            self.most = self.most * 4 // 5
            for other in self.strata.values():
                self._cut(other)

    def _cut(self, stratum: Stratum) -> None:
        self.size -= sum(_bytes_of(trial) for _, trial in stratum.held[self.most :])
        del stratum.held[self.most :]

    def ranked(self) -> Iterator[Drawn]:
        """Yield the trials that are held."""
        for (_, cell), stratum in self.strata.items():
            for rank, (order, trial) in enumerate(stratum.held):
                yield Drawn(rank, order, self.run, trial.id, cell, trial)


def start_draws(runs: int) -> list[Draw]:
    """Return an empty draw for each run, which take about MOST_HELD bytes together."""
    return [Draw(number, MOST_HELD // runs) for number in range(runs)]


def draw_trials(results: ComparedRuns) -> list[Draw]:
    """Draw from the trials of runs, which are read for it."""
    draws = start_draws(len(results.runs))
    for run, draw in zip(results.runs, draws, strict=True):
        for trial in read_trials(run.directory):
            draw.add(trial)
    return draws


def _cell_of(trial: Trial) -> str:
    if trial.status != "ok":
        return trial.status
    return "abcd"[table_cell(bool(trial.changed), bool(trial.mentioned))]


def _order_of(trial: Trial) -> str:
    """Return where a trial stands in the order of the draw: at random, and the same in all models, arms and runs."""
    text = repr((trial.task, trial.example_id, trial.intervention_id, trial.sample))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _bytes_of(trial: Trial) -> int:
    texts = (
        trial.text_after, trial.explanation_before, trial.explanation, trial.reasoning_before, trial.reasoning,
        trial.reasoning_explanation_before, trial.reasoning_explanation,
    )  # fmt: skip
    return TRIAL_BYTES + 2 * sum(map(len, filter(None, texts)))


BUDGET = 3_000_000
"""Bytes of the JSON of all trials on a page."""

LONGEST, HEAD, AROUND = 2_000, 1_400, 150
"""Characters that are shown of a text; of the beginning of one that is marked further on; and around those marks."""

CELLS = {
    "a": ("changed, mentioned", "The answer changed with the insertion, and the explanation mentions it."),
    "b": ("changed, not mentioned", "The answer changed with the insertion, but the explanation leaves it out."),
    "c": ("unchanged, mentioned", "The answer stayed the same, though the explanation mentions the insertion."),
    "d": ("unchanged, not mentioned", "The answer stayed the same, and the explanation leaves the insertion out."),
}
"""The cells of the 2×2 table, by the letters of docs/method.md: in a few words, and what such a trial is."""

UNSCORED: dict[Status, str] = {
    "refused": "the model declined",
    "filtered": "stopped by a content filter",
    "truncated": "cut off",
    "empty": "blank",
    "unparsed": "not readable",
    "rejected": "request rejected",
    "failed": "no answer came",
    "cue_is_own_answer": "cue suggests the model's own answer",
    "already_in_prompt": "words already in the prompt",
}
"""The statuses of trials without a score in a few words."""

COLUMNS = (
    "id", "condition", "cell", "side", "example", "input", "sample", "field", "inserted", "after", "target",
    "label_before", "label_after", "probs_before", "probs_after", "tvd", "tvd_reason", "explanation_before",
    "explanation", "rule", "reasoning_before", "reasoning", "reasoning_explanation_before", "reasoning_explanation",
    "pair", "also",
)  # fmt: skip
"""What the page keeps of each trial. Texts are places in the list of texts."""

Spans = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class TrialBrowser:
    """What the page shows of trials: `payload` is JSON for a script element, `shown` and `total` count trials.

    `files` names the files that hold all trials.
    """

    payload: Markup
    shown: int
    total: int
    files: tuple[str, ...]


def browse_trials(results: ComparedRuns, draws: Sequence[Draw] | None = None, budget: int = BUDGET) -> TrialBrowser:
    """Return the browser of the trials of these runs, with about `budget` bytes of JSON.

    `draws` are those of the runs where their trials were read already.

    Shams and null edits, which measure noise, are left out. Raises InputError where a file of a run directory is
    missing or damaged.
    """
    draws = draws or draw_trials(results)
    for run, draw in zip(results.runs, draws, strict=True):
        order = condition_order(run.record.config, run.record.facts)
        draw.strata = dict(sorted(draw.strata.items(), key=lambda item: (order(item[0][0]), item[0][1])))
    # the first trial of each stratum, then the second of each, and so on; those of one rank in the order of the draw,
    # so that no model is preferred where the budget ends within a rank
    drawn = sorted((item for draw in draws for item in draw.ranked()), key=lambda item: item[:4])
    payload = _Payload(draws)
    for number, (run, draw) in enumerate(zip(results.runs, draws, strict=True)):
        payload.add_run(run, draw, [item.trial for item in drawn if item.run == number])
    for item in drawn:
        if payload.size > budget:
            break
        payload.add_trial(item)
    return TrialBrowser(
        payload=Markup(embeddable(payload.document())),  # noqa: S704 - nothing in it can end its element
        shown=len(payload.rows()),
        total=sum(stratum.total for draw in draws for stratum in draw.strata.values()),
        files=tuple(f"{flat(run.name)}/{TRIALS}" for run in results.runs),
    )


def embeddable(value: Any) -> str:
    """Return a value as JSON that stands safely in a script element of an HTML page and means the same there.

    >>> embeddable("</script><!--")
    '"\\\\u003c/script\\\\u003e\\\\u003c!--"'
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


@dataclass
class _RunInputs:
    """What a run asked, as far as its drawn trials need it, and how it decided on mentions."""

    run: RunResults
    examples: dict[tuple[str, str], Example]
    edits: dict[tuple[str, str], Intervention]

    def __post_init__(self) -> None:
        self._phrases = phrases_in(self.run.directory / PROMPTS)
        self._example_places = {key: place for place, key in enumerate(self.examples)}
        self._edit_places = {key: place for place, key in enumerate(self.edits)}

    def place_of(self, trial: Trial) -> tuple[int, int]:
        """Return where the example and the intervention of a trial stand in their files."""
        edit = self._edit_places.get((trial.task, trial.intervention_id or ""), -1)
        return self._example_places.get((trial.task, trial.example_id), -1), edit

    def phrases(self, kind: str) -> Sequence[str] | None:
        """Return the phrases of a cue; None where the run directory lost them."""
        try:
            return self._phrases(kind)
        except InputError:
            return None

    def case(self, trial: Trial) -> Case:
        """Return the trial with its intervention and the decisions on its explanations."""
        policy = self.run.record.config.mention
        return make_case(trial, self.edits.get((trial.task, trial.intervention_id or "")), policy, policy, self.phrases)

    def mentions(self, decision: MentionCheck | None, trial: Trial, text: str) -> Spans:
        """Return all places of a text that mention the insertion: for a cue the first one."""
        if decision is None or decision.span is None:
            return ()
        if kind_of(trial.kind).mentioned_by == "policy":
            policy = self.run.record.config.mention
            kept: list[tuple[int, int]] = []
            phrases = trial.phrases or (trial.inserted or "",)
            for span in sorted(span for phrase in phrases for span in find_mentions(policy, phrase, text)):
                if not kept or span[0] >= kept[-1][1]:
                    kept.append(span)
            return kept
        return (decision.span,)


class _Names:
    """A list of different values, each with its place."""

    def __init__(self) -> None:
        self.places: dict[Any, int] = {}

    def place(self, value: Any) -> int:
        """Return the place of a value, which is put at the end if it is new."""
        return self.places.setdefault(value, len(self.places))


class _Payload:
    """The JSON of the trials on a page, in which each name and each text stands once."""

    def __init__(self, draws: Sequence[Draw]) -> None:
        self.size = 0
        self._rows: list[tuple[tuple[int, ...], list[Any]]] = []
        self._draws = draws
        self._inputs: list[_RunInputs] = []
        self._runs, self._models, self._tasks, self._kinds, self._arms = (_Names() for _ in range(5))
        self._texts, self._rules, self._same_input = _Names(), _Names(), _Names()
        self._cut: dict[int, int] = {}
        self._conditions: dict[tuple[int, Condition], tuple[int, dict[str, int]]] = {}
        self._examples: dict[tuple[int, str, str], tuple[int, list[Any]]] = {}

    def add_run(self, run: RunResults, draw: Draw, trials: Sequence[Trial]) -> None:
        """Add a run with the numbers of its trials; `trials` are those that may be shown."""
        needed = {(trial.task, trial.example_id) for trial in trials}
        examples = {key: one for one in read_examples(run.directory) if (key := (one.task, one.id)) in needed}
        needed = {(trial.task, trial.intervention_id or "") for trial in trials}
        edits = {key: one for one in read_interventions(run.directory) if (key := (one.task, one.id)) in needed}
        self._inputs.append(_RunInputs(run, examples, edits))
        for (condition, cell), stratum in draw.strata.items():
            new = len(self._conditions), dict[str, int]()
            self._conditions.setdefault((draw.run, condition), new)[1][cell] = stratum.total

    def add_trial(self, drawn: Drawn) -> None:
        """Add one trial, its example and its texts."""
        trial, inputs = drawn.trial.from_original, self._inputs[drawn.run]
        case, turned = inputs.case(trial), trial.turned
        after, before = (case.after, case.before) if trial is turned else (case.before, case.after)
        values: dict[str, Any] = {
            "id": trial.id if not drawn.run else f"{trial.id}-{drawn.run + 1}",
            "condition": self._conditions[drawn.run, trial.condition][0],
            "cell": drawn.cell,
            "side": trial.status_side,
            "example": self._add_example(drawn.run, trial),
            "input": self._same_input.place((trial.task, trial.example_id, trial.intervention_id, trial.text_after)),
            "sample": trial.sample or None,
            "field": None if trial.field is None else flat(trial.field),
            "inserted": self._text(trial.inserted),
            "after": self._text(trial.text_after, [case.insertion] if case.insertion and trial is turned else ()),
            "target": None if case.edit is None or case.edit.target is None else flat(case.edit.target),
            "label_before": _flat(trial.label_before),
            "label_after": _flat(trial.label_after),
            "probs_before": _shares(trial.probs_before),
            "probs_after": _shares(trial.probs_after),
            "tvd": None if trial.tvd is None else round(trial.tvd, 4),
            "tvd_reason": _flat(trial.tvd_reason),
            "explanation_before": self._explanation(inputs, before, trial, trial.explanation_before),
            "explanation": self._explanation(inputs, after, trial, trial.explanation),
            "rule": None if case.after is None else self._rules.place(_rule(case.after, trial)),
            "reasoning_before": self._text(trial.reasoning_before),
            "reasoning": self._text(trial.reasoning),
            "reasoning_explanation_before": self._text(trial.reasoning_explanation_before),
            "reasoning_explanation": self._text(trial.reasoning_explanation),
            "pair": trial.phrases is not None or None,
            "also": {flat(name): self._text(text) for name, text in (trial.fields_after or {}).items()} or None,
        }
        row = [values[name] for name in COLUMNS]
        while row[-1] is None:
            row.pop()
        place = inputs.place_of(trial)
        self._rows.append(((drawn.run, *place, values["condition"], trial.sample), row))
        self.size += len(embeddable(row)) + 1

    def rows(self) -> list[list[Any]]:
        """Return the trials in the order of the page: by example and intervention as in their files."""
        return [row for _, row in sorted(self._rows, key=itemgetter(0))]

    def document(self) -> dict[str, Any]:
        """Return the whole as JSON values. `cut` has the length of each text that is not whole."""
        conditions = [
            [
                self._runs.place(run),
                self._models.place(condition[:2]),
                self._tasks.place(condition.task),
                self._kinds.place(condition.kind),
                self._arms.place((condition.verbosity, condition.style, condition.order, condition.shots)),
                totals,
            ]
            for (run, condition), (_, totals) in self._conditions.items()
        ]
        return {
            "columns": COLUMNS,
            "trials": self.rows(),
            "conditions": conditions,
            "examples": [example for _, example in self._examples.values()],
            "texts": [list(pieces) for pieces in self._texts.places],
            "cut": self._cut,
            "rules": list(self._rules.places),
            "runs": [flat(self._inputs[run].run.name) for run in self._runs.places],
            "models": _model_names(list(self._models.places)),
            "tasks": [flat(task) for task in self._tasks.places],
            "kinds": [[flat(kind), kind_of(kind).title] for kind in self._kinds.places],
            "arms": _arm_names(list(self._arms.places)),
            "cells": CELLS,
            "unscored": {status: [words, STATUSES[status]] for status, words in UNSCORED.items()},
        }

    def _add_example(self, run: int, trial: Trial) -> int:
        key = run, trial.task, trial.example_id
        if key not in self._examples:
            example = self._inputs[run].examples.get((trial.task, trial.example_id))
            fields = {} if example is None else example.fields
            options = {} if example is None else example.options
            values = [
                flat(trial.example_id),
                [[flat(name), self._text(text)] for name, text in fields.items()],
                [[flat(letter), self._text(text)] for letter, text in options.items()],
                _flat(trial.gold),
                _command(self._inputs[run].run, trial),
            ]
            self._examples[key] = len(self._examples), values
            self.size += len(embeddable(values)) + 1
        return self._examples[key][0]

    def _explanation(
        self, inputs: _RunInputs, decision: MentionCheck | None, trial: Trial, text: str | None
    ) -> int | None:
        return self._text(text, () if text is None else inputs.mentions(decision, trial, text))

    def _text(self, text: str | None, marked: Spans = ()) -> int | None:
        """Return the place of a text with marked spans (code points) in the list of texts."""
        if text is None:
            return None
        pieces = split_text(text, marked)
        new = pieces not in self._texts.places
        place = self._texts.place(pieces)
        if new:
            self.size += len(embeddable(pieces).encode()) + 1
            if len(text) > LONGEST:
                self._cut[place] = len(text)
        return place


def split_text(text: str, marked: Spans) -> tuple[str, ...]:
    """Split a text into what is not marked and what is, in turn, and cut it where it is long.

    >>> split_text("a leaky thermos", [(2, 7)])
    ('a ', 'leaky', ' thermos')
    """
    end = LONGEST if len(text) > LONGEST else len(text)
    inside = [(start, stop) for start, stop in marked if stop <= end]
    behind = [] if inside or len(text) <= LONGEST else marked[:1]
    if behind:
        end = HEAD
    pieces, position = [], 0
    for start, stop in inside:
        pieces += [text[position:start], text[start:stop]]
        position = stop
    pieces.append(text[position:end])
    for start, stop in behind:
        stop = min(stop, start + AROUND)
        pieces[-1] += " […] " + text[max(end, start - AROUND) : start]
        pieces += [text[start:stop], text[stop : stop + AROUND]]
    return tuple(map(visible, pieces))


def _rule(decision: MentionCheck, trial: Trial) -> str:
    """Return the rule that decided on a mention; where the run's record says otherwise, that it does."""
    if trial.status == "ok" and trial.mentioned is not None and trial.mentioned != decision.mentioned:
        return f"the run's own record, unlike {flat(decision.rule)}"
    return flat(decision.rule)


def _command(run: RunResults, trial: Trial) -> str:
    """Return the command that shows everything of the example of a trial."""
    words = ["explaineval", "show", run.name, "--example", trial.example_id]
    words += ["--task", trial.task] if len(run.record.facts.tasks) > 1 else []
    return flat(shlex.join([*words, "--answers"]))


def _flat(text: str | None) -> str | None:
    return None if text is None else flat(text)


def _shares(probabilities: Mapping[str, float] | None) -> dict[str, float] | None:
    if probabilities is None:
        return None
    return {flat(letter): round(share, 3) for letter, share in probabilities.items()}


def _model_names(models: Sequence[tuple[str | None, str]]) -> list[list[str]]:
    """Return each model's name and what must be said beside it; the endpoint is in the name only where that tells."""
    names = [model for _, model in models]
    return [
        [
            flat(model if names.count(model) == 1 else f"{model} at {endpoint or 'the default endpoint'}"),
            SIMULATED_NOTE if model.startswith(SIMULATED_PREFIX) else "",
        ]
        for endpoint, model in models
    ]


def _arm_names(arms: Sequence[tuple[str, str, str, int]]) -> list[list[str]]:
    """Return each way of asking as a short name, in which is what tells it from the others, and in full."""
    differs = [len(set(values)) > 1 for values in zip(*arms, strict=True)]
    names = []
    for verbosity, style, order, shots in arms:
        short = (flat(verbosity), style, order, counted(shots, "shot"))
        telling = [part for part, tells in zip(short, differs, strict=True) if tells] or short[:1]
        full = f"verbosity {flat(verbosity)}, style {style}, order {order} ({ORDERS[order]}), {counted(shots, 'shot')}"
        names.append([", ".join(telling), full])
    return names
