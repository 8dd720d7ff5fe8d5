"""Where requests to a model may go, in which form, and with which key.

The origin is that of a base URL, or a provider's own. A file alone cannot choose which secret goes where: it may come
from a stranger. The variable that it names is taken without asking only where its name begins with EXPLAINEVAL_, or
where it is a provider's own and the address is that provider's. Everything else takes `--allow-key VAR@HOST`.

Nothing that sends is imported here, so that a run from the cache alone can say which key would go where.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from importlib import resources
from urllib.parse import urlsplit

from explaineval.config import ClientConfig, Endpoint, ModelConfig
from explaineval.config.values import ALLOWED, DEFAULT_PORTS, is_private
from explaineval.errors import InputError, RequestRejectedError
from explaineval.records import SIMULATED_PREFIX, Completion, Request, Style
from explaineval.secrets import SECRETS


@dataclass(frozen=True)
class Origin:
    """Scheme, host and port of an address.

    >>> str(Origin.of("HTTPS://api.Example.org:443/v1?x=1"))
    'https://api.example.org'
    """

    scheme: str
    host: str
    port: int | None

    @classmethod
    def of(cls, url: str) -> Origin:
        """Return the origin of a URL. A name with other letters than ASCII gets its ASCII form, which is looked up."""
        parsed = urlsplit(url)
        host = (parsed.hostname or "").rstrip(".")
        if not host.isascii():
            import httpx

            host = httpx.URL(url).raw_host.decode("ascii").rstrip(".")
        port = parsed.port if parsed.port is not None else DEFAULT_PORTS.get(parsed.scheme)
        return cls(parsed.scheme, host, port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port in (None, DEFAULT_PORTS.get(self.scheme)) else f":{self.port}"
        return f"{self.scheme}://{host}{port}"


@cache
def built_in() -> dict[str, tuple[Origin, ...]]:
    """Return the addresses that litellm has built in, by provider; an empty tuple where it has none.

    `origins.json` is made by scripts/build_origins.py, from a dry run of litellm. A provider without a built-in address
    (an account's own resource, a server of one's own) has an empty list there and needs a base URL.
    """
    text = resources.files(__package__).joinpath("origins.json").read_text(encoding="utf-8")
    table: dict[str, list[str]] = json.loads(text)["origins"]
    return {provider: tuple(map(Origin.of, urls)) for provider, urls in table.items()}


def declared_origins(endpoint: Endpoint, model: str) -> tuple[Origin, ...]:
    """Return where requests to this model may go.

    Raises:
        InputError: the provider has no built-in address, and no base URL is given.
    """
    if endpoint.base_url is not None:
        return (Origin.of(endpoint.base_url),)
    provider = model.partition("/")[0]
    origins = built_in().get(provider)
    if origins:
        return origins
    if origins is None:
        raise InputError(
            f"{model}: explaineval knows no address of a provider {provider!r}; check what stands before the slash, or "
            "give the address by --base-url."
        )
    raise InputError(
        f"{model}: the provider {provider} has no address that is the same for everybody, or none that can be watched "
        "over; give yours by --base-url."
    )


PATHS: Mapping[Style, str] = {"chat": "/chat/completions", "completion": "/completions"}
"""What follows the base URL."""

ROUTES: Mapping[str, tuple[Style, ...]] = {
    "openai": ("chat", "completion"),
    "hosted_vllm": ("chat", "completion"),
    "text-completion-openai": ("completion",),
}
"""What stands before the slash in a served model's name, and the styles that it serves.

On other routes of this protocol (lm_studio, llamafile, litellm_proxy) litellm changes names of models, or makes chat
turns of text completions; the same servers can be asked as openai.
"""

REFUSED: Mapping[Style, frozenset[str]] = {
    "chat": frozenset({"thinking", "verbosity"}),
    "completion": frozenset({"thinking", "verbosity", "reasoning_effort", "service_tier"}),
}
"""Parameters that are not sent, because litellm refuses them on these routes, or makes others of them.

Inside extra_body both transports send them.
"""

OTHER_FORM = re.compile(
    r"(^|/)(responses/|o\d)|gpt-[5-9]|gpt-.*audio|codex|deep-research|computer-use|daybreak", re.IGNORECASE
)
"""Names on openai/ whose requests litellm changes: reasoning models of OpenAI, and those of its Responses API."""


def check_route(model: str, endpoint: Endpoint) -> None:
    """Check that a model (provider/model) can be asked at this endpoint without litellm.

    Raises:
        InputError: it has no base URL, is of another provider, or is one for which litellm changes requests.
    """
    provider, _, name = model.partition("/")
    if provider not in ROUTES:
        instead = f", or name the model openai/{name} if its server has OpenAI's protocol" if endpoint.base_url else ""
        raise InputError(
            f"{model}: --transport direct asks models named {', '.join(f'{route}/…' for route in ROUTES)}; {provider}/ "
            f"is asked through litellm: leave --transport direct out{instead}."
        )
    if endpoint.base_url is None:
        raise InputError(
            f"{model}: --transport direct needs the server's address: give it by --base-url, or leave --transport "
            "direct out."
        )
    if provider == "openai" and OTHER_FORM.search(name):
        raise InputError(
            f"{model}: OpenAI's reasoning models and its Responses API take requests in another form, which litellm "
            "knows: leave --transport direct out."
        )


def refused_params(style: Style, params: Collection[str]) -> list[str]:
    """Return which of these parameters are not sent in this style, in alphabetical order."""
    return sorted(REFUSED[style].intersection(params))


NAME = "max_tokens"
NEWER_NAME = "max_completion_tokens"

Renamed = set[tuple[str | None, str]]
"""The models that take the limit by its newer name, as (endpoint, model)."""


class LimitNames:
    """The part of a transport that knows by which name each model takes the limit of tokens."""

    def __init__(self) -> None:
        self.renamed: Renamed = set()

    def limit_name(self, request: Request) -> str:
        """Return the name under which a request says its limit. Text completions keep the older one."""
        newer = request.style == "chat" and (request.endpoint, request.model) in self.renamed
        return NEWER_NAME if newer else NAME

    async def send_by_name(self, request: Request, send: Callable[[], Awaitable[Completion]]) -> Completion:
        """Send a request; where it is rejected because of the name, send it again at once by the newer one.

        A rejection costs nothing. `send` takes the name from `limit_name` and raises what a transport raises.
        """
        try:
            return await send()
        except RequestRejectedError as exc:
            if NEWER_NAME not in str(exc) or (request.endpoint, request.model) in self.renamed:
                raise
            self.renamed.add((request.endpoint, request.model))
            return await send()


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
