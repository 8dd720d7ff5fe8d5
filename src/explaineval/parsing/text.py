"""A completion's text as a reader sees it, sign for sign as long as the text, so that places mean the same in both.

Blank in the view: reasoning, what is not the model's own turn, signs that nobody sees (zero-width, direction marks),
tags that only format, and quotation marks around all of it. Every kind of line end is one, and an emoji that shows a
letter is that letter. The elements `<answer>` and `<explanation>` become the lines that they stand for. Contents are
cut from the text itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from explaineval.parsing.completions import find_reply
from explaineval.parsing.letters import LETTER_SIGNS
from explaineval.parsing.markers import FINAL_CHANNEL, TAG, closes, cut_out, find_reasoning, mask

_UNSEEN = dict.fromkeys(
    [0xAD, 0x61C, 0x180E, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x206A), 0xFEFF], " "
)
_SHOWN = {**_UNSEEN, **LETTER_SIGNS}
_BOX = re.compile(r"<\|(?:begin|end)_of_box\|>")  # around the answers of some models
_LINE_ENDS = re.compile(r"\r(?!\n)|[\x0b\x0c\x85\u2028\u2029]")
_TAG = re.compile(r"<(?P<close>/?)(?P<name>[A-Za-z][A-Za-z0-9_]{0,15})(?P<rest>(?:\s[^<>]{0,100})?/?)>")
_INLINE = frozenset({"b", "strong", "i", "em", "u", "s", "mark", "small", "code", "span", "font"})
_BLOCKS = frozenset(
    {"p", "div", "ul", "ol", "li", "pre", "blockquote", "center", "body", "html", "response", "output"}
    | {f"h{level}" for level in range(1, 7)}
)
_LINES = frozenset({"answer", "final_answer", "explanation"})
_BREAKS = frozenset({"br", "hr"})
_QUOTES = {'"': '"', "“": "”", "„": "“", "«": "»"}


@dataclass(frozen=True, slots=True)
class View:
    """`text` is what is looked at, `source` what the model wrote.

    `holes` are the spans in both that are no part of the reply: reasoning, and what is not the model's own turn.
    `reasoned` and `ended` say whether there is reasoning, and whether something follows the reply.
    """

    source: str
    text: str
    holes: tuple[tuple[int, int], ...]
    reasoned: bool
    ended: bool

    def cut(self, start: int, end: int) -> str:
        """The source from `start` to `end` without reasoning and without what is blank around it.

        A formatting tag at either end stays where its partner lies within.
        """
        shown = self.text[start:end]
        if not shown.strip():
            return ""
        first = start + len(shown) - len(shown.lstrip())
        last = start + len(shown.rstrip())
        left_open = self._count_open(first, last)
        for tag in _TAG.finditer(self.source, last, end):
            if not tag["close"] or left_open[tag["name"]] <= 0:
                break
            left_open[tag["name"]] -= 1
            last = tag.end()
        for tag in reversed(list(_TAG.finditer(self.source, start, first))):
            if tag["close"] or left_open[tag["name"]] >= 0:
                break
            left_open[tag["name"]] += 1
            first = tag.start()
        return cut_out(self.source, first, last, self.holes).strip()

    @property
    def unreasoned(self) -> str:
        """The source with line ends in place of reasoning, all else as written."""
        return mask(self.source, self.holes)

    def without(self, start: int, end: int) -> View:
        """The same view with a line end in place of each sign of a span."""
        return replace(self, text=mask(self.text, [(start, end)]))

    def _count_open(self, start: int, end: int) -> Counter[str]:
        """By name, how many more opening than closing tags the span has."""
        balance: Counter[str] = Counter()
        for tag in _TAG.finditer(self.source, start, end):
            balance[tag["name"]] += -1 if tag["close"] else 1
        return balance


_CHANNEL_TOKENS = re.compile(
    r"(?:<\|(?:start|channel|message|end)\|>(?:assistant|analysis|commentary|final)?\s*){1,20}"
)


def leading_reasoning(text: str) -> str | None:
    """The reasoning with which a completion's text begins, without its tags; None where it begins otherwise.

    Blocks that follow each other become paragraphs. A block that never closes ends with the text.

    >>> leading_reasoning("<think>A? No.</think>Answer: B")
    'A? No.'
    """
    if TAG.search(text) is None and FINAL_CHANNEL not in text:
        return None
    start, end = find_reply(text)
    shown = mask(text, [(0, start), (end, len(text))])
    blocks, at = [], start
    for low, high in find_reasoning(shown):
        if shown[at:low].strip():
            break
        blocks.append(_without_tags(shown[low:high]).strip())
        at = high
    return "\n\n".join(filter(None, blocks)) or None


def _without_tags(block: str) -> str:
    """A span of reasoning without what opens and closes it."""
    if block.endswith(FINAL_CHANNEL):
        return _CHANNEL_TOKENS.sub("\n\n", block)
    tags = list(TAG.finditer(block))
    first, last = (tags[0], tags[-1]) if tags else (None, None)
    start = first.end() if first and first.start() == 0 and not closes(first) else 0
    end = last.start() if last and last.end() == len(block) and closes(last) else len(block)
    return block[start:end]


def see(text: str) -> View:
    """The view of a completion's text.

    >>> see("<b>Answer:</b>\\u200bB<br>").text
    '   Answer:     B\\n   '
    """
    start, end = find_reply(text)
    around = [span for span in ((0, start), (end, len(text))) if span[0] < span[1]]
    reasoning = find_reasoning(mask(text, around))
    holes = _merge([*around, *reasoning])
    shown = _LINE_ENDS.sub("\n", mask(text, holes).translate(_SHOWN))
    if "_of_box" in shown:
        shown = _BOX.sub(lambda box: " " * len(box.group()), shown)
    if "<" in shown:
        shown = _blank_tags(shown)
    return View(text, _blank_quotes(shown), tuple(holes), bool(reasoning), end < len(text))


def _merge(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans in order, those that touch or overlap as one."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _blank_tags(text: str) -> str:
    """`text` without formatting; a tag without its partner is none, save the one that breaks a line."""
    tags = list(_TAG.finditer(text))
    paired = _names(tag for tag in tags if tag["close"]) & _names(tag for tag in tags if not tag["close"])
    pieces: list[str] = []
    position = 0
    for tag in tags:
        seen = _show_tag(tag, paired)
        pieces += [text[position : tag.start()], tag.group() if seen is None else seen]
        position = tag.end()
    return "".join([*pieces, text[position:]])


def _names(tags: Iterable[re.Match[str]]) -> set[str]:
    return {tag["name"] for tag in tags}


def _show_tag(tag: re.Match[str], paired: set[str]) -> str | None:
    """What the view shows in the tag's place, as long as the tag; None for the tag itself (`<B>` is a letter)."""
    name = tag["name"].lower()
    length = len(tag.group())
    if name in _BREAKS:
        return "\n" + " " * (length - 1)
    if tag["name"] not in paired or (len(name) == 1 and tag["name"].isupper()):
        return None
    if name in _INLINE:
        return " " * length
    if name in _LINES and not tag["close"]:
        return None if tag["rest"] else f"\n{name.replace('_', ' ')}:"
    return "\n" + " " * (length - 1) if name in _BLOCKS or name in _LINES else None


def _blank_quotes(text: str) -> str:
    """`text` without the quotation marks around all of it, if there are no others of their kind."""
    inner = text.strip()
    closing = _QUOTES.get(inner[:1])
    if closing is None or len(inner) < 2 or not inner.endswith(closing):
        return text
    if text.count(inner[0]) + text.count(closing) != (4 if inner[0] == closing else 2):
        return text
    start = text.index(inner[0])
    end = text.rindex(closing)
    return f"{text[:start]} {text[start + 1 : end]} {text[end + 1 :]}"
