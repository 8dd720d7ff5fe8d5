"""Batches at half the price: submitted, recorded on the disk before that, polled, fetched into the store of answers."""

from __future__ import annotations

from explaineval.client.batches.anthropics import AnthropicBatches
from explaineval.client.batches.books import BatchOutcome
from explaineval.client.batches.checks import CheckedClient
from explaineval.client.batches.courses import run_batches
from explaineval.client.batches.ledgers import DIRECTORY, PendingKeys, Shelf, pending_keys
from explaineval.client.batches.openais import OpenAIBatches
from explaineval.client.batches.protocols import BatchFailure, BatchProvider

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
