"""`explaineval data fetch`: the official files, their SHA-256 recorded."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import click
import httpx
from rich.console import Console
from rich.progress import DownloadColumn, Progress, TextColumn

from explaineval.cli.options import option, options
from explaineval.cli.output import echo, say
from explaineval.datasets import OFFICIAL, Download, join_ecqa
from explaineval.errors import EndpointError, InputError
from explaineval.files import open_atomic, write_text_atomic

RECORD = "SHA256.json"
CHUNK = 1 << 16
MOST_BYTES = 2_000_000_000
"""Most bytes of one file; the largest official one has a tenth of it."""
MOST_REDIRECTS = 5


@click.group()
def data() -> None:
    """Download datasets from their official homes."""


@data.command()
@click.argument("task", type=click.Choice(sorted(OFFICIAL)))
@options(
    option("--dir", type=click.Path(path_type=Path), help="Target directory.  [default: data/TASK]"),
    option("--timeout", type=click.FloatRange(min=0, min_open=True), default=60.0, show_default=True),
)
def fetch(task: str, dir: Path | None, timeout: float) -> int:
    """Download TASK's files. What is there with the recorded SHA-256 is not downloaded again."""
    official = OFFICIAL[task]
    target = dir or Path("data") / task
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise InputError(f"{target} cannot be made: {exc.strerror}.") from None
    record = _read_record(target)
    fetched = 0
    with httpx.Client(timeout=timeout, follow_redirects=True, max_redirects=MOST_REDIRECTS) as client, _bar() as bar:
        for file in official.files:
            path = target / file.target
            if path.is_file() and record.get(file.target, {}).get("sha256") == _sha256(path):
                continue
            record[file.target] = {"url": file.url, "sha256": _download(client, file, path, bar)}
            write_text_atomic(target / RECORD, json.dumps(record, indent=2) + "\n")
            fetched += 1
    if task == "ecqa":
        _join(target)
    say([f"{fetched} files downloaded to {target}, SHA-256 in {target / RECORD}. Licence: {official.licence}."])
    echo(f"--task {official.use.format(dir=target)}")
    return 0


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), DownloadColumn())
    return Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())


def _download(client: httpx.Client, file: Download, path: Path, bar: Progress) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    total = hashlib.sha256()
    try:
        with client.stream("GET", file.url) as response, open_atomic(path) as handle:
            response.raise_for_status()
            if file.url.startswith("https:") and any(
                hop.url.scheme != "https" for hop in (*response.history, response)
            ):
                raise EndpointError(f"{file.url} leads to an address without https: nothing was taken from there.")
            size = response.headers.get("content-length")
            row = bar.add_task(path.name, total=int(size) if size else None)
            for chunk in response.iter_bytes(CHUNK):
                if handle.tell() + len(chunk) > MOST_BYTES:
                    raise EndpointError(f"{file.url} answers with more than {MOST_BYTES:,} bytes: it was not kept.")
                handle.write(chunk)
                total.update(chunk)
                bar.advance(row, len(chunk))
    except httpx.HTTPStatusError as exc:
        raise EndpointError(f"{file.url} answered {exc.response.status_code}: the dataset may have moved.") from None
    except httpx.HTTPError as exc:
        reason = str(exc) or type(exc).__name__
        raise EndpointError(f"{file.url} cannot be downloaded ({reason}): check the network, then try again.") from None
    return total.hexdigest()


def _join(target: Path) -> None:
    """Make the authors' cqa_data_*.csv from what was downloaded."""

    def lines(name: str) -> list[str]:
        return (target / name).read_text(encoding="utf-8").splitlines()

    questions = lines("train_rand_split.jsonl") + lines("dev_rand_split.jsonl")
    explanations = lines("ecqa.jsonl")
    for split in ("train", "val", "test"):
        text = join_ecqa(questions, explanations, lines(f"{split}_ids.txt"))
        write_text_atomic(target / f"cqa_data_{split}.csv", text)


def _read_record(target: Path) -> dict[str, Any]:
    try:
        found = json.loads((target / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
