"""Combine the options given with a configuration file: option over environment variable over file over default."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explaineval.config import (
    SETTINGS,
    ClientConfig,
    ModelConfig,
    RunConfig,
    build,
    normalise_url,
    older_spelling,
    read_config,
)
from explaineval.config.configs import identify
from explaineval.config.params import EXTRA_BODY, SAMPLING, check_params
from explaineval.datasets.tasks import takes_columns
from explaineval.errors import InputError
from explaineval.records import SIMULATED_PREFIX, Record
from explaineval.text import counted

if TYPE_CHECKING:
    from explaineval.assist.session import Assistant
    from explaineval.prompts import PromptBook

LONGEST_VALUE = 200
"""Characters of a parameter's value that a message repeats."""

BY_HAND = frozenset({"models", "endpoints", "api_key_env", "params"})
"""Settings that are no mere values: options about models and endpoints, and parameters, which add to the file's."""

SHARED = ("transport", "cache", "offline", "batch", "batch_poll", "batch_wait", "patience", "spent")
"""Options of a command that hold for each model that it asks beside a run."""


def resolve(file: Path | None, options: Mapping[str, Any]) -> tuple[RunConfig, ClientConfig, Path | None]:
    """Return the run's configuration, its client's and the run directory, from a file (if any) and the options.

    Options that are None or empty were not given. Raises InputError for the first thing that is wrong.
    """
    values, source = _gather(file, options)
    for name, hint in (("tasks", "--task NAME"), ("models", "--model PROVIDER/MODEL")):
        if not values.get(name):
            raise InputError(f"no {name} given: add {hint}, or {name} in the configuration file.")
    out = values.pop("out", None)
    identify(values, source)
    client = {name: values.pop(name) for name in list(values) if name in ClientConfig.model_fields}
    science, transport = build(RunConfig, values, source), build(ClientConfig, client, source)
    models, transport = _place_simulated(science.models, transport)
    return science.model_copy(update={"models": models}), transport, None if out is None else Path(out)


class _Asked(Record):
    models: tuple[ModelConfig]


def resolve_model(options: Mapping[str, Any]) -> tuple[ModelConfig, ClientConfig]:
    """Return the one model that the options name, which is asked beside any run, and how it is reached.

    Raises InputError for the first thing that is wrong.
    """
    values, source = _gather(None, {**options, "model": (options["model"],)})
    identify(values, source)
    asked = build(_Asked, {"models": values["models"]}, source)
    client = {name: value for name, value in values.items() if name in ClientConfig.model_fields}
    (model,), transport = _place_simulated(asked.models, build(ClientConfig, client, source))
    return model, transport


def _place_simulated(
    models: Sequence[ModelConfig], transport: ClientConfig
) -> tuple[tuple[ModelConfig, ...], ClientConfig]:
    """Put simulated models, where there are some, at their own endpoints."""
    if any(model.model.startswith(SIMULATED_PREFIX) for model in models):
        from explaineval.planning.prepare import with_simulated

        return with_simulated(models, transport)
    return tuple(models), transport


def _gather(file: Path | None, options: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the values that a file (if any) and the options give together, and how errors name their source."""
    values = read_config(file) if file is not None else {}
    source = str(file) if file is not None else "options"
    given = {name: value for name, value in options.items() if value is not None and value != ()}
    edits = values["interventions"] = dict(values.get("interventions", {}))
    for name, other in (("interventions", "kind"), ("kind", "file")):
        if name in given:  # they replace each other
            edits.pop(other, None)
            break
    if "task" in given and not any(takes_columns(task) for task in given["task"]):
        values.pop("columns", None)  # the file's, for tasks that are not asked now
    for name, setting in SETTINGS.items():
        if name in given and setting.path[0] not in BY_HAND:
            place = values
            for part in setting.path[:-1]:
                place = place.setdefault(part, {})
            place[setting.path[-1]] = setting.value_of(given[name])
    if "param" in given:
        values["params"] = {**values.get("params", {}), **_read_params(given["param"])}
    if "model" in given:
        values["models"] = [
            entry for name in given["model"] for entry in find_models(name, values, source, has_url="base_url" in given)
        ]
    if "ray_address" in given:
        values.pop("ray_address_from_file", None)  # the user's own word
    _apply_endpoint(values, given)
    _override_entries(values, given)
    return values, source


def resolve_role(role: str, options: Mapping[str, Any], prompts: PromptBook, spent: float = 0.0) -> Assistant:
    """Return the model that the --ROLE-… options name; `spent` dollars of --max-usd are gone. Raises InputError."""
    from explaineval.assist.session import Assistant

    if options[f"{role}_model"].startswith(SIMULATED_PREFIX):
        raise InputError(
            f"{options[f'{role}_model']} is simulated: it answers multiple-choice questions only, so it "
            f"cannot be the {role}."
        )
    max_usd = None if options["max_usd"] is None else max(0.0, options["max_usd"] - spent)
    model, client = resolve_model(
        {
            **{name: options[f"{role}_{name}"] for name in ("base_url", "api_key_env", "price", "model")},
            **{name: options[name] for name in SHARED if name in options},
            "max_usd": max_usd,
        }
    )
    return Assistant(role, model, client, prompts)


def find_models(
    name: str, values: Mapping[str, Any], source: str, *, has_url: bool = False
) -> Iterator[dict[str, Any]]:
    """Yield the models that a name stands for: those of a configuration file with that name, else a new one.

    A file says where its models are asked. A name that is not in it would be asked at the provider's own address with
    the provider's key, so it is refused, unless --base-url says where it is asked (`has_url`). `values` is the content
    of the file, `source` how errors name it. Raises InputError.
    """
    listed = values.get("models") or []
    models = [dict(entry) for entry in listed if name == entry.get("model")]
    models = models or [dict(entry) for entry in listed if name == _full_name(entry)]
    endpoint, _, rest = name.partition("/")
    if not models and not listed and endpoint in values.get("endpoints", {}):
        models = [{"model": rest, "endpoint": endpoint}]
    if models:
        yield from models[:1] if has_url else models
    elif has_url or not (listed or values.get("endpoints")):
        yield {"model": name}
    elif listed:
        names = ", ".join(map(_full_name, listed))
        raise InputError(
            f"model {name} is none of the models of {source}: {names}. Name one of them, add it there, or say where it "
            "is asked (--base-url)."
        )
    else:
        endpoints = ", ".join(values["endpoints"])
        raise InputError(
            f"model {name}: {source} names endpoints ({endpoints}) but no models. Write ENDPOINT/{name}, add it to the "
            "models, or say where it is asked (--base-url)."
        )


def _full_name(entry: Mapping[str, Any]) -> str:
    """Return ENDPOINT/MODEL of an entry of the file's models, or MODEL if it names no endpoint."""
    return "/".join(str(entry[name]) for name in ("endpoint", "model") if entry.get(name))


def _override_entries(values: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Remove what the file says about single endpoints or models where an option says otherwise."""
    for names, entries in (
        (("price", "max_connections", "rpm", "tpm", "api_key_env"), values.get("endpoints", {}).values()),
        (("style", "shots"), values.get("models", ())),
    ):
        for name in names:
            for entry in entries:
                if name in given and isinstance(entry, dict):
                    entry.pop(name, None)
    if "api_key_env" in given:
        for entry in values.get("endpoints", {}).values():
            entry |= {"api_key_env": given["api_key_env"], "key_from_file": False}


def _apply_endpoint(values: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Apply --base-url, --endpoint-name and --api-key-env to all models."""
    if "base_url" not in given:
        if "endpoint_name" in given:
            _name_endpoint(values, given["endpoint_name"])
        if "api_key_env" in given:
            values |= {"api_key_env": given["api_key_env"], "key_from_file": False}
        return
    url = normalise_url(given["base_url"])
    name = given.get("endpoint_name") or url
    entry = _limits_at(url, values.get("endpoints", {})) | {
        "base_url": url,
        "api_key_env": given.get("api_key_env"),
        "endpoint_name": given.get("endpoint_name"),
    }
    if name == url and older_spelling(given["base_url"]) != url:
        entry["older_name"] = older_spelling(given["base_url"])
    values["endpoints"] = {name: entry}
    values["models"] = [{**model, "endpoint": name} for model in values.get("models", ())]


def _limits_at(url: str, endpoints: Mapping[str, Any]) -> dict[str, Any]:
    """Return the price and the limits that a file gives for this address, which hold however the address is named."""
    entries = (entry for entry in endpoints.values() if isinstance(entry, Mapping) and entry.get("base_url"))
    same: Mapping[str, Any] = next((entry for entry in entries if normalise_url(entry["base_url"]) == url), {})
    return {name: same[name] for name in ("price", "max_connections", "rpm", "tpm") if name in same}


def _name_endpoint(values: dict[str, Any], name: str) -> None:
    """Give the only endpoint of a configuration file the name that stands for it in cache keys."""
    entries = [entry for entry in values.get("endpoints", {}).values() if isinstance(entry, dict)]
    if len(entries) != 1:
        raise InputError(
            "--endpoint-name replaces a URL in the cache key: give --base-url with it, or a configuration file with "
            "one endpoint."
        )
    entries[0]["endpoint_name"] = name


def _read_params(texts: Sequence[str]) -> dict[str, Any]:
    """Return the parameters of all --param options. Raises InputError where one is given two values."""
    params: dict[str, Any] = {}
    for text in texts:
        name, value = _read_param(text)
        if name in params and params[name] != value:
            raise InputError(f"--param {name} is given two values: give it once.")
        params[name] = value
    return params


def _read_param(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InputError(f"--param {text!r}: write KEY=JSON, for example top_p=0.9.")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):  # not JSON, a number of thousands of digits, or nested too deeply
        pass
    if name == EXTRA_BODY:
        raise InputError("--param extra_body is not JSON: write it like --param 'extra_body={\"NAME\": VALUE}'.")
    reason = check_params({name: None})
    if reason is not None and name not in SAMPLING:  # refused whatever its value, which may be secret: not repeated
        raise InputError(f"{reason}.")
    if len(value) > LONGEST_VALUE:
        raise InputError(
            f"--param {name}: a value of {counted(len(value), 'character')} is not JSON, or no usable number."
        )
    raise InputError(f"--param {name}: {value!r} is not JSON; a text needs quotes: {name}='\"{value}\"'.")
