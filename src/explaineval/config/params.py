"""Check what `--param` and `params` may send: sampling parameters by name, everything else inside `extra_body`.

A parameter is handed to litellm as an argument, and litellm reads hundreds of arguments that are no parameters of a
model (other models to fall back on, addresses, headers, answers made up on the spot). So only names in the table below
pass. `extra_body` is a JSON object whose entries go into the request's body as they are; it may not replace what
explaineval sets itself, what bounds the cost, or who answers, and may hold no secret. Pure.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping

from pydantic import JsonValue

EXTRA_BODY = "extra_body"
DEEPEST = 32
"""Levels inside extra_body."""
LARGEST = 2**63
"""No endpoint takes greater numbers."""

SAMPLING: Mapping[str, str] = {
    "top_p": "number",  # OpenAI, Anthropic, Gemini, Mistral, Groq, OpenRouter, vLLM, llama.cpp, Ollama
    "top_k": "integer",  # Anthropic, Gemini, OpenRouter, vLLM, llama.cpp
    "min_p": "number",  # OpenRouter, vLLM, llama.cpp
    "top_a": "number",  # OpenRouter
    "typical_p": "number",  # llama.cpp, text-generation-inference
    "frequency_penalty": "number",  # OpenAI, Gemini, Mistral, OpenRouter, vLLM, llama.cpp, Ollama
    "presence_penalty": "number",  # as frequency_penalty
    "repetition_penalty": "number",  # OpenRouter, vLLM, Together
    "repeat_penalty": "number",  # llama.cpp, Ollama
    "repeat_last_n": "integer",  # llama.cpp, Ollama
    "min_tokens": "integer",  # vLLM; never more than max_tokens, so the bound on the cost holds
    "logit_bias": "object",  # OpenAI, OpenRouter, vLLM, llama.cpp
    "seed": "integer",  # OpenAI, Gemini, Groq, OpenRouter, vLLM, llama.cpp, Ollama
    "random_seed": "integer",  # Mistral's name for it
    "dynatemp_range": "number",  # llama.cpp, as all that follow up to mirostat
    "dynatemp_exponent": "number",
    "xtc_probability": "number",
    "xtc_threshold": "number",
    "dry_multiplier": "number",
    "dry_base": "number",
    "dry_allowed_length": "integer",
    "dry_penalty_last_n": "integer",
    "mirostat": "integer",  # llama.cpp, Ollama
    "mirostat_tau": "number",
    "mirostat_eta": "number",
    "reasoning_effort": "text",  # OpenAI, Groq, Gemini, xAI, Mistral; as an object litellm would ask by another route
    "reasoning": "object",  # OpenRouter
    "include_reasoning": "flag",  # OpenRouter, Groq
    "reasoning_format": "text",  # Groq
    "thinking": "object",  # Anthropic, DeepSeek, Z.ai
    "verbosity": "text",  # OpenAI
    "service_tier": "text",  # OpenAI, Anthropic, Groq; the tier's price is reckoned with
}
"""Parameters by name, with the kind of their value and whose documentation has them.

Left out on purpose: response_format (the prompt sets the form of answers, and on some routes litellm makes a tool call
of it), user, metadata and store (no sampling; they fit into extra_body), n, best_of, stream, tools and all that
explaineval sets itself.
"""

INSTEAD: Mapping[str, str] = {
    "model": "--model",
    "max_tokens": "--max-tokens",
    "max_completion_tokens": "--max-tokens",
    "max_output_tokens": "--max-tokens",
    "temperature": "--temperature",
    "n": "--samples",
    "logprobs": "--logprobs",
    "top_logprobs": "--logprobs",
    "api_base": "--base-url",
    "base_url": "--base-url",
    "api_key": "--api-key-env",
    "timeout": "--timeout",
    "request_timeout": "--timeout",
    "num_retries": "--max-retries",
    "max_retries": "--max-retries",
    "rpm": "--rpm",
    "tpm": "--tpm",
    "messages": "--prompts",
    "prompt": "--prompts",
}
"""Options that set what these parameters would set."""


def _names(*texts: str) -> frozenset[str]:
    return frozenset(_plain(name) for text in texts for name in text.split())


def _plain(name: str) -> str:
    """Return a name as lower-case letters and digits, so that max_tokens, maxTokens and max-tokens are the same.

    >>> _plain("maxTokens") == _plain("max-tokens") == _plain("max_tokens")
    True
    """
    return re.sub(r"[^a-z0-9]", "", name.lower())


OURS = _names(
    "model models model_id model_name models_list engine deployment deployment_id prompt prompts messages input inputs",
    "contents content system system_prompt system_instruction instructions suffix echo raw template extra_body",
    "cached_content previous_response_id conversation conversation_id thread_id assistant_id session_id",
    "max_tokens_to_sample max_token_count",
    "max_gen_len num_predict n_predict num_tokens_to_generate",
    "temperature stop stop_sequences stop_words",
    "logprobs top_logprobs response_logprobs n_probs num_logprobs prompt_logprobs return_tokens_as_token_ids",
    "stream stream_options background",
)
"""What explaineval sets itself, under every name that an endpoint may have for it."""

LIMIT = re.compile(r"^max(imum)?.*(tokens?|length)$")
SEVERAL = re.compile(
    r"^(n|num)(best|beams?|choices|completions|candidates|generations|outputs|responses|(return)?sequences|samples)$"
    r"|^(choice|candidate|completion|sample|response)s?count$"
)
"""Further names of the limit of tokens, and of the number of answers, folded by `_plain`."""

COSTLY = _names(
    "n best_of use_beam_search beam_width",
    "tools tool_choice tool_config functions function_call parallel_tool_calls mcp_servers container plugins agents",
    "web_search web_search_options search_parameters search_settings enable_search online grounding data_sources",
    "connectors documents compound_custom modalities response_modalities audio speech_config prediction",
    "service_tier speed inference_geo cache_control",
)
"""What would cost more than a request is assumed to cost at most, or do more than answer."""

STEERING = _names(
    "fallbacks fallback fallback_models fallback_model route context_window_fallback_dict content_policy_fallbacks",
    "headers extra_headers default_headers request_headers extra_query query_params provider_specific_header",
    "api_base base_url endpoint endpoint_url api_version api_type organization project custom_llm_provider base_model",
    "proxy proxies proxy_server_request use_litellm_proxy http_client client ssl_verify shared_session",
    "mock_response mock_tool_calls mock_timeout mock_delay",
    "timeout request_timeout force_timeout stream_timeout num_retries max_retries retry_policy retry_strategy",
    "reasoning_summary cache caching cache_key callbacks success_callback failure_callback logger_fn guardrails",
    "drop_params additional_drop_params allowed_openai_params model_list model_info router_settings user_config",
    "rpm tpm input_cost_per_token output_cost_per_token cost_per_second input_cost_per_second output_cost_per_second",
)
"""What litellm, or a gateway that takes its arguments, does not pass on to the model but obeys itself."""

STEERS = re.compile(r"^(litellm|acompletion|atextcompletion|aws|vertex|azure)")
SECRET = re.compile(
    r"api_?key|(^|_)(access_?key|private_?key|secrets?|password|passwd|passphrase|credentials?|authorization|bearer)(_|$)"
    r"|(^|_)(ad|access|auth|session|identity|refresh|id|sas)_?token(_|$)|^(token|auth|key)$"
)
"""Names whose values would be written into the key of every answer, and so into the cache and into packs."""

SCHEMAS = _names("json_schema schema response_schema response_json_schema guided_json properties")
"""Values that are JSON schemas: names inside them are those of an answer's fields, and are not checked."""

NESTED_ROUTES = frozenset(
    {"anthropic", "anthropic_text", "bedrock", "sagemaker", "text-completion-codestral", "nlp_cloud", "oobabooga"}
    | {"petals", "predibase", "replicate"}
)
"""Routes on which litellm does not put the entries of extra_body into the request's body."""


def check_params(params: Mapping[str, JsonValue], model: str | None = None) -> str | None:
    """Return why these parameters may not be sent, as a sentence without a full stop; None where they may.

    With `model` (provider/model) it is also checked whether its route takes extra_body.

    >>> check_params({"top_p": 0.9, "extra_body": {"guided_choice": ["A", "B"]}}) is None
    True
    >>> "did you mean top_p?" in check_params({"top_pp": 0.9})
    True
    """
    for name, value in params.items():
        error = _check_extra_body(value, params) if name == EXTRA_BODY else _check_sampling(name, value)
        if error is not None:
            return error
    if model is not None and EXTRA_BODY in params:
        route = model.partition("/")[0]
        if route in NESTED_ROUTES:
            return (
                f"--param extra_body is not allowed with {model}: litellm's route {route}/ does not put its entries "
                "into the request"
            )
    return None


def _check_sampling(name: str, value: JsonValue) -> str | None:
    kind = SAMPLING.get(name)
    if kind is None:
        return f"--param {_shown(name)} is not allowed: {_reason(name)}"
    if not _is_kind(value, kind):
        return f"--param {name} takes {ARTICLES[kind]}, not {_kind_of(value)}"
    return None


ARTICLES = {
    "number": "a number", "integer": "a whole number", "text": "a text in quotes", "flag": "true or false",
    "object": "a JSON object",
}  # fmt: skip


def _is_kind(value: JsonValue, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "flag"
    if isinstance(value, int | float) and not -LARGEST < value < LARGEST:  # infinite and undefined ones too
        return False
    if kind == "integer":
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if kind == "number":
        return isinstance(value, int | float)
    return isinstance(value, {"text": str, "object": dict, "flag": bool}[kind])


def _kind_of(value: JsonValue) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool) and not -LARGEST < value < LARGEST:
        return "a number that is too large or none"
    names = {bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list"}
    return "null" if value is None else names.get(type(value), "a JSON object")


OTHERWISE = "what else the endpoint takes goes into extra_body, for example --param 'extra_body={\"NAME\": VALUE}'"


def _option_for(name: str) -> str | None:
    """Return the option that sets what this parameter would set, if there is one."""
    plain = _plain(name)
    if LIMIT.search(plain):
        return "--max-tokens"
    if SEVERAL.search(plain):
        return "--samples"
    return next((option for parameter, option in INSTEAD.items() if _plain(parameter) == plain), None)


def _reason(name: str) -> str:
    """Return why a name is not among the parameters, and what to do instead."""
    option, error = _option_for(name), _refusal(name)
    if option is not None:
        return f"explaineval sets it itself; use {option}"
    if error is not None:
        return error
    near = difflib.get_close_matches(name.lower(), [*SAMPLING, *INSTEAD, EXTRA_BODY], n=1, cutoff=0.75)
    if near:
        meant = INSTEAD.get(near[0], near[0])
        return f"it is not among the sampling parameters that are sent; did you mean {meant}? {OTHERWISE}"
    return (
        f"it is not among the sampling parameters that are sent (top_p, top_k, seed, reasoning_effort, …); {OTHERWISE}"
    )


def _refusal(name: str) -> str | None:
    """Return why a name may not stand anywhere in a request's body; None where it may."""
    plain = _plain(name)
    if SECRET.search(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().replace("-", "_")):
        return "it looks like a secret, which would be stored with every answer; keys go by --api-key-env"
    if plain in OURS or LIMIT.search(plain):
        return "explaineval sets it itself"
    if plain in COSTLY or SEVERAL.search(plain):
        return (
            "give it as --param service_tier, so that its price is known"
            if plain == "servicetier"
            else "it would cost more than explaineval can bound, or do more than answer"
        )
    if plain in STEERING or STEERS.search(plain):
        return "it decides where, by whom or with what headers a request is answered, and is no model's parameter"
    return None


def _check_extra_body(value: JsonValue, params: Mapping[str, JsonValue]) -> str | None:
    if not isinstance(value, dict) or not value:
        return "--param extra_body takes a JSON object with at least one entry, which goes into the request's body"
    for name in value:
        if name in params:
            return f"--param {_shown(name)} stands in extra_body a second time: give it once"
    for path, inner, depth, named in _entries(value):
        if depth > DEEPEST:
            return f"extra_body is nested more than {DEEPEST} levels deep"
        name = path.rpartition(".")[2]
        if inner is None:
            return f"{_shown(path)} is null: leave it out instead"
        if isinstance(inner, int | float) and not -LARGEST < inner < LARGEST:
            return f"{_shown(path)} is a number that is too large or none"
        error = _refusal(name) if named else None
        if error is not None:
            option = _option_for(name) if "--" not in error else None
            return f"{_shown(path)} is not allowed: {error}{f'; use {option}' if option else ''}"
    return None


def _entries(value: JsonValue) -> Iterator[tuple[str, JsonValue, int, bool]]:
    """Yield every entry inside extra_body: its path, its value, its depth, and whether its name is to be checked.

    Names inside a JSON schema are those of an answer's fields.
    """
    waiting: list[tuple[str, JsonValue, int, bool]] = [(EXTRA_BODY, value, 0, True)]
    while waiting:
        path, inner, depth, named = waiting.pop()
        if depth > DEEPEST:
            yield path, inner, depth, named
            return
        if isinstance(inner, list):
            for item in inner:
                yield path, item, depth, False
            waiting += [(path, item, depth + 1, named) for item in inner]
        elif isinstance(inner, dict):
            for name, item in inner.items():
                below = f"{path}.{name.replace('.', '_')}"
                yield below, item, depth, named
                waiting.append((below, item, depth + 1, named and _plain(name) not in SCHEMAS))


def _shown(name: str) -> str:
    """Return a name as it can stand in a sentence."""
    return name if name and name.isprintable() and len(name) <= 80 else repr(name[:80])
