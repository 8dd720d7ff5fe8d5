"""Rules for mentions against labels of others: planted rates come back in every format, with the right intervals."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from sklearn.metrics import roc_auc_score

from explaineval.against import CUES, score_against
from explaineval.metrics.auroc import labelled_auroc
from explaineval.metrics.estimates import Interval
from explaineval.prompts import PromptBook, default_directory
from makers.command_line import Call

SENSITIVITY, SPECIFICITY = 0.9, 0.8
TEXTS = 1500
BOOK = PromptBook(default_directory())


def phrase_of(cue: str) -> str:
    """A phrase that recognises a cue, without a wildcard."""
    return next(phrase for phrase in BOOK.phrases(cue) if "*" not in phrase and "…" not in phrase)


def planted(say: str, draw: Random) -> tuple[str, bool]:
    """A text and its label, with the phrase where the planted rates want it."""
    label = draw.random() < 0.5
    named = draw.random() < (SENSITIVITY if label else 1 - SPECIFICITY)
    return (f"I weigh it up. {say} I choose B." if named else "I weigh it up. I choose B."), label


def write_plain(place: Path, suffix: str) -> str:
    """Words that are inserted, in two groups, five texts a cluster."""
    draw, rows = Random("plain"), []
    for number in range(TEXTS):
        text, label = planted("The velvet matters.", draw)
        rows.append({"text": text, "label": str(label).lower(), "inserted": "velvet", "group": "ab"[number % 2],
                     "cluster": f"q{number // 5}", "judge_perfect": str(int(label))})  # fmt: skip
    path = place / f"labels.{suffix}"
    if suffix == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    else:
        write_csv(path, rows)
    return f"plain:{path}"


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Rows with a header."""
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_bonafide(place: Path) -> str:
    """Labels of whole chains, and rows that say nothing of acknowledgement."""
    draw, rows = Random("bonafide"), []
    for number in range(TEXTS):
        text, label = planted(f"{phrase_of('unauthorised').capitalize()} helps.", draw)
        kind, reason = ("FAITHFUL_COT", "all sentences classified as faithful, ack, or inert")
        if not label:
            kind, reason = "UNFAITHFUL_COT", "no acknowledgements of hint and no faithful steps"
        rows.append({"row_id": f"{number // 3}_cais_hle", "label_type": kind, "cot": text, "reason": reason,
                     "prompted_hint": "The answer is B.", "target_model": "m"})  # fmt: skip
    rows.append({**rows[0], "label_type": "UNFAITHFUL_STEP"})
    rows.append({**rows[0], "label_type": "UNFAITHFUL_COT", "reason": "contains 2 unfaithful step(s)"})
    rows.append({**rows[0], "prompted_hint": ""})
    write_csv(place / "labeled_dataset.csv", rows)
    return f"bonafide:{place / 'labeled_dataset.csv'}"


def write_traces(place: Path) -> str:
    """Traces and verdicts in files beside each other, by model and hint."""
    draw = Random("traces")
    hints = [hint for hint in CUES if hint != "visual_pattern"]
    for model in ("qwq-32b", "deepseek-r1"):
        for hint in hints:
            traces, verdicts = [], []
            for number in range(TEXTS // 5):
                text, label = planted(f"{phrase_of(CUES[hint]).capitalize()} decides.", draw)
                name = {"question_id": f"mmlu_{number:04}", "hint_type": hint}
                traces.append({**name, "model_name": model, "thinking_text": text, "target_label": "B"})
                verdicts.append(
                    {**name, "model": model, "sonnet_verdict": label, "is_faithful": label, "our_verdict": True}
                )
            verdicts.append({**verdicts[0], "sonnet_verdict": None, "is_faithful": False})
            for folder, rows in (("hinted", traces), ("classified_sonnet", verdicts)):
                path = place / folder / model / f"{hint}.jsonl"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return f"traces:{place}"


@pytest.mark.parametrize("form", ["csv", "jsonl", "bonafide", "traces"])
def test_planted_rates_come_back_in_every_format(tmp_path: Path, form: str) -> None:
    """The intervals hold .9 and .8, and AUROC lies at .85; by groups too."""
    writers = {"bonafide": write_bonafide, "traces": write_traces}
    given = writers[form](tmp_path) if form in writers else write_plain(tmp_path, form)
    detector = "phrases" if form in writers else "word"

    results = score_against(given, BOOK)
    found = {(one.group, one.detector): one for one in results.numbers}
    whole = found["all", detector]
    for estimate, truth in ((whole.sensitivity, 0.9), (whole.specificity, 0.8), (whole.auroc, 0.85)):
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low < truth < estimate.high
        assert estimate.high - estimate.low < 0.08
    groups = {group for group, _ in found} - {"all"}
    assert len(groups) == {"csv": 2, "jsonl": 2, "bonafide": 1, "traces": 5}[form]
    assert sum(found[group, detector].n for group in groups) == whole.n
    if form == "bonafide":
        assert (whole.clusters, sum(results.left_out.values())) == (TEXTS // 3, 3)
    if form == "traces":
        assert results.left_out == {"without a verdict": 10}
        assert found["all", "pipeline"].sensitivity.value == 1
        assert found["all", "pipeline"].specificity.value == 0
    if form == "csv":
        assert (found["all", "judge_perfect"].auroc.value, whole.clusters) == (1, TEXTS // 5)


def test_auroc_is_that_of_scikit_learn_and_its_interval_a_jackknife() -> None:
    """With ties and clusters of unequal size."""
    draw = np.random.default_rng(3)
    clusters = draw.integers(0, 60, 500)
    labels = draw.random(500) < 0.4
    scores = np.clip(np.round(draw.normal(labels * 0.8 + clusters % 5 * 0.3, 1) * 2), -3, 6).astype(int) + 3
    counts = np.zeros((60, 2, 10), dtype=np.int64)
    np.add.at(counts, (clusters, labels.astype(int), scores), 1)

    found = labelled_auroc(counts[:, 1], counts[:, 0], Interval())
    assert found.value == pytest.approx(roc_auc_score(labels, scores))
    left = np.array([roc_auc_score(labels[clusters != one], scores[clusters != one]) for one in range(60)])
    error = np.sqrt(59 / 60 * ((left - left.mean()) ** 2).sum())
    assert found.low is not None
    assert found.high is not None
    width = (np.log(found.high / (1 - found.high)) - np.log(found.low / (1 - found.low))) / 2
    assert width == pytest.approx(2.0010 * error / (found.value * (1 - found.value)), rel=1e-3)


def test_rates_have_the_width_of_a_clustered_interval(tmp_path: Path) -> None:
    """Statsmodels' cluster-robust standard error gives half widths that are about the same."""
    draw, rows = Random(7), []
    for cluster in range(200):
        rate = 0.95 if cluster % 2 else 0.65
        for _ in range(10):
            text = "velvet" if draw.random() < rate else "none"
            rows.append({"text": text, "label": "1", "inserted": "velvet", "cluster": str(cluster)})
    rows.append({**rows[0], "label": "0", "text": "none"})
    write_csv(tmp_path / "x.csv", rows)
    found = next(one for one in score_against(f"plain:{tmp_path / 'x.csv'}", BOOK).numbers if one.detector == "word")

    hits = np.array([float(row["text"] == "velvet") for row in rows[:-1]])
    groups = np.array([int(row["cluster"]) for row in rows[:-1]])
    robust = sm.OLS(hits, np.ones(len(hits))).fit(cov_type="cluster", cov_kwds={"groups": groups})
    assert found.sensitivity.value == pytest.approx(hits.mean())
    assert found.sensitivity.low is not None
    assert found.sensitivity.high is not None
    half = (found.sensitivity.high - found.sensitivity.low) / 2
    assert half == pytest.approx(1.972 * robust.bse[0], rel=0.03)


def test_the_command_prints_a_table_or_a_document(call: Call, tmp_path: Path) -> None:
    """One block a group; `--json` has every number."""
    given = write_plain(tmp_path, "csv")
    code, text, _ = call("validate", "--against", given)
    assert code == 0
    assert "sensitivity" in text
    assert "all, 300 clusters" in text
    code, text, _ = call("validate", "--against", given, "--json")
    document = json.loads(text)
    assert (code, document["rows"], document["left_out"]) == (0, TEXTS, {})
    assert {one["detector"] for one in document["numbers"]} == {"word", "lemma", "substring", "judge_perfect"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("text,label,inserted\nx,maybe,y\n", "label is 'maybe'; write true or false"),
        ("text,label\nx,1\n", "give inserted, the words, or cue"),
        ("label,inserted\n1,y\n", "text is missing"),
        ("text,label,inserted,judge\nx,1,y,7\n", "judge is '7'; a decision is true, false, or from 0 to 1"),
        ("text,label,cue\nx,1,nobody\n", "nobody"),
    ],
)
def test_a_bad_file_gets_one_sentence(call: Call, tmp_path: Path, text: str, sentence: str) -> None:
    """With the line, or the name that is not known."""
    (tmp_path / "x.csv").write_text(text, "utf-8")
    code, _, err = call("validate", "--against", f"plain:{tmp_path / 'x.csv'}")

    assert code == 2
    assert sentence in " ".join(err.split())


def test_an_unknown_format_is_named_with_those_that_there_are(call: Call) -> None:
    """One sentence."""
    code, _, err = call("validate", "--against", "other:x.csv")

    assert code == 2
    assert "write FORMAT:PATH with one of the formats plain, bonafide, traces" in " ".join(err.split())
