"""Turn what a user of the service submits into a run's configuration; whatever only the operator may say is refused."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from explaineval.client.simulated import known_names
from explaineval.config import ClientConfig, RunConfig, build
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
    if len({tuple(sorted(one.items())) for one in columns.values()}) > 1:
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
