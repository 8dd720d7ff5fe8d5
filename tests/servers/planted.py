"""An OpenAI-compatible endpoint whose answers follow a planted table. It counts requests and plays faults.

Which example and which inserted word a
request is about it reads from the last input block of the prompt, as a model would: shots come before it.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from explaineval.prompts import default_directory
from servers import replies
from servers.loopback import RESET, Asked, LoopbackServer, Reply
from servers.tables import EAGERNESS, LETTERS, Arm, Table

TOKEN, MARKER = re.compile(r"\bzq(\d{3})\b"), re.compile(r"\bmork[a-t]{4}q\b")
LEVELS = {
    name: (default_directory() / "verbosity" / f"{name}.txt").read_text(encoding="utf-8").strip() for name in EAGERNESS
}
REFUSALS = {
    "429": Reply(429, replies.error("slow down", "rate_limit"), {"retry-after": "0.05"}),
    "500": Reply(500, replies.error("broken")),
    "400": Reply(400, replies.error("this prompt is not taken")),
    "reset": RESET,
}

Fault = Literal[
    "429", "500", "400", "reset",  # no answer
    "truncated", "refusal", "content_filter", "empty", "unparsed",  # an answer that cannot be scored
    "contradiction",  # an explanation that begins with another answer than the one it was given
]  # fmt: skip
Place = tuple[str, str | None]
"""(example id, inserted word or None for the untouched input)."""


@dataclass(frozen=True)
class Behaviour:
    """What one model of the endpoint takes and gives."""

    logprobs: Literal["on", "ignored", "rejected"] = "on"
    text_shape: Literal["lists", "content"] = "lists"
    rejects_zero: bool = False


@dataclass(frozen=True)
class Received:
    """One request as it came in, and what became of it."""

    digest: str
    arm: Arm
    place: Place
    authorization: str | None
    body: Mapping[str, Any]
    outcome: list[str] = field(default_factory=list)
    given: str | None = None
    """The answer that is given and to be explained (the second call of order pe2)."""

    @property
    def answered(self) -> bool:
        """Whether a completion was sent."""
        return self.outcome[:1] == ["200"]


@dataclass
class PlantedServer(LoopbackServer):
    """Use as a context manager. `faults` holds for each place what happens to its next attempts, in order; a place
    in `always` meets that fault every time."""

    table: Table
    behaviours: Mapping[str, Behaviour] = field(default_factory=dict)
    latency: float = 0.0
    fast: int = 0
    """How many requests are answered at once, before the latency begins."""
    faults: dict[Place, list[Fault]] = field(default_factory=dict)
    always: dict[Place, Fault] = field(default_factory=dict)
    explained_faults: dict[Place, list[Fault]] = field(default_factory=dict)
    explained_always: dict[Place, Fault] = field(default_factory=dict)
    """The same for second calls, of every level."""
    usages: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    """Usage in place of the ordinary one, by the number of the answer (from 0); -1 for all others."""
    accepted_key: str | None = None
    received: list[Received] = field(default_factory=list)
    port: int = 0
    _visits: Counter[str] = field(default_factory=Counter)
    _answers: int = 0

    def counts(self) -> Counter[str]:
        """How often each exact body was received."""
        return Counter(one.digest for one in self.received)

    def wait_for(self, requests: int, timeout: float = 180.0) -> None:
        """Return once so many requests have come in."""
        end = time.monotonic() + timeout
        while len(self.received) < requests:
            if time.monotonic() > end:
                raise TimeoutError(f"only {len(self.received)} of {requests} requests came in")
            time.sleep(0.002)

    async def respond(self, asked: Asked) -> Reply:
        """Answer one request."""
        if asked.path == "/v1/models":
            models = [{"id": name, "object": "model"} for name in self.behaviours]
            return Reply(200, {"object": "list", "data": models})
        body = asked.body
        style = {"/v1/chat/completions": "chat", "/v1/completions": "completion"}[asked.path]
        order, place = recognise(body, style)
        given = given_answer(body, style)
        level = level_of(body, style) if order != "pe2" or given else None
        one = Received(
            hashlib.sha256(asked.path.encode() + asked.payload).hexdigest(),
            Arm(body["model"], style, order, level),
            place,
            asked.headers.get("authorization"),
            body,
            given=given,
        )
        self.received.append(one)
        if self.latency and len(self.received) > self.fast:
            await asyncio.sleep(self.latency)
        if self.accepted_key is not None and one.authorization != f"Bearer {self.accepted_key}":
            one.outcome.append("401")
            given = str(one.authorization).removeprefix("Bearer ")
            return Reply(401, replies.error(f"Incorrect API key provided: {given}, {one.authorization}."))
        complaint = self._complaint(one)
        if complaint:
            one.outcome.append("400")
            return Reply(400, replies.error(complaint))
        some, always = (self.faults, self.always) if given is None else (self.explained_faults, self.explained_always)
        waiting = some.get(place)
        fault = waiting.pop(0) if waiting else always.get(place)
        if fault in REFUSALS:
            one.outcome.append(fault)
            return REFUSALS[fault]
        found = self._answer(one, fault)
        if self.usages:
            found["usage"] = self.usages.get(self._answers, self.usages.get(-1, found["usage"]))
            self._answers += 1
        one.outcome.extend(("200", fault or "ok"))
        return Reply(200, found)

    def _complaint(self, one: Received) -> str | None:
        """Why this model rejects the body as such."""
        behaviour = self.behaviours.get(one.arm.model, Behaviour())
        if behaviour.logprobs == "rejected" and one.body.get("logprobs") not in (None, False):
            return "logprobs are not supported by this model"
        if behaviour.rejects_zero and one.body.get("temperature") == 0:
            return "temperature 0 is not supported by this model"
        return None

    def _answer(self, one: Received, fault: str | None) -> dict[str, Any]:
        arm, (example, word), table = one.arm, one.place, self.table
        behaviour = self.behaviours.get(arm.model, Behaviour())
        self._visits[one.digest] += 1
        visit = self._visits[one.digest]
        if fault == "refusal":
            return replies.body(arm.style, arm.model, None, "stop", None, refusal="I would rather not say.")
        if fault in ("content_filter", "empty"):
            finish = "content_filter" if fault == "content_filter" else "stop"
            return replies.body(arm.style, arm.model, "" if fault == "empty" else None, finish, None)
        form = arm.order if one.given is None else f"{arm.order} explained"
        label, explanation = table.label(arm, example, word, visit), table.explanation(arm, example, word)
        if one.given is not None and one.given not in (label, table.label(arm, example, word, visit + 1)):
            raise AssertionError(f"{one.given} was never answered for {one.place}")
        text = replies.compose(form, arm.style, label, explanation)
        if fault == "unparsed":
            text = "Who knows?" if one.given is None else "Explanation:"
        if fault == "contradiction":
            text = f"Answer: {next(letter for letter in LETTERS if letter != one.given)}\n{text}"
        top = one.body.get("top_logprobs") if arm.style == "chat" else one.body.get("logprobs")
        logprobs = None
        if behaviour.logprobs == "on" and top:
            tokens = replies.spell_tokens(text, arm.order, table.distribution(arm, example, word, visit), int(top))
            lists = arm.style == "completion" and behaviour.text_shape == "lists"
            logprobs = replies.list_logprobs(tokens) if lists else replies.content_logprobs(tokens)
        return replies.body(arm.style, arm.model, text, "length" if fault == "truncated" else "stop", logprobs)


def recognise(body: Mapping[str, Any], style: str) -> tuple[str, Place]:
    """Order, example and inserted word of a request, from the last input block of its prompt."""
    given = given_answer(body, style)
    if style == "chat":
        text = body["messages"][-1 if given is None else -3]["content"]
        answer, explanation = text.find("\nAnswer: <"), text.find("\nExplanation: <")
        order = "pe2" if explanation < 0 else "pe" if answer < explanation else "ep"
    else:
        text = body["prompt"].rpartition("\n\n")[2]
        order = "pe" if text.endswith("\nAnswer:") else "ep"
        if given is not None or (order == "pe" and "\nExplanation:" not in body["prompt"]):
            order = "pe2"
    tokens, words = TOKEN.findall(text), MARKER.findall(text)
    if len(tokens) != 1 or len(words) > 1 or not text.rstrip().endswith(("Explanation:", "Answer:", ".")):
        raise AssertionError(f"the last input block shows not one example: {text!r}")
    return order, (f"x{tokens[0]}", words[0] if words else None)


def given_answer(body: Mapping[str, Any], style: str) -> str | None:
    """The letter that a second call of order pe2 was given; None in every other call."""
    if style == "chat":
        turns = body["messages"]
        asked = "\nAnswer: <" not in turns[-1]["content"] and len(turns) > 2
        return turns[-2]["content"].removeprefix("Answer: ") if asked else None
    found = re.search(r"\nAnswer: ([A-Z])\nExplanation:$", body["prompt"])
    return found[1] if found else None


def level_of(body: Mapping[str, Any], style: str) -> str | None:
    """The verbosity that is asked for, None for the normal one: in chat by its text, else by how the shots explain."""
    if style == "chat":
        return next((name for name, text in LEVELS.items() if text in body["messages"][-1]["content"]), None)
    found = re.search(rf"The ({'|'.join(EAGERNESS)}) note about", body["prompt"])
    return found[1] if found else None
