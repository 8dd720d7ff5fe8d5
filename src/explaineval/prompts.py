"""The prompts directory, rendered: templates in plain files, filled in Jinja2's sandbox, hashed into the signature."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from jinja2 import FileSystemLoader, StrictUndefined, TemplateError, TemplateNotFound
from jinja2.meta import find_referenced_templates
from jinja2.sandbox import ImmutableSandboxedEnvironment

from explaineval.errors import InputError
from explaineval.records import Example, Message, Order, Style

MARKERS: dict[Order, str] = {"pe": "Answer:", "ep": "Explanation:"}
"""What a completion-style prompt ends with, so that the model goes on from there."""


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
        self._environment = ImmutableSandboxedEnvironment(
            loader=FileSystemLoader(directory),
            undefined=StrictUndefined,
            autoescape=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters["label"] = field_label
        self._texts: dict[str, str] = {}
        self._shots: dict[tuple[object, ...], list[dict[str, str]]] = {}

    def text(self, name: str) -> str:
        """A plain file's text, stripped. Raises InputError where the directory lacks it."""
        if name not in self._texts:
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
        return self.text(f"verbosity/{_plain_name(verbosity)}.txt") if style == "chat" else ""

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
    ) -> tuple[Message, ...] | str:
        """The chat turns or the completion prompt for one example with these (perhaps edited) fields."""
        instruction = self.instruction(example, shape)
        level = self.level(style, verbosity)
        if style == "completion":
            text = self._fill(
                f"completion/{order}.j2",
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
        turns.append(Message(role="user", content=self._user(example, fields, order, instruction, level)))
        return tuple(turns)

    def digest(self, *, style: Style, order: Order, shape: str | None, verbosity: str) -> str:
        """SHA-256 over the files that the prompts of one arm are made of, names and included files among them."""
        names = {f"{style}/{order}.j2", "input.j2", f"reply.{order}.j2", f"tasks/{shape or 'default'}.txt"}
        if style == "chat":
            names.add(f"verbosity/{_plain_name(verbosity)}.txt")
        total = hashlib.sha256()
        for name in sorted(self._with_included(names)):
            self.text(name)  # raises the right sentence where it is missing
            total.update(name.encode() + b"\0" + (self.directory / name).read_bytes() + b"\0")
        return total.hexdigest()

    def _with_included(self, names: set[str]) -> set[str]:
        found: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name in found:
                continue
            found.add(name)
            if name.endswith(".j2"):
                try:
                    tree = self._environment.parse(self.text(name))
                except TemplateError as exc:
                    raise InputError(f"{self.directory}/{name} is no valid template: {exc}.") from None
                waiting += [other for other in find_referenced_templates(tree) if other]
        return found

    def _user(self, example: Example, fields: Mapping[str, str], order: Order, instruction: str, level: str) -> str:
        return self._fill(
            f"chat/{order}.j2",
            instruction=instruction,
            fields=fields,
            options=example.options,
            verbosity=level,
            shots=(),
        )

    def _shown(self, shots: Sequence[Example], order: Order) -> list[dict[str, str]]:
        key = (order, *((shot.task, shot.id) for shot in shots))
        if key not in self._shots:
            self._shots[key] = [
                {
                    "input": self._fill("input.j2", fields=shot.fields, options=shot.options),
                    "reply": self._fill(f"reply.{order}.j2", gold=shot.gold, explanation=shot.explanation),
                }
                for shot in shots
            ]
        return self._shots[key]

    def _fill(self, name: str, **values: object) -> str:
        try:
            return self._environment.get_template(name).render(**values).strip()
        except TemplateNotFound as exc:
            raise InputError(
                f"{self.directory} has no template {exc.name}: copy it from the bundled prompts."
            ) from None
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as exc:
            raise InputError(f"{self.directory}/{name} cannot be rendered: {exc}.") from None


def _plain_name(verbosity: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", verbosity):
        raise InputError(f"verbosity {verbosity!r} is no name: use letters, digits, - and _ only.")
    return verbosity


@lru_cache(maxsize=256)
def field_label(name: str) -> str:
    """How a field is called in a prompt.

    >>> field_label("sentence1"), field_label("user_review")
    ('Sentence 1', 'User review')
    """
    words = re.sub(r"(?<=[a-z])(?=\d)", " ", name.replace("_", " "))
    return words[:1].upper() + words[1:]
