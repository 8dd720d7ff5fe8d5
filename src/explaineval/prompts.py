"""Prompts: the templates of a directory, rendered in a sandbox, and the hashes of them that signatures hold."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from traceback import walk_tb
from typing import Any

from jinja2 import (
    ChoiceLoader,
    DictLoader,
    FileSystemLoader,
    TemplateError,
    TemplateNotFound,
    TemplateSyntaxError,
    nodes,
)
from jinja2.meta import find_referenced_templates

from explaineval.errors import InputError
from explaineval.records import Example, Message, Order, Style
from explaineval.sandbox import RestrictedEnvironment, describe, shorten

MARKERS: dict[Order, str] = {"pe": "Answer:", "pe2": "Answer:", "ep": "Explanation:"}
"""What a prompt in completion style ends with; the model goes on from there."""

EXPLAIN = "pe2.explain"
"""The templates of the second call of order pe2, where the answer is given and the explanation is asked for."""

MOST_FILES = 1000
"""Files and folders in a directory of prompts."""
_MOST_SAID = 256  # texts beside the input that are remembered; options of an example are part of the form

CUE_PLACE = "cues/place.j2"
"""The template that puts a cue beside the input."""


def default_directory() -> Path:
    """The prompts that come with the package: in a checkout, the directory `prompts/` at its top."""
    packaged = Path(__file__).parent / "_prompts"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "prompts"


class PromptBook:
    """The templates of one directory. It reads only below that directory, and user text is never run as a template."""

    def __init__(self, directory: Path) -> None:
        if not directory.is_dir():
            raise InputError(f"{directory}: no such directory of prompts; copy the one that comes with explaineval.")
        _check_files(directory)
        self.directory = directory
        files = FileSystemLoader(directory)
        self._environment = RestrictedEnvironment(files, field_label)
        # the same templates, but including `input.j2` gives the input with a cue
        cued = ChoiceLoader([DictLoader({"input.j2": "{{ cued_input }}"}), files])
        self._cued = RestrictedEnvironment(cued, field_label)
        self._texts: dict[str, str] = {}
        self._phrases: dict[str, tuple[str, ...]] = {}
        self._shots: dict[tuple[object, ...], list[dict[str, str]]] = {}
        self._said: dict[tuple[str, ...], tuple[str, ...]] = {}

    def text(self, name: str) -> str:
        """A file's text, stripped. Raises InputError if the directory has no such file."""
        if name not in self._texts:
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise InputError(f"{self.directory} names the file {name}, which is outside of it: take that out.")
            try:
                self._texts[name] = (self.directory / name).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError):
                raise InputError(f"{self.directory} has no readable file {name}: add it, or drop the option.") from None
        return self._texts[name]

    def instruction(self, example: Example, shape: str | None) -> str:
        """The example's own instruction, or the one for its task's shape, or the default."""
        return example.instruction or self.text(f"tasks/{shape or 'default'}.txt")

    def level(self, style: Style, verbosity: str) -> str:
        """The text that asks for a verbosity level; "" in completion style, where the shots show the level."""
        _plain_name(verbosity)
        return self.text(self._level_file(verbosity)) if style == "chat" else ""

    def said(
        self, example: Example, *, style: Style, order: Order, shape: str | None, verbosity: str
    ) -> tuple[str, ...]:
        """What a prompt says beside its input: the instruction and, in chat, the level's sentence and the form."""
        instruction, level = self.instruction(example, shape), self.level(style, verbosity)
        if style == "completion":
            return (instruction,)
        key = (order, instruction, level, *example.options.values())
        if key not in self._said:
            if len(self._said) >= _MOST_SAID:
                self._said.clear()
            values = self._values(example, example.fields, instruction, level)
            shown = self._fill("input.j2", **values)
            form = self._fill(f"chat/{order}.j2", **values, shots=()).replace(shown, "\n")
            explain = (self._fill(f"chat/{EXPLAIN}.j2", verbosity=level),) if order == "pe2" else ()
            self._said[key] = (instruction, level, form, *explain)
        return self._said[key]

    def render(
        self,
        example: Example,
        fields: Mapping[str, str],
        *,
        style: Style,
        order: Order,
        shape: str | None,
        shots: Sequence[Example],
        verbosity: str,
        cue: str | None = None,
    ) -> tuple[Message, ...] | str:
        """The chat turns or the completion prompt for one example, with these (perhaps edited) fields and a cue."""
        instruction = self.instruction(example, shape)
        level = "" if order == "pe2" else self.level(style, verbosity)  # pe2 asks for one answer, whatever the level
        if style == "completion":
            values = self._values(example, fields, instruction, level)
            return self._completion(order, cue, MARKERS[order], **values, shots=self._shown(shots, order))
        turns: list[Message] = []
        for shot, shown in zip(shots, self._shown(shots, order), strict=True):
            turns += [self._question(order, shot, shot.fields, instruction, level), _assistant(shown["reply"])]
        return (*turns, self._question(order, example, fields, instruction, level, cue))

    def render_explanation(
        self,
        example: Example,
        fields: Mapping[str, str],
        label: str,
        *,
        style: Style,
        shape: str | None,
        shots: Sequence[Example],
        verbosity: str,
        cue: str | None = None,
    ) -> tuple[Message, ...] | str:
        """The second call of order pe2: the text of the first with the answer given, and the request to explain it."""
        instruction = self.instruction(example, shape)
        level = self.level(style, verbosity)
        shown_shots = self._shown(shots, "pe2")
        if style == "completion":
            values = self._values(example, fields, instruction, level)
            return self._completion(EXPLAIN, cue, "Explanation:", **values, label=label, shots=shown_shots)
        request = _user(self._fill(f"chat/{EXPLAIN}.j2", verbosity=level))
        turns: list[Message] = []
        for shot, shown in zip(shots, shown_shots, strict=True):
            turns += [self._question("pe2", shot, shot.fields, instruction, ""), _assistant(shown["reply"])]
            turns += [request, _assistant(shown["explained"])]
        turns.append(self._question("pe2", example, fields, instruction, "", cue))
        turns.append(_assistant(self._fill("reply.pe2.j2", gold=label, explanation="")))
        return (*turns, request)

    def fill(self, name: str, **values: object) -> str:
        """Render a template that is not a prompt of a run: a cue, or the question to a judge or an editor."""
        return self._render(self._environment, name, values).strip()

    def cue_names(self) -> tuple[str, ...]:
        """The names of the directory's cues: those that have a text and a control."""
        texts = {path.name.removesuffix(".txt") for path in (self.directory / "cues").glob("*.txt")}
        return tuple(sorted(name for name in texts if f"{name}_control" in texts))

    def phrases(self, cue: str) -> tuple[str, ...]:
        """The phrases that count as a mention of a cue and of its control: the lines of cues/NAME.phrases.txt."""
        if cue not in self._phrases:
            lines = self.text(f"cues/{_plain_name(cue, 'cue')}.phrases.txt").splitlines()
            self._phrases[cue] = tuple(line.strip() for line in lines if line.strip())
        return self._phrases[cue]

    def negatives(self, cue: str) -> tuple[str, ...]:
        """Texts that must not count as a mention of a cue: the lines of cues/NAME.negative.txt, if there is one."""
        name = f"cues/{_plain_name(cue, 'cue')}.negative.txt"
        if not (self.directory / name).is_file():
            return ()
        return tuple(line.strip() for line in self.text(name).splitlines() if line.strip())

    def cue_digest(self, cue: str) -> str:
        """SHA-256 over what a trial with a cue depends on beside the cue's own text: its place and its phrases."""
        texts = (self.text(CUE_PLACE), *self.phrases(cue))
        return hashlib.sha256("\n".join(texts).encode()).hexdigest()

    def levels(self) -> tuple[str, ...]:
        """The names of all verbosity levels of this directory: one for each file in `verbosity/`."""
        return tuple(sorted(path.stem for path in (self.directory / "verbosity").glob("*.txt")))

    def digest(self, *, style: Style, order: Order, shape: str | None, verbosity: str) -> str:
        """SHA-256 over the names and contents of the files that an arm's prompts are made of, included files too."""
        names = {f"{style}/{order}.j2", "input.j2", f"reply.{order}.j2", f"tasks/{shape or 'default'}.txt"}
        if order == "pe2":
            names |= {f"{style}/{EXPLAIN}.j2", f"reply.{EXPLAIN}.j2"}
        if style == "chat":
            names.add(self._level_file(verbosity))
        total = hashlib.sha256()
        for name in sorted(self._with_included(names)):
            self.text(name)  # raises an error that names the file if it is missing
            total.update(name.encode() + b"\0" + (self.directory / name).read_bytes() + b"\0")
        return total.hexdigest()

    def check(self, name: str) -> None:
        """Raise InputError unless a template, with everything that it includes, holds only what prompts need."""
        self._parse(name)

    def _parse(self, name: str) -> nodes.Template:
        self.text(name)  # raises an error that names the file if it is missing
        try:
            return self._environment.check(name)
        except TemplateError as exc:
            raise self._describe(exc, name) from None

    def _level_file(self, verbosity: str) -> str:
        """The file of a verbosity level. Raises InputError, naming the existing levels, if there is no such file."""
        file = f"verbosity/{_plain_name(verbosity)}.txt"
        if file not in self._texts and not (self.directory / file).is_file():
            near = difflib.get_close_matches(verbosity, self.levels(), n=1)
            meant = f" (did you mean {near[0]}?)" if near else ""
            raise InputError(
                f"there is no verbosity level {verbosity!r}{meant}: the levels of "
                f"{self.directory} are {', '.join(self.levels()) or 'none'}; another one needs a file {file}."
            )
        return file

    def _with_included(self, names: set[str]) -> set[str]:
        """The names of these files and of all that the templates among them include."""
        files: set[str] = set()
        waiting = [(name, name.endswith(".j2")) for name in names]
        while waiting:
            name, is_template = waiting.pop()
            if name not in files and is_template:
                waiting += [(other, True) for other in find_referenced_templates(self._parse(name)) if other]
            files.add(name)
        return files

    def _completion(self, name: str, cue: str | None, marker: str, **values: object) -> str:
        """A prompt in completion style. Raises InputError if it does not end with `marker`."""
        text = self._fill(f"completion/{name}.j2", cue, **values)
        if not text.endswith(marker):
            raise InputError(f"{self.directory}/completion/{name}.j2 must end with {marker!r}.")
        return text

    def _question(
        self,
        order: Order,
        example: Example,
        fields: Mapping[str, str],
        instruction: str,
        level: str,
        cue: str | None = None,
    ) -> Message:
        """The user's turn that asks about an example, a shot or the last one."""
        values = self._values(example, fields, instruction, level)
        return _user(self._fill(f"chat/{order}.j2", cue, **values, shots=()))

    def _values(self, example: Example, fields: Mapping[str, str], instruction: str, level: str) -> dict[str, Any]:
        return {"instruction": instruction, "fields": fields, "options": example.options, "verbosity": level}

    def _shown(self, shots: Sequence[Example], order: Order) -> list[dict[str, str]]:
        """What templates show of the shots: their input, their reply and, in order pe2, their explanation."""
        # a shot's letter tells how its options are arranged, its explanation which level it shows
        key = (order, *((shot.task, shot.id, shot.gold, shot.explanation) for shot in shots))
        if key not in self._shots:
            self._shots[key] = [self._show(shot, order) for shot in shots]
        return self._shots[key]

    def _show(self, shot: Example, order: Order) -> dict[str, str]:
        reply: dict[str, Any] = {"gold": shot.gold, "explanation": shot.explanation}
        shown = {
            "input": self._fill("input.j2", fields=shot.fields, options=shot.options),
            "reply": self._fill(f"reply.{order}.j2", **reply),
        }
        return shown | {"explained": self._fill(f"reply.{EXPLAIN}.j2", **reply)} if order == "pe2" else shown

    def _fill(self, name: str, cue: str | None = None, **values: object) -> str:
        if cue is None:
            return self._render(self._environment, name, values).strip()
        plain = self._render(self._environment, "input.j2", values)
        bare = plain.rstrip()
        put = self._render(self._environment, CUE_PLACE, {"input": bare, "cue": cue}).rstrip()
        # the input with the cue ends in the white space that the input ends in
        text = self._render(self._cued, name, {**values, "cued_input": put + plain[len(bare) :]}).strip()
        if put.strip() not in text:
            raise InputError(
                f'{self.directory}/{name} does not show the input by {{% include "input.j2" %}}, so that a cue has no '
                "place in it."
            )
        return text

    def _render(self, environment: RestrictedEnvironment, name: str, values: Mapping[str, object]) -> str:
        try:
            return environment.write(name, values)
        except (TemplateError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as exc:
            raise self._describe(exc, name) from None

    def _describe(self, exc: Exception, name: str) -> InputError:
        """The error of a template in words: its file and, if known, its line."""
        if isinstance(exc, TemplateNotFound):
            return InputError(f"{self.directory} has no template {exc.name}: copy it from the bundled prompts.")
        if isinstance(exc, TemplateSyntaxError):
            return InputError(f"{self.directory}/{describe(exc, name)}")
        place = f"{self.directory}/{name}"
        for frame, line in walk_tb(exc.__traceback__):  # Jinja2 gives its frames the templates' lines
            if Path(frame.f_code.co_filename).is_relative_to(self.directory):
                place = f"{frame.f_code.co_filename}, line {line}"
        return InputError(f"{place}: it cannot be rendered ({shorten(str(exc))}).")


def _check_files(directory: Path) -> None:
    """Check that a directory of prompts holds nothing but files of its own: it may come from a stranger.

    Raises InputError for a link that leads out of it, whose text would be sent, for a pipe or device, which may be
    endless, and for more files than prompts ever have.
    """
    whole, count = directory.resolve(), 0
    for folder, folders, files in os.walk(directory):
        for name in (*folders, *files):
            path = Path(folder, name)
            count += 1
            if path.is_symlink() and not path.resolve().is_relative_to(whole):
                raise InputError(
                    f"{path} is a link to {path.resolve()}, outside of the prompts, whose text would be sent: put the "
                    "file itself there."
                )
            if not path.is_dir() and not path.is_file():
                raise InputError(f"{path} is no file that can be read: take it out of the prompts.")
            if count > MOST_FILES:
                raise InputError(f"{directory} holds more than {MOST_FILES:,} files: it is no directory of prompts.")


def _plain_name(name: str, what: str = "verbosity") -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise InputError(f"{what} {name!r} is no name: use letters, digits, - and _ only.")
    return name


def _user(content: str) -> Message:
    return Message(role="user", content=content)


def _assistant(content: str) -> Message:
    return Message(role="assistant", content=content)


@lru_cache(maxsize=256)
def field_label(name: str) -> str:
    """How a prompt shows the name of a field.

    >>> field_label("sentence1"), field_label("user_review")
    ('Sentence 1', 'User review')
    """
    words = re.sub(r"(?<=[a-z])(?=\d)", " ", name.replace("_", " "))
    return words[:1].upper() + words[1:]
