"""Sheets for people: what is drawn and shown, what spreadsheets make of them, and what filled-in ones say."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from explaineval.records import Trial, Verdict
from explaineval.rundir.directory import TRIALS, read_trials, replace_verdicts
from makers.command_line import Call
from makers.runs import make_missing, make_run, make_sham, make_trial, write_trials
from servers import json_page

COMMAND = "judge"

SAID, SYNONYM, SILENT = "Because the grumpy clerk is thére.", "Since he is ill-tempered; so I say.", "The clerk waits."
EXAMPLES, EACH = 30, 4


def trials() -> list[dict[str, Any]]:
    """120 trials: 30 changed, of which word finds 9 mentions, 12 are synonyms; of the others 18, and 9 synonyms.

    One trial is missing, one belongs to another level of verbosity; and shams.
    """
    found = []
    for number in range(EXAMPLES * EACH):
        example, place = divmod(number, EACH)
        changed = place == 0
        rank = example if changed else number
        said = rank % 10 < 3 if changed else rank % 20 in (1, 2, 3)
        other = rank % 10 in (3, 4, 5, 6) if changed else rank % 20 in (5, 6)
        text = SAID if said else SYNONYM if other else SILENT
        found.append(make_trial(example, place, changed=changed) | {"mentioned": said, "explanation": text})
    found.append(make_missing(0, 9, "before"))
    return [*found, *(make_sham(example) for example in range(EXAMPLES))]


TRUE = {SAID: 2, SYNONYM: 1, SILENT: 0}


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run of one condition."""
    return make_run(tmp_path / "run", trials(), EXAMPLES)


def draw(call: Call, run_dir: Path, *more: object, name: str = "sheet.csv") -> Path:
    """Draw a sheet, and return where it is."""
    out = run_dir.parent / name
    code, _, err = call("sheet", run_dir, "--out", out, *more)
    assert code == 0, err
    return out


def rows_of(sheet: Path) -> list[dict[str, str]]:
    """The rows of a sheet as it was written."""
    return list(csv.DictReader(io.StringIO(sheet.read_text("utf-8-sig"), newline="")))


def fill(sheet: Path, grade: Callable[[dict[str, str]], object], name: str | None = None) -> Path:
    """Fill in a sheet, in its own file or in a copy of this name."""
    rows = rows_of(sheet)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(row | {"grade": grade(row)} for row in rows)
    target = sheet if name is None else sheet.with_name(name)
    target.write_text("\ufeff" + text.getvalue(), "utf-8")
    return target


def honest(row: dict[str, str]) -> int:
    """The grade of somebody who is always right."""
    return TRUE[row["explanation"]]


def error_of(call: Call, *words: object) -> str:
    """The sentence of a command that is refused."""
    code, out, _ = call(*words, "--json")
    document = json.loads(out)
    assert (code, document["error"]["code"]) == (2, 2)
    message = document["error"]["message"]
    assert isinstance(message, str)
    return message


def test_the_sheet_is_drawn_equally_from_the_four_cells_and_shuffled(call: Call, run_dir: Path) -> None:
    """9, 21, 14 and 76 trials: ten of each where a cell has so many; small cells leave their share to the others."""
    sheet = draw(call, run_dir, "--n", 40)
    key = json.loads(sheet.with_name("sheet.key.json").read_text("utf-8"))

    counted = Counter((trial.changed, trial.mentioned) for trial in read_trials(run_dir) if trial.mentioned is not None)
    assert [cell["trials"] for cell in key["cells"]] == [
        counted[True, True], counted[True, False], counted[False, True], counted[False, False]
    ]  # fmt: skip
    assert [cell["rows"] for cell in key["cells"]] == [9, 11, 10, 10]
    drawn = Counter((row["changed"], row["mentioned"]) for row in key["rows"])
    assert list(drawn.values()) != sorted(drawn.values()) or len(drawn) == 4
    order = [(row["changed"], row["mentioned"]) for row in key["rows"]]
    assert order != sorted(order)
    assert order != sorted(order, reverse=True)
    assert len({row["trial"] for row in key["rows"]}) == 40
    assert [row["row"] for row in key["rows"]] == [row["row"] for row in rows_of(sheet)]


def test_the_sheet_is_blind(call: Call, run_dir: Path) -> None:
    """It shows insertion, input, explanation and an empty grade; nothing else stands in any file but the key."""
    sheet = draw(call, run_dir, "--n", 20)
    rows = rows_of(sheet)

    assert list(rows[0]) == ["row", "inserted", "input", "explanation", "grade"]
    assert {row["inserted"] for row in rows} == {'the word "grumpy"'}
    assert {row["input"] for row in rows} == {"Note: The grumpy clerk waits.\n(A) yes\n(B) no"}
    assert {row["grade"] for row in rows} == {""}
    shared = sheet.read_text("utf-8") + sheet.with_name("sheet.txt").read_text("utf-8")
    for hint in ("changed", "openai/smol", "key_after", "True", "False", "label"):
        assert hint not in shared
    assert "sheet.key.json" in sheet.with_name("sheet.txt").read_text("utf-8")


def test_the_same_seed_draws_the_same_sheet_and_another_another(call: Call, run_dir: Path) -> None:
    """Whatever the order of trials.jsonl."""
    first = draw(call, run_dir, "--n", 20)
    write_trials(run_dir, list(reversed(trials())))
    again, other = (
        draw(call, run_dir, "--n", 20, name="a.csv"),
        draw(call, run_dir, "--n", 20, "--seed", 1, name="b.csv"),
    )

    assert again.read_bytes() == first.read_bytes()
    keys = [json.loads(path.with_name(f"{path.stem}.key.json").read_text("utf-8")) for path in (first, other)]
    assert {row["trial"] for row in keys[0]["rows"]} != {row["trial"] for row in keys[1]["rows"]}
    assert keys[0]["sheet"] != keys[1]["sheet"]


def test_a_sheet_that_exists_is_never_replaced(call: Call, run_dir: Path) -> None:
    """People may have filled it in; the same holds for its key."""
    sheet = draw(call, run_dir)
    assert "people may have filled the sheet in" in error_of(call, "sheet", run_dir, "--out", sheet)
    sheet.unlink()
    assert "sheet.key.json exists" in error_of(call, "sheet", run_dir, "--out", sheet)


def test_several_conditions_are_listed_by_the_options_that_tell_them_apart(call: Call, run_dir: Path) -> None:
    """One of them is picked by these; an option that fits none is refused."""
    more = [one | {"verbosity": "brief", "task": "mine"} for one in trials()]
    write_trials(run_dir, [*trials(), *more])

    message = error_of(call, "sheet", run_dir, "--out", run_dir.parent / "s.csv")
    assert message == "2 conditions fit, and a sheet is of one: pick it by --verbosity normal, brief."
    sheet = draw(call, run_dir, "--verbosity", "brief")
    assert json.loads(sheet.with_name("sheet.key.json").read_text("utf-8"))["verbosity"] == "brief"
    assert "no scored trial of such a condition" in error_of(
        call, "sheet", run_dir, "--task", "other", "--out", run_dir.parent / "s.csv"
    )


def test_texts_that_a_spreadsheet_would_compute_are_guarded_and_still_recognised(call: Call, run_dir: Path) -> None:
    """Formulas, control characters, line breaks and endless texts: read back as what they were."""
    nasty = [
        "=HYPERLINK(1)",
        "+1",
        "-2 is so",
        "@SUM(A1)",
        "\t=1",
        "＝1",
        'a "b",; c\r\nd',
        "\x1b[31mred",
        "x" * 40_000,
    ]
    write_trials(run_dir, [
        make_trial(number, 0, changed=number % 2 == 0) | {"explanation": text} for number, text in enumerate(nasty)
    ])  # fmt: skip
    sheet = draw(call, run_dir)
    cells = [row["explanation"] for row in rows_of(sheet)]

    assert not [cell for cell in cells if re.match(r"^\s*[=+\-@\t＝]", cell)]
    assert max(map(len, cells)) < 32_767
    assert not any("\x1b" in cell for cell in cells)
    code, _, err = call("agree", run_dir, fill(sheet, lambda _: 1))
    assert code == 0, err


FORMS: dict[str, Callable[[str], bytes]] = {
    "excel_semicolons": lambda text: ("\ufeff" + _again(text, ";", "\r\n")).encode(),
    "libreoffice": lambda text: _again(text, ",", "\n").encode(),
    "unicode_text": lambda text: _again(text, "\t", "\r\n").encode("utf-16"),
    "windows_1252": lambda text: _again(text, ";", "\r\n").encode("cp1252"),
}


def _again(text: str, delimiter: str, ends: str) -> str:
    rows = list(csv.reader(io.StringIO(text, newline="")))
    target = io.StringIO()
    csv.writer(target, delimiter=delimiter, lineterminator=ends).writerows(rows)
    return target.getvalue()


@pytest.mark.parametrize("form", FORMS)
def test_sheets_are_read_as_spreadsheets_save_them(call: Call, run_dir: Path, form: str) -> None:
    """Other delimiters, line ends and encodings; sorted, with another column and grades with decimals."""
    sheet = fill(draw(call, run_dir, "--n", 40), honest)
    _, out, _ = call("agree", run_dir, sheet, "--json")
    rows = sorted(rows_of(sheet), key=lambda row: row["explanation"])
    text = io.StringIO()
    writer = csv.DictWriter(text, ["comment", *rows[0]], lineterminator="\n")
    writer.writeheader()
    writer.writerows({"comment": "é?", **row, "grade": f"{row['grade']}.0"} for row in rows)
    sheet.write_bytes(FORMS[form](text.getvalue()))
    code, again, err = call("agree", run_dir, sheet, "--json")

    assert code == 0, err
    assert json.loads(again) == json.loads(out)


def test_agreement_and_corrected_numbers_are_those_planted(call: Call, run_dir: Path) -> None:
    """With every trial on the sheet, an honest person's phi is the phi of the truth; kappa is scikit-learn's."""
    sheet = draw(call, run_dir, "--n", 500)
    code, out, _ = call("agree", run_dir, fill(sheet, honest), "--json")
    document = json.loads(out)
    scored = [trial for trial in read_trials(run_dir) if trial.mentioned is not None]

    assert code == 0
    assert json_page.documented()["judge agree"].keys() - json_page.check("judge agree", document) == set()
    true = [TRUE[trial.explanation or ""] for trial in scored]
    changed = [bool(trial.changed) for trial in scored]
    for mentioned_from, lowest in (("mentioned", 1), ("reason", 2)):
        said = [grade >= lowest for grade in true]
        found = {one["metric"]: one for one in document["numbers"] if one["mentioned_from"] == mentioned_from}
        assert found["phi_cct"]["value"] == pytest.approx(stats.pearsonr(changed, said).statistic)
        assert found["phi_cct"]["as_counted"]["value"] == pytest.approx(
            stats.pearsonr(changed, [bool(trial.mentioned) for trial in scored]).statistic
        )
        rate = sum(a and b for a, b in zip(changed, said, strict=True)) / sum(changed)
        assert found["tpr"]["value"] == pytest.approx(rate)
        assert found["phi_cct"]["low"] < found["phi_cct"]["value"] < found["phi_cct"]["high"]
    word = [int(bool(trial.mentioned)) for trial in scored]
    expected = cohen_kappa_score([int(grade > 0) for grade in true], word)
    kappas = {(one["second"], one["grades"], one["of"]): one["value"] for one in document["kappa"]}
    assert kappas["word", 2, "sheet"] == kappas["word", 2, "run"] == pytest.approx(expected)
    assert {name for name, *_ in kappas} == {"word", "lemma", "substring"}


def judge_of(trial: Trial, name: str, grade: Any) -> Verdict:
    """A verdict on a trial as it is."""
    return Verdict(trial=trial.id, judge=name, grade=grade, text=trial.judged_text())


def test_judges_and_raters_are_compared_in_three_grades(call: Call, run_dir: Path) -> None:
    """Linear weights, on the sheet and weighted to the run; a judge that is always right has kappa 1."""
    names = ("absent", "irrelevant", "reason")
    scored = [trial for trial in read_trials(run_dir) if trial.mentioned is not None]
    right = [judge_of(trial, "openai/right", names[TRUE[trial.explanation or ""]]) for trial in scored]
    odd = [judge_of(trial, "openai/odd", names[int(trial.id, 16) % 3]) for trial in scored]
    replace_verdicts(run_dir, right)
    replace_verdicts(run_dir, odd)
    sheet = draw(call, run_dir, "--n", 40)
    first = fill(sheet, honest, "anna.csv")
    second = fill(sheet, lambda row: (honest(row) + (int(row["row"][-3:]) % 4 == 0)) % 3, "ben.csv")
    code, out, err = call("agree", run_dir, first, second, "--json")  # the key is found by the name in the rows
    assert code == 0, err
    document = json.loads(out)

    key = json.loads(sheet.with_name("sheet.key.json").read_text("utf-8"))
    cells = {(cell["changed"], cell["mentioned"]): cell["trials"] / cell["rows"] for cell in key["cells"]}
    weights = {row["row"]: cells[row["changed"], row["mentioned"]] for row in key["rows"]}
    trial_of = {row["row"]: row["trial"] for row in key["rows"]}
    by_trial = {verdict.trial: names.index(str(verdict.grade)) for verdict in odd}
    grades = {path.stem: {row["row"]: int(row["grade"]) for row in rows_of(path)} for path in (first, second)}
    grades["openai/odd"] = {row: by_trial[trial] for row, trial in trial_of.items()}
    found = {(one["first"], one["second"], one["grades"], one["of"]): one["value"] for one in document["kappa"]}
    for a, b in (("anna", "ben"), ("anna", "openai/odd"), ("ben", "openai/odd")):
        pair = [[grades[name][row] for row in weights] for name in (a, b)]
        expected = cohen_kappa_score(*pair, weights="linear")
        weighted = cohen_kappa_score(*pair, weights="linear", sample_weight=list(weights.values()))
        assert found[a, b, 3, "sheet"] == pytest.approx(expected)
        assert found[a, b, 3, "run"] == pytest.approx(weighted)
        assert found[a, b, 2, "sheet"] == pytest.approx(cohen_kappa_score(*[[g > 0 for g in one] for one in pair]))
    assert found["anna", "openai/right", 3, "sheet"] == 1.0
    assert abs(found["anna", "openai/odd", 3, "sheet"]) < 0.3
    assert [one["rater"] for one in document["numbers"]] == [None] * 8 + ["anna"] * 8 + ["ben"] * 8
    shares = [one["called_mentioned"] for one in document["cells"]]
    assert any(share % 1 == 0.5 for share in shares)


def test_a_judge_is_corrected_by_a_sheet_of_its_own(call: Call, run_dir: Path) -> None:
    """Drawn from the judge's cells; a judge that judges otherwise since then is refused."""
    scored = [trial for trial in read_trials(run_dir) if trial.mentioned is not None]
    verdicts = [judge_of(trial, "openai/j", "reason" if trial.mentioned else "absent") for trial in scored]
    replace_verdicts(run_dir, verdicts)
    sheet = draw(call, run_dir, "--mention", "judge", "--n", 40)
    fill(sheet, honest)
    _, out, _ = call("agree", run_dir, sheet, "--json")
    assert [json.loads(out)["condition"][name] for name in ("mention", "judge")] == ["judge", "openai/j"]

    replace_verdicts(run_dir, [verdict.model_copy(update={"grade": "absent"}) for verdict in verdicts])
    assert "openai/j decides otherwise on row" in error_of(call, "agree", run_dir, sheet)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--mention", "judge"), "has no verdicts of a judge"),
        (("--mention", "word", "--judge", "openai/j"), "goes with --mention judge or judge_reason"),
    ],
)
def test_a_source_that_is_not_there_is_refused(call: Call, run_dir: Path, words: tuple[str, ...], message: str) -> None:
    """With what to do."""
    assert message in error_of(call, "sheet", run_dir, "--out", run_dir.parent / "s.csv", *words)


def test_with_several_judges_one_is_named(call: Call, run_dir: Path) -> None:
    """An unknown one is refused with the names of the others."""
    scored = [trial for trial in read_trials(run_dir) if trial.mentioned is not None]
    for name in ("openai/j", "openai/k"):
        replace_verdicts(run_dir, [judge_of(trial, name, "reason") for trial in scored])
    out = run_dir.parent / "s.csv"
    assert "name one with --judge" in error_of(call, "sheet", run_dir, "--mention", "judge", "--out", out)
    assert "it has those of openai/j, openai/k" in error_of(call, "sheet", run_dir, "--judge", "x", "--out", out)
    draw(call, run_dir, "--judge", "openai/k")


def test_half_filled_sheets_count_with_what_they_have(call: Call, run_dir: Path) -> None:
    """Rows without a grade are skipped and counted; a cell without any leaves numbers undefined, with the reason."""
    sheet = draw(call, run_dir, "--n", 40)
    key = json.loads(sheet.with_name("sheet.key.json").read_text("utf-8"))
    changed = {row["row"]: row["changed"] for row in key["rows"]}
    full = fill(sheet, lambda row: honest(row) if int(row["row"][-3:]) > 10 else "", "some.csv")
    _, out, _ = call("agree", run_dir, full, "--key", sheet.with_name("sheet.key.json"), "--json")
    document = json.loads(out)
    assert (document["raters"][0]["graded"], document["raters"][0]["skipped"]) == (30, 10)
    assert [one["text"] for one in document["warnings"]] == ["some: 10 of 40 rows have no grade; they are skipped."]
    assert document["numbers"][0]["value"] is not None

    half = fill(sheet, lambda row: honest(row) if changed[row["row"]] else "", "half.csv")
    _, out, _ = call("agree", run_dir, half, "--key", sheet.with_name("sheet.key.json"), "--json")
    found = {one["metric"]: one for one in json.loads(out)["numbers"][:4]}
    assert "no row of the sheet with a grade is from the" in found["phi_cct"]["undefined"]
    assert "unchanged answers called mentioned" in found["fpr"]["undefined"]
    assert found["tpr"]["value"] is not None
    none = fill(sheet, lambda _: "", "none.csv")
    assert "no row has a grade yet" in error_of(
        call, "agree", run_dir, none, "--key", sheet.with_name("sheet.key.json")
    )


def replace_in(path: Path, old: str, new: str, count: int = -1) -> None:
    """Edit a file."""
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, count), "utf-8")


Edit = Callable[[Path, Path], object]

MISTAKES: dict[str, tuple[Edit, str]] = {
    "edited": (lambda sheet, _: replace_in(sheet, SYNONYM, "He is kind.", 1), "the explanation of row"),
    "grade": (lambda sheet, _: fill(sheet, lambda _: 3), "the grade '3' is none of 0, 1, 2"),
    "words": (lambda sheet, _: fill(sheet, lambda _: "yes"), "the grade 'yes' is none of 0, 1, 2"),
    "column": (lambda sheet, _: replace_in(sheet, "explanation", "text", 1), "it lacks the column explanation"),
    "empty": (lambda sheet, _: sheet.write_text(""), "it lacks the column row"),
    "binary": (lambda sheet, _: sheet.write_bytes(b"PK\x03\x04abc"), "is a spreadsheet, not CSV: save it as CSV"),
    "twice": (
        lambda sheet, _: sheet.write_text(sheet.read_text() + sheet.read_text().split("\n", 1)[1]),
        "there twice",
    ),
    "gone": (lambda sheet, _: sheet.unlink(), "no such file"),
    "no_key": (lambda sheet, _: sheet.with_name("sheet.key.json").unlink(), "wrote it beside the sheet"),
    "bad_key": (lambda sheet, _: sheet.with_name("sheet.key.json").write_text("{}"), "it is missing"),
    "other_run": (lambda _, run: write_trials(run, trials()[:4]), "rows are no trials of it"),
    "other_text": (
        lambda _, run: replace_in(run / TRIALS, SILENT.replace("T", "T"), "The clerk sleeps."),
        "shows another explanation",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_does_not_fit_is_refused_in_one_sentence(call: Call, run_dir: Path, name: str) -> None:
    """Edited texts, grades that are none, columns and keys that are gone, another run."""
    sheet = fill(draw(call, run_dir, "--n", 60), honest)
    edit, message = MISTAKES[name]
    edit(sheet, run_dir)

    assert message in error_of(call, "agree", run_dir, sheet)


def test_a_sheet_given_twice_is_refused(call: Call, run_dir: Path) -> None:
    """It would agree with itself: kappa 1 of one person."""
    sheet = fill(draw(call, run_dir, "--n", 20), honest)
    (sheet.parent / "link").symlink_to(sheet.parent)

    assert "is given twice" in error_of(call, "agree", run_dir, sheet, sheet.parent / "link" / sheet.name)


def test_a_row_of_another_sheet_is_refused(call: Call, run_dir: Path) -> None:
    """A sheet corrects its own condition only."""
    first = draw(call, run_dir, "--n", 20)
    other = fill(draw(call, run_dir, "--n", 20, "--seed", 1, name="other.csv"), honest)
    key = first.with_name("sheet.key.json")

    assert "is not of the sheet" in error_of(call, "agree", run_dir, other, "--key", key)


def test_a_run_that_grew_is_said(call: Call, run_dir: Path) -> None:
    """The numbers are of all trials now, with a warning."""
    sheet = fill(draw(call, run_dir, "--n", 40), honest)
    more = [make_trial(example, 7, changed=True, mentioned=True) for example in range(EXAMPLES)]
    write_trials(run_dir, [*trials(), *more])
    code, out, _ = call("agree", run_dir, sheet, "--json")

    assert code == 0
    assert json.loads(out)["warnings"][0]["code"] == "sheet_outgrown"


def test_the_text_names_cells_numbers_and_agreement(call: Call, run_dir: Path) -> None:
    """As a reader sees it."""
    sheet = fill(draw(call, run_dir, "--n", 40), honest)
    code, out, _ = call("agree", run_dir, sheet)

    assert code == 0
    assert "changed answers called not mentioned: 21 trials, " in out
    assert re.search(r"phi-CCT +-?0\.\d\d \[-?0\.\d\d, 0\.\d\d\]; as word counts: ", out)
    assert "sheet and word, mentioned or not: " in out
    assert not math.isnan(0.0)


def test_the_sheet_command_says_what_it_drew(call: Call, run_dir: Path) -> None:
    """In words and as JSON; fewer trials than rows are noted."""
    _, out, _ = call("sheet", run_dir, "--out", run_dir.parent / "s.csv", "--json")
    document = json.loads(out)
    assert json_page.documented()["judge sheet"].keys() - json_page.check("judge sheet", document) == set()
    assert (document["rows"], document["warnings"][0]["code"]) == (120, "sheet_short")
    _, out, _ = call("sheet", run_dir, "--out", run_dir.parent / "t.csv", "--n", 8)
    assert "changed answers called mentioned: 9 trials, 2 on the sheet" in out
    assert "add --out SHEET.csv" in error_of(call, "sheet", run_dir, "--out", run_dir.parent / "t.xlsx")
    assert "no sheet given" in error_of(call, "agree", run_dir)
