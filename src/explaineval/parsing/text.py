"""The text of a completion as a reader sees it, with the same length, so that positions mean the same in both.

`see` blanks what is no part of the model's visible reply: reasoning, tokens and turns of a chat template, signs that
nobody sees (zero-width, direction marks), tags that only format, and quotation marks around the whole text. Every kind
of line end becomes one, an emoji that shows a letter becomes that letter, and the elements `<answer>` and
`<explanation>` become the lines that they stand for. Contents are cut from the text itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from explaineval.parsing.letters import LETTER_SIGNS

_NAMES = "think|thinking|thought|thoughts|reasoning|analysis|scratchpad|reflection"
TAG = re.compile(  # in square brackets only names that no explanation uses as a word in brackets
    rf"(?i:<(?P<close>/?)(?:\w{{1,16}}:)?(?:{_NAMES})>|(?P<square>\[/?|◁/?)think(?:ing)?[\]▷]"
    r"|<\|(?P<edge>begin|end)_of_thought\|>)"
)
"""What opens or closes reasoning."""

FINAL_CHANNEL = "<|channel|>final<|message|>"


def find_reasoning(text: str) -> list[tuple[int, int]]:
    """Spans of reasoning in `text`, ordered and disjoint.

    A closing tag without an opening one ends reasoning that began in the prompt, so all before it is
    reasoning; an opening tag without a closing one makes all after it reasoning.

    >>> find_reasoning("<think>A? No.</think>Answer: B")
    [(0, 21)]
    """
    spans: list[tuple[int, int]] = []
    opened: int | None = None
    channel = text.rfind(FINAL_CHANNEL)
    if channel >= 0:
        spans.append((0, channel + len(FINAL_CHANNEL)))
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


_SPECIAL = (
    r"<[|｜] ?(?P<name>[^\s<>|｜]{1,40}) ?[|｜]>"  # <|im_end|>, <|eot_id|>, <｜end▁of▁sentence｜>
    r"|<[|｜](?P<cut>[A-Za-z_▁]{2,40})[|｜]?\Z"  # the same, cut off with the text
    r"|<(?P<half>\|[a-z_]{2,20}|[a-z_]{2,20}\|)>"  # <|turn>, <turn|>
    r"|<(?P<plain>eos|bos|pad|eod|eop|sop|end_of_turn|start_of_turn|end_of_utterance)>"
    r"|\[(?P<bracket>/?INST|EOS|BOS)\]"
    r"|<(?P<strike>/?s)>"  # an end-of-text token, or HTML
)
_ROLE_LINE = (
    r"^(?:#{1,4} ?|\*\*)?(?P<role>Human|User|Assistant|HUMAN|USER|ASSISTANT)(?: \d{1,3})?(?:\*\*)?:"
    r"|^#{2,4} ?(?P<heading>Instruction|Input|Response|System|Human|User|Assistant):"
)
_SIGN = re.compile(rf"(?P<reasoning>{TAG.pattern})|{_SPECIAL}|{_ROLE_LINE}", re.MULTILINE)
_ROLE_WORD = re.compile(r"[^\S\n]?(?P<word>[A-Za-z]{1,20})")

_HEADERS = frozenset({"im_start", "start_header_id", "header_start", "start_of_turn", "start", "start_of_role"})
"""Tokens after which the name of the next speaker stands."""

_NEUTRAL = frozenset(
    {"s", "bos", "sop", "begin_of_text", "startoftext", "im_sep", "end_header_id", "header_end", "message", "channel"}
    | {"end_of_role", "begin▁of▁sentence", "begin_of_solution", "constrain"}
)
"""Tokens that begin something and end nothing."""

_MODEL = frozenset({"assistant", "model", "response", "/inst", "ai", "bot", "chatbot"})
_OTHERS = frozenset({"user", "human", "system", "instruction", "input", "inst"})
_BOX_TOKENS = frozenset({"begin_of_box", "end_of_box"})
_AFTER_STRIKE = re.compile(r"\s{0,20}(?:\Z|\n|<|\[)|[^\S\n]{0,20}\n")
_QUOTE_PAIRS = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "«": "»", "„": "“"}
_QUOTED_WITHIN = 200  # characters to either side in which a pair of quotation marks around a token is looked for


def find_reply(text: str) -> tuple[int, int]:
    """The span of the model's own reply in a text that may hold tokens and turns of a chat template.

    Header tokens of the model's own turn at the beginning lie before it, the first token or line that ends that turn
    after it. Tokens in quotation marks or code, and tokens within reasoning, are text like any other.

    >>> find_reply("<|im_start|>assistant\\nAnswer: B<|im_end|>\\nAnswer: C")
    (21, 31)
    """
    start = 0
    silent = True  # the model has said nothing yet
    echoing = thinking = struck = began = False
    channel: str | None = None
    seen = 0
    for sign in _SIGN.finditer(text):
        if sign.start() < seen:
            continue
        silent = silent and not text[seen : sign.start()].strip()
        seen = sign.end()
        if sign["reasoning"]:
            thinking = not closes(sign)
            continue
        if thinking or _is_quoted(text, sign):
            silent = False
            continue
        name = _name(sign)
        if name in _BOX_TOKENS:
            continue
        word = _ROLE_WORD.match(text, sign.end())
        speaker = name
        if name in _HEADERS:
            speaker = word["word"].casefold() if word else ""
        if name == "channel":
            channel = word["word"].casefold() if word else ""
        elif name == "end" and channel not in {None, "final"}:
            continue  # the end of a message that is no answer
        if silent or (echoing and speaker not in _OTHERS):
            if speaker in _MODEL:
                echoing = False
            elif speaker in _OTHERS:
                echoing = True
            elif name not in _NEUTRAL and not echoing:
                return start, sign.start()
            if channel is None and not echoing:
                start = seen = word.end() if name in _HEADERS and word else sign.end()
                silent = True
            began = began or name == "s"
            continue
        if name in {"s", "/s"} and not (name == "/s" and _ends_at_strike(text, sign, struck=struck, began=began)):
            struck = name == "s"
            continue
        if name in {"message", "channel", "start", "constrain"} and channel is not None:
            continue
        if (sign["role"] or sign["heading"]) and _is_introduced(text, sign.start()):
            continue
        if name not in _NEUTRAL and name != "response":  # a heading of the reply itself
            return start, sign.start()
    return start, len(text)


def own_reply(text: str) -> str:
    """The text of the model's own reply, without tokens and turns of a chat template around it."""
    start, end = find_reply(text)
    return text[start:end]


def _name(sign: re.Match[str]) -> str:
    named = (sign["name"], sign["cut"], sign["half"], sign["plain"], sign["bracket"], sign["strike"], sign["role"])
    return str(next(filter(None, (*named, sign["heading"])))).strip("|").casefold()


def _is_quoted(text: str, sign: re.Match[str]) -> bool:
    """True if the token stands in quotation marks or code: right between two of them, or within a pair on its line."""
    start, end = sign.span()
    closing = _QUOTE_PAIRS.get(text[start - 1 : start])
    if closing is not None and text[end : end + 1] == closing:
        return True
    before = text[max(0, start - _QUOTED_WITHIN) : start].rpartition("\n")[2]
    after = text[end : end + _QUOTED_WITHIN].partition("\n")[0]
    return any(before.count(mark) % 2 == 1 and mark in after for mark in '"`')


def _ends_at_strike(text: str, sign: re.Match[str], *, struck: bool, began: bool) -> bool:
    """True if `</s>` is an end-of-text token and does not close words that are struck through."""
    return not struck and (not began or _AFTER_STRIKE.match(text, sign.end()) is not None)


def _is_introduced(text: str, place: int) -> bool:
    """True if what stands before the line of a speaker leads to it, as before a dialogue that is quoted."""
    return text[max(0, place - 50) : place].rstrip().endswith((":", ",", "：", "，"))


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
