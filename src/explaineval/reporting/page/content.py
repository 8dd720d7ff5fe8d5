"""Say what stands on the report page, from results that were read: frozen texts and numbers, no HTML. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from explaineval.interventions import kind_of
from explaineval.planning.notes import record_notes
from explaineval.records import SIMULATED_NOTE, SIMULATED_PREFIX
from explaineval.reporting.condition_text import lower_first
from explaineval.reporting.page.findings import Finding, findings_of
from explaineval.reporting.page.limits import Limits, limits_of
from explaineval.reporting.page.method import (
    Definition,
    RunCost,
    RunSource,
    Signature,
    commands_of,
    costs_of,
    definitions_of,
    signatures_of,
    sources_of,
)
from explaineval.reporting.page.places import Entry, Names, entries_of, other_entries
from explaineval.reporting.page.tables import MissingTable, Table, entry_table, missing_table
from explaineval.reporting.results import Results
from explaineval.scoring.codes import GRADES
from explaineval.scoring.registry import METRICS, PHI_CCT
from explaineval.scoring.task_means import MEAN
from explaineval.text import counted, joined

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
    meanings: tuple[Definition, ...]
    findings: tuple[Finding, ...]
    open_tables: frozenset[str]
    others: tuple[tuple[str, Table], ...]
    limits: tuple[Limits, ...]
    noise: Table
    missing: MissingTable
    bounds: Table
    costs: tuple[RunCost, ...]
    definitions: tuple[Definition, ...]
    intervals: frozenset[str]
    sources: tuple[RunSource, ...]
    signatures: tuple[Signature, ...]
    commands: tuple[tuple[str, str], ...]


ONLY_RUN = "RUN_DIR"
"""Stands on the page for the only run, so that the page of a bundle is that of its run, whatever they are called."""


def for_page(results: Results) -> Results:
    """Return the results with the names of runs as the page shows them."""
    if len(results.runs) != 1:
        return results
    return replace(results, runs=(replace(results.runs[0], name=ONLY_RUN),))


def content_of(results: Results) -> PageContent:
    """Return what the page says of these results."""
    entries = entries_of(results)
    names = Names((row for run in results.runs for row in run.rows), [run.name for run in results.runs])
    findings = findings_of(results, entries, names)
    limits = limits_of([run.scores for run in results.runs], names, results.comparisons)
    single = [entry for entry in entries if not entry.over_levels]
    losing = [entry for entry in single if results.runs[entry.run].scores.missing.get(entry.condition)]
    definitions = definitions_of(results)
    headlines = {finding.metric for finding in findings}
    return PageContent(
        title="Faithfulness of explanations",
        subject=_subject(entries),
        facts=tuple(_facts(results, entries)),
        banners=tuple(_banners(results, entries, limits, headlines)),
        meanings=tuple(about for about in definitions if about.metric in headlines),
        findings=tuple(findings),
        open_tables=_open_tables(findings),
        others=tuple(_others(results, names)),
        limits=limits,
        noise=entry_table("noise-table", single, "noise", names),
        missing=missing_table(results, names),
        bounds=entry_table("bounds-table", losing, "missing", names),
        costs=costs_of(results),
        definitions=definitions,
        intervals=frozenset(run.record.config.interval for run in results.runs),
        sources=sources_of(results),
        signatures=tuple(_signatures(results, entries, names, headlines)),
        commands=commands_of(results),
    )


def _others(results: Results, names: Names) -> Iterator[tuple[str, Table]]:
    """Yield each source of numbers that do not stand first, with its table."""
    for number, (source, entries) in enumerate(other_entries(results).items(), start=1):
        table = entry_table(f"other-{number}", entries, "results", names)
        yield source, table if table.columns else entry_table(f"other-{number}", entries, "more", names)


def _models(entries: Sequence[Entry]) -> list[str]:
    return list(dict.fromkeys(entry.condition.model for entry in entries))


def _subject(entries: Sequence[Entry]) -> str:
    """Return the models, or their number, and the tasks."""
    models = _models(entries)
    tasks = list(dict.fromkeys(entry.condition.task for entry in entries if entry.condition.task != MEAN))
    if not models:
        return "no scored trials"
    who = joined(models) if len(models) <= MOST_NAMES else f"{counted(len(models), 'model')}"
    kinds = dict.fromkeys(kind_of(entry.condition.kind or "").title for entry in entries)
    return f"{who} on {joined(tasks)}: {joined(list(kinds))}"


def _facts(results: Results, entries: Sequence[Entry]) -> Iterator[str]:
    models = {(entry.condition.endpoint, entry.condition.model) for entry in entries}
    yield counted(len(models), "model")
    examples: dict[str, int] = {}
    for run in results.runs:
        for name, task in run.record.facts.tasks.items():
            examples[name] = max(examples.get(name, 0), task.n_examples)
    if len(examples) > 1:
        yield counted(len(examples), "task")
    yield counted(sum(examples.values()), "example")
    rows = [entry.numbers.get(PHI_CCT) for entry in entries if entry.condition.task != MEAN and not entry.over_levels]
    yield counted(sum(row.n for row in rows if row is not None), "scored trial")
    if len(results.runs) > 1:
        yield counted(len(results.runs), "run")


def _banners(results: Results, entries: Sequence[Entry], limits: Sequence[Limits], shown: set[str]) -> Iterator[Banner]:
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


def _open_tables(findings: Sequence[Finding]) -> frozenset[str]:
    """Return the tables that are open: the first, and others while there is room for their rows."""
    found: set[str] = set()
    rows = 0
    for finding in findings:
        rows += len(finding.table.rows)
        if not found or rows <= ROWS_AT_ONCE:
            found.add(finding.table.id)
    return frozenset(found)


def _signatures(results: Results, entries: Sequence[Entry], names: Names, shown: set[str]) -> Iterator[Signature]:
    titles = {entry.place: " · ".join(names.parts(entry.place)) for entry in entries}
    yield from signatures_of(results, shown, titles)
