"""Share a bounded number of places among holders, so that nobody takes what others need."""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

FEWEST_ARRIVING, MOST_ARRIVING = 128, 1024
"""Connections that wait to be accepted, and are accepted in one go: so many at the least and at the most."""
SPARE_FILES = 384
"""Open files that are kept for what the service itself needs: its database, its workers, and connections just made."""


class TooManyError(Exception):
    """Somebody holds as many places as they may."""


class Shares:
    """Places for holders, who are told apart by their names.

    A holder may have at most `each` places, and never more than are left free. So the first one cannot take all of
    them, and there is room for the next one at any time (Choudhury and Hahne 1998, dynamic thresholds).

    Args:
        most: how many places there are.
        each: how many of them one holder may have.
        what: what is held, in the plural, for messages.
    """

    def __init__(self, most: int, each: int, what: str) -> None:
        self.most, self.each, self.what = most, each, what
        self.held: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """How many places are taken."""
        return self.held.total()

    def has_room(self, holder: str) -> bool:
        """Return whether a holder may have one more place.

        >>> shares = Shares(10, 8, "seats")
        >>> [shares.take("ann") for _ in range(5)] and shares.has_room("ann"), shares.has_room("bob")
        (False, True)
        """
        return self.held[holder] < min(self.each, self.most - self.total)

    def take(self, holder: str) -> None:
        """Give a place to a holder, whether there is room or not."""
        self.held[holder] += 1

    def give_back(self, holder: str) -> None:
        """Take a place back."""
        self.held[holder] -= 1
        if self.held[holder] <= 0:
            del self.held[holder]

    @contextmanager
    def place(self, holder: str) -> Iterator[None]:
        """Hold a place as long as the block goes on. Raises TooManyError where there is no room."""
        if not self.has_room(holder):
            raise TooManyError(f"there are too many {self.what} of {holder} at once: close some, and try again later.")
        self.take(holder)
        try:
            yield
        finally:
            self.give_back(holder)


def raise_open_files(wanted: int) -> None:
    """Let this process open as many files as so many connections need, as far as the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + SPARE_FILES + MOST_ARRIVING
    if soft != resource.RLIM_INFINITY and soft < needed:
        allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))


def most_connections(wanted: int) -> int:
    """Return how many connections can be open: as many as are wanted, or fewer where the system allows few files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if soft == resource.RLIM_INFINITY else max(16, min(wanted, soft - SPARE_FILES))


def most_arriving(connections: int) -> int:
    """Return how many connections may wait to be accepted beside so many open ones; each needs an open file too."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MOST_ARRIVING
    return max(FEWEST_ARRIVING, min(MOST_ARRIVING, soft - SPARE_FILES - connections))
