"""`explaineval compare`: what is said, what the document holds, and when the gate lets pass."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import optimize, stats

from explaineval.cli.app import main
from explaineval.errors import InputError
from explaineval.metrics.correlations import phi
from explaineval.metrics.trends import explained_variance
from explaineval.rundir.directory import RUN, TRIALS
from explaineval.scoring.comparisons import compare_runs
from explaineval.scoring.counts import KindCounter
from makers.command_line import Call
from makers.runs import ENDPOINT, make_missing, make_run, make_sham, make_trial
from servers import json_page

COMMAND = "compare"

EXAMPLES = 60
Document = Callable[..., dict[str, Any]]


def draw(
    seed: int, *, tpr: float = 0.6, fpr: float = 0.2, impact: float = 0.25, examples: int = EXAMPLES, **values: Any
) -> Iterator[dict[str, Any]]:
    """Trials of one model, four insertions an example, whose probabilities shift more where the answer changes."""
    generator = np.random.default_rng(seed)
    for example in range(examples):
        for number in range(4):
            changed = bool(generator.random() < impact)
            said = bool(generator.random() < (tpr if changed else fpr))
            after = float(generator.uniform(0, 0.4) if changed else generator.uniform(0.6, 0.9))
            yield make_trial(example, number, changed=changed, mentioned=said, after=after, **values)


def models_of(*names: str, **values: Any) -> list[dict[str, Any]]:
    """Models of a configuration."""
    return [{"model": name, "endpoint": ENDPOINT, **values} for name in names]


@pytest.fixture
def document(call: Call) -> Document:
    """The document of `compare --json`."""

    def run(*arguments: str | Path) -> dict[str, Any]:
        code, out, err = call(*arguments, "--json")
        assert err == ""
        found: dict[str, Any] = json.loads(out)
        assert found.get("error", {}).get("code", 0) == code
        return found

    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run directories.

    `two`: openai/good and openai/poor. `before`, `after`, `again`, `equal`: openai/good with the same trials, less
    faithful ones, and other ones of the same faithfulness.
    """
    place = tmp_path_factory.mktemp("runs")
    good = {"model": "openai/good", "tpr": 0.9, "fpr": 0.1}
    both = [*draw(1, **good), *draw(2, model="openai/poor", tpr=0.5)]
    make_run(place / "two", both, EXAMPLES, models=models_of("openai/good", "openai/poor"))
    alone = {"models": models_of("openai/good")}
    make_run(place / "before", list(draw(1, **good)), EXAMPLES, **alone)
    make_run(place / "again", list(draw(1, **good))[::-1], EXAMPLES, **alone)
    make_run(place / "equal", list(draw(7, **good)), EXAMPLES, **alone)
    make_run(place / "after", list(draw(2, model="openai/good", tpr=0.5)), EXAMPLES, **alone)
    return place


def sentence(out: str) -> str:
    """The first paragraph of a screen on one line."""
    return " ".join(out.split("\n\n")[0].split())


def row_of(document: dict[str, Any], metric: str = "phi_cct", **where: Any) -> dict[str, Any]:
    """The only row of a metric."""
    (row,) = [
        row
        for row in document["rows"]
        if row["metric"] == metric and all(row[name] == value for name, value in where.items())
    ]
    return row


def test_the_first_line_can_be_quoted(runs: Path, call: Call) -> None:
    """A clear difference of two models, with its interval and p."""
    code, out, err = call(runs / "two")

    assert (code, err) == (0, "")
    assert sentence(out).startswith("openai/good is more faithful than openai/poor on mine: phi-CCT +0.")
    assert ", p < .001." in out.split("\n\n")[0]
    assert "240 trials of 60 examples scored in both" in " ".join(out.split())


def test_what_cannot_be_told_says_what_would_have_been_seen(runs: Path, call: Call) -> None:
    """Two runs of the same faithfulness; within a wide margin declared beforehand they are equivalent."""
    _, out, _ = call(runs / "before", runs / "equal")
    _, declared, _ = call(runs / "before", runs / "equal", "--equivalent", "0.5")
    _, narrow, _ = call(runs / "before", runs / "equal", "--equivalent", "0.01")

    assert sentence(out).startswith("For openai/good, cannot tell equal and before apart on mine: phi-CCT differs by ")
    assert sentence(out).endswith("would have been found in 4 of 5 such studies.")
    assert sentence(declared).startswith(
        "For openai/good, equal and before are equivalent within 0.5 on mine: phi-CCT differs"
    )
    assert sentence(declared).endswith("(90 % interval).")
    assert "Not shown to be equivalent within 0.01 (declared beforehand): phi-CCT differs" in " ".join(narrow.split())


def test_runs_are_named_after_their_directories_and_the_later_is_first(runs: Path, document: Callable) -> None:
    """The difference is the second run minus the first, whatever the names."""
    found = document(runs / "before", runs / "after")
    row, turned = row_of(found), row_of(document(runs / "after", runs / "before"))

    assert (row["a"], row["b"]) == ("after", "before")
    assert row["difference"] == pytest.approx(row["value_a"] - row["value_b"])
    assert row["difference"] < 0
    assert turned["difference"] == pytest.approx(-row["difference"])
    assert found["sentence"].startswith("For openai/good, before is more faithful than after on mine")


def test_the_document_is_described_in_both_directions(runs: Path, places: Path, document: Callable) -> None:
    """No field without its line in docs/json.md and no line without its field."""
    documents = [
        document(runs / "two"), document(places / "sized"), document(runs / "before", runs / "again"),
        document(places / "levels"), document(places / "no siblings"),
    ]  # fmt: skip
    found = {field for one in documents for field in json_page.check("compare", one)}

    assert json_page.documented()["compare"].keys() - found == set()


def test_every_row_has_the_signature_of_both_numbers_and_of_the_test(runs: Path, document: Callable) -> None:
    """Both models, the shared set, the test; for phi at a common rate that rate."""
    found = document(runs / "two", "--seed", "4")
    named = document(runs / "two", "--against", "poor", "--equivalent", "0.2")

    for row in found["rows"]:
        parts = dict(part.split(":", 1) for part in row["signature"].split("|"))
        assert parts["model"] == "openai/good+openai/poor"
        tested = int(row["p"] is not None)
        method = "MOVER, Bonferroni over 1"
        if row["method"] == "jackknife":
            method = f"paired jackknife, max-t over {tested}, 10000 draws, seed 4"
        assert parts["test"] == method
        assert ("impact_rate" in parts) == (row["metric"] == "phi_at_p")
        assert ("mention" in parts) == (row["metric"] != "impact_rate")
        assert parts["shared"].startswith("2@")
    parts = row_of(named)["signature"].split("|")
    assert {"test:paired jackknife, Holm over 1", "equivalent:0.2"} <= set(parts)


GATES = [
    (("before", "again"), "phi_cct:0.01", 0),
    (("before", "again"), "phi_cct:0", 0),
    (("before", "equal"), "phi_cct:0.5", 0),
    (("before", "equal"), "phi_cct:0.01", 7),
    (("before", "after"), "phi_cct:0.1", 6),
    (("before", "after"), "phi_cct:0.38", 7),
    (("after", "before"), "phi_cct:0", 0),
    (("after", "before"), "impact_rate:.3", 0),
    (("two", "--against", "openai/poor"), "phi_cct:0", 0),
    (("two", "--against", "good"), "phi_cct:0.1", 6),
    (("before", "after"), "f_auroc:0.9", 7),
    (("silent", "before"), "phi_cct:0.9", 7),
    (("silent", "silent2"), "phi_cct:0.9", 7),
    (("steady", "often"), "phi_cct:0.05", 0),
    (("often", "steady"), "phi_cct:0.05", 7),
    (("before", "noisy"), "phi_cct:0.9", 7),
]


@pytest.mark.parametrize(("arguments", "gate", "expected"), GATES)
def test_the_gate_has_three_outcomes(
    runs: Path, places: Path, call: Call, arguments: Sequence[str], gate: str, expected: int
) -> None:
    """Not lower by MARGIN passes; lower is 6; all that cannot be decided is 7; with --json the document has why."""
    paths: list[str | Path] = [
        runs / name if (runs / name).exists() else places / name if (places / name).exists() else name
        for name in arguments
    ]
    code, out, err = call(*paths, "--fail-if-lower", gate)
    again, text, silent = call(*paths, "--fail-if-lower", gate, "--json")

    assert (code, again) == (expected, expected)
    assert ("is shown to be lower" in err) == (expected == 6)
    assert ("cannot be decided" in err) == (expected == 7)
    assert out
    assert silent == ""
    document = json.loads(text)
    assert ("error" in document) == (expected != 0)
    if expected:
        assert document["error"]["code"] == expected
        assert document["error"]["message"] in " ".join(err.split())


@pytest.mark.parametrize(
    "arguments",
    [("two", "--fail-if-lower", "phi_cct:0.1"), ("before", "after", "equal", "--fail-if-lower", "phi_cct:0.1"),
     ("before", "after", "--fail-if-lower", "phi_cct"), ("two", "--fail-if-lower", "phi_cct", "--against", "poor")],
)  # fmt: skip
def test_a_gate_needs_a_margin_and_an_old_number(runs: Path, call: Call, arguments: Sequence[str]) -> None:
    """Two runs or a reference, and a margin: without them nothing is decided by which answer came first."""
    code, out, err = call(*[runs / name if (runs / name).exists() else name for name in arguments])

    assert (code, out) == (2, "")
    assert "--fail-if-lower" in err


def test_with_many_models_every_difference_has_to_pass(places: Path, call: Call) -> None:
    """Of twelve models that rise with size each is held against the one that was named."""
    code, _, err = call(places / "sized", "--fail-if-lower", "tpr:0.05", "--against", "openai/f0-2")

    assert code == 6
    assert err.count("is shown to be lower") >= 4
    assert err.count("minus openai/f0-2") == err.count("explaineval: tpr of")


MISTAKES = [
    (("two", "--fail-if-lower", "phi:0.1"), "--fail-if-lower phi:0.1: write METRIC:MARGIN"),
    (("two", "--fail-if-lower", "phi_cct:-1"), "--fail-if-lower phi_cct:-1: write METRIC"),
    (("two", "--against", "openai/none"), "--against openai/none: there is no such name among openai/good"),
    (("before",), "there is nothing to compare: give runs with two models, two arms, or two runs of one model."),
    (("before", "before"), "is given twice"),
    (("two", "--by", "arm"), "there is nothing to compare"),
    (("two", "--equivalent", "nan"), "Invalid value for '--equivalent': 'nan' is not a number"),
    (("two", "--impact-rate", "nan"), "Invalid value for '--impact-rate': 'nan' is not a number"),
]


@pytest.mark.parametrize(("arguments", "words"), MISTAKES)
def test_mistakes_are_one_sentence(runs: Path, call: Call, arguments: Sequence[str], words: str) -> None:
    """Exit code 2, and what to do."""
    paths: list[str | Path] = [runs / name if (runs / name).exists() else name for name in arguments]
    code, out, err = call(*paths)

    assert (code, out) == (2, "")
    assert words in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "wrong",
    [
        {"by": "models"}, {"mention": "words"}, {"equivalent": 0.0}, {"equivalent": math.nan}, {"impact_rate": 1.0},
        {"impact_rate": math.nan},
    ],
)  # fmt: skip
def test_a_wrong_argument_in_python_is_one_sentence(runs: Path, wrong: dict[str, Any]) -> None:
    """As the command refuses it; the sentence begins with the argument's name."""
    with pytest.raises(InputError, match=f"^{next(iter(wrong))}: expected "):
        compare_runs([runs / "two"], **wrong)


def test_a_gate_between_runs_names_the_model(runs: Path, call: Call) -> None:
    """Runs may hold several models: each failure says which one it is about."""
    code, _, err = call(runs / "before", runs / "after", "--fail-if-lower", "phi_cct:0.05")

    assert code == 6
    assert "explaineval: for openai/good, phi_cct of after minus before is shown to be lower: " in err


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.1, 1.1, 1e300])
def test_a_distance_that_cannot_be_is_one_sentence(tmp_path: Path, call: Call, value: float) -> None:
    """A total variation distance outside 0 to 1 in trials.jsonl: exit code 2, with the line."""
    run = make_run(tmp_path / "run", list(draw(1, examples=2)), 2)
    lines = (run / TRIALS).read_text(encoding="utf-8").splitlines()
    lines[3] = json.dumps(json.loads(lines[3]) | {"tvd": value})
    (run / TRIALS).write_text("\n".join(lines) + "\n", encoding="utf-8")
    code, out, err = call(run)

    assert (code, out) == (2, "")
    assert "trials.jsonl:4: tvd: " in err


@pytest.mark.parametrize("changes", [{}, {"label_after": "C", "changed": True}])
def test_a_trial_that_stands_twice_is_refused(tmp_path: Path, call: Call, changes: dict[str, Any]) -> None:
    """It would make intervals shorter than they are, whatever it says."""
    trials = list(draw(1, model="openai/good"))
    names = models_of("openai/good", "openai/poor")
    both = [*trials, *draw(2, model="openai/poor"), trials[5] | changes]
    code, out, err = call(make_run(tmp_path / "run", both, EXAMPLES, models=names))

    assert (code, out) == (2, "")
    assert "trials.jsonl holds a trial of openai/good twice" in err


def test_the_best_is_separated_only_from_what_was_tested(tmp_path: Path, call: Call) -> None:
    """One of three models mentions nothing, so it is not tested: nothing is claimed of it."""
    names = ("openai/good", "openai/poor", "openai/silent")
    good, poor, silent = (0.95, 0.05), (0.6, 0.2), (0.0, 0.0)
    trials = [
        trial
        for number, (name, (tpr, fpr)) in enumerate(zip(names, (good, poor, silent), strict=True))
        for trial in draw(number, model=name, tpr=tpr, fpr=fpr)
    ]
    code, out, _ = call(make_run(tmp_path / "run", trials, EXAMPLES, models=models_of(*names)))

    text = " ".join(out.split())
    assert code == 0
    assert (
        "All others that were tested are shown to be less faithful than openai/good, which has the highest phi-CCT."
        in text
    )
    assert "Not tested: silent: " in text


def test_models_that_differ_in_phi_alone_are_not_told_apart_in_faithfulness(tmp_path: Path, call: Call) -> None:
    """Equal TPR and FPR at three impact rates: sentence, ranks, pairs and the line of the best say the same."""
    names = ("openai/shaky", "openai/mid", "openai/calm")
    trials = [
        trial
        for number, (name, impact) in enumerate(zip(names, (0.45, 0.12, 0.05), strict=True))
        for trial in draw(number + 7, model=name, impact=impact, examples=200)
    ]
    code, out, _ = call(make_run(tmp_path / "run", trials, 200, models=models_of(*names)))

    text = " ".join(out.split())
    assert code == 0
    assert re.match(r"\d of 3 pairs differs? in phi-CCT, none is shown to differ in faithfulness; the clearest: ", text)
    assert "can be told apart" not in text
    assert "Not shown to be less faithful than openai/shaky, which has the highest phi-CCT: " in text
    assert re.search(r"Pairs that differ in phi-CCT .* shaky > calm", text)
    assert text.count(" 1–3 ") == 3
    assert "Ranks such as 1–3: not shown to differ in faithfulness from some of the others (" in text
    assert re.search(r"in faithfulness from some of the others \([a-z0 ]+ in 2 pairs; [a-z0 ]+ in 1 pair\)\.", text)


def test_the_table_says_why_two_share_their_ranks(tmp_path: Path, runs: Path, call: Call) -> None:
    """.9 and .1 stand at 1–2 where a number must not be quoted; two that are told apart need no such line."""
    good, poor = {"model": "openai/good", "tpr": 0.95, "fpr": 0.02}, {"model": "openai/poor", "tpr": 0.2}
    trials = [*draw(1, impact=0.1, **good), *draw(2, impact=0.1, **poor)]
    shams = [make_sham(example, changed=example % 4 == 0) | {"model": "openai/good"} for example in range(EXAMPLES)]
    noisy = make_run(tmp_path / "noisy", trials + shams, EXAMPLES, models=models_of("openai/good", "openai/poor"))

    shown = [call(runs / "before", runs / "equal"), call(noisy), call(runs / "two")]
    equal, marked, apart = (" ".join(out.split()) for _, out, _ in shown)
    assert "Ranks 1–2: not shown to differ in faithfulness (the interval of the difference holds 0)." in equal
    assert "Ranks 1–2: not shown to differ in faithfulness (a number is marked do not quote)." in marked
    assert "Ranks " not in apart


def test_what_limits_a_number_is_carried_with_its_task(tmp_path: Path, document: Document) -> None:
    """An explainer that names the word under one answer, changed or not, is not called more faithful."""
    names = ("openai/biased", "openai/blind")
    trials = [
        trial
        for task in ("one", "two")
        for number, (name, at_b) in enumerate(zip(names, (0.8, 0.1), strict=True))
        for trial in draw_by_answer(number, at_b, model=name, task=task)
    ]
    run = make_run(tmp_path / "run", trials, 150, models=models_of(*names))
    record = json.loads((run / RUN).read_text(encoding="utf-8"))
    for part in (record["facts"]["tasks"], record["facts"]["arms"]):
        part |= {name.replace("mine", task): part[name] for task in ("one", "two") for name in list(part)}
    (run / RUN).write_text(json.dumps(record), encoding="utf-8")
    found = document(run)

    (row,) = (one for one in found["rows"] if one["leading"])
    assert (row["claim"], row["label"]) == ("higher_phi", "do not quote")
    assert "marked do not quote (what is named follows the answer given, not its change)" in found["sentence"]
    carried = [one["text"] for one in found["warnings"] if one["code"] == "follows_answer"]
    assert [text.partition(": ")[0] for text in carried] == ["openai/biased on one", "openai/biased on two"]


def draw_by_answer(seed: int, at_b: float, **values: Any) -> Iterator[dict[str, Any]]:
    """Trials of a model that answers A to eight of ten originals, and names the word with `at_b` where it says B."""
    generator = np.random.default_rng(seed)
    for example in range(150):
        for number in range(4):
            before = "A" if generator.random() < 0.8 else "B"
            changed = bool(generator.random() < 0.25)
            after = before if not changed else "AB"[before == "A"]
            said = bool(generator.random() < (at_b if after == "B" else 0.1))
            trial = make_trial(example, number, changed=changed, mentioned=said, **values)
            yield trial | {"label_before": before, "label_after": after}


def test_trials_are_counted_once(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What limits numbers and what is compared rest on the same counts."""
    added = []
    add = KindCounter.add
    monkeypatch.setattr(KindCounter, "add", lambda self, *given: added.append(1) or add(self, *given))
    compare_runs([runs / "two"])

    assert len(added) == len((runs / "two" / TRIALS).read_text(encoding="utf-8").splitlines())


def test_a_model_without_a_score_does_not_count_as_scored(tmp_path: Path, call: Call) -> None:
    """The head of the table says that the trials are shared by those that have any."""
    names = ("openai/good", "openai/poor", "openai/down")
    scored = [*draw(1, model=names[0], tpr=0.9), *draw(2, model=names[1], tpr=0.3)]
    failed = [
        make_missing(example, number, "both", model=names[2]) for example in range(EXAMPLES) for number in range(4)
    ]
    code, out, _ = call(make_run(tmp_path / "run", [*scored, *failed], EXAMPLES, models=models_of(*names)))

    text = " ".join(out.split())
    assert code == 0
    assert "240 trials of 60 examples scored in all that have any" in text
    assert "Not tested: down: no trial is scored." in text


def test_it_is_said_where_nothing_could_have_been_seen(tmp_path: Path, call: Call) -> None:
    """With these four examples only a difference of 3.5 would have been found."""
    trials = [*draw(8, examples=4, model="openai/good"), *draw(108, examples=4, model="openai/poor")]
    code, out, _ = call(make_run(tmp_path / "run", trials, 4, models=models_of("openai/good", "openai/poor")))

    assert code == 0
    assert "; nothing could have been seen with so few changed answers." in sentence(out)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More run directories, one for each thing that has to be said.

    `sized`: 12 models of 4 families whose TPR rises with size, and one without a size. `silent`, `silent2`: openai/good
    says nothing. `steady`, `often`: the same TPR and FPR at other impact rates. `noisy`: its answers change as often
    when the same is asked again. `levels`: two models at three levels of verbosity in order pe2.
    """
    place = tmp_path_factory.mktemp("places")
    models, trials = [], []
    for family in range(4):
        for step in range(3):
            name = f"openai/f{family}-{step}"
            models += models_of(name, family=f"f{family}", parameters=10.0 ** (8 + step))
            trials += draw(10 * family + step, model=name, tpr=0.3 + 0.25 * step + 0.02 * family)
    trials += draw(99, model="openai/unsized")
    make_run(place / "sized", trials, EXAMPLES, models=[*models, *models_of("openai/unsized")])
    silent = [*draw(1, model="openai/good", tpr=0.0, fpr=0.0)]
    alone = {"models": models_of("openai/good")}
    make_run(place / "silent", silent, EXAMPLES, **alone)
    make_run(place / "silent2", silent, EXAMPLES, **alone)
    for name, impact in (("steady", 0.05), ("often", 0.4)):
        trials_of_it = list(draw(5, model="openai/good", impact=impact, tpr=0.75, examples=400))
        make_run(place / name, trials_of_it, 400, **alone)
    shams = [make_sham(example, changed=example % 4 == 0) | {"model": "openai/good"} for example in range(EXAMPLES)]
    make_run(place / "noisy", [*draw(1, model="openai/good", tpr=0.9, fpr=0.1), *shams], EXAMPLES, **alone)
    swept = []
    for seed, (model, gain) in enumerate((("openai/good", 0.5), ("openai/poor", 0.1))):
        generator = np.random.default_rng(seed)
        changes = generator.random((EXAMPLES, 4)) < 0.3
        for level, base in (("brief", 0.1), ("normal", 0.25), ("detailed", 0.45)):
            swept += [
                make_trial(
                    example, number, changed=bool(flip), mentioned=bool(generator.random() < base + gain * flip),
                    model=model, order="pe2", verbosity=level,
                )
                for (example, number), flip in np.ndenumerate(changes)
            ]  # fmt: skip
    for name, family in (("levels", "elm"), ("no siblings", "oak")):
        make_run(
            place / name, swept, EXAMPLES,
            models=[
                *models_of("openai/good", family="elm", parameters=1e9, tuned="instruct"),
                *models_of("openai/poor", family=family, parameters=1e9, tuned="base"),
            ],
            arms={"order": ["pe2"], "verbosity": ["brief", "normal", "detailed"]},
        )  # fmt: skip
    return place


def trials_of(directory: Path, **where: Any) -> list[dict[str, Any]]:
    """The lines of trials.jsonl with these values."""
    lines = map(json.loads, (directory / "trials.jsonl").read_text("utf-8").splitlines())
    return [line for line in lines if all(line[name] == value for name, value in where.items())]


def phi_of(trials: Sequence[dict[str, Any]]) -> float:
    """Pearson's r of change and mention."""
    return float(stats.pearsonr([t["changed"] for t in trials], [t["mentioned"] for t in trials]).statistic)


def test_trends_are_scipys_over_the_families_of_the_configuration(places: Path, document: Callable) -> None:
    """Slopes of phi-CCT on log10(parameters), and the one-sample t over them; the model without a size is left out."""
    (group,) = document(places / "sized")["groups"]
    (family,) = [one for one in group["families"] if one["metric"] == "phi_cct"]

    slopes = [
        stats.linregress([8, 9, 10], [phi_of(trials_of(places / "sized", model=f"openai/f{n}-{s}")) for s in range(3)])
        for n in range(4)
    ]
    test = stats.ttest_1samp([line.slope for line in slopes], 0)
    trend = family["trend"]
    assert trend["slopes"] == pytest.approx({f"f{n}": line.slope for n, line in enumerate(slopes)})
    assert (trend["low"], trend["high"]) == pytest.approx(tuple(test.confidence_interval()))
    assert (trend["p"], trend["df"]) == (pytest.approx(test.pvalue), 3)
    assert trend["low"] > 0


def test_a_tuned_model_is_compared_with_its_pretrained_sibling(places: Path, document: Callable, call: Call) -> None:
    """On screen and in the document: the good one is tuned, and names more at every level."""
    (group,) = [group for group in document(places / "levels")["groups"] if group["levels"]]
    (tuning,) = group["tuning"]
    (pair,) = tuning["pairs"]

    assert (pair["tuned"], pair["pretrained"]) == ("openai/good", "openai/poor")
    assert pair["claim"] == "tuned_dominates"
    assert all(level["low"] > 0 for level in pair["levels"])
    assert "good dominates poor on mine over 3 levels of verbosity" in " ".join(call(places / "levels")[1].split())


@pytest.mark.slow
def test_explained_variance_stands_in_the_document_and_on_screen(places: Path, document: Callable, call: Call) -> None:
    """The number is that of the pure function on the trials' counts, over all 13 models."""
    (group,) = document(places / "sized")["groups"]
    (explained,) = group["explained_variance"]

    tables, moments = [], []
    for model in group["names"]:
        cells, parts = np.zeros((EXAMPLES, 4), dtype=np.int64), np.zeros((EXAMPLES, 6))
        for trial in trials_of(places / "sized", model=model):
            example, x, m = int(trial["example_id"][1:]), trial["tvd"], int(trial["mentioned"])
            cells[example, 2 * (not trial["changed"]) + (not m)] += 1
            parts[example] += (1, x, m, x * x, x * m, m)
        order = sorted(range(EXAMPLES), key=lambda number: f"e{number}")
        tables.append(cells[order])
        moments.append(parts[order])
    expected = explained_variance(tables, moments, _phis, _correlations)
    assert explained["n_models"] == 13
    assert explained["value"] == pytest.approx(expected.value)
    assert (explained["low"], explained["high"]) == pytest.approx((expected.low, expected.high))
    assert "Of the variance of CCT between models phi-CCT explains" in call(places / "sized")[1]


def _phis(sums: np.ndarray) -> np.ndarray:
    return np.array([phi(*row) for row in sums.tolist()])


def _correlations(sums: np.ndarray) -> np.ndarray:
    n, sx, sm, sxx, sxm, smm = sums.T
    with np.errstate(invalid="ignore"):
        return (n * sxm - sx * sm) / np.sqrt((n * sxx - sx**2) * (n * smm - sm**2))


def area_of(trials: Sequence[dict[str, Any]]) -> float:
    """F-AUROC of one model from its trials, by hand."""
    points = []
    for level in ("brief", "normal", "detailed"):
        said = [[t["mentioned"] for t in trials if t["verbosity"] == level and t["changed"] is flip]
                for flip in (False, True)]  # fmt: skip
        points.append((np.mean(said[0]), np.mean(said[1])))
    x, y = zip((0, 0), *sorted(points), (1, 1), strict=True)
    return float(np.trapezoid(y, x))


def test_areas_over_levels_are_compared_by_the_paired_jackknife(places: Path, document: Callable) -> None:
    """F-AUROC of two models in order pe2: values, error and limits as computed by leaving out each example."""
    found = document(places / "levels")
    row = row_of(found, "f_auroc")

    by_model = [trials_of(places / "levels", model=row[side]) for side in "ab"]
    areas = [area_of(trials) for trials in by_model]
    left = [
        [area_of([t for t in trials if t["example_id"] != f"e{number}"]) for number in range(EXAMPLES)]
        for trials in by_model
    ]
    gaps = np.subtract(*left)
    error = math.sqrt((EXAMPLES - 1) / EXAMPLES * ((gaps - gaps.mean()) ** 2).sum())
    own = [(EXAMPLES - 1) / EXAMPLES * ((np.array(one) - np.mean(one)) ** 2).sum() for one in left]
    flips = [len({t["example_id"] for t in trials if t["changed"]}) for trials in by_model]
    df = sum(own) ** 2 / sum(square**2 / (count - 1) for square, count in zip(own, flips, strict=True))
    assert (row["value_a"], row["value_b"]) == pytest.approx(tuple(areas))
    assert (row["low"], row["high"]) == pytest.approx(stats.t.interval(0.95, df, areas[0] - areas[1], error))
    assert (row["verbosity"], row["order"], row["n_pairs"]) == (None, "pe2", 3 * 240)
    assert found["groups"][-1]["levels"] == ["brief", "normal", "detailed"]
    assert "verbosity:brief+normal+detailed" in row["signature"]


def test_levels_of_one_model_are_arms(places: Path, document: Callable) -> None:
    """`--by arm` compares the levels of each model."""
    groups = document(places / "levels", "--by", "arm")["groups"]

    levels = ["brief verbosity", "normal verbosity", "detailed verbosity"]
    assert [(group["by"], group["names"]) for group in groups] == [("arm", levels)] * 2


def test_a_model_without_a_value_is_named_with_the_reason(runs: Path, places: Path, call: Call) -> None:
    """It has no test, and nothing else suffers."""
    _, out, _ = call(runs / "before", places / "silent")

    assert sentence(out).startswith("For openai/good, before has the higher Youden's J on mine: +0.")
    assert sentence(out).endswith(
        "(phi-CCT is undefined for silent: no explanation mentions the insertion on the shared trials)."
    )


def test_a_value_without_a_test_is_not_called_undefined(tmp_path: Path, call: Call) -> None:
    """One changed answer is named: phi-CCT has a value, which the table shows, but no interval of a difference."""
    few = list(draw(1, model="openai/few", impact=0))
    few[:6] = [make_trial(0, 0, model="openai/few", changed=True, mentioned=True)] + [
        make_trial(number, 0, model="openai/few", changed=True) for number in range(1, 6)
    ]
    ids = [(trial["example_id"], trial["intervention_id"]) for trial in few[:6]]
    few = few[:6] + [trial for trial in few[6:] if (trial["example_id"], trial["intervention_id"]) not in ids]
    models = models_of("openai/few", "openai/many")
    _, out, _ = call(make_run(tmp_path / "run", [*few, *draw(2, model="openai/many")], EXAMPLES, models=models))

    text = sentence(out)
    assert "is undefined" not in text
    assert text.endswith(
        "(a difference in phi-CCT cannot be tested for few: fewer than 2 shared examples have a changed answer whose "
        "explanation mentions the insertion)."
    )


def test_what_differs_between_runs_is_said(tmp_path: Path, runs: Path, document: Callable, call: Call) -> None:
    """Another mention policy and another token limit; with --mention the policy no longer differs."""
    models = models_of("openai/good")
    trials = list(draw(1, model="openai/good", tpr=0.9, fpr=0.1))
    other = make_run(tmp_path / "other", trials, EXAMPLES, models=models, mention="substring", max_tokens=99)
    found = document(runs / "before", other)
    (warning,) = [one for one in found["warnings"] if one["code"] == "asked_otherwise"]

    assert set(found["groups"][0]["differing"]) == {"mention policy (substring / word)", "max tokens (99 / 512)"}
    assert "mention policy (substring / word)" in warning["text"]
    assert document(runs / "before", other, "--mention", "word")["groups"][0]["differing"] == ["max tokens (99 / 512)"]
    assert "they also differ in" in " ".join(call(runs / "before", other)[1].split())


def test_only_the_same_insertions_are_compared(tmp_path: Path, runs: Path, document: Callable) -> None:
    """A trial under the same name with another word inserted is another trial."""
    trials = list(draw(1, model="openai/good", tpr=0.9, fpr=0.1))
    changed = [
        trial | {"inserted": "sleepy", "text_after": "The sleepy clerk waits."} if number % 3 == 0 else trial
        for number, trial in enumerate(trials)
    ]
    other = make_run(tmp_path / "other", changed, EXAMPLES, models=models_of("openai/good"))
    row = row_of(document(runs / "before", other))

    assert (row["n_pairs"], row["lost_a"], row["lost_b"]) == (160, 80, 80)


def test_a_difference_does_not_depend_on_the_intervals_of_the_runs(tmp_path: Path, document: Callable) -> None:
    """Percentile intervals of a run's own rows: nothing differs, and no signature names them."""
    trials = list(draw(1, model="openai/good", tpr=0.9, fpr=0.1))
    models = models_of("openai/good")
    first = make_run(tmp_path / "a" / "first", trials, EXAMPLES, models=models)
    percentile = {"interval": "percentile", "resamples": 50}
    second = make_run(tmp_path / "b" / "second", trials, EXAMPLES, models=models, **percentile)
    found = document(first, second)

    assert found["groups"][0]["differing"] == []
    assert not any("percentile" in row["signature"] or "resamples" in row["signature"] for row in found["rows"])


def test_what_each_of_many_models_loses_is_on_screen(tmp_path: Path, call: Call) -> None:
    """How many of its trials are not shared, and its phi-CCT with them."""
    names = [f"openai/m{number}" for number in range(6)]
    trials = [
        trial
        for number, name in enumerate(names)
        for at, trial in enumerate(draw(number, model=name))
        if at % 12 != number
    ]
    out = call(make_run(tmp_path / "run", trials, EXAMPLES, models=models_of(*names)))[1]

    assert "not shared are left out, and phi-CCT with them" in " ".join(out.split())
    for name in names:
        own = [trial for trial in trials if trial["model"] == name]
        shared = sum(1 for at in range(4 * EXAMPLES) if at % 12 >= len(names))
        assert [f"{len(own) - shared}", f"{phi_of(own):.2f}"] in [
            line.split()[1:] for line in out.splitlines() if line.split()[:1] == [name.partition("/")[2]]
        ]


def test_explained_variance_counts_no_model_twice(tmp_path: Path, document: Callable) -> None:
    """Four models in two runs are not eight models."""
    names = [f"openai/m{number}" for number in range(4)]
    made = [
        make_run(
            tmp_path / place / place,
            [trial for number, name in enumerate(names) for trial in draw(number, model=name)],
            EXAMPLES,
            models=models_of(*names),
        )
        for place in ("before", "after")
    ]

    assert document(*made, "--by", "model")["groups"][0]["explained_variance"] == []


def test_kinds_do_not_differ_from_themselves(tmp_path: Path, document: Callable) -> None:
    """Two models of one run with two kinds of interventions were asked the same: nothing is said to differ."""
    trials = [
        trial | {"kind": kind, "intervention_id": f"{trial['intervention_id']}.{kind}"}
        for seed, name in enumerate(("openai/a", "openai/b"))
        for kind in ("cue_user", "cue_user_control")
        for trial in draw(seed, model=name, field=None)
    ]
    found = document(make_run(tmp_path / "run", trials, EXAMPLES, models=models_of("openai/a", "openai/b")))

    assert {row["kind"] for row in found["rows"] if row["leading"]} == {"cue_user", "cue_user_control"}
    assert {row["kind"] for row in found["rows"] if row["primary"]} == {"cue_user"}
    assert found["groups"][0]["differing"] == []


def test_kinds_are_one_family_unless_one_is_chosen(tmp_path: Path, document: Callable, call: Call) -> None:
    """Two kinds and a control: four pairs of phi-CCT are primary together, each sentence names its kind."""
    trials = [
        trial | {"kind": kind, "intervention_id": f"{trial['intervention_id']}.{kind}"}
        for seed, name in enumerate(("openai/a", "openai/b"))
        for place, kind in enumerate(("cue_user", "hand", "cue_user_control"))
        for trial in draw(10 * place + seed, model=name, field=None, tpr=0.9 - 0.4 * seed)
    ]
    run = make_run(tmp_path / "run", trials, EXAMPLES, models=models_of("openai/a", "openai/b"))
    both, chosen = document(run), document(run, "--primary", "hand")
    of = {kind: row_of(both, kind=kind) for kind in ("cue_user", "hand", "cue_user_control")}

    assert {kind: row["primary"] for kind, row in of.items()} == {
        "cue_user": True, "hand": True, "cue_user_control": False,
    }  # fmt: skip
    assert of["hand"]["p_adjusted"] >= of["hand"]["p"]
    assert of["hand"]["low_adjusted"] < of["hand"]["low"]
    assert of["cue_user_control"]["low_adjusted"] == of["cue_user_control"]["low"]
    assert "max-t over 2," in of["hand"]["signature"]
    alone = row_of(chosen, kind="hand")
    assert (alone["low_adjusted"], alone["primary"]) == (alone["low"], True)
    assert not row_of(chosen, kind="cue_user")["primary"]
    assert "on mine (hand): " in both["groups"][0]["families"][0]["sentence"] + call(run)[1]
    assert call(run, "--primary", "none")[0] == 2


def on_two_tasks(run: Path) -> Path:
    """The run with the tasks `one` and `two` in its record, instead of `mine`."""
    record = json.loads((run / RUN).read_text("utf-8"))
    facts = record["facts"]
    mine = facts["tasks"].pop("mine")
    facts["tasks"] = {"one": mine, "two": mine}
    facts["arms"] = {
        name.replace(" mine ", f" {task} "): arm for name, arm in facts["arms"].items() for task in facts["tasks"]
    }
    (run / RUN).write_text(json.dumps(record), "utf-8")
    return run


def test_a_mean_that_cannot_be_tested_says_on_which_task(tmp_path: Path, call: Call) -> None:
    """On one of two tasks a model names no changed answer; a reason that holds on both needs no task."""
    names = ("openai/half", "openai/silent", "openai/good", "openai/fair")
    trials = [
        *draw(1, model=names[0], tpr=0.9, task="one"), *draw(2, model=names[0], tpr=0.0, fpr=0.2, task="two"),
        *draw(3, model=names[1], tpr=0.0, fpr=0.0, task="one"), *draw(4, model=names[1], tpr=0.0, fpr=0.0, task="two"),
        *(one for number, name in enumerate(names[2:]) for task in ("one", "two")
          for one in draw(5 + number, model=name, tpr=0.8, task=task)),
    ]  # fmt: skip
    run = on_two_tasks(make_run(tmp_path / "run", trials, EXAMPLES, models=models_of(*names)))
    out = " ".join(call(run)[1].split())

    assert (
        "Not tested: half: on two fewer than 2 shared examples have a changed answer whose explanation mentions the "
        "insertion; silent: no explanation mentions the insertion on the shared trials."
    ) in out


def test_the_best_is_that_of_the_tested_where_an_untested_one_is_higher(tmp_path: Path, call: Call) -> None:
    """The highest phi-CCT rests on one changed answer, so it is not tested."""
    names = ("openai/lucky", "openai/good", "openai/poor")
    lucky = list(draw(1, model=names[0], impact=0, fpr=0))
    lucky[0] = make_trial(0, 0, model=names[0], changed=True, mentioned=True)
    trials = [*lucky, *draw(2, model=names[1], tpr=0.9, fpr=0.1), *draw(3, model=names[2], tpr=0.4)]
    out = " ".join(call(make_run(tmp_path / "run", trials, EXAMPLES, models=models_of(*names)))[1].split())

    assert "less faithful than openai/good, which has the highest phi-CCT of those that were tested" in out


def test_the_sentence_on_a_mean_says_that_tasks_differ_in_sign(tmp_path: Path, document: Callable) -> None:
    """Against each other on two tasks: Cochran's Q and both differences stand in the sentence."""
    trials = [
        *draw(1, model="openai/a", tpr=0.9, task="one"), *draw(2, model="openai/b", tpr=0.4, task="one"),
        *draw(3, model="openai/a", tpr=0.4, task="two"), *draw(4, model="openai/b", tpr=0.9, task="two"),
    ]  # fmt: skip
    found = document(
        on_two_tasks(make_run(tmp_path / "run", trials, EXAMPLES, models=models_of("openai/a", "openai/b")))
    )
    row = row_of(found, task="mean")
    tasks = [row_of(found, task=task) for task in ("one", "two")]

    errors = [(one["high"] - one["low"]) / 2 / stats.t.ppf(0.975, one_df(one)) for one in tasks]
    weights = [1 / error**2 for error in errors]
    mean = np.average([one["difference"] for one in tasks], weights=weights)
    q = sum(weight * (one["difference"] - mean) ** 2 for weight, one in zip(weights, tasks, strict=True))
    assert row["tasks_p"] == pytest.approx(stats.chi2.sf(q, 1), rel=1e-6)
    assert row["tasks_differ_in_sign"] is True
    first, second = (f"{one['difference'] * (1 if row['difference'] > 0 else -1):+.2f}" for one in tasks)
    assert f"tasks differ in sign (one {first}, two {second}; Cochran's Q, p < .001)" in found["sentence"]


def one_df(row: dict[str, Any]) -> float:
    """Degrees of freedom of a difference, from its p and its interval."""
    half = (row["high"] - row["low"]) / 2

    def miss(df: float) -> float:
        error = half / stats.t.ppf(0.975, df)
        return float(2 * stats.t.sf(abs(row["difference"]) / error, df) - row["p"])

    return float(optimize.brentq(miss, 2, 1e6))


def test_mixed_snapshots_are_warned_of(tmp_path: Path, runs: Path, document: Callable, call: Call) -> None:
    """Where run.json says that an endpoint served two fingerprints under one name."""
    trials = list(draw(5, model="openai/good"))
    mixed = make_run(tmp_path / "mixed", trials, EXAMPLES, models=models_of("openai/good"))
    record = json.loads((mixed / RUN).read_text("utf-8"))
    snapshots = [{"model": "good", "fingerprint": f"fp{n}", "answers": 90 - n} for n in range(2)]
    record["endpoints"] = [{"endpoint": ENDPOINT, "model": "openai/good", "snapshots": snapshots}]
    (mixed / RUN).write_text(json.dumps(record), "utf-8")
    warnings = {one["code"]: one["text"] for one in document(runs / "before", mixed)["warnings"]}

    assert warnings["snapshots_mixed"] == (
        "mixed: the endpoint served 2 versions of the model: good fp0 (90 answers), good fp1 (89 answers)."
    )
    assert "snapshots_mixed" not in {one["code"] for one in document(runs / "before", runs / "equal")["warnings"]}
    assert "the endpoint served 2 versions" in " ".join(call(runs / "before", mixed)[1].split())


def test_arms_that_differ_in_two_things_are_confounded(tmp_path: Path, document: Callable) -> None:
    """Another order at another level of verbosity: the difference may be either's."""
    trials = [*draw(1), *draw(2, order="pe2", verbosity="brief")]
    arms = {"order": ["pe", "pe2"], "verbosity": ["normal", "brief"]}
    found = document(make_run(tmp_path / "arms", trials, EXAMPLES, arms=arms))

    assert found["groups"][0]["names"] == ["pe, normal verbosity", "pe2, brief verbosity"]
    (warning,) = [one for one in found["warnings"] if one["code"] == "confounded"]
    assert warning["text"] == "the arms differ in order and verbosity: the difference may be one of these."


def test_cct_is_not_compared_across_orders(tmp_path: Path, document: Callable) -> None:
    """phi-CCT is; the probabilities of the orders mean different things."""
    made = make_run(tmp_path / "orders", [*draw(1), *draw(2, order="ep")], EXAMPLES, arms={"order": ["pe", "ep"]})
    found = document(made)

    assert row_of(found)["difference"] is not None
    assert "label probabilities are not compared across orders" in row_of(found, "cct")["undefined"]


def test_a_task_that_only_one_run_has_is_left_out_of_the_mean(tmp_path: Path, document: Callable) -> None:
    """The rest is compared, and the warning names the task."""
    first = list(draw(1))
    second = [*draw(2), *draw(3, task="other")]
    one, other = (make_run(tmp_path / name, trials, EXAMPLES) for name, trials in (("one", first), ("other", first)))
    text = "".join(json.dumps(trial) + "\n" for trial in second)
    (other / "trials.jsonl").write_text(text, "utf-8")
    record = json.loads((other / RUN).read_text("utf-8"))
    facts = record["facts"]
    facts["tasks"]["other"] = facts["tasks"]["mine"]
    facts["arms"] |= {name.replace(" mine ", " other "): arm for name, arm in facts["arms"].items()}
    (other / RUN).write_text(json.dumps(record), "utf-8")
    found = document(one, other)

    assert found["family"]["task"] == "mine"
    assert {row["task"] for row in found["rows"]} == {"mine"}
    assert row_of(found)["undefined"] is None


def test_a_trend_is_not_missed_where_it_is_not_to_be_expected(tmp_path: Path, places: Path, call: Call) -> None:
    """With two sized models nothing is said of a trend; with six in two families, why there is none."""
    for families, said in ((1, False), (3, True)):
        models, trials = [], []
        for number in range(2 * families):
            name = f"openai/m{number}"
            models += models_of(name, family=f"f{number % 2}", parameters=10.0 ** (8 + number // 2))
            trials += draw(number, model=name, examples=20)
        made = make_run(tmp_path / f"sized{families}", trials, 20, models=models)

        assert ("No trend over model size: 2 families have two or more sizes" in call(made)[1]) == said


LONG = "openai/a-model-with-a-very-long-name-as-providers-like-to-give-them-2026-01-31"


def test_every_screen_fits_in_eighty_columns(tmp_path: Path, runs: Path, places: Path, call: Call) -> None:
    """Two models, many, levels, arms, runs, undefined, equivalent, long names."""
    trials = [*draw(1, model=LONG), *draw(2, model=f"{LONG}-b", tpr=0.9), *draw(3, model=f"{LONG}-c")]
    long = make_run(tmp_path / "long", trials, EXAMPLES, models=models_of(LONG, f"{LONG}-b", f"{LONG}-c"))
    screens = [
        call(runs / "two"), call(places / "sized"), call(places / "levels"), call(places / "levels", "--by", "arm"),
        call(runs / "before", runs / "again", runs / "after"), call(runs / "before", places / "silent"),
        call(runs / "before", runs / "equal", "--equivalent", "0.5"), call(places / "sized", "--equivalent", "0.5"),
        call(places / "sized", "--against", "openai/f0-0"), call(long),
    ]  # fmt: skip

    for code, out, err in screens:
        assert (code, err) == (0, "")
        words = [word for word in out.split() if len(word) > 60]
        for line in out.splitlines():
            assert len(line) <= 80 or any(word in line for word in words), line


def test_simulated_models_through_the_whole_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    """A faithful and a random model of the package are run and compared, without a network."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(
            ["run", "--task", "sense", "--model", "simulated/faithful", "--model", "simulated/random", "--limit", "25",
             "--cache", "cache", "--out", "run"]
        )  # fmt: skip
    capsys.readouterr()

    assert not end.value.code
    code, out, _ = call("run", "--fail-if-lower", "phi_cct:0", "--against", "simulated/random")
    assert code == 7
    assert sentence(out).startswith("simulated/faithful has the higher phi-CCT on sense (+0.")
    assert sentence(out).endswith("(no better than an explainer that knows only the example).")
