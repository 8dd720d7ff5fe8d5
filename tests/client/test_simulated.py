"""Simulated models: what they are planted to do is what the package measures of them."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections import Counter
from pathlib import Path

import pytest

from explaineval.client.simulated import (
    FAMILIES,
    LAWS,
    LEVELS,
    Law,
    SimulatedModel,
    SimulatedTransport,
    known_names,
    law_of,
    read_prompt,
)
from explaineval.datasets.tasks import load_tasks, parse_spec
from explaineval.errors import InputError
from explaineval.interventions.words import load_words
from explaineval.mentions import mentions, mentions_phrase
from explaineval.parsing import label_probabilities, parse, parse_explanation, parse_label
from explaineval.prompts import PromptBook, default_directory
from explaineval.records import Answer, Completion, Example, Message, Request

BOOK = PromptBook(default_directory())
WORDS = load_words()


class Asker:
    """Asks one simulated model about the examples of a bundled task, as a run does."""

    def __init__(self, law: Law, task: str, style: str, order: str, level: str = "normal") -> None:
        self.model = SimulatedModel("simulated/planted", law)
        self.task = load_tasks([parse_spec(task)], shots=8 if style == "completion" else 0)[0]
        self.style, self.order, self.level = style, order, level
        self.shots = (self.task.shots_at(level) or self.task.shots)[-8:] if style == "completion" else ()
        self.last: Completion | None = None

    def _complete(self, rendered: object, sample: int = 0) -> Completion:
        chat = not isinstance(rendered, str)
        return self.model.complete(
            Request(
                model="simulated/planted", style=self.style, messages=rendered if chat else None,
                prompt=None if chat else rendered, max_tokens=512, logprobs=20, sample=sample,
            )
        )  # fmt: skip

    def ask(self, example: Example, fields: dict[str, str], cue: str | None = None, sample: int = 0) -> tuple[str, str]:
        """The label and the explanation of one input."""
        common = {"style": self.style, "shape": self.task.shape, "shots": self.shots, "verbosity": self.level}
        rendered = BOOK.render(example, fields, order=self.order, cue=cue, **common)
        self.last = self._complete(rendered, sample)
        if self.order != "pe2":
            answer = parse(self.last.text, example.options, self.order, self.style, fields=tuple(example.fields))
            assert isinstance(answer, Answer), self.last.text
            return answer.label, answer.explanation
        label = parse_label(self.last.text, example.options, self.style, fields=tuple(example.fields)).label
        second = self._complete(BOOK.render_explanation(example, fields, label, cue=cue, **common))
        explanation = parse_explanation(second.text, label, example.options, self.style, fields=tuple(example.fields))
        assert isinstance(explanation, str), second.text
        return label, explanation

    def table(self, insertions: int = 6) -> Counter[tuple[bool, bool]]:
        """Changed and mentioned, over random words put into random places."""
        draw, cells = random.Random(1), Counter[tuple[bool, bool]]()
        for example in self.task.examples:
            before, _ = self.ask(example, example.fields)
            for _ in range(insertions):
                name = draw.choice(list(example.fields))
                word, tokens = draw.choice(WORDS.adjectives + WORDS.adverbs), example.fields[name].split(" ")
                tokens.insert(draw.randrange(len(tokens)), word)
                after, explanation = self.ask(example, {**example.fields, name: " ".join(tokens)})
                cells[after != before, mentions("word", word, explanation)] += 1
        return cells


def rates(cells: Counter[tuple[bool, bool]]) -> tuple[float, float, float]:
    """Impact rate, TPR, FPR."""
    a, b, c, d = (cells[cell] for cell in itertools.product((True, False), (True, False)))
    return (a + b) / (a + b + c + d), a / (a + b), c / (c + d)


@pytest.mark.sampled(6)
@pytest.mark.parametrize(("style", "order"), list(itertools.product(("chat", "completion"), ("pe", "pe2", "ep"))))
@pytest.mark.parametrize("task", ["nli", "qa", "sense"])
def test_planted_rates_are_measured_in_every_order_and_style(task, style, order):
    """Impact .15, TPR .6 and FPR .2 come out within three standard errors, and every answer can be read."""
    cells = Asker(Law(), task, style, order).table()
    p, tpr, fpr = rates(cells)
    n = cells.total()

    assert abs(p - 0.15) < 3.5 * math.sqrt(0.15 * 0.85 / n)
    assert abs(tpr - 0.6) < 3.5 * math.sqrt(0.6 * 0.4 / (n * p))
    assert abs(fpr - 0.2) < 3.5 * math.sqrt(0.2 * 0.8 / (n * (1 - p)))


@pytest.mark.parametrize(
    ("name", "tpr", "fpr"),
    [("faithful", 0.95, 0.03), ("verbose", 0.97, 0.9), ("silent", 0.04, 0.01), ("random", 0.3, 0.3)],
)
def test_each_kind_of_explainer_says_what_it_is_named_for(name, tpr, fpr):
    """The shipped models have the rates that their laws state."""
    _, measured_tpr, measured_fpr = rates(Asker(LAWS[name], "sense", "chat", "pe").table())

    assert (measured_tpr, measured_fpr) == pytest.approx((tpr, fpr), abs=0.1)


def test_an_example_only_explainer_treats_all_words_of_an_example_alike():
    """It names all words of an example or none, whether they changed the answer or not."""
    asker = Asker(LAWS["example-only"], "sense", "chat", "pe")
    for example in asker.task.examples:
        _, explanation = asker.ask(example, example.fields)
        words = {word for text in example.fields.values() for word in text.lower().rstrip(".").split(" ")}
        named = {word for word in words if mentions("word", word, explanation)} - {
            "because",
            "it",
            "what",
            "of",
            "says",
        }
        assert not named or len(named) > len(words) / 3


@pytest.mark.sampled(1)
@pytest.mark.parametrize("style", ["chat", "completion"])
def test_verbosity_moves_along_one_curve(style):
    """TPR and FPR rise from level to level, by 1 − (1 − rate)^k."""
    measured = [rates(Asker(Law(), "sense", style, "pe", level).table(8)) for level in LEVELS]

    for (_, tpr, fpr), eagerness in zip(measured, LEVELS.values(), strict=True):
        assert tpr == pytest.approx(1 - 0.4**eagerness, abs=0.12)
        assert fpr == pytest.approx(1 - 0.8**eagerness, abs=0.06)


def test_no_word_that_may_be_inserted_stands_in_an_explanation_by_itself():
    """Otherwise a model would mention what it does not mean to."""
    inserted = {*WORDS.adjectives, *WORDS.adverbs}
    texts = ("Because of what it says.", "Because of  and of the suggested answer, the provided answer.")

    assert not {word.strip(".,").lower() for text in texts for word in text.split()} & inserted


def test_the_same_request_gets_the_same_answer_and_noise_comes_with_the_sample():
    """Without noise all samples agree; with it some do not."""
    calm, noisy = Asker(Law(), "sense", "chat", "pe"), Asker(Law(noise=0.5), "sense", "chat", "pe")
    examples = calm.task.examples

    assert all(calm.ask(one, one.fields) == calm.ask(one, one.fields, sample=1) for one in examples)
    changed = sum(noisy.ask(one, one.fields)[0] != noisy.ask(one, one.fields, sample=1)[0] for one in examples)
    assert 0.25 * len(examples) < changed < 0.75 * len(examples)


def test_label_probabilities_can_be_read_and_follow_the_answer():
    """The letter that is answered is the likeliest, and nearly all mass is on letters."""
    asker = Asker(Law(), "nli", "chat", "pe")
    for example in asker.task.examples:
        label, _ = asker.ask(example, example.fields)
        answer = parse(asker.last.text, example.options, "pe", "chat", fields=tuple(example.fields))
        found = label_probabilities(asker.last, answer, tuple(example.options))
        assert max(found.probs, key=found.probs.get) == label
        assert found.mass == pytest.approx(0.98)
    silent = SimulatedModel("simulated/planted", Law(logprobs=False))
    request = Request(
        model="m", style="completion", prompt="Note: x\nOptions:\nA) y\nB) n\nAnswer:", max_tokens=9, logprobs=5
    )
    assert silent.complete(request).logprobs is None


def test_a_suggested_answer_is_followed_and_owned_up_to_as_planted():
    """A model that always follows answers the letter of the cue; TPR 1 names the suggestion in the cue's phrases."""
    asker = Asker(Law(cue=1.0, tpr=1.0), "nli", "chat", "pe")
    for name in BOOK.cue_names():
        text = (default_directory() / "cues" / f"{name}.txt").read_text(encoding="utf-8").replace("{{ letter }}", "B")
        for example in asker.task.examples[:20]:
            label, explanation = asker.ask(example, example.fields, cue=text.strip())
            assert label == "B"
            assert mentions_phrase(BOOK.phrases(name), explanation)


def test_a_long_explanation_is_cut_at_the_limit_of_tokens():
    """As a real endpoint would do it."""
    prompt = "Note: " + " ".join(WORDS.adjectives[:60]) + "\nOptions:\nA) yes\nB) no\nExplanation:"
    request = Request(model="m", style="completion", prompt=prompt, max_tokens=10)
    completion = SimulatedModel("m", Law(tpr=1, fpr=1)).complete(request)

    assert (completion.finish_reason, len(completion.text.split(" "))) == ("length", 10)


def test_a_prompt_without_options_gets_no_answer():
    """A simulated model never guesses."""
    request = Request(model="m", style="completion", prompt="Once upon a time", max_tokens=10)

    assert read_prompt(request) is None
    assert "Answer" not in SimulatedModel("m", Law()).complete(request).text


def test_sizes_follow_the_planted_law():
    """TPR rises by .2 with each tenfold; tuned models say more of everything."""
    small, large = law_of("simulated/birch-0.1b"), law_of("simulated/birch-10b")
    tuned = law_of("simulated/birch-0.1b-instruct")

    assert large.tpr - small.tpr == pytest.approx(0.4)
    assert (small.parameters, small.family, small.tuned, tuned.tuned) == (1e8, "birch", "base", "instruct")
    assert tuned.tpr > small.tpr
    assert tuned.fpr > small.fpr
    assert len({law_of(f"simulated/{name}").endpoint for name in known_names()}) == len(known_names())


def test_laws_of_ones_own_come_from_a_file(tmp_path: Path):
    """By FILE.yaml#NAME; another law under the same name is another endpoint."""
    file = tmp_path / "laws.yaml"
    file.write_text("mine: {tpr: 0.7, fpr: 0.1}\nother: {impact: 1, parameters: 1e9}\n")
    model = f"simulated/{file}#mine"
    before = law_of(model).endpoint

    assert law_of(model) == Law(tpr=0.7, fpr=0.1)
    assert law_of(f"simulated/{file}#other") == Law(impact=1.0, parameters=1e9)
    file.write_text("mine: {tpr: 0.8, fpr: 0.1}\n")
    assert law_of(model).endpoint != before


@pytest.mark.parametrize(
    ("text", "name", "sentence"),
    [
        ("mine: {tpr: 2}", "mine", "laws.yaml:1: mine.tpr: Input should be less than or equal to 1"),
        ("mine: {tpt: 0.5}", "mine", "laws.yaml:1: mine.tpt: unknown key"),
        ("- a", "mine", "expected a mapping, found a list; write lines like `mine: {tpr: 0.6, fpr: 0.2}`"),
        ("a: [", "mine", "bad YAML"),
        ("a: {tpr: 0.1}", "mine", "there is no law 'mine' in"),
    ],
)
def test_a_bad_file_of_laws_is_one_sentence(tmp_path: Path, text, name, sentence):
    """File, name and field are named."""
    file = tmp_path / "laws.yaml"
    file.write_text(text)

    with pytest.raises(InputError, match=r"laws\.yaml") as caught:
        law_of(f"simulated/{file}#{name}")
    assert sentence in str(caught.value)


def test_an_unknown_name_lists_the_known_ones():
    """The sentence says what there is."""
    with pytest.raises(InputError, match=r"there is no simulated model 'best'; .* faithful, verbose"):
        law_of("simulated/best")
    with pytest.raises(InputError, match=r"'faithfull'; did you mean faithful\? There are faithful, verbose"):
        law_of("simulated/faithfull")


def test_a_request_is_refused_once_the_law_behind_its_endpoint_has_changed(tmp_path: Path):
    """A law that is edited while a run waits gives no answer under the old law's name."""
    file = tmp_path / "laws.yaml"
    file.write_text("mine: {tpr: 0.7}\n")
    model = f"simulated/{file}#mine"
    prompt = "Note: x\nOptions:\nA) y\nB) n\nAnswer:"
    request = Request(endpoint=law_of(model).endpoint, model=model, style="completion", prompt=prompt, max_tokens=9)
    file.write_text("mine: {tpr: 0.8}\n")

    with pytest.raises(InputError, match="its law was changed after the run began"):
        asyncio.run(SimulatedTransport({}, timeout=1).complete(request))


LONG = 1_000_000
"""Characters; work that grows with their square would take days."""


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "text",
    [
        "\n" * LONG,
        " " * LONG,
        "Explanation:\n" * (LONG // 13),
        "*" * LONG,
        "A) x\n" * (LONG // 5),
        "".join(f"the w{letters} " for letters in map("".join, itertools.product("abcdefghij", repeat=5))),
        "Answer: \n\t" * (LONG // 10),
    ],
    ids=["blank lines", "spaces", "labels", "stars", "options", "words", "answers"],
)
@pytest.mark.parametrize("style", ["chat", "completion"])
def test_a_prompt_of_a_million_characters_is_read_in_one_pass(text, style):
    """Whatever it is made of, before, in and after the input block."""
    prompt = f"{text}\n\nNote: {text}\nOptions:\nA) y\nB) n\n{text}\nAnswer:"
    chat = (Message(role="user", content=prompt),)
    request = Request(
        model="m", style=style, messages=chat if style == "chat" else None,
        prompt=None if style == "chat" else prompt, max_tokens=10, logprobs=5,
    )  # fmt: skip

    assert SimulatedModel("m", Law()).complete(request).text


def test_the_page_on_simulated_models_states_their_rates_and_the_fields_of_a_law():
    """docs/simulated.md lists every shipped model and every field, with the true values."""
    page = (Path(__file__).parents[2] / "docs" / "simulated.md").read_text(encoding="utf-8")
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]
    kinds = {row[0].removeprefix("simulated/"): tuple(map(float, row[1:4])) for row in rows if row[0][:4] == "simu"}
    sizes = next(row[1:] for row in rows if row[0] == "TPR")
    sized = {
        f"{row[0]}-{size}": float(tpr)
        for row in rows
        if row[0] in FAMILIES
        for size, tpr in zip(sizes, row[1:], strict=True)
    }
    defaults = {name: field.default for name, field in Law.model_fields.items()}
    written = {row[0]: row[1] for row in rows if row[0] in defaults}

    assert kinds == {name: (law.impact, law.tpr, law.fpr) for name, law in LAWS.items()}
    assert sized == {name: law_of(f"simulated/{name}").tpr for name in known_names() if name not in LAWS}
    assert written == {
        name: "none" if value is None else str(value).replace("True", "true") for name, value in defaults.items()
    }
    assert all(f"`{level}` {eagerness:g}" in page for level, eagerness in LEVELS.items())
