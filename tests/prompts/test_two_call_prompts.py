"""Order pe2: the second call's exact text, and a verbosity level that touches nothing but that call."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_prompt_books import ASK, ASKED, CHAT_PE2, INPUT, LEVEL, SHOTS, render, text_of
from test_prompt_books import own as own  # the fixture

from explaineval.errors import InputError
from explaineval.prompts import PromptBook, default_directory
from explaineval.records import Example, Style

LEVELS = ("minimal", "brief", "normal", "detailed", "exhaustive")
STYLES: tuple[Style, ...] = ("chat", "completion")
REQUEST = (
    f"Now explain your answer. Give your reply in exactly this form and nothing else:\nExplanation: <text>\n{LEVEL}"
)


def explain(
    book: PromptBook, style: Style, shots: tuple[Example, ...] = SHOTS, verbosity: str = "normal", label: str = "C"
) -> str | list[tuple[str, str]]:
    """The second call as text, or as (role, text) turns."""
    rendered = book.render_explanation(
        ASKED, ASKED.fields, label, style=style, shape="nli", shots=shots, verbosity=verbosity
    )
    return rendered if isinstance(rendered, str) else [(turn.role, turn.content) for turn in rendered]


def test_the_second_chat_call_goes_on_from_the_first() -> None:
    """Its turns are those of the first call, the answer, and the request to explain it; shots are shown likewise."""
    first = render(PromptBook(default_directory()), "chat", "pe2", shots=())
    bare = explain(PromptBook(default_directory()), "chat", shots=())
    with_shots = explain(PromptBook(default_directory()), "chat")

    assert bare == [*first, ("assistant", "Answer: C"), ("user", REQUEST)]
    assert with_shots == [
        ("user", CHAT_PE2.format(1)), ("assistant", "Answer: A"),
        ("user", REQUEST), ("assistant", "Explanation: First reason."),
        ("user", CHAT_PE2.format(2)), ("assistant", "Answer: B"),
        ("user", REQUEST), ("assistant", "Explanation: Second reason."),
        ("user", CHAT_PE2.format(3)), ("assistant", "Answer: C"),
        ("user", REQUEST),
    ]  # fmt: skip


def test_the_second_completion_call_is_this() -> None:
    """The shots with their explanations, the question with the answer given, and the marker."""
    bare = explain(PromptBook(default_directory()), "completion", shots=(), label="B")
    with_shots = explain(PromptBook(default_directory()), "completion")

    assert bare == f"{ASK}\n\n{INPUT.format(3)}\nAnswer: B\nExplanation:"
    assert with_shots == (
        f"{ASK}\n\n{INPUT.format(1)}\nAnswer: A\nExplanation: First reason.\n\n"
        f"{INPUT.format(2)}\nAnswer: B\nExplanation: Second reason.\n\n{INPUT.format(3)}\nAnswer: C\nExplanation:"
    )


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_is_asked_for_in_the_second_call_only(level: str) -> None:
    """The answer is asked for in the same words at every level; the request to explain ends with its sentence."""
    book = PromptBook(default_directory())
    sentence = (default_directory() / "verbosity" / f"{level}.txt").read_text(encoding="utf-8").strip()

    for style in STYLES:
        for shots in ((), SHOTS):
            first = render(book, style, "pe2", shots=shots, verbosity=level)
            assert first == render(book, style, "pe2", shots=shots)
            assert sentence not in text_of(first)
    second = text_of(explain(book, "chat", verbosity=level))
    assert second.endswith(f"\nExplanation: <text>\n{sentence}")
    assert second.count(sentence) == 1 + len(SHOTS)
    assert sentence not in text_of(explain(book, "completion", verbosity=level))


def test_every_level_has_a_sentence_about_the_text() -> None:
    """In `pe` and `ep` it follows or precedes the sentence on the letter, so it must be a whole one."""
    book = PromptBook(default_directory())

    assert book.levels() == tuple(sorted(LEVELS))
    for level in LEVELS:
        text = book.level("chat", level)
        assert text.startswith("<text> ")
        assert text.endswith(".")
        assert len(text.splitlines()) == 1
        assert len(text.split()) < 25


def test_another_answer_is_another_call() -> None:
    """The given letter is the only difference."""
    book = PromptBook(default_directory())

    for style in STYLES:
        first, second = (text_of(explain(book, style, shots=(), label=label)) for label in "AB")
        assert first != second
        assert first.replace("Answer: A", "Answer: B") == second


def test_own_templates_and_levels_are_used(own: Path) -> None:
    """A new level is asked for in the second call and not in the first; a template must end with its marker."""
    (own / "verbosity" / "curt.txt").write_text("Be curt.\n", encoding="utf-8")
    book = PromptBook(own)

    assert text_of(explain(book, "chat", verbosity="curt")).endswith("Explanation: <text>\nBe curt.")
    (own / "chat" / "pe2.j2").write_text('{% include "input.j2" %}\nLevel: {{ verbosity }}.', encoding="utf-8")
    assert text_of(render(PromptBook(own), "chat", "pe2", verbosity="curt")).endswith("\nLevel: .")

    path = own / "completion" / "pe2.explain.j2"
    path.write_text(path.read_text(encoding="utf-8") + "\nGo on.", encoding="utf-8")
    with pytest.raises(InputError, match=r"pe2\.explain\.j2 must end with 'Explanation:'"):
        explain(PromptBook(own), "completion")


@pytest.mark.parametrize("style", STYLES)
def test_a_level_that_leads_elsewhere_is_refused_in_both_styles(own: Path, style: Style) -> None:
    """Files are named after levels in completion style too, so a level must be a plain name there."""
    with pytest.raises(InputError, match="is no name"):
        PromptBook(own).level(style, "../outside")


@pytest.mark.parametrize("name", ["chat/pe2.j2", "chat/pe2.explain.j2", "reply.pe2.j2", "reply.pe2.explain.j2"])
def test_a_missing_file_is_named(own: Path, name: str) -> None:
    """A directory from before there was pe2."""
    (own / name).unlink()

    with pytest.raises(InputError, match=Path(name).name.replace(".", r"\.")):
        explain(PromptBook(own), "chat")


def test_the_digest_of_chat_follows_the_level() -> None:
    """The prompts of two levels differ in chat alone, where they are asked for."""
    book = PromptBook(default_directory())
    digests = {
        (style, level): book.digest(style=style, order="pe2", shape="nli", verbosity=level)
        for style in STYLES
        for level in LEVELS
    }

    assert len({digests["chat", level] for level in LEVELS}) == len(LEVELS)
    assert len({digests["completion", level] for level in LEVELS}) == 1
