"""Ask a model about the trials of a run: which explanations mention an insertion, or what another model would answer.

A judge grades mentions as absent, mentioned or given as a reason: a mention policy misses synonyms, and a list of
phrases misses paraphrases. It is asked once for each distinct insertion, text and explanation, and its verdict holds
for every trial with these.

A predictor shows whether explanations let a reader predict the model (simulatability). Of every scored trial it sees
the original question and the answer to it, and predicts the answer to the changed question. It is asked up to three
times: without an explanation, with the model's explanation of its first answer, and as a control with an explanation
that the model gave of the same answer to another example of the task.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NamedTuple

from explaineval.assist.session import Assistant, Survey, read_choice
from explaineval.cache import request_key
from explaineval.errors import InputError
from explaineval.interventions import kind_of
from explaineval.planning.requests import Failure
from explaineval.prompts import CUE_PLACE, PromptBook
from explaineval.records import (
    EXPLANATION,
    Channel,
    Completion,
    Condition,
    Example,
    Grade,
    Request,
    Status,
    Trial,
    Verdict,
)
from explaineval.rundir import directory as run_directory
from explaineval.rundir.directory import read_trials
from explaineval.rundir.schema import Prediction, Reads
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


def judge_questions(directory: Path, channel: Channel) -> list[Question]:
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
        judge, questions, _judge_request, lambda _, request, reply: Judgement(read_grade(reply), request_key(request))
    )


def _judge_request(judge: Assistant, question: Question, logprobs: int | None, temperature: float | None) -> Request:
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


TEMPLATE = "simulate.j2"


class PredictionQuestion(NamedTuple):
    """One prediction to be made: of which trial, and what the predictor is shown."""

    trial: str
    text: str
    reads: Reads
    question: str
    answer: str
    changed: str
    options: Mapping[str, str]
    explanation: str = ""
    source: str | None = None


@dataclass(frozen=True)
class Explained:
    """The answer to one original input, and its explanation."""

    example: str
    answer: str
    explanation: str


def prediction_questions(directory: Path, *, limit: int | None, shuffled: bool, seed: int) -> list[PredictionQuestion]:
    """Return the questions about the scored trials of a run, in file order, those about one trial together.

    Args:
        directory: a run directory that `score` takes.
        limit: how many examples of each task are taken, in file order; None for all.
        shuffled: whether the control is asked too; a trial has none where no other example has the same answer.
        seed: of the draws of other examples' explanations.

    Raises:
        InputError: the run has no scored trial of which a question can be made, or its files do not fit together.
    """
    record = run_directory.read_run(directory)
    book = PromptBook(directory / run_directory.PROMPTS)
    examples = {(example.task, example.id): example for example in run_directory.read_examples(directory)}
    taken = _first_examples(examples, limit)
    others = _explained(run_directory.read_trials(directory)) if shuffled else {}
    questions: list[PredictionQuestion] = []
    for trial in run_directory.read_trials(directory):
        if not is_predictable(trial) or (trial.task, trial.example_id) not in taken:
            continue
        example = examples.get((trial.task, trial.example_id))
        if example is None:
            raise InputError(f"{directory}: examples.jsonl lacks {trial.example_id!r} of {trial.task!r}.")
        facts = record.facts.tasks.get(trial.task)
        shape = None if facts is None else facts.shape
        questions += _questions_of(trial, example, book, shape, others, seed)
    if not questions:
        raise InputError(
            f"{directory} has no scored trial whose change a predictor can be shown, so there is nothing to predict."
        )
    return questions


def is_predictable(trial: Trial) -> bool:
    """Return whether a trial is scored and its changed question can be written down."""
    if trial.status != "ok" or kind_of(trial.kind).measures_noise or trial.explanation_before is None:
        return False
    return trial.text_after is not None if trial.field is not None else bool(trial.inserted)


def _first_examples(examples: Mapping[tuple[str, str], Example], limit: int | None) -> set[tuple[str, str]]:
    by_task: dict[str, list[tuple[str, str]]] = {}
    for key in examples:
        by_task.setdefault(key[0], []).append(key)
    return {key for keys in by_task.values() for key in keys[:limit]}


def _explained(trials: Iterable[Trial]) -> dict[tuple[Condition, str], list[Explained]]:
    """The explained answers of each arm by answer, one for each example and sample, in file order."""
    found: dict[tuple[Condition, str], dict[tuple[str, int], Explained]] = {}
    for trial in trials:
        if is_predictable(trial):
            answers = found.setdefault((trial.condition.arm, str(trial.label_before)), {})
            key = (trial.example_id, trial.sample)
            if key not in answers:
                answers[key] = Explained(trial.example_id, str(trial.label_before), str(trial.explanation_before))
    return {key: list(answers.values()) for key, answers in found.items()}


def _questions_of(
    trial: Trial,
    example: Example,
    book: PromptBook,
    shape: str | None,
    others: Mapping[tuple[Condition, str], Sequence[Explained]],
    seed: int,
) -> Iterator[PredictionQuestion]:
    instruction = book.instruction(example, shape)

    def show(fields: Mapping[str, str], cue: str | None = None) -> str:
        text = book.fill("input.j2", fields=fields, options=example.options)
        return f"{instruction}\n\n{text if cue is None else book.fill(CUE_PLACE, input=text, cue=cue)}"

    answer, original = str(trial.label_before), show({**example.fields, **trial.edits_before})
    changed = show({**example.fields, **trial.edits}, trial.inserted if trial.field is None else None)
    question = PredictionQuestion(trial.id, trial.predicted_text, "nothing", original, answer, changed, example.options)
    yield question
    yield question._replace(reads="explanation", explanation=str(trial.explanation_before))
    same_answer = others.get((trial.condition.arm, answer), ())
    foreign = [other for other in same_answer if other.example != trial.example_id]
    if foreign:
        # the same one for all interventions of an example, as its own explanation is
        draw = Random(f"{seed}:{trial.condition.arm_name}:{trial.example_id}:{trial.sample}:shuffled")  # noqa: S311 - repeats
        other = draw.choice(foreign)
        yield question._replace(reads="shuffled", explanation=other.explanation, source=other.example)


def predicting(predictor: Assistant, questions: Sequence[PredictionQuestion]) -> Survey[PredictionQuestion, Prediction]:
    """Return what asks the predictor all questions, with the predictions in their order."""
    asked = prompt_digest(predictor)

    def read(question: PredictionQuestion, request: Request, reply: Completion | Failure) -> Prediction:
        choice = read_choice(reply, question.options)
        return Prediction(
            trial=question.trial,
            predictor=predictor.model.model,
            endpoint=predictor.model.endpoint,
            reads=question.reads,
            label=None if isinstance(choice, str) else choice.label,
            status=choice if isinstance(choice, str) else None,
            asked=asked,
            source=question.source,
            key=request_key(request),
            text=question.text,
        )

    return Survey(predictor, questions, _prediction_request, read)


def _prediction_request(
    predictor: Assistant, question: PredictionQuestion, logprobs: int | None, temperature: float | None
) -> Request:
    shown = question._asdict()
    values = {name: shown[name] for name in ("question", "answer", "changed", "explanation")}
    return predictor.request(TEMPLATE, logprobs, temperature, options=list(question.options), **values)


def prompt_digest(predictor: Assistant) -> str:
    """Return eight hexadecimal digits that name what the predictor is asked, with and without an explanation."""
    values = {"question": "<question>", "answer": "A", "changed": "<changed>", "options": ["A", "B"]}
    texts = [predictor.prompts.fill(TEMPLATE, **values, explanation=text) for text in ("", "<explanation>")]
    return digest([{"asked": text} for text in texts])


def merge_predictions(old: Iterable[Prediction], new: Sequence[Prediction]) -> list[Prediction]:
    """Return the old predictions without those that the new ones replace, and then the new ones.

    Replaced are those of the same predictor that it was asked in other words, and the same predictions made again. A
    request that failed makes no prediction, so that it is asked again.
    """
    made = [prediction for prediction in new if prediction.status != "failed"]
    again = {_identity(prediction) for prediction in made}
    asked = {(prediction.predictor, prediction.endpoint): prediction.asked for prediction in made}
    kept = [
        prediction
        for prediction in old
        if _identity(prediction) not in again
        and asked.get((prediction.predictor, prediction.endpoint), prediction.asked) == prediction.asked
    ]
    return [*kept, *made]


def _identity(prediction: Prediction) -> tuple[str | None, ...]:
    return prediction.predictor, prediction.endpoint, prediction.trial, prediction.reads
