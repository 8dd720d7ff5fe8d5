"""Views show a text as a reader sees it, without moving anything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explaineval.parsing.letters import LETTER_SIGNS
from explaineval.parsing.text import make_view

PIECES = [
    "<b>", "</b>", "<p>", "</p>", "<br/>", "<answer>", "</answer>", "<B>", "x", " ", "\n", "\r", "\u200b", '"',
    "<think>", "<|im_end|>", "<|im_start|>assistant", "</s>", "🇧", "\nUser: ",
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\u200bb", "a b"), ("\ufeffa\u200f", " a "), ("a\r\nb\rc", "a\r\nb\nc"), ("a\u2028b\x0bc", "a\nb\nc"),
        ("<b>a</b>", "   a    "), ("<b>a", "<b>a"), ("<B>", "<B>"), ("<A>a</A>", "<A>a</A>"), ("<B>a</B>", "<B>a</B>"),
        ("a<br>b", "a\n   b"),
        ("<p>a</p>", "\n  a\n   "), ('<span class="x">a</span>', " " * 16 + "a" + " " * 7),
        ("<answer>B</answer>", "\nanswer:B\n        "), ("<answer>", "<answer>"),
        ("<answer id>B</answer>", "<answer id>B\n        "),
        ("<explanation>It", "\nexplanation:It"), ("an <explanation>It", "an <explanation>It"),
        ("<final_answer>B</final_answer>", "\nfinal answer:B" + "\n" + " " * 14),
        ("<answer id='1'>B</answer>", "\nanswer:       B\n        "), ("a < b > c", "a < b > c"),
        ('"a"', " a "), ('"a" and "b"', '"a" and "b"'), ('"a', '"a'), ('"', '"'), ("“a”", " a "), ("„a“", " a "),
        ("«a» «b»", "«a» «b»"), ("<think>a</think>b", "\n" * 16 + "b"),
        ("a<unknown>b</unknown>", "a<unknown>b</unknown>"), ("🇧 or 🅱", "B or B"), ("a<|end|>b", "a" + "\n" * 8),
        ("<s>a</s>", "\n\n\na" + "\n" * 4), ("a <s>b</s>", "a    b    "),
    ],
)  # fmt: skip
def test_what_is_shown(text: str, shown: str) -> None:
    """What nobody sees is blank, and a text without such signs is as it was."""
    assert shown == make_view(text).text


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("<p>a</p>", "a"), ("<p><b>a</b> b</p>", "<b>a</b> b"), ("a <em>b</em>", "a <em>b</em>"),
        ("\u200ba\u200db\u200b", "a\u200db"),
        ("a</b> <b>b", "a</b> <b>b"), ("<b> </b>", ""), ("\u200b", ""), ("a<think>b</think>c", "ac"), ("a<br>", "a"),
    ],
)  # fmt: skip
def test_what_is_cut(text: str, cut: str) -> None:
    """The cut is the source without a blank frame; a pair of tags stays whole."""
    view = make_view(text)

    assert cut == view.cut(0, len(text))


@given(text=st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=12).map("".join)), data=st.data())
def test_places_mean_the_same(text: str, data: st.DataObject) -> None:
    """A view is as long as its text; letters and digits outside tags and reasoning stand where they stood."""
    view = make_view(text)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))

    assert len(text) == len(view.text)
    assert all(
        shown in {sign, " ", "\n", ":", LETTER_SIGNS.get(ord(sign))}
        for sign, shown in zip(text, view.text, strict=True)
    )
    assert view.cut(start, end) in {"", view.cut(start, end).strip()}
    assert bool(view.cut(start, end)) <= bool(view.text[start:end].strip())
