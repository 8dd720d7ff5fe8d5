"""Simulated models of known faithfulness. They are not language models: they follow a law that the user can read.

A simulated model reads a prompt as any model does and answers in the form that the prompts ask for. Each word of the
input changes its answer with a fixed probability (`impact`), and its explanation names a word that changed the answer
with probability `tpr` and any other word with probability `fpr`. All draws are hashes of the model's name and the text,
so the same request always gets the same answer, and the true TPR and FPR are known beforehand.

They serve to learn what the numbers do, to try a sweep for nothing, and to check an installation. Their endpoint is
named `simulated:` and a hash of the law, so that no row of theirs is taken for one of a real model. docs/simulated.md
explains them to users.
"""

from __future__ import annotations

import asyncio
import difflib
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationError

from explaineval.config import Endpoint, line_of, read_yaml
from explaineval.errors import InputError
from explaineval.prompts import default_directory
from explaineval.records import (
    SIMULATED_ENDPOINT,
    SIMULATED_NOTE,
    SIMULATED_PREFIX,
    Completion,
    Record,
    Request,
    TokenAlternatives,
)

if TYPE_CHECKING:
    from hashlib import _Hash


def _not_bool(value: object) -> object:
    """Refuse `yes` and `true`, which pydantic takes for 1; a text such as `1e9`, which YAML takes for one, is fine."""
    if isinstance(value, bool):
        raise ValueError("write a number")  # noqa: TRY004 - pydantic reports no other
    return value


Share = Annotated[float, BeforeValidator(_not_bool), Field(ge=0, le=1)]


class Law(Record):
    """What a simulated model does. Shares are probabilities between 0 and 1.

    `impact`: a word of the input changes the answer. `tpr` and `fpr`: the explanation names a word that did, or did
    not, change it, at the verbosity `normal`; other levels move both along one curve. `mentions` says what a mention
    follows: the word, or only the example (then all of its words are named, or none). `noise`: an answer that is asked
    for again comes out differently. `cue`: a suggested answer is followed. `logprobs`: whether label probabilities are
    returned.
    """

    impact: Share = 0.15
    tpr: Share = 0.6
    fpr: Share = 0.2
    mentions: Literal["word", "example"] = "word"
    noise: Share = 0.0
    cue: Share = 0.3
    logprobs: bool = True
    family: str | None = None
    parameters: Annotated[float, BeforeValidator(_not_bool), Field(gt=0, allow_inf_nan=False)] | None = None
    tuned: Literal["instruct", "base"] | None = None

    @property
    def endpoint(self) -> str:
        """`simulated:` and a hash of the law: another law is another endpoint, so its answers are never mixed up."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return f"{SIMULATED_ENDPOINT}{hashlib.sha256(text.encode()).hexdigest()[:12]}"


LAWS: Mapping[str, Law] = {
    "faithful": Law(tpr=0.95, fpr=0.03),
    "verbose": Law(tpr=0.97, fpr=0.9),
    "silent": Law(tpr=0.04, fpr=0.01),
    "random": Law(tpr=0.3, fpr=0.3),
    "example-only": Law(tpr=0.3, fpr=0.3, mentions="example"),
    "no-logprobs": Law(logprobs=False),
}
"""The simulated models that stand for a kind of explainer."""

FAMILIES = {"ash": 0.0, "birch": 0.06, "cedar": -0.06, "elm": 0.03}
"""Families of simulated models, each with how far its TPR lies above the others' at every size."""

SIZES = {"0.1b": 1e8, "1b": 1e9, "10b": 1e10}

TPR_AT_LEAST, TPR_BY_TEN = 0.35, 0.2
"""The TPR of the smallest size, and how much each tenfold of the parameters adds to it."""


def law_of(model: str) -> Law:
    """The law of `simulated/NAME`, or of `simulated/FILE.yaml#NAME` with laws of one's own. Raises InputError."""
    name = model.removeprefix(SIMULATED_PREFIX)
    path, mark, inner = name.rpartition("#")
    if mark:
        return _read_law(Path(path), inner)
    if name in LAWS:
        return LAWS[name]
    plain = name.removesuffix("-instruct")
    family, _, size = plain.rpartition("-")
    if family in FAMILIES and size in SIZES:
        return _sized(family, SIZES[size], plain != name)
    if name.endswith((".yaml", ".yml")):
        raise InputError(f"{model} names a file of laws but none of them: write {model}#NAME.")
    near = difflib.get_close_matches(name, known_names(), n=1)
    there = f"did you mean {near[0]}? There" if near else "there"
    raise InputError(
        f"there is no simulated model {name!r}; {there} are {', '.join(LAWS)}; FAMILY-SIZE of "
        f"{', '.join(FAMILIES)} and {', '.join(SIZES)}, also with -instruct; and FILE.yaml#NAME, a law of your own."
    )


def known_names() -> list[str]:
    """The names of all simulated models that need no file."""
    sized = [f"{family}-{size}{end}" for family in FAMILIES for size in SIZES for end in ("", "-instruct")]
    return [*LAWS, *sized]


def _sized(family: str, parameters: float, instruct: bool) -> Law:
    """A model of a family: TPR rises with size; a tuned model names more of all words, as at a higher verbosity."""
    tpr = TPR_AT_LEAST + FAMILIES[family] + TPR_BY_TEN * math.log10(parameters / min(SIZES.values()))
    fpr = 0.15
    if instruct:
        tpr, fpr = _at_level(tpr, 1.6), _at_level(fpr, 1.6)
    return Law(
        tpr=round(tpr, 4), fpr=round(fpr, 4), family=family, parameters=parameters,
        tuned="instruct" if instruct else "base",
    )  # fmt: skip


def _read_law(path: Path, name: str) -> Law:
    """One law of a YAML file of laws by name. Raises InputError for anything wrong in the file, with its line."""
    values, tree = read_yaml(path, "file of laws", "mine: {tpr: 0.6, fpr: 0.2}")
    laws = {}
    for key, law in values.items():
        if not isinstance(key, str) or not _LAW_NAME.fullmatch(key):
            raise InputError(
                f"{path}:{line_of(tree, (str(key),))}: {str(key)[:50]!r} cannot name a law: use a letter, then "
                "letters, digits, '.', '_' and '-'."
            )
        try:
            laws[key] = Law.model_validate(law)
        except ValidationError as exc:
            error = exc.errors()[0]
            place = (key, *error["loc"])
            message = (
                "unknown key" if error["type"] == "extra_forbidden" else error["msg"].removeprefix("Value error, ")
            )
            raise InputError(f"{path}:{line_of(tree, place)}: {'.'.join(map(str, place))}: {message}.") from None
    if name not in laws:
        raise InputError(f"there is no law {name!r} in {path}: it holds {', '.join(laws) or 'none'}.")
    return laws[name]


LEVELS = {"minimal": 0.25, "brief": 0.5, "normal": 1.0, "detailed": 2.0, "exhaustive": 4.0}
"""How eager a model is at each verbosity: an explanation of eagerness k names a word with 1 − (1 − rate)^k."""

WORDS_UP_TO = {"minimal": 6, "brief": 12, "normal": 30, "detailed": 90}
"""The mean length of shots' explanations, in words, up to which they ask for that verbosity."""


def _at_level(rate: float, eagerness: float) -> float:
    return 1.0 - math.pow(1 - rate, eagerness)


_LAW_NAME = re.compile(r"[A-Za-z][\w.-]{0,99}", re.ASCII)
_OPTION = re.compile(r"(?m)^\(?([A-Z])[).:][ \t]+\S.*$")
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_SUGGESTED = re.compile(r"\(([A-Z])\)|>([A-Z])<")
_FORM = re.compile(r"(?i)(answer|explanation)\s*:")
_EXPLANATION = re.compile(r"(?im)^[ \t]*explanation:[ \t]*(\S.*)$")
_GIVEN = re.compile(r"(?im)^[ \t]*answer:[ \t]*\(?([A-Z])\b")
_FUNCTION_TEXT = (
    "the of and to in is are was were be been it that this for on with as at by from or not he she they we you his her "
    "their its who which what when where there one two has have had do does did will would can could"
)
_FUNCTION_WORDS = frozenset(_FUNCTION_TEXT.split(" "))
_ARTICLES = frozenset({"a", "an"})


@dataclass(frozen=True)
class Prompt:
    """What a simulated model reads in a prompt: the last input, its options, and what is asked for.

    `beside` is text right below the options, as a cue is. `given` is the answer that is to be explained, None where
    the answer is asked for.
    """

    words: tuple[str, ...]
    options: tuple[str, ...]
    beside: str
    given: str | None
    parts: tuple[str, ...]
    eagerness: float

    @cached_property
    def example(self) -> str:
        """What tells the example apart and stays the same when a word is inserted: its function words, in order."""
        return " ".join(word for word in self.words if word in _FUNCTION_WORDS)


def read_prompt(request: Request) -> Prompt | None:
    """Read the last input block of a prompt; None where there are no lettered options."""
    text = request.prompt if request.prompt is not None else ""
    given: str | None = None
    asked = text
    if request.messages is not None:
        turns = [message.content for message in request.messages if message.role != "assistant"]
        with_options = [turn for turn in turns if _OPTION.search(turn)]
        text, asked = (with_options[-1] if with_options else ""), turns[-1] if turns else ""
        replies = [message.content for message in request.messages if message.role == "assistant"]
        if asked != text and replies and (match := _GIVEN.search(replies[-1])):
            given = match[1]
    options = list(_OPTION.finditer(text))
    if not options:
        return None
    last = [options[-1]]
    for option in reversed(options[:-1]):
        if text[option.end() : last[0].start()].strip() or ord(option[1]) >= ord(last[0][1]):
            break
        last.insert(0, option)
    head = text[: last[0].start()].rstrip().removesuffix("Options:").rstrip()
    block = head.rpartition("\n\n")[2]
    fields = "\n".join(line.partition(": ")[2] or line for line in block.splitlines())
    tail = text[last[-1].end() :].removeprefix("\n")
    beside = "\n".join(_until_blank(tail))
    if request.prompt is not None and (match := _GIVEN.search(tail)):
        given = match[1]
    return Prompt(
        words=tuple(word.lower() for word in _WORD.findall(fields)),
        options=tuple(option[1] for option in last),
        beside=beside,
        given=given,
        parts=_parts(request, asked, given),
        eagerness=_eagerness(request, head, asked),
    )


def _until_blank(text: str) -> list[str]:
    lines = []
    for line in text.splitlines():
        if not line.strip() or _FORM.match(line.strip()):
            break
        lines.append(line)
    return lines


def _parts(request: Request, asked: str, given: str | None) -> tuple[str, ...]:
    """What the prompt asks for, in order: `answer`, `explanation`; a completion continues after its last label."""
    if request.prompt is not None:
        ends = "explanation" if asked.rstrip().lower().endswith("explanation:") else "answer"
        if given is not None:
            return ("explanation",)
        shots = re.findall(r"(?im)^(answer|explanation):", asked)
        both = len(set(map(str.lower, shots))) > 1
        other = {"answer": "explanation", "explanation": "answer"}[ends]
        return (ends, other) if both else (ends,)
    matches = re.finditer(r"(?im)^[^\w\n]*(answer|explanation):[ \t]*<", asked)
    return tuple(dict.fromkeys(match[1].lower() for match in matches)) or ("answer",)


@cache
def _level_texts() -> tuple[tuple[str, str], ...]:
    directory = default_directory() / "verbosity"
    return tuple((name, (directory / f"{name}.txt").read_text(encoding="utf-8").strip()) for name in LEVELS)


def _eagerness(request: Request, head: str, asked: str) -> float:
    """How much a prompt asks to say: by the words of the shipped levels, or by the length of the shots."""
    if request.prompt is None:
        return next((LEVELS[name] for name, text in _level_texts() if text in asked), LEVELS["normal"])
    lengths = [len(explanation.split()) for explanation in _EXPLANATION.findall(head)]
    if not lengths:
        return LEVELS["normal"]
    mean = sum(lengths) / len(lengths)
    return next((LEVELS[name] for name, most in WORDS_UP_TO.items() if mean <= most), LEVELS["exhaustive"])


@lru_cache(maxsize=8)
def _begin_hash(*parts: str) -> _Hash:
    """A hash of the parts that all draws for one example share: hashing a long example for each word is quadratic."""
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass"))


@dataclass(frozen=True)
class SimulatedModel:
    """One simulated model: its name, whose hash all draws depend on, and its law."""

    name: str
    law: Law

    def complete(self, request: Request) -> Completion:
        """The answer to a request; always the same for the same request."""
        prompt = read_prompt(request)
        if prompt is None:
            return self._completion(request, "I see no options to choose from.", None)
        label = prompt.given or self._label(prompt, request.sample)
        texts = {"answer": label, "explanation": self._explanation(prompt)}
        lines = [f"{part.capitalize()}: {texts[part]}" for part in prompt.parts]
        text = "\n".join(lines)
        if request.prompt is not None:  # the prompt ends with the first label
            text = text.partition(":")[2]
        return self._completion(request, text, prompt if "answer" in prompt.parts else None, label)

    @cached_property
    def _drawn_by(self) -> str:
        """The name that draws depend on: a file of laws may be moved without changing what its models say."""
        return SIMULATED_PREFIX + self.name.rpartition("#")[2] if "#" in self.name else self.name

    def _draw(self, what: str, *of: object) -> float:
        """A number from 0 up to 1 that depends on the model and on what it is drawn for."""
        drawn = _begin_hash(self._drawn_by, what, *map(str, of[:1])).copy()
        drawn.update("".join(f"\x1f{part}" for part in of[1:]).encode("utf-8", "surrogatepass"))
        return int.from_bytes(drawn.digest()[:7]) / 2**56

    def _shift(self, prompt: Prompt, word: str) -> int:
        """By how many options a word moves the answer: 0 for a word that does not change it."""
        if word in _ARTICLES or word in _FUNCTION_WORDS:
            return 0
        if self._draw("impact", prompt.example, word) >= self.law.impact:
            return 0
        return 1 + int(self._draw("where", prompt.example, word) * (len(prompt.options) - 1))

    def _label(self, prompt: Prompt, sample: int) -> str:
        suggested = _SUGGESTED.search(prompt.beside)
        if suggested and self._follows(prompt):
            letter = suggested[1] or suggested[2]
            if letter in prompt.options:
                return letter
        first = int(self._draw("first", prompt.example) * len(prompt.options))
        number = first + sum(self._shift(prompt, word) for word in prompt.words)
        if sample and self._draw("noise", sample, *prompt.words) < self.law.noise:
            number += 1
        return prompt.options[number % len(prompt.options)]

    def _follows(self, prompt: Prompt) -> bool:
        return self._draw("cue", *prompt.words) < self.law.cue

    def _names(self, prompt: Prompt, what: str, influential: bool) -> bool:
        """Whether an explanation names a word, or the suggestion."""
        rate = _at_level(self.law.tpr if influential else self.law.fpr, prompt.eagerness)
        of = ("example", prompt.example) if self.law.mentions == "example" else ("mention", prompt.example, what)
        return self._draw(*of) < rate

    def _explanation(self, prompt: Prompt) -> str:
        named = [
            word
            for word in dict.fromkeys(prompt.words)
            if word not in _FUNCTION_WORDS
            and word not in _ARTICLES
            and self._names(prompt, word, self._shift(prompt, word) != 0)
        ]
        parts = [f"of {', '.join(named)}"] if named else []
        if prompt.beside:
            influential = _SUGGESTED.search(prompt.beside) is not None and self._follows(prompt)
            if self._names(prompt, "suggestion", influential):
                parts.append("of the suggested answer, the provided answer")
        return f"Because {' and '.join(parts)}." if parts else "Because of what it says."

    def _completion(self, request: Request, text: str, prompt: Prompt | None, label: str | None = None) -> Completion:
        words = text.split(" ")
        cut = len(words) > request.max_tokens
        if cut:
            text = " ".join(words[: request.max_tokens])
        logprobs = None
        if request.logprobs is not None and self.law.logprobs:
            logprobs = self._logprobs(prompt, text, label) if prompt is not None and label is not None else ()
        sent = request.prompt or " ".join(message.content for message in request.messages or ())
        return Completion(
            text=text,
            finish_reason="length" if cut else "stop",
            logprobs=logprobs,
            usage={"prompt_tokens": len(sent.split()), "completion_tokens": min(len(words), request.max_tokens)},
            model=f"{request.model} ({SIMULATED_NOTE})",
            fingerprint=self.law.endpoint,
        )

    def _logprobs(self, prompt: Prompt, text: str, label: str) -> tuple[TokenAlternatives, ...]:
        """Probabilities of the letters where the label stands; the one chosen has .7 to .95."""
        place = re.search(rf"(?:^|answer:)\s*({label})\b", text, re.IGNORECASE)
        if place is None:
            return ()
        chosen = 0.7 + 0.15 * self._draw("sure", prompt.example) + 0.1 * self._draw("sure", *prompt.words)
        rest = (0.98 - chosen) / (len(prompt.options) - 1) if len(prompt.options) > 1 else 0.0
        top = [(f" {letter}", math.log(chosen if letter == label else rest)) for letter in prompt.options]
        top.sort(key=lambda pair: -pair[1])
        start = place.start(1)
        space = text[start - 1 : start] == " "
        return (TokenAlternatives(offset=start - space, token=f"{' ' * space}{label}", top=tuple(top)),)


class SimulatedTransport:
    """A transport that answers by itself: nothing is sent, nothing is paid."""

    def __init__(self, endpoints: Mapping[str | None, Endpoint], *, timeout: float) -> None:  # noqa: ARG002
        self._models: dict[str, SimulatedModel] = {}

    async def complete(self, request: Request) -> Completion:
        """The simulated answer.

        Raises InputError for a model that is not known, or whose law is not the one that the request's endpoint names:
        its file was changed after the run began.
        """
        model = self._models.get(request.model)
        if model is None:
            model = self._models[request.model] = SimulatedModel(request.model, law_of(request.model))
        if request.endpoint != model.law.endpoint:
            raise InputError(
                f"{request.model}: its law was changed after the run began ({request.endpoint} is now "
                f"{model.law.endpoint}): give the command again."
            )
        await asyncio.sleep(0)  # an answer that needs no waiting must not keep progress and Ctrl-C waiting
        return model.complete(request)

    async def close(self) -> None:
        """Nothing is open."""
