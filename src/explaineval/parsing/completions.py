"""Where the model's own reply begins and ends in a completion's text.

A reply ends at an end-of-turn token of a chat template, at the next speaker's turn, and in completion style at the next
few-shot example that the model begins. What follows is not the model's answer.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from explaineval.parsing.markers import TAG as REASONING_TAG
from explaineval.parsing.markers import Kind, Marker, closes, find_field_markers
from explaineval.records import Completion, Order, Unreadable

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
_SIGN = re.compile(rf"(?P<reasoning>{REASONING_TAG.pattern})|{_SPECIAL}|{_ROLE_LINE}", re.MULTILINE)
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
_UNSEEN = frozenset({"begin_of_box", "end_of_box"})
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
        if name in _UNSEEN:
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


def next_example(markers: Iterable[Marker], order: Order, limit: int) -> int:
    """Where a plain marker follows although both have been seen: the next example, begun by the model.

    A line such as "Final answer: C" is no part of an example's form: it is the model's own last word.
    """
    last: Kind = "explanation" if order == "pe" else "answer"
    seen = False
    for marker in markers:
        if seen and marker.kind != last and not marker.emphatic:
            return marker.start
        seen = seen or marker.kind == last
    return limit


def next_field(text: str, fields: Collection[str]) -> int:
    """Where the first line stands that begins with a field of the input."""
    return min((marker.start for marker in find_field_markers(text, fields)), default=len(text))


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


REFUSED = frozenset({"refusal", "refused"})
"""Finish reasons by which a provider says that the model declined to answer."""

FILTERED = frozenset(
    {
        "content_filter", "content_filtered", "content-filter", "contentfilter",  # OpenAI, Azure, Bedrock
        "safety", "image_safety", "recitation", "blocklist", "prohibited_content",  # Gemini
        "spii", "model_armor",
        "guardrail_intervened", "error_toxic", "sensitive", "blocked",  # Bedrock, Cohere, others
    }
)  # fmt: skip
"""Finish reasons by which a provider says that a filter of its own stopped the text."""

TRUNCATED = frozenset(
    {
        "length",
        "max_tokens",
        "max_length",
        "max_output_tokens",
        "model_length",
        "model_context_window_exceeded",
    }
)
"""Finish reasons by which a provider says that the text was cut at a limit of length."""


FAULTS = {
    "oversized": "oversized: the answer was larger than one of that many tokens can be, and was cut",
    "malformed": "malformed: what came has not the form of an answer",
}
"""What stands as the reason where an answer has a fault."""


def classify(completion: Completion) -> Unreadable | None:
    """Why `completion` cannot be scored whatever its text says, or None if its text is to be read.

    A truncated completion is unreadable even where the label could be read: its explanation may break off
    before the mention. Finish reasons are compared without regard to case. The first that holds is
    returned, in the order faulty (unparsed, with the fault as the reason), refused, filtered, truncated, empty: a
    reasoning model that used up its tokens is truncated, not empty.

    >>> classify(Completion(text="Answer: B", finish_reason="length")).status
    'truncated'
    >>> classify(Completion(text="Answer: B", finish_reason="stop")) is None
    True
    """
    finish = (completion.finish_reason or "").strip().casefold()
    if completion.fault is not None:
        return Unreadable(status="unparsed", reason=FAULTS[completion.fault])
    if completion.refusal and completion.refusal.strip():
        return Unreadable(status="refused", reason=f"the model refused: {_clip(completion.refusal)}")
    if finish in REFUSED:
        return Unreadable(status="refused", reason=f"the model refused (finish reason {finish})")
    if finish in FILTERED:
        return Unreadable(status="filtered", reason=f"a filter stopped the text (finish reason {finish})")
    if finish in TRUNCATED:
        return Unreadable(status="truncated", reason=f"{_cut(completion)} (finish reason {finish}); raise --max-tokens")
    if completion.text is None or not completion.text.strip():
        return Unreadable(status="empty", reason="the completion holds no text")
    return None


def _cut(completion: Completion) -> str:
    """What the token limit did to a text, as far as the counts tell."""
    if completion.text and completion.text.strip():
        return "the text was cut at the token limit"
    details = completion.usage.get("completion_tokens_details")
    hidden = details.get("reasoning_tokens") if isinstance(details, dict) else None
    counted = isinstance(hidden, int) and not isinstance(hidden, bool) and hidden > 0
    return f"the token limit was used up before any text{f' by {hidden} tokens of reasoning' if counted else ''}"


def _clip(text: str, limit: int = 120) -> str:
    line = " ".join(text[: 4 * limit].split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
