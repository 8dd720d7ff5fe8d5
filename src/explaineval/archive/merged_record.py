"""Merge the run.json of all shards of a run into that of the whole run: requests and dollars are added up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from explaineval.archive.shards import ShardRun, whole_science
from explaineval.config import ClientConfig, RunConfig, arms_for
from explaineval.planning import provenance
from explaineval.rundir.schema import (
    AnswerSource,
    ArmFacts,
    EndpointRecord,
    Facts,
    RequestCounts,
    RunRecord,
    Snapshot,
    TokenCounts,
    Totals,
)

T = TypeVar("T")

Instructions = dict[str, set[str]]
"""The instructions of a run's examples by task."""


def merge_records(shards: Sequence[ShardRun], config: RunConfig, instructions: Instructions, trials: int) -> RunRecord:
    """Return run.json of the whole run, as far as it can be known from those of its shards.

    Args:
        shards: all shards of the run, in the order of their numbers.
        config: the configuration of the whole run.
        instructions: those of all its examples by task.
        trials: the number of its trials.
    """
    first = shards[0]
    whole = first.whole
    return RunRecord(
        explaineval=first.record.explaineval,
        signature=provenance.run_signature(config, whole.name),
        created=min(one.record.created for one in shards),
        python=_joined(one.record.python for one in shards),
        packages={name: _joined(one.record.packages.get(name, "") for one in shards) for name in first.record.packages},
        config=config,
        client=_merge_clients([one.record.client for one in shards]),
        science=whole_science(first.record),
        facts=Facts(
            tasks=whole.tasks,
            no_level_shots=first.record.facts.no_level_shots,
            arms=dict(_merge_arms(shards, config, instructions)),
        ),
        prices=_joined(one.record.prices for one in shards),
        complete=all(one.record.complete for one in shards),
        trials=trials,
        endpoints=tuple(_merge_endpoints(shards)),
        totals=_add_totals([one.totals for one in shards]),
    )


def _merge_arms(
    shards: Sequence[ShardRun], config: RunConfig, instructions: Mapping[str, set[str]]
) -> Iterator[tuple[str, ArmFacts]]:
    """Yield the facts of the arms by name; the hash of prompts covers the instructions of all examples."""
    asking = [one for one in shards if one.n_examples]
    for task in shards[0].whole.tasks:
        for model in config.models:
            for arm in arms_for(config, model):
                name = arm.condition(model, task).arm_name
                found = next((facts for one in asking if (facts := one.record.facts.arms.get(name)) is not None), None)
                if found is not None:
                    plain = found.prompts.partition("+")[0]
                    prompts = provenance.with_instructions(plain, instructions.get(task, ()))
                    yield name, found.model_copy(update={"prompts": prompts})


def _merge_clients(clients: Sequence[ClientConfig]) -> ClientConfig:
    """Return the first shard's client; the spending limit, which holds for each shard, is that of all together."""
    limits = [client.max_usd for client in clients]
    total = sum(limit for limit in limits if limit is not None)
    return clients[0].model_copy(update={"max_usd": None if None in limits else total})


def _merge_endpoints(shards: Sequence[ShardRun]) -> Iterator[EndpointRecord]:
    """Yield for each model what happened at its endpoint in all shards."""
    for model in shards[0].record.config.models:
        entries = [
            (one, entry)
            for one in shards
            for entry in one.record.endpoints
            if (entry.endpoint, entry.model) == (model.endpoint, model.model)
        ]
        asking = [entry for one, entry in entries if one.n_examples]
        yield EndpointRecord(
            endpoint=model.endpoint,
            model=model.model,
            probe=next((entry.probe for entry in asking if entry.probe is not None), None),
            capabilities={style: sent for entry in reversed(asking) for style, sent in entry.capabilities.items()},
            fault=next((entry.fault for entry in asking if entry.fault is not None), None),
            tokens=_add_tokens([entry.tokens for entry in asking]),
            price=_common(entry.price for entry in asking),
            requests=_add_requests([entry.requests for entry in asking if entry.requests is not None]),
            threads=_common(entry.threads for entry in asking if entry.threads is not None),
            snapshots=_add_snapshots(asking),
            address=_common(entry.address for entry in asking),
            sources=_add_sources(asking),
        )


def _common(values: Iterable[T]) -> T | None:
    """Return the value that all are, None where they differ or there are none."""
    known = list(values)
    return known[0] if known and all(value == known[0] for value in known) else None


def _joined(values: Iterable[str]) -> str:
    """Return the different values, separated by commas."""
    return ", ".join(dict.fromkeys(values))


def _add_tokens(counts: Sequence[TokenCounts | None]) -> TokenCounts:
    known = [count for count in counts if count is not None]
    return TokenCounts(**{name: sum(getattr(count, name) for count in known) for name in TokenCounts.model_fields})


def _add_requests(counts: Sequence[RequestCounts]) -> RequestCounts:
    return RequestCounts(**{name: sum(getattr(count, name) for count in counts) for name in RequestCounts.model_fields})


def _add_sources(entries: Sequence[EndpointRecord]) -> tuple[AnswerSource, ...]:
    """Add up the answers of each source, the most frequent first."""
    answers: Counter[AnswerSource] = Counter()
    for entry in entries:
        for source in entry.sources:
            answers[source.model_copy(update={"answers": 0})] += source.answers
    return tuple(source.model_copy(update={"answers": count}) for source, count in answers.most_common())


def _add_snapshots(entries: Sequence[EndpointRecord]) -> tuple[Snapshot, ...]:
    """Add up the answers of each version of a model, the most frequent first."""
    answers: Counter[tuple[str | None, str | None]] = Counter()
    for entry in entries:
        for snapshot in entry.snapshots:
            answers[snapshot.model, snapshot.fingerprint] += snapshot.answers
    return tuple(
        Snapshot(model=model, fingerprint=fingerprint, answers=count)
        for (model, fingerprint), count in answers.most_common()
    )


def _add_totals(totals: Sequence[Totals]) -> Totals:
    """Add up dollars and requests; dollars are None where those of one shard are unknown."""

    def add(name: str) -> float | None:
        values = [getattr(one, name) for one in totals]
        return None if None in values else sum(values)

    dollars = {name: add(name) for name in Totals.model_fields if name.startswith("usd_")}
    unknown = None if dollars["usd_spent"] is not None else "that of a shard is not known"
    return Totals(**dollars, requests=_add_requests([one.requests for one in totals]), cost_unknown=unknown)
