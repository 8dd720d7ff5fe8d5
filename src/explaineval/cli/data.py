"""`explaineval data fetch`: download the official files of a dataset and record their SHA-256."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import httpx

from explaineval.cli.options import ABOVE_0, PATH, option, options
from explaineval.cli.output import echo, echo_notes
from explaineval.cli.progress import progress_bar
from explaineval.datasets import OFFICIAL, Download, join_ecqa
from explaineval.errors import EndpointError, InputError
from explaineval.files import open_atomic, write_text_atomic
from explaineval.text import counted

if TYPE_CHECKING:
    from rich.progress import Progress

RECORD = "SHA256.json"
CHUNK = 1 << 16
MOST_BYTES = 2_000_000_000
"""Most bytes of one file; the largest official one has a tenth of it."""

MOST_REDIRECTS = 5


@click.group()
def data() -> None:
    """Download datasets from their official sites."""


@data.command()
@click.argument("task", type=click.Choice(sorted(OFFICIAL)))
@options(
    option("--dir", type=PATH, help="Target directory.  [default: data/TASK]"),
    option("--timeout", type=ABOVE_0, default=60.0, show_default=True, help="Seconds to wait for the server."),
)
def fetch(task: str, dir: Path | None, timeout: float) -> int:
    """Download TASK's files. Files whose recorded SHA-256 is right are not downloaded again."""
    from rich.progress import DownloadColumn, TextColumn

    official = OFFICIAL[task]
    target = dir or Path("data") / task
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise InputError(f"{target} cannot be made: {exc.strerror}.") from None
    record = _read_record(target)
    fetched = 0
    with (
        httpx.Client(timeout=timeout, follow_redirects=True, max_redirects=MOST_REDIRECTS) as client,
        progress_bar(TextColumn("{task.description}"), DownloadColumn()) as bar,
    ):
        for file in official.files:
            path = target / file.target
            if path.is_file() and record.get(file.target, {}).get("sha256") == _sha256(path):
                continue
            record[file.target] = {"url": file.url, "sha256": _download(client, file, path, bar)}
            write_text_atomic(target / RECORD, json.dumps(record, indent=2) + "\n")
            fetched += 1
    if task == "ecqa":
        _join(target)
    echo_notes(
        [
            f"{counted(fetched, 'file')} downloaded to {target}, SHA-256 in {target / RECORD}. Licence: "
            f"{official.licence}."
        ]
    )
    echo(f"{official.taken_by} {official.use.format(dir=target)}")
    return 0


def _download(client: httpx.Client, file: Download, path: Path, bar: Progress) -> str:
    """Download one file and return its SHA-256. Raises EndpointError; then nothing of the file is kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    try:
        with client.stream("GET", file.url) as response, open_atomic(path) as handle:
            response.raise_for_status()
            schemes = {hop.url.scheme for hop in (*response.history, response)}
            if file.url.startswith("https:") and schemes != {"https"}:
                raise EndpointError(f"{file.url} leads to an address without https: nothing was downloaded from there.")
            size = response.headers.get("content-length")
            row = bar.add_task(path.name, total=int(size) if size else None)
            for chunk in response.iter_bytes(CHUNK):
                if handle.tell() + len(chunk) > MOST_BYTES:
                    raise EndpointError(f"{file.url} answers with more than {MOST_BYTES:,} bytes: it was not kept.")
                handle.write(chunk)
                digest.update(chunk)
                bar.advance(row, len(chunk))
    except httpx.HTTPStatusError as exc:
        raise EndpointError(f"{file.url} answered {exc.response.status_code}: the dataset may have moved.") from None
    except httpx.HTTPError as exc:
        reason = str(exc) or type(exc).__name__
        raise EndpointError(f"{file.url} cannot be downloaded ({reason}): check the network, then try again.") from None
    return digest.hexdigest()


def _join(target: Path) -> None:
    """Make the authors' cqa_data_*.csv from the downloaded files."""

    def lines(name: str) -> list[str]:
        return (target / name).read_text(encoding="utf-8").splitlines()

    questions = lines("train_rand_split.jsonl") + lines("dev_rand_split.jsonl")
    explanations = lines("ecqa.jsonl")
    for split in ("train", "val", "test"):
        text = join_ecqa(questions, explanations, lines(f"{split}_ids.txt"))
        write_text_atomic(target / f"cqa_data_{split}.csv", text)


def _read_record(target: Path) -> dict[str, Any]:
    try:
        record = json.loads((target / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
