"""phi over examples and inserted texts: against jackknives written out, and a data set without any texts in common."""

from __future__ import annotations

import math

import numpy as np
import pytest
from metrics_oracles import JACKKNIFE
from scipy import stats

from explaineval.metrics.correlations import ONE_TEXT, phi_cct, phi_over_texts


def tables_by(numbers, cells):
    """Counts a, b, c, d of trials by a number of theirs."""
    return np.stack([np.bincount(cells[numbers == one], minlength=4) for one in np.unique(numbers)])


def draw(examples, trials, words, seed=0):
    """The example, word and place in the table of trials whose words are named at rates of their own."""
    rng = np.random.default_rng(seed)
    example = np.repeat(np.arange(examples), trials)
    word = rng.integers(words, size=len(example))
    changed = rng.random(len(example)) < 0.3
    said = rng.random(len(example)) < rng.uniform(0, 0.5, words)[word] + 0.4 * changed
    return example, word, np.where(changed, np.where(said, 0, 1), np.where(said, 2, 3))


def squared_error(numbers, cells):
    """The jackknife variance of Pearson's correlation, each cluster left out in turn."""
    changed, said = cells < 2, cells % 2 == 0
    left = np.array([np.corrcoef(changed[numbers != n], said[numbers != n])[0, 1] for n in np.unique(numbers)])
    return (len(left) - 1) / len(left) * ((left - left.mean()) ** 2).sum()


def test_the_variance_adds_examples_and_texts_and_subtracts_their_cells():
    """By hand, from Cameron, Gelbach and Miller's formula, on the scale of the inverse hyperbolic tangent."""
    example, word, cells = draw(40, 5, 12)
    both = example * 100 + word
    by_example, by_word = (tables_by(numbers, cells) for numbers in (example, word))

    found = phi_over_texts(by_example, by_word, tables_by(both, cells))

    of_examples, of_words, of_both = (squared_error(numbers, cells) for numbers in (example, word, both))
    error = math.sqrt(max(of_examples, of_examples + of_words - of_both))
    freedom = min((by_example[:, 0] > 0).sum(), (by_word[:, 0] > 0).sum()) - 1
    half = stats.t.ppf(0.975, freedom) * error / (1 - found.value**2)
    expected = [math.tanh(math.atanh(found.value) + sign * half) for sign in (-1, 1)]
    assert found.value == pytest.approx(np.corrcoef(cells < 2, cells % 2 == 0)[0, 1])
    assert [found.low, found.high] == pytest.approx(expected)


def test_it_is_never_narrower_than_over_examples_alone():
    """With texts that play no part the sum may come out below; then that over examples stands."""
    for seed in range(20):
        example, word, cells = draw(30, 4, 300, seed)
        by_example = tables_by(example, cells)
        found = phi_over_texts(by_example, tables_by(word, cells), tables_by(example * 1000 + word, cells))
        plain = phi_cct(by_example, JACKKNIFE)
        assert found.high - found.low >= plain.high - plain.low - 1e-12


def test_with_one_text_it_is_undefined():
    """And counts of different trials are an error."""
    example, _, cells = draw(30, 4, 3)
    by_example = tables_by(example, cells)
    all_in_one = by_example.sum(axis=0, keepdims=True)

    found = phi_over_texts(by_example, all_in_one, by_example)
    assert (found.value, found.undefined) == (None, ONE_TEXT)
    with pytest.raises(ValueError, match="the same trials"):
        phi_over_texts(by_example, all_in_one[:, ::-1], by_example)


def test_few_texts_with_a_mentioned_change_are_named_as_what_is_lacking():
    """Three texts and many examples: the note is about texts."""
    example, word, cells = draw(60, 4, 3)
    found = phi_over_texts(*(tables_by(numbers, cells) for numbers in (example, word, example * 10 + word)))

    assert found.note == ("rough interval: only 3 texts have a changed answer whose explanation mentions the insertion")
