"""Recipe: to read labels that are written in another way, add one rule to the table in `parsing/letters`."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from explaineval.parsing import letters, parse
from explaineval.parsing.letters import LabelRule, Value, read_value
from explaineval.records import Answer, Unreadable

OPTIONS = {"A": "entailment", "B": "neutral", "C": "contradiction"}
NUMBERED = {"A": "Sentence 1", "B": "Sentence 2"}
TEXT = "Answer: Bravo\nExplanation: It may rain."
SPELLED = re.compile(r"(?:Alfa|Bravo|Charlie)\b", re.IGNORECASE)


def read_spelled(text: str, start: int, end: int, options: Mapping[str, str]) -> Value | None:
    """Read a letter in the NATO alphabet."""
    match = SPELLED.match(text, start, end)
    if match is None or match[0][0].upper() not in options:
        return None
    return Value(match[0][0].upper(), match.start(), match.start() + 1, match.end())


@pytest.mark.parametrize("rule", letters.RULES, ids=[rule.name for rule in letters.RULES])
def test_each_rule_alone_reads_its_example(monkeypatch: pytest.MonkeyPatch, rule: LabelRule) -> None:
    """The example in the table is read as option B by the rule itself, without the help of others."""
    monkeypatch.setattr(letters, "RULES", (rule,))

    value = read_value(rule.example, 0, len(rule.example), NUMBERED)

    assert isinstance(value, Value)
    assert value.letter == "B"


def test_one_more_rule_makes_an_unreadable_text_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A label that no rule reads leaves the text unparsed; with its rule in the table it is the answer."""
    before = parse(TEXT, OPTIONS, "pe", "chat")
    monkeypatch.setattr(letters, "RULES", (*letters.RULES, LabelRule("NATO alphabet", "Bravo", read_spelled)))

    after = parse(TEXT, OPTIONS, "pe", "chat")

    assert isinstance(before, Unreadable)
    assert before.status == "unparsed"
    assert after == Answer(label="B", explanation="It may rain.", label_offset=TEXT.index("Bravo"))


def test_rules_that_read_different_options_contradict_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """No rule comes first: a text that two rules read differently stays unparsed."""
    wrong = LabelRule("always A", "anything", lambda *place: Value("A", place[1], place[1] + 1))
    monkeypatch.setattr(letters, "RULES", (*letters.RULES, wrong))

    result = parse("Answer: B\nExplanation: It may rain.", OPTIONS, "pe", "chat")

    assert isinstance(result, Unreadable)
    assert result.reason == "two different answers: B and A"
