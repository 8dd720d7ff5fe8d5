"""The trials on the report page: which are drawn, that totals are those of the run, and that no text breaks out."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explaineval.records import Trial
from explaineval.reporting.page.trials import LONGEST, UNSCORED, Draw, browse_trials, embeddable, split_text
from explaineval.reporting.results import read_results
from explaineval.rundir.directory import read_trials
from explaineval.text import visible
from makers.runs import MODEL, make_missing, make_run, make_sham, make_trial, write_trials

OTHER = "openai/large"
MODELS = [{"model": name, "endpoint": "lab"} for name in (MODEL, OTHER)]
CELLS = {"a": (True, True), "b": (True, False), "c": (False, True), "d": (False, False)}


def browse(*directories: Path, **options: Any) -> dict[str, Any]:
    """The payload of these runs, with each trial as a dictionary."""
    browser = browse_trials(read_results(list(directories)), **options)
    document: dict[str, Any] = json.loads(browser.payload)
    rows = [[*row, *[None] * (len(document["columns"]) - len(row))] for row in document["trials"]]
    document["rows"] = [dict(zip(document["columns"], row, strict=True)) for row in rows]
    document["shown"], document["total"], document["files"] = browser.shown, browser.total, browser.files
    return document


def text(document: dict[str, Any], place: int | None) -> list[str] | None:
    """The pieces of a text."""
    return None if place is None else document["texts"][place]


def lopsided(examples: int = 40) -> list[dict[str, Any]]:
    """Trials of two models: nearly all in cell d, two in a, one in b, three in c, and one refusal."""
    trials = []
    for model in (MODEL, OTHER):
        for example in range(examples):
            for number in range(6):
                cell = {(0, 0): "a", (5, 1): "a", (7, 2): "b", (1, 1): "c", (2, 1): "c", (3, 1): "c"}
                changed, mentioned = CELLS[cell.get((example, number), "d")]
                trials.append(make_trial(example, number, changed=changed, mentioned=mentioned, model=model))
        trials[-1] = make_missing(examples - 1, 5, "after", model=model) | {"status": "refused"}
        trials += [make_sham(example) | {"model": model} for example in range(examples)]
    return trials


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with few trials outside cell d."""
    return make_run(tmp_path_factory.mktemp("runs") / "run", lopsided(), 40, models=MODELS)


def test_all_trials_are_shown_where_they_fit(run: Path) -> None:
    """Shams are noise, not trials that anybody wants to read."""
    document = browse(run)

    trials = [trial for trial in lopsided() if trial["kind"] != "sham"]
    assert document["shown"] == document["total"] == len(trials) == 480
    assert {row["id"] for row in document["rows"]} == {Trial.model_validate(trial).id for trial in trials}
    assert document["files"] == ("run/trials.jsonl",)


def test_rare_outcomes_are_all_there_and_totals_are_those_of_the_run(run: Path) -> None:
    """A small budget leaves out trials of the largest cells only, of both models alike."""
    document = browse(run, budget=12_000)

    totals = [condition[-1] for condition in document["conditions"]]
    shown = Counter((row["condition"], row["cell"]) for row in document["rows"])
    assert totals == [{"a": 2, "b": 1, "c": 3, "d": 233, "refused": 1}] * 2
    assert document["shown"] < document["total"] == 480
    for condition in (0, 1):
        assert [shown[condition, cell] for cell in ("a", "b", "c", "refused")] == [2, 1, 3, 1]
    assert shown[0, "d"] - shown[1, "d"] in (0, 1, -1)
    assert shown[0, "d"] > 10


def test_models_show_the_same_inputs(run: Path) -> None:
    """So that they can be compared with each other."""
    document = browse(run, budget=12_000)

    inputs = [
        {row["input"] for row in document["rows"] if (row["condition"], row["cell"]) == (condition, "d")}
        for condition in (0, 1)
    ]
    assert len(inputs[0] ^ inputs[1]) <= 1
    assert len(inputs[0]) > 10


def test_the_order_of_lines_changes_nothing(run: Path, tmp_path: Path) -> None:
    """Trials are written as they are completed; the page does not depend on that."""
    trials = lopsided()
    random.Random(3).shuffle(trials)
    other = make_run(tmp_path / "run", trials, 40, models=MODELS)

    first, second = browse(run, budget=12_000), browse(other, budget=12_000)

    assert {row["id"] for row in first["rows"]} == {row["id"] for row in second["rows"]}


def test_what_is_held_in_memory_is_bounded(run: Path) -> None:
    """A run of any length holds no more, and still one trial of each outcome at least."""
    draw = Draw(0, 100_000)
    for trial in read_trials(run):
        draw.add(trial)

    assert draw.size <= 100_000
    assert len(list(draw.ranked())) * 2_000 < 100_000
    assert {cell for _, cell in draw.strata} == {"a", "b", "c", "d", "refused"}
    assert all(stratum.held for stratum in draw.strata.values())
    assert sum(stratum.total for stratum in draw.strata.values()) == 480


def test_words_are_marked_where_they_stand(tmp_path: Path) -> None:
    """Every second piece of a text is marked: the insertion, and each of its mentions."""
    trial = make_trial(0, 0, mentioned=True) | {"explanation": "Grumpy? The clerk is grumpy.", "label_after": "B"}
    document = browse(make_run(tmp_path / "run", [trial], 1))

    (row,) = document["rows"]
    assert text(document, row["after"]) == ["The ", "grumpy", " clerk waits."]
    assert text(document, row["explanation"]) == ["", "Grumpy", "? The clerk is ", "grumpy", "."]
    assert text(document, row["explanation_before"]) == ["Because."]
    assert document["rules"][row["rule"]] == "policy word"
    assert (row["field"], row["label_before"], row["label_after"], row["tvd"]) == ("note", "A", "B", 0)


def test_another_decision_of_the_run_is_told(tmp_path: Path) -> None:
    """What counts is the run's own record, whatever the policy says of the text now."""
    trial = make_trial(0, 0, mentioned=True) | {"explanation": "Nothing of it."}
    document = browse(make_run(tmp_path / "run", [trial], 1))

    (row,) = document["rows"]
    assert row["cell"] == "c"
    assert document["rules"][row["rule"]] == "the run's own record, unlike policy word"


def test_cues_have_no_field(tmp_path: Path) -> None:
    """Their text stands beside the input; phrases decide on mentions, and the letter they suggest is told."""
    cue = {"kind": "cue_user", "field": None, "inserted": "I think it is (B).", "text_after": None}
    trial = make_trial(0, 0, mentioned=True) | cue | {"explanation": "Because you think so."}
    directory = make_run(tmp_path / "run", [trial], 1)
    edit = {"id": "e0.0", "task": "mine", "example_id": "e0", "kind": "cue_user", "inserted": "x", "target": "B"}
    (directory / "interventions.jsonl").write_text(json.dumps(edit) + "\n")

    document = browse(directory)

    (row,) = document["rows"]
    assert (row["field"], row["after"], row["target"]) == (None, None, "B")
    assert text(document, row["inserted"]) == ["I think it is (B)."]
    assert text(document, row["explanation"]) == ["Because ", "you think", " so."]


def test_every_status_has_words() -> None:
    """A status without words would break the page."""
    status = Trial.model_fields["status"].annotation

    assert set(UNSCORED) == set(status.__args__) - {"ok"}  # type: ignore[union-attr]


@pytest.mark.parametrize("side", ["before", "after", "both"])
def test_trials_without_a_score_say_which_side_is_missing(tmp_path: Path, side: str) -> None:
    """What could be read of them is still shown."""
    document = browse(make_run(tmp_path / "run", [make_missing(0, 0, side)], 1))

    (row,) = document["rows"]
    assert (row["cell"], row["side"]) == ("unparsed", side)
    assert (row["explanation_before"] is None) == (side != "after")
    assert (row["explanation"] is None) == (side != "before")


def test_a_trial_in_two_runs_has_two_links(run: Path, tmp_path: Path) -> None:
    """The first run's is the trial's own id."""
    other = make_run(tmp_path / "other", [make_trial(0, 0)], 1)

    document = browse(run, other)

    name = Trial.model_validate(make_trial(0, 0)).id
    assert {row["id"] for row in document["rows"]} >= {name, f"{name}-2"}
    assert len({row["id"] for row in document["rows"]}) == document["shown"] == 481
    assert document["runs"] == ["run", "other"]


HOSTILE = "</script><script>alert(1)</script><!-- <img src=x onerror=alert(2)> \u2028\u2029\x00\x1b[31m\u202e $\\frac"


def test_no_text_ends_the_element_that_holds_it(tmp_path: Path) -> None:
    """Whatever a model, a file or a name says."""
    words = dict.fromkeys(("explanation", "explanation_before", "reasoning", "text_after", "inserted"), HOSTILE)
    trial = make_trial(0, 0) | words | {"field": "</script>", "verbosity": "normal", "tvd_reason": "<!--", "tvd": None}
    directory = make_run(tmp_path / "<!--<script>", [make_trial(0, 0)], 1)
    write_trials(directory, [trial])

    payload = str(browse_trials(read_results([directory])).payload)

    assert not set("<>&\u2028\u2029\x00\x1b\u202e") & set(payload)
    document = json.loads(payload)
    assert any("</script><script>alert(1)" in "".join(pieces) for pieces in document["texts"])
    assert document["runs"] == ["<!--<script>"]


@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_embedding_changes_no_value(value: object) -> None:
    """It is still the same JSON."""
    written = embeddable(value)

    assert json.loads(written) == value
    assert not set("<>&\u2028\u2029") & set(written)


@given(st.text(max_size=60), st.lists(st.integers(0, 60), max_size=8, unique=True).map(sorted))
def test_pieces_join_to_the_text(words: str, ends: list[int]) -> None:
    """Nothing is lost or doubled, and every second piece is marked."""
    ends = [end for end in ends if end <= len(words)]
    spans = list(zip(ends[::2], ends[1::2], strict=False))

    pieces = split_text(words, spans)

    assert list(pieces[1::2]) == [visible(words[start:stop]) for start, stop in spans]
    assert len(pieces) == 2 * len(spans) + 1
    assert len("".join(pieces)) >= len(words)


def test_a_long_text_is_cut_around_what_is_marked() -> None:
    """A mention is visible however far behind it stands."""
    words = "x" * 90_000 + " grumpy " + "y" * 9_992

    pieces = split_text(words, [(90_001, 90_007)])

    assert pieces[1] == "grumpy"
    assert pieces[0].endswith("x ")
    assert sum(map(len, pieces)) <= LONGEST
    assert split_text(words, []) == ("x" * LONGEST,)


def test_the_page_says_how_long_a_cut_text_is(tmp_path: Path) -> None:
    """And names the command that shows the whole of it."""
    document = browse(make_run(tmp_path / "run", [make_trial(0, 0) | {"explanation": "w" * 100_000}], 1))

    (row,) = document["rows"]
    assert document["cut"] == {str(row["explanation"]): 100_000}
    assert text(document, row["explanation"]) == ["w" * LONGEST]
    assert document["examples"][row["example"]][4] == "explaineval show run --example e0 --answers"
