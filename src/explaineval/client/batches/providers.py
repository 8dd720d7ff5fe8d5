"""Which endpoints know batches, and by which protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explaineval.config import Endpoint, ModelConfig
from explaineval.errors import InputError

if TYPE_CHECKING:
    from explaineval.client.batches.protocol import BatchProvider
    from explaineval.client.endpoints.routes import Renamed

OPENAI_SHAPED = ("openai", "azure")
ANTHROPIC = "anthropic"


def provider_for(
    model: ModelConfig,
    endpoint: Endpoint,
    timeout: float,
    renamed: Renamed | None = None,
) -> BatchProvider:
    """The provider of this model's batches; with a base URL, the batches of that server. `timeout` in seconds.

    `renamed` is shared with the ordinary client (see `DryRunClient`). Raises InputError where there are no batches.
    """
    from explaineval.client.batches.anthropic import AnthropicBatches
    from explaineval.client.batches.openai import OpenAIBatches

    check_batches(model, endpoint)
    if model.model.partition("/")[0] == ANTHROPIC:
        return AnthropicBatches(endpoint, model.model, timeout=timeout)
    return OpenAIBatches(endpoint, model.model, timeout=timeout, renamed=renamed)


def check_batches(model: ModelConfig, endpoint: Endpoint) -> None:
    """Raises InputError where this model cannot be asked by batches."""
    provider = model.model.partition("/")[0]
    if provider == "azure" and endpoint.base_url is None:
        raise InputError(f"{model.model}: Azure has no common address; give your resource's by --base-url.")
    if provider not in (*OPENAI_SHAPED, ANTHROPIC):
        raise InputError(
            f"{model.model} cannot be asked by batches, which only openai/, azure/ and anthropic/ models have; leave "
            "out --batch."
        )
