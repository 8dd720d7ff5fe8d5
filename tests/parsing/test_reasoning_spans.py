"""Spans of reasoning are found, masked and cut out without moving what stands around them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explaineval.parsing import leading_reasoning
from explaineval.parsing.text import cut_out, find_reasoning, make_view, mask

PIECES = ["<think>", "</think>", "a", " ", "\n", "[THINK]", "[/THINK]", "<|channel|>final<|message|>", "B"]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a<think>b</think>c", "ac"), ("b</think>c", "c"), ("a<think>b", "a"), ("a<think>b<think>c</think>d", "ad"),
        ("<think>a</think>b</think>c", "c"), ("a<THINKING>b</THINKING>c", "ac"), ("a <thinker>b", "a <thinker>b"),
        ("abc", "abc"), ("a[reflection]b", "a[reflection]b"), ("<seed:think>a</seed:think>b", "b"),
        ("[THINK]a[/THINK]b", "b"),
        ("◁think▷a◁/think▷b", "b"),
    ],
)  # fmt: skip
def test_what_is_left(text: str, left: str) -> None:
    """What lies between the tags is reasoning, and with one tag missing what lies on its side."""
    assert left == cut_out(text, 0, len(text), find_reasoning(text))


@given(text=st.lists(st.sampled_from(PIECES), max_size=15).map("".join), data=st.data())
def test_spans_mask_and_cut_agree(text: str, data: st.DataObject) -> None:
    """Spans are ordered and disjoint; a mask keeps the length; a cut keeps what is outside, sign by sign."""
    spans = find_reasoning(text)
    masked = mask(text, spans)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    inside = {place for low, high in spans for place in range(low, high)}

    assert all(low < high for low, high in spans)
    assert all(left[1] <= right[0] for left, right in pairwise(spans))
    assert len(text) == len(masked)
    assert all(sign == ("\n" if place in inside else text[place]) for place, sign in enumerate(masked))
    assert "".join(text[i] for i in range(start, end) if i not in inside) == cut_out(text, start, end, spans)


@pytest.mark.parametrize(
    ("text", "reasoning"),
    [
        ("<think>\nIt rains.\n</think>\nAnswer: A", "It rains."),
        ("  \n<Thinking>It rains.</Thinking>Answer: A", "It rains."),
        ("It rains.</think>Answer: A", "It rains."),
        ("<think>It rai", "It rai"),
        ("<think>It rains.</think>\n<think>So A.</think>Answer: A", "It rains.\n\nSo A."),
        ("[THINK]It rains.[/THINK]Answer: A", "It rains."),
        ("<|begin_of_thought|>It rains.<|end_of_thought|>Answer: A", "It rains."),
        ("<|im_start|>assistant\n<think>It rains.</think>Answer: A<|im_end|>", "It rains."),
        ("<think>The sign <|im_end|> ends it.</think>Answer: A", "The sign <|im_end|> ends it."),
        (
            "<|channel|>analysis<|message|>It rains.<|end|><|start|>assistant<|channel|>final<|message|>Answer: A",
            "It rains.",
        ),
        ("So A.\n<|channel|>final<|message|>Answer: A<|channel|>final<|message|>Answer: B", "So A.\n\nAnswer: A"),
        ("<think>\n<|channel|>final<|message|>A<|channel|>final<|message|>B", "A"),
        ("<|channel|>analysis<|message|>final thoughts: A<|end|><|channel|>final<|message|>A", "final thoughts: A"),
    ],
)
def test_leading_reasoning_is_read_without_its_tags(text: str, reasoning: str) -> None:
    """Closed, cut off, opened in the prompt, in several blocks, or in a channel of its own."""
    assert reasoning == leading_reasoning(text)


@pytest.mark.parametrize(
    "text",
    ["", "Answer: A", "Answer: A <think>It rains.</think>", "Well. <think>It rains.</think>Answer: A",
     "<think>\n\n</think>Answer: A", "<think>", "a <thinker> b"],
)  # fmt: skip
def test_reasoning_that_does_not_lead_is_not_read(text: str) -> None:
    """After the model's first words, or blank, or not there at all."""
    assert leading_reasoning(text) is None


@given(text=st.lists(st.sampled_from(PIECES), max_size=15).map("".join))
def test_leading_reasoning_is_no_part_of_what_is_read(text: str) -> None:
    """Each of its paragraphs lies in a span that is masked; before its end no other word stands."""
    reasoning = leading_reasoning(text)
    holes = make_view(text).excluded
    first = next(iter(make_view(text).text.split()), None)

    paragraphs = (reasoning or "").split("\n\n")
    plain = [paragraph for paragraph in paragraphs if paragraph and "<" not in paragraph]  # tags inside are no text
    assert all(any(paragraph in text[start:end] for start, end in holes) for paragraph in plain)
    assert reasoning is None or first is None or text.index(paragraphs[0]) < text.rindex(first)
