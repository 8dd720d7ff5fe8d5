"""Completions whose text cannot be scored have an outcome of their own."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explaineval.parsing import classify
from explaineval.records import Completion

TEXT = "Answer: B\nExplanation: It may be."


@pytest.mark.parametrize("finish_reason", ["stop", "STOP", "end_turn", "eos", "stop_sequence", "", None])
def test_complete_texts_are_read(finish_reason: str | None) -> None:
    """A text that ended by itself is to be read, whatever the provider calls that."""
    assert classify(Completion(text=TEXT, finish_reason=finish_reason)) is None


@pytest.mark.parametrize(
    ("finish_reason", "status"),
    [
        ("refusal", "refused"), ("content_filter", "filtered"), ("SAFETY", "filtered"), ("RECITATION", "filtered"),
        ("PROHIBITED_CONTENT", "filtered"), ("guardrail_intervened", "filtered"), ("length", "truncated"),
        ("max_tokens", "truncated"), ("MAX_TOKENS", "truncated"), ("model_context_window_exceeded", "truncated"),
    ],
)  # fmt: skip
def test_finish_reasons(finish_reason: str, status: str) -> None:
    """The finish reasons of the providers lead to their outcome, also where the text could be read."""
    outcome = classify(Completion(text=TEXT, finish_reason=finish_reason))

    assert outcome is not None
    assert status == outcome.status
    assert finish_reason.casefold() in outcome.reason


@pytest.mark.parametrize("text", [None, "", " \n\t", "\u00a0"])
def test_blank_texts_are_empty(text: str | None) -> None:
    """Null and blank content is an outcome of its own."""
    outcome = classify(Completion(text=text, finish_reason="stop"))

    assert outcome is not None
    assert outcome.status == "empty"


@pytest.mark.parametrize("finish_reason", ["stop", "length", "content_filter"])
def test_refusal_text_comes_first(finish_reason: str) -> None:
    """A refusal is a refusal whatever the finish reason, and its text is in the reason."""
    outcome = classify(Completion(text=None, refusal="I cannot\nhelp " + "x" * 500, finish_reason=finish_reason))

    assert outcome is not None
    assert outcome.status == "refused"
    assert "I cannot help" in outcome.reason
    assert len(outcome.reason) < 160


def test_blank_refusal_is_none() -> None:
    """Some servers send an empty refusal beside every answer."""
    assert classify(Completion(text=TEXT, refusal="", finish_reason="stop")) is None


def test_no_tokens_left_is_truncated() -> None:
    """A model that spent all its tokens on hidden reasoning is truncated, not empty."""
    outcome = classify(Completion(text="", finish_reason="length"))

    assert outcome is not None
    assert outcome.status == "truncated"


@given(text=st.none() | st.text(), finish_reason=st.none() | st.text(), refusal=st.none() | st.text())
def test_a_blank_text_is_never_read(text: str | None, finish_reason: str | None, refusal: str | None) -> None:
    """Whatever a server sends, only a text with a sign in it, and no refusal beside it, is to be read."""
    outcome = classify(Completion(text=text, finish_reason=finish_reason, refusal=refusal))

    if outcome is None:
        assert text is not None
        assert text.strip()
        assert not (refusal or "").strip()
    else:
        assert outcome.reason


@pytest.mark.parametrize("fault", ["oversized", "malformed"])
@pytest.mark.parametrize("text", [None, "", "Answer: B\nExplanation: It may rain.", '{"text": "Answer: B"}'])
@pytest.mark.parametrize("finish", ["stop", "length", None])
def test_an_answer_with_a_fault_is_unparsed_whatever_it_says(fault: Any, text: str | None, finish: str | None) -> None:
    """It was cut, or has not the form of an answer: kept, with the fault as the beginning of the reason."""
    outcome = classify(Completion(text=text, finish_reason=finish, fault=fault))

    assert outcome is not None
    assert (outcome.status, outcome.reason.partition(":")[0]) == ("unparsed", fault)


@pytest.mark.parametrize("hidden", [True, -3, "many", [1], 0, 2.5])
def test_a_count_that_is_none_is_not_shown(hidden: Any) -> None:
    """The reason names the tokens of reasoning only where they are a number of tokens."""
    usage = {"completion_tokens_details": {"reasoning_tokens": hidden}}
    outcome = classify(Completion(text=None, finish_reason="length", usage=usage))

    assert outcome is not None
    assert outcome.reason == "the token limit was used up before any text (finish reason length); raise --max-tokens"
