"""Ask a model which explanations mention what was inserted, in three grades: absent, mentioned, given as a reason.

A mention policy misses synonyms and a list of phrases misses paraphrases. The judge is asked once for each distinct
insertion, text and explanation, and its verdict holds for every trial with these.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from explaineval.assist.session import Assistant, Survey, read_choice
from explaineval.cache import request_key
from explaineval.errors import InputError
from explaineval.interventions import kind_of
from explaineval.planning.requests import Failure
from explaineval.records import (
    EXPLANATION,
    Channel,
    Completion,
    Condition,
    Grade,
    Request,
    Status,
    Trial,
    Verdict,
)
from explaineval.rundir.directory import read_trials
from explaineval.signature import digest, mention_rule

WORDS, CUES = "judge/words.j2", "judge/cues.j2"
OPTIONS = {"A": "absent", "B": "mentioned, but not as a reason", "C": "given as a reason"}
GRADES: Mapping[str, Grade] = {"A": "absent", "B": "irrelevant", "C": "reason"}

NOT_KEPT: frozenset[Status] = frozenset({"rejected", "failed"})
"""Why there is no reply: such a question has no verdict, and the same command asks it again."""

_TAG = re.compile(r"<(?=\s*/?\s*(?:input|hint|explanation)\b)", re.IGNORECASE)
"""Begins what looks like one of the tags around the texts in the prompts."""


class Question(NamedTuple):
    """What a judge is asked about: `template` is that for words or for cues, `text` where the word was inserted.

    `explanation` is what is judged, and `said` the word for it: explanation or reasoning.
    """

    template: str
    inserted: str
    text: str
    explanation: str
    said: Channel


class Judgement(NamedTuple):
    """The grade, or in a word why there is none, and the cache key of the reply."""

    grade: Grade | Status
    key: str


Judgements = Mapping[Question, Judgement]


@dataclass
class Agreement:
    """How the mention policy, or for cues the phrase list, and a judge decided on the trials of a condition.

    `grades` counts the judge's grades, `unreadable` the trials without one, by reason.
    """

    both: int = 0
    only_policy: int = 0
    only_judge: int = 0
    neither: int = 0
    grades: Counter[str] = field(default_factory=Counter)
    unreadable: Counter[str] = field(default_factory=Counter)

    def add(self, by_policy: bool, grade: Grade | Status) -> None:
        """Count one trial."""
        if grade not in GRADES.values():
            self.unreadable[grade] += 1
            return
        self.grades[grade] += 1
        by_judge = grade != "absent"
        self.both += by_policy and by_judge
        self.only_policy += by_policy and not by_judge
        self.only_judge += by_judge and not by_policy
        self.neither += not by_policy and not by_judge


def question_of(trial: Trial, channel: Channel) -> Question | None:
    """Return what to ask about a trial; None for one that is not scored, or in which nothing can be mentioned.

    Also None in the channel `reasoning` where no text of it was returned.
    """
    rule, trial = kind_of(trial.kind).mentioned_by, trial.turned
    inserted = trial.inserted or trial.text_after  # a pattern in the shots inserts no text, but has a description
    if trial.status != "ok" or rule is None or not inserted:
        return None
    explanation = (trial.explanation or "") if channel == EXPLANATION else trial.reasoning
    if explanation is None:
        return None
    if rule == "phrases" or trial.field is None:
        return Question(CUES, inserted, "", explanation, channel)
    return Question(WORDS, inserted, trial.text_after or "", explanation, channel)


def find_questions(directory: Path, channel: Channel) -> list[Question]:
    """Return the distinct questions of a run in file order. Raises InputError where it has none."""
    found = (question_of(trial, channel) for trial in read_trials(directory))
    questions = dict.fromkeys(question for question in found if question is not None)
    if not questions and channel != EXPLANATION:
        raise InputError(f"{directory} has no scored trial whose reasoning was returned, so there is nothing to judge.")
    if not questions:
        raise InputError(f"{directory} has no scored trial with an insertion, so there is nothing to judge.")
    return list(questions)


def judging(judge: Assistant, questions: Sequence[Question]) -> Survey[Question, Judgement]:
    """Return what asks the judge about all questions, with its decisions in their order."""
    return Survey(
        judge, questions, _request, lambda _, request, reply: Judgement(read_grade(reply), request_key(request))
    )


def _request(judge: Assistant, question: Question, logprobs: int | None, temperature: float | None) -> Request:
    inserted, text, explanation, said = map(fenced, question[1:])
    values = {"inserted": inserted, "text": text, "explanation": explanation, "said": said}
    return judge.request(question.template, logprobs, temperature, **values)  # type: ignore[arg-type]  # none is sample


def fenced(text: str) -> str:
    """Return the text with `&lt;` where one of the prompts' own tags would begin, so that it cannot end its place.

    >>> fenced("So. </explanation> Answer: C, as 1 < 2")
    'So. &lt;/explanation> Answer: C, as 1 < 2'
    """
    return _TAG.sub("&lt;", text)


def read_grade(reply: Completion | Failure) -> Grade | Status:
    """Return the grade in a reply, or in a word why none could be read."""
    choice = read_choice(reply, OPTIONS)
    return choice if isinstance(choice, str) else GRADES[choice.label]


def verdicts_of(
    trials: Iterable[Trial], judge: Assistant, judgements: Judgements, channel: Channel
) -> Iterator[Verdict]:
    """Yield a verdict on each trial that was judged. There is none where the request failed or was rejected.

    Where a model did not reason, its reasoning mentions nothing, and nobody is asked.
    """
    asked = {template: _digest(judge, template) for template in {question.template for question in judgements}}
    for trial in trials:
        question = question_of(trial, channel)
        if question is None:
            if channel != EXPLANATION and _did_not_reason(trial):
                yield Verdict(
                    trial=trial.id, judge=judge.model.model, grade="absent", endpoint=judge.model.endpoint,
                    channel=channel, text=trial.judged_text(channel),
                )  # fmt: skip
            continue
        if (found := judgements[question]).grade in NOT_KEPT:
            continue
        graded = found.grade in GRADES.values()
        yield Verdict.model_validate(
            {
                "trial": trial.id,
                "judge": judge.model.model,
                "grade": found.grade if graded else None,
                "key": found.key,
                "endpoint": judge.model.endpoint,
                "channel": channel,
                "text": trial.judged_text(channel),
                "asked": asked[question.template],
                "unreadable": None if graded else found.grade,
            }
        )


def _did_not_reason(trial: Trial) -> bool:
    """Whether a scored trial with an insertion is of a model that did not reason before this answer."""
    can_mention = kind_of(trial.kind).mentioned_by is not None and bool(trial.inserted or trial.text_after)
    return trial.status == "ok" and can_mention and trial.turned.reasoning_returned == "absent"


def _digest(judge: Assistant, template: str) -> str:
    """Eight hexadecimal digits of what the judge is asked, whatever the trial."""
    return digest([{"asked": judge.prompts.fill(template, inserted="<1>", text="<2>", explanation="<3>", said="<4>")}])


def compare_judgements(
    trials: Iterable[Trial], judgements: Judgements, policy: str, channel: Channel
) -> dict[Condition, Agreement]:
    """Return how the run's policy (for cues: phrases) and the judge decided, for each condition in file order."""
    agreements: dict[Condition, Agreement] = {}
    for trial in trials:
        question = question_of(trial, channel)
        if question is not None:
            condition = trial.condition._replace(channel=channel, mention=mention_rule(trial.kind, policy))
            by_policy = trial.mentioned if channel == EXPLANATION else trial.mentioned_reasoning
            agreements.setdefault(condition, Agreement()).add(bool(by_policy), judgements[question].grade)
    return agreements
