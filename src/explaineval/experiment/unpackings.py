"""Bundles made by others, unpacked without trust: only the names that belong there, bounded, regular files alone."""

from __future__ import annotations

import json
import re
import shutil
import stat
import zipfile
import zlib
from pathlib import Path

from jinja2 import FileSystemLoader, TemplateNotFound, TemplateSyntaxError

from explaineval.errors import InputError
from explaineval.experiment import directories
from explaineval.experiment.bundles import FILES, PACK
from explaineval.sandbox import RestrictedEnvironment, describe, shorten

SMALL = 64 << 20
"""Bytes up to which a file may be packed however tightly."""

TIGHTEST = 100
"""How many times its packed size a larger file may have: text never packs better, a trap does."""

LARGEST_PROMPT = 1 << 20
"""Bytes of one file of the prompts."""

MOST_BYTES = 16 << 30
MOST_FILES = 1000

_LEVEL_SHOTS = re.compile(r"shots\.[A-Za-z0-9_-]+\.jsonl")
_PROMPT = re.compile(rf"{directories.PROMPTS}/(?:\w[\w.-]*/){{0,4}}\w[\w.-]*")


def unpack_bundle(source: Path, into: Path) -> None:
    """Unpack a bundle into an empty directory: the run directory it was made of, and its pack of answers.

    Raises InputError for a file that is no bundle, is damaged, or holds anything that a bundle does not; then
    nothing of it was used.
    """
    try:
        with zipfile.ZipFile(source) as bundle:
            members = bundle.infolist()
            _check(members, source)
            for info in members:
                target = into / info.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with bundle.open(info) as packed, target.open("xb") as plain:
                    shutil.copyfileobj(packed, plain, 1 << 20)
    except FileNotFoundError:
        raise InputError(f"{source}: no such file; check the path.") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeError, ValueError) as exc:
        raise InputError(f"{source} is no bundle of `explaineval export`, or it is damaged: {exc}.") from None
    except OSError as exc:
        raise InputError(f"{source} cannot be unpacked: {exc.strerror or exc}.") from None
    _check_documents(into, source)
    _check_templates(into / directories.PROMPTS, source)


def _check(members: list[zipfile.ZipInfo], source: Path) -> None:
    """Look at every entry before the first is unpacked."""
    names = [info.filename for info in members]
    lacking = sorted({*FILES, PACK} - set(names))
    if len(members) > MOST_FILES or len(set(names)) != len(names):
        raise _foreign(source, "it has too many entries, or one of them twice")
    for info in members:
        known = info.filename in (*FILES, PACK) or _LEVEL_SHOTS.fullmatch(info.filename)
        if not known and not _PROMPT.fullmatch(info.filename):
            raise _foreign(source, f"its entry {info.filename[:80]!r} does not belong there")
        if info.orig_filename != info.filename or info.flag_bits & 0x1:
            raise _foreign(source, f"its entry {info.filename!r} is encrypted or named twice over")
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
            raise _foreign(source, f"its entry {info.filename!r} is a link or another thing that is no file")
        if info.filename.startswith(f"{directories.PROMPTS}/") and info.file_size > LARGEST_PROMPT:
            raise _foreign(source, f"its entry {info.filename!r} is larger than {LARGEST_PROMPT >> 20} MiB")
        if info.file_size > SMALL and info.file_size > TIGHTEST * info.compress_size:
            raise _foreign(source, f"its entry {info.filename!r} would swell to {info.file_size / 1e6:,.0f} MB")
    if sum(info.file_size for info in members) > MOST_BYTES:
        raise _foreign(source, f"it would take more than {MOST_BYTES >> 30} GiB")
    if lacking:
        raise _foreign(source, f"it lacks {', '.join(lacking)}")


def _check_documents(directory: Path, source: Path) -> None:
    """Read the two JSON documents once, so that what follows finds no surprise in their form."""
    for name, kind in ((directories.RUN, dict), (directories.METRICS, list)):
        path = directory / name
        if path.stat().st_size > SMALL:
            raise _foreign(source, f"its {name} is larger than {SMALL >> 20} MiB")
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as exc:
            raise _foreign(source, f"its {name} is not readable JSON ({type(exc).__name__})") from None
        if not isinstance(value, kind):
            raise _foreign(source, f"its {name} has another form")


def _check_templates(prompts: Path, source: Path) -> None:
    """Templates hold only what prompts need, and name no file beyond the bundle's own. They are parsed, never run."""
    environment = RestrictedEnvironment(FileSystemLoader(prompts), str)
    for path in sorted(prompts.rglob("*.j2")):
        name = path.relative_to(prompts).as_posix()
        try:
            environment.check(name)
        except TemplateNotFound as exc:
            raise _foreign(source, f"its {directories.PROMPTS}/{name} reaches for {shorten(repr(exc.name))}") from None
        except TemplateSyntaxError as exc:
            raise _foreign(source, f"its {directories.PROMPTS}/{describe(exc, name)[:-1]}") from None
        except UnicodeDecodeError:
            raise _foreign(source, f"its {directories.PROMPTS}/{name} is no text in UTF-8") from None


def _foreign(source: Path, why: str) -> InputError:
    return InputError(f"{source} was not used: {why}. A bundle made by `explaineval export` looks otherwise.")
