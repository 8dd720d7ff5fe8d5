"""Whether an explanation mentions the inserted text, and where: named policies and phrase lists. Pure."""

from __future__ import annotations

from explaineval.mentions.policies import (
    SEARCHES,
    already_present,
    find_mention,
    find_mentions,
    mentions,
    mentions_phrase,
)

__all__ = ["SEARCHES", "already_present", "find_mention", "find_mentions", "mentions", "mentions_phrase"]
