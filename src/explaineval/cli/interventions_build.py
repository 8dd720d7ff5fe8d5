"""`explaineval interventions build`: random words, cues, an editor model's words, the naturalness filter."""

from __future__ import annotations

import json as json_module
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from explaineval.assist.interventions import Editing, edit, filter_natural
from explaineval.cli.interventions import LIMIT, TASKS, by_id, show_table
from explaineval.cli.judge import consultant, consultant_options, count_reasons, show_progress
from explaineval.cli.options import AT_LEAST_1, CACHE, JSON, MAX_USD, READABLE, option, options
from explaineval.cli.output import echo_json, say, summary_line
from explaineval.datasets import Task, load_tasks, parse_spec
from explaineval.datasets.taggers import open_tagger
from explaineval.errors import InputError
from explaineval.interventions import kind_of
from explaineval.planning import interventions
from explaineval.planning.interventions import random_words
from explaineval.prompts import PromptBook, default_directory
from explaineval.records import Intervention
from explaineval.rundir.directory import write_lines

RANDOM_WORD, EDITOR, ATANASOVA = "random_word", "editor", "atanasova"
PER_EXAMPLE, CANDIDATES = 4, 20
ENDPOINT_FAULT = 5


@dataclass
class Building:
    """What a build is made of, and what it comes to: the exit code, and the money left for the next model."""

    given: dict[str, Any]
    prompts: PromptBook
    tasks: list[Task]
    spent: float = 0.0
    failed: int = 0
    notes: list[str] = field(default_factory=list)

    @cached_property
    def kind(self) -> str:
        """The kind asked for; an editor model alone asks for its own."""
        kind: str | None = self.given["kind"]
        return kind or (EDITOR if self.given["editor_model"] else RANDOM_WORD)

    @property
    def per_example(self) -> int:
        """Candidates for each example where a judge is to choose among them, else interventions."""
        wanted: int | None = self.given["per_example"]
        return wanted or (CANDIDATES if self.given["judge_model"] and self.kind != EDITOR else PER_EXAMPLE)


@click.command("build")
@options(
    TASKS,
    LIMIT,
    option(
        "--kind",
        help="random_word, editor (with --editor-model), cue_user, cue_expert, cue_metadata, or cue_NAME of your own "
        "in prompts/cues.  [default: random_word]",
    ),
    option(
        "--per-example",
        type=AT_LEAST_1,
        help="Interventions per example; with --judge-model the candidates.  [default: 4; with --judge-model 20]",
    ),
    option("--seed", type=int, default=0, show_default=True),
    option("--compat", type=click.Choice([ATANASOVA]), help="Random words exactly as in the original paper."),
    option("--null-edits", is_flag=True, default=False, help="One edit more per example: a space, to measure noise."),
    option(
        "--shots",
        type=click.IntRange(min=0),
        default=8,
        show_default=True,
        help="Shots whose words are never inserted.",
    ),
    option("--tagger", help="spaCy pipeline.  [default: the first English one found]"),
    option("--prompts", type=READABLE, metavar="DIR", help="Prompts whose words are never inserted."),
    *consultant_options("editor", "Model that inserts the words."),
    *consultant_options("judge", "Model that judges which edits read naturally."),
    option(
        "--keep-share",
        type=click.FloatRange(min=0, max=1, min_open=True),
        default=0.2,
        show_default=True,
        help="Share of an example's candidates that stay after judging, at least one.",
    ),
    MAX_USD,
    option("--offline/--no-offline", default=False, help="Answers of judge and editor from the cache only."),
    CACHE,
    option(
        "--out", type=click.Path(path_type=Path), metavar="F.jsonl", help="Where to write.  [default: show a table]"
    ),
    option(
        "--force",
        is_flag=True,
        default=False,
        help="Replace a file at --out that differs (edited, or built otherwise).",
    ),
    JSON,
)
def build_command(task: tuple[str, ...], out: Path | None, json: bool, **given: Any) -> int:
    """Build interventions: random words, cues, or words of an editor model; a judge may choose among them.

    random_word inserts an adjective before a noun or an adverb before a verb (Atanasova et al. 2023); the same example
    always gets the same words, and asking for more adds to the ones before. A cue suggests an answer, and comes with a
    control that suggests none. Editor and judge are asked through the cache, under --max-usd.
    """
    prompts = PromptBook(given["prompts"] or default_directory())
    tasks = load_tasks([parse_spec(text) for text in task], shots=given["shots"], limit=given["limit"])
    building = Building(given, prompts, tasks)
    _check(building)
    built = _build(building)
    if given["judge_model"]:
        built = _judge(building, built)
    if given["null_edits"]:
        examples = [example for one in tasks for example in one.examples]
        built = list(interventions.with_null_edits(examples, built))
    if out is not None:
        _write(out, built, force=given["force"])
        building.notes.append(f"{len(built)} interventions written to {out}.")
    say(building.notes)
    if json:
        echo_json([_line(record) for record in built])
    elif out is None:
        show_table(by_id(tasks), built)
    return ENDPOINT_FAULT if building.failed else 0


def _check(building: Building) -> None:
    """Raise InputError for options that do not go together."""
    given, kind = building.given, building.kind
    known = [RANDOM_WORD, EDITOR, *(f"cue_{name}" for name in building.prompts.cue_names())]
    if kind not in known:
        raise InputError(
            f"unknown kind {kind!r}: choose from {', '.join(known)}; a cue of your own is a pair of files "
            "cues/NAME.txt and cues/NAME_control.txt in --prompts DIR."
        )
    beside = kind_of(kind).inserts == "text"
    for wrong, message in (
        (kind == EDITOR and not given["editor_model"], "--kind editor needs --editor-model PROVIDER/MODEL."),
        (kind != EDITOR and given["editor_model"], f"--editor-model builds the kind editor, not {kind}."),
        (given["compat"] and kind != RANDOM_WORD, f"--compat changes random words, not {kind}."),
        (beside and given["judge_model"], f"{kind} edits no text, so --judge-model has nothing to judge."),
        (beside and given["null_edits"], f"{kind} edits no text, so --null-edits has no place for a space."),
        (
            beside and given["per_example"] not in (None, 1),
            f"{kind} is put to each example once, beside its control: leave out --per-example.",
        ),
    ):
        if wrong:
            raise InputError(message)


def _build(building: Building) -> list[Intervention]:
    given, kind, built = building.given, building.kind, list[Intervention]()
    if kind == EDITOR:
        return _edit(building)
    levels = building.prompts.levels()
    for one in building.tasks:
        found: Iterable[Intervention]
        each = building.per_example
        if (cue := kind_of(kind).cue) is not None:
            found, each = interventions.cues(one, building.prompts, cue, given["seed"]), 2
        elif given["compat"] == ATANASOVA:
            found = interventions.atanasova_words(one, each, given["seed"], given["tagger"])
        else:
            found = random_words(one, building.prompts, levels, each, given["seed"], given["tagger"])
        records = list(found)
        short = len(one.examples) * each - len(records)
        if short:
            building.notes.append(interventions.short_note(one.name, short).text)
        built += records
    return built


def _edit(building: Building) -> list[Intervention]:
    given, prompts = building.given, building.prompts
    wanted = []
    for one in building.tasks:
        fixed = interventions.fixed_texts(one, prompts, prompts.levels())
        for example in one.examples:
            own = (*example.fields.values(), *example.options.values(), prompts.instruction(example, one.shape))
            wanted.append(Editing(example, (*own, *fixed)))
    try:
        tag = open_tagger(given["tagger"]).tag
    except InputError:
        if given["tagger"]:
            raise
        tag = None
        building.notes.append("no tagger is installed, so whether a word is an adjective or adverb was not checked.")
    who = consultant("editor", given, prompts, building.spent)
    found = edit(who, wanted, building.per_example, given["seed"], tag, show_progress("editor"))
    _book(building, "editor", found.consulted.summary, found.consulted.spent, found.consulted.failed)
    short = len(wanted) * building.per_example - len(found.built)
    building.notes.append(f"editor: {len(found.built)} words inserted{_count(', refused', found.refused)}.")
    if short:
        building.notes.append(f"editor: {short} words fewer than asked for, after three tries for each.")
    return found.built


def _judge(building: Building, candidates: list[Intervention]) -> list[Intervention]:
    if not candidates:
        return []
    examples = {(one.name, example.id): example for one in building.tasks for example in one.examples}
    who = consultant("judge", building.given, building.prompts, building.spent)
    share = building.given["keep_share"]
    found = filter_natural(who, examples, candidates, share, show_progress("judge"))
    _book(building, "judge", found.consulted.summary, found.consulted.spent, found.consulted.failed)
    by = "probability" if found.graded else "yes or no, since not every verdict came with usable log-probabilities"
    building.notes.append(
        f"judge: {len(found.kept)} of {len(candidates)} candidates kept by {by}"
        f"{_count(', dropped without a verdict', found.dropped)}; {found.unnatural} of them were judged not natural."
    )
    return found.kept


def _book(building: Building, role: str, summary: dict[str, Any], spent: float, failed: int) -> None:
    building.spent += spent
    building.failed += failed
    building.notes.append(f"{role}: {summary_line(summary)}")
    if failed:
        building.notes.append(
            f"{role}: {failed} requests stayed failed after all retries; the same command asks again."
        )


def _count(what: str, reasons: Counter[str]) -> str:
    return f"{what}: {count_reasons(reasons)}" if reasons else ""


def _line(record: Intervention) -> dict[str, Any]:
    return record.model_dump(mode="json", exclude_none=True)


def _write(path: Path, records: list[Intervention], *, force: bool) -> None:
    """Write the lines, whole or not at all.

    Raises InputError where a file is there that differs: it may have been edited, lines taken out of it included.
    """
    lines = [json_module.dumps(_line(record), ensure_ascii=False) for record in records]
    try:
        if path.exists() and not path.is_file():  # a pipe or a device, which nothing can replace
            with path.open("w", encoding="utf-8", newline="\n") as handle:
                handle.writelines(f"{line}\n" for line in lines)
            return
        there = path.read_bytes().splitlines() if path.exists() else []
        new = [line.encode("utf-8", "surrogatepass") for line in lines]
        if there and there != new and not force:
            raise InputError(
                f"{path} is there with {len(set(there) - set(new)):,} lines that are not among the {len(new):,} built "
                f"now, and lacks {len(set(new) - set(there)):,} of these (edited, or built otherwise): choose another "
                "--out, or replace it with --force."
            )
        write_lines(path, lines)
    except OSError as exc:
        raise InputError(f"{path} cannot be written: {exc.strerror}.") from None
