"""Which key a configuration file may send where, and one line for each key that is sent.

A file alone cannot choose which secret goes where: it may come from a stranger. The variable that it names is taken
without asking only where its name begins with EXPLAINEVAL_, or where it is a provider's own and the address is that
provider's. Everything else takes `--allow-key VAR@HOST`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from explaineval.client.endpoints.api_keys import DEFAULT_KEY_ENV, provider_key_names
from explaineval.client.endpoints.origins import Origin, built_in, declared_origins
from explaineval.config import ClientConfig, ModelConfig
from explaineval.config.endpoint import is_private
from explaineval.config.values import ALLOWED
from explaineval.errors import InputError
from explaineval.records import SIMULATED_PREFIX

OURS = "EXPLAINEVAL_"
AZURE = (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com")
"""Ends of the host names of Azure's own gateways, which show no customer the key of another."""


def check_keys(client: ClientConfig, models: Iterable[ModelConfig]) -> None:
    """Check that no file chooses by itself which secret goes where.

    Raises:
        InputError: it does; the sentence has the option that allows it.
    """
    for model in models:
        if not client.is_key_from_file(model):
            continue
        endpoint = client.endpoint_of(model)
        variable = endpoint.api_key_env
        if variable is None:
            continue
        for origin in declared_origins(endpoint, model.model):
            if not may_send(variable, origin, client.allow_key):
                raise InputError(
                    f"{model.model}: the file would send the key in {variable} to {origin}, and a file alone may not "
                    f"choose that. If you want it, add --allow-key {allowing_option(variable, origin)}"
                    f"{'' if variable.startswith(OURS) else f'; or keep a key for it in a variable named {OURS}…'}."
                )


def may_send(variable: str, origin: Origin, allowed: Iterable[str]) -> bool:
    """Return whether a key that a file names may be sent to an address that it names.

    >>> may_send("EXPLAINEVAL_LAB_KEY", Origin.of("http://127.0.0.1:8000"), ())
    True
    >>> may_send("OPENAI_API_KEY", Origin.of("https://api.openai.com/v1"), ())
    True
    >>> may_send("OPENAI_API_KEY", Origin.of("http://127.0.0.1:8000"), ())
    False
    >>> may_send("OPENAI_API_KEY", Origin.of("http://127.0.0.1:8000"), ["OPENAI_API_KEY@127.0.0.1:8000"])
    True
    """
    return (
        variable.startswith(OURS)
        or _is_providers_own(variable, origin)
        or any(_allows(text, variable, origin) for text in allowed)
    )


def allowing_option(variable: str, origin: Origin) -> str:
    """Return the value of --allow-key that allows a key to be sent to an address."""
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    return f"{variable}@{host}:{origin.port}"


def sent_keys(client: ClientConfig, models: Iterable[ModelConfig]) -> Iterator[tuple[str, str]]:
    """Yield (variable, address) of each key that requests to these models carry, each once.

    Where litellm looks for a provider's own key, its variables that are set are yielded.
    """
    found: dict[tuple[str, str], None] = {}
    for model in models:
        if model.model.startswith(SIMULATED_PREFIX):
            continue
        endpoint = client.endpoint_of(model)
        if endpoint.api_key_env is not None:
            variables = [endpoint.api_key_env]
        elif endpoint.base_url is not None:
            variables = [DEFAULT_KEY_ENV] if os.environ.get(DEFAULT_KEY_ENV) else []
        else:
            variables = provider_key_names(model.model)[0]
        if variables:
            for origin in declared_origins(endpoint, model.model):
                found |= dict.fromkeys((variable, str(origin)) for variable in variables)
    yield from found


def _is_providers_own(variable: str, origin: Origin) -> bool:
    """Return whether a variable is the own one of a provider whose own address this is."""
    if origin.scheme != "https" or is_private(str(origin)):
        return False
    if origin.host.endswith(AZURE) and variable in provider_key_names("azure/")[1]:
        return True
    return any(
        origin in origins and variable in provider_key_names(f"{provider}/")[1]
        for provider, origins in built_in().items()
    )


def _allows(text: str, variable: str, origin: Origin) -> bool:
    match = ALLOWED.fullmatch(text)
    return (
        match is not None
        and match["variable"] == variable
        and match["host"].strip("[]").lower().rstrip(".") == origin.host
        and match["port"] in (None, str(origin.port))
    )
