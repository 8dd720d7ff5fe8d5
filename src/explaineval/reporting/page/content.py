"""Say what stands on the report page, from results that were read: frozen texts and numbers, no HTML. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from explaineval.interventions import kind_of
from explaineval.planning.notes import record_notes
from explaineval.records import SIMULATED_NOTE, SIMULATED_PREFIX
from explaineval.reporting.page.findings import FindingBlock, findings_of
from explaineval.reporting.page.tables import ConditionTable, MissingTable, entry_table, missing_table
from explaineval.reporting.results import ComparedRuns, RunResults, UnknownCost, other_conditions
from explaineval.reporting.view import ConditionNames, ConditionView, GradeLimits, Place, limits_of, lower_first
from explaineval.rundir.ledger import spending_sentence
from explaineval.rundir.schema import EndpointRecord
from explaineval.scoring.codes import GRADES
from explaineval.scoring.metric import Metric
from explaineval.scoring.registry import COMPARED_ONLY, METRICS, PHI_CCT, MetricText, text_of
from explaineval.scoring.task_means import MEAN
from explaineval.text import counted, dollars_text, joined

MOST_NAMES = 3
"""Models that the title names."""

ROWS_AT_ONCE = 30
"""Rows of tables that are open when the page is; the first table always is."""


@dataclass(frozen=True)
class Banner:
    """A sentence above everything else: that models are simulated, numbers not to be quoted, or a run not complete."""

    kind: str
    text: str


@dataclass(frozen=True)
class PageContent:
    """Everything on the page but its figures and its browser of trials.

    `facts` say in a few words what was asked, `meanings` what the headline numbers mean. `open_tables` are the ids of
    the tables that need no click. `others` are the numbers of other channels, judges and predictors. `intervals` are
    the ways in which the runs computed intervals.
    """

    title: str
    subject: str
    facts: tuple[str, ...]
    banners: tuple[Banner, ...]
    meanings: tuple[Metric[Any] | MetricText, ...]
    findings: tuple[FindingBlock, ...]
    open_tables: frozenset[str]
    others: tuple[tuple[str, ConditionTable], ...]
    limits: tuple[GradeLimits, ...]
    noise: ConditionTable
    missing: MissingTable
    bounds: ConditionTable
    costs: tuple[RunCost, ...]
    definitions: Mapping[str, Metric[Any] | MetricText]
    intervals: frozenset[str]
    sources: tuple[RunSource, ...]
    signatures: tuple[Signature, ...]
    commands: tuple[tuple[str, str], ...]


ONLY_RUN = "RUN_DIR"
"""Stands on the page for the only run, so that the page of a bundle is that of its run, whatever they are called."""


def for_page(results: ComparedRuns) -> ComparedRuns:
    """Return the results with the names of runs as the page shows them."""
    if len(results.runs) != 1:
        return results
    return replace(results, runs=(replace(results.runs[0], name=ONLY_RUN),))


def content_of(results: ComparedRuns) -> PageContent:
    """Return what the page says of these results."""
    entries = results.conditions
    names = ConditionNames((row for run in results.runs for row in run.rows), [run.name for run in results.runs])
    findings = findings_of(results, names)
    limits = limits_of([run.scores for run in results.runs], names, results.comparisons)
    single = [entry for entry in entries if not entry.over_levels]
    with_missing = [entry for entry in single if entry.missing]
    definitions = definitions_of(results)
    headlines = {finding.metric for finding in findings}
    return PageContent(
        title="Faithfulness of explanations",
        subject=_subject(entries),
        facts=tuple(_facts(results, entries)),
        banners=tuple(_banners(results, entries, limits, headlines)),
        meanings=tuple(about for name, about in definitions.items() if name in headlines),
        findings=tuple(findings),
        open_tables=_open_tables(findings),
        others=tuple(_others(results, names)),
        limits=limits,
        noise=entry_table("noise-table", single, "noise", names),
        missing=missing_table(results, names),
        bounds=entry_table("bounds-table", with_missing, "missing", names),
        costs=costs_of(results),
        definitions=definitions,
        intervals=frozenset(run.record.config.interval for run in results.runs),
        sources=sources_of(results),
        signatures=tuple(_signatures(results, entries, names, headlines)),
        commands=commands_of(results),
    )


def _others(results: ComparedRuns, names: ConditionNames) -> Iterator[tuple[str, ConditionTable]]:
    """Yield each source of numbers that do not stand first, with its table."""
    for number, (source, entries) in enumerate(other_conditions(results).items(), start=1):
        table = entry_table(f"other-{number}", entries, "results", names)
        yield source, table if table.columns else entry_table(f"other-{number}", entries, "more", names)


def _models(entries: Sequence[ConditionView]) -> list[str]:
    return list(dict.fromkeys(entry.condition.model for entry in entries))


def _subject(entries: Sequence[ConditionView]) -> str:
    """Return the models, or their number, and the tasks."""
    models = _models(entries)
    tasks = list(dict.fromkeys(entry.condition.task for entry in entries if entry.condition.task != MEAN))
    if not models:
        return "no scored trials"
    who = joined(models) if len(models) <= MOST_NAMES else f"{counted(len(models), 'model')}"
    kinds = dict.fromkeys(kind_of(entry.condition.kind or "").title for entry in entries)
    return f"{who} on {joined(tasks)}: {joined(list(kinds))}"


def _facts(results: ComparedRuns, entries: Sequence[ConditionView]) -> Iterator[str]:
    models = {(entry.condition.endpoint, entry.condition.model) for entry in entries}
    yield counted(len(models), "model")
    examples: dict[str, int] = {}
    for run in results.runs:
        for name, task in run.record.facts.tasks.items():
            examples[name] = max(examples.get(name, 0), task.n_examples)
    if len(examples) > 1:
        yield counted(len(examples), "task")
    yield counted(sum(examples.values()), "example")
    numbers = [
        entry.numbers.get(PHI_CCT) for entry in entries if entry.condition.task != MEAN and not entry.over_levels
    ]
    yield counted(sum(number.row.n for number in numbers if number is not None), "scored trial")
    if len(results.runs) > 1:
        yield counted(len(results.runs), "run")


def _banners(
    results: ComparedRuns, entries: Sequence[ConditionView], limits: Sequence[GradeLimits], shown: set[str]
) -> Iterator[Banner]:
    """Yield the sentences above everything else; `shown` are the metrics of the findings."""
    models = _models(entries)
    simulated = [name for name in models if name.startswith(SIMULATED_PREFIX)]
    if simulated and len(simulated) == len(models) > 1:
        yield Banner("simulated", "All models here are simulated: they are small programs, not language models.")
    elif len(simulated) > 1:
        text = (
            f"The {counted(len(simulated), 'model')} whose names begin with {SIMULATED_PREFIX} are "
            "simulated, not language models."
        )
        yield Banner("simulated", text)
    elif simulated:
        yield Banner("simulated", f"{simulated[0]} is {SIMULATED_NOTE}.")
    for run in results.runs:
        totals = run.record.totals
        which = f"The run {run.name}" if len(results.runs) > 1 else "This run"
        if totals is not None and totals.requests.unsent:
            unsent = f"{totals.requests.unsent:,} of {counted(totals.requests.distinct, 'request')} were never sent"
            why = "".join(f" {note.text}" for note in record_notes(run.record) if note.code == "model_stopped")
            yield Banner(
                "incomplete", f"{which} is not complete: {unsent}. The numbers are those of what was answered.{why}"
            )
        elif not run.record.complete:
            yield Banner("incomplete", f"{which} is not complete: the numbers are those of what was answered so far.")
    titles = {METRICS[name].title for name in shown if name}
    grave = [limit for of_grade in limits if of_grade.grade == GRADES[0] for limit in of_grade.limits]
    grave = [limit for limit in grave if titles & set(limit.metrics)]
    if grave:
        first = f"{grave[0].title}, in {counted(grave[0].count, 'condition')}"
        more = f"; {counted(len(grave) - 1, 'other reason')}" if len(grave) > 1 else ""
        yield Banner("grave", f"Do not quote some of these numbers as they stand: {lower_first(first)}{more}.")


def _open_tables(findings: Sequence[FindingBlock]) -> frozenset[str]:
    """Return the tables that are open: the first, and others while there is room for their rows."""
    found: set[str] = set()
    rows = 0
    for finding in findings:
        rows += len(finding.table.rows)
        if not found or rows <= ROWS_AT_ONCE:
            found.add(finding.table.id)
    return frozenset(found)


def _signatures(
    results: ComparedRuns, entries: Sequence[ConditionView], names: ConditionNames, shown: set[str]
) -> Iterator[Signature]:
    titles = {entry.place: " · ".join(names.parts(entry.place)) for entry in entries}
    yield from signatures_of(results, shown, titles)


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
class RunSource:
    """What a run rests on: its signature, its versions, and the hashes of its inputs."""

    name: str
    signature: str
    versions: tuple[tuple[str, str], ...]
    hashes: tuple[tuple[str, str], ...]
    settings: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Signature:
    """The signature of one number: which, of what."""

    name: str
    metric: str
    signature: str


def definitions_of(results: ComparedRuns) -> dict[str, Metric[Any] | MetricText]:
    """Return what is said of every metric that these results have by its name, in the order of the registry."""
    measured = {row.metric for run in results.runs for row in run.rows}
    measured |= {compared.metric for result in results.comparisons for compared in result.families}
    return {name: text_of(name) for name in (*METRICS, *COMPARED_ONLY) if name in measured}


def costs_of(results: ComparedRuns) -> tuple[RunCost, ...]:
    """Return the cost of each run that recorded one."""
    return tuple(_cost(run, results) for run in results.runs if run.record.totals is not None)


def _cost(run: RunResults, results: ComparedRuns) -> RunCost:
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


def _name(run: RunResults, results: ComparedRuns) -> str:
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


def sources_of(results: ComparedRuns) -> tuple[RunSource, ...]:
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


def _hashes(run: RunResults) -> Iterator[tuple[str, str]]:
    facts = run.record.facts
    for name, task in facts.tasks.items():
        yield f"{name}: {counted(task.n_examples, 'example')}", task.examples
        for kind, digest in task.kinds.items():
            yield f"{name}: {kind_of(kind).title} ({kind})", digest
        if task.n_shots:
            yield f"{name}: {counted(task.n_shots, 'shot')} ({task.shots_source})", task.shots
        for level, digest in sorted(task.level_shots.items()):
            yield f"{name}: shots of the level {level}", digest
    for name, digest in run.record.science.growing.prompts.items():
        yield f"prompts: {name}", digest


def _settings(run: RunResults) -> Iterator[tuple[str, str]]:
    """Yield the settings that hold for all of a run, as they enter its hash; paths are no part of them."""
    for name, value in run.record.science.fixed.items():
        if value not in (None, [], {}):
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield name.replace("_", " "), text


def signatures_of(results: ComparedRuns, metrics: Container[str], names: Mapping[Place, str]) -> Iterator[Signature]:
    """Yield the signatures of the rows of these metrics; `names` are those of runs and conditions."""
    for number, run in enumerate(results.runs):
        for row in run.rows:
            place = number, row.condition.without_mention
            if row.metric in metrics and place in names:
                yield Signature(names[place], METRICS[row.metric].title, row.signature)


def commands_of(results: ComparedRuns) -> tuple[tuple[str, str], ...]:
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
