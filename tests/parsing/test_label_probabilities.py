"""p(label) comes from the letter's own token, or there is a reason why not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from explaineval.parsing import argmax_disagrees, is_one_hot, label_probabilities, parse, total_variation, tvd_of
from explaineval.records import Answer, Completion, LabelProbabilities, TokenAlternatives

TEXT = "Answer: B\nExplanation: A man."
Top = dict[str, float | None]


def _completion(top: Top, *, text: str = TEXT, written: str = " B", offset: int = 7) -> Completion:
    return Completion(text=text, logprobs=(_token(offset, written, *top.items()),))


def _token(offset: int, written: str, *top: tuple[str, float | None]) -> TokenAlternatives:
    return TokenAlternatives(offset=offset, token=written, top=top)


def _answer(label: str = "B", offset: int = 8) -> Answer:
    return Answer(label=label, explanation="A man.", label_offset=offset)


def _probabilities(result: LabelProbabilities | str) -> LabelProbabilities:
    assert isinstance(result, LabelProbabilities), result
    return result


def test_spellings_of_a_letter_are_added_up() -> None:
    """ " B" and "B" are one label; other tokens and lower case letters are none."""
    top: Top = {
        " B": math.log(0.5),
        "B": math.log(0.1),
        " A": math.log(0.2),
        " b": math.log(0.1),
        " Because": math.log(0.05),
    }

    result = _probabilities(label_probabilities(_completion(top), _answer(), "ABC"))

    assert pytest.approx(0.8) == result.mass
    assert {"A": pytest.approx(0.25), "B": pytest.approx(0.75), "C": 0.0} == result.probs
    assert list(result.probs) == ["A", "B", "C"]


def test_lower_case_answers_are_compared_without_case() -> None:
    """A model that writes "b" spreads its probability over "b" and "B"."""
    top: Top = {" b": math.log(0.5), " B": math.log(0.25), " a": math.log(0.25)}
    completion = _completion(top, text="Answer: b\nExplanation: A man.", written=" b")

    result = _probabilities(label_probabilities(completion, _answer(), "AB"))

    assert {"A": pytest.approx(0.25), "B": pytest.approx(0.75)} == result.probs


@given(logits=st.lists(st.floats(-8, 8), min_size=6, max_size=6))
def test_renormalised_softmax(logits: list[float]) -> None:
    """With two spellings of three letters it is the softmax over all six, summed by letter."""
    tokens = ["A", "B", "C", " A", " B", " C"]
    p = softmax(np.array(logits))
    top: Top = {token: float(math.log(value)) for token, value in zip(tokens, 0.9 * p, strict=True)}

    result = _probabilities(label_probabilities(_completion(top), _answer(), "ABC"))

    assert pytest.approx(0.9) == result.mass
    assert list(result.probs.values()) == pytest.approx(list(p[:3] + p[3:]))


def test_minus_infinity_is_probability_zero() -> None:
    """A null log-probability stands for minus infinity and adds nothing."""
    result = _probabilities(label_probabilities(_completion({" B": 0.0, " A": None}), _answer(), "AB"))

    assert result.probs == {"A": 0.0, "B": 1.0}


def test_a_token_listed_twice_counts_once() -> None:
    """Some servers list the sampled token a second time beside the top alternatives."""
    pair = (" B", math.log(0.6))
    token = _token(7, " B", pair, (" A", math.log(0.2)), pair)
    completion = Completion(text=TEXT, logprobs=(token,))

    assert pytest.approx(0.8) == _probabilities(label_probabilities(completion, _answer(), "AB")).mass


def test_the_answers_token_is_found_by_its_place() -> None:
    """Not the first letter token of the text but the one at the answer's offset is read."""
    text = "Explanation: A man.\nAnswer: B"
    answer = parse(text, {"A": "yes", "B": "no"}, "ep", "chat")
    assert isinstance(answer, Answer)
    article = _token(12, " A", (" A", math.log(0.9)), (" B", math.log(0.05)))
    letter = _token(27, " B", (" A", math.log(0.3)), (" B", math.log(0.6)))
    completion = Completion(text=text, logprobs=(article, letter))

    result = _probabilities(label_probabilities(completion, answer, "AB"))

    assert pytest.approx(2 / 3) == result.probs["B"]


def test_a_token_ends_before_its_neighbour_begins() -> None:
    """Of two letter tokens side by side the one that holds the offset is read."""
    tokens = (_token(0, "I ", ("I ", -0.1)), _token(2, "B", ("B", math.log(0.7))))
    completion = Completion(text="I B\nExplanation: x", logprobs=tokens)

    assert pytest.approx(0.7) == _probabilities(label_probabilities(completion, _answer(offset=2), "AB")).mass


def test_offsets_count_code_points() -> None:
    """Signs beyond the basic plane before the letter count as one."""
    text = "🎉 é Answer: B\nExplanation: x"
    completion = _completion({"B": math.log(0.9)}, text=text, written="B", offset=text.index("B"))

    result = label_probabilities(completion, _answer(offset=text.index("B")), "AB")

    assert pytest.approx(0.9) == _probabilities(result).mass


@pytest.mark.parametrize(
    ("completion", "answer", "reason"),
    [
        (Completion(text=TEXT), _answer(), "returned no log-probabilities"),
        (Completion(text=TEXT, logprobs=()), _answer(), "not a token of its own"),
        (_completion({" B": -0.1}, offset=6), _answer(), "not a token of its own"),
        (_completion({" B": -0.1}, offset=9), _answer(), "not a token of its own"),
        (_completion({" B)": -0.1}, written=" B)"), _answer(), "not a token of its own"),
        (_completion({" A": -0.1}, written=" A"), _answer(), "not a token of its own"),
        (_completion({" B": -0.1}, text="Answer: Banana\nExplanation: x"), _answer(), "not a token of its own"),
        (_completion({" neutral": -0.1}, written=" neutral"), _answer(), "not a token of its own"),
        (_completion({" B": -0.1, " A": math.nan}), _answer(), "no option letter"),
        (_completion({" B": math.inf}), _answer(), "no option letter"),
        (_completion({" B": -math.inf}), _answer(), "no option letter"),
        (_completion({" B": 0.01}), _answer(), "is positive"),
        (_completion({" B": math.log(0.6), " Because": math.log(0.5)}), _answer(), "sum to more than 1"),
        (_completion({" Because": -0.1, " I": -3.0}), _answer(), "no option letter"),
        (_completion({" B": None, " A": None}), _answer(), "no option letter"),
        (_completion({" B": -1000.0}), _answer(), "no option letter"),
        (_completion({}), _answer(), "no option letter"),
    ],
)  # fmt: skip
def test_reasons(completion: Completion, answer: Answer, reason: str) -> None:
    """Each way in which there are no label probabilities has its reason."""
    result = label_probabilities(completion, answer, "ABC")

    assert isinstance(result, str)
    assert reason in result


@pytest.mark.parametrize("logprob", [5e-7, 0.0])
def test_rounding_above_zero_is_forgiven(logprob: float) -> None:
    """A log-probability above 0 by rounding is a probability of 1."""
    assert pytest.approx(1) == _probabilities(label_probabilities(_completion({" B": logprob}), _answer(), "AB")).mass


PROBS = st.dictionaries(st.sampled_from("ABCDE"), st.floats(0.001, 1), min_size=1).map(
    lambda weights: {letter: weight / math.fsum(weights.values()) for letter, weight in weights.items()}
)


@given(p=PROBS, q=PROBS)
def test_total_variation_by_its_other_definition(p: dict[str, float], q: dict[str, float]) -> None:
    """It is the largest difference that any set of labels can have, found by trying all sets."""
    letters = "ABCDE"
    subsets = [[letter for bit, letter in enumerate(letters) if mask >> bit & 1] for mask in range(32)]
    largest = max(sum(p.get(letter, 0) - q.get(letter, 0) for letter in subset) for subset in subsets)

    assert pytest.approx(largest, abs=1e-12) == total_variation(p, q)
    assert total_variation(p, q) == total_variation(q, p)
    assert total_variation(p, p) == 0


def test_total_variation_of_strangers_is_one() -> None:
    """Distributions without a common letter are as far apart as can be."""
    assert total_variation({"A": 1.0}, {"B": 0.5, "C": 0.5}) == 1


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (({"A": 0.75, "B": 0.25}, 0.9, None), ({"A": 0.25, "B": 0.75}, 0.95, None), (0.5, None)),
        (({"A": 1.0}, 0.89, None), ({"A": 1.0}, 0.95, None),
         (None, "before: less than 0.9 of the probability is on option letters")),
        (({"A": 1.0}, 0.9, None), ({"A": 1.0}, 0.1, None),
         (None, "after: less than 0.9 of the probability is on option letters")),
        (({"A": 1.0}, 0.9, None), (None, None, "no log-probabilities"), (None, "after: no log-probabilities")),
        ((None, None, None), (None, None, "no log-probabilities"), (None, "before: no label probabilities")),
    ],
)  # fmt: skip
def test_a_distance_or_the_reason_why_there_is_none(before: Any, after: Any, expected: Any) -> None:
    """A label mass below the least one, or missing probabilities on either side, give a reason that names the side."""
    assert tvd_of(before, after, 0.9) == expected


@pytest.mark.parametrize(
    ("probs", "tol", "one_hot"),
    [
        ({"A": 1.0, "B": 0.0}, 1e-9, True), ({"A": 1 - 1e-10, "B": 1e-10}, 1e-9, True),
        ({"A": 1 - 1e-8, "B": 1e-8}, 1e-9, False), ({"A": 0.99, "B": 0.01}, 0.02, True),
        ({"A": 0.5, "B": 0.5}, 1e-9, False),
    ],
)  # fmt: skip
def test_one_hot(probs: dict[str, float], tol: float, one_hot: bool) -> None:
    """One letter with all the probability but the tolerance."""
    assert is_one_hot(probs, tol) is one_hot


@pytest.mark.parametrize(("label", "disagrees"), [("A", False), ("B", True), ("C", False), ("D", True)])
def test_argmax(label: str, disagrees: bool) -> None:
    """Only a strictly more probable letter disagrees with the label; a tie does not."""
    assert argmax_disagrees({"A": 0.4, "B": 0.2, "C": 0.4}, label) is disagrees
