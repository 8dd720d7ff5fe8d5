"""What stands after `Answer:`, read as an option's letter, its text, or both; never guessed (answer format).

A letter counts only where it cannot be a word: alone, bracketed, emphasised, before punctuation, beside its
own option's text, or before a few words such as "because". So "A man is asleep" names no option.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

_LONGEST = 1000  # characters of a line that are looked at; an answer stands at its beginning

_OPEN = re.compile(
    r"(?:[\s*_`~\"'“”‘’«»「」『』【】()\[\]{}<>$（）［］:：\-–—•]|\\(?:boxed|text|textbf|mathbf|mathrm)\{|\\[(\[]){0,16}"
)
_LEAD = re.compile(
    r"(?:(?:so|thus|therefore|hence),?\s{1,3})?(?:it\s{1,3}is\s{1,3}|it['’]s\s{1,3})?"
    r"(?:(?:the|my)\s{1,3})?(?:(?:correct|right|best|final|most likely)\s{1,3})?"
    r"(?:(?:answer|option|choice|letter|label)\s{0,3}(?:is\s{1,3}|would be\s{1,3})?)?[:：]?",
    re.IGNORECASE,
)
_CLOSERS = r"[*_`~\"'”’»」』】)\]}>）］$\\]{0,8}+"
_TAIL = re.compile(rf"(?P<close>{_CLOSERS})(?P<gap>\s*+)(?P<sep>->|[:：;,，、.。=/&+|(（\[–—→-]?)\s*+")
_NOTHING = re.compile(r"[\s*_`~\"'”’»」』】()\[\]{}<>）］$\\.．。,，;:：!?！？、|–—\-✅✓✔️]*+\Z")
_BECAUSE = re.compile(
    r"(?:because|since|as|due to|given|weil|porque|parce|car|perché"
    r"|is (?:the )?(?:correct|right|best|answer|most))\b",
    re.IGNORECASE,
)
_TEXT_END = re.compile(rf"{_CLOSERS}\s{{0,3}}(?:[.。,，;:：!?！？(（\[–—|]|-\s|->)")
_OTHER = re.compile(
    r"(?:[.…]{0,3}\s{0,3}(?:or|and|vs\.?|/|&|,|\+|oder|ou|und|et)\s{0,3})?"
    r"(?:[.…]{0,3}\s{0,3}(?i:no|wait|rather|actually|maybe|perhaps|possibly|probably|also|even)\b[\s,:]{1,3}){0,3}"
    r"[\"'(\[*_]{0,4}(?P<letter>[A-Z])(?![^\W_]|['’-][^\W_])"
)
_SHARE = re.compile(r"(?<!\w)(?P<letter>[A-Z])\s?[:=(]\s?\d")
_BRACKETED = re.compile(
    rf"{_CLOSERS}[\s:：=,|–—-]{{0,4}}[\[(（*\"']{{0,4}}(?:option )?(?P<letter>[a-z])(?![^\W_]|['-][^\W_])"
)
_JOINED = re.compile(r"[\s.,;:/&|*()\[\]–—-]{0,6}(?:(?:or|and|und|oder|et|ou)\s)?\s{0,2}")
_QUOTES = str.maketrans("‘’“”´`", "''\"\"''")


@dataclass(frozen=True, slots=True)
class Value:
    """An option's letter, and the span of the letter or option text from which it was read."""

    letter: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Clash:
    """Something that claims to be an answer but cannot be one, in one phrase."""

    reason: str


def read_value(text: str, start: int, end: int, options: Mapping[str, str]) -> Value | Clash | None:
    """The one option that the line `text[start:end]` names, a Clash, or None if it names none.

    >>> read_value("**(b)** neutral", 0, 15, {"A": "entailment", "B": "neutral"})
    Value(letter='B', start=3, end=4)
    >>> read_value("A man", 0, 5, {"A": "entailment", "B": "neutral"}) is None
    True
    """
    end = min(end, start + _LONGEST)
    found: list[Value] = []
    for position in _places(text, start, end):
        for value in (_read_letter(text, position, end, options), _read_text(text, position, end, options)):
            if isinstance(value, Clash):
                return value
            if value is not None:
                found.append(value)
    letters = list(dict.fromkeys(value.letter for value in found))
    if len(letters) > 1:
        return two_answers(letters)
    return found[0] if found else None


def two_answers(letters: list[str]) -> Clash:
    """The Clash of letters that contradict each other."""
    return Clash(f"two different answers: {' and '.join(letters[:5])}")


def is_bare(text: str, start: int, end: int) -> bool:
    """True if nothing but closing signs and punctuation is left in `text[start:end]`."""
    return _NOTHING.match(text[start:end]) is not None


def skip_ending(text: str, value: Value, options: Mapping[str, str]) -> int:
    """The place after `value` and after the option text, brackets and punctuation that belong to it."""
    tail = _TAIL.match(text, value.end)
    place = tail.end() if tail else value.end
    option = options[value.letter].strip()
    opened = _OPEN.match(text, place)
    inside = opened.end() if opened else place
    if option and text[inside : inside + len(option)].casefold() == option.casefold():
        tail = _TAIL.match(text, inside + len(option))
        place = tail.end() if tail else inside + len(option)
    return place


def _places(text: str, start: int, end: int) -> list[int]:
    """Where a letter or an option text may begin: after opening signs, and after "the answer is"."""
    first = _skip(_OPEN, text, start, end)
    second = _skip(_OPEN, text, _skip(_LEAD, text, first, end), end)
    return [first] if second == first else [first, second]


def _skip(pattern: re.Pattern[str], text: str, start: int, end: int) -> int:
    match = pattern.match(text, start, end)
    return match.end() if match else start


def _read_letter(text: str, place: int, end: int, options: Mapping[str, str]) -> Value | Clash | None:
    letter = unicodedata.normalize("NFKC", text[place : place + 1] if place < end else "").upper()
    if len(letter) != 1 or not "A" <= letter <= "Z":
        return None
    tail = _TAIL.match(text, place + 1, end)
    if tail is None or not (tail["close"] or tail["gap"] or tail["sep"] or tail.end() == end):
        return None
    rest = text[tail.end() : end]
    bare = is_bare(text, place + 1, end)
    own_text = _starting_options(rest, options)
    if not (bare or own_text or _separates(tail, rest) or (letter in options and _names_other(rest, letter, options))):
        return None
    if letter not in options:
        if _starting_options(text[place:end], options):  # a letter as the text of an option
            return None
        return Clash(f"the letter {letter} is not among the options {', '.join(options)}")
    rivals = own_text if own_text and letter not in own_text else []
    rivals = rivals or _names_other(rest, letter, options, strict=tail["sep"] in {".", "。", "-"})
    return two_answers([letter, *rivals]) if rivals else Value(letter, place, place + 1)


def _separates(tail: re.Match[str], rest: str) -> bool:
    """True if what follows the letter shows that it is a label and no word."""
    if tail["sep"] in {"/", "&", "+"}:
        return False
    glued = tail.end() == tail.end("sep")  # "A.I.", "C-section", "A's"
    if tail["sep"] in {".", "-"} or (not tail["sep"] and not tail["gap"]):
        return not glued or not rest[:1].isalnum()
    return bool(tail["sep"] or tail["close"] or _BECAUSE.match(rest))


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
    folded = _fold(rest)
    for key, option in options.items():
        if key != letter and option.strip():
            listed = re.search(
                rf"(?<!\w){re.escape(key.casefold())}[).:\]]\s?{re.escape(_fold_option(option))}", folded
            )
            if listed:
                return [key]
    return []


def _read_text(text: str, place: int, end: int, options: Mapping[str, str]) -> Value | Clash | None:
    rest = text[place:end]
    letters = _starting_options(rest, options)
    if len(letters) > 1:
        return Clash(f"the answer text fits two options: {' and '.join(letters)}")
    if not letters:
        return None
    [letter] = letters
    after = _fold(rest)[len(_fold_option(options[letter])) :]
    beside = _BRACKETED.match(after)
    named = beside["letter"].upper() if beside else letter
    if beside and not is_bare(after, beside.end(), len(after)) and named in "AI":
        named = letter  # the article or the pronoun of a sentence that goes on
    joined = _JOINED.match(after)
    next_text = _starting_options(after[joined.end() :] if joined else after, options)
    rivals = [other for other in [named, *next_text] if other != letter]
    if rivals:
        return two_answers([letter, *rivals])
    length = len(options[letter].strip())
    same = text[place : place + length].casefold() == options[letter].strip().casefold()
    return Value(letter, place, place + length if same else end)


def _starting_options(rest: str, options: Mapping[str, str]) -> list[str]:
    """The options whose text is all of `rest`, else those that `rest` begins with as a phrase."""
    folded = _fold(rest[_skip(_OPEN, rest, 0, len(rest)) :])
    whole: list[str] = []
    prefix: list[str] = []
    for letter, option in options.items():
        wanted = _fold_option(option)
        if wanted and folded.startswith(wanted):
            after = folded[len(wanted) :]
            if is_bare(after, 0, len(after)):
                whole.append(letter)
            elif _TEXT_END.match(after) or _BECAUSE.match(after.lstrip()):
                prefix.append(letter)
    return whole or prefix


def _fold(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text.translate(_QUOTES)).split()).casefold()


def _fold_option(option: str) -> str:
    """The option's text without the full stop that models leave out."""
    return _fold(option).rstrip(".")
