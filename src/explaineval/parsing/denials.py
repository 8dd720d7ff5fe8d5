"""Sentences that deny the answer beside them: "A is wrong because …", "I disagree with A", "my answer was wrong".

They give no other answer, so they are searched for only where an answer is known. If the options are sentences that are
judged ("which one is against common sense?"), "A is wrong" may be the reason for the answer A, and only "A is the wrong
answer" denies it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from itertools import islice

from explaineval.parsing.layout import Marker
from explaineval.parsing.letters import Clash, Name, are_numbered_sentences, find_names, fold
from explaineval.parsing.modality import is_asserted, sentence_start
from explaineval.parsing.statements import (
    MOST_NAMES,
    POLAR,
    SENSIBLE,
    Claim,
    find_inferences,
    joined_names,
    judges_sentences,
)

_BEFORE = 120  # characters before a name that are searched for words that deny it

_SURE = (
    r"(?:\s(?:actually|really|clearly|definitely|certainly|simply|in\sfact|therefore|thus|hence|also|now|plainly"
    r"|obviously|still|probably|likely|after\sall|then|indeed)){0,2}"
)
_BAD = r"(?:wrong|incorrect|mistaken|false|bad|erroneous|inaccurate)"
_NOUN = r"(?:answer|choice|option|label|letter|one|sentence|conclusion|classification)"
_NEVER = r"(?:(?:do|can|could|would|will|should)(?:\snot|n['’]t)|cannot|can['’]t|won['’]t|can\sno\slonger|no\slonger)"
_GOOD = (
    r"(?:correct|right|true|supported|justified|valid|accurate|warranted|tenable|possible|appropriate|proper|established"
    r"|guaranteed)"
)
_TAKEN_BACK = re.compile(
    r"(?:(?:^|[.!?。]\s|(?:explanation|rationale|reasoning|note|correction)[*_]{0,3}[:：])[\s>*_#-]{0,6}"
    r"(?P<own>(?:(?:wait|no|sorry|I['’]m\s(?:\w+\s)?sorry|my\sbad|(?:my\s)?apologies|oops|actually|hmm|unfortunately|hold\son|well|oh|but)[,.!:…\s—-]{1,4}){0,3}"
    r"(?:I(?:['’]ve|\shave|\snow\ssee\s(?:that\s)?I|\sreali[sz]e\s(?:that\s)?I|\ssee\s(?:that\s)?I"
    r"|\s(?:think|believe|fear|am\safraid)\s(?:that\s)?I(?:['’]ve|\shave)?)?\s"
    r"(?:made\s(?:an?\s)?(?:\w+\s)?(?:mistake|error)|was\s(?:wrong|mistaken|incorrect)|misread|misunderstood|misspoke"
    r"|answered\s(?:incorrectly|wrongly)"
    rf"|(?:chose|picked|gave|selected|provided|given|chosen|made)\s(?:incorrectly|wrongly|(?:the|an?)\s{_BAD}\s{_NOUN})"
    r"|should\shave\s(?:answered|chosen|said|picked)\s(?:differently|something\selse|otherwise|another))"
    rf"|I\s(?:(?:{_NEVER})\s(?:agree\swith|stand\sby|stand\sbehind|accept|believe)|(?:now\s)?(?:disagree\swith|reject))"
    r"\s(?:my|this|the\sgiven)\s(?:own\s)?"
    r"(?:(?:previous|earlier|first|initial|original)\s)?answer"
    r"|(?:that|this)\s(?:is|was)\s(?:(?:the|an?)\s(?:wrong|incorrect)|not\sthe\s(?:right|correct))\s(?:answer|choice|label)"
    r"|(?:please\s)?(?:disregard|ignore|discard|forget|strike|scrap)\s(?:my|that|the)\s"
    r"(?:(?:previous|earlier|first|initial|original|above)\s)?(?:answer|choice|label)"
    r"|(?:I\s(?:sincerely\s)?)?(?:apologi[sz]e|apologies)\sfor\s(?:the|my|any)\s(?:\w+\s)?(?:mistake|error|confusion|wrong))))"
    r"|\b(?:my|the)\s(?:(?:previous|earlier|first|initial|original|above|given|stated)\s)?(?:answer|choice|response|label)"
    r"(?:\s(?:(?P<letter>[A-Z])|\((?P<inside>[A-Z])[^()\n]{0,20}\)|above|given|earlier|(?:that\s)?I\s(?:gave|chose|provided|have\sgiven)))?"
    r"\s(?:was|is|seems(?:\sto\sbe)?|appears\sto\sbe)(?:\s(?:actually|in\sfact|clearly|indeed|therefore|probably)){0,2}\s"
    r"(?:wrong|incorrect|mistaken|not\s(?:correct|right)|an?\s(?:error|mistake)|inaccurate|a\smisreading)\b"
    r"|\bI\s(?:(?:would|must|need\sto|have\sto|want\sto|should|now|hereby|will|would\slike\sto)\s){0,2}"
    r"(?:(?:retract|withdraw|take\sback|revise|reconsider|correct)\s(?:my|that|the)\s(?:\w+\s){0,2}?(?:answer|choice|response)"
    r"|take\smy\s(?:\w+\s)?(?:answer|choice)\sback|change\smy\s(?:answer|choice)\b(?!\s(?:to|from|into)\b))",
    re.IGNORECASE | re.MULTILINE,
)

_MAY_TAKE_BACK = re.compile(r"i[\s']|[^\W_]\s(?:answer|choice|response|label)|apolog")
"""Found in every lower-case text in which `_TAKEN_BACK` is found, and much faster looked for."""

_CLOSE = r"[)\]*_\"'”’»`}$\\]{0,6},?\s{0,2}"
_BE = r"(?:is|was|are|were|must\sbe|has\sto\sbe|would\sbe|should\sbe|['’]s)"
_BE_NOT = (
    rf"(?:(?:is|was|are|were)(?:{_SURE}\snot|n['’]t)|(?:would|can|could|should)(?:{_SURE}\snot|n['’]t){_SURE}\sbe|(?:cannot|can['’]t){_SURE}\sbe"
    r"|['’]s\snot)"
)
_IS_NO_ANSWER = re.compile(  # denies any option, even a sentence that is judged
    rf"{_CLOSE}(?:{_BE}{_SURE}\s(?:the|an?|my)\s{_BAD}"
    rf"|{_BE_NOT}{_SURE}\s(?:the|a|my)(?:\s(?:{_GOOD}|best|most\s\w+))?)\s(?:answer|choice|label)\b",
    re.IGNORECASE,
)
_IS_WRONG = re.compile(
    rf"{_CLOSE}(?:{_BE}{_SURE}\s(?:(?:{_BAD}|invalid|unsupported|unjustified|unwarranted|untenable)\b|an?\s(?:error|mistake)\b"
    rf"|(?:the|an?)\s{_BAD}\s{_NOUN}\b)"
    rf"|{_BE_NOT}{_SURE}\s(?:{_GOOD}\b|the\scase\b|(?:the\s(?:(?:{_GOOD}|best|most\s\w+)\s)?|my\s){_NOUN}\b)"
    r"|(?:is|can\sbe|must\sbe|has\sto\sbe|should\sbe)(?:\stherefore|\sthus)?\s(?:ruled\sout|excluded|rejected|discarded)\b)",
    re.IGNORECASE,
)
_FAILS = re.compile(
    rf"{_CLOSE}(?:(?:does|do|can|could|would)(?:\snot|n['’]t){_SURE}|cannot{_SURE})\s"
    r"(?:hold|fit|apply|follow|work|stand|make\ssense|be\s(?:it|inferred|concluded))\b"
    r"(?!\s(?:perfectly|exactly|fully|entirely|completely|quite|neatly|strictly))",
    re.IGNORECASE,
)
_FITS = re.compile(
    rf"{_CLOSE}(?:(?:is|are|seems|can\sbe|would\sbe){_SURE}\s(?:the\s)?{_GOOD}\b|(?:fits?|holds?|applies|apply|works?|follows?)\b)",
    re.IGNORECASE,
)
_TOO = re.compile(rf"{_CLOSE}(?:is|was|would\sbe|goes){_SURE}\stoo\s(?:strong|weak|far|strict)\b", re.IGNORECASE)
_UNBELIEVED = re.compile(
    rf"\b(?:I(?:\s{_NEVER}){_SURE}\s(?:think|believe|feel|say|see\show)|I(?:\snow)?\sdoubt)\s(?:that\s)?\Z",
    re.IGNORECASE,
)
_CHOSE = re.compile(
    r"\bI\s(?:had\s|have\s)?(?:answered|chose|chosen|picked|selected|said|gave|went\swith)\s\Z", re.IGNORECASE
)
_WRONGLY = re.compile(
    rf"{_CLOSE}(?:(?:by\smistake|in\serror|mistakenly|incorrectly|wrongly)\b"
    rf"|(?:but\s(?:that|this|it)|which)\s{_BE}{_SURE}\s(?:{_BAD}|an?\s(?:error|mistake))\b)",
    re.IGNORECASE,
)
_NEITHER = re.compile(r"\bneither\s(?:of\s)?(?:option\s|answer\s|label\s)?\Z", re.IGNORECASE)
_REJECTS_ANSWER = (
    rf"\bI(?:\s{_NEVER}|['’]d\snot|\sdid(?:\snot|n['’]t)){_SURE}\s(?:choose|pick|select|go\swith|answer)"
    rf"|\b(?:it\s(?:is|was|would\sbe)|['’]s){_SURE}\s(?:{_BAD}|an?\s(?:error|mistake))\sto\s"
    r"(?:say|choose|pick|select|answer|conclude|label\sit|call\s(?:it|this))"
    rf"|\b(?:the|my)\s(?:{_GOOD}\s|final\s|best\s)?(?:answer|label|choice|option|relation(?:ship)?)(?:\shere)?(?:\s|(?=n['’]t)){_BE_NOT}{_SURE}"
)
_NOT_ANSWER = re.compile(rf"(?:{_REJECTS_ANSWER})\s(?:the\s)?(?:answer\s|option\s|label\s)?\Z", re.IGNORECASE)
_REJECTED = re.compile(
    r"(?:\bI\s(?:would\s|must\s|have\sto\s|also\s|now\s|therefore\s){0,2}(?:disagree\swith|reject|rule\sout|retract|withdraw)"
    rf"|\bI(?:\s{_NEVER}|['’]d\snot){_SURE}\s(?:agree\swith|accept|endorse|support|stand\sby)|{_REJECTS_ANSWER})"
    r"\s(?:the\s)?(?:answer\s|option\s|label\s)?\Z",
    re.IGNORECASE,
)
_IT_IS_NOT = re.compile(
    rf"\b(?:it|this|that)(?:\s|(?=['’])){_BE_NOT}{_SURE}\s(?:a\scase\sof\s)?(?:an?\s)?\Z", re.IGNORECASE
)
_NOT_SAID = re.compile(
    rf"\bI(?:\s{_NEVER}|['’]d\snot){_SURE}\s(?:say|(?:call|label)\s(?:it|this)"
    r"|(?:think|believe)\s(?:that\s)?(?:(?:it|this|that|(?:the|my)\s(?:\w+\s)?(?:answer|label))(?:\sis|['’]s)))"
    r"\s(?:an?\s|the\s)?(?:answer\s|option\s|label\s)?\Z",
    re.IGNORECASE,
)
_THERE_IS_NO = re.compile(rf"\bthere(?:\s(?:is|was)|['’]s){_SURE}\sno\s(?:\w+\s)?\Z", re.IGNORECASE)
_ENDS = re.compile(
    rf"{_CLOSE}(?:[.,;!?)—–]|\Z|\n|(?:because|since|as|given|here|between|at\sall|in\sth(?:is|e)\s(?:case|pair))\b)",
    re.IGNORECASE,
)
_COMMON_SENSE = r"(?:our\s|basic\s|all\s|any\s|human\s)?common\ssense"
_NOT_AGAINST = re.compile(  # denies that a sentence is the one that goes against common sense
    rf"{_CLOSE}(?:(?:(?:does|do|did|can|could|would)(?:{_SURE}\snot|n['’]t)|cannot|can['’]t|never){_SURE}\s"
    rf"(?:(?:go(?:es)?|be|run)\s(?:against|counter\sto)|contradict|violate|defy|lack|conflict\swith)\s{_COMMON_SENSE}"
    rf"|{_BE_NOT}{_SURE}\s(?:(?:the\s(?:one|sentence|statement|option)\s(?:that|which)\s(?:(?:is|goes|runs)\s)?(?:against\b|contradicts|violates|defies))"
    rf"|against\s{_COMMON_SENSE}|in\sconflict\swith\s{_COMMON_SENSE}))",
    re.IGNORECASE,
)
_BOTH_SENSIBLE = re.compile(  # denies that either sentence is the one
    rf"(?:\bboth(?:\s(?:of\s)?(?:the(?:m|se)?|two|sentences|statements|options)){{0,3}}\s{SENSIBLE}"
    r"|\bneither(?:\s(?:of\s)?(?:the(?:m|se)?|two|sentences?|statements?|one)){0,3}\s"
    rf"(?:goes\sagainst|contradicts|violates|defies)\s{_COMMON_SENSE})"
    r"(?![^\n]{0,200}\b(?:but|however|although|though|yet|while|whereas|except|only|grammatically|more|less)\b)",
    re.IGNORECASE,
)
_SUBJECT = re.compile(  # what may stand before a letter that is the subject of its clause
    r"(?:^|[,;:.!?—–(\n]|-\s|\b(?:that|so|but|and|then|because|since|as|why|think|believe|say|see|thus|hence|therefore|both"
    r"|choosing|selecting|picking|answering|actually|clearly|obviously|now|means|though|although|(?:answer|label|choice)(?:\sof)?))[\s*_>#-]{0,6}\Z",
    re.IGNORECASE,
)
_OPENS = re.compile(
    r"(?:^|[,;:.!?—–(\n]|\b(?:that|so|then|think|believe|means|thus|hence|therefore|choosing|(?:the|my)\s(?:label|answer|option|choice)(?:\sof)?))[\s*_>#-]{0,6}\Z",
    re.IGNORECASE,
)
_PLURAL = re.compile(rf"{_CLOSE}(?:are|were|do|can|cannot|could|would|should|must|have)\b", re.IGNORECASE)
_AND = re.compile(r"(?:\b(?:and|or|nor)\b|&)[^,]{0,12}\Z", re.IGNORECASE)
_OBJECTION = re.compile(
    r"\b(?:objection|worry|argument|notion|thought|impression|possibility|fear|charge)\sthat\s\Z", re.I
)
_STILL_BEST = re.compile(  # "A is not correct in every detail, but it fits best"
    r"[^.;!?\n]{0,80}\b(?:but|yet|though|although|however)\s(?:it|this|that|still|nevertheless|nonetheless|the\s(?:best|closest))\b"
    r"|\s(?:or|nor)\s(?:wrong|right|correct|incorrect)\b|\s(?:entirely|in\s(?:the|a)\s(?:strict\w*|narrow\w*|literal)|in\severy)\b"
    r"|\s(?:for|to|about|than)\s(?!(?:this|that|the\s(?:question|reason|pair)|these|two|several|many)\b)",
    re.IGNORECASE,
)


def find_retractions(text: str, letters: Collection[str]) -> list[Claim]:
    """The sentences of `text` in which the model takes back its answer, which is one of `letters`."""
    claims: list[Claim] = []
    if text.isascii() and not _MAY_TAKE_BACK.search(text.lower()):
        return claims
    for match in _TAKEN_BACK.finditer(text):
        start = match.start("own") if match["own"] else match.start()
        named = (match["letter"] or match["inside"] or "").upper()
        if named and named not in letters:
            continue
        if is_asserted(text, start, match.end()):
            claims.append((Marker("answer", start, match.end()), Clash("the explanation takes its answer back")))
            if len(claims) == MOST_NAMES:
                break
    return claims


def find_denials(text: str, letters: Collection[str], options: Mapping[str, str]) -> list[Claim]:
    """The sentences of `text` that deny one of `letters`, the options that are the answer."""
    names = find_names(text, options, MOST_NAMES + 1)[:MOST_NAMES]
    judged = judges_sentences(options) or _are_sentences(options)
    places = (place for place, name in enumerate(names) if name.letter in letters)
    spans = [(names[place].letter, _find_denial(text, names, place, judged=judged)) for place in places]
    spans += [(letter, match.span()) for letter, match in find_inferences(text, options, denied=True)]
    if are_numbered_sentences(options):
        both = islice(_BOTH_SENSIBLE.finditer(text), MOST_NAMES)
        spans += [(letter, match.span()) for match in both for letter in letters]
    return [
        (Marker("answer", *span), Clash(f"the explanation denies the answer {letter}"))
        for letter, span in spans
        if span and letter in letters and is_asserted(text, *span)
    ]


def _find_denial(text: str, names: list[Name], place: int, *, judged: bool) -> tuple[int, int] | None:
    """The span of the words that deny the name at a place of `names`, None if it is not denied."""
    name = names[place]
    low = max(sentence_start(text, name.start), name.start - _BEFORE)
    before = text[low : name.start]
    known = name.lettered or fold(text[name.value.start : name.value.end]) in POLAR
    if judged:
        against = _NOT_AGAINST.match(text, name.end)
        if against and not _NEITHER.search(before):
            return name.start, against.end()
    if known and not judged:
        chose, unbelieved = _CHOSE.search(before), _UNBELIEVED.search(before)
        match = _WRONGLY.match(text, name.end) if chose else _FITS.match(text, name.end) if unbelieved else None
        if match:
            return low + (chose or unbelieved or match).start(), match.end()
    if _STILL_BEST.match(text, name.end):
        return None
    if judged:
        rejected = _NOT_ANSWER.search(before) or _IT_IS_NOT.search(before)
    else:
        rejected = (_REJECTED.search(before) or _IT_IS_NOT.search(before)) if known else None
    if not rejected and known and _ENDS.match(text, name.end):
        absent = None if judged or name.lettered else _THERE_IS_NO.search(before)
        rejected = _NOT_SAID.search(before) or absent
    if rejected:
        return low + rejected.start(), name.end
    joined = joined_names(text, names, place)
    neither = _NEITHER.search(text, max(0, joined[0].start - 20), joined[0].start)
    last = joined[-1].end
    if neither:
        fits = None if judged or len(joined) < 2 else _FITS.match(text, last)
        return (neither.start(), fits.end()) if fits else None
    together = len(joined) > 1 and _AND.search(text, joined[-2].end, joined[-1].start) and _PLURAL.match(text, last)
    if together:
        before = text[max(low, joined[0].start - _BEFORE) : joined[0].start]
    if not (_SUBJECT if name.lettered else _OPENS).search(before) or _OBJECTION.search(before):
        return None
    patterns = (_IS_NO_ANSWER,) if judged else (_IS_NO_ANSWER, _IS_WRONG, *((_FAILS, _TOO) if known else ()))
    matches = (pattern.match(text, last if together else name.end) for pattern in patterns)
    match = next(filter(None, matches), None)
    if match is None or _STILL_BEST.match(text, match.end()):
        return None
    return (joined[0].start if together else name.start), match.end()


def _are_sentences(options: Mapping[str, str]) -> bool:
    """True if all options are sentences, of which a question may ask which one is wrong."""
    return all(len(option.split()) > 2 and option.rstrip().endswith((".", "!")) for option in options.values())
