"""The form of a new run: from its fields to the settings that the API takes, and from an error back to its field."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MODEL_ROWS = 3
"""Rows for models that a new form has."""
MOST_MODELS = 200
SIMULATED = "simulated"
"""Stands where an endpoint is chosen, for models that need none."""
READY = "ready"
"""The choice of a bundled task's own insertions."""
UPLOAD = "file:"
"""Before the name of an uploaded file of insertions."""

_WHOLE = ("limit", "samples", "shams", "seed", "max_tokens")
_FIELDS = (
    ("tasks", "tasks"), ("models", "models"), ("arms.shots", "shots"), ("arms.style", "style"),
    ("arms.verbosity", "verbosity"), ("arms.order", "order"), ("arms", "order"), ("interventions", "interventions"),
    ("max_usd", "max_usd"), *((name, name) for name in _WHOLE),
)  # fmt: skip
"""Beginnings of the API's sentences about a setting, and the field that they belong to."""
_LABELS = (
    ("tasks", "Tasks"), ("models", "Models"), ("arms.shots", "Shots"), ("arms.style", "Style"),
    ("arms.verbosity", "Length of explanations"), ("arms.order", "Order"), ("arms", "How models are asked"),
    ("interventions.per_example", "Of each kind for an example"), ("interventions", "What is inserted"),
    ("max_usd", "Stop at so many dollars"), ("limit", "Examples of each task"), ("samples", "Samples"),
    ("shams", "Repetitions that measure noise"), ("max_tokens", "Tokens of a reply at most"), ("seed", "Seed"),
)  # fmt: skip
"""The same beginnings, and the label that the form has there."""
_KEYS = re.compile(r" \((?:max_usd|PUT /api/[^)]*)\)")
"""What the API's sentences add for scripts."""


@dataclass(frozen=True)
class Form:
    """The fields of a form as they were sent: lists of texts by name."""

    fields: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def first(self, name: str, default: str = "") -> str:
        """Return the text of a field that has one."""
        return next(iter(self.fields.get(name, ())), default).strip()

    def all(self, name: str) -> list[str]:
        """Return the texts of a field that may have several."""
        return [text for text in self.fields.get(name, ()) if text]

    @property
    def models(self) -> list[tuple[str, str]]:
        """The rows for models, as (endpoint, model); a new form has empty ones."""
        endpoints, models = self.fields.get("endpoint", ()), self.fields.get("model", ())
        rows = [(endpoint, _whole(endpoint, model.strip())) for endpoint, model in zip(endpoints, models, strict=False)]
        return [*rows, *[("", "")] * max(0, MODEL_ROWS - len(rows))][:MOST_MODELS]

    def settings(self) -> dict[str, Any]:
        """Return the settings of the run as JSON, without those that are as by default.

        A number that is none stays a text, about which the API says what it must be.
        """
        found: dict[str, Any] = {
            "tasks": self.all("tasks"),
            "models": [
                {"model": model} if endpoint in ("", SIMULATED) else {"model": model, "endpoint": endpoint}
                for endpoint, model in self.models
                if model
            ],
        }
        arms: dict[str, list[Any]] = {name: self.all(name) for name in ("order", "style", "verbosity")}
        arms["shots"] = [_number(text) for text in re.split(r"[,\s]+", self.first("shots")) if text]
        defaults = {"order": ["pe"], "style": ["chat"], "verbosity": ["normal"]}
        arms = {name: values for name, values in arms.items() if values and values != defaults.get(name)}
        if arms:
            found["arms"] = arms
        insertions = self.first("interventions", READY)
        if insertions.startswith(UPLOAD):
            found["interventions"] = {"file": insertions.removeprefix(UPLOAD)}
        elif insertions != READY:
            found["interventions"] = {"kind": insertions}
            if self.first("per_example"):
                found["interventions"]["per_example"] = _number(self.first("per_example"))
        for name in _WHOLE:
            if self.first(name):
                found[name] = _number(self.first(name))
        if self.first("max_usd"):
            found["max_usd"] = _number(self.first("max_usd"))
        return found

    def text(self) -> str:
        """Return the settings as JSON to be read and copied; JSON is YAML too, so it is a configuration file."""
        return json.dumps(self.settings(), indent=2, ensure_ascii=False)


def in_words(message: str) -> str:
    """Return an error of the API as the form says it: by the label of the field, and without names of keys.

    >>> in_words("max_tokens: this must be a whole number."), in_words("the service starts or ends.")
    ('Tokens of a reply at most: this must be a whole number.', 'the service starts or ends.')
    """
    for start, label in _LABELS:
        said = re.match(rf"{re.escape(start)}(\.[\w-]+)*: ", message)
        if said:
            return f"{label}: {_KEYS.sub('', message[said.end() :])}"
    return _KEYS.sub("", message)


def field_of(message: str, models: Sequence[tuple[str, str]] = ()) -> str | None:
    """Return the field of the form that an error of the API is about; None for one about the whole.

    Such an error begins with the name of a setting, or with a model's name.

    >>> field_of("tasks.0: 'x' is no task of this service"), field_of("the service starts or ends.")
    ('tasks', None)
    >>> field_of("openai/m is not served by the endpoint lab", [("lab", "openai/m")])
    'models'
    """
    found = next((name for start, name in _FIELDS if re.match(rf"{re.escape(start)}[.:]", message)), None)
    named = any(model and message.startswith(model) for _, model in models)
    return found or ("models" if named or message.startswith("there is no simulated model") else None)


def _whole(endpoint: str, model: str) -> str:
    """Return a model's name with its provider: a simulated one may be given without."""
    return f"{SIMULATED}/{model}" if endpoint == SIMULATED and model and "/" not in model else model


def _number(text: str) -> int | float | str:
    """Return a text as a number, or as it is."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
