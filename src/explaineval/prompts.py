"""The prompts directory, rendered: templates in plain files, filled in a sandbox, hashed into the signature."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from traceback import walk_tb

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
"""What a completion-style prompt ends with, so that the model goes on from there."""

EXPLAIN = "pe2.explain"
"""The second call of order pe2: the answer is given, the explanation asked for."""

CUE_PLACE = "cues/place.j2"
"""How a cue is put to the shown input."""


def default_directory() -> Path:
    """The prompts that come with the package (in a checkout, the directory `prompts/` at its top)."""
    packaged = Path(__file__).parent / "_prompts"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "prompts"


class PromptBook:
    """The templates of one directory. Reads only below it; renders user text as values, never as templates."""

    def __init__(self, directory: Path) -> None:
        if not directory.is_dir():
            raise InputError(f"{directory}: no such directory of prompts; copy the one that comes with explaineval.")
        self.directory = directory
        files = FileSystemLoader(directory)
        self._environment = RestrictedEnvironment(files, field_label)
        # the same templates, but where they include the input stands the one that a cue was put to
        cued = ChoiceLoader([DictLoader({"input.j2": "{{ cued_input }}"}), files])
        self._cued = RestrictedEnvironment(cued, field_label)
        self._texts: dict[str, str] = {}
        self._phrases: dict[str, tuple[str, ...]] = {}
        self._shots: dict[tuple[object, ...], list[dict[str, str]]] = {}

    def text(self, name: str) -> str:
        """A plain file's text, stripped. Raises InputError where the directory lacks it."""
        if name not in self._texts:
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise InputError(f"{self.directory} names the file {name}, which is outside of it: take that out.")
            try:
                self._texts[name] = (self.directory / name).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError):
                raise InputError(f"{self.directory} has no readable file {name}: add it, or drop the option.") from None
        return self._texts[name]

    def instruction(self, example: Example, shape: str | None) -> str:
        """The example's own instruction, else the one of its task's shape, else the default."""
        return example.instruction or self.text(f"tasks/{shape or 'default'}.txt")

    def level(self, style: Style, verbosity: str) -> str:
        """The text that asks for a verbosity level: chat only, since completion style shows it by its shots."""
        _plain_name(verbosity)
        return self.text(self._level_file(verbosity)) if style == "chat" else ""

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
        """The chat turns or the completion prompt for one example with these (perhaps edited) fields, and a cue."""
        instruction = self.instruction(example, shape)
        level = "" if order == "pe2" else self.level(style, verbosity)  # one answer, whatever the level
        if style == "completion":
            text = self._fill(
                f"completion/{order}.j2",
                cue,
                instruction=instruction,
                fields=fields,
                options=example.options,
                verbosity=level,
                shots=self._shown(shots, order),
            )
            if not text.endswith(MARKERS[order]):
                raise InputError(f"{self.directory}/completion/{order}.j2 must end with {MARKERS[order]!r}.")
            return text
        turns: list[Message] = []
        for shot, shown in zip(shots, self._shown(shots, order), strict=True):
            turns.append(Message(role="user", content=self._user(shot, shot.fields, order, instruction, level)))
            turns.append(Message(role="assistant", content=shown["reply"]))
        turns.append(Message(role="user", content=self._user(example, fields, order, instruction, level, cue)))
        return tuple(turns)

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
        """The second call of order pe2: the first one's text with the answer given, and the wish to explain it."""
        instruction = self.instruction(example, shape)
        level = self.level(style, verbosity)
        if style == "completion":
            name = f"completion/{EXPLAIN}.j2"
            text = self._fill(
                name,
                cue,
                instruction=instruction,
                fields=fields,
                options=example.options,
                label=label,
                verbosity=level,
                shots=self._shown(shots, "pe2"),
            )
            if not text.endswith("Explanation:"):
                raise InputError(f"{self.directory}/{name} must end with 'Explanation:'.")
            return text
        turns: list[Message] = []
        wish = self._fill(f"chat/{EXPLAIN}.j2", verbosity=level)
        for shot, shown in zip(shots, self._shown(shots, "pe2"), strict=True):
            turns.append(Message(role="user", content=self._user(shot, shot.fields, "pe2", instruction, "")))
            turns.append(Message(role="assistant", content=shown["reply"]))
            turns.append(Message(role="user", content=wish))
            turns.append(Message(role="assistant", content=shown["explained"]))
        turns.append(Message(role="user", content=self._user(example, fields, "pe2", instruction, "", cue)))
        turns.append(Message(role="assistant", content=self._fill("reply.pe2.j2", gold=label, explanation="")))
        turns.append(Message(role="user", content=wish))
        return tuple(turns)

    def fill(self, name: str, **values: object) -> str:
        """A template of the directory that is no prompt of a run: a cue, or what a judge or an editor is asked."""
        return self._render(self._environment, name, values).strip()

    def cue_names(self) -> tuple[str, ...]:
        """The names of the cues of this directory: those that have a text and a control."""
        texts = {path.name.removesuffix(".txt") for path in (self.directory / "cues").glob("*.txt")}
        return tuple(sorted(name for name in texts if f"{name}_control" in texts))

    def phrases(self, cue: str) -> tuple[str, ...]:
        """The phrases that count as a mention of a cue, and of its control: a line each of cues/NAME.phrases.txt."""
        if cue not in self._phrases:
            lines = self.text(f"cues/{_plain_name(cue, 'cue')}.phrases.txt").splitlines()
            self._phrases[cue] = tuple(line.strip() for line in lines if line.strip())
        return self._phrases[cue]

    def cue_digest(self, cue: str) -> str:
        """SHA-256 over what a trial of a cue rests on beside its own text: its place and its phrases."""
        texts = (self.text(CUE_PLACE), *self.phrases(cue))
        return hashlib.sha256("\n".join(texts).encode()).hexdigest()

    def levels(self) -> tuple[str, ...]:
        """The names of all verbosity levels of this directory."""
        return tuple(sorted(path.stem for path in (self.directory / "verbosity").glob("*.txt")))

    def digest(self, *, style: Style, order: Order, shape: str | None, verbosity: str) -> str:
        """SHA-256 over the files that the prompts of one arm are made of, names and included files among them."""
        names = {f"{style}/{order}.j2", "input.j2", f"reply.{order}.j2", f"tasks/{shape or 'default'}.txt"}
        if order == "pe2":
            names |= {f"{style}/{EXPLAIN}.j2", f"reply.{EXPLAIN}.j2"}
        if style == "chat":
            names.add(self._level_file(verbosity))
        total = hashlib.sha256()
        for name in sorted(self._with_included(names)):
            self.text(name)  # raises the right sentence where it is missing
            total.update(name.encode() + b"\0" + (self.directory / name).read_bytes() + b"\0")
        return total.hexdigest()

    def check(self, name: str) -> None:
        """Raise InputError unless a template, with all that it includes, holds only what prompts need."""
        self._parse(name)

    def _parse(self, name: str) -> nodes.Template:
        try:
            self.text(name)  # raises the right sentence where it is missing
            return self._environment.check(name)
        except TemplateError as exc:
            raise self._invalid(exc, name) from None

    def _level_file(self, verbosity: str) -> str:
        """The file of a verbosity level. Raises InputError, with the levels there are, for one without."""
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
        found: set[str] = set()
        waiting = [(name, name.endswith(".j2")) for name in names]
        while waiting:
            name, is_template = waiting.pop()
            if name in found:
                continue
            found.add(name)
            if is_template:
                waiting += [(other, True) for other in find_referenced_templates(self._parse(name)) if other]
        return found

    def _user(
        self,
        example: Example,
        fields: Mapping[str, str],
        order: Order,
        instruction: str,
        level: str,
        cue: str | None = None,
    ) -> str:
        return self._fill(
            f"chat/{order}.j2",
            cue,
            instruction=instruction,
            fields=fields,
            options=example.options,
            verbosity=level,
            shots=(),
        )

    def _shown(self, shots: Sequence[Example], order: Order) -> list[dict[str, str]]:
        key = (order, *((shot.task, shot.id, shot.explanation) for shot in shots))
        if key not in self._shots:
            self._shots[key] = [self._show(shot, order) for shot in shots]
        return self._shots[key]

    def _show(self, shot: Example, order: Order) -> dict[str, str]:
        shown = {
            "input": self._fill("input.j2", fields=shot.fields, options=shot.options),
            "reply": self._fill(f"reply.{order}.j2", gold=shot.gold, explanation=shot.explanation),
        }
        if order == "pe2":
            shown["explained"] = self._fill(f"reply.{EXPLAIN}.j2", gold=shot.gold, explanation=shot.explanation)
        return shown

    def _fill(self, name: str, cue: str | None = None, **values: object) -> str:
        if cue is None:
            return self._render(self._environment, name, values).strip()
        cued = self._put(cue, values)
        text = self._render(self._cued, name, {**values, "cued_input": cued}).strip()
        if cued.strip() not in text:
            raise InputError(
                f'{self.directory}/{name} does not show the input by {{% include "input.j2" %}}, so that a cue has no '
                "place in it."
            )
        return text

    def _put(self, cue: str, values: Mapping[str, object]) -> str:
        """The shown input with the cue put to it; it ends in the white space that it ends in without."""
        plain = self._render(self._environment, "input.j2", values)
        bare = plain.rstrip()
        return self._render(self._environment, CUE_PLACE, {"input": bare, "cue": cue}).rstrip() + plain[len(bare) :]

    def _render(self, environment: RestrictedEnvironment, name: str, values: Mapping[str, object]) -> str:
        try:
            return environment.write(name, values)
        except (TemplateError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as exc:
            raise self._invalid(exc, name) from None

    def _invalid(self, exc: Exception, name: str) -> InputError:
        """The error of a template in words: its file and, where it is known, its line."""
        if isinstance(exc, TemplateNotFound):
            return InputError(f"{self.directory} has no template {exc.name}: copy it from the bundled prompts.")
        if isinstance(exc, TemplateSyntaxError):
            return InputError(f"{self.directory}/{describe(exc, name)}")
        place = f"{self.directory}/{name}"
        for frame, line in walk_tb(exc.__traceback__):  # Jinja2 made its lines those of the templates
            if Path(frame.f_code.co_filename).is_relative_to(self.directory):
                place = f"{frame.f_code.co_filename}, line {line}"
        return InputError(f"{place}: it cannot be rendered ({shorten(str(exc))}).")


def _plain_name(name: str, what: str = "verbosity") -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise InputError(f"{what} {name!r} is no name: use letters, digits, - and _ only.")
    return name


@lru_cache(maxsize=256)
def field_label(name: str) -> str:
    """How a field is called in a prompt.

    >>> field_label("sentence1"), field_label("user_review")
    ('Sentence 1', 'User review')
    """
    words = re.sub(r"(?<=[a-z])(?=\d)", " ", name.replace("_", " "))
    return words[:1].upper() + words[1:]
