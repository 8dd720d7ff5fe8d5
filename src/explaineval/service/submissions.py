"""Turn what a user of the service submits into a run's configuration; whatever only the operator may say is refused."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from explaineval.client.simulated import known_names
from explaineval.config import ClientConfig, RunConfig, build
from explaineval.config.fields import all_settings
from explaineval.datasets.readers import BUNDLED
from explaineval.errors import InputError
from explaineval.records import SIMULATED_PREFIX
from explaineval.service.models import FILE_NAME, ModelSettings, RunSettings, UploadReference
from explaineval.service.settings import EMBEDDED, Capacity, Settings

UPLOAD = "jsonl:"
"""What stands before the name of an upload that is a task."""
USUAL_ROUTES = ("openai/*", "hosted_vllm/*", "text-completion-openai/*")
"""Models that may be asked at an endpoint with a base URL where the operator names none."""
CLIENT = set(ClientConfig.model_fields)
"""Settings that are no part of the science."""
LOWERED = ("max_connections", "rpm", "tpm")
"""Those of them that may only lower what the operator allows."""


@dataclass(frozen=True)
class Embedded:
    """The model on this machine: its name, the endpoint that stands for its weights, and their file."""

    model: str
    endpoint: str
    weights: Path


@dataclass(frozen=True)
class Submission:
    """A run as it was submitted: its science, how its endpoints are reached, and what its process is given."""

    science: RunConfig
    client: ClientConfig
    job: dict[str, Any]


def read_submission(
    settings: RunSettings,
    allowed: Settings,
    embedded: Embedded | None,
    upload: Callable[[str], Path],
    *,
    has_tagger: bool = True,
) -> Submission:
    """Return the configuration of a run.

    Args:
        settings: what was submitted.
        allowed: what the operator allows.
        embedded: the model on this machine, if it may be asked.
        upload: returns the file of an upload by its name; raises InputError where there is none.
        has_tagger: whether random words can be inserted.

    Raises:
        InputError: something is not allowed, or wrong.
    """
    tasks, columns = _tasks(settings.tasks, allowed, upload)
    if not has_tagger and settings.interventions.file is None:
        _check_needs_no_tagger(settings)
    models = [_model(model, allowed, embedded) for model in settings.models]
    values = settings.model_dump(exclude={"tasks", "models", "shots_from", "interventions", *CLIENT})
    values |= {"tasks": tasks, "columns": columns, "models": models}
    values["interventions"] = settings.interventions.model_dump(exclude={"file"})
    if settings.interventions.file is not None:
        values["interventions"] |= {"file": upload(settings.interventions.file)}
    if settings.shots_from is not None:
        values["shots_from"] = _shots(settings.shots_from, upload)
    science = build(RunConfig, values, "settings")
    names = sorted({str(model["endpoint"]) for model in models if model["endpoint"] is not None})
    entries = {name: entry.plain() for name, entry in allowed.endpoints.items() if name in names}
    own_model = embedded is not None and embedded.endpoint in names
    given = settings.model_dump(include=CLIENT, exclude_none=True)
    _check_bounds(given, allowed.limits)
    lowered = {name: given.pop(name) for name in LOWERED if name in given}
    client = build(ClientConfig, {**given, "endpoints": entries}, "settings")
    job = {
        "science": science.model_dump(mode="json"),
        "client": client.model_dump(mode="json", exclude={"endpoints", "cache"}),
        "endpoints": names,
        "lowered": lowered,
        "weights": own_model,
    }
    return Submission(science, client, job)


def _check_bounds(given: Mapping[str, Any], limits: Capacity) -> None:
    """Raise InputError where a setting goes beyond what the operator allows."""
    if given.get("timeout", 0) > limits.attempt_seconds:
        raise InputError(f"timeout: one attempt may take {limits.attempt_seconds:g} seconds on this service.")
    if given.get("rpm", limits.lowest_rpm) < limits.lowest_rpm:
        raise InputError(f"rpm: the lowest rate on this service is {limits.lowest_rpm:g} requests a minute.")


def _tasks(texts: list[str], allowed: Settings, upload: Callable[[str], Path]) -> tuple[list[str], Mapping[str, str]]:
    """Return the tasks with the paths of their files, and what the columns of those of the server hold."""
    tasks = []
    columns: dict[str, dict[str, str]] = {}
    for number, text in enumerate(texts):
        served = allowed.tasks.get(text)
        if text in BUNDLED:
            tasks.append(text)
        elif served is not None:
            tasks.append(served.task)
            if served.columns:
                columns[text] = served.columns
        elif text.startswith(UPLOAD) and re.fullmatch(FILE_NAME, text.removeprefix(UPLOAD)):
            tasks.append(f"{UPLOAD}{upload(text.removeprefix(UPLOAD))}")
        else:
            raise InputError(f"tasks.{number}: {text!r} {_refusal(text, [*BUNDLED, *allowed.tasks])}")
    if len({tuple(sorted(columns_of.items())) for columns_of in columns.values()}) > 1:
        raise InputError(
            f"tasks: {' and '.join(columns)} are tables with different columns, which one run cannot have: submit a "
            "run for each."
        )
    return tasks, next(iter(columns.values()), {})


def _check_needs_no_tagger(settings: RunSettings) -> None:
    """Raise InputError where random words would have to be inserted."""
    own = next((task for task in settings.tasks if task not in BUNDLED), None)
    if settings.interventions.kind is None and own is None:
        return
    where = "" if settings.interventions.kind is not None else f" into {own}"
    raise InputError(
        f"interventions: this service cannot insert random words{where}, since it has no tagger; upload your "
        "insertions and choose them. Its operator can install a tagger."
    )


def _refusal(text: str, names: list[str]) -> str:
    choices = f"choose from {', '.join(names)}, or upload a file and write {UPLOAD}NAME."
    if "://" in text:
        return f"is a URL, and the service asks no address that a user gives: {choices}"
    if ":" in text or "/" in text or "\\" in text:
        return f"names a file of the server, which only its operator may do: {choices}"
    near = difflib.get_close_matches(text, names, n=1)
    return f"is no task of this service; {f'perhaps {near[0]} is meant; ' if near else ''}{choices}"


def _model(model: ModelSettings, allowed: Settings, embedded: Embedded | None) -> dict[str, Any]:
    """Return the model's entry, asked at an endpoint of the service."""
    values = model.model_dump()
    if model.model.startswith(SIMULATED_PREFIX):
        if not allowed.simulated:
            raise InputError(f"{model.model}: simulated models are not allowed on this service.")
        names = known_names()
        if model.model.removeprefix(SIMULATED_PREFIX) not in names:  # FILE.yaml#NAME would read a file of the server
            raise InputError(f"{model.model} is no simulated model of this service: choose from {', '.join(names)}.")
        if model.endpoint is not None:
            raise InputError(f"{model.model} is simulated, so no endpoint is asked: leave `endpoint` out.")
        return values
    endpoints = [*allowed.endpoints, *([EMBEDDED] if embedded is not None else [])]
    choices = f"choose from {', '.join(endpoints)}" if endpoints else "its operator has named none"
    if model.endpoint is None:
        raise InputError(f"{model.model}: say at which endpoint of this service it is asked: {choices}.")
    if embedded is not None and model.endpoint in (EMBEDDED, embedded.endpoint):
        if model.model != embedded.model:
            raise InputError(f"{model.model} is not served by the endpoint {EMBEDDED}; only {embedded.model} is.")
        return values | {"endpoint": embedded.endpoint}
    served = allowed.endpoints.get(model.endpoint)
    if served is None:
        raise InputError(f"{model.model}: {model.endpoint!r} is no endpoint of this service: {choices}.")
    patterns = served.models or USUAL_ROUTES
    if not any(fnmatchcase(model.model, pattern) for pattern in patterns):
        raise InputError(
            f"{model.model} may not be asked at the endpoint {model.endpoint}; it serves {', '.join(patterns)}."
        )
    return values


def _shots(given: UploadReference | str, upload: Callable[[str], Path]) -> Path:
    if isinstance(given, UploadReference):
        return upload(given.file)
    if given in BUNDLED:
        return Path(given)
    raise InputError(
        f"shots_from: {given!r} names a file of the server, which only its operator may do: name a bundled task "
        f'({", ".join(BUNDLED)}), or an upload by {{"file": NAME}}.'
    )


MODEL_ROWS = 3
"""Rows for models that a new form has."""
MOST_MODELS = 200
SIMULATED = "simulated"
"""Stands where an endpoint is chosen, for models that need none."""
READY = "ready"
"""The choice of a bundled task's own insertions."""
UPLOADED = "file:"
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
            fields["interventions"] = [f"{UPLOADED}{insertions['file']}"]
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
        settings: dict[str, Any] = {
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
            settings["arms"] = arms
        insertions = self.first("interventions", READY)
        if insertions.startswith(UPLOADED):
            settings["interventions"] = {"file": insertions.removeprefix(UPLOADED)}
        elif insertions != READY:
            settings["interventions"] = {"kind": insertions}
            if self.first("per_example"):
                settings["interventions"]["per_example"] = _number(self.first("per_example"))
        for setting in SIMPLE:
            if self.first(setting.name):
                settings[setting.name] = _number(self.first(setting.name))
        return settings

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
    field = next(((setting.served and setting.served.field) or setting.path[-1] for setting in about), None)
    named = any(model and message.startswith(model) for _, model in models)
    return field or ("models" if named or message.startswith("there is no simulated model") else None)


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
