"""Provider batches, at half the price: recorded on the disk, submitted, tracked, and their answers stored."""

from __future__ import annotations

from explaineval.client.batches.anthropic import AnthropicBatches
from explaineval.client.batches.journal import DIRECTORY, BatchJournal, PendingKeys
from explaineval.client.batches.openai import OpenAIBatches
from explaineval.client.batches.protocol import BatchFailure, BatchProvider
from explaineval.client.batches.run import run_batches
from explaineval.client.batches.submit import BatchOutcome, BatchSession, CheckedClient, pause

__all__ = [
    "DIRECTORY",
    "AnthropicBatches",
    "BatchFailure",
    "BatchJournal",
    "BatchOutcome",
    "BatchProvider",
    "BatchSession",
    "CheckedClient",
    "OpenAIBatches",
    "PendingKeys",
    "pause",
    "run_batches",
]
