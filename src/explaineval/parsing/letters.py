"""How models write labels: a letter, a number, or the option's text, with everything that they put around it.

`RULES` is the table of the ways in which a line can name an option; `read_value` applies it to a line that should hold
a label. To read labels that are written in another way, add a rule. `find_names` finds every place in running prose
where an option is named.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from explaineval.parsing.modality import is_said_by_others

_LONGEST = 1000  # characters of a line that are read; an answer stands at its beginning
_LONGEST_NAME = 300  # longer option texts are not looked for in prose

LETTER_SIGNS = {
    first + place: chr(ord("A") + place)
    for first in (0x24B6, 0x24D0, 0x1F130, 0x1F150, 0x1F170, 0x1F1E6)  # circled, squared, regional indicators
    for place in range(26)
}
"""Symbols and emoji that show a letter, one code point each, mapped to that letter."""

CROSS = "[❌❎✖✗✘🚫⛔]"
"""A pattern for a sign that rejects the option beside it."""

EMOJI = rf"(?:(?!{CROSS})[\u2190-\u21ff\u2300-\u23ff\u2600-\u27bf\u2b00-\u2bff\U0001f300-\U0001faff\ufe0f\u20e3])"
"""A pattern for a pictorial sign that decorates what it stands beside."""

_DECORATION = rf"(?:(?![\u2190-\u21ff\u2794-\u27be])(?:[^\S\n]*+{EMOJI}))"  # emoji beside a label, no arrow
_LATEX = r"\\(?:boxed|fbox|framebox|text(?:bf|it|rm|sf|tt)?|math(?:bf|rm|it|sf|bb)|boldsymbol|bf|rm|large|Large)\s?\{"
_OPEN = re.compile(
    rf"(?:[\s*_#`~\"'“”„‘’‚«»‹›「」『』【】()\[\]{{}}<>$（）［］:：\-–—•]|{_LATEX}|\\[(\[]|{EMOJI}){{0,24}}"
)
_NOUN = r"(?:answer|option|choice|letter|label|sentence|statement)"
_LEAD = re.compile(
    r"(?:(?:neither\s[^.;:!?\n]{1,60}?|not\s\(?[A-Z]\)?),?\s(?:but|rather)\s{1,3}(?:rather\s|instead\s)?)?"
    r"(?:(?:based on|according to|given|judging by|considering|from)\s"
    r"(?:(?:the|this|these|both|my|given|provided|common)\s){0,3}"
    r"(?:premise|hypothesis|passage|text|context|question|sentences?|information|statements?|options?|evidence|description"
    r"|sense|analysis|review|input|data|facts?)\b[^.,;:!?\n]{0,40},\s{1,3})?"
    r"(?:(?:so|thus|therefore|hence|definitely|certainly|clearly|obviously|surely),?\s{1,3})?"
    r"(?:it\s{1,3}(?:is|must\sbe|has\sto\sbe|can\sonly\sbe)\s{1,3}|it['’]s\s{1,3})?"
    r"(?:(?:the|my)\s{1,3})?(?:(?:most\s)?(?:correct|right|best|final|likely|probably)\s{1,3})?"
    r"(?:(?:mostly|leaning(?:\stowards?)?)\s{1,3})?"
    rf"(?:{_NOUN}(?![^\W\d_])\s{{0,3}}#?(?:is\s{{1,3}}|would be\s{{1,3}})?)?[:：]?",
    re.IGNORECASE,
)
_ASKS = re.compile(r"[^\n.!?]{0,60}\bor\b[^\n.!?]{1,60}\?\s{1,3}(?=\w)", re.IGNORECASE)
"""A question at the beginning of a line that the line itself answers: "B or D? I'd say B."."""

_CLOSERS = r"[*_`~\"'”“’‘»«›‹」』】)\]}>）］$\\\ufe0f\u20e3]{0,8}+"
_SEPARATOR = (  # "A!? Because …", "B… because", "B => …"
    r"(?:[.。!！…?？]{1,6}+|[-=]{1,2}>|--|::|[:：;,，、=/&+|(（\[–—→⇒⟶‒―~·•‣-])"
)
_TAIL = re.compile(
    rf"(?P<close>{_CLOSERS})(?P<signs>{_DECORATION}{{0,8}}+)(?P<gap>\s*+)(?P<sep>{_SEPARATOR}?)"
    r"(?:(?<=[.!?…])[)\]\"”’*_]{1,4}(?=\s|\Z))?\s*+"
)
_NOTHING = re.compile(rf"(?:[\s*_`~\"'”“’‘»«›‹」』】()\[\]{{}}<>）］$\\.．。,，;:：!?！？、|–—\-✅✓✔️]|{EMOJI})*+\Z")
_BECAUSE = re.compile(
    r"(?:because|since|as|due to|given|weil|porque|parce|car|perché|and not|but not|rather than|instead of"
    r"|is (?:the )?(?:correct|right|best|answer|most))\b",
    re.IGNORECASE,
)
_TEXT_END = re.compile(rf"{_CLOSERS}(?:\s{{0,3}}(?:[.。…,，;:：!?！？(（\[–—‒―|~·•→⇒⟶‣]|-\s|--|[-=]>)|{_DECORATION})")
_OTHER = re.compile(
    r"(?:[.…]{0,3}\s{0,3}(?:or|and|vs\.?|/|&|,|\+|oder|ou|und|et)\s{0,3})?"
    r"(?:[.…]{0,3}\s{0,3}(?i:no|wait|rather|actually|maybe|perhaps|possibly|probably|also|even)\b[\s,:]{1,3}){0,3}"
    r"[\"'(\[*_]{0,4}(?P<letter>[A-Z])(?![^\W_]|['’-][^\W_])"
)
_SHARE = re.compile(r"(?<!\w)(?P<letter>[A-Z])\s?[:=(]\s?\d")
_BRACKETED = re.compile(
    rf"{_CLOSERS}[\s:：=,|–—-]{{0,4}}[\[(（*\"']{{0,4}}(?:option )?(?P<letter>[a-z])(?![^\W_]|['-][^\W_])"
)
_IS_JUDGED = re.compile(  # "A (the thermos) makes sense" says something of a sentence
    rf"{_CLOSERS}\s?\((?P<inside>[^()\n]{{0,80}})\)\s(?:is|was|makes?|does|doesn['’]t|goes|seems|sounds|can|cannot|could|would|has)\b"
)
_OWN_LETTER = re.compile(
    r"[\s,–—-]{0,3}[(\[](?:option )?(?P<letter>[A-Za-z])[)\]][*_]{0,3}[.,:;]?\s{0,3}", re.IGNORECASE
)
_JOINED = re.compile(rf"(?:[\s.,;:/&|*()\[\]–—-]|{EMOJI}){{0,6}}(?:(?:or|and|und|oder|et|ou)\s)?\s{{0,2}}")
_REJECTED = re.compile(CROSS)
_QUOTES = str.maketrans("‘’“”´`", "''\"\"''")
_ARTICLE = re.compile(r"(?:an?|the|to)\s{1,3}", re.IGNORECASE)

_GOES_ON = re.compile(r"\w|['’.,-]\w")
_REJECTS = re.compile(r"\b(?:not|than|instead of|over|versus|unlike|because|since|as|given)\b[^.;]{0,120}\Z")

_NUMBER_WORDS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
_ORDINALS = {"first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "1st": 1, "2nd": 2, "3rd": 3}
_NUMBERED = re.compile(r"(?P<stem>[^\W\d_][\w ]{0,30}?)\s?#?(?P<number>\d{1,2})\.?")
_NUMBERING = re.compile(r"\(?(?P<number>\d{1,2})[.):]\s{1,3}\S")
_ANY_NUMBER = rf"\d{{1,2}}(?![.,]?\w)|(?:{'|'.join(_NUMBER_WORDS)})\b"
_NUMBER_OTHER = re.compile(rf"{_CLOSERS}\s{{0,3}}(?:or|and|/|&|,|\+|vs\.?)\s{{0,3}}[\"'(\[*_]{{0,4}}(?:{_ANY_NUMBER})")

_ALPHABETIC = "[^\\W\u3040-\u30ff\u4e00-\u9fff]"  # in scripts without spaces a label stands right beside a word
_MARKS = rf"(?:[(\[{{*_\"'“‘«`$<]|{_LATEX}){{0,6}}"
_NAME_NOUN = rf"(?:(?i:the\s{{1,2}})?(?i:{_NOUN}|number|no\.|letter)\s{{1,2}}#?)?"
_FUNCTION_WORDS = (
    r"(?i:is|was|isn['’]t|and|or|nor|but|not|rather|instead|over|because|since|as|given|due|for|here|in|with|would|should"
    r"|must|can|cannot|does|doesn['’]t|goes|makes?|seems|appears|has|remains|than|so|if|unless|only|even|though"
    r"|although|while|whereas|which|that|therefore|thus|then|now|when|based|from|on|by|to|fits|best|under|correct|right"
    r"|it(?=\s(?:is|must|has\sto))|the(?=\s(?:\w+\s)?(?:right|correct|best|better|only|answer|choice|option|label)))\b"
)


@dataclass(frozen=True, slots=True)
class Value:
    """An option's letter, and the span of the letter or option text from which it was read.

    `tail` is where the text that names the option ends, if later than `end`. `inferred` is true where a sentence does
    not name the option but implies it ("so the hypothesis is entailed").
    """

    letter: str
    start: int
    end: int
    tail: int = 0
    inferred: bool = False

    @property
    def lettered(self) -> bool:
        """Whether a single letter was read, and not an option's text or a number of several digits."""
        return self.end - self.start == 1


@dataclass(frozen=True, slots=True)
class Clash:
    """Text that claims to be an answer but cannot be one: the reason, and the letters that it names."""

    reason: str
    letters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Name:
    """A place in prose that names an option: the span of the whole name, and the value within it.

    `lettered` says whether the option is named by its letter.
    """

    start: int
    end: int
    value: Value
    lettered: bool

    @property
    def letter(self) -> str:
        """The letter of the option."""
        return self.value.letter


@dataclass(frozen=True, slots=True)
class LabelRule:
    """One way in which models write a label.

    `read(text, start, end, options)` looks at the line `text[start:end]`, which begins where the label may begin:
    opening brackets, quotes, bullets and words such as "the answer is" are skipped already. It returns the Value that
    it reads, a Clash if the line names two options, or None if the label is not written in this way. `example` is a
    line that the rule reads as option B of `{"A": "Sentence 1", "B": "Sentence 2"}`.
    """

    name: str
    example: str
    read: Callable[[str, int, int, Mapping[str, str]], Value | Clash | None]


def read_value(text: str, start: int, end: int, options: Mapping[str, str]) -> Value | Clash | None:
    """The one option that the line `text[start:end]` names, a Clash, or None if it names none.

    >>> read_value("**(b)** neutral", 0, 15, {"A": "entailment", "B": "neutral"}).letter
    'B'
    >>> read_value("A man", 0, 5, {"A": "entailment", "B": "neutral"}) is None
    True
    """
    end = min(end, start + _LONGEST)
    start = _skip(_ASKS, text, start, end)
    readings = (rule.read(text, place, end, options) for place in _places(text, start, end) for rule in RULES)
    value = agree(reading for reading in readings if reading is not None)
    if isinstance(value, Value):
        place = max(value.end, value.tail)
        judged = _IS_JUDGED.match(text, place, end) if are_numbered_sentences(options) or share_words(options) else None
        if is_said_by_others(text, place) or (judged and fold(judged["inside"]) != fold(options[value.letter])):
            return None
    return Clash("the answer is struck out") if isinstance(value, Value) and _is_struck_out(text, value, end) else value


def agree(values: Iterable[Value | Clash]) -> Value | Clash | None:
    """The first value if all name the same option, the Clash that keeps them from it, None without any value."""
    first: Value | None = None
    letters: dict[str, None] = {}
    for value in values:
        if isinstance(value, Clash):
            return value
        first = first or value
        letters[value.letter] = None
    return two_answers(list(letters)) if len(letters) > 1 else first


def find_names(text: str, options: Mapping[str, str], most: int) -> list[Name]:
    """The first `most` places in `text` that name an option, by capital letter, by text, or by number.

    An `A` or `I` before an ordinary word is not a name: it is the article or the pronoun.
    """
    return list(_find_names(text, tuple(options.items()), most))


@lru_cache(maxsize=4)  # statements and denials are looked for in the same text, one after the other
def _find_names(text: str, items: tuple[tuple[str, str], ...], most: int) -> tuple[Name, ...]:
    texts = _name_texts(items)
    mentioned = _may_stand(text, texts)
    letters = "".join(letter for letter, _ in items)
    patterns = [_letter_pattern(letters)]
    plain = "\\" not in text and text.isascii() and all(map(str.isascii, mentioned))
    patterns += [_text_pattern(mentioned, plain=plain)] if mentioned else []
    patterns += [_numbered_pattern(items)] if _number_options(items).letters else []
    tail = _letter_tail(mentioned, plain=plain)
    names: list[Name] = []
    for match in _find_leftmost(patterns, tail, text):
        if len(names) >= most:
            break
        if match.re is patterns[0]:
            letter = match["letter"].upper()
            own = tail.match(text, match.end())
            named = own["own"] if own else None
            other = texts.get(fold(named).rstrip("."), "") if own and named else letter
            end = (own.end() if own else match.end()) if other == letter else match.end("letter")
            names.append(Name(match.start(), end, Value(letter, *match.span("letter")), True))
            if own and other and other != letter:
                names.append(Name(own.start("own"), own.end(), Value(other, *own.span("own")), False))
            continue
        kind = match.lastgroup or "text"
        option = texts.get(fold(match[kind]).rstrip(".")) if kind == "text" else _letter_of_number(match[kind], items)
        if option:
            names.append(Name(match.start(), match.end(), Value(option, *match.span(kind)), False))
    return tuple(names)


def _find_leftmost(patterns: list[re.Pattern[str]], tail: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """The matches of several patterns one after the other, as those of their alternation; the first one has a tail."""
    place = 0
    found = [pattern.search(text) for pattern in patterns]
    while any(found):
        match = min(
            filter(None, found), key=lambda candidate: candidate.start()
        )  # of equals, that of the first pattern
        yield match
        end = tail.match(text, match.end()) if match.re is patterns[0] else None
        place = end.end() if end else match.end()
        found = [
            candidate if candidate is None or candidate.start() >= place else pattern.search(text, place)
            for pattern, candidate in zip(patterns, found, strict=True)
        ]


def _may_stand(text: str, folded: Iterable[str]) -> tuple[str, ...]:
    """The folded option texts that may stand in the text: of others, one of the words is missing.

    To compile a pattern takes much longer than to search for it, and usually few options are named.
    """
    if not text.isascii():
        return tuple(folded)
    lower = text.lower()
    return tuple(
        option
        for option in folded
        if not option.isascii() or all(word in lower for word in re.split(r"[\s'\"]+", option))
    )


def find_option(text: str, start: int, end: int, options: Mapping[str, str]) -> tuple[str, int] | None:
    """The option whose text, perhaps without its article, stands at `start`, and where it ends; the longest one."""
    found: tuple[str, int] | None = None
    for letter, option in options.items():
        for spelling in dict.fromkeys((option.strip(), _without_article(option.strip()))):
            spelled = spelling.rstrip(".")
            stop = start + len(spelled)
            whole = stop <= end and text[start:stop].casefold() == spelled.casefold()
            if spelled and whole and not _GOES_ON.match(text, stop) and (found is None or stop > found[1]):
                found = letter, stop
    return found


def letter_of_number(written: str, options: Mapping[str, str]) -> str | None:
    """The letter of the option with a number, where the options' texts are numbered."""
    return _letter_of_number(written, tuple(options.items()))


def two_answers(letters: list[str]) -> Clash:
    """The Clash of letters that contradict each other."""
    return Clash(f"two different answers: {' and '.join(letters[:5])}", tuple(letters))


def is_bare(text: str, start: int, end: int) -> bool:
    """True if `text[start:end]` holds nothing but closing brackets, quotes, emoji and punctuation."""
    return _NOTHING.match(text[start:end]) is not None


def skip_ending(text: str, value: Value, options: Mapping[str, str]) -> int:
    """The place after `value` and after the option text, brackets and punctuation that belong to it: "B) neutral."."""
    place = max(value.end, value.tail)
    tail = _TAIL.match(text, place)
    place = tail.end() if tail else place
    option = options[value.letter].strip()
    opened = _OPEN.match(text, place)
    inside = opened.end() if opened else place
    for spelling in dict.fromkeys((option, _without_article(option))):
        end = inside + len(spelling)
        if spelling and text[inside:end].casefold() == spelling.casefold() and _ends_text(text, end):
            tail = _TAIL.match(text, end)
            return tail.end() if tail else end
    beside = _OWN_LETTER.match(text, max(value.end, value.tail))
    if beside and beside["letter"].upper() == value.letter:
        return beside.end()
    return place


def share_words(options: Mapping[str, str]) -> bool:
    """True if the options are two sentences that share most words, as in tasks that ask which one makes sense."""
    texts = [set(fold(option).rstrip(".").split()) for option in options.values()]
    if len(texts) != 2 or min(map(len, texts)) < 3:
        return False
    return 2 * len(texts[0] & texts[1]) >= len(texts[0] | texts[1])


def are_numbered_sentences(options: Mapping[str, str]) -> bool:
    """True if the options are called "Sentence 1" and "Sentence 2", as in the bundled task on common sense."""
    numbering = _number_options(tuple(options.items()))
    return len(numbering.letters) == len(options) == 2 and numbering.stem in {"", "sentence", "statement"}


def fold(text: str) -> str:
    """`text` without differences of case, width, quotation marks and white space."""
    if text.isascii():  # the same in a fraction of the time
        return " ".join(text.replace("`", "'").split()).lower()
    return " ".join(unicodedata.normalize("NFKC", text.translate(_QUOTES)).split()).casefold()


def _is_struck_out(text: str, value: Value, end: int) -> bool:
    """True if the value stands between `~~` and `~~` on its line."""
    low = max(0, value.start - 80)
    before = text[max(low, text.rfind("\n", low, value.start) + 1) : value.start]
    return before.count("~~") % 2 == 1 and text.find("~~", value.end, end) >= 0


def _ends_text(text: str, place: int) -> bool:
    """True if an option's text that ends at `place` is not the beginning of a longer phrase."""
    return _ends_phrase(text[place : place + _LONGEST].partition("\n")[0])


def _ends_phrase(rest: str) -> bool:
    """True if the rest of a line shows that a label ended before it: nothing, punctuation, or a reason."""
    return is_bare(rest, 0, len(rest)) or bool(_TEXT_END.match(rest) or _BECAUSE.match(rest.lstrip()))


def _places(text: str, start: int, end: int) -> list[int]:
    """Where a label may begin: after opening brackets and quotes, and after words such as "the answer is"."""
    first = _skip(_OPEN, text, start, end)
    second = _skip(_OPEN, text, _skip(_LEAD, text, first, end), end)
    return [first] if second == first else [first, second]


def _skip(pattern: re.Pattern[str], text: str, start: int, end: int) -> int:
    match = pattern.match(text, start, end)
    return match.end() if match else start


def _read_letter(text: str, place: int, end: int, options: Mapping[str, str]) -> Value | Clash | None:
    """Read a letter that something sets off from a word: "B", "(b)", "B) neutral", "B because", not "A man"."""
    letter = unicodedata.normalize("NFKC", text[place : place + 1] if place < end else "").upper()
    if len(letter) != 1 or not "A" <= letter <= "Z":
        return None
    tail = _TAIL.match(text, place + 1, end)
    bare = is_bare(text, place + 1, end)
    if tail is None or not (bare or tail["close"] or tail["signs"] or tail["gap"] or tail["sep"]):
        return None
    if tail["sep"] and not tail["sep"].strip("?？") and not bare:  # "A? No, B."
        return None
    rest = text[tail.end() : end]
    marked = bool(tail["close"] or tail["sep"]) or letter not in "AI"  # otherwise it may be a word of an option's text
    own_text = [option for option, _ in _starting_options(rest, options, loose=marked)]
    word = letter in "AI" and tail["sep"].startswith("..") and rest[:1].islower() and not _BECAUSE.match(rest)
    separated = not word and _separates(tail, rest)
    if not (bare or own_text or separated or (letter in options and _names_other(rest, letter, options))):
        return None
    if letter not in options:
        if _starting_options(text[place:end], options):  # the letter is itself the text of an option
            return None
        return Clash(f"the letter {letter} is not among the options {', '.join(options)}")
    rivals = own_text if own_text and letter not in own_text else []
    rivals = rivals or _names_other(rest, letter, options, strict=tail["sep"] in {".", "。", "-"})
    rivals = rivals or _other_number(rest, letter, options)
    return two_answers([letter, *rivals]) if rivals else Value(letter, place, place + 1)


def _separates(tail: re.Match[str], rest: str) -> bool:
    """True if what follows the letter shows that it is a label and not a word."""
    if tail["sep"] in {"/", "&", "+"}:
        return False
    if tail["signs"] and not tail["sep"]:  # not in "A 🐕 barks"
        return not rest[:1].islower() or bool(_BECAUSE.match(rest))
    glued = tail.end() == tail.end("sep")  # "A.I.", "C-section", "A's"
    if tail["sep"] in {".", "-"} or (not tail["sep"] and not tail["gap"]):
        return not glued or not rest[:1].isalnum()
    return bool(tail["sep"] or tail["close"] or "\t" in tail["gap"] or _BECAUSE.match(rest))


def _names_other(rest: str, letter: str, options: Mapping[str, str], *, strict: bool = False) -> list[str]:
    """Other options named right after `letter`: "B or C", "A/B/C", and the whole list "A) yes B) no"."""
    other = _OTHER.match(rest)
    if other and other["letter"] in options and other["letter"] != letter:
        after = rest[other.end() :]
        alone = is_bare(after, 0, len(after))
        word = other["letter"] in "AI" and re.match(r"\s+[^\W\d_]", after) and not _BECAUSE.match(after.lstrip())
        if alone or (not strict and not word):
            return [other["letter"]]
    shares = [share["letter"] for share in _SHARE.finditer(rest)]  # "A: 30%, B: 60%"
    if any(share in options and share != letter for share in shares):
        return [share for share in shares if share in options and share != letter]
    folded = fold(rest)
    for key, option in options.items():
        if key != letter and option.strip() and (wanted := _fold_option(option)) in folded:
            listed = re.search(rf"(?<!\w){re.escape(key.casefold())}[).:\]]\s?{re.escape(wanted)}", folded)
            if listed and not _REJECTS.search(folded, 0, listed.start()):
                return [key]
    return []


def _read_text(text: str, place: int, end: int, options: Mapping[str, str]) -> Value | Clash | None:
    """Read an option's text, which may lack its article: "neutral", "Neutral (B)", "the library, because …"."""
    rest = text[place:end]
    starting = _starting_options(rest, options, loose=True)
    if len(starting) > 1:
        return Clash(f"the answer text fits two options: {' and '.join(letter for letter, _ in starting)}")
    if not starting:
        return None
    [(letter, wanted)] = starting
    if not fold(rest).startswith(wanted):  # an article that the option does not have
        article = _ARTICLE.match(text, place, end)
        place = article.end() if article else place
        rest = text[place:end]
    after = fold(rest)[len(wanted) :]
    beside = _BRACKETED.match(after)
    named = beside["letter"].upper() if beside else letter
    if beside and not is_bare(after, beside.end(), len(after)) and named in "AI":
        named = letter  # the article or the pronoun of a sentence that goes on
    joined = _JOINED.match(after)
    following = _starting_options(after[joined.end() :] if joined else after, options, loose=True)
    rivals = [other for other in [named, *(option for option, _ in following)] if other != letter]
    if _REJECTED.search(after):  # "positive ✅ / negative ❌"
        rivals += [other for other, option in options.items() if other != letter and _fold_option(option) in after]
    if rivals:
        return two_answers([letter, *rivals])
    same = text[place : place + len(wanted)].casefold() == wanted
    return Value(letter, place, place + len(wanted) if same else end)


def _read_number(text: str, place: int, end: int, options: Mapping[str, str]) -> Value | Clash | None:
    """Read the number of a numbered option: "2", "Option 2", "sentence two", "the second one"."""
    items = tuple(options.items())
    match = _number_pattern(items).match(text, place, end) if _number_options(items).letters else None
    if match is None:
        return None
    if _NUMBER_OTHER.match(text, match.end(), end):
        return Clash("two different answers: two numbers")
    if not _ends_phrase(text[match.end() : end]):
        return None
    group = match.lastgroup or 0
    letter = _letter_of_number(match[group], items)
    return Value(letter, *match.span(group), match.end()) if letter else None


RULES: tuple[LabelRule, ...] = (
    LabelRule("letter", "**(b)** Sentence 2", _read_letter),
    LabelRule("option text", "Sentence 2, because it cannot be.", _read_text),
    LabelRule("number", "the second one", _read_number),
)
"""The ways in which a line can name an option. Every rule is tried, and all that read something must agree."""


def _other_number(rest: str, letter: str, options: Mapping[str, str]) -> list[str]:
    """The option whose number follows right after `letter`, if it is another one."""
    value = _read_number(rest, _skip(_OPEN, rest, 0, len(rest)), len(rest), options)
    return [value.letter] if isinstance(value, Value) and value.letter != letter else []


def _starting_options(rest: str, options: Mapping[str, str], *, loose: bool = False) -> list[tuple[str, str]]:
    """The options, each with its folded text, that are all of `rest`, or else that `rest` begins with as a phrase.

    With `loose`, articles at the beginning are ignored if no option fits as it stands.
    """
    folded = fold(rest[_skip(_OPEN, rest, 0, len(rest)) :])
    texts, short = _fold_options(tuple(options.items()))
    exact = _options_at(folded, texts)
    return exact if exact or not loose else _options_at(_without_article(folded), short)


@lru_cache(maxsize=256)
def _fold_options(options: tuple[tuple[str, str], ...]) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """The folded texts of the options by letter: as they stand, and without articles at their beginnings."""
    texts = {letter: _fold_option(option) for letter, option in options}
    return texts, {letter: _fold_option(_without_article(option)) for letter, option in options}


def _options_at(folded: str, option_texts: Mapping[str, str]) -> list[tuple[str, str]]:
    whole: list[tuple[str, str]] = []
    prefix: list[tuple[str, str]] = []
    for letter, text in option_texts.items():
        if text and folded.startswith(text):
            after = folded[len(text) :]
            if is_bare(after, 0, len(after)):
                whole.append((letter, text))
            elif _TEXT_END.match(after) or _BECAUSE.match(after.lstrip()):
                prefix.append((letter, text))
    return whole or prefix


def _without_article(text: str) -> str:
    article = _ARTICLE.match(text)
    return text[article.end() :] if article else text


@lru_cache(maxsize=1024)
def _fold_option(option: str) -> str:
    """The option's text, folded, without its full stop, which models leave out."""
    return fold(option.translate(LETTER_SIGNS)).rstrip(".")


class _Numbering(NamedTuple):
    """Letters by number, and the word before the numbers, in lower case: "sentence" of "Sentence 1"."""

    letters: Mapping[int, str]
    stem: str


@lru_cache(maxsize=256)
def _number_options(options: tuple[tuple[str, str], ...]) -> _Numbering:
    """The numbers in the options' texts ("Sentence 1", "Sentence 2" or "1. …", "2. …") if they count up from 1."""
    for pattern in (_NUMBERED.fullmatch, _NUMBERING.match):
        matches = [match for _, text in options if (match := pattern(text.strip()))]
        stems = {match.groupdict().get("stem", "").strip().casefold() for match in matches}
        numbers = [int(match["number"]) for match in matches]
        if len(stems) == 1 and numbers == list(range(1, len(options) + 1)):
            return _Numbering(dict(zip(numbers, (letter for letter, _ in options), strict=True)), stems.pop())
    return _Numbering({}, "")


def _letter_of_number(written: str, options: tuple[tuple[str, str], ...]) -> str | None:
    """The letter of the option with a number written as "2", "two" or "second"."""
    folded = written.casefold()
    number = _NUMBER_WORDS.get(folded) or _ORDINALS.get(folded) or (int(folded) if folded.isdecimal() else 0)
    return _number_options(options).letters.get(number)


@lru_cache(maxsize=256)
def _number_pattern(options: tuple[tuple[str, str], ...]) -> re.Pattern[str]:
    """The pattern of a number as a label: "2", "Option 2", "sentence two", "the second sentence"."""
    noun = "|".join([re.escape(_number_options(options).stem) or _NOUN, _NOUN, "number", "no\\."])
    return re.compile(
        rf"(?:(?:the\s)?(?:{noun})\s{{0,2}}#?)?(?P<number>{_ANY_NUMBER})"
        rf"|(?:the\s)?(?P<ordinal>{'|'.join(_ORDINALS)})(?:\s(?:{noun}|one))\b",
        re.IGNORECASE,
    )


@lru_cache(maxsize=256)
def _name_texts(options: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    """The letters of the options by their folded texts, with and without their articles; a shared text has none."""
    texts: dict[str, str] = {}
    for letter, option in options:
        for text in (option.strip(), _without_article(option.strip())):
            folded = _fold_option(text)
            if 1 < len(folded) <= _LONGEST_NAME or folded.isdecimal():
                texts[folded] = "" if texts.get(folded, letter) != letter else letter
    return {text: letter for text, letter in texts.items() if letter}


_NAME_START = rf"(?<!{_ALPHABETIC})(?<![.'’/-])"
_NAME_CLOSE = r"(?:[)\]*_\"'”’»`}$>]|\\[)\]]){0,6}"
_PLAIN_START, _PLAIN_MARKS, _PLAIN_CLOSE = r"(?<!\w)(?<![.'/-])", r"[(\[{*_\"'`$<]{0,6}", r"[)\]*_\"'`}$>]{0,6}"
"""The same for plain texts: those in ASCII without a backslash. Patterns are compiled for the options of each example,
and other characters in a set make that take ten times as long."""


@lru_cache(maxsize=64)
def _letter_pattern(letters: str) -> re.Pattern[str]:
    """The pattern of an option named by its letter; `_letter_tail` belongs behind it."""
    no_word = rf"(?![AI]\s{{1,3}}(?!{_FUNCTION_WORDS})[\w“\"'])"  # the article, the pronoun
    marked = r"(?:(?<=[(\[*\"'“‘`{])|(?i:(?<=option\s)|(?<=choice\s)))"
    escaped = "".join(re.escape(letter) for letter in letters)
    small = rf"(?:(?<=\()|(?i:(?<=option\s)|(?<=choice\s))|(?=\w\)))[{escaped.lower()}]"
    return re.compile(
        rf"{_NAME_START}{_NAME_NOUN}{_MARKS}"
        rf"(?P<letter>(?:{no_word}|{marked})[{escaped}]|{small})(?!['’-]?{_ALPHABETIC}|\.\w\.)"
    )


@lru_cache(maxsize=256)
def _letter_tail(texts: tuple[str, ...], *, plain: bool) -> re.Pattern[str]:
    """The pattern of what belongs to a letter: closing brackets, and the text of an option right after it."""
    close = _PLAIN_CLOSE if plain else _NAME_CLOSE
    separator = (r"[\s:,(=*-]{1,4}" if plain else r"[\s:,(–—=*-]{1,4}") + r"(?i:(?:an?|the)\s)?"
    return re.compile(rf"{close}(?:{separator}(?P<own>(?i:{_any_of(texts, plain=plain)}))(?!\w){close})?")


@lru_cache(maxsize=256)
def _text_pattern(texts: tuple[str, ...], *, plain: bool) -> re.Pattern[str]:
    """The pattern of an option named by its text."""
    start = rf"{_PLAIN_START}{_PLAIN_MARKS}" if plain else rf"{_NAME_START}{_MARKS}"
    end = rf"(?!\w|['-]\w){_PLAIN_CLOSE}" if plain else rf"(?!\w|[’'-]\w){_NAME_CLOSE}"
    return re.compile(rf"{start}(?i:(?:an?|the|to)\s{{1,2}})?(?P<text>(?i:{_any_of(texts, plain=plain)})){end}")


@lru_cache(maxsize=256)
def _numbered_pattern(options: tuple[tuple[str, str], ...]) -> re.Pattern[str]:
    """The pattern of a numbered option named by its number."""
    noun = "|".join([re.escape(_number_options(options).stem) or "option", "option", "choice"])
    return re.compile(
        rf"{_NAME_START}(?:(?i:(?:the\s)?(?:{noun})\s{{0,2}}#?(?P<number>{_ANY_NUMBER}))"
        rf"|(?i:the\s(?P<ordinal>{'|'.join(_ORDINALS)})\s(?:{noun}|one)\b))"
    )


def _any_of(texts: tuple[str, ...], *, plain: bool) -> str:
    """A pattern for any of several folded option texts, the longest first."""
    words = "|".join(_spell(text) for text in sorted(texts, key=len, reverse=True)) or r"(?!)"
    return words.replace("['’]", "'").replace('["“”]', '"') if plain else words


def _spell(folded: str) -> str:
    """A pattern for an option's folded text in prose, with any white space between its words."""
    return r"\s{1,3}".join(re.escape(word).replace("'", "['’]").replace('"', '["“”]') for word in folded.split())
