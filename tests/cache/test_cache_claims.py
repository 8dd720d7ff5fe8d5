"""Claims between real processes: one holder a key, nothing left over, places from 0 upwards."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from explaineval.cache import Claims, is_stopped, spread
from explaineval.cache.locks import FILE
from explaineval.errors import InputError

KEYS = [head + "0" * 48 for head in ("0" * 16, "0" * 15 + "1", "3" + "f" * 15, "89abcdef01234567")]

TALKER = """
import sys
from pathlib import Path
from explaineval.cache import Claims
with Claims(Path(sys.argv[1])) as claims:
    for line in sys.stdin:
        what, _, key = line.strip().partition(" ")
        print(getattr(claims, what)(*([key] if key else [])), flush=True)
"""


class Talker:
    """Another process with claims on the same directory; does what it is told, one thing at a time."""

    def __init__(self, directory: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", TALKER, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def tell(self, *words: str) -> str:
        """What the call printed."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(" ".join(words) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        """End it without a chance to tidy up."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def talkers(tmp_path: Path) -> Iterator[list[Talker]]:
    """Three processes."""
    found = [Talker(tmp_path) for _ in range(3)]
    yield found
    for talker in found:
        talker.process.kill()
        talker.process.communicate()


def test_claims_between_processes(tmp_path: Path, talkers: list[Talker]) -> None:
    """A key has one holder; released, or held by a killed process, it is free; other keys are not touched."""
    one, two, three = talkers
    with Claims(tmp_path) as ours:
        assert one.tell("claim", KEYS[0]) == "True"
        assert [two.tell("claim", KEYS[0]), three.tell("claim", KEYS[0])] == ["False", "False"]
        assert not ours.claim(KEYS[0])

        assert ours.claim(KEYS[1])
        assert one.tell("claim", KEYS[1]) == "False"
        ours.release(KEYS[1])
        assert one.tell("claim", KEYS[1]) == "True"

        one.kill()
        assert ours.claim(KEYS[0])
        assert two.tell("claim", KEYS[1]) == "True"
        assert two.tell("claim", KEYS[0]) == "False"
    assert two.tell("claim", KEYS[0]) == "True"
    assert (tmp_path / FILE).stat().st_size == 0


def test_each_key_is_claimed_by_itself(tmp_path: Path, talkers: list[Talker]) -> None:
    """The smallest and the greatest of keys can be claimed, and none of them is taken for another or for a place."""
    one, two, _ = talkers
    for key in KEYS:
        assert one.tell("claim", key) == "True"
    assert one.tell("take_number") == "0"
    assert two.tell("take_number") == "1"
    for number, key in enumerate(KEYS):
        assert two.tell("claim", key) == "False"
        assert one.tell("release", key) == "None"
        assert two.tell("claim", key) == "True", number


def test_places_count_upwards_and_are_used_again(tmp_path: Path, talkers: list[Talker]) -> None:
    """0, 1, 2 in the order of asking; the place of a process that is gone goes to the next one."""
    assert [talker.tell("take_number") for talker in talkers] == ["0", "1", "2"]

    talkers[1].kill()
    with Claims(tmp_path) as ours:
        assert ours.take_number() == 1


def test_a_claim_does_not_make_a_place_taken(tmp_path: Path, talkers: list[Talker]) -> None:
    """Forty keys claimed by another process: the first place is still free."""
    for number in range(40):
        assert talkers[0].tell("claim", f"{number:016x}" + "0" * 48) == "True"

    with Claims(tmp_path) as ours:
        assert ours.take_number() == 0


@pytest.mark.parametrize("number", range(1, 65))
def test_processes_begin_about_equally_far_apart(number: int) -> None:
    """However many there are, no gap between neighbouring starts is more than twice what it would be at best."""
    starts = sorted(spread(place) for place in range(number))
    gaps = [later - one for one, later in itertools.pairwise([*starts, 1.0])]

    assert starts[0] == 0.0
    assert starts[-1] < 1.0
    assert min(gaps) > 0
    assert max(gaps) <= 2 / number


def test_spread_is_the_bits_turned_round() -> None:
    """The first sixteen, from the binary digits of the number read backwards after the point."""
    backwards = [int(f"{place:04b}"[::-1], 2) / 16 for place in range(16)]

    assert backwards == [spread(place) for place in range(16)]


def test_a_directory_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    """No directory, no claims: the sentence names the file."""
    with pytest.raises(InputError, match=rf"{FILE}.*make the cache writable"):
        Claims(tmp_path / "missing")


def test_the_holder_of_a_key_is_known(tmp_path: Path, talkers: list[Talker]) -> None:
    """By its process number; nobody else's claims, no own claim, and no claim of a dead process count."""
    first, second, _ = talkers
    with Claims(tmp_path) as claims:
        assert first.tell("claim", KEYS[0]) == second.tell("claim", KEYS[1]) == "True"
        assert claims.claim(KEYS[2])
        assert [claims.holder(key) for key in KEYS] == [first.process.pid, second.process.pid, None, None]
        os.kill(first.process.pid, signal.SIGSTOP)
        assert os.waitpid(first.process.pid, os.WUNTRACED)[0] == first.process.pid
        assert (is_stopped(first.process.pid), is_stopped(second.process.pid)) == (True, False)
        first.kill()
        assert claims.holder(KEYS[0]) is None
        assert not is_stopped(first.process.pid)
        assert second.tell("release", KEYS[1])
        assert claims.holder(KEYS[1]) is None
