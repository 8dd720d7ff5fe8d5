"""Spans of reasoning are found, masked and cut out without moving what stands around them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explaineval.parsing.markers import cut_out, find_reasoning, mask

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
    assert all(one[1] <= two[0] for one, two in pairwise(spans))
    assert len(text) == len(masked)
    assert all(sign == ("\n" if place in inside else text[place]) for place, sign in enumerate(masked))
    assert "".join(text[i] for i in range(start, end) if i not in inside) == cut_out(text, start, end, spans)
