"""Sentences that do not name the answer as such but say what amounts to it, for two kinds of task.

In natural language inference "so the hypothesis is entailed" states the label; where one of two sentences goes against
common sense, "Sentence 2 makes no sense" does, while "Sentence 1 is correct" says nothing about the answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from explaineval.parsing.letters import are_numbered_sentences, fold, share_words

_BUT = re.compile(r"\b(?:but|however|although|though|except|while|whereas|yet)\b", re.IGNORECASE)
_CLOSE = r"[)\]*_\"'”’»`]{0,4}\s{1,2}"

_AGAINST = (
    r"(?:(?:is\s(?:the\s(?:one|sentence|statement)\s)?that\s)?(?:clearly\s|obviously\s|directly\s)?"
    r"(?:goes\sagainst|is\sagainst|runs\sagainst|contradicts|violates|defies|lacks|conflicts\swith|runs\scounter\sto)"
    r"\s(?:our\s|basic\s|all\s|human\s)?common\ssense)"
)
_ABSURD = (
    r"(?:nonsensical|illogical|absurd|implausible|impossible|unrealistic|unreasonable|wrong|incorrect|senseless|odd)"
)
_SENSELESS = (
    r"(?:(?:is\sthe\s(?:one|sentence|statement)\sthat\s)?(?:makes?\sno\s(?:logical\s)?sense"
    rf"|does(?:\snot|n['’]t)\smake\s(?:\w+\s)?sense|is\s(?:\w+ly\s)?{_ABSURD}"
    rf"|is\snot\s(?:logical|plausible|possible|sensible|realistic|correct))|is\sthe\s{_ABSURD}\s(?:one|sentence|statement))"
)
_SENSIBLE = (
    r"(?:makes?\s(?:perfect\s|complete\s|total\s|good\s|more\s|logical\s)?sense"
    r"|(?:is\sin\sline|is\sconsistent|aligns|agrees)\swith\scommon\ssense|follows\scommon\ssense)"
)
_ABOUT_PAIR = re.compile(rf"{_CLOSE}(?P<against>{_AGAINST})", re.IGNORECASE)
_ABOUT_SENTENCE = re.compile(
    rf"{_CLOSE}(?:(?P<against>{_AGAINST}|{_SENSELESS})|(?P<sensible>{_SENSIBLE}))", re.IGNORECASE
)
_THE_ABSURD = re.compile(
    rf"(?P<against>\bthe\s(?:{_ABSURD}\s(?:one|sentence|statement|option)|(?:one|sentence|statement)\sthat\s(?:{_AGAINST}"
    rf"|{_SENSELESS}))\s(?:here\s)?is\s)\Z",
    re.IGNORECASE,
)

_SURE = (
    r"(?:\s(?:clearly|directly|definitely|therefore|thus|logically|fully|indeed|actually|also|then|must|necessarily|in\sfact"
    r"|plainly|simply|be)){0,3}"
)
_HYPOTHESIS = (
    r"\b(?:the|this|that|our|its)\s(?:hypothesis|statement|conclusion|claim|second\ssentence|assertion|pair"
    r"|relation(?:ship)?(?:\sbetween\s[^.;!?\n]{1,60}?)?)"
)
_PREMISE = r"\b(?:(?:the\s)?(?:premise|text|passage|first\ssentence)|this|which|it)"
_INFERENCE = re.compile(
    rf"(?:{_HYPOTHESIS}{_SURE}\s(?:is|must\sbe|has\sto\sbe|remains|can\sbe\sconsidered){_SURE}(?:\san?)?{_SURE}\s"
    r"(?:(?P<entail_1>entailed|entailment)|(?P<contradict_1>contradicted|contradictory|contradiction)"
    r"|(?P<neutral_1>neutral|undetermined|neither\sentailed\snor\scontradicted))\b"
    rf"|{_PREMISE}{_SURE}\s(?:(?P<entail_2>entails)|(?P<contradict_2>contradicts))\s(?:the|this|that)\s"
    r"(?:hypothesis|second\ssentence|conclusion|claim|statement)\b"
    rf"|\bthe\s(?:hypothesis|statement|conclusion|claim){_SURE}\s(?P<contradict_3>contradicts)\s"
    r"(?:the\s)?(?:premise|text|passage|it|this)\b"
    r"|\b(?:they|the\stwo(?:\s\w+)?|(?:the\s)?premise\sand\s(?:the\s)?hypothesis|the\s(?:sentences|statements))"
    rf"{_SURE}\s(?P<contradict_4>contradict(?:\seach\sother|\sone\sanother)?|are{_SURE}\scontradictory)\b"
    r"|\b(?:so|therefore|thus|hence|which\smeans|meaning),?\s(?:it|this|that|which)\sis"
    rf"{_SURE}\s(?:(?P<entail_3>entailed)|(?P<contradict_5>contradicted|contradictory))\b)"
    r"(?!\s(?:only|partly|partially|in\spart)\b)",
    re.IGNORECASE,
)
_NOT_INFERRED = re.compile(
    rf"(?:{_HYPOTHESIS}\s(?:(?:is|can)(?:\snot|n['’]t)|cannot){_SURE}(?:\sbe)?\s"
    r"(?:(?P<entail_1>entailed)|(?P<contradict_1>contradicted|contradictory))\b"
    rf"|{_PREMISE}\s(?:does(?:\snot|n['’]t)){_SURE}\s(?:(?P<entail_2>entail)|(?P<contradict_2>contradict))\s"
    r"(?:the|this|that)\s(?:hypothesis|second\ssentence|conclusion|claim|statement)\b)",
    re.IGNORECASE,
)
_MOST = 100  # such sentences that are looked at; a text with more repeats itself without end


def find_inferences(text: str, options: Mapping[str, str], *, denied: bool = False) -> list[tuple[str, re.Match[str]]]:
    """What `text` says about premise and hypothesis: the letters of the labels that this amounts to, and where.

    With `denied` the letters of the labels that it rules out: "the hypothesis is not entailed".
    """
    letters: dict[str, str] = {}
    for letter, option in options.items():
        folded = fold(option)
        stem = next((stem for stem in ("entail", "contradict", "neutral") if folded.startswith(stem)), None)
        if stem is not None and len(folded) < 20:
            letters[stem] = letter
    if not {"entail", "contradict"} <= letters.keys():
        return []
    found: list[tuple[str, re.Match[str]]] = []
    for match in (_NOT_INFERRED if denied else _INFERENCE).finditer(text):
        stated = letters.get((match.lastgroup or "").partition("_")[0])
        if stated and not _BUT.search(_rest_of_sentence(text, match.end())):
            found.append((stated, match))
            if len(found) == _MOST:
                break
    return found


def judges_sentences(options: Mapping[str, str]) -> bool:
    """True if the options are two sentences, so that "A is correct" may speak of a sentence and not of the answer."""
    return are_numbered_sentences(options) or share_words(options)


def read_judgement(
    text: str, before: str, end: int, letter: str, options: Mapping[str, str]
) -> tuple[int, int, str] | None:
    """What is said about the sentence `letter`, named between `before` and `text[end:]`, as an answer.

    The numbers of characters before it and the place after it that belong to what is said, and the letter of the
    sentence that is against common sense. Only "Sentence 1" and "Sentence 2", as the task on common sense calls them,
    are known to be asked which is wrong; of other pairs only what is "against common sense" counts.
    """
    numbered = are_numbered_sentences(options)
    named = _THE_ABSURD.search(before) if numbered else None
    if named:
        return len(named.group()), end, letter
    match = (_ABOUT_SENTENCE if numbered else _ABOUT_PAIR).match(text, end)
    if match is None:
        return None
    if match["against"]:
        return 0, match.end(), letter
    if re.match(r"\s(?:grammatically|linguistically|only|at\sfirst)", text[match.end() : match.end() + 20]):
        return None
    return 0, match.end(), next(other for other in options if other != letter)


def _rest_of_sentence(text: str, place: int) -> str:
    return text[place : place + 120].partition(".")[0].partition("\n")[0]
