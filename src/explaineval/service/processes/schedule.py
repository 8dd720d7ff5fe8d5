"""Who is next: workers are shared fairly among tokens. Pure: rows and counts in, choices out."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from explaineval.service.table import RunRow

QUANTUM = 60.0
"""Seconds for which a run keeps its worker although its token has two more workers than one whose runs wait. To begin a
run anew takes up to twenty seconds of computing."""
LONG_QUANTUM = 600.0
"""Seconds for which a run keeps its worker although another token has none, and no token has more than one."""
IDLE = 60.0
"""Seconds for which a run that only waits keeps its worker."""


class Queue:
    """Runs that wait, the oldest of the token with the fewest workers first.

    Args:
        rows: the runs, the oldest first.
        held: how many workers each token has.
    """

    def __init__(self, rows: Iterable[RunRow], held: Mapping[str, int]) -> None:
        self.held = Counter(held)
        self._rows: dict[str, deque[RunRow]] = {}
        for row in rows:
            self._rows.setdefault(row.token, deque()).append(row)

    def pop(self) -> RunRow | None:
        """Return the next run, None where there are no more."""
        if not self._rows:
            return None
        token = min(self._rows, key=lambda name: (self.held[name], self._rows[name][0].number))
        row = self._rows[token].popleft()
        if not self._rows[token]:
            del self._rows[token]
        return row

    def count(self, row: RunRow) -> None:
        """Count a run as one that has a worker, or will have one before those behind it."""
        self.held[row.token] += 1


@dataclass(frozen=True)
class Holder:
    """A run that has a worker: whose it is, for how many seconds it has had it, and for how many it has only waited."""

    run: str
    token: str
    seconds: float
    idle: float | None = None


def choose_to_pause(wanting: str, holders: Sequence[Holder]) -> Holder | None:
    """Return the run that has to give its worker to a token whose run waits for one; None where none has to.

    One that only waits goes first; then one of the token with the most workers.
    """
    waiting = [holder for holder in holders if holder.idle is not None and holder.idle >= IDLE]
    if waiting:
        return max(waiting, key=lambda holder: holder.idle or 0.0)
    held = Counter(holder.token for holder in holders)
    lead = max(held.values(), default=0) - held[wanting]
    if lead < 1 or (lead == 1 and held[wanting]):
        return None
    patience = QUANTUM if lead >= 2 else LONG_QUANTUM
    most = [holder for holder in holders if held[holder.token] == held[wanting] + lead and holder.seconds >= patience]
    return max(most, key=lambda holder: holder.seconds, default=None)
