"""The direct transport against litellm: the same bodies on the wire, the same answers read from what comes back."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from explaineval.client.direct import DirectClient
from explaineval.client.endpoints.routes import ROUTES, check_route
from explaineval.client.litellm_client import LiteLLMClient
from explaineval.client.stack import check_transport
from explaineval.config import ClientConfig, Endpoint, EndpointConfig, ModelConfig
from explaineval.config.params import SAMPLING
from explaineval.errors import EndpointError, ExplainevalError, InputError, RequestRejectedError
from explaineval.records import Completion, Message, Request, Style
from servers import hostile, replies, shapes
from servers.commands import run
from servers.guards import REPORT_TO, write_switch
from servers.loopback import Asked, LoopbackServer, Reply

pytestmark = pytest.mark.filterwarnings("ignore")  # litellm imports lazily, and what it imports warns

Body = dict[str, Any]
Kind = type[LiteLLMClient] | type[DirectClient]
BOTH: tuple[Kind, Kind] = (LiteLLMClient, DirectClient)
KEY = "sk-direct-0123456789abcdef"


@dataclass
class EchoServer(LoopbackServer):
    """Answers every request with `make(body)`, a status and bytes, and keeps what came. Use as a context manager."""

    make: Callable[[Body], tuple[int, bytes]]
    came: list[tuple[str, dict[str, str], Body]] = field(default_factory=list)

    def reply(self, asked: Asked) -> Reply:
        """Keep what came, and answer."""
        self.came.append((asked.target, dict(asked.headers), asked.body))
        return Reply(*self.make(asked.body))


def honest(body: Body) -> Body:
    """An ordinary answer to a request."""
    style: Style = "chat" if "messages" in body else "completion"
    text = replies.compose("pe", style, "B", "It may rain.")
    shape: shapes.Shape = "chat" if style == "chat" else "text"
    return shapes.answer(shape, body["model"], text, "stop", shapes.spell(text, 5))


def request(model: str, style: Style, number: int = 0, **changes: Any) -> Request:
    """A request in the style, with all that a run may ask for."""
    question = f"É, number {number}?"
    turns = (Message(role="system", content="Be brief."), Message(role="user", content=question))
    what: dict[str, Any] = {"messages": turns}
    if style == "completion":
        what = {"prompt": f"{question}\nAnswer:", "stop": ("\n\n",)}
    whole = {"max_tokens": 64, "temperature": 0.0, "logprobs": 5, **what, **changes}
    return Request(endpoint="lab", model=model, style=style, **whole)


Outcome = Completion | ExplainevalError


async def ask_all(kind: Kind, endpoint: Endpoint, requests: Sequence[Request]) -> list[Outcome]:
    """What becomes of each request by one transport, one after the other."""
    client = kind({"lab": endpoint}, timeout=120)
    found: list[Outcome] = []
    try:
        for one in requests:
            try:
                found.append(await client.complete(one))
            except ExplainevalError as exc:
                found.append(exc)
    finally:
        await client.close()
    return found


def ask_both(server: EchoServer, requests: Sequence[Request], key_env: str | None = None) -> list[list[Outcome]]:
    """The same requests by both transports."""
    endpoint = Endpoint(f"{server.root}/v1", "lab", key_env)
    return [asyncio.run(ask_all(kind, endpoint, requests)) for kind in BOTH]


SERVED = [(f"{route}/x/m", style) for route, served in ROUTES.items() for style in served]


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("model", "style"), SERVED)
def test_the_same_request_goes_out(model: str, style: Style, monkeypatch: pytest.MonkeyPatch) -> None:
    """Path, body and key, with and without logprobs, a temperature, stops, and with every parameter.

    A parameter that litellm refuses on this route, or changes, the direct transport refuses unsent.
    """
    monkeypatch.setenv("LAB_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-provider-0123456789")
    values = {"number": 0.5, "integer": 3, "text": "low", "flag": True, "object": {"type": "enabled"}}
    changes: list[dict[str, Any]] = [{}, {"logprobs": None, "temperature": None, "stop": ()}]
    changes += [{"params": {name: values[kind]}} for name, kind in SAMPLING.items()]
    changes += [{"params": {"extra_body": {"guided_choice": ["A"], "thinking": {"type": "enabled"}}, "seed": 1}}]
    asked = [request(model, style, number=number, **change) for number, change in enumerate(changes)]
    with EchoServer(lambda body: (200, json.dumps(honest(body)).encode())) as server:
        theirs, ours = ask_both(server, asked, "LAB_KEY")

    for number, one in enumerate(asked):
        came = [
            (path, headers["authorization"], headers["content-type"], body)
            for path, headers, body in server.came
            if f"number {number}?" in json.dumps(body)
        ]
        if isinstance(ours[number], RequestRejectedError):
            assert not ours[number].sent
            (name, value), *_ = one.params.items()
            assert all(body.get(name) != value for *_, body in came)
        else:
            assert theirs[number] == ours[number]
            assert len(came) == 2
            assert came[0] == came[1]
            assert came[0][1] == f"Bearer {KEY}"


def test_nothing_of_a_provider_goes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a variable for the key a dummy is sent, and no header of the provider's own client."""
    names = ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "HOSTED_VLLM_API_KEY", "LITELLM_PROXY_API_KEY")
    for number, name in enumerate(names):  # with its name in it, a message of a later test would be masked
        monkeypatch.setenv(name, f"sk-private-{number}-0123456789")
    monkeypatch.delenv("EXPLAINEVAL_API_KEY", raising=False)
    with EchoServer(lambda body: (200, json.dumps(honest(body)).encode())) as server:
        for model, style in SERVED:
            asyncio.run(ask_all(DirectClient, Endpoint(f"{server.root}/v1", "lab"), [request(model, style)]))

        assert {headers["authorization"] for _, headers, _ in server.came} == {"Bearer none"}
        assert "private" not in str(server.came)


@pytest.mark.parametrize("path", ["", "/v1", "/a%2Fb/v1", "/team=a;x/~me/v1", "/v1/!$&'()*+,:@"])
def test_the_same_path_is_asked(path: str) -> None:
    """What stands in a base URL is sent as it stands there."""
    with EchoServer(lambda body: (200, json.dumps(honest(body)).encode())) as server:
        for kind in BOTH:
            asyncio.run(ask_all(kind, Endpoint(server.root + path, "lab"), [request("openai/m", "chat")]))

        assert [came[0] for came in server.came] == [f"{path}/chat/completions"] * 2


def in_message(**entries: object) -> hostile.Spoil:
    """Entries of the message, or of a text completion's choice, are others."""

    def spoil(body: Body) -> Body:
        choice = body["choices"][0]
        choice.get("message", choice).update(entries)
        return body

    return spoil


def in_choice(**entries: object) -> hostile.Spoil:
    """Entries of the choice are others."""
    return lambda body: {**body, "choices": [{**body["choices"][0], **entries}]}


def in_usage(**entries: object) -> hostile.Spoil:
    """Entries of the counts are others."""
    return lambda body: {**body, "usage": {**body["usage"], **entries}}


def on_top(**entries: object) -> hostile.Spoil:
    """Entries of the body are others."""
    return lambda body: {**body, **entries}


def say(text: object) -> hostile.Spoil:
    """The text is another one."""
    return lambda body: in_message(**{"content" if "message" in body["choices"][0] else "text": text})(body)


LEFT_OUT = {
    "text-beyond-the-bound", "text-of-escapes-beyond-the-bound", "text-of-17-mib", "usage-of-a-long-text",  # slow
    "created-is-text", "created-is-an-object", "created-is-fractional",  # in their place litellm takes the clock
}  # fmt: skip
CALL = {"name": "f", "arguments": "{}"}
THOUGHT = "<think>hm</think>\nAnswer: B\nExplanation: It may rain."
HONEST: dict[str, hostile.Spoil] = {
    "plain": lambda body: body,
    "no usage": lambda body: {name: value for name, value in body.items() if name != "usage"},
    "no model": lambda body: {name: value for name, value in body.items() if name != "model"},
    "usage null": on_top(usage=None),
    "a total alone": on_top(usage={"total_tokens": 7}),
    "cached tokens": in_usage(prompt_tokens_details={"cached_tokens": 3, "audio_tokens": None}),
    "details null": in_usage(prompt_tokens_details=None, completion_tokens_details=None),
    "reasoning tokens": in_usage(completion_tokens_details={"reasoning_tokens": 5}),
    "reasoning tokens on top": in_usage(reasoning_tokens=4),
    "tokens as DeepSeek counts them": in_usage(prompt_cache_hit_tokens=5, prompt_cache_miss_tokens=6),
    "tokens as Anthropic counts them": in_usage(cache_read_input_tokens=5, cache_creation_input_tokens=3),
    "cost": in_usage(cost=0.001, cost_details={"upstream": None, "x": 1}),
    "finish null": in_choice(finish_reason=None),
    "finish null, text null": lambda body: in_choice(finish_reason=None)(say(None)(body)),
    "finish details": in_choice(finish_reason=None, finish_details="length"),
    "the provider's own reason": in_choice(native_finish_reason="MAX_TOKENS"),
    "a filter's own reason": in_choice(native_finish_reason="SAFETY"),
    "tool calls": in_message(tool_calls=[{"id": "1", "type": "function", "function": CALL}]),
    "thinking tags": say(THOUGHT),
    "thinking tags not at the head": say(f"Hm. {THOUGHT}"),
    "thinking tags that stay open": say("<think>hm"),
    "thinking tags beside reasoning": lambda body: in_message(reasoning_content=None)(say(THOUGHT)(body)),
    "reasoning content": in_message(reasoning_content="It is cloudy."),
    "reasoning": in_message(reasoning="It is cloudy."),
    "both": in_message(reasoning="It is cloudy.", reasoning_content="It is wet."),
    "reasoning details": in_message(reasoning_details=[{"type": "reasoning.summary", "summary": "Clouds."}]),
    "reasoning encrypted": in_message(reasoning_details=[{"type": "reasoning.encrypted", "data": "x"}]),
    "thinking blocks": in_message(thinking_blocks=[{"type": "thinking", "thinking": "Clouds.", "signature": "x"}]),
    "redacted thinking": in_message(thinking_blocks=[{"type": "redacted_thinking", "data": "x"}]),
    "parts": say([{"type": "text", "text": "Answer: "}, {"type": "text", "text": "B"}]),
    "thinking parts": say([{"type": "thinking", "thinking": "x"}, {"type": "text", "text": "Answer: B"}]),
    "refusal": lambda body: in_message(refusal="No.")(say(None)(body)),
    "refusal beside text": in_message(refusal="No."),
    "empty text": say(""),
    "no role": in_message(role=None),
    "two choices": lambda body: {**body, "choices": body["choices"] * 2},
    "empty error": on_top(error={}),
    "error without words": on_top(error={"message": "", "code": None}),
    "error in words": on_top(error="bad"),
    "error of form": on_top(error={"message": "too long", "code": 400}),
    "error of the key": on_top(error={"message": "no such key", "code": 401}),
    "error without a code": on_top(error={"message": "it broke"}),
    "error of the server": on_top(error={"message": "it broke", "code": 502}),
    "Anthropic's shape": lambda _: {"id": "x", "content": [{"type": "text", "text": "Answer: B"}]},
    "fingerprint": on_top(system_fingerprint="fp_1", service_tier="default", provider="x", timings={"a": 1}),
}
VARIED: dict[str, hostile.Spoil] = {
    **{
        f"finish {word!r}": in_choice(finish_reason=word)
        for word in (
            "eos", "abort", "ERROR", "error", "MAX_TOKENS", "max_tokens", "SAFETY", "OTHER", "end_turn", "tool_calls",
            "content_filter", "refusal", "refused", "sensitive", "weird", "", "Length", "NETWORK_ERROR", "IMAGE_OTHER",
        )
    },
    **{name: spoil for name, spoil in hostile.STORED.items() if name not in LEFT_OUT},
    **hostile.SHOWN,
}  # fmt: skip
CASES = HONEST | VARIED


def facts(outcome: Outcome) -> Any:
    """What layers above see of an outcome: the completion, or the error's kind and what it says of a retry.

    When an answer was made is left out: where the endpoint does not say it, litellm takes the clock.
    """
    if isinstance(outcome, Completion):  # as text, since NaN differs from itself
        return json.dumps(outcome.model_dump(exclude={"created"}), sort_keys=True)
    return type(outcome), vars(outcome)


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("model", "style", "names"),
    [
        ("openai/m", "chat", list(CASES)),
        ("openai/m", "completion", list(CASES)),
        ("hosted_vllm/m", "chat", [*HONEST, *list(VARIED)[::3]]),
    ],
    ids=["openai-chat", "openai-completion", "hosted_vllm-chat"],
)
def test_the_same_is_read(model: str, style: Style, names: list[str]) -> None:
    """Every answer, honest or hostile, by both transports.

    The last route reads bodies of the first one's shape: it gets every honest answer and a third of the others.
    """
    coming = iter(names * 2)
    with EchoServer(lambda body: (200, hostile.spell(CASES[next(coming)](honest(body))))) as server:
        theirs, ours = ask_both(server, [request(model, style) for _ in names])

    differing = [
        f"{name}: {facts(one)!a} != {facts(other)!a}"  # a test process cannot report surrogates
        for name, one, other in zip(names, theirs, ours, strict=True)
        if facts(one) != facts(other)
    ]
    assert differing == []


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("status", [400, 404, 405])
def test_a_server_of_the_responses_api_says_which_route_to_take(kind: Kind, status: int) -> None:
    """One sentence, by both transports; nothing is asked again."""
    words = "This model is only supported in v1/responses and not in v1/chat/completions."
    error = json.dumps(shapes.error("chat", status, words)).encode()
    with EchoServer(lambda _: (status, error)) as server:
        (found,) = asyncio.run(ask_all(kind, Endpoint(f"{server.root}/v1", "lab"), [request("openai/m", "chat")]))

    assert isinstance(found, EndpointError)
    assert "ask it as openai/responses/NAME by --transport litellm" in str(found)
    assert len(server.came) == 1


def test_the_limit_is_renamed_once() -> None:
    """Where the endpoint wants max_completion_tokens the request is sent again at once, and so from then on."""

    def reply(body: Body) -> tuple[int, bytes]:
        if "max_tokens" not in body:
            return 200, json.dumps(honest(body)).encode()
        words = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
        return 400, json.dumps(shapes.error("chat", 400, words)).encode()

    with EchoServer(reply) as server:
        asyncio.run(ask_all(DirectClient, Endpoint(f"{server.root}/v1", "lab"), [request("openai/m", "chat")] * 2))

    assert [sorted(body.keys() & {"max_tokens", "max_completion_tokens"}) for *_, body in server.came] == [
        ["max_tokens"], ["max_completion_tokens"], ["max_completion_tokens"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("model", "url", "words"),
    [
        ("anthropic/claude", None, "is asked through litellm: leave --transport direct out."),
        ("mistral/m", "http://127.0.0.1:9/v1", "or name the model openai/m if"),
        ("openai/gpt-4o", None, "needs the server's address: give it by --base-url"),
        ("openai/gpt-5-mini", "http://127.0.0.1:9/v1", "take requests in another form"),
        ("openai/o3", "http://127.0.0.1:9/v1", "take requests in another form"),
        ("openai/responses/m", "http://127.0.0.1:9/v1", "take requests in another form"),
        ("azure/m", "http://127.0.0.1:9/v1", "is asked through litellm"),
    ],
)
def test_a_model_that_needs_litellm_is_refused(model: str, url: str | None, words: str) -> None:
    """In one sentence that says what to do."""
    name = None if url is None else "lab"
    endpoints = {"lab": EndpointConfig(base_url=url)}
    entry = ModelConfig(model=model, endpoint=name)
    with pytest.raises(InputError) as caught:
        check_transport(ClientConfig(transport="direct", endpoints=endpoints), [entry])

    assert words in str(caught.value)
    check_transport(ClientConfig(transport="litellm", endpoints=endpoints), [entry])


@pytest.mark.parametrize("model", ["openai/gpt-oss-20b", "openai/gpt-4o", "openai/qwen3-8b", "hosted_vllm/o/gpt-5"])
def test_models_of_ones_own_are_served(model: str) -> None:
    """Whatever their names look like."""
    check_route(model, Endpoint("http://127.0.0.1:9/v1"))


def test_a_style_that_the_route_lacks_is_rejected_unsent() -> None:
    """litellm would make one text of the turns."""
    (found,) = asyncio.run(
        ask_all(DirectClient, Endpoint("http://127.0.0.1:9/v1", "lab"), [request("text-completion-openai/m", "chat")])
    )

    assert isinstance(found, RequestRejectedError)
    assert not found.sent
    assert "openai/m" in str(found)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[Path, list[str]]]:
    """A directory with a server's options of a run."""
    with EchoServer(lambda body: (200, json.dumps(honest(body)).encode())) as server:
        yield tmp_path, ["run", "--task", "sense", "--limit", "2", "--model", "openai/m", "--base-url",
                         f"{server.root}/v1", "--transport", "direct", "--cache", "cache"]  # fmt: skip


@pytest.mark.slow
def test_a_run_never_imports_litellm_and_a_rerun_no_transport(place: tuple[Path, list[str]]) -> None:
    """Not for prices either; both give the same numbers, and run.json names the transport."""
    directory, options = place
    switch = write_switch(directory / "switch")
    modules, numbers = [], []
    for name in ("first", "again"):
        report = directory / f"{name}.json"
        env = {"PYTHONPATH": f"{switch}:{':'.join(filter(None, sys.path))}", REPORT_TO: str(report)}
        done = run(*options, "--out", name, cwd=directory, env=env)
        assert done.code == 0, done.stderr
        modules.append(set(json.loads(report.read_text(encoding="utf-8"))["modules"]))
        numbers.append((directory / name / "metrics.json").read_bytes())

    assert "aiohttp" in modules[0]
    assert not {"litellm", "openai", "pandas"} & modules[0]
    assert not {"litellm", "openai", "aiohttp", "httpx", "explaineval.client.direct"} & modules[1]
    assert numbers[0] == numbers[1]
    assert json.loads((directory / "first" / "run.json").read_text(encoding="utf-8"))["client"]["transport"] == "direct"


@pytest.mark.slow
def test_answers_of_one_transport_serve_the_other(place: tuple[Path, list[str]]) -> None:
    """The key of an answer does not know how it was fetched."""
    directory, options = place
    assert run(*options, "--out", "first", cwd=directory).code == 0

    again = [word for word in options if word not in ("--transport", "direct")]
    done = run(*again, "--out", "again", "--offline", "--json", cwd=directory)
    assert done.code == 0, done.stderr
    assert done.document["requests"]["sent"] == 0


@pytest.mark.slow
def test_a_refused_model_ends_the_command_with_code_2(tmp_path: Path) -> None:
    """Before anything is sent or written."""
    for command in ("run", "plan", "probe"):
        task = [] if command == "probe" else ["--task", "sense"]
        done = run(command, *task, "--model", "anthropic/claude", "--transport", "direct", cwd=tmp_path)

        assert done.code == 2
        assert "is asked through litellm: leave --transport direct out." in " ".join(done.stderr.split())
        assert "Traceback" not in done.stderr
