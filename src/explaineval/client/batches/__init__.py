"""Batches at half the price: submitted, recorded on the disk before that, polled, fetched into the store of answers."""

from __future__ import annotations

from explaineval.client.batches.anthropic import AnthropicBatches
from explaineval.client.batches.journal import DIRECTORY, BatchOutcome, PendingKeys, Shelf, pending_keys
from explaineval.client.batches.openai import OpenAIBatches
from explaineval.client.batches.protocol import BatchFailure, BatchProvider
from explaineval.client.batches.run import run_batches
from explaineval.client.batches.submit import CheckedClient

__all__ = [
    "DIRECTORY",
    "AnthropicBatches",
    "BatchFailure",
    "BatchOutcome",
    "BatchProvider",
    "CheckedClient",
    "OpenAIBatches",
    "PendingKeys",
    "Shelf",
    "pending_keys",
    "run_batches",
]
