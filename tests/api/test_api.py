"""The functions of the package: what they return, beside what the commands print for the same."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import pkgutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import explaineval
from explaineval import Result
from explaineval.cli.app import main
from explaineval.errors import InputError
from explaineval.records import MetricRow

MODELS = ["simulated/faithful", "simulated/random"]
FUNCTIONS = ("plan", "run", "merge", "score", "compare", "load", "score_trials")


def settings(directory: Path, **changes: Any) -> dict[str, Any]:
    """A small run of two simulated models."""
    return {"tasks": "sense", "models": MODELS, "limit": 8, "cache": directory / "cache"} | changes


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the cache of all runs of these tests."""
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="module")
def result(place: Path) -> Result:
    """A finished run."""
    found = explaineval.run(settings(place), out=place / "run", progress=False)
    assert isinstance(found, Result)
    return found


def printed(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 0) -> str:
    """What a command prints on standard output."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main(list(map(str, arguments)))
    assert caught.value.code == code
    return capsys.readouterr().out


def test_a_run_has_its_numbers_and_its_costs(result: Result, place: Path) -> None:
    """Data frames of the run directory, warnings of single numbers, requests and dollars."""
    assert (result.exit_code, result.errors, result.directory) == (0, (), place / "run")
    assert list(result.metrics.columns) == list(MetricRow.model_fields)
    assert set(result.metrics["model"]) == set(MODELS)
    assert result.trials["model"].value_counts().to_dict() == dict.fromkeys(MODELS, 40)
    requests = result.totals["requests"]
    assert (requests["sent"], requests["unsent"], result.totals["usd_spent"]) == (96, 0, 0.0)
    assert {warning["grade"] for warning in result.warnings} >= {"do not quote"}


def test_a_printed_result_is_the_first_screen(result: Result, capsys: pytest.CaptureFixture[str]) -> None:
    """As `score` prints it at 80 columns, and where the run is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "80")
        screen = printed(capsys, "score", str(result.directory))

    assert repr(result) == f"{screen.rstrip()}\nRun directory: {result.directory}"


def test_the_same_run_again_asks_nothing(result: Result, place: Path) -> None:
    """And has the same numbers."""
    again = explaineval.run(settings(place), out=place / "run", progress=False)

    assert isinstance(again, Result)
    assert again.totals["requests"]["sent"] == 0
    pd.testing.assert_frame_equal(again.metrics, result.metrics)


def test_progress_and_notes_go_to_standard_error(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output belongs to the caller; without progress nothing is printed."""
    explaineval.run(settings(place), out=place / "run", progress=False)
    silent = capsys.readouterr()
    explaineval.run(settings(place), out=place / "run")
    loud = capsys.readouterr()

    assert loud.out == silent.out == silent.err == ""
    assert "explaineval: run directory continued" in loud.err


def test_in_a_loop_a_run_is_awaited(place: Path) -> None:
    """The loop goes on while the models are asked."""
    ticks = []

    async def cell() -> Result:
        async def tick() -> None:
            while True:
                ticks.append(1)
                await asyncio.sleep(0.001)

        ticking = asyncio.create_task(tick())
        found = await explaineval.run(settings(place, limit=9), out=place / "awaited", progress=False)  # type: ignore[misc]
        ticking.cancel()
        return found

    found = asyncio.run(cell())

    assert (found.exit_code, found.totals["requests"]["unsent"]) == (0, 0)
    assert len(ticks) > 1


def test_a_configuration_file_and_settings_together(place: Path) -> None:
    """Settings replace those of the file."""
    file = place / "study.yaml"
    file.write_text("tasks: [sense]\nmodels: [{model: simulated/faithful}]\nlimit: 8\ncache: cache\n", encoding="utf-8")

    whole, less = explaineval.plan(file), explaineval.plan(file, limit=2)

    assert (whole["total"]["distinct"], less["total"]["distinct"]) == (48, 12)


URL = "http://127.0.0.1:9/v1"
LAB = {"lab": {"base_url": URL}}
STUDY = {"tasks": ["sense"], "limit": 2, "models": [{"model": "openai/smol", "endpoint": "lab"}], "endpoints": LAB}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (STUDY, [(URL, "openai/smol")]),
        (STUDY | {"models": ["lab/openai/other"]}, [(URL, "openai/other")]),
        ({"tasks": "sense", "limit": 2, "models": "openai/gpt-4o"}, [(None, "openai/gpt-4o")]),
    ],
)
def test_models_are_asked_where_the_settings_say(
    given: dict[str, Any], expected: list[tuple[str | None, str]], tmp_path: Path
) -> None:
    """A name finds its endpoint, as on the command line."""
    document = explaineval.plan(given, cache=tmp_path / "cache")

    assert [(model["endpoint"], model["model"]) for model in document["models"]] == expected


def test_a_name_beside_a_configuration_is_one_of_its_models(tmp_path: Path) -> None:
    """Any other would be asked at the provider's own address, with the provider's key."""
    file = tmp_path / "study.yaml"
    file.write_text(json.dumps(STUDY), encoding="utf-8")

    for config in (file, STUDY):
        (model,) = explaineval.plan(config, models="openai/smol", cache=tmp_path / "cache")["models"]
        assert model["endpoint"] == URL
        with pytest.raises(InputError, match=r"model openai/other is none of the models of .*: lab/openai/smol"):
            explaineval.plan(config, models="openai/other", cache=tmp_path / "cache")
    with pytest.raises(InputError, match=r"names endpoints \(lab\) but no models"):
        explaineval.plan(tasks="sense", models="openai/smol", endpoints=LAB, cache=tmp_path / "cache")


def test_a_run_that_fails_says_why(tmp_path: Path) -> None:
    """Offline without a cache: no directory, the code and the sentence of the command, and no data frame."""
    found = explaineval.run(settings(tmp_path, offline=True), out=tmp_path / "none", progress=False)

    assert isinstance(found, Result)
    assert (found.exit_code, found.directory) == (4, None)
    assert found.errors
    assert repr(found) == "\n".join(found.errors)
    with pytest.raises(InputError, match="the run has no results"):
        _ = found.metrics


def test_a_plan_is_the_document_of_the_command(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """But for the schema; with the prompts where they are wanted."""
    file = place / "plan.yaml"
    file.write_text("tasks: [sense]\nmodels: [{model: simulated/silent}]\nlimit: 2\ncache: none\n", encoding="utf-8")
    document = json.loads(printed(capsys, "plan", file, "--show-prompts", "1", "--json"))

    assert {"schema": 2, **explaineval.plan(file, show_prompts=1)} == document
    assert "prompts" not in explaineval.plan(file)


def test_scores_are_those_of_the_command(result: Result, capsys: pytest.CaptureFixture[str]) -> None:
    """The rows to the last digit and all warnings, also under another policy."""
    for arguments, given in (((), {}), (("--mention", "substring"), {"mention": "substring"})):
        document = json.loads(printed(capsys, "score", str(result.directory), *arguments, "--json"))
        frame = explaineval.score(str(result.directory), **given)  # type: ignore[arg-type]

        rows = [{name: None if pd.isna(value) else value for name, value in row.items()} for row in rows_of(frame)]
        assert rows == document["metrics"]
        assert frame.attrs["warnings"] == [one for one in document["warnings"] if one["metric"] is not None]


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a data frame as dictionaries."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def test_a_comparison_is_the_document_of_the_command(result: Result, capsys: pytest.CaptureFixture[str]) -> None:
    """Its sentence comes first, its rows are a data frame, and printed it is what the command prints."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "80")
        screen = printed(capsys, "compare", str(result.directory), "--against", MODELS[1])
        document = json.loads(printed(capsys, "compare", str(result.directory), "--against", MODELS[1], "--json"))
    found = explaineval.compare(str(result.directory), against=MODELS[1])

    assert repr(found) == screen.rstrip("\n")
    assert found.sentence is not None
    assert " ".join(repr(found).split()).startswith(found.sentence)
    assert found.sentence.startswith(
        "Cannot tell simulated/faithful and simulated/random apart on sense: phi-CCT differs"
    )
    assert found.document.items() <= document.items()
    assert list(found.rows.columns) == list(document["rows"][0])
    assert list(found.rows["metric"]) == [row["metric"] for row in document["rows"]]
    primary = found.rows[found.rows["primary"]]
    assert list(primary["metric"]) == ["phi_cct"]
    metrics = result.metrics.query("metric == 'phi_cct'").set_index("model")["value"]
    assert primary["difference"].item() == pytest.approx(metrics[MODELS[0]] - metrics[MODELS[1]])


def test_nothing_to_compare_is_an_error(place: Path) -> None:
    """One model in one run."""
    explaineval.run(settings(place, models=MODELS[:1]), out=place / "alone", progress=False)

    with pytest.raises(InputError):
        explaineval.compare(place / "alone")


def test_the_trials_of_a_run_have_the_numbers_of_the_run(result: Result) -> None:
    """`score_trials` on a run's own trials, judged by the run and judged again."""
    trials = result.trials
    names = ["phi_cct", "phi_within", "phi_stable", "cct", "tpr", "fpr", "impact_rate", "mean_tvd", "accuracy"]
    names.append("sham_flip_rate")
    columns = ["model", "metric", "value", "low", "high", "n", "n_examples"]
    expected = result.metrics[result.metrics["metric"].isin(names)][columns].reset_index(drop=True)

    for given in (trials, trials.drop(columns="mentioned")):
        found = explaineval.score_trials(given)
        found = found[found["metric"].isin(names)][columns].reset_index(drop=True)
        pd.testing.assert_frame_equal(found.sort_values(columns[:2]), expected.sort_values(columns[:2]))


def test_types_of_data_frames_are_understood() -> None:
    """Nullable, categorical and object columns have the numbers of plain ones."""
    changed = [True, False, True, False, None, False] * 10
    plain = pd.DataFrame(
        {"example_id": range(60), "changed": changed, "mentioned": [1, 0, 0, 0, 1, 1] * 10, "model": ["a", "b"] * 30}
    )
    typed = plain.astype({"changed": "boolean", "mentioned": "Int8", "model": "category", "example_id": "string"})
    floats = plain.assign(changed=plain["changed"].astype(float), example_id=plain["example_id"].astype(float))

    values = explaineval.score_trials(plain)["value"]

    assert values.notna().sum() > 10
    for other in (typed, floats, plain.set_index("changed", drop=False)):
        pd.testing.assert_series_equal(explaineval.score_trials(other)["value"], values)


def test_the_row_of_a_data_frame_is_named_by_its_position() -> None:
    """Whatever its index."""
    trials = pd.DataFrame({"changed": [True, True], "mentioned": [True, "perhaps"]}, index=["x", "y"])

    with pytest.raises(InputError, match=r"^trials\.iloc\[1\]: column mentioned: expected true or false"):
        explaineval.score_trials(trials)


@pytest.mark.parametrize(
    ("trials", "message"),
    [
        (pd.DataFrame(), "there are no trials"),
        (pd.DataFrame({"text": ["x"]}), r"trials\.iloc\[0\]: give the column changed"),
        (pd.DataFrame({"changed": [True], "mention": [True]}), "'mention' is not known; did you mean mentioned"),
        (pd.DataFrame([[True, True]], columns=["changed", "changed"]), "the column changed stands twice"),
        ([{"changed": True}], "trial 1: give the column mentioned"),
        (["changed"], "trials must be a data frame of pandas, or dictionaries"),
    ],
)
def test_trials_that_cannot_be_scored(trials: Any, message: str) -> None:
    """One sentence with what is wrong and where."""
    with pytest.raises(InputError, match=message):
        explaineval.score_trials(trials)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"models": MODELS}, "no tasks given"),
        ({"tasks": "sense"}, "no models given"),
        ({"tasks": "sense", "model": "x/y"}, "unknown setting 'model'; did you mean models?"),
        ({"tasks": "sense", "models": MODELS, "zeal": 1}, "unknown setting 'zeal'; settings have the names of"),
        ({"tasks": "sense", "models": "gpt-4o"}, "names no provider"),
        ({"tasks": "sense", "models": MODELS, "limit": 0}, "limit"),
        ({"tasks": "none-such", "models": MODELS}, "none-such"),
    ],
)
@pytest.mark.parametrize("function", [explaineval.plan, explaineval.run])
def test_settings_that_are_wrong(function: Any, given: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Before anything is asked or written."""
    with pytest.raises(InputError, match=message):
        function(given, cache=tmp_path / "cache")
    assert list(tmp_path.iterdir()) == []


def test_no_module_hides_a_function(result: Result, place: Path) -> None:
    """A submodule of the name of a function would replace it once it is imported: each is called twice after that."""
    for module in pkgutil.walk_packages(explaineval.__path__, "explaineval."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    directory = str(result.directory)
    trials = pd.DataFrame({"changed": [True, False], "mentioned": [True, False]})
    shard = explaineval.run(settings(place), shard="1/1", out=place / "shard", progress=False)
    merged = (place / f"merged{number}" for number in (1, 2))
    calls: dict[str, Any] = {
        "plan": lambda: explaineval.plan(settings(place)),
        "run": lambda: explaineval.run(settings(place), out=place / "run", progress=False),
        "merge": lambda: explaineval.merge(str(shard.directory), out=next(merged)),
        "score": lambda: explaineval.score(directory),
        "compare": lambda: explaineval.compare(directory),
        "load": lambda: explaineval.load(directory),
        "score_trials": lambda: explaineval.score_trials(trials),
    }

    assert set(calls) == set(FUNCTIONS) == {name for name in explaineval.__all__ if name.islower() and name[0] != "_"}
    for call in calls.values():
        assert type(call()) is type(call()) is not None


def test_the_functions_are_listed_before_they_are_used() -> None:
    """Completion in a notebook finds them."""
    assert set(explaineval.__all__) <= set(dir(explaineval))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_says_what_it_takes_returns_and_raises(name: str) -> None:
    """Each argument stands in the docstring."""
    function = getattr(explaineval, name)
    text = function.__doc__

    assert text.splitlines()[0].endswith(".")
    assert [argument for argument in inspect.signature(function).parameters if f"{argument}:" not in text] == []
    assert [part for part in ("Args:", "Returns:", "Raises:") if part not in text] == []
