"""How many requests an endpoint takes at once, found by listening to it: additive increase, multiplicative decrease.

Not every 429 means "too many at once": some gateways refuse a share of all requests whatever the load. So the share
of refusals in a window of about one round trip is compared with the usual share, and only what is significantly above
it counts as congestion; one congestion event costs one cut. Pure: the clock comes in by the door.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

SLOW_START = 4.0
CUT = 0.85
GROWTH, GROWTH_NEAR_KNEE, GROWTH_BEYOND = 0.15, 0.02, 0.05
"""Share by which the limit grows in a window: below, near and beyond the level where congestion was last seen."""
NEAR = 0.95
MARGIN = 0.06
DEVIATIONS = 2.0
SHORTEST_WINDOW = 24
HIGHEST_USUAL = 0.25
"""A higher share of refusals is congestion even where it has always been so."""
RISE, FALL = 0.05, 0.3
"""How fast the usual share follows a window above and below it."""


@dataclass
class AdaptiveLimit:
    """A concurrency limit between 1 and `ceiling`. Starts low, doubles until the first congestion, then probes."""

    ceiling: int
    value: float = field(init=False)
    starting: bool = field(default=True, init=False)
    refusals: int = field(default=0, init=False)
    attempts: int = field(default=0, init=False)
    usual: float | None = field(default=None, init=False)
    streak: int = field(default=0, init=False)
    clean: int = field(default=0, init=False)
    knee: float = field(default=math.inf, init=False)

    def __post_init__(self) -> None:
        self.value = min(SLOW_START, float(self.ceiling))

    @property
    def slots(self) -> int:
        """Whole requests that may be under way now."""
        return max(1, int(self.value))

    @property
    def overloaded(self) -> bool:
        """Whether everything under way has been refused lately, so that waiting is better than asking."""
        return self.streak > max(8, self.slots)

    def note(self, *, refused: bool) -> None:
        """Count one attempt that came back: answered, or refused for overload (429, 503, 529)."""
        self.attempts += 1
        self.refusals += refused
        self.streak = self.streak + 1 if refused else 0
        if self.starting and not self.refusals and self.attempts >= self.slots:
            self.clean += self.attempts  # no refusal yet: no need to wait for a significant number
            self.attempts = 0
            self._grow()
        elif self.attempts >= max(SHORTEST_WINDOW, self.slots):
            self._close_window()

    def _close_window(self) -> None:
        share = self.refusals / self.attempts
        if self.usual is None:  # what came before without a refusal speaks against refusals being usual
            self.usual = min(share, HIGHEST_USUAL) * SHORTEST_WINDOW / (SHORTEST_WINDOW + 3 * self.clean)
        usual = self.usual
        spread = math.sqrt(usual * (1 - usual) / self.attempts)
        self.attempts = self.refusals = 0
        if share > usual + DEVIATIONS * spread + MARGIN:
            self.knee = self.value
            self.value = max(1.0, self.value * CUT)
            self.starting = False
            return
        self.usual = min(HIGHEST_USUAL, usual + (RISE if share > usual else FALL) * (share - usual))
        self._grow()

    def _grow(self) -> None:
        near = NEAR * self.knee < self.value < self.knee / NEAR
        growth = GROWTH_NEAR_KNEE if near else GROWTH if self.value < self.knee else GROWTH_BEYOND
        share = 1.0 if self.starting else growth
        self.value = min(float(self.ceiling), self.value + max(0.5, share * self.value))


@dataclass
class Pace:
    """Spaces requests so that no more than `rpm` requests and `tpm` tokens start in a minute; None is no limit."""

    rpm: float | None = None
    tpm: float | None = None
    next_request: float = field(default=0.0, init=False)
    next_token: float = field(default=0.0, init=False)

    def delay(self, now: float, tokens: int) -> float:
        """Seconds to wait before a request of about `tokens` tokens may start; books it."""
        start = now
        if self.rpm is not None:
            start = max(start, self.next_request)
        if self.tpm is not None:
            start = max(start, self.next_token)
        if self.rpm is not None:
            self.next_request = start + 60.0 / self.rpm
        if self.tpm is not None:
            self.next_token = start + 60.0 * tokens / self.tpm
        return start - now

    def correct(self, booked: int, used: int) -> None:
        """Replace the estimate of a request's tokens by what it used."""
        if self.tpm is not None:
            self.next_token += 60.0 * (used - booked) / self.tpm
