"""Score trials that somebody else's harness collected: labels and explanations, or changed and mentioned alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from explaineval.config import ModelConfig, RunConfig
from explaineval.datasets.text_files import read_csv, read_jsonl
from explaineval.errors import InputError
from explaineval.interventions import KINDS
from explaineval.mentions import mentions
from explaineval.records import Mention, Order, Record, Style, Trial
from explaineval.rundir.schema import ArmFacts, Facts, TaskFacts
from explaineval.scoring.counts import count_trials
from explaineval.scoring.rows import Scores, score_counts
from explaineval.signature import digest

EXTERNAL = "external"
"""What the model, task and kind of rows are called that do not name theirs, and how their prompts are signed."""

WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class ExternalTrial(Record):
    """One trial: an input before and after an insertion.

    `changed` may be left out where both labels are given, `mentioned` where the inserted text and the explanation of
    the input after it are given. Trials with one `example_id` are one cluster. `tvd` is the shift of label
    probabilities, between 0 and 1.
    """

    example_id: str
    intervention_id: str
    inserted: str | None = None
    label_before: str | None = None
    label_after: str | None = None
    explanation: str | None = None
    explanation_before: str | None = None
    changed: bool | None = None
    mentioned: bool | None = None
    tvd: float | None = Field(default=None, ge=0, le=1)
    gold: str | None = None
    endpoint: str | None = None
    model: str = EXTERNAL
    task: str = EXTERNAL
    kind: str = EXTERNAL
    order: Order = "pe"
    style: Style = "chat"
    shots: int = 0
    verbosity: str = "normal"
    sample: int = 0


def score_rows(
    rows: Iterable[Mapping[str, Any]],
    *,
    mention: Mention = "word",
    interval: Literal["jackknife", "percentile"] = "jackknife",
    resamples: int = 2000,
    seed: int = 0,
) -> Scores:
    """Compute the metrics of trials given as rows with the fields of ExternalTrial.

    A row needs `changed` or both labels, and `mentioned` or `inserted` and `explanation`. A row whose label or
    explanation is None is a trial that could not be read: it is counted as missing. Without `example_id` each row is an
    example of its own. Other fields are ignored.

    Raises InputError, with the number of the row, for a field that is missing or not valid.
    """
    given: list[ExternalTrial] = []
    trials: list[Trial] = []
    for number, row in enumerate(rows, start=1):
        external = _read(row, number)
        given.append(external)
        trials.append(_trial(external, row, number, mention))
    if not trials:
        raise InputError("there are no trials to score.")
    config = RunConfig(
        tasks=tuple(dict.fromkeys(trial.task for trial in trials)),
        models=tuple(
            ModelConfig(model=f"{EXTERNAL}/{name}") for name in dict.fromkeys(trial.model for trial in trials)
        ),
        shams=0,
        mention=mention,
        interval=interval,
        resamples=resamples,
        seed=seed,
    )
    counts = count_trials(trials, mention)
    return score_counts(counts, config, _facts(given, trials))


def _read(row: Mapping[str, Any], number: int) -> ExternalTrial:
    values = {name: row[name] for name in ExternalTrial.model_fields if name in row and not _is_missing(row[name])}
    values.setdefault("example_id", str(number))
    values.setdefault("intervention_id", str(number))
    for name in ("example_id", "intervention_id", "label_before", "label_after", "gold"):
        if isinstance(values.get(name), int):
            values[name] = str(values[name])
    for name in ("changed", "mentioned"):
        if isinstance(values.get(name), str):
            values[name] = WORDS.get(str(values[name]).strip().lower(), values[name])
    try:
        return ExternalTrial.model_validate(values)
    except ValidationError as exc:
        error = exc.errors()[0]
        raise InputError(f"trial {number}: {'.'.join(map(str, error['loc']))}: {error['msg']}.") from None


def _is_missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _trial(external: ExternalTrial, row: Mapping[str, Any], number: int, policy: Mention) -> Trial:
    """The trial of a row; one whose answer or explanation could not be read has no score."""
    if any(kind.own_metric is not None and external.kind == kind.name for kind in KINDS):
        raise InputError(f"trial {number}: kind {external.kind!r} is reserved for answers without an insertion.")
    changed, before, after = external.changed, external.label_before, external.label_after
    if changed is None:
        if not ("label_before" in row and "label_after" in row):
            raise InputError(f"trial {number}: give `changed`, or both `label_before` and `label_after`.")
        changed = None if before is None or after is None else before != after
    mentioned = external.mentioned
    if mentioned is None:
        if not ("inserted" in row and "explanation" in row):
            raise InputError(f"trial {number}: give `mentioned`, or both `inserted` and `explanation`.")
        if external.inserted is None:
            raise InputError(f"trial {number}: `inserted` is empty, so no mention of it can be looked for.")
        if external.explanation is not None:
            mentioned = mentions(policy, external.inserted, external.explanation)
    in_before = None
    if external.inserted is not None and external.explanation_before is not None:
        in_before = mentions(policy, external.inserted, external.explanation_before)
    scored = changed is not None and mentioned is not None
    if before is None or after is None:  # changed is given: any two labels that say the same
        before, after = ("same", "other" if changed else "same") if changed is not None else (before, after)
    return Trial(
        **external.model_dump(
            include={
                "endpoint", "model", "task", "order", "style", "shots", "verbosity", "sample", "example_id",
                "intervention_id", "kind", "inserted", "explanation", "explanation_before",
            }
        ),
        field=None,
        text_after=None,
        status="ok" if scored else "unparsed",
        status_side=None if scored else "after",
        label_before=before,
        label_after=after,
        gold=external.gold if external.label_before is not None else None,
        changed=changed if scored else None,
        mentioned=mentioned if scored else None,
        probs_before=None,
        probs_after=None,
        label_mass_before=None,
        label_mass_after=None,
        tvd=external.tvd if scored else None,
        tvd_reason=None if external.tvd is not None else "no label probabilities were given",
        mentioned_before=in_before,
        key_before=None,
        key_after=None,
    )  # fmt: skip


def _facts(given: list[ExternalTrial], trials: list[Trial]) -> Facts:
    """What the signatures say of trials from outside: hashes of the rows; prompts and sampling are not known."""
    tasks = {}
    for task in dict.fromkeys(trial.task for trial in trials):
        rows = [row for row in given if row.task == task]
        kinds = {kind: digest(row for row in rows if row.kind == kind) for kind in dict.fromkeys(r.kind for r in rows)}
        tasks[task] = TaskFacts(examples=digest(rows), n_examples=len({row.example_id for row in rows}), kinds=kinds)
    arm = ArmFacts(shots=EXTERNAL, prompts=EXTERNAL, temperature="unknown", logprobs="unknown")
    return Facts(tasks=tasks, arms={trial.condition.arm_name: arm for trial in trials})


def is_trials_file(path: Path) -> bool:
    """Say whether a path names a file of trials, .csv or .jsonl, and not a run directory."""
    return path.suffix.lower() in (".csv", ".jsonl") and not path.is_dir()


def score_file(path: Path, **settings: Any) -> Scores:
    """Compute the metrics of a .csv or .jsonl file of trials; `settings` are those of `score_rows`.

    Raises InputError for a file that cannot be read, and as `score_rows` does.
    """
    rows = read_jsonl(path) if path.suffix.lower() == ".jsonl" else read_csv(path, ())
    return score_rows((row for _, row in rows), **settings)
