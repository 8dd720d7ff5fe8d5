"""What a reply repeats of its prompt is no answer, in every form; real answers beside such repetitions are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from explaineval.parsing import Label, parse, parse_explanation, parse_label
from explaineval.prompts import PromptBook, default_directory
from explaineval.records import Answer, Example, Unreadable

THEMES = ("prompt_repeated", "form_repeated", "objects", "sentences", "offers", "others", "marks", "replies")
CASES = {
    theme: json.loads((Path(__file__).parent / "cases" / f"{theme}.json").read_text(encoding="utf-8"))
    for theme in THEMES
}
TASKS = {
    "nli": (
        {"premise": "A man is walking down the street.", "hypothesis": "The man is outside."},
        {"A": "entailment", "B": "neutral", "C": "contradiction"},
    ),
    "qa": (
        {"question": "Where would you keep milk cold at home?"},
        {"A": "kitchen cabinet", "B": "refrigerator", "C": "a table", "D": "oven", "E": "mall"},
    ),
    "sense": (
        {
            "sentence1": "My aunt carried the hot soup to work in a thermos.",
            "sentence2": "My aunt carried the hot soup to work in a sock.",
        },
        {"A": "Sentence 1", "B": "Sentence 2"},
    ),
    "own": (
        {"review_text": "The batteries lasted two days.", "store": "Main Street"},
        {"A": "positive", "B": "negative"},
    ),
}
BOOK = PromptBook(default_directory())


def _said(task: str) -> tuple[str, ...]:
    """What the bundled prompts say beside the input, at all levels and in all orders of style chat."""
    fields, options = TASKS[task]
    example = Example(task=task, id="1", fields=fields, options=options)
    shape = None if task == "own" else task
    return tuple(
        dict.fromkeys(
            text
            for order in ("pe", "pe2", "ep")
            for level in BOOK.levels()
            for text in BOOK.said(example, style="chat", order=order, shape=shape, verbosity=level)
        )
    )


SAID = {task: _said(task) for task in TASKS}


def _cases() -> list[Any]:
    return [pytest.param(case, id=case["name"]) for theme in THEMES for case in CASES[theme]]


def _read(case: dict[str, Any], fields: Any) -> Any:
    options, said = TASKS[case["task"]][1], SAID[case["task"]]
    if case["call"] == "label":
        return parse_label(case["text"], options, case["style"], fields=fields, said=said)
    if case["call"] == "explanation":
        return parse_explanation(case["text"], case["given"], options, case["style"], fields=fields, said=said)
    return parse(case["text"], options, case["order"], case["style"], fields=fields, said=said)


@pytest.mark.sampled(800)
@pytest.mark.parametrize("names_only", [False, True], ids=["texts", "names"])
@pytest.mark.parametrize("case", _cases())
def test_case(case: dict[str, Any], names_only: bool) -> None:
    """Each case is read, or left unread, as it says, whether the fields' texts are known or their names alone."""
    fields = TASKS[case["task"]][0]
    result = _read(case, tuple(fields) if names_only else fields)

    if "unparsed" in case:
        assert isinstance(result, Unreadable), result
        assert result.status == "unparsed"
        assert case["unparsed"] in result.reason
    elif case["call"] == "explanation":
        assert case["explanation"] == result
    elif case["call"] == "label":
        assert isinstance(result, Label), result
        assert case["label"] == result.label
    else:
        assert isinstance(result, Answer), result
        assert (case["label"], case["explanation"]) == (result.label, result.explanation)


@pytest.mark.parametrize("theme", THEMES)
def test_cases_are_many_and_of_both_kinds(theme: str) -> None:
    """Each theme has at least 25 replies that are no answer and as many beside them that are."""
    unread = sum("unparsed" in case for case in CASES[theme])

    assert min(unread, len(CASES[theme]) - unread) >= 25
    assert len({case["name"] for case in CASES[theme]}) == len(CASES[theme])
