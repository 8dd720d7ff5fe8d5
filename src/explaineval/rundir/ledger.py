"""The ledger of a run directory: what was spent there, by purpose and model, whatever becomes of the process.

ledger.jsonl holds sums, and after them one line for each attempt that is about to be sent, with the most that it can
cost, and one for each that came back, with its cost. What is never settled counts at its most, so that a process that
is killed loses no spending. The file is rewritten as sums when it is opened, when it has grown long, and at the end.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, TypeAdapter, ValidationError

from explaineval.errors import InputError, InUseError
from explaineval.files import open_atomic, read_lines
from explaineval.rundir import directory as run_directory
from explaineval.rundir.directory import LEDGER
from explaineval.rundir.schema import RecordPart, RunRecord, Spending
from explaineval.text import dollars_text

LOCK = ".ledger.lock"
MOST_LINES = 20_000
"""Lines after the sums, from which on the file is rewritten."""

Purpose = Literal["run", "judge", "simulate", "reask"]
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
Model = tuple[str | None, str]
"""The endpoint and the name of a model."""
STATED: Model = (None, "")
"""Stands for the models of spending that --spent states."""

Usd = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Sum(RecordPart):
    """What one model cost for one purpose: in all, and of it what was booked at the most since no bill came."""

    line: Literal["sum"] = "sum"
    purpose: Purpose
    endpoint: str | None = None
    model: str
    usd: Usd = 0.0
    unbilled: Usd = 0.0
    attempts: Annotated[int, Field(ge=0)] = 0


class Unknown(RecordPart):
    """Why it is not known what was spent for a purpose."""

    line: Literal["unknown"] = "unknown"
    purpose: Purpose
    reason: str


class Reserved(RecordPart):
    """An attempt that may cost up to so many dollars. A `batch` is not known to be over while its answer lacks."""

    line: Literal["reserve"] = "reserve"
    number: int
    purpose: Purpose
    endpoint: str | None = None
    model: str
    key: str
    usd: Usd
    batch: bool = False


class Settled(RecordPart):
    """What an attempt cost; `billed` is False where that is the most that it can have cost."""

    line: Literal["settle"] = "settle"
    number: int
    usd: Usd
    billed: bool = True


Line = Annotated[Sum | Unknown | Reserved | Settled, Field(discriminator="line")]
_LINE: TypeAdapter[Sum | Unknown | Reserved | Settled] = TypeAdapter(Line)


@dataclass
class _Cell:
    usd: float = 0.0
    unbilled: float = 0.0
    attempts: int = 0


@dataclass
class RunLedger:
    """What was spent in a run directory. Read it by `read_ledger`; to book, open it by `open_ledger`."""

    directory: Path
    unknown: dict[Purpose, str] = field(default_factory=dict)
    """Purposes for which something was spent that is not known, and why."""
    open: dict[int, Reserved] = field(default_factory=dict)
    _cells: dict[tuple[Purpose, Model], _Cell] = field(default_factory=lambda: defaultdict(_Cell))
    _batched: dict[str, list[int]] = field(default_factory=dict)
    """By key the numbers of requests that earlier processes put into batches."""
    _handle: int | None = None
    _number: int = 0
    _lines: int = 0

    def spent(self, purpose: Purpose, model: Model | None = None) -> float:
        """Return the dollars of a purpose, of one model or all; what is not settled counts at its most."""
        booked = sum(
            cell.usd
            for (of_purpose, of_model), cell in self._cells.items()
            if of_purpose == purpose and (model in (None, of_model) or of_model == STATED)
        )
        return booked + sum(
            row.usd
            for row in self.open.values()
            if row.purpose == purpose and model in (None, (row.endpoint, row.model))
        )

    def unbilled(self, purpose: Purpose) -> float:
        """Return how many of the dollars are the most that attempts without a bill can have cost."""
        booked = sum(cell.unbilled for (of_purpose, _), cell in self._cells.items() if of_purpose == purpose)
        return booked + sum(row.usd for row in self.open.values() if row.purpose == purpose)

    def sums(self) -> list[Sum]:
        """Return what is booked, by purpose and model, without what is open."""
        return [
            Sum(purpose=purpose, endpoint=model[0], model=model[1], **vars(cell))
            for (purpose, model), cell in sorted(self._cells.items(), key=str)
        ]

    @property
    def purposes(self) -> list[Purpose]:
        """The purposes for which something was spent, or may have been."""
        return [purpose for purpose in PURPOSES if purpose in self.unknown or self.spent(purpose)]

    @property
    def sentence(self) -> str | None:
        """What was spent in the directory for what; None where nothing was."""
        parts = []
        for purpose in self.purposes:
            at_most = self.unbilled(purpose)
            text = f"{dollars_text(self.spent(purpose))} by {NAMES[purpose]}"
            if at_most:
                text += f" ({dollars_text(at_most)} of it at the most, for attempts whose bill never came)"
            if purpose in self.unknown:
                text += f", and more that is not known: {self.unknown[purpose]}"
            parts.append(text)
        return f"Spent in this run directory: {'; '.join(parts)}." if parts else None

    def spending(self) -> tuple[Spending, ...]:
        """Return what was spent, for run.json."""
        return tuple(
            Spending(
                purpose=purpose,
                usd=self.spent(purpose),
                usd_unbilled_at_most=self.unbilled(purpose),
                unknown=self.unknown.get(purpose),
            )
            for purpose in self.purposes
        )

    def add(self, other: RunLedger) -> None:
        """Add what another ledger holds; its open attempts count at their most."""
        for row in other.sums():
            self._book(row.purpose, (row.endpoint, row.model), row.usd, row.unbilled, row.attempts)
        for reserved in other.open.values():
            self._book(reserved.purpose, (reserved.endpoint, reserved.model), reserved.usd, reserved.usd, 1)
        self.unknown = {**other.unknown, **self.unknown}

    def state(self, purpose: Purpose, usd: float) -> None:
        """Book what the user says was spent before, in place of what is not known."""
        del self.unknown[purpose]
        self._book(purpose, STATED, usd, 0.0, 0)
        self.write()

    def mark_unknown(self, purpose: Purpose, reason: str) -> None:
        """Note that something will be spent for a purpose that nobody knows the price of. Raises InputError."""
        if purpose not in self.unknown:
            self.unknown[purpose] = reason
            with run_directory.writing(self.directory / LEDGER):
                self._append(Unknown(purpose=purpose, reason=reason))

    def reserve(self, purpose: Purpose, model: Model, key: str, usd: float, *, batch: bool = False) -> int:
        """Write that an attempt is about to be sent that may cost so much, and return its number.

        Raises InputError where that cannot be written: then it must not be sent.
        """
        self._number += 1
        row = Reserved(
            number=self._number, purpose=purpose, endpoint=model[0], model=model[1], key=key, usd=usd, batch=batch
        )
        self.open[row.number] = row  # before it is written, which may write the whole file anew
        try:
            with run_directory.writing(self.directory / LEDGER):
                self._append(row)
        except InputError:
            del self.open[row.number]
            raise
        return row.number

    def settle(self, number: int, usd: float, *, billed: bool) -> None:
        """Book what an attempt cost. Where that cannot be written, it counts at its most the next time."""
        row = self.open.pop(number)
        self._book(row.purpose, (row.endpoint, row.model), usd, 0.0 if billed else usd, 1)
        with suppress(OSError, InputError):
            self._append(Settled(number=number, usd=usd, billed=billed))

    def settle_open(self, cost_of: Callable[[Reserved], float | None]) -> None:
        """Settle what an earlier process left open: at its cost where `cost_of` knows it, else at its most.

        Batches whose answers are not there yet stay open.
        """
        for number, row in list(self.open.items()):
            cost = cost_of(row)
            if cost is not None or not row.batch:
                self.settle(number, row.usd if cost is None else min(row.usd, cost), billed=cost is not None)

    def find_open(self, key: str) -> Reserved | None:
        """Return the request with this key that an earlier process put into a batch, if it is still open."""
        return next((self.open[number] for number in self._batched.get(key, ()) if number in self.open), None)

    def write(self) -> None:
        """Write the file anew: sums, what is not known, and what is open. Raises InputError."""
        path = self.directory / LEDGER
        rows: Iterable[RecordPart] = (
            *self.sums(),
            *(Unknown(purpose=purpose, reason=reason) for purpose, reason in self.unknown.items()),
            *self.open.values(),
        )
        with run_directory.writing(path):
            with open_atomic(path, durable=True) as handle:
                handle.writelines(map(_encode, rows))
            before, self._handle = self._handle, os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            if before is not None:
                os.close(before)
        self._lines = 0

    def close(self) -> None:
        """Write the sums, and close the file."""
        if self._handle is not None:
            with suppress(InputError):  # what is there already says the same
                self.write()
            os.close(self._handle)
            self._handle = None

    def _append(self, row: RecordPart) -> None:
        if self._handle is None:
            return
        line = _encode(row)
        written = os.write(self._handle, line)
        if written != len(line):  # half a line would make the next one unreadable
            os.ftruncate(self._handle, os.fstat(self._handle).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.directory / LEDGER))
        self._lines += 1
        if self._lines > MOST_LINES:
            self.write()

    def _book(self, purpose: Purpose, model: Model, usd: float, unbilled: float, attempts: int) -> None:
        cell = self._cells[purpose, model]
        cell.usd += usd
        cell.unbilled += unbilled
        cell.attempts += attempts

    def take(self, row: Sum | Unknown | Reserved | Settled) -> None:
        """Add one line of the file."""
        if isinstance(row, Sum):
            self._book(row.purpose, (row.endpoint, row.model), row.usd, row.unbilled, row.attempts)
        elif isinstance(row, Unknown):
            self.unknown.setdefault(row.purpose, row.reason)
        elif isinstance(row, Reserved):
            self.open[row.number] = row
            self._number = max(self._number, row.number)
            if row.batch:
                self._batched.setdefault(row.key, []).append(row.number)
        elif (reserved := self.open.pop(row.number, None)) is not None:
            model = reserved.endpoint, reserved.model
            self._book(reserved.purpose, model, row.usd, 0.0 if row.billed else row.usd, 1)


NAMES: dict[Purpose, str] = {
    "run": "run",
    "judge": "judge",
    "simulate": "simulate",
    "reask": "asking answers again",
}


@dataclass(frozen=True)
class Account:
    """One purpose's side of a ledger."""

    ledger: RunLedger
    purpose: Purpose

    def spent(self, model: Model | None = None) -> float:
        """Return what was spent for the purpose, by one model or all."""
        return self.ledger.spent(self.purpose, model)

    def check(self, *, limited: bool, stated: float | None) -> None:
        """Take over what the user states was spent before. Raises InputError where a limit needs that and lacks it."""
        reason = self.ledger.unknown.get(self.purpose)
        if reason is None:
            return
        if stated is not None:
            self.ledger.state(self.purpose, stated)
        elif limited:
            raise InputError(
                f"a spending limit counts all that {NAMES[self.purpose]} has spent in {self.ledger.directory}, which "
                f"is not known: {reason}. Say it by --spent X (dollars; 0 for nothing), or leave the limit out."
            )

    def mark_unknown(self, reason: str) -> None:
        """Note that something is spent whose price is not known."""
        self.ledger.mark_unknown(self.purpose, reason)

    def reserve(self, model: Model, key: str, usd: float, *, batch: bool = False) -> int:
        """Write that an attempt is about to be sent; see `RunLedger.reserve`."""
        return self.ledger.reserve(self.purpose, model, key, usd, batch=batch)

    def settle(self, number: int, usd: float, *, billed: bool = True) -> None:
        """Book what an attempt cost."""
        self.ledger.settle(number, usd, billed=billed)

    def open_batch(self, key: str) -> tuple[int, float] | None:
        """Return the number and the dollars of a request that an earlier process put into a batch, if one is open."""
        row = self.ledger.find_open(key)
        return None if row is None else (row.number, row.usd)


@contextmanager
def open_ledger(directory: Path) -> Iterator[RunLedger]:
    """Open the ledger of a run directory for booking; it is made where there is none.

    Raises InUseError where another process books there, InputError where it cannot be read or written.
    """
    lock = _lock(directory)
    try:
        ledger = read_ledger(directory)
        ledger.write()
        try:
            yield ledger
        finally:
            ledger.close()
    finally:
        with suppress(OSError):
            (directory / LOCK).unlink()
        os.close(lock)


def _lock(directory: Path) -> int:
    """Return a descriptor that holds the lock of the directory's ledger. Raises InUseError."""
    path = directory / LOCK
    while True:
        with run_directory.writing(path):
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock).st_ino == path.stat().st_ino:
                return lock
        except BlockingIOError:
            os.close(lock)
            raise InUseError(
                f"another command is spending in {directory} (run, judge or simulate): wait for its end."
            ) from None
        except FileNotFoundError:  # another process has removed it at its end
            pass
        os.close(lock)


@contextmanager
def account_of(directory: Path, purpose: Purpose, *, offline: bool = False) -> Iterator[Account | None]:
    """Open a purpose's account in a run directory; offline nothing is spent, and there is none."""
    if offline:
        yield None
        return
    with open_ledger(directory) as ledger:
        yield Account(ledger, purpose)


def read_ledger(directory: Path) -> RunLedger:
    """Read the ledger of a run directory. Without one, what a run there has spent is not known.

    Raises InputError where it is damaged.
    """
    path, ledger = directory / LEDGER, RunLedger(directory)
    if not path.exists():
        ledger.unknown = dict(_unknown_without_ledger(directory))
        return ledger
    try:
        for number, line in enumerate(read_lines(path), start=1):
            try:
                ledger.take(_LINE.validate_json(line))
            except ValidationError:
                if not line.endswith(b"\n"):  # torn: what it would say was not done yet, or counts at its most
                    break
                raise InputError(
                    f"{path}:{number} is damaged, so what was spent is not known: remove the file, and say what was "
                    "spent by --spent X."
                ) from None
    except OSError as exc:
        raise InputError(f"{path} cannot be read: {exc.strerror or exc}.") from None
    return ledger


def spending_sentence(directory: Path) -> str | None:
    """Say what was spent in a run directory for what; None where nothing was, or it has no ledger."""
    if not (directory / LEDGER).exists():
        return None
    try:
        return read_ledger(directory).sentence
    except InputError as exc:
        return f"What was spent in this run directory is not known: {exc}"


def write_sums(directory: Path, ledgers: Iterable[RunLedger]) -> RunLedger:
    """Write the ledger of a merged run, everything that was spent in its shards, and return it."""
    merged = RunLedger(directory)
    for ledger in ledgers:
        merged.add(ledger)
    merged.write()
    merged.close()
    return merged


def _unknown_without_ledger(directory: Path) -> Iterator[tuple[Purpose, str]]:
    """Yield the purposes for which something may have been spent in a directory that has no ledger."""
    if not (directory / run_directory.RUN).exists():
        return
    record = run_directory.read_run(directory)
    reason = f"its record is of explaineval {record.explaineval}, or lacks {LEDGER}"
    if not _was_free(record):
        yield "run", reason
    if any(verdict.key is not None for verdict in run_directory.read_verdicts(directory)):
        yield "judge", reason
    if (directory / run_directory.PREDICTIONS).exists():
        yield "simulate", reason


def _was_free(record: RunRecord) -> bool:
    """Return whether every model of a run is known to have cost nothing: simulated ones, and those of one's own."""
    prices = [entry.price for entry in record.endpoints]
    return bool(prices) and all(
        price is not None and not (price.input or price.output or price.request) for price in prices
    )


def _encode(row: RecordPart) -> bytes:
    return json.dumps(row.model_dump(mode="json"), separators=(",", ":")).encode() + b"\n"
