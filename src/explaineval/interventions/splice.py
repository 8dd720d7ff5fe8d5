"""Insert words into a text, with the article and the capital that they ask for, and find them there again."""

from __future__ import annotations

import re
import unicodedata

from explaineval.errors import InputError
from explaineval.text import counted

OPENERS = "\"'“‘«([{"
VOWELS = "aeiou"
LETTERS_SAID_WITH_A_VOWEL = "AEFHILMNORSX"
"""Letters whose name begins with a vowel sound: an FBI agent, an X-ray; but a UFO, a T-shirt."""

SILENT_H = re.compile(r"honest|hono|hour|heir")
SAID_WITH_Y = re.compile(
    r"eu|ewe(?![a-z])"  # European
    r"|uni(?![mn]|de|r|ss|ll)|unanim"  # unique, university; but uninvited, unimportant, unidentified
    r"|us[aeiu]|ut[aeio]|ur[aeio]"  # useful, utility, urinary; but upset, usher, utter, urgent
    r"|ubiq|ufo|ugand|ukr|uku|uvu"
)
SAID_WITH_W = re.compile(r"on(?:e|ce|eself)(?![a-z])|ouija")
NUMBER_SAID_WITH_VOWEL = re.compile(r"8|1[18](?:\d{2,3})?(?!\d)")
"""8, 80, 8,000; 11, 18th, 11,000, the years 1800 to 1899; but 1,100 and 118."""


def indefinite_article(word: str) -> str:
    """Return "a" or "an" as `word` needs it: an hour, a university, an unusual day, a one-way street, an FBI agent.

    It goes by spelling, which is not always enough: acronyms of four letters or more with a vowel inside are taken as
    words (a NATO ally), and "herb" and "historic" get the consonant that most speakers give them.
    """
    return "an" if _starts_with_vowel_sound(word) else "a"


def _starts_with_vowel_sound(word: str) -> bool:
    plain = unicodedata.normalize("NFD", word).lstrip(OPENERS)
    head = re.match(r"[A-Za-z]+", plain)
    if head is None:
        return NUMBER_SAID_WITH_VOWEL.match(plain) is not None
    if _is_spelled_out(head[0]):
        return head[0][0].upper() in LETTERS_SAID_WITH_A_VOWEL
    lower = plain.lower()
    if SILENT_H.match(lower):
        return True
    if SAID_WITH_Y.match(lower) or SAID_WITH_W.match(lower):
        return False
    return lower[0] in VOWELS


def _is_spelled_out(head: str) -> bool:
    """Whether the leading letters are said one by one: the X of X-ray, FBI, MRIs; but not NATO, not "a"."""
    capitals = head.removesuffix("s") if len(head) > 2 else head
    if not capitals.isupper():
        return len(head) == 1 and head.lower() not in VOWELS
    return len(capitals) < 4 or not any(letter.lower() in VOWELS for letter in capitals[1:])


SENTENCE_ENDS = ".!?…"
CLOSERS = "\"'”’»)]}"
ARTICLE = re.compile(rf"(?<![\w'’.-])([Aa][Nn]?)(\s+[{re.escape(OPENERS)}]*)$")
LAST_IN_CAPITALS = re.compile(r"(?<!\w)[A-Z]{2,}\W*$")
FIRST_IN_CAPITALS = re.compile(r"[A-Z]{2,}(?!\w)")
PRONOUN_I = re.compile(r"I(?:['’]\w+)?(?!\w)")
NAME_OR_ACRONYM = re.compile(r"\w*[A-Z]\w*[A-Z]|[A-Z]-|[A-Z]\d")
"""TV, DVDs, McDonald; X-ray, T-shirt; F16."""


def splice(text: str, offset: int, inserted: str) -> str:
    """Return `text[:offset] + inserted + " " + text[offset:]`; `offset` counts code points.

    Raises InputError where the offset is negative or beyond the text.
    """
    if not 0 <= offset <= len(text):
        raise InputError(
            f"offset {offset} lies outside a text of {counted(len(text), 'character')}; "
            "give one that counts Unicode code points from 0 up to the length of the text"
        )
    return f"{text[:offset]}{inserted} {text[offset:]}"


def add_space(text: str, offset: int) -> str:
    """Return the text with one more space at the offset.

    >>> add_space("A dog.", 2)
    'A  dog.'
    """
    return f"{text[:offset]} {text[offset:]}"


def splice_naturally(text: str, offset: int, inserted: str, *, proper: bool = False) -> str:
    """Splice, and repair the capital and the article.

    At the start of a sentence `inserted` takes over the capital of the word after it, which loses it unless
    it is a proper noun (`proper`), "I", or a word with further capitals (TV, McDonald) or a lone one (X-ray).
    An article directly before the insertion becomes the one that `inserted` asks for, in its own case.
    Raises InputError as `splice` does.
    """
    plain = splice(text, offset, inserted)
    before, after = text[:offset], text[offset:]
    if after[:1].isupper() and _starts_sentence(before):
        return f"{before}{_capitalised(inserted)} {after if proper else _uncapitalised(after)}"
    repaired = _with_article_for(inserted, before, after)
    return plain if repaired == before else splice(repaired + after, len(repaired), inserted)


def _starts_sentence(before: str) -> bool:
    """Whether a sentence starts after `before`: at the start, on a new line, after a full stop or an opening quote."""
    outside = before.rstrip(OPENERS)
    opened = outside != before and (not outside or outside[-1].isspace())
    bare = outside.rstrip() if opened else before.rstrip()
    gap = (outside if opened else before)[len(bare) :]
    return not bare or opened or "\n" in gap or bare.rstrip(CLOSERS).endswith(tuple(SENTENCE_ENDS))


def _with_article_for(inserted: str, before: str, after: str) -> str:
    """Return `before` with the article at its end, if there is one, in the form that `inserted` needs.

    A capital A within a sentence is an article only beside a word in capitals: "A CAT", not "vitamin A".
    """
    match = ARTICLE.search(before)
    if match is None:
        return before
    article, ahead = match[1], before[: match.start()]
    starts = _starts_sentence(ahead)
    in_capitals = LAST_IN_CAPITALS.search(ahead) is not None or FIRST_IN_CAPITALS.match(after) is not None
    needed = indefinite_article(inserted)
    if article.lower() == needed or (article == "A" and not starts and not in_capitals):
        return before
    cased = needed.upper() if article == "A" and not starts else article[0] + needed[1:]
    return ahead + cased + match[2]


def _capitalised(word: str) -> str:
    first = word[0].upper()
    return first + word[1:] if len(first) == 1 else word


def _uncapitalised(after: str) -> str:
    first = after[0].lower()
    if PRONOUN_I.match(after) or NAME_OR_ACRONYM.match(after) or len(first) != 1:
        return after
    return first + after[1:]


def starts_word(text: str, offset: int) -> bool:
    """Whether a word may start at the offset: at the start of the text, after a space, after an opening quote there."""
    outside = text[:offset].rstrip(OPENERS)
    return not outside or outside[-1].isspace()


def is_inside_word(text: str, offset: int) -> bool:
    """Whether an insertion at the offset would cut a word in two: letters, digits, hyphens, apostrophes on both sides.

    >>> is_inside_word("A dog barks.", 2), is_inside_word("A dog barks.", 4), is_inside_word("A T-shirt", 4)
    (False, True, True)
    """
    inside = re.compile(r"[\w'’-]")
    around = text[max(offset - 1, 0) : offset + 1]
    return 0 < offset < len(text) and all(map(inside.match, around))


def mark_insertion(text_after: str, inserted: str, offset: int) -> tuple[str, str, str]:
    """Split an edited text into what stands before the inserted words, the words as they stand, and the rest.

    The words are looked for in any case near `offset`, since an article repaired before them ("a" to "an")
    moves them by one. Where they do not occur the whole text is "before" and the others are empty.
    """
    start = find_insertion(text_after, inserted, offset)
    if start is None:
        return text_after, "", ""
    end = start + len(inserted)
    return text_after[:start], text_after[start:end], text_after[end:]


def find_insertion(text: str, inserted: str, near: int) -> int | None:
    """Return where `inserted` starts in `text`, in any case: the whole word nearest to `near`, else part of a word."""
    pattern = re.compile(f"(?=({re.escape(inserted)}))", re.IGNORECASE)
    whole = re.compile(rf"(?<!\w){re.escape(inserted)}(?!\w)", re.IGNORECASE)
    starts = [match.start() for match in pattern.finditer(text)]
    return min(starts, key=lambda start: (whole.match(text, start) is None, abs(start - near)), default=None)
