"""What stands for an endpoint in cache keys and rows: its base URL, or the name that a user gave it on purpose.

A name under `endpoints:` in a configuration file is a name in that file alone. Versions up to 0.2 took it for the
identity; what they stored is found under the conditions of `prove_names` and continued by `adopt_names`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from explaineval.config.client_config import ClientConfig
from explaineval.config.endpoint import normalise_url
from explaineval.config.fields import EndpointConfig, ModelConfig
from explaineval.config.run_config import RunConfig
from explaineval.config.values import check_endpoint_name
from explaineval.errors import InputError

Addresses = Mapping[str, Collection[str]]
"""Names of endpoints → the base URLs that they stood for in earlier runs."""


def identify(values: dict[str, Any], place: str) -> None:
    """Put each endpoint of a configuration under its identity, and let the models name it so.

    That is its `endpoint_name`, else its base URL. An endpoint without a base URL keeps its name.

    Raises:
        InputError: two endpoints have the same identity and differ otherwise, or a name cannot be used.
    """
    endpoints = values.get("endpoints")
    if not isinstance(endpoints, Mapping):
        return
    renamed: dict[str, str] = {}
    identified: dict[str, Any] = {}
    for name, entry in endpoints.items():
        identity, changed = _identified(str(name), entry, place)
        if identity in identified and _shown(identified[identity]) != _shown(changed):
            first = next(other for other, known in renamed.items() if known == identity)
            raise InputError(
                f"{place}: the endpoints {first!r} and {name!r} are the same one ({identity}) with different settings: "
                "leave one out, or give one of them an endpoint_name of its own."
            )
        renamed[str(name)] = identity
        identified.setdefault(identity, changed)
    values["endpoints"] = identified
    values["models"] = [
        {**model, "endpoint": renamed.get(model["endpoint"], model["endpoint"])}
        if isinstance(model, Mapping) and isinstance(model.get("endpoint"), str)
        else model
        for model in values.get("models") or ()
    ]


def _identified(name: str, entry: Any, place: str) -> tuple[str, Any]:
    """Return the identity of one endpoint, and its settings under it."""
    if isinstance(entry, EndpointConfig):
        entry = entry.model_dump() | {
            name: getattr(entry, name) for name in ("older_name", "file_name", "key_from_file", "endpoint_name")
        }
    if not isinstance(entry, Mapping):
        return name, entry
    entry = dict(entry)
    given = entry.pop("endpoint_name", None)
    if given is not None:
        try:
            given = check_endpoint_name(str(given))
        except ValueError as exc:
            raise InputError(f"{place}: the endpoint's name {given!r} cannot be used: {exc}.") from None
    if not isinstance(entry.get("base_url"), str):
        return given or name, entry
    try:
        entry["base_url"] = url = normalise_url(entry["base_url"])
    except InputError:  # told with its place where the entry is read
        return given or name, entry
    if given is None and "://" not in name:
        entry.setdefault("file_name", name)
    return given or url, entry


def _shown(entry: Any) -> Any:
    return {key: value for key, value in entry.items() if key != "file_name"} if isinstance(entry, Mapping) else entry


def file_names(client: ClientConfig) -> dict[str, str]:
    """Return by base URL the names in files under which 0.2 would have stored the answers of an endpoint."""
    return {url: entry.file_name for url, entry in client.endpoints.items() if entry.file_name is not None}


def prove_names(client: ClientConfig, known: Addresses) -> tuple[ClientConfig, tuple[str, ...]]:
    """Let answers under an endpoint's name in 0.2 be used where that name is known to have stood for its address alone.

    Returns also the other names.
    """
    names = file_names(client)
    proven = {url: name for url, name in names.items() if set(known.get(name, ())) == {url}}
    endpoints = {
        url: entry.model_copy(update={"older_name": proven[url]}) if url in proven else entry
        for url, entry in client.endpoints.items()
    }
    return client.model_copy(update={"endpoints": endpoints}), tuple(names[url] for url in names if url not in proven)


def adopt_names(
    config: RunConfig, client: ClientConfig, models: Iterable[ModelConfig], endpoints: Mapping[str, EndpointConfig]
) -> tuple[RunConfig, ClientConfig]:
    """Return the configuration under the names that an earlier run of it has, given its models and endpoints."""
    recorded = {(model.endpoint, model.model) for model in models}
    names = {
        url: name
        for url, name in file_names(client).items()
        if name in endpoints and endpoints[name].base_url == url
        and any((name, model.model) in recorded for model in config.models if model.endpoint == url)
    }  # fmt: skip
    if not names:
        return config, client
    changed = {
        names.get(url, url): entry.model_copy(update={"older_name": None, "file_name": None}) if url in names else entry
        for url, entry in client.endpoints.items()
    }
    renamed = tuple(
        model.model_copy(update={"endpoint": names.get(model.endpoint or "", model.endpoint)})
        for model in config.models
    )
    return config.model_copy(update={"models": renamed}), client.model_copy(update={"endpoints": changed})
