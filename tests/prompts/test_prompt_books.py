"""Prompts: the exact text of every arm, a sandbox that holds, and a digest that follows what is used."""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explaineval.errors import InputError
from explaineval.prompts import MARKERS, PromptBook, default_directory
from explaineval.records import Example, Order, Style

ARMS: list[tuple[Style, Order]] = [
    ("chat", "pe"), ("chat", "pe2"), ("chat", "ep"), ("completion", "pe"), ("completion", "pe2"), ("completion", "ep"),
]  # fmt: skip


def example(number: int, gold: str, explanation: str | None) -> Example:
    """An invented example of natural-language inference."""
    return Example(
        id=f"x{number}",
        task="nli",
        fields={"premise": f"Premise {number}.", "hypothesis": f"Hypothesis {number}."},
        options={"A": "entailment", "B": "neutral", "C": "contradiction"},
        gold=gold,
        explanation=explanation,
    )


ASKED, SHOTS = example(3, "C", None), (example(1, "A", "First reason."), example(2, "B", "Second reason."))

ASK = (
    "Does the hypothesis follow from the premise (entailment), may it "
    "be true or not (neutral), or does it clash with the premise (contradiction)?"
)
INPUT = "Premise: Premise {0}.\nHypothesis: Hypothesis {0}.\nOptions:\nA) entailment\nB) neutral\nC) contradiction"
FORM = "Give your reply in exactly this form, two lines and nothing else:"
LETTER, LEVEL = "<letter> is one of A, B, C.", "<text> says in a sentence or two why."
CHAT_PE = f"{ASK}\n\n{INPUT}\n\n{FORM}\nAnswer: <letter>\nExplanation: <text>\n{LETTER} {LEVEL}"
CHAT_EP = f"{ASK}\n\n{INPUT}\n\n{FORM}\nExplanation: <text>\nAnswer: <letter>\n{LEVEL} {LETTER}"
CHAT_PE2 = (
    f"{ASK}\n\n{INPUT}\n\nGive your reply in exactly this form, one line and nothing else:\nAnswer: <letter>\n{LETTER}"
)
GOLDEN: dict[tuple[Style, Order], str | list[tuple[str, str]]] = {
    ("chat", "pe"): [
        ("user", CHAT_PE.format(1)), ("assistant", "Answer: A\nExplanation: First reason."),
        ("user", CHAT_PE.format(2)), ("assistant", "Answer: B\nExplanation: Second reason."),
        ("user", CHAT_PE.format(3)),
    ],
    ("chat", "pe2"): [
        ("user", CHAT_PE2.format(1)), ("assistant", "Answer: A"),
        ("user", CHAT_PE2.format(2)), ("assistant", "Answer: B"),
        ("user", CHAT_PE2.format(3)),
    ],
    ("chat", "ep"): [
        ("user", CHAT_EP.format(1)), ("assistant", "Explanation: First reason.\nAnswer: A"),
        ("user", CHAT_EP.format(2)), ("assistant", "Explanation: Second reason.\nAnswer: B"),
        ("user", CHAT_EP.format(3)),
    ],
    ("completion", "pe"): (
        f"{ASK}\n\n{INPUT.format(1)}\nAnswer: A\nExplanation: First reason.\n\n"
        f"{INPUT.format(2)}\nAnswer: B\nExplanation: Second reason.\n\n{INPUT.format(3)}\nAnswer:"
    ),
    ("completion", "pe2"): (
        f"{ASK}\n\n{INPUT.format(1)}\nAnswer: A\n\n{INPUT.format(2)}\nAnswer: B\n\n{INPUT.format(3)}\nAnswer:"
    ),
    ("completion", "ep"): (
        f"{ASK}\n\n{INPUT.format(1)}\nExplanation: First reason.\nAnswer: A\n\n"
        f"{INPUT.format(2)}\nExplanation: Second reason.\nAnswer: B\n\n{INPUT.format(3)}\nExplanation:"
    ),
}  # fmt: skip


def render(
    book: PromptBook,
    style: Style,
    order: Order,
    asked: Example = ASKED,
    shots: tuple[Example, ...] = SHOTS,
    shape: str | None = "nli",
    verbosity: str = "normal",
) -> str | list[tuple[str, str]]:
    """A prompt as text, or as (role, text) turns."""
    rendered = book.render(asked, asked.fields, style=style, order=order, shape=shape, shots=shots, verbosity=verbosity)
    return rendered if isinstance(rendered, str) else [(turn.role, turn.content) for turn in rendered]


def text_of(rendered: str | list[tuple[str, str]]) -> str:
    """All the text of a prompt."""
    return rendered if isinstance(rendered, str) else "\n".join(content for _, content in rendered)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A copy of the bundled prompts to change."""
    target = tmp_path / "prompts"
    bundled = default_directory()
    for path in (path for path in bundled.rglob("*") if path.is_file()):
        copy = target / path.relative_to(bundled)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    return target


@pytest.mark.parametrize(("style", "order"), ARMS)
def test_the_prompt_is_exactly_this(style: Style, order: Order) -> None:
    """Two shots and one question in every style and order."""
    assert GOLDEN[style, order] == render(PromptBook(default_directory()), style, order)


@pytest.mark.parametrize(("style", "order"), ARMS)
def test_without_shots_only_the_question_is_left(style: Style, order: Order) -> None:
    """No shots: the last turn, or the text without what the shots say."""
    with_shots = GOLDEN[style, order]

    rendered = render(PromptBook(default_directory()), style, order, shots=())

    if isinstance(with_shots, str):
        assert f"{ASK}\n\n{INPUT.format(3)}\n{MARKERS[order]}" == rendered
    else:
        assert with_shots[-1:] == rendered


def test_fields_given_replace_the_examples_own() -> None:
    """The edited text is asked, in the place of the text before."""
    edited = {"premise": "Quite another premise.", "hypothesis": "Hypothesis 3."}

    rendered = PromptBook(default_directory()).render(
        ASKED, edited, style="completion", order="pe", shape="nli", shots=SHOTS, verbosity="normal"
    )

    assert str(GOLDEN["completion", "pe"]).replace("Premise 3.", "Quite another premise.") == rendered


@pytest.mark.parametrize(("shape", "name"), [("qa", "qa"), ("sense", "sense"), (None, "default")])
def test_the_instruction_follows_the_shape(shape: str | None, name: str) -> None:
    """Each shape has its instruction, what has no shape the default, and an example's own comes first."""
    book = PromptBook(default_directory())
    expected = (default_directory() / "tasks" / f"{name}.txt").read_text("utf-8").strip()
    with_own = ASKED.model_copy(update={"instruction": "Do as I say."})

    assert text_of(render(book, "completion", "pe", shape=shape)).startswith(expected + "\n\n")
    assert text_of(render(book, "completion", "pe", with_own, shape=shape)).startswith("Do as I say.\n\n")


@given(
    text=st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)
    | st.sampled_from(["{{ 7 * 7 }}", "{% include 'input.j2' %}", "{# gone #}", "{{ fields.__class__ }}", "{{", "%}"])
)
def test_what_a_user_writes_is_never_a_template(text: str) -> None:
    """Braces in fields, options, explanations and instructions stand in the prompt as they were written."""
    written = f"<{text}>"
    shot = SHOTS[0].model_copy(update={"fields": {"premise": written, "hypothesis": "h"}, "explanation": written})
    asked = ASKED.model_copy(
        update={
            "fields": {"premise": written, "hypothesis": "h"},
            "options": {"A": written, "B": "b"},
            "instruction": written,
        }
    )
    book = PromptBook(default_directory())

    for style, order in ARMS:
        rendered = text_of(render(book, style, order, asked, (shot,)))

        explained = 0 if order == "pe2" else 1  # the first call shows answers alone
        assert rendered.count(written) == {"chat": 5, "completion": 4}[style] + explained


@pytest.mark.parametrize(("style", "order"), ARMS)
def test_completion_prompts_end_with_their_marker(style: Style, order: Order) -> None:
    """The model goes on from `Answer:` or `Explanation:`, without a blank that would spoil its first token."""
    rendered = text_of(render(PromptBook(default_directory()), style, order))

    assert (style == "completion") is rendered.endswith("\n" + MARKERS[order])


@pytest.mark.parametrize("order", ["pe", "pe2", "ep"])
def test_a_completion_template_without_marker_is_refused(own: Path, order: Order) -> None:
    """A template of one's own must end so that the answer can be read."""
    path = own / "completion" / f"{order}.j2"
    path.write_text(path.read_text("utf-8") + "\nGo on.", "utf-8")

    with pytest.raises(InputError, match=rf"{order}\.j2 must end with '{MARKERS[order]}'"):
        render(PromptBook(own), "completion", order)


@pytest.mark.parametrize(
    "attack",
    [
        "{{ fields.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ fields['__class__']['__init__']['__globals__'] }}",
        "{{ instruction|attr('__class__') }}",
        "{{ self.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ ''.format.__self__.__class__ }}",
        "{{ '{0.__class__.__init__}'.format(instruction) }}",
        "{{ fields.update({'premise': 'x'}) }}",
        "{% import 'os' as os %}{{ os.system('true') }}",
        "{% include '../../etc/passwd' %}",
        "{% include '/etc/passwd' %}",
        "{{ open('/etc/passwd') }}",
        "{{ nobody_gave_this }}",
        "{% if %}",
        "{{ 1 // 0 }}",
        "{{ 'a' + 1 }}",
        "{{ range(10 ** 12) | list }}",
    ],
)
def test_a_template_reaches_nothing_but_its_values(own: Path, attack: str) -> None:
    """Attributes, imports, files outside, what is not given, and templates that break: bad input, in one sentence."""
    (own / "input.j2").write_text(attack, "utf-8")

    with pytest.raises(InputError):
        render(PromptBook(own), "chat", "pe")


def test_a_template_that_is_not_utf8_is_bad_input(own: Path) -> None:
    """Another encoding is the file's fault, not ours."""
    (own / "input.j2").write_bytes(b"Stra\xdfe {{ fields }}")

    with pytest.raises(InputError):
        render(PromptBook(own), "chat", "pe")


@pytest.mark.parametrize("level", ["../outside", "../../outside", "{absolute}"])
def test_a_level_is_read_below_the_directory_only(own: Path, level: str) -> None:
    """The name of a level is no way out of the prompts directory."""
    for place in (own.parent, own, own.parent.parent):
        (place / "outside.txt").write_text("a secret", "utf-8")

    with pytest.raises(InputError):
        PromptBook(own).level("chat", level.format(absolute=own.parent / "outside"))


@pytest.mark.parametrize("name", ["chat/pe.j2", "input.j2", "reply.pe.j2", "tasks/nli.txt", "verbosity/normal.txt"])
def test_a_missing_file_is_named(own: Path, name: str) -> None:
    """A directory of one's own that lacks a file."""
    (own / name).unlink()

    with pytest.raises(InputError, match=Path(name).name.replace(".", r"\.")):
        render(PromptBook(own), "chat", "pe")


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    """--prompts that leads nowhere."""
    with pytest.raises(InputError, match="nowhere: no such directory of prompts"):
        PromptBook(tmp_path / "nowhere")


def test_an_own_directory_is_used(own: Path) -> None:
    """Own words and an own level are asked."""
    (own / "tasks" / "nli.txt").write_text("Own question?\n", "utf-8")
    (own / "verbosity" / "curt.txt").write_text("Be curt.\n", "utf-8")

    rendered = text_of(render(PromptBook(own), "chat", "pe", shots=(), verbosity="curt"))

    assert rendered.startswith("Own question?\n\n")
    assert rendered.endswith("<letter> is one of A, B, C. Be curt.")


def digests(directory: Path) -> dict[tuple[str, str, str | None], str]:
    """The digest of every arm and shape."""
    book = PromptBook(directory)
    return {
        (style, order, shape): book.digest(style=style, order=order, shape=shape, verbosity="normal")
        for (style, order), shape in itertools.product(ARMS, ("nli", "qa", None))
    }


def used_by(style: str | None = None, order: str | None = None, shapes: tuple[str | None, ...] | None = None) -> Any:
    """Whether an arm (style, order, shape) uses a file: None means any."""
    return lambda arm: style in (None, arm[0]) and order in (None, arm[1]) and (shapes is None or arm[2] in shapes)


USED: dict[str, Any] = {
    "chat/pe.j2": used_by("chat", "pe"),
    "chat/pe2.j2": used_by("chat", "pe2"),
    "chat/pe2.explain.j2": used_by("chat", "pe2"),
    "chat/ep.j2": used_by("chat", "ep"),
    "completion/pe.j2": used_by("completion", "pe"),
    "completion/pe2.j2": used_by("completion", "pe2"),
    "completion/pe2.explain.j2": used_by("completion", "pe2"),
    "completion/ep.j2": used_by("completion", "ep"),
    "input.j2": used_by(),
    "reply.pe.j2": used_by(order="pe"),
    "reply.pe2.j2": used_by(order="pe2"),
    "reply.pe2.explain.j2": used_by(order="pe2"),
    "reply.ep.j2": used_by(order="ep"),
    "tasks/nli.txt": used_by(shapes=("nli",)),
    "tasks/qa.txt": used_by(shapes=("qa",)),
    "tasks/default.txt": used_by(shapes=(None,)),
    "tasks/sense.txt": used_by(shapes=()),
    "verbosity/normal.txt": used_by("chat"),
    "README.md": used_by(shapes=()),
}


@pytest.mark.parametrize("name", USED)
def test_the_digest_follows_the_files_that_are_used(own: Path, name: str) -> None:
    """A changed word changes the digest of the arms that show it, and of no other."""
    before = digests(own)
    path = own / name
    path.write_text("Well. " + path.read_text("utf-8"), "utf-8")

    after = digests(own)

    assert {arm for arm in before if USED[name](arm)} == {arm for arm in before if before[arm] != after[arm]}


def test_every_file_is_tried() -> None:
    """A new file of the bundled prompts must be added above, or is another level, a cue, or what others are asked."""
    bundled = default_directory()
    names = {str(path.relative_to(bundled)) for path in bundled.rglob("*") if path.is_file()}

    assert set(USED) <= names
    others = {name for name in names - set(USED) if Path(name).parent.name not in ("verbosity", "cues")}
    assert others == {"judge.j2", "editor.j2", "simulate.j2", "judge/words.j2", "judge/cues.j2"}


@pytest.mark.parametrize(("style", "order"), ARMS)
def test_blank_lines_that_are_shown_change_the_digest(own: Path, style: Style, order: Order) -> None:
    """Blank lines at the end of the input's template stand in the prompt, before what follows it."""
    before = text_of(render(PromptBook(own), style, order)), digests(own)[style, order, "nli"]
    path = own / "input.j2"
    path.write_text(path.read_text("utf-8") + "\n\n\n", "utf-8")

    after = text_of(render(PromptBook(own), style, order)), digests(own)[style, order, "nli"]

    assert before[0] != after[0]
    assert before[1] != after[1]


@pytest.mark.parametrize(("style", "order"), ARMS)
def test_a_file_that_an_own_template_includes_changes_the_digest(own: Path, style: Style, order: Order) -> None:
    """Own templates may include own files: a changed word there must not pass unnoticed either."""
    template = own / style / f"{order}.j2"
    template.write_text('{% include "more.j2" %}\n' + template.read_text("utf-8"), "utf-8")
    (own / "more.j2").write_text("No hurry.", "utf-8")
    before = text_of(render(PromptBook(own), style, order)), digests(own)[style, order, "nli"]
    (own / "more.j2").write_text("Hurry, please.", "utf-8")

    after = text_of(render(PromptBook(own), style, order)), digests(own)[style, order, "nli"]

    assert before[0] != after[0]
    assert before[1] != after[1]


def test_a_level_changes_the_digest_of_chat_only(own: Path) -> None:
    """Completion style shows a level by its shots, not by an instruction."""
    (own / "verbosity" / "brief.txt").write_text("Be brief.", "utf-8")
    book = PromptBook(own)

    def of(style: Style, level: str) -> str:
        return book.digest(style=style, order="pe", shape="nli", verbosity=level)

    assert of("chat", "normal") != of("chat", "brief")
    assert of("completion", "normal") == of("completion", "brief")


@pytest.mark.parametrize("name", ["verbosity/normal.txt", "tasks/nli.txt", "verbosity", "unused"])
def test_a_link_out_of_the_prompts_is_refused(tmp_path: Path, name: str) -> None:
    """Its text would be sent, or copied into the run; one that stays inside is followed."""
    directory, secret = tmp_path / "prompts", tmp_path / "private"
    shutil.copytree(default_directory(), directory)
    (directory / "copy.txt").symlink_to("tasks/default.txt")
    PromptBook(directory)
    secret.mkdir()
    place = directory / name
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.symlink_to(secret)

    with pytest.raises(InputError, match=r"is a link to .*private, outside of the prompts"):
        PromptBook(directory)


def test_a_pipe_among_the_prompts_is_refused(tmp_path: Path) -> None:
    """Reading it would never end."""
    directory = tmp_path / "prompts"
    shutil.copytree(default_directory(), directory)
    (directory / "tasks" / "nli.txt").unlink()
    os.mkfifo(directory / "tasks" / "nli.txt")

    with pytest.raises(InputError, match=r"nli\.txt is no file that can be read"):
        PromptBook(directory)
