"""What other packages say, as users of the service read it: without commands, options, variables and installations.

Those sentences are written for a terminal, which users of the service do not have.
"""

from __future__ import annotations

import re

from explaineval.config.fields import all_settings

_COMPARING = ("--against", "--by", "--equivalent", "--impact-rate", "--mention", "--primary")
_KEYS = {option: option.lstrip("-").replace("-", "_") for option in _COMPARING} | {
    setting.option: setting.path[-1]
    for setting in reversed(list(all_settings()))  # of the settings of one option that with the shortest path
    if setting.served is not None
}
"""The options whose settings users of the service can give, in a comparison or in a run, with their keys."""
_WORDS = (
    (re.compile(r";? `explaineval probe` tells more"), ""),
    (re.compile(r"`explaineval probe` finds out"), "the run finds out"),
    (re.compile(r"Run `explaineval probe`"), "Start the run, which finds out"),
    (re.compile(r"Look at (an answer|one of them)(?: with|:) `explaineval show [^`]*`"), r"Look at \1 in trials.jsonl"),
    (re.compile(r": `?explaineval show RUN_DIR --list`?"), " in trials.jsonl"),
    (re.compile(r"give the same command with --keep-unreadable"), "submit the run with keep_unreadable"),
    (re.compile(r"(?:give|run) the same command(?: again|(?= with a higher))"), "continue the run"),
    (re.compile(r"Give the same command(?: again|(?= with a higher))"), "Continue the run"),
    (re.compile(r"the same command asks"), "continue asks"),
    (re.compile(r" ?\(--patience\)| as long as --patience says"), ""),
    (
        re.compile(
            r"with a base URL it is taken only from \w+, or from the variable that --api-key-env names"
            r"(?: \(--api-key-env [^)]*\))?"
        ),
        "the operator names its variable in serve.yaml",
    ),
)
"""What is said of the command line, and what users of the service can do instead."""
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*[a-z]\b")
_TERMINAL = re.compile(
    r"`explaineval |\bexplaineval (?:[a-z]+ )+(?:[A-Z]+_DIR|--)|\bpip install|\bEXPLAINEVAL_|\bTMPDIR\b|"
    r"\b[A-Z][A-Z0-9_]*_(?:KEY|TOKEN|PROXY|URL|BASE|HOST)\b|environment variable|key variable|the same command|"
    r"command line|\bchmod |\bdocker run"
)
_CLAUSES = re.compile(r"((?<=[.;:])\s+|, or (?=[a-z`-])|\s+(?=\())")
OPERATOR = "ask the operator of the service"


def for_users(text: str) -> str:
    """Return a text with the keys of settings in place of options; what only a terminal can do is the operator's.

    >>> for_users("try --max-tokens; `explaineval probe` tells more.")
    'try max_tokens.'
    >>> for_users("check the name, or give the address by --base-url (--model NAME), or set LAB_KEY.")
    'check the name, or ask the operator of the service.'
    """
    for command, instead in _WORDS:
        text = command.sub(instead, text)
    if not (_OPTION.search(text) or _TERMINAL.search(text)):
        return text.replace("?.", "?")
    said, asked, dropped = "", False, False
    parts = _CLAUSES.split(text)
    for separator, clause in zip(["", *parts[1::2]], parts[::2], strict=True):
        words = _OPTION.sub(lambda match: _KEYS.get(match[0], match[0]), clause)
        in_brackets = words.startswith("(")
        if _OPTION.search(words) or _TERMINAL.search(words) or (dropped and in_brackets):
            end = re.search(r"[.;:]?$", words)
            dropped, words = True, end[0] if end else ""
            if not (asked or in_brackets):
                asked, words = True, (OPERATOR.capitalize() if clause[:1].isupper() else OPERATOR) + words
            else:
                said, separator = said.rstrip(".;:") if words else said, ""
        else:
            dropped = False
        said += separator + words
    return said.replace("?.", "?")


def sentence(text: str) -> str:
    """Return a text for users, with a large first letter as on pages. A name at the beginning stays as it is.

    >>> sentence("the endpoint lab is gone."), sentence("openai/m: no answer.")
    ('The endpoint lab is gone.', 'openai/m: no answer.')
    """
    text = for_users(text)
    return text[:1].upper() + text[1:] if re.match(r"[a-z']+[ ,]", text) else text
