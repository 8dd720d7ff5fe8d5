"""API keys of endpoints: which one is sent where, what to do where it is not accepted, and hiding it in answers."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from http import HTTPStatus

from explaineval.config import Endpoint
from explaineval.errors import InputError
from explaineval.records import Completion
from explaineval.secrets import SECRETS

DEFAULT_KEY_ENV = "EXPLAINEVAL_API_KEY"
NO_KEY = "none"
NONE_SENT = "no key was sent"
VERSION = re.compile(r"/(v\d|api|openai)\b", re.IGNORECASE)
OPENAI_SHAPED = frozenset(
    {"openai", "hosted_vllm", "text-completion-openai", "custom_openai", "litellm_proxy", "lm_studio", "llamafile"}
    | {"openai_like", "aiohttp_openai", "xinference", "docker_model_runner"}
)
KEY_NAMES: Mapping[str, tuple[str, ...]] = {
    "text-completion-openai": ("OPENAI_API_KEY",),
    "azure": ("AZURE_API_KEY", "AZURE_OPENAI_API_KEY"),
    "azure_text": ("AZURE_API_KEY", "AZURE_OPENAI_API_KEY"),
    "anthropic_text": ("ANTHROPIC_API_KEY",),
    "bedrock": ("AWS_SECRET_ACCESS_KEY", "AWS_BEARER_TOKEN_BEDROCK"),
    "cohere_chat": ("COHERE_API_KEY", "CO_API_KEY"),
    "fireworks_ai": ("FIREWORKS_API_KEY", "FIREWORKS_AI_API_KEY"),
    "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    "huggingface": ("HF_TOKEN", "HUGGINGFACE_API_KEY"),
    "perplexity": ("PERPLEXITYAI_API_KEY", "PERPLEXITY_API_KEY"),
    "text-completion-codestral": ("CODESTRAL_API_KEY",),
    "together_ai": ("TOGETHERAI_API_KEY",),
    "vertex_ai": ("VERTEXAI_CREDENTIALS", "GOOGLE_APPLICATION_CREDENTIALS"),
    "watsonx": ("WATSONX_APIKEY", "WATSONX_API_KEY"),
}
"""Names of the key variables of routes where it is not ROUTE_API_KEY. For messages only: litellm reads them itself."""


def key_of(endpoint: Endpoint, model: str) -> str | None:  # noqa: ARG001 - whose key it is
    """Return the key for a call; None lets litellm look for the provider's own. It is remembered only to be masked.

    To a base URL the key in the named variable (or in EXPLAINEVAL_API_KEY) is sent, else a dummy. A provider's own key
    is never sent to another address; the guard refuses that.

    Raises:
        InputError: the named variable is not set.
    """
    if endpoint.api_key_env is not None:
        key = os.environ.get(endpoint.api_key_env)
        if not key:
            raise InputError(f"the environment variable {endpoint.api_key_env} holds no key: set it, then run again.")
        SECRETS.add(key)
        return key
    if endpoint.base_url is not None:
        key = os.environ.get(DEFAULT_KEY_ENV)
        SECRETS.add(key)
        return key or NO_KEY
    return None


def without_secrets(completion: Completion) -> Completion:
    """Return the completion with keys masked, since an endpoint can repeat the key that it got in what it sends."""
    if SECRETS.empty:
        return completion
    values = completion.model_dump()
    masked = SECRETS.mask_value(values, keep_length=True)  # offsets of tokens stay right
    return completion if masked == values else Completion.model_validate(masked)


def advice_on(endpoint: Endpoint, model: str, status: int) -> str | None:
    """Return advice on a status that concerns the key (401, 403) or the address (404); None for others."""
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        advice = _key_advice(endpoint, model)
        return advice if status == HTTPStatus.UNAUTHORIZED or advice.startswith(NONE_SENT) else None
    plain = endpoint.base_url is not None and not VERSION.search(endpoint.base_url)
    if status == HTTPStatus.NOT_FOUND and plain and model.partition("/")[0] in OPENAI_SHAPED:
        return (
            "unknown model or address; the base URL has no /v1, which most servers in OpenAI's shape want at its end: "
            f"try {endpoint.base_url}/v1"
        )
    return None


def _key_advice(endpoint: Endpoint, model: str) -> str:
    """Return which variable holds the key that was not accepted, or would hold the missing one."""
    if endpoint.api_key_env is not None:
        return f"the key is not accepted; check {endpoint.api_key_env}, which holds it"
    if endpoint.base_url is None:
        held, wanted = provider_key_names(model)
        if held:
            return f"the key is not accepted; check {' and '.join(held)}, which holds it"
        return f"{NONE_SENT}: set {' or '.join(wanted)}, or name your variable by --api-key-env"
    if os.environ.get(DEFAULT_KEY_ENV):
        return f"the key is not accepted; check {DEFAULT_KEY_ENV}, which holds it"
    held, _ = provider_key_names(model)
    example = f" (--api-key-env {held[0]}, if that key may go there)" if held else ""
    return (
        f"{NONE_SENT}: with a base URL it is taken only from {DEFAULT_KEY_ENV}, or from the variable that "
        f"--api-key-env names{example}"
    )


def provider_key_names(model: str) -> tuple[list[str], list[str]]:
    """Return the variables in which litellm looks for the provider's own key: those that are set, and all of them."""
    route = model.partition("/")[0]
    names = list(KEY_NAMES.get(route, (f"{route.upper().replace('-', '_')}_API_KEY",)))
    return [name for name in names if os.environ.get(name)], names
