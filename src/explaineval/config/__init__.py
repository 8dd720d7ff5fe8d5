"""What a run is: RunConfig is the science (it enters the signature), ClientConfig the transport (it never does)."""

from __future__ import annotations

from explaineval.config.configs import FEWEST_MENTIONED_FLIPS, Arm, ClientConfig, RunConfig, arms_for
from explaineval.config.fields import (
    FEWEST_TVD_SAMPLES,
    LOOK,
    RUN_KINDS,
    SETTINGS,
    ArmConfig,
    EndpointConfig,
    InterventionConfig,
    ModelConfig,
    Setting,
)
from explaineval.config.params import check_params
from explaineval.config.sources import build, read_config
from explaineval.config.values import (
    Columns,
    Endpoint,
    Prices,
    Shard,
    TransportName,
    columns_of,
    normalise_url,
    older_spelling,
    read_columns,
    read_duration,
    read_price,
    spellings,
)

__all__ = [
    "FEWEST_MENTIONED_FLIPS", "FEWEST_TVD_SAMPLES", "LOOK", "RUN_KINDS", "SETTINGS", "Arm", "ArmConfig", "ClientConfig",
    "Columns", "Endpoint", "EndpointConfig", "InterventionConfig", "ModelConfig", "Prices", "RunConfig", "Setting",
    "Shard", "TransportName", "arms_for", "build", "check_params", "columns_of", "normalise_url", "older_spelling",
    "read_columns", "read_config", "read_duration", "read_price", "spellings",
]  # fmt: skip
