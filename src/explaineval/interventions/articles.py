"""Which of "a" and "an" a word takes. By sound, as far as spelling tells it."""

from __future__ import annotations

import re
import unicodedata

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
    """Say "a" or "an" before `word`: an hour, a university, an unusual day, a one-way street, an FBI agent.

    Spelling does not tell everything: acronyms of four letters or more with a vowel inside are read as words
    (a NATO ally), and "herb" and "historic" get the consonant that most speakers give them.
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
