"""A tagged token, as the random words need it. Who tags is decided elsewhere."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Token:
    """One token: `offset` in code points of its text, `pos` the universal tag (NOUN), `tag` the fine one."""

    text: str
    offset: int
    pos: str
    tag: str
