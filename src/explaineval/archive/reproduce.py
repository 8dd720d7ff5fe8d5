"""Compute a bundled run again from its answers, offline, and compare every number with the bundle's."""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from explaineval._version import __version__
from explaineval.archive.bundle import OPTIONAL, PACK, prepared_from, recorded_capabilities, unpack_bundle
from explaineval.cache import AnswerOrigin, Store, import_pack, open_store, verdict_name
from explaineval.client.endpoints.capabilities import Capabilities, StyleVerdict, style_verdict
from explaineval.config import ClientConfig, EndpointConfig, arms_for
from explaineval.errors import InputError
from explaineval.execution.run import Outcome, execute
from explaineval.files import copy_tree
from explaineval.planning.prepare import Prepared
from explaineval.planning.requests import RequestBuilder
from explaineval.planning.units import count_asked
from explaineval.records import EXPLANATION, Condition, MetricRow, Trial
from explaineval.rundir import directory as run_directory
from explaineval.rundir.schema import NOT_RECORDED, RunRecord
from explaineval.scoring.rows import score

WATCHED = ("numpy", "scipy")
"""Packages whose version may move the last digit of a number."""

BY_PROBE = " (found by probe)"
"""The end of the sentence on logprobs in a run that has it from a probe."""

IDENTITY = ("endpoint", "model", "task", "kind", "order", "style", "shots", "verbosity", "metric")
"""Columns that say what a metric row is about."""

_VERSION = re.compile(r"\|explaineval:[^|]*$")


@dataclass(frozen=True)
class Discrepancy:
    """One column of one metric row that differs; `name` is "row" for a row that one side lacks."""

    row: str
    name: str
    bundled: Any
    recomputed: Any

    @property
    def is_version(self) -> bool:
        """Whether these are two signatures that differ in the version of explaineval alone."""
        if self.name != "signature":
            return False
        return _VERSION.sub("", self.bundled) == _VERSION.sub("", self.recomputed)


@dataclass(frozen=True)
class Reproduction:
    """The result of computing a bundle again.

    `metrics` counts the rows that were compared, `missing` the answers that the bundle lacks, and `extra_trials` those
    that rest on answers for which this version would not ask. `refused` has a sentence for each line of the pack that
    was not used. `versions` are (package, version in the bundle, version here) where they differ.
    """

    outcome: Outcome
    metrics: int
    missing: int
    extra_trials: int
    refused: tuple[str, ...]
    same_bytes: bool
    same_trials: bool
    differences: tuple[Discrepancy, ...]
    versions: tuple[tuple[str, str, str], ...]

    @property
    def identical(self) -> bool:
        """Whether everything was there and came out the same."""
        return self.same_bytes and self.same_trials and not self.missing and not self.refused

    @property
    def only_version(self) -> bool:
        """Whether the rows differ in nothing but the version of explaineval in their signatures."""
        return bool(self.differences) and all(difference.is_version for difference in self.differences)


def reproduce(source: Path, workshop: Path, out: Path | None) -> Reproduction:
    """Compute a bundle again in `out`, or below the empty directory `workshop`, and compare. Nothing is sent.

    Raises InputError for a file that is no sound bundle, or an `out` that cannot be used.
    """
    if out is not None:
        run_directory.check_is_no_file_name(out)
    if out is not None and out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out} is not empty: choose a new directory, so that nothing in it is replaced.")
    claimed, cache, made = workshop / "bundle", workshop / "cache", out or workshop / "run"
    claimed.mkdir()
    unpack_bundle(source, claimed)
    run = run_directory.read_run(claimed)
    # a bundle decides on the names and addresses of endpoints, and on nothing else of the transport
    endpoints = {name: EndpointConfig(base_url=entry.base_url) for name, entry in run.client.endpoints.items()}
    try:
        prepared = prepared_from(claimed, ClientConfig(endpoints=endpoints, offline=True, cache=cache))
    except InputError as exc:  # the user has never seen the directory where it was unpacked
        raise InputError(str(exc).replace(str(claimed), str(source))) from None
    with open_store(cache) as store:
        refused = asyncio.run(_fill(store, claimed / PACK, run, prepared))
    outcome = _score_with_others(claimed, made, execute(prepared, made, lambda _: None, keep=True))
    extra = 0
    if run.explaineval != __version__:
        compared = workshop / "compared"
        extra = _add_extra_trials(claimed, made, compared, prepared)
        made = compared if extra else made
    bundled, recomputed = run_directory.read_metrics(claimed), run_directory.read_metrics(made)
    if run.explaineval != __version__:  # a metric that came with a later version is no difference
        known = {row.metric for row in bundled}
        channels = {None, EXPLANATION, *(row.channel for row in bundled)}
        recomputed = [row for row in recomputed if row.metric in known and row.channel in channels]
    judges = {row.judge for row in bundled}  # verdicts may have come after the run's own numbers
    later = [row for row in recomputed if row.judge is not None and row.judge not in judges]
    recomputed = [row for row in recomputed if row.judge is None or row.judge in judges]
    if later:
        made_metrics = workshop / "metrics"
        made_metrics.mkdir()
        run_directory.write_metrics(made_metrics, recomputed)
    else:
        made_metrics = made
    metrics_files = [directory / run_directory.METRICS for directory in (claimed, made_metrics)]
    return Reproduction(
        outcome=outcome,
        metrics=len(recomputed),
        missing=outcome.totals.requests.unsent,
        extra_trials=extra,
        refused=refused,
        same_bytes=metrics_files[0].read_bytes() == metrics_files[1].read_bytes(),
        same_trials=_are_same_trials(claimed, made),
        differences=tuple(differences(bundled, recomputed)),
        versions=tuple(_other_versions(run)),
    )


def _score_with_others(claimed: Path, made: Path, outcome: Outcome) -> Outcome:
    """Copy what other models said of the bundle's trials to the recomputed run, and score it again with that."""
    names = [name for name in OPTIONAL if (claimed / name).is_file()]
    if not names:
        return outcome
    for name in names:
        shutil.copyfile(claimed / name, made / name)
    scores = score(made)
    run_directory.write_metrics(made, scores.rows)
    return replace(outcome, scores=scores)


async def _fill(store: Store, pack: Path, run: RunRecord, prepared: Prepared) -> tuple[str, ...]:
    """Fill a store with the pack's answers and with what the run knew of its endpoints.

    Returns a sentence for each line of the pack that was refused.
    """
    imported = await import_pack(store, pack, AnswerOrigin(known=True))  # this cache is made for the bundle alone
    recorded = recorded_capabilities(run)
    for model in prepared.config.models:
        name = verdict_name(model.endpoint, model.model)
        styles = {
            arm.style: _verdict(sent, style_verdict(store, model.endpoint, model.model, arm.style)).document()
            for arm in arms_for(prepared.config, model)
            if (sent := recorded.get((model.endpoint, model.model, arm.style))) is not None
        }
        if styles:
            await store.put_verdict(name, {**(store.get_verdict(name) or {}), "styles": styles})
    return tuple(line.replace(f"{pack}", PACK) for line in imported.refused)


def _verdict(sent: Capabilities, packed: StyleVerdict | None) -> StyleVerdict:
    """Return the verdict under which a run asks as the bundled one did, even if its cache learned better since."""
    reason, probed = sent.found, (sent.found or "").endswith(BY_PROBE)
    if reason == NOT_RECORDED and packed is not None and sent.state != "returned":
        reason, probed = packed.unusable, packed.probed
    unusable = (reason or "").removesuffix(BY_PROBE) or None
    return StyleVerdict(sent.logprobs, "omit" if sent.temperature is None else "sent", unusable, probed)


def _add_extra_trials(claimed: Path, made: Path, into: Path, prepared: Prepared) -> int:
    """Copy the recomputed run, add the bundle's trials for which this version would not ask, and score it again.

    Earlier versions also asked about examples that have no intervention, or whose insertions all stand in their prompt
    already. Returns how many trials were added; nothing is copied where there are none.
    """
    unasked = _unasked_examples(prepared)

    def is_extra(trial: Trial) -> bool:
        return (trial.condition.arm, trial.example_id) in unasked and trial.key_before is not None

    extra = [trial for trial in run_directory.read_trials(claimed) if is_extra(trial)] if unasked else []
    if not extra:
        return 0
    replaced = {(trial.condition.arm, trial.example_id) for trial in extra}

    def trials() -> Iterator[Trial]:
        for trial in run_directory.read_trials(made):
            if (trial.condition.arm, trial.example_id) not in replaced:
                yield trial
        yield from extra

    copy_tree(made, into)
    run_directory.write_lines(into / run_directory.TRIALS, (trial.model_dump_json() for trial in trials()))
    run_directory.write_metrics(into, score(into).rows)
    return len(extra)


def _unasked_examples(prepared: Prepared) -> set[tuple[Condition, str]]:
    """Collect (arm, example id) of all examples of which this version asks nothing."""
    unasked = set()
    edits = prepared.chosen.edits
    for task in prepared.tasks:
        for model in prepared.config.models:
            for arm in arms_for(prepared.config, model):
                builder = RequestBuilder(prepared.config, prepared.prompts, model, arm, task)
                condition = arm.condition(model, task.name)
                for example in task.examples:
                    if not count_asked(builder, example, edits.get((task.name, example.id), ())):
                        unasked.add((condition, example.id))
    return unasked


def differences(bundled: Sequence[MetricRow], recomputed: Sequence[MetricRow]) -> Iterator[Discrepancy]:
    """Yield what differs between two lists of metric rows, row by row, column by column.

    Columns that the bundle's version did not have yet are left aside.
    """
    columns = [name for name in MetricRow.model_fields if any(name in row.model_fields_set for row in bundled)]
    before, now = _by_name(bundled), _by_name(recomputed)
    for name in dict.fromkeys((*before, *now)):
        old, new = before.get(name), now.get(name)
        if old is None or new is None:
            yield Discrepancy(name, "row", _presence(old), _presence(new))
            continue
        for column in columns:
            values = getattr(old, column), getattr(new, column)
            if values[0] != values[1]:
                yield Discrepancy(name, column, *values)


def _by_name(rows: Sequence[MetricRow]) -> dict[str, MetricRow]:
    """Return the rows by what they are about; a second row about the same has its number in its name."""
    named: dict[str, MetricRow] = {}
    for number, row in enumerate(rows, start=1):
        name = " ".join(str(value) for column in IDENTITY if (value := getattr(row, column)) is not None)
        named[f"{name} (row {number})" if name in named else name] = row
    return named


def _presence(row: MetricRow | None) -> str:
    return "absent" if row is None else "present"


def _are_same_trials(claimed: Path, made: Path) -> bool:
    """Whether both hold the same trials, apart from fields that the bundle's version did not have yet."""
    first = next(run_directory.read_trials(claimed), None)
    fields = Trial.model_fields.keys() if first is None else first.model_fields_set
    return _sum_trials(claimed, fields) == _sum_trials(made, fields)


def _sum_trials(directory: Path, fields: Collection[str]) -> tuple[int, int]:
    """Return how many trials there are, and the sum of their hashes, which does not depend on their order."""
    count = total = 0
    for trial in run_directory.read_trials(directory):
        count += 1
        total += int.from_bytes(hashlib.sha256(trial.model_dump_json(include=set(fields)).encode()).digest(), "big")
    return count, total % (1 << 256)


def _other_versions(run: RunRecord) -> Iterator[tuple[str, str, str]]:
    """Yield (package, version in the bundle, version here) where they differ."""
    before = {**run.packages, "explaineval": run.explaineval}
    for name, now in {"explaineval": __version__, **{name: metadata.version(name) for name in WATCHED}}.items():
        if before.get(name) != now:
            yield name, str(before.get(name)), now
