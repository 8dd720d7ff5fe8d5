"""What a run is: RunConfig is the science (it enters the signature), ClientConfig the transport (it never does)."""

from __future__ import annotations

from explaineval.config.client_config import ClientConfig, EndpointConfig, Prices, TransportName, read_duration
from explaineval.config.columns import Columns, columns_of, read_columns
from explaineval.config.endpoint import Endpoint, normalise_url, older_spelling, spellings
from explaineval.config.params import check_params
from explaineval.config.run_config import (
    FEWEST_MENTIONED_FLIPS,
    FEWEST_TVD_SAMPLES,
    LOOK,
    Arm,
    ArmConfig,
    InterventionConfig,
    ModelConfig,
    RunConfig,
    arms_for,
)
from explaineval.config.shard import Shard
from explaineval.config.sources import build, read_config

__all__ = [
    "FEWEST_MENTIONED_FLIPS", "FEWEST_TVD_SAMPLES", "LOOK", "Arm", "ArmConfig", "ClientConfig", "Columns", "Endpoint",
    "EndpointConfig", "InterventionConfig", "ModelConfig", "Prices", "RunConfig", "Shard", "TransportName", "arms_for",
    "build", "check_params", "columns_of", "normalise_url", "older_spelling", "read_columns", "read_config",
    "read_duration", "spellings",
]  # fmt: skip
