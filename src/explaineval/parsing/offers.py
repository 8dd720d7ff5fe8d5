"""An assistant's offers: "I'm ready to help you with that! What would you like to know?".

They say nothing about an answer. A sentence is an offer by what it offers: help, an explanation or an answer, of which
nothing is given yet. "I can help you see why: a dog is an animal" gives one and is no offer.
"""

from __future__ import annotations

import re
from functools import cache

_LONGEST = 600  # characters; a longer reply says more than an assistant's offers
_SENTENCE = re.compile(r"[^.!?…\n]+")

_DO = (
    r"(?:help|assist|support|guide|serve|explain|answer|provide|give|offer|share|clarify|elaborate|discuss|work|respond"
    r"|begin|start|proceed|do\s(?:so|that|this|my\sbest)|try)"
)
_THING = (
    r"(?:questions?|quer(?:y|ies)|inquir(?:y|ies)|requests?|tasks?|problems?|topics?|needs?|issues?|concerns?|prompts?"
    r"|inputs?|explanations?|answers?|responses?|repl(?:y|ies)|reason(?:s|ing)?|analysis|information|details?|context"
    r"|clarifications?|help|assistance|support|guidance|advice|insights?|examples?|premises?|hypothes[ie]s|sentences?"
    r"|statements?|passages?|texts?|options?|choices?|instructions?)"
)
_GENERAL = (  # words that add nothing to a thing that is offered
    rf"(?:you|your|yours|me|us|it|this|that|these|those|anything|something|everything|whatever|what|one|(?:the|an?)(?=\s\w)|any|some"
    r"|all|more|further|additional|other|else|specific|particular|relevant|useful|helpful|accurate|clear|concise|brief"
    r"|short|detailed|general|correct|best|possible|with|to|for|on|about|regarding|in|of|at|and|or|as|by|today|now|here"
    r"|below|again|please|also|have|had|may|might|need|want|would|could|can|like|know|get|find|solve|understand|determine"
    rf"|figure|out|ability|abilities|way|provided|given|{_DO}|do|{_THING})"
)
_OBJECT = rf"(?:,?\s(?:{_GENERAL}\b|why\s(?:the|this|that)\s(?:answer|choice|option)\sis\s\W?\w+\W?(?=\s?\Z))){{0,30}}+"
_GREETING = (
    r"(?:sure(?:\sthing)?|certainly|of\scourse|absolutely|okay|ok|alright|yes|hello(?:\sthere)?|hi(?:\sthere)?|hey|great"
    r"|(?:great|good)\squestion|thanks|thank\syou(?:\sfor\s[^,:]{0,60})?|no\sproblem|you['’]re\swelcome|got\sit"
    r"|understood|I\s(?:understand|see)|my\spleasure|as\san\s(?:AI|artificial|assistant)[\w\s]{0,30}"
    r"|I(?:['’]m|\sam)\s(?:\w+,\s)?(?:an?|your)\s(?:\w+\s){0,3}(?:AI|assistant|chatbot|language\smodel)(?:\s(?:assistant|model))?)"
)
_READY = r"(?:ready|happy|glad|here|able|available|pleased|delighted|excited|eager|willing|designed|trained|programmed)"
_GLADLY = r"(?:(?:also|gladly|happily|certainly|definitely|surely|always|now|be|just|really|more\sthan)\s){0,2}"
_PLEASE = r"(?:(?:please|just|can\syou|could\syou|you\scan|you\smay|go\sahead\sand)\s)"
_OFFER = (
    rf"(?:I(?:['’](?:m|d|ll)|\s(?:am|was|would|will))\s{_GLADLY}(?:very\s)?{_READY}"
    rf"(?:\s(?:(?:to|for)\s(?:\w+\s)?{_DO}\b{_OBJECT}|when(?:ever)?\syou\sare))?"
    rf"|(?:always\s)?(?:happy|glad|here|pleased|ready)\sto\s(?:help|assist)\b{_OBJECT}"
    rf"|I(?:['’](?:d|ll)|\s(?:can|could|will|would|want\sto))\s{_GLADLY}(?:(?:love|like|try)\sto\s)?{_DO}\b{_OBJECT}"
    rf"|(?:how|what)\s(?:else\s)?(?:can|may|could|should)\s(?:I|we)\s(?:be\sof\s(?:service|assistance|help)|(?:{_DO}|do)\b){_OBJECT}"
    r"|(?:what|how|which)\s(?:\w+\s)?(?:would|do|can|may|could)\syou\s(?:like|want|need|wish|have)\b"
    rf"(?:\s(?:I|see|learn|ask|talk|chat|start|{_GENERAL})\b){{0,20}}+"
    rf"|(?:would|do)\syou\s(?:like|want|need|have)\s(?:me\b|any\b|some\b|more\b|help\b|to\s(?:know|learn|ask|discuss)\b){_OBJECT}"
    rf"|what(?:['’]s|\sis|\sare)\s(?:the|your)\s{_THING}"
    rf"|(?:is\sthere\s)?(?:anything\selse|any(?:\s(?:other|more|further))?\squestions?)\b{_OBJECT}(?:\sI\scan\s{_DO}{_OBJECT})?"
    rf"|(?:{_PLEASE}{{0,4}}(?:let\sme\sknow|feel\sfree|don['’]t\shesitate|tell\sme)"
    rf"|{_PLEASE}{{1,4}}(?:ask|provide|share|give\sme|send|paste|enter|type|specify|clarify|rephrase))\b(?:\s(?:if|how|when|to\s(?:ask|contact))\b){{0,3}}"
    rf"{_OBJECT}(?:\s(?:if|how|so)\b{_OBJECT}(?:\s(?:I|we)\s(?:can|may)\s{_DO}{_OBJECT})?)?"
    rf"|let\sme\s{_DO}\b{_OBJECT}|let['’]s\s(?:get\sstarted|begin|start)|go\sahead"
    rf"|(?:I\s)?hope\s(?:this|that|it)\s(?:helps?|clarifies|answers){_OBJECT}"
    rf"|(?:(?:I(?:['’]m|\sam)\s)?looking\sforward|I\slook\sforward)\sto\s\w+ing{_OBJECT}"
    rf"|(?:below\sis|here['’]s|here\s(?:is|are))\s(?:the|an?|my|your|some)\s(?:\w+\s){{0,3}}{_THING}{_OBJECT})"
)
_IF = rf"if\syou(?:\s(?:have|need|want|would\slike)|['’]d\slike)\b{_OBJECT}"


@cache
def _says_nothing() -> re.Pattern[str]:
    """Return the pattern of a sentence of greetings and offers, compiled when it is needed, since that takes long."""
    between = r"(?:\Z|[\s,;:—–-]{1,3}(?:(?:and|so|but|then)\s)?)"
    return re.compile(rf"(?:(?:(?P<said>{_GREETING}|{_OFFER})|{_IF}){between}){{1,8}}", re.IGNORECASE)


def is_offer(text: str) -> bool:
    """True if all sentences of the text are an assistant's offers, questions to the user or greetings.

    >>> is_offer("Sure, I can help you with that. What would you like to know?")
    True
    >>> is_offer("I can help you see why: a dog is an animal.")
    False
    """
    if len(text) > _LONGEST:
        return False
    sentences = [sentence for part in _SENTENCE.findall(text) if (sentence := part.strip(" \t,;:—–-*_\"'“”#>()[]`~"))]
    sentences = [sentence for sentence in sentences if any(sign.isalnum() for sign in sentence)]
    matches = map(_says_nothing().fullmatch, sentences)
    return bool(sentences) and all(match is not None and match["said"] for match in matches)
