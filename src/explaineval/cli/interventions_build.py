"""`explaineval interventions build`: random words, cues, an editor model's words, the naturalness filter."""

from __future__ import annotations

import json as json_module
import shlex
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from explaineval.cli.configuration import resolve_role
from explaineval.cli.interventions_show import TASKS, by_id, echo_interventions
from explaineval.cli.options import JSON, PATH, NumberRange, offered, option, options, role_options
from explaineval.cli.output import count_reasons, echo_json, echo_notes, totals_line
from explaineval.cli.progress import watch_lines
from explaineval.config import read_columns
from explaineval.datasets import Task, load_tasks, parse_specs
from explaineval.datasets.taggers import open_tagger
from explaineval.errors import ExitCode, InputError
from explaineval.interventions import KINDS, Kind, buildable, kind_of
from explaineval.planning import prepare
from explaineval.planning.prepare import id_notes
from explaineval.prompts import PromptBook, default_directory
from explaineval.records import Intervention
from explaineval.rundir.directory import check_ending, check_output, write_lines
from explaineval.text import counted

if TYPE_CHECKING:
    from explaineval.assist.session import SessionResult

RANDOM_WORD, EDITOR = "random_word", "editor"
COMPAT = {"atanasova": "random_word_atanasova"}
"""The kinds that `--compat` builds in place of random_word."""
PER_EXAMPLE, CANDIDATES = 4, 20


@dataclass
class Build:
    """The inputs of a build, the dollars spent and requests failed so far, and what to print at the end."""

    given: dict[str, Any]
    prompts: PromptBook
    tasks: list[Task]
    spent: float = 0.0
    failed: int = 0
    notes: list[str] = field(default_factory=list)

    @cached_property
    def kind(self) -> Kind:
        """The kind given; without one, that of the editor model or of random words."""
        name = self.given["kind"] or (EDITOR if self.given["editor_model"] else RANDOM_WORD)
        return kind_of(COMPAT[self.given["compat"]] if self.given["compat"] and name == RANDOM_WORD else name)

    @property
    def per_example(self) -> int:
        """Interventions per example; where a judge chooses among them, candidates."""
        number: int | None = self.given["per_example"]
        return number or (CANDIDATES if self.given["judge_model"] and not self.kind.asks_model else PER_EXAMPLE)

    def add_costs(self, role: str, session: SessionResult[Any]) -> None:
        """Add what asking a model took."""
        self.spent += session.spent
        self.failed += session.failed
        self.notes.append(f"{role}: {totals_line(session.totals)}")
        if session.failed:
            failed = f"{counted(session.failed, 'request')} failed after all retries; the same command asks them again."
            self.notes.append(f"{role}: {failed}")


@click.command("build")
@options(
    TASKS,
    offered("columns"),
    offered("limit"),
    offered(
        "kind",
        help=f"One of {', '.join(buildable(['NAME']))}. editor needs --editor-model; a cue's NAME is user, expert, "
        "metadata, previous, grader, unauthorised or one of your own in prompts/cues.",
        default_text="random_word",
    ),
    offered(
        "per_example",
        help="Interventions per example; with --judge-model the candidates.",
        default_text="4; with --judge-model 20",
    ),
    offered("seed", default=0, help="Seed of the random draws."),
    option("--compat", type=click.Choice(list(COMPAT)), help="Random words exactly as in the original paper."),
    option("--null-edits", is_flag=True, default=False, help="Add one inserted space per example, to measure noise."),
    offered(
        "shots",
        default=8,
        help="Shots whose words are never inserted. Another number gives some examples other words.",
    ),
    offered("tagger"),
    offered("prompts", help="Prompts whose words are never inserted."),
    *role_options("editor", "Model that inserts the words."),
    *role_options("judge", "Model that judges which edits read naturally."),
    option(
        "--keep-share",
        type=NumberRange(min=0, max=1, min_open=True),
        default=0.2,
        show_default=True,
        help="Share of an example's candidates that is kept after judging, at least one.",
    ),
    offered("max_usd"),
    offered("offline", default=False, help="Use stored answers of judge and editor only."),
    *map(offered, ("transport", "patience", "cache")),
    option("--out", type=PATH, metavar="F.jsonl", help="File to write.  [default: show a table]"),
    option("--force", is_flag=True, default=False, help="Replace the file at --out even if it differs."),
    JSON,
)
def build_command(task: tuple[str, ...], columns: str | None, out: Path | None, json: bool, **given: Any) -> int:
    """Build interventions: random words, cues, or words of an editor model; a judge may choose among them.

    random_word inserts an adjective before a noun or an adverb before a verb (Atanasova et al. 2023); an example
    always gets the same words, and asking for more adds to them. A cue suggests an answer, and is built together with
    a control that suggests none. random_nonword (a word of no language) and duplicate_word (a word of the text twice)
    show what any edit does, removed_word takes the random words out again. Editor and judge are asked through the cache
    and under --max-usd.
    """
    if out is not None:
        check_output(out)
        check_ending(out, "JSON lines", ".jsonl", ".json", ".ndjson")
    prompts = PromptBook(given["prompts"] or default_directory())
    specs = parse_specs(task, read_columns(columns or ""))
    tasks = load_tasks(specs, shots=given["shots"], limit=given["limit"])
    build = Build(given, prompts, tasks, notes=[note.text for note in id_notes(tasks)])
    _check(build)
    records = _edit(build) if build.kind.asks_model else _draw(build)
    if given["judge_model"]:
        records = _filter(build, records)
    if given["null_edits"]:
        examples = [example for task in tasks for example in task.examples]
        records = list(prepare.with_null_edits(examples, records))
    if out is not None:
        _write(out, records, force=given["force"])
        build.notes.append(f"{counted(len(records), 'intervention')} written to {out}.")
        if build.kind.inserts == "word":
            build.notes.append(
                f"the words are in none of {counted(given['shots'], 'shot')} (--shots). `run` without this file and "
                "with another number of shots would insert other words in some examples: give it --interventions "
                f"{shlex.quote(str(out))}."
            )
    echo_notes(build.notes)
    if json:
        echo_json([_document(record) for record in records])
    elif out is None:
        echo_interventions(by_id(tasks), records)
    return ExitCode.ENDPOINT if build.failed else ExitCode.DONE


def _check(build: Build) -> None:
    """Raise InputError for options that contradict each other."""
    given, kind, name = build.given, build.kind, build.kind.name
    kinds = buildable(build.prompts.cue_names())
    if name not in kinds:
        KINDS.complete()
        kinds = buildable(build.prompts.cue_names())
        raise InputError(
            f"unknown kind {name!r}: choose from {', '.join(kinds)}; a cue of your own is a pair of files "
            "cues/NAME.txt and cues/NAME_control.txt in --prompts DIR."
        )
    edits_no_text = kind.inserts in ("text", "shots")
    for wrong, message in (
        (kind.asks_model and not given["editor_model"], "--kind editor needs --editor-model PROVIDER/MODEL."),
        (not kind.asks_model and given["editor_model"], f"--editor-model builds the kind editor, not {name}."),
        (given["compat"] and name not in COMPAT.values(), f"--compat changes random words, not {name}."),
        (edits_no_text and given["judge_model"], f"{name} edits no text, so --judge-model has nothing to judge."),
        (
            edits_no_text and given["null_edits"],
            f"{name} edits no text, so --null-edits has no place for a space.",
        ),
        (
            edits_no_text and given["per_example"] not in (None, 1),
            f"{name} is built once for each example, with its control: leave out --per-example.",
        ),
    ):
        if wrong:
            raise InputError(message)


def _draw(build: Build) -> list[Intervention]:
    """Return random words or cues for all tasks, and note where fewer than asked for could be built."""
    given, prompts, built = build.given, build.prompts, list[Intervention]()
    levels, number = prompts.levels(), build.per_example
    for task in build.tasks:
        drawn = prepare.build(
            build.kind, task, prompts, levels, per_example=number, seed=given["seed"], tagger=given["tagger"]
        )
        records = list(drawn)
        missing = len(task.examples) * (number if build.kind.control is None else 2) - len(records)
        if missing:
            build.notes.append(prepare.short_note(task.name, missing).text)
        built += records
    return built


def _edit(build: Build) -> list[Intervention]:
    """Return the words that the editor model inserts."""
    from explaineval.assist.interventions import Editing, edit  # asking models needs the client, random words do not

    given, prompts = build.given, build.prompts
    edits = []
    for task in build.tasks:
        fixed = prepare.fixed_texts(task, prompts, prompts.levels())
        for example in task.examples:
            own = (*example.fields.values(), *example.options.values(), prompts.instruction(example, task.shape))
            edits.append(Editing(example, (*own, *fixed)))
    try:
        tag = open_tagger(given["tagger"]).tag
    except InputError:
        if given["tagger"]:
            raise
        tag = None
        build.notes.append("no tagger is installed, so whether a word is an adjective or adverb was not checked.")
    editor = resolve_role(EDITOR, given, prompts, build.spent)
    edited = edit(editor, edits, build.per_example, given["seed"], tag, watch_lines(EDITOR))
    build.add_costs(EDITOR, edited.session)
    missing = len(edits) * build.per_example - len(edited.built)
    build.notes.append(f"editor: {counted(len(edited.built), 'word')} inserted{_reasons(', refused', edited.refused)}.")
    if missing:
        build.notes.append(f"editor: {counted(missing, 'word')} fewer than asked for, after three tries for each.")
    return edited.built


def _filter(build: Build, candidates: list[Intervention]) -> list[Intervention]:
    """Return the candidates that the judge model finds most natural."""
    if not candidates:
        return []
    from explaineval.assist.interventions import filter_natural

    examples = {(task.name, example.id): example for task in build.tasks for example in task.examples}
    judge = resolve_role("judge", build.given, build.prompts, build.spent)
    filtered = filter_natural(judge, examples, candidates, build.given["keep_share"], watch_lines("judge"))
    build.add_costs("judge", filtered.session)
    basis = (
        "probability" if filtered.graded else "yes or no, since not every verdict came with usable log-probabilities"
    )
    build.notes.append(
        f"judge: {len(filtered.kept)} of {len(candidates)} candidates kept by {basis}"
        f"{_reasons(', dropped without a verdict', filtered.dropped)}; {filtered.unnatural} of them were judged not "
        "natural."
    )
    return filtered.kept


def _reasons(text: str, reasons: Counter[str]) -> str:
    return f"{text}: {count_reasons(reasons)}" if reasons else ""


def _document(record: Intervention) -> dict[str, Any]:
    return record.model_dump(mode="json", exclude_none=True)


def _write(path: Path, records: list[Intervention], *, force: bool) -> None:
    """Write the whole file or nothing.

    Raises InputError where a file exists and differs, also by lines removed from it: it may have been edited.
    """
    lines = [json_module.dumps(_document(record), ensure_ascii=False) for record in records]
    try:
        if path.exists() and not path.is_file():  # a pipe or a device, which cannot be replaced
            with path.open("w", encoding="utf-8", newline="\n") as handle:
                handle.writelines(f"{line}\n" for line in lines)
            return
        old = path.read_bytes().splitlines() if path.exists() else []
        new = [line.encode("utf-8", "surrogatepass") for line in lines]
        if old and old != new and not force:
            raise InputError(
                f"{path} exists and differs: {len(set(old) - set(new)):,} of its lines are not among the {len(new):,} "
                f"built now, and it lacks {len(set(new) - set(old)):,} of these. Choose another --out, or replace it "
                "with --force."
            )
        write_lines(path, lines)
    except OSError as exc:
        raise InputError(f"{path} cannot be written: {exc.strerror}.") from None
