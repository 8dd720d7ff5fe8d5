"""Sentences that state an answer in running prose: "so the correct answer is B", "a shovel is the best choice".

A place that names an option states an answer if the words right before or after it say so. It does so firmly if the
sentence is no question and neither reports, supposes, denies nor compares: only firm statements count.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from explaineval.parsing.letters import (
    Clash,
    Name,
    Value,
    are_numbered_sentences,
    find_names,
    fold,
    is_bare,
    read_value,
    share_words,
    skip_ending,
    two_answers,
)
from explaineval.parsing.markers import Marker

Statement = tuple[Marker, Value | Clash]

_MOST = 500  # names of options that are looked at in one text; one with more repeats itself without end
_BEFORE = 240  # characters before a name in which the words that make it an answer stand
_SENTENCE = 320  # characters of a sentence to either side of a statement that are looked at

_ADVERB = (
    r"(?:actually|really|clearly|indeed|in fact|rather|instead|definitely|certainly|obviously|simply|likely|probably"
    r"|(?:most|more) (?:likely|probably|accurately|appropriately|naturally)|now|then|still|just|of course|surely|therefore"
    r"|thus|hence|also|always|logically|ultimately|undoubtedly|evidently|plainly|best|directly|truly|strictly|in truth"
    r"|after all|however|necessarily|again|to me|perhaps)"
)
_MOST_WHAT = (
    r"(?:likely|appropriate|accurate|plausible|suitable|fitting|reasonable|probable|logical|sensible|natural|apt|correct"
    r"|consistent|supported|defensible|relevant|obvious|direct)"
)
_GOOD = rf"(?:correct|right|best|better|true|proper|appropriate|accurate|valid|(?:most|more) {_MOST_WHAT}|only correct)"
_ADJECTIVE = (
    rf"(?:{_GOOD}|final|only|likely|plausible|suitable|fitting|logical|real|actual|overall|revised|corrected|updated|new"
    r"|predicted|chosen|selected|preferred|intended|expected|resulting|obvious|single|own|multiple-choice|(?:most|more)"
    rf" {_MOST_WHAT}|NLI)"
)
_ANSWER = (
    r"(?:answer(?: (?:choice|option|label|letter))?|option|choice|label|solution|response|conclusion|verdict"
    r"|classification|category|relation(?:ship)?|judge?ment|inference|pick|selection|result|one)"
)
_ABOUT = r"(?:\s+(?:here|that|which|for|to|of|between|in|given|from|with|among|based|I)\b[^.;!?\n]{0,80}?)?,?"
_IS = (
    rf"(?:is|are|['’]s|must|should|would|will|can only|has to|ought to|needs to|seems to|appears to|turns out to|becomes"
    rf"|remains|=)(?:\s+{_ADVERB}){{0,3}}(?:\s+(?:be|have\s+been|remain))?(?:\s+{_ADVERB}){{0,3}}"
)
_LINK = (
    r"(?:\s*[:：—–-]{1,2})?(?:\s+to\s+(?:choose|select|pick|go\s+with|say|answer))?(?:\s+that\s+of)?"
    r"(?:\s+(?:classified|labell?ed|described|categori[sz]ed|characteri[sz]ed)\s+as)?\s*"
)

_ANSWER_IS = (
    rf"(?P<answer>(?:(?P<of>\b(?:the|my|our|its|this|that|an?|your))\s+)?(?P<good>(?:\b{_ADJECTIVE}[\s,]+){{0,3}})"
    rf"\b(?P<noun>{_ANSWER})(?:\s*\([^()\n]{{0,30}}\))?(?P<about>{_ABOUT})\s*(?P<is>{_IS}|\s*[:：]){_LINK})"
)
_CHANGE = r"(?:change|revise|switch|correct|update|amend|adjust|alter|move)"
_CHOOSE = (
    rf"(?P<choose>\b(?:(?:I|we|let\s+me|let['’]s|let\s+us)(?:['’](?:d|ll|ve|m|re))?"
    rf"(?:\s+(?:would|will|should|must|have\s+to|need\s+to|want\s+to|like\s+to|am|are|have|go(?:ing)?\s+to|{_ADVERB})){{0,4}}"
    r"\s+(?:cho(?:ose|osing|se|sen)|pick(?:ed|ing)?|select(?:ed|ing)?|answer(?:ed|ing)?(?:\s+with)?|opt(?:ed|ing)?\s+for"
    r"|(?:go|went|going|stick|sticking|agree|side)\s+with|settl(?:e|ed|ing)\s+(?:on|for)|conclud(?:e|ed)|vot(?:e|ed)\s+for"
    rf"|lean(?:ing)?\s+towards?|prefer|meant|mean|say|said|{_CHANGE}[^.;!?\n]{{0,50}}?\s(?:to|into)"
    r"|(?:think|believe|guess|feel|suspect|conclude|find|suppose)(?:\s+that)?(?:\s+(?:it|this|that)(?:['’]s|\s+is"
    r"|\s+(?:should|must|has\s+to)\s+be))?)"
    rf"|\b{_CHANGE}(?:ing|d|s)?\s+(?:my|the|this)\s+(?:\w+\s+){{0,2}}?(?:answer|choice|response|label)[^.;!?\n]{{0,30}}?\sto"
    r"|\banswer\s+(?:changes|becomes|switches)\s+to)"
    r"(?:\s+(?:that\s+)?(?:it\s+is|it['’]s|it\s+should\s+be))?(?:\s*:)?\s*)"
)
_SO = (
    r"(?P<so>(?:(?<![^\W_])|^)(?:so|therefore|thus|hence|ergo|consequently|accordingly|wait|sorry|oops|rather|instead"
    r"|correction|actually|on (?:(?:second|further|closer) )?(?:reflection|thought|consideration|inspection)|upon reflection"
    r"|in conclusion|in short|conclusion|scratch that|my mistake|no|answer|final(?: answer)?|i meant|→|⇒|=>|->|∴)"
    r"(?:\s*[,:.…—–-]{1,3})?\s+"
    rf"(?:(?:it|this|that)(?:['’]s|\s+is|\s+(?:must|should|has\s+to|would)(?:\s+{_ADVERB}){{0,2}}\s+be)\s+)?(?:{_ADVERB}\s+)?"
    r"(?:(?:option|choice|answer)\s+)?)"
)
_IT_IS = (
    rf"(?P<it>\b(?:it|this|that|they)(?:\s+{_ADVERB}){{0,2}}(?:['’]s|\s+is|\s+are|\s+(?:should|must|has\s+to|ought\s+to|needs\s+to)"
    rf"(?:\s+{_ADVERB}){{0,2}}\s+(?:be|have\s+been))(?:\s+{_ADVERB}){{0,3}}\s+(?:a\s+case\s+of\s+|labell?ed\s+(?:as\s+)?)?)"
)
_MAKES = (
    rf"(?P<makes>\b(?:mak(?:es|ing)|leav(?:es|ing)|giv(?:es|ing))\s+(?:us\s+)?(?:with\s+)?(?:only\s+)?(?:it\s+)?"
    rf"(?:(?:the|our|my)\s+(?:{_ADJECTIVE}\s+){{0,2}}{_ANSWER}\s+)?)"
)
_BOX = r"(?P<box>\\(?:boxed|fbox)\s?\{\s*(?:\\\w{1,8}\s?\{\s*)?)"
_LEADING = re.compile(rf"(?:{_BOX}|{_ANSWER_IS}|{_CHOOSE}|{_SO}|{_IT_IS}|{_MAKES})\Z", re.IGNORECASE)

_CLOSE = r"[)\]*_\"'”’»`}$\\]{0,6}\s{0,2}"
_STOP = (
    rf"{_CLOSE}(?:[.;!…)]|\Z|\n|[—–]|-\s|[(\[]|,?\s{{0,2}}(?:because|since|as|given|due|rather|instead|not|and\s+not|over|here"
    r"|for)\b|,\s+(?:which|who)\b)"
)
_GOES_ON = (
    rf"{_CLOSE}(?:[.,:;!?…)(\[]|\Z|\n|[—–]|-\s|(?:and|or|but|not|rather|instead|over|because|since|as|given|due|for|here|in"
    r"|with|so|than|if|unless|only|even|though|although|while|whereas|which|therefore|thus|then|now|when|based|from|on|by"
    r"|is|under|after|where|regarding|according|without|against|were|had|provided|assuming|would)\b)"
)
_STOPS = re.compile(_STOP, re.IGNORECASE)
_GOES = re.compile(_GOES_ON, re.IGNORECASE)
_IS_CORRECT = re.compile(
    rf"{_CLOSE},?\s{{0,3}}(?:is|was|['’]s|remains|must\s+be|should\s+be|would\s+be|has\s+to\s+be|seems|appears)"
    rf"(?:\s+{_ADVERB}){{0,3}}(?:\s+(?:to\s+be|be))?\s+(?:(?:the|our|my)\s+)?"
    rf"(?:(?P<good>(?:{_ADJECTIVE}[\s,]+){{0,2}})(?P<noun>answer|choice|option|label|response|pick|selection|one|fit|match)\b"
    rf"|(?P<bare>correct|right|best|(?:most|more)\s+{_MOST_WHAT}))"
    r"(?=\s{0,2}(?:[.,;:!?)*_\"]|\Z|\n|[—–(-]|(?:because|since|as|given|here|for|in|to|based|due|and|rather|over|than|instead"
    r"|if|unless|only|provided|when|from|that|under|with|were)\b))",
    re.IGNORECASE,
)
_FITS_BEST = re.compile(rf"{_CLOSE}(?:fits|matches|works|suits|answers)\s+(?:\w+\s+){{0,4}}?best\b", re.IGNORECASE)
_MADE_CORRECT = re.compile(
    rf"{_CLOSE}(?:the\s+)?(?:{_GOOD}\s+)(?:answer|choice|option|label|one)?", re.IGNORECASE
)

_SENSELESS = (
    r"(?:makes?\s+no\s+(?:logical\s+)?sense|(?:does|do)(?:\s+not|n['’]t)\s+make\s+(?:\w+\s+)?sense"
    r"|is\s+(?:\w+ly\s+)?(?:nonsensical|illogical|absurd|implausible|impossible|unrealistic|unreasonable|wrong|incorrect|senseless"
    r"|not\s+(?:logical|plausible|possible|sensible|realistic|correct))"
    r"|is\s+the\s+(?:nonsensical|illogical|absurd|implausible|impossible|unrealistic|wrong|incorrect|odd|senseless)\s+"
    r"(?:one|sentence|statement))"
)
_AGAINST = (
    r"(?:(?:is\s+the\s+(?:one|sentence|statement)\s+(?:that|which)\s+)?(?:clearly\s+|obviously\s+|directly\s+)?"
    r"(?:goes\s+against|is\s+against|runs\s+against|contradicts|violates|defies|lacks|conflicts\s+with|runs\s+counter\s+to)"
    r"\s+(?:our\s+|basic\s+|all\s+|human\s+)?common\s+sense)"
)
_SENSIBLE = (
    r"(?:makes?\s+(?:perfect\s+|complete\s+|total\s+|good\s+|more\s+|logical\s+)?sense"
    r"|(?:is\s+in\s+line|is\s+consistent|aligns|agrees)\s+with\s+common\s+sense|follows\s+common\s+sense)"
)
_AGAINST_SENSE = re.compile(rf"{_CLOSE}(?:is\s+the\s+one\s+that\s+)?(?P<predicate>{_AGAINST})", re.IGNORECASE)
_IN_SENSE = re.compile(
    rf"{_CLOSE}(?:is\s+the\s+one\s+that\s+)?(?:(?P<against>{_AGAINST}|{_SENSELESS})|(?P<sensible>{_SENSIBLE}))", re.IGNORECASE
)
_INFERENCE_SUBJECT = (
    r"(?:\b(?:the|this|that|our|its)\s+(?:hypothesis|statement|conclusion|claim|second\s+sentence|assertion|relation(?:ship)?"
    r"(?:\s+between\s[^.;!?\n]{1,60}?)?|pair|label|answer))"
)
_INFERENCE_SURE = r"(?:\s+(?:clearly|directly|definitely|therefore|thus|logically|fully|indeed|actually|also|then|must|necessarily|in\s+fact|plainly|simply)){0,3}"
_INFERENCE = re.compile(
    rf"(?:{_INFERENCE_SUBJECT}{_INFERENCE_SURE}\s+(?:is|must\s+be|has\s+to\s+be|remains|can\s+be\s+considered)"
    rf"(?:\s+(?:an?|one\s+of)\b)?{_INFERENCE_SURE}\s+(?:(?P<entailed>entailed|entailment)|(?P<contradicted>contradicted"
    r"|contradictory|contradiction)|(?P<open>neutral|undetermined|neither\s+entailed\s+nor\s+contradicted))\b"
    r"|\b(?:the\s+)?(?:premise|text|passage|first\s+sentence|this|which|it|that)"
    rf"{_INFERENCE_SURE}\s+(?:(?P<entails>entails)|(?P<contradicts>contradicts))\s+(?:the|this|that)\s+(?:hypothesis|second\s+"
    r"sentence|conclusion|claim|statement)"
    rf"|\b(?:the\s+)?(?:hypothesis|statement|conclusion|claim){_INFERENCE_SURE}\s+(?:directly\s+)?(?P<conflicts>contradicts)\s+"
    r"(?:the\s+)?(?:premise|text|passage|it|this)"
    r"|\b(?:they|the\s+two(?:\s+\w+)?|the\s+(?:premise\s+and\s+(?:the\s+)?hypothesis|sentences|statements))"
    rf"{_INFERENCE_SURE}\s+(?P<clash>contradict(?:\s+(?:each\s+other|one\s+another))?|are\s+contradictory)"
    r"|\b(?:so|therefore|thus|hence|which\s+means|meaning),?\s+(?:it|this|that|which)\s+is"
    rf"{_INFERENCE_SURE}(?:\s+an?\b)?{_INFERENCE_SURE}\s+(?:(?P<so_entailed>entailed)|(?P<so_contradicted>contradicted|contradictory)))"
    r"(?!\s+(?:only|partly|partially|in\s+part)\b)",
    re.IGNORECASE,
)
_ENTAILED = ("entailed", "entails", "so_entailed")

_TAKEN_BACK = re.compile(
    r"(?:(?:^|[.!?。]\s|\n)[\s>*_#-]{0,6}(?:(?:wait|no|sorry|oops|actually|hmm|unfortunately|hold on|well|oh)[,.!:…\s—-]{1,4}){0,3}"
    r"(?:(?:but\s+)?I(?:['’]ve|\s+have|\s+now\s+see\s+that\s+I|\s+realize\s+(?:that\s+)?I|\s+see\s+(?:that\s+)?I)?\s+"
    r"(?:made\s+(?:an?\s+)?(?:\w+\s+)?(?:mistake|error)|was\s+(?:wrong|mistaken|incorrect)|misread|misunderstood|misspoke"
    r"|answered\s+(?:incorrectly|wrongly)|chose\s+(?:incorrectly|wrongly|the\s+wrong))"
    r"|(?:I\s+)?(?:apologi[sz]e|apologies)\s+for\s+(?:the|my|any)\s+(?:\w+\s+)?(?:mistake|error|confusion|incorrect|wrong)))"
    r"|\b(?:my|the)\s+(?:(?:previous|earlier|first|initial|original|above|given|stated)\s+)?(?:answer|choice|response|label)"
    r"(?:\s+(?:[A-Z]|\([^()\n]{1,20}\)|above|given|earlier|I\s+(?:gave|chose|provided|have\s+given)|that\s+I\s+(?:gave|chose)))?"
    r"\s+(?:was|is)(?:\s+(?:actually|in\s+fact|clearly|indeed|therefore|probably)){0,2}\s+"
    r"(?:wrong|incorrect|mistaken|not\s+(?:correct|right)|an?\s+(?:error|mistake)|inaccurate|a\s+misreading)\b"
    r"|\bI\s+(?:(?:would|must|need\s+to|have\s+to|want\s+to|should|now|hereby|will|['’]d\s+like\s+to|would\s+like\s+to)\s+){0,2}"
    r"(?:retract|withdraw|take\s+back|revise|reconsider|correct)\s+(?:my|that|the)\s+(?:\w+\s+){0,2}?(?:answer|choice|response|label)",
    re.IGNORECASE | re.MULTILINE,
)

# What keeps a sentence from being firm.
_BOUND = re.compile(r"[.!?。！？…][\"'”’)\]*_]{0,3}(?=\s)|[。！？]|\n|;")
_NEXT_BOUND = re.compile(r"[.!?。！？…](?=[\"'”’)\]*_}$]{0,4}(?:\s|\Z))|[。！？]|\n|;")
_TURN = re.compile(
    r"^[\s>*_#,-]{0,8}(?:(?:no|wait|sorry|oops|hmm|actually|rather|correction|well|oh|scratch that|hold on|but|and|yet|not only)"
    r"[\s,.:!…—–-]{1,4}){1,4}",
    re.IGNORECASE,
)
_ADVERSATIVE = re.compile(r"(?:\bbut\b|\bhowever\b|\byet\b|\bnevertheless\b|\bnonetheless\b)", re.IGNORECASE)
_CONSECUTIVE = re.compile(
    r"(?:,|;|—|–|\s)\s*(?:and\s+)?\b(?:so(?!\s+(?:that|long|far|much|as)\b)|therefore|thus|hence|consequently|which\s+means"
    r"(?:\s+that)?|meaning(?:\s+that)?|as\s+a\s+result|that\s+is\s+why|this\s+means(?:\s+that)?)\b",
    re.IGNORECASE,
)
_CLAUSE = re.compile(r"[,:：—–(]|\s-\s")
_NO_DOUBT = re.compile(
    r"\b(?:no|without(?:\s+a|\s+any)?|little)\s+doubt\b|\bnot\s+only\b|\bundoubtedly\b|\bno\s+question\b|\bnot\s+surprisingly\b",
    re.IGNORECASE,
)
_DENIES = re.compile(
    r"(?:\b(?:not|never|neither|nor|cannot|no|nothing|none|nobody|without|hardly|barely|scarcely|instead\s+of|rather\s+than|unlike"
    r"|than|doubt\w*|den(?:y|ies|ied)|reject\w*|rul(?:e|es|ed|ing)\s+out|exclud\w+|wrong(?:ly)?|incorrect(?:ly)?|mistaken(?:ly)?"
    r"|falsely|whether|fails?\s+to|unclear|unlikely|would\s+need|might|may|could|tempt\w+|arguabl[ey]|misleading\w*|pretend\w*"
    r"|insufficient|too)\b|n['’]t\b)",
    re.IGNORECASE,
)
_SUPPOSES = re.compile(
    r"(?<!even )(?<!as )\b(?:if|unless|suppos(?:e|ing)|assuming|in\s+case|provided\s+that|imagine|otherwise|only\s+when|had\s+(?:the|he|she|it"
    r"|they|we|there)|were\s+(?:the|he|she|it|they|we|there|this))\b",
    re.IGNORECASE,
)
_RHETORICAL = re.compile(
    r"\bif\s+(?:we|you|one|I)\s+(?:\w+ly\s+)?(?:look|consider|read|think|take|examine|analy[sz]e|check|re-?read|go\s+back|compare|count)\b"
    r"(?![^,]{0,40}\b(?:only|just|ignor\w+|alone|naively|superficially)\b)",
    re.IGNORECASE,
)
_SOURCE = (
    r"(?:hints?|notes?|professors?|experts?|teachers?|users?|friends?|colleagues?|metadata|prompts?|suggestions?|annotat\w+|tags?|comments?"
    r"|messages?|authors?|students?|instructions?|sources?|authority|cue|reviewers?|editors?|assistants?|models?|others?|people|readers?"
    r"|some|someone|somebody|many|most|one|they|he|she|you|critics?|person|everyone|anyone|hinted|suggested|marked)"
)
_REPORTS = re.compile(
    r"(?:\b(?:according\s+to|per|as\s+per)\s+(?:the|an?|my|your|this|that|some)?\s*(?:\w+\s+){0,3}?" + _SOURCE + r"\b"
    r"|\b(?:at\s+first|initially|originally|at\s+a\s+(?:first\s+|quick\s+)?glance|on\s+the\s+surface|superficially|naively|on\s+first\s+reading"
    r"|first\s+impression|to\s+(?:some|many|others)|for\s+(?:some|others)|on\s+an?\s+(?:naive|superficial|quick|first|literal|loose)\s+reading"
    r"|previously|a\s+(?:careless|naive|hasty|quick)\s+\w+)\b"
    r"|\b" + _SOURCE + r"\s+(?:\w+\s+){0,3}?(?:might|may|could|would|can)\b)",
    re.IGNORECASE,
)
_SAYS = (
    r"(?:say(?:s|ing)?|said|tell(?:s|ing)?|told|claim(?:s|ed|ing)?|assert(?:s|ed|ing)?|stat(?:e|es|ed|ing)|argu(?:e|es|ed|ing)|think(?:s|ing)?"
    r"|thought|believ(?:e|es|ed|ing)|assum(?:e|es|ed|ing)|expect(?:s|ed)?|suppos(?:e|es|ed)|guess(?:es|ed)?|insist(?:s|ed)?|hint(?:s|ed|ing)?"
    r"|propos(?:e|es|ed)|answer(?:s|ed)?|conclud(?:e|es|ed|ing)|recommend(?:s|ed)?|write|writes|wrote|suggestion|claim|idea|view|belief|hint"
    r"|suspect(?:s|ed)?|feel(?:s)?|felt)"
)
_SHOWS = r"(?:suggest(?:s|ed|ing)?|indicat(?:e|es|ed|ing)|impl(?:y|ies|ied|ying)|mean(?:s|ing)?|show(?:s|ed|ing)?|point(?:s|ed|ing)?\s+(?:out|to))"
_SAYING = re.compile(
    rf"(?P<subject>[^,;:.]{{0,80}}?)\b(?:(?P<says>{_SAYS})|(?P<shows>{_SHOWS}))(?:\s+(?:us|me))?(?:\s+(?:that|is\s+that|to\s+(?:me|us)))?\s*\Z",
    re.IGNORECASE,
)
_OWN = re.compile(r"(?:\b(?:I|we|my|our)\b|\bfair\s+to|\bsafe\s+to|\breasonable\s+to|\bmust\b|\bcan\s+(?:be\s+)?(?:safely\s+)?)", re.IGNORECASE)
_BY_SOURCE = re.compile(rf"\b{_SOURCE}\b", re.IGNORECASE)
_COMPLEMENT = re.compile(r"^\s*(?:that|whether|if)\b", re.IGNORECASE)
_AFTER_CONDITION = re.compile(
    r"^(?:(?!\b(?:because|since|as|given|so|but)\b)[^,;:.!?\n]){0,80}?,?\s*(?<!even )\b(?:if|unless|provided|assuming|had|were)\b"
    r"|^[^;:.!?\n]{0,40}?\b(?:in\s+(?:that|which|such\s+a)\s+case|in\s+a\s+(?:different|another)|under\s+(?:a|that|such)|otherwise)\b"
    r"|^\W{0,6}(?:in|on|under)\s+an?\s+(?:\w+\s+){0,2}(?:reading|interpretation|sense|world)\b",
    re.IGNORECASE,
)
_AFTER_DENIAL = re.compile(
    r"^\W{0,6}(?:is|was|would\s+be|seems|are)\s+(?:\w+\s+){0,2}?(?:wrong|incorrect|false|mistaken|an?\s+mistake|not|misleading|too|tempting|unsupported"
    r"|unjustified|a\s+stretch)\b"
    rf"|^\W{{0,4}}(?:,\s*)?(?:according\s+to|as)\s+(?:the|an?|my|your)?\s*(?:\w+\s+){{0,2}}?{_SOURCE}\b"
    r"|^\W{0,4}(?:some|one|many|people|you|others)\s+(?:might|may|could|would)\b"
    r"|^\W{0,6}(?:only\s+)?(?:at\s+first|at\s+first\s+glance|on\s+the\s+surface)\b",
    re.IGNORECASE,
)
_BUT = re.compile(r"\b(?:but|however|although|though|except|while|whereas|yet)\b", re.IGNORECASE)
_FIRM_WOULD = re.compile(
    r"^\W*(?:(?:so|thus|therefore|hence|based|given|since|because|as|considering|in\s+(?:conclusion|summary|my|this|short)|overall|from|according"
    r"|after|looking|by|I|we|well|on|then|and|now|actually|wait|no|sorry|it|upon)\b.*)?\Z",
    re.IGNORECASE | re.DOTALL,
)
_INTRODUCTION = re.compile(
    r"^\W*(?:(?:so|thus|therefore|hence|overall|in\s+\w+|to\s+(?:sum\s+up|conclude)|well|okay|wait|no|actually|sorry|then|finally|i\s+(?:think|believe|would"
    r"\s+say|guess|feel)(?:\s+that)?|i['’]d\s+say(?:\s+that)?|it\s+(?:seems|appears|follows)(?:\s+(?:to\s+me\s+)?that)?|(?:based\s+on|given|according\s+to|from|after|looking\s+at"
    r"|considering|on|upon)(?!\s+that\b)(?:\s+[\w'’]+){1,8})[\s,:—–]{0,3})*\Z",
    re.IGNORECASE,
)
_CONNECTOR = re.compile(
    r"(?:[,;—–-]\s*)?(?:\b(?:and\s+)?(?:so|therefore|thus|hence|consequently|which\s+means|meaning|this\s+means)\b[,:]?\s*)?(?:that\s+|I\s+(?:think|believe)\s+"
    r"(?:that\s+)?)?\Z",
    re.IGNORECASE,
)
_JOINS = re.compile(r"[\s*_\"'”’)(\]\[]{0,4}(?:(?:,|/|&|\+|\bor\b|\band\b|\bnor\b|\bvs\.?)\s*){1,3}(?:(?:possibly|maybe|perhaps|even|also|either|option)\s+)?[\s*_\"'“‘(\[]{0,4}")
_YES_NO = frozenset({"yes", "no", "true", "false"})
_POLAR = frozenset({"entailment", "neutral", "contradiction"})


def find_statements(text: str, options: Mapping[str, str]) -> list[Statement]:
    """The firm statements of an answer in `text`: markers whose content begins at the value, and the value.

    The value is a Clash where two options are named together ("the answer is A or B").
    """
    names = find_names(text, options, _MOST + 1)
    found: list[Statement] = []
    if len(names) > _MOST:
        names = names[:_MOST]
        place = names[-1].end
        found.append((Marker("answer", place, place), Clash(f"more than {_MOST} places name an option")))
    sense = are_numbered_sentences(options)
    pair = sense or share_words(options)
    for place, name in enumerate(names):
        group = _group_of(text, names, place)
        start = _state_before(text, name, options)
        tail = name.end
        letter = name.letter
        if start is None:
            after = _state_after(text, name, options, pair=pair, sense=sense)
            if after is None:
                continue
            tail, letter = after
            start = name.start
        if not _is_firm(text, start, name.start, tail):
            continue
        start = _sentence_of(text, start)
        letters = list(dict.fromkeys(other.letter for other in group))
        marker = Marker("answer", start, name.value.start)
        if len(letters) > 1 and letter == name.letter:
            found.append((marker, two_answers(letters)))
        else:
            found.append((marker, Value(letter, name.value.start, name.value.end, tail, letter != name.letter)))
    return sorted([*found, *_find_inferences(text, options)], key=lambda statement: statement[0].start)


def find_retractions(text: str) -> list[Statement]:
    """The sentences of `text` by which the model takes back the answer that it has given."""
    found: list[Statement] = []
    for match in _TAKEN_BACK.finditer(text):
        start, end = match.span()
        start += len(match.group()) - len(match.group().lstrip(" \n.!?。>*_#-"))
        if _is_firm(text, start, start, end) and len(found) < _MOST:
            found.append((Marker("answer", start, end), Clash("the explanation takes its answer back")))
    return found


def read_opening(text: str, start: int, end: int, options: Mapping[str, str], *, strict: bool) -> Value | Clash | None:
    """The option with which the prose `text[start:end]` begins: "B. The premise says …", "Neutral, because …".

    Not where the text goes through several options. With `strict` a comma after the option ends nothing unless a
    reason follows: "A shovel, which moves snow, …".
    """
    line = text.find("\n", start, end)
    line = end if line < 0 else line
    value = read_value(text, start, line, options)
    if not isinstance(value, Value):
        return value if isinstance(value, Clash) and value.letters else None
    place = skip_ending(text, value, options)
    if is_bare(text, place, line):
        return value if text[value.start : value.end].strip() else None
    lettered = value.end - value.start == 1
    between = text[value.end : place]
    after = text[place : min(line, place + 80)]
    if _NEGATIVE.match(after) or (lettered and ":" in between and value.letter == "A" and not _own_text(between)):
        return None
    if not re.search(r"[.!:：)\]。—–*-]", between) and not _REASON.match(after):
        return value if "," in between and not strict and not lettered else None
    if lettered and not re.search(r"[^\w\s]", between) and not _REASON.match(after):
        return None
    if _goes_through(text, value, place, end, options):
        return None
    return value


_NEGATIVE = re.compile(
    r"\W{0,3}(?:too|not|is|are|was|would|could|might|may|wrong|incorrect|false|no|cannot|can['’]t|does|doesn['’]t|isn['’]t|needs?|requires?|rul\w+ out|ruled|fails?"
    r"|unsupported|unlikely|impossible|seems|vs|versus|or|and|also)\b",
    re.IGNORECASE,
)
_REASON = re.compile(r"\W{0,3}(?:because|since|as|given|due\s+to)\b", re.IGNORECASE)


def _own_text(between: str) -> bool:
    return re.search(r"[^\W\d_]{2}", between) is not None


def _goes_through(text: str, value: Value, start: int, end: int, options: Mapping[str, str]) -> bool:
    """True if the rest of the text takes up another option in the same way, as a list of all of them does."""
    others = "".join(letter for letter in options if letter != value.letter)
    if not others or value.end - value.start > 1:
        return False
    pattern = _other_item(others)
    return pattern.search(text, start, min(end, start + 4000)) is not None


@lru_cache(maxsize=256)
def _other_item(letters: str) -> re.Pattern[str]:
    return re.compile(rf"(?:\n[\s>*_#-]{{0,8}}|[.;,!?]\s{{1,3}})[(\[*_]{{0,4}}(?:(?i:option)\s)?[{letters}][)\]*_]{{0,4}}[).:\]—–-](?=\s)")


def _group_of(text: str, names: list[Name], place: int) -> list[Name]:
    """The name and those that are joined to it by "or", "and" or a comma."""
    first = last = place
    while last + 1 < len(names) and last - place < 4 and _JOINS.fullmatch(text, names[last].end, names[last + 1].start):
        last += 1
    while first > 0 and place - first < 4 and _JOINS.fullmatch(text, names[first - 1].end, names[first].start):
        first -= 1
    return names[first : last + 1]


def _state_before(text: str, name: Name, options: Mapping[str, str]) -> int | None:
    """Where the words begin that stand before the name and make it an answer; None without such words."""
    low = max(0, name.start - _BEFORE)
    window = text[low : name.value.start]
    stripped = _strip_openers(window)
    match = _LEADING.search(stripped) or _LEADING.search(window)
    if match is None:
        return None
    option = fold(options[name.letter])
    short = not name.lettered and option not in _POLAR
    if match["box"]:
        return low + match.start()
    if match["answer"]:
        if not _names_the_answer(match, stripped) or not _GOES.match(text, name.end):
            return None
        return low + match.start()
    if match["choose"]:
        return low + match.start() if _GOES.match(text, name.end) else None
    if not _STOPS.match(text, name.end):
        return None
    if match["makes"]:
        return low + match.start()
    if match["so"]:
        weak = re.match(r"(?:wait|sorry|no|actually|oops|rather|instead|answer|final)", match["so"], re.IGNORECASE)
        if short and (option in _YES_NO or weak):
            return None
        return low + match.start()
    return None if short else low + match.start()


def _names_the_answer(match: re.Match[str], window: str) -> bool:
    """True if "… answer is" speaks of the one answer, and not of some option."""
    noun, good, of = match["noun"].casefold(), match["good"].strip(), (match["of"] or "").casefold()
    if _DENIES.search(match["about"] or "") or _DENIES.search(match["is"]):
        return False
    if noun.startswith(("option", "choice", "one", "response", "result", "pick", "selection")) and not good and of != "my":
        return False
    if of in {"a", "an"} and not re.search(r"\b(?:better|more)\b", good, re.IGNORECASE):
        return False
    if of or good:
        before = re.search(r"([\w'’]+)\s*\Z", window[: match.start()])
        return bool(of) or before is None or before[1].casefold() in _BEFORE_NOUN
    before = re.search(r"([\w'’]+)(\W*)\Z", window[: match.start()])
    return before is None or bool(before[2].strip()) or "\n" in before[2] or before[1].casefold() in _BEFORE_NOUN


_BEFORE_NOUN = frozenset(
    {"so", "that", "then", "and", "thus", "hence", "therefore", "because", "but", "now", "actually", "think", "believe", "say", "as", "since"}
)


def _strip_openers(window: str) -> str:
    stripped = window.rstrip(" \t([{*_\"'“‘«`$<")
    match = re.search(r"\\(?:text\w{0,2}|math\w{2,3}|boldsymbol)\s?\{\s*\Z", window[-40:])
    if match:
        stripped = window[: len(window) - (len(window[-40:]) - match.start())].rstrip(" $")
    noun = re.search(r"\b(?:the\s+)?(?:option|choice|answer|letter|label|sentence|statement|number)\s*#?\Z", stripped[-40:], re.IGNORECASE)
    if noun and re.search(r"(?:is|be|with|choose|:|so|therefore|thus|hence|select|pick|to)\W{0,6}\Z", stripped[: len(stripped) - len(noun.group())], re.IGNORECASE):
        stripped = stripped[: len(stripped) - len(noun.group())].rstrip(" ([{*_\"'“‘«`$")
    return stripped + " " if stripped != window or not window.endswith((" ", "\n")) else window


def _state_after(
    text: str, name: Name, options: Mapping[str, str], *, pair: bool, sense: bool
) -> tuple[int, str] | None:
    """Where the words end that stand after the name and make it an answer, and whose; None without such words.

    Of two sentences one of which is against common sense, "sentence A is correct" says nothing about the answer.
    """
    if sense or pair:
        match = (_IN_SENSE if sense else _AGAINST_SENSE).match(text, name.end)
        if match:
            end = match.end()
            rest = text[end : end + 160].partition(".")[0]
            if _BUT.search(rest) and "sensible" in match.groupdict() and match["sensible"] and not _SENSELESS_AFTER.search(rest):
                return end, _other(name.letter, options)
            if "sensible" in match.groupdict() and match["sensible"]:
                return end, _other(name.letter, options)
            return end, name.letter
    match = _IS_CORRECT.match(text, name.end)
    if match:
        about_answer = (match["noun"] or "").casefold() in {"answer", "choice", "option", "label", "response"}
        if pair and not about_answer:
            return None
        if match["noun"] and not match["good"].strip() and match["noun"].casefold() not in {"answer"}:
            return None
        more = (match["bare"] or "").casefold().startswith("more")
        return None if more else (match.end(), name.letter)
    fits = _FITS_BEST.match(text, name.end)
    if fits and not pair:
        return fits.end(), name.letter
    made = _MADE_CORRECT.match(text, name.end)
    if made and not pair and re.search(r"\bmak(?:es|ing)\s+[\W_]{0,4}\Z", text[max(0, name.start - 20) : name.start], re.IGNORECASE):
        return made.end(), name.letter
    return None


_SENSELESS_AFTER = re.compile(_SENSELESS, re.IGNORECASE)


def _other(letter: str, options: Mapping[str, str]) -> str:
    return next(other for other in options if other != letter)


def _find_inferences(text: str, options: Mapping[str, str]) -> list[Statement]:
    """What is said about premise and hypothesis, where the options are the labels of natural language inference."""
    letters: dict[str, str] = {}
    for letter, option in options.items():
        folded = fold(option)
        for stem in ("entail", "contradict", "neutral"):
            if folded.startswith(stem) and len(folded) < 20:
                letters[stem] = letter
    if not {"entail", "contradict"} <= letters.keys():
        return []
    found: list[Statement] = []
    for match in _INFERENCE.finditer(text):
        if len(found) == _MOST:
            break
        kind = match.lastgroup or ""
        stem = "entail" if kind in _ENTAILED else "neutral" if kind == "open" else "contradict"
        rest = text[match.end() : match.end() + 120].partition(".")[0]
        if stem in letters and not _BUT.search(rest) and _is_firm(text, match.start(), match.start(), match.end()):
            start, end = match.span(kind)
            value = Value(letters[stem], start, end, match.end(), inferred=True)
            found.append((Marker("answer", _sentence_of(text, match.start()), start), value))
    return found


def _is_firm(text: str, start: int, place: int, end: int) -> bool:
    """True if the sentence around `text[start:end]`, which states an answer named at `place`, means it.

    It must be no question and no quotation, and the words around it must not report, suppose, deny or compare.
    """
    low = _sentence_start(text, start)
    before = text[low:start]
    bound = _NEXT_BOUND.search(text, end, end + _SENTENCE)
    stop = bound.start() if bound else min(len(text), end + _SENTENCE)
    after = text[end:stop]
    if bound and bound.group() in "?？":
        return False
    if before.count('"') % 2 or before.rfind("“") > before.rfind("”") or before[-1:] in {"'", "‘", "`", "«"}:
        return False
    verb = text[start:place]
    before = _TURN.sub("", before)
    whole = before
    for reset in _ADVERSATIVE.finditer(before):
        whole = before[reset.end() :]
    scope = whole
    would = re.search(r"\bwould\b|['’]d\b", verb, re.IGNORECASE) is not None
    for reset in _CONSECUTIVE.finditer(whole):
        scope = whole[reset.end() :]
    own_would = re.match(r"\s*(?:I|we)\b", verb, re.IGNORECASE) is not None
    if would and not own_would and not _FIRM_WOULD.match(scope):
        return False
    supposing = _RHETORICAL.sub("", whole if would else scope)
    if _SUPPOSES.search(supposing) or _REPORTS.search(scope):
        return False
    cuts = list(_CLAUSE.finditer(scope))
    clause = scope[cuts[-1].end() :] if cuts else scope
    if _COMPLEMENT.match(clause):
        clause = scope
    said = _SAYING.search(clause)
    if said:
        subject = said["subject"]
        own = _OWN.search(subject)
        if said["says"] and not own:
            return False
        if _BY_SOURCE.search(subject) and not own:
            return False
    if _DENIES.search(_NO_DOUBT.sub("", clause)) or _SUPPOSES.search(_RHETORICAL.sub("", clause)):
        return False
    return not (_AFTER_CONDITION.match(after) or _AFTER_DENIAL.match(after))


def _sentence_start(text: str, place: int) -> int:
    low = max(0, place - _SENTENCE)
    for bound in _BOUND.finditer(text, low, place):
        low = bound.end()
    return low


def _sentence_of(text: str, start: int) -> int:
    """Where what states the answer begins: its sentence, if only an introduction stands before it, else its clause."""
    low = _sentence_start(text, start)
    before = text[low:start]
    if _INTRODUCTION.match(before):
        return low + len(before) - len(before.lstrip())
    connector = _CONNECTOR.search(text, max(low, start - 60), start)
    return connector.start() if connector else start


def find_bare_lines(text: str, before: int, options: Mapping[str, str]) -> list[Statement]:
    """Lines that are nothing but a label: the first, the last before `before`, or (a letter) the last."""
    spans = [span for span in (_first_line(text), _last_line(text, before), _last_line(text, len(text))) if span]
    found: list[Statement] = []
    for start, end in dict.fromkeys(spans):
        value = read_value(text, start, end, options)
        if isinstance(value, Clash):
            found.append((Marker("answer", start, start), value))
        elif value is not None and is_bare(text, skip_ending(text, value, options), end):
            lettered = value.end - value.start == 1
            if lettered or start < before:
                found.append((Marker("answer", start, start), value))
    return found


def _first_line(text: str) -> tuple[int, int] | None:
    start = len(text) - len(text.lstrip())
    end = text.find("\n", start)
    return (start, len(text) if end < 0 else end) if start < len(text) else None


def _last_line(text: str, before: int) -> tuple[int, int] | None:
    end = len(text[:before].rstrip())
    return (text.rfind("\n", 0, end) + 1, end) if end else None
