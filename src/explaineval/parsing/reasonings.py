"""Reasoning written out before the answer, such as `<think>…</think>`: neither answer nor explanation."""

from __future__ import annotations

import re
from collections.abc import Iterable

_NAMES = "think|thinking|thought|thoughts|reasoning|analysis|scratchpad|reflection"
TAG = re.compile(  # in square brackets only names that no explanation uses as a word in brackets
    rf"(?i:<(?P<close>/?)(?:\w{{1,16}}:)?(?:{_NAMES})>|(?P<square>\[/?|◁/?)think(?:ing)?[\]▷]"
    r"|<\|(?P<edge>begin|end)_of_thought\|>)"
)
"""What opens or closes reasoning."""

_FINAL_CHANNEL = "<|channel|>final<|message|>"


def find_reasoning(text: str) -> list[tuple[int, int]]:
    """Spans of reasoning in `text`, ordered and disjoint.

    A closing tag without an opening one ends reasoning that began in the prompt, so all before it is
    reasoning; an opening tag without a closing one makes all after it reasoning.

    >>> find_reasoning("<think>A? No.</think>Answer: B")
    [(0, 21)]
    """
    spans: list[tuple[int, int]] = []
    opened: int | None = None
    channel = text.rfind(_FINAL_CHANNEL)
    if channel >= 0:
        spans.append((0, channel + len(_FINAL_CHANNEL)))
    for tag in TAG.finditer(text, spans[0][1] if spans else 0):
        if not closes(tag):
            opened = tag.start() if opened is None else opened
        elif opened is not None:
            spans.append((opened, tag.end()))
            opened = None
        else:
            spans = [(0, tag.end())]
    if opened is not None:
        spans.append((opened, len(text)))
    return spans


def closes(tag: re.Match[str]) -> bool:
    """True if a match of `TAG` closes reasoning."""
    return tag["edge"] == "end" or (tag["close"] or tag["square"] or "").endswith("/")


def mask(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """`text` with line ends in place of the spans: offsets stay, and a line may begin after a span."""
    pieces: list[str] = []
    position = 0
    for start, end in spans:
        pieces += [text[position:start], "\n" * (end - start)]
        position = end
    return "".join([*pieces, text[position:]])


def cut_out(text: str, start: int, end: int, spans: Iterable[tuple[int, int]]) -> str:
    """`text[start:end]` without what lies in the spans."""
    pieces: list[str] = []
    for low, high in spans:
        if low >= end:
            break
        if high > start:
            pieces.append(text[start : max(start, low)])
            start = min(end, high)
    return "".join([*pieces, text[start:end]])
