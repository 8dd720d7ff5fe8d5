"""Parameters: sampling parameters by name, everything else inside extra_body, nothing that steers litellm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue

from explaineval.cache import request_key
from explaineval.config import RunConfig, build, check_params, read_config
from explaineval.config.params import SAMPLING
from explaineval.errors import InputError
from explaineval.records import Message, Request

VALUES: dict[str, JsonValue] = {"number": 0.5, "integer": 3, "text": "low", "flag": True, "object": {"type": "a"}}


def nested(levels: int) -> dict[str, Any]:
    """An object in an object, so many times over."""
    found: dict[str, Any] = {}
    for _ in range(levels):
        found = {"a": [found]}
    return found


def science(params: dict[str, Any], model: str = "openai/x") -> RunConfig:
    """A configuration that is to be asked with these parameters."""
    config = build(RunConfig, {"tasks": ["nli"], "models": [{"model": model}], "params": params}, "options")
    config.require_params()
    return config


@pytest.mark.parametrize("name", SAMPLING)
def test_every_sampling_parameter_passes(name: str) -> None:
    """What a provider documents is taken as it is given, and stands under its name."""
    value = VALUES[SAMPLING[name]]

    assert science({name: value}).params == {name: value}


def test_no_argument_of_ours_passes_in_extra_body() -> None:
    """Whatever steers litellm, the address, the headers or the cost is refused inside extra_body at every depth."""
    ours = {
        "model", "models", "messages", "prompt", "max_tokens", "max_completion_tokens", "maxOutputTokens",
        "max_new_tokens", "num_predict", "n", "best_of", "candidateCount", "stream", "logprobs", "top_logprobs",
        "temperature", "stop", "tools", "tool_choice", "functions", "fallbacks", "headers", "extra_headers", "api_base",
        "api_key", "x-api-key", "azure_ad_token", "mock_response", "extra_body", "service_tier", "Authorization",
        "num_beams", "plugins", "max_length", "maxTokens", "numChoices", "sample_count", "cachedContent",
        "previous_response_id", "web_search_options", "contents", "systemInstruction", "password", "aws_session_token",
    }  # fmt: skip
    flat = {name for name in ours if check_params({"extra_body": {name: 1}}) is None}
    nested = {name for name in ours if check_params({"extra_body": {"generationConfig": {name: 1}}}) is None}
    listed = {name for name in ours if check_params({"extra_body": {"a": [{"b": {name: [1]}}]}}) is None}

    assert (flat, nested, listed) == (set(), set(), set())


@pytest.mark.parametrize(
    "entries",
    [
        {"guided_choice": ["A", "B"], "chat_template_kwargs": {"enable_thinking": False}},
        {"provider": {"order": ["deepinfra"], "allow_fallbacks": False, "quantizations": ["fp8"]}},
        {"guided_json": {"type": "object", "properties": {"model": {"type": "string"}, "n": {"type": "integer"}}}},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"properties": {"stop": {}}}}}},
        {
            "user": "lab",
            "metadata": {"study": "a"},
            "skip_special_tokens": False,
            "stop_token_ids": [2],
            "bos_token": 1,
        },
        {"safetySettings": [{"category": "X", "threshold": "BLOCK_NONE"}], "reasoning_effort": "low"},
    ],
)
def test_extra_body_takes_what_endpoints_take(entries: dict[str, JsonValue]) -> None:
    """Options of single servers, and schemas whose fields are called as they like."""
    assert check_params({"extra_body": entries}) is None


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"tpo_p": 0.5}, "did you mean top_p"),
        ({"max_token": 3}, "use --max-tokens"),
        ({"temperatur": 0}, "did you mean --temperature"),
        ({"n": 2}, "use --samples"),
        ({"guided_choice": ["A"]}, "goes into extra_body"),
        ({"headers": {"Authorization": "Bearer sk-1234567890abcdef"}}, "--param headers is not allowed"),
        ({"top_p": "high"}, "top_p takes a number, not a text"),
        ({"top_p": float("nan")}, "top_p takes a number, not a number that is too large or none"),
        ({"seed": 10**400}, "too large"),
        ({"extra_body": {"a": [1, 10**400]}}, "extra_body.a is a number that is too large"),
        ({"extra_body": {"a": [None]}}, "extra_body.a is null"),
        ({"extra_body": {"guided_json": nested(100)}}, "more than 32 levels deep"),
        ({"seed": True}, "seed takes a whole number"),
        ({"seed": None}, "not null"),
        ({"extra_body": [1]}, "takes a JSON object"),
        ({"extra_body": {}}, "at least one entry"),
        ({"extra_body": {"a": None}}, "extra_body.a is null"),
        ({"extra_body": {"a": {"b": float("inf")}}}, "extra_body.a.b is a number that is too large or none"),
        ({"extra_body": {"top_p": 1}, "top_p": 0.5}, "top_p stands in extra_body a second time"),
        ({"extra_body": {"a": nested(100)}}, "more than 32 levels deep"),
        ({"extra_body": {"x": {"max_tokens": 9}}}, "extra_body.x.max_tokens is not allowed"),
    ],
)
def test_a_refusal_names_the_parameter_and_what_to_do(params: dict[str, Any], words: str) -> None:
    """One sentence, with the nearest parameter, the option or extra_body; never the value, which may be a secret."""
    with pytest.raises(InputError, match=words.replace(".", r"\.")) as caught:
        science(params)

    assert "sk-1234567890abcdef" not in str(caught.value)


def test_a_parameter_of_the_file_is_refused_with_its_line(tmp_path: Path) -> None:
    """The configuration file is held to the same list."""
    file = tmp_path / "run.yaml"
    file.write_text("tasks: [nli]\nmodels: [{model: openai/x}]\nparams:\n  fallbacks: [openai/y]\n", encoding="utf-8")

    with pytest.raises(InputError, match=r"run\.yaml:4: --param fallbacks is not allowed"):
        read_config(file)


def test_a_finished_run_with_other_parameters_is_still_read() -> None:
    """What older versions sent stands in their run.json, and in their answers' keys; it can be scored as before."""
    values = {"tasks": ["nli"], "models": [{"model": "openai/x"}], "params": {"guided_choice": ["A", "B"]}}

    assert build(RunConfig, values, "run.json").params == {"guided_choice": ["A", "B"]}


def test_extra_body_is_refused_where_its_entries_would_not_arrive() -> None:
    """On some routes litellm wraps them up; a run would be recorded with what was never asked."""
    with pytest.raises(InputError, match="route anthropic/ does not put its entries"):
        science({"extra_body": {"a": 1}}, model="anthropic/claude-x")


def test_extra_body_is_part_of_the_key() -> None:
    """Another extra_body is another request; requests without one keep their keys."""

    def key(params: dict[str, Any]) -> str:
        turn = Message(role="user", content="Q")
        return request_key(Request(model="openai/x", style="chat", messages=(turn,), max_tokens=5, params=params))

    keys = {key({}), key({"extra_body": {"a": 1}}), key({"extra_body": {"a": 2}}), key({"a": 1})}

    assert len(keys) == 4
    assert key({"extra_body": {"a": 1.0}}) == key({"extra_body": {"a": 1}})
