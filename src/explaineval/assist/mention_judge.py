"""Ask a model which explanations mention a cue: it finds the paraphrases that a list of phrases misses.

The judge is asked once for each distinct pair of a cue's text and an explanation. Its decision replaces the phrase
list's in a copy of the trials; no file of the run directory is changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from explaineval.assist.session import Assistant, SessionResult, run_session
from explaineval.client.endpoints.capabilities import Capabilities
from explaineval.errors import InputError
from explaineval.execution.model_run import Watch
from explaineval.interventions import kind_of
from explaineval.parsing import classify, parse_label
from explaineval.planning.replies import Dialogue, Failure
from explaineval.records import Completion, Condition, MetricRow, Request, Status, Trial, Unreadable
from explaineval.rundir.directory import read_run, read_trials
from explaineval.scoring.counts import count_trials
from explaineval.scoring.rows import Scores, score_counts
from explaineval.scoring.warnings import RowWarning
from explaineval.signature import PHRASES, digest

TEMPLATE = "mention_judge.j2"
VERDICTS = {"A": "yes", "B": "no"}

LEFT_OUT = frozenset({"mention_floor", "flip_to_cue_rate"})
"""The floor was judged by phrases only, and where answers went has nothing to do with mentions."""

Verdict = bool | Status
"""Whether the explanation mentions the cue, or in a word why there is no readable judgement."""


class Question(NamedTuple):
    """What the judge is asked about."""

    cue: str
    explanation: str


Verdicts = Mapping[Question, Verdict]


@dataclass
class Agreement:
    """How phrase list and judge decided on the trials of a condition; `unreadable` counts those without a judgement."""

    both: int = 0
    only_phrases: int = 0
    only_judge: int = 0
    neither: int = 0
    unreadable: Counter[str] = field(default_factory=Counter)

    def add(self, by_phrases: bool, verdict: Verdict) -> None:
        """Count one trial."""
        if isinstance(verdict, str):
            self.unreadable[verdict] += 1
        elif verdict:
            self.both += by_phrases
            self.only_judge += not by_phrases
        else:
            self.only_phrases += by_phrases
            self.neither += not by_phrases


def question_of(trial: Trial) -> Question | None:
    """What to ask about a trial; None for one that is not scored, or whose kind is no cue."""
    if trial.status != "ok" or kind_of(trial.kind).mentioned_by != "phrases":
        return None
    return Question(trial.inserted or trial.text_after or "", trial.explanation or "")


def find_questions(directory: Path) -> list[Question]:
    """The distinct questions of a run in file order. Raises InputError where it has none."""
    questions = dict.fromkeys(question for trial in read_trials(directory) if (question := question_of(trial)))
    if not questions:
        raise InputError(
            f"{directory} has no scored trial of a cue, so there is nothing to judge: "
            "build cues with `interventions build --kind cue_user`, and run them."
        )
    return list(questions)


def judge_mentions(judge: Assistant, questions: Sequence[Question], watch: Watch) -> SessionResult[Verdict]:
    """The judge's verdicts, in the order of the questions. Raises what `run_session` raises."""

    def request(question: Question, logprobs: int | None, temperature: float | None) -> Request:
        return judge.request(TEMPLATE, logprobs, temperature, **question._asdict())

    def ask(question: Question, capabilities: Capabilities) -> Dialogue[Verdict]:
        return read_verdict((yield request(question, None, capabilities.temperature)))

    starts = [partial(ask, question) for question in questions]
    return run_session(judge, starts, partial(request, questions[0]), logprobs=False, watch=watch)


def read_verdict(reply: Completion | Failure) -> Verdict:
    """Yes, no, or in a word why neither could be read."""
    if isinstance(reply, Failure):
        return reply.status
    unreadable = classify(reply)
    if unreadable is not None:
        return unreadable.status
    label = parse_label(reply.text or "", VERDICTS, "chat")
    return label.status if isinstance(label, Unreadable) else label.label == "A"


def compare_verdicts(trials: Iterable[Trial], verdicts: Verdicts) -> dict[Condition, Agreement]:
    """Phrase list against judge for each model, task, arm and kind, in the order of the trials."""
    agreements: dict[Condition, Agreement] = {}
    for trial in trials:
        question = question_of(trial)
        if question is not None:
            agreements.setdefault(trial.condition, Agreement()).add(bool(trial.mentioned), verdicts[question])
    return agreements


def apply_verdict(trial: Trial, verdicts: Verdicts) -> Trial:
    """The trial of a cue as if the judge alone had decided.

    Without a readable judgement its impact is known and its mention is not, so it counts as missing. Of a trial that
    was missing before, no explanation is left: the judge never saw it, and the phrase list is not to decide.
    """
    question = question_of(trial)
    if question is None:
        return trial.model_copy(update={"explanation": None})
    verdict = verdicts[question]
    if isinstance(verdict, bool):
        return trial.model_copy(update={"mentioned": verdict, "mentioned_before": None})
    return trial.model_copy(
        update={"status": verdict, "status_side": "after", "changed": None, "mentioned": None, "tvd": None}
    )


def score_judged(directory: Path, judge: Assistant, verdicts: Verdicts) -> Scores:
    """The numbers of all cues by the judge's decisions, each signed with the judge in place of the mention policy.

    The run directory must be one that `score` takes. LEFT_OUT says which numbers are not given.
    """
    run = read_run(directory)
    config = run.config
    trials = (
        trial if kind_of(trial.kind).inserts == "nothing" else apply_verdict(trial, verdicts)
        for trial in read_trials(directory)
        if _is_judged(trial.kind) or kind_of(trial.kind).inserts == "nothing"
    )
    counts = count_trials(
        trials, config.mention, by_level=len(config.arms.verbosity) > 1, by_sample=config.tvd_samples is not None
    )
    scores = score_counts(counts, config, run.facts)
    rows = [row for row in scores.rows if _is_judged(row.kind) and row.metric not in LEFT_OUT]
    name, part = judge.model.model, _signature_part(judge)
    warnings = tuple(
        RowWarning(_by_judge(row.condition, name), row.warning)
        for row in scores.warnings
        if _is_judged(row.condition.kind)
    )
    missing = {condition: by for condition, by in scores.missing.items() if _is_judged(condition.kind)}
    return Scores(tuple(_sign(row, name, part) for row in rows), warnings, missing)


def _is_judged(kind: str | None) -> bool:
    """Whether the judge decides about mentions of this kind, in the place of a list of phrases."""
    return kind is not None and kind_of(kind).mentioned_by == "phrases"


def _signature_part(judge: Assistant) -> str:
    """The judge as a part of signatures: its model and where it is, and what it is asked."""
    asked = digest([{"asked": judge.prompts.fill(TEMPLATE, cue="<cue>", explanation="<explanation>")}])
    at = f" at {judge.model.endpoint}" if judge.model.endpoint else ""
    return f"|judge:{judge.model.model}{at}@{asked}"


def _by_judge(condition: Condition, judge: str) -> Condition:
    """The condition of a row whose trials a model judged: mentions, where it depends on them, are the judge's."""
    return condition._replace(mention=None if condition.mention is None else "judge", judge=judge)


def _sign(row: MetricRow, judge: str, part: str) -> MetricRow:
    """The row with the judge in its columns, and `part` in its signature.

    Even a number without mentions rests on the trials that the judge could judge.
    """
    policy, version = f"|mention:{PHRASES}", "|explaineval:"
    old, new = (policy, part) if policy in row.signature else (version, part + version)
    columns = _by_judge(row.condition, judge)
    return row.model_copy(
        update={"mention": columns.mention, "judge": columns.judge, "signature": row.signature.replace(old, new)}
    )
