"""An OpenAI-shaped server that answers every prompt as a function of its text says."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from servers import replies
from servers.personas import PersonaServer

Script = Callable[[str], tuple[str | None, dict[str, float] | None]]
"""From the last turn (or the prompt) to the text of the answer, and p(letter) at its letter (None: no logprobs)."""


@dataclass
class ScriptedServer(PersonaServer):
    """Use as a context manager. `prompts` holds what was asked, in order; `down` answers everything with 401.

    `beside` makes of a prompt what stands in the message (or the choice of a text completion) beside the text.
    """

    script: Script = field(default=lambda _: ("Answer: A", None))
    prompts: list[str] = field(default_factory=list)
    down: bool = False
    all_turns: bool = False
    """Whether the script is given all turns of a chat, with blank lines between, and not the last one alone."""
    beside: Callable[[str], dict[str, Any]] = field(default=lambda _: {})
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, object]:
        """The status and the body of an answer."""
        if not path.endswith("/completions"):
            return 404, replies.error("another protocol is spoken here")
        style = "chat" if path.endswith("/chat/completions") else "completion"
        turns = [turn["content"] for turn in body.get("messages", ())]
        prompt = "\n\n".join(turns if self.all_turns else turns[-1:]) if style == "chat" else body["prompt"]
        with self._lock:
            self.prompts.append(prompt)
        if self.down:
            return 401, replies.error("Incorrect API key provided")
        text, probabilities = self.script(prompt)
        top = body.get("top_logprobs") if style == "chat" else body.get("logprobs")
        logprobs = None
        if text is not None and probabilities is not None and top:
            logprobs = replies.content_logprobs(replies.spell_tokens(text, "pe", probabilities, int(top)))
        found = replies.body(style, body["model"], text, "stop", logprobs)
        choice = found["choices"][0]
        (choice["message"] if style == "chat" else choice).update(self.beside(prompt))
        return 200, found
