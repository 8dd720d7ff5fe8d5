"""Record all that users see of six runs, as text files that read well in a diff.

`RUNS` and `SCREENS` say what is asked and shown. Everything goes through the command line, in this process, in an empty
working directory. Models are simulated, or scripted ones behind a transport without network. `tidy` replaces what must
differ between two recordings: times, durations, versions and paths.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import math
import os
import re
import shutil
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pinned_model
from pyarrow.parquet import read_table
from pydantic import BaseModel

import explaineval
from explaineval.cli.app import main
from explaineval.client import stack
from explaineval.config import Endpoint
from explaineval.records import Completion, Request, TokenAlternatives
from explaineval.reporting.plots import figures_of
from explaineval.reporting.results import read_results

SETTING = {"COLUMNS": "100", "TZ": "UTC", "LC_ALL": "C.UTF-8", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
"""The environment of a recording, whatever that of the person who records."""

PE = ("--task", "sense", "--limit", "24", "--model", "simulated/faithful", "--model", "simulated/random")
SWEEP = [f"simulated/{name}" for name in (
    "ash-0.1b", "ash-10b", "birch-0.1b", "birch-10b", "cedar-0.1b", "cedar-10b", "ash-0.1b-instruct",
    "ash-10b-instruct",
)]  # fmt: skip
SCRIPTED = "scripted/planted"

RUNS: Mapping[str, tuple[str, ...]] = {
    "pe": (*PE, "--model", "simulated/laws.yaml#noisy"),
    "ep": ("--task", "nli", "--limit", "16", "--order", "ep", "--style", "completion", "--shots", "2",
           "--model", "simulated/verbose", "--model", "simulated/no-logprobs", "--samples", "2"),
    "pe2": ("--task", "sense", "--limit", "16", "--order", "pe2", "--model", "simulated/drifting",
            "--verbosity", "brief", "--verbosity", "normal", "--verbosity", "detailed"),
    "cues": ("--task", "sense", "--limit", "24", "--interventions", "cues.jsonl", "--model", SCRIPTED,
             "--price", "3,15", "--max-usd", "5"),
    "reasoning": ("--task", "sense", "--limit", "20", "--model", "simulated/honest-reasoning"),
    "sweep": ("--task", "sense", "--limit", "14", *(word for model in SWEEP for word in ("--model", model))),
}  # fmt: skip
"""The options of each run by its name."""

BEFORE: Mapping[str, tuple[str, ...]] = {
    "cues": ("interventions", "build", "--task", "sense", "--limit", "24", "--kind", "cue_user",
             "--out", "cues.jsonl"),
}  # fmt: skip
EXPORT_OF_ONE = ("export", "pe", "--out", "inspect", "--format", "inspect")
JUDGE = ("--judge-model", "scripted/judge", "--judge-price", "0.25,1")
PREDICTOR = ("--predictor-model", "scripted/predictor", "--predictor-price", "0.25,1")
AFTER: Mapping[str, Sequence[tuple[str, ...]]] = {
    "pe": [
        ("plan", *PE, "--half-width", "0.1"),
        ("plan", *PE, "--samples", "3", "--temperature", "0.7", "--show-prompts", "1"),
        ("show", "pe", "--list"),
        ("show", "pe", "--example", "sense-003", "--answers"),
        ("show", "pe", "--example", "sense-003", "--only", "disagreeing", "--json"),
        ("interventions", "show", "--task", "sense", "--limit", "2"),
        ("score", "pe", "--mention", "word", "--mention", "lemma", "--mention", "substring"),
        ("score", "pe", "--resamples", "50"),
        ("cache", "explain", "pe"),
        ("cache", "export", "--out", "answers.gz", "--json"),
        EXPORT_OF_ONE,
        ("export", "pe", "--out", "first.zip"),
        ("reproduce", "first.zip"),
        ("reproduce", "first.zip", "--json"),
        ("run", *PE, "--order", "ep", "--out", "other"),
        ("compare", "pe", "other"),
        ("compare", "pe", "other", "--json"),
        ("compare", "pe", "other", "--fail-if-lower", "phi_cct:0.1"),
        ("report", "pe", "other", "--out", "both.html"),
    ],
    "ep": [("show", "ep", "--list", "--only", "missing")],
    "pe2": [("compare", "pe2", "--by", "arm"), ("plan", *PE, "--half-width", "0.15", "--pilot", "pe2")],
    "cues": [
        ("judge", "cues", *JUDGE, "--plan"),
        ("judge", "cues", *JUDGE, "--max-usd", "1"),
        ("judge", "cues", *JUDGE, "--json"),
        ("simulate", "cues", *PREDICTOR, "--limit", "8"),
        ("simulate", "cues", *PREDICTOR, "--limit", "8", "--json"),
        ("judge", "sheet", "cues", "--n", "12", "--kind", "cue_user", "--out", "sheet.csv"),
        ("show", "cues", "--list", "--only", "missing"),
        ("show", "cues", "--example", "sense-002"),
        ("score", "cues"),
        ("notes", "cues"),
    ],
    "reasoning": [
        ("judge", "reasoning", *JUDGE, "--channel", "reasoning", "--json"),
        ("show", "reasoning", "--example", "sense-001"),
        ("score", "reasoning"),
    ],
    "sweep": [
        ("compare", "sweep", "--against", "simulated/ash-0.1b"),
        ("compare", "sweep", "--equivalent", "0.4"),
        ("cache", "stats"),
        ("cache", "stats", "--json"),
        ("cache", "verify"),
        ("cache", "verify", "--json"),
        ("cache", "prune", "--model", "simulated/ash-10b"),
        ("explain",),
        ("explain", "--json"),
        *(("explain", name) for name in ("phi_cct", "cct", "tpr", "f_auroc", "simulation_gain_balanced")),
    ],
}
"""Commands that only some of the runs are shown by, in this order."""

SCREENS: Sequence[tuple[str, ...]] = [
    ("score", "RUN", "--table"),
    ("notes", "RUN"),
    ("watch", "RUN"),
    ("compare", "RUN"),
    ("score", "RUN", "--json"),
    ("notes", "RUN", "--json"),
    ("watch", "RUN", "--json"),
    ("compare", "RUN", "--json"),
    ("report", "RUN", "--out", "report.html", "--json"),
    ("export", "RUN", "--out", "metrics.csv"),
    ("export", "RUN", "--out", "comparison.csv", "--rows", "comparison"),
    ("export", "RUN", "--out", "trials.csv", "--rows", "trials"),
    ("export", "RUN", "--out", "metrics.jsonl"),
    ("export", "RUN", "--out", "metrics.parquet", "--json"),
    ("export", "RUN", "--out", "table.tex"),
    ("export", "RUN", "--out", "table.md", "--format", "markdown"),
    ("export", "RUN", "--out", "card.md", "--format", "card"),
    ("export", "RUN", "--out", "every", "--format", "every-eval-ever"),
    ("export", "RUN", "--out", "bundle.zip", "--json"),
]
"""Commands that every run is shown by; RUN stands for its directory."""

WHOLE = (".tex", ".md")
"""Ends of the names of exports that are recorded as they are; of others the first lines and a digest are."""
LONG = 1500
"""Characters of a value in a JSON document from which on it is not written again where it was written before."""


class ScriptedTransport:
    """A transport without network: models planted, judge and predictor, whose answers follow from the prompt."""

    def __init__(self, endpoints: Mapping[str | None, Endpoint], *, timeout: float) -> None:
        """Take what every transport is given."""

    async def complete(self, request: Request) -> Completion:
        """Answer as the script of the model says."""
        prompt = request.prompt or (request.messages or ())[-1].content
        script = pinned_model.judge if request.model == "scripted/judge" else pinned_model.answer
        text, probabilities = script(prompt)
        found = re.search(r"Answer:( [A-Z])", text or "")
        tokens = None
        if request.logprobs and probabilities and found:
            tops = tuple((f" {letter}", math.log(share)) for letter, share in probabilities.items())
            tokens = (TokenAlternatives(offset=found.start(1), token=found[1], top=tops),)
        return Completion(
            text=text, finish_reason="stop", model="scripted-1", logprobs=tokens,
            usage={"prompt_tokens": len(prompt) // 4, "completion_tokens": len(text or "") // 4},
        )  # fmt: skip

    async def close(self) -> None:
        """Nothing is open."""


def call(*words: str) -> str:
    """Run a command in this process; return the command, what it printed, and its exit code where that is not 0."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    stdin, code, sys.stdin = sys.stdin, 0, io.StringIO()  # nobody types
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(words)
        except SystemExit as exc:
            code = int(exc.code or 0)
        finally:
            sys.stdin = stdin
    printed, noted = (stream.buffer.getvalue().decode() for stream in (out, err))  # type: ignore[attr-defined]
    parts = [f"$ explaineval {' '.join(words)}\n", printed, f"--- standard error ---\n{noted}" if noted else ""]
    return "".join(parts) + (f"--- exit code {code} ---\n" if code else "") + "\n"


@dataclass
class Documents:
    """JSON documents of one run as text, in which a long value is not written twice."""

    written: dict[str, str] = field(default_factory=dict)

    def read(self, name: str, text: str) -> str:
        """Return a document with one small thing a line, and every other text as it is."""
        head, _, rest = text.partition("\n")
        try:
            document, end = json.JSONDecoder().raw_decode(rest)
        except ValueError:
            return text
        if not isinstance(document, dict):
            return text
        for key, value in document.items():
            long = json.dumps(value)
            if len(long) > LONG and self.written.setdefault(long, f"{key} in {name}") != f"{key} in {name}":
                document[key] = f"<{self.written[long]}>"
        counts = Counter(json.dumps(value) for value in _small_values(document))
        often = [text for text, count in counts.items() if count > 2 and len(text) > 60]
        names = {text: f"<value {number}>" for number, text in enumerate(often, 1)}
        explained = "".join(f"{name}: {text}\n" for text, name in names.items())
        return f"{head}\n{explained}{''.join(_lines(_replaced(document, names)))}{rest[end:]}"


def _entries(value: Any) -> list[Any]:
    """Return what a list or a mapping holds."""
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def _is_small(value: Any) -> bool:
    """Return whether a value is a text, or a mapping of values that hold nothing."""
    return isinstance(value, str) or (isinstance(value, dict) and not any(map(_entries, value.values())))


def _small_values(value: Any) -> Iterator[Any]:
    """Yield the texts and the small mappings in a document."""
    if _is_small(value) and not (isinstance(value, dict) and "signature" in value):
        yield value
    else:
        for entry in _entries(value):
            yield from _small_values(entry)


def _replaced(value: Any, names: Mapping[str, str]) -> Any:
    """Return a document with stand-ins for some values."""
    name = names.get(json.dumps(value)) if _is_small(value) else None
    if name is not None:
        return name
    if isinstance(value, dict):
        return {key: _replaced(entry, names) for key, entry in value.items()}
    return [_replaced(entry, names) for entry in value] if isinstance(value, list) else value


def _is_table(value: Any) -> bool:
    """Return whether a value is a list of at least three rows with the same columns, which hold nothing nested."""
    rows = value if isinstance(value, list) and len(value) > 2 else []
    if not all(isinstance(row, dict) and row for row in rows):
        return False
    return len({tuple(row) for row in rows}) == 1 and not any(_entries(cell) for row in rows for cell in row.values())


def _lines(value: Any, indent: str = "") -> Iterator[str]:
    """Write JSON: an entry a line, except for lists and mappings that hold nothing nested.

    Rows with the same columns are written as lists below the names of the columns.
    """
    entries = _entries(value)
    if _is_table(value):
        value = entries = [f"<columns: {', '.join(entries[0])}>", *([*row.values()] for row in entries)]
    if (not any(map(_entries, entries))) and (len(json.dumps(value)) < 200 or indent):
        yield json.dumps(value, ensure_ascii=False)
        return
    begin, end = ("{", "}") if isinstance(value, dict) else ("[", "]")
    yield begin
    names = [f"{json.dumps(name)}: " for name in value] if isinstance(value, dict) else [""] * len(entries)
    for number, (name, entry) in enumerate(zip(names, entries, strict=True)):
        yield f"{',' if number else ''}\n{indent} {name}"
        yield from _lines(entry, indent + " ")
    yield f"\n{indent}{end}"


TIDIED: Sequence[tuple[str, str]] = (
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)?", "<time>"),
    (r"\d{4}-\d\d-\d\d(?= )", "<day>"),
    (r"(?<=after )[\d.]+ (s|min)\b", "<duration>"),
    (r"\b1\d{9}\.\d+\b", "<seconds>"),
    (r"\| (run|progress)\.json \| [\d,]+ \| [0-9a-f]{64}", r"| \1.json | <size> | <digest>"),
    (r"litellm:[0-9a-f]{12}", "litellm:<prices>"),
    (r"\b\d[\d,]*(\.\d+)? [kMG]B\b", "<size>"),
    (r"\d[\d,]* characters, <size>", "<size>"),
    (r'(?<="bytes": )\d+', '"<bytes>"'),
    (r'(?<="python": )"[\d.]+"', '"<version>"'),
    (r'(?<=[{ ]"(numpy|scipy|httpx)": )"[\d.]+"', '"<version>"'),
)
"""What differs between two recordings, as patterns, and what is written for it."""


def tidy(text: str, places: Mapping[str, str]) -> str:
    """Replace all that must differ between two recordings; `places` are paths and other names with their stand-ins."""
    for place, name in sorted(places.items(), key=lambda pair: -len(pair[0])):
        text = text.replace(place, name)
    for pattern, stand_in in TIDIED:
        text = re.sub(pattern, stand_in, text)
    version = re.escape(explaineval.__version__)
    return re.sub(rf"(?<![\d.]){version}(?![\d.])", "<version>", text)


UUID = r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"


def digest(data: bytes) -> str:
    """Return the digest of some bytes."""
    return hashlib.sha256(data).hexdigest()


@contextlib.contextmanager
def stage(work: Path) -> Iterator[None]:
    """Make `work` the working directory, with the environment of recordings and the scripted transport."""
    before, where = dict(os.environ), Path.cwd()
    os.environ.update(SETTING)
    time.tzset()
    os.chdir(work)
    stack.TRANSPORTS["scripted"] = f"{__name__}:ScriptedTransport"
    try:
        yield
    finally:
        del stack.TRANSPORTS["scripted"]
        os.chdir(where)
        os.environ.clear()
        os.environ.update(before)
        time.tzset()


def record_run(name: str, work: Path) -> dict[str, str]:
    """Ask and show one of RUNS in the empty directory `work`; return the texts by the file's name."""
    places = {str(work.resolve()): "<work>", str(Path(explaineval.__file__).parent): "<package>"}
    with stage(work):
        Path("laws.yaml").write_text("noisy: {impact: 0.3, noise: 0.1, tpr: 0.7, fpr: 0.1}\n", "utf-8")
        return {f"{name}/{file}": tidy(text, places) for file, text in _files_of_run(name, RUNS[name])}


def _files_of_run(name: str, options: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the files of one run: screens, a file for each JSON document, exports, the page, figures and digests."""
    run = ("run", *options, "--out", name)
    commands = [*filter(None, [BEFORE.get(name)]), ("plan", *options), run, (*run, "--offline")]
    screens, documents = [], Documents()
    for words in [*commands, *AFTER.get(name, ()), *SCREENS]:
        told = [name if word == "RUN" else word for word in words]
        text = call(*told)
        if "--json" in told:
            file = re.sub(r"[^a-z0-9]+", "-", " ".join(word for word in told if word != name)).strip("-")
            yield f"{file}.txt", documents.read(file, text)
        else:
            screens.append(text)
    yield "screens.txt", "".join(screens)
    yield from _exported()
    for page in sorted(Path().glob("*.html")):
        yield page.name, read_page(page.read_text("utf-8"))
    figures = {figure.id: asdict(figure) for figure in figures_of(read_results([Path(name)]))}
    yield "figures.txt", Documents().read("figures", "\n" + json.dumps(figures, default=_plain)) + "\n"
    yield "digests.txt", "".join(_digests(Path(name)))


def _exported() -> Iterator[tuple[str, str]]:
    """Yield what the exports have written since the run before, and take it away."""
    lines: list[str] = []
    for path in sorted(Path(words[3]) for words in [*SCREENS, EXPORT_OF_ONE] if words[0] == "export"):
        if not path.exists():  # refused; the screen says why
            continue
        if path.suffix in WHOLE:
            yield path.name, path.read_text("utf-8")
        else:
            lines += [f"{path}\n", *_outline(path)]
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    yield "exports.txt", "".join(lines)


def _outline(path: Path) -> Iterator[str]:
    """Yield the first lines of an export, and digests of all of it, times and versions apart."""
    if path.is_dir():
        for number, file in enumerate(sorted(path.rglob("*.*"))):
            if file.suffix == ".json":
                document = json.loads(re.sub(UUID, "<uuid>", tidy(file.read_text("utf-8"), {})))
                yield f"  {number} .json, sha256 {digest(json.dumps(document).encode())}\n"
                if not number:
                    yield "".join(_lines(_short(document))) + "\n"
            else:
                yield from (f"  {number} {line}" for line in _outline(file))
    elif path.suffix in (".zip", ".eval"):
        with zipfile.ZipFile(path) as archive:
            yield from _table_of({name: archive.read(name) for name in archive.namelist()})
    elif path.suffix == ".parquet":
        table = read_table(path)
        text = tidy(json.dumps(table.to_pylist(), default=str), {})
        yield f"  {table.num_rows} rows, sha256 {digest(text.encode())}\n"
        yield from (f"    {column.name}: {column.type}\n" for column in table.schema)
    else:
        lines = path.read_text("utf-8").splitlines()
        yield f"  {len(lines)} lines, {_digest_of(path.read_bytes())}\n"
        yield from (f"    {line}\n" for line in lines[:3])


def _short(value: Any) -> Any:
    """Return a document in which long lists end after their first entries."""
    if isinstance(value, dict):
        return {name: _short(entry) for name, entry in value.items()}
    if isinstance(value, list):
        left = [f"<{len(value) - 2} more>"] if len(value) > 3 else value[2:]
        return [*map(_short, value[:2]), *left]
    return value


def _digest_of(data: bytes) -> str:
    """Return the digest of a file's content, times and versions apart."""
    if data.startswith(b"\x1f\x8b"):
        data = gzip.decompress(data)
    try:
        return digest(re.sub(UUID, "<uuid>", tidy(data.decode(), {})).encode())
    except UnicodeDecodeError:
        return digest(data)


def read_page(text: str) -> str:
    """Return a page without drawings, styles and scripts, a tag a line."""
    text = re.sub(r"<(svg|style|script)\b.*?</\1>", r"<\1/>", text, flags=re.DOTALL)
    return re.sub(r"\s*\n\s*", "\n", re.sub(r"(?<=>)(?=<(?!/?(b|i|em|strong|code|a|span|abbr)\b))", "\n", text))


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else str(value)


def _digests(directory: Path) -> Iterator[str]:
    """Yield the digest of each file that must stay byte for byte, times and versions apart."""
    left_out = ("progress.json", "report.html")
    files = [path for path in directory.rglob("*") if path.is_file() and path.name not in left_out]
    return _table_of({path.relative_to(directory).as_posix(): path.read_bytes() for path in files})


def _table_of(files: Mapping[str, bytes]) -> Iterator[str]:
    """Yield a line with a digest for each file, and one for all prompts."""
    digests = {name: _digest_of(data) for name, data in sorted(files.items())}
    prompts = "".join(f"{name} {text}\n" for name, text in digests.items() if name.startswith("prompts/"))
    yield from (f"  {text}  {name}\n" for name, text in digests.items() if not name.startswith("prompts/"))
    if prompts:
        yield f"  {digest(prompts.encode())}  prompts/, {prompts.count(chr(10))} files\n"


def write_texts(directory: Path, texts: Mapping[str, str]) -> None:
    """Make a directory hold these texts and no others."""
    shutil.rmtree(directory, ignore_errors=True)
    for name, text in texts.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8", newline="\n")


def read_texts(directory: Path) -> dict[str, str]:
    """Return the recorded texts by the file's name."""
    return {
        str(path.relative_to(directory)): path.read_bytes().decode()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
