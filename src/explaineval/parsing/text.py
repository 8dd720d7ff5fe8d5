"""The text of a completion as a reader sees it, with the same length, so that positions mean the same in both.

`make_view` blanks what does not belong to the model's visible reply: reasoning, the tokens and turns of a chat
template, invisible characters, tags that only format, and quotation marks around the whole text. All kinds of line ends
become one, an emoji that shows a letter becomes that letter, and the elements `<answer>` and `<explanation>` become the
lines that they stand for. Contents are cut from the original text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from explaineval.parsing.letters import LETTER_SIGNS

_REASONING_NAMES = "think|thinking|thought|thoughts|reasoning|analysis|scratchpad|reflection"
REASONING_TAG = re.compile(  # in square brackets only names that explanations do not write in brackets
    rf"(?i:<(?P<close>/?)(?:\w{{1,16}}:)?(?:{_REASONING_NAMES})>|(?P<square>\[/?|◁/?)think(?:ing)?[\]▷]"
    r"|<\|(?P<edge>begin|end)_of_thought\|>)"
)
"""The tags that open and close reasoning."""

_ANSWER_ELEMENT = re.compile(r"(?i:</reasoning>\s{0,99}<(?:final_)?answer>|</(?:final_)?answer>\s{0,99}<reasoning>)")
_EXPLANATION_WRITTEN = re.compile(r"(?i:explanation[*_]{0,3}\s?[>:：])")

FINAL_CHANNEL = "<|channel|>final<|message|>"


def find_reasoning(text: str) -> list[tuple[int, int]]:
    """The spans of reasoning in `text`, ordered and disjoint.

    A closing tag without an opening one ends reasoning that began in the prompt, so that everything before it is
    reasoning. After an opening tag without a closing one everything is reasoning. The element `reasoning` right beside
    the element `answer` is no reasoning but the explanation, where no other is written.

    >>> find_reasoning("<think>A? No.</think>Answer: B")
    [(0, 21)]
    """
    spans: list[tuple[int, int]] = []
    opened: int | None = None
    channel = text.rfind(FINAL_CHANNEL)
    if channel >= 0:
        spans.append((0, channel + len(FINAL_CHANNEL)))
    explains = _ANSWER_ELEMENT.search(text) is not None and _EXPLANATION_WRITTEN.search(text) is None
    for tag in REASONING_TAG.finditer(text, spans[0][1] if spans else 0):
        if explains and tag.group().strip("</>").casefold() == "reasoning":
            continue
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
    """True if a match of `REASONING_TAG` is a closing tag."""
    return tag["edge"] == "end" or (tag["close"] or tag["square"] or "").endswith("/")


def mask(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """`text` with line ends in place of the spans: offsets stay, and a line can begin after a span."""
    pieces: list[str] = []
    position = 0
    for start, end in spans:
        pieces += [text[position:start], "\n" * (end - start)]
        position = end
    return "".join([*pieces, text[position:]])


def cut_out(text: str, start: int, end: int, spans: Iterable[tuple[int, int]]) -> str:
    """`text[start:end]` without the parts that lie in the spans."""
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
_TURN_TOKEN = re.compile(rf"(?P<reasoning>{REASONING_TAG.pattern})|{_SPECIAL}|{_ROLE_LINE}", re.MULTILINE)
_ROLE_WORD = re.compile(r"[^\S\n]?(?P<word>[A-Za-z]{1,20})")

_HEADERS = frozenset({"im_start", "start_header_id", "header_start", "start_of_turn", "start", "start_of_role"})
"""Tokens that the name of the next speaker follows."""

_NEUTRAL = frozenset(
    {"s", "bos", "sop", "begin_of_text", "startoftext", "im_sep", "end_header_id", "header_end", "message", "channel"}
    | {"end_of_role", "begin▁of▁sentence", "begin_of_solution", "constrain"}
)
"""Tokens that begin something and do not end a turn."""

_MODEL = frozenset({"assistant", "model", "response", "/inst", "ai", "bot", "chatbot"})
_OTHERS = frozenset({"user", "human", "system", "instruction", "input", "inst"})
_BOX_TOKENS = frozenset({"begin_of_box", "end_of_box"})
_AFTER_S = re.compile(r"\s{0,20}(?:\Z|\n|<|\[)|[^\S\n]{0,20}\n")
_QUOTE_PAIRS = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "«": "»", "„": "“"}
_QUOTED_WITHIN = 200  # how many characters on either side of a token are searched for quotation marks around it


def find_reply(text: str) -> tuple[int, int]:
    """The span of the model's own reply in a text that may hold the tokens and turns of a chat template.

    Header tokens of the model's own turn at the beginning lie before the span, the first token or line that ends that
    turn lies after it. Tokens in quotation marks, in code or within reasoning are text like any other.

    >>> find_reply("<|im_start|>assistant\\nAnswer: B<|im_end|>\\nAnswer: C")
    (21, 31)
    """
    start = position = 0
    silent = True  # the model has said nothing yet
    echoing = False  # another speaker's turn stands before the model's own
    thinking = False
    struck = began = False  # <s> was seen: as the opening tag of struck-out words, or as the beginning of the text
    channel: str | None = None
    for token in _TURN_TOKEN.finditer(text):
        if token.start() < position:
            continue
        silent = silent and not text[position : token.start()].strip()
        position = token.end()
        if token["reasoning"]:
            thinking = not closes(token)
            continue
        if thinking or _is_quoted(text, token):
            silent = False
            continue
        name = _token_name(token)
        if name in _BOX_TOKENS:
            continue
        word = _ROLE_WORD.match(text, token.end())
        following = word["word"].casefold() if word else ""
        speaker = following if name in _HEADERS else name
        if name == "channel":
            channel = following
        elif name == "end" and channel not in {None, "final"}:
            continue  # the end of a message that is not the answer
        if silent or (echoing and speaker not in _OTHERS):
            if speaker in _MODEL:
                echoing = False
            elif speaker in _OTHERS:
                echoing = True
            elif name not in _NEUTRAL and not echoing:
                return start, token.start()
            if channel is None and not echoing:
                start = position = word.end() if name in _HEADERS and word else token.end()
                silent = True
            began = began or name == "s"
        elif name == "s" or (name == "/s" and not _is_end_of_text(text, token, struck=struck, began=began)):
            struck = name == "s"
        elif name not in _NEUTRAL and name != "response":  # "### Response:" is a heading of the reply itself
            within_header = name == "start" and channel is not None
            quoted = (token["role"] or token["heading"]) and _is_introduced(text, token.start())
            if not (within_header or quoted):
                return start, token.start()
    return start, len(text)


def own_reply(text: str) -> str:
    """The model's own reply, without the tokens and turns of a chat template around it."""
    start, end = find_reply(text)
    return text[start:end]


def _token_name(token: re.Match[str]) -> str:
    """The name of a token or of a speaker, in lower case and without bars."""
    groups = ("name", "cut", "half", "plain", "bracket", "strike", "role", "heading")
    return str(next(filter(None, token.group(*groups)))).strip("|").casefold()


def _is_quoted(text: str, token: re.Match[str]) -> bool:
    """True if the token stands in quotation marks or code: directly between two, or within a pair on its line."""
    start, end = token.span()
    closing = _QUOTE_PAIRS.get(text[start - 1 : start])
    if closing is not None and text[end : end + 1] == closing:
        return True
    before = text[max(0, start - _QUOTED_WITHIN) : start].rpartition("\n")[2]
    after = text[end : end + _QUOTED_WITHIN].partition("\n")[0]
    return any(before.count(mark) % 2 == 1 and mark in after for mark in '"`')


def _is_end_of_text(text: str, token: re.Match[str], *, struck: bool, began: bool) -> bool:
    """True if `</s>` is an end-of-text token and not the closing tag of struck-out words."""
    return not struck and (not began or _AFTER_S.match(text, token.end()) is not None)


def _is_introduced(text: str, place: int) -> bool:
    """True if the words before a speaker's line lead to it, as they do before a dialogue that is quoted."""
    return text[max(0, place - 50) : place].rstrip().endswith((":", ",", "：", "，"))


_INVISIBLE = dict.fromkeys(
    [0xAD, 0x61C, 0x180E, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x206A), 0xFEFF], " "
)
_FULL_WIDTH = {sign: sign - 0xFEE0 for sign in (*range(0xFF10, 0xFF1A), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B))}
_SHOWN = {**_INVISIBLE, **LETTER_SIGNS, **_FULL_WIDTH}
_BOX = re.compile(r"<\|(?:begin|end)_of_box\|>")  # around the answers of some models
_LINE_ENDS = re.compile(r"\r(?!\n)|[\x0b\x0c\x85\u2028\u2029]")
_TAG = re.compile(r"<(?P<close>/?)(?P<name>[A-Za-z][A-Za-z0-9_]{0,15})(?P<rest>(?:\s[^<>]{0,100})?/?)>")
_INLINE = frozenset({"b", "strong", "i", "em", "u", "s", "mark", "small", "code", "span", "font"})
_BLOCKS = frozenset(
    {"p", "div", "ul", "ol", "li", "pre", "blockquote", "center", "body", "html", "response", "output"}
    | {f"h{level}" for level in range(1, 7)}
)
_LINES = frozenset({"answer", "final_answer", "explanation", "rationale", "reasoning", "reason", "justification"})
_WHOLE = re.compile(
    r"\s{0,20}(?:```\w{0,8}\s{0,4})?(?:<\?[^<>]{0,80}>\s{0,8})?<(?P<name>\w{2,16})>"
)  # around all of a reply
_ATTRIBUTES = re.compile(r"\s[\w:-]{1,30}=[^<>/]{0,60}")
_CONTENT = re.compile(r"\s{0,8}[\w(*\"']")

_PARTS = frozenset({"answer", "final_answer", "explanation"})
_BREAKS = frozenset({"br", "hr"})
_ROW = re.compile(  # of a table with two columns, the second of which is not a heading
    r"^(?P<lead>[ \t]{0,8})\|(?P<name>[ *_`]{0,6}(?:final )?(?:answer|label|explanation|reason|reasoning|rationale)"
    r"[ *_`]{0,6})\|"
    r"(?P<content>[^|\n]{1,4000})(?P<end>\|?[ \t]{0,8})$(?!\n[ \t]{0,8}\|[ :-]{3,20}\|)",
    re.IGNORECASE | re.MULTILINE,
)
_QUOTES = {'"': '"', "“": "”", "„": "“", "«": "»"}


@dataclass(frozen=True, slots=True)
class View:
    """A completion's text as a reader sees it (`text`), of the same length as what the model wrote (`source`).

    `excluded` holds the spans of both that do not belong to the reply: reasoning, and other turns than the model's own.
    `reasoned` and `ended` say whether there is reasoning, and whether something follows the reply. `objects` are the
    spans that stand for JSON objects.
    """

    source: str
    text: str
    excluded: tuple[tuple[int, int], ...]
    reasoned: bool
    ended: bool
    objects: tuple[tuple[int, int], ...] = ()

    def cut(self, start: int, end: int) -> str:
        """The source from `start` to `end` without reasoning and without blanks around it.

        A formatting tag at either end is kept if the tag that it belongs to lies within.
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
        return cut_out(self.source, first, last, self.excluded).strip()

    def _count_open(self, start: int, end: int) -> Counter[str]:
        """How many more opening than closing tags the span has, by the tags' name."""
        balance: Counter[str] = Counter()
        for tag in _TAG.finditer(self.source, start, end):
            balance[tag["name"]] += -1 if tag["close"] else 1
        return balance


_CHANNEL_TOKENS = re.compile(
    r"(?:<\|(?:start|channel)\|>(?:assistant|analysis|commentary|final)?\s*|<\|(?:message|end)\|>\s*){1,20}"
)


def leading_reasoning(text: str) -> str | None:
    """The reasoning with which a completion's text begins, without its tags; None if it does not begin with reasoning.

    Blocks that follow each other become paragraphs. A block that is not closed ends with the text.

    >>> leading_reasoning("<think>A? No.</think>Answer: B")
    'A? No.'
    """
    if REASONING_TAG.search(text) is None and FINAL_CHANNEL not in text:
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
    """A span of reasoning without the tags or tokens that open and close it; messages of channels are paragraphs."""
    if block.endswith(FINAL_CHANNEL):
        messages = (_without_tags(message.strip()).strip() for message in _CHANNEL_TOKENS.split(block))
        return "\n\n".join(filter(None, messages))
    tags = list(REASONING_TAG.finditer(block))
    first, last = (tags[0], tags[-1]) if tags else (None, None)
    start = first.end() if first and first.start() == 0 and not closes(first) else 0
    end = last.start() if last and last.end() == len(block) and closes(last) else len(block)
    return block[start:end]


def make_view(text: str, elements: Collection[str] = (), objects: tuple[tuple[int, int], ...] = ()) -> View:
    """The view of a completion's text; `elements` are names of elements of XML that stand for lines, as `answer` does.

    >>> make_view("<b>Answer:</b>\\u200bB<br>").text
    '   Answer:     B\\n   '
    """
    start, end = find_reply(text)
    around = [span for span in ((0, start), (end, len(text))) if span[0] < span[1]]
    reasoning = find_reasoning(mask(text, around))
    excluded = _merge([*around, *reasoning])
    shown = _LINE_ENDS.sub("\n", mask(text, excluded).translate(_SHOWN))
    if "_of_box" in shown:
        shown = _BOX.sub(lambda box: " " * len(box.group()), shown)
    if "<" in shown:
        shown = _blank_tags(shown, _LINES | frozenset(elements))
    if "|" in shown:
        shown = _ROW.sub(_show_row, shown)
    return View(text, _blank_quotes(shown), tuple(excluded), bool(reasoning), end < len(text), objects)


def _show_row(row: re.Match[str]) -> str:
    """A row of a table with two cells as "name : content", with the same length; a row of headings as it stands."""
    lead, name, content, end = row["lead"], row["name"], row["content"], row["end"]
    return f"{lead} {name}:{content}{' ' * len(end)}"


def _merge(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans in order, with those that touch or overlap joined."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _blank_tags(text: str, lines: frozenset[str]) -> str:
    """`text` without the tags that only format. A tag without its partner is kept, unless it breaks or ends a line."""
    opening, closing = (
        {tag["name"] for tag in _TAG.finditer(text) if bool(tag["close"]) is close} for close in (False, True)
    )
    paired = opening & closing
    whole = _WHOLE.match(text)
    around = whole["name"].lower() if whole and text.rstrip(" \n`").endswith(f"</{whole['name']}>") else ""
    return _TAG.sub(lambda tag: _show_tag(tag, paired, lines, _BLOCKS | {around}), text)


def _show_tag(tag: re.Match[str], paired: set[str], lines: frozenset[str], blocks: frozenset[str]) -> str:
    """What the view shows in the tag's place, with the same length; the tag itself if it is text (`<B>`, a letter)."""
    name = tag["name"].lower()
    length = len(tag.group())
    if name in _BREAKS or (tag["close"] and name in lines):
        return "\n" + " " * (length - 1)
    if name in lines and (tag["name"] in paired or (name in _PARTS and _opens_part(tag))):
        stands = not tag["rest"] or _ATTRIBUTES.fullmatch(tag["rest"])
        return tag.group() if not stands else f"\n{name.replace('_', ' ')}:".ljust(length)
    if tag["name"] not in paired or (len(name) == 1 and tag["name"].isupper()):
        return tag.group()
    if name in _INLINE:
        return " " * length
    return "\n" + " " * (length - 1) if name in blocks else tag.group()


def _opens_part(tag: re.Match[str]) -> bool:
    """True if an opening tag begins a line or follows a colon or a tag, and content follows: its partner is cut off."""
    before = tag.string[max(0, tag.start() - 9) : tag.start()].rstrip(" \t")
    return not tag["rest"] and before[-1:] in {"", "\n", ":", ">"} and _CONTENT.match(tag.string, tag.end()) is not None


def _blank_quotes(text: str) -> str:
    """`text` without the quotation marks around all of it, if it holds no others of their kind."""
    inner = text.strip()
    closing = _QUOTES.get(inner[:1])
    if closing is None or len(inner) < 2 or not inner.endswith(closing):
        return text
    if text.count(inner[0]) + text.count(closing) != (4 if inner[0] == closing else 2):
        return text
    start = text.index(inner[0])
    end = text.rindex(closing)
    return f"{text[:start]} {text[start + 1 : end]} {text[end + 1 :]}"
