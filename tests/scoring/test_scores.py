"""Scores from a run directory alone: known tables, missing trials, torn files, other policies."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import pearsonr
from sklearn.metrics import matthews_corrcoef

from explaineval.errors import InputError
from explaineval.records import OUTCOMES, MetricRow, record_dict
from explaineval.rundir.directory import read_trials, write_metrics
from explaineval.scoring.rows import score
from makers.runs import by_metric, make_missing, make_run, make_sham, make_trial, write_trials
from makers.scores import score_trials

TABLE = [  # per example: (changed, mentioned, p(A) after)
    [(1, 1, 0.25), (0, 0, 0.75), (0, 0, 0.5), (0, 1, 0.625)],
    [(1, 0, 0.375), (0, 0, 0.75), (0, 0, 0.75), (0, 0, 0.625)],
    [(1, 1, 0.125), (1, 1, 0.25), (0, 1, 0.5), (0, 0, 0.75)],
    [(0, 0, 0.75), (0, 0, 0.75), (0, 0, 0.625), (0, 1, 0.75)],
    [(1, 1, 0.0), (1, 0, 0.25), (0, 0, 0.5), (0, 0, 0.625)],
    [(0, 0, 0.75), (0, 0, 0.5), (0, 0, 0.625), (0, 0, 0.75)],
]
"""a = 4, b = 2, c = 3, d = 15."""

FLAT = [one for example in TABLE for one in example]


def trials_of(
    table: list[list[tuple[int, int, float]]] = TABLE, sham_flips: tuple[int, ...] = (4,)
) -> list[dict[str, Any]]:
    """The trials of a table, and one sham an example."""
    trials = [
        make_trial(index, number, changed=changed, mentioned=mentioned, after=after)
        for index, row in enumerate(table)
        for number, (changed, mentioned, after) in enumerate(row)
    ]
    return trials + [make_sham(index, changed=index in sham_flips) for index in range(len(table))]


def phi_of(a: int, b: int, c: int, d: int) -> float | None:
    """phi from its definition; None where a margin is empty."""
    scale = (a + b) * (c + d) * (a + c) * (b + d)
    return (a * d - b * c) / scale**0.5 if scale else None


def bounds_of(table: tuple[int, int, int, int], v1: int, v0: int, w: int) -> tuple[float, float]:
    """The lowest and highest phi, by trying every completion of the missing trials."""
    found = []
    for i in range(v1 + 1):
        for j in range(v0 + 1):
            for k in range(w + 1):
                for m in range(w - k + 1):
                    for n in range(w - k - m + 1):
                        a, b, c, d = table
                        full = (a + i + k, b + j + m, c + v1 - i + n, d + v0 - j + w - k - m - n)
                        found.append(phi_of(*full))
    known = [value for value in found if value is not None]
    return min(known), max(known)


def test_a_known_table_gives_its_numbers(tmp_path: Path) -> None:
    """Every number against scikit-learn, scipy, or its definition."""
    found = by_metric(score(make_run(tmp_path / "run", trials_of(), 6)).rows)

    changed, mentioned, tvd = [c for c, _, _ in FLAT], [m for _, m, _ in FLAT], [abs(0.75 - p) for _, _, p in FLAT]
    stable = [one for index, row in enumerate(TABLE) if index != 4 for one in row]
    expected = {
        "phi_cct": matthews_corrcoef(changed, mentioned),
        "phi_cct_tvd_trials": matthews_corrcoef(changed, mentioned),
        "phi_stable": matthews_corrcoef([c for c, _, _ in stable], [m for _, m, _ in stable]),
        "cct": pearsonr(tvd, mentioned).statistic,
        "mean_tvd": sum(tvd) / 24,
        "ct_unfaithfulness": 2 / 6,
        "ct_unfaithfulness_per_example": 2 / 4,
        "tpr": 4 / 6,
        "fpr": 3 / 18,
        "youden_j": 4 / 6 - 3 / 18,
        "g_mean2": 4 / 6 * 15 / 18,
        "g_mean2_control": 4 / 6 * 1,
        "impact_rate": 6 / 24,
        "mention_rate": 7 / 24,
        "mention_floor": 0.0,
        "explanation_words": (7 * 6 + 17 * 5) / 24,
        "excluded_rate": 0.0,
        "accuracy": 1.0,
        "sham_flip_rate": 1 / 6,
    }
    assert expected == pytest.approx({name: found[name].value for name in expected}, rel=1e-9)
    assert (found["phi_cct"].n, found["phi_cct"].n_examples) == (24, 6)
    assert (found["sham_flip_rate"].n, found["sham_flip_rate"].kind) == (6, "sham")
    assert found["accuracy"].kind is None
    assert "phi_cct_lower_bound" not in found


@pytest.mark.parametrize("interval", ["jackknife", "percentile"])
def test_the_order_of_lines_changes_no_byte(tmp_path: Path, interval: str) -> None:
    """Answers come home in any order: metrics.json and metrics.csv do not show it."""
    draw = random.Random("lines")
    table = [[(int(draw.random() < 0.3), int(draw.random() < 0.4), draw.random()) for _ in range(6)] for _ in range(12)]
    trials = [*trials_of(table), make_missing(3, 5, "after"), make_missing(4, 5, "before", mentioned=True)]
    run = make_run(tmp_path / "run", trials, 12, interval=interval, resamples=50)
    seen = set()
    for _ in range(5):
        write_metrics(run, score(run).rows)
        seen.add(((run / "metrics.json").read_bytes(), (run / "metrics.csv").read_bytes()))
        draw.shuffle(trials)
        write_trials(run, trials)

    assert len(seen) == 1


def test_metrics_have_the_columns_of_the_contract(tmp_path: Path) -> None:
    """metrics.json and metrics.csv hold the same rows; each row carries a signature."""
    run = make_run(tmp_path / "run", trials_of(), 6)
    write_metrics(run, score(run).rows)

    rows = json.loads((run / "metrics.json").read_text("utf-8"))

    columns = ["endpoint", "model", "task", "kind", "order", "style", "shots", "verbosity", "channel",
               "mention", "judge", "metric", "value", "low", "high", "n", "n_examples", "undefined",
               "signature"]  # fmt: skip
    assert {tuple(columns)} == {tuple(row) for row in rows}
    assert [",".join(columns), len(rows) + 1] == [
        (run / "metrics.csv").read_text("utf-8").splitlines()[0],
        len((run / "metrics.csv").read_text("utf-8").splitlines()),
    ]
    assert all("explaineval:" in row["signature"] for row in rows)
    assert all((row["value"] is None) == (row["undefined"] is not None) for row in rows)


@pytest.mark.parametrize("left", range(20, 36))
def test_a_torn_last_line_is_ignored(tmp_path: Path, left: int) -> None:
    """Wherever a crash cut the last line, in the middle of a character too, the lines before it are scored."""
    trials = trials_of()
    run = make_run(tmp_path / "run", trials, 6)
    path = run / "trials.jsonl"
    torn = json.dumps(make_trial(5, 5, changed=True, mentioned=True), ensure_ascii=False).encode()
    start = torn.index(b"th\xc3\xa9re") - 25

    path.write_bytes(path.read_bytes() + torn[: start + left])

    assert len(trials) == len(list(read_trials(run)))


def test_a_torn_line_in_the_middle_is_told_with_its_number(tmp_path: Path) -> None:
    """That is no crash but damage: which line, and no number made of the rest."""
    run = make_run(tmp_path / "run", trials_of(), 6)
    lines = (run / "trials.jsonl").read_bytes().splitlines(keepends=True)
    lines[2] = lines[2][:40] + b"\n"
    (run / "trials.jsonl").write_bytes(b"".join(lines))

    with pytest.raises(InputError, match=r"trials\.jsonl:3: "):
        score(run)


@pytest.mark.parametrize("change", [{"surprise": 1}, {"status": "odd"}, {"order": "pe3"}])
def test_a_foreign_line_is_told_with_its_number(tmp_path: Path, change: dict[str, Any]) -> None:
    """Unknown keys and values are not passed over."""
    run = make_run(tmp_path / "run", trials_of(), 6)
    lines = [json.loads(line) for line in (run / "trials.jsonl").read_text("utf-8").splitlines()]
    write_trials(run, [lines[0], lines[1] | change, *lines[2:]])

    with pytest.raises(InputError, match=rf"trials\.jsonl:2: {next(iter(change))}"):
        score(run)


@pytest.mark.parametrize("gone", ["run.json", "trials.jsonl"])
def test_a_directory_that_is_not_whole_is_told(tmp_path: Path, gone: str) -> None:
    """Which file is missing."""
    run = make_run(tmp_path / "run", trials_of(), 6)
    (run / gone).unlink()

    with pytest.raises(InputError, match=gone.replace(".", r"\.")):
        score(run)


def test_a_run_that_was_killed_before_its_facts_were_complete_is_refused(tmp_path: Path) -> None:
    """In one sentence that says what to do."""
    run = make_run(tmp_path / "run", trials_of(), 6)
    document = json.loads((run / "run.json").read_text("utf-8"))
    document["facts"]["arms"] = {}
    (run / "run.json").write_text(json.dumps(document), "utf-8")

    with pytest.raises(InputError, match="cut off before it ended; give the same command again"):
        score(run)


def test_one_hot_distributions_are_refused(tmp_path: Path) -> None:
    """Probabilities after temperature are no distribution: no CCT, and why."""
    trials = []
    for trial in trials_of():
        hot = {"A": 1.0, "B": 0.0}
        after = {"A": 0.0, "B": 1.0} if trial["changed"] else hot
        trials.append(trial | {"probs_before": hot, "probs_after": after, "tvd": float(bool(trial["changed"]))})

    found = by_metric(score(make_run(tmp_path / "run", trials, 6)).rows)

    for name in ("cct", "mean_tvd", "phi_cct_tvd_trials"):
        assert found[name].value is None
        assert "one-hot" in str(found[name].undefined)
    assert phi_of(4, 2, 3, 15) == pytest.approx(found["phi_cct"].value)


def test_one_graded_distribution_is_enough(tmp_path: Path) -> None:
    """A model that is merely sure of itself keeps its CCT."""
    trials = trials_of()
    for index, trial in enumerate(trials[1:], 1):
        trials[index] = trial | {"probs_before": {"A": 1.0, "B": 0.0}, "probs_after": {"A": 1.0, "B": 0.0}, "tvd": 0.0}

    assert by_metric(score(make_run(tmp_path / "run", trials, 6)).rows)["cct"].value is not None


def test_without_logprobs_the_reason_is_told(tmp_path: Path) -> None:
    """The most frequent reason, without its side."""
    none = {"probs_before": None, "probs_after": None, "label_mass_before": None, "label_mass_after": None, "tvd": None,
            "tvd_reason": "before: the endpoint returned no log-probabilities"}  # fmt: skip

    found = by_metric(score(make_run(tmp_path / "run", [one | none for one in trials_of()], 6)).rows)

    assert (found["cct"].value, found["cct"].undefined) == (None, "the endpoint returned no log-probabilities")
    assert found["phi_cct"].value is not None


def test_another_mention_policy_judges_again(tmp_path: Path) -> None:
    """`score --mention` looks at the explanations, after and before; nothing else moves."""
    trials = trials_of()
    for index in (1, 2, 6):
        trials[index] |= {"inserted": "art", "explanation": "It was a party."}
    trials[1] |= {"explanation_before": "A party too."}
    run = make_run(tmp_path / "run", trials, 6)

    plain = by_metric(score(run).rows)
    found = by_metric(score(run, {"mention": "substring"}).rows)

    mentioned = [m for _, m, _ in FLAT]
    for index in (1, 2, 6):
        mentioned[index] = 1
    assert matthews_corrcoef([c for c, _, _ in FLAT], mentioned) == pytest.approx(found["phi_cct"].value)
    assert pytest.approx([found[name].value for name in ("mention_rate", "mention_floor")]) == [10 / 24, 1 / 24]
    assert plain["impact_rate"] == found["impact_rate"]
    assert "mention:substring" in found["phi_cct"].signature
    assert plain["phi_cct"].signature != found["phi_cct"].signature


def test_another_label_mass_counts_other_trials(tmp_path: Path) -> None:
    """`score --min-label-mass` takes in or leaves out trials by the mass that was stored."""
    trials = trials_of()
    for index in (0, 1):
        trials[index] |= {"label_mass_after": 0.8, "tvd": None, "tvd_reason": "after: less than 0.9 of it"}
    trials[2] |= {"label_mass_before": 0.95}
    run = make_run(tmp_path / "run", trials, 6)

    def trials_with_tvd(**changes: float) -> list[int]:
        found = by_metric(score(run, changes).rows)
        return [found[name].n for name in ("cct", "phi_cct_tvd_trials", "mean_tvd", "phi_cct")]

    assert trials_with_tvd() == [22, 22, 22, 24]
    assert trials_with_tvd(min_label_mass=0.5) == [24, 24, 24, 24]
    assert trials_with_tvd(min_label_mass=0.99) == [21, 21, 21, 24]
    strict = by_metric(score(run, {"min_label_mass": 0.5}).rows)
    assert pearsonr([abs(0.75 - p) for _, _, p in FLAT], [m for _, m, _ in FLAT]).statistic == pytest.approx(
        strict["cct"].value
    )


MISSING = [(0, "before", True), (1, "before", True), (2, "before", False), (3, "after", False), (4, "both", False)]


def test_missing_trials_are_counted_and_bound_phi(tmp_path: Path) -> None:
    """Two of known mention 1, one of known mention 0, two of which nothing is known; shams are left out."""
    trials = trials_of() + [make_missing(index, 5, side, mentioned=told) for index, side, told in MISSING]
    lost = make_sham(5) | {"status": "truncated", "status_side": "after", "changed": None, "label_after": None}
    scores = score(make_run(tmp_path / "run", [*trials, lost], 6))
    found = by_metric(scores.rows)

    low, high = bounds_of((4, 2, 3, 15), 2, 1, 2)

    assert [low, high] == pytest.approx([found["phi_cct_lower_bound"].value, found["phi_cct_upper_bound"].value])
    assert phi_of(4, 2, 3, 15) == pytest.approx(found["phi_cct"].value)
    assert pytest.approx((found["excluded_rate"].value, found["excluded_rate"].n)) == (5 / 29, 29)
    assert [by for _, by in sorted(scores.missing.items(), key=lambda item: str(item[0].kind))] == [
        {"unparsed": 5},
        {"truncated": 1},
    ]


@pytest.mark.parametrize(("policy", "known"), [("word", 0), ("substring", 1)])
def test_missing_trials_are_judged_by_the_runs_own_policy(tmp_path: Path, policy: str, known: int) -> None:
    """Where only the answer before is missing, the mention is known, by the policy that the run has."""
    trials = trials_of() + [
        make_missing(index, 5, "before") | {"inserted": "art", "explanation": "It was a party."} for index in range(4)
    ]

    found = by_metric(score(make_run(tmp_path / "run", trials, 6, mention=policy)).rows)

    low, high = bounds_of((4, 2, 3, 15), 4 * known, 4 * (1 - known), 0)
    assert [low, high] == pytest.approx([found["phi_cct_lower_bound"].value, found["phi_cct_upper_bound"].value])


@pytest.mark.parametrize("status", OUTCOMES)
def test_every_outcome_is_missing(tmp_path: Path, status: str) -> None:
    """Refused, filtered, cut, empty, unreadable, rejected, failed: never scored, always counted."""
    trials = [*trials_of(), make_missing(0, 5, "after") | {"status": status}]

    found = score(make_run(tmp_path / "run", trials, 6))

    assert pytest.approx(by_metric(found.rows)["excluded_rate"].value) == 1 / 25
    assert [{status: 1}] == list(found.missing.values())


@pytest.mark.parametrize("status", ["cue_is_own_answer", "already_in_prompt"])
def test_what_proves_nothing_is_neither_scored_nor_missing(tmp_path: Path, status: str) -> None:
    """A word that the prompt had before, a cue that is the model's own answer."""
    odd = make_missing(0, 5, "after") | {"status": status, "status_side": None}
    found = by_metric(score(make_run(tmp_path / "run", [*trials_of(), odd], 6)).rows)

    assert (found["phi_cct"].n, found["excluded_rate"].value, found["excluded_rate"].n) == (24, 0.0, 24)


@pytest.mark.parametrize(
    ("changed", "mentioned", "reason"),
    [
        (0, None, "no answer changed"),
        (1, None, "every answer changed"),
        (None, 0, "no explanation"),
        (None, 1, "every explanation"),
    ],
)
def test_an_undefined_phi_says_why(tmp_path: Path, changed: int | None, mentioned: int | None, reason: str) -> None:
    """An empty margin is no 0."""
    table = [
        [(c if changed is None else changed, m if mentioned is None else mentioned, p) for c, m, p in row]
        for row in TABLE
    ]

    found = by_metric(score(make_run(tmp_path / "run", trials_of(table), 6)).rows)["phi_cct"]

    assert found.value is None
    assert reason in str(found.undefined)


def test_samples_of_one_example_are_one_cluster(tmp_path: Path) -> None:
    """Accuracy counts each sample's answer once, however many interventions there were."""
    second = [
        one | {"sample": 1, "label_before": "B", "label_after": "B", "changed": False} for one in trials_of()[:24]
    ]

    found = by_metric(score(make_run(tmp_path / "run", trials_of() + second, 6, samples=2)).rows)

    assert (found["accuracy"].value, found["accuracy"].n, found["accuracy"].n_examples) == (0.5, 12, 6)
    assert (found["phi_cct"].n, found["phi_cct"].n_examples) == (48, 6)


def test_without_gold_there_is_no_accuracy(tmp_path: Path) -> None:
    """Rows without gold label have everything else."""
    found = by_metric(score(make_run(tmp_path / "run", [one | {"gold": None} for one in trials_of()], 6)).rows)

    assert (found["accuracy"].value, found["phi_cct"].n) == (None, 24)
    assert "gold" in str(found["accuracy"].undefined)


def test_kinds_are_never_pooled(tmp_path: Path) -> None:
    """Two kinds of one arm have their own rows; shams and accuracy stand once."""
    other = [one | {"kind": "other", "intervention_id": f"o{index}"} for index, one in enumerate(trials_of()[:12])]

    rows = score(make_run(tmp_path / "run", trials_of() + other, 6)).rows

    assert [(row.kind, row.n) for row in rows if row.metric == "phi_cct"] == [("hand", 24), ("other", 12)]
    assert 1 == sum(row.metric == "sham_flip_rate" for row in rows) == sum(row.metric == "accuracy" for row in rows)


def test_without_shams_it_is_said(tmp_path: Path) -> None:
    """--shams 0: no noise is known, and phi over stable examples is undefined."""
    found = by_metric(score(make_run(tmp_path / "run", trials_of()[:24], 6, shams=0)).rows)

    for name in ("sham_flip_rate", "phi_stable"):
        assert found[name].value is None
        assert "--shams 0" in str(found[name].undefined)


@pytest.mark.parametrize("policy", ["word", "lemma", "substring"])
def test_columns_and_signature_tell_the_same_of_mentions(policy: str) -> None:
    """A row has a channel and a policy just where its signature names the policy; means over tasks likewise."""
    trials = [
        make_trial(example, number, changed=number == 0, mentioned=example % 2 == 0, kind=kind) | {"task": task}
        for task in ("one", "two")
        for kind in ("hand", "cue_user")
        for example in range(6)
        for number in range(2)
    ]
    scores = score_trials(trials, kinds=("hand", "cue_user"), tasks=("one", "two"), mention=policy)

    seen = set()
    for row in scores.rows:
        part = re.search(r"\|mention:([^|]*)", row.signature)
        assert (row.channel, row.mention, row.judge) == (
            (None, None, None) if part is None else ("explanation", part[1], None)
        )
        seen.add((row.task, row.kind, row.mention))
    assert {("mean", "hand", policy), ("mean", "cue_user", "phrases"), ("mean", "hand", None)} <= seen
    conditions = {(row.condition, row.metric) for row in scores.rows}
    assert scores.warnings
    assert [one for one in scores.warnings if (one.condition, one.warning.metric) not in conditions] == []


def test_rows_of_an_earlier_version_are_read() -> None:
    """Without the columns channel, mention and judge they are null."""
    (row, *_) = score_trials([make_trial(0, 0)]).rows
    plain = {name: value for name, value in record_dict(row).items() if name not in ("channel", "mention", "judge")}

    old = MetricRow.model_validate(plain)

    assert (old.channel, old.mention, old.judge) == (None, None, None)
    assert row.condition.without_mention == old.condition
