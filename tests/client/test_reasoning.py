"""The reasoning that comes with an answer: taken from wherever an endpoint or litellm puts it, bounded and masked."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from explaineval.cache.keys import make_row, pack, read_completion, unpack
from explaineval.client.litellm_client import LiteLLMClient
from explaineval.client.responses import encode_text, read_response
from explaineval.config import Endpoint
from explaineval.records import Completion, Message, Request, Style
from servers.personas import PersonaServer
from servers.scripted import ScriptedServer

SAID = "Answer: A\nExplanation: It rains."
KEY = "sk-lab-7b1e-secret-55d0-value"
THINKING = [
    {"type": "thinking", "thinking": "It rains", "signature": "c2ln"},
    {"type": "redacted_thinking", "data": "x"},
    {"type": "thinking", "thinking": "So A.", "signature": "c2ln"},
]


@dataclass
class ThinkingServer(PersonaServer):
    """Answers in the shape of Anthropic with these blocks."""

    blocks: list[dict[str, Any]] = field(default_factory=list)

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, object]:
        """The status and the body of an answer."""
        assert path.endswith("/messages")
        return 200, {
            "id": "msg_1", "type": "message", "role": "assistant", "model": body["model"], "stop_sequence": None,
            "content": [*self.blocks, {"type": "text", "text": SAID}], "stop_reason": "end_turn",
            "usage": {"input_tokens": 9, "output_tokens": 20},
        }  # fmt: skip


def complete(url: str, model: str = "openai/m", style: Style = "chat", key_env: str | None = None) -> Completion:
    """The completion that the ordinary client makes of an answer."""
    messages = (Message(role="user", content="Rain?"),)
    asked: dict[str, Any] = {"messages": messages} if style == "chat" else {"prompt": "Rain?"}
    request = Request(endpoint="lab", model=model, style=style, max_tokens=64, **asked)

    async def ask() -> Completion:
        client = LiteLLMClient({"lab": Endpoint(url, "lab", key_env)}, timeout=10)
        try:
            return await client.complete(request)
        finally:
            await client.close()

    return asyncio.run(ask())


def complete_beside(fields: dict[str, Any], style: Style = "chat", text: str = SAID, **more: Any) -> Completion:
    """The same of an OpenAI-shaped answer with these fields beside its text."""
    with ScriptedServer(script=lambda _: (text, None), beside=lambda _: fields) as server:
        return complete(server.url, style=style, **more)


@pytest.mark.parametrize("style", ["chat", "completion"])
@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_content": "It rains."},
        {"reasoning": "It rains."},
        {"reasoning_content": None, "reasoning": "It rains."},
        {"reasoning_content": " ", "reasoning": "It rains."},
        {"reasoning_content": "It rains.", "reasoning": "It rains."},
        {"reasoning_details": [{"type": "reasoning.text", "text": "It rains."}]},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "It rains."}]},
        {"reasoning_content": [{"type": "text", "text": "It "}, {"type": "text", "text": "rains."}]},
    ],
)
def test_reasoning_beside_the_text_is_kept(fields: dict[str, Any], style: Style) -> None:
    """Under each name that servers use, also where one of two names is empty."""
    found = complete_beside(fields, style)

    assert (found.text, found.reasoning, found.repaired) == (SAID, "It rains.", ())


@pytest.mark.parametrize("style", ["chat", "completion"])
@pytest.mark.parametrize("blocks", [THINKING, THINKING[1:2], []])
def test_thinking_blocks_are_kept(blocks: list[dict[str, Any]], style: Style) -> None:
    """Anthropic's blocks in their order, one paragraph each; a redacted one holds nothing that can be read."""
    with ThinkingServer(blocks=blocks) as server:
        found = complete(server.url.removesuffix("/v1"), "anthropic/claude-sonnet-4-5", style)

    assert (found.text, found.reasoning) == (SAID, "It rains\n\nSo A." if blocks == THINKING else None)


def test_thinking_parts_among_the_text_are_kept() -> None:
    """Mistral's content is a list of thinking and text parts; the text is what is left."""
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "It "}, {"type": "text", "text": "rains."}]}
    found = complete_beside({"content": [thought, {"type": "text", "text": SAID}]})

    assert (found.text, found.reasoning, found.fault) == (SAID, "It rains.", None)


def test_tags_that_litellm_takes_out_of_the_text_are_kept() -> None:
    """A thinking tag in the text of a chat answer becomes a field of litellm's; in a text completion it stays."""
    said = f"<think>It rains.</think>{SAID}"

    assert complete_beside({}, text=said).reasoning == "It rains."
    found = complete_beside({}, "completion", said)
    assert (found.text, found.reasoning) == (said, None)


def test_an_answer_without_reasoning_has_none() -> None:
    """None, and nothing in the row that is stored."""
    found = complete_beside({"reasoning": None})

    assert found.reasoning is None
    assert "reasoning" not in make_row({}, found)["completion"]


@pytest.mark.parametrize("came", [{"content": "It rains."}, 3, [{"type": "image"}], [["It rains."]]])
def test_what_is_no_text_is_left_out(came: object) -> None:
    """The answer is read as ever; the field is named as one that could not be kept."""
    found = complete_beside({"reasoning": came})

    assert (found.text, found.reasoning, found.repaired, found.fault) == (SAID, None, ("reasoning",), None)


def test_half_a_pair_is_replaced() -> None:
    """What UTF-8 cannot spell becomes U+FFFD, as in the text; the row can be stored and read."""
    found = complete_beside({"reasoning_content": "so \ud83d it is"})

    assert (found.reasoning, found.repaired) == ("so \ufffd it is", ("reasoning",))
    assert found == read_completion(unpack(pack(make_row({}, found))))


def test_a_key_in_the_reasoning_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in everything else that an endpoint sends."""
    monkeypatch.setenv("LAB_KEY", KEY)
    found = complete_beside({"reasoning_content": f"They sent me {KEY}, hm."}, key_env="LAB_KEY")

    assert found.reasoning == f"They sent me {'*' * len(KEY)}, hm."
    assert KEY not in found.model_dump_json()


def test_text_and_reasoning_share_one_bound() -> None:
    """Together they take no more bytes than an answer may, so that a row can always be stored."""
    body = {"choices": [{"message": {"content": SAID, "reasoning": "rain " * 100}, "finish_reason": "stop"}]}
    found = read_response(body, "chat", 200)

    assert found.text == SAID
    assert found.reasoning is not None
    assert len(encode_text(SAID)) + len(encode_text(found.reasoning)) <= 200
    assert ("rain " * 100).startswith(found.reasoning)
    assert (found.repaired, found.fault) == (("reasoning",), None)
    assert len(found.reasoning) > 100


def test_no_reasoning_is_kept_of_a_text_that_was_cut() -> None:
    """The text took all the room."""
    body = {"choices": [{"message": {"content": "rain " * 100, "reasoning": "It rains."}, "finish_reason": "stop"}]}
    found = read_response(body, "chat", 200)

    assert (found.fault, found.reasoning) == ("oversized", None)


def test_a_row_of_an_earlier_version_is_the_same_bytes() -> None:
    """Rows without reasoning are read, and written again as they were."""
    kept = {"text": SAID, "finish_reason": "stop", "usage": {"prompt_tokens": 3}, "created": 5}
    row = {"request": {"schema": 1}, "completion": kept}
    found = read_completion(row)

    assert found.reasoning is None
    assert json.dumps(row) == json.dumps(make_row({"schema": 1}, found))
