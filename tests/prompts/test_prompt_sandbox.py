"""Templates may hold only what prompts need: the rest is refused before it is rendered, by file and line."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from test_prompt_books import ASKED, render
from test_prompt_books import own as own  # the fixture

from explaineval.archive.bundle import FILES, PACK, unpack_bundle
from explaineval.errors import InputError
from explaineval.prompts import PromptBook, default_directory
from explaineval.sandbox import MOST_CHARACTERS, MOST_SOURCE
from makers.runs import minimal_record

HOSTILE = [
    "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
    "{% for a in range(3) %}x{% endfor %}",
    "{{ 9 ** 9 ** 9 }}",
    "{{ 'a' * 10 ** 9 }}",
    "{{ instruction * 1000000 }}",
    "{{ 1 + 1 }}",
    "{{ 10 // 3 }}",
    "{{ 1 % 2 }}",
    "{{ '%1000000000s' % 'a' }}",
    "{{ instruction ~ instruction }}",
    "{% set a = 'x' %}",
    "{% set a %}{{ instruction }}{% endset %}",
    "{% macro m(n) %}{{ m(n) }}{% endmacro %}{{ m(1) }}",
    "{% call(x) instruction() %}{% endcall %}",
    "{% import 'chat/ep.j2' as other %}",
    "{% from 'chat/ep.j2' import other %}",
    "{% extends 'chat/ep.j2' %}",
    "{% block b %}{% endblock %}",
    "{% include ['input.j2', 'chat/ep.j2'] %}",
    "{% include instruction %}",
    "{% include 'gone.j2' ignore missing %}",
    "{% include 'input.j2' without context %}",
    "{% filter upper %}x{% endfilter %}",
    "{% with x = 1 %}{% endwith %}",
    "{{ lipsum(n=1000000000) }}",
    "{{ cycler('a').next() }}",
    "{{ namespace(a=1) }}",
    "{{ dict(a=1) }}",
    "{{ instruction.__class__ }}",
    "{{ instruction['__class__'] }}",
    "{{ instruction | attr('__class__') }}",
    "{{ instruction.center(1000000000) }}",
    "{{ instruction.format(instruction) }}",
    "{{ instruction.encode() }}",
    "{{ fields.update({}) }}",
    "{{ fields.items(1) }}",
    "{{ instruction | center(1000000000) }}",
    "{{ instruction | indent(1000000000) }}",
    "{{ instruction | replace('a', 'aaaaaaaaaaaaaaaa') }}",
    "{{ instruction | format(1) }}",
    "{{ instruction | urlize }}",
    "{{ instruction | batch(1000000000, 'x') | list }}",
    "{{ '%1000000000d' | format(1) }}",
    "{{ fields | map('upper') | list }}",
    "{{ fields | xmlattr }}",
    "{{ options | join(*fields) }}",
    "{{ options | join(attribute='__class__') }}",
    "{{ fields | sort(attribute='__class__') }}",
    "{{ instruction is filter('upper') }}",
    "{{ instruction is divisibleby(0) }}",
    "{% for a in 'abc' %}x{% endfor %}",
    "{% for a in ['a', 'b'] %}x{% endfor %}",
    "{% for a in options.items() recursive %}{{ loop(a) }}{% endfor %}",
    "{{ loop.index }}",
    "{{ self }}",
    "{{ _steps }}",
    "{{ {'a': 1} }}",
    "{{ [1, 2] }}",
    "{{ instruction[instruction[0]:] }}",
    "{{ instruction[options[0]] }}",
    "{{ " + "(" * 5_000 + "1" + ")" * 5_000 + " }}",
    "{{ " + "not " * 5_000 + "1 }}",
    "{{ instruction" + " | upper" * 500 + " }}",
    "{{ " + "9" * 10_000 + " }}",
    "{{ '" + "a" * 5_000 + "' }}",
    "{% if instruction %}" + "{% elif instruction %}" * 4_000 + "{% endif %}",
    "{% if instruction %}" * 60 + "x" + "{% endif %}" * 60,
    "{% for a in options %}" * 5 + "x" + "{% endfor %}" * 5,
    "x" * (MOST_SOURCE + 1),
    "{% for a in options %}",
    "{{ instruction | nothing }}",
    "{% nothing %}",
    "{{ instruction",
]
"""One template each, which stands on the second line of its file."""


def short(text: str) -> str:
    """The name of a case."""
    return text[:60]


@pytest.mark.parametrize("hostile", HOSTILE, ids=map(short, HOSTILE))
def test_a_hostile_template_is_refused_by_file_and_line(own: Path, hostile: str) -> None:
    """In a directory of the user's own: bad input, one sentence, the file's name and the line."""
    (own / "input.j2").write_text("\n" + hostile, "utf-8")

    with pytest.raises(InputError) as caught:
        render(PromptBook(own), "chat", "pe")

    expected = 1 if len(hostile) > MOST_SOURCE else 2
    assert str(caught.value).startswith(f"{own / 'input.j2'}, line {expected}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(own))


@pytest.mark.parametrize("hostile", HOSTILE, ids=map(short, HOSTILE))
def test_a_hostile_template_in_a_bundle_is_refused_before_anything_is_used(tmp_path: Path, hostile: str) -> None:
    """The same, when a bundle is unpacked, whichever of its templates it is."""
    source, into = tmp_path / "a.zip", tmp_path / "into"
    into.mkdir()
    with zipfile.ZipFile(source, "w") as bundle:
        for name in (*FILES, PACK):
            bundle.writestr(name, minimal_record().model_dump_json() if name == "run.json" else "[]")
        bundle.writestr("prompts/more/other.j2", "\n" + hostile)
        bundle.writestr("prompts/input.j2", "{{ instruction }}")
        bundle.writestr("prompts/chat/ep.j2", "x")

    with pytest.raises(InputError, match=r"was not used: its prompts/more/other\.j2, line [12]: "):
        unpack_bundle(source, into)


def test_templates_that_include_themselves_are_refused(own: Path) -> None:
    """Directly, or by way of another."""
    (own / "input.j2").write_text("x\n{% include 'chat/pe.j2' %}", "utf-8")

    with pytest.raises(InputError, match=r"chat/pe\.j2, line 3: it includes itself \(input\.j2\)"):
        render(PromptBook(own), "chat", "pe")


def test_a_text_that_is_included_is_held_to_the_same(own: Path) -> None:
    """An included file is a template whatever its name ends in."""
    (own / "input.j2").write_text("{% include 'tasks/nli.txt' %}", "utf-8")
    (own / "tasks" / "nli.txt").write_text("{{ 9 ** 9 }}", "utf-8")

    with pytest.raises(InputError, match=r"nli\.txt, line 1: "):
        render(PromptBook(own), "chat", "pe")


def test_includes_that_multiply_are_refused(own: Path) -> None:
    """Ten files that include the next one a hundred times would be 10^20 pieces."""
    for number in range(10):
        (own / f"more{number}.j2").write_text(f"{{% include 'more{number + 1}.j2' %}}" * 100, "utf-8")
    (own / "more10.j2").write_text("", "utf-8")
    (own / "input.j2").write_text("{% include 'more0.j2' %}", "utf-8")

    with pytest.raises(InputError, match=r"more\d\.j2, line 1: "):
        render(PromptBook(own), "chat", "pe")


def test_loops_over_many_values_end(own: Path) -> None:
    """Loops over given lists are bounded in their steps, though nothing is written: the file and line are told."""
    loop = "{% for a in options %}{% for b in options %}{% for c in options %}{% endfor %}{% endfor %}{% endfor %}"
    (own / "input.j2").write_text("x\n" + loop, "utf-8")
    options = {f"k{number}": "x" for number in range(300)}
    asked = ASKED.model_copy(update={"options": options})

    with pytest.raises(InputError, match=r"input\.j2, line 2: .*steps"):
        render(PromptBook(own), "chat", "pe", asked=asked, shots=())


def test_what_is_written_is_bounded(own: Path) -> None:
    """A template that repeats a long value ends at the bound on the length of a prompt."""
    (own / "input.j2").write_text("{{ fields.premise }}" * 300, "utf-8")
    asked = ASKED.model_copy(update={"fields": {"premise": "x" * (MOST_CHARACTERS // 200)}})

    with pytest.raises(InputError, match=rf"pe\.j2, line 1: .*{MOST_CHARACTERS:,} characters"):
        render(PromptBook(own), "chat", "pe", asked=asked, shots=())


@pytest.mark.parametrize("template", ["{{ fields | join('x' * 3) }}", "{{ fields | join(instruction) }}"])
def test_a_separator_is_a_short_constant(own: Path, template: str) -> None:
    """A list joined by a long text would grow."""
    (own / "input.j2").write_text(template, "utf-8")

    with pytest.raises(InputError, match=r"input\.j2, line 1: "):
        render(PromptBook(own), "chat", "pe")


@pytest.mark.parametrize(
    "template",
    [
        "{{ fields.get }}", "{{ fields['get'] }}", "{{ fields['items'] }}", "{{ options.copy }}", "{{ shots.append }}",
        "{{ instruction.upper }}", "{{ fields.premise['upper'] }}", "{% if fields.get == 1 %}x{% endif %}",
    ],
)  # fmt: skip
def test_a_method_is_not_a_value(own: Path, template: str) -> None:
    """The name of a method that is not called is undefined: its file and line are named, no address is printed."""
    (own / "chat" / "pe.j2").write_text("x\n" + template, "utf-8")

    with pytest.raises(InputError, match=r"pe\.j2, line 2: it cannot be rendered \(.*has no attribute"):
        render(PromptBook(own), "chat", "pe")


def test_a_field_may_have_the_name_of_a_method(own: Path) -> None:
    """A field called `get` is shown, by dot and by brackets, and the fields can still be listed."""
    (own / "chat" / "pe.j2").write_text("{{ fields.get }}{{ fields['get'] }}{{ fields.keys() | join(' ') }}", "utf-8")
    asked = ASKED.model_copy(update={"fields": {"get": "I get it.", "copy": "Copied."}})

    assert render(PromptBook(own), "chat", "pe", asked=asked, shots=()) == [("user", "I get it.I get it.get copy")]


@pytest.mark.parametrize("value", ["instruction", "gone", "verbosity"])
def test_a_loop_runs_over_lists_alone(own: Path, value: str) -> None:
    """A text is no list, and a value that nobody gave is none either."""
    (own / "input.j2").write_text(f"\n\n{{% for a in {value} %}}x{{% endfor %}}", "utf-8")

    with pytest.raises(InputError, match=r"input\.j2, line 3: "):
        render(PromptBook(own), "chat", "pe")


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{% for name, text in fields.items() %}{{ loop.index }}/{{ loop.length }} {{ name | upper }}\n{% endfor %}",
         "1/2 PREMISE\n2/2 HYPOTHESIS"),
        ("{% for name in fields if name != 'premise' %}{{ name }}{% if not loop.last %}, {% endif %}{% endfor %}",
         "hypothesis"),
        ("{{ fields['premise'] | trim }} {{ fields.premise | length }}", "Premise 3. 10"),
        ("{{ 'yes' if 'premise' in fields and options | length > 2 else 'no' }}", "yes"),
        ("{% if gone is defined %}x{% elif options %}y{% else %}z{% endif %}", "y"),
        ("{{ gone | default('none given') }} {{ options | last }}", "none given C"),
        ("{% for a, b in options.items() %}{{ a }}{{ b | capitalize }} {% else %}none{% endfor %}",
         "AEntailment BNeutral CContradiction"),
        ("{# a comment #}{% raw %}{{ 9 ** 9 }}{% endraw %}", "{{ 9 ** 9 }}"),
        ("{{ options.keys() | first }}{{ fields.values() | join(' / ') }}", "APremise 3. / Hypothesis 3."),
    ],
)  # fmt: skip
def test_what_prompts_need_is_allowed(own: Path, template: str, expected: str) -> None:
    """Loops over given lists, conditions, filters on words, and a loop's own counters."""
    (own / "chat" / "pe.j2").write_text("{% include 'input.j2' %}", "utf-8")
    (own / "input.j2").write_text(template, "utf-8")

    assert [("user", expected)] == render(PromptBook(own), "chat", "pe", shots=())


def test_every_shipped_template_is_accepted() -> None:
    """All of them, cues among them, whoever asks with them."""
    book = PromptBook(default_directory())
    names = [path.relative_to(default_directory()).as_posix() for path in default_directory().rglob("*.j2")]
    names += [f"cues/{name}{end}.txt" for name in book.cue_names() for end in ("", "_control")]

    assert len(names) >= 20
    for name in names:
        book.check(name)


def test_the_digests_of_the_shipped_prompts_are_these() -> None:
    """A digest that moves makes all signatures of earlier runs others."""
    book = PromptBook(default_directory())
    digests = {
        (style, order): book.digest(style=style, order=order, shape="nli", verbosity="normal")[:12]  # type: ignore[arg-type]
        for style in ("chat", "completion")
        for order in ("pe", "pe2", "ep")
    }

    assert digests == DIGESTS


DIGESTS = {
    ("chat", "pe"): "afdfc3c23385",
    ("chat", "pe2"): "228754fcb278",
    ("chat", "ep"): "9946b04bf29f",
    ("completion", "pe"): "dd663d773c1e",
    ("completion", "pe2"): "7ef342125daa",
    ("completion", "ep"): "cae283db0c50",
}
