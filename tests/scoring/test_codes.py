"""The table of codes: plain words, sentences with all their fields, nothing that is not used or not documented."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest

from explaineval.scoring import codes
from explaineval.scoring.codes import CODES, GRADES, ORIGINS, THIN_CODES, finding
from servers import json_page

SOURCE = Path(codes.__file__).parents[1]
CALLS = ("finding", "note")


def fields_of(sentence: str) -> set[str]:
    """Return the names of the fields of a template."""
    return {name for _, name, _, _ in Formatter().parse(sentence) if name is not None}


def sentences_asked_for() -> Iterator[tuple[str, str, set[str] | None]]:
    """Yield code, name of the sentence and words (None: some are not written out) of each call in the sources."""
    for path in sorted(SOURCE.rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id not in CALLS:
                continue
            if path.name == "codes.py" and not isinstance(call.args[0], ast.Constant):
                continue
            form = call.args[1].value if len(call.args) > 1 and isinstance(call.args[1], ast.Constant) else ""
            given = [word.arg for word in call.keywords]
            words = None if None in given else {str(name) for name in given}
            for part in ast.walk(call.args[0]):
                if isinstance(part, ast.Constant) and part.value in CODES:
                    yield str(part.value), str(form), words


def test_codes_are_plain_words_with_something_to_do() -> None:
    """Snake case, a known grade, one sentence of what to do; headings have no full stop and are not shared."""
    titles = [code.title for code in CODES.values() if code.title]

    assert len(set(titles)) == len(titles)
    for name, code in CODES.items():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", name)
        assert code.grade in GRADES
        assert re.fullmatch(r"[A-Z].*\.", code.todo)
        assert not code.title or re.fullmatch(r"[A-Z].*[^.]", code.title)


def test_every_call_gives_just_the_words_of_its_sentence() -> None:
    """A field without its word would raise when somebody meets the case."""
    calls = list(sentences_asked_for())

    assert len(calls) > 80
    for code, form, words in calls:
        wanted = fields_of(CODES[code].sentences[form])
        assert words is None or words == wanted, (code, form)


def test_every_sentence_is_asked_for() -> None:
    """No sentence of the table is left over; those of few examples are asked for by the code of a need."""
    asked = {(code, form) for code, form, _ in sentences_asked_for()}
    by_need = {*THIN_CODES, "few_usable_examples"}

    assert {(code, form) for code, about in CODES.items() for form in about.sentences if code not in by_need} <= asked


def test_a_sentence_without_its_words_is_refused() -> None:
    """Rather than a sentence with a hole."""
    with pytest.raises(KeyError):
        finding("noise", impact="9 %")


def test_braces_in_foreign_words_stay_as_they_are() -> None:
    """Words are put in, never read as templates."""
    assert finding("shots_source", task="{source}", source="{0}").text == "{source}: shots from {0}."


def test_the_page_on_json_lists_every_code_with_its_grade() -> None:
    """Those of warnings first, and no line without a code."""
    assert json_page.documented()[json_page.CODES] == {code: about.grade for code, about in CODES.items()}
    assert all(CODES[code].title for code in ORIGINS)
