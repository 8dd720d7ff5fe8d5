"""Hold the rules for mentions against labels that others gave: is acknowledged what they call acknowledged?

A format reads rows of one published form. The fields are those of the published code; the data sets themselves were not
at hand, so the readers were tried on rows made after that code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from explaineval.datasets.text_files import read_csv, read_jsonl
from explaineval.errors import InputError
from explaineval.mentions import mentions, mentions_phrase
from explaineval.metrics.auroc import labelled_auroc
from explaineval.metrics.estimates import Interval
from explaineval.metrics.rates import rate
from explaineval.prompts import PromptBook
from explaineval.records import POLICIES, Estimate

ALL = "all"
PHRASES = "phrases"
JUDGE = "judge"
"""What the columns of judges' decisions begin with."""


@dataclass(frozen=True)
class Labelled:
    """A text, what it may acknowledge (inserted words or a cue by name), and whether people or a model say it does."""

    text: str
    label: bool
    group: str
    cluster: str
    inserted: str | None = None
    cue: str | None = None
    judged: Mapping[str, float] = field(default_factory=dict)
    """The decisions of judges, from 0 to 1, by name."""


Rows = Iterator[Labelled | str]
"""The rows of a file; of one that cannot be used the reason."""

YES, NO = frozenset({"true", "1", "yes", "1.0"}), frozenset({"false", "0", "no", "0.0"})


def _truth(value: Any, place: str, name: str) -> bool:
    text = str(value).strip().lower()
    if text not in YES | NO:
        raise InputError(f"{place}: {name} is {value!r}; write true or false.")
    return text in YES


def _text(value: Any) -> str:
    """A cell as text; empty where there is none, as pandas writes it too."""
    text = "" if value is None else str(value)
    return "" if text.strip().lower() in ("", "nan") else text


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if path.suffix.lower() in (".jsonl", ".ndjson", ".json"):
        yield from read_jsonl(path)
    else:
        yield from read_csv(path, ())


def _cell(row: Mapping[str, Any], name: str, place: str) -> Any:
    if name not in row:
        raise InputError(f"{place}: {name} is missing; the row has {', '.join(map(str, row))}.")
    return row[name]


def read_plain(path: Path) -> Rows:
    """Read rows with text, label, inserted or cue, and if wanted group, cluster and judges' decisions."""
    for place, row in _records(path):
        text, inserted, cue = _text(_cell(row, "text", place)), _text(row.get("inserted")), _text(row.get("cue"))
        if not inserted and not cue:
            raise InputError(f"{place}: give inserted, the words, or cue, the name of a list of phrases.")
        judged = {}
        for name, value in row.items():
            if str(name).startswith(JUDGE) and _text(value):
                try:
                    judged[name] = float(value)
                except ValueError:
                    judged[name] = float(_truth(value, place, name))
                if not 0 <= judged[name] <= 1:
                    raise InputError(f"{place}: {name} is {value!r}; a decision is true, false, or from 0 to 1.")
        label = _truth(_cell(row, "label", place), place, "label")
        cluster = _text(row.get("cluster")) or place
        yield Labelled(text, label, _text(row.get("group")) or ALL, cluster, inserted or None, cue or None, judged)


OMITTED = "no acknowledgements of hint"
"""What the reason of an unfaithful chain of thought says where the hint goes unmentioned."""


def read_bonafide(path: Path) -> Rows:
    """Read labels of whole chains of thought that had a hint; a false step says nothing of acknowledgement."""
    for place, row in _records(path):
        kind, hint = _text(_cell(row, "label_type", place)), _text(row.get("prompted_hint"))
        if not kind.endswith("_COT"):
            yield "labels of single steps"
        elif not hint:
            yield "without a hint"
        elif kind == "UNFAITHFUL_COT" and OMITTED not in _text(row.get("reason")):
            yield "unfaithful for another reason than an unmentioned hint"
        else:
            text, cluster = _text(_cell(row, "cot", place)), _text(row.get("row_id")) or _text(row.get("prompt"))
            group = _text(row.get("target_model")) or ALL
            yield Labelled(text, kind == "FAITHFUL_COT", group, cluster or place, hint, "unauthorised")


CUES = {
    "sycophancy": "expert", "consistency": "previous", "metadata": "metadata", "grader": "grader",
    "unethical": "unauthorised", "visual_pattern": "pattern",
}  # fmt: skip
"""The list of phrases for each type of hint."""

LABELS = "classified_sonnet", "classified"


def read_traces(path: Path) -> Rows:
    """Read the directory `results`: traces in hinted/MODEL/HINT.jsonl, labels beside them in classified_sonnet.

    Where that is missing, in classified. One file with both is read too.
    """
    if path.is_file():
        for place, row in read_jsonl(path):
            yield _trace(place, row, row)
        return
    labelled = next((path / name for name in LABELS if (path / name).is_dir()), None)
    files = [] if labelled is None else sorted(labelled.glob("*/*.jsonl"))
    if labelled is None or not files:
        raise InputError(f"{path}: expected {LABELS[0]}/MODEL/HINT.jsonl and hinted/MODEL/HINT.jsonl below it.")
    for file in files:
        traces = {}
        for place, row in read_jsonl(path / "hinted" / file.relative_to(labelled)):
            traces[str(_cell(row, "question_id", place))] = row
        for place, row in read_jsonl(file):
            yield _trace(place, row, traces.get(str(_cell(row, "question_id", place)), {}))


def _trace(place: str, row: Mapping[str, Any], trace: Mapping[str, Any]) -> Labelled | str:
    verdict = row.get("sonnet_verdict") if "sonnet_verdict" in row else _cell(row, "is_faithful", place)
    text, hint = _text(trace.get("thinking_text") or trace.get("reasoning")), _text(_cell(row, "hint_type", place))
    if row.get("is_influenced") is False:
        return "answers that the hint did not change"
    if verdict is None or not text:
        return "without a verdict" if text else "without a trace"
    if hint not in CUES:
        raise InputError(f"{place}: hint_type is {hint!r}; known are {', '.join(CUES)}.")
    judged = (
        {} if row.get("our_verdict") is None else {"pipeline": float(_truth(row["our_verdict"], place, "our_verdict"))}
    )
    cluster = str(_cell(row, "question_id", place))
    return Labelled(text, _truth(verdict, place, "the verdict"), hint, cluster, None, CUES[hint], judged)


FORMATS: Mapping[str, Callable[[Path], Rows]] = {
    "plain": read_plain, "bonafide": read_bonafide, "traces": read_traces,
}  # fmt: skip


class Against(NamedTuple):
    """How one rule for mentions agrees with the labels of one group."""

    detector: str
    group: str
    n: int
    clusters: int
    auroc: Estimate
    sensitivity: Estimate
    specificity: Estimate


@dataclass(frozen=True)
class AgainstResults:
    """The rows that were used, those that were not by reason, and the numbers by group and rule."""

    format: str
    path: Path
    rows: int
    left_out: Mapping[str, int]
    numbers: tuple[Against, ...]


def score_against(text: str, prompts: PromptBook) -> AgainstResults:
    """Read FORMAT:PATH and hold every policy, the lists of phrases and all judges in it against its labels."""
    name, _, place = text.partition(":")
    if name not in FORMATS or not place:
        raise InputError(f"--against {text}: write FORMAT:PATH with one of the formats {', '.join(FORMATS)}.")
    path, used, left_out = Path(place), list[Labelled](), Counter[str]()
    for row in FORMATS[name](path):
        if isinstance(row, str):
            left_out[row] += 1
        else:
            used.append(row)
    if not used:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        raise InputError(f"{path} has no row that can be used{f': {reasons}' if reasons else ''}.")
    decided: dict[tuple[str, str], list[tuple[Labelled, float]]] = {}
    groups = list(dict.fromkeys([ALL, *(row.group for row in used)]))
    for row in used:
        for detector, score in _decisions(row, prompts):
            for group in dict.fromkeys((ALL, row.group)):
                decided.setdefault((group, detector), []).append((row, score))
    numbers = [_numbers(group, key[1], rows) for group in groups for key, rows in decided.items() if key[0] == group]
    return AgainstResults(name, path, len(used), left_out, tuple(numbers))


def _decisions(row: Labelled, prompts: PromptBook) -> Iterator[tuple[str, float]]:
    """Yield what each rule says of a text."""
    if row.inserted is not None:
        for policy in POLICIES:
            yield policy, float(mentions(policy, row.inserted, row.text))
    if row.cue is not None:
        yield PHRASES, float(mentions_phrase(prompts.phrases(row.cue), row.text) is not None)
    yield from row.judged.items()


def _numbers(group: str, detector: str, rows: Iterable[tuple[Labelled, float]]) -> Against:
    decided = list(rows)
    names, clusters = np.unique([row.cluster for row, _ in decided], return_inverse=True)
    _, places = np.unique([score for _, score in decided], return_inverse=True)
    labels = np.array([row.label for row, _ in decided])
    counts = np.zeros((len(names), 2, places.max() + 1), dtype=np.int64)
    np.add.at(counts, (clusters, labels.astype(int), places), 1)
    tables = np.zeros((len(names), 2, 2), dtype=np.int64)
    np.add.at(tables, (clusters, labels.astype(int), np.array([score >= 0.5 for _, score in decided]).astype(int)), 1)
    no, yes = tables[:, 0], tables[:, 1]
    interval = Interval()
    return Against(
        detector,
        group,
        len(decided),
        len(names),
        labelled_auroc(counts[:, 1], counts[:, 0], interval),
        rate(yes[:, 1], yes.sum(axis=1), interval, undefined="no text is labelled as acknowledging"),
        rate(no[:, 0], no.sum(axis=1), interval, undefined="every text is labelled as acknowledging"),
    )
