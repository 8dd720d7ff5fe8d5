"""The form of a new run: from its fields to the settings that the API takes, and from an error back to its field."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from explaineval.config.fields import all_settings

MODEL_ROWS = 3
"""Rows for models that a new form has."""
MOST_MODELS = 200
SIMULATED = "simulated"
"""Stands where an endpoint is chosen, for models that need none."""
READY = "ready"
"""The choice of a bundled task's own insertions."""
UPLOAD = "file:"
"""Before the name of an uploaded file of insertions."""

LABELLED = {
    ".".join(setting.path): setting
    for setting in sorted(all_settings(), key=lambda setting: -len(setting.path))
    if setting.served is not None and setting.served.label is not None
}
"""The settings of the form, by how the API's sentences about them begin; those inside of others come first."""
LABELS = {start: str(setting.served and setting.served.label) for start, setting in LABELLED.items()}
ARMS = [setting for setting in LABELLED.values() if setting.path[0] == "arms" and len(setting.path) == 2]
SIMPLE = [setting for setting in LABELLED.values() if setting.type.is_simple and len(setting.path) == 1]
"""The settings that are one number or one choice."""
AMOUNTS = [setting for setting in SIMPLE if setting.is_science]
_KEYS = re.compile(r" \((?:max_usd|PUT /api/[^)]*)\)")
"""What the API's sentences add for scripts."""


@dataclass(frozen=True)
class Form:
    """The fields of a form as they were sent: lists of texts by name."""

    fields: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Form:
        """Return a form that is filled in with the settings of a run, as far as it has fields for them."""
        arms, insertions = settings.get("arms", {}), settings.get("interventions", {})
        fields: dict[str, list[str]] = {
            "tasks": list(settings.get("tasks", [])),
            "endpoint": [str(model.get("endpoint") or SIMULATED) for model in settings.get("models", [])],
            "model": [str(model["model"]) for model in settings.get("models", [])],
        }
        for setting in ARMS:
            name = setting.path[-1]
            values = [str(value) for value in arms.get(name) or setting.default or ()]
            fields[name] = [", ".join(values)] if setting.type.base is int else values
        if insertions.get("file"):
            fields["interventions"] = [f"{UPLOAD}{insertions['file']}"]
        elif insertions.get("kind"):
            fields["interventions"] = [insertions["kind"]]
            fields["per_example"] = [str(insertions.get("per_example", ""))]
        for setting in SIMPLE:
            if settings.get(setting.name) is not None:
                fields[setting.name] = [str(settings[setting.name])]
        return cls(fields)

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
        arms: dict[str, list[Any]] = {}
        for setting in ARMS:
            name = setting.path[-1]
            is_number = setting.type.base is int
            texts = re.split(r"[,\s]+", self.first(name)) if is_number else self.all(name)
            values = [_number(text) if is_number else text for text in texts if text]
            if values and values != list(setting.default or ()):
                arms[name] = values
        if arms:
            found["arms"] = arms
        insertions = self.first("interventions", READY)
        if insertions.startswith(UPLOAD):
            found["interventions"] = {"file": insertions.removeprefix(UPLOAD)}
        elif insertions != READY:
            found["interventions"] = {"kind": insertions}
            if self.first("per_example"):
                found["interventions"]["per_example"] = _number(self.first("per_example"))
        for setting in SIMPLE:
            if self.first(setting.name):
                found[setting.name] = _number(self.first(setting.name))
        return found

    def text(self) -> str:
        """Return the settings as JSON to be read and copied; JSON is YAML too, so it is a configuration file."""
        return json.dumps(self.settings(), indent=2, ensure_ascii=False)


def in_words(message: str) -> str:
    """Return an error of the API as the form says it: by the label of the field, and without names of keys.

    >>> in_words("max_tokens: this must be a whole number."), in_words("the service starts or ends.")
    ('Tokens of a reply at most: this must be a whole number.', 'the service starts or ends.')
    """
    for start, label in LABELS.items():
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
    about = (setting for start, setting in LABELLED.items() if re.match(rf"{re.escape(start)}[.:]", message))
    found = next(((setting.served and setting.served.field) or setting.path[-1] for setting in about), None)
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
