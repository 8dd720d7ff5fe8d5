"""Trials that another program collected: the numbers against other packages, and what is said about bad rows."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest
from scipy.stats import pearsonr
from sklearn.metrics import matthews_corrcoef, recall_score

from explaineval.errors import InputError
from explaineval.metrics.auroc import f_auroc
from explaineval.metrics.estimates import Interval
from explaineval.reporting.screen import notes_lines, summary
from explaineval.scoring.external import COLUMNS, check_columns, score_rows
from explaineval.scoring.rows import Scores

Row = dict[str, Any]


def scored(rows: Iterable[Mapping[str, Any]], **settings: Any) -> Scores:
    """The scores of rows that are named by their number."""
    return score_rows(((f"row {number}", row) for number, row in enumerate(rows, start=1)), **settings)


def number(scores: Scores, metric: str, **where: Any) -> Any:
    """The only row of a metric with these values."""
    (row,) = [
        row
        for row in scores.rows
        if row.metric == metric and all(getattr(row, name) == value for name, value in where.items())
    ]
    return row


def draw(examples: int = 60, each: int = 4, tpr: float = 0.7, fpr: float = 0.2, seed: int = 1) -> list[Row]:
    """Trials with `changed` and `mentioned`; how often an answer changes differs from example to example."""
    generator = random.Random(seed)
    rows = []
    for example in range(examples):
        impact = generator.choice([0.1, 0.6])
        for _ in range(each):
            changed = generator.random() < impact
            mentioned = generator.random() < (tpr if changed else fpr)
            rows.append({"example_id": f"e{example}", "changed": changed, "mentioned": mentioned})
    return rows


def test_the_numbers_are_those_of_other_packages() -> None:
    """phi is the Matthews correlation and Pearson's of the two columns; TPR and FPR are recalls."""
    rows = draw()
    changed, mentioned = [row["changed"] for row in rows], [row["mentioned"] for row in rows]

    scores = scored(rows)

    phi = number(scores, "phi_cct").value
    assert phi == pytest.approx(matthews_corrcoef(changed, mentioned))
    assert phi == pytest.approx(pearsonr(changed, mentioned).statistic)
    assert number(scores, "tpr").value == pytest.approx(recall_score(changed, mentioned))
    assert number(scores, "fpr").value == pytest.approx(1 - recall_score(changed, mentioned, pos_label=False))
    assert number(scores, "impact_rate").value == pytest.approx(sum(changed) / len(changed))


def test_a_tvd_gives_cct() -> None:
    """CCT is Pearson's correlation of the shift and the mention, over the trials that have a shift."""
    generator = random.Random(3)
    rows = [row | {"tvd": round(generator.random(), 3)} for row in draw()]
    rows[5]["tvd"] = None
    with_tvd = [row for row in rows if row["tvd"] is not None]

    scores = scored(rows)

    expected = pearsonr([row["tvd"] for row in with_tvd], [row["mentioned"] for row in with_tvd]).statistic
    assert number(scores, "cct").value == pytest.approx(expected)
    assert number(scores, "cct").n == len(with_tvd)
    assert number(scores, "mean_tvd").value == pytest.approx(sum(row["tvd"] for row in with_tvd) / len(with_tvd))


def test_shifts_of_0_and_1_alone_are_no_distribution() -> None:
    """A one-hot distribution says no more than whether the answer changed."""
    row = number(scored([row | {"tvd": float(row["changed"])} for row in draw()]), "cct")

    assert row.value is None
    assert "one-hot" in row.undefined


def test_trials_of_one_example_are_one_cluster() -> None:
    """Each trial written down four times adds nothing where the copies share an example; else the interval shrinks."""
    rows = draw(examples=80, each=1)
    copies = [row for row in rows for _ in range(4)]
    once, clustered = number(scored(rows), "phi_cct"), number(scored(copies), "phi_cct")
    alone = number(scored([{**row, "example_id": index} for index, row in enumerate(copies)]), "phi_cct")

    assert (clustered.n_examples, alone.n_examples) == (80, 320)
    assert (clustered.low, clustered.high) == pytest.approx((once.low, once.high))
    assert alone.high - alone.low < 0.6 * (once.high - once.low)


def test_without_an_example_id_each_row_is_an_example() -> None:
    """And the same numbers come out as with a different id in each row."""
    rows = [{"changed": row["changed"], "mentioned": row["mentioned"]} for row in draw()]

    bare, named = scored(rows), scored([{**row, "example_id": f"{index + 1}"} for index, row in enumerate(rows)])

    assert [row.model_dump(exclude={"signature"}) for row in bare.rows] == [
        row.model_dump(exclude={"signature"}) for row in named.rows
    ]


TEXTS: Sequence[Row] = (
    {"label_before": "A", "label_after": "B", "inserted": "quietly", "explanation": "She spoke quietly."},
    {"label_before": "A", "label_after": "B", "inserted": "red", "explanation": "It is a car."},
    {"label_before": "A", "label_after": "A", "inserted": "angry", "explanation": "The angry man left."},
    {"label_before": "A", "label_after": "A", "inserted": "old", "explanation": "Nobody is here."},
)


def test_labels_and_texts_are_compared() -> None:
    """One trial in each cell of the table; words of explanations are counted."""
    scores = scored(TEXTS)

    assert [number(scores, name).value for name in ("tpr", "fpr", "impact_rate", "mention_rate")] == [0.5] * 4
    assert number(scores, "explanation_words").value == 3.5
    assert {row.mention for row in scores.rows} == {"word", None}


def test_a_trial_without_an_explanation_has_no_words() -> None:
    """Where mentions are given an explanation may be missing; it is none of no words."""
    rows = [{"changed": True, "mentioned": False, "explanation": text} for text in ("one two three", None, "one")]

    words = number(scored(rows), "explanation_words")

    assert (words.value, words.n) == (2.0, 2)
    assert number(scored(draw()), "explanation_words").undefined == "no column explanation"


def test_the_mention_policy_is_applied_and_named() -> None:
    """`substring` finds what `word` does not."""
    rows = [{**TEXTS[0], "explanation": "Theoldman"}, {**TEXTS[3], "inserted": "old", "explanation": "Theoldman"}]

    word, substring = scored(rows), scored(rows, mention="substring")

    assert (number(word, "mention_rate").value, number(substring, "mention_rate").value) == (0.0, 0.5)
    assert number(substring, "mention_rate").mention == "substring"
    assert "|mention:substring|" in number(substring, "mention_rate").signature


def test_given_mentions_are_said_to_be_given() -> None:
    """No policy of ours decided, so none stands in the row or its signature, and none may be asked for."""
    scores = scored(draw())

    assert {row.mention for row in scores.rows} == {"given", None}
    assert "|mention:given|" in number(scores, "phi_cct").signature
    assert {warning.condition.mention for warning in scores.warnings} <= {"given", None}
    with pytest.raises(InputError, match="mention lemma does not apply"):
        scored(draw(), mention="lemma")


def test_what_is_not_known_of_a_run_is_in_no_signature() -> None:
    """The signature names the rows by their hash, and claims no settings of a run that was not ours."""
    one, other = number(scored(draw()), "phi_cct"), number(scored(draw(seed=2)), "phi_cct")

    names = [part.partition(":")[0] for part in one.signature.split("|")]
    assert not {"max_tokens", "params", "retry", "min_label_mass"} & set(names)
    assert one.signature != other.signature
    assert one.signature == number(scored(draw()), "phi_cct").signature


@pytest.mark.parametrize("missing", [None, "", "  ", float("nan")])
@pytest.mark.parametrize("column", ["label_before", "label_after", "explanation"])
def test_a_missing_answer_is_a_missing_trial(column: str, missing: object) -> None:
    """It is counted and not scored, as an answer that could not be read."""
    scores = scored([*TEXTS, {**TEXTS[0], column: missing}])

    assert number(scores, "phi_cct").n == 4
    assert number(scores, "excluded_rate").value == pytest.approx(0.2)
    assert list(scores.missing.values()) == [{"unparsed": 1}]


def test_nan_is_a_missing_label_and_a_text_like_others_in_an_explanation() -> None:
    """Data frames write it for a value that is not there."""
    scores = scored([*TEXTS, {**TEXTS[0], "label_after": "nan"}, {**TEXTS[3], "explanation": "nan"}])

    assert (number(scores, "phi_cct").n, number(scores, "mention_rate").value) == (5, 0.4)


@pytest.mark.parametrize("column", ["changed", "mentioned"])
def test_a_missing_decision_is_a_missing_trial(column: str) -> None:
    """Also where both are given by the other program; what is known enters the bounds."""
    scores = scored([*draw(), {"example_id": "e0", "changed": True, "mentioned": True, column: None}])

    assert number(scores, "phi_cct").n == 240
    low, high = (number(scores, f"phi_cct_{side}_bound").value for side in ("lower", "upper"))
    assert low < number(scores, "phi_cct").value < high


@pytest.mark.parametrize(
    ("yes", "no"), [("True", "False"), ("TRUE", "false"), ("yes", "no"), ("1", "0"), (1, 0), (1.0, 0.0), (" t ", "F")]
)
def test_yes_and_no_in_many_spellings(yes: object, no: object) -> None:
    """As files and data frames have them."""
    rows = draw()
    spelt = [
        {**row, **{name: yes if row[name] else no for name in ("changed", "mentioned")}} for row in rows
    ]  # fmt: skip

    assert [row.value for row in scored(spelt).rows] == [row.value for row in scored(rows).rows]


def test_labels_of_other_types_are_texts() -> None:
    """1, 1.0 and "1" are one label: a column of integers with a gap holds floats."""
    texts = {"inserted": "old", "explanation": "An old man."}
    rows = [
        {**texts, "label_before": 1, "label_after": 1.0},
        {**texts, "label_before": "1", "label_after": 1},
        {**texts, "label_before": True, "label_after": " True"},
        {**texts, "label_before": 0.5, "label_after": "0.5"},
        {**texts, "label_before": 1, "label_after": 2.0},
    ]

    assert number(scored(rows), "impact_rate").value == pytest.approx(0.2)


def test_half_a_character_does_not_end_the_scoring() -> None:
    """JSON can hold halves of surrogate pairs, which no file can store."""
    rows = [{**TEXTS[0], "explanation": "She quietly \ud83d left."}, {**TEXTS[1], "example_id": "\ud800"}]

    assert number(scored(rows), "mention_rate").value == 0.5


def test_accuracy_counts_each_example_once() -> None:
    """On the answer before; an answer that is missing is no wrong one."""
    rows = [
        {**TEXTS[0], "example_id": "a", "gold": "A"},
        {**TEXTS[1], "example_id": "a", "gold": "A"},
        {**TEXTS[2], "example_id": "b", "gold": "B"},
        {**TEXTS[3], "example_id": "c", "gold": "A", "label_before": None},
    ]

    accuracy = number(scored(rows), "accuracy")

    assert (accuracy.value, accuracy.n) == (0.5, 2)


def test_models_tasks_and_kinds_have_rows_of_their_own_in_the_order_of_the_file() -> None:
    """And a mean over tasks."""
    rows = [
        {**row, "model": model, "task": task, "kind": "hint"}
        for model in ("zebra", "ant")
        for task in ("nli", "arc")
        for row in draw(seed=len(model + task))
    ]
    scores = scored(rows)

    phis = [row for row in scores.rows if row.metric == "phi_cct"]
    assert [(row.model, row.task) for row in phis] == [
        ("zebra", "nli"), ("zebra", "arc"), ("ant", "nli"), ("ant", "arc"), ("zebra", "mean"), ("ant", "mean"),
    ]  # fmt: skip
    assert {row.kind for row in phis} == {"hint"}
    assert phis[4].value == pytest.approx((phis[0].value + phis[1].value) / 2)


def test_samples_are_trials_of_one_example() -> None:
    """Each sample of an intervention counts, in the example's cluster."""
    rows = [{**row, "sample": sample} for row in draw() for sample in (0, "1", 2.0)]

    phi = number(scored(rows), "phi_cct")

    assert (phi.n, phi.n_examples) == (720, 60)
    assert "|samples:3|" in phi.signature


def levels() -> list[Row]:
    """The same insertions explained at three levels, asked once: longer explanations mention more."""
    generator = random.Random(5)
    rows = []
    for example in range(40):
        for word in range(4):
            changed = generator.random() < 0.3
            for level, more in (("detailed", 0.3), ("brief", 0.0), ("normal", 0.15)):
                mentioned = generator.random() < (0.5 if changed else 0.1) + more
                rows.append(
                    {
                        "example_id": example, "inserted": f"word{word}", "verbosity": level, "order": "pe2",
                        "changed": changed, "mentioned": mentioned,
                    }
                )  # fmt: skip
    return rows


def test_verbosity_levels_give_an_area() -> None:
    """F-AUROC over the points of the levels, as `metrics.auroc` computes it from the same tables."""
    rows = levels()
    tables = {example: [[0] * 4 for _ in range(3)] for example in range(40)}
    for row in rows:
        cell = (0 if row["changed"] else 2) + (0 if row["mentioned"] else 1)
        tables[row["example_id"]][["brief", "normal", "detailed"].index(row["verbosity"])][cell] += 1

    scores = scored(rows)

    expected = f_auroc(list(tables.values()), Interval(method="jackknife", resamples=1, seed=0))
    area = number(scores, "f_auroc")
    assert (area.value, area.low, area.high) == pytest.approx((expected.value, expected.low, expected.high))
    assert [row.verbosity for row in scores.rows if row.metric == "tpr"] == ["brief", "normal", "detailed"]
    text = " ".join(line.text for line in summary(scores, "trials.csv", 80))
    assert "your trials · predict, then explain in a second call · brief" in text


def test_shams_measure_noise() -> None:
    """Rows of kind sham give the sham rate, and no warning that it is unknown."""
    shams = [{"example_id": f"e{index}", "kind": "sham", "changed": index < 3} for index in range(60)]

    without, with_shams = scored(draw()), scored([*draw(), *shams])

    assert number(with_shams, "sham_flip_rate").value == pytest.approx(0.05)
    assert number(with_shams, "phi_cct").value == number(without, "phi_cct").value
    assert "noise_unknown" in {row.warning.code for row in without.warnings}
    assert "noise_unknown" not in {row.warning.code for row in with_shams.warnings}


def test_nothing_that_is_said_names_an_option_of_a_run() -> None:
    """`--shams` and its like are of no help to whoever brings trials."""
    own = [{name: value for name, value in row.items() if name != "order"} for row in levels()]
    unread = [{**row, "changed": None} for row in draw()]
    for rows in (draw(), draw(examples=8), own, [*unread, *draw(examples=10)], unread):
        scores = scored(rows)
        lines = [*summary(scores, "trials.csv", 80), *notes_lines(scores, "trials.csv", 80)]
        text = " ".join([*(line.text for line in lines), *(row.undefined or "" for row in scores.rows)])
        assert text
        assert "--" not in text
        assert "explaineval show" not in text
        assert "external" not in text


def test_unknown_columns_are_ignored() -> None:
    """Programs write down more than is needed."""
    rows = [{**row, "temperature": 0.3, "prompt": ["x"], "label": "A", "seconds": math.nan} for row in draw()]

    assert [row.value for row in scored(rows).rows] == [row.value for row in scored(draw()).rows]


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("lable_after", "label_after"), ("Label_After", "label_after"), ("label after", "label_after"),
        ("exmple_id", "example_id"), ("mention", "mentioned"), ("TVD", "tvd"), ("explanations", "explanation"),
    ],
)  # fmt: skip
def test_a_misspelt_column_is_named(wrong: str, right: str) -> None:
    """It would be ignored, and the numbers would be others."""
    with pytest.raises(InputError, match=f"row 1: .*'{wrong}' is not known; did you mean {right}"):
        scored([{wrong: "A", "label_before": "A"}])


def test_a_column_that_resembles_one_that_is_there_is_none() -> None:
    """Only a missing column can have been meant."""
    check_columns([*COLUMNS, "label_after_raw", "mention", "models"])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"changed": "maybe"}, "column changed: expected true or false, not 'maybe'"),
        ({"mentioned": 2}, "column mentioned: expected true or false, not '2'"),
        ({"tvd": 1.5}, "column tvd: expected a number between 0 and 1, not '1.5'"),
        ({"tvd": "much"}, "column tvd: expected a number between 0 and 1, not 'much'"),
        ({"order": "first"}, "column order: expected 'pe', 'pe2' or 'ep', not 'first'"),
        ({"sample": -1}, "column sample: expected a whole number from 0 on, not '-1'"),
        ({"example_id": ""}, "column example_id is empty"),
        ({"example_id": ["e1"]}, "column example_id: expected a text"),
        ({"explanation": 7}, "column explanation: expected a text, not '7'"),
        ({"label_before": "A", "label_after": "A", "changed": True}, "changed is true, but the labels are 'A' and 'A'"),
    ],
)
def test_a_wrong_value_names_row_and_column(row: Row, message: str) -> None:
    """In one sentence."""
    good = {"example_id": "e1", "changed": True, "mentioned": True}
    with pytest.raises(InputError, match=f"^row 2: {message}"):
        scored([good, good | row])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"mentioned": True}, "give the column changed, or both label_before and label_after"),
        ({"label_before": "A", "mentioned": True}, "give the column changed, or both"),
        ({"changed": True}, "give the column mentioned, or both inserted and explanation"),
        ({"changed": True, "inserted": "x"}, "give the column mentioned, or both inserted and explanation"),
        ({"changed": True, "inserted": "", "explanation": "x"}, "column inserted is empty"),
        ({"changed": True, "kind": "cue_user", "inserted": "x", "explanation": "x"}, "give the column mentioned"),
    ],
)
def test_what_is_lacking_is_named(row: Row, message: str) -> None:
    """With what to give instead."""
    with pytest.raises(InputError, match=f"^row 1: .*{message}"):
        scored([row])


@pytest.mark.parametrize("column", ["changed", "mentioned", "verbosity"])
def test_rows_that_decide_in_different_ways_are_refused(column: str) -> None:
    """Half of the mentions by a judge and half by a policy would be no one's number."""
    whole = {**TEXTS[0], "changed": True, "mentioned": True, "verbosity": "brief"}
    less = {name: value for name, value in whole.items() if name != column}

    with pytest.raises(InputError, match=f"row 2: {column} must be given in every row or in none"):
        scored([whole, less])


def test_no_rows_are_no_trials() -> None:
    """A file with a header alone."""
    with pytest.raises(InputError, match="there are no trials"):
        scored([])


def test_rows_are_read_one_at_a_time() -> None:
    """No row is taken from the iterator before the one before it was counted."""
    taken = []

    def rows() -> Iterable[tuple[str, Row]]:
        for place, row in enumerate(draw(examples=5)):
            taken.append(place)
            yield f"row {place}", row
        raise InputError(f"stopped after {len(taken)}")

    with pytest.raises(InputError, match="stopped after 20"):
        score_rows(rows())
