"""Answers in running prose: "so the correct answer is B", "a shovel is the best choice", "B. The premise says …".

A place that names an option states an answer if the words right before or after it say so and the sentence is asserted
(see `modality`). Two kinds of task have sentences that imply an answer without naming it: in natural language inference
"so the hypothesis is entailed"; where one of two sentences goes against common sense, "Sentence 2 makes no sense".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from explaineval.parsing.layout import Marker
from explaineval.parsing.letters import (
    EMOJI,
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
from explaineval.parsing.modality import is_asserted, sentence_start

Claim = tuple[Marker, Value | Clash]
"""Where a text claims an answer, and the option that it names."""


class _Stated(NamedTuple):
    """A letter stated as the answer, and where the words that state it begin and end; `inferred` as in Value."""

    letter: str
    start: int
    end: int
    inferred: bool = False


MOST_NAMES = 500  # names of options that are read in one text; a text with more repeats itself without end
_BEFORE = 240  # characters before a name that are searched for words that state it as the answer

_ADVERB = (
    r"(?:actually|really|clearly|indeed|in\sfact|rather|instead|definitely|certainly|obviously|simply|likely|probably"
    r"|(?:most|more)\s(?:likely|probably|accurately|appropriately|naturally)|now|then|still|just|of\scourse|surely"
    r"|therefore|thus|hence|also|always|logically|ultimately|undoubtedly|evidently|plainly|best|directly|truly|strictly"
    r"|in\struth|after\sall|however|necessarily|again|to\sme|perhaps)"
)
_MOST_GOOD = (
    r"(?:(?:most|more)\s(?:likely|appropriate|accurate|plausible|suitable|fitting|reasonable|probable|logical|sensible"
    r"|natural|apt|correct|consistent|supported|defensible|relevant|obvious|direct))"
)
_GOOD = rf"(?:correct|right|best|better|true|proper|appropriate|accurate|valid|{_MOST_GOOD})"
_ADJECTIVE = (
    rf"(?:{_GOOD}|final|only|likely|plausible|suitable|fitting|logical|real|actual|overall|revised|corrected|updated|new"
    r"|predicted|chosen|selected|preferred|intended|expected|resulting|obvious|single|own|multiple-choice)"
)
_ANSWER = r"(?:answer(?:\s(?:choice|option|label|letter))?|solution|conclusion|{labels}|{choices})".format(
    labels=r"(?P<label>(?:(?!wrong|incorrect|other|first|second|another|opposite|alternative|possible|tempting|worst|suggested)"
    r"[^\W\d_]{2,20}\s)?(?:label|verdict|classification|category|class|relation(?:ship)?|judge?ment|inference|sentiment"
    r"|stance|polarity))",
    choices=r"(?P<choice>option|choice|response|pick|selection|result|one)",
)
_ABOUT = r"(?:\s(?:here|that|which|for|to|of|between|in|given|from|with|among|based|I)\b[^.;!?\n]{0,80}?)?,?"
_IS = (
    rf"(?:is|are|['’]s|must|should|would|will|can\sonly|has\sto|ought\sto|needs\sto|seems\sto|appears\sto|turns\sout\sto"
    rf"|becomes|remains|=)(?:\s{_ADVERB}){{0,3}}(?:\s(?:be|have\sbeen|remain))?(?:\s{_ADVERB}){{0,3}}"
)
_CLASSED = (
    r"(?:\s(?:best\s)?(?:classified|labell?ed|described|categori[sz]ed|characteri[sz]ed|regarded|considered)(?:\sas)?)?"
)
_ANSWER_IS = (
    rf"(?P<answer>(?:\b(?P<of>the|my|our|its|this|that|an?|your)\s)?(?P<good>(?:\b{_ADJECTIVE}[\s,]{{1,2}}){{0,3}})"
    rf"\b{_ANSWER}(?:\s?\([^()\n]{{0,30}}\))?(?P<about>{_ABOUT})\s{{0,2}}(?P<is>{_IS}|[:：])(?:\s?[:：—–-]{{1,2}})?"
    rf"(?:\sto\s(?:choose|select|pick|go\swith|say|answer))?(?:\s(?:that|one)\sof)?{_CLASSED}\s{{0,4}})"
)
_CHANGE = r"(?:(?:chang|revis|updat|mov)(?:e|ed|es|ing)|(?:switch|correct|amend|adjust|alter)(?:ed|e?s|ing)?)"
_CHOOSE = (
    rf"(?P<choose>(?:\b(?:(?:I|we|let\sme|let['’]s|let\sus)(?:['’](?:d|ll|ve|m|re))?"
    rf"(?:\s(?:would|will|should|must|have\sto|need\sto|want\sto|like\sto|am|are|have|go(?:ing)?\sto|{_ADVERB})){{0,4}}"
    r"\s(?:cho(?:ose|osing|se|sen)|pick(?:ed|ing)?|select(?:ed|ing)?|answer(?:ed|ing)?(?:\swith)?|opt(?:ed|ing)?\sfor"
    r"|(?:go|went|going|stick|sticking|agree|side)\swith|settl(?:e|ed|ing)\s(?:on|for)|conclud(?:e|ed)|vot(?:e|ed)\sfor"
    r"|lean(?:ing)?\stowards?|prefer|meant(?:\sto\s(?:say|answer|write|choose|pick))?|mean|say|said|think|believe|guess|feel|suspect|find"
    rf"|{_CHANGE}(?:\s[^.;!?\n]{{0,50}}?)?\s(?:to|into))"
    rf"|{_CHANGE}\s(?:my|the|this)\s(?:\w+\s){{0,2}}?(?:answer|choice|response|label)[^.;!?\n]{{0,30}}?\sto"
    r"|answer\s(?:changes|becomes|switches)\sto))"
    r"(?:\sthat)?(?:\sit(?:['’]s|\sis|\s(?:should|must|has\sto)\sbe))?(?:\s(?:more|most)\slikely|\sprobably)?:?\s{1,4})"
)
_SO = (
    r"(?P<so>(?:(?<![^\W_])|^)(?P<turn>so|therefore|thus|hence|ergo|consequently|accordingly|(?P<weak>wait|sorry|oops|rather"
    r"|instead|actually|no(?=\s?[,:.…—–-])|answer|final(?:\sanswer)?|scratch\sthat|my\smistake)|correction|edit|conclusion|i\smeant|in\s(?:short"
    r"|conclusion)|(?:up)?on\s(?:(?:second|further|closer)\s)?(?:reflection|thought|consideration|inspection)|→|⇒|=>|->|∴)"
    r"\s?[,:.…—–-]{0,3}\s{1,3}"
    rf"(?:(?:it|this|that)(?:['’]s|\sis|\s(?:must|should|has\sto|would)(?:\s{_ADVERB}){{0,2}}\sbe)\s)?(?:{_ADVERB}\s)?)"
)
_IT_IS = (
    rf"(?P<it>\b(?:it|this|that|they)(?:\s{_ADVERB}){{0,2}}(?:['’]s|\sis|\sare|\s(?:should|must|has\sto|ought\sto|needs\sto)"
    rf"(?:\s{_ADVERB}){{0,2}}\s(?:be|have\sbeen))(?:\s{_ADVERB}){{0,3}}(?:\sa(?:\sclear|\sdirect)?\scase\sof)?{_CLASSED}"
    r"(?:\sa\s(?:clear|direct|plain|logical))?\s"
    r"|(?:\b(?:it|this|that)\s|^|(?<=[.!?]\s))(?:looks|seems|sounds)\s(?:(?:more|most|a\slot)\s)?like\s(?:an?\s)?)"
)
_CLASSES = (
    rf"(?P<classed>\bthe\s(?:\w+\s){{1,3}}?(?:is|are|(?:must|should|can|would|has\sto|have\sto)\sbe)(?:\s{_ADVERB}){{0,2}}"
    r"\s(?:classified|labell?ed|described|categori[sz]ed|characteri[sz]ed|marked)(?:\sas)?(?:\san?)?\s)"
)
_NOT_BUT = r"(?P<but>\b(?:not\s(?!only\b)|neither\s)[^.;:!?\n]{1,60}?\sbut\s(?:rather\s|instead\s)?)"
_MAKES = (
    rf"(?P<makes>\b(?:mak(?:es|ing)|leav(?:es|ing)|giv(?:es|ing))\s(?:us\s)?(?:with\s)?(?:only\s)?(?:(?:it|this|that)\s)?"
    rf"(?:(?:the|our|my)\s(?:{_ADJECTIVE}\s){{0,2}}(?:answer|option|choice|label|relationship)\s)?)"
)
_FOREIGN = (
    r"(?P<foreign>(?:(?:antwort|lösung)\s(?:ist|lautet|wäre|muss)(?:\s(?:also|daher|eigentlich|tatsächlich|jedoch|somit))?"
    r"|réponse(?:\s(?:correcte|exacte))?\s(?:est|serait)|respuesta(?:\scorrecta)?\s(?:es|sería|debe\sser)"
    r"|resposta(?:\s(?:correta|certa))?\s(?:é|seria)|risposta(?:\s(?:corretta|giusta))?\s(?:è|sarebbe)|antwoord\sis"
    r"|odpowiedź\s(?:to|jest)|ответ\s?[:—–-]?|答案(?:应该|应当|其实|应)?(?:是|为)|(?:答え|正解|答)は)\s?[:：]?\s{0,2})"
)
_LEADING = re.compile(
    rf"(?:{_ANSWER_IS}|{_CHOOSE}|{_SO}|{_IT_IS}|{_CLASSES}|{_NOT_BUT}|{_MAKES}|{_FOREIGN})\Z", re.IGNORECASE
)
_FOREIGN_DOUBT = re.compile(  # conditions and reports anywhere in the sentence, denials in its last clause
    r"\b(?:wenn|falls|könnte\w*|würde\w*|si|pourrait|podría|se|poderia|potrebbe|als|zou|gdyby|если)\b|如果|若|もし|可能|有人|かも"
    r"|\b(?:nicht|kein\w*|no|pas|non|não|niet|nie|не)\b[^,，、]{0,60}\Z|不[^，、]{0,30}\Z",
    re.IGNORECASE,
)
_BOX = re.compile(r"\\(?:boxed|fbox|framebox)\s?\{\s{0,3}(?:\\\w{1,8}\s?\{\s{0,3}|[({\[*$]){0,3}\Z")
_BEFORE_NOUN = frozenset(
    {"so", "that", "then", "and", "thus", "hence", "therefore", "because", "but", "now", "actually", "think", "believe"}
    | {"say", "as", "since"}
)
"""Words before "answer is B" without an article."""

_BEFORE_PART = frozenset({"of", "to", "from", "than", "for"})
"""Words before "the answer is B" that make it part of something else: "the opposite of the answer is B"."""

_CLOSE = r"[)\]*_\"'”’»`}$\\]{0,6}\s{0,2}"
_STOPS = re.compile(  # what may follow a label after a mere "so" or "it is"
    rf"{_CLOSE}(?:[.;!…)(\[]|\Z|\n|[—–]|-\s|,?\s{{0,2}}(?:because|since|as|given|due|rather|instead|not|and\snot|over|here"
    rf"|to\sme|for)\b|,\s(?:which|who)\b|{EMOJI})",
    re.IGNORECASE,
)
_COLON = re.compile(rf"{_CLOSE}[:：]\s{{1,3}}(?!\d)")
_GOES_ON = re.compile(  # what may follow a label after "the answer is"
    rf"{_CLOSE}(?:[.,:;!?…)(\[]|\Z|\n|[—–]|-\s|(?:and|or|but|not|rather|instead|over|because|since|as|given|due|for|here|in"
    r"|with|so|than|if|unless|only|even|though|although|while|whereas|which|therefore|thus|then|now|when|based|from|on|by"
    rf"|under|after|where|regarding|according|without|against|provided|assuming)\b|{EMOJI})",
    re.IGNORECASE,
)
_IS_CORRECT = re.compile(
    rf"{_CLOSE},?\s{{0,3}}(?:is|was|['’]s|remains|must|should|would|will|has|seems|appears)"
    rf"(?:\s{_ADVERB}){{0,3}}(?:\s(?:to\s)?be)?(?:\s{_ADVERB}){{0,2}}\s(?:(?:the|our|(?P<my>my))\s)?"
    rf"(?:(?P<good>(?:{_ADJECTIVE}[\s,]{{1,2}}){{0,2}})(?:(?P<answer>answer)|(?P<choice>choice|option|label|response|pick"
    rf"|selection)|(?P<one>one|fit|match))\b|(?P<bare>correct|right|best|most\s\w+))"
    r"(?=\s{0,2}(?:[.,;:!?)*_\"]|\Z|\n|[—–(-]|(?:because|since|as|given|here|for|in|to|based|due|and|rather|over|than|instead"
    r"|if|unless|only|provided|when|from|that|under|with|were)\b))",
    re.IGNORECASE,
)
_OF_SOMETHING = re.compile(
    r"\s(?:for|to|in|when|with|on|at|from|under)\s(?!this\b|that\b|the\s(?:reason|question|given|pair|context)|my\b)",
    re.IGNORECASE,
)
_IS_CHOSEN = re.compile(
    rf"{_CLOSE}(?:is|was|['’]s|would\sbe)(?:\s{_ADVERB}){{0,2}}\s(?:what|where"
    rf"|(?:the|my)\s(?:{_ADJECTIVE}\s){{0,2}}(?:one|answer|option|label|choice)(?:\s(?:that|which))?)"
    rf"\sI(?:['’](?:d|ll|m))?(?:\s(?:would|will|should|am|now|have\sto|{_ADVERB})){{0,3}}"
    r"\s(?:(?:go|going|stick|sticking|settle)\s(?:with|for|on)|choose|choosing|pick|picking|select|answer|prefer|say"
    r"|opt\sfor)\b",
    re.IGNORECASE,
)
_IS_BETTER = re.compile(
    rf"{_CLOSE}(?:(?:is|seems|looks)(?:\s{_ADVERB}){{0,2}}\s(?:better|best)\s(?:supported|justified|suited|grounded)"
    rf"|(?:(?:{_ADVERB})\s)?(?:fits|matches|suits)\s(?:the\s\w+\s)?better)\b",
    re.IGNORECASE,
)
_FITS_BEST = re.compile(rf"{_CLOSE}(?:fits|matches|works|suits|answers)\s(?:\w+\s){{0,4}}?best\b", re.IGNORECASE)
_MAKING = re.compile(r"\bmak(?:es|ing)\s[\W_]{0,4}\Z", re.IGNORECASE)
_MADE_CORRECT = re.compile(
    rf"{_CLOSE}(?:(?:the|our|my)\s)?(?:(?:{_GOOD}\s)?(?P<answer>answer|choice|option|label)|{_GOOD})\b", re.IGNORECASE
)
_IT_IS_AFTER = re.compile(rf"{_CLOSE}it\s(?:is|must\sbe|has\sto\sbe)(?=\s{{0,2}}(?:[.!,;:)*]|\Z|\n))", re.IGNORECASE)
_SO_BEFORE = re.compile(
    r"(?:(?:(?<![^\W_])|^)(?:so|then|thus|therefore|hence)[,:]?\s{1,3}(?:option\s)?|(?:^|[.!?\n])\s{0,3})[\W_]{0,4}\Z",
    re.IGNORECASE,
)
_IT_IS_BEFORE = re.compile(
    rf"(?:\bit|\bthat)(?:['’]s|\s(?:is|must\sbe|has\sto\sbe))(?:\s{_ADVERB}){{0,2}}\s[\W_]{{0,4}}\Z", re.IGNORECASE
)
_THAT = re.compile(rf"{_CLOSE},?\s?(?:that|which)\s", re.IGNORECASE)
_JOINS = re.compile(
    r"[\s*_\"'”’)(\]\[]{0,4}(?:(?:,|/|&|\+|\bor\b|\band\b|\bnor\b|\bvs\.?)\s{0,2}){1,3}"
    r"(?:(?:possibly|maybe|perhaps|even|also|either|option)\s)?[\s*_\"'“‘(\[]{0,4}"
)

_INTRODUCTION = re.compile(
    r"^\W{0,8}(?:(?:so|thus|therefore|hence|overall|in\s\w+|to\s(?:sum\sup|conclude)|well|okay|wait|no|actually|sorry|then"
    r"|finally|I\s(?:think|believe|would\ssay|guess|feel)(?:\sthat)?|I['’]d\ssay(?:\sthat)?"
    r"|it\s(?:seems|appears|follows)(?:\sto\sme)?(?:\sthat)?|to\sanswer\s(?:\w+\s){0,3}\w+"
    r"|(?:based\son|given|according\sto|from|after|looking\sat|considering|on|upon)(?!\sthat\b)(?:\s[\w'’]+){1,8}?)"
    r"[\s,:—–]{1,3}){0,4}\Z",
    re.IGNORECASE,
)
_CONNECTOR = re.compile(
    r"(?:[,;—–-]\s{0,2})?(?:\b(?:and\s)?(?:so|therefore|thus|hence|consequently|which\smeans|meaning|this\smeans)\b[,:]?\s{0,2})?"
    r"(?:that\s|I\s(?:think|believe)\s(?:that\s)?)?\Z",
    re.IGNORECASE,
)

_TO_ANSWER = re.compile(r"answer\s{1,2}", re.IGNORECASE)

_NEGATIVE = re.compile(
    r"\W{0,3}(?:too|not|is|are|was|would|could|might|may|wrong|incorrect|false|no|cannot|can['’]t|does|doesn['’]t|isn['’]t"
    r"|needs?|requires?|rul\w+\sout|ruled|fails?|unsupported|unlikely|impossible|seems|vs|versus|or|and|also)\b",
    re.IGNORECASE,
)
_NOT_OTHER = re.compile(r"\W{0,3}(?:and\s|but\s)?(?:not|rather\sthan|instead\sof)\s", re.IGNORECASE)
_REASON = re.compile(r"\W{0,3}(?:because|since|as|given|due\sto)\b", re.IGNORECASE)
_ENDING = re.compile(r"[\t.!:：;|…)\]。—–‒―~·•→⇒⟶‣>*-]")
_EMOJI = re.compile(EMOJI)
_WORD = re.compile(r"[^\W\d_]{2}")

_YES_NO = frozenset({"yes", "no", "true", "false"})
POLAR = frozenset({"entailment", "neutral", "contradiction"})
"""Option texts that "it is …" states as the answer without the word "answer"."""

_BUT = re.compile(r"\b(?:but|however|although|though|except|while|whereas|yet)\b", re.IGNORECASE)
_AFTER_NAME = r"[)\]*_\"'”’»`]{0,4},?\s{1,2}(?:(?:that|which)\s)?"

_THE_ONE = r"is\sthe\s(?:one|sentence|statement|option)\s"
_GOES_AGAINST = (
    rf"(?:(?:(?:is|{_THE_ONE})\s?(?:that|which)\s)?(?:clearly\s|obviously\s|directly\s)?"
    r"(?:goes\sagainst|runs\sagainst|contradicts|violates|defies|lacks|conflicts\swith|runs\scounter\sto)"
    rf"|(?:{_THE_ONE}(?:(?:that|which)\sis\s)?|(?:(?:that|which)\s)?is\s)(?:clearly\s|obviously\s|directly\s)?"
    r"(?:against|contrary\sto|at\sodds\swith))\s(?:our\s|basic\s|all\s|any\s|human\s)?"
)
_AGAINST = rf"(?:{_GOES_AGAINST}common\ssense)"
_ABSURD = (
    r"(?:nonsensical|illogical|absurd|implausible|impossible|unrealistic|unreasonable|wrong|incorrect|senseless|odd|false"
    r"|untrue|nonsense|ridiculous|bizarre|silly|strange|weird|abnormal)"
)
_SENSELESS = (
    r"(?:(?:is\sthe\s(?:one|sentence|statement)\sthat\s)?(?:makes?\sno\s(?:logical\s)?sense"
    rf"|does(?:\snot|n['’]t)\smake\s(?:\w+\s)?sense|is\s(?:(?:(?!grammatical|linguistic|syntactic|technical|factual)\w+ly|also|quite|very|just)\s){{0,2}}"
    rf"{_ABSURD}"
    rf"|is(?:\snot|n['’]t)\s(?:logical|plausible|possible|sensible|realistic|reasonable|normal|correct|true))|is\sthe\s{_ABSURD}\s(?:one|sentence|statement)"
    rf"|{_GOES_AGAINST}(?:logic|reason|reality|physics|the\slaws\sof\s(?:physics|nature))\b)"
)
_FULLY = (
    r"(?:(?:perfectly|completely|totally|entirely|absolutely|quite|very|fully|highly|also|both|all|clearly|actually|indeed"
    r"|really|certainly|definitely|obviously|generally|equally|just|simply|more|the\smore|a\slot\smore|logically)\s){0,3}"
)
_SANE = (
    r"(?:plausible|possible|fine|ok|okay|normal|reasonable|sensible|logical|realistic|believable|credible|true|natural"
    r"|ordinary|acceptable|feasible|unproblematic|unobjectionable|commonplace|everyday|typical|sound|common(?!\ssense))"
)
_SAYING = r"(?:sentence|statement|one|situation|scenario|thing|action|activity|practice|event|occurrence)"
_COMMON = r"(?:our\s|basic\s|all\s|any\s|human\s)?common\ssense"
SENSIBLE = (  # what is said of a sentence, or of both, that does not go against common sense
    rf"(?:(?:does\s|do\s)?{_FULLY}makes?\s(?:{_FULLY}|(?:perfect|complete|total|good|logical|full)\s)?sense"
    rf"|(?:is|are|seems?|sounds?|looks?|appears?|remains?)\s(?:to\sbe\s)?{_FULLY}{_SANE}\b"
    rf"|(?:is|are|describes?|states?)\s(?:an?|the)\s{_FULLY}{_SANE}(?:,?\s(?:and\s)?{_SANE})?\s{_SAYING}s?\b"
    r"|is\sthe\s(?:one|sentence|statement)\sthat\s(?:makes\ssense|is\s(?:plausible|possible|fine|normal|logical))"
    rf"|(?:is|are)\s{_FULLY}(?:in\sline|in\saccord(?:ance)?|consistent|compatible)\swith\s{_COMMON}"
    rf"|can\s(?:{_FULLY}|easily\s)(?:be\s(?:true|done)|happen|occur)\b|is\s{_FULLY}{_COMMON}"
    rf"|(?:aligns?|agrees?|accords?|fits?)\swith\s{_COMMON}|(?:follows?|fits|reflects|expresses|matches|obeys|respects)\s{_COMMON}"
    r"|has\s(?:nothing\s(?:wrong|odd|strange|absurd)|no\s(?:problems?|issues?|errors?|contradictions?))\b)"
)
_RESERVED = (  # what takes it back: "is possible in a cartoon", "makes sense at first, but …"
    r"(?!\s(?:in|on|for|with|under|to)\s(?!me\b|us\b|anyone|everyone|everybody|someone|(?:most\s|many\s|all\s)?(?:people|persons|humans)|a\s(?:person|human)|this\b|that\b|everyday|daily|real"
    r"|the\sreal|it\b)|\sas\san?\s\w{1,20}(?:[,.;]|\s(?:but|not)\b|\Z)"
    r"|[^.;!?\n]{0,100}\b(?:but|however|although|though|yet|except)\b"
    r"(?!,?\s(?:the\s)?(?:sentence|statement|second|first|other)\b|,?\s[AB12]\b)"
    r"|(?:(?!\b(?:because|since|as)\b)[^.;!?\n]){0,100}\b(?:unless|if|only|until|at\sfirst|than|grammatically|linguistically"
    r"|syntactically|on\s(?:its\sface|the\ssurface)|enough|answer|fiction\w*|metaphor\w*|fantasy|in\stheory)\b"
    r"(?!\s(?:the\s)?(?:sentence|second|first|other)\b|\s[AB12]\b))"
)
_NOTHING_WRONG = (
    r"(?P<nothing>\b(?:(?:there\s(?:is|was)|there['’]s|I\s(?:see|find))\s)?(?:nothing(?:\s(?:is|seems|looks|sounds))?\s"
    r"(?:(?:inherently|particularly|really|actually|at\sall)\s)?(?:wrong|odd|strange|absurd|unusual|implausible|illogical"
    r"|impossible|incorrect|off|nonsensical)|no\s(?:problem|issue|error|mistake|contradiction)s?)\s(?:with|about|in)\s)\Z"
)
_ABOUT_PAIR = re.compile(rf"{_AFTER_NAME}(?P<against>{_AGAINST})", re.IGNORECASE)
_ABOUT_SENTENCE = re.compile(
    rf"{_AFTER_NAME}(?:(?P<against>{_AGAINST}|{_SENSELESS})|(?P<sensible>{SENSIBLE}{_RESERVED}))", re.IGNORECASE
)
_THE_ABSURD = re.compile(
    rf"(?P<against>\bthe\s(?:{_ABSURD}\s(?:one|sentence|statement|option)|(?:one|sentence|statement)\sthat\s(?:{_AGAINST}"
    rf"|{_SENSELESS}))\s(?:here\s)?is\s)\Z"
    rf"|{_NOTHING_WRONG}",
    re.IGNORECASE,
)
_NOT_RESERVED = re.compile(_RESERVED, re.IGNORECASE)

_SURELY = (
    r"(?:\s(?:clearly|directly|definitely|therefore|thus|logically|fully|indeed|actually|also|then|must|necessarily|in\sfact"
    r"|plainly|simply|be)){0,3}"
)
_HYPOTHESIS = (
    r"\b(?:the|this|that|our|its)\s(?:hypothesis|statement|conclusion|claim|second\ssentence|assertion|pair"
    r"|relation(?:ship)?(?:\sbetween\s[^.;!?\n]{1,60}?)?)"
)
_PREMISE = r"\b(?:(?:the\s)?(?:premise|text|passage|first\ssentence)|this|which|it)"
_INFERENCE = re.compile(
    rf"(?:{_HYPOTHESIS}{_SURELY}\s(?:is|must\sbe|has\sto\sbe|remains|can\sbe\sconsidered){_SURELY}(?:\san?)?{_SURELY}\s"
    r"(?:(?P<entail_1>entailed|entailment)|(?P<contradict_1>contradicted|contradictory|contradiction)"
    r"|(?P<neutral_1>neutral|undetermined|neither\sentailed\snor\scontradicted))\b"
    rf"|{_PREMISE}{_SURELY}\s(?:(?P<entail_2>entails)|(?P<contradict_2>contradicts))\s(?:the|this|that)\s"
    r"(?:hypothesis|second\ssentence|conclusion|claim|statement)\b"
    rf"|\bthe\s(?:hypothesis|statement|conclusion|claim){_SURELY}\s(?P<contradict_3>contradicts)\s"
    r"(?:the\s)?(?:premise|text|passage|it|this)\b"
    r"|\b(?:they|the\stwo(?:\s\w+)?|(?:the\s)?premise\sand\s(?:the\s)?hypothesis|the\s(?:sentences|statements))"
    rf"{_SURELY}\s(?P<contradict_4>contradict(?:\seach\sother|\sone\sanother)?|are{_SURELY}\scontradictory)\b"
    r"|\b(?:so|therefore|thus|hence|which\smeans|meaning),?\s(?:it|this|that|which)\sis"
    rf"{_SURELY}\s(?:(?P<entail_3>entailed)|(?P<contradict_5>contradicted|contradictory))\b)"
    r"(?!\s(?:only|partly|partially|in\spart)\b)",
    re.IGNORECASE,
)
_NOT_INFERRED = re.compile(
    rf"(?:{_HYPOTHESIS}\s(?:(?:is|can)(?:\snot|n['’]t)|cannot){_SURELY}(?:\sbe)?\s"
    r"(?:(?P<entail_1>entailed)|(?P<contradict_1>contradicted|contradictory))\b"
    rf"|{_PREMISE}\s(?:does(?:\snot|n['’]t)){_SURELY}\s(?:(?P<entail_2>entail)|(?P<contradict_2>contradict))\s"
    r"(?:the|this|that)\s(?:hypothesis|second\ssentence|conclusion|claim|statement)\b)",
    re.IGNORECASE,
)
_MAY_INFER = re.compile(r"entail|contradict|neutral|undetermined")
"""Found in every lower-case text in which `_INFERENCE` or `_NOT_INFERRED` is found, and much faster looked for."""

_MOST_INFERENCES = 100  # such sentences that are read; a text with more repeats itself without end


def find_statements(text: str, options: Mapping[str, str]) -> list[Claim]:
    """The sentences of `text` that firmly state an answer: markers that end where the option is named, and the option.

    The value is a Clash where two options are named together ("the answer is A or B").
    """
    names = find_names(text, options, MOST_NAMES + 1)
    claims: list[Claim] = []
    if len(names) > MOST_NAMES:
        place = names[MOST_NAMES].start
        claims.append((Marker("answer", place, place), Clash(f"more than {MOST_NAMES} places name an option")))
    for place, name in enumerate(names[:MOST_NAMES]):
        stated = _read_name(text, name, options)
        if stated is None or not is_asserted(text, stated.start, stated.end):
            continue
        marker = Marker("answer", _statement_start(text, stated.start), name.value.start)
        letters = list(dict.fromkeys(other.letter for other in joined_names(text, names, place)))
        if len(letters) > 1 and stated.letter == name.letter:
            claims.append((marker, two_answers(letters)))
        else:
            value = Value(stated.letter, name.value.start, name.value.end, stated.end, stated.inferred)
            claims.append((marker, value))
    for letter, match in find_inferences(text, options):
        start, tail = match.span()
        if is_asserted(text, start, tail):
            value = Value(letter, *match.span(match.lastgroup or 0), tail, inferred=True)
            claims.append((Marker("answer", _statement_start(text, start), value.start), value))
    return sorted(claims, key=lambda claim: claim[0].start)


def find_bare_lines(text: str, before: int, options: Mapping[str, str]) -> list[Claim]:
    """Lines that are nothing but a label: the first line, the last one before `before`, or the last (a letter only)."""
    start = len(text) - len(text.lstrip())
    first_end = text.find("\n", start)
    spans = [(start, len(text) if first_end < 0 else first_end)] if start < len(text) else []
    for end in (len(text[:before].rstrip()), len(text.rstrip())):
        spans += [(text.rfind("\n", 0, end) + 1, end)] if end else []
    claims: list[Claim] = []
    for start, end in dict.fromkeys(spans):
        value = read_value(text, start, end, options)
        if isinstance(value, Value):
            bare = is_bare(text, skip_ending(text, value, options), end)
            value = value if bare and (value.lettered or start < before) else None
        if value is not None:
            claims.append((Marker("answer", start, start), value))
    return claims


def read_opening(text: str, start: int, end: int, options: Mapping[str, str], *, strict: bool) -> Value | Clash | None:
    """The option with which the prose `text[start:end]` begins: "B. The premise says …", "Neutral, because …".

    None if the text goes through several options or rejects the first. With `strict`, a comma after an option's text
    counts only before a reason that ends the sentence: not in "A shovel, which moves snow, …".
    """
    stop = text.find("\n", start, end)
    line = end if stop < 0 else stop
    value = read_value(text, start, line, options)
    if not isinstance(value, Value):
        return value if value is not None and value.letters else None
    place = skip_ending(text, value, options)
    if is_bare(text, place, line):
        return value
    between = text[value.end : place]
    after = text[place : min(line, place + 80)]
    new_sentence = "." in between and not after[:1].islower()
    excluded = _NOT_OTHER.match(after)
    if excluded and isinstance(read_value(text, place + excluded.end(), line, options), Value):
        return value  # "A) yes, not B) no"
    if _NEGATIVE.match(after) and not new_sentence:
        return None
    if value.lettered and value.letter == "A" and ":" in between and not _WORD.search(between):
        return None  # "A:" is short for "Answer:" too
    if _ENDING.search(between) or (_EMOJI.search(between) and not after[:1].islower()):
        return value
    if "," in between and fold(text[value.start : value.end]) in _YES_NO:  # "Yes, ice is frozen."
        return None if strict and _BUT.search(text[place : place + 200]) else value
    if strict and not value.lettered and "," in between and "," in text[place:line].partition(".")[0]:
        return None  # "In the desert, because it is dry, there are …" says something else
    if _REASON.match(after):
        return value
    return value if "," in between and not strict and not value.lettered else None


def _read_name(text: str, name: Name, options: Mapping[str, str]) -> _Stated | None:
    """The words that state, or imply, that the named option is the answer; None if the option is only named."""
    low = max(0, name.start - _BEFORE)
    before = text[low : name.start]
    boxed = _BOX.search(text, max(0, name.value.start - 40), name.value.start)
    if boxed:
        return _Stated(name.letter, boxed.start(), name.end)
    verb = _TO_ANSWER.match(text, name.start, name.value.start)
    leading = _LEADING.search(before)
    if leading is None and verb:  # "I would answer B"
        before = text[low : verb.end()]
        leading = _LEADING.search(before)
        leading = leading if leading and leading["choose"] else None
    if leading and _introduces(leading, before, text, name, options):
        return _Stated(name.letter, low + leading.start(), name.end, bool(leading["but"]))
    pair = judges_sentences(options)
    judged = _read_judgement(text, before, name.end, name.letter, options) if pair else None
    if judged:
        length, end, letter = judged
        return _Stated(letter, name.start - length, end, letter != name.letter)
    after = _end_of_statement(text, name, pair=pair)
    return None if after is None else _Stated(name.letter, name.start, after)


def _introduces(match: re.Match[str], before: str, text: str, name: Name, options: Mapping[str, str]) -> bool:
    """True if the words at the end of `before`, which `match` holds, state the name that follows as the answer."""
    if match["foreign"]:
        return not _FOREIGN_DOUBT.search(before[sentence_start(before, match.start()) : match.start()])
    if match["answer"] or match["choose"]:
        return _GOES_ON.match(text, name.end) is not None and (not match["answer"] or _means_the_answer(match, before))
    if not _STOPS.match(text, name.end) and not (match["it"] and _COLON.match(text, name.end)):
        return False
    option = fold(options[name.letter])
    plain = not name.lettered and option not in POLAR
    return not (plain and (match["it"] or (match["so"] and (match["weak"] or option in _YES_NO))))


def _means_the_answer(match: re.Match[str], before: str) -> bool:
    """True if "… answer is" is about the one answer, not about some option, and does not deny it."""
    good, of = match["good"].strip(), (match["of"] or "").casefold()
    about = match["about"].strip(" ,")
    if not is_asserted(about + " ", len(about) + 1, len(about) + 1):
        return False
    if match["choice"] and not good and of != "my" and not (of == "the" and about.startswith(("that", "which"))):
        return False
    if of in {"a", "an"} and not re.search(r"\b(?:better|more)\b", good, re.IGNORECASE):
        return False
    word = re.search(r"([\w'’]+)(\W*)\Z", before[max(0, match.start() - 40) : match.start()])
    if of:
        return word is None or word[1].casefold() not in _BEFORE_PART or bool(word[2].strip())
    return word is None or bool(word[2].strip()) or "\n" in word[2] or word[1].casefold() in _BEFORE_NOUN


def _end_of_statement(text: str, name: Name, *, pair: bool) -> int | None:
    """Where the words after the name that state it as the answer end; None without such words.

    For a pair of sentences, "A is correct" says nothing about the answer, "A is the correct answer" does.
    """
    match = _IS_CORRECT.match(text, name.end)
    if match:
        if match["answer"] or (match["choice"] and (match["good"] or match["my"])):
            return match.end()
        of_something = _OF_SOMETHING.match(text, match.end())  # "is best for grass"
        return match.end() if not pair and not of_something and (match["bare"] or match["good"]) else None
    chosen = _IS_CHOSEN.match(text, name.end)
    if chosen:
        return chosen.end()
    made = _MADE_CORRECT.match(text, name.end)
    if made and _MAKING.search(text, max(0, name.start - 20), name.start) and (not pair or made["answer"]):
        return made.end()
    so = _IT_IS_AFTER.match(text, name.end)
    if so and _SO_BEFORE.search(text, max(0, name.start - 30), name.start):
        return so.end()
    if pair:
        return None
    that = (
        _THAT.match(text, name.end) if name.lettered or fold(text[name.value.start : name.value.end]) in POLAR else None
    )
    if that and _IT_IS_BEFORE.search(text, max(0, name.start - 60), name.start):
        return that.end()
    better = _IS_BETTER.match(text, name.end)
    if better and not _OF_SOMETHING.match(text, better.end()):
        return better.end()
    fits = _FITS_BEST.match(text, name.end)
    return fits.end() if fits else None


def joined_names(text: str, names: list[Name], place: int) -> list[Name]:
    """The name and those that are joined to it by "or", "and" or a comma."""
    first = last = place
    while last + 1 < len(names) and last - place < 4 and _JOINS.fullmatch(text, names[last].end, names[last + 1].start):
        last += 1
    while first > 0 and place - first < 4 and _JOINS.fullmatch(text, names[first - 1].end, names[first].start):
        first -= 1
    return names[first : last + 1]


def _statement_start(text: str, start: int) -> int:
    """Where the statement begins: at its sentence if only an introduction stands before it, or else at its clause."""
    low = sentence_start(text, start)
    before = text[low:start]
    if _INTRODUCTION.match(before):
        return low + len(before) - len(before.lstrip())
    connector = _CONNECTOR.search(text, max(low, start - 60), start)
    return connector.start() if connector else start


def find_inferences(text: str, options: Mapping[str, str], *, denied: bool = False) -> list[tuple[str, re.Match[str]]]:
    """The sentences about premise and hypothesis that imply a label: the label's letter, and the match.

    With `denied`, the letters of the labels that sentences rule out: "the hypothesis is not entailed".
    """
    letters = _inference_letters(tuple(options.items()))
    if not letters or (text.isascii() and not _MAY_INFER.search(text.lower())):
        return []
    inferences: list[tuple[str, re.Match[str]]] = []
    for match in (_NOT_INFERRED if denied else _INFERENCE).finditer(text):
        stated = letters.get((match.lastgroup or "").partition("_")[0])
        if stated and not _BUT.search(_rest_of_sentence(text, match.end())):
            inferences.append((stated, match))
            if len(inferences) == _MOST_INFERENCES:
                break
    return inferences


@lru_cache(maxsize=256)
def _inference_letters(options: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    """The letters of the labels of natural language inference by the labels' stems; empty for other tasks."""
    letters: dict[str, str] = {}
    for letter, option in options:
        folded = fold(option)
        stem = next((stem for stem in ("entail", "contradict", "neutral") if folded.startswith(stem)), None)
        if stem is not None and len(folded) < 20:
            letters[stem] = letter
    return letters if {"entail", "contradict"} <= letters.keys() else {}


def judges_sentences(options: Mapping[str, str]) -> bool:
    """True if the options are two sentences, so that "A is correct" may be about a sentence, not the answer."""
    return are_numbered_sentences(options) or share_words(options)


def _read_judgement(
    text: str, before: str, end: int, letter: str, options: Mapping[str, str]
) -> tuple[int, int, str] | None:
    """What the words around the name of a sentence say about which of the two sentences is against common sense.

    `letter` is the sentence named between `before` and `text[end:]`. Returns how many characters of `before` belong to
    the judgement, where it ends, and the letter of the sentence against common sense. The task on common sense calls
    its options "Sentence 1" and "Sentence 2" and asks which is wrong; for other pairs of sentences, only the words
    "against common sense" count.
    """
    numbered = are_numbered_sentences(options)
    named = _THE_ABSURD.search(before) if numbered else None
    other = next(other for other in options if other != letter)
    if named and named["nothing"]:
        return (len(named.group()), end, other) if _NOT_RESERVED.match(text, end) else None
    if named:
        return len(named.group()), end, letter
    match = (_ABOUT_SENTENCE if numbered else _ABOUT_PAIR).match(text, end)
    if match is None:
        return None
    if match["against"]:
        return 0, match.end(), letter
    return 0, match.end(), other


def _rest_of_sentence(text: str, place: int) -> str:
    return text[place : place + 120].partition(".")[0].partition("\n")[0]
