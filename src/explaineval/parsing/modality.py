"""Whether a sentence is asserted: it may instead report, suppose, deny, compare, quote or ask.

"One might say the answer is C", "if he slept, the answer would be C" and "the answer is C? No." state no answer. The
rules read a bounded stretch of the sentence on either side, clause by clause, from the statement outwards.
"""

from __future__ import annotations

import re

_REACH = 320  # characters of a sentence on either side of a statement that are read

_BOUND = re.compile(r"[.!?。！？…][\"'”’)\]*_]{0,3}(?=\s)|[。！？]|\n|;")
_NEXT_BOUND = re.compile(r"[.!?。！？…](?=[\"'”’)\]*_}$]{0,4}(?:\s|\Z))|[。！？]|\n|;")
_CLAUSE = re.compile(r"[,:：—–(]|\s-\s")
_TURN = re.compile(  # words that only open a sentence, though some of them would otherwise deny
    r"^[\s>*_#,-]{0,8}(?:(?:no|wait|sorry|oops|hmm|actually|rather|correction|well|oh|scratch that|hold on|but|and|yet)"
    r"[\s,.:!…—–-]{1,4}){1,4}",
    re.IGNORECASE,
)
_ADVERSATIVE = re.compile(r"\b(?:but|however|yet|nevertheless|nonetheless)\b", re.IGNORECASE)
_CONSECUTIVE = re.compile(
    r"\b(?:so(?!\s(?:that|long|far|much|as)\b)|therefore|thus|hence|consequently|ergo|accordingly|which\s{1,2}means"
    r"|meaning|as\s{1,2}a\s{1,2}result|this\s{1,2}means|that\s{1,2}is\s{1,2}why)\b(?:\s{1,2}that\b)?|[→⇒∴]|[=-]>",
    re.IGNORECASE,
)

_SOURCES = (
    r"(?:hints?|notes?|professors?|experts?|teachers?|users?|friends?|colleagues?|metadata|prompts?|suggestions?"
    r"|annotat\w{1,5}|tags?|comments?|messages?|authors?|students?|instructions?|sources?|authority|cues?|reviewers?"
    r"|editors?|assistants?|models?|others?|people|readers?|someone|somebody|some|many|most|one|they|he|she|you|critics?"
    r"|person|persons|everyone|anyone|everybody|anybody|humans?|crowd|mother|father|mom|mum|dad|parents?|brother|sister"
    r"|wife|husband|partner|boss|doctor|neighbou?r|tutor|instructor|classmates?|coworkers?)"
)
_SAYS = (
    r"(?:say(?:s|ing)?|said|tell(?:s|ing)?|told|claim(?:s|ed|ing)?|assert(?:s|ed|ing)?|stat(?:e|es|ed|ing)"
    r"|argu(?:e|es|ed|ing)|think(?:s|ing)?|thought|believ(?:e|es|ed|ing)|assum(?:e|es|ed|ing)|expect(?:s|ed)?"
    r"|suppos(?:e|es|ed)|guess(?:es|ed)?|insist(?:s|ed)?|hint(?:s|ed|ing)?|propos(?:e|es|ed)|answer(?:s|ed)?"
    r"|conclud(?:e|es|ed|ing)|recommend(?:s|ed)?|writes?|wrote|suggestion|claim|idea|view|belief|suspect(?:s|ed)?"
    r"|feels?|felt|pick(?:s|ed)?|choos(?:e|es)|agree[sd]?|maintain(?:s|ed)?)"
)
_SHOWS = (
    r"(?:suggest(?:s|ed|ing)?|indicat(?:e|es|ed|ing)|impl(?:y|ies|ied|ying)|mean(?:s|ing)?|show(?:s|ed|ing)?"
    r"|point(?:s|ed|ing)?\s{1,2}(?:out|to))"
)
_SAYING = re.compile(  # the end of a clause whose object is the statement
    rf"\b(?:(?P<says>{_SAYS})|{_SHOWS})(?:\s(?:us|me))?(?:\s(?:that|is\sthat|to\s(?:me|us)))?\s{{0,3}}\Z", re.IGNORECASE
)
_OWN = re.compile(
    rf"\b(?:I|we)\b|\b(?:my|our)\b(?!\s(?:\w+\s)?{_SOURCES}\b)|\b(?:fair|safe|reasonable)\sto\b|\b(?:must|can\s(?:be\s|safely\s)?)",
    re.IGNORECASE,
)
_HEARSAY = re.compile(  # the end of a clause: "I was told", "I have heard that"
    r"\b(?:I|we)(?:['’]ve|\shave|\shad)?\s(?:\w+\s)?(?:(?:was|were|been)\s(?:\w+\s)?told|heard|(?:once\s)?read\sthat)"
    r"(?:\sthat)?\s{0,3}\Z",
    re.IGNORECASE,
)
_BY_SOURCE = re.compile(rf"\b{_SOURCES}\b", re.IGNORECASE)
_REPORTS = re.compile(
    rf"\b(?:according\sto|as\sper|per)\s(?:\w+\s){{0,4}}?{_SOURCES}\b"
    r"|\b(?:at\sfirst|initially|originally|previously|on\sthe\ssurface|superficially|naively|first\simpression"
    r"|at\sa\s(?:first\s|quick\s)?glance|(?:to|for)\s(?:some|many|others)|a\s(?:careless|naive|hasty|quick)\s\w+"
    r"|on\s(?:an?\s)?(?:naive|superficial|quick|first|literal|loose)\sreading)\b"
    r"|\b(?:an?|some)\s(?:case|argument|possibility|reading|interpretation|chance|view)\b"
    r"|\bit\s(?:was|is|has\sbeen|had\sbeen|(?:could|can|may|might)\sbe)\s(?:\w+\s)?"
    r"(?:suggested|said|claimed|argued|hinted|stated|thought|believed|assumed|proposed|tempting)\b"
    rf"|\b{_SOURCES}\s(?:\w+\s){{0,3}}?(?:might|may|could|would|can)\s(?:\w+\s){{0,2}}?{_SAYS}\b",
    re.IGNORECASE,
)
_DENIES = re.compile(
    r"\b(?:not|never|neither|nor|cannot|no|nothing|none|nobody|without|hardly|barely|scarcely|instead\sof|rather\sthan"
    r"|unlike|than|doubt\w*|den(?:y|ies|ied)|reject\w*|rul(?:e|es|ed|ing)\sout|exclud\w+|wrong(?:ly)?|incorrect(?:ly)?"
    r"|mistaken(?:ly)?|falsely|whether|fails?\sto|unclear|unlikely|would\sneed|might|may|could|tempt\w+|arguabl[ey]"
    r"|misleading\w*|pretend\w*|insufficient|too)\b|n['’]t\b",
    re.IGNORECASE,
)
_NO_DOUBT = re.compile(
    r"\b(?:no|without(?:\sa|\sany)?|little)\sdoubt\b|\bnot\s(?:only|surprisingly)\b|\bundoubtedly\b|\bno\squestion\b",
    re.IGNORECASE,
)
_SUPPOSES = re.compile(
    r"(?<!even )(?<!as )\b(?:if|unless|suppos(?:e|ing)|assuming|in\scase|provided\sthat|imagine|otherwise|only\swhen"
    r"|(?:had|were)\s(?:the|he|she|it|they|we|this|there))\b",
    re.IGNORECASE,
)
_COUNTERFACTUAL = re.compile(
    r"\b(?:without|otherwise|else|under|instead\sof|in\s(?:that|which|such)\sa?\s?case|in\san?\s(?:other|different)"
    r"|for\s(?:an?|some|those|others)|with(?!\s(?:this|that|these|all\sthis)\s(?:in\smind|information)|\srespect))\b",
    re.IGNORECASE,
)
_WITH_OTHER = re.compile(r"[^.;,]{0,30}\bwith(?:out)?\b", re.IGNORECASE)
_RHETORICAL = re.compile(  # "if we look closely" supposes nothing
    r"\bif\sI\s(?:had|have)\sto\s(?:choose|pick|guess|decide|answer)\b"
    r"|\bif\s(?:we|you|one|I)\s(?:\w+ly\s)?(?:look|consider|read|think|take|examine|analy[sz]e|check|re-?read|go\sback"
    r"|compare|count)\b(?![^,]{0,40}\b(?:only|just|ignor\w+|alone|naively|superficially)\b)",
    re.IGNORECASE,
)
_COMPLEMENT = re.compile(r"^\s{0,3}(?:that|whether|if)\b", re.IGNORECASE)
_CONCESSIVE = re.compile(r"^\s{0,3}(?:even\s)?(?:although|though|while|whereas|even\sif)\b", re.IGNORECASE)
_WOULD = re.compile(r"\bwould\b|['’]d\b", re.IGNORECASE)
_FIRST_PERSON = re.compile(r"\s{0,3}(?:I|we)\b", re.IGNORECASE)
_AFTER_CONDITION = re.compile(
    r"^(?:(?!\b(?:because|since|as|given|so|but)\b)[^,;:.!?\n]){0,80},?\s{0,2}(?<!even )"
    r"\b(?:if|unless|provided|assuming|had|were)\b"
    r"|^[^;:.!?\n]{0,40}\b(?:in\s(?:that|which|such\sa)\scase|in\sa\s(?:different|another)|under\s(?:a|that|such)"
    r"|otherwise)\b"
    r"|^\W{0,6}(?:in|on|under)\san?\s(?:\w+\s){0,2}(?:reading|interpretation|sense|world)\b",
    re.IGNORECASE,
)
_AFTER_DENIAL = re.compile(
    r"^\W{0,6}(?:is|was|would\sbe|seems|are)\s(?:\w+\s){0,2}?(?:wrong|incorrect|false|mistaken|an?\smistake|not|misleading"
    r"|too|tempting|unsupported|unjustified|a\sstretch)\b"
    rf"|^\W{{0,4}}(?:according\sto\s(?:the|an?|my|your)?\s?(?:\w+\s){{0,2}}?{_SOURCES}\b"
    rf"|as\s(?:the|an?|my|your)?\s?(?:\w+\s){{0,2}}?{_SOURCES}\s(?:\w+\s){{0,2}}?(?:{_SAYS}|{_SHOWS}|noted|mentioned)\b)"
    r"|^\W{0,4}(?:some|one|many|people|you|others)\s(?:might|may|could|would)\b"
    r"|^\W{0,6}(?:only\s)?(?:at\sfirst|on\sthe\ssurface)\b"
    r"|^\W{0,4}(?:but|however|yet),?\s(?:the|my)\s(?:correct|right|real|actual|true|better|best)\s(?:\w+\s)?(?:answer|option"
    r"|choice|label)\s(?:is|would\sbe)\b",
    re.IGNORECASE,
)
_SAID_AFTER = re.compile(  # "B, my friend says.", "B, most people would say."
    rf"\s{{0,2}}[,(–—-]\s{{0,2}}(?:(?:or\s)?so\s)?(?:(?:the|an?|my|our|some|many|most)\s){{0,2}}(?!(?:I|we)\b)(?:\w+\s)?{_SOURCES}"
    rf"\s(?:(?:would|might|may|could|will)\s)?(?!agree){_SAYS}(?=\s{{0,2}}(?:[.,;!?)…]|\Z|\n))",
    re.IGNORECASE,
)


def is_asserted(text: str, start: int, end: int) -> bool:
    """True if the sentence asserts `text[start:end]`, the words that state an answer.

    >>> is_asserted("So the answer is B.", 3, 18)
    True
    >>> is_asserted("One might say the answer is B.", 14, 29)
    False
    """
    before = text[sentence_start(text, start) : start]
    bound = _NEXT_BOUND.search(text, end, end + _REACH)
    after = text[end : bound.start() if bound else end + _REACH]
    if (bound and bound.group() in "?？") or _is_quoted(before):
        return False
    stating = text[start:end]
    whole = _after_last(_ADVERSATIVE, _TURN.sub("", before))
    scope = "" if _CONSECUTIVE.match(stating) else _after_last(_CONSECUTIVE, whole)
    if _WOULD.search(stating) and not _FIRST_PERSON.match(stating) and _is_counterfactual(whole, scope, after):
        return False
    if _SUPPOSES.search(_RHETORICAL.sub("", scope)) or _REPORTS.search(scope):
        return False
    clause = _after_last(_CLAUSE, scope)
    introduction = scope[: len(scope) - len(clause)].rstrip()
    if introduction.endswith((":", "：")) and _is_reported(introduction[:-1], by_source=True):
        return False
    if _COMPLEMENT.match(clause):
        clause = scope
    if _CONCESSIVE.match(clause) or _is_reported(clause) or _DENIES.search(_NO_DOUBT.sub("", clause)):
        return False
    return not (_AFTER_CONDITION.match(after) or _AFTER_DENIAL.match(after) or is_said_by_others(text, end))


def is_said_by_others(text: str, place: int) -> bool:
    """True if the words at `place` say that somebody else holds what stands before them.

    >>> is_said_by_others("B, my friend says.", 1)
    True
    """
    return _SAID_AFTER.match(text, place) is not None


def sentence_start(text: str, place: int) -> int:
    """Where the sentence that holds `place` begins, at most `_REACH` characters before it."""
    low = max(0, place - _REACH)
    for bound in _BOUND.finditer(text, low, place):
        low = bound.end()
    return low


def _is_quoted(before: str) -> bool:
    """True if a quotation is open at the end of `before`."""
    return before.count('"') % 2 == 1 or before.rfind("“") > before.rfind("”") or before[-1:] in {"'", "‘", "`", "«"}


def _is_counterfactual(whole: str, scope: str, after: str) -> bool:
    """True if the words around "would be" make the sentence about another case than the one at hand."""
    around = _COUNTERFACTUAL.search(scope) or _WITH_OTHER.match(after)
    return around is not None or _SUPPOSES.search(_RHETORICAL.sub("", whole)) is not None


def _is_reported(clause: str, *, by_source: bool = False) -> bool:
    """True if the clause reports what somebody else says; what the premise shows counts as said by the model itself.

    With `by_source`, only if the clause names somebody who says or hints such things.
    """
    if _HEARSAY.search(clause, max(0, len(clause) - 80)):
        return True
    saying = _SAYING.search(clause, max(0, len(clause) - 40))
    if saying is None:
        return False
    subject = clause[max(0, saying.start() - 80) : saying.start()]
    if _OWN.search(subject):
        return False
    return (saying["says"] is not None and not by_source) or _BY_SOURCE.search(subject) is not None


def _after_last(pattern: re.Pattern[str], text: str) -> str:
    """What follows the last match of `pattern` in `text`, or all of the text without a match."""
    return text[max((match.end() for match in pattern.finditer(text)), default=0) :]
