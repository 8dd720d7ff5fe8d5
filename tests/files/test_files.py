"""Files are written whole or not at all, and read within bounded memory."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from itertools import takewhile
from pathlib import Path
from tempfile import gettempdir

import pytest

from explaineval import files
from explaineval.cache import open_store
from explaineval.errors import InputError
from explaineval.files import (
    LineWriter,
    copy_tree,
    open_atomic,
    open_regular,
    open_text_atomic,
    read_lines,
    why_unwritable,
    write_text_atomic,
)
from explaineval.rundir.directory import locked
from servers.full_disks import files_end_at


def test_a_file_is_replaced_only_when_it_is_whole(tmp_path: Path) -> None:
    """While it is written the old content stands; afterwards the new one, and no draft."""
    path = tmp_path / "a.txt"
    path.write_text("old")
    with open_atomic(path) as handle:
        handle.write(b"new")
        handle.flush()
        assert path.read_text() == "old"

    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("durable", [False, True])
def test_an_exception_leaves_the_old_file_and_no_draft(tmp_path: Path, durable: bool) -> None:
    """Whatever goes wrong inside the block, an interrupt included."""
    path = tmp_path / "a.txt"
    path.write_text("old")

    def interrupted() -> None:
        with open_atomic(path, durable=durable) as handle:
            handle.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_durable_file_is_synchronised_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The contents first, then the new name in its directory."""
    path, steps = tmp_path / "a.txt", []

    def record(descriptor: int) -> None:
        status = os.fstat(descriptor)
        steps.append(("directory" if stat.S_ISDIR(status.st_mode) else status.st_size, path.exists()))

    monkeypatch.setattr(files.os, "fsync", record)
    with open_atomic(path, durable=True) as handle:
        handle.write(b"four")

    assert steps == [(4, False), ("directory", True)]


def test_text_keeps_its_line_breaks_and_lone_surrogates(tmp_path: Path) -> None:
    """The bytes are the same on every system, and no text that an endpoint sends is refused."""
    path = tmp_path / "a.txt"
    write_text_atomic(path, "é\n\ud800\r\n")
    assert path.read_bytes() == b"\xc3\xa9\n\xed\xa0\x80\r\n"

    with open_text_atomic(path) as handle:
        handle.writelines(["other", "\n"])
    assert path.read_bytes() == b"other\n"


@pytest.mark.parametrize("name", ["directory", "pipe"])
def test_a_directory_and_a_pipe_are_not_replaced(tmp_path: Path, name: str) -> None:
    """A rename would silently put a file in their place."""
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"), open_atomic(tmp_path / name):
        pass


def test_an_error_names_the_file_and_not_its_draft(tmp_path: Path) -> None:
    """The reader of the message has never heard of the draft."""
    path = tmp_path / "missing" / "a.txt"
    with pytest.raises(FileNotFoundError) as error:
        write_text_atomic(path, "new")

    assert error.value.filename == str(path)


@pytest.mark.parametrize("name", ["/dev/zero", "directory", "pipe"])
def test_a_device_a_directory_and_a_pipe_are_not_read(tmp_path: Path, name: str) -> None:
    """They may be endless, and a pipe that nobody writes to is not waited for."""
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        open_regular(tmp_path / name)


def test_lines_are_read_with_their_breaks_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of just the bound is read; the first longer one is an error that names its number."""
    monkeypatch.setattr(files, "LONGEST_LINE", 4)
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"abc\nde")
    assert list(read_lines(path)) == [b"abc\n", b"de"]

    path.write_bytes(b"abc\nabcd\n")
    lines = read_lines(path)
    assert next(lines) == b"abc\n"
    with pytest.raises(OSError, match="line 2 is longer than 4 bytes"):
        next(lines)


@contextmanager
def another_user() -> Iterator[int]:
    """Run as another user than the owner of the files, which only root can do."""
    os.seteuid(65534)
    try:
        yield 65534
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_folder_of_another_user_is_named_with_its_owner_and_what_to_do(tmp_path: Path) -> None:
    """The folder that is there, both users, and two ways out; nothing where writing is allowed."""
    assert why_unwritable(tmp_path / "new" / "deep") is None
    folder = tmp_path / "mounted"
    folder.mkdir(mode=0o755)
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    for path in takewhile(lambda path: path != Path(gettempdir()), (tmp_path, *tmp_path.parents)):
        path.chmod(0o755)
    with another_user() as user:
        reason = why_unwritable(folder / "cache")
        inside = why_unwritable(private / "cache" / "deep")
        with pytest.raises(InputError) as cache:
            open_store(folder / "cache")
        with pytest.raises(InputError) as run, locked(folder / "run"):
            pass

    assert reason == (
        f"the folder {folder} belongs to user 0, and this runs as user {user}, who may not write there: give it to "
        f"that user (chown {user} FOLDER), or run as its owner (docker run --user 0:0)"
    )
    assert inside is not None
    assert inside.startswith(f"the folder {private} belongs to user 0")
    assert str(cache.value) == f"The cache cannot be written: {reason}."
    assert str(run.value) == f"the output directory {folder / 'run'} cannot be written: {reason}."


@pytest.mark.sampled(1)
@pytest.mark.parametrize("umask", [0o022, 0o027])
def test_what_the_command_line_writes_follows_the_umask(tmp_path: Path, umask: int) -> None:
    """As of any tool: the run with its copy of the prompts, and the cache, whatever modes the originals have."""
    command = [sys.executable, "-m", "explaineval", "run", "--task", "nli", "--model", "simulated/faithful"]
    options = ["--limit", "2", "--out", "run", "--cache", "cache"]
    subprocess.run([*command, *options], cwd=tmp_path, umask=umask, check=True, capture_output=True)
    modes = {path.relative_to(tmp_path): stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    expected = {name: (0o777 if (tmp_path / name).is_dir() else 0o666) & ~umask for name in modes}

    assert Path("run/prompts/chat/pe.j2") in modes
    assert modes == expected


def consume(steps: Iterator[object]) -> None:
    """Take all steps."""
    for _ in steps:
        pass


def test_lines_that_a_full_disk_did_not_take_are_written_when_there_is_room(tmp_path: Path) -> None:
    """None is missing, doubled or torn, whatever flushes failed meanwhile."""
    path, lines = tmp_path / "lines.jsonl", [f"{number:>200} é" for number in range(100)]
    with LineWriter(path) as writer:
        for number, line in enumerate(lines):
            writer.write(line)
            if number % 7 == 6:
                with files_end_at(5000) if 20 < number < 80 else nullcontext(), suppress(OSError):
                    writer.flush()

    assert path.read_text(encoding="utf-8").splitlines() == lines


def test_a_disk_that_stays_full_is_an_error_at_the_end(tmp_path: Path) -> None:
    """And earlier, where many lines wait."""
    path = tmp_path / "lines.jsonl"
    with files_end_at(1000):
        with pytest.raises(OSError, match="too large"), LineWriter(path) as writer:
            writer.write(2000 * "x")
        with pytest.raises(OSError, match="too large"), LineWriter(path) as writer:
            consume(map(writer.write, 40 * [500_000 * "x"]))

    assert path.stat().st_size == 1000


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("/etc/hostname"), os.mkfifo], ids=["link", "pipe"])
def test_what_is_copied_of_a_folder_lies_in_it(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """A folder of a stranger may hold a link to a private file, or a pipe, which is not waited for."""
    source = tmp_path / "source"
    (source / "inner").mkdir(parents=True)
    (source / "inner" / "a.txt").write_text("a")
    (source / "b.txt").symlink_to("inner/a.txt")
    copy_tree(source, tmp_path / "copy")
    make(source / "inner" / "c.txt")

    assert (tmp_path / "copy" / "b.txt").read_text() == "a"
    with pytest.raises(OSError, match=r"out of its folder|not a regular file"):
        copy_tree(source, tmp_path / "another")
