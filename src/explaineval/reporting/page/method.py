"""Say how the numbers of the page came about: cost, definitions, signatures, versions, hashes, commands. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass

from explaineval.interventions import kind_of
from explaineval.reporting.page.places import Place
from explaineval.reporting.results import Results, RunResults, UnknownCost
from explaineval.rundir.ledger import spending_sentence
from explaineval.rundir.schema import EndpointRecord
from explaineval.scoring.registry import COMPARED_ONLY, METRICS, text_of
from explaineval.text import counted, dollars_text

UNKNOWN = "unknown"
MILLION = 1e6


@dataclass(frozen=True)
class ModelCost:
    """What one model was asked: requests from the cache and sent, tokens in and out, dollars per million tokens.

    `per_trial` is what a trial costs from scratch, or why that is not known.
    """

    model: str
    hits: int
    sent: int
    unsent: int
    tokens_in: int
    tokens_out: int
    price: str
    per_trial: str


@dataclass(frozen=True)
class RunCost:
    """The three sums of a run in dollars, its requests in words, and each of its models."""

    name: str
    spent: str
    saved: str
    from_scratch: str
    requests: str
    models: tuple[ModelCost, ...]
    ledger: str = ""
    """What was spent in the run directory by all commands."""


@dataclass(frozen=True)
class Definition:
    """A metric that the page shows: its name in files, and what is said of it."""

    metric: str
    title: str
    definition: str
    source: str
    pitfall: str


@dataclass(frozen=True)
class Hash:
    """Something that the numbers rest on, and the hash of its contents."""

    what: str
    hash: str


@dataclass(frozen=True)
class RunSource:
    """What a run rests on: its signature, its versions, and the hashes of its inputs."""

    name: str
    signature: str
    versions: tuple[tuple[str, str], ...]
    hashes: tuple[Hash, ...]
    settings: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Signature:
    """The signature of one number: which, of what."""

    name: str
    metric: str
    signature: str


def definitions_of(results: Results) -> tuple[Definition, ...]:
    """Return what is said of every metric that these results have, in the order of the registry."""
    measured = {row.metric for run in results.runs for row in run.rows}
    measured |= {compared.metric for result in results.comparisons for compared in result.families}
    names = [*METRICS, *COMPARED_ONLY]
    return tuple(
        Definition(name, about.title, about.definition, about.source, about.pitfall)
        for name in names
        if name in measured
        for about in [text_of(name)]
    )


def costs_of(results: Results) -> tuple[RunCost, ...]:
    """Return the cost of each run that recorded one."""
    return tuple(_cost(run, results) for run in results.runs if run.record.totals is not None)


def _cost(run: RunResults, results: Results) -> RunCost:
    totals = run.record.totals
    assert totals is not None  # noqa: S101 - `costs_of` chose it so
    counts = totals.requests
    parts = [
        counted(counts.distinct, "distinct request"),
        f"{counts.hits:,} from the cache",
        f"{counts.sent:,} sent",
    ]
    parts += [f"{counts.unsent:,} never sent"] if counts.unsent else []
    parts += [counted(counts.retries, "retry")] if counts.retries else []
    return RunCost(
        name=_name(run, results),
        spent=dollars_text(totals.usd_spent),
        saved=dollars_text(totals.usd_saved_by_cache),
        from_scratch=dollars_text(totals.usd_from_scratch),
        requests=", ".join(parts),
        models=tuple(_model_cost(record, run) for record in run.record.endpoints),
        ledger=spending_sentence(run.directory) or "",
    )


def _name(run: RunResults, results: Results) -> str:
    """Return the name of a run where there are several; one alone needs none."""
    return run.name if len(results.runs) > 1 else ""


def _model_cost(record: EndpointRecord, run: RunResults) -> ModelCost:
    cost = run.dollars_per_trial(record.endpoint, record.model)
    counts, tokens, price = record.requests, record.tokens, record.price
    return ModelCost(
        model=record.model,
        hits=0 if counts is None else counts.hits,
        sent=0 if counts is None else counts.sent,
        unsent=0 if counts is None else counts.unsent,
        tokens_in=0 if tokens is None else tokens.sent_in + tokens.hit_in,
        tokens_out=0 if tokens is None else tokens.sent_out + tokens.hit_out,
        price=UNKNOWN
        if price is None
        else f"{dollars_text(price.input * MILLION)} / {dollars_text(price.output * MILLION)}",
        per_trial=f"{UNKNOWN}: {cost.reason}" if isinstance(cost, UnknownCost) else dollars_text(cost),
    )


def sources_of(results: Results) -> tuple[RunSource, ...]:
    """Return what each run rests on."""
    return tuple(
        RunSource(
            name=_name(run, results),
            signature=run.record.signature,
            versions=(
                ("explaineval", run.record.explaineval),
                ("Python", run.record.python),
                *sorted(run.record.packages.items()),
                ("prices", run.record.prices),
            ),
            hashes=tuple(_hashes(run)),
            settings=tuple(_settings(run)),
        )
        for run in results.runs
    )


def _hashes(run: RunResults) -> Iterator[Hash]:
    facts = run.record.facts
    for name, task in facts.tasks.items():
        yield Hash(f"{name}: {counted(task.n_examples, 'example')}", task.examples)
        for kind, digest in task.kinds.items():
            yield Hash(f"{name}: {kind_of(kind).title} ({kind})", digest)
        if task.n_shots:
            yield Hash(f"{name}: {counted(task.n_shots, 'shot')} ({task.shots_source})", task.shots)
        for level, digest in sorted(task.level_shots.items()):
            yield Hash(f"{name}: shots of the level {level}", digest)
    for name, digest in run.record.science.growing.prompts.items():
        yield Hash(f"prompts: {name}", digest)


def _settings(run: RunResults) -> Iterator[tuple[str, str]]:
    """Yield the settings that hold for all of a run, as they enter its hash; paths are no part of them."""
    for name, value in run.record.science.fixed.items():
        if value not in (None, [], {}):
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield name.replace("_", " "), text


def signatures_of(results: Results, metrics: Container[str], names: Mapping[Place, str]) -> Iterator[Signature]:
    """Yield the signatures of the rows of these metrics; `names` are those of runs and conditions."""
    for number, run in enumerate(results.runs):
        for row in run.rows:
            place = number, row.condition.without_mention
            if row.metric in metrics and place in names:
                yield Signature(names[place], METRICS[row.metric].title, row.signature)


def commands_of(results: Results) -> tuple[tuple[str, str], ...]:
    """Return the commands that compute the page's numbers again, each with what it does."""
    several = len(results.runs) > 1
    runs = "RUN_DIR..." if several else "RUN_DIR"
    return (
        ("explaineval score RUN_DIR --table", "compute the numbers again from the trials; nothing is asked"),
        (f"explaineval compare {runs} --json", "all differences, intervals, p-values and ranks"),
        ("explaineval show RUN_DIR --list", "the trials behind the numbers"),
        ("explaineval export RUN_DIR --out run.zip", "the run and its answers in one file"),
        ("explaineval reproduce run.zip", "compute every number again from the answers, to the last digit"),
        (f"explaineval report {runs} --out report.html", "this page"),
    )
