"""The first screen of a run in the situations that a newcomer meets, at 80 columns."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from explaineval.reporting.screen import notes_lines, summary
from explaineval.reporting.view import ranked
from explaineval.scoring.codes import GRADES
from explaineval.scoring.registry import METRICS
from explaineval.scoring.rows import Scores
from makers.runs import make_missing, make_sham, make_trial
from makers.scores import score_trials

WIDTH = 80
MODELS = [{"model": f"openai/model-{number}", "endpoint": "lab"} for number in range(12)]


def draw(
    impact: float, tpr: float, fpr: float, noise: float = 0.0, examples: int = 60, seed: int = 1, **changes: Any
) -> Iterator[dict[str, Any]]:
    """Trials with shams: four insertions an example, drawn at these rates."""
    generator = random.Random(seed)
    for example in range(examples):
        for number in range(4):
            changed = generator.random() < impact
            mentioned = generator.random() < (tpr if changed else fpr)
            after = generator.uniform(0, 0.4) if changed else generator.uniform(0.6, 0.9)
            yield make_trial(example, number, changed=changed, mentioned=mentioned, after=after) | changes
        yield make_sham(example, changed=generator.random() < noise) | changes


def screen(scores: Scores, width: int = WIDTH) -> list[str]:
    """The lines of the first screen."""
    return [line.text for line in summary(scores, "runs/mine", width)]


def text(lines: Sequence[str]) -> str:
    """The screen as one text without line breaks."""
    return " ".join(line.strip() for line in lines)


CLEAR = score_trials(list(draw(0.3, 0.8, 0.1)))
NOTHING = score_trials(list(draw(0.3, 0.3, 0.3, seed=4)))
FEW = score_trials(list(draw(0.02, 0.6, 0.2)))
NOISY = score_trials(list(draw(0.2, 0.6, 0.2, noise=0.25)))
UNREADABLE = score_trials([make_missing(example, number, "after") for example in range(20) for number in range(4)])
TWELVE = score_trials(
    [trial for number, model in enumerate(MODELS) for trial in draw(0.3, 0.7, 0.2, seed=number, **model)],
    models=MODELS,
)
SITUATIONS = {
    "clear": CLEAR, "nothing": NOTHING, "few": FEW, "noisy": NOISY, "unreadable": UNREADABLE, "twelve": TWELVE,
}  # fmt: skip


def test_a_clear_effect() -> None:
    """The head, both numbers with intervals, what changed, what was named."""
    lines = screen(CLEAR)

    assert lines[0].startswith("openai/smol · mine · chat, predict then explain · 240 trials of 60 examples")
    assert lines[1].startswith("  phi-CCT   0.")
    assert lines[1].endswith("above 0")
    assert "on the 240 trials with usable probabilities" in text(lines)
    assert "of the answers; asking the same again changed 0 %." in text(lines)
    assert "When the answer changed, the explanation named" in text(lines)


def test_an_effect_that_cannot_be_told() -> None:
    """The interval holds 0, and the line says so, with the grade that notes and report give the same number."""
    assert screen(NOTHING)[1].endswith("cannot be told from 0, do not quote")


def test_too_few_changes() -> None:
    """What is missing comes first, with how many examples would do and where the other notes are."""
    found = text(screen(FEW))

    assert "Do not quote phi-CCT" in found
    assert "with fewer than 20 the numbers are not reliable (about " in found
    assert "more notes: explaineval notes runs/mine" in found


def test_noise_as_large_as_the_impact() -> None:
    """The comparison with the shams is the first thing to mind."""
    assert "that is not clearly more than noise" in text(screen(NOISY))


def test_nothing_readable() -> None:
    """One sentence with the reason and the command that shows the answers."""
    assert text(screen(UNREADABLE)).endswith(
        "Nothing could be measured: none of the 80 trials has a score (80 unparsed). Look at some of them: explaineval "
        "show runs/mine --list"
    )


def test_twelve_models_are_one_table() -> None:
    """What all share stands once above, each model is one line, and the words are explained."""
    lines = screen(TWELVE)

    assert lines[0] == "mine · chat, predict then explain"
    assert sum(line.startswith("openai/model-") for line in lines) == 12
    assert "again: answers that changed when the same was asked again" in text(lines)


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("name", SITUATIONS)
def test_no_line_is_wider_than_the_terminal(name: str, width: int) -> None:
    """A terminal that is too narrow for the table of figures gets blocks of sentences."""
    assert [line for line in screen(SITUATIONS[name], width) if len(line) > width] == []


def test_numbers_of_a_table_that_must_not_be_quoted_are_marked() -> None:
    """Seven models, one of them with few changes: its numbers are marked, and the reason names it."""
    rates = [(0.3, 0.7, 0.2)] * 6 + [(0.02, 0.6, 0.2)]
    models = MODELS[:7]
    scores = score_trials(
        [t for n, (model, of) in enumerate(zip(models, rates, strict=True)) for t in draw(*of, seed=n, **model)],
        models=models,
    )
    lines = screen(scores)

    marked = [line.split()[0] for line in lines if line.startswith("openai/") and "†" in line]
    assert marked == ["openai/model-6"]
    assert "†: do not quote. The first reason, of openai/model-6: only" in text(lines)


def test_all_numbers_on_the_screen_that_must_not_be_quoted_are_named() -> None:
    """Few changes limit TPR, and noise all numbers."""
    scores = score_trials(list(draw(0.02, 0.6, 0.2, noise=0.02)))
    grave = {row.warning.metric for row in scores.warnings if row.warning.grade == GRADES[0]}

    said = text(screen(scores)).partition("Do not quote ")[2].replace("do not quote", "")
    assert "fpr" in grave
    for name in ("phi_cct", "cct", "impact_rate", "tpr", "fpr"):
        assert (METRICS[name].title in said) == (name in grave)


def test_percentages_are_never_rounded_to_certainty() -> None:
    """One of 400 answers is under 1 %, and 399 are over 99 %."""
    trials = [make_trial(example, number) for example in range(100) for number in range(4)]
    trials[0] = make_trial(0, 0, changed=True, mentioned=True)

    assert "changed under 1 % of the answers" in text(screen(score_trials(trials)))


def test_the_gravest_warning_about_a_shown_number_comes_first() -> None:
    """ranked() goes by grade; each text comes once."""
    found = ranked(FEW.warnings)

    assert [GRADES.index(warning.grade) for warning in found] == sorted(GRADES.index(w.grade) for w in found)
    assert len({warning.text for warning in found}) == len(found)


@pytest.mark.parametrize("name", [name for name in SITUATIONS if SITUATIONS[name].warnings])
def test_the_notes_have_every_warning_with_what_to_do(name: str) -> None:
    """Each text and each advice of the run's warnings is printed."""
    scores = SITUATIONS[name]
    found = text([line.text for line in notes_lines(scores, "RUN_DIR", 10_000)])

    for row in scores.warnings:
        assert row.text.removeprefix(f"{METRICS[row.warning.metric].title}: ")[1:] in found
        if row.warning.code != "thin_tasks":  # its tasks say what to do
            assert row.warning.todo.rstrip(".") in found


def two_tasks() -> Scores:
    """A model whose task `one` has few changed answers left unmentioned, `two` phi-CCT that any example would give."""
    trials = [*draw(0.25, 0.9, 0.1, task="one"), *draw(0.25, 0.2, 0.2, task="two", seed=3)]
    return score_trials(trials, tasks=("one", "two"))


def test_a_condition_that_a_reason_holds_for_twice_is_told_with_the_numbers() -> None:
    """The means of phi-CCT and of TPR rest on warnings of different tasks: each sentence names its own numbers."""
    lines = [line.text for line in notes_lines(two_tasks(), "out", 100)]
    found = text(lines)

    means = re.findall(r"([^:]*): The mean over tasks rests on numbers of ([a-z ]+) that have warnings", found)
    assert [tasks for _, tasks in means] == ["one and two", "one"]
    assert means[0][0].endswith(" phi-CCT")
    assert "TPR" in means[1][0]
    assert "phi-CCT" not in means[1][0]


def test_the_screen_gives_each_number_that_must_not_be_quoted_a_reason() -> None:
    """Those whose reason is not the first one have theirs in brackets; a metric is not named twice in a row."""
    found = text(screen(two_tasks()))

    assert "do not quote CCT and TPR either (means that rest on numbers with warnings)" in found
    assert "Do not quote phi-CCT: it lies inside the range of an explainer that knows the example but not" in found
    assert not re.search(r"quote [^()·]*either(?! \()", found)


def test_a_number_on_the_screen_is_limited_though_one_that_is_not_comes_first() -> None:
    """Nothing is named, so phi-CCT is undefined: the reason against TPR is told, as notes do."""
    found = text(screen(score_trials(list(draw(0.3, 0.0, 0.0)))))

    assert "phi-CCT   undefined: no explanation mentions the insertion" in found
    assert "Do not quote TPR: no example has a changed answer whose explanation mentions the insertion" in found


def test_few_examples_with_a_changed_answer_are_told_as_their_number() -> None:
    """The share of examples that grows with the trials: no 60.0 % of five, but a share of ten and more."""
    found = text([line.text for line in notes_lines(FEW, "out", 100)])
    more = text([line.text for line in notes_lines(CLEAR, "out", 100)])

    assert re.search(
        r" [1-9] of [1-9] examples with a changed answer ha(ve|s) one that goes unmentioned, with 4.0 ", found
    )
    assert re.search(r" [0-9.]+ % of the [0-9]+ examples with a changed answer have one that goes unmentioned", more)


def test_no_more_examples_are_advised_where_none_would_settle_it() -> None:
    """More shams than insertions change the answer."""
    found = text([line.text for line in notes_lines(NOISY, "out", 100)])

    assert "no number of examples would settle it at these rates" in found
    assert "else ask more examples" not in found


def test_what_would_settle_it_begins_with_more_examples_only_once() -> None:
    """Where there are too few examples, and phi-CCT lies in the range of knowing the example."""
    scores = score_trials(list(draw(0.1, 0.2, 0.2, seed=2)))
    codes = {row.warning.code for row in scores.warnings if row.warning.grade == GRADES[0]}
    lines = [line.text for line in notes_lines(scores, "out", 200)]
    settling = lines[lines.index("What would settle it") + 1 :]

    assert {"inside_example_only", "few_mentioned_flips"} <= codes
    assert sum(line.strip().startswith("Ask more examples") for line in settling) == 1


def test_few_changes_without_any_by_noise_are_not_said_to_be_as_many() -> None:
    """No sham changed: the heading says that noise is not excluded, not that as many changed."""
    scores = score_trials(list(draw(0.06, 0.6, 0.2, examples=20)))
    found = text([line.text for line in notes_lines(scores, "out", 100)])

    assert "in 0.0 % of the shams" in found
    assert "Changed answers are not clearly more than noise: openai/smol" in found
    assert "about as often" not in found


def test_a_rate_of_few_trials_is_told_as_a_number() -> None:
    """Two examples × 3 trials: 2 of 6 changed; whoever names 1 of 2 is not said to name half of them."""
    trials = [
        make_trial(example, number, changed=number == 0, mentioned=number == 0 and example == 0)
        for example in range(2)
        for number in range(3)
    ]
    found = text(screen(score_trials(trials, shams=0)))

    assert "changed 2 of 6 answers." in found
    assert "named the insertion" not in found
    assert "in 1 of 2; when it did not, in 0 of 4." in found
    assert "%" not in found.partition("Do not quote")[0]


def test_a_rate_of_ten_trials_is_in_per_cent() -> None:
    """From there on."""
    trials = [make_trial(example, 0, changed=example < 3) for example in range(10)]

    assert "changed 30 % of the answers" in text(screen(score_trials(trials, shams=0)))


@pytest.mark.parametrize(("named", "where"), [(True, "changed"), (False, "did not change")])
def test_a_perfect_phi_has_no_talk_of_an_interval(named: bool, where: str) -> None:
    """The line says what that means in these trials."""
    trials = [
        make_trial(example, number, changed=number == 0, mentioned=(number == 0) == named)
        for example in range(30)
        for number in range(3)
    ]
    lines = screen(score_trials(trials, shams=0))

    assert lines[1].split()[2] == "exactly"
    assert f"named where the answer {where}, and nowhere else" in text(lines[:3])
    assert "interval" not in text(lines[:3])
