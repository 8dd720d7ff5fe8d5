"""Does an explanation mention the inserted text? Named policies, and spans for marking. Pure."""

from __future__ import annotations

from explaineval.mentions.policies import POLICIES, Policy, already_present, find_mentions, mentions

__all__ = ["POLICIES", "Policy", "already_present", "find_mentions", "mentions"]
