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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from explaineval.config import Endpoint
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
    returned. `drift`: how far the TPR falls to the FPR at the levels farthest from `normal`. `reasoning_tpr` and
    `reasoning_fpr`: the same as `tpr` and `fpr` for a reasoning that comes beside the answer; without them there is
    none. `wording`: whether replies have one form, or many that people and models use.
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
    drift: Share = 0.0
    reasoning_tpr: Share | None = None
    reasoning_fpr: Share | None = None
    wording: Literal["plain", "varied"] = "plain"

    @model_validator(mode="after")
    def _has_both_rates_of_reasoning(self) -> Law:
        if (self.reasoning_tpr is None) != (self.reasoning_fpr is None):
            raise ValueError("give both reasoning_tpr and reasoning_fpr, or neither")
        return self

    def rate(self, influential: bool, eagerness: float) -> float:
        """The probability that an explanation names a word that changed the answer, or one that did not.

        `eagerness` is how much the prompt asks to say: 1 at the verbosity `normal`.
        """
        lost = self.drift * min(1.0, abs(math.log2(eagerness)) / 2)
        rate = (
            self.tpr + lost * (self.fpr - self.tpr) if influential and lost else self.tpr if influential else self.fpr
        )
        return _at_level(rate, eagerness)

    @property
    def endpoint(self) -> str:
        """`simulated:` and a hash of the law: another law is another endpoint, so its answers are never mixed up."""
        values = self.model_dump(mode="json")
        added = {"drift": 0.0, "reasoning_tpr": None, "reasoning_fpr": None, "wording": "plain"}  # later than 0.2.0
        values = {name: value for name, value in values.items() if name not in added or value != added[name]}
        text = json.dumps(values, sort_keys=True)
        return f"{SIMULATED_ENDPOINT}{hashlib.sha256(text.encode()).hexdigest()[:12]}"


LAWS: Mapping[str, Law] = {
    "faithful": Law(tpr=0.95, fpr=0.03),
    "verbose": Law(tpr=0.97, fpr=0.9),
    "silent": Law(tpr=0.04, fpr=0.01),
    "random": Law(tpr=0.3, fpr=0.3),
    "example-only": Law(tpr=0.3, fpr=0.3, mentions="example"),
    "no-logprobs": Law(logprobs=False),
    "honest-reasoning": Law(tpr=0.29, fpr=0.05, reasoning_tpr=0.87, reasoning_fpr=0.15),
    "drifting": Law(tpr=0.8, fpr=0.1, drift=0.9),
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
    from explaineval.config.yaml_files import line_of, read_yaml  # yaml is slow to import, and files of laws are rare

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
_SUGGESTED = re.compile(r"\(([A-Z])\)|>([A-Z])<|\"([A-Z])\"")
_CUES = (("grading_code", "the grading code"), ("before", "my previous answer"), ("permission", "the leaked answer"))
"""Words of cues by which an explanation knows how to call them; all others are called a suggested answer."""
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
class PromptReading:
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


def read_prompt(request: Request) -> PromptReading | None:
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
    return PromptReading(
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


SUGGESTION = "the suggestion"
"""Stands among named words for a cue; no word of a text is two words."""

ASIDE = "Notwithstanding the particularities, that settles it."
"""What varied explanations say beside: its words hold other words, which a rule for mentions must not find."""

Form = Callable[[tuple[str, ...], Mapping[str, str]], str]
"""Writes a reply from what is asked for, in order, and the texts of answer and explanation."""


def _lines(written: Callable[[str, str], str], before: str = "", between: str = "\n") -> Form:
    return lambda parts, texts: before + between.join(written(part, texts[part]) for part in parts)


PLAIN = _lines(lambda part, text: f"{part.capitalize()}: {text}")

FORMS: tuple[Form, ...] = (
    PLAIN,
    _lines(lambda part, text: f"**{part.capitalize()}:** {text}"),
    _lines(lambda part, text: f"{part.capitalize()}: {f'({text})' if part == 'answer' else text}"),
    _lines(lambda part, text: f"{part.capitalize()}: {text}", before="A close look at the text helps.\n\n"),
    _lines(lambda part, text: f"{part.upper()}: {f'{text}.' if part == 'answer' else text}", between="\n\n"),
    _lines(lambda part, text: f"{part}: {text.lower() if part == 'answer' else text}"),
)
"""Forms in which replies come, all of which can be read without a guess."""


@dataclass(frozen=True)
class Planted:
    """What a simulated model means to say: the truth that reading its reply should recover.

    `named` are the words that its explanation names (SUGGESTION for a cue), `reasoned` those that its reasoning names,
    None where it has none. `parts` is what the prompt asks for, in order: `answer`, `explanation`.
    """

    label: str
    named: tuple[str, ...]
    explanation: str
    reasoned: tuple[str, ...] | None
    parts: tuple[str, ...]


@dataclass(frozen=True)
class SimulatedModel:
    """One simulated model: its name, whose hash all draws depend on, and its law."""

    name: str
    law: Law

    def answer(self, request: Request) -> Planted | None:
        """What the law says of a request, whatever form the reply has; None where the prompt has no options."""
        prompt = read_prompt(request)
        return None if prompt is None else self._planned(prompt, request.sample)

    def _planned(self, prompt: PromptReading, sample: int) -> Planted:
        named = self._named(prompt, self.law.rate)
        reasoned = None
        if self.law.reasoning_tpr is not None and self.law.reasoning_fpr is not None:
            rates = {True: self.law.reasoning_tpr, False: self.law.reasoning_fpr}
            reasoned = self._named(prompt, lambda influential, _: rates[influential], "reasoning ")
        return Planted(
            label=prompt.given or self._label(prompt, sample),
            named=named,
            explanation=self._in_words(named, prompt.beside),
            reasoned=reasoned,
            parts=prompt.parts,
        )

    def complete(self, request: Request) -> Completion:
        """The answer to a request; always the same for the same request."""
        prompt = read_prompt(request)
        if prompt is None:
            return self._completion(request, "I see no options to choose from.", None)
        planted = self._planned(prompt, request.sample)
        texts = {"answer": planted.label, "explanation": planted.explanation}
        form = PLAIN
        if self.law.wording == "varied" and request.prompt is None:
            form = FORMS[int(self._draw("form", *prompt.words) * len(FORMS))]
        text = form(tuple(prompt.parts), texts)
        if request.prompt is not None:  # the prompt ends with the first label
            text = text.partition(":")[2]
        completion = self._completion(request, text, prompt if "answer" in prompt.parts else None, planted.label)
        if planted.reasoned is None:
            return completion
        return completion.model_copy(
            update={"reasoning": f"I look at each word. {self._in_words(planted.reasoned, prompt.beside)}"}
        )

    @cached_property
    def _drawn_by(self) -> str:
        """The name that draws depend on: a file of laws may be moved without changing what its models say."""
        return SIMULATED_PREFIX + self.name.rpartition("#")[2] if "#" in self.name else self.name

    def _draw(self, what: str, *of: object) -> float:
        """A number from 0 up to 1 that depends on the model and on what it is drawn for."""
        drawn = _begin_hash(self._drawn_by, what, *map(str, of[:1])).copy()
        drawn.update("".join(f"\x1f{part}" for part in of[1:]).encode("utf-8", "surrogatepass"))
        return int.from_bytes(drawn.digest()[:7]) / 2**56

    def _shift(self, prompt: PromptReading, word: str) -> int:
        """By how many options a word moves the answer: 0 for a word that does not change it."""
        if word in _ARTICLES or word in _FUNCTION_WORDS:
            return 0
        if self._draw("impact", prompt.example, word) >= self.law.impact:
            return 0
        return 1 + int(self._draw("where", prompt.example, word) * (len(prompt.options) - 1))

    def _label(self, prompt: PromptReading, sample: int) -> str:
        suggested = _SUGGESTED.search(prompt.beside)
        if suggested and self._follows(prompt):
            letter = suggested[1] or suggested[2] or suggested[3]
            if letter in prompt.options:
                return letter
        first = int(self._draw("first", prompt.example) * len(prompt.options))
        number = first + sum(self._shift(prompt, word) for word in prompt.words)
        if sample and self._draw("noise", sample, *prompt.words) < self.law.noise:
            number += 1
        return prompt.options[number % len(prompt.options)]

    def _follows(self, prompt: PromptReading) -> bool:
        return self._draw("cue", *prompt.words) < self.law.cue

    def _names(self, prompt: PromptReading, what: str, rate: float, where: str) -> bool:
        """Whether a text (`where`: "" the explanation, else another) names a word, or the suggestion."""
        if self.law.mentions == "example":
            return self._draw(f"{where}example", prompt.example) < rate
        return self._draw(f"{where}mention", prompt.example, what) < rate

    def _named(self, prompt: PromptReading, rate: Callable[[bool, float], float], where: str = "") -> tuple[str, ...]:
        """The words that a text names, and SUGGESTION where it names that; `rate` gives the probability of each."""
        named = [
            word
            for word in dict.fromkeys(prompt.words)
            if word not in _FUNCTION_WORDS
            and word not in _ARTICLES
            and self._names(prompt, word, rate(self._shift(prompt, word) != 0, prompt.eagerness), where)
        ]
        if prompt.beside:
            influential = _SUGGESTED.search(prompt.beside) is not None and self._follows(prompt)
            if self._names(prompt, "suggestion", rate(influential, prompt.eagerness), where):
                named.append(SUGGESTION)
        return tuple(named)

    def _in_words(self, named: tuple[str, ...], beside: str) -> str:
        """An explanation that names these words; `beside` is the cue, if there is one."""
        words = [word for word in named if word != SUGGESTION]
        parts = [f"of {', '.join(words)}"] if words else []
        if SUGGESTION in named:
            called = [name for mark, name in _CUES if mark in beside]
            parts.append(f"of {called[0] if called else 'the suggested answer, the provided answer'}")
        text = f"Because {' and '.join(parts)}." if parts else "Because of what it says."
        return f"{text} {ASIDE}" if self.law.wording == "varied" else text

    def _completion(
        self, request: Request, text: str, prompt: PromptReading | None, label: str | None = None
    ) -> Completion:
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

    def _logprobs(self, prompt: PromptReading, text: str, label: str) -> tuple[TokenAlternatives, ...]:
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
