"""The ledger of a run directory: nothing that was spent is lost, whenever the process ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from explaineval.errors import InputError, InUseError
from explaineval.rundir.directory import LEDGER
from explaineval.rundir.ledger import Account, open_ledger, read_ledger, spending_sentence, write_sums
from servers.full_disks import files_end_at

MODEL = ("lab", "openai/x")
OTHER = (None, "openai/y")


def test_what_is_reserved_counts_until_it_is_settled(tmp_path: Path) -> None:
    """At its most from before it is sent, at its cost afterwards, each purpose and model for itself."""
    with open_ledger(tmp_path) as ledger:
        first = ledger.reserve("run", MODEL, "k1", 0.5)
        ledger.reserve("run", OTHER, "k2", 0.25)
        ledger.settle(first, 0.125, billed=True)
        ledger.settle(ledger.reserve("judge", MODEL, "k3", 1.0), 1.0, billed=False)
        written = read_ledger(tmp_path)  # as another process would after a kill

        assert written.spent("run") == ledger.spent("run") == 0.375
        assert written.spent("run", MODEL) == 0.125
        assert written.spent("judge") == written.unbilled("judge") == 1.0
        assert written.unbilled("run") == 0.25


def test_every_beginning_of_the_file_counts_at_least_what_was_paid(tmp_path: Path) -> None:
    """Cut after any byte, as by a kill in the middle of writing: never less than what was settled by then."""
    with open_ledger(tmp_path) as ledger:
        for number in range(5):
            ledger.settle(ledger.reserve("run", MODEL, str(number), 1.0), 0.25, billed=True)
        whole = (tmp_path / LEDGER).read_bytes()
    for end in range(len(whole) + 1):
        (tmp_path / LEDGER).write_bytes(whole[:end])
        complete = whole[:end].count(b'"settle"') if whole[:end].endswith(b"\n") else whole[:end].count(b"\n") // 2
        assert read_ledger(tmp_path).spent("run") >= 0.25 * min(complete, whole[:end].count(b"\n") // 2)


def test_what_an_earlier_process_left_open_is_settled_by_its_answer_or_at_its_most(tmp_path: Path) -> None:
    """An answer that the cache has costs what it cost; a batch stays open until its answer is there."""
    with open_ledger(tmp_path) as ledger:
        ledger.reserve("run", MODEL, "answered", 1.0)
        ledger.reserve("run", MODEL, "lost", 2.0)
        ledger.reserve("run", MODEL, "batched", 4.0, batch=True)
    with open_ledger(tmp_path) as ledger:
        ledger.settle_open(lambda row: 0.125 if row.key == "answered" else None)

        assert ledger.spent("run") == 0.125 + 2.0 + 4.0
        assert [row.key for row in ledger.open.values()] == ["batched"]
        assert Account(ledger, "run").open_batch("batched") == (3, 4.0)


def test_a_disk_that_is_full_for_a_while_leaves_no_half_line(tmp_path: Path) -> None:
    """What could not be reserved is not to be sent, what could not be settled counts at its most; all can be read."""
    with open_ledger(tmp_path) as ledger:
        number = ledger.reserve("run", MODEL, "k1", 0.5)
        with files_end_at((tmp_path / LEDGER).stat().st_size + 20):
            ledger.settle(number, 0.125, billed=True)
            with pytest.raises(InputError, match="cannot be written"):
                ledger.reserve("run", MODEL, "k2", 1.0)
        ledger.settle(ledger.reserve("run", MODEL, "k3", 2.0), 0.25, billed=True)

        assert read_ledger(tmp_path).spent("run") == 0.5 + 0.25
        assert ledger.spent("run") == 0.125 + 0.25
    assert read_ledger(tmp_path).spent("run") == 0.125 + 0.25


def test_unknown_spending_is_refused_under_a_limit_until_it_is_stated(tmp_path: Path) -> None:
    """Stated once, it is known from then on."""
    with open_ledger(tmp_path) as ledger:
        ledger.mark_unknown("run", "no price of m was known")
    with open_ledger(tmp_path) as ledger:
        account = Account(ledger, "run")
        account.check(limited=False, stated=None)
        with pytest.raises(InputError, match="--spent X"):
            account.check(limited=True, stated=None)
        account.check(limited=True, stated=3.0)
    with open_ledger(tmp_path) as ledger:
        account = Account(ledger, "run")
        account.check(limited=True, stated=3.0)

        assert account.spent() == account.spent(MODEL) == 3.0


def test_ledgers_of_shards_add_up(tmp_path: Path) -> None:
    """What is open in one counts at its most."""
    for name, usd in (("a", 1.0), ("b", 2.0)):
        (tmp_path / name).mkdir()
        with open_ledger(tmp_path / name) as ledger:
            ledger.settle(ledger.reserve("run", MODEL, "k", usd), usd, billed=True)
            ledger.reserve("judge", MODEL, "j", 0.5)
    (tmp_path / "out").mkdir()
    write_sums(tmp_path / "out", [read_ledger(tmp_path / "a"), read_ledger(tmp_path / "b")])
    merged = read_ledger(tmp_path / "out")

    assert (merged.spent("run"), merged.spent("judge")) == (3.0, 1.0)
    assert "$3.00 by run; $1.00 by judge" in (spending_sentence(tmp_path / "out") or "")


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "{}",
        '{"line":"sum","purpose":"run","model":"m","usd":-5}',
        '{"line":"sum","purpose":"run","usd":NaN}',
        "x",
    ],
)
def test_a_damaged_ledger_is_refused_by_its_line(tmp_path: Path, line: str) -> None:
    """A sum that somebody changed must not make a limit larger."""
    (tmp_path / LEDGER).write_text(line + "\n", encoding="utf-8")

    with pytest.raises(InputError, match=r"ledger\.jsonl:1 is damaged"):
        read_ledger(tmp_path)


def test_two_processes_do_not_book_at_once(tmp_path: Path) -> None:
    """The second is refused while the first books, and goes on afterwards; no lock is left behind."""
    with open_ledger(tmp_path), pytest.raises(InUseError), open_ledger(tmp_path):
        pass
    with open_ledger(tmp_path):
        pass

    assert [path.name for path in tmp_path.iterdir()] == [LEDGER]


def test_the_file_stays_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many attempts are booked."""
    monkeypatch.setattr("explaineval.rundir.ledger.MOST_LINES", 20)
    with open_ledger(tmp_path) as ledger:
        for number in range(200):
            ledger.settle(ledger.reserve("run", MODEL, str(number), 1.0), 0.5, billed=True)
            assert len((tmp_path / LEDGER).read_bytes().splitlines()) <= 23

    assert read_ledger(tmp_path).spent("run") == 100.0


def test_a_reservation_is_kept_when_it_makes_the_file_be_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a kill it counts at its most like every other one."""
    monkeypatch.setattr("explaineval.rundir.ledger.MOST_LINES", 5)
    with open_ledger(tmp_path) as ledger:
        for number in range(20):
            ledger.reserve("run", MODEL, str(number), 1.0)

            assert read_ledger(tmp_path).spent("run") == number + 1


def test_unknown_spending_that_cannot_be_noted_is_told(tmp_path: Path) -> None:
    """A full disk is an error in one sentence, before anything is sent."""
    with open_ledger(tmp_path) as ledger, files_end_at(0), pytest.raises(InputError, match="make room"):
        ledger.mark_unknown("run", "no price was known")
