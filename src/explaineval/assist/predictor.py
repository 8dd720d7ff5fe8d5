"""Ask a model to predict another model's answers, with and without that model's explanations (simulatability).

Of every scored trial a predictor sees the original question and the answer to it, and predicts the answer to the
changed question. It is asked up to three times: without an explanation, with the model's explanation of its first
answer, and as a control with an explanation that the model gave of the same answer to another example of the task.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import NamedTuple

from explaineval.assist.session import Assistant, Survey, read_choice
from explaineval.cache import request_key
from explaineval.errors import InputError
from explaineval.interventions import kind_of
from explaineval.planning.requests import Failure
from explaineval.prompts import CUE_PLACE, PromptBook
from explaineval.records import Completion, Condition, Example, Request, Trial
from explaineval.rundir import directory as run_directory
from explaineval.rundir.schema import Prediction, Reads
from explaineval.signature import digest

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


def find_questions(directory: Path, *, limit: int | None, shuffled: bool, seed: int) -> list[PredictionQuestion]:
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

    return Survey(predictor, questions, _request, read)


def _request(
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
