"""Score trials that another program collected: labels and explanations, or `changed` and `mentioned` alone."""

from __future__ import annotations

import difflib
import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, ValidationError

from explaineval.config import ArmConfig, ModelConfig, RunConfig
from explaineval.datasets.text_files import read_csv, read_jsonl
from explaineval.errors import InputError
from explaineval.interventions import SHAM, kind_of
from explaineval.mentions import mentions
from explaineval.records import Condition, Mention, Order, Record, Side, Style, Trial, storable_text
from explaineval.rundir.schema import ArmFacts, Facts, TaskFacts
from explaineval.scoring.counts import WORDS, RunCounts, count_sources
from explaineval.scoring.mentioning import Source, TextReader
from explaineval.scoring.registry import EXPLANATION_WORDS, G_MEAN2_CONTROL, MENTION_FLOOR, METRICS
from explaineval.scoring.rows import Scores, score_sources
from explaineval.scoring.verbosity import BY_LENGTH
from explaineval.scoring.warnings import RowWarning

EXTERNAL: Final = "external"
"""Stands for the model, task, kind, order and style of trials that do not name theirs."""

GIVEN = "given"
"""Stands for the mention policy in rows whose mentions were decided by the other program."""

UNKNOWN = frozenset({"max_tokens", "params", "retry", "min_label_mass"})
"""Parts of a signature that say how a run asks and reads; of trials from elsewhere they are not known."""

NO_SHAMS = "no shams were asked (--shams 0)"
TODO = {
    "noise_unknown": "Add trials of kind sham: labels before and after the same prompt was asked again.",
    "many_missing": "Find out why so many trials lack a label or an explanation.",
    "own_answers": "Ask for the answer once and for an explanation at each level, and give these trials order pe2.",
}
"""What to do about a warning, where a run has an option for it."""

TRUE, FALSE = frozenset({"true", "t", "yes", "y", "1", "1.0"}), frozenset({"false", "f", "no", "n", "0", "0.0"})
EMPTY = frozenset({"", "nan", "<na>", "nat"})
ALIKE = 0.8
"""How similar (difflib's ratio) the name of an unknown column must be to that of a missing one to be an error."""


class ExternalTrial(Record):
    """One trial: an input before and after an insertion.

    Either `changed` or both labels are needed, and either `mentioned`, or the inserted text and the explanation of the
    input with it. Trials with one `example_id` are one cluster. `tvd` is the shift of the label probabilities (total
    variation distance, between 0 and 1). Trials of kind `sham` compare two answers to the same input.
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
    order: Order | Literal["external"] = EXTERNAL
    style: Style | Literal["external"] = EXTERNAL
    shots: int = Field(default=0, ge=0)
    verbosity: str = "normal"
    sample: int = Field(default=0, ge=0)


SAME_IN_ALL = ("changed", "mentioned", "verbosity")
"""Columns that every row has or none."""

COLUMNS = tuple(ExternalTrial.model_fields)
TEXTS = frozenset({
    "example_id", "intervention_id", "label_before", "label_after", "gold", "endpoint", "model", "task", "kind",
    "order", "style", "verbosity",
})  # fmt: skip
"""Columns with short texts: numbers in them are taken as text, and spaces around them are dropped."""

EXPECTED = {
    "changed": "true or false",
    "mentioned": "true or false",
    "tvd": "a number between 0 and 1",
    "shots": "a whole number from 0 on",
    "sample": "a whole number from 0 on",
    **dict.fromkeys(("inserted", "explanation", "explanation_before", *TEXTS - {"order", "style"}), "a text"),
}
"""What the values of a column are, in the words of an error."""

PASSED_ON = (
    "endpoint", "model", "task", "order", "style", "shots", "verbosity", "sample", "example_id", "intervention_id",
    "kind", "inserted", "explanation", "explanation_before",
)  # fmt: skip
"""The fields of ExternalTrial that are fields of a trial as they are."""


def score_rows(
    rows: Iterable[tuple[str, Mapping[str, Any]]],
    *,
    mention: Mention | Sequence[Mention] | None = None,
    interval: Literal["jackknife", "percentile"] = "jackknife",
    resamples: int = 2000,
    seed: int = 0,
    metrics: Sequence[str] = (),
) -> Scores:
    """Compute the metrics of trials given as rows with the fields of ExternalTrial.

    Args:
        rows: the place of each row, as errors name it, and its values. They are read one at a time; what is kept grows
            with the number of examples, not of rows.
        mention: how mentions are found where `mentioned` is not given. Default: word. Of several policies the first
            is the headline.
        interval: how intervals of correlations are computed.
        resamples: number of resamples of the percentile interval.
        seed: seed of the resamples and permutations.
        metrics: metrics of plug-ins that are computed, too.

    A row whose label, explanation, `changed` or `mentioned` is missing is a missing trial: counted, not scored. Without
    `example_id` each row is an example of its own. Columns with other names are ignored.

    Raises InputError, naming row and column, for a value that is missing or not valid, and for a column whose name is
    nearly that of a known one.
    """
    rows = iter(rows)
    first = next(rows, None)
    if first is None:
        raise InputError("there are no trials to score.")
    policies = (mention,) if isinstance(mention, str) else tuple(dict.fromkeys(mention or ()))
    reader = _TrialReader(policies[0] if policies else None, frozenset(first[1]))
    trials = reader.trials(itertools.chain((first,), rows))
    texts = TextReader(reader.policy)
    sources = {Source(policy): texts.decider(Source(policy)) for policy in policies or (reader.policy,)}
    by_source = count_sources(trials, sources, by_level="verbosity" in first[1])
    counts = by_source[Source(reader.policy)]
    for of_source in by_source.values():
        for condition, counter in of_source.kinds.items():
            counter.is_graded = counter.is_graded or condition in reader.graded
    _forget_missing_words(counts, reader)
    arms = {condition.arm: None for condition in reader.seen}
    asked: dict[str, Any] = {
        "order": tuple(dict.fromkeys(arm.order for arm in arms)),
        "verbosity": tuple(sorted(dict.fromkeys(str(arm.verbosity) for arm in arms), key=_by_length)),
    }
    config = RunConfig.model_construct(
        tasks=tuple(dict.fromkeys(arm.task for arm in arms)),
        models=tuple(
            ModelConfig.model_construct(model=model, endpoint=endpoint)
            for model, endpoint in dict.fromkeys((arm.model, arm.endpoint) for arm in arms)
        ),
        arms=ArmConfig.model_construct(**asked),
        shams=int(any(condition.kind == SHAM for condition in reader.seen)),
        samples=reader.last_sample + 1,
        mention=reader.policy,
        interval=interval,
        resamples=resamples,
        seed=seed,
        metrics=tuple(metrics),
    )
    for name in metrics:
        METRICS.require(name)
    scores = score_sources(by_source, config, reader.facts(counts))
    return _reworded(scores, reader.columns, is_mention_given=reader.is_mention_given)


def is_trials_file(path: Path) -> bool:
    """Say whether a path names a file of trials, .csv or .jsonl, and not a run directory.

    Raises InputError for any other file.
    """
    if path.suffix.lower() in (".csv", ".jsonl"):
        return not path.is_dir()
    if path.is_file():
        raise InputError(f"{path} is a file: give a run directory, or trials as a .csv or .jsonl file.")
    return False


def score_file(path: Path, columns: Mapping[str, str] | None = None, **settings: Any) -> Scores:
    """Compute the metrics of a .csv or .jsonl file of trials; `settings` are those of `score_rows`.

    `columns` maps fields of ExternalTrial to columns that have other names in the file.

    Raises InputError for a file that cannot be read, for an unknown field or column, and as `score_rows` does.
    """
    rows = read_jsonl(path) if path.suffix.lower() == ".jsonl" else read_csv(path, ())
    return score_rows(_renamed(rows, columns) if columns else rows, **settings)


def _renamed(
    rows: Iterable[tuple[str, dict[str, Any]]], columns: Mapping[str, str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows with each of the named columns under the name of its field."""
    unknown = next((name for name in columns if name not in COLUMNS), None)
    if unknown is not None:
        raise InputError(
            f"--columns {unknown}={columns[unknown]}: a trial has no {unknown}; it has {', '.join(COLUMNS)}."
        )
    for place, row in rows:
        absent = next((column for column in columns.values() if column not in row), None)
        if absent is not None:
            raise InputError(f"{place}: there is no column {absent}; there are {', '.join(row)}.")
        others = {name: value for name, value in row.items() if name not in columns.values() and name not in columns}
        yield place, others | {name: row[column] for name, column in columns.items()}


def check_columns(names: Iterable[str]) -> None:
    """Raise InputError for an unknown column that is probably a misspelt one: the column that it resembles is absent.

    Other unknown columns are ignored: programs write down more than is needed here.
    """
    given = list(names)
    absent = [name for name in COLUMNS if name not in given]
    for name in given:
        parts = [part.strip(' "') for part in name.split("|")]
        if len(parts) > 1 and not set(parts).isdisjoint(COLUMNS):
            raise InputError("the columns are not separated by commas, semicolons or tabs: save the file as CSV.")
        plain = name.strip().lower().replace(" ", "_").replace("-", "_")
        near = [] if name in COLUMNS else difflib.get_close_matches(plain, absent, 1, ALIKE)
        if near:
            raise InputError(f"the column {name!r} is not known; did you mean {near[0]}? Rename it, or leave it out.")


@dataclass
class _TrialReader:
    """Turns rows into trials, and keeps what the signatures and the order of the numbers need of them.

    `mention` is the policy that the user asked for. `columns` are those of the first row. They decide whether `changed`
    and `mentioned` are given or computed, and whether there are verbosity levels; the other rows have to follow it.
    """

    mention: Mention | None
    columns: frozenset[str]
    seen: dict[Condition, None] = field(default_factory=dict)
    """The conditions, in the order of their first trials."""
    graded: set[Condition] = field(default_factory=set)
    """Conditions with a shift of probabilities that is neither 0 nor 1."""
    last_sample: int = 0
    unexplained: Counter[tuple[Condition, str]] = field(default_factory=Counter)
    """Where there are explanations: how many scored trials of an example came without one."""
    checked: set[str] = field(default_factory=set)
    hashes: dict[tuple[str, str | None], Any] = field(default_factory=lambda: defaultdict(hashlib.sha256))
    """SHA-256 of the rows so far by task and kind, and by task (kind None)."""

    @property
    def policy(self) -> Mention:
        return self.mention or "word"

    @property
    def is_mention_given(self) -> bool:
        return "mentioned" in self.columns

    def trials(self, rows: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[Trial]:
        """Yield the trial of each row. Raises InputError as `score_rows` does."""
        if self.mention is not None and self.is_mention_given:
            raise InputError(
                f"mention {self.mention} does not apply: the column mentioned says what is mentioned. Leave out one of "
                "them."
            )
        for number, (place, row) in enumerate(rows, start=1):
            try:
                if not row.keys() <= self.checked:
                    check_columns(row)
                    self.checked.update(row)
                external = self._read(row, number)
                trial = self._trial(external, row)
            except InputError as exc:
                raise InputError(f"{place}: {exc}") from None
            condition = trial.condition
            self.seen.setdefault(condition)
            if trial.mentioned is not None and trial.explanation is None and "explanation" in self.columns:
                self.unexplained[condition, trial.example_id] += 1
            if trial.tvd not in (None, 0, 1):
                self.graded.add(condition)
            self.last_sample = max(self.last_sample, trial.sample)
            content = external.model_dump_json().encode("utf-8", "surrogatepass")
            for kind in (None, external.kind):
                self.hashes[external.task, kind].update(content + b"\n")
            yield trial

    def facts(self, counts: RunCounts) -> Facts:
        """Return what the signatures say of trials from elsewhere: hashes of the rows; the prompts are not known."""
        examples: dict[str, set[str]] = {}
        for condition, counter in counts.arms.items():
            examples.setdefault(condition.task, set()).update(counter.examples.place)
        tasks = {
            task: TaskFacts(
                examples=self.hashes[task, None].hexdigest()[:8],
                kinds={kind: total.hexdigest()[:8] for (of, kind), total in self.hashes.items() if of == task and kind},
            )
            for task, ids in examples.items()
        }
        arm = ArmFacts(shots="unknown", prompts="unknown", temperature="unknown", logprobs="unknown")
        return Facts(tasks=tasks, arms={condition.arm_name: arm for condition in self.seen})

    def _read(self, row: Mapping[str, Any], number: int) -> ExternalTrial:
        values = {}
        for name in COLUMNS:
            if name in row and (value := _plain(name, row[name])) is not None:
                values[name] = value
        if "example_id" in row and "example_id" not in values:
            raise InputError("column example_id is empty.")
        values.setdefault("example_id", str(number))
        values.setdefault("intervention_id", values.get("inserted", str(number)))
        try:
            return ExternalTrial.model_validate(values)
        except ValidationError as exc:
            error = exc.errors()[0]
            name = str(error["loc"][0])
            expected = EXPECTED.get(name, error["msg"].removeprefix("Input should be "))
            raise InputError(f"column {name}: expected {expected}, not {str(values[name])[:80]!r}.") from None

    def _trial(self, external: ExternalTrial, row: Mapping[str, Any]) -> Trial:
        """Return the trial of a row; one whose answer or explanation could not be read has no score."""
        kind = kind_of(external.kind)
        self._check_given(row, not kind.measures_noise)
        before, after = external.label_before, external.label_after
        changed = external.changed
        if "changed" not in row:
            if not ("label_before" in row and "label_after" in row):
                raise InputError("give the column changed, or both label_before and label_after.")
            changed = None if before is None or after is None else before != after
        elif changed is not None and before is not None and after is not None and changed != (before != after):
            raise InputError(
                f"changed is {str(changed).lower()}, but the labels are {before!r} and {after!r}: leave out changed or "
                "label_after."
            )
        mentioned = None if kind.measures_noise else self._mentioned(external, row, kind.mentioned_by)
        in_before = None
        judged = kind.mentioned_by == "policy" and not self.is_mention_given
        if judged and external.inserted is not None and external.explanation_before is not None:
            in_before = mentions(self.policy, external.inserted, external.explanation_before)
        scored = changed is not None and (mentioned is not None or kind.measures_noise)
        side: Side = "both" if before is None and after is None else "before" if before is None else "after"
        if changed is not None and before is None:  # the labels themselves do not matter
            before, after = "same", "other" if changed else "same"
        elif changed is not None and after is None:
            after = f"not {before}" if changed else before
        unread = external.label_before is None and changed is not None
        values: dict[str, Any] = {
            **dict.fromkeys(Trial.model_fields),
            **{name: getattr(external, name) for name in PASSED_ON},
            "status": "ok" if scored else "unparsed",
            "status_side": None if scored else side,
            "label_before": before,
            "label_after": after,
            "gold": external.gold if "label_before" in row and not unread else None,
            "changed": changed if scored else None,
            "mentioned": mentioned if scored else None,
            "tvd": external.tvd if scored else None,
            "tvd_reason": None if external.tvd is not None else "no column tvd",
            "mentioned_before": in_before,
        }
        return Trial.model_construct(**values)

    def _check_given(self, row: Mapping[str, Any], inserts: bool) -> None:
        """Check that all rows say in the same way what changed and what is mentioned; a sham mentions nothing."""
        different = sorted(name for name in SAME_IN_ALL if (name in row) != (name in self.columns))
        if different and (inserts or different != ["mentioned"]):
            raise InputError(f"{different[0]} must be given in every row or in none; write null where it is not known.")

    def _mentioned(self, external: ExternalTrial, row: Mapping[str, Any], rule: str | None) -> bool | None:
        if "mentioned" in row:
            return external.mentioned
        if rule == "phrases":
            raise InputError(
                f"mentions of kind {external.kind!r} are recognised by phrases that belong to prompts: give the column "
                "mentioned."
            )
        if not ("inserted" in row and "explanation" in row):
            raise InputError("give the column mentioned, or both inserted and explanation.")
        if external.inserted is None:
            raise InputError("column inserted is empty, so no mention of it can be looked for.")
        if external.explanation is None:
            return None
        return mentions(self.policy, external.inserted, external.explanation)


def _forget_missing_words(counts: RunCounts, reader: _TrialReader) -> None:
    """Take trials without an explanation out of the mean number of words, where they would count as empty ones."""
    for counter in counts.kinds.values():
        rows = counter.examples
        if "explanation" not in reader.columns:
            for start in range(0, len(rows.cells), rows.width):
                rows.cells[start + WORDS.start] = rows.cells[start + WORDS.start + 1] = 0
    for (condition, example_id), number in reader.unexplained.items():
        rows = counts.kinds[condition].examples
        rows.cells[rows.at(example_id) + WORDS.start + 1] -= number


def _plain(name: str, value: Any) -> Any:
    """Return a value of a file or a data frame in the type of its column, and None for a missing one."""
    if hasattr(value, "item") and not getattr(value, "ndim", 0):  # a scalar of numpy
        value = value.item()
    if (
        value is None
        or type(value).__name__ in ("NAType", "NaTType")
        or value != value
        or (isinstance(value, str) and _is_empty(name, value))
    ):
        return None
    if isinstance(value, str):
        value = storable_text(value)
    if name in TEXTS:
        if isinstance(value, float) and value.is_integer():  # an integer in a column with missing values
            value = int(value)
        return str(value).strip() if isinstance(value, (str, bool, int, float)) else value
    if name == "tvd" and isinstance(value, str):  # spreadsheets of many countries write 0,5
        return value.replace(",", ".", 1)
    if name in ("changed", "mentioned"):
        text = str(value).strip().lower()
        return True if text in TRUE else False if text in FALSE else value
    return value


def _is_empty(name: str, value: str) -> bool:
    """Whether a text stands for a missing value; explanations and insertions are texts of their own."""
    text = value.strip()
    return not text or (name not in ("inserted", "explanation", "explanation_before") and text.lower() in EMPTY)


def _by_length(level: str) -> int:
    return BY_LENGTH.index(level) if level in BY_LENGTH else len(BY_LENGTH)


def _reworded(scores: Scores, columns: Collection[str], *, is_mention_given: bool) -> Scores:
    """Return the scores with what does not apply to trials from elsewhere left out or said in other words.

    `columns` are those of the trials.
    """
    reasons = {}
    if "explanation" not in columns:
        reasons[EXPLANATION_WORDS] = "no column explanation"
    if is_mention_given or "explanation_before" not in columns:
        reason = "mentioned is given, not looked for" if is_mention_given else "no column explanation_before"
        reasons |= {MENTION_FLOOR: reason, G_MEAN2_CONTROL: reason}

    def decided(rule: str | None) -> str | None:
        return GIVEN if is_mention_given and rule is not None else rule

    rows = []
    for row in scores.rows:
        parts = [part for part in row.signature.split("|") if part.partition(":")[0] not in UNKNOWN]
        if row.mention is not None:
            parts = [f"mention:{decided(row.mention)}" if part.startswith("mention:") else part for part in parts]
        changes: dict[str, Any] = {"mention": decided(row.mention), "signature": "|".join(parts)}
        if row.undefined == NO_SHAMS:
            changes["undefined"] = f"no trial of kind {SHAM}"
        elif row.undefined is not None and row.metric in reasons:
            changes["undefined"] = reasons[row.metric]
        rows.append(row.model_copy(update=changes))
    warnings = []
    for item in scores.warnings:
        warning, condition = item.warning, item.condition
        if warning.code in ("follows_answer", "answer_tells_change") and "label_after" not in columns:
            continue  # the labels were made up from the column changed
        text = warning.text.replace(" (--shams 0)", "").partition(" If most are unparsed")[0].partition("; --order")[0]
        changes = {"text": text if text.endswith(".") else f"{text}.", "todo": TODO.get(warning.code, warning.todo)}
        warnings.append(
            RowWarning(condition._replace(mention=decided(condition.mention)), warning.model_copy(update=changes))
        )
    return replace(scores, rows=tuple(rows), warnings=tuple(warnings), policy=decided(scores.policy))
