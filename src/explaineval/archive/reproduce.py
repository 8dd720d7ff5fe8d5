"""A bundled run computed again from its answers, offline, and compared with what it claims, to the last digit."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from explaineval._version import __version__
from explaineval.archive.bundle import PACK, unpack_bundle
from explaineval.archive.restore import UNTOLD, client_of, prepared_from, recorded_capabilities
from explaineval.cache import Store, import_pack, open_store, verdict_name
from explaineval.client.endpoints.capabilities import Capabilities, StyleVerdict, style_verdict
from explaineval.config import ClientConfig, arms_for
from explaineval.errors import InputError
from explaineval.execution.run import Outcome, execute
from explaineval.planning.prepare import Prepared
from explaineval.records import Trial
from explaineval.rundir import directory as run_directory

CLAIMED, CACHE = "bundle", "cache"
WATCHED = ("numpy", "scipy")
"""Packages whose version may move the last digit of a number."""

BY_PROBE = " (found by probe)"
"""What a probe's sentence ends with where a run tells it."""

ADDED = ("channel", "mention", "judge")
"""Columns that metrics files of earlier versions lack; they are compared only where a bundle has them."""

_GROUP = ("endpoint", "model", "task", "kind", "order", "style", "shots", "verbosity", "metric")
_VERSION = re.compile(r"\|explaineval:[^|]*$")


@dataclass(frozen=True)
class Difference:
    """One entry of one row that came out otherwise; a row that is there on one side only has `name` "row"."""

    row: str
    name: str
    bundled: Any
    recomputed: Any


@dataclass(frozen=True)
class Reproduction:
    """What computing a bundle again came to. `versions` are (name, then, now) where they differ."""

    outcome: Outcome
    metrics: int
    missing: int
    refused: tuple[str, ...]
    same_bytes: bool
    same_trials: bool
    only_version: bool
    differences: tuple[Difference, ...]
    versions: tuple[tuple[str, str, str], ...]

    @property
    def identical(self) -> bool:
        """Whether everything was there and came out the same."""
        return self.same_bytes and self.same_trials and not self.missing and not self.refused


def reproduce(source: Path, workshop: Path, out: Path | None) -> Reproduction:
    """Unpack into the empty directory `workshop`, compute again into `out` (or there), compare. Nothing is sent.

    Raises InputError for a file that is no sound bundle, or an `out` that cannot be used.
    """
    if out is not None and out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out} is not empty: choose a new directory, so that nothing in it is replaced.")
    claimed, cache = workshop / CLAIMED, workshop / CACHE
    claimed.mkdir()
    unpack_bundle(source, claimed)
    run = run_directory.read_run(claimed)
    client = _offline(client_of({"client": {"endpoints": _endpoints(run)}}, cache), cache)
    try:
        prepared = prepared_from(claimed, client)
    except InputError as exc:  # the place where it was unpacked means nothing to anybody
        raise InputError(str(exc).replace(str(claimed), str(source))) from None
    refused = _restore(claimed / PACK, cache, run, prepared)
    outcome = execute(prepared, out or workshop / "run", lambda _: None, keep=True)
    return _compare(claimed, out or workshop / "run", run, outcome, refused)


def _offline(client: ClientConfig, cache: Path) -> ClientConfig:
    return client.model_copy(update={"offline": True, "cache": cache})


def _endpoints(run: Mapping[str, Any]) -> dict[str, Any]:
    """Names and addresses alone: a bundle has no say in anything else of the transport."""
    client = run.get("client")
    endpoints = client.get("endpoints") if isinstance(client, dict) else None
    if not isinstance(endpoints, dict):
        raise InputError("the bundle's run.json names no endpoints: it is not whole.")
    return {name: {"base_url": entry.get("base_url")} for name, entry in endpoints.items() if isinstance(entry, dict)}


def _restore(pack: Path, cache: Path, run: Mapping[str, Any], prepared: Prepared) -> tuple[str, ...]:
    """Fill a store with the pack's answers, and with what the run knew of its endpoints; sentences on refused lines."""
    with open_store(cache) as store:
        return asyncio.run(_fill(store, pack, run, prepared))


async def _fill(store: Store, pack: Path, run: Mapping[str, Any], prepared: Prepared) -> tuple[str, ...]:
    imported = await import_pack(store, pack)
    recorded = recorded_capabilities(run)
    for model in prepared.config.models:
        name = verdict_name(model.endpoint, model.model)
        styles = {
            arm.style: _verdict(able, style_verdict(store, model.endpoint, model.model, arm.style)).document()
            for arm in arms_for(prepared.config, model)
            if (able := recorded.get((model.endpoint, model.model, arm.style))) is not None
        }
        if styles:
            await store.put_verdict(name, {**(store.get_verdict(name) or {}), "styles": styles})
    return tuple(line.replace(f"{pack}", PACK) for line in imported.refused)


def _verdict(able: Capabilities, packed: StyleVerdict | None) -> StyleVerdict:
    """What makes a run send as the bundled one did, even where its cache learned better since."""
    found, probed = able.found, (able.found or "").endswith(BY_PROBE)
    if found == UNTOLD and packed is not None and able.state != "returned":
        found, probed = packed.unusable, packed.probed
    unusable = (found or "").removesuffix(BY_PROBE) or None
    return StyleVerdict(able.logprobs, "omit" if able.temperature is None else "sent", unusable, probed)


def _compare(
    claimed: Path, made: Path, run: Mapping[str, Any], outcome: Outcome, refused: tuple[str, ...]
) -> Reproduction:
    paths = [directory / run_directory.METRICS for directory in (claimed, made)]
    then, now = (json.loads(path.read_text(encoding="utf-8")) for path in paths)
    now = _comparable(then, now)
    return Reproduction(
        outcome=outcome,
        metrics=len(now),
        missing=int(outcome.summary["requests"]["unsent"]),
        refused=refused,
        same_bytes=paths[0].read_bytes() == paths[1].read_bytes(),
        same_trials=_are_same_trials(claimed, made),
        only_version=_by_group(then, versions=False) == _by_group(now, versions=False),
        differences=tuple(differences(then, now)),
        versions=tuple(_versions(run)),
    )


def _comparable(bundled: list[Any], recomputed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The recomputed rows without the columns that the bundle is too old to have."""
    known = {name for row in bundled if isinstance(row, dict) for name in row}
    new = [name for name in ADDED if bundled and name not in known]
    return [{name: value for name, value in row.items() if name not in new} for row in recomputed]


def differences(bundled: list[Any], recomputed: list[Any]) -> list[Difference]:
    """What differs between two metrics documents, row by row, entry by entry."""
    then, now = _by_group(bundled), _by_group(recomputed)
    found = []
    for group in dict.fromkeys((*then, *now)):
        old, new = then.get(group), now.get(group)
        if old is None or new is None:
            found.append(Difference(group, "row", _presence(old), _presence(new)))
            continue
        found += [
            Difference(group, name, old.get(name), new.get(name))
            for name in dict.fromkeys((*old, *new))
            if name not in old or name not in new or _spelled(old[name]) != _spelled(new[name])
        ]
    return found


def _by_group(rows: list[Any], *, versions: bool = True) -> dict[str, dict[str, Any]]:
    """Rows by what they are about; a second row of one group gets a name of its own."""
    found: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(rows, start=1):
        values = dict(row) if isinstance(row, dict) else {"line": row}
        group = " ".join(str(values[name]) for name in _GROUP if values.get(name) is not None) or f"row {number}"
        if not versions and isinstance(values.get("signature"), str):
            values["signature"] = _VERSION.sub("", values["signature"])
        found[f"{group} (row {number})" if group in found else group] = values
    return found


def _spelled(value: Any) -> str:
    """As JSON writes it, so that 1, 1.0 and true are told apart."""
    return json.dumps(value, sort_keys=True)


def _presence(row: object) -> str:
    return "absent" if row is None else "present"


def _are_same_trials(claimed: Path, made: Path) -> bool:
    """Whether both hold the same trials; fields that the bundle's version did not have yet are left aside."""
    optional = {name for name, field in Trial.model_fields.items() if not field.is_required()}
    later = optional - set(_first_fields(claimed))
    return _trial_lines(claimed, later) == _trial_lines(made, later)


def _first_fields(directory: Path) -> Collection[str]:
    """The fields of the first trial; all that a trial has where there is none to look at."""
    with (directory / run_directory.TRIALS).open("rb") as lines:
        try:
            first = json.loads(lines.readline())
        except ValueError:
            first = None
    return first.keys() if isinstance(first, dict) else Trial.model_fields.keys()


def _trial_lines(directory: Path, without: Collection[str]) -> tuple[int, int]:
    """A number that stands for the lines of trials.jsonl whatever their order, which is that in which answers came."""
    count = total = 0
    with (directory / run_directory.TRIALS).open("rb") as lines:
        for line in lines:
            count += 1
            if without:
                line = _line_without(line, without)
            total += int.from_bytes(hashlib.sha256(line).digest(), "big")
    return count, total % (1 << 256)


def _line_without(line: bytes, names: Collection[str]) -> bytes:
    """A line without these fields, in one spelling; what is no trial stays as it is."""
    try:
        trial = json.loads(line)
    except ValueError:
        return line
    if not isinstance(trial, dict):
        return line
    return json.dumps({name: value for name, value in trial.items() if name not in names}).encode()


def _versions(run: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    packages = run.get("packages")
    then = {**(packages if isinstance(packages, dict) else {}), "explaineval": run.get("explaineval")}
    now = {"explaineval": __version__, **{name: metadata.version(name) for name in WATCHED}}
    return [(name, str(then.get(name)), now[name]) for name in now if then.get(name) != now[name]]
