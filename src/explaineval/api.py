"""The Python API: plan, run, merge, score, compare and load, and score_trials for trials from elsewhere.

`explaineval.NAME` gives each of them. Settings have the names of the configuration file.
"""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from explaineval.cli.configuration import find_models
from explaineval.config import ClientConfig, RunConfig, build, read_config
from explaineval.config.configs import identify
from explaineval.config.fields import KEYWORDS
from explaineval.errors import InputError
from explaineval.records import Mention

if TYPE_CHECKING:
    import pandas as pd

    from explaineval.execution.pool import StopRequest
    from explaineval.execution.run import Outcome
    from explaineval.reporting.results import Run
    from explaineval.scoring.rows import Scores

PathOrText = str | PathLike[str]
WIDTH = 80


def plan(
    config: PathOrText | Mapping[str, Any] | None = None, /, *, show_prompts: int = 0, **settings: Any
) -> dict[str, Any]:
    """Return what a run would ask and cost, as `explaineval plan --json` does. Nothing is sent.

    Args:
        config: a configuration file, or its contents as a mapping.
        show_prompts: for how many inputs of each model, task and arm the requests are given word for word.
        **settings: replace those of `config`. A task or model may be given by its name alone; a model's name is looked
            up among the models of `config`, and is ENDPOINT/MODEL where there are only endpoints.

    Returns:
        `models` (counts of requests, tokens and dollars of each model), `total`, `warnings` and, if wanted, `prompts`,
        as docs/json.md describes them.

    Raises:
        InputError: the configuration is not valid.
    """
    from explaineval.cli.output import note_document
    from explaineval.execution.dry_run import plan_run
    from explaineval.planning.prepare import key_notes

    science, client, _ = _configure(config, settings)
    found = plan_run(science, client, show_prompts)
    return found.document | {
        "warnings": [note_document(note) for note in (*key_notes(science, client, planned=True), *found.notes)]
    }


@dataclass(frozen=True, repr=False)
class Result:
    """What a run came to. `exit_code` is that of `explaineval run`: 0 where every planned request has an outcome.

    `directory` is None where nothing was stored, bought or found. `totals` has the counts of requests and dollars as in
    run.json. `notes` and `errors` are sentences about the run as a whole; `warnings` are what limits single numbers, as
    in `explaineval run --json`. Printed, it shows the first screen of the run.
    """

    directory: Path | None
    exit_code: int
    totals: dict[str, Any]
    notes: tuple[str, ...]
    errors: tuple[str, ...]
    warnings: tuple[Mapping[str, Any], ...]
    screen: str

    @property
    def metrics(self) -> pd.DataFrame:
        """One row for each metric, with the columns of metrics.csv. Raises InputError where there is no directory."""
        return self._load().metrics

    @property
    def trials(self) -> pd.DataFrame:
        """One row for each line of trials.jsonl. Raises InputError where there is no directory."""
        return self._load().trials

    def _load(self) -> Run:
        from explaineval.reporting.results import load

        if self.directory is None:
            raise InputError(f"the run has no results: {' '.join(self.errors) or 'nothing was asked'}")
        return load(self.directory)

    def __repr__(self) -> str:
        place = f"Run directory: {self.directory}" if self.directory else ""
        return "\n".join(filter(None, (self.screen, *self.errors, place)))


def run(
    config: PathOrText | Mapping[str, Any] | None = None,
    /,
    *,
    out: PathOrText | None = None,
    progress: bool = True,
    **settings: Any,
) -> Result | Awaitable[Result]:
    """Ask models with and without interventions, store every answer, and score, as `explaineval run` does.

    In a script it returns the result. Where an event loop runs, as in a notebook, it returns an awaitable:
    `result = await explaineval.run(...)`. If that is cancelled (in a notebook: interrupted), nothing more is sent,
    answers under way are waited for and stored, what is there is scored, and then the cancellation goes on. The same
    call continues where the run stopped.

    Args:
        config: a configuration file, or its contents as a mapping.
        out: the run directory. Default: runs/<date>-<hash>/.
        progress: whether progress and notes are printed on standard error.
        **settings: replace those of `config`. A task or model may be given by its name alone; a model's name is looked
            up among the models of `config`, and is ENDPOINT/MODEL where there are only endpoints.

    Returns:
        The result, or an awaitable of it where an event loop runs.

    Raises:
        InputError: the configuration is not valid. Errors of endpoints are in the result, with what was scored.
    """
    science, client, chosen = _configure(config, settings)
    directory = chosen if out is None else Path(out)

    from explaineval.execution.pool import StopRequest

    stop = StopRequest()

    def work() -> Result:
        return _result(_execute(science, client, directory, stop, progress=progress))

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work()
    return _wait(work, stop)


async def _wait(work: Callable[[], Result], stop: StopRequest) -> Result:
    """Do the work in a thread. Cancelled, ask it to stop, and end only when it has ended."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as exc:
            cancelled = exc
            stop.ask()
    if cancelled is not None:
        task.exception()  # a run that was given up is not asked for its error
        raise cancelled
    return task.result()


def _execute(
    science: RunConfig, client: ClientConfig, directory: Path | None, stop: StopRequest, *, progress: bool
) -> Outcome:
    from explaineval.cli.output import echo_notes
    from explaineval.cli.progress import new_notes, watch_run
    from explaineval.execution.run import execute
    from explaineval.planning.prepare import key_notes, prepare

    prepared = prepare(science, client, directory)
    if not progress:
        return execute(prepared, directory, lambda _: None, stop=stop)
    echo_notes(key_notes(prepared.config, prepared.client))
    with watch_run() as watch:
        outcome = execute(prepared, directory, watch, stop=stop)
    echo_notes(new_notes(outcome.notes))
    return outcome


def _result(outcome: Outcome) -> Result:
    from explaineval.cli.output import warning_documents
    from explaineval.reporting.results import run_headlines
    from explaineval.reporting.screen import summary

    headlines = [] if outcome.directory is None else run_headlines(outcome.directory, outcome.scores)
    lines = summary(outcome.scores, str(outcome.directory), WIDTH, headlines) if outcome.scores.rows else []
    return Result(
        directory=outcome.directory,
        exit_code=outcome.exit_code,
        totals=outcome.totals.model_dump(mode="json"),
        notes=tuple(note.text for note in outcome.notes),
        errors=tuple(outcome.errors),
        warnings=tuple(warning_documents(outcome.scores)),
        screen="\n".join(line.text for line in lines),
    )


def merge(*run_dirs: PathOrText, out: PathOrText, unfinished: bool = False) -> pd.DataFrame:
    """Write the run directory of the whole run of which the directories given are all the shards; nothing is sent.

    Args:
        *run_dirs: the run directories of all shards, as `run(..., shard="1/4", out=...)` made them.
        out: the run directory to write: a new or empty one.
        unfinished: whether shards that did not come to their end are merged too.

    Returns:
        One row for each metric of the whole run, with the columns of metrics.csv. `attrs["warnings"]` lists what limits
        the numbers, as in `explaineval score --json`.

    Raises:
        InputError: shards are missing, stand twice, or do not belong together; a file of theirs was changed; `out` is
            not empty or cannot be written.
    """
    from explaineval.archive.merge import merge_runs

    if not run_dirs:
        raise InputError("no run directory given: name those of all shards.")
    return _frame(merge_runs([Path(path) for path in run_dirs], Path(out), unfinished=unfinished).scores)


def score(
    run_dir: PathOrText,
    /,
    *,
    mention: Mention | Sequence[Mention] | None = None,
    resamples: int | None = None,
    min_label_mass: float | None = None,
    metrics: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Return the metrics of a run directory, computed again from its files; nothing is sent or written.

    Args:
        run_dir: a run directory.
        mention: another mention policy than the run's own, or several: the rows of the run's own, else of the first,
            stand before those of the others.
        resamples: another number of resamples, where intervals are percentiles.
        min_label_mass: another least total probability of the option letters for a TVD, between 0 and 1.
        metrics: metrics of plug-ins that are computed, too.

    Returns:
        One row for each metric, with the columns of metrics.csv. `attrs["warnings"]` lists what limits the numbers, as
        in `explaineval score --json`.

    Raises:
        InputError: the directory holds no finished run, or a setting is not valid.
    """
    from explaineval.scoring.rows import score as score_run

    given = {"mention": mention, "resamples": resamples, "min_label_mass": min_label_mass, "metrics": metrics}
    return _frame(score_run(Path(run_dir), {name: value for name, value in given.items() if value is not None}))


def score_trials(
    trials: pd.DataFrame | Iterable[Mapping[str, Any]],
    /,
    *,
    mention: Mention | Sequence[Mention] | None = None,
    interval: Literal["jackknife", "percentile"] = "jackknife",
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the metrics of trials that another program collected.

    Args:
        trials: one row for each trial, as a data frame or as mappings (which are read one at a time). Each has
            `changed` or both `label_before` and `label_after`, and `mentioned` or both `inserted` and `explanation`.
            `example_id` names the clusters; without it each row is one. `model`, `task`, `kind`, `tvd`, `gold` and the
            other fields of `explaineval.scoring.external.ExternalTrial` are optional; further columns are ignored.
        mention: how mentions are found where `mentioned` is not given, by one policy or several. Default: word.
        interval: how intervals of correlations are computed.
        resamples: number of resamples of the percentile interval.
        seed: seed of the resamples and permutations.

    Returns:
        One row for each metric, with the columns of metrics.csv. `attrs["warnings"]` lists what limits the numbers, as
        in `explaineval score FILE --json`.

    Raises:
        InputError: a column is missing, or its name is nearly that of a known one, or a value is not valid; the row and
            the column are named.
    """
    from explaineval.scoring.external import score_rows

    return _frame(score_rows(_numbered(trials), mention=mention, interval=interval, resamples=resamples, seed=seed))


def _numbered(trials: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each row with its place, as errors name it."""
    from explaineval.scoring.external import COLUMNS, check_columns

    if not hasattr(trials, "itertuples"):
        for number, row in enumerate(trials, start=1):
            if not isinstance(row, Mapping):
                raise InputError("trials must be a data frame of pandas, or dictionaries with one trial each.")
            yield f"trial {number}", row
        return
    check_columns(map(str, trials.columns))
    known = trials.loc[:, trials.columns.isin(COLUMNS)]
    if not known.columns.is_unique:
        raise InputError(f"the column {known.columns[known.columns.duplicated()][0]} stands twice.")
    names = list(known.columns)
    for number, values in enumerate(known.itertuples(index=False, name=None)):
        yield f"trials.iloc[{number}]", dict(zip(names, values, strict=True))


@dataclass(frozen=True, repr=False)
class Comparison:
    """A comparison of models, arms or runs. Printed, it shows what `explaineval compare` shows.

    `sentence` says what was found, None where nothing can be compared. `rows` has one row for each difference, with the
    fields of `rows` in `explaineval compare --json`; `document` is that whole JSON document.
    """

    sentence: str | None
    rows: pd.DataFrame
    document: dict[str, Any]
    screen: str

    def __repr__(self) -> str:
        return self.screen


def compare(
    *run_dirs: PathOrText,
    by: Literal["model", "arm", "run"] | None = None,
    against: str | None = None,
    equivalent: float | None = None,
    impact_rate: float | None = None,
    primary: str | None = None,
    mention: Mention | None = None,
    seed: int = 0,
) -> Comparison:
    """Compare models, arms of one model, or runs on the trials that all of them share.

    Args:
        *run_dirs: run directories.
        by: what to compare. Default: what differs.
        against: the model (arm, run) that the others are tested against, named beforehand. Default: all pairs.
        equivalent: the margin within which two count as equal, declared beforehand.
        impact_rate: where phi_at_p is taken, between 0 and 1. Default: the mean of the models.
        primary: the kind of intervention of the primary family. Default: all but controls and null edits.
        mention: the mention policy. Default: that of each run.
        seed: of the draws that adjust p-values.

    Returns:
        The comparison: a sentence, a data frame of differences, and the whole as a JSON document.

    Raises:
        InputError: there is nothing to compare, a value is out of range, or a directory holds no finished run.
    """
    import pandas as pd

    from explaineval.reporting.comparison_view import document_of, lines_of
    from explaineval.scoring.comparisons import compare_runs

    results = compare_runs(
        [Path(path) for path in run_dirs],
        by=by, against=against, equivalent=equivalent, impact_rate=impact_rate, primary=primary, mention=mention,
        seed=seed,
    )  # fmt: skip
    document = document_of(results)
    return Comparison(
        document["sentence"], pd.DataFrame(document["rows"]), document, "\n".join(lines_of(results, WIDTH))
    )


def _configure(
    config: PathOrText | Mapping[str, Any] | None, settings: Mapping[str, Any]
) -> tuple[RunConfig, ClientConfig, Path | None]:
    if config is None or isinstance(config, Mapping):
        values, place = dict(config or {}), "settings"
    else:
        values, place = read_config(Path(config)), str(config)
    listed = [{"model": model} if isinstance(model, str) else model for model in _as_list(values.get("models"))]
    if isinstance(config, Mapping) and not any(model.get("endpoint") for model in listed):
        listed = []  # it does not say where they are asked, so others may take their place
    if "api_key_env" in settings:
        values.pop("key_from_file", None)  # the caller's own word
    if "ray_address" in settings:
        values.pop("ray_address_from_file", None)
    values |= settings
    for name in values:
        if name not in KEYWORDS:
            near = difflib.get_close_matches(str(name), KEYWORDS, n=1)
            hint = f"did you mean {near[0]}?" if near else "settings have the names of the configuration file."
            raise InputError(f"{place}: unknown setting {name!r}; {hint}")
    for name in ("tasks", "models"):
        values[name] = _as_list(values.get(name))
        if not values.get(name):
            raise InputError(f"no {name} given: pass {name}=[...], or name them in the configuration file.")
    known_models = listed if "models" in settings else []
    where = {"models": known_models, "endpoints": values.get("endpoints") or {}}
    values["models"] = [
        entry
        for model in values["models"]
        for entry in (find_models(model, where, place) if isinstance(model, str) else [model])
    ]
    identify(values, place)
    out = values.pop("out", None)
    client = {name: values.pop(name) for name in list(values) if name in ClientConfig.model_fields}
    return build(RunConfig, values, place), build(ClientConfig, client, place), None if out is None else Path(out)


def _as_list(value: Any) -> list[Any]:
    """Return a list of names, also of a single one or of none."""
    return [value] if isinstance(value, str) else list(value or ())


def _frame(scores: Scores) -> pd.DataFrame:
    """Return the rows as a data frame that carries the warnings."""
    from explaineval.cli.output import warning_documents
    from explaineval.reporting.results import metrics_frame

    frame = metrics_frame(scores.rows)
    frame.attrs["warnings"] = list(warning_documents(scores))
    return frame
